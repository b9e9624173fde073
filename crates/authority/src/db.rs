//! The authority's state: one SQLite database, one writer.
//!
//! Writes go through one thread that commits whatever has queued up in one transaction, each
//! write in a savepoint of its own, so that concurrent decisions share a disk flush. A write is
//! answered only after the commit (`synchronous = FULL`): what has been answered survives a
//! crash. Reads see committed state, what another process (the command line) wrote included.

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Why the database failed us. Never shown to a peer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// SQLite's own complaint.
    #[error("the authority's database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// A file or folder could not be made private.
    #[error("cannot prepare `{}`", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        #[source]
        /// What the system said.
        source: std::io::Error,
    },
    /// The file system, or SQLite as it was built, does not keep what is committed.
    #[error(
        "the database would not keep what it commits: journal mode `{journal}`, synchronous {synchronous}"
    )]
    NotDurable {
        /// `wal` is needed.
        journal: String,
        /// 2 is needed.
        synchronous: i64,
    },
    /// Written by a newer Guildhall.
    #[error("the database has schema {found}, this version knows up to {known}")]
    Newer {
        /// In the file.
        found: i64,
        /// In this program.
        known: i64,
    },
    /// A row that this program did not write.
    #[error("the database holds a {what} that cannot be read")]
    Corrupt {
        /// Which kind of row.
        what: &'static str,
    },
    /// The transaction that this was part of was not committed.
    #[error("the database did not commit")]
    NotCommitted,
    /// The writer has stopped.
    #[error("the database is closed")]
    Closed,
}

const FILE: &str = "authority.db";
/// How long a write waits for another process's: the command line's are short.
const BUSY: Duration = Duration::from_secs(10);
/// Writes that wait for the disk. Beyond it callers wait before they queue.
const QUEUE: usize = 1024;
/// Room in the write-ahead log, in bytes. Flushing a file that grows costs about twice as much
/// as one that is written over, and every decision waits for a flush.
const LOG_ROOM: u64 = 5 << 20;
/// Writes that share one flush.
const BATCH: usize = 256;

/// One entry a version: the statements that bring version n to n + 1.
const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("debits.sql"),
    include_str!("borrowers.sql"),
];

/// Whether there is a database below `folder`.
pub(crate) fn is_there(folder: &Path) -> bool {
    folder.join(FILE).is_file()
}

/// Opens (or makes) the database below `folder` and brings its schema up to date.
pub(crate) fn open(folder: &Path) -> Result<Connection, DbError> {
    let path = folder.join(FILE);
    private_folder(folder)?;
    private_file(&path)?;
    let mut connection = Connection::open_with_flags(
        &path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "secure_delete", true)?;
    // Without it, what a REPLACE removes goes past the triggers that forbid removal.
    connection.pragma_update(None, "recursive_triggers", true)?;
    check_durable(&connection)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Refuses a connection whose commits return before they are on disk: SQLite takes a setting
/// that it cannot honour without a word.
fn check_durable(connection: &Connection) -> Result<(), DbError> {
    /// `synchronous = FULL`, as SQLite counts.
    const FULL: i64 = 2;
    let journal: String = connection.pragma_query_value(None, "journal_mode", |r| r.get(0))?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |r| r.get(0))?;
    if journal == "wal" && synchronous == FULL {
        Ok(())
    } else {
        Err(DbError::NotDurable {
            journal,
            synchronous,
        })
    }
}

/// Begins a transaction that will write. One that only reads at first could not be sure to be
/// let write later.
pub(crate) fn begin(connection: &mut Connection) -> Result<Transaction<'_>, DbError> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

fn migrate(connection: &mut Connection) -> Result<(), DbError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let tx = begin(connection)?;
    let found: i64 = tx.pragma_query_value(None, "user_version", |r| r.get(0))?;
    if found > known {
        return Err(DbError::Newer { found, known });
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", known)?;
    tx.commit()?;
    Ok(())
}

#[cfg(unix)]
fn private_folder(folder: &Path) -> Result<(), DbError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let failed = |source| DbError::Folder {
        path: folder.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)
}

#[cfg(not(unix))]
fn private_folder(folder: &Path) -> Result<(), DbError> {
    std::fs::create_dir_all(folder).map_err(|source| DbError::Folder {
        path: folder.to_owned(),
        source,
    })
}

/// Makes the database's file if it is not there, readable by this user alone.
// Invariant: a file that is there is not opened, except by SQLite. Closing any handle to a file
// drops all of this process' locks on it; another process then takes itself for the last user
// of the database, and removes the write-ahead log that this one goes on writing to.
fn private_file(path: &Path) -> Result<(), DbError> {
    let failed = |source| DbError::Folder {
        path: path.to_owned(),
        source,
    };
    let mut options = std::fs::OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(e)),
    }
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(failed)?;
    Ok(())
}

type Job = Box<dyn FnOnce(&Transaction<'_>) -> Reply + Send>;
/// Sends the answer, once the commit is known.
type Reply = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// The open database.
pub(crate) struct Db {
    reader: Mutex<Connection>,
    writer: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Db")
    }
}

impl Db {
    pub(crate) fn open(folder: &Path) -> Result<Self, DbError> {
        let (writing, reading) = (open(folder)?, open(folder)?);
        make_room(&writing, folder)?;
        let (writer, jobs) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name("authority-db".to_owned())
            .spawn(move || write_all(writing, jobs))
            .map_err(|source| DbError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        Ok(Self {
            reader: Mutex::new(reading),
            writer,
        })
    }

    /// Reads committed state. Short: it blocks the caller's thread.
    pub(crate) fn read<T, E>(
        &self,
        with: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        with(&self.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `with` in a transaction; `Ok` is answered after the commit, an error undoes it all.
    pub(crate) async fn write<T, E>(
        &self,
        with: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel::<Result<T, E>>();
        let job: Job = Box::new(move |tx| {
            let result = in_savepoint(tx, with);
            Box::new(move |committed| {
                // A caller that has gone away no longer wants the answer.
                let _gone = answer.send(match committed {
                    Ok(()) => result,
                    Err(e) => Err(e.into()),
                });
            })
        });
        self.writer.send(job).await.map_err(|_| DbError::Closed)?;
        answered.await.map_err(|_| DbError::Closed)?
    }
}

/// Grows the write-ahead log to [`LOG_ROOM`], which SQLite then writes over from its start.
fn make_room(connection: &Connection, folder: &Path) -> Result<(), DbError> {
    let log = folder.join(format!("{FILE}-wal"));
    if log.metadata().is_ok_and(|m| m.len() >= LOG_ROOM) {
        return Ok(());
    }
    let bytes = i64::try_from(LOG_ROOM).unwrap_or(0);
    // Two transactions: what comes and goes within one is never written.
    connection.execute(
        "INSERT INTO facts (name, value) VALUES ('filler', zeroblob(?1)) ON CONFLICT DO NOTHING",
        [bytes],
    )?;
    connection.execute("DELETE FROM facts WHERE name = 'filler'", [])?;
    connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
    Ok(())
}

fn in_savepoint<T, E: From<DbError>>(
    tx: &Transaction<'_>,
    with: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    tx.execute_batch("SAVEPOINT one").map_err(DbError::from)?;
    let result = with(tx);
    let undo = if result.is_ok() {
        ""
    } else {
        "ROLLBACK TO one;"
    };
    tx.execute_batch(&format!("{undo} RELEASE one"))
        .map_err(DbError::from)?;
    result
}

fn write_all(mut connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut replies = Vec::new();
        let committed = commit_batch(&mut connection, first, &mut jobs, &mut replies);
        if let Err(error) = &committed {
            let error = guildhall_telemetry::error_chain(error);
            tracing::error!(error, "a commit failed; its decisions do not count");
        }
        for reply in replies {
            reply(
                committed
                    .as_ref()
                    .copied()
                    .map_err(|_| DbError::NotCommitted),
            );
        }
    }
}

// Invariant: a reply is made only once it is known whether its write is on disk. Dropping
// `tx` on the way out undoes the whole batch.
fn commit_batch(
    connection: &mut Connection,
    first: Job,
    jobs: &mut mpsc::Receiver<Job>,
    replies: &mut Vec<Reply>,
) -> Result<(), DbError> {
    let tx = begin(connection)?;
    replies.push(first(&tx));
    while replies.len() < BATCH
        && let Ok(next) = jobs.try_recv()
    {
        replies.push(next(&tx));
    }
    Ok(tx.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(db: &Db, key: &'static str) -> Result<(), DbError> {
        db.write(move |tx| {
            tx.execute("INSERT INTO purposes (name) VALUES (?1)", [key])?;
            Ok(())
        })
        .await
    }

    #[test]
    fn a_database_that_does_not_flush_what_it_commits_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let good = open(dir.path()).unwrap();
        check_durable(&good).unwrap();
        good.pragma_update(None, "synchronous", "NORMAL").unwrap();
        assert!(matches!(
            check_durable(&good),
            Err(DbError::NotDurable { synchronous: 1, .. })
        ));
        let memory = Connection::open_in_memory().unwrap();
        let refused = check_durable(&memory).unwrap_err().to_string();
        assert!(refused.contains("journal mode `memory`"), "{refused}");
    }

    #[test]
    fn a_database_of_an_earlier_version_is_brought_up_to_date_and_keeps_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let old = Connection::open(dir.path().join(FILE)).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO purposes VALUES ('a'); INSERT INTO loans VALUES ('g-1', x'00', 1, 2);
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let db = Db::open(dir.path()).unwrap();
            assert_eq!(count(&db), 1);
            let read = |sql: &str| -> i64 {
                db.read::<_, DbError>(|c| Ok(c.query_row(sql, [], |r| r.get(0))?))
                    .unwrap()
            };
            assert_eq!(read("PRAGMA user_version"), 3);
            // A grant that was used stays used, by its node.
            let used = "SELECT count(*) FROM loans WHERE grant_id = 'g-1' AND borrower = ''";
            assert_eq!(read(used), 1);
            assert_eq!(read("SELECT count(*) FROM debits"), 0);
        }
        let newer = Connection::open(dir.path().join(FILE)).unwrap();
        newer.pragma_update(None, "user_version", 4).unwrap();
        assert!(matches!(
            open(dir.path()),
            Err(DbError::Newer { found: 4, known: 3 })
        ));
    }

    fn count(db: &Db) -> i64 {
        db.read::<_, DbError>(|c| {
            Ok(c.query_row("SELECT count(*) FROM purposes", [], |r| r.get(0))?)
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_failed_write_undoes_itself_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        let (a, b, again) = tokio::join!(put(&db, "a"), put(&db, "b"), put(&db, "a"));
        assert!(a.is_ok() && b.is_ok() && again.is_err());
        assert_eq!(count(&db), 2);
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        put(&db, "a").await.unwrap();
        std::mem::forget(db);
        assert_eq!(count(&Db::open(dir.path()).unwrap()), 1);
    }

    #[tokio::test]
    async fn writes_do_not_grow_the_write_ahead_log() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        let size = || {
            dir.path()
                .join("authority.db-wal")
                .metadata()
                .unwrap()
                .len()
        };
        let before = size();
        assert!(before >= LOG_ROOM);
        for name in ["a", "b", "c"] {
            put(&db, name).await.unwrap();
        }
        assert_eq!(size(), before);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn opening_it_again_leaves_the_locks_of_who_has_it_open() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        put(&db, "a").await.unwrap();
        drop(open(dir.path()).unwrap());
        let file = dir.path().join("authority.db");
        let inode = format!(":{} ", file.metadata().unwrap().ino());
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let is_held = |line: &str| line.contains(&inode) && line.contains(" READ ");
        assert!(locks.lines().any(is_held), "{locks}");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_the_database() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("authority");
        let _db = Db::open(&folder).unwrap();
        assert_eq!(
            folder.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap();
            assert_eq!(
                file.metadata().unwrap().permissions().mode() & 0o777,
                0o600,
                "{:?}",
                file.path()
            );
        }
    }
}
