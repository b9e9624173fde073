//! Why a fragment was not answered, and what of that a caller learns.
//!
//! An error is a release. A caller gets a code and a text that holds no value, literal or path; the rest stays
//! in the node's own log.

use crate::admit::AdmissionError;
use crate::audit::LogError;
use crate::authority::AuthorityError;
use crate::product::ShelfError;
use crate::run::LendError;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use guildhall_disclosure::ReleaseError;
use guildhall_disclosure::dp::DpError;
use guildhall_grant::GrantError;
use guildhall_model::Digest;
use guildhall_workers::{FleetError, WorkerLost};
use tonic::{Code, Status};

/// What every fault over a private product is called, whatever it was.
const PRIVATE: &str = "the question cannot be answered by this node";

/// Why a fragment was not answered, in the order the steps run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("the request has no {field}")]
    Missing { field: &'static str },
    #[error("a {role} may not ask a node")]
    Role { role: guildhall_model::Role },
    #[error("the grant does not hold")]
    Grant {
        #[source]
        source: GrantError,
    },
    #[error("too many fragments are waiting")]
    Busy,
    #[error("a product cannot be served")]
    Shelf {
        #[source]
        source: ShelfError,
    },
    #[error("the fragment is not admitted")]
    Admission {
        #[source]
        source: AdmissionError,
    },
    #[error("the department's policy forbids it")]
    Policy { policies: Vec<String> },
    #[error("the noise of the answer cannot be settled")]
    Noise {
        #[source]
        source: DpError,
    },
    #[error("the privacy budget was not debited")]
    Budget {
        #[source]
        source: AuthorityError,
    },
    #[error("the keys were not lent")]
    Keys {
        #[source]
        source: LendError,
    },
    #[error("the department's workers did not take it on")]
    Workers {
        #[source]
        source: FleetError,
    },
    #[error("the engine failed")]
    Engine {
        #[source]
        source: DataFusionError,
    },
    #[error("the result was not released")]
    Release {
        #[source]
        source: ReleaseError,
    },
    #[error("the answer cannot be written")]
    Encode {
        #[source]
        source: ArrowError,
    },
    #[error("the question's tables have more than {most} cells")]
    TooManyCells { most: usize },
    #[error("the fragment ran for more than {seconds} s")]
    TooLong { seconds: u64 },
    #[error("the decision cannot be written down")]
    Log {
        #[source]
        source: LogError,
    },
}

impl From<DataFusionError> for RunError {
    fn from(source: DataFusionError) -> Self {
        Self::Engine { source }
    }
}

impl From<DpError> for RunError {
    fn from(source: DpError) -> Self {
        Self::Noise { source }
    }
}

impl From<ReleaseError> for RunError {
    fn from(source: ReleaseError) -> Self {
        Self::Release { source }
    }
}

/// Whether what failed touched rows that may not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    /// Products whose rows may leave.
    Rows,
    /// A product of which cells alone may.
    Cells,
}

impl RunError {
    /// What the caller is told. `reference` names the fragment in our log.
    pub(crate) fn status(&self, privacy: Privacy, reference: &Digest) -> Status {
        let ours =
            || Status::internal(format!("the node failed; reference {}", reference.short(8)));
        match self {
            Self::Missing { field } => Status::invalid_argument(format!("`{field}` is not set")),
            Self::Role { .. } => Status::permission_denied(self.to_string()),
            Self::Grant { source } => grant_status(source),
            Self::Busy => Status::resource_exhausted(
                "too many questions are waiting at this node; ask again later",
            ),
            Self::Shelf {
                source: ShelfError::NoSuchProduct { name, .. },
            } => Status::not_found(format!("no product `{name}` in that version at this node")),
            Self::Shelf {
                source: ShelfError::Dataset { source, .. },
            } if source.is_unavailable() => {
                Status::unavailable("the node's authority does not answer")
            }
            Self::Shelf { .. } | Self::Log { .. } => ours(),
            Self::Admission { source } => source.status(),
            Self::Policy { policies } => match policies.as_slice() {
                [] => Status::permission_denied("no policy of the department permits it"),
                names => Status::permission_denied(format!(
                    "forbidden by the department's policy `{}`",
                    names.join("`, `")
                )),
            },
            // It is about the product's policy, never about its data.
            Self::Noise { source } => Status::failed_precondition(format!(
                "the product's budget and bounds do not fit this question: {source}\nhelp: ask for fewer statistics at once"
            )),
            Self::Budget { source } => budget_status(source).unwrap_or_else(ours),
            Self::Keys {
                source:
                    LendError::Authority {
                        source: AuthorityError::Unavailable { council, .. },
                    },
            } => Status::unavailable(format!("the authority of `{council}` does not answer")),
            Self::Keys {
                source:
                    LendError::Authority {
                        source: AuthorityError::Refused { .. },
                    },
            } => Status::permission_denied("the authority lends no keys for this grant"),
            Self::Keys { .. } => ours(),
            Self::Workers {
                source: FleetError::NoneAnswers,
            } => Status::unavailable("none of the department's workers answers"),
            Self::Workers {
                source: FleetError::Plan { source },
            } => engine_status(source).unwrap_or_else(ours),
            Self::Workers { .. } => ours(),
            // From here on rows have been touched: over a private product there is one text and one code.
            Self::Engine { .. }
            | Self::Release { .. }
            | Self::Encode { .. }
            | Self::TooManyCells { .. }
            | Self::TooLong { .. }
                if privacy == Privacy::Cells =>
            {
                Status::internal(PRIVATE)
            }
            Self::Engine { source } => engine_status(source).unwrap_or_else(ours),
            Self::TooLong { .. } => Status::deadline_exceeded(self.to_string()),
            Self::Release { .. } | Self::Encode { .. } | Self::TooManyCells { .. } => ours(),
        }
    }

    /// Writes it in our own log: as a warning where it is our fault.
    pub(crate) fn log(&self, privacy: Privacy, reference: &Digest) {
        let (fragment, error) = (reference.short(8), self.detail());
        if self.status(privacy, reference).code() == Code::Internal {
            tracing::warn!(fragment, error, "a fragment was not answered");
        } else {
            tracing::info!(fragment, error, "a fragment was not answered");
        }
    }

    /// What our own log says of it. The engine's words may hold values of rows: of its faults the kind is kept.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Engine { source }
            | Self::Workers {
                source: FleetError::Plan { source },
            } => format!("{self}: {}", kind(source)),
            Self::Release {
                source: ReleaseError::Arrow { .. },
            }
            | Self::Encode { .. } => format!("{self}: arrow"),
            _ => guildhall_telemetry::error_chain(self),
        }
    }
}

/// What the caller learns of why its question was not charged; nothing where that is our own fault.
fn budget_status(error: &AuthorityError) -> Option<Status> {
    match error {
        AuthorityError::Exhausted { message } => Some(Status::resource_exhausted(message)),
        AuthorityError::Unavailable { council, .. } => {
            let text = format!("the authority of `{council}` does not answer");
            Some(Status::unavailable(text))
        }
        AuthorityError::Refused { .. } => {
            let text = "the authority charges no privacy budget for this grant";
            Some(Status::permission_denied(text))
        }
        _ => None,
    }
}

fn grant_status(error: &GrantError) -> Status {
    let with_help = |code| {
        let help = error
            .help()
            .map(|h| format!("\nhelp: {h}"))
            .unwrap_or_default();
        Status::new(code, format!("{error}{help}"))
    };
    match error {
        GrantError::NotYet { .. }
        | GrantError::Expired { .. }
        | GrantError::Replayed { .. }
        | GrantError::FromBefore { .. } => with_help(Code::FailedPrecondition),
        GrantError::NotStated { .. } | GrantError::WrongCouncil { .. } => {
            Status::permission_denied("the grant is not from this node's authority")
        }
        // Whose grant it is instead is nothing for one who holds another's.
        _ => Status::permission_denied("the grant is not for this node, fragment and recipient"),
    }
}

/// The few faults of the engine that a caller can do something about, without its words.
fn engine_status(error: &DataFusionError) -> Option<Status> {
    let fault = |text: &str| Some(Status::invalid_argument(text));
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => Some(Status::resource_exhausted(
            "the question takes more memory than the node has for it",
        )),
        DataFusionError::ArrowError(e, _) => match e.as_ref() {
            ArrowError::DivideByZero => fault("a division by zero"),
            ArrowError::ArithmeticOverflow(_) => fault("a number is too large for its type"),
            ArrowError::CastError(_) | ArrowError::ParseError(_) => {
                fault("a value cannot be cast to the type asked for; TRY_CAST gives NULL instead")
            }
            _ => None,
        },
        DataFusionError::NotImplemented(_) => fault("the node's engine cannot do this"),
        DataFusionError::External(e) if e.is::<WorkerLost>() => Some(Status::unavailable(
            "a worker of the department went away; ask again",
        )),
        _ => None,
    }
}

fn kind(error: &DataFusionError) -> &'static str {
    match error.find_root() {
        DataFusionError::ArrowError(..) => "arrow",
        DataFusionError::ParquetError(_) => "parquet",
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => "storage",
        DataFusionError::ResourcesExhausted(_) => "memory",
        DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => "plan",
        DataFusionError::Execution(_) | DataFusionError::ExecutionJoin(_) => "execution",
        DataFusionError::Internal(_) => "internal",
        DataFusionError::External(e) if e.is::<WorkerLost>() => "worker",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(source: DataFusionError) -> RunError {
        RunError::Engine { source }
    }

    fn cast_error() -> RunError {
        let said = "Cannot cast string 'Mrs Miggins' to value of Int64 type";
        engine(DataFusionError::ArrowError(
            Box::new(ArrowError::CastError(said.to_owned())),
            None,
        ))
    }

    #[test]
    fn over_a_private_product_all_faults_are_one() {
        let reference = Digest::of(b"f");
        let texts: Vec<_> = [
            cast_error(),
            engine(DataFusionError::ResourcesExhausted("12 bytes".to_owned())),
            engine(DataFusionError::ArrowError(
                Box::new(ArrowError::DivideByZero),
                None,
            )),
            RunError::Release {
                source: ReleaseError::SplitCell,
            },
            RunError::TooLong { seconds: 3 },
        ]
        .iter()
        .map(|e| {
            let status = e.status(Privacy::Cells, &reference);
            (status.code(), status.message().to_owned())
        })
        .collect();
        assert!(
            texts
                .iter()
                .all(|t| *t == (Code::Internal, PRIVATE.to_owned())),
            "{texts:?}"
        );
    }

    #[test]
    fn no_value_leaves_with_an_error_nor_stays_in_the_log() {
        let error = cast_error();
        assert!(
            !error
                .status(Privacy::Rows, &Digest::of(b"f"))
                .message()
                .contains("Miggins")
        );
        assert_eq!(error.detail(), "the engine failed: arrow");
        let said = || ArrowError::CastError("Mrs Miggins".to_owned());
        for error in [
            RunError::Encode { source: said() },
            RunError::Release {
                source: said().into(),
            },
        ] {
            assert!(!error.detail().contains("Miggins"), "{}", error.detail());
        }
    }

    #[test]
    fn a_lost_worker_is_no_fault_of_the_question_and_is_not_named_to_the_caller() {
        let lost = WorkerLost("spiffe://northmoor/parking/worker/w1".parse().unwrap());
        let error = engine(DataFusionError::External(Box::new(lost)));
        let status = error.status(Privacy::Rows, &Digest::of(b"f"));
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!status.message().contains("w1"), "{}", status.message());
        assert_eq!(error.detail(), "the engine failed: worker");
        let private = error.status(Privacy::Cells, &Digest::of(b"f"));
        assert_eq!(private.message(), PRIVATE);
    }

    #[test]
    fn a_path_never_leaves() {
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "/var/lib/guildhall/x.parquet");
        let status = engine(DataFusionError::IoError(io)).status(Privacy::Rows, &Digest::of(b"f"));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("/var"), "{}", status.message());
    }

    #[test]
    fn a_stale_grant_says_since_when_and_what_to_do() {
        let error = GrantError::Expired {
            id: "g-1".parse().unwrap(),
            expired: guildhall_model::Timestamp::from_micros(0),
        };
        let status = RunError::Grant { source: error }.status(Privacy::Rows, &Digest::of(b"f"));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(
            status
                .message()
                .contains("1970-01-01T00:00:00Z\nhelp: ask again"),
            "{}",
            status.message()
        );
    }

    #[test]
    fn a_grant_for_another_names_nobody() {
        let error = GrantError::WrongRecipient {
            id: "g-1".parse().unwrap(),
            granted: Box::new("spiffe://northmoor/council/gateway/secret".parse().unwrap()),
            presented: Box::new("spiffe://northmoor/council/gateway/thief".parse().unwrap()),
        };
        let status = RunError::Grant { source: error }.status(Privacy::Rows, &Digest::of(b"f"));
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(!status.message().contains("secret"));
    }
}
