//! What askers see of themselves: budgets, refusals, and what a question would cost.

use super::city::City;
use super::client::statement;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Decimal128Type;
use arrow::util::pretty::pretty_format_batches;
use std::sync::atomic::Ordering;
use tonic::Code;

fn text(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

#[tokio::test]
async fn budgets_of_every_council_are_rows_and_need_no_purpose() {
    let city = City::start().await;
    // Two purposes, none of them named: a product could not be asked for.
    let ana = city.client("ana", &["planning", "review"]);
    let fetched = ana
        .ask("SELECT council, purpose, remaining_rho FROM guildhall.budget ORDER BY council")
        .await
        .unwrap();
    assert_eq!(fetched.rows(), 2);
    let batch = &fetched.batches[0];
    let councils: Vec<_> = batch
        .column(0)
        .as_string::<i32>()
        .iter()
        .flatten()
        .collect();
    assert_eq!(councils, ["northmoor", "southsea"]);
    let left = batch.column(2).as_primitive::<Decimal128Type>();
    assert_eq!(left.values(), &[40_000_000, 40_000_000]);
    assert_eq!(city.parties.granted.load(Ordering::SeqCst), 0);
    let all = ana
        .ask("SELECT * FROM city.guildhall.budget")
        .await
        .unwrap();
    let info = ana
        .info(statement("SELECT * FROM guildhall.budget"))
        .await
        .unwrap();
    assert_eq!(ana.fetch(&info).await.unwrap().schema, all.schema);
    let epsilon = "SELECT count(*) AS n FROM guildhall.budget WHERE total_epsilon > spent_epsilon AND period_end > period_start";
    let batches = ana.ask(epsilon).await.unwrap().batches;
    assert!(text(&batches).contains("| 2 |"), "{}", text(&batches));
}

#[tokio::test]
async fn an_authority_that_is_away_is_named_for_its_budgets() {
    let city = City::start().await;
    let ana = city.ana();
    let sql = "SELECT council FROM guildhall.budget";
    ana.ask(sql).await.unwrap();
    city.parties.goes_away(City::authority("southsea"));
    let refused = ana.ask(sql).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("southsea"), "{refused}");
    let partial = ana.header("x-guildhall-partial", "on");
    assert_eq!(partial.ask(sql).await.unwrap().rows(), 1);
}

#[tokio::test]
async fn refusals_are_kept_for_who_was_refused() {
    let city = City::start().await;
    let (ana, bob) = (city.ana(), city.client("bob", &["planning"]));
    let kept = "SELECT rule, instead FROM guildhall.refusals ORDER BY at";
    assert_eq!(ana.ask(kept).await.unwrap().rows(), 0);
    let refused = "EXPLAIN ANALYZE SELECT car_park FROM northmoor.parking.occupancy WHERE car_park = 'Jane Doe'";
    assert_eq!(
        ana.ask(refused).await.err().unwrap().code(),
        Code::PermissionDenied
    );
    // What is wrong is not refused.
    assert_eq!(
        ana.ask("SELECT nosuch FROM northmoor.parking.occupancy")
            .await
            .err()
            .unwrap()
            .code(),
        Code::InvalidArgument
    );
    let told = text(&ana.ask(kept).await.unwrap().batches);
    assert!(
        told.contains("explain-analyze") && told.contains("use `explain`"),
        "{told}"
    );
    assert!(!told.contains("Jane"), "{told}");
    assert_eq!(ana.ask(kept).await.unwrap().rows(), 1);
    assert_eq!(bob.ask(kept).await.unwrap().rows(), 0);
}

#[tokio::test]
async fn what_is_ones_own_is_listed() {
    let city = City::start().await;
    let ana = city.ana();
    let listed = "SELECT table_catalog, table_name, table_type FROM information_schema.tables WHERE table_schema = 'guildhall' ORDER BY table_name";
    let told = text(&ana.ask(listed).await.unwrap().batches);
    assert!(
        told.contains("| city          | budget     | SYSTEM TABLE |"),
        "{told}"
    );
    assert!(told.contains("refusals"), "{told}");
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'guildhall' AND table_name = 'refusals'";
    assert_eq!(ana.ask(columns).await.unwrap().rows(), 3);
}

#[tokio::test]
async fn a_session_says_whether_cells_tell_their_status() {
    let city = City::start().await;
    let ana = city.ana().header(
        "cookie",
        "arrow_flight_session_id=0123456789abcdef0123456789abcdef",
    );
    ana.ask("SET guildhall.cell_status = on").await.unwrap();
    let shown = text(&ana.ask("SHOW guildhall.cell_status").await.unwrap().batches);
    assert!(
        shown.contains("guildhall.cell_status") && shown.contains("on"),
        "{shown}"
    );
    assert_eq!(
        ana.ask("SET guildhall.cell_status = maybe")
            .await
            .err()
            .unwrap()
            .code(),
        Code::InvalidArgument
    );
    // Rows of an open product have none.
    let open = ana
        .ask("SELECT car_park, spaces FROM northmoor.parking.occupancy")
        .await
        .unwrap();
    assert_eq!(open.schema.fields().len(), 2);
}

#[tokio::test]
async fn the_privacy_of_a_question_is_told_and_nothing_is_asked_for() {
    let city = City::start().await;
    let ana = city.ana();
    let sql = "explain privacy SELECT car_park FROM northmoor.parking.occupancy WHERE car_park = 'Jane Doe'";
    let told = text(&ana.ask(sql).await.unwrap().batches);
    assert!(
        told.contains("open: its rows may leave as they are"),
        "{told}"
    );
    assert!(!told.contains("Jane"), "{told}");
    let info = ana.info(statement(sql)).await.unwrap();
    assert_eq!(ana.fetch(&info).await.unwrap().schema.fields().len(), 4);
    assert!(!ana.prepare(sql).await.unwrap().dataset_schema.is_empty());
    assert_eq!(city.parties.granted.load(Ordering::SeqCst), 0);
    assert_eq!(city.parties.ran.load(Ordering::SeqCst), 0);
}
