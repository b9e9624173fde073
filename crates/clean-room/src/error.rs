//! Why a question is not answered. Nothing here carries a value, a count or a literal.

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use guildhall_client::ClientError;
use guildhall_disclosure::ReleaseError;
use guildhall_disclosure::joint::JointError;
use guildhall_grant::GrantError;
use guildhall_model::{PeerId, ProductRef, Role};
use guildhall_plan::cube::Refusal;
use guildhall_plan::linked::LinkedError;
use guildhall_plan::profile::ProfileError;
use guildhall_telemetry::error_chain;
use std::error::Error as _;
use tonic::{Code, Status};

/// Why, in the order the checks run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a {role} may not ask a clean room")]
    Role { role: Role },
    #[error("too many questions are answered here already; ask again later")]
    Busy,
    #[error("{parts} parts; cells are put together of at least 2 owners and at most 64")]
    Parts { parts: usize },
    #[error("`{field}` is not set, or cannot be read")]
    Missing { field: &'static str },
    #[error("the grant of a part does not hold")]
    Grant {
        #[source]
        source: Box<GrantError>,
    },
    #[error("a grant is for gateway {granted}, not {presented}")]
    Gateway {
        granted: Box<PeerId>,
        presented: Box<PeerId>,
    },
    #[error("the grants are not of one question: they differ in {what}")]
    Unlike { what: &'static str },
    #[error("a grant is not for a part of the cells of one product")]
    NotPart,
    #[error("the part of department `{}` of {} failed", node.department, node.council)]
    Node {
        node: Box<PeerId>,
        #[source]
        source: Box<ClientError>,
    },
    #[error("department `{}` of {} did not send its part: {what}", node.department, node.council)]
    Contribution {
        node: Box<PeerId>,
        what: &'static str,
    },
    #[error("`{product}` is released together with other products than these")]
    Owners { product: Box<ProductRef> },
    #[error("the question to `{product}` is not of the closed profile")]
    Profile {
        product: Box<ProductRef>,
        #[source]
        source: Box<ProfileError>,
    },
    #[error("the question to `{product}` reads what its grant does not name")]
    NotGranted { product: Box<ProductRef> },
    #[error("the question is not one of `{product}`'s cells")]
    Refused {
        product: Box<ProductRef>,
        #[source]
        refusal: Box<Refusal>,
    },
    #[error("`{product}` is asked something else than the first product")]
    OtherQuestion { product: Box<ProductRef> },
    #[error("`{product}` and the first product bound a measure, or a unit's rows, differently")]
    OtherBounds { product: Box<ProductRef> },
    #[error("the part of `{product}` is none of these cells")]
    Joint {
        product: Box<ProductRef>,
        #[source]
        source: Box<JointError>,
    },
    #[error("the parts cannot be put together")]
    Merge {
        #[source]
        source: Box<JointError>,
    },
    #[error("the cells cannot be released")]
    Release {
        #[from]
        source: ReleaseError,
    },
    #[error("the question that rows are to meet in cannot be answered")]
    Linked {
        #[source]
        source: Box<LinkedError>,
    },
    #[error("the departments of `{product}` and `{other}` have not agreed that their rows meet")]
    NotAgreed {
        product: Box<ProductRef>,
        other: Box<ProductRef>,
    },
    #[error("rows meet in more than {most} ways; limit the question to fewer of them")]
    TooManyRows { most: u64 },
    #[error("cells are told apart by too much: there are more than {most} of them")]
    TooManyCells { most: usize },
    #[error("the parts take more than {mebibytes} MiB")]
    TooLarge { mebibytes: usize },
    #[error("the question took longer than {seconds} s")]
    TooLong { seconds: u64 },
    #[error("the clean room failed")]
    Internal {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// A fault of ours.
    pub(crate) fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        Self::Internal { source }
    }

    /// Puts it into our own log: whose fault it is decides how loudly.
    pub(crate) fn log(&self, gateway: &PeerId) {
        match self {
            Self::Internal { .. } => {
                tracing::error!(%gateway, error = self.detail(), "a question was not answered");
            }
            _ => tracing::warn!(%gateway, error = self.detail(), "a question was not answered"),
        }
    }

    /// What there is to say of it without what a library said: its words may hold values.
    fn detail(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) =
            cause.filter(|e| !e.is::<ArrowError>() && !e.is::<DataFusionError>())
        {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// What the gateway learns.
    pub(crate) fn status(&self) -> Status {
        let code = match self {
            Self::Role { .. } | Self::Gateway { .. } | Self::NotGranted { .. } => {
                Code::PermissionDenied
            }
            Self::Owners { .. } | Self::Refused { .. } => Code::PermissionDenied,
            Self::NotAgreed { .. } => Code::PermissionDenied,
            Self::Linked { source } => linked(source),
            Self::Busy
            | Self::TooLarge { .. }
            | Self::TooManyRows { .. }
            | Self::TooManyCells { .. } => Code::ResourceExhausted,
            Self::Grant { source } if !source.is_attempt() => Code::FailedPrecondition,
            Self::Grant { .. } => Code::PermissionDenied,
            Self::Node { source, .. } => return refused(source, self),
            Self::Joint { .. } | Self::Contribution { .. } | Self::OtherBounds { .. } => {
                Code::FailedPrecondition
            }
            Self::TooLong { .. } => Code::DeadlineExceeded,
            Self::Merge { .. } | Self::Release { .. } | Self::Internal { .. } => Code::Internal,
            Self::Parts { .. }
            | Self::Missing { .. }
            | Self::Unlike { .. }
            | Self::NotPart
            | Self::Profile { .. }
            | Self::OtherQuestion { .. } => Code::InvalidArgument,
        };
        let text = match self {
            Self::Grant { .. } | Self::Profile { .. } => error_chain(self),
            Self::Linked { source } => match source.as_ref() {
                LinkedError::Refused { refusal } => format!("{refusal}\nhelp: {}", refusal.help()),
                LinkedError::Engine { .. } => "the clean room failed".to_owned(),
                _ => error_chain(self),
            },
            Self::Refused { refusal, .. } => format!("{refusal}\nhelp: {}", refusal.help()),
            _ => self.to_string(),
        };
        Status::new(code, text)
    }
}

fn linked(source: &LinkedError) -> Code {
    match source {
        LinkedError::Refused { .. } => Code::PermissionDenied,
        LinkedError::Engine { .. } => Code::Internal,
        _ => Code::InvalidArgument,
    }
}

/// What a node said, or that it said nothing.
fn refused(source: &ClientError, error: &Error) -> Status {
    match source {
        ClientError::Refused { code, message, .. } => Status::new(*code, message.clone()),
        ClientError::Unavailable { .. } | ClientError::Deadline { .. } => {
            Status::unavailable(source.to_string())
        }
        _ => Status::internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_says_stays_out_of_the_log_and_of_the_answer() {
        let value = || ArrowError::CastError("cannot cast 'Miggins'".to_owned());
        let release = || ReleaseError::Arrow { source: value() };
        let joint = Box::new(JointError::Merge { source: release() });
        let internal = DataFusionError::ArrowError(Box::new(value()), None);
        for error in [
            Error::from(release()),
            Error::Merge { source: joint },
            Error::internal(value()),
            Error::internal(internal),
        ] {
            assert!(!error.detail().contains("Miggins"), "{}", error.detail());
            assert!(!error.status().message().contains("Miggins"));
        }
    }
}
