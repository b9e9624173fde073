//! What the authority says no with, and how that reads on the wire.
//!
//! A caller learns which field was wrong and what to do; never whether something it may not
//! know of exists, and never the inside of a failure.

use crate::db::DbError;
use guildhall_model::{Digest, GrantId, ProductRef, Purpose, Timestamp};
use tonic::{Code, Status};

/// Why a request was turned down, in the order the checks run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no valid certificate of a role that may ask this")]
    Peer,
    #[error("the enrolment code is not valid; ask the council for a fresh one")]
    Code,
    #[error("the account or the password is wrong")]
    SignIn,
    #[error("too many failed sign-ins for this account; try again after {until}")]
    TooManySignIns { until: Timestamp },
    #[error("the credential is not valid: {why}")]
    Credential { why: &'static str },
    #[error("`{field}` is not valid: {why}")]
    Invalid { field: &'static str, why: String },
    #[error("`{purpose}` is not a purpose that you may name here; you may name: {held}")]
    Purpose { purpose: Purpose, held: String },
    #[error("no product `{0}`")]
    NoProduct(ProductRef),
    #[error("product `{product}` is now version {current}; plan the question again")]
    Stale { product: ProductRef, current: u32 },
    #[error("policy does not allow this question over `{product}`{}", named(.policies))]
    Policy {
        product: ProductRef,
        policies: Vec<String>,
    },
    #[error("`{product}` does not release this: {why}")]
    Class { product: ProductRef, why: String },
    /// The grant itself: forged, of another node or fragment, no longer covered by the register.
    #[error("{0}")]
    Grant(String),
    /// A grant that was good once.
    #[error("{0}")]
    GrantOver(String),
    #[error("the grant does not cover {0}")]
    NotCovered(String),
    #[error("grant `{0}` has been used; ask again, a grant is good for one question")]
    Used(GrantId),
    #[error(
        "the privacy budget of product `{product}` for `{purpose}` does not cover this question; it renews at {renews}"
    )]
    Budget {
        product: ProductRef,
        purpose: Purpose,
        renews: Timestamp,
    },
    #[error("{0}")]
    Precondition(String),
    #[error("the authority failed; reference {0}")]
    Internal(String),
}

fn named(policies: &[String]) -> String {
    if policies.is_empty() {
        String::new()
    } else {
        format!(" (`{}`)", policies.join("`, `"))
    }
}

impl Refusal {
    /// Our own failure: logged here with its cause, told as a reference.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let chain = guildhall_telemetry::error_chain(error);
        let reference = Digest::of(chain.as_bytes()).short(6);
        tracing::error!(reference, error = chain, "the authority failed");
        Self::Internal(reference)
    }

    pub(crate) fn invalid(field: &'static str, why: impl ToString) -> Self {
        Self::Invalid {
            field,
            why: why.to_string(),
        }
    }

    /// The policies that refused, if any did.
    pub(crate) fn policies(&self) -> Vec<String> {
        match self {
            Self::Policy { policies, .. } => policies.clone(),
            _ => Vec::new(),
        }
    }

    /// The check that refused, for the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Code => "code",
            Self::SignIn => "sign-in",
            Self::TooManySignIns { .. } => "too-many-sign-ins",
            Self::Credential { .. } => "credential",
            Self::Invalid { .. } => "invalid",
            Self::Purpose { .. } => "purpose",
            Self::NoProduct(_) => "no-product",
            Self::Stale { .. } => "stale",
            Self::Policy { .. } => "policy",
            Self::Class { .. } => "class",
            Self::Grant(_) => "grant",
            Self::GrantOver(_) => "grant-over",
            Self::NotCovered(_) => "not-covered",
            Self::Used(_) => "used",
            Self::Budget { .. } => "budget",
            Self::Precondition(_) => "precondition",
            Self::Internal(_) => "internal",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Peer | Self::Code | Self::SignIn | Self::Credential { .. } => {
                Code::Unauthenticated
            }
            Self::TooManySignIns { .. } | Self::Budget { .. } => Code::ResourceExhausted,
            Self::Invalid { .. } | Self::Purpose { .. } => Code::InvalidArgument,
            Self::NoProduct(_) => Code::NotFound,
            Self::Stale { .. } | Self::GrantOver(_) | Self::Used(_) | Self::Precondition(_) => {
                Code::FailedPrecondition
            }
            Self::Policy { .. } | Self::Class { .. } | Self::Grant(_) | Self::NotCovered(_) => {
                Code::PermissionDenied
            }
            Self::Internal(_) => Code::Internal,
        }
    }
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        Self::internal(&error)
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        DbError::from(error).into()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}
