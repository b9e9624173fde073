//! Why a call to a peer failed.

use guildhall_identity::DialError;
use guildhall_telemetry::error_chain;
use std::error::Error;
use std::time::Duration;
use tonic::{Code, Status};

/// Why a call failed, and who was called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address or identity given to us cannot be used.
    #[error("cannot call {who}")]
    Setup {
        /// Whom we called.
        who: String,
        /// What is wrong.
        source: guildhall_identity::IdentityError,
    },
    /// No connection, or it broke.
    #[error("{who} is away")]
    Unavailable {
        /// Whom we called.
        who: String,
        /// What happened to the connection.
        source: Lost,
    },
    /// Connected, but too slow.
    #[error("{who} did not answer within {} s", within.as_secs())]
    Deadline {
        /// Whom we called.
        who: String,
        /// How long we waited.
        within: Duration,
    },
    /// It answered with an error.
    #[error("{who} refused: {message}")]
    Refused {
        /// Whom we called.
        who: String,
        /// Its gRPC code.
        code: Code,
        /// Its own words.
        message: String,
    },
    /// It answered with something that is no answer.
    #[error("cannot read the answer of {who}: {what}")]
    Malformed {
        /// Whom we called.
        who: String,
        /// What is wrong with it.
        what: String,
    },
}

/// What happened to a connection, on one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(String);

impl ClientError {
    /// Whom we called.
    #[must_use]
    pub fn who(&self) -> &str {
        match self {
            Self::Setup { who, .. }
            | Self::Unavailable { who, .. }
            | Self::Deadline { who, .. }
            | Self::Refused { who, .. }
            | Self::Malformed { who, .. } => who,
        }
    }

    /// The gRPC code: the peer's own if it answered, else what our failure comes to.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::Deadline { .. } => Code::DeadlineExceeded,
            Self::Setup { .. } | Self::Malformed { .. } => Code::Internal,
        }
    }

    /// The peer's own words; `None` if it said none.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Refused { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Whether the peer did not answer, as against answering with a no.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Deadline { .. })
    }

    // tonic gives a status of its own making a source, and one that the peer sent none.
    pub(crate) fn from_status(who: &str, status: &Status) -> Self {
        let who = who.to_owned();
        match status.source() {
            Some(source) => Self::Unavailable {
                who,
                source: Lost(reason(source)),
            },
            None => Self::Refused {
                who,
                code: status.code(),
                message: status.message().to_owned(),
            },
        }
    }

    pub(crate) fn malformed(who: &str, what: impl Into<String>) -> Self {
        Self::Malformed {
            who: who.to_owned(),
            what: what.into(),
        }
    }
}

/// Our own dialling error if it is among the causes, else the whole chain.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<DialError>() {
            return error_chain(error);
        }
        cause = error.source();
    }
    error_chain(error)
}
