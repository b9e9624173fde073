//! Serving gRPC to peers whose names are known.

use crate::certificate::PeerCertificate;
use crate::error::IdentityError;
use crate::tls::ServerTls;
use crate::verify::{is_certificate_refusal, plain};
use guildhall_model::{PeerId, SharedClock, Timestamp};
use guildhall_telemetry::error_chain;
use std::fmt;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::Server;
use tonic::transport::server::{Connected, Router};
use tonic::{Request, Status};

pub(crate) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
pub(crate) const FRAME: u32 = 1024 * 1024;
/// rustls reads 4 KiB at a time; a buffer below it saves most of the system calls.
pub(crate) const SOCKET_BUFFER: usize = 256 * 1024;
/// Plaintext that rustls takes before it wants to write records out.
pub(crate) const TLS_BUFFER: usize = 256 * 1024;
const STREAMS_PER_CONNECTION: u32 = 256;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Strangers who have not finished their handshake. More are turned away.
const HANDSHAKES_AT_ONCE: usize = 1024;
/// So that a connection does not long outlive the certificate it was opened with.
const CONNECTION_AGE: Duration = Duration::from_secs(3600);
const DRAIN: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server builder with our windows, frames, keepalive and limits; add services to it.
///
/// Message sizes are each service's own to set: [`MAX_MESSAGE_BYTES`](crate::MAX_MESSAGE_BYTES).
pub fn server_builder() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_connection_age(CONNECTION_AGE)
}

/// A server that runs until it is stopped, dropped, or its `shutdown` token is cancelled.
#[must_use = "a server stops when this is dropped"]
pub struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    kill: CancellationToken,
    done: JoinHandle<()>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has ended, for whatever reason.
    pub async fn ended(&mut self) {
        if !self.done.is_finished() {
            let _ = (&mut self.done).await;
        }
    }

    /// Stops accepting, lets calls in flight finish for up to five seconds, then cuts the rest.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        if tokio::time::timeout(DRAIN, self.ended()).await.is_err() {
            self.kill.cancel();
            self.ended().await;
        }
    }

    /// Cuts every connection now, as a crash would.
    pub async fn kill(mut self) {
        self.kill.cancel();
        self.shutdown.cancel();
        self.ended().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Serves `router` on `listener` until `shutdown`.
///
/// Handshakes run beside each other and end within five seconds, so a peer that stalls in
/// its own holds up nobody else.
///
/// # Errors
/// If the listener has no address.
pub fn serve(
    listener: TcpListener,
    tls: ServerTls,
    router: Router,
    shutdown: &CancellationToken,
) -> Result<Running, IdentityError> {
    let address = listener
        .local_addr()
        .map_err(|e| IdentityError::internal("listen", e))?;
    let shutdown = shutdown.child_token();
    let kill = CancellationToken::new();
    let (connections, incoming) = mpsc::channel(64);
    let door = Door {
        tls,
        connections,
        kill: kill.clone(),
        limit: HANDSHAKES_AT_ONCE,
    };
    guildhall_telemetry::spawn(door.keep(listener, shutdown.clone()));
    let signal = shutdown.clone().cancelled_owned();
    let done = guildhall_telemetry::spawn(async move {
        let served = router
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), signal)
            .await;
        if let Err(error) = served {
            tracing::error!(%address, error = error_chain(&error), "the server ended");
        }
    });
    Ok(Running {
        address,
        shutdown,
        kill,
        done,
    })
}

/// Accepts connections and shakes hands.
struct Door {
    tls: ServerTls,
    connections: mpsc::Sender<io::Result<PeerStream>>,
    kill: CancellationToken,
    limit: usize,
}

impl Door {
    async fn keep(self, listener: TcpListener, shutdown: CancellationToken) {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(_) = handshakes.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) if handshakes.len() < self.limit => {
                        handshakes.spawn(greet(
                            self.tls.clone(),
                            stream,
                            remote,
                            self.connections.clone(),
                            self.kill.clone(),
                        ));
                    }
                    Ok((_, remote)) => tracing::warn!(%remote, "turned away: too many handshakes under way"),
                    // Out of file descriptors, most likely: connections that end give some back.
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn greet(
    tls: ServerTls,
    stream: TcpStream,
    remote: SocketAddr,
    connections: mpsc::Sender<io::Result<PeerStream>>,
    kill: CancellationToken,
) {
    let handshake = async {
        stream.set_nodelay(true)?;
        let socket = BufReader::with_capacity(SOCKET_BUFFER, stream);
        TlsAcceptor::from(tls.config)
            .accept_with(socket, |connection| {
                connection.set_buffer_limit(Some(TLS_BUFFER))
            })
            .await
    };
    match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
        Ok(Ok(io)) => {
            let caller = Caller::of(&io, remote, tls.clock);
            // Only fails when the server has ended.
            let _ = connections
                .send(Ok(PeerStream {
                    io,
                    caller,
                    killed: Box::pin(kill.cancelled_owned()),
                }))
                .await;
        }
        Ok(Err(error)) if is_certificate_refusal(&error) => {
            tracing::info!(%remote, error = %plain(error), "turned a certificate away");
        }
        Ok(Err(error)) => tracing::debug!(%remote, %error, "a handshake failed"),
        Err(_) => tracing::debug!(%remote, "a handshake took too long"),
    }
}

/// Who called, as the handshake proved it. Rides on every request of the connection.
#[derive(Debug, Clone)]
struct Caller {
    remote: SocketAddr,
    peer: Option<Arc<CalledAs>>,
    clock: SharedClock,
}

#[derive(Debug)]
struct CalledAs {
    id: PeerId,
    expires: Timestamp,
    chain: Vec<Vec<u8>>,
}

impl Caller {
    fn of<IO>(io: &TlsStream<IO>, remote: SocketAddr, clock: SharedClock) -> Self {
        let chain = io.get_ref().1.peer_certificates();
        let peer = chain.and_then(|chain| {
            let certificate = PeerCertificate::read(chain.first()?).ok()?;
            Some(Arc::new(CalledAs {
                id: certificate.peer,
                expires: certificate.expires,
                chain: chain.iter().map(|der| der.to_vec()).collect(),
            }))
        });
        Self {
            remote,
            peer,
            clock,
        }
    }

    // A connection may outlive the certificate that it was opened with.
    fn current(&self) -> Option<&CalledAs> {
        self.peer
            .as_deref()
            .filter(|peer| self.clock.now() <= peer.expires)
    }
}

/// Who sent this request; `None` if it came without a certificate, or that has expired since.
#[must_use]
pub fn peer_of<T>(request: &Request<T>) -> Option<PeerId> {
    Some(request.extensions().get::<Caller>()?.current()?.id.clone())
}

/// The certificate chain (DER, leaf first) that the sender of this request proved to hold.
#[must_use]
pub fn peer_chain<T>(request: &Request<T>) -> Option<Vec<Vec<u8>>> {
    Some(
        request
            .extensions()
            .get::<Caller>()?
            .current()?
            .chain
            .clone(),
    )
}

/// Where this request's connection comes from; tells connections apart, proves nothing.
#[must_use]
pub fn remote_of<T>(request: &Request<T>) -> Option<SocketAddr> {
    Some(request.extensions().get::<Caller>()?.remote)
}

/// Who sent this request, or the answer for somebody whom we do not know.
///
/// # Errors
/// `UNAUTHENTICATED`, and nothing more, if it came without a certificate that holds now.
pub fn require_peer<T>(request: &Request<T>) -> Result<PeerId, Status> {
    peer_of(request).ok_or_else(|| Status::unauthenticated("no certificate of a role"))
}

/// A connection whose other end is known, and that we can cut.
struct PeerStream {
    io: TlsStream<BufReader<TcpStream>>,
    caller: Caller,
    killed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for PeerStream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
