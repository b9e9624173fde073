//! Peers that stall, fall silent, are away, come back or stop.

use super::{City, GATEWAY, NODE, ask};
use crate::dial::Dialer;
use crate::tls::ClientAuth;
use crate::verify::Expect;
use crate::verify::tests::{identity, peer};
use bytes::Bytes;
use guildhall_proto::node::v1::RunRequest;
use guildhall_proto::node::v1::node_client::NodeClient;
use guildhall_telemetry::error_chain;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tonic::Code;

#[tokio::test]
async fn a_stalled_handshake_holds_up_nobody_else() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let mut stalled = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        // The start of a handshake record, and no more.
        stream.write_all(&[22, 3, 1]).await.unwrap();
        stalled.push(stream);
    }
    let started = Instant::now();
    city.ask(GATEWAY, &node, NODE).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    // And it is cut off in the end.
    let mut byte = [0];
    let cut = tokio::time::timeout(Duration::from_secs(20), stalled[0].read(&mut byte))
        .await
        .unwrap();
    assert!(matches!(cut, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_peer_that_shakes_hands_and_says_nothing_is_cut_off() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let stream = TcpStream::connect(node.address()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(city.named(GATEWAY)))
        .connect(name, stream)
        .await
        .unwrap();
    // The server's own settings come first.
    let mut read = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut read)).await;
    assert!(cut.is_ok(), "still open after 20 s");
}

#[tokio::test]
async fn an_unreachable_peer_is_named_within_four_seconds() {
    let city = City::new();
    // Listens and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    for address in [silent.local_addr().unwrap(), closed] {
        let started = Instant::now();
        let gateway = identity(&city.authority, GATEWAY);
        let channel = Dialer::new(&gateway, &city.trust, city.clock.clone())
            .channel(&address.to_string(), Expect::Peer(peer(NODE)))
            .unwrap();
        let away = ask(channel).await.unwrap_err();
        assert_eq!(away.code(), Code::Unavailable);
        let chain = error_chain(&away);
        assert!(
            chain.contains(NODE) && chain.contains(&address.to_string()),
            "{chain}"
        );
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "{:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn a_channel_finds_a_peer_that_came_back() {
    let city = City::new();
    let first = city.serve(NODE, ClientAuth::Required).await;
    let address = first.address();
    let channel = city.channel(GATEWAY, &first, NODE);
    assert!(ask(channel.clone()).await.is_ok());
    first.stop().await;
    assert!(ask(channel.clone()).await.is_err());
    let again = TcpListener::bind(address).await.unwrap();
    let _again = city.serve_on(
        again,
        &identity(&city.authority, NODE),
        ClientAuth::Required,
    );
    assert_eq!(ask(channel).await.unwrap(), GATEWAY);
}

#[tokio::test]
async fn a_killed_server_cuts_its_streams_at_once() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let mut client = NodeClient::new(city.channel(GATEWAY, &node, NODE));
    let mut stream = client
        .run(RunRequest {
            grant: None,
            fragment: Bytes::from_static(b"endless"),
            cell_status: false,
        })
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    let started = Instant::now();
    node.kill().await;
    assert!(stream.message().await.is_err());
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_ended_leaves_its_address_free() {
    let city = City::new();
    for round in 0..200 {
        let node = city.serve(NODE, ClientAuth::Required).await;
        let address = node.address();
        match round % 2 {
            0 => node.kill().await,
            _ => node.stop().await,
        }
        let again = std::net::TcpListener::bind(address);
        assert!(again.is_ok(), "round {round}: {again:?}");
    }
}

#[tokio::test]
async fn a_server_that_stops_gives_its_streams_a_while_and_then_cuts_them() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let mut client = NodeClient::new(city.channel(GATEWAY, &node, NODE));
    let mut stream = client
        .run(RunRequest {
            grant: None,
            fragment: Bytes::from_static(b"endless"),
            cell_status: false,
        })
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    let started = Instant::now();
    tokio::join!(node.stop(), async {
        assert!(stream.message().await.is_err());
    });
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}
