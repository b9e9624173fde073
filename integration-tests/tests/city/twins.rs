//! Questions for development, which synthetic twins answer: no data, no key, no debit.

use crate::rogue::{authority_log, node_log};
use arrow::array::RecordBatch;
use guildhall_audit::{Decision, Event};
use guildhall_city_data::CityOptions;
use guildhall_cli::sql::Connection;
use guildhall_testkit::{TestCity, answer, node, refusal, rows};

const CELLS: &str = "SELECT ward, count(DISTINCT vehicle) AS vehicles, sum(paid) AS pounds \
    FROM northmoor.parking.sessions GROUP BY ward ORDER BY ward";
const ROWS: &str = "SELECT p.ward, count(*) AS n FROM northmoor.parking.occupancy o \
    JOIN northmoor.parking.car_parks p ON o.car_park = p.car_park GROUP BY p.ward ORDER BY p.ward";
const REFUSED: &str =
    "SELECT vehicle, count(*) AS n FROM northmoor.parking.sessions GROUP BY vehicle";

async fn made_up(developer: &mut Connection, sql: &str) -> RecordBatch {
    let batch = answer(developer, sql).await.unwrap();
    for field in batch.schema().fields() {
        assert_eq!(field.metadata()["guildhall.rule"], "synthetic", "{sql}");
    }
    assert!(batch.num_rows() > 0, "{sql}");
    batch
}

/// What a question is refused with, but for its own id.
async fn words(connection: &mut Connection) -> Vec<String> {
    let said = refusal(connection, REFUSED).await.unwrap().to_string();
    let lines = said.lines().filter(|l| !l.starts_with("query: "));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_developer_is_answered_by_a_node_that_has_lost_its_data() {
    let options = CityOptions {
        scale: 0.05,
        ..CityOptions::default()
    };
    let mut city = TestCity::made_up(&options).await.unwrap();
    let parking = node("northmoor", "parking");
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let real = answer(&mut ana, CELLS).await.unwrap();
    let words = words(&mut ana).await;

    city.city.kill_node(&parking).await.unwrap();
    let data = city.city.node_config(&parking).unwrap().data;
    std::fs::remove_dir_all(data.join("datasets")).unwrap();
    city.city.start_node(&parking).await.unwrap();
    let before = authority_log(&city.city, "northmoor").len();

    let mut developer = city.connect("ana", "development").await.unwrap();
    let cells = made_up(&mut developer, CELLS).await;
    assert_eq!(
        rows(&cells).unwrap(),
        rows(&made_up(&mut developer, CELLS).await).unwrap()
    );
    assert_eq!(cells.num_columns(), real.num_columns());
    for (twin, own) in cells.schema().fields().iter().zip(real.schema().fields()) {
        assert_eq!(
            (twin.name(), twin.data_type()),
            (own.name(), own.data_type())
        );
        assert_ne!(own.metadata()["guildhall.rule"], "synthetic");
    }
    // A join finds its partners: columns of one name have values of one making.
    made_up(&mut developer, ROWS).await;
    assert_eq!(self::words(&mut developer).await, words);

    // What was asked is on record here and there; no key was lent, and nothing charged.
    let since = authority_log(&city.city, "northmoor").split_off(before);
    let asked = |event| since.iter().filter(|e| e.event == event).count();
    assert!(asked(Event::IssueGrant) > 0);
    assert_eq!((asked(Event::LendKeys), asked(Event::Debit)), (0, 0));
    let last = node_log(&city.city, &parking).pop().unwrap();
    assert_eq!(
        (last.event, last.decision),
        (Event::AdmitFragment, Decision::Permit)
    );
    assert_eq!(last.purpose.unwrap().as_str(), "development");

    // For any other purpose it is the data that are asked for.
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    assert!(refusal(&mut ana, CELLS).await.is_ok());
    city.city.stop().await;
}
