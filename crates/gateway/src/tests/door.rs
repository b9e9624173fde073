//! Credentials, tickets, handles, metadata, sessions.

use super::city::{City, Client, PASSWORD, prepared, statement};
use crate::door::{
    GetSessionOptionsResult, OptionValue, SessionOptionValue, SetSessionOptionsRequest,
    SetSessionOptionsResult,
};
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow_flight::sql::{
    ActionBeginTransactionRequest, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandStatementIngest, CommandStatementSubstraitPlan, CommandStatementUpdate, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, Criteria, Empty, FlightData, FlightDescriptor, Ticket,
};
use futures::stream;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::{Code, Status};

const ALL: &str = "SELECT car_park, spaces FROM northmoor.parking.occupancy";

fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |s| s.code())
}

async fn every_rpc(client: &Client) -> Vec<(&'static str, Code)> {
    let descriptor = || FlightDescriptor::new_cmd(statement(ALL).as_any().encode_to_vec());
    let put = FlightData {
        flight_descriptor: Some(descriptor()),
        ..FlightData::default()
    };
    let mut all = Vec::new();
    let mut c = client.inner.clone();
    all.push((
        "ListFlights",
        code(c.list_flights(client.request(Criteria::default())).await),
    ));
    all.push((
        "GetFlightInfo",
        code(c.get_flight_info(client.request(descriptor())).await),
    ));
    all.push((
        "PollFlightInfo",
        code(c.poll_flight_info(client.request(descriptor())).await),
    ));
    all.push((
        "GetSchema",
        code(c.get_schema(client.request(descriptor())).await),
    ));
    all.push((
        "DoGet",
        code(c.do_get(client.request(Ticket::new("x"))).await),
    ));
    all.push((
        "DoPut",
        code(c.do_put(client.request(stream::iter([put.clone()]))).await),
    ));
    all.push((
        "DoExchange",
        code(c.do_exchange(client.request(stream::iter([put]))).await),
    ));
    all.push((
        "ListActions",
        code(c.list_actions(client.request(Empty {})).await),
    ));
    for name in [
        "CreatePreparedStatement",
        "ClosePreparedStatement",
        "CancelFlightInfo",
        "CancelQuery",
        "SetSessionOptions",
        "GetSessionOptions",
        "CloseSession",
        "BeginTransaction",
        "None",
    ] {
        let action = Action {
            r#type: name.into(),
            body: Default::default(),
        };
        all.push((name, code(c.do_action(client.request(action)).await)));
    }
    let metadata: [Vec<u8>; 4] = [
        CommandGetTables::default().as_any().encode_to_vec(),
        CommandGetSqlInfo::default().as_any().encode_to_vec(),
        CommandGetCatalogs {}.as_any().encode_to_vec(),
        b"garbage".to_vec(),
    ];
    for command in metadata {
        let descriptor = FlightDescriptor::new_cmd(command);
        all.push((
            "metadata",
            code(c.get_flight_info(client.request(descriptor)).await),
        ));
    }
    all
}

#[tokio::test]
async fn every_rpc_without_a_credential_is_unauthenticated() {
    let city = City::start().await;
    let bad = city.stranger().header("authorization", "Bearer AAAA");
    for client in [city.stranger(), bad] {
        for (rpc, code) in every_rpc(&client).await {
            assert_eq!(code, Code::Unauthenticated, "{rpc}");
        }
    }
}

#[tokio::test]
async fn a_handshake_trades_a_password_for_a_token() {
    let city = City::start().await;
    let mut client =
        arrow_flight::sql::client::FlightSqlServiceClient::new_from_inner(city.stranger().inner);
    assert!(client.handshake("ana", "wrong").await.is_err());
    assert!(client.handshake("ana@nowhere", PASSWORD).await.is_err());
    client.handshake("ana@northmoor", PASSWORD).await.unwrap();
    let info = client.execute(ALL.into(), None).await.unwrap();
    assert_eq!((info.total_records, info.total_bytes), (-1, -1));
    assert_eq!(info.endpoint.len(), 1);
    assert!(info.endpoint[0].location.is_empty());
}

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

#[tokio::test]
async fn a_purpose_is_named_or_the_only_one() {
    let city = City::start().await;
    let both = city.client("ana", &["planning", "review"]);
    let refused = both.ask(ALL).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("`planning`, `review`"),
        "{}",
        refused.message()
    );
    assert_eq!(both.ask("SELECT 1").await.unwrap().rows(), 1);
    let named = both.clone().header("x-guildhall-purpose", "review");
    assert_eq!(named.ask(ALL).await.unwrap().rows(), 2);
    let foreign = both.header("x-guildhall-purpose", "gossip");
    assert_eq!(code(foreign.ask(ALL).await), Code::PermissionDenied);
}

#[tokio::test]
async fn set_names_the_purpose_for_the_session() {
    let city = City::start().await;
    let both = city.client("ana", &["planning", "review"]);
    let show = |f: super::city::Fetched| {
        f.batches[0]
            .column(1)
            .as_string::<i32>()
            .value(0)
            .to_owned()
    };
    assert_eq!(
        code(both.ask("SET guildhall.purpose = 'gossip'").await),
        Code::PermissionDenied
    );
    // Preparing alone changes nothing.
    both.prepare("SET guildhall.purpose = 'review'")
        .await
        .unwrap();
    assert_eq!(code(both.ask(ALL).await), Code::InvalidArgument);
    assert_eq!(
        show(both.ask("SET guildhall.purpose = 'review'").await.unwrap()),
        "review"
    );
    assert_eq!(
        show(both.ask("SHOW guildhall.purpose").await.unwrap()),
        "review"
    );
    assert_eq!(both.ask(ALL).await.unwrap().rows(), 2);
    assert_eq!(
        code(both.ask("SET guildhall.colour = 'red'").await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(both.ask("SET datafusion.execution.batch_size = 1").await),
        Code::InvalidArgument
    );
    both.act("CloseSession", vec![]).await.unwrap();
    assert_eq!(code(both.ask(ALL).await), Code::InvalidArgument);
}

#[tokio::test]
async fn session_options_are_the_same_settings() {
    let city = City::start().await;
    let both = city.client("ana", &["planning", "review"]);
    let value = |s: &str| SessionOptionValue {
        option_value: Some(OptionValue::String(s.into())),
    };
    let request = SetSessionOptionsRequest {
        session_options: [
            ("guildhall.purpose".to_owned(), value("planning")),
            ("catalog".into(), value("x")),
        ]
        .into(),
    };
    let result = both
        .act("SetSessionOptions", request.encode_to_vec())
        .await
        .unwrap();
    let result = SetSessionOptionsResult::decode(result[0].as_slice()).unwrap();
    assert_eq!(result.errors.keys().collect::<Vec<_>>(), ["catalog"]);
    let told = both.act("GetSessionOptions", vec![]).await.unwrap();
    let told = GetSessionOptionsResult::decode(told[0].as_slice()).unwrap();
    assert_eq!(told.session_options["guildhall.purpose"], value("planning"));
    assert_eq!(both.ask(ALL).await.unwrap().rows(), 2);
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
