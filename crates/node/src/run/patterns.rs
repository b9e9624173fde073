//! What is known of a question's lattice: which cells are withheld for their margins, and the cells themselves.
//!
//! Both are worked out once for each lattice and each state of the data, and kept in memory: a cube may be asked
//! without limit, and what is asked again is not computed again. Keys are borrowed for every question all the
//! same, so that nothing is told from here for which the authority would not lend them. New data, or a new
//! version of the product, is another lattice.

use super::cells::{Cells, Table, is_finest};
use super::facts::internal;
use crate::engine::Engine;
use crate::error::RunError;
use crate::product::Served;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt as _;
use guildhall_disclosure::{Axis, Cuboid, Facts, Pattern};
use guildhall_model::{DatasetName, Digest, ProductRef};
use guildhall_plan::cube::CubeLevel;
use guildhall_store::SealedDataset;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Lattices that are kept, and the bytes of their cells; the whole shelf is cleared when it is full.
const KEPT: usize = 512;
const KEPT_BYTES: usize = 256 << 20;

/// The most cells of one table: beyond it hardly any stands on more than one unit.
const MAX_CELLS: usize = 2_000_000;

/// What is known of a lattice. `Debug` shows its shape.
pub(crate) struct Known {
    pub(crate) pattern: Arc<Pattern>,
    /// Every cell of the finest table with its facts.
    pub(crate) cells: RecordBatch,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("columns", &self.cells.num_columns())
            .finish_non_exhaustive()
    }
}

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
        let product = cells.facts.product;
        Self {
            product: product.product_ref(),
            definition: product.definition,
            snapshot: snapshot(served.datasets()),
            axes: cells.axes.iter().map(|a| a.levels.clone()).collect(),
            totals: facts.totals.iter().map(|t| t.id.clone()).collect(),
        }
    }
}

/// What it takes to work a pattern out: optimised plans of the tables.
#[derive(Debug)]
pub(crate) struct Lattice {
    pub(crate) axes: Vec<Axis>,
    pub(crate) facts: Facts,
    pub(crate) tables: Vec<Table>,
    /// Of the finest table's columns those that say where a cell lies, and those that name its other levels.
    pub(crate) places: usize,
    pub(crate) more: usize,
}

impl Lattice {
    /// The plans, whose reads need keys.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &LogicalPlan> {
        self.tables.iter().map(|t| &t.plan)
    }

    /// Works it out, one table after the other.
    pub(crate) async fn work_out(&self, engine: &Engine) -> Result<Arc<Known>, RunError> {
        let mut cuboids = Vec::with_capacity(self.tables.len());
        let mut finest = None;
        for table in &self.tables {
            let mut cells = self.cells(table, engine).await?;
            if is_finest(&table.levels) {
                finest = Some(cells.clone());
                let facts = self.places.saturating_add(self.more)..cells.num_columns();
                let columns: Vec<usize> = (0..self.places).chain(facts).collect();
                cells = encodable(cells.project(&columns))?;
            }
            let levels = table.levels.clone();
            cuboids.push(Cuboid { levels, cells });
        }
        let pattern = if self.axes.is_empty() {
            Pattern::whole()
        } else {
            Pattern::build(&self.facts, &self.axes, &cuboids)?
        };
        let cells = finest.ok_or_else(|| internal("a lattice without a finest table"))?;
        let pattern = Arc::new(pattern);
        Ok(Arc::new(Known { pattern, cells }))
    }

    async fn cells(&self, table: &Table, engine: &Engine) -> Result<RecordBatch, RunError> {
        let (physical, context) = engine.physical(&table.plan).await?;
        let schema = physical.schema();
        let mut batches = execute_stream(physical, context)?;
        let (mut cells, mut count) = (Vec::new(), 0_usize);
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            count = count.saturating_add(batch.num_rows());
            if count > MAX_CELLS {
                return Err(RunError::TooManyCells { most: MAX_CELLS });
            }
            cells.push(batch);
        }
        encodable(arrow::compute::concat_batches(&schema, &cells))
    }
}

fn encodable(batch: Result<RecordBatch, ArrowError>) -> Result<RecordBatch, RunError> {
    batch.map_err(|source| RunError::Encode { source })
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
