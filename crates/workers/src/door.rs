//! The door of a worker: its own department's node and workers, and nobody else.

use futures::future::{Either, Ready, ready};
use guildhall_identity::peer_of;
use guildhall_model::{PeerId, Role};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// What workers may ask of one another: rows that a plan of their node has them fetch.
const ROWS: &str = "/ExecuteTask";

/// Who set a plan, in the words of the handshake; what a caller wrote there is taken away.
pub(crate) const PEER: HeaderName = HeaderName::from_static("x-guildhall-peer");
/// The grant that a plan is carried out under.
pub(crate) const GRANT: HeaderName = HeaderName::from_static("x-guildhall-grant");

/// The peer and the grant of a plan.
pub(crate) fn plan_of(headers: &HeaderMap) -> Option<(PeerId, guildhall_model::GrantId)> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
    };
    Some((text(PEER)?.parse().ok()?, text(GRANT)?.parse().ok()?))
}

/// A service of a worker that is `own`, behind its door.
#[derive(Debug, Clone)]
pub(crate) struct Inside<S> {
    own: Arc<PeerId>,
    inner: S,
}

impl<S> Inside<S> {
    pub(crate) fn new(own: PeerId, inner: S) -> Self {
        Self {
            own: Arc::new(own),
            inner,
        }
    }

    /// Who calls, if they may call `path`.
    fn caller(&self, extensions: &http::Extensions, path: &str) -> Result<PeerId, Status> {
        let mut request = tonic::Request::new(());
        *request.extensions_mut() = extensions.clone();
        let peer = peer_of(&request);
        let peer = peer.ok_or_else(|| Status::unauthenticated("no certificate of a role"))?;
        let is_ours = peer.council == self.own.council && peer.department == self.own.department;
        let may = match peer.role {
            Role::Node => true,
            // What is worked out, and with which keys, is for the node to say.
            Role::Worker => path.ends_with(ROWS),
            _ => false,
        };
        match is_ours && may {
            true => Ok(peer),
            false => {
                tracing::warn!(%peer, "turned away: not of this department, or not a role that may ask this");
                Err(Status::permission_denied("not a peer of this worker"))
            }
        }
    }
}

impl<S, R> Service<http::Request<R>> for Inside<S>
where
    S: Service<http::Request<R>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Self::Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<R>) -> Self::Future {
        let peer = self.caller(request.extensions(), request.uri().path());
        let value = peer.and_then(|peer| {
            HeaderValue::from_str(&peer.to_string()).map_err(|_| Status::internal("a peer's name"))
        });
        match value {
            Ok(value) => {
                // In place of whatever stood there.
                request.headers_mut().insert(PEER, value);
                Either::Left(self.inner.call(request))
            }
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

impl<S: NamedService> NamedService for Inside<S> {
    const NAME: &'static str = S::NAME;
}
