//! The ledger of privacy budgets: what free questions have cost, kept for good.
//!
//! A budget belongs to the data and the purpose, and to nobody who asks: every product of a
//! department whose privacy unit comes from the same datasets spends the same one, whoever
//! asks, of whichever council, by whichever route. What binds all of them is the smallest rho,
//! and the longest period, that any product on offer states.
//!
//! Promises: the charges of one period never add up to more than its limit; the same question
//! is charged once in a period; a charge is on disk, with its entry in the log, before anybody
//! is told of it. Nothing here changes or removes a charge, and the database refuses to.
//!
//! Does not promise: anything against who puts an older copy of the database in its place, and
//! with it what was left then; [`check`] finds what the log does not bear out.

pub(crate) mod check;

use crate::db::DbError;
use crate::refusal::Refusal;
use crate::shelf::Register;
use guildhall_grant::product::{Budget, BudgetPeriod, NanoRho};
use guildhall_model::{DepartmentName, Digest, GrantId, ProductRef, Purpose, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use std::fmt;

/// What parts the names of datasets; no name has it.
const AND: &str = "+";

/// Whose budget it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LedgerName {
    pub(crate) department: DepartmentName,
    /// Those that the privacy unit comes from, in order, joined by [`AND`].
    pub(crate) datasets: String,
    pub(crate) purpose: Purpose,
}

impl fmt::Display for LedgerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            department,
            datasets,
            purpose,
        } = self;
        write!(f, "{department}/{datasets} for {purpose}")
    }
}

impl LedgerName {
    /// What `budget` of a product of `department` is called.
    pub(crate) fn of(department: &DepartmentName, budget: &Budget) -> Self {
        let datasets: Vec<&str> = budget.datasets.iter().map(|d| d.as_str()).collect();
        Self {
            department: department.clone(),
            datasets: datasets.join(AND),
            purpose: budget.purpose.clone(),
        }
    }

    /// What binds now; none if no product on offer states a budget of this name.
    pub(crate) fn terms(&self, register: &Register, now: Timestamp) -> Option<Terms> {
        let stated = register
            .products()
            .map(|r| &r.product)
            .filter(|p| p.department == self.department)
            .filter_map(|p| p.budget(&self.purpose))
            .filter(|b| Self::of(&self.department, b) == *self);
        let (limit, period) = stated.fold(None, |strictest, budget| {
            let (rho, period) = strictest.unwrap_or((budget.rho, budget.period));
            Some((budget.rho.min(rho), budget.period.max(period)))
        })?;
        Terms::of(limit, period, now)
    }
}

/// What binds every charge to one budget, over the period that holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) limit: NanoRho,
    pub(crate) start: Timestamp,
    /// The first moment after it.
    pub(crate) end: Timestamp,
}

impl Terms {
    fn of(limit: NanoRho, period: BudgetPeriod, now: Timestamp) -> Option<Self> {
        let (start, end) = period.around(now)?;
        Some(Self { limit, start, end })
    }

    fn left(&self, spent: NanoRho) -> NanoRho {
        self.limit.checked_sub(spent).unwrap_or_default()
    }
}

/// How much of a budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) spent: NanoRho,
    /// When nothing that is spent now counts any longer.
    pub(crate) renews: Timestamp,
}

/// What is spent of a budget: every charge of a period that overlaps the one in force.
///
/// Periods overlap where products came to state another length than they did. What was spent
/// under the old one counts until that is over, so that a budget is not made whole by a change.
pub(crate) fn standing(
    connection: &Connection,
    name: &LedgerName,
    terms: &Terms,
) -> Result<Standing, DbError> {
    let mut statement = connection.prepare_cached(
        "SELECT end_us, (SELECT total FROM debits WHERE ledger = id ORDER BY number DESC LIMIT 1)
         FROM ledgers WHERE department = ?1 AND datasets = ?2 AND purpose = ?3
         AND start_us < ?5 AND end_us > ?4",
    )?;
    let rows = statement.query_map(
        params![
            name.department.as_str(),
            name.datasets,
            name.purpose.as_str(),
            terms.start.as_micros(),
            terms.end.as_micros()
        ],
        |r| Ok((r.get::<_, i64>(0)?, r.get::<_, Option<i64>>(1)?)),
    )?;
    let none = Standing {
        spent: NanoRho::default(),
        renews: terms.end,
    };
    rows.into_iter().try_fold(none, |sum, row| {
        let (end, total) = row?;
        let spent = sum.spent.checked_add(amount(total.unwrap_or(0))?);
        Ok(Standing {
            spent: spent.ok_or(CORRUPT)?,
            renews: sum.renews.max(Timestamp::from_micros(end)),
        })
    })
}

/// One question to be charged.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    pub(crate) ledger: LedgerName,
    pub(crate) terms: Terms,
    pub(crate) product: ProductRef,
    pub(crate) grant: GrantId,
    pub(crate) question: Digest,
    pub(crate) amount: NanoRho,
}

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charged {
    /// Zero if the question was paid for before.
    pub(crate) amount: NanoRho,
    pub(crate) remaining: NanoRho,
    pub(crate) renews: Timestamp,
}

impl Charge {
    /// Charges the question, unless it was paid for in this period.
    ///
    /// A grant pays for one question of a product: with another it is a replay.
    // Invariant: what is spent is read in the transaction that spends, which began as one that
    // writes, so that no other charge can come in between.
    pub(crate) fn make(&self, tx: &Transaction<'_>, now: Timestamp) -> Result<Charged, Refusal> {
        let before = standing(tx, &self.ledger, &self.terms)?;
        let charged = |amount, spent| Charged {
            amount,
            remaining: self.terms.left(spent),
            renews: before.renews,
        };
        let ledger = self.ledger_id(tx)?;
        if let Some(ledger) = ledger
            && is_paid(tx, ledger, self.question)?
        {
            return Ok(charged(NanoRho::default(), before.spent));
        }
        if is_used(tx, &self.grant, &self.product)? {
            return Err(Refusal::Used(self.grant.clone()));
        }
        let spent = before
            .spent
            .checked_add(self.amount)
            .filter(|s| *s <= self.terms.limit)
            .ok_or_else(|| self.refused(before.renews))?;
        let ledger = ledger.map_or_else(|| self.begin(tx), Ok)?;
        self.enter(tx, ledger, now)?;
        Ok(charged(self.amount, spent))
    }

    fn refused(&self, renews: Timestamp) -> Refusal {
        Refusal::Budget {
            product: self.product.clone(),
            purpose: self.ledger.purpose.clone(),
            renews,
        }
    }

    fn ledger_id(&self, tx: &Transaction<'_>) -> Result<Option<i64>, DbError> {
        let LedgerName {
            department,
            datasets,
            purpose,
        } = &self.ledger;
        let (start, end) = (self.terms.start.as_micros(), self.terms.end.as_micros());
        Ok(tx
            .prepare_cached(
                "SELECT id FROM ledgers WHERE department = ?1 AND datasets = ?2 AND purpose = ?3
                 AND start_us = ?4 AND end_us = ?5",
            )?
            .query_row(
                params![department.as_str(), datasets, purpose.as_str(), start, end],
                |r| r.get(0),
            )
            .optional()?)
    }

    fn begin(&self, tx: &Transaction<'_>) -> Result<i64, DbError> {
        tx.prepare_cached(
            "INSERT INTO ledgers (department, datasets, purpose, start_us, end_us)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            self.ledger.department.as_str(),
            self.ledger.datasets,
            self.ledger.purpose.as_str(),
            self.terms.start.as_micros(),
            self.terms.end.as_micros()
        ])?;
        Ok(tx.last_insert_rowid())
    }

    fn enter(&self, tx: &Transaction<'_>, ledger: i64, now: Timestamp) -> Result<(), DbError> {
        let last: Option<(i64, i64)> = tx
            .prepare_cached(
                "SELECT number, total FROM debits WHERE ledger = ?1 ORDER BY number DESC LIMIT 1",
            )?
            .query_row([ledger], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        let (number, total) = last.unwrap_or((0, 0));
        let charge = i64::try_from(self.amount.get()).map_err(|_| CORRUPT)?;
        tx.prepare_cached(
            "INSERT INTO debits
             (ledger, number, question, charge, total, product, grant_id, debited_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            ledger,
            number.checked_add(1).ok_or(CORRUPT)?,
            self.question.as_bytes().as_slice(),
            charge,
            total.checked_add(charge).ok_or(CORRUPT)?,
            self.product.to_string(),
            self.grant.as_str(),
            now.as_micros()
        ])?;
        Ok(())
    }
}

fn is_paid(tx: &Transaction<'_>, ledger: i64, question: Digest) -> Result<bool, DbError> {
    Ok(tx
        .prepare_cached("SELECT 1 FROM debits WHERE ledger = ?1 AND question = ?2")?
        .exists(params![ledger, question.as_bytes().as_slice()])?)
}

fn is_used(tx: &Transaction<'_>, grant: &GrantId, product: &ProductRef) -> Result<bool, DbError> {
    Ok(tx
        .prepare_cached("SELECT 1 FROM debits WHERE grant_id = ?1 AND product = ?2")?
        .exists(params![grant.as_str(), product.to_string()])?)
}

const CORRUPT: DbError = DbError::Corrupt {
    what: "privacy budget",
};

fn amount(stored: i64) -> Result<NanoRho, DbError> {
    u64::try_from(stored).map(NanoRho::new).map_err(|_| CORRUPT)
}
