//! Who is let in, and what every door says to the others.

use super::city::{City, PASSWORD};
use super::client::{Client, statement};
use super::{ALL, code};
use arrow_flight::sql::{CommandGetCatalogs, CommandGetSqlInfo, CommandGetTables, ProstMessageExt};
use arrow_flight::{Action, Criteria, Empty, FlightData, FlightDescriptor, Ticket};
use futures::stream;
use prost::Message;
use tonic::Code;

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
