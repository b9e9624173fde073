//! Which column keys a node can borrow: those of its grant, once, while everybody in it is welcome.

use crate::rogue::{Fragment, Loan, RogueGateway, RogueNode, authority_log, no};
use guildhall_audit::{Decision, Event};
use guildhall_authority::Admin;
use guildhall_city_data::{CityOptions, Department};
use guildhall_cli::city::{City, CityOptions as Boot, boot};
use guildhall_grant::{Grant, Statement as _, envelope};
use guildhall_model::{Clock as _, Digest, MockClock, OutputClass, SharedClock, SystemClock};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_testkit::node;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tonic::Code;

const SQL: &str = "SELECT ward, occupied FROM northmoor.parking.occupancy";
/// What [`SQL`] needs, the join of its view among it.
const COVERED: [&str; 6] = [
    "occupancy.",
    "occupancy.car_park",
    "occupancy.occupied",
    "car_parks.",
    "car_parks.car_park",
    "car_parks.ward",
];

/// Two councils with parking and highways, on a clock of our own.
struct Town {
    city: City,
    clock: Arc<MockClock>,
    gateway: RogueGateway,
    parking: RogueNode,
    _folder: TempDir,
}

impl Town {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made_up = CityOptions {
            scale: 0.05,
            departments: Some(vec![Department::Parking, Department::Highways]),
            ..CityOptions::default()
        };
        let described = folder.path().join("city");
        guildhall_city_data::write(&described, &made_up).unwrap();
        let clock = MockClock::at(SystemClock.now());
        let shared: SharedClock = clock.clone();
        let mut options = Boot {
            clock: shared.clone(),
            ..Boot::new(&described, &folder.path().join("data"))
        };
        options.prepare.enabled = false;
        let city = boot(options).await.unwrap();
        let gateway = RogueGateway::of(&city, shared.clone(), "ana", "transport_planning").await;
        let parking = RogueNode::of(&city, &node("northmoor", "parking"), shared);
        Self {
            city,
            clock,
            gateway,
            parking,
            _folder: folder,
        }
    }

    fn rogue(&self, council: &str, department: &str) -> RogueNode {
        RogueNode::of(&self.city, &node(council, department), self.clock.clone())
    }

    /// A fresh grant for [`SQL`], and the fragment that it is for.
    async fn granted(&self) -> (Fragment, Envelope) {
        let fragment = self.gateway.honest(SQL).await;
        let grant = self
            .gateway
            .grant(&fragment, OutputClass::OpenRows)
            .await
            .unwrap();
        (fragment, grant)
    }

    /// What the parking node hears when it asks for keys; the refusal is on record.
    async fn refused(&self, loan: &Loan) -> (Code, String) {
        self.refused_to(&self.parking, loan).await
    }

    async fn refused_to(&self, node: &RogueNode, loan: &Loan) -> (Code, String) {
        let refused = no(node.borrow(loan).await);
        let last = authority_log(&self.city, node.peer.council.as_str())
            .pop()
            .unwrap();
        assert_eq!(
            (last.event, last.decision),
            (Event::LendKeys, Decision::Forbid),
            "{refused:?}"
        );
        assert_eq!(last.peer.as_ref(), Some(&node.peer));
        refused
    }

    fn admin(&self) -> Admin {
        let config = self
            .city
            .authority_config(&"northmoor".parse().unwrap())
            .unwrap();
        Admin::open(&config.data).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_lent_for_the_grant_and_nothing_beside_it() {
    let town = Town::start().await;
    let (fragment, grant) = town.granted().await;

    // One column more, of the same dataset, of another one, of another product.
    for more in [
        "occupancy.ts",
        "car_parks.name",
        "sessions.vehicle",
        "sessions.",
    ] {
        let columns: Vec<&str> = COVERED.iter().copied().chain([more]).collect();
        let loan = town.parking.request(&grant, &fragment, &columns).await;
        let (code, text) = town.refused(&loan).await;
        assert_eq!(code, Code::PermissionDenied, "{more}: {text}");
        assert!(
            text.starts_with("the grant does not cover"),
            "{more}: {text}"
        );
    }
    // The key of one column under the name of another.
    let mut loan = town
        .parking
        .request(&grant, &fragment, &["occupancy.occupied"])
        .await;
    let other = town
        .parking
        .request(&grant, &fragment, &["occupancy.ts"])
        .await;
    loan.request.keys[0]
        .age
        .clone_from(&other.request.keys[0].age);
    assert_eq!(town.refused(&loan).await.0, Code::PermissionDenied);

    // Another node of the department's own council, with a grant that is not its own.
    let highways = town.rogue("northmoor", "highways");
    let loan = town.parking.request(&grant, &fragment, &COVERED).await;
    let (code, text) = town.refused_to(&highways, &loan).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("is for node"), "{text}");

    // Another fragment than the one that was granted.
    let mut loan = town.parking.request(&grant, &fragment, &COVERED).await;
    loan.request.fragment_digest = Digest::of(b"another").as_bytes().to_vec();
    let (code, text) = town.refused(&loan).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("is for fragment"), "{text}");

    // A grant with a column written in, under the old signature and under the node's own.
    let mut wider: Grant = envelope::read_unverified(&grant).unwrap();
    wider.products[0].columns.insert("ts".parse().unwrap());
    let payload = wider.to_wire().encode_to_vec();
    let altered = Envelope {
        payload,
        ..grant.clone()
    };
    let own = envelope::sign(&wider, &town.parking.signer);
    for forged in [altered, own] {
        let loan = town
            .parking
            .request(&forged, &fragment, &["occupancy.ts"])
            .await;
        let (code, text) = town.refused(&loan).await;
        assert_eq!(code, Code::PermissionDenied);
        assert!(text.contains("not signed by a key that counts"), "{text}");
    }

    // Nothing of it used the grant up; it is good once, for one borrower.
    let loan = town.parking.request(&grant, &fragment, &COVERED).await;
    assert_eq!(
        town.parking.borrow(&loan).await.unwrap().len(),
        COVERED.len()
    );
    let again = town.parking.request(&grant, &fragment, &COVERED).await;
    let (code, text) = town.refused(&again).await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(text.contains("has been used"), "{text}");

    // An expired one.
    let (fragment, grant) = town.granted().await;
    let loan = town.parking.request(&grant, &fragment, &COVERED).await;
    town.clock.advance(Duration::from_secs(300));
    let (code, text) = town.refused(&loan).await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(text.contains("expired at"), "{text}");
    town.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_end_with_the_council_the_account_the_gateway_and_the_node() {
    let town = Town::start().await;

    // The neighbour's grant, for the neighbour's node of the same name.
    let sql = SQL.replace("northmoor", "southmere");
    let theirs = town.gateway.honest(&sql).await;
    let foreign = town
        .gateway
        .grant(&theirs, OutputClass::OpenRows)
        .await
        .unwrap();
    let loan = town.parking.request(&foreign, &theirs, &COVERED).await;
    let (code, text) = town.refused(&loan).await;
    assert_eq!(code, Code::PermissionDenied, "{text}");
    // Nor does the neighbour's node get our keys at our authority, nor at its own.
    let (fragment, grant) = town.granted().await;
    let loan = town.parking.request(&grant, &fragment, &COVERED).await;
    let neighbour = town.rogue("southmere", "parking");
    let (code, text) = town.refused_to(&neighbour, &loan).await;
    assert_eq!(code, Code::PermissionDenied, "{text}");

    // Each is shut out after the grant was issued and before it was used.
    town.admin()
        .revoke_account(&"ana".parse().unwrap(), town.clock.now())
        .unwrap();
    assert!(
        town.refused(&loan)
            .await
            .1
            .contains("the account of this grant is closed")
    );
    no(town.gateway.grant(&fragment, OutputClass::OpenRows).await);
    town.admin()
        .revoke_peer(&town.gateway.peer, town.clock.now())
        .unwrap();
    assert!(
        town.refused(&loan)
            .await
            .1
            .contains("the gateway of this grant is revoked")
    );
    assert_eq!(
        no(town.gateway.grant(&fragment, OutputClass::OpenRows).await).0,
        Code::Unauthenticated
    );
    town.admin()
        .revoke_peer(&town.parking.peer, town.clock.now())
        .unwrap();
    assert_eq!(
        no(town.parking.borrow(&loan).await).0,
        Code::Unauthenticated
    );
    town.city.stop().await;
}
