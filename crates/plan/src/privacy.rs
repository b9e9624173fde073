//! What `EXPLAIN PRIVACY` tells of a question before it is asked: its lane, the rule and the error of each column, what
//! it costs, and what is likely to be withheld. Nothing is asked of a node for it, and nothing of it depends on data.

use crate::planner::{PlanError, SYNTHETIC};
use crate::remote::{Cells, RemoteFragment};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use guildhall_accuracy::dp::{Delta, Rho, epsilon_at};
use guildhall_accuracy::{ERROR_METADATA, RULE_METADATA, cube};
use guildhall_grant::product::Budget;
use guildhall_model::{ProductRef, Purpose, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cube::Refusal;

/// One line of `EXPLAIN PRIVACY`. It holds no literal of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivacyFact {
    /// The product that it is about, or those of several owners whose cells are put together; empty for the whole
    /// statement and for columns of its answer.
    pub product: String,
    /// The column of the answer that it is about, if it is about one.
    pub column: String,
    /// What is told: `rows`, `lane`, `mode`, `rule`, `error`, `cost`, `remaining`, `withheld`, `refused` or `instead`.
    pub what: &'static str,
    /// What there is to tell.
    pub detail: String,
}

/// What a question will cost if it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Of which product.
    pub product: ProductRef,
    /// Whose budget for which purpose is charged.
    pub purpose: Purpose,
    /// In billionths of rho, if the same question was not paid for in this period.
    pub nano_rho: u64,
}

/// What is told of the privacy of one question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Privacy {
    /// All that the plan tells.
    pub facts: Vec<PrivacyFact>,
    /// What is charged, product by product; what remains of these budgets their authorities know.
    pub costs: Vec<Cost>,
}

/// A privacy budget as its authority has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The most that may be spent in a period, in billionths of rho.
    pub limit: u64,
    /// What is spent of it.
    pub spent: u64,
    /// When it is whole again.
    pub renews: Timestamp,
}

/// The columns of `EXPLAIN PRIVACY`.
#[must_use]
pub fn privacy_schema() -> SchemaRef {
    let fields = ["product", "column", "what", "detail"];
    let fields = fields.map(|name| Field::new(name, DataType::Utf8, true));
    Arc::new(Schema::new(fields.to_vec()))
}

impl Privacy {
    /// The facts as rows of [`privacy_schema`]; NULL where there is no product or column.
    pub fn batch(&self) -> Result<RecordBatch, PlanError> {
        let column = |of: fn(&PrivacyFact) -> &str| -> ArrayRef {
            let some = |f| Some(of(f)).filter(|text: &&str| !text.is_empty());
            Arc::new(self.facts.iter().map(some).collect::<StringArray>())
        };
        let columns = vec![
            column(|f| &f.product),
            column(|f| &f.column),
            column(|f| f.what),
            column(|f| &f.detail),
        ];
        RecordBatch::try_new(privacy_schema(), columns).map_err(|e| PlanError::Internal {
            doing: "explained",
            source: e.into(),
        })
    }

    /// Adds what remains of the budget that `cost` is charged to; none if its authority did not tell.
    pub fn add_standing(&mut self, cost: &Cost, standing: Option<&Standing>) {
        let Some(standing) = standing else {
            let detail = "the authority did not tell".to_owned();
            return self.add(&cost.product, "remaining", detail);
        };
        let left = standing.limit.saturating_sub(standing.spent);
        self.add(
            &cost.product,
            "remaining",
            format!(
                "{} of {} for `{}` until {}; what is spent comes to epsilon {:.3} of {:.3} at a delta of {}",
                rho(left),
                rho(standing.limit),
                cost.purpose,
                standing.renews,
                epsilon(standing.spent),
                epsilon(standing.limit),
                Delta::ONE_IN_A_MILLION,
            ),
        );
        if left < cost.nano_rho {
            let detail = format!(
                "budget: what remains does not cover a question that was not paid for; it is whole again at {}",
                standing.renews
            );
            self.add(&cost.product, "refused", detail);
        }
    }

    fn add(&mut self, product: &ProductRef, what: &'static str, detail: String) {
        self.tell(&product.to_string(), "", what, detail);
    }

    fn tell(&mut self, product: &str, column: &str, what: &'static str, detail: impl Into<String>) {
        self.facts.push(PrivacyFact {
            product: product.to_owned(),
            column: column.to_owned(),
            what,
            detail: detail.into(),
        });
    }
}

/// `nano` billionths of rho in words.
#[must_use]
pub fn rho(nano: u64) -> String {
    Rho::from_nano(nano).to_string()
}

/// The epsilon that `nano` billionths of rho come to at a delta of one in a million.
#[must_use]
pub fn epsilon(nano: u64) -> f64 {
    epsilon_at(Rho::from_nano(nano), Delta::ONE_IN_A_MILLION)
}

/// What is told of a question that a rule stands against.
pub(crate) fn of_refused(refusal: &Refusal) -> Privacy {
    let mut privacy = Privacy::default();
    privacy.tell("", "", "lane", "none: it is refused");
    privacy.tell("", "", "rule", refusal.rule);
    privacy.tell("", "", "refused", refusal.reason.as_str());
    if !refusal.instead.is_empty() {
        privacy.tell("", "", "instead", refusal.instead.as_str());
    }
    privacy
}

/// What is told of a cut plan, whose answer has the columns `answer`; for development it is answered from synthetic
/// twins, and costs nothing.
pub(crate) fn of_plan(plan: &LogicalPlan, answer: &Schema, synthetic: bool) -> Privacy {
    let mut privacy = Privacy::default();
    let (mut open, mut cells_asked) = (BTreeSet::new(), false);
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(e) = node
            && let Some(part) = e.node.as_any().downcast_ref::<RemoteFragment>()
        {
            match &part.cells {
                Some(cells) => {
                    cells_asked = true;
                    of_cells(cells, synthetic, &mut privacy);
                }
                None => open.extend(part.fragment.products.iter().map(|p| {
                    let council = &part.fragment.node.council;
                    format!("{council}.{}.{}", p.department, p.product)
                })),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok());
    for product in open {
        privacy.tell(&product, "", "lane", "open: its rows may leave as they are");
        privacy.tell(&product, "", "cost", "nothing");
    }
    if cells_asked {
        of_columns(answer, &mut privacy);
    }
    if privacy.facts.is_empty() {
        privacy.tell("", "", "lane", "none: nothing is asked of a department");
    } else if synthetic {
        let detail =
            "synthetic: made up of what products declare; no data are read, and no key is lent";
        privacy.tell("", "", "rows", detail);
        privacy.facts.rotate_right(1);
    }
    privacy
}

/// The rule and the error of each column of an answer, where it is as it was released.
fn of_columns(answer: &Schema, privacy: &mut Privacy) {
    for field in answer.fields() {
        let told = |key: &str| field.metadata().get(key).cloned();
        match (told(RULE_METADATA), told(ERROR_METADATA)) {
            (Some(rule), Some(error)) => {
                privacy.tell("", field.name(), "rule", rule);
                privacy.tell("", field.name(), "error", error);
            }
            (Some(rule), None) if rule == SYNTHETIC => {
                privacy.tell("", field.name(), "rule", rule);
            }
            _ => {
                let rule = "none of its own: the gateway works it out from what was released";
                privacy.tell("", field.name(), "rule", rule);
            }
        }
    }
}

fn of_cells(cells: &Cells, synthetic: bool, privacy: &mut Privacy) {
    let names = cells.products.iter().map(|p| p.product.product_ref());
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    let name = names.join(", ");
    let free = cells.products.first().filter(|_| cells.free);
    let free = free.and_then(|p| Some((p.product.product_ref(), p.budget.as_ref()?)));
    if let Some((product, budget)) = free {
        return of_free(product, budget, synthetic, privacy);
    }
    let lane = "cube: registered dimensions and measures, thresholds and cell-key noise";
    privacy.tell(&name, "", "lane", lane);
    if let Some(council) = &cells.room {
        let owners = cells.products.len();
        let linked = format!(
            "linked: {owners} owners send rows to the clean room of {council}, each under tokens that mean nothing after this \
             question; they meet there and cells of them are released"
        );
        let joint = format!(
            "joint: {owners} owners send their parts of each cell to the clean room of {council}, which puts them together \
             and releases the whole"
        );
        let mode = if cells.linked { linked } else { joint };
        privacy.tell(&name, "", "mode", mode);
    }
    privacy.tell(&name, "", "cost", "nothing: it may be asked without limit");
    for (rule, what) in cube::withheld(cells.minimum_group()) {
        privacy.tell(&name, "", "withheld", format!("{rule}: {what}"));
    }
}

fn of_free(product: ProductRef, budget: &Budget, synthetic: bool, privacy: &mut Privacy) {
    let name = product.to_string();
    let lane = "ad hoc: free conditions, differential privacy";
    privacy.tell(&name, "", "lane", lane);
    if synthetic {
        privacy.tell(&name, "", "cost", "nothing: no data are asked");
    } else {
        privacy.tell(&name, "", "cost", cost(budget));
    }
    let withheld = "nothing: every registered cell is told, also those that nobody is in";
    privacy.tell(&name, "", "withheld", withheld);
    if !synthetic {
        privacy.costs.push(Cost {
            product,
            purpose: budget.purpose.clone(),
            nano_rho: budget.per_query.get(),
        });
    }
}

fn cost(budget: &Budget) -> String {
    format!(
        "{}, debited before it is answered and never given back; nothing if the same question was paid for in this {}",
        rho(budget.per_query.get()),
        budget.period
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost() -> Cost {
        Cost {
            product: ProductRef {
                council: "northmoor".parse().unwrap(),
                department: "parking".parse().unwrap(),
                product: "stays".parse().unwrap(),
            },
            purpose: "planning".parse().unwrap(),
            nano_rho: 2_000_000,
        }
    }

    fn standing(spent: u64) -> Privacy {
        let mut privacy = Privacy::default();
        let standing = Standing {
            limit: 50_000_000,
            spent,
            renews: Timestamp::from_micros(0),
        };
        privacy.add_standing(&cost(), Some(&standing));
        privacy
    }

    #[test]
    fn what_remains_is_told_in_rho_and_epsilon() {
        let privacy = standing(10_000_000);
        let [fact] = privacy.facts.as_slice() else {
            panic!("{privacy:?}");
        };
        assert_eq!(fact.product, "northmoor.parking.stays");
        assert!(
            fact.detail
                .starts_with("rho 0.04 of rho 0.05 for `planning`"),
            "{}",
            fact.detail
        );
        assert!(
            fact.detail.contains("of 1.712 at a delta of 0.000001"),
            "{}",
            fact.detail
        );
    }

    #[test]
    fn a_budget_that_does_not_reach_is_told_as_a_refusal() {
        let whats = |p: Privacy| p.facts.iter().map(|f| f.what).collect::<Vec<_>>();
        assert_eq!(whats(standing(48_000_000)), ["remaining"]);
        assert_eq!(whats(standing(48_000_001)), ["remaining", "refused"]);
    }
}
