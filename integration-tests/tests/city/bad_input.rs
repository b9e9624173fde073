//! What is not what it should be: certificates, passwords, names, statements, tickets.

use crate::door::{Door, endpoint};
use guildhall_city_data::{CityOptions, Department};
use guildhall_cli::city::{City, CityOptions as Boot, boot};
use guildhall_cli::sql::Endpoint;
use guildhall_client::{AuthorityClient, NodeClient};
use guildhall_identity::{CertificateAuthority, Dialer, Identity, TrustStore, new_key_and_csr};
use guildhall_model::{Clock as _, MockClock, PeerId, SharedClock, SystemClock};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_testkit::{TestCity, node};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::{Code, Status};

const ALL: &str = "SELECT car_park, spaces FROM northmoor.parking.car_parks";

fn options() -> CityOptions {
    CityOptions {
        scale: 0.05,
        councils: 1,
        departments: Some(vec![Department::Parking, Department::SocialCare]),
        ..CityOptions::default()
    }
}

/// A city on a clock of our own.
async fn city_at(clock: &Arc<MockClock>) -> (City, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let described = folder.path().join("city");
    guildhall_city_data::write(&described, &options()).unwrap();
    let clock: SharedClock = clock.clone();
    let options = Boot { clock, ..Boot::new(&described, &folder.path().join("data")) };
    (boot(options).await.unwrap(), folder)
}

fn code<T>(answer: Result<T, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}

/// A role's certificate from a certificate authority that only calls itself the council's.
fn impostor(peer: &str) -> Identity {
    let peer: PeerId = peer.parse().unwrap();
    let now = SystemClock.now();
    let authority = CertificateAuthority::generate(&peer.council, now).unwrap();
    let (key, csr) = new_key_and_csr().unwrap();
    let end = now.after(Duration::from_secs(86_400));
    let chain = authority.issue(&csr, &peer, &["localhost".to_owned()], now, end).unwrap();
    Identity::from_pem(&chain, &key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_the_councils_of_the_role_and_of_today() {
    let clock = MockClock::at(SystemClock.now());
    let (city, _folder) = city_at(&clock).await;
    let bare = Endpoint { account: None, ..endpoint(&city, "ana") };
    let with = |chain: &str, key: &str| Endpoint {
        certificate: Some((chain.to_owned(), key.to_owned())),
        ..bare.clone()
    };
    let door = |at: &Endpoint| Door::of(at).with("x-guildhall-purpose", "transport_planning");

    // None, a stranger's, one of a role that does not ask.
    assert_eq!(code(door(&bare).ask(ALL).await), Code::Unauthenticated);
    for peer in ["spiffe://northmoor/council/analyst/ana", "spiffe://eastfold/council/analyst/ana"] {
        let stranger = impostor(peer);
        let stranger = with(&stranger.chain_pem(), &stranger.key_pem());
        assert!(door(&stranger).ask(ALL).await.is_err(), "{peer}");
    }
    let parking = city.node_config(&node("northmoor", "parking")).unwrap();
    let own = Identity::load(&parking.identity_dir()).unwrap();
    let as_node = with(&own.chain_pem(), &own.key_pem());
    assert_eq!(code(door(&as_node).ask(ALL).await), Code::Unauthenticated);

    // Between roles a stranger gets no further than the handshake.
    let stranger = impostor("spiffe://northmoor/council/gateway/main");
    let trust = TrustStore::load(&parking.identity_dir()).unwrap();
    let shared: SharedClock = clock.clone();
    let dialer = Dialer::new(&stranger, &trust, shared);
    let authority = &parking.authority.address;
    let authority = AuthorityClient::new(&dialer, authority, &parking.council).unwrap();
    assert!(authority.sign_in("ana", "x").await.is_err());
    let (_, csr) = new_key_and_csr().unwrap();
    assert!(authority.renew(csr, Vec::new()).await.is_err());
    let at_node = NodeClient::new(&dialer, &parking.listen, &parking.peer()).unwrap();
    assert!(at_node.run(Envelope::default(), Vec::new().into()).await.is_err());

    // The right one, until it is over; a connection does not outlive it.
    let files = &city.ready().client;
    let read = |path| std::fs::read_to_string(path).unwrap();
    let right = with(&read(&files.cert), &read(&files.key));
    let open = door(&right);
    assert_eq!(open.ask(ALL).await.unwrap(), 12);
    let token = Door::signed_in(&city, "ana", "transport_planning").await;
    assert_eq!(token.ask(ALL).await.unwrap(), 12);
    clock.advance(Duration::from_secs(61 * 60));
    assert_eq!(code(token.ask(ALL).await), Code::Unauthenticated, "an hour is a token's life");
    assert_eq!(open.ask(ALL).await.unwrap(), 12);
    clock.advance(Duration::from_secs(8 * 86_400));
    assert_eq!(code(open.ask(ALL).await), Code::Unauthenticated);
    assert!(door(&right).ask(ALL).await.is_err());
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_and_handles_are_sealed_owned_and_end() {
    let clock = MockClock::at(SystemClock.now());
    let (mut city, _folder) = city_at(&clock).await;
    let ana = Door::signed_in(&city, "ana", "transport_planning").await;
    let cara = Door::signed_in(&city, "cara", "care_planning").await;
    let ticket = ana.ticket(ALL).await.unwrap();
    let handle = ana.prepare(ALL).await.unwrap();
    let from_handle = ana.ticket_for(&handle).await.unwrap();
    assert_eq!(ana.fetch(&ticket).await.unwrap(), 12);
    assert_eq!(ana.fetch(&from_handle).await.unwrap(), 12);

    // Garbled, cut, and forged; a statement is no ticket, a handle is no ticket, nor a ticket a handle.
    for bad in [&b""[..], b"x", ALL.as_bytes(), &[0xff; 4096], &handle, &ticket[..ticket.len() - 1]] {
        assert_eq!(code(ana.fetch(bad).await), Code::InvalidArgument);
    }
    for bad in [&b""[..], b"x", &[0xff; 4096], &ticket, &handle[1..]] {
        assert_eq!(code(ana.ticket_for(bad).await), Code::InvalidArgument);
    }
    for at in (0..ticket.len()).step_by(ticket.len() / 9) {
        let mut forged = ticket.clone();
        forged[at] ^= 0x10;
        assert_eq!(code(ana.fetch(&forged).await), Code::InvalidArgument, "byte {at}");
        let mut forged = handle.clone();
        forged[at % handle.len()] ^= 0x10;
        assert_eq!(code(ana.ticket_for(&forged).await), Code::InvalidArgument, "byte {at}");
    }
    // Somebody else's, and with no credential at all.
    assert_eq!(code(cara.fetch(&ticket).await), Code::InvalidArgument);
    assert_eq!(code(cara.ticket_for(&handle).await), Code::InvalidArgument);
    let stranger = Door::of(&endpoint(&city, "ana"));
    assert_eq!(code(stranger.fetch(&ticket).await), Code::Unauthenticated);
    assert_eq!(code(stranger.ticket_for(&handle).await), Code::Unauthenticated);

    // Another gateway's process cannot open them.
    city.restart_gateway().await.unwrap();
    let ana = Door::signed_in(&city, "ana", "transport_planning").await;
    assert_eq!(code(ana.fetch(&ticket).await), Code::InvalidArgument);
    assert_eq!(code(ana.ticket_for(&handle).await), Code::InvalidArgument);

    // Expired.
    let (ticket, handle) = (ana.ticket(ALL).await.unwrap(), ana.prepare(ALL).await.unwrap());
    clock.advance(Duration::from_secs(601));
    let late = ana.fetch(&ticket).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
    assert!(late.message().contains("help: ask for the result again"), "{}", late.message());
    assert!(ana.ticket_for(&handle).await.is_ok(), "a handle lasts longer than a ticket");
    clock.advance(Duration::from_secs(12 * 3600));
    let ana = Door::signed_in(&city, "ana", "transport_planning").await;
    assert_eq!(code(ana.ticket_for(&handle).await), Code::FailedPrecondition);
    assert_eq!(ana.ask(ALL).await.unwrap(), 12);
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_name_says_no_more_than_that() {
    let town = TestCity::made_up(&options()).await.unwrap();
    let city = &town.city;

    // A wrong password, an account that is none, a council that is none: the same words.
    let stranger = Door::of(&endpoint(city, "ana"));
    let wrong = stranger.sign_in("cara", "guess").await.unwrap_err();
    assert!(wrong.contains("no such account, or not its password"), "{wrong}");
    for (name, password) in [("nobody", "guess"), ("cara", ""), ("", ""), ("cara\u{e9}", "x")] {
        assert_eq!(stranger.sign_in(name, password).await.unwrap_err(), wrong, "{name}");
    }
    for token in ["", "AAAA", "....", "Bearer", &"A".repeat(10_000)] {
        let forged = stranger.clone().with("authorization", format!("Bearer {token}"));
        assert_eq!(code(forged.ask(ALL).await), Code::Unauthenticated);
    }

    // A purpose that is none and one that is another's: the same words, with one's own.
    let purpose = |p: &'static str| async move { Door::signed_in(city, "ana", p).await.ask(ALL).await };
    let none = purpose("gossip").await.unwrap_err();
    let other = purpose("care_planning").await.unwrap_err();
    assert_eq!(none.code(), Code::PermissionDenied);
    assert_eq!(other.code(), Code::PermissionDenied);
    assert_eq!(plain(&none, "gossip"), plain(&other, "care_planning"));
    assert!(none.message().contains("`transport_planning`"), "{}", none.message());
    assert_eq!(code(purpose("Robert'); DROP").await), Code::InvalidArgument);

    // A product that one may not see, and those that never were, whatever is asked of them.
    let ana = Door::signed_in(city, "ana", "transport_planning").await;
    let air = Door::signed_in(city, "ana", "air_quality").await;
    let hidden = "northmoor.social_care.cases";
    for absent in ["northmoor.social_care.castles", "northmoor.treasury.gold", "atlantis.parking.gold"] {
        for ask in ["SELECT count(*) FROM @", "SELECT * FROM @", "EXPLAIN SELECT ward FROM @", "SELECT nosuch FROM @"] {
            let (a, b) = (ask.replace('@', hidden), ask.replace('@', absent));
            let pairs = [
                (ana.ask(&a).await.err(), ana.ask(&b).await.err()),
                (ana.schema(&a).await.err(), ana.schema(&b).await.err()),
                (ana.prepare(&a).await.err(), ana.prepare(&b).await.err()),
            ];
            for (hides, lacks) in pairs {
                let (hides, lacks) = (hides.unwrap(), lacks.unwrap());
                assert_eq!(hides.code(), Code::NotFound, "{ask}");
                assert_eq!(lacks.code(), Code::NotFound, "{ask}");
                assert_eq!(plain(&hides, hidden), plain(&lacks, absent), "{ask}");
            }
        }
    }
    // The same product is there for one purpose and not for another.
    let sessions = "SELECT count(*) FROM northmoor.parking.sessions";
    assert_eq!(ana.ask(sessions).await.unwrap(), 1);
    let hides = air.ask(sessions).await.unwrap_err();
    assert_eq!(hides.code(), Code::NotFound);
    let lacks = air.ask("SELECT count(*) FROM northmoor.parking.castles").await.unwrap_err();
    assert_eq!(plain(&hides, "sessions"), plain(&lacks, "castles"));
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_name = 'cases'";
    assert_eq!(ana.ask(listed).await.unwrap(), 0);
    let cara = Door::signed_in(city, "cara", "care_planning").await;
    assert_eq!(cara.ask(&listed.replace("SELECT table_name", "SELECT DISTINCT table_name")).await.unwrap(), 1);
    town.city.stop().await;
}

/// A refusal without the name that it is about and without its reference.
fn plain(status: &Status, name: &str) -> String {
    let text = status.message().replace(name, "@");
    text.lines().filter(|l| !l.starts_with("query: ")).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_crashes_stalls_or_reaches_past_the_products() {
    let town = TestCity::made_up(&options()).await.unwrap();
    let ana = Door::signed_in(&town.city, "ana", "transport_planning").await;
    let outside = town.folder().join("out");

    for (what, sql) in huge() {
        let started = Instant::now();
        let refused = ana.ask(&sql).await.err();
        let took = started.elapsed();
        let code = refused.as_ref().map(Status::code);
        assert!(
            matches!(code, Some(Code::ResourceExhausted | Code::InvalidArgument)),
            "{what}: {:?}",
            refused.map(|s| s.message().chars().take(200).collect::<String>())
        );
        assert!(took < Duration::from_secs(5), "{what} took {took:?}");
        assert!(refused.unwrap().message().len() < 2_000, "{what}: it is told back");
    }
    for sql in MALFORMED {
        let refused = ana.ask(sql).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{sql}: {}", refused.message());
        assert!(!refused.message().contains("Miggins"), "{sql}: {}", refused.message());
    }
    let path = outside.display();
    let copies = [
        format!("COPY (SELECT 1) TO '{path}'"),
        format!("COPY northmoor.parking.car_parks TO '{path}' STORED AS CSV"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'"),
        format!("SELECT * INTO OUTFILE '{path}' FROM northmoor.parking.car_parks"),
    ];
    for sql in NOT_OFFERED.iter().map(|s| (*s).to_owned()).chain(copies) {
        for refused in [ana.ask(&sql).await.err(), ana.prepare(&sql).await.err()] {
            let refused = refused.unwrap_or_else(|| panic!("{sql} was taken"));
            assert!(
                matches!(
                    refused.code(),
                    Code::InvalidArgument | Code::NotFound | Code::Unimplemented | Code::ResourceExhausted
                ),
                "{sql}: {refused:?}"
            );
            assert!(!refused.message().contains("root:"), "{sql}: {}", refused.message());
        }
    }
    assert!(!outside.exists());
    // It took all of it in its stride.
    assert_eq!(ana.ask(ALL).await.unwrap(), 12);
    town.city.stop().await;
}

/// Statements that are too much of something.
fn huge() -> Vec<(&'static str, String)> {
    let p = "northmoor.parking.car_parks";
    let many = |what: &str, n: usize, between: &str| vec![what; n].join(between);
    vec![
        ("20,000 terms", format!("SELECT {}", many("1", 20_000, "+"))),
        ("20,000 columns added", format!("SELECT {} FROM {p}", many("spaces", 20_000, "+"))),
        ("20,000 conditions", format!("SELECT 1 FROM {p} WHERE {}", many("spaces=1", 10_000, " OR "))),
        ("5,000 unions", many("SELECT 1", 5_000, " UNION ALL ")),
        ("5,000 unions of a product", many(&format!("SELECT spaces FROM {p}"), 2_000, " UNION ALL ")),
        ("20,000 brackets", format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000))),
        ("2,000 functions", format!("SELECT {}1{}", "abs(".repeat(2_000), ")".repeat(2_000))),
        ("2,000 cases", format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(2_000), " END".repeat(2_000))),
        ("2,000 sub-queries", format!("SELECT {}1{}", "(SELECT ".repeat(2_000), ")".repeat(2_000))),
        ("derived tables", format!("{}SELECT 1 AS a{}", "SELECT a FROM (".repeat(2_000), ") x".repeat(2_000))),
        ("10,000 negations", format!("SELECT {}true", "NOT ".repeat(10_000))),
        ("10,000 signs", format!("SELECT {}1", "- ".repeat(10_000))),
        ("10,000 arrays", format!("SELECT {}1{}", "[".repeat(10_000), "]".repeat(10_000))),
        ("500 joins", format!("SELECT 1 FROM {p} a0 {}", (1..500).map(|i| format!("JOIN {p} a{i} USING (car_park)")).collect::<Vec<_>>().join(" "))),
        ("1,000 tables", format!("SELECT 1 FROM {}", (0..1_000).map(|i| format!("{p} a{i}")).collect::<Vec<_>>().join(","))),
        ("500 withs", format!("WITH {} SELECT 1", (0..500).map(|i| format!("w{i} AS (SELECT 1)")).collect::<Vec<_>>().join(","))),
        ("20,000 values", format!("SELECT 1 FROM {p} WHERE spaces IN ({})", many("1", 20_000, ","))),
        ("200,000 bytes of text", format!("SELECT '{}'", "x".repeat(200_000))),
        ("8 MB", format!("SELECT '{}'", "x".repeat(8 << 20))),
        ("a long name", format!("SELECT {}", many("a", 5_000, "."))),
        ("open comments", "/*".repeat(30_000)),
        ("open quotes", "'".repeat(30_001)),
        ("50,000 semicolons", ";".repeat(50_000)),
    ]
}

const MALFORMED: [&str; 17] = [
    "",
    " \n\t",
    "-- nothing",
    "SELEC 1",
    "SELECT",
    "SELECT 1 FROM",
    "SELECT 1 FRM x WHERE y = 'Mrs Miggins'",
    "SELECT 'Mrs Miggins",
    "SELECT 'Mrs Miggins' 'Mrs Miggins' WHERE",
    "SELECT \"Mrs Miggins",
    "SELECT 1; SELECT 2",
    "SELECT 1 FROM northmoor.parking.car_parks WHERE car_park = 'Mrs Miggins' GROUP",
    "SELECT CAST('Mrs Miggins' AS NOSUCHTYPE)",
    "\0",
    "\u{202e}\u{feff}\u{1f600}",
    "SELECT nosuch FROM northmoor.parking.car_parks WHERE car_park = 'Mrs Miggins'",
    "SELECT car_park + INTERVAL 'Mrs Miggins' FROM northmoor.parking.car_parks",
];

const NOT_OFFERED: [&str; 55] = [
    "CREATE TABLE t (a INT)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE SCHEMA s",
    "CREATE DATABASE d",
    "CREATE INDEX i ON northmoor.parking.car_parks (ward)",
    "CREATE FUNCTION f() RETURNS INT RETURN 1",
    "DROP TABLE northmoor.parking.car_parks",
    "DROP SCHEMA northmoor.parking",
    "ALTER TABLE northmoor.parking.car_parks ADD COLUMN a INT",
    "TRUNCATE TABLE northmoor.parking.car_parks",
    "INSERT INTO northmoor.parking.car_parks VALUES ('a', 'b', 'c', 1)",
    "UPDATE northmoor.parking.car_parks SET spaces = 0",
    "DELETE FROM northmoor.parking.car_parks",
    "MERGE INTO northmoor.parking.car_parks t USING northmoor.parking.car_parks s ON t.ward = s.ward WHEN MATCHED THEN DELETE",
    "WITH d AS (DELETE FROM northmoor.parking.car_parks RETURNING *) SELECT * FROM d",
    "SELECT * INTO t FROM northmoor.parking.car_parks",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "GRANT SELECT ON northmoor.parking.car_parks TO ana",
    "USE northmoor",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "CALL f()",
    "KILL 1",
    "ANALYZE TABLE northmoor.parking.car_parks",
    "EXPLAIN INSERT INTO northmoor.parking.car_parks SELECT * FROM northmoor.parking.car_parks",
    "EXPLAIN ANALYZE DROP TABLE northmoor.parking.car_parks",
    "SELECT 1; DROP TABLE northmoor.parking.car_parks",
    "SET datafusion.execution.batch_size = 1",
    "SET datafusion.runtime.memory_limit = '100G'",
    "SET TIME ZONE 'UTC'",
    "SET search_path = 'x'",
    "RESET datafusion.execution.batch_size",
    "SHOW ALL",
    "SHOW datafusion.execution.batch_size",
    "SELECT * FROM information_schema.df_settings",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM \"/etc/passwd\"",
    "SELECT * FROM 'https://example.com/x.parquet'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM generate_series(1, 1000000000)",
    "SELECT * FROM range(1, 1000000000)",
    "SELECT * FROM TABLE(generate_series(1, 10))",
    "SELECT repeat('x', 1000000000)",
    "SELECT lpad('x', 1000000000)",
    "SELECT version()",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT current_user",
    "LOAD 'x'",
    "INSTALL x",
];
