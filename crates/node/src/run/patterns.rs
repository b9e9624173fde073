//! What is known of the tables of a product: the tables themselves, and which cells of a question's are withheld.
//!
//! Both are worked out once for each state of the data, and kept in memory: a cube may be asked without limit, and what
//! is asked again is not computed again. The tables of a lattice serve every question whose own lattice lies within it
//! ([`Kept`]); which cells are withheld is decided for each question's lattice apart, over its own tables, so that it does not
//! depend on what else was asked. Keys are borrowed for every question all the same, so that nothing is told from here
//! for which the authority would not lend them. New data, or a new version of the product, is another state.

use super::kept::Kept;
use super::lattice::{Effort, Lattice, TotalKey, no_tables};
use crate::engine::Engine;
use crate::error::RunError;
use crate::product::{Rows, Served};
use guildhall_cube::Known;
use guildhall_disclosure::joint::Tables;
use guildhall_model::{DatasetName, Digest, ProductRef};
use guildhall_plan::cube::CubeLevel;
use guildhall_store::SealedDataset;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OnceCell};

/// Lattices of which it is known what is withheld, and the bytes of their cells, most of which are those of kept tables; all
/// are forgotten when there are more.
const KNOWN: usize = 512;
const KNOWN_BYTES: usize = 256 << 20;

/// The bytes of all tables that are kept.
const KEPT_BYTES: usize = 256 << 20;

/// A product over the data as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    product: ProductRef,
    definition: Digest,
    snapshot: Digest,
    made_up: bool,
}

impl Standing {
    pub(crate) fn of(served: &Served) -> Self {
        let product = served.product();
        Self {
            product: product.product_ref(),
            definition: product.definition,
            snapshot: snapshot(served.datasets()),
            made_up: matches!(served.rows(), Rows::Made(..)),
        }
    }

    /// Whether it is the same product in another state.
    fn follows(&self, other: &Self) -> bool {
        self != other && self.product == other.product && self.made_up == other.made_up
    }
}

/// What a pattern depends on: the data as it stands, and the lattice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PatternKey {
    standing: Standing,
    levels: Vec<Vec<CubeLevel>>,
    totals: Vec<TotalKey>,
}

impl PatternKey {
    /// What the pattern of `lattice` depends on.
    pub(super) fn of(lattice: &Lattice, standing: &Standing) -> Self {
        Self {
            standing: standing.clone(),
            levels: lattice.levels.clone(),
            totals: lattice.totals.clone(),
        }
    }
}

/// What is known of a lattice, or will be when the first who wants it has worked it out.
pub(crate) type Shelved = Arc<OnceCell<Arc<Known>>>;

/// What was asked of late, and what was prepared.
#[derive(Debug)]
pub(crate) struct Patterns {
    shelf: Mutex<Shelf>,
    /// The bytes of all tables that are kept.
    most_bytes: usize,
    /// Told when tables had to be made for a question.
    pub(crate) missed: Notify,
}

#[derive(Debug, Default)]
struct Shelf {
    known: HashMap<PatternKey, Shelved>,
    /// The oldest first.
    kept: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    standing: Standing,
    tables: Arc<Kept>,
    prepared: bool,
}

impl Default for Patterns {
    fn default() -> Self {
        Self {
            shelf: Mutex::default(),
            most_bytes: KEPT_BYTES,
            missed: Notify::new(),
        }
    }
}

impl Patterns {
    /// The place of a lattice, the same for all who want it.
    pub(super) fn place(&self, key: PatternKey) -> Shelved {
        let known = &mut self.shelf().known;
        let cells = known.values().filter_map(|k| k.get());
        let bytes: usize = cells.map(|k| k.cells.get_array_memory_size()).sum();
        if !known.contains_key(&key) && (known.len() >= KNOWN || bytes >= KNOWN_BYTES) {
            known.clear();
        }
        Arc::clone(known.entry(key).or_default())
    }

    /// The tables of `lattice`, taken from those that are kept, or made and kept.
    pub(super) async fn tables(
        &self,
        standing: &Standing,
        lattice: &Arc<Lattice>,
        engine: &Engine,
    ) -> Result<Tables, RunError> {
        if let Some(tables) = self.taken(standing, lattice) {
            return Ok(tables);
        }
        let kept = lattice.kept(engine, &Effort::default()).await?;
        let tables = kept.tables_of(lattice).ok_or_else(no_tables)?;
        self.keep(standing, Arc::new(kept), false);
        self.missed.notify_one();
        Ok(tables)
    }

    /// What is withheld of `lattice`, over tables that are kept or made.
    pub(super) async fn known(
        &self,
        standing: &Standing,
        lattice: &Arc<Lattice>,
        engine: &Engine,
    ) -> Result<Arc<Known>, RunError> {
        let tables = self.tables(standing, lattice, engine).await?;
        Arc::clone(lattice).weighed(tables).await
    }

    fn taken(&self, standing: &Standing, lattice: &Lattice) -> Option<Tables> {
        let kept: Vec<Arc<Kept>> = {
            let shelf = self.shelf();
            let own = shelf.kept.iter().filter(|p| p.standing == *standing);
            own.map(|p| Arc::clone(&p.tables)).collect()
        };
        kept.iter().find_map(|kept| kept.tables_of(lattice))
    }

    /// Keeps tables if there is room for them, and lets go of the product's in other states. What was prepared makes no room for
    /// anything. A twin's are not kept: they are made of a few rows.
    pub(super) fn keep(&self, standing: &Standing, tables: Arc<Kept>, prepared: bool) -> bool {
        if standing.made_up {
            return false;
        }
        let mut shelf = self.shelf();
        shelf
            .known
            .retain(|key, _| !standing.follows(&key.standing));
        shelf.kept.retain(|place| {
            let held = place.standing == *standing && tables.holds(&place.tables);
            // A question may be of a state that is over.
            let over = standing.follows(&place.standing) && (prepared || !place.prepared);
            !held && !over
        });
        while shelf.bytes().saturating_add(tables.bytes()) > self.most_bytes {
            match shelf.kept.iter().position(|place| !place.prepared) {
                Some(oldest) => drop(shelf.kept.remove(oldest)),
                None => return false,
            }
        }
        shelf.kept.push(Place {
            standing: standing.clone(),
            tables,
            prepared,
        });
        true
    }

    /// Whether `lattice` lies within tables that were prepared.
    pub(super) fn has_prepared(&self, standing: &Standing, lattice: &Lattice) -> bool {
        let shelf = self.shelf();
        let mut own = shelf
            .kept
            .iter()
            .filter(|p| p.prepared && p.standing == *standing);
        own.any(|p| p.tables.covers(lattice))
    }

    /// How many bytes of tables may still be prepared, other than for the product that stands so.
    pub(super) fn room(&self, standing: &Standing) -> usize {
        let shelf = self.shelf();
        let prepared = shelf
            .kept
            .iter()
            .filter(|p| p.prepared && !standing.follows(&p.standing));
        let bytes = prepared.map(|p| p.tables.bytes());
        self.most_bytes
            .saturating_sub(bytes.fold(0, usize::saturating_add))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Patterns {
    /// Such as keep no more tables than these bytes.
    pub(crate) fn holding(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            ..Self::default()
        }
    }

    /// The bytes of what is kept.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.shelf().bytes()
    }

    /// How many kept tables a question had to wait for.
    pub(crate) fn made_for_questions(&self) -> usize {
        let shelf = self.shelf();
        shelf.kept.iter().filter(|place| !place.prepared).count()
    }
}

impl Shelf {
    fn bytes(&self) -> usize {
        let bytes = self.kept.iter().map(|p| p.tables.bytes());
        bytes.fold(0, usize::saturating_add)
    }
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
