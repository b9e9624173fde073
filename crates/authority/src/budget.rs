//! What is left of the privacy budgets: for who asks, of the products that they may see; for an
//! officer, of all.

use crate::admin::{Admin, AdminError};
use crate::db::DbError;
use crate::ledger::check::{self, LedgerSum};
use crate::ledger::{self, LedgerName, Standing, Terms};
use crate::refusal::Refusal;
use crate::shelf::{Register, Shelf};
use crate::state::State;
use guildhall_grant::product::{NanoRho, Product};
use guildhall_model::{DepartmentName, PeerId, ProductName, Purpose, Timestamp};
use guildhall_proto::authority::v1 as wire;
use rusqlite::Connection;
use std::collections::BTreeMap;

impl State {
    /// The budgets for one purpose of the products that a credential may see for it.
    ///
    /// Not put on record: like a catalogue, it says nothing of what is held.
    pub(crate) fn budgets(
        &self,
        gateway: &PeerId,
        request: wire::BudgetRequest,
    ) -> Result<wire::BudgetResponse, Refusal> {
        let now = self.clock.now();
        let asker = self.believing(now).asker(request.credential, gateway)?;
        let purpose: Purpose = request
            .purpose
            .parse()
            .map_err(|e| Refusal::invalid("purpose", e))?;
        let register = self.register()?;
        let seen = self.seen_for(&register, gateway, asker, &purpose, now)?;
        let budgets = self.db.read(|c| {
            seen.iter()
                .filter_map(|(department, name)| register.product(department, name))
                .filter_map(|r| stated(c, &register, &r.product, &purpose, now).transpose())
                .collect::<Result<_, DbError>>()
        })?;
        Ok(wire::BudgetResponse { budgets })
    }
}

/// The budget that `product` has for `purpose`, if it has one.
fn stated(
    connection: &Connection,
    register: &Register,
    product: &Product,
    purpose: &Purpose,
    now: Timestamp,
) -> Result<Option<wire::ProductBudget>, DbError> {
    let Some(budget) = product.budget(purpose) else {
        return Ok(None);
    };
    let ledger = LedgerName::of(&product.department, budget);
    let Some(terms) = ledger.terms(register, now) else {
        return Ok(None);
    };
    let Standing { spent, renews } = ledger::standing(connection, &ledger, &terms)?;
    Ok(Some(wire::ProductBudget {
        department: product.department.to_string(),
        product: product.name.to_string(),
        limit_nano_rho: terms.limit.get(),
        spent_nano_rho: spent.get(),
        per_query_nano_rho: budget.per_query.get(),
        period_start_us: terms.start.as_micros(),
        period_end_us: renews.as_micros(),
    }))
}

/// A privacy budget as it stands in the period that holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetStanding {
    /// Whose data it protects.
    pub department: DepartmentName,
    /// The datasets that the privacy unit comes from, joined by `+`.
    pub datasets: String,
    /// What the questions are asked for.
    pub purpose: Purpose,
    /// The products that share it.
    pub products: Vec<ProductName>,
    /// The smallest that any of them states.
    pub limit: NanoRho,
    /// What is spent.
    pub spent: NanoRho,
    /// When the longest period that any of them states began.
    pub start: Timestamp,
    /// When it is whole again.
    pub renews: Timestamp,
}

impl Admin {
    /// Every privacy budget of the products on offer, by department, datasets and purpose.
    pub fn budgets(&self, now: Timestamp) -> Result<Vec<BudgetStanding>, AdminError> {
        let register = Shelf::default().now(self.connection())?;
        let mut sharing = BTreeMap::<LedgerName, Vec<ProductName>>::new();
        for product in register.products().map(|r| &r.product) {
            for budget in &product.budgets {
                let ledger = LedgerName::of(&product.department, budget);
                sharing
                    .entry(ledger)
                    .or_default()
                    .push(product.name.clone());
            }
        }
        let all = sharing.into_iter().filter_map(|(ledger, products)| {
            let terms = ledger.terms(&register, now)?;
            Some(self.standing(ledger, products, terms))
        });
        all.collect()
    }

    fn standing(
        &self,
        ledger: LedgerName,
        products: Vec<ProductName>,
        terms: Terms,
    ) -> Result<BudgetStanding, AdminError> {
        let Standing { spent, renews } = ledger::standing(self.connection(), &ledger, &terms)?;
        Ok(BudgetStanding {
            department: ledger.department,
            datasets: ledger.datasets,
            purpose: ledger.purpose,
            products,
            limit: terms.limit,
            spent,
            start: terms.start,
            renews,
        })
    }

    /// Checks that the whole ledger of privacy budgets adds up, and that it and the log, whose
    /// chain is checked on the way, bear each other out.
    pub fn verify_ledger(&self) -> Result<LedgerSum, AdminError> {
        Ok(check::check(self.connection())?)
    }
}
