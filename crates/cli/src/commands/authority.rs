//! `guildhall authority`.

use super::{asked_to_end, clock};
use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use guildhall_authority::{
    Account, Admin, AuthorityConfig, BudgetStanding, InitOptions, LedgerSum,
};
use guildhall_model::{CouncilName, PeerId, PrincipalName, ProductName, Purpose, Role};
use guildhall_proto::authority::v1::TrustBundle;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// What can be done with an authority.
#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// Found a council's authority: its certificate authority, keyring and database
    Init {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
        /// A purpose that may be asked for; more can be given
        #[arg(long = "purpose", value_name = "PURPOSE", required = true)]
        purposes: Vec<Purpose>,
    },
    /// Run the authority
    Serve {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
    },
    /// Print a one-time enrolment code for a new role
    Invite {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
        /// What it will be: node, worker, clean-room, gateway or analyst
        #[arg(long)]
        role: Role,
        /// Its name
        #[arg(long)]
        name: String,
        /// Its department; only nodes and their workers have one
        #[arg(long, required_if_eq_any([("role", "node"), ("role", "worker")]))]
        department: Option<String>,
    },
    /// Shut out a role (its spiffe:// name) or an account, now
    Revoke {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
        /// spiffe://COUNCIL/DEPARTMENT/ROLE/NAME, or the name of an account
        who: String,
    },
    /// Add an account, or replace the one of that name; reads the password from standard input
    AddAccount {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
        /// Its name
        name: PrincipalName,
        /// What it may ask for; more can be given
        #[arg(long = "purpose", value_name = "PURPOSE", required = true)]
        purposes: Vec<Purpose>,
        /// What policies may call it
        #[arg(long = "role", value_name = "ROLE", default_value = "analyst")]
        roles: Vec<String>,
        /// No password: it is used with a client certificate only
        #[arg(long)]
        certificate_only: bool,
    },
    /// Print what other councils need to trust this one
    Bundle {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
    },
    /// Trust another council, from the bundle it printed
    Trust {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
        /// The other council's bundle
        bundle: PathBuf,
    },
    /// Trust another council no longer
    Distrust {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
        /// The other council
        council: CouncilName,
    },
    /// Print the certificate authority that clients trust, PEM
    Ca {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
    },
    /// Check the hash chain of the whole log
    VerifyLog {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
    },
    /// List every privacy budget: whose data, what for, what is spent and left, and when it is whole again
    Budgets {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
    },
    /// Check that the ledger of privacy budgets adds up, and that it and the log bear each other out
    VerifyLedger {
        /// authority.toml
        #[arg(long, short)]
        config: PathBuf,
    },
}

/// A trust bundle as a text file that two councils can hand each other.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleFile {
    council: String,
    ca_pem: Vec<String>,
    /// Hex.
    authority_keys: Vec<String>,
}

/// Carries out one command.
pub async fn run(command: AuthorityCommand) -> Result<()> {
    let now = clock().now();
    match command {
        AuthorityCommand::Init { config, purposes } => {
            let AuthorityConfig {
                council,
                data,
                root_identity,
                ..
            } = AuthorityConfig::load(&config)?;
            let options = InitOptions {
                data,
                council: council.clone(),
                root_identity: root_identity.clone(),
                purposes: purposes.into_iter().collect(),
            };
            guildhall_authority::init(&options, now)?;
            println!("the authority of {council} is founded");
            println!(
                "keep a copy of {} away from this machine: nothing can be read without it",
                root_identity.display()
            );
        }
        AuthorityCommand::Serve { config } => {
            let running =
                guildhall_authority::serve::start(AuthorityConfig::load(&config)?, clock()).await?;
            eprintln!("the authority answers on {}", running.address());
            asked_to_end().await?;
            running.stop().await;
        }
        AuthorityCommand::Invite {
            config,
            role,
            name,
            department,
        } => {
            let mut admin = open(&config)?;
            let peer = peer(admin.council(), role, &name, department)?;
            println!("{}", admin.invite(&peer, now)?);
        }
        AuthorityCommand::Revoke { config, who } => {
            let mut admin = open(&config)?;
            match who.parse::<PeerId>() {
                Ok(peer) => admin.revoke_peer(&peer, now)?,
                Err(_) => admin.revoke_account(&who.parse()?, now)?,
            }
            println!("{who} is revoked");
        }
        AuthorityCommand::AddAccount {
            config,
            name,
            purposes,
            roles,
            certificate_only,
        } => {
            let password = if certificate_only {
                None
            } else {
                Some(read_password()?)
            };
            let account = Account {
                name: &name,
                password: password.as_deref(),
                roles: &roles.into_iter().collect(),
                purposes: &purposes.into_iter().collect(),
            };
            open(&config)?.add_account(&account, now)?;
            println!("account {name} is there");
        }
        AuthorityCommand::Bundle { config } => print_bundle(open(&config)?.bundle()?)?,
        AuthorityCommand::Trust { config, bundle } => {
            let bundle = read_bundle(&bundle)?;
            open(&config)?.trust_add(&bundle, now)?;
            println!("{} is trusted", bundle.council);
        }
        AuthorityCommand::Distrust { config, council } => {
            open(&config)?.trust_remove(&council, now)?;
            println!("{council} is trusted no longer");
        }
        AuthorityCommand::Ca { config } => print!("{}", open(&config)?.bundle()?.ca_pem.concat()),
        AuthorityCommand::VerifyLog { config } => {
            let chain = open(&config)?.verify_log()?;
            println!("{} entries, unbroken; head {}", chain.len, chain.head);
        }
        AuthorityCommand::Budgets { config } => {
            let budgets = open(&config)?.budgets(now)?;
            if budgets.is_empty() {
                println!("no product on offer states a privacy budget");
            }
            for budget in &budgets {
                println!("{}", told(budget));
            }
        }
        AuthorityCommand::VerifyLedger { config } => {
            let LedgerSum { debits, charged } = open(&config)?.verify_ledger()?;
            println!("debits: {debits}, rho {charged} together; the log bears them out");
        }
    }
    Ok(())
}

fn open(config: &Path) -> Result<Admin> {
    Ok(Admin::open(&AuthorityConfig::load(config)?.data)?)
}

/// One budget in one line.
fn told(budget: &BudgetStanding) -> String {
    let BudgetStanding {
        department,
        datasets,
        purpose,
        products,
        limit,
        spent,
        start,
        renews,
    } = budget;
    let left = limit.checked_sub(*spent).unwrap_or_default();
    let products: Vec<&str> = products.iter().map(ProductName::as_str).collect();
    let products = products.join(", ");
    format!(
        "{department}/{datasets} for {purpose} ({products}): rho {spent} of {limit} spent, {left} left, from {start} until {renews}"
    )
}

fn peer(
    council: &CouncilName,
    role: Role,
    name: &str,
    department: Option<String>,
) -> Result<PeerId> {
    let department = match (role, department) {
        (Role::Node | Role::Worker, Some(department)) if department != "council" => department,
        (Role::CleanRoom | Role::Gateway | Role::Analyst, None) => "council".to_owned(),
        (Role::Node | Role::Worker, _) => {
            bail!("a {role} is of a department: give --department, and not `council`")
        }
        (Role::CleanRoom | Role::Gateway | Role::Analyst, Some(_)) => {
            bail!("a {role} is of the council, not of a department")
        }
        (other, _) => {
            bail!("a {other} cannot be invited; node, worker, clean-room, gateway and analyst can")
        }
    };
    Ok(PeerId {
        council: council.clone(),
        department: department.parse()?,
        role,
        name: name.parse()?,
    })
}

fn read_password() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read the password from standard input")?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.chars().count() < 12 {
        bail!("the password has fewer than 12 characters");
    }
    Ok(password.to_owned())
}

fn print_bundle(bundle: TrustBundle) -> Result<()> {
    let file = BundleFile {
        council: bundle.council,
        ca_pem: bundle.ca_pem,
        authority_keys: bundle.authority_keys.iter().map(hex::encode).collect(),
    };
    println!("{}", serde_json::to_string_pretty(&file)?);
    Ok(())
}

fn read_bundle(path: &Path) -> Result<TrustBundle> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    let file: BundleFile = serde_json::from_str(&text).with_context(|| {
        format!(
            "`{}` is not what `guildhall authority bundle` prints",
            path.display()
        )
    })?;
    Ok(TrustBundle {
        council: file.council,
        ca_pem: file.ca_pem,
        authority_keys: file
            .authority_keys
            .iter()
            .map(hex::decode)
            .collect::<Result<_, _>>()
            .with_context(|| format!("`{}` has a key that is not hex", path.display()))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guildhall_model::Timestamp;

    #[test]
    fn a_budget_is_told_with_what_shares_it_and_what_is_left() {
        let of = |spent: &str| BudgetStanding {
            department: "parking".parse().unwrap(),
            datasets: "permits+sessions".to_owned(),
            purpose: "planning".parse().unwrap(),
            products: vec!["sessions".parse().unwrap(), "stays".parse().unwrap()],
            limit: "0.05".parse().unwrap(),
            spent: spent.parse().unwrap(),
            start: Timestamp::from_micros(0),
            renews: Timestamp::from_micros(86_400_000_000),
        };
        assert_eq!(
            told(&of("0.0125")),
            "parking/permits+sessions for planning (sessions, stays): rho 0.0125 of 0.05 spent, 0.0375 left, from 1970-01-01T00:00:00Z until 1970-01-02T00:00:00Z"
        );
        // As after a product came to state less than was spent.
        assert!(told(&of("0.06")).contains("rho 0.06 of 0.05 spent, 0 left"));
    }

    #[test]
    fn only_nodes_and_workers_have_a_department() {
        let council: CouncilName = "northmoor".parse().unwrap();
        let of = |role, department: Option<&str>| {
            peer(&council, role, "a", department.map(str::to_owned))
                .map(|p| p.to_string())
                .ok()
        };
        assert_eq!(
            of(Role::Node, Some("parking")).unwrap(),
            "spiffe://northmoor/parking/node/a"
        );
        assert_eq!(
            of(Role::Analyst, None).unwrap(),
            "spiffe://northmoor/council/analyst/a"
        );
        assert_eq!(
            of(Role::Worker, Some("parking")).unwrap(),
            "spiffe://northmoor/parking/worker/a"
        );
        assert!(of(Role::Worker, None).is_none());
        assert!(of(Role::Node, None).is_none());
        assert!(of(Role::Node, Some("council")).is_none());
        assert!(of(Role::Gateway, Some("parking")).is_none());
        assert!(of(Role::Authority, None).is_none());
    }
}
