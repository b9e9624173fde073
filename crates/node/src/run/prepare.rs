//! Making the tables of one product before anybody asks.
//!
//! What is made is what a question over all of its dimensions and measures would make, and it serves every question whose
//! lattice lies within ([`super::kept`]). Where that is more than may be kept, dimensions are taken by their roll-ups in
//! time, then fewer at once, as many as a few readings give.
//!
//! Each reading has a loan of its own, of the keys of the columns that it reads, which ends when the reading does, and at
//! the latest when its grant ends. The loan is in this node's log before a row is read. Nothing is sent to anybody: what is
//! made lies in memory as if a question had been asked, and no question is answered without its own grant and its own
//! loan. No question waits for it: one that comes meanwhile makes its own tables.

use super::cells::{Cells, Key, asked};
use super::facts::CellFacts;
use super::kept::Kept;
use super::lattice::{Effort, Lattice, MAX_CELLS};
use super::patterns::Standing;
use super::{Runner, expand, lend};
use crate::error::RunError;
use crate::product::{Served, scans};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use guildhall_audit::{Decision, Entry, Event, ProductSeen};
use guildhall_cube::Question;
use guildhall_grant::product::{Product, RollUpKind};
use guildhall_model::{ColumnName, GrantId, Purpose};
use guildhall_plan::cube::{CubeAgg, CubeLevel};
use guildhall_store::LentKeys;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What loans to prepare with are on record for.
const PURPOSE: &str = "prepare";

/// How many lattices are read for one product, and how many are thought of.
const MOST_LATTICES: usize = 16;
const MOST_THOUGHT_OF: usize = 256;

/// How often the rows are read for one lattice, as far as that is known before; and how many times as often at most, if
/// it does not do.
const MOST_PASSES: usize = 64;
const MORE_PASSES: usize = 8;

/// About how many bytes it takes to gather a row, and more for each total.
const ROW_BYTES: usize = 64;
const TOTAL_BYTES: usize = 16;

/// About how many bytes a cell is kept in: for its units, for each key and for each total.
const CELL_BYTES: usize = 16;
const KEY_BYTES: usize = 16;
const CELL_TOTAL_BYTES: usize = 72;

/// What a node has prepared of a product, and what it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The product's version.
    pub version: u32,
    /// How many sets of dimensions tables are kept for; none if no set fits.
    pub lattices: usize,
    /// How many tables those are.
    pub tables: usize,
    /// The cells of the largest table.
    pub cells: usize,
    /// About how many bytes of memory the tables take.
    pub kept_bytes: usize,
    /// About how many bytes of memory it took to gather them, at most.
    pub gathered_bytes: usize,
    /// How often the rows were read.
    pub passes: usize,
    /// How long it took.
    pub took: Duration,
}

impl Runner {
    /// Makes and keeps the tables of a product of cells, with so much memory to gather them in.
    pub(crate) async fn prepare(
        &self,
        served: &Arc<Served>,
        memory: usize,
    ) -> Result<Prepared, RunError> {
        let begun = Instant::now();
        let mut done = Prepared {
            version: served.product().version,
            ..Prepared::default()
        };
        let mut sets = Sets::of(served.product());
        // Other sets may be of the same tables.
        let mut too_large: Vec<Vec<Vec<CubeLevel>>> = Vec::new();
        let mut readings = 0_usize;
        while let Some(keys) = sets.next() {
            let Some(preparing) = self.preparing(served, &keys)? else {
                sets.coarser(&keys);
                continue;
            };
            let lattice = &preparing.lattice;
            if self.patterns.has_prepared(&preparing.standing, lattice) {
                continue;
            }
            let levels = lattice.levels.clone();
            if too_large.contains(&levels) {
                sets.coarser(&keys);
                continue;
            }
            if readings >= MOST_LATTICES {
                break;
            }
            readings = readings.saturating_add(1);
            let reading = self.read_and_keep(preparing, served, memory, &mut done);
            match reading.await {
                Ok(true) => continue,
                Ok(false) | Err(RunError::TooManyCells { .. }) => {}
                Err(error) => return Err(error),
            }
            sets.coarser(&keys);
            too_large.push(levels);
        }
        done.took = begun.elapsed();
        Ok(done)
    }

    /// The plan of the tables by `keys`; none if they are too many tables.
    fn preparing(
        &self,
        served: &Arc<Served>,
        keys: &[Key<'_>],
    ) -> Result<Option<Preparing>, RunError> {
        let (product, view) = (served.product(), served.view());
        let means = product.measures.iter();
        let means = means.map(|m| CubeAgg::Avg(m.column.clone()));
        let told = [CubeAgg::CountUnits, CubeAgg::CountRows].into_iter();
        let query = asked(product, view.schema(), keys, told.chain(means))?;
        let Ok(question) = Question::new(&query, product, view.schema()) else {
            return Ok(None);
        };
        let name = TableReference::full(
            product.council.as_str(),
            product.department.as_str(),
            product.name.as_str(),
        );
        let lent = LentKeys::default();
        let tables = expand::tables(std::iter::once(served), &lent)?;
        let relation = expand::relation(served, &name, &tables)?;
        let secret = self.secret_for(served);
        let facts = CellFacts::new(&query, product, view, &name, &secret)?;
        let cells = Cells { question, facts };
        let lattice = Lattice::of(&cells, relation, &self.engine)?;
        Ok(Some(Preparing {
            standing: Standing::of(served),
            lattice: Arc::new(lattice),
            lent,
        }))
    }

    /// Borrows keys, makes tables and lets go of the keys; whether there was room to keep them.
    async fn read_and_keep(
        &self,
        preparing: Preparing,
        served: &Arc<Served>,
        memory: usize,
        done: &mut Prepared,
    ) -> Result<bool, RunError> {
        let Preparing {
            standing,
            lattice,
            lent,
        } = preparing;
        let product = served.product();
        let wanted = lend::wanted(&scans(&lattice.plan)?, served.datasets());
        if wanted.is_empty() {
            return Ok(true);
        }
        let loan = lend::borrow_to_prepare(self.authority.as_ref(), product, wanted).await;
        let loan = loan.map_err(|source| RunError::Keys { source })?;
        self.on_record(product, &loan.grant)?;
        // The cell is fresh: nobody else can have set it.
        let _ = lent.set(loan.keys);
        let rows = served.datasets().values().map(|d| d.manifest().rows());
        let rows = usize::try_from(rows.fold(0, u64::saturating_add)).unwrap_or(usize::MAX);
        let making = self.make(&lattice, &standing, rows, memory, done);
        // Invariant: keys are held no longer than their grant lasts. They go with the lattice's plan.
        let longest = loan.ends.since(self.clock.now());
        let made = tokio::time::timeout(longest, making).await;
        drop((lattice, lent));
        let seconds = longest.as_secs();
        let made = Arc::new(made.map_err(|_| RunError::TooLong { seconds })??);
        let (tables, cells) = made.size();
        let bytes = made.bytes();
        let kept = self.patterns.keep(&standing, made, true);
        if kept {
            done.lattices = done.lattices.saturating_add(1);
            done.tables = done.tables.saturating_add(tables);
            done.cells = done.cells.max(cells);
            done.kept_bytes = done.kept_bytes.saturating_add(bytes);
        }
        Ok(kept)
    }

    /// Makes the tables of `lattice` in so much memory: where it does not do, of fewer units at a time.
    async fn make(
        &self,
        lattice: &Arc<Lattice>,
        standing: &Standing,
        rows: usize,
        memory: usize,
        done: &mut Prepared,
    ) -> Result<Kept, RunError> {
        let engine = self.engine.in_background();
        let each = ROW_BYTES.saturating_add(lattice.totals.len().saturating_mul(TOTAL_BYTES));
        let needed = rows.saturating_mul(each).div_ceil(memory.max(1));
        let mut effort = Effort {
            passes: needed.clamp(1, MOST_PASSES),
            most_cells: most_cells(lattice, self.patterns.room(standing)),
            pool: None,
            peak: Arc::new(AtomicUsize::new(done.gathered_bytes)),
        };
        let most = needed.clamp(1, MOST_PASSES).saturating_mul(MORE_PASSES);
        loop {
            effort.pool = Some(Arc::new(GreedyMemoryPool::new(memory)));
            done.passes = done.passes.saturating_add(effort.passes);
            let made = lattice.kept(&engine, &effort).await;
            done.gathered_bytes = effort.peak.load(Ordering::Relaxed);
            match made {
                Err(error) if is_out_of_memory(&error) && effort.passes < most => {
                    effort.passes = effort.passes.saturating_mul(2);
                }
                made => return made,
            }
        }
    }

    /// Invariant: no row is read before this is on record.
    fn on_record(&self, product: &Product, grant: &GrantId) -> Result<(), RunError> {
        let seen = ProductSeen::new(&product.product_ref(), product.version, columns(product));
        let purpose: Option<Purpose> = PURPOSE.parse().ok();
        let entry = Entry {
            products: vec![seen],
            purpose,
            grant: Some(grant.clone()),
            ..Entry::new(Event::LendKeys, Decision::Permit)
        };
        self.append(&entry)
    }
}

/// A lattice to be prepared, and where the keys of its columns go.
struct Preparing {
    standing: Standing,
    lattice: Arc<Lattice>,
    lent: LentKeys,
}

/// The columns that questions of cells are about.
fn columns(product: &Product) -> BTreeSet<ColumnName> {
    let dimensions = product.dimensions.iter().map(|d| &d.column);
    let measures = product.measures.iter().map(|m| &m.column);
    let columns = product.unit.iter().chain(dimensions).chain(measures);
    columns.cloned().collect()
}

/// How many of the finest cells there may be for all tables to have room: coarser ones take about as much again.
fn most_cells(lattice: &Lattice, room: usize) -> usize {
    let keys: usize = lattice.levels.iter().map(Vec::len).sum();
    let keys = keys.saturating_mul(KEY_BYTES);
    let totals = lattice.totals.len().saturating_mul(CELL_TOTAL_BYTES);
    let cell = CELL_BYTES.saturating_add(keys).saturating_add(totals);
    (room / 2).div_ceil(cell.max(1)).min(MAX_CELLS)
}

fn is_out_of_memory(error: &RunError) -> bool {
    let RunError::Engine { source } = error else {
        return false;
    };
    matches!(source.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// Sets of dimensions, the finest and largest first.
struct Sets<'a> {
    next: VecDeque<Vec<Key<'a>>>,
    thought_of: Vec<Vec<Key<'a>>>,
}

impl<'a> Sets<'a> {
    fn of(product: &'a Product) -> Self {
        let all = product.dimensions.iter();
        let all: Vec<Key<'a>> = all.map(|of| Key { of, roll_up: None }).collect();
        Self {
            next: VecDeque::from([all.clone()]),
            thought_of: vec![all],
        }
    }

    fn next(&mut self) -> Option<Vec<Key<'a>>> {
        self.next.pop_front()
    }

    /// Thinks of those one step coarser than `keys`: one dimension by a roll-up in time, or left out.
    fn coarser(&mut self, keys: &[Key<'a>]) {
        let rolled_up = keys.iter().enumerate().flat_map(|(at, key)| {
            let truncs = key.of.roll_ups.iter().filter(|_| key.roll_up.is_none());
            let truncs = truncs.filter(|r| matches!(r.kind, RollUpKind::DateTrunc(_)));
            truncs.map(move |roll_up| (at, Some(roll_up)))
        });
        let left_out = (0..keys.len()).map(|at| (at, None));
        for (at, roll_up) in rolled_up.chain(left_out) {
            let coarser = keys
                .iter()
                .enumerate()
                .filter_map(|(own, key)| match roll_up {
                    None => (own != at).then_some(*key),
                    Some(_) if own == at => Some(Key {
                        of: key.of,
                        roll_up,
                    }),
                    Some(_) => Some(*key),
                });
            let coarser: Vec<Key<'a>> = coarser.collect();
            if self.thought_of.len() < MOST_THOUGHT_OF && !self.thought_of.contains(&coarser) {
                self.thought_of.push(coarser.clone());
                self.next.push_back(coarser);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{dimension, swims};
    use guildhall_grant::product::RollUp;

    #[test]
    fn sets_get_coarser_step_by_step_and_none_comes_twice() {
        let mut product = swims(&[]);
        let roll_up = |name: &str, kind| RollUp {
            name: name.to_owned(),
            kind,
        };
        let mut day = dimension("day");
        day.roll_ups = vec![
            roll_up("month", RollUpKind::DateTrunc("month".to_owned())),
            roll_up("first", RollUpKind::Group(vec!["2026-01-01".to_owned()])),
        ];
        product.dimensions = vec![dimension("pool"), day];
        let mut sets = Sets::of(&product);
        let text = |keys: &[Key<'_>]| -> String {
            let name = |k: &Key<'_>| {
                k.roll_up
                    .map_or(k.of.column.as_str(), |r| r.name.as_str())
                    .to_owned()
            };
            keys.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        let mut all = Vec::new();
        while let Some(keys) = sets.next() {
            sets.coarser(&keys);
            all.push(text(&keys));
        }
        assert_eq!(all, ["pool day", "pool month", "day", "pool", "month", ""]);
    }
}
