//! Serving gRPC to peers whose names are known.

use crate::caller::Caller;
use crate::connection::PeerStream;
use crate::error::IdentityError;
use crate::tls::ServerTls;
use crate::verify::{is_certificate_refusal, plain};
use guildhall_telemetry::error_chain;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;

pub(crate) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
pub(crate) const FRAME: u32 = 1024 * 1024;
/// rustls reads 4 KiB at a time; a buffer below it saves most of the system calls.
pub(crate) const SOCKET_BUFFER: usize = 256 * 1024;
/// Plaintext that rustls takes before it wants to write records out.
pub(crate) const TLS_BUFFER: usize = 256 * 1024;
const STREAMS_PER_CONNECTION: u32 = 256;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// The first bytes of HTTP/2 after the handshake.
const SPEAK_WITHIN: Duration = Duration::from_secs(5);
/// Strangers who have not finished their handshake. More are turned away.
const HANDSHAKES_AT_ONCE: usize = 1024;
/// Handshakes included. More are turned away.
const CONNECTIONS_AT_ONCE: usize = 4096;
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
        places: Arc::new(Semaphore::new(CONNECTIONS_AT_ONCE)),
    };
    let accepting = guildhall_telemetry::spawn(door.keep(listener, shutdown.clone()));
    let (signal, ends) = (shutdown.clone().cancelled_owned(), shutdown.clone());
    let done = guildhall_telemetry::spawn(async move {
        let served = router
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), signal)
            .await;
        if let Err(error) = served {
            tracing::error!(%address, error = error_chain(&error), "the server ended");
        }
        // Invariant: whoever has waited for the end finds the address free.
        ends.cancel();
        let _ = accepting.await;
    });
    Ok(Running {
        address,
        shutdown,
        kill,
        done,
    })
}

/// Accepts connections and shakes hands.
#[derive(Clone)]
struct Door {
    tls: ServerTls,
    connections: mpsc::Sender<io::Result<PeerStream>>,
    kill: CancellationToken,
    places: Arc<Semaphore>,
}

impl Door {
    async fn keep(self, listener: TcpListener, shutdown: CancellationToken) {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(_) = handshakes.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => match self.place(handshakes.len()) {
                        Some(place) => {
                            handshakes.spawn(self.clone().greet(stream, remote, place));
                        }
                        None => tracing::warn!(%remote, "turned away: too many connections"),
                    },
                    // Out of file descriptors, most likely: connections that end give some back.
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
    fn place(&self, handshakes: usize) -> Option<OwnedSemaphorePermit> {
        if handshakes >= HANDSHAKES_AT_ONCE {
            return None;
        }
        self.places.clone().try_acquire_owned().ok()
    }

    async fn greet(self, stream: TcpStream, remote: SocketAddr, place: OwnedSemaphorePermit) {
        let handshake = async {
            stream.set_nodelay(true)?;
            let socket = BufReader::with_capacity(SOCKET_BUFFER, stream);
            TlsAcceptor::from(self.tls.config)
                .accept_with(socket, |connection| {
                    connection.set_buffer_limit(Some(TLS_BUFFER))
                })
                .await
        };
        match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
            Ok(Ok(io)) => {
                let caller = Caller::of(&io, remote, self.tls.clock);
                let stream = PeerStream::new(io, caller, &self.kill, SPEAK_WITHIN, place);
                // Only fails when the server has ended.
                let _ = self.connections.send(Ok(stream)).await;
            }
            Ok(Err(error)) if is_certificate_refusal(&error) => {
                tracing::info!(%remote, error = %plain(error), "turned a certificate away");
            }
            Ok(Err(error)) => tracing::debug!(%remote, %error, "a handshake failed"),
            Err(_) => tracing::debug!(%remote, "a handshake took too long"),
        }
    }
}
