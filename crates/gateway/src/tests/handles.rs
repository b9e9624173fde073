//! Tickets and prepared statements: whose they are, and for how long.

use super::city::City;
use super::client::{prepared, statement};
use super::{ALL, code};
use arrow::array::{Int64Array, RecordBatch};
use arrow_flight::Ticket;
use arrow_flight::sql::{CommandGetTables, ProstMessageExt};
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn preparing_runs_nothing_and_tells_a_wrong_statement() {
    let city = City::start().await;
    let made = city.ana().prepare(ALL).await.unwrap();
    assert!(!made.dataset_schema.is_empty());
    assert_eq!(
        city.parties.granted.load(Ordering::SeqCst) + city.parties.ran.load(Ordering::SeqCst),
        0
    );
    assert_eq!(
        code(city.ana().prepare("SELEC 1").await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(
            city.ana()
                .prepare("SELECT a FROM northmoor.parking.none")
                .await
        ),
        Code::NotFound
    );
    assert_eq!(
        code(
            city.ana()
                .prepare("SELECT nothing FROM northmoor.parking.occupancy")
                .await
        ),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn each_row_of_parameters_is_one_result() {
    let city = City::start().await;
    let ana = city.ana();
    let sql = "SELECT car_park, spaces FROM northmoor.parking.occupancy WHERE spaces >= ?";
    let made = ana.prepare(sql).await.unwrap();
    let types =
        arrow::datatypes::Schema::try_from(arrow_flight::IpcMessage(made.parameter_schema.clone()))
            .unwrap();
    assert_eq!(
        types.field(0).data_type(),
        &arrow::datatypes::DataType::Int64
    );
    let handle = made.prepared_statement_handle;
    // Not bound yet.
    assert_eq!(
        code(ana.info(prepared(&handle)).await),
        Code::InvalidArgument
    );

    let values = Arc::new(Int64Array::from(vec![Some(5), Some(20), None]));
    let batch = RecordBatch::try_from_iter_with_nullable([("0", values as _, true)]).unwrap();
    let bound = ana.bind(&handle, batch).await.unwrap();
    let info = ana.info(prepared(&bound)).await.unwrap();
    let fetched = ana.fetch(&info).await.unwrap();
    // Two rows for 5, one for 20, none for NULL.
    assert_eq!(fetched.rows(), 3);
    assert_eq!(*fetched.schema, info.try_decode_schema().unwrap());
}

#[tokio::test]
async fn a_ticket_is_its_owners_until_its_time() {
    let city = City::start().await;
    let info = city.ana().info(statement(ALL)).await.unwrap();
    let bob = city.client("bob", &["planning"]);
    assert_eq!(code(bob.fetch(&info).await), Code::InvalidArgument);
    let mut forged = info.endpoint[0].ticket.clone().unwrap().ticket.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(
        code(city.ana().get(Ticket::new(forged)).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(city.ana().get(Ticket::new("garbage")).await),
        Code::InvalidArgument
    );
    // A command is no ticket.
    let raw = CommandGetTables::default().as_any().encode_to_vec();
    assert_eq!(
        code(city.ana().get(Ticket::new(raw)).await),
        Code::InvalidArgument
    );
    assert_eq!(city.ana().fetch(&info).await.unwrap().rows(), 2);
    city.clock.advance(Duration::from_secs(61));
    assert_eq!(
        code(city.ana().fetch(&info).await),
        Code::FailedPrecondition
    );
}

#[tokio::test]
async fn a_handle_is_its_owners() {
    let city = City::start().await;
    let handle = city
        .ana()
        .prepare(ALL)
        .await
        .unwrap()
        .prepared_statement_handle;
    let bob = city.client("bob", &["planning"]);
    assert_eq!(
        code(bob.info(prepared(&handle)).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(city.ana().info(prepared(b"x")).await),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_ticket_outlives_the_statement_it_came_from() {
    let city = City::start().await;
    let ana = city.ana();
    let handle = ana.prepare(ALL).await.unwrap().prepared_statement_handle;
    let info = ana.info(prepared(&handle)).await.unwrap();
    let close = arrow_flight::sql::ActionClosePreparedStatementRequest {
        prepared_statement_handle: handle,
    };
    assert!(
        ana.act("ClosePreparedStatement", close.as_any().encode_to_vec())
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(ana.fetch(&info).await.unwrap().rows(), 2);
}
