//! What is known of a question's lattice: which cells are withheld for their margins, and the cells themselves.
//!
//! Both are worked out once for each lattice and each state of the data, and kept in memory: a cube may be asked
//! without limit, and what is asked again is not computed again. Keys are borrowed for every question all the
//! same, so that nothing is told from here for which the authority would not lend them. New data, or a new
//! version of the product, is another lattice.

use super::cells::Cells;
use super::total::total;
use crate::engine::{Engine, dealt};
use crate::error::RunError;
use crate::product::Served;
use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt as _;
use guildhall_cube::{Known, internal, is_finest, levels};
use guildhall_disclosure::joint::Tables;
use guildhall_disclosure::{
    Adds, Axis, Facts, Gathered, Gathering, NoiseSecret, ReleaseError, Tally,
};
use guildhall_model::{DatasetName, Digest, ProductRef};
use guildhall_plan::cube::CubeLevel;
use guildhall_store::SealedDataset;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// Lattices that are kept, and the bytes of their cells; the whole shelf is cleared when it is full.
const KEPT: usize = 512;
const KEPT_BYTES: usize = 256 << 20;

/// The most cells of one table: beyond it hardly any stands on more than one unit.
const MAX_CELLS: usize = 2_000_000;

/// What a pattern depends on: the data as it stands, and the lattice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PatternKey {
    product: ProductRef,
    definition: Digest,
    snapshot: Digest,
    axes: Vec<Vec<CubeLevel>>,
    totals: Vec<String>,
}

/// What is known of a lattice, or will be when the first who wants it has worked it out.
pub(crate) type Shelved = Arc<OnceCell<Arc<Known>>>;

/// The lattices that were asked of late.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Mutex<HashMap<PatternKey, Shelved>>);

impl Patterns {
    /// The place of a lattice, the same for all who want it.
    pub(crate) fn place(&self, key: PatternKey) -> Shelved {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.values().filter_map(|k| k.get());
        let bytes: usize = known.map(|k| k.cells.get_array_memory_size()).sum();
        if !kept.contains_key(&key) && (kept.len() >= KEPT || bytes >= KEPT_BYTES) {
            kept.clear();
        }
        Arc::clone(kept.entry(key).or_default())
    }
}

impl PatternKey {
    /// What the pattern of `cells` over a product that is `served` depends on.
    pub(super) fn of(cells: &Cells<'_>, facts: &Facts, served: &Served) -> Self {
        let (product, axes) = (cells.question.product, cells.question.axes.iter());
        Self {
            product: product.product_ref(),
            definition: product.definition,
            snapshot: snapshot(served.datasets()),
            axes: axes.map(|a| a.levels.clone()).collect(),
            totals: facts.totals.iter().map(|t| t.id.clone()).collect(),
        }
    }
}

/// What it takes to work a pattern out: an optimised plan of rows, and what is made of them.
#[derive(Debug)]
pub(crate) struct Lattice {
    pub(crate) axes: Vec<Axis>,
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
        Ok(Self {
            axes: cells.question.axes()?,
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

    /// Works it out, and which of its cells are withheld.
    pub(crate) async fn work_out(self: Arc<Self>, engine: &Engine) -> Result<Arc<Known>, RunError> {
        let tables = self.tabulated(engine).await?;
        tokio::task::spawn_blocking(move || self.known(tables))
            .await
            .map_err(broke_off)?
    }

    /// Reads the rows once and makes every table of them.
    pub(crate) async fn tabulated(self: &Arc<Self>, engine: &Engine) -> Result<Tables, RunError> {
        let (physical, context) = engine.physical(&self.plan).await?;
        let rows = dealt(physical, self.keys(), engine.threads(), &context)?;
        let (gathered, _memory) = self.gather(rows, context.memory_pool()).await?;
        self.tables(&Arc::new(gathered), engine.threads()).await
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
    ) -> Result<(Gathered, Vec<MemoryReservation>), RunError> {
        let shares = dealt.len();
        // All are stopped when one fails, or when nobody waits any more.
        let mut work = JoinSet::new();
        for rows in dealt {
            let memory = MemoryConsumer::new("lattice").register(pool);
            let share = Arc::clone(self).gather_share(rows, memory, shares);
            work.spawn(share.in_current_span());
        }
        let (mut gathered, mut memory) = (Vec::new(), Vec::new());
        while let Some(share) = work.join_next().await {
            let (of, takes) = share.map_err(broke_off)??;
            gathered.push(of);
            memory.push(takes);
        }
        let gathered = Gathered::joined(gathered)?;
        few_enough(gathered.cells())?;
        Ok((gathered, memory))
    }

    /// Gathers the rows of some units, one of so many shares.
    async fn gather_share(
        self: Arc<Self>,
        mut rows: SendableRecordBatchStream,
        memory: MemoryReservation,
        shares: usize,
    ) -> Result<(Gathered, MemoryReservation), RunError> {
        let gathering = Gathering::new(self.secret.clone(), self.adds.clone());
        let mut gathering = gathering.one_of(shares);
        // No rows have columns, too.
        self.push(&mut gathering, &RecordBatch::new_empty(rows.schema()))?;
        while let Some(batch) = rows.next().await {
            self.push(&mut gathering, &batch?)?;
            memory.try_resize(gathering.bytes())?;
            few_enough(gathering.cells())?;
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

    /// Every table, on as many threads as there are; the finest one has its other levels, too.
    async fn tables(
        self: &Arc<Self>,
        gathered: &Arc<Gathered>,
        threads: usize,
    ) -> Result<Tables, RunError> {
        let shares = shares(levels(&self.axes).len(), gathered.parts(), threads);
        let work = shares.into_iter().map(|share| {
            let (lattice, gathered) = (Arc::clone(self), Arc::clone(gathered));
            tokio::task::spawn_blocking(move || lattice.tallies(&gathered, share))
        });
        let mut tallies: Vec<(Vec<usize>, Tally)> = Vec::new();
        for share in work.collect::<Vec<_>>() {
            for (levels, tally) in share.await.map_err(broke_off)?? {
                match tallies.last_mut() {
                    Some((last, whole)) if *last == levels => whole.merge(&tally)?,
                    _ => tallies.push((levels, tally)),
                }
            }
        }
        let table = |(levels, tally): (_, Tally)| Ok((levels, tally.table()?));
        tallies.into_iter().map(table).collect()
    }

    /// What some of the parts bring to some of the tables, as [`shares`] deals them out.
    fn tallies(
        &self,
        gathered: &Gathered,
        share: Vec<(usize, Range<usize>)>,
    ) -> Result<Vec<(Vec<usize>, Tally)>, ReleaseError> {
        let tables = levels(&self.axes);
        let tally = |(table, parts): (usize, Range<usize>)| {
            let levels = tables.get(table).ok_or(ReleaseError::Shape)?;
            let more: &[(usize, usize)] = if is_finest(levels) { &self.more } else { &[] };
            let tally = gathered.tally(&self.axes, levels, more, parts)?;
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

fn few_enough(cells: usize) -> Result<(), RunError> {
    match cells > MAX_CELLS {
        true => Err(RunError::TooManyCells { most: MAX_CELLS }),
        false => Ok(()),
    }
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

/// The digest of the data as it stands.
pub(super) fn snapshot(datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>) -> Digest {
    let mut text = Vec::new();
    let mut put = |bytes: &[u8]| {
        text.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        text.extend_from_slice(bytes);
    };
    for (name, dataset) in datasets {
        let manifest = dataset.manifest();
        put(name.as_str().as_bytes());
        put(&manifest.version.to_le_bytes());
        put(&manifest.parts.len().to_le_bytes());
        manifest.parts.iter().for_each(|p| put(p.digest.as_bytes()));
    }
    Digest::of(&text)
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
