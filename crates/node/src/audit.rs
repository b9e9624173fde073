//! The node's own log of what it decided: append-only, each record holding the digest of the one before.

use guildhall_audit::{Chain, ChainError, Entry, Record};
use guildhall_model::{Digest, Timestamp};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Why a decision was not written down. What is not written down does not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file cannot be made.
    #[error("cannot make the node's log")]
    File {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database failed.
    #[error("the node's log failed")]
    Database {
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The log is not whole.
    #[error("the node's log is not whole")]
    Chain {
        /// Where.
        #[source]
        source: ChainError,
    },
    /// A record in it is malformed.
    #[error("the node's log holds what is no record")]
    Malformed,
}

impl From<rusqlite::Error> for LogError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Database { source }
    }
}

/// The log of one node. Several processes may append to it.
#[derive(Debug)]
pub struct Log(Mutex<Connection>);

impl Log {
    /// Opens the log at `file`, or makes it, for its owner alone.
    pub fn open(file: &Path) -> Result<Self, LogError> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(|source| LogError::File { source })?;
        }
        // Only SQLite opens a file that is there: closing another handle to it would drop this process' locks,
        // and an import's process would take away the write-ahead log from under the serving one.
        let made = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(file);
        match made.map(drop) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(LogError::File { source });
            }
            _ => {}
        }
        let db = Connection::open(file)?;
        db.busy_timeout(Duration::from_secs(5))?;
        // What was written outlives this process at any moment; a power cut may take the last records, and the
        // chain then ends earlier.
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "synchronous", "normal")?;
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS record (
                place INTEGER PRIMARY KEY,
                previous BLOB NOT NULL,
                digest BLOB NOT NULL,
                bytes BLOB NOT NULL
            ) STRICT",
        )?;
        Ok(Self(Mutex::new(db)))
    }

    /// Appends `entry`. The one way in.
    pub fn append(&self, entry: &Entry, at: Timestamp) -> Result<Record, LogError> {
        let mut db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last: Option<(i64, Vec<u8>)> = step
            .prepare_cached("SELECT place, digest FROM record ORDER BY place DESC LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let mut chain = match last {
            None => Chain::new(),
            Some((place, head)) => Chain {
                head: Digest::from_bytes(&head).ok_or(LogError::Malformed)?,
                len: u64::try_from(place)
                    .map_err(|_| LogError::Malformed)?
                    .saturating_add(1),
            },
        };
        let record = chain
            .append(entry, at)
            .map_err(|source| LogError::Chain { source })?;
        let place = i64::try_from(record.index).map_err(|_| LogError::Malformed)?;
        step.prepare_cached(
            "INSERT INTO record (place, previous, digest, bytes) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            place,
            record.previous.as_bytes(),
            record.digest.as_bytes(),
            record.bytes
        ])?;
        step.commit()?;
        Ok(record)
    }

    /// Every record, from the first.
    pub fn records(&self) -> Result<Vec<Record>, LogError> {
        let db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut query =
            db.prepare("SELECT place, previous, digest, bytes FROM record ORDER BY place")?;
        let rows = query.query_map([], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, Vec<u8>>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get(3)?,
            ))
        })?;
        rows.map(|row| {
            let (place, previous, digest, bytes) = row?;
            Ok(Record {
                index: u64::try_from(place).map_err(|_| LogError::Malformed)?,
                previous: Digest::from_bytes(&previous).ok_or(LogError::Malformed)?,
                digest: Digest::from_bytes(&digest).ok_or(LogError::Malformed)?,
                bytes,
            })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guildhall_audit::{Decision, Event, verify_chain};
    use std::os::unix::fs::PermissionsExt;

    fn entry() -> Entry {
        Entry::new(Event::AdmitFragment, Decision::Permit)
    }

    #[test]
    fn two_processes_append_to_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.sqlite");
        let (a, b) = (Log::open(&file).unwrap(), Log::open(&file).unwrap());
        for i in 0..10 {
            let log = if i % 2 == 0 { &a } else { &b };
            log.append(&entry(), Timestamp::from_micros(i)).unwrap();
        }
        let records = b.records().unwrap();
        assert_eq!(verify_chain(&records).unwrap().len, 10);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn opening_it_again_leaves_the_locks_of_who_has_it_open() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.sqlite");
        let log = Log::open(&file).unwrap();
        log.append(&entry(), Timestamp::from_micros(0)).unwrap();
        drop(Log::open(&file).unwrap());
        let inode = format!(":{} ", file.metadata().unwrap().ino());
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let is_held = |line: &str| line.contains(&inode) && line.contains(" READ ");
        assert!(locks.lines().any(is_held), "{locks}");
    }

    #[test]
    fn a_record_that_was_taken_out_shows() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.sqlite");
        let log = Log::open(&file).unwrap();
        for i in 0..3 {
            log.append(&entry(), Timestamp::from_micros(i)).unwrap();
        }
        Connection::open(&file)
            .unwrap()
            .execute("DELETE FROM record WHERE place = 1", [])
            .unwrap();
        assert!(verify_chain(&log.records().unwrap()).is_err());
    }

    #[test]
    fn the_log_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.sqlite");
        Log::open(&file).unwrap();
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
