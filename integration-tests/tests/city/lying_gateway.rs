//! A gateway that lies gets nothing, and what it tried is on record.

use crate::rogue::{
    Fragment, RogueGateway, RogueNode, authority_log, no, node_log, schema_of, send_as,
};
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col, lit};
use guildhall_audit::{Decision, Event};
use guildhall_city_data::{CityOptions, Council, Department, council};
use guildhall_cli::city::{City, NodeKey};
use guildhall_grant::{Grant, SigningKey, Statement as _, envelope};
use guildhall_model::OutputClass::{self, OpenRows, ReleasedCells};
use guildhall_model::{SharedClock, SystemClock};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_testkit::{TestCity, node, rows};
use prost::Message as _;
use std::sync::Arc;
use tonic::Code;

const CELLS: &str = "SELECT ward, count(*) AS n FROM northmoor.parking.sessions GROUP BY ward";
const ROWS: &str = "SELECT ward, occupied FROM northmoor.parking.occupancy";

fn options() -> CityOptions {
    CityOptions {
        scale: 0.05,
        departments: Some(vec![Department::Parking, Department::Highways]),
        ..CityOptions::default()
    }
}

/// The city, its gateway gone bad, and the department that it is after.
struct Scene {
    city: City,
    gateway: RogueGateway,
    parking: NodeKey,
    truth: Council,
}

impl Scene {
    async fn of(city: City) -> Self {
        let gateway = RogueGateway::of(&city, clock(), "ana", "transport_planning").await;
        let truth = council(&options(), 0).unwrap();
        Self {
            city,
            gateway,
            parking: node("northmoor", "parking"),
            truth,
        }
    }

    /// How often keys were lent, and how often the node said no.
    fn record(&self) -> (usize, usize) {
        let lent = authority_log(&self.city, "northmoor");
        let lent = lent
            .iter()
            .filter(|e| e.event == Event::LendKeys && e.decision == Decision::Permit)
            .count();
        let refused = node_log(&self.city, &self.parking);
        let refused = refused
            .iter()
            .filter(|e| e.event == Event::AdmitFragment && e.decision == Decision::Forbid)
            .count();
        (lent, refused)
    }

    /// Sends `fragment` under `grant`: nothing comes back but a no, no key was lent for it, and
    /// the node wrote it down.
    async fn nothing(&self, what: &str, fragment: &Fragment, grant: Envelope) -> (Code, String) {
        let (lent, refused) = self.record();
        let answer = self.gateway.send(fragment, grant).await;
        assert!(
            answer.is_err(),
            "{what}: {} rows left",
            answer.map_or(0, |b| b.num_rows())
        );
        let (code, text) = no(answer);
        assert!(
            matches!(
                code,
                Code::PermissionDenied
                    | Code::InvalidArgument
                    | Code::NotFound
                    | Code::FailedPrecondition
            ),
            "{what}: {code:?} {text}"
        );
        self.check_words(what, &text);
        assert_eq!(self.record(), (lent, refused + 1), "{what}: {text}");
        (code, text)
    }

    /// Nothing of the rows is in a text.
    fn check_words(&self, what: &str, text: &str) {
        assert!(
            !text.contains(&self.truth.sessions[0].vehicle),
            "{what}: {text}"
        );
        assert!(!text.contains("/data/"), "{what}: {text}");
    }
}

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_only_looks_like_cells_releases_nothing() {
    let town = TestCity::made_up(&options()).await.unwrap();
    let scene = Scene::of(town.city).await;
    // The harness itself gets an answer when it tells the truth.
    let honest = scene.gateway.honest(CELLS).await;
    assert!(
        scene
            .gateway
            .run(&honest, ReleasedCells)
            .await
            .unwrap()
            .num_rows()
            > 0
    );

    let s = "northmoor.parking.sessions";
    let vehicle = &scene.truth.sessions[0].vehicle;
    for sql in [
        // Rows.
        format!("SELECT * FROM {s}"),
        format!("SELECT ward FROM {s}"),
        format!("SELECT vehicle FROM {s} LIMIT 1"),
        format!("SELECT DISTINCT vehicle FROM {s}"),
        format!("SELECT ward FROM {s} UNION ALL SELECT channel FROM {s}"),
        format!("SELECT row_number() OVER (ORDER BY started), ward FROM {s}"),
        // Groups of one.
        format!("SELECT vehicle, count(*) AS n FROM {s} GROUP BY vehicle"),
        format!("SELECT vehicle AS ward, count(*) AS n FROM {s} GROUP BY vehicle"),
        format!("SELECT ward, vehicle, count(*) AS n FROM {s} GROUP BY ward, vehicle"),
        format!("SELECT ward || vehicle AS ward, count(*) AS n FROM {s} GROUP BY ward || vehicle"),
        format!(
            "SELECT ward, count(*) AS n FROM (SELECT vehicle AS ward FROM {s}) x GROUP BY ward"
        ),
        format!("SELECT started, count(*) AS n FROM {s} GROUP BY started, minutes"),
        format!("SELECT date_trunc('minute', started) AS t, count(*) AS n FROM {s} GROUP BY 1"),
        format!("SELECT ward, count(*) AS n FROM {s} GROUP BY GROUPING SETS ((ward), (vehicle))"),
        // Aggregates of aggregates.
        format!(
            "SELECT ward, max(n) AS n FROM (SELECT ward, vehicle, count(*) AS n FROM {s} GROUP BY ward, vehicle) x GROUP BY ward"
        ),
        format!(
            "SELECT ward, sum(n) AS n FROM (SELECT ward, vehicle, count(*) AS n FROM {s} GROUP BY ward, vehicle) x GROUP BY ward"
        ),
        format!("SELECT sum(n) AS n FROM (SELECT ward, count(*) AS n FROM {s} GROUP BY ward) x"),
        format!(
            "SELECT ward, n FROM (SELECT ward, count(*) AS n FROM {s} GROUP BY ward) x WHERE n < 10"
        ),
        // The product with itself.
        format!(
            "SELECT ward, count(*) AS n FROM (SELECT * FROM {s} UNION ALL SELECT * FROM {s}) x GROUP BY ward"
        ),
        format!(
            "SELECT a.ward, count(*) AS n FROM {s} a JOIN {s} b ON a.vehicle = b.vehicle GROUP BY a.ward"
        ),
        format!(
            "SELECT ward, count(*) AS n FROM {s} WHERE vehicle IN (SELECT vehicle FROM {s} WHERE paid > 20) GROUP BY ward"
        ),
        // The product with what the gateway brings, or with other products.
        format!(
            "SELECT s.ward, count(*) AS n FROM {s} s JOIN (VALUES ('{vehicle}')) v(x) ON s.vehicle = v.x GROUP BY s.ward"
        ),
        format!(
            "SELECT v.x, count(*) AS n FROM {s} s CROSS JOIN (VALUES (1), (2), (3)) v(x) GROUP BY v.x"
        ),
        format!(
            "SELECT c.ward, count(*) AS n FROM {s} s JOIN northmoor.parking.car_parks c ON s.car_park = c.car_park GROUP BY c.ward"
        ),
        format!(
            "SELECT ward FROM northmoor.parking.car_parks WHERE ward IN (SELECT ward FROM {s})"
        ),
        // Filters that single somebody out.
        format!("SELECT ward, count(*) AS n FROM {s} WHERE vehicle = '{vehicle}' GROUP BY ward"),
        format!("SELECT ward, count(*) AS n FROM {s} WHERE vehicle <> '{vehicle}' GROUP BY ward"),
        format!("SELECT ward, count(*) AS n FROM {s} WHERE paid > 3 GROUP BY ward"),
        format!("SELECT ward, count(*) AS n FROM {s} WHERE minutes = 60 GROUP BY ward"),
        format!("SELECT ward, count(*) AS n FROM {s} WHERE started > '2026-03-03' GROUP BY ward"),
        format!(
            "SELECT ward, count(*) AS n FROM {s} WHERE channel IN ('app', 'machine') GROUP BY ward"
        ),
        format!(
            "SELECT ward, count(*) FILTER (WHERE vehicle = '{vehicle}') AS n FROM {s} GROUP BY ward"
        ),
        // Aggregates that hand values out.
        format!("SELECT ward, min(paid) AS n FROM {s} GROUP BY ward"),
        format!("SELECT ward, max(vehicle) AS n FROM {s} GROUP BY ward"),
        format!("SELECT ward, array_agg(vehicle) AS n FROM {s} GROUP BY ward"),
        format!("SELECT ward, string_agg(vehicle, ',') AS n FROM {s} GROUP BY ward"),
        format!("SELECT ward, first_value(vehicle ORDER BY paid) AS n FROM {s} GROUP BY ward"),
        format!("SELECT ward, median(paid) AS n FROM {s} GROUP BY ward"),
        format!("SELECT ward, sum(DISTINCT paid) AS n FROM {s} GROUP BY ward"),
        format!("SELECT ward, sum(paid * 1000) AS n FROM {s} GROUP BY ward"),
        format!(
            "SELECT ward, sum(CASE WHEN vehicle = '{vehicle}' THEN paid END) AS n FROM {s} GROUP BY ward"
        ),
    ] {
        let fragment = scene.gateway.forced(&sql).await;
        // The authority sees a digest and columns; what the plan makes of them the node sees.
        let grant = scene.gateway.grant(&fragment, ReleasedCells).await.unwrap();
        scene.nothing(&sql, &fragment, grant).await;
        let rows = scene.gateway.grant(&fragment, OpenRows).await;
        assert_eq!(
            no(rows).0,
            Code::PermissionDenied,
            "{sql}: a grant for rows"
        );
    }
    // A plan that no planner makes: grouped by the unit under the name of a dimension.
    let fragment = scene.gateway.encoded(&by_unit_called_ward(&scene.gateway));
    let grant = scene.gateway.grant(&fragment, ReleasedCells).await.unwrap();
    scene.nothing("grouped by the unit", &fragment, grant).await;

    // After all of it the truth still gets the same cells, and no small one.
    let sql = "SELECT ward, channel, count(DISTINCT vehicle) AS n FROM northmoor.parking.sessions GROUP BY ward, channel";
    let cells = scene
        .gateway
        .run(&scene.gateway.honest(sql).await, ReleasedCells)
        .await
        .unwrap();
    for row in rows(&cells).unwrap() {
        let units: u32 = row.rsplit('|').next().unwrap().parse().unwrap();
        assert!(units >= 10, "{row}");
    }
    scene.city.stop().await;
}

fn by_unit_called_ward(gateway: &RogueGateway) -> LogicalPlan {
    let product = gateway.product("northmoor.parking.sessions");
    let table = provider_as_source(Arc::new(EmptyTable::new(schema_of(product))));
    let name = TableReference::full("northmoor", "parking", "sessions");
    LogicalPlanBuilder::scan(name, table, None)
        .unwrap()
        .aggregate(
            vec![col("vehicle").alias("ward")],
            vec![count(lit(1)).alias("n")],
        )
        .unwrap()
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_good_for_what_it_says_and_once() {
    let town = TestCity::made_up(&options()).await.unwrap();
    let scene = Scene::of(town.city).await;
    let gateway = &scene.gateway;
    let honest = gateway.honest(ROWS).await;
    let other = gateway
        .honest("SELECT car_park FROM northmoor.parking.occupancy")
        .await;

    // Another fragment than was granted, and a byte more of the same.
    let grant = gateway.grant(&honest, OpenRows).await.unwrap();
    scene
        .nothing("another fragment", &other, grant.clone())
        .await;
    let mut longer = honest.bytes.clone();
    longer.extend([0x7a, 0]);
    scene
        .nothing(
            "an altered fragment",
            &honest.with_bytes(longer),
            grant.clone(),
        )
        .await;
    let mut flipped = honest.bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    scene
        .nothing("a flipped bit", &honest.with_bytes(flipped), grant.clone())
        .await;

    // None of it used the grant up; using it did.
    assert!(
        gateway
            .send(&honest, grant.clone())
            .await
            .unwrap()
            .num_rows()
            > 0
    );
    let (code, text) = scene.nothing("a used grant", &honest, grant.clone()).await;
    assert_eq!(code, Code::FailedPrecondition, "{text}");

    // Fewer columns named than are read; a filter reads its column too.
    for sql in [
        ROWS,
        "SELECT ward FROM northmoor.parking.occupancy WHERE occupied > 5",
    ] {
        let mut fragment = gateway.honest(sql).await;
        fragment.products[0]
            .columns
            .remove(&"occupied".parse().unwrap());
        let grant = gateway.grant(&fragment, OpenRows).await.unwrap();
        scene
            .nothing("a column that was not named", &fragment, grant)
            .await;
    }
    // The unit's own column is one that must be named, if it is read.
    let mut fragment = gateway
        .forced("SELECT ward, vehicle FROM northmoor.parking.sessions")
        .await;
    fragment.products[0]
        .columns
        .remove(&"vehicle".parse().unwrap());
    let grant = gateway.grant(&fragment, ReleasedCells).await.unwrap();
    scene
        .nothing("a unit that was not named", &fragment, grant)
        .await;
    // A product that is not named at all.
    let mut fragment = gateway
        .forced("SELECT c.ward FROM northmoor.parking.car_parks c JOIN northmoor.parking.sessions s ON c.ward = s.ward")
        .await;
    fragment
        .products
        .retain(|p| p.product.as_str() == "car_parks");
    for output in [OpenRows, ReleasedCells] {
        let grant = gateway.grant(&fragment, output).await.unwrap();
        scene
            .nothing("a product that was not named", &fragment, grant)
            .await;
    }
    // Rows under a grant for cells.
    let grant = gateway.grant(&honest, ReleasedCells).await.unwrap();
    scene
        .nothing("rows under a grant for cells", &honest, grant)
        .await;
    // What is no plan.
    for bytes in [&b""[..], b"SELECT 1", &[0xff; 300]] {
        let fragment = honest.with_bytes(bytes.to_vec());
        let grant = gateway.grant(&fragment, OpenRows).await.unwrap();
        scene.nothing("no plan", &fragment, grant).await;
    }
    scene.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_the_authority_did_not_make_for_this_is_none() {
    let town = TestCity::made_up(&options()).await.unwrap();
    let scene = Scene::of(town.city).await;
    let gateway = &scene.gateway;
    let parking = RogueNode::of(&scene.city, &scene.parking, clock());
    let rows = gateway
        .forced("SELECT vehicle, paid FROM northmoor.parking.sessions")
        .await;
    let granted = gateway.grant(&rows, ReleasedCells).await.unwrap();
    let honest: Grant = envelope::read_unverified(&granted).unwrap();
    let forged = Grant {
        output: OpenRows,
        ..honest
    };

    // Signed by nobody who counts: the gateway, the node, the authority's name beside another key.
    let own = envelope::sign(&forged, &SigningKey::generate().unwrap());
    let mut named = own.clone();
    named.signatures[0]
        .keyid
        .clone_from(&granted.signatures[0].keyid);
    let mut unsigned = own.clone();
    unsigned.signatures.clear();
    let altered = Envelope {
        payload: forged.to_wire().encode_to_vec(),
        ..granted.clone()
    };
    let as_node = envelope::sign(&forged, &parking.signer);
    for (what, grant) in [
        ("its own key", own),
        ("another's key id", named),
        ("no signature", unsigned),
        ("an old signature", altered),
        ("the node's key", as_node),
        ("nothing at all", Envelope::default()),
    ] {
        let (_, text) = scene.nothing(what, &rows, grant).await;
        assert_eq!(
            text, "the grant is not from this node's authority",
            "{what}"
        );
    }

    // The neighbour's authority grants over its own products, and its word counts there alone.
    let theirs = gateway
        .honest(&ROWS.replace("northmoor", "southmere"))
        .await;
    let foreign = gateway.grant(&theirs, OpenRows).await.unwrap();
    let ours = gateway.honest(ROWS).await.with_bytes(theirs.bytes.clone());
    scene
        .nothing("another council's grant", &ours, foreign.clone())
        .await;
    assert!(gateway.send(&theirs, foreign).await.unwrap().num_rows() > 0);

    // A stolen grant in the hands of another role.
    let ours = gateway.honest(ROWS).await;
    let grant = gateway.grant(&ours, OpenRows).await.unwrap();
    let (lent, refused) = scene.record();
    let highways = RogueNode::of(&scene.city, &node("northmoor", "highways"), clock());
    for thief in [&highways, &parking] {
        let (code, text) = no(send_as(&thief.dialer, &ours, grant.clone()).await);
        assert_eq!(code, Code::PermissionDenied, "{text}");
    }
    assert_eq!(scene.record(), (lent, refused + 2));
    assert!(
        gateway.send(&ours, grant).await.is_ok(),
        "the theft did not use it up"
    );

    // What the authority does not grant in the first place.
    let council = "northmoor".parse().unwrap();
    let wanted = |change: &dyn Fn(&mut guildhall_proto::authority::v1::FragmentWanted)| {
        let mut wanted = gateway.wanted(&ours, OutputClass::OpenRows);
        change(&mut wanted);
        wanted
    };
    for (what, wanted) in [
        (
            "for another recipient",
            wanted(&|w| w.recipient = highways.peer.to_string()),
        ),
        (
            "at another node",
            wanted(&|w| w.node = highways.peer.to_string()),
        ),
        (
            "of a column that is none",
            wanted(&|w| w.products[0].columns.push("keys".to_owned())),
        ),
        ("of an old version", wanted(&|w| w.products[0].version = 7)),
        ("of no product", wanted(&|w| w.products.clear())),
        (
            "of a hidden product",
            wanted(&|w| w.products[0].product = "cases".to_owned()),
        ),
        (
            "of a product twice",
            wanted(&|w| w.products.push(w.products[0].clone())),
        ),
    ] {
        let refused = gateway.ask(&council, wanted).await;
        assert!(refused.is_err(), "a grant {what}");
        let last = authority_log(&scene.city, "northmoor").pop().unwrap();
        assert_eq!(
            (last.event, last.decision),
            (Event::IssueGrant, Decision::Forbid),
            "{what}"
        );
    }
    scene.city.stop().await;
}
