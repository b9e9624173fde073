//! What a client is told when the answer is no.
//!
//! One small set of codes; a sentence that says whose doing it is; what to do about it; the
//! query's id, by which our log and the audit know it. Nothing of the inside: no engine text, no
//! value of a row, no literal of a statement.

use crate::seal::SealError;
use guildhall_model::{Purpose, QueryId};
use guildhall_plan::cube::Refusal;
use tonic::{Code, Status};

/// Why the door turned a call away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    #[error(
        "no credential\nhelp: sign in by the Flight handshake, send `authorization: Bearer <token>`, or show a client certificate"
    )]
    NoCredential,
    #[error("the credential was not accepted\nhelp: sign in again")]
    BadCredential,
    #[error("no such account, or not its password")]
    WrongPassword,
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("{0}")]
    Invalid(String),
    #[error("{source}\nhelp: ask for the result again")]
    Seal {
        #[from]
        source: SealError,
    },
    #[error("no purpose was named, and you hold {}\nhelp: SET guildhall.purpose = '<purpose>', or send the header x-guildhall-purpose", list(.held))]
    PurposeMissing { held: Vec<Purpose> },
    #[error("`{purpose}` is not a purpose that you hold{}", or_one_of(.held))]
    PurposeUnknown { purpose: String, held: Vec<Purpose> },
    #[error("{message}")]
    NotFound { message: String },
    #[error("{}{}", refusal.reason, help(refusal))]
    Rule { refusal: Refusal },
    #[error("{message}")]
    Refused { code: Code, message: String },
    #[error("{message}")]
    TooMuch { message: String },
    #[error("{who} did not answer\nhelp: ask again in a moment{hint}")]
    Away { who: String, hint: &'static str },
    #[error("the query was cancelled")]
    Cancelled,
    #[error("the query took longer than {seconds} s{hint}")]
    Deadline { seconds: u64, hint: &'static str },
    #[error("the gateway failed; the reference is in its log")]
    Internal,
}

/// Shown where a department's absence can be lived with.
pub(crate) const PARTIAL_HINT: &str =
    ", or accept an answer without it: SET guildhall.partial = on";

/// Shown where cells have parts at several owners, so that none of these may be missing.
pub(crate) const BY_COUNCIL_HINT: &str =
    "; or group by council, so that each cell is one owner's and others can be answered without it";

impl DoorError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// Logs what happened inside and gives the client nothing but a reference.
    pub(crate) fn internal(doing: &'static str, cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(cause = %guildhall_telemetry::error_chain(cause), "cannot {doing}");
        Self::Internal
    }

    fn code(&self) -> Code {
        match self {
            Self::NoCredential | Self::BadCredential | Self::WrongPassword => Code::Unauthenticated,
            Self::Unsupported(_) => Code::Unimplemented,
            Self::Invalid(_) | Self::PurposeMissing { .. } => Code::InvalidArgument,
            Self::Seal {
                source: SealError::NotYours(_),
            } => Code::InvalidArgument,
            Self::Seal {
                source: SealError::Expired { .. },
            } => Code::FailedPrecondition,
            Self::PurposeUnknown { .. } | Self::Rule { .. } => Code::PermissionDenied,
            Self::NotFound { .. } => Code::NotFound,
            Self::Refused { code, .. } => *code,
            Self::TooMuch { .. } => Code::ResourceExhausted,
            Self::Away { .. } => Code::Unavailable,
            Self::Cancelled => Code::Cancelled,
            Self::Deadline { .. } => Code::DeadlineExceeded,
            Self::Internal => Code::Internal,
        }
    }

    /// The status, with the query it was about.
    pub(crate) fn about(self, query: &QueryId) -> Status {
        Status::new(self.code(), format!("{self}\nquery: {query}"))
    }
}

impl From<DoorError> for Status {
    fn from(e: DoorError) -> Self {
        Status::new(e.code(), e.to_string())
    }
}

fn help(refusal: &Refusal) -> String {
    match refusal.instead.as_str() {
        "" => String::new(),
        instead => format!("\nhelp: {instead}"),
    }
}

fn list(purposes: &[Purpose]) -> String {
    if purposes.is_empty() {
        return "none".to_owned();
    }
    purposes
        .iter()
        .map(|p| format!("`{p}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn or_one_of(held: &[Purpose]) -> String {
    if held.is_empty() {
        String::new()
    } else {
        format!("\nhelp: you hold {}", list(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_our_own_faults_a_client_learns_that_there_was_one() {
        let cause = std::io::Error::other("/var/lib/guildhall holds Philomena");
        let status = Status::from(DoorError::internal("read a product", &cause));
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(
            status.message(),
            "the gateway failed; the reference is in its log"
        );
    }

    #[test]
    fn a_status_says_what_to_do_and_which_query_it_was() {
        let held = vec![
            "transport_planning".parse().unwrap(),
            "service_review".parse().unwrap(),
        ];
        let status = DoorError::PurposeMissing { held }.about(&"q-1".parse().unwrap());
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status
                .message()
                .contains("`transport_planning`, `service_review`")
        );
        assert!(status.message().ends_with("query: q-1"));
    }
}
