//! Cells that have parts at two councils, put together in the first one's clean room and released once.

use arrow::array::RecordBatch;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use futures::TryStreamExt as _;
use guildhall_city_data::{CityOptions, Council, Department, council, write};
use guildhall_cli::sql::Connection;
use guildhall_client::{ContributorClient, NodeClient};
use guildhall_identity::{Dialer, Identity, TrustStore};
use guildhall_model::SystemClock;
use guildhall_proto::envelope::v1::Envelope;
use guildhall_testkit::{TestCity, answer, node, refusal, rows};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tonic::Code;

const COUNCILS: [&str; 2] = ["northmoor", "southmere"];
const BY_CHANNEL: &str = "SELECT channel, count(DISTINCT vehicle) AS vehicles, count(*) AS n, sum(paid) AS paid \
     FROM city.parking.sessions GROUP BY channel ORDER BY channel";
/// What a policy of southmere has to say for northmoor's analysts, and its clean room.
const SHARED: &str = r#"
@id("sessions-shared-with-northmoor")
permit (
    principal,
    action in [Action::"SeeProduct", Action::"ReadCells", Action::"JoinCells"],
    resource == Product::"southmere.parking.sessions"
)
when { principal.roles.contains("northmoor/analyst") };
"#;

fn options() -> CityOptions {
    CityOptions {
        scale: 0.3,
        departments: Some(vec![Department::Parking]),
        ..CityOptions::default()
    }
}

/// Two councils whose parking sessions are released together.
async fn town() -> TestCity {
    let folder = tempfile::tempdir().unwrap();
    let described = folder.path().join("city");
    write(&described, &options()).unwrap();
    for (own, other) in [(0, 1), (1, 0)] {
        let product = format!("{}/parking/products/sessions.toml", COUNCILS[own]);
        let with = format!("joint_with = [\"{}.parking.sessions\"]\n", COUNCILS[other]);
        edit(
            &described.join(product),
            "minimum_group = 10\n",
            &format!("minimum_group = {}\n{with}", 10 + 2 * own),
        );
    }
    let policy = include_str!("../../../crates/policy/policies/council.cedar");
    std::fs::write(
        described.join("southmere.cedar"),
        format!("{policy}{SHARED}"),
    )
    .unwrap();
    let name = "name = \"southmere\"\n";
    let with_policy = format!("{name}policy = \"southmere.cedar\"\n");
    edit(&described.join("city.toml"), name, &with_policy);
    TestCity::in_folder(&described, folder).await.unwrap()
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

async fn ana(town: &TestCity) -> Connection {
    town.connect("ana", "transport_planning").await.unwrap()
}

async fn ask(town: &TestCity, sql: &str) -> RecordBatch {
    answer(&mut ana(town).await, sql).await.unwrap()
}

/// Of each channel the vehicles over both councils, and what they have paid.
fn truth() -> BTreeMap<String, (i64, f64)> {
    let mut channels: BTreeMap<String, (BTreeSet<(usize, String)>, f64)> = BTreeMap::new();
    for index in 0..COUNCILS.len() {
        let Council { sessions, .. } = council(&options(), index).unwrap();
        for session in sessions {
            let channel = channels.entry(session.channel.to_string()).or_default();
            channel.0.insert((index, session.vehicle.clone()));
            channel.1 += session.paid_pence.unwrap_or_default() as f64 / 100.0;
        }
    }
    let counted = channels.into_iter();
    let counted =
        counted.map(|(channel, (vehicles, paid))| (channel, (vehicles.len() as i64, paid)));
    counted.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_of_two_councils_are_released_once_by_the_strictest_terms() {
    let mut town = town().await;
    let released = ask(&town, BY_CHANNEL).await;
    let truth = truth();
    let channels = released.column(0).as_string::<i32>();
    let vehicles = released.column(1).as_primitive::<Int64Type>();
    let paid = arrow::compute::cast(released.column(3), &arrow::datatypes::DataType::Float64);
    let paid = paid.unwrap();
    let paid = paid.as_primitive::<Float64Type>();
    let mut told = 0;
    for row in 0..released.num_rows() {
        if vehicles.is_null(row) {
            continue;
        }
        let (count, sum) = truth[channels.value(row)];
        assert!((vehicles.value(row) - count).abs() <= 5, "{count}");
        if paid.is_valid(row) {
            told += 1;
            // 5 mean parts with the count, and 5 steps of 5 % of the largest.
            let far = 5.0 * sum / count as f64 + 5.0 * 0.05 * 500.0;
            assert!((paid.value(row) - sum).abs() <= far, "{sum}");
        }
    }
    assert_eq!((told, truth.len()), (3, 3));

    let explained = rows(&ask(&town, &format!("EXPLAIN {BY_CHANNEL}")).await)
        .unwrap()
        .join("\n");
    for said in ["joint", "clean", "northmoor", "southmere", "12"] {
        assert!(explained.contains(said), "{said}: {explained}");
    }
    // One council's own cells are its own to release, as before.
    let own = BY_CHANNEL.replace("city.", "northmoor.");
    assert!(ask(&town, &own).await.num_rows() == 3);

    // The same numbers again, whoever was away meanwhile.
    let first = rows(&released).unwrap();
    town.city.kill_clean_room().await;
    for council in COUNCILS {
        let key = node(council, "parking");
        town.city.kill_node(&key).await.unwrap();
        town.city.start_node(&key).await.unwrap();
    }
    town.city.restart_gateway().await.unwrap();
    town.city.start_clean_room().await.unwrap();
    assert_eq!(rows(&ask(&town, BY_CHANNEL).await).unwrap(), first);
    town.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_clean_room_or_an_owner_nothing_joint_is_told_and_nothing_else_is_missing() {
    let mut town = town().await;
    let own = BY_CHANNEL.replace("city.", "northmoor.");
    let alone = rows(&ask(&town, &own).await).unwrap();
    let joint = rows(&ask(&town, BY_CHANNEL).await).unwrap();

    town.city.kill_clean_room().await;
    let refused = refusal(&mut ana(&town).await, BY_CHANNEL).await.unwrap();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    assert!(
        refused.message.contains("clean room of `northmoor`"),
        "{refused}"
    );
    assert_eq!(rows(&ask(&town, &own).await).unwrap(), alone);
    town.city.start_clean_room().await.unwrap();

    let gone = node("southmere", "parking");
    town.city.kill_node(&gone).await.unwrap();
    let mut easy = ana(&town).await;
    answer(&mut easy, "SET guildhall.partial = on")
        .await
        .unwrap();
    for connection in [&mut ana(&town).await, &mut easy] {
        let refused = refusal(connection, BY_CHANNEL).await.unwrap();
        assert_eq!(refused.code, Code::Unavailable, "{refused}");
        assert!(
            refused.message.contains("`parking` of southmere"),
            "{refused}"
        );
    }
    assert_eq!(rows(&ask(&town, &own).await).unwrap(), alone);
    town.city.start_node(&gone).await.unwrap();
    assert_eq!(rows(&ask(&town, BY_CHANNEL).await).unwrap(), joint);
    town.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_given_to_a_clean_room_and_answers_to_a_gateway() {
    let town = town().await;
    let parking = town
        .city
        .node_config(&node("northmoor", "parking"))
        .unwrap();
    let dialer = |folder: &Path| {
        let identity = Identity::load(folder).unwrap();
        let trust = TrustStore::load(folder).unwrap();
        Dialer::new(&identity, &trust, Arc::new(SystemClock))
    };
    let gateway = dialer(&town.city.gateway_config().identity);
    let contributor = ContributorClient::new(&gateway, &parking.listen, &parking.peer()).unwrap();
    let refused = contributor.contribute(Envelope::default(), Vec::new().into());
    let refused = match refused.await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.code(), Code::PermissionDenied);
    let clean_room = dialer(&town.city.clean_room_config().identity);
    let released = NodeClient::new(&clean_room, &parking.listen, &parking.peer()).unwrap();
    let refused = released.run(Envelope::default(), Vec::new().into()).await;
    assert_eq!(refused.err().unwrap().code(), Code::PermissionDenied);
    town.city.stop().await;
}
