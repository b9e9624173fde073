//! The chain: each record holds the digest of the one before.

use crate::Entry;
use guildhall_model::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// Why a chain is not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// An entry cannot be written as JSON.
    #[error("cannot write entry {index} of the log")]
    Unwritable {
        /// Where.
        index: u64,
        /// What the writer said.
        #[source]
        source: serde_json::Error,
    },
    /// A record's digest is not that of its bytes.
    #[error("record {index} of the log was altered: its digest is not that of its bytes")]
    Altered {
        /// Where.
        index: u64,
    },
    /// A record is no JSON of this version.
    #[error("record {index} of the log cannot be read")]
    Unreadable {
        /// Where.
        index: u64,
        /// What the reader said.
        #[source]
        source: serde_json::Error,
    },
    /// A record is not the one that belongs here.
    #[error("record {index} of the log is missing: record {found} stands in its place")]
    OutOfPlace {
        /// Where.
        index: u64,
        /// The place that the record names.
        found: u64,
    },
    /// A record does not follow the one before.
    #[error("record {index} of the log does not follow the record before it")]
    Broken {
        /// Where.
        index: u64,
    },
    /// What is stored beside a record is not what the record says.
    #[error("record {index} of the log is stored with other values than it holds")]
    Mislabelled {
        /// Where.
        index: u64,
    },
}

/// One record as it is stored. The digest is over the bytes, which hold all else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place, from 0.
    pub index: u64,
    /// The digest of the record before; the head of [`Chain::new`] for the first.
    pub previous: Digest,
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// One line of JSON: place, digest of the record before, time, entry.
    pub bytes: Vec<u8>,
}

/// Where a log stands: how many records, and the digest of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The digest of the last record; that of [`Chain::new`] if there is none.
    pub head: Digest,
    /// How many records.
    pub len: u64,
}

/// What the bytes of a record hold, in the order in which they are written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<E> {
    index: u64,
    previous: String,
    at_us: i64,
    entry: E,
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// A log of none. Its head is the digest of these words.
    #[must_use]
    pub fn new() -> Self {
        Self {
            head: Digest::of(b"guildhall audit log v1"),
            len: 0,
        }
    }

    /// Appends `entry`; the record is to be stored before what it speaks of happens.
    pub fn append(&mut self, entry: &Entry, at: Timestamp) -> Result<Record, ChainError> {
        let Self {
            head: previous,
            len: index,
        } = *self;
        let line = Line {
            index,
            previous: previous.to_string(),
            at_us: at.as_micros(),
            entry,
        };
        let bytes =
            serde_json::to_vec(&line).map_err(|source| ChainError::Unwritable { index, source })?;
        let digest = Digest::of(&bytes);
        *self = Self {
            head: digest,
            len: index.saturating_add(1),
        };
        Ok(Record {
            index,
            previous,
            digest,
            bytes,
        })
    }

    /// Moves past `record` if it is the next one, and gives what it says.
    pub fn follow(&mut self, record: &Record) -> Result<(Timestamp, Entry), ChainError> {
        let index = self.len;
        if Digest::of(&record.bytes) != record.digest {
            return Err(ChainError::Altered { index });
        }
        let line: Line<Entry> = serde_json::from_slice(&record.bytes)
            .map_err(|source| ChainError::Unreadable { index, source })?;
        if line.index != index {
            return Err(ChainError::OutOfPlace {
                index,
                found: line.index,
            });
        }
        if line.previous != self.head.to_string() {
            return Err(ChainError::Broken { index });
        }
        if record.index != index || record.previous != self.head {
            return Err(ChainError::Mislabelled { index });
        }
        *self = Self {
            head: record.digest,
            len: index.saturating_add(1),
        };
        Ok((Timestamp::from_micros(line.at_us), line.entry))
    }
}

/// Where the log stands, if each record from the first follows the one before.
pub fn verify_chain<'a>(
    records: impl IntoIterator<Item = &'a Record>,
) -> Result<Chain, ChainError> {
    let mut chain = Chain::new();
    for record in records {
        chain.follow(record)?;
    }
    Ok(chain)
}

#[cfg(test)]
mod tests;
