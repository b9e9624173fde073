//! The audit log: one function appends, inside the transaction of what it speaks of.

use crate::db::DbError;
use guildhall_audit::{Chain, ChainError, Entry, Record};
use guildhall_model::{Digest, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

/// Why the log cannot be written or is not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The database.
    #[error("cannot use the log's table")]
    Db(#[from] DbError),
    /// An entry cannot be written, or the chain is not whole.
    #[error("the log is not whole")]
    Chain(#[from] ChainError),
}

impl From<rusqlite::Error> for LogError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Appends `entry`. It is durable when the transaction is, and not before.
///
/// The head is read inside the transaction, since the command line appends too.
pub(crate) fn append(tx: &Transaction<'_>, entry: &Entry, at: Timestamp) -> Result<(), LogError> {
    let last: Option<(i64, Vec<u8>)> = tx
        .prepare_cached("SELECT position, digest FROM log ORDER BY position DESC LIMIT 1")?
        .query_row([], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let mut chain = match last {
        None => Chain::new(),
        Some((position, digest)) => Chain {
            head: Digest::from_bytes(&digest).ok_or(CORRUPT)?,
            len: u64::try_from(position)
                .map_err(|_| CORRUPT)?
                .saturating_add(1),
        },
    };
    let record = chain.append(entry, at)?;
    tx.prepare_cached(
        "INSERT INTO log (position, previous, digest, record) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![
        i64::try_from(record.index).map_err(|_| CORRUPT)?,
        record.previous.as_bytes().as_slice(),
        record.digest.as_bytes().as_slice(),
        record.bytes
    ])?;
    Ok(())
}

/// Checks the whole log, handing each entry to `each`; where the log stands.
pub(crate) fn read(
    connection: &Connection,
    mut each: impl FnMut(Timestamp, Entry),
) -> Result<Chain, LogError> {
    let mut chain = Chain::new();
    let mut statement = connection
        .prepare("SELECT position, previous, digest, record FROM log ORDER BY position")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (at, entry) = chain.follow(&record(row)?)?;
        each(at, entry);
    }
    Ok(chain)
}

const CORRUPT: DbError = DbError::Corrupt { what: "log record" };

fn record(row: &rusqlite::Row<'_>) -> Result<Record, LogError> {
    let digest = |bytes: Vec<u8>| Digest::from_bytes(&bytes).ok_or(CORRUPT);
    Ok(Record {
        index: u64::try_from(row.get::<_, i64>(0)?).map_err(|_| CORRUPT)?,
        previous: digest(row.get(1)?)?,
        digest: digest(row.get(2)?)?,
        bytes: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db;
    use guildhall_audit::{Decision, Event};

    #[test]
    fn a_log_that_was_changed_behind_our_back_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = db::open(dir.path()).unwrap();
        for _ in 0..3 {
            let tx = db::begin(&mut connection).unwrap();
            append(&tx, &Entry::new(Event::Invite, Decision::Permit), now()).unwrap();
            tx.commit().unwrap();
        }
        assert_eq!(read(&connection, |_, _| {}).unwrap().len, 3);
        assert!(
            connection
                .execute("DELETE FROM log WHERE position = 1", [])
                .is_err()
        );
        assert!(
            connection
                .execute("UPDATE log SET record = x'00'", [])
                .is_err()
        );
        connection
            .execute_batch("DROP TRIGGER log_is_not_cut")
            .unwrap();
        connection
            .execute("DELETE FROM log WHERE position = 1", [])
            .unwrap();
        assert!(matches!(
            read(&connection, |_, _| {}),
            Err(LogError::Chain(_))
        ));
    }

    #[test]
    fn a_transaction_that_is_not_committed_leaves_no_entry() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = db::open(dir.path()).unwrap();
        let tx = db::begin(&mut connection).unwrap();
        append(&tx, &Entry::new(Event::Invite, Decision::Permit), now()).unwrap();
        drop(tx);
        assert_eq!(read(&connection, |_, _| {}).unwrap().len, 0);
    }

    fn now() -> Timestamp {
        Timestamp::from_micros(0)
    }
}
