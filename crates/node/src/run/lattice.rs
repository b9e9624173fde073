//! How the tables of a lattice are made: rows are read, gathered by their units, and counted in every table.
//!
//! The rows are read once, or in several passes for the units of a share each, which takes less memory. What comes of
//! it is the same.

use super::cells::Cells;
use super::facts::CellFacts;
use super::kept::{Kept, KeptTable};
use super::total::total;
use crate::engine::{Engine, dealt};
use crate::error::RunError;
use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt as _;
use guildhall_cube::{Known, TotalOf, internal, levels};
use guildhall_disclosure::joint::Tables;
use guildhall_disclosure::{
    Adds, Axis, Facts, Gathered, Gathering, NoiseSecret, ReleaseError, Tally, keys_of,
};
use guildhall_model::ColumnName;
use guildhall_plan::cube::CubeLevel;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// The most cells of one table: beyond it hardly any stands on more than one unit.
pub(super) const MAX_CELLS: usize = 2_000_000;

/// What is added up, by which tables are found again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TotalKey {
    Rows,
    Sum(ColumnName),
    Values(ColumnName),
}

impl TotalKey {
    /// Those of the facts, in their order.
    fn all(facts: &CellFacts<'_>) -> Vec<Self> {
        let key = |of: TotalOf<'_>| match of {
            TotalOf::Rows => Self::Rows,
            TotalOf::Sum(measure) => Self::Sum(measure.column.clone()),
            TotalOf::Values(measure) => Self::Values(measure.column.clone()),
        };
        facts.totals().iter().map(key).collect()
    }
}

/// What making the tables of a lattice may take.
#[derive(Debug, Clone)]
pub(crate) struct Effort {
    /// How often the rows are read, each time for other units.
    pub(crate) passes: usize,
    /// The most of the finest cells.
    pub(crate) most_cells: usize,
    /// What memory is accounted to; the engine's own if none.
    pub(crate) pool: Option<Arc<dyn MemoryPool>>,
    /// The most bytes that were accounted to that pool.
    pub(crate) peak: Arc<AtomicUsize>,
}

impl Default for Effort {
    /// That of a question.
    fn default() -> Self {
        Self {
            passes: 1,
            most_cells: MAX_CELLS,
            pool: None,
            peak: Arc::default(),
        }
    }
}

/// What it takes to work a pattern out: an optimised plan of rows, and what is made of them.
#[derive(Debug)]
pub(crate) struct Lattice {
    pub(crate) axes: Vec<Axis>,
    /// The levels of each axis, as the question has them.
    pub(crate) levels: Vec<Vec<CubeLevel>>,
    pub(crate) totals: Vec<TotalKey>,
    pub(crate) facts: Facts,
    pub(crate) adds: Vec<Adds>,
    pub(crate) secret: NoiseSecret,
    /// For each row its keys at every level of every axis, whose it is, and its values.
    pub(crate) plan: LogicalPlan,
    /// Of the finest table's columns those that say where a cell lies, and the axes and levels of the others that name it.
    pub(crate) places: usize,
    pub(crate) more: Vec<(usize, usize)>,
}

impl Lattice {
    /// That of `cells` over the relation of their product.
    pub(super) fn of(
        cells: &Cells<'_>,
        relation: LogicalPlan,
        engine: &Engine,
    ) -> Result<Self, DataFusionError> {
        let (places, more) = cells.question.places();
        // Invariant: nothing that rows hold makes a question of cells fail.
        let rows = total(engine.analysed(cells.rows(relation)?)?)?;
        let axes = cells.question.axes.iter();
        Ok(Self {
            axes: cells.question.axes()?,
            levels: axes.map(|a| a.levels.clone()).collect(),
            totals: TotalKey::all(&cells.facts),
            adds: cells.facts.adds()?,
            secret: cells.facts.secret().clone(),
            plan: engine.optimise(&rows)?,
            facts: cells.facts.layout()?,
            places,
            more,
        })
    }

    /// The first column of the finest table that is a fact.
    pub(super) fn first_fact(&self) -> usize {
        self.places.saturating_add(self.more.len())
    }

    /// Makes its tables, and finds which of their cells are withheld.
    pub(crate) async fn work_out(self: Arc<Self>, engine: &Engine) -> Result<Arc<Known>, RunError> {
        let kept = self.kept(engine, &Effort::default()).await?;
        let tables = kept.tables_of(&self).ok_or_else(no_tables)?;
        self.weighed(tables).await
    }

    /// Which cells of its tables are withheld.
    pub(crate) async fn weighed(self: Arc<Self>, tables: Tables) -> Result<Arc<Known>, RunError> {
        tokio::task::spawn_blocking(move || self.known(tables))
            .await
            .map_err(broke_off)?
    }

    /// Reads the rows and makes every table of them.
    pub(crate) async fn kept(
        self: &Arc<Self>,
        engine: &Engine,
        effort: &Effort,
    ) -> Result<Kept, RunError> {
        let mut tallies = self.pass(engine, effort, 0).await?;
        for pass in 1..effort.passes {
            let more = self.pass(engine, effort, pass).await?;
            let lattice = Arc::clone(self);
            let joined = tokio::task::spawn_blocking(move || lattice.joined(tallies, more));
            tallies = joined.await.map_err(broke_off)??;
            few_enough(most_cells(&tallies), effort)?;
        }
        let table = |(levels, tally): (Vec<usize>, Tally)| {
            let keys = self.keys_with_more(&levels).collect();
            let cells = tally.table()?;
            Ok((levels, KeptTable { keys, cells }))
        };
        let tables = tallies.into_iter().map(table);
        let tables = tables.collect::<Result<_, ReleaseError>>()?;
        Ok(Kept::new(self.levels.clone(), self.totals.clone(), tables))
    }

    /// Reads the rows of some units, and counts them in every table.
    async fn pass(
        self: &Arc<Self>,
        engine: &Engine,
        effort: &Effort,
        pass: usize,
    ) -> Result<Tallies, RunError> {
        let threads = engine.threads();
        let streams = threads.saturating_mul(effort.passes.max(1));
        let (physical, context) = engine.physical(&self.plan).await?;
        let rows = dealt(physical, self.keys(), streams, &context)?;
        let own = rows.into_iter().skip(pass.saturating_mul(threads));
        let own = own.take(threads).collect();
        let pool = effort.pool.as_ref().unwrap_or(context.memory_pool());
        let (gathered, _memory) = self.gather(own, pool, effort).await?;
        self.tables(&Arc::new(gathered), threads).await
    }

    /// The tallies of every table over the units of both.
    fn joined(&self, some: Tallies, more: Tallies) -> Result<Tallies, ReleaseError> {
        let both = some.into_iter().zip(more);
        let joined = both.map(|((levels, some), (_, more))| {
            let names = keys_of(&self.axes, &levels).len();
            Ok((levels, Tally::joined(&[some, more], names)?))
        });
        joined.collect()
    }

    /// The axes and levels whose keys name the cells of a table, and all others that these lie within.
    fn keys_with_more(&self, levels: &[usize]) -> impl Iterator<Item = (usize, usize)> {
        let (keys, more) = (keys_of(&self.axes, levels), self.more_of(levels));
        keys.into_iter().chain(more)
    }

    /// The axes and levels that the cells of a table lie within, with others between.
    fn more_of(&self, levels: &[usize]) -> Vec<(usize, usize)> {
        let keys = keys_of(&self.axes, levels);
        let mut all = keys.clone();
        let mut next = 0;
        while let Some((axis, level)) = all.get(next).copied() {
            let coarser = self.axes.get(axis).map(|a| a.coarser.as_slice());
            let above = coarser.and_then(|c| c.get(level.checked_sub(1)?));
            for level in above.into_iter().flatten() {
                if !all.contains(&(axis, *level)) {
                    all.push((axis, *level));
                }
            }
            next = next.saturating_add(1);
        }
        all.split_off(keys.len())
    }

    /// How many columns of the rows are keys; the unit's is the next.
    pub(super) fn keys(&self) -> usize {
        self.axes.iter().map(|a| a.coarser.len()).sum()
    }

    /// Gathers rows that were dealt out by their units, and accounts for the memory that it takes.
    async fn gather(
        self: &Arc<Self>,
        dealt: Vec<SendableRecordBatchStream>,
        pool: &Arc<dyn MemoryPool>,
        effort: &Effort,
    ) -> Result<(Gathered, Vec<MemoryReservation>), RunError> {
        let shares = dealt.len();
        // All are stopped when one fails, or when nobody waits any more.
        let mut work = JoinSet::new();
        for rows in dealt {
            let memory = MemoryConsumer::new("lattice").register(pool);
            let accounted = (memory, Arc::clone(pool));
            let share = Arc::clone(self).gather_share(rows, accounted, shares, effort.clone());
            work.spawn(share.in_current_span());
        }
        let (mut gathered, mut memory) = (Vec::new(), Vec::new());
        while let Some(share) = work.join_next().await {
            let (of, takes) = share.map_err(broke_off)??;
            gathered.push(of);
            memory.push(takes);
        }
        let gathered = Gathered::joined(gathered)?;
        few_enough(gathered.cells(), effort)?;
        Ok((gathered, memory))
    }

    /// Gathers the rows of some units, one of so many shares.
    async fn gather_share(
        self: Arc<Self>,
        mut rows: SendableRecordBatchStream,
        (memory, pool): (MemoryReservation, Arc<dyn MemoryPool>),
        shares: usize,
        effort: Effort,
    ) -> Result<(Gathered, MemoryReservation), RunError> {
        let gathering = Gathering::new(self.secret.clone(), self.adds.clone());
        let mut gathering = gathering.one_of(shares);
        // No rows have columns, too.
        self.push(&mut gathering, &RecordBatch::new_empty(rows.schema()))?;
        while let Some(batch) = rows.next().await {
            self.push(&mut gathering, &batch?)?;
            memory.try_resize(gathering.bytes())?;
            effort.peak.fetch_max(pool.reserved(), Ordering::Relaxed);
            few_enough(gathering.cells(), &effort)?;
        }
        let gathered = tokio::task::spawn_blocking(move || gathering.finish());
        Ok((gathered.await.map_err(broke_off)??, memory))
    }

    fn push(&self, gathering: &mut Gathering, batch: &RecordBatch) -> Result<(), ReleaseError> {
        let columns = batch.columns().split_at_checked(self.keys());
        let (keys, rest) = columns.ok_or(ReleaseError::Shape)?;
        let (unit, values) = rest.split_first().ok_or(ReleaseError::Shape)?;
        gathering.push(keys, unit, values)
    }

    /// What units bring to every table, found on so many threads.
    async fn tables(
        self: &Arc<Self>,
        gathered: &Arc<Gathered>,
        threads: usize,
    ) -> Result<Tallies, RunError> {
        let shares = shares(levels(&self.axes).len(), gathered.parts(), threads);
        let work = shares.into_iter().map(|share| {
            let (lattice, gathered) = (Arc::clone(self), Arc::clone(gathered));
            tokio::task::spawn_blocking(move || lattice.tallies(&gathered, share))
        });
        let mut tallies = Tallies::new();
        for share in work.collect::<Vec<_>>() {
            for (levels, tally) in share.await.map_err(broke_off)?? {
                match tallies.last_mut() {
                    Some((last, whole)) if *last == levels => whole.merge(&tally)?,
                    _ => tallies.push((levels, tally)),
                }
            }
        }
        Ok(tallies)
    }

    /// What some of the parts bring to some of the tables, as [`shares`] deals them out.
    fn tallies(
        &self,
        gathered: &Gathered,
        share: Vec<(usize, Range<usize>)>,
    ) -> Result<Tallies, ReleaseError> {
        let tables = levels(&self.axes);
        let tally = |(table, parts): (usize, Range<usize>)| {
            let levels = tables.get(table).ok_or(ReleaseError::Shape)?;
            let tally = gathered.tally(&self.axes, levels, &self.more_of(levels), parts)?;
            Ok((levels.clone(), tally))
        };
        share.into_iter().map(tally).collect()
    }

    fn known(&self, tables: Tables) -> Result<Arc<Known>, RunError> {
        let (places, first_fact) = (self.places, self.first_fact());
        let known = Known::of(&self.facts, &self.axes, tables, places, first_fact)?;
        Ok(Arc::new(known))
    }
}

/// Every table by its levels, on the way to it.
type Tallies = Vec<(Vec<usize>, Tally)>;

fn most_cells(tallies: &Tallies) -> usize {
    tallies.iter().map(|(_, t)| t.cells()).max().unwrap_or(0)
}

fn few_enough(cells: usize, effort: &Effort) -> Result<(), RunError> {
    let most = effort.most_cells;
    match cells > most {
        true => Err(RunError::TooManyCells { most }),
        false => Ok(()),
    }
}

/// Tables that do not hold what they were made for.
pub(super) fn no_tables() -> RunError {
    internal("the tables of a lattice are not of it").into()
}

/// So many tables, to each of which so many parts bring something, dealt out to threads: for each the tables that it has
/// a hand in, in order, and the parts that it sees to.
fn shares(tables: usize, parts: usize, threads: usize) -> Vec<Vec<(usize, Range<usize>)>> {
    let all = tables.saturating_mul(parts);
    let each = all.div_ceil(threads.max(1)).max(1);
    let share = |first: usize| {
        let own = first..first.saturating_add(each).min(all);
        let of = |table: usize| {
            let start = table.saturating_mul(parts);
            let parts = own.start.saturating_sub(start)..own.end.saturating_sub(start).min(parts);
            (table, parts)
        };
        let shared = (0..tables).map(of);
        shared.filter(|(_, parts)| !parts.is_empty()).collect()
    };
    (0..all).step_by(each).map(share).collect()
}

fn broke_off(_: tokio::task::JoinError) -> DataFusionError {
    internal("the tables of a lattice broke off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_see_to_every_part_of_every_table_once() {
        for (tables, parts, threads) in [
            (1, 1, 1),
            (1, 2, 2),
            (3, 2, 2),
            (4, 2, 2),
            (5, 3, 16),
            (7, 4, 3),
        ] {
            let shares = shares(tables, parts, threads);
            assert!(shares.len() <= threads);
            let seen = shares.iter().flatten();
            let seen: Vec<(usize, usize)> = seen
                .flat_map(|(table, parts)| parts.clone().map(|part| (*table, part)))
                .collect();
            let all = (0..tables).flat_map(|table| (0..parts).map(move |part| (table, part)));
            assert_eq!(seen, all.collect::<Vec<_>>(), "{tables} {parts} {threads}");
        }
    }
}
