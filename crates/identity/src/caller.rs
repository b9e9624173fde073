//! Who sent a request, as the handshake of its connection proved it.

use crate::certificate::PeerCertificate;
use guildhall_model::{PeerId, SharedClock, Timestamp};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_rustls::server::TlsStream;
use tonic::{Request, Status};

/// Who called, as the handshake proved it. Rides on every request of the connection.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
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
    pub(crate) fn of<IO>(io: &TlsStream<IO>, remote: SocketAddr, clock: SharedClock) -> Self {
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
