//! What tickets and prepared handles hold, once unsealed.

use guildhall_model::Digest;
use std::fmt;

/// A result that can be fetched.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ticket {
    /// The query, in every log and audit that it touches.
    #[prost(string, tag = "1")]
    pub(crate) query: String,
    #[prost(oneof = "Content", tags = "2, 3, 4")]
    pub(crate) content: Option<Content>,
}

/// The kinds of results.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Content {
    #[prost(message, tag = "2")]
    Statement(Statement),
    #[prost(message, tag = "3")]
    Metadata(Metadata),
    #[prost(message, tag = "4")]
    Settings(Settings),
}

/// A statement to run. Also what a prepared handle holds.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Statement {
    #[prost(string, tag = "1")]
    pub(crate) sql: String,
    /// Empty where none was named, for statements that read no product.
    #[prost(string, tag = "2")]
    pub(crate) purpose: String,
    #[prost(bool, tag = "3")]
    pub(crate) partial: bool,
    /// Rows of parameters, an Arrow IPC stream; the statement runs once for each.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(crate) parameters: Option<Vec<u8>>,
    /// Whether released values have companions. As it was when the statement's schema was told.
    #[prost(bool, tag = "5")]
    pub(crate) cell_status: bool,
}

/// A metadata command, as the client packed it.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Metadata {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) command: bytes::Bytes,
    #[prost(string, tag = "2")]
    pub(crate) purpose: String,
}

/// The answer to SET and SHOW.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Settings {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<SettingValue>,
}

/// One option and its value.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SettingValue {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("digest", &Digest::of(self.sql.as_bytes()))
            .field("purpose", &self.purpose)
            .field("parameter_bytes", &self.parameters.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("bytes", &self.command.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_literal() {
        let sql = "SELECT * FROM people WHERE name = 'Jane Doe'".to_owned();
        let statement = Statement {
            sql,
            ..Statement::default()
        };
        let ticket = Ticket {
            query: "q-1".into(),
            content: Some(Content::Statement(statement)),
        };
        assert!(!format!("{ticket:?}").contains("Jane"));
    }
}
