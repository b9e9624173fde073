//! Who is at the other end.
//!
//! Every role holds a certificate that names it `spiffe://<council>/<department>/<role>/<name>`.
//! A connection between roles is mutual TLS 1.3, and a name is believed only if the
//! certificate authority of *that* council vouches for it: council A cannot make a peer of
//! council B, whatever it signs. Certificates live days, are renewed by their holder and
//! swapped without a restart.
//!
//! What this does not do: decide what a peer may ask (its service does), or revoke a single
//! certificate before it expires (an authority refuses to renew it).

#![warn(missing_docs)]

mod authority;
mod caller;
mod certificate;
mod connection;
mod credential;
mod dial;
mod enrolment;
mod error;
mod files;
#[cfg(test)]
mod handshake_tests;
mod renewal;
mod serve;
mod tls;
mod trust;
mod verify;

pub use authority::{CertificateAuthority, new_key_and_csr};
pub use caller::{peer_chain, peer_of, remote_of, require_peer};
pub use certificate::{PeerCertificate, read_chain};
pub use credential::Identity;
pub use dial::{DialError, Dialer, enrol_channel};
pub use enrolment::{EnrolmentCode, EnrolmentCodeError};
pub use error::IdentityError;
pub use files::{load_secret, load_signing_key, save_secret, save_signing_key};
pub use renewal::keep_renewed;
pub use serve::{Running, serve, server_builder};
pub use tls::{ClientAuth, ServerTls};
pub use trust::TrustStore;
pub use verify::Expect;

/// The largest gRPC message that peers send each other, either way.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
