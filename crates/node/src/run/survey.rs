//! What a product's rows would give under its rules: counted at the node, for the owner's own eyes.
//!
//! The tables of cells are those of the cube lane itself, gathered, weighed and judged by the same code, in one pass over
//! the rows for each. Beside them there are four passes over the rows: columns, pairs of dimensions, and what bounds do to units' parts at both ends of the lattice. Memory is the
//! engine's own bounded pool and [`MOST_CELLS`] cells.

mod numbers;
mod passes;

use super::cells::{Cells, Key, asked};
use super::facts::CellFacts;
use super::lattice::Lattice;
use super::total::total;
use crate::check::{StatisticSurvey, Survey, TableSurvey};
use crate::engine::Engine;
use crate::error::RunError;
use crate::product::View;
use arrow::array::{Array, RecordBatch};
use datafusion::common::{Column, DataFusionError, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt as _;
use guildhall_cube::{Question, internal};
use guildhall_disclosure::{CellFate, CellRule, Coordinate, Facts, Fate, Margins, NoiseSecret};
use guildhall_grant::product::{Dimension, Product, RollUpKind};
use guildhall_model::ColumnName;
use guildhall_plan::cube::{CubeAgg, CubeQuery};
use numbers::{column_numbers, encodable};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most cells that are held at once; a table beyond it is left out.
const MOST_CELLS: usize = 500_000;

/// A product whose rows can be read, and what they are read with.
pub(crate) struct Surveyor<'a> {
    pub(crate) product: &'a Product,
    pub(crate) view: &'a View,
    /// The product's relation, its columns named by `name`.
    pub(crate) relation: LogicalPlan,
    pub(crate) name: TableReference,
    pub(crate) secret: &'a NoiseSecret,
    pub(crate) engine: &'a Engine,
}

impl Surveyor<'_> {
    /// Counts everything.
    pub(crate) async fn survey(&self) -> Result<Survey, RunError> {
        let mut survey = self.columns().await?;
        let dimensions: Vec<&Dimension> = self.product.dimensions.iter().collect();
        if dimensions.len() > 1 {
            survey.pairs = self.pairs(&dimensions).await?;
        }
        survey.parts.push(self.parts(&[]).await?);
        if !dimensions.is_empty() {
            survey.parts.push(self.parts(&dimensions).await?);
        }
        survey.units = survey.parts.first().map_or(0, |whole| whole.units);
        for keys in tables(self.product) {
            match self.table(&keys, &survey.tables).await {
                Ok(table) => survey.tables.push(table),
                Err(error) => survey.left_out.push(left_out(&keys, &error)),
            }
        }
        Ok(survey)
    }

    /// What becomes of the cells of one table.
    async fn table(
        &self,
        keys: &[Key<'_>],
        before: &[TableSurvey],
    ) -> Result<TableSurvey, RunError> {
        let query = self.query(keys)?;
        let cells = Cells {
            question: Question::new(&query, self.product, self.view.schema())?,
            facts: CellFacts::new(&query, self.product, self.view, &self.name, self.secret)?,
        };
        let lattice = Lattice::of(&cells, self.relation.clone(), self.engine)?;
        let (layout, first_fact) = (lattice.facts.clone(), lattice.first_fact());
        let steps = lattice
            .axes
            .iter()
            .map(|a| a.coarser.first().map_or(0, Vec::len));
        let steps: Vec<usize> = steps.collect();
        let known = Arc::new(lattice).work_out(self.engine).await?;
        let finest = &known.cells;
        let mut next = 0_usize;
        let mut own = Vec::new();
        for above in steps {
            own.push(next);
            next = next.saturating_add(above).saturating_add(1);
        }
        let rule = CellRule {
            facts: layout,
            first_fact,
            keys: own.clone(),
            columns: Vec::new(),
            margins: Margins {
                pattern: Arc::clone(&known.pattern),
                coordinates: own.iter().map(|at| Coordinate::Column(*at)).collect(),
            },
            cell_status: false,
        };
        let alone = |column: &ColumnName| {
            let mut single = before.iter().filter(|t| t.roll_up.is_none());
            let of = single.find(|t| t.keys == [column.clone()]);
            of.map_or(1, |t| t.cells)
        };
        let firsts = cells.question.axes.iter().filter_map(|a| a.levels.first());
        let possible = match keys.len() {
            1 => finest.num_rows() as u64,
            _ => firsts
                .map(|l| alone(&l.column))
                .fold(1, u64::saturating_mul),
        };
        let table = weighed(&rule, finest, self.product)?;
        Ok(TableSurvey {
            keys: keys.iter().map(|k| k.of.column.clone()).collect(),
            roll_up: keys.iter().find_map(|k| Some(k.roll_up?.name.clone())),
            possible,
            ..table
        })
    }

    /// Units, rows and the total of every measure by `keys`.
    fn query(&self, keys: &[Key<'_>]) -> Result<CubeQuery, DataFusionError> {
        let measures = self.product.measures.iter();
        let sums = measures.map(|m| CubeAgg::Sum(m.column.clone()));
        let told = [CubeAgg::CountUnits, CubeAgg::CountRows].into_iter();
        asked(self.product, self.view.schema(), keys, told.chain(sums))
    }

    /// Runs a plan, all of it total; gives what it gives as one batch.
    async fn run(&self, plan: LogicalPlan) -> Result<RecordBatch, RunError> {
        let plan = total(self.engine.analysed(plan)?)?;
        let plan = self.engine.optimise(&plan)?;
        let (physical, context) = self.engine.physical(&plan).await?;
        let schema = physical.schema();
        let mut batches = execute_stream(physical, context)?;
        let (mut all, mut rows) = (Vec::new(), 0_usize);
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            rows = rows.saturating_add(batch.num_rows());
            if rows > MOST_CELLS {
                return Err(RunError::TooManyCells { most: MOST_CELLS });
            }
            all.push(batch);
        }
        encodable(arrow::compute::concat_batches(&schema, &all))
    }

    fn unit(&self) -> Result<Expr, DataFusionError> {
        let unit = self.product.unit.as_ref();
        let unit = unit.ok_or_else(|| internal("a product of cells has no unit"))?;
        Ok(self.column(unit))
    }

    fn column(&self, name: &ColumnName) -> Expr {
        let column = Column::new(Some(self.name.clone()), name.as_str());
        Expr::Column(column)
    }
}

/// Each dimension alone and by its roll-ups in time, each two, and all of them.
fn tables(product: &Product) -> Vec<Vec<Key<'_>>> {
    let dimensions = &product.dimensions;
    let own = |of| Key { of, roll_up: None };
    let pick = |set: Vec<usize>| {
        let picked = set.into_iter().filter_map(|at| dimensions.get(at).map(own));
        picked.collect::<Vec<_>>()
    };
    let alone = dimensions.iter().flat_map(|of| {
        let truncs = of.roll_ups.iter();
        let truncs = truncs.filter(|r| matches!(r.kind, RollUpKind::DateTrunc(_)));
        let roll_ups = std::iter::once(None).chain(truncs.map(Some));
        roll_ups.map(move |roll_up| vec![Key { of, roll_up }])
    });
    let mut sets: Vec<_> = alone
        .chain(twos(dimensions.len()).into_iter().map(pick))
        .collect();
    if dimensions.len() > 2 {
        sets.push(dimensions.iter().map(own).collect());
    }
    sets
}

fn twos(of: usize) -> Vec<Vec<usize>> {
    let pairs = (0..of).flat_map(|one| (one.saturating_add(1)..of).map(move |other| [one, other]));
    pairs.map(Vec::from).collect()
}

/// A table's cells, judged.
fn weighed(
    rule: &CellRule,
    cells: &RecordBatch,
    product: &Product,
) -> Result<TableSurvey, RunError> {
    let fates = rule.fates(cells)?;
    let fact = |at: usize| column_numbers(cells.column(rule.first_fact.saturating_add(at)));
    let units = fact(rule.facts.units.count)?;
    let rows = rule.facts.totals.first().map(|rows| fact(rows.sum));
    let rows = rows.transpose()?.unwrap_or_default();
    let of = |numbers: &[u64], told: &dyn Fn(Fate) -> bool| {
        let cells = fates.iter().zip(numbers);
        let told = cells.filter(|(fate, _)| told(fate.units));
        told.map(|(_, n)| *n).fold(0, u64::saturating_add)
    };
    let is = |which: Fate| move |fate: Fate| fate == which;
    let key = rule.keys.first().map(|at| cells.column(*at));
    let null_fails = key.filter(|_| rule.keys.len() == 1).is_some_and(|key| {
        let fails = |fate: Fate| matches!(fate, Fate::FewUnits | Fate::Noise);
        let mut all = fates.iter().enumerate();
        all.any(|(row, fate)| key.is_null(row) && fails(fate.units))
    });
    Ok(TableSurvey {
        keys: Vec::new(),
        roll_up: None,
        cells: cells.num_rows() as u64,
        possible: 0,
        units: of(&units, &|_| true),
        units_told: of(&units, &is(Fate::Published)),
        rows: of(&rows, &|_| true),
        rows_told: of(&rows, &is(Fate::Published)),
        units_for_margins: of(&units, &is(Fate::Margins)),
        null_fails,
        statistics: statistics(&rule.facts, &fates, product),
    })
}

fn statistics(facts: &Facts, fates: &[CellFate], product: &Product) -> Vec<StatisticSurvey> {
    let measures = product
        .measures
        .iter()
        .map(|m| format!("sum of {}", m.column));
    let names = ["units".to_owned(), "rows".to_owned()]
        .into_iter()
        .chain(measures);
    let numbered = names.take(facts.totals.len().saturating_add(1)).enumerate();
    numbered
        .map(|(at, name)| {
            let mut counted = BTreeMap::new();
            for fate in fates {
                let told = match at.checked_sub(1) {
                    None => Some(fate.units),
                    Some(total) => fate.totals.get(total).copied(),
                };
                if let Some(told) = told {
                    let count: &mut u64 = counted.entry(told).or_default();
                    *count = count.saturating_add(1);
                }
            }
            StatisticSurvey {
                name,
                fates: counted,
            }
        })
        .collect()
}

fn left_out(keys: &[Key<'_>], error: &RunError) -> String {
    let names: Vec<&str> = keys.iter().map(|k| k.of.column.as_str()).collect();
    let why = error.to_string();
    format!("by {}: {why}", names.join(", "))
}

#[cfg(test)]
mod tests;
