//! Reaching peers by who they are.

use crate::credential::Identity;
use crate::enrolment::EnrolmentCode;
use crate::error::IdentityError;
use crate::serve::{CONNECTION_WINDOW, FRAME, SOCKET_BUFFER, STREAM_WINDOW, TLS_BUFFER};
use crate::tls::client_config;
use crate::trust::TrustStore;
use crate::verify::{Expect, ExpectedServer, PinnedAuthority, plain};
use guildhall_model::SharedClock;
use http::Uri;
use http::uri::Authority;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A connection of many streams, some of which nobody reads for a while: each may hold up to this much back ...
const SHUFFLE_STREAM_WINDOW: u32 = 1024 * 1024;
/// ... and two thousand of them do not use up what the connection may hold, which would stop the others for good.
const SHUFFLE_CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Why no connection to a peer came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody listens there, or no such host.
    #[error("cannot connect to {peer} at `{address}`")]
    Connect {
        /// Whom we wanted.
        peer: String,
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// It listens, but we do not believe it, or it does not speak TLS 1.3.
    #[error("no TLS connection with {peer} at `{address}`")]
    Handshake {
        /// Whom we wanted.
        peer: String,
        /// Where.
        address: String,
        /// What the handshake said.
        source: io::Error,
    },
    /// Too slow.
    #[error("{peer} at `{address}` did not answer within {} s", CONNECT_WITHIN.as_secs())]
    Timeout {
        /// Whom we wanted.
        peer: String,
        /// Where.
        address: String,
    },
}

/// Opens channels to peers as `identity`, judging them by `trust`.
#[derive(Debug, Clone)]
pub struct Dialer {
    identity: Identity,
    trust: TrustStore,
    clock: SharedClock,
}

impl Dialer {
    /// A dialler that is `identity`.
    #[must_use]
    pub fn new(identity: &Identity, trust: &TrustStore, clock: SharedClock) -> Self {
        Self {
            identity: identity.clone(),
            trust: trust.clone(),
            clock,
        }
    }

    /// Whom it dials as.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it judges peers by.
    #[must_use]
    pub fn trust(&self) -> &TrustStore {
        &self.trust
    }

    /// What it takes the time from.
    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// A channel to whoever is `expect` at `address` (`host:port`).
    ///
    /// Connects when first used, and again when the connection is lost. A connection that
    /// does not come about within three seconds fails the call that wanted it. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// If `address` is not `host:port`.
    pub fn channel(&self, address: &str, expect: Expect) -> Result<Channel, IdentityError> {
        self.with_windows(address, expect, STREAM_WINDOW, CONNECTION_WINDOW)
    }

    /// The same for many streams that wait for one another, as between the workers of a node: one that is not read
    /// never keeps another from being read.
    ///
    /// # Errors
    /// If `address` is not `host:port`.
    pub fn shuffle_channel(&self, address: &str, expect: Expect) -> Result<Channel, IdentityError> {
        let (stream, connection) = (SHUFFLE_STREAM_WINDOW, SHUFFLE_CONNECTION_WINDOW);
        self.with_windows(address, expect, stream, connection)
    }

    fn with_windows(
        &self,
        address: &str,
        expect: Expect,
        stream: u32,
        connection: u32,
    ) -> Result<Channel, IdentityError> {
        let peer = expect.to_string();
        let verifier = Arc::new(ExpectedServer {
            trust: self.trust.clone(),
            expect,
        });
        let tls = client_config(Some(&self.identity), verifier, self.clock.clone())?;
        channel(address, peer, tls, (stream, connection))
    }
}

/// A channel to the authority that an enrolment code names, for a newcomer that has no
/// certificate and trusts nobody yet. The code's fingerprint decides who is believed.
///
/// # Errors
/// If `address` is not `host:port`.
pub fn enrol_channel(
    address: &str,
    code: &EnrolmentCode,
    clock: SharedClock,
) -> Result<Channel, IdentityError> {
    let verifier = PinnedAuthority {
        council: code.council.clone(),
        fingerprint: code.fingerprint,
    };
    let peer = Expect::authority(&code.council).to_string();
    let tls = client_config(None, Arc::new(verifier), clock)?;
    channel(address, peer, tls, (STREAM_WINDOW, CONNECTION_WINDOW))
}

fn channel(
    address: &str,
    peer: String,
    tls: ClientConfig,
    (stream_window, connection_window): (u32, u32),
) -> Result<Channel, IdentityError> {
    let malformed = || IdentityError::Address {
        address: address.to_owned(),
    };
    let authority: Authority = address.parse().map_err(|_| malformed())?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = authority.port_u16().ok_or_else(malformed)?;
    let name = ServerName::try_from(host.clone()).map_err(|_| malformed())?;
    let origin = Uri::builder()
        .scheme("https")
        .authority(authority.clone())
        .path_and_query("/")
        .build()
        .map_err(|_| malformed())?;
    let target = Arc::new(Target {
        peer,
        address: address.to_owned(),
        host,
        port,
        name,
        tls: TlsConnector::from(Arc::new(tls)),
    });
    // The connector below does TLS itself, so the endpoint must not.
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|_| malformed())?
        .origin(origin)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_frame_size(FRAME)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    Ok(
        endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let target = target.clone();
            async move { target.connect().await.map(TokioIo::new) }
        })),
    )
}

/// What a connection needs, each time.
struct Target {
    peer: String,
    address: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Target {
    async fn connect(&self) -> Result<TlsStream<BufReader<TcpStream>>, DialError> {
        let (peer, address) = (self.peer.clone(), self.address.clone());
        tokio::time::timeout(CONNECT_WITHIN, self.try_connect())
            .await
            .unwrap_or(Err(DialError::Timeout { peer, address }))
    }

    async fn try_connect(&self) -> Result<TlsStream<BufReader<TcpStream>>, DialError> {
        let connect = |source| DialError::Connect {
            peer: self.peer.clone(),
            address: self.address.clone(),
            source,
        };
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let socket = BufReader::with_capacity(SOCKET_BUFFER, stream);
        self.tls
            .connect_with(self.name.clone(), socket, |connection| {
                connection.set_buffer_limit(Some(TLS_BUFFER))
            })
            .await
            .map_err(|error| DialError::Handshake {
                peer: self.peer.clone(),
                address: self.address.clone(),
                source: plain(error),
            })
    }
}
