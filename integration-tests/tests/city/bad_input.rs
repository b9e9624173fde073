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
use std::time::Duration;
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
    let mut options = Boot {
        clock,
        ..Boot::new(&described, &folder.path().join("data"))
    };
    options.prepare.enabled = false;
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
    let chain = authority
        .issue(&csr, &peer, &["localhost".to_owned()], now, end)
        .unwrap();
    Identity::from_pem(&chain, &key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_the_councils_of_the_role_and_of_today() {
    let clock = MockClock::at(SystemClock.now());
    let (city, _folder) = city_at(&clock).await;
    let bare = Endpoint {
        account: None,
        ..endpoint(&city, "ana")
    };
    let with = |chain: &str, key: &str| Endpoint {
        certificate: Some((chain.to_owned(), key.to_owned())),
        ..bare.clone()
    };
    let door = |at: &Endpoint| Door::of(at).with("x-guildhall-purpose", "transport_planning");

    // None, a stranger's, one of a role that does not ask.
    assert_eq!(code(door(&bare).ask(ALL).await), Code::Unauthenticated);
    for peer in [
        "spiffe://northmoor/council/analyst/ana",
        "spiffe://eastfold/council/analyst/ana",
    ] {
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
    assert!(
        at_node
            .run(Envelope::default(), Vec::new().into())
            .await
            .is_err()
    );

    // The right one, until it is over; a connection does not outlive it.
    let files = &city.ready().client;
    let read = |path| std::fs::read_to_string(path).unwrap();
    let right = with(&read(&files.cert), &read(&files.key));
    let open = door(&right);
    assert_eq!(open.ask(ALL).await.unwrap(), 12);
    let token = Door::signed_in(&city, "ana", "transport_planning").await;
    assert_eq!(token.ask(ALL).await.unwrap(), 12);
    clock.advance(Duration::from_secs(61 * 60));
    assert_eq!(
        code(token.ask(ALL).await),
        Code::Unauthenticated,
        "an hour is a token's life"
    );
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
    for bad in [
        &b""[..],
        b"x",
        ALL.as_bytes(),
        &[0xff; 4096],
        &handle,
        &ticket[..ticket.len() - 1],
    ] {
        assert_eq!(code(ana.fetch(bad).await), Code::InvalidArgument);
    }
    for bad in [&b""[..], b"x", &[0xff; 4096], &ticket, &handle[1..]] {
        assert_eq!(code(ana.ticket_for(bad).await), Code::InvalidArgument);
    }
    for at in (0..ticket.len()).step_by(ticket.len() / 9) {
        let mut forged = ticket.clone();
        forged[at] ^= 0x10;
        assert_eq!(
            code(ana.fetch(&forged).await),
            Code::InvalidArgument,
            "byte {at}"
        );
        let mut forged = handle.clone();
        forged[at % handle.len()] ^= 0x10;
        assert_eq!(
            code(ana.ticket_for(&forged).await),
            Code::InvalidArgument,
            "byte {at}"
        );
    }
    // Somebody else's, and with no credential at all.
    assert_eq!(code(cara.fetch(&ticket).await), Code::InvalidArgument);
    assert_eq!(code(cara.ticket_for(&handle).await), Code::InvalidArgument);
    let stranger = Door::of(&endpoint(&city, "ana"));
    assert_eq!(code(stranger.fetch(&ticket).await), Code::Unauthenticated);
    assert_eq!(
        code(stranger.ticket_for(&handle).await),
        Code::Unauthenticated
    );

    // Another gateway's process cannot open them.
    city.restart_gateway().await.unwrap();
    let ana = Door::signed_in(&city, "ana", "transport_planning").await;
    assert_eq!(code(ana.fetch(&ticket).await), Code::InvalidArgument);
    assert_eq!(code(ana.ticket_for(&handle).await), Code::InvalidArgument);

    // Expired.
    let (ticket, handle) = (
        ana.ticket(ALL).await.unwrap(),
        ana.prepare(ALL).await.unwrap(),
    );
    clock.advance(Duration::from_secs(601));
    let late = ana.fetch(&ticket).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
    assert!(
        late.message().contains("help: ask for the result again"),
        "{}",
        late.message()
    );
    assert!(
        ana.ticket_for(&handle).await.is_ok(),
        "a handle lasts longer than a ticket"
    );
    clock.advance(Duration::from_secs(12 * 3600));
    let ana = Door::signed_in(&city, "ana", "transport_planning").await;
    assert_eq!(
        code(ana.ticket_for(&handle).await),
        Code::FailedPrecondition
    );
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
    assert!(
        wrong.contains("no such account, or not its password"),
        "{wrong}"
    );
    for (name, password) in [
        ("nobody", "guess"),
        ("cara", ""),
        ("", ""),
        ("cara\u{e9}", "x"),
    ] {
        assert_eq!(
            stranger.sign_in(name, password).await.unwrap_err(),
            wrong,
            "{name}"
        );
    }
    for token in ["", "AAAA", "....", "Bearer", &"A".repeat(10_000)] {
        let forged = stranger
            .clone()
            .with("authorization", format!("Bearer {token}"));
        assert_eq!(code(forged.ask(ALL).await), Code::Unauthenticated);
    }

    // A purpose that is none and one that is another's: the same words, with one's own.
    let purpose =
        |p: &'static str| async move { Door::signed_in(city, "ana", p).await.ask(ALL).await };
    let none = purpose("gossip").await.unwrap_err();
    let other = purpose("care_planning").await.unwrap_err();
    assert_eq!(none.code(), Code::PermissionDenied);
    assert_eq!(other.code(), Code::PermissionDenied);
    assert_eq!(plain(&none, "gossip"), plain(&other, "care_planning"));
    assert!(
        none.message().contains("`transport_planning`"),
        "{}",
        none.message()
    );
    assert_eq!(code(purpose("Robert'); DROP").await), Code::InvalidArgument);

    // A product that one may not see, and those that never were, whatever is asked of them.
    let ana = Door::signed_in(city, "ana", "transport_planning").await;
    let air = Door::signed_in(city, "ana", "air_quality").await;
    let hidden = "northmoor.social_care.cases";
    for absent in [
        "northmoor.social_care.castles",
        "northmoor.treasury.gold",
        "atlantis.parking.gold",
    ] {
        for ask in [
            "SELECT count(*) FROM @",
            "SELECT * FROM @",
            "EXPLAIN SELECT ward FROM @",
            "SELECT nosuch FROM @",
        ] {
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
    let lacks = air
        .ask("SELECT count(*) FROM northmoor.parking.castles")
        .await
        .unwrap_err();
    assert_eq!(plain(&hides, "sessions"), plain(&lacks, "castles"));
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_name = 'cases'";
    assert_eq!(ana.ask(listed).await.unwrap(), 0);
    let cara = Door::signed_in(city, "cara", "care_planning").await;
    assert_eq!(
        cara.ask(&listed.replace("SELECT table_name", "SELECT DISTINCT table_name"))
            .await
            .unwrap(),
        1
    );
    town.city.stop().await;
}

/// A refusal without the name that it is about and without its reference.
fn plain(status: &Status, name: &str) -> String {
    let text = status.message().replace(name, "@");
    text.lines()
        .filter(|l| !l.starts_with("query: "))
        .collect::<Vec<_>>()
        .join("\n")
}
