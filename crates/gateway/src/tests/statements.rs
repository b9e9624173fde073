//! Statements: what they stream, what is told without a result, what is not offered, and how they end.

use super::city::City;
use super::client::{Client, statement};
use super::{ALL, code};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow_flight::sql::{
    ActionBeginTransactionRequest, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandStatementIngest, CommandStatementSubstraitPlan, CommandStatementUpdate, ProstMessageExt,
};
use arrow_flight::{CancelFlightInfoRequest, FlightData, FlightDescriptor};
use futures::stream;
use prost::Message;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn a_statement_streams_what_was_declared() {
    let city = City::start().await;
    assert_eq!(city.ana().ask(ALL).await.unwrap().rows(), 2);
    let computed = city
        .ana()
        .ask("SELECT min(spaces) AS least, 'x' AS word FROM northmoor.parking.occupancy")
        .await;
    assert_eq!(
        computed.unwrap().batches[0]
            .column(0)
            .as_primitive::<Int64Type>()
            .value(0),
        10
    );
    assert_eq!(city.ana().ask("SELECT 1 AS one").await.unwrap().rows(), 1);
}

#[tokio::test]
async fn metadata_streams_what_was_declared() {
    async fn check(client: &Client, command: impl ProstMessageExt) -> usize {
        let info = client.info(command).await.unwrap();
        let fetched = client.fetch(&info).await.unwrap();
        assert_eq!(*fetched.schema, info.try_decode_schema().unwrap());
        fetched.rows()
    }
    let city = City::start().await;
    let ana = city.ana();
    assert_eq!(check(&ana, CommandGetCatalogs {}).await, 3);
    assert!(check(&ana, CommandGetDbSchemas::default()).await >= 3);
    let named = CommandGetTables {
        table_name_filter_pattern: Some("occupancy".into()),
        ..Default::default()
    };
    assert_eq!(check(&ana, named.clone()).await, 3);
    assert_eq!(
        check(
            &ana,
            CommandGetTables {
                include_schema: true,
                ..named
            }
        )
        .await,
        3
    );
    let text = CommandGetTables {
        table_name_filter_pattern: Some(ALL.into()),
        ..Default::default()
    };
    assert_eq!(check(&ana, text).await, 0);
    assert_eq!(check(&ana, CommandGetTableTypes {}).await, 3);
    assert_eq!(check(&ana, CommandGetSqlInfo { info: vec![] }).await, 91);
    assert!(check(&ana, CommandGetXdbcTypeInfo { data_type: None }).await > 10);
    assert_eq!(check(&ana, CommandGetPrimaryKeys::default()).await, 0);
    assert_eq!(check(&ana, CommandGetExportedKeys::default()).await, 0);
    assert_eq!(check(&ana, CommandGetImportedKeys::default()).await, 0);
    assert_eq!(check(&ana, CommandGetCrossReference::default()).await, 0);
}

#[tokio::test]
async fn a_schema_is_told_without_a_result() {
    let city = City::start().await;
    let ana = city.ana();
    let descriptor = FlightDescriptor::new_cmd(statement(ALL).as_any().encode_to_vec());
    let told = ana
        .inner
        .clone()
        .get_schema(ana.request(descriptor.clone()))
        .await
        .unwrap()
        .into_inner();
    let told = arrow::datatypes::Schema::try_from(&told).unwrap();
    assert_eq!(told, *city.ana().ask(ALL).await.unwrap().schema);
    let poll = ana
        .inner
        .clone()
        .poll_flight_info(ana.request(descriptor))
        .await
        .unwrap()
        .into_inner();
    assert!(poll.info.is_some() && poll.flight_descriptor.is_none());
}

#[tokio::test]
async fn what_is_not_offered_is_refused_in_a_sentence() {
    let city = City::start().await;
    let ana = city.ana();
    for sql in [
        "DROP TABLE northmoor.parking.occupancy",
        "INSERT INTO northmoor.parking.occupancy VALUES (1)",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "CREATE TABLE t AS SELECT 1",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM generate_series(1, 10)",
    ] {
        let refused = ana.ask(sql).await.unwrap_err();
        assert!(
            matches!(refused.code(), Code::InvalidArgument | Code::NotFound),
            "{sql}: {refused:?}"
        );
        assert!(
            refused.message().contains("query: q-"),
            "{}",
            refused.message()
        );
    }
    let begin = ActionBeginTransactionRequest {}.as_any().encode_to_vec();
    assert_eq!(
        code(ana.act("BeginTransaction", begin).await),
        Code::Unimplemented
    );
    assert_eq!(code(ana.act("Dance", vec![]).await), Code::Unimplemented);
    assert_eq!(
        code(ana.info(CommandStatementSubstraitPlan::default()).await),
        Code::Unimplemented
    );
    assert_eq!(
        code(ana.info(CommandStatementIngest::default()).await),
        Code::Unimplemented
    );
    let update = CommandStatementUpdate {
        query: ALL.into(),
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(update.as_any().encode_to_vec());
    let put = FlightData {
        flight_descriptor: Some(descriptor),
        ..FlightData::default()
    };
    let put = ana
        .inner
        .clone()
        .do_put(ana.request(stream::iter([put])))
        .await;
    assert_eq!(code(put), Code::InvalidArgument);
    let terms = format!("SELECT {}1", "1 + ".repeat(20_000));
    assert_eq!(code(ana.ask(&terms).await), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_query_is_cancelled_by_its_own_principal() {
    let city = City::start().await;
    let (ana, bob) = (city.ana(), city.client("bob", &["planning"]));
    let info = ana.info(statement(ALL)).await.unwrap();
    let request = CancelFlightInfoRequest {
        info: Some(info.clone()),
    }
    .encode_to_vec();
    assert_eq!(
        code(bob.act("CancelFlightInfo", request.clone()).await),
        Code::InvalidArgument
    );
    ana.act("CancelFlightInfo", request).await.unwrap();
    assert_eq!(code(ana.fetch(&info).await), Code::Cancelled);
}

#[tokio::test]
async fn a_client_that_goes_ends_the_nodes_work() {
    let city = City::start().await;
    city.parties.endless.store(true, Ordering::SeqCst);
    let ana = city.ana();
    let info = ana
        .info(statement(
            "SELECT car_park, spaces FROM city.parking.occupancy",
        ))
        .await
        .unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = ana
        .inner
        .clone()
        .do_get(ana.request(ticket))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    stream.message().await.unwrap().unwrap();
    assert!(city.parties.open.load(Ordering::SeqCst) > 0);
    drop(stream);
    let ended = async {
        while city.parties.open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .unwrap();
}
