//! The door: a grant comes in once.

use guildhall_grant::{GrantCheck, GrantError, ReplayGuard, VerifiedGrant, VerifyingKey, verify};
use guildhall_identity::TrustStore;
use guildhall_model::{Digest, PeerId, Timestamp};
use guildhall_proto::envelope::v1::Envelope;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// A grant that holds here and now, presented for the first time.
///
/// Only [`Door::enter`] makes one.
#[derive(Debug, Clone)]
pub(crate) struct FreshGrant(Arc<(VerifiedGrant, Envelope)>);

impl FreshGrant {
    /// The grant as it was signed, for the authority to check again.
    pub(crate) fn envelope(&self) -> &Envelope {
        &self.0.1
    }
}

impl Deref for FreshGrant {
    type Target = VerifiedGrant;
    fn deref(&self) -> &VerifiedGrant {
        &self.0.0
    }
}

/// Who stands here, and which grants were used.
#[derive(Debug)]
pub(crate) struct Door {
    node: PeerId,
    trust: TrustStore,
    used: Mutex<ReplayGuard>,
}

impl Door {
    /// The door of `node`, which remembers nothing of grants from before `now`.
    pub(crate) fn new(node: PeerId, trust: TrustStore, now: Timestamp) -> Self {
        Self {
            node,
            trust,
            used: Mutex::new(ReplayGuard::after_restart(now)),
        }
    }

    /// This node.
    pub(crate) fn node(&self) -> &PeerId {
        &self.node
    }

    /// Lets a grant in: signed by our own council's authority, for this node, fragment and peer, now, once.
    pub(crate) fn enter(
        &self,
        envelope: Envelope,
        peer: &PeerId,
        fragment: Digest,
        now: Timestamp,
    ) -> Result<FreshGrant, GrantError> {
        let signers: Vec<VerifyingKey> = self
            .trust
            .authority_keys(&self.node.council)
            .iter()
            .filter_map(|k| VerifyingKey::from_bytes(k).ok())
            .collect();
        let check = GrantCheck {
            council: &self.node.council,
            node: &self.node,
            fragment: &fragment,
            recipient: Some(peer),
            now,
        };
        let grant = verify(&envelope, &signers, &check)?;
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(&grant, now)?;
        Ok(FreshGrant(Arc::new((grant, envelope))))
    }
}
