//! A grant: the authority's short-lived leave for one fragment at one node.

pub(crate) mod wire;

use crate::envelope::{self, EnvelopeError};
use crate::key::VerifyingKey;
use guildhall_model::{
    ColumnName, CouncilName, DepartmentName, Digest, FragmentDigest, GrantId, LinkageId,
    OutputClass, PeerId, Principal, ProductName, ProductRef, Purpose, QueryId, Timestamp,
};
use guildhall_proto::envelope::v1 as proto;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::time::Duration;

/// How far two honest clocks may be apart.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// Leave for `principal` to have `fragment` run at `node`, for `purpose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Names this grant in logs and messages; used once.
    pub id: GrantId,
    /// The council whose authority issued it.
    pub council: CouncilName,
    /// Who asks.
    pub principal: Principal,
    /// Why.
    pub purpose: Purpose,
    /// The one node that may run it.
    pub node: PeerId,
    /// SHA-256 of the fragment's bytes.
    pub fragment: FragmentDigest,
    /// The products, versions and columns that the fragment may read.
    pub products: Vec<GrantedProduct>,
    /// What may leave the node.
    pub output: OutputClass,
    /// The only peer that may receive the result.
    pub recipient: PeerId,
    /// What it cost of a privacy budget.
    pub charge: u64,
    /// From when it counts.
    pub not_before: Timestamp,
    /// Until when it counts.
    pub expires: Timestamp,
    /// Ties the grants of one query together.
    pub query: QueryId,
    /// The gateway that asked for it. A recipient that is a clean room answers no other.
    pub gateway: PeerId,
    /// Whose rows meet, where the output is [`OutputClass::TokenisedRows`]; else nothing.
    pub linkage: Option<Linkage>,
}

/// Rows of several products that meet on their unit, once. All grants of one linkage hold the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linkage {
    /// Names it in logs and messages.
    pub id: LinkageId,
    /// SHA-256 of the encoded question that they meet in: of it the clean room answers no other.
    pub question: Digest,
    /// Whose rows.
    pub products: BTreeSet<ProductRef>,
}

/// One product of a grant. Its council is the grant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedProduct {
    /// The department that owns it.
    pub department: DepartmentName,
    /// Its name.
    pub product: ProductName,
    /// The version that was decided on.
    pub version: u32,
    /// The columns that may be read.
    pub columns: BTreeSet<ColumnName>,
}

impl Grant {
    /// What the grant says of `product`, if anything.
    #[must_use]
    pub fn product(&self, product: &ProductRef) -> Option<&GrantedProduct> {
        let ProductRef {
            council,
            department,
            product,
        } = product;
        (*council == self.council)
            .then(|| {
                self.products
                    .iter()
                    .find(|p| p.department == *department && p.product == *product)
            })
            .flatten()
    }

    /// The full names of the products it covers.
    pub fn product_refs(&self) -> impl Iterator<Item = ProductRef> + '_ {
        self.products.iter().map(|p| ProductRef {
            council: self.council.clone(),
            department: p.department.clone(),
            product: p.product.clone(),
        })
    }
}

/// Why a grant was turned away, in the order the checks run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The envelope, its signature or its form.
    #[error("the grant is not a statement of the authority of `{council}`")]
    NotStated {
        /// Whose authority should have signed.
        council: CouncilName,
        /// What was wrong with the envelope.
        #[source]
        source: EnvelopeError,
    },
    /// Signed with a key that counts, in the name of another council.
    #[error("grant `{id}` is of council `{granted}`, not `{expected}`")]
    WrongCouncil {
        /// The grant.
        id: GrantId,
        /// The council that it names.
        granted: CouncilName,
        /// The council whose grants count here.
        expected: CouncilName,
    },
    /// Too early, beyond [`CLOCK_SKEW`].
    #[error("grant `{id}` counts from {not_before}")]
    NotYet {
        /// The grant.
        id: GrantId,
        /// From when it counts.
        not_before: Timestamp,
    },
    /// Too late, beyond [`CLOCK_SKEW`].
    #[error("grant `{id}` expired at {expired}")]
    Expired {
        /// The grant.
        id: GrantId,
        /// Until when it counted.
        expired: Timestamp,
    },
    /// Made for another node.
    #[error("grant `{id}` is for node {granted}, not {presented}")]
    WrongNode {
        /// The grant.
        id: GrantId,
        /// The node that it names.
        granted: Box<PeerId>,
        /// The node that it was presented at.
        presented: Box<PeerId>,
    },
    /// Made for another fragment.
    #[error("grant `{id}` is for fragment {granted}, not {presented}")]
    WrongFragment {
        /// The grant.
        id: GrantId,
        /// The fragment that it names.
        granted: FragmentDigest,
        /// The fragment that came with it.
        presented: FragmentDigest,
    },
    /// Presented by another peer than the one that may have the result.
    #[error("grant `{id}` is for recipient {granted}, not {presented}")]
    WrongRecipient {
        /// The grant.
        id: GrantId,
        /// The recipient that it names.
        granted: Box<PeerId>,
        /// The peer that presented it.
        presented: Box<PeerId>,
    },
    /// Used before.
    #[error("grant `{id}` has been used")]
    Replayed {
        /// The grant.
        id: GrantId,
    },
    /// Issued before this process began, which cannot know whether it was used.
    #[error("grant `{id}` was issued before this node started at {started}")]
    FromBefore {
        /// The grant.
        id: GrantId,
        /// When the memory of used grants begins.
        started: Timestamp,
    },
}

impl GrantError {
    /// What the caller can do about it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Expired { .. } | Self::Replayed { .. } | Self::FromBefore { .. } => {
                Some("ask again; a grant is used once and lasts minutes")
            }
            Self::NotYet { .. } => Some("compare the clocks of the authority and this host"),
            _ => None,
        }
    }

    /// Whether it was made for somewhere else: an attempt, not the network's fault.
    #[must_use]
    pub fn is_attempt(&self) -> bool {
        !matches!(
            self,
            Self::NotYet { .. } | Self::Expired { .. } | Self::FromBefore { .. }
        )
    }
}

/// What a grant is held against.
#[derive(Debug, Clone, Copy)]
pub struct GrantCheck<'a> {
    /// The council whose authority's keys are the signers.
    pub council: &'a CouncilName,
    /// The node that would run the fragment.
    pub node: &'a PeerId,
    /// SHA-256 of the fragment that came with the grant.
    pub fragment: &'a FragmentDigest,
    /// Who asks for the result; `None` where nobody does, as when keys are lent.
    pub recipient: Option<&'a PeerId>,
    /// The time.
    pub now: Timestamp,
}

/// A grant whose signature, time, node, fragment and recipient hold.
///
/// Only [`verify`] makes one. Whether it was used before is [`crate::ReplayGuard`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedGrant(Grant);

impl Deref for VerifiedGrant {
    type Target = Grant;
    fn deref(&self) -> &Grant {
        &self.0
    }
}

/// Checks that `check.node` may run `check.fragment` now.
///
/// The signature comes first; no other field is believed before it. Times allow
/// [`CLOCK_SKEW`] either way.
pub fn verify(
    envelope: &proto::Envelope,
    signers: &[VerifyingKey],
    check: &GrantCheck<'_>,
) -> Result<VerifiedGrant, GrantError> {
    let GrantCheck {
        council,
        node,
        fragment,
        recipient,
        now,
    } = *check;
    let grant: Grant =
        envelope::verify(envelope, signers).map_err(|source| GrantError::NotStated {
            council: council.clone(),
            source,
        })?;
    let id = || grant.id.clone();
    if grant.council != *council {
        return Err(GrantError::WrongCouncil {
            id: id(),
            granted: grant.council.clone(),
            expected: council.clone(),
        });
    }
    if now.after(CLOCK_SKEW) < grant.not_before {
        return Err(GrantError::NotYet {
            id: id(),
            not_before: grant.not_before,
        });
    }
    if now >= grant.expires.after(CLOCK_SKEW) {
        return Err(GrantError::Expired {
            id: id(),
            expired: grant.expires,
        });
    }
    if grant.node != *node {
        return Err(GrantError::WrongNode {
            id: id(),
            granted: grant.node.clone().into(),
            presented: node.clone().into(),
        });
    }
    if grant.fragment != *fragment {
        return Err(GrantError::WrongFragment {
            id: id(),
            granted: grant.fragment,
            presented: *fragment,
        });
    }
    if let Some(presented) = recipient.filter(|r| grant.recipient != **r) {
        return Err(GrantError::WrongRecipient {
            id: id(),
            granted: grant.recipient.clone().into(),
            presented: presented.clone().into(),
        });
    }
    Ok(VerifiedGrant(grant))
}

#[cfg(test)]
mod tests;
