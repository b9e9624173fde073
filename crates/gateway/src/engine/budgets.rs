//! What is left of privacy budgets, as the councils' authorities tell it.

use super::{Engine, plan_error};
use crate::credential::Caller;
use crate::error::DoorError;
use arrow::array::RecordBatch;
use futures::future::join_all;
use guildhall_model::{CouncilName, Purpose, Timestamp};
use guildhall_plan::privacy::{Cost, Privacy, Standing};
use guildhall_proto::authority::v1::ProductBudget;
use std::collections::{BTreeMap, BTreeSet};

impl Engine {
    /// What `EXPLAIN PRIVACY` tells, with what remains of each budget that would be charged. Nothing is debited.
    pub(super) async fn with_standings(
        &self,
        caller: &Caller,
        privacy: &Privacy,
    ) -> Result<RecordBatch, DoorError> {
        let asked = privacy.costs.iter();
        let asked: BTreeSet<(&CouncilName, &Purpose)> =
            asked.map(|c| (&c.product.council, &c.purpose)).collect();
        let told = asked.into_iter().map(|(council, purpose)| async move {
            let credential = caller.credential.clone();
            let told = self.0.backend.budgets(council, credential, purpose).await;
            // One that does not tell is no reason to tell nothing.
            ((council, purpose), told.unwrap_or_default())
        });
        let told: BTreeMap<_, _> = join_all(told).await.into_iter().collect();
        let mut privacy = privacy.clone();
        for cost in privacy.costs.clone() {
            let budgets = told.get(&(&cost.product.council, &cost.purpose));
            let standing = budgets.and_then(|all| all.iter().find(|b| is_of(b, &cost)));
            privacy.add_standing(&cost, standing.map(standing_of).as_ref());
        }
        privacy.batch().map_err(|e| plan_error(e, None))
    }
}

fn is_of(budget: &ProductBudget, cost: &Cost) -> bool {
    budget.department == cost.product.department.as_str()
        && budget.product == cost.product.product.as_str()
}

fn standing_of(budget: &ProductBudget) -> Standing {
    Standing {
        limit: budget.limit_nano_rho,
        spent: budget.spent_nano_rho,
        renews: Timestamp::from_micros(budget.period_end_us),
    }
}
