//! Why a statement is not planned or did not run, in words for whoever asked.

use crate::cube::Refusal;
use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use std::error::Error as StdError;
use std::time::Duration;

/// What a failure means to the caller; each has one Flight status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanErrorKind {
    /// The statement is wrong (`INVALID_ARGUMENT`).
    InvalidArgument,
    /// It names what is not there, or not for this caller (`NOT_FOUND`).
    NotFound,
    /// A rule of release stands against it (`PERMISSION_DENIED`).
    Refused,
    /// It needs more than it may have (`RESOURCE_EXHAUSTED`).
    TooMuch,
    /// It took too long to plan (`DEADLINE_EXCEEDED`).
    Deadline,
    /// Ours to mend (`INTERNAL`).
    Internal,
}

/// Why a statement is not planned or did not run.
///
/// The text is fit for the caller: it holds names that the caller wrote or may see, and no
/// literal of the statement. A cause, where there is one, is for our own log only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The statement is wrong.
    #[error("{text}")]
    Invalid {
        /// What is wrong with it.
        text: String,
    },
    /// A name that stands for nothing here. Forbidden and unknown read the same.
    #[error("no product `{name}`")]
    NoProduct {
        /// The name as it was written.
        name: String,
    },
    /// A rule of release stands against it.
    #[error("{}", refusal.reason)]
    Refused {
        /// The rule, the reason, and what to ask instead.
        refusal: Refusal,
    },
    /// More than one statement may have.
    #[error("this statement needs too much {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
    },
    /// Not planned in time.
    #[error("this statement was not planned within {} ms", after.as_millis())]
    Deadline {
        /// The time it had.
        after: Duration,
    },
    /// A party that was asked did not do its part. The source says which; it is the runner's own.
    #[error("a part of the query failed")]
    Fragment {
        /// What the runner returned.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Ours to mend.
    #[error("the query could not be {doing}")]
    Internal {
        /// What was being done.
        doing: &'static str,
        /// Why it failed; not for the caller.
        #[source]
        source: DataFusionError,
    },
}

impl PlanError {
    /// What the failure means to the caller.
    #[must_use]
    pub fn kind(&self) -> PlanErrorKind {
        match self {
            Self::Invalid { .. } => PlanErrorKind::InvalidArgument,
            Self::NoProduct { .. } => PlanErrorKind::NotFound,
            Self::Refused { .. } => PlanErrorKind::Refused,
            Self::TooMuch { .. } => PlanErrorKind::TooMuch,
            Self::Deadline { .. } => PlanErrorKind::Deadline,
            Self::Fragment { .. } | Self::Internal { .. } => PlanErrorKind::Internal,
        }
    }

    /// What to do about it, if anything.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Refused { refusal } if !refusal.instead.is_empty() => {
                Some(refusal.instead.clone())
            }
            Self::NoProduct { .. } => Some(
                "`select table_catalog, table_schema, table_name from information_schema.tables` \
                 lists the products that you may ask for this purpose"
                    .to_owned(),
            ),
            Self::TooMuch { .. } => {
                Some("ask for fewer columns or rows, or aggregate first".to_owned())
            }
            _ => None,
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid { text: text.into() }
    }

    pub(crate) fn refused(
        rule: &'static str,
        reason: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Self::Refused {
            refusal: Refusal {
                rule,
                reason: reason.into(),
                instead: instead.into(),
            },
        }
    }

    /// A failure of planning, told without the `literals` of the statement.
    pub(crate) fn planning(source: DataFusionError, literals: &[String]) -> Self {
        match carried(source) {
            Ok(error) => error,
            Err(DataFusionError::Collection(mut errors)) if !errors.is_empty() => {
                Self::planning(errors.remove(0), literals)
            }
            Err(source) => match source.find_root() {
                DataFusionError::SchemaError(error, _) => Self::invalid(schema_text(error)),
                DataFusionError::Plan(text)
                | DataFusionError::NotImplemented(text)
                | DataFusionError::Execution(text)
                | DataFusionError::Configuration(text) => {
                    Self::invalid(scrub(&first_lines(text), literals))
                }
                DataFusionError::Internal(text) if is_wrong_call(text) => Self::invalid(WRONG_CALL),
                DataFusionError::SQL(_, _) => Self::invalid("the statement cannot be parsed"),
                DataFusionError::ArrowError(error, _) => Self::invalid(arrow_text(error)),
                DataFusionError::ResourcesExhausted(_) => Self::TooMuch { what: "memory" },
                DataFusionError::Diagnostic(_, inner) => match inner.as_ref() {
                    DataFusionError::SchemaError(error, _) => Self::invalid(schema_text(error)),
                    DataFusionError::Plan(text) => {
                        Self::invalid(scrub(&first_lines(text), literals))
                    }
                    _ => Self::Internal {
                        doing: "planned",
                        source,
                    },
                },
                _ => Self::Internal {
                    doing: "planned",
                    source,
                },
            },
        }
    }

    /// A failure of ours while planning, if it is none of the statement's that the engine takes for its own.
    pub(crate) fn internal(source: DataFusionError) -> Self {
        match source.find_root() {
            DataFusionError::Internal(text) if is_wrong_call(text) => Self::invalid(WRONG_CALL),
            _ => Self::Internal {
                doing: "planned",
                source,
            },
        }
    }

    /// A failure to work out a part of a statement that needs no row: the doing of whoever wrote it. None of the
    /// engine's own words come back, which may hold any part of a literal.
    pub(crate) fn constant(source: DataFusionError) -> Self {
        match source.find_root() {
            DataFusionError::ArrowError(error, _) => Self::invalid(arrow_text(error)),
            DataFusionError::ResourcesExhausted(_) => Self::TooMuch { what: "memory" },
            // What the engine calls internal is of this kind as well: nothing but the statement went in.
            _ => Self::invalid("a constant of the statement cannot be computed"),
        }
    }

    /// A failure while a planned query ran, told without a value of any row.
    pub fn running(source: DataFusionError) -> Self {
        match carried(source) {
            Ok(error) => error,
            Err(source) => match source.find_root() {
                DataFusionError::ArrowError(error, _) => Self::invalid(arrow_text(error)),
                DataFusionError::ResourcesExhausted(_) => Self::TooMuch { what: "memory" },
                DataFusionError::Execution(_) => {
                    Self::invalid("a value cannot be computed as the statement asks")
                }
                _ => Self::Internal {
                    doing: "run",
                    source,
                },
            },
        }
    }
}

impl From<PlanError> for DataFusionError {
    fn from(error: PlanError) -> Self {
        Self::External(Box::new(error))
    }
}

/// The error that `source` carries from us or from a runner, if it does.
fn carried(source: DataFusionError) -> Result<PlanError, DataFusionError> {
    match source {
        DataFusionError::External(inner) => Ok(match inner.downcast::<PlanError>() {
            Ok(own) => *own,
            Err(source) => match source.downcast::<DataFusionError>() {
                Ok(engine) => return carried(*engine),
                Err(source) => PlanError::Fragment { source },
            },
        }),
        DataFusionError::Context(_, inner) => carried(*inner),
        DataFusionError::Diagnostic(diagnostic, inner) => carried(*inner)
            .map_err(|inner| DataFusionError::Diagnostic(diagnostic, Box::new(inner))),
        DataFusionError::ArrowError(error, trace) => match *error {
            ArrowError::ExternalError(inner) => carried(DataFusionError::External(inner)),
            other => Err(DataFusionError::ArrowError(Box::new(other), trace)),
        },
        DataFusionError::Shared(shared) => match std::sync::Arc::try_unwrap(shared) {
            Ok(inner) => carried(inner),
            Err(shared) => match shared.find_root() {
                DataFusionError::External(inner) => Ok(shared_text(inner.as_ref())),
                _ => Err(DataFusionError::Shared(shared)),
            },
        },
        other => Err(other),
    }
}

/// A failure that several streams hold: its text is all that can be taken out.
fn shared_text(inner: &(dyn StdError + Send + Sync + 'static)) -> PlanError {
    match inner.downcast_ref::<PlanError>() {
        Some(PlanError::Invalid { text }) => PlanError::invalid(text.clone()),
        Some(PlanError::Refused { refusal }) => PlanError::Refused {
            refusal: refusal.clone(),
        },
        Some(PlanError::TooMuch { what }) => PlanError::TooMuch { what },
        _ => PlanError::Fragment {
            source: inner.to_string().into(),
        },
    }
}

const WRONG_CALL: &str = "a function does not take arguments of these types";

/// Whether the engine says, as a fault of its own, that a call fits no signature of its function.
fn is_wrong_call(text: &str) -> bool {
    text.starts_with("Function '") && text.contains("failed to match any signature")
}

fn schema_text(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let names: Vec<String> = valid_fields
                .iter()
                .take(24)
                .map(|c| format!("`{}`", c.name))
                .collect();
            if names.is_empty() {
                format!("no column `{}`", field.name)
            } else {
                format!("no column `{}`; there are {}", field.name, names.join(", "))
            }
        }
        SchemaError::AmbiguousReference { field } => format!(
            "column `{}` is ambiguous: say which table it is of",
            field.name
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => {
            format!("two columns are named `{name}`: give one another name with `as`")
        }
    }
}

fn arrow_text(error: &ArrowError) -> String {
    match error {
        ArrowError::DivideByZero => "division by zero",
        ArrowError::ArithmeticOverflow(_) => "a number is out of range",
        ArrowError::CastError(_) | ArrowError::ParseError(_) => {
            "a value cannot be converted to the type that the statement asks for"
        }
        _ => "a value cannot be computed as the statement asks",
    }
    .to_owned()
}

fn first_lines(text: &str) -> String {
    let mut short: String = text.lines().take(3).collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = short.char_indices().nth(300) {
        short.truncate(at);
        short.push('…');
    }
    let mut chars = short.chars();
    match chars.next() {
        Some(first) if chars.next().is_some_and(char::is_lowercase) => {
            let rest = short.get(first.len_utf8()..).unwrap_or_default();
            format!("{}{rest}", first.to_lowercase())
        }
        _ => short,
    }
}

/// How the engine writes values; what is in the brackets after these is not told.
const VALUE_TYPES: [&str; 20] = [
    "Binary",
    "Boolean",
    "Date32",
    "Date64",
    "Decimal",
    "Duration",
    "FixedSizeBinary",
    "Float",
    "Int",
    "Interval",
    "LargeBinary",
    "LargeUtf8",
    "List",
    "Literal",
    "Time32",
    "Time64",
    "Timestamp",
    "UInt",
    "Utf8",
    "Utf8View",
];

/// `text` without the values that the engine wrote into it.
fn without_values(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('(') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let word = before
            .rsplit(|c: char| !c.is_alphanumeric())
            .next()
            .unwrap_or_default();
        let is_value = VALUE_TYPES.iter().any(|t| word.starts_with(t));
        match after.find(')') {
            Some(end) if is_value => {
                out.push_str("(…)");
                rest = &after[end + 1..];
            }
            _ if is_value => {
                out.push_str("(…)");
                rest = "";
            }
            _ => {
                out.push('(');
                rest = &after[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// `text` without values, and with every occurrence of a literal as a token of its own replaced
/// by `…`.
fn scrub(text: &str, literals: &[String]) -> String {
    let mut clean = without_values(text);
    for literal in literals.iter().filter(|l| !l.is_empty()) {
        let mut out = String::with_capacity(clean.len());
        let mut rest = clean.as_str();
        while let Some(at) = rest.find(literal.as_str()) {
            let (before, after) = rest.split_at(at);
            let after = &after[literal.len()..];
            let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            let inside_word = word(before.chars().next_back()) && word(literal.chars().next())
                || word(after.chars().next()) && word(literal.chars().next_back());
            out.push_str(before);
            out.push_str(if inside_word { literal } else { "…" });
            rest = after;
        }
        out.push_str(rest);
        clean = out;
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_the_statement_do_not_come_back() {
        let text = "cannot compare Utf8(\"Jane Doe\") with Int64(1): 1 of 10";
        let clean = scrub(text, &["Jane Doe".to_owned(), "1".to_owned()]);
        assert_eq!(clean, "cannot compare Utf8(…) with Int64(…): … of 10");
        let rewritten = "InSubquery { expr: x, low: Date32(\"1970-02-03\") }";
        assert!(!scrub(rewritten, &[]).contains("1970"));
        assert_eq!(scrub("no function f(a, b)", &[]), "no function f(a, b)");
    }

    #[test]
    fn an_error_of_ours_survives_the_engine() {
        let error = PlanError::TooMuch { what: "memory" };
        let wrapped = DataFusionError::External(Box::new(error)).context("deep inside");
        assert_eq!(PlanError::running(wrapped).kind(), PlanErrorKind::TooMuch);
    }

    #[test]
    fn a_value_that_cannot_be_cast_is_not_told() {
        let error = ArrowError::CastError("Cannot cast string 'Jane' to value of Int32".into());
        let told = PlanError::running(DataFusionError::from(error)).to_string();
        assert!(!told.contains("Jane"), "{told}");
    }
}
