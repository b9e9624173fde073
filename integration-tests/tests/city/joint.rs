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
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tonic::Code;

const COUNCILS: [&str; 2] = ["northmoor", "southmere"];
const BY_BAND: &str = "SELECT band, count(DISTINCT account) AS accounts, count(*) AS n, sum(paid) AS paid \
     FROM city.housing.council_tax GROUP BY band ORDER BY band";
/// What a policy of southmere has to say for northmoor's analysts, and its clean room.
const SHARED: &str = r#"
@id("council-tax-shared-with-northmoor")
permit (
    principal,
    action in [Action::"SeeProduct", Action::"ReadCells", Action::"JoinCells"],
    resource == Product::"southmere.housing.council_tax"
)
when { principal.roles.contains("northmoor/analyst") };
"#;

fn options() -> CityOptions {
    CityOptions {
        scale: 0.3,
        departments: Some(vec![Department::Housing]),
        ..CityOptions::default()
    }
}

/// Two councils whose council tax is released together.
async fn town() -> TestCity {
    let folder = tempfile::tempdir().unwrap();
    let described = folder.path().join("city");
    write(&described, &options()).unwrap();
    for (own, other) in [(0, 1), (1, 0)] {
        let product = format!("{}/housing/products/council_tax.toml", COUNCILS[own]);
        let with = format!(
            "joint_with = [\"{}.housing.council_tax\"]\n",
            COUNCILS[other]
        );
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
    edit(
        &described.join("city.toml"),
        "northmoor.parking.occupancy",
        "northmoor.housing.council_tax",
    );
    TestCity::in_folder(&described, folder).await.unwrap()
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

async fn cara(town: &TestCity) -> Connection {
    town.connect("cara", "housing_need").await.unwrap()
}

async fn ask(town: &TestCity, sql: &str) -> RecordBatch {
    answer(&mut cara(town).await, sql).await.unwrap()
}

/// The accounts of each band over both councils, and what they have paid.
fn truth() -> BTreeMap<&'static str, (i64, f64)> {
    let mut bands = BTreeMap::new();
    for index in 0..COUNCILS.len() {
        let Council { tax, .. } = council(&options(), index).unwrap();
        for account in tax {
            let band = bands.entry(account.band).or_insert((0, 0.0));
            band.0 += 1;
            band.1 += account.paid_pence as f64 / 100.0;
        }
    }
    bands
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_of_two_councils_are_released_once_by_the_strictest_terms() {
    let mut town = town().await;
    let released = ask(&town, BY_BAND).await;
    let truth = truth();
    let bands = released.column(0).as_string::<i32>();
    let accounts = released.column(1).as_primitive::<Int64Type>();
    let paid = arrow::compute::cast(released.column(3), &arrow::datatypes::DataType::Float64);
    let paid = paid.unwrap();
    let paid = paid.as_primitive::<Float64Type>();
    let mut told = 0;
    for row in 0..released.num_rows() {
        if accounts.is_null(row) {
            continue;
        }
        let (count, sum) = truth[bands.value(row)];
        assert!((accounts.value(row) - count).abs() <= 5, "{count}");
        if paid.is_valid(row) {
            told += 1;
            // 5 mean parts with the count, and 5 steps of 5 % of the largest.
            let far = 5.0 * sum / count as f64 + 5.0 * 0.05 * 6000.0;
            assert!((paid.value(row) - sum).abs() <= far, "{sum}");
        }
    }
    assert!(told >= 4, "{told} of {} bands", truth.len());

    let explained = rows(&ask(&town, &format!("EXPLAIN {BY_BAND}")).await)
        .unwrap()
        .join("\n");
    for said in ["joint", "clean", "northmoor", "southmere", "12"] {
        assert!(explained.contains(said), "{said}: {explained}");
    }
    // One council's own cells are its own to release, as before.
    let own = BY_BAND.replace("city.", "northmoor.");
    assert!(ask(&town, &own).await.num_rows() >= 4);

    // The same numbers again, whoever was away meanwhile.
    let first = rows(&released).unwrap();
    town.city.kill_clean_room().await;
    for council in COUNCILS {
        let key = node(council, "housing");
        town.city.kill_node(&key).await.unwrap();
        town.city.start_node(&key).await.unwrap();
    }
    town.city.restart_gateway().await.unwrap();
    town.city.start_clean_room().await.unwrap();
    assert_eq!(rows(&ask(&town, BY_BAND).await).unwrap(), first);
    town.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_clean_room_or_an_owner_nothing_joint_is_told_and_nothing_else_is_missing() {
    let mut town = town().await;
    let own = BY_BAND.replace("city.", "northmoor.");
    let alone = rows(&ask(&town, &own).await).unwrap();
    let joint = rows(&ask(&town, BY_BAND).await).unwrap();

    town.city.kill_clean_room().await;
    let refused = refusal(&mut cara(&town).await, BY_BAND).await.unwrap();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    assert!(
        refused.message.contains("clean room of `northmoor`"),
        "{refused}"
    );
    assert_eq!(rows(&ask(&town, &own).await).unwrap(), alone);
    town.city.start_clean_room().await.unwrap();

    let gone = node("southmere", "housing");
    town.city.kill_node(&gone).await.unwrap();
    let mut easy = cara(&town).await;
    answer(&mut easy, "SET guildhall.partial = on")
        .await
        .unwrap();
    for connection in [&mut cara(&town).await, &mut easy] {
        let refused = refusal(connection, BY_BAND).await.unwrap();
        assert_eq!(refused.code, Code::Unavailable, "{refused}");
        assert!(
            refused.message.contains("`housing` of southmere"),
            "{refused}"
        );
    }
    assert_eq!(rows(&ask(&town, &own).await).unwrap(), alone);
    town.city.start_node(&gone).await.unwrap();
    assert_eq!(rows(&ask(&town, BY_BAND).await).unwrap(), joint);
    town.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_given_to_a_clean_room_and_answers_to_a_gateway() {
    let town = town().await;
    let housing = town
        .city
        .node_config(&node("northmoor", "housing"))
        .unwrap();
    let dialer = |folder: &Path| {
        let identity = Identity::load(folder).unwrap();
        let trust = TrustStore::load(folder).unwrap();
        Dialer::new(&identity, &trust, Arc::new(SystemClock))
    };
    let gateway = dialer(&town.city.gateway_config().identity);
    let contributor = ContributorClient::new(&gateway, &housing.listen, &housing.peer()).unwrap();
    let refused = contributor.contribute(Envelope::default(), Vec::new().into());
    let refused = match refused.await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.code(), Code::PermissionDenied);
    let clean_room = dialer(&town.city.clean_room_config().identity);
    let released = NodeClient::new(&clean_room, &housing.listen, &housing.peer()).unwrap();
    let refused = released.run(Envelope::default(), Vec::new().into()).await;
    assert_eq!(refused.err().unwrap().code(), Code::PermissionDenied);
    town.city.stop().await;
}
