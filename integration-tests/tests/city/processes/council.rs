//! One council as `deploy/` describes it: every role a process, under a user of its own.
//!
//! The roles are started from `deploy/config/*.toml` with nothing changed but addresses and
//! folders. Run by root, as it is in containers, each role has its own user as well.

use super::program::program;
use guildhall_city_data::{CityOptions, Council as Truth, Department, council, write};
use guildhall_cli::city::HeldPort;
use guildhall_cli::sql::{Connection, Endpoint};
use guildhall_testkit::{answer, rows};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a role may take to start, and a council to answer again, on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
const PASSWORD: &str = "correct horse battery staple";
const PURPOSES: [&str; 6] = [
    "transport_planning",
    "air_quality",
    "care_planning",
    "housing_need",
    "development",
    "product_check",
];
/// The departments of `deploy/config`, and where their nodes listen.
pub(super) const NODES: [(&str, u16); 3] =
    [("parking", 7451), ("highways", 7452), ("social_care", 7453)];
/// The first of the users that the roles run as, where there is a choice.
const FIRST_USER: u32 = 40_100;

/// The folder `deploy` of the repository.
pub(super) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// A council of processes; they end with it.
pub(super) struct Council {
    folder: TempDir,
    program: PathBuf,
    ports: BTreeMap<&'static str, HeldPort>,
    serving: BTreeMap<&'static str, Child>,
    departments: Vec<&'static str>,
}

impl Drop for Council {
    fn drop(&mut self) {
        for child in self.serving.values_mut() {
            let _ended_already = child.kill();
            let _status = child.wait();
        }
    }
}

impl Council {
    /// Founds the authority, enrols, imports, publishes and serves, as `deploy/README.md` says.
    pub(super) fn start(departments: &[&'static str]) -> Self {
        let mut council = Self::prepare(departments);
        let init: Vec<&str> = PURPOSES.iter().flat_map(|p| ["--purpose", p]).collect();
        council.run("authority", &[&["authority", "init"], &init[..]].concat());
        council.serve("authority");
        for department in departments {
            council.enrol(department);
            council.fill(department);
            council.serve(department);
        }
        for role in ["clean-room", "gateway"] {
            council.enrol(role);
            council.serve(role);
        }
        let account = [
            "authority",
            "add-account",
            "ana",
            "--purpose",
            "transport_planning",
            "--purpose",
            "care_planning",
        ];
        council.feed("authority", &account, PASSWORD);
        let officer = [
            "authority",
            "add-account",
            "olu",
            "--purpose",
            "product_check",
        ];
        council.feed("authority", &officer, PASSWORD);
        std::fs::write(council.ca(), council.run("authority", &["authority", "ca"])).unwrap();
        council
    }

    /// Folders, users, configurations and the departments' raw files.
    fn prepare(departments: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        // Under its own name here: the build folder may be closed to the roles' users.
        let (built, program) = (program(), folder.path().join("guildhall"));
        if std::fs::hard_link(&built, &program).is_err() {
            std::fs::copy(&built, &program).unwrap();
        }
        let roles = ["authority", "clean-room", "gateway"]
            .into_iter()
            .chain(departments.iter().copied());
        let ports = roles.map(|r| (r, HeldPort::new().unwrap())).collect();
        write(&folder.path().join("city"), &options()).unwrap();
        open_to_all(&folder.path().join("city"));
        let council = Self {
            folder,
            program,
            ports,
            serving: BTreeMap::new(),
            departments: departments.to_vec(),
        };
        for role in council.ports.keys() {
            council.configure(role);
            let home = council.home(role);
            std::fs::create_dir_all(&home).unwrap();
            council.give(&home, role);
        }
        for department in departments {
            council.give(&council.raw(department), department);
        }
        council
    }

    /// Copies a role's configuration; addresses and folders are put in for those it has.
    fn configure(&self, role: &str) {
        let name = Self::file_of(role);
        let mut text = std::fs::read_to_string(deploy().join("config").join(&name)).unwrap();
        for (line, instead) in self.replacements(role) {
            let found = text.lines().filter(|l| *l == line).count();
            assert_eq!(found, 1, "{name} has the line `{line}`");
            text = text.replacen(&format!("\n{line}\n"), &format!("\n{instead}\n"), 1);
        }
        assert!(
            !text.contains("0.0.0.0") && !text.contains("= \"/var"),
            "{text}"
        );
        let to = self.config(role);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, text).unwrap();
    }

    fn replacements(&self, role: &str) -> Vec<(String, String)> {
        let address = |role: &str| self.address(role).to_string();
        let data = self.data(role).display().to_string();
        let line = |key: &str, was: &str, is: &str| {
            (format!("{key} = \"{was}\""), format!("{key} = \"{is}\""))
        };
        let theirs = format!("/var/lib/guildhall/{role}");
        match role {
            "authority" => vec![
                line("listen", "0.0.0.0:7440", &address(role)),
                line("data", &theirs, &data),
                line(
                    "root_identity",
                    "/etc/guildhall/root.age",
                    &self.home(role).join("root.age").display().to_string(),
                ),
            ],
            "gateway" => vec![
                line("listen", "0.0.0.0:7460", &address(role)),
                line("identity", &theirs, &data),
                line("authority", "authority:7440", &address("authority")),
            ],
            "clean-room" => vec![
                line("listen", "0.0.0.0:7470", &address(role)),
                line("identity", &theirs, &data),
                line("address", "authority:7440", &address("authority")),
            ],
            node => {
                let port = NODES.iter().find(|(n, _)| *n == node).unwrap().1;
                vec![
                    line("listen", &format!("0.0.0.0:{port}"), &address(node)),
                    line("announce", &format!("node-{node}:{port}"), &address(node)),
                    line("data", &theirs, &data),
                    line("address", "authority:7440", &address("authority")),
                ]
            }
        }
    }

    fn file_of(role: &str) -> String {
        match role {
            "authority" | "clean-room" | "gateway" => format!("{role}.toml"),
            node => format!("node-{node}.toml"),
        }
    }

    fn config(&self, role: &str) -> PathBuf {
        self.folder.path().join("config").join(Self::file_of(role))
    }

    /// A role's own folder, which the machine's administrator makes for it.
    pub(super) fn home(&self, role: &str) -> PathBuf {
        self.folder.path().join("state").join(role)
    }

    /// Where a role keeps its state.
    pub(super) fn data(&self, role: &str) -> PathBuf {
        self.home(role).join("data")
    }

    /// A department's raw files and products.
    pub(super) fn raw(&self, department: &str) -> PathBuf {
        self.folder.path().join("city/northmoor").join(department)
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Makes a folder a role's own, closed to everybody else.
    fn give(&self, folder: &Path, role: &str) {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        if let Some(user) = self.user(role) {
            chown(folder, Some(user), Some(user)).unwrap();
        }
    }

    /// Where a role listens, whether it is there or not.
    fn address(&self, role: &str) -> SocketAddr {
        self.ports[role].address().unwrap()
    }

    /// The user that a role runs as; `None` for whoever runs the tests, if that is not root.
    pub(super) fn user(&self, role: &str) -> Option<u32> {
        let place = self.ports.keys().position(|r| *r == role).unwrap();
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
        is_root.then(|| FIRST_USER + u32::try_from(place).unwrap())
    }

    /// `program` as the user of a role.
    pub(super) fn as_user(&self, role: &str, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(user) = self.user(role) {
            command.uid(user).gid(user);
        }
        command
    }

    /// How `guildhall product check` of a department's own product ends, and all that it says.
    pub(super) fn check(&self, department: &str, product: &str, more: &[&str]) -> (bool, String) {
        let file = self
            .raw(department)
            .join(format!("products/{product}.toml"));
        let mut command = self.command(department, &["product", "check"]);
        command
            .args(more)
            .arg(file)
            .env("GUILDHALL_PASSWORD", PASSWORD);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// A subcommand of `guildhall` with the role's configuration, by the role's user.
    pub(super) fn command(&self, role: &str, args: &[&str]) -> Command {
        let mut command = self.as_user(role, &self.program);
        command
            .args(&args[..2])
            .arg("--config")
            .arg(self.config(role))
            .args(&args[2..]);
        command
    }

    /// What a subcommand prints.
    pub(super) fn run(&self, role: &str, args: &[&str]) -> String {
        said(self.command(role, args).output().unwrap())
    }

    /// What a subcommand prints that reads `input`.
    fn feed(&self, role: &str, args: &[&str], input: &str) -> String {
        let mut child = self
            .command(role, args)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        said(child.wait_with_output().unwrap())
    }

    fn enrol(&self, role: &str) {
        let (kind, invite) = match role {
            "clean-room" | "gateway" => (role, vec!["--role", role, "--name", "main"]),
            _ => (
                "node",
                vec!["--role", "node", "--department", role, "--name"],
            ),
        };
        let name = format!("{role}-1");
        let mut args = [&["authority", "invite"], &invite[..]].concat();
        if kind == "node" {
            args.push(&name);
        }
        let code = self.run("authority", &args);
        let told = self.feed(role, &[kind, "enrol", "--code", "-"], &code);
        assert!(
            told.starts_with("enrolled as spiffe://northmoor/"),
            "{told}"
        );
    }

    /// Imports and publishes everything that a department has.
    fn fill(&self, department: &str) {
        for spec in toml_files(&self.raw(department).join("imports")) {
            self.run(department, &["node", "import", &spec]);
        }
        let products = toml_files(&self.raw(department).join("products"));
        let products: Vec<&str> = products.iter().map(String::as_str).collect();
        self.run(department, &[&["node", "publish"], &products[..]].concat());
    }

    /// Starts a role and waits until it listens.
    pub(super) fn serve(&mut self, role: &'static str) {
        let kind = if NODES.iter().any(|(n, _)| *n == role) {
            "node"
        } else {
            role
        };
        let log = self.folder.path().join(format!("{role}.log"));
        let to = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut child = self
            .command(role, &[kind, "serve"])
            .stdout(Stdio::null())
            .stderr(to)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(self.address(role)).is_err() {
            let said = || std::fs::read_to_string(&log).unwrap();
            assert!(
                child.try_wait().unwrap().is_none(),
                "{role} ended: {}",
                said()
            );
            assert!(
                Instant::now() < deadline,
                "{role} does not listen: {}",
                said()
            );
            std::thread::sleep(PAUSE);
        }
        self.serving.insert(role, child);
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self, role: &str) {
        let mut child = self.serving.remove(role).unwrap();
        assert!(
            child.try_wait().unwrap().is_none(),
            "{role} ended by itself: {}",
            self.log(role)
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Leaves a role that serves to the caller, to be killed when they please.
    pub(super) fn hand_over(&mut self, role: &str) -> Child {
        self.serving.remove(role).unwrap()
    }

    /// What a role has said so far.
    pub(super) fn log(&self, role: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{role}.log"))).unwrap()
    }

    /// All roles, in order of name.
    pub(super) fn roles(&self) -> Vec<&'static str> {
        self.ports.keys().copied().collect()
    }

    /// Only the departments.
    pub(super) fn departments(&self) -> &[&'static str] {
        &self.departments
    }

    /// `guildhall sql -c`, by somebody who is no role.
    pub(super) fn sql(&self, purpose: &str, statement: &str) -> Output {
        let mut command = Command::new(&self.program);
        command.env("GUILDHALL_PASSWORD", PASSWORD).arg("sql");
        command.args([
            "--uri",
            &self.endpoint().uri,
            "--account",
            "ana",
            "--purpose",
            purpose,
        ]);
        command
            .arg("--ca")
            .arg(self.ca())
            .args(["--format", "csv", "--quiet", "-c", statement]);
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            uri: format!("grpc+tls://{}", self.address("gateway")),
            ca: std::fs::read_to_string(self.ca()).unwrap(),
            account: Some(("ana".to_owned(), PASSWORD.to_owned())),
            certificate: None,
        }
    }

    /// A connection as ana.
    pub(super) async fn connect(&self, purpose: &str) -> anyhow::Result<Connection> {
        Connection::open(&self.endpoint(), Some(purpose.to_owned())).await
    }

    /// Asks until it is answered: roles that were just started find each other by themselves.
    pub(super) async fn ask(&self, purpose: &str, statement: &str) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.ask_once(purpose, statement).await {
                Ok(answer) => return answer,
                Err(e) => assert!(Instant::now() < deadline, "{e:#}\n{}", self.log("gateway")),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask_once(&self, purpose: &str, statement: &str) -> anyhow::Result<Vec<String>> {
        rows(&answer(&mut self.connect(purpose).await?, statement).await?)
    }

    /// The number of entries in the authority's log, which is whole.
    pub(super) fn entries(&self) -> usize {
        let told = self.run("authority", &["authority", "verify-log"]);
        assert!(told.contains("unbroken"), "{told}");
        told.split_once(' ').unwrap().0.parse().unwrap()
    }
}

/// The made-up city whose departments are deployed.
fn options() -> CityOptions {
    CityOptions {
        scale: 0.2,
        councils: 1,
        departments: Some(vec![
            Department::Parking,
            Department::Highways,
            Department::SocialCare,
        ]),
        ..CityOptions::default()
    }
}

/// What its departments hold.
pub(super) fn truth() -> Truth {
    council(&options(), 0).unwrap()
}

fn said(output: Output) -> String {
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn toml_files(folder: &Path) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .map(|p| p.display().to_string())
        .collect();
    found.sort();
    found
}
