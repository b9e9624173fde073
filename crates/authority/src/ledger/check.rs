//! Whether the ledger and the log bear each other out.

use super::{CORRUPT, amount};
use crate::db::DbError;
use crate::log::{self, LogError};
use guildhall_audit::{Decision, Entry, Event};
use guildhall_grant::product::NanoRho;
use rusqlite::Connection;
use std::collections::HashMap;

/// Why the ledger of privacy budgets cannot be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The database.
    #[error("cannot use the ledger's tables")]
    Db(#[from] DbError),
    /// The log, against which it is checked.
    #[error("the log cannot be used")]
    Log(#[from] LogError),
    /// A charge is missing, or a sum is not that of the charges.
    #[error("debit {number} of ledger {ledger} does not follow the one before")]
    Broken {
        /// Which ledger.
        ledger: i64,
        /// Which of its debits.
        number: i64,
    },
    /// A debit that the log does not know of, or not as it is.
    #[error("the debit of grant `{grant}` for `{product}` is not in the log as it is")]
    NotInLog {
        /// The grant.
        grant: String,
        /// The product.
        product: String,
    },
    /// The log knows of a debit that is not there.
    #[error("the debit of grant `{grant}` for `{product}` is in the log and not in the ledger")]
    Missing {
        /// The grant.
        grant: String,
        /// The product.
        product: String,
    },
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Db(error.into())
    }
}

/// A ledger that adds up and that the log bears out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerSum {
    /// How many questions were charged, ever.
    pub debits: u64,
    /// What they cost together.
    pub charged: NanoRho,
}

/// By grant and product.
type Debits = HashMap<(String, String), u64>;

/// Adds every charge up and finds each in the log, once and as it is; and the log's in the ledger.
pub(crate) fn check(connection: &Connection) -> Result<LedgerSum, LedgerError> {
    let mut debits = Debits::new();
    let charged = add_up(connection, &mut debits)?;
    let sum = LedgerSum {
        debits: u64::try_from(debits.len()).map_err(|_| CORRUPT)?,
        charged,
    };
    let mut fault = None;
    log::read(connection, |_, entry| {
        if fault.is_none() {
            fault = strike(&mut debits, entry);
        }
    })?;
    let unknown = debits
        .into_keys()
        .next()
        .map(|(grant, product)| LedgerError::NotInLog { grant, product });
    match fault.or(unknown) {
        Some(fault) => Err(fault),
        None => Ok(sum),
    }
}

/// Follows every ledger from its first debit.
fn add_up(connection: &Connection, debits: &mut Debits) -> Result<NanoRho, LedgerError> {
    let mut statement = connection.prepare(
        "SELECT ledger, number, charge, total, grant_id, product FROM debits
         ORDER BY ledger, number",
    )?;
    let mut rows = statement.query([])?;
    let mut before: (i64, i64, i64) = (0, 0, 0);
    let mut sum = NanoRho::default();
    while let Some(row) = rows.next()? {
        let (ledger, number): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (charge, total): (i64, i64) = (row.get(2)?, row.get(3)?);
        if before.0 != ledger {
            before = (ledger, 0, 0);
        }
        let follows =
            before.1.checked_add(1) == Some(number) && before.2.checked_add(charge) == Some(total);
        if charge <= 0 || !follows {
            return Err(LedgerError::Broken { ledger, number });
        }
        before = (ledger, number, total);
        let charge = amount(charge)?;
        sum = sum.checked_add(charge).ok_or(CORRUPT)?;
        debits.insert((row.get(4)?, row.get(5)?), charge.get());
    }
    Ok(sum)
}

/// Strikes out the debit that `entry` speaks of, if it speaks of one.
fn strike(debits: &mut Debits, entry: Entry) -> Option<LedgerError> {
    let charged = (entry.event, entry.decision) == (Event::Debit, Decision::Permit);
    if !charged || entry.charge == 0 {
        return None;
    }
    let grant = entry.grant.map(|g| g.to_string()).unwrap_or_default();
    let product = entry.products.into_iter().next().map(|p| p.product);
    let product = product.unwrap_or_default();
    let key = (grant, product);
    match debits.remove(&key) {
        Some(charge) if charge == entry.charge => None,
        Some(_) => Some(LedgerError::NotInLog {
            grant: key.0,
            product: key.1,
        }),
        None => Some(LedgerError::Missing {
            grant: key.0,
            product: key.1,
        }),
    }
}
