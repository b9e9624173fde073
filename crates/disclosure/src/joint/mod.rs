//! Cells that have parts at several owners, put together before they are judged.
//!
//! Each owner gives the tables of its lattice as they are before disclosure control ([`OwnerPart`]). [`join`] adds them up
//! and gives tables of the same kind, to which the rules of every other cube apply: thresholds, dominance, noise, margins.
//! Units of different owners are taken to be different: that is for the owners to say.
//!
//! # What owners publish by themselves
//!
//! A joint cell is a margin of its owners' cells: what all but one of them publish, taken from it, leaves the last one's.
//! Owners decide alone, so it is the joint cell that gives way. The parts that owners withhold by themselves have to
//! protect each other: there is none of them, or there are two at least that have units, of `minimum_group` units together,
//! and for a total not dominated together. Else the joint cell is withheld ([`Parts::fit`]). So what one owner alone keeps
//! back is never told as the whole, whoever else was asked and had nobody. A part without units counts as withheld where its owner might have some: where every key of the cell is a value that
//! the owner declares or has anywhere. (A ward of one council has no part at another, and is told by its own.)
//!
//! What this does not hold back: an owner knows its own part, and so learns from a joint cell what the others have together,
//! to within the noise; of two owners, each learns the other's. And noise is drawn by what owners say of their members, so an
//! owner that lies about them can have it drawn again. Products are released together by owners that may know this of each
//! other.
//!
//! What this asks of whoever sets a release up: the owners of a joint cell are always the same ones. Two joint releases
//! that differ by an owner would tell that one's part.
//!
//! # Noise
//!
//! As everywhere it is a function of the members: see [`CellDraws`](crate::CellDraws). The same data at one owner, or split
//! over several with the same secret, give the same released values.
//!
//! # What an owner may get wrong
//!
//! Its tables are checked against what could be true of units at all: layout, bounds of each total, each cell under its
//! margins. What is off fails the whole, with the owner named ([`JointError`]). That it makes up units, within those
//! bounds, nobody can see.

mod check;
mod columns;

use crate::Cuboid;
use crate::coordinates::KeyColumn;
use crate::dominance;
use crate::facts::{Amount, Facts, Members, Parts, Statistic, Total};
use crate::lattice::{Keys, Lattice, Table};
use crate::lines;
use crate::margins::Axis;
use crate::noise::{CellDraws, MOST_OWNERS, Noise, OwnerDraws};
use crate::ptable::PTable;
use crate::release::ReleaseError;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use check::Checked;
use columns::Merged;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// The tables of a lattice, each with the level of every axis. Key columns come first, as in a [`Cuboid`], then
/// further keys that name its cells, if any, then the facts.
pub type Tables = Vec<(Vec<usize>, RecordBatch)>;

/// What one owner knows of the cells, before disclosure control, and how it would release them by itself. `Debug` shows
/// no content.
pub struct OwnerPart {
    /// The fewest distinct units that a cell of this owner's stands on.
    pub minimum_group: u32,
    /// What the noise of its cells is drawn with.
    pub draws: OwnerDraws,
    /// How its axes are rolled up, and the values that it declares.
    pub axes: Vec<Axis>,
    /// With facts as [`Facts::gathered`] numbers them.
    pub tables: Tables,
}

/// What holds of one total at every owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TotalTerms {
    /// Whether every contribution is 1 by declaration; see [`Total::ones`].
    pub ones: bool,
    /// The least that a unit's total counts for, in units of the last digit.
    pub lower: i128,
    /// The most.
    pub upper: i128,
    /// How many digits are decimals.
    pub scale: i8,
}

/// Cells put together: what a gate and a [`Pattern`](crate::Pattern) are made from. `Debug` shows no content.
pub struct Joined {
    /// With the strictest minimum group of all owners.
    pub facts: Facts,
    /// With what any of the owners declares.
    pub axes: Vec<Axis>,
    /// Of the owners' layout, but for columns about [`Parts`] among the facts.
    pub tables: Tables,
}

impl fmt::Debug for OwnerPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerPart")
            .field("axes", &self.axes.len())
            .field("tables", &self.tables.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined")
            .field("axes", &self.axes.len())
            .field("tables", &self.tables.len())
            .finish_non_exhaustive()
    }
}

/// Why parts of cells are not put together. No variant carries a value of the data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JointError {
    /// There are none, or more than have a place each.
    #[error("parts of {owners} owners are put together, of at least 1 and at most 64")]
    Owners {
        /// How many there are.
        owners: usize,
    },
    /// An owner's part cannot be true, or is not what was asked for.
    #[error("the part of owner {owner} is not one of these cells")]
    Part {
        /// Its place among the parts, from 0.
        owner: usize,
        /// What is wrong with it.
        #[source]
        source: ReleaseError,
    },
    /// The parts do not fit each other.
    #[error("the part of owner {owner} has other axes or columns than the first one's")]
    Unlike {
        /// Its place among the parts.
        owner: usize,
    },
    /// They fit, and still cannot be added up.
    #[error("the parts cannot be put together")]
    Merge {
        /// Why.
        #[from]
        source: ReleaseError,
    },
}

/// Puts the parts of the same cells together.
pub fn join(parts: &[OwnerPart], totals: &[TotalTerms]) -> Result<Joined, JointError> {
    join_with(parts, totals, PTable::standard())
}

/// The same with noise of another table, here and at the owners.
pub(crate) fn join_with(
    parts: &[OwnerPart],
    totals: &[TotalTerms],
    table: &'static PTable,
) -> Result<Joined, JointError> {
    let owners = parts.len();
    let first = parts.first().ok_or(JointError::Owners { owners })?;
    if owners > MOST_OWNERS {
        return Err(JointError::Owners { owners });
    }
    let opened = parts.iter().enumerate().map(|(owner, part)| {
        let source = |source| JointError::Part { owner, source };
        Opened::of(part, totals, table).map_err(source)
    });
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    let weighed = opened.iter().zip(parts).enumerate();
    let weighed = weighed.map(|(owner, (opened, part))| {
        let source = |source| JointError::Part { owner, source };
        Weighed::of(opened, part, totals).map_err(source)
    });
    let weighed = weighed.collect::<Result<Vec<_>, _>>()?;

    let minimum_group = parts.iter().map(|p| p.minimum_group).max().unwrap_or(0);
    let draws = parts.iter().map(|p| p.draws.clone()).collect();
    let draws = CellDraws::Joint(draws);
    let facts = Facts::joint(minimum_group, totals, &first.draws, Noise { draws, table });
    let mut axes = first.axes.clone();
    for (owner, part) in parts.iter().enumerate().skip(1) {
        declare(&mut axes, &part.axes).ok_or(JointError::Unlike { owner })?;
    }
    let joining = Joining {
        weighed: &weighed,
        minimum_group,
    };
    let tables = first.tables.iter().map(|(levels, _)| {
        let merged = joining.table(levels, totals)?;
        Ok((levels.clone(), merged))
    });
    let tables = tables.collect::<Result<_, JointError>>()?;
    Ok(Joined {
        facts,
        axes,
        tables,
    })
}

/// Adds what `more` declares to the values of `axes`; none if they are other axes.
fn declare(axes: &mut [Axis], more: &[Axis]) -> Option<()> {
    if axes.len() != more.len() {
        return None;
    }
    for (axis, more) in axes.iter_mut().zip(more) {
        if axis.coarser != more.coarser || axis.declared.len() != more.declared.len() {
            return None;
        }
        for (declared, more) in axis.declared.iter_mut().zip(&more.declared) {
            *declared = match (declared.num_columns(), more.num_columns()) {
                (_, 0) => continue,
                (0, _) => more.clone(),
                _ => concat_batches(declared.schema_ref(), [&*declared, more]).ok()?,
            };
        }
    }
    Some(())
}

impl Facts {
    /// The facts of cells that were put together. A total is called as the first owner calls it where nobody's noise hangs
    /// on that.
    fn joint(minimum_group: u32, totals: &[TotalTerms], first: &OwnerDraws, noise: Noise) -> Self {
        let members = |first| Members {
            count: first,
            key_sum: first + 1,
            parts: Some(Parts {
                owners: first + 2,
                fit: first + 3,
            }),
        };
        let named = totals.iter().zip(&first.totals).enumerate();
        let total = |(at, (terms, id)): (usize, (&TotalTerms, &String))| {
            let first = columns::UNITS + columns::TOTAL * at;
            Total {
                id: id.clone(),
                members: members(first),
                sum: first + 4,
                largest: first + 5,
                second: first + 6,
                negatives: first + 7,
                ones: terms.ones,
            }
        };
        Self {
            minimum_group,
            units: members(0),
            totals: named.map(total).collect(),
            noise,
        }
    }
}

/// One owner's part with its own facts, as cuboids.
struct Opened {
    facts: Facts,
    cuboids: Vec<Cuboid>,
}

impl Opened {
    fn of(
        part: &OwnerPart,
        totals: &[TotalTerms],
        table: &'static PTable,
    ) -> Result<Self, ReleaseError> {
        if part.draws.totals.len() != totals.len() {
            return Err(wrong("other totals than were asked for"));
        }
        let ids = part.draws.totals.iter().cloned();
        let ones = totals.iter().map(|t| t.ones);
        let noise = Noise {
            draws: CellDraws::Own(part.draws.secret.clone()),
            table,
        };
        let facts = Facts::gathered(part.minimum_group, ids.zip(ones), noise);
        let cuboid = |(levels, cells): &(Vec<usize>, RecordBatch)| {
            let keys = Keys::columns_of(&part.axes, levels);
            let rest = Facts::gathered_columns(totals.len());
            let first = cells.num_columns().checked_sub(rest).filter(|f| *f >= keys);
            let first = first.ok_or_else(|| wrong("a table without its columns"))?;
            let columns: Vec<usize> = (0..keys).chain(first..cells.num_columns()).collect();
            Ok(Cuboid {
                levels: levels.clone(),
                cells: cells.project(&columns)?,
            })
        };
        let cuboids = part.tables.iter().map(cuboid);
        let cuboids = cuboids.collect::<Result<Vec<Cuboid>, ReleaseError>>()?;
        // Ahead of all that takes memory by the row: facts are numbers, which a table of many rows has bytes for.
        for cuboid in &cuboids {
            let keys = Keys::columns_of(&part.axes, &cuboid.levels);
            facts.check(cuboid.cells.schema_ref(), keys)?;
        }
        Ok(Self { facts, cuboids })
    }
}

/// One owner's part, checked, with what the owner would withhold of it by itself.
struct Weighed<'a> {
    tables: BTreeMap<&'a [usize], (Table<'a>, Keys, &'a RecordBatch)>,
    checked: Checked,
}

impl<'a> Weighed<'a> {
    fn of(
        opened: &'a Opened,
        part: &'a OwnerPart,
        totals: &[TotalTerms],
    ) -> Result<Self, ReleaseError> {
        let lattice = Lattice::open(&opened.facts, &part.axes, &opened.cuboids)?;
        let mut withheld = lattice.tables()?;
        let mut tables = BTreeMap::new();
        for (cuboid, (levels, cells)) in opened.cuboids.iter().zip(&part.tables) {
            let table = withheld.remove(levels.as_slice());
            let table = table.ok_or_else(|| wrong("a table that comes twice"))?;
            let keys = Keys::read(&part.axes, cuboid)?;
            tables.insert(levels.as_slice(), (table, keys, cells));
        }
        let checked = Checked::of(&part.axes, &tables, totals)?;
        Ok(Self { tables, checked })
    }

    fn table(&self, levels: &[usize]) -> Option<&(Table<'a>, Keys, &'a RecordBatch)> {
        self.tables.get(levels)
    }
}

/// Where the parts of one cell are: of each owner its row, if it has one.
struct Place {
    rows: Vec<Option<usize>>,
    /// The cell's key on each axis.
    at: Vec<Option<Vec<u8>>>,
    /// Every key that is told of it.
    lies: Vec<u8>,
}

struct Joining<'a> {
    weighed: &'a [Weighed<'a>],
    minimum_group: u32,
}

impl Joining<'_> {
    fn table(&self, levels: &[usize], totals: &[TotalTerms]) -> Result<RecordBatch, JointError> {
        let mut tables = Vec::new();
        for (owner, weighed) in self.weighed.iter().enumerate() {
            let table = weighed.table(levels).ok_or(JointError::Unlike { owner })?;
            tables.push(table);
        }
        let batches: Vec<&RecordBatch> = tables.iter().map(|(_, _, cells)| *cells).collect();
        if let Some(owner) = batches.iter().position(|b| !alike(batches.first(), b)) {
            return Err(JointError::Unlike { owner });
        }
        let mut merged = Merged::of(totals.len());
        let facts = Facts::gathered_columns(totals.len());
        let keys = batches
            .first()
            .map_or(0, |b| b.num_columns().saturating_sub(facts));
        let places = places(&tables, keys)?;
        for place in places.values() {
            for at in 0..=totals.len() {
                let statistic = match at.checked_sub(1) {
                    None => Statistic::Units,
                    Some(total) => Statistic::Total(total),
                };
                self.add(&tables, place, levels, (at, statistic), &mut merged)?;
            }
        }
        let rows: Vec<&[Option<usize>]> = places.values().map(|p| p.rows.as_slice()).collect();
        Ok(merged.write(&batches, keys, &rows, totals)?)
    }

    /// Adds what the owners have of one statistic of a cell.
    fn add(
        &self,
        tables: &[&(Table<'_>, Keys, &RecordBatch)],
        place: &Place,
        levels: &[usize],
        (at, statistic): (usize, Statistic),
        merged: &mut Merged,
    ) -> Result<(), ReleaseError> {
        let mut sum = columns::Sum::default();
        let mut withheld = Vec::new();
        for (owner, ((table, _, _), row)) in tables.iter().zip(&place.rows).enumerate() {
            let count = row.map_or(0, |row| table.weighed.members(statistic, row));
            let amount = row.and_then(|row| table.weighed.amount(statistic, row));
            if let Some(row) = row.filter(|_| count > 0) {
                let part = (table.weighed.part(statistic, row), amount);
                sum.add(owner, part)
                    .ok_or_else(|| wrong("a total too large to add up"))?;
            }
            let shown = row.is_some_and(|row| !table.hidden[at][row]);
            let possible = self.weighed[owner].checked.may_have(levels, &place.at);
            if !shown && (count > 0 || possible) {
                withheld.push((count, amount.unwrap_or_default()));
            }
        }
        sum.fit = self.protects(statistic, &withheld);
        merged.push(at, sum);
        Ok(())
    }

    /// Whether what owners withhold by themselves may be told together.
    fn protects(&self, statistic: Statistic, withheld: &[(u64, Amount)]) -> bool {
        let together = withheld
            .iter()
            .map(|(n, _)| *n)
            .fold(0, u64::saturating_add);
        // A part without units hides no other.
        let parts = withheld.iter().filter(|(n, _)| *n > 0).count();
        let amount = lines::together(withheld.iter().map(|(_, amount)| *amount));
        let dominated = match statistic {
            Statistic::Units => false,
            Statistic::Total(_) => !dominance::passes(amount.sum, amount.largest, amount.second),
        };
        withheld.is_empty()
            || (parts >= 2 && together >= u64::from(self.minimum_group) && !dominated)
    }
}

/// The cells that any owner has, in the order of their names. Where several have one, all say the same of what it lies in:
/// the first `keys` columns.
fn places(
    tables: &[&(Table<'_>, Keys, &RecordBatch)],
    keys: usize,
) -> Result<BTreeMap<Vec<u8>, Place>, JointError> {
    let mut places: BTreeMap<Vec<u8>, Place> = BTreeMap::new();
    for (owner, (table, own, cells)) in tables.iter().enumerate() {
        let part = |source| JointError::Part { owner, source };
        let within = cells.columns().iter().take(keys).map(KeyColumn::read);
        let within = within.collect::<Result<Vec<_>, _>>().map_err(part)?;
        for (name, row) in &table.rows {
            let mut lies = Vec::new();
            within.iter().for_each(|key| key.write(*row, &mut lies));
            let place = match places.entry(name.clone()) {
                Entry::Occupied(place) => place.into_mut(),
                Entry::Vacant(place) => place.insert(Place {
                    rows: vec![None; tables.len()],
                    at: own.at(*row),
                    lies: lies.clone(),
                }),
            };
            if place.lies != lies {
                return Err(part(wrong("a cell that lies elsewhere with another owner")));
            }
            if let Some(of) = place.rows.get_mut(owner) {
                *of = Some(*row);
            }
        }
    }
    Ok(places)
}

fn alike(first: Option<&&RecordBatch>, other: &RecordBatch) -> bool {
    let types = |b: &RecordBatch| -> Vec<_> {
        let fields = b.schema_ref().fields().iter();
        fields.map(|f| f.data_type().clone()).collect()
    };
    first.is_some_and(|first| types(first) == types(other))
}

fn wrong(what: &str) -> ReleaseError {
    ReleaseError::Rule {
        what: what.to_owned(),
    }
}
