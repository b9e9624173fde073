//! The node's own plan of a free question: what one unit may add to it is bounded before anything is added up.
//!
//! From rows that meet the predicates a row for each unit in each registered cell, with totals clamped as the product
//! says ([`CellFacts`]); of these as many for each unit as the budget's policy lets count, chosen by a keyed hash of
//! unit and cell, so that which of one unit's cells count depends on no other unit; then sums. Every sum is bounded as
//! the rule's [`Plan`] assumes, and noise is added at the gate.

use super::facts::{CellFacts, numbered, plain};
use super::functions::record_key;
use super::guarded::guarded;
use super::patterns::snapshot;
use super::total::total;
use crate::engine::Engine;
use crate::error::RunError;
use arrow::datatypes::DataType;
use datafusion::DATAFUSION_VERSION;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::functions::expr_fn::concat_ws;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, lit, try_cast,
};
use guildhall_cube::internal;
use guildhall_disclosure::dp::{Bounds, Groups, Plan, Rho};
use guildhall_disclosure::{AdHocColumn, AdHocRule, AdHocValue, Draws, Grid, NoiseSecret};
use guildhall_grant::product::Budget;
use guildhall_model::{DatasetName, Digest, ProductName};
use guildhall_plan::adhoc::AdHocQuery;
use guildhall_plan::cube::CubeAgg;
use guildhall_store::SealedDataset;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a draw is made of, for the sake of secrets: another use of the same bytes has another name.
const DRAWS: &str = "ad hoc draws";
const TRUNCATION: &str = "ad hoc truncation";
/// Between parts of text that are hashed together.
const BETWEEN: &str = "\u{1f}";

/// A free question over the relation of its product.
#[derive(Debug)]
pub(super) struct AdHoc<'a> {
    pub(super) query: &'a AdHocQuery,
    pub(super) facts: CellFacts<'a>,
    pub(super) budget: &'a Budget,
    /// Whether each value has a companion that says what was done to it. It is no part of the question that is charged.
    pub(super) cell_status: bool,
}

/// A free question that is ready to be charged, and then run.
pub(crate) struct PlannedAdHoc {
    pub(super) plan: LogicalPlan,
    pub(super) rule: AdHocRule,
    pub(super) charge: Charge,
}

/// What is debited before a key is borrowed.
#[derive(Debug, Clone)]
pub(super) struct Charge {
    pub(super) product: ProductName,
    pub(super) nano_rho: u64,
    /// Of all that the answer is a function of. The same one has been paid for.
    pub(super) question: Digest,
}

impl AdHoc<'_> {
    /// The plan, its rule and its charge: nothing of the data is needed for them.
    pub(super) fn planned(
        &self,
        relation: LogicalPlan,
        datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>,
        engine: &Engine,
    ) -> Result<PlannedAdHoc, RunError> {
        let rule = self.rule(datasets)?;
        let charge = Charge {
            product: self.facts.product.name.clone(),
            nano_rho: rule.plan.charge().rho.nano(),
            question: question(&rule),
        };
        let plan = engine.optimise(&self.plan(relation, engine)?)?;
        Ok(PlannedAdHoc { plan, rule, charge })
    }

    fn rule(
        &self,
        datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>,
    ) -> Result<AdHocRule, RunError> {
        let cells = self.budget.cells_per_unit;
        let mut bounds = Vec::new();
        if self.counts_units() {
            bounds.push(Bounds::units(cells)?);
        }
        bounds.extend(self.facts.bounds(cells)?);
        let rho = Rho::from_nano(self.budget.per_query.get());
        Ok(AdHocRule {
            plan: Plan::new(rho, &bounds, Groups::Registered)?,
            draws: Draws {
                secret: self.facts.secret_for(DRAWS),
                question: *self.digest().as_bytes(),
                snapshot: *snapshot(datasets).as_bytes(),
            },
            grid: self.grid()?,
            columns: self.columns()?,
            cell_status: self.cell_status,
        })
    }

    /// The digest of the admitted question over this version of the product, as this version of the engine has it:
    /// one that answers another way would show the difference under the same noise.
    fn digest(&self) -> Digest {
        let product = self.facts.product;
        let mut text = DATAFUSION_VERSION.as_bytes().to_vec();
        text.push(0);
        text.extend_from_slice(&product.version.to_le_bytes());
        text.extend_from_slice(product.definition.as_bytes());
        text.extend_from_slice(self.query.form());
        Digest::of(&text)
    }

    fn grid(&self) -> Result<Grid, RunError> {
        let keys = self.query.cells().keys.iter().map(|key| {
            let dimension = self.facts.product.dimension(key.column.as_str());
            let values = dimension.map(|d| d.values.clone()).unwrap_or_default();
            (key.data_type.clone(), values)
        });
        Ok(Grid::new(&keys.collect::<Vec<_>>())?)
    }

    /// Whether the first statistic is a count of units; the totals of the facts follow.
    fn counts_units(&self) -> bool {
        let mut told = self.query.cells().aggregates.iter();
        told.any(|a| a.aggregate == CubeAgg::CountUnits)
    }

    fn columns(&self) -> Result<Vec<AdHocColumn>, DataFusionError> {
        let first = usize::from(self.counts_units());
        let after = |total: usize| total.saturating_add(first);
        let keys = self.query.cells().keys.iter().enumerate();
        let keys = keys.map(|(at, key)| {
            Ok(AdHocColumn {
                name: key.name.clone(),
                data_type: key.data_type.clone(),
                value: AdHocValue::Key(at),
            })
        });
        let totals = self.facts.totals();
        let told = self.query.cells().aggregates.iter().map(|told| {
            let value = match &told.aggregate {
                CubeAgg::CountUnits => AdHocValue::Statistic(0),
                CubeAgg::CountRows => AdHocValue::Statistic(after(totals.rows()?)),
                CubeAgg::CountMeasure(c) => AdHocValue::Statistic(after(totals.values(c)?)),
                CubeAgg::Sum(c) => AdHocValue::Statistic(after(totals.sum(c)?)),
                CubeAgg::Avg(c) => AdHocValue::Mean {
                    sum: after(totals.sum(c)?),
                    count: after(totals.values(c)?),
                },
            };
            Ok(AdHocColumn {
                name: told.name.clone(),
                data_type: told.data_type.clone(),
                value,
            })
        });
        keys.chain(told).collect()
    }

    /// One row for each cell that is present: its keys and its statistics.
    fn plan(&self, relation: LogicalPlan, engine: &Engine) -> Result<LogicalPlan, DataFusionError> {
        let keys = &self.query.cells().keys;
        let columns = keys.iter().map(|k| self.facts.column(&k.column)).collect();
        let groups: Vec<Expr> = (0..keys.len()).map(|at| numbered("key", at)).collect();
        let rows = self.rows(relation, engine)?;
        let per_unit = self.facts.per_unit(rows, columns, &groups)?;
        let counted = self.truncated(per_unit, &groups)?;
        let units = self.counts_units();
        let units = units.then(|| count(lit(1_i64)).alias("units"));
        let totals = (0..self.facts.totals().count()).map(|at| {
            let all = sum(numbered("total", at));
            all.alias(format!("sum{at}"))
        });
        let plan = LogicalPlanBuilder::from(counted)
            .aggregate(groups, units.into_iter().chain(totals).collect::<Vec<_>>())?
            .build()?;
        total(engine.analysed(plan)?)
    }

    /// The rows that are asked for, of registered cells.
    fn rows(&self, relation: LogicalPlan, engine: &Engine) -> Result<LogicalPlan, DataFusionError> {
        let mut rows = total(engine.analysed(relation)?)?;
        for predicate in self.query.predicates() {
            let predicate = predicate.clone().transform_up(|e| {
                Ok(match e {
                    Expr::Column(c) => Transformed::yes(self.facts.named(&c.name)),
                    other => Transformed::no(other),
                })
            })?;
            let filter = LogicalPlanBuilder::from(rows).filter(predicate.data)?;
            rows = guard(total(engine.analysed(filter.build()?)?)?, engine)?;
        }
        for key in &self.query.cells().keys {
            let dimension = self.facts.product.dimension(key.column.as_str());
            let values = dimension.map(|d| d.values.as_slice()).unwrap_or_default();
            let typed = values.iter().map(|v| {
                let value = ScalarValue::from(v.as_str()).cast_to(&key.data_type)?;
                Ok(lit(value))
            });
            let typed = typed.collect::<Result<Vec<_>, DataFusionError>>()?;
            let registered = self.facts.column(&key.column).in_list(typed, false);
            rows = LogicalPlanBuilder::from(rows).filter(registered)?.build()?;
        }
        Ok(rows)
    }

    /// No more cells of one unit than count, whichever other units there are.
    fn truncated(
        &self,
        per_unit: LogicalPlan,
        groups: &[Expr],
    ) -> Result<LogicalPlan, DataFusionError> {
        if groups.is_empty() {
            return Ok(per_unit);
        }
        let secret = self.facts.secret_for(TRUNCATION);
        let text = |e: Expr| try_cast(e, DataType::Utf8);
        let cell = std::iter::once(plain("unit")).chain(groups.iter().cloned());
        let cell = concat_ws(lit(BETWEEN), cell.map(text).collect());
        let hashed = record_key(&secret, TRUNCATION, cell);
        let order = std::iter::once(hashed).chain(groups.iter().cloned());
        let place = row_number()
            .partition_by(vec![plain("unit")])
            .order_by(order.map(|e| e.sort(true, false)).collect())
            .build()?
            .alias("place");
        let counts = plain("place").lt_eq(lit(u64::from(self.budget.cells_per_unit)));
        LogicalPlanBuilder::from(per_unit)
            .window([place])?
            .filter(counts)?
            .build()
    }
}

/// A filter whose predicate never fails.
fn guard(plan: LogicalPlan, engine: &Engine) -> Result<LogicalPlan, DataFusionError> {
    let LogicalPlan::Filter(filter) = plan else {
        return Err(internal("a filter that was planned away"));
    };
    let input = Arc::unwrap_or_clone(filter.input);
    let predicate = guarded(filter.predicate, input.schema(), &engine.state())?;
    LogicalPlanBuilder::from(input).filter(predicate)?.build()
}

/// The digest of all that an answer is a function of: question, data, secret, bounds and cost.
///
/// A new secret makes new draws, so it makes every question a new one. Without the secret nobody can tell a question by
/// its digest.
fn question(rule: &AdHocRule) -> Digest {
    let Draws {
        secret,
        question,
        snapshot,
    } = &rule.draws;
    let mut text = b"guildhall ad hoc charge 1".to_vec();
    text.extend_from_slice(&NoiseSecret::fingerprint(secret));
    for share in rule.plan.shares() {
        // Of stated length: it holds question, snapshot, bounds and cost, and no cell.
        let context = share.draw_context(question, snapshot, &[]);
        text.extend_from_slice(&(context.len() as u64).to_le_bytes());
        text.extend_from_slice(&context);
    }
    Digest::of(&text)
}
