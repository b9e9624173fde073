//! The roles as processes, from the very files in `deploy/`: started, asked, killed, started again.

mod council;
mod files;
mod program;

use arrow::array::RecordBatch;
use council::{Council, DEADLINE, NODES, truth};
use futures::{StreamExt as _, TryStreamExt as _};
use guildhall_audit::verify_chain;
use guildhall_cli::sql::Refused;
use guildhall_testkit::{answer, refusal, rows};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tonic::Code;

/// Of parking and highways, both open.
const TRANSPORT: &str = "SELECT w.name, count(*), sum(o.occupied) FROM northmoor.parking.occupancy o \
    JOIN northmoor.highways.wards w ON w.ward = o.ward GROUP BY w.name ORDER BY w.name";
/// Cells that social care released, with open rows of highways.
const CARE: &str = "SELECT w.name, c.people FROM (SELECT ward, count(DISTINCT person) AS people \
    FROM northmoor.social_care.cases GROUP BY ward) c \
    JOIN northmoor.highways.wards w ON w.ward = c.ward ORDER BY w.name";
/// A question that a privacy budget is charged for.
const FREE: &str =
    "SELECT count(DISTINCT vehicle) AS n FROM northmoor.parking.sessions WHERE paid > 0.01";
/// What parking's node works on for minutes before it has anything to say.
const WORK: &str = "SELECT count(*), sum(a.occupied * b.occupied) FROM northmoor.parking.car_parks c \
    CROSS JOIN northmoor.parking.car_parks d CROSS JOIN northmoor.parking.occupancy a \
    CROSS JOIN northmoor.parking.occupancy b";
/// What the gateway makes of it, row by row: more than fits into what is on its way.
const LONG: &str = "SELECT c.name, a.car_park, a.ts, b.car_park, b.ts, a.occupied * b.occupied \
    FROM northmoor.parking.car_parks c CROSS JOIN northmoor.parking.occupancy a \
    CROSS JOIN northmoor.parking.occupancy b";
const ALL: [&str; 3] = ["parking", "highways", "social_care"];

#[tokio::test(flavor = "multi_thread")]
async fn the_files_in_deploy_make_a_council_that_answers() {
    let configurations: BTreeSet<String> = std::fs::read_dir(council::deploy().join("config"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let nodes = NODES.iter().map(|(n, _)| format!("node-{n}.toml"));
    let others =
        ["authority", "clean-room", "gateway", "worker"].map(|role| format!("{role}.toml"));
    let known = nodes.chain(others);
    assert_eq!(configurations, known.collect());

    let council = Council::start(&ALL);
    // Until the roles have found each other.
    council.ask("transport_planning", TRANSPORT).await;
    let care = council.ask("care_planning", CARE).await;
    check_care(&care);
    for (purpose, sql, expected) in [
        ("transport_planning", TRANSPORT, transport()),
        ("care_planning", CARE, care),
    ] {
        let output = council.sql(purpose, sql);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let told = String::from_utf8(output.stdout).unwrap();
        let told: Vec<String> = told.lines().skip(1).map(|l| l.replace(',', "|")).collect();
        assert_eq!(told, expected);
    }
    let output = council.sql("development", TRANSPORT);
    assert!(!output.status.success(), "ana does not hold that purpose");

    // What is spent of a privacy budget, and what bears it out.
    let budgets = || council.run("authority", &["authority", "budgets"]);
    let of = "parking/sessions for transport_planning (sessions): rho ";
    assert!(budgets().starts_with(&format!("{of}0 of 0.05 spent, 0.05 left")));
    council.ask("transport_planning", FREE).await;
    assert!(budgets().starts_with(&format!("{of}0.001 of 0.05 spent, 0.049 left")));
    let ledger = council.run("authority", &["authority", "verify-ledger"]);
    assert_eq!(
        ledger,
        "debits: 1, rho 0.001 together; the log bears them out\n"
    );

    // What an officer is told of a product before it is offered.
    let (well, said) = council.check("parking", "sessions", &["--account", "olu"]);
    assert!(well && said.contains("units: published "), "{said}");
    let (well, said) = council.check("parking", "sessions", &["--account", "ana"]);
    assert!(
        !well && said.contains("help: the account needs the purpose"),
        "{said}"
    );
    let (well, said) = council.check("social_care", "cases", &[]);
    assert!(well && said.contains("its data was not read"), "{said}");

    for role in council.roles() {
        check_folders(&council, role);
        // That it serves, and at a node what it has prepared.
        let log = council.log(role);
        let lines = log.lines().filter(|l| !l.contains("a product is prepared"));
        assert_eq!(lines.count(), 1, "{log}");
    }
    assert!(council.entries() > 0);
}

/// What `TRANSPORT` should give.
fn transport() -> Vec<String> {
    let truth = truth();
    let names: BTreeMap<&str, &str> = truth
        .wards
        .iter()
        .map(|w| (w.ward.as_str(), w.name.as_str()))
        .collect();
    let wards: BTreeMap<&str, &str> = truth
        .car_parks
        .iter()
        .map(|p| (p.car_park.as_str(), names[p.ward.as_str()]))
        .collect();
    let mut sums: BTreeMap<&str, (usize, i64)> = BTreeMap::new();
    for row in &truth.occupancy {
        let sum = sums.entry(wards[row.car_park.as_str()]).or_default();
        *sum = (sum.0 + 1, sum.1 + row.occupied);
    }
    sums.iter()
        .map(|(ward, (n, sum))| format!("{ward}|{n}|{sum}"))
        .collect()
}

/// Fails unless `told` may be what `CARE` gives: no ward of fewer than ten people, each count five off at most.
fn check_care(told: &[String]) {
    let truth = truth();
    let mut people: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for case in &truth.cases {
        let ward = truth.wards.iter().find(|w| w.ward == case.ward).unwrap();
        people.entry(&ward.name).or_default().insert(&case.person);
    }
    for cell in told {
        let (ward, count) = cell.split_once('|').unwrap();
        let count: usize = count.parse().unwrap();
        assert!(people[ward].len() >= 10 && count >= 10, "{cell}");
        assert!(count.abs_diff(people[ward].len()) <= 5, "{cell}");
    }
    let large = people.values().filter(|p| p.len() >= 20).count();
    assert!(large > 1 && told.len() >= large, "{told:?}");
}

/// A role's folders are its user's alone, its secrets readable by nobody else, and other roles'
/// users cannot look into them.
fn check_folders(council: &Council, role: &'static str) {
    let data = council.data(role);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700, "{}", data.display());
    let files = files_below(&council.home(role));
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        let is_open = ["chain.pem", "trust.json"].contains(&&*name)
            || [".parquet", ".manifest", ".csv", ".toml", ".import"]
                .iter()
                .any(|e| name.ends_with(e))
            || file.components().any(|c| c.as_os_str() == "products");
        assert!(
            is_open || mode(file) == 0o600,
            "{} {:o}",
            file.display(),
            mode(file)
        );
        if let Some(user) = council.user(role) {
            assert_eq!(
                std::fs::metadata(file).unwrap().uid(),
                user,
                "{}",
                file.display()
            );
        }
    }
    let secret = match role {
        "authority" => "root.age",
        _ => "key.pem",
    };
    let secret = files.iter().find(|f| f.ends_with(secret)).unwrap();
    for other in council.roles().into_iter().filter(|o| *o != role) {
        if council.user(role).is_some() {
            let read = council
                .as_user(other, Path::new("cat"))
                .arg(secret)
                .output()
                .unwrap();
            assert!(!read.status.success(), "{other} reads {}", secret.display());
        }
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_can_be_killed_at_its_work_and_the_council_answers_the_same() {
    let mut council = Council::start(&ALL);
    let care = council.ask("care_planning", CARE).await;
    check_care(&care);
    let same = async |council: &Council| {
        assert_eq!(
            council.ask("transport_planning", TRANSPORT).await,
            transport()
        );
        assert_eq!(council.ask("care_planning", CARE).await, care);
    };
    same(&council).await;

    // A node, when it has its grant and its keys.
    let mut connection = council.connect("transport_planning").await.unwrap();
    let before = council.entries();
    let mut parking = council.hand_over("parking");
    let killing = async {
        until(|| council.entries() >= before + 2).await;
        parking.kill().unwrap();
        parking.wait().unwrap();
    };
    let (refused, ()) = tokio::join!(refusal(&mut connection, WORK), killing);
    let refused = refused.unwrap();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    assert!(
        refused
            .message
            .contains("department `parking` of `northmoor`"),
        "{refused}"
    );
    council.serve("parking");
    same(&council).await;

    // The gateway, in the middle of an answer.
    let mut stream = connection.query(LONG).await.unwrap();
    stream.next().await.unwrap().unwrap();
    council.kill("gateway");
    let end = stream.try_for_each(|_: RecordBatch| async { Ok(()) });
    assert!(tokio::time::timeout(DEADLINE, end).await.unwrap().is_err());
    council.serve("gateway");
    same(&council).await;

    // The authority, while grants are asked for; what was answered is on record.
    for answers in [1, 7] {
        let before = council.entries();
        let answered = AtomicUsize::new(0);
        let mut authority = council.hand_over("authority");
        let asking = (0..3).map(|_| ask_until_refused(&council, &answered));
        let killing = async {
            until(|| answered.load(Ordering::Relaxed) >= answers).await;
            authority.kill().unwrap();
            authority.wait().unwrap();
        };
        let (refusals, ()) = tokio::join!(futures::future::join_all(asking), killing);
        for refused in refusals {
            assert_eq!(refused.code, Code::Unavailable, "{refused}");
            assert!(refused.message.contains("`northmoor`"), "{refused}");
        }
        council.serve("authority");
        assert!(council.entries() >= before + answered.load(Ordering::Relaxed));
        same(&council).await;
    }

    // Everybody, with nobody to find when they come back.
    let roles = council.roles();
    for role in &roles {
        council.kill(role);
    }
    for role in roles.iter().rev() {
        council.serve(role);
    }
    same(&council).await;
    council.entries();
    for department in council.departments() {
        let log =
            guildhall_node::Log::open(&council.data(department).join("audit.sqlite")).unwrap();
        assert!(verify_chain(&log.records().unwrap()).unwrap().len > 0);
    }
}

async fn ask_until_refused(council: &Council, answered: &AtomicUsize) -> Refused {
    let mut connection = council.connect("transport_planning").await.unwrap();
    loop {
        match answer(&mut connection, TRANSPORT).await {
            Ok(batch) => assert_eq!(rows(&batch).unwrap(), transport()),
            Err(e) => return e.downcast().unwrap(),
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits for something that does not tell.
async fn until(mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const OCCUPANCY: &str = "SELECT count(*), sum(occupied) FROM northmoor.parking.occupancy";

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_ends_at_any_moment_shows_all_of_a_version_or_nothing() {
    let mut council = Council::start(&["parking"]);
    let old = council.ask("transport_planning", OCCUPANCY).await;
    let spec = write_import(&council, 160_000);
    let new = vec![expected(160_000)];
    assert_ne!(old, new);
    let data = council.data("parking").join("datasets/occupancy");

    // Nothing that is there when the disk is full counts, and nothing of it stays.
    let before = listing(&data);
    let full = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\"";
    let import = council.command("parking", &["node", "import", &spec]);
    let mut limited = council.as_user("parking", Path::new("sh"));
    limited
        .arg("-c")
        .arg(full)
        .arg(import.get_program())
        .args(import.get_args());
    let output = limited.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert_eq!(
        error.lines().filter(|l| l.starts_with("error: ")).count(),
        1,
        "{error}"
    );
    let folder = data.display().to_string();
    assert!(
        error.contains(&folder) && error.contains("no room"),
        "{error}"
    );
    assert_eq!(listing(&data), before);
    assert_eq!(council.ask("transport_planning", OCCUPANCY).await, old);

    // Killed as it begins to write, the serving node with it; as a part is whole; as a version appears.
    let begun = |name: &str| name.contains('#');
    let whole = |name: &str| name.ends_with(".parquet") && !before.contains(name);
    let manifest = |name: &str| name.ends_with(".manifest") && !before.contains(name);
    type Moment<'a> = (&'a str, &'a dyn Fn(&str) -> bool);
    let moments: [Moment<'_>; 3] = [
        ("begun", &begun),
        ("whole", &whole),
        ("published", &manifest),
    ];
    for (moment, is_now) in moments {
        let known = newest(&data);
        let mut import = council
            .command("parking", &["node", "import", &spec])
            .spawn()
            .unwrap();
        until(|| listing(&data).iter().any(|n| is_now(n)) || import.try_wait().unwrap().is_some())
            .await;
        let is_served = moment != "begun";
        if !is_served {
            council.kill("parking");
        }
        import.kill().unwrap();
        let signal = import.wait().unwrap().signal();
        assert!(
            moment != "begun" || signal == Some(9),
            "the import had ended by then"
        );
        if !is_served {
            council.serve("parking");
        }
        let answer = council.ask("transport_planning", OCCUPANCY).await;
        // A version that is there is put on record by whoever finds it.
        let is_published = newest(&data) != known;
        assert_eq!(
            answer,
            if is_published {
                new.clone()
            } else {
                old.clone()
            },
            "{moment}"
        );
        if is_published {
            break;
        }
    }

    // Again: asked all the while, the answer is the one or the other, and then the new one.
    let mut import = council
        .command("parking", &["node", "import", &spec])
        .spawn()
        .unwrap();
    while import.try_wait().unwrap().is_none() {
        let answer = council.ask("transport_planning", OCCUPANCY).await;
        assert!(answer == old || answer == new, "{answer:?}");
    }
    assert!(import.wait().unwrap().success());
    assert_eq!(council.ask("transport_planning", OCCUPANCY).await, new);
    let left = listing(&data);
    assert!(
        !left
            .iter()
            .any(|n| n.contains('#') || n.ends_with(".draft")),
        "{left:?}"
    );
    // A part for each version that is kept, and no part that belongs to none.
    let count = |end: &str| left.iter().filter(|n| n.ends_with(end)).count();
    assert_eq!(count(".parquet"), count(".manifest"), "{left:?}");
    council.entries();
}

/// Writes a table that does not compress well, and gives the specification of its import.
fn write_import(council: &Council, rows: u64) -> String {
    let folder = council.raw("parking").join("imports");
    let mut text = String::from("car_park,ts,occupied\n");
    for row in 0..rows {
        let (park, day, n) = (row % 12 + 1, row % 28 + 1, noise(row));
        let (hour, minute, second) = (n % 24, n / 24 % 60, n / 1440 % 60);
        let occupied = occupied(row);
        writeln!(
            text,
            "P{park:02},2026-02-{day:02} {hour:02}:{minute:02}:{second:02},{occupied}"
        )
        .unwrap();
    }
    std::fs::write(folder.join("again.csv"), text).unwrap();
    let spec = std::fs::read_to_string(folder.join("occupancy.toml")).unwrap();
    let spec = spec
        .replace("occupancy.parquet", "again.csv")
        .replace("sort_by", "# sort_by");
    assert!(spec.contains("again.csv") && spec.contains("# sort_by"));
    std::fs::write(folder.join("again.toml"), spec).unwrap();
    folder.join("again.toml").display().to_string()
}

/// What `OCCUPANCY` gives once that is imported.
fn expected(rows: u64) -> String {
    format!("{rows}|{}", (0..rows).map(occupied).sum::<u64>())
}

fn occupied(row: u64) -> u64 {
    noise(row) >> 2
}

/// A number below 2^40 that looks like any other.
fn noise(row: u64) -> u64 {
    let mixed = (row + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 24
}

/// The names of a dataset's files.
fn listing(dataset: &Path) -> BTreeSet<String> {
    let name = |f: &PathBuf| f.strip_prefix(dataset).unwrap().display().to_string();
    ["parts", "manifests"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(dataset.join(folder)).ok())
        .flatten()
        .map(|e| name(&e.unwrap().path()))
        .collect()
}

/// The newest version of a dataset.
fn newest(dataset: &Path) -> Option<String> {
    listing(dataset)
        .into_iter()
        .filter(|n| n.ends_with(".manifest"))
        .max()
}
