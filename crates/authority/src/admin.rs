//! What a council officer does on the authority's own machine, running or not.
//!
//! Each is one transaction on the database; a running authority sees it at its next decision.

mod peers;
mod people;
mod trust;

pub use peers::INVITE_LIFE;
pub(crate) use peers::code_hash;
pub use people::Account;
pub(crate) use people::published;
pub(crate) use trust::bundles;

use crate::db::{self, DbError};
use crate::ledger::check::LedgerError;
use crate::log::{self, LogError};
use guildhall_audit::{Chain, Entry};
use guildhall_model::{CouncilName, NameError, PeerId, Purpose, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::Path;

/// Why an officer's command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The database.
    #[error("the authority's database cannot be used")]
    Db(#[from] DbError),
    /// No authority was made in this folder.
    #[error("there is no authority in this folder; `guildhall authority init` makes one")]
    NotFounded,
    /// An authority is there already.
    #[error("there is an authority in this folder already")]
    AlreadyFounded,
    /// The log.
    #[error("the authority's log cannot be used")]
    Log(#[from] LogError),
    /// The ledger of privacy budgets.
    #[error("the ledger of privacy budgets cannot be believed")]
    Ledger(#[from] LedgerError),
    /// A role that nobody enrols as, or not there.
    #[error("`{peer}` cannot be invited: {why}")]
    NotInvited {
        /// The role.
        peer: PeerId,
        /// Why not.
        why: &'static str,
    },
    /// Another council's name where this one's must be.
    #[error("`{given}` is not of this authority's council, `{own}`")]
    OtherCouncil {
        /// What was given.
        given: String,
        /// Ours.
        own: CouncilName,
    },
    /// Nothing of that name.
    #[error("there is no {kind} `{name}`")]
    Unknown {
        /// Peer, account, purpose.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A purpose that is not on the council's list.
    #[error("`{purpose}` is not on the council's list of purposes: {published}")]
    Unpublished {
        /// The purpose.
        purpose: Purpose,
        /// The list.
        published: String,
    },
    /// Not a name.
    #[error("a name is not valid")]
    Name(#[from] NameError),
    /// The password could not be hashed, or randomness could not be had.
    #[error("{0} failed")]
    Crypto(&'static str),
    /// A trust bundle that cannot be read.
    #[error("the trust bundle is not valid: {0}")]
    Bundle(String),
    /// Certificates or keys.
    #[error("the council's certificate authority cannot be used")]
    Identity(#[from] guildhall_identity::IdentityError),
    /// The keyring.
    #[error("the council's keyring cannot be used")]
    Keyring(#[from] guildhall_keyring::RootError),
}

impl From<rusqlite::Error> for AdminError {
    fn from(e: rusqlite::Error) -> Self {
        Self::Db(e.into())
    }
}

/// The authority's folder, opened for one command.
#[derive(Debug)]
pub struct Admin {
    connection: Connection,
    council: CouncilName,
}

impl Admin {
    /// Opens the database below `folder` of an authority that `init` made.
    pub fn open(folder: &Path) -> Result<Self, AdminError> {
        if !db::is_there(folder) {
            return Err(AdminError::NotFounded);
        }
        let connection = db::open(folder)?;
        let council = fact(&connection, "council")?.ok_or(AdminError::NotFounded)?;
        let council = String::from_utf8(council)
            .map_err(|_| DbError::Corrupt {
                what: "council name",
            })?
            .parse()?;
        Ok(Self {
            connection,
            council,
        })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The council.
    #[must_use]
    pub fn council(&self) -> &CouncilName {
        &self.council
    }

    /// Checks the whole hash chain of the log; how many entries, and the digest of the last.
    pub fn verify_log(&self) -> Result<Chain, AdminError> {
        Ok(log::read(&self.connection, |_, _| {})?)
    }

    /// Hands every entry of the log to `each`, from the first, checking the chain on the way.
    pub fn read_log(&self, each: impl FnMut(Timestamp, Entry)) -> Result<Chain, AdminError> {
        Ok(log::read(&self.connection, each)?)
    }
}

pub(crate) fn fact(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, DbError> {
    Ok(connection
        .query_row("SELECT value FROM facts WHERE name = ?1", [name], |r| {
            r.get(0)
        })
        .optional()?)
}

pub(crate) fn put_fact(tx: &Connection, name: &str, value: &[u8]) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO facts (name, value) VALUES (?1, ?2)",
        params![name, value],
    )?;
    Ok(())
}
