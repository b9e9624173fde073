//! A grant as a node presents it: verified again, and still good here.

use crate::accounts;
use crate::refusal::Refusal;
use crate::register;
use crate::shelf::Register;
use crate::state::State;
use guildhall_grant::product::Product;
use guildhall_grant::{GrantCheck, GrantError, GrantedProduct, VerifiedGrant};
use guildhall_model::{FragmentDigest, PeerId, Timestamp};
use guildhall_proto::envelope::v1::Envelope;

impl State {
    /// The grant, if it is ours, of now, for this node and this fragment.
    pub(crate) fn verify_again(
        &self,
        node: &PeerId,
        grant: Option<&Envelope>,
        fragment: &FragmentDigest,
        now: Timestamp,
    ) -> Result<VerifiedGrant, Refusal> {
        let envelope = grant.ok_or_else(|| Refusal::invalid("grant", "is missing"))?;
        let check = GrantCheck {
            council: self.council(),
            node,
            fragment,
            recipient: None,
            now,
        };
        guildhall_grant::verify(envelope, &[self.verifying], &check).map_err(|e| {
            let why = guildhall_telemetry::error_chain(&e);
            match e {
                GrantError::Expired { .. } | GrantError::NotYet { .. } => Refusal::GrantOver(why),
                _ => Refusal::Grant(why),
            }
        })
    }

    /// Refuses a grant whose gateway or principal has been shut out since it was issued, and one
    /// whose time is over by our own clock: only here is there no skew to allow for.
    pub(crate) fn check_current(
        &self,
        node: &PeerId,
        grant: &VerifiedGrant,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if now >= grant.expires {
            let why = format!("grant `{}` expired at {}", grant.id, grant.expires);
            return Err(Refusal::GrantOver(why));
        }
        self.db.read(|c| {
            if !register::is_enrolled(c, node)? {
                return Err(Refusal::Peer);
            }
            for (whose, peer) in [("gateway", &grant.gateway), ("recipient", &grant.recipient)] {
                if register::is_revoked(c, peer)? {
                    let why = format!("the {whose} of this grant is revoked");
                    return Err(Refusal::Grant(why));
                }
            }
            let own = grant.principal.council == *self.council();
            if own && accounts::find(c, self.council(), &grant.principal.name)?.is_none() {
                return Err(Refusal::Grant(
                    "the account of this grant is closed".to_owned(),
                ));
            }
            Ok(())
        })
    }
}

/// The product that a grant names, if it is registered now as it was then, at `node`.
pub(crate) fn unchanged<'a>(
    register: &'a Register,
    node: &PeerId,
    granted: &GrantedProduct,
) -> Result<&'a Product, Refusal> {
    register
        .product(&granted.department, &granted.product)
        .map(|r| &r.product)
        .filter(|p| p.version == granted.version && p.node == *node)
        .ok_or_else(|| Refusal::GrantOver("a product of this grant has changed since".to_owned()))
}
