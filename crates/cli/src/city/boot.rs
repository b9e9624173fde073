//! From a folder to a running city.

use super::department::{Report, bring_up, invite, is_enrolled};
use super::file::{CityFile, CouncilEntry};
use super::ready::{ClientFiles, Ready, ReadyAccount};
use super::{City, HeldPort, NodeKey, Role, accounts, workers};
use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use guildhall_authority::{Account, Admin, AdminError, AuthorityConfig, InitOptions};
use guildhall_clean_room::CleanRoomConfig;
use guildhall_client::EnrolmentClient;
use guildhall_gateway::{CouncilConfig, GatewayConfig};
use guildhall_model::{CouncilName, DepartmentName, PeerId, Role as PeerRole, SharedClock};
use guildhall_node::{AuthorityAddress, NodeConfig, RunningNode};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to bring a city up.
#[derive(Clone)]
pub struct CityOptions {
    /// The folder that describes it.
    pub city: PathBuf,
    /// Where every role keeps its state; reused when it is there.
    pub data: PathBuf,
    /// Where the gateway listens; a free port of the loopback address if not said.
    pub listen: Option<String>,
    /// The time.
    pub clock: SharedClock,
    /// Limits of the gateway.
    pub gateway_limits: guildhall_gateway::Limits,
    /// Limits of each node.
    pub node_limits: guildhall_node::Limits,
    /// What each node works out before anybody asks.
    pub prepare: super::Prepare,
    /// How many workers each department has; none unless said.
    pub workers: usize,
    /// How many rows are worth a worker's share.
    pub rows_each: u64,
    /// Told as each step begins.
    pub report: Arc<dyn Fn(&str) + Send + Sync>,
}

impl CityOptions {
    /// With the machine's clock, default limits, on any port of the loopback address.
    #[must_use]
    pub fn new(city: &Path, data: &Path) -> Self {
        Self {
            city: city.to_owned(),
            data: data.to_owned(),
            listen: None,
            clock: Arc::new(guildhall_model::SystemClock),
            gateway_limits: guildhall_gateway::Limits::default(),
            node_limits: guildhall_node::Limits::default(),
            prepare: super::Prepare::default(),
            workers: 0,
            rows_each: guildhall_node::Pinned::default().rows_each,
            report: Arc::new(|_| {}),
        }
    }
}

impl std::fmt::Debug for CityOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CityOptions")
            .field("city", &self.city)
            .field("data", &self.data)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// Brings every role of a city up. What an earlier run left in the data folder is used again:
/// only what is missing or has changed is enrolled, imported and published.
pub async fn boot(options: CityOptions) -> Result<City> {
    let file = CityFile::load(&options.city)?;
    let data = prepare(&options.data)?;
    let passwords = accounts::passwords(&file, &data)?;

    for council in &file.councils {
        found(council, &data, &options.clock)
            .with_context(|| format!("cannot found the authority of `{}`", council.name))?;
    }
    federate(&file, &data, &options.clock)?;
    add_accounts(&file, &passwords, &data, &options.clock)?;

    let mut held = Vec::new();
    let mut hold = || -> Result<SocketAddr> {
        let port = HeldPort::new().context("cannot hold a port of the loopback address")?;
        let address = port.address()?;
        held.push(port);
        Ok(address)
    };
    let mut authorities = BTreeMap::new();
    for council in &file.councils {
        (options.report)(&format!("{}: starting the authority", council.name));
        let config = authority_config(&file, council, hold()?, &data);
        let running = guildhall_authority::serve::start(config.clone(), options.clock.clone())
            .await
            .with_context(|| format!("cannot start the authority of `{}`", council.name))?;
        authorities.insert(
            council.name.clone(),
            Role {
                config,
                running: Some(running),
            },
        );
    }
    let address = |council: &CouncilName| authorities[council].config.listen;

    let mut starting = Vec::new();
    let mut all_workers = BTreeMap::new();
    let mut worker_ports = Vec::new();
    for council in &file.councils {
        for department in &council.departments {
            let key: NodeKey = (council.name.clone(), department.name.clone());
            let policy = department.policy.as_ref().map(|p| file.folder.join(p));
            let mut config = node_config(
                &key,
                hold()?,
                policy,
                address(&council.name),
                &data,
                &options,
            )?;
            let folder = authority_folder(&data, &council.name);
            let (count, clock) = (options.workers, &options.clock);
            let of = workers::add(&mut config, count, &folder, clock, &mut worker_ports).await?;
            all_workers.insert(key.clone(), of);
            starting.push(start_department(key, config, &file, &data, &options));
        }
    }
    let nodes = try_join_all(starting).await?.into_iter().collect();

    (options.report)("starting the gateway");
    let listen = match &options.listen {
        Some(listen) => listen.clone(),
        None => hold()?.to_string(),
    };
    let clean_room = start_clean_room(&file, &data, hold()?, &options, &address).await?;
    let gateway = start_gateway(
        &file,
        &data,
        (listen, &clean_room.config.listen),
        &options,
        &address,
    )
    .await?;
    let ready = ready(&file, passwords, &data, &gateway, &options, &address).await?;
    held.extend(worker_ports);
    Ok(City {
        authorities,
        nodes,
        workers: all_workers,
        clean_room,
        gateway,
        clock: options.clock,
        ready,
        file,
        _held: held,
    })
}

fn prepare(data: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .and_then(|()| data.canonicalize())
        .with_context(|| format!("cannot use the data folder `{}`", data.display()))
}

fn authority_folder(data: &Path, council: &CouncilName) -> PathBuf {
    data.join("councils")
        .join(council.as_str())
        .join("authority")
}

fn authority_config(
    file: &CityFile,
    council: &CouncilEntry,
    listen: SocketAddr,
    data: &Path,
) -> AuthorityConfig {
    let folder = authority_folder(data, &council.name);
    AuthorityConfig {
        council: council.name.clone(),
        listen,
        host_names: Vec::new(),
        root_identity: folder.join("root.age"),
        data: folder,
        policy: council.policy.as_ref().map(|p| file.folder.join(p)),
        certificate_days: 7,
        grant_seconds: 300,
        token_minutes: 60,
        minimum_group: 3,
    }
}

fn found(council: &CouncilEntry, data: &Path, clock: &SharedClock) -> Result<()> {
    let folder = authority_folder(data, &council.name);
    let options = InitOptions {
        root_identity: folder.join("root.age"),
        data: folder.clone(),
        council: council.name.clone(),
        purposes: council.purposes.clone(),
    };
    match guildhall_authority::init(&options, clock.now()) {
        Ok(()) => Ok(()),
        Err(AdminError::AlreadyFounded) => {
            let mut admin = Admin::open(&folder)?;
            if admin.purposes()? != council.purposes {
                admin.set_purposes(&council.purposes, clock.now())?;
            }
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

/// Each council trusts each other one of its city.
fn federate(file: &CityFile, data: &Path, clock: &SharedClock) -> Result<()> {
    let mut admins = Vec::new();
    for council in &file.councils {
        admins.push(Admin::open(&authority_folder(data, &council.name))?);
    }
    let bundles = admins
        .iter()
        .map(Admin::bundle)
        .collect::<Result<Vec<_>, _>>()?;
    for (own, admin) in admins.iter_mut().enumerate() {
        for (other, bundle) in bundles.iter().enumerate() {
            if other != own {
                admin.trust_add(bundle, clock.now())?;
            }
        }
    }
    Ok(())
}

fn add_accounts(
    file: &CityFile,
    passwords: &accounts::Passwords,
    data: &Path,
    clock: &SharedClock,
) -> Result<()> {
    let stamp = data.join("accounts.sha256");
    let wanted = format!(
        "{:?}",
        file.accounts
            .iter()
            .map(|a| (&a.council, &a.name, &a.roles, &a.purposes))
            .collect::<Vec<_>>()
    );
    let digest =
        guildhall_model::Digest::of(format!("{wanted}{passwords:?}").as_bytes()).to_string();
    if std::fs::read_to_string(&stamp).is_ok_and(|kept| kept == digest) {
        return Ok(());
    }
    for account in &file.accounts {
        let mut admin = Admin::open(&authority_folder(data, &account.council))?;
        let password = passwords.get(&(account.council.clone(), account.name.clone()));
        let entry = Account {
            name: &account.name,
            password: password.map(String::as_str),
            roles: &account.roles,
            purposes: &account.purposes,
        };
        admin.add_account(&entry, clock.now())?;
    }
    std::fs::write(&stamp, digest)?;
    Ok(())
}

fn node_config(
    (council, department): &NodeKey,
    listen: SocketAddr,
    policy: Option<PathBuf>,
    authority: SocketAddr,
    data: &Path,
    options: &CityOptions,
) -> Result<NodeConfig> {
    Ok(NodeConfig {
        council: council.clone(),
        department: department.clone(),
        name: format!("{department}-1").parse()?,
        listen: listen.to_string(),
        announce: None,
        data: data
            .join("councils")
            .join(council.as_str())
            .join(department.as_str()),
        identity: None,
        host_names: Vec::new(),
        policy,
        authority: AuthorityAddress {
            address: authority.to_string(),
        },
        limits: options.node_limits.clone(),
        prepare: options.prepare.clone(),
        workers: guildhall_node::Pinned {
            rows_each: options.rows_each,
            ..guildhall_node::Pinned::default()
        },
    })
}

async fn start_department(
    key: NodeKey,
    config: NodeConfig,
    file: &CityFile,
    data: &Path,
    options: &CityOptions,
) -> Result<(NodeKey, Role<NodeConfig, RunningNode>)> {
    let (council, department) = &key;
    let report: Report<'_> = options.report.as_ref();
    let running = bring_up(
        config.clone(),
        &authority_folder(data, council),
        &file.department_folder(council, department),
        &options.clock,
        report,
    )
    .await
    .with_context(|| format!("cannot start department `{department}` of `{council}`"))?;
    Ok((
        key,
        Role {
            config,
            running: Some(running),
        },
    ))
}

fn council_peer(council: &CouncilName, role: PeerRole, name: &str) -> Result<PeerId> {
    let department: DepartmentName = DepartmentName::COUNCIL.parse()?;
    Ok(PeerId {
        council: council.clone(),
        department,
        role,
        name: name.parse()?,
    })
}

/// The first council's clean room.
async fn start_clean_room(
    file: &CityFile,
    data: &Path,
    listen: SocketAddr,
    options: &CityOptions,
    address: &impl Fn(&CouncilName) -> SocketAddr,
) -> Result<Role<CleanRoomConfig, guildhall_clean_room::Running>> {
    let home = &file.councils[0].name;
    let config = CleanRoomConfig {
        council: home.clone(),
        listen: listen.to_string(),
        identity: data.join("clean-room"),
        host_names: host_names(&listen.to_string()),
        authority: guildhall_clean_room::AuthorityAddress {
            address: address(home).to_string(),
        },
        limits: guildhall_clean_room::Limits::default(),
    };
    if !is_enrolled(&config.identity, &options.clock) {
        let peer = council_peer(home, PeerRole::CleanRoom, "main")?;
        let code = invite(&authority_folder(data, home), &peer, &options.clock)?;
        guildhall_client::enrol(
            &code,
            &config.authority.address,
            &config.host_names,
            &config.identity,
            options.clock.clone(),
        )
        .await
        .context("cannot enrol the clean room")?;
    }
    let running = guildhall_clean_room::start(config.clone(), options.clock.clone())
        .await
        .context("cannot start the clean room")?;
    Ok(Role {
        config,
        running: Some(running),
    })
}

async fn start_gateway(
    file: &CityFile,
    data: &Path,
    (listen, clean_room): (String, &str),
    options: &CityOptions,
    address: &impl Fn(&CouncilName) -> SocketAddr,
) -> Result<Role<GatewayConfig, guildhall_gateway::Running>> {
    let home = &file.councils[0].name;
    let mut config = GatewayConfig {
        host_names: host_names(&listen),
        listen,
        identity: data.join("gateway"),
        default_council: home.clone(),
        clean_room: Some(guildhall_gateway::CleanRoomConfig {
            name: None,
            council: None,
            address: clean_room.to_owned(),
        }),
        councils: file
            .councils
            .iter()
            .map(|c| CouncilConfig {
                name: c.name.clone(),
                authority: address(&c.name).to_string(),
            })
            .collect(),
        limits: options.gateway_limits,
    };
    if !is_enrolled(&config.identity, &options.clock) {
        let peer = council_peer(home, PeerRole::Gateway, "main")?;
        let code = invite(&authority_folder(data, home), &peer, &options.clock)?;
        guildhall_client::enrol(
            &code,
            &address(home).to_string(),
            &config.host_names,
            &config.identity,
            options.clock.clone(),
        )
        .await
        .context("cannot enrol the gateway")?;
    }
    let running = guildhall_gateway::start(config.clone(), options.clock.clone())
        .await
        .context("cannot start the gateway")?;
    config.listen = running.address().to_string();
    Ok(Role {
        config,
        running: Some(running),
    })
}

/// What clients may call the gateway: the loopback names, and the address it listens on.
fn host_names(listen: &str) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let host = listen
        .rsplit_once(':')
        .map_or("", |(host, _)| host.trim_matches(['[', ']']));
    if !host.is_empty() && host != "0.0.0.0" && !names.iter().any(|n| n == host) {
        names.push(host.to_owned());
    }
    names
}

async fn ready(
    file: &CityFile,
    passwords: accounts::Passwords,
    data: &Path,
    gateway: &Role<GatewayConfig, guildhall_gateway::Running>,
    options: &CityOptions,
    address: &impl Fn(&CouncilName) -> SocketAddr,
) -> Result<Ready> {
    let home = &file.councils[0].name;
    let ca = data.join("ca.pem");
    let bundle = Admin::open(&authority_folder(data, home))?.bundle()?;
    std::fs::write(&ca, bundle.ca_pem.concat())?;
    let folder = data.join("client");
    if let Some(first) = file.accounts.first() {
        let dir = folder
            .join(first.council.as_str())
            .join(first.name.as_str());
        if !is_enrolled(&dir, &options.clock) {
            let peer = council_peer(&first.council, PeerRole::Analyst, first.name.as_str())?;
            let code = invite(
                &authority_folder(data, &first.council),
                &peer,
                &options.clock,
            )?;
            let desk = EnrolmentClient::new(
                &address(&first.council).to_string(),
                &code,
                options.clock.clone(),
            )?;
            let enrolled = desk
                .enrol(&[], &[])
                .await
                .context("cannot enrol the client certificate")?;
            std::fs::create_dir_all(&dir)?;
            enrolled.identity.save(&dir)?;
        }
    }
    let folder = file.accounts.first().map_or(folder.clone(), |a| {
        folder.join(a.council.as_str()).join(a.name.as_str())
    });
    let port = gateway
        .config
        .listen
        .rsplit_once(':')
        .map_or("", |(_, port)| port);
    let home_account = |council: &CouncilName, name: &str| {
        if council == home {
            name.to_owned()
        } else {
            format!("{name}@{council}")
        }
    };
    let purposes_of = |council: &CouncilName, name: &str| {
        file.accounts
            .iter()
            .find(|a| a.council == *council && a.name.as_str() == name)
            .map(|a| a.purposes.clone())
            .unwrap_or_default()
    };
    Ok(Ready {
        uri: format!("grpc+tls://localhost:{port}"),
        ca,
        accounts: passwords
            .into_iter()
            .map(|((council, name), password)| {
                let purposes = purposes_of(&council, name.as_str());
                (
                    home_account(&council, name.as_str()),
                    ReadyAccount { password, purposes },
                )
            })
            .collect(),
        client: ClientFiles {
            cert: folder.join("chain.pem"),
            key: folder.join("key.pem"),
        },
        open_product: file.open_product()?.to_string(),
        data: data.to_owned(),
    })
}
