//! Margins: what else is withheld so that a withheld cell is not given away by the totals around it.
//!
//! A cube is published in many tables at once: by ward and month, by ward, by month, and as a whole. A cell that
//! fails on its own (`primary`) is the difference of a margin and the cells beside it, unless others are withheld
//! too. [`Pattern::build`] chooses them once per snapshot of the data, over the whole lattice of tables
//! ([`Cuboid`]s), from the coarsest to the finest, for the count of units and for each total apart:
//!
//! * **heredity**: a cell whose parent is withheld is withheld. So no withheld cell is the sum of published ones.
//! * **the line rule**: the children of one published parent along one step of one axis are a *line*. It has a child
//!   for every value that the axis has below the parent's, be it declared or anywhere in the data; one in which there is
//!   nobody is withheld with nobody in it. Those withheld in a line are at least two, are together at least
//!   `minimum_group` units, and for a total are together not dominated; until they are, the published one with the
//!   fewest units is withheld as well.
//!
//! Each table depends on coarser ones only, so a table has one pattern, whichever finer ones it is asked with.
//!
//! # What it promises
//!
//! Where there is nobody looks as if there were few: in each line as much is withheld as if somebody were there. So no
//! published cell is all of its parent, which equal counts would show, unless the axis has no other value there. What
//! cannot be otherwise, such as a car park that lies in one ward, a product declares by `within`; then it is no line.
//!
//! No withheld cell is a published one less the other published ones of its line, however many are subtracted. And
//! every published count has noise of its own, of variance 3; only equal members have equal noise. So a cell that
//! fails on its own is never worked out from one published count (its members would be that count's, which would then
//! fail too), and where several lines together lead to it, the noise of all of them comes along.
//!
//! The audit in `tests/audit.rs` holds this against an attacker who solves for a failing cell by least squares over
//! everything published, in random cubes:
//!
//! * In full cubes, where most combinations of keys have units and levels nest, such a cell has no unbiased estimate
//!   at all, or one whose standard deviation is 2.4 at least (two counts' noise). Of 4,000 failing cells in 1,200
//!   cubes of one to three axes 2 had one, at a standard deviation of 5.2.
//! * In no cube is such a cell known without noise.
//!
//! # What it does not promise
//!
//! **Bridges.** Lines are weighed one at a time. From two dimensions on, withheld cells form cycles, and where one
//! cell alone joins two cycles (a bridge), adding and subtracting all lines around one of them leaves that cell:
//! exactly, if there were no noise. There is: such a sum has 8 terms at least, a standard deviation of about 4.9.
//! Patterns without bridges are what tau-ARGUS finds; the best of them is NP-hard to find.
//!
//! **Sparse cubes.** Every line that is not full loses its smallest published cell, so a product whose combinations are
//! mostly empty shows little. Who knows from elsewhere which combinations are empty can do more, since a parent with one
//! child that has units is that child, whose value is published with it, even if the child's own cell is withheld: in the
//! audit's worst (17,000 failing cells in cubes of 5 by 5, most of them empty) by averaging several ways down to a
//! standard deviation of 0.9. A product whose combinations are mostly empty should be offered by fewer dimensions.
//!
//! **Values that nobody declared.** That a value is anywhere in the data shows in every line that has it not. Where the
//! bare existence of a rare value tells of somebody, the dimension's values are to be declared.
//!
//! **Levels that do not nest** (weeks and months): each is protected against its own lines, and differences of
//! overlapping periods are left to noise. [`Axis::nests`] tells them from those that do.
//!
//! **Other statistics, other cubes.** Statistics are protected one by one: what a count tells of a sum is not weighed,
//! nor is a second cube over the same people. Distinct units of several cells are never taken for more than is sure;
//! the dominance of several cells is judged as if no unit were in two of them.

use crate::cells::CellRule;
use crate::coordinates::KeyColumn;
use crate::facts::{Facts, Statistic};
use crate::lattice::Lattice;
use crate::release::ReleaseError;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// How one axis (dimension) of a cube is rolled up.
///
/// Levels are numbered from 1, the finest that is asked of, upwards; level 0 is "all". `coarser[l - 1]` lists the
/// levels, none of them 0, that level `l` nests in: each of its values lies in one value of each of those. A level
/// that lists none nests in "all" directly.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// For each level, the levels it nests in.
    pub coarser: Vec<Vec<usize>>,
    /// For each level, values that it has whether or not they are in the data: the key columns that a [`Cuboid`] of this
    /// axis alone has at that level. Without columns where none are declared.
    pub declared: Vec<RecordBatch>,
}

impl Axis {
    /// Whether of any two levels one nests in the other, as years, months and days do, and weeks and months do not.
    #[must_use]
    pub fn nests(&self) -> bool {
        let levels = 1..=self.coarser.len();
        let pairs = levels
            .clone()
            .flat_map(|a| levels.clone().map(move |b| (a, b)));
        pairs.into_iter().all(|(a, b)| {
            a == b || self.reaches(a, b, levels.end()) || self.reaches(b, a, levels.end())
        })
    }

    /// Whether level `from` nests in `to`, by way of `steps` levels at most.
    fn reaches(&self, from: usize, to: usize, steps: &usize) -> bool {
        let coarser = from.checked_sub(1).and_then(|at| self.coarser.get(at));
        let next = steps.checked_sub(1);
        let leads = |level: &usize| {
            *level == to || next.is_some_and(|left| self.reaches(*level, to, &left))
        };
        coarser.is_some_and(|levels| levels.iter().any(leads))
    }
}

/// One table of the lattice.
///
/// Its key columns come first: for each axis whose level is not 0, in axis order, its own key at that level, then its
/// key at each level of `coarser[level - 1]`, in that order. The facts follow, at the columns that [`Facts`] numbers.
#[derive(Clone)]
pub struct Cuboid {
    /// A level for each axis; 0 for one that is rolled up to all.
    pub levels: Vec<usize>,
    /// Its cells, one row each.
    pub cells: RecordBatch,
}

impl fmt::Debug for Cuboid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuboid")
            .field("levels", &self.levels)
            .field("columns", &self.cells.num_columns())
            .finish_non_exhaustive()
    }
}

/// A lattice of more units than an answer's own, some of which are in the answer: what somebody publishes from which the
/// answer could be taken. Its last axis says which ones are.
#[derive(Debug, Clone)]
pub struct Beside {
    /// What is known of each of its cells.
    pub facts: Facts,
    /// Some of the answer's axes, and one more of one level: [`Self::INSIDE`] for units that are in the answer, another text
    /// for others.
    pub axes: Vec<Axis>,
    /// Numbers of those axes among the answer's, in order; the last one has none.
    pub of: Vec<usize>,
    /// For each of its totals, the number of the same one among the answer's.
    pub totals: Vec<usize>,
    /// Every combination of levels once.
    pub cuboids: Vec<Cuboid>,
}

impl Beside {
    /// The value of the last axis for units that are in the answer.
    pub const INSIDE: &str = "in";
}

/// Which cells of the finest cuboid are withheld, for the count of units and for each total.
///
/// A cell that it does not know of is withheld.
pub struct Pattern {
    minimum_group: u32,
    axes: usize,
    /// The totals it was built for, by id; none for [`Pattern::whole`], which withholds nothing.
    totals: Option<Vec<String>>,
    /// For each cell of which anything is shown: the count of units, then each total.
    shown: HashMap<Vec<u8>, Box<[bool]>>,
}

impl Pattern {
    /// The pattern over a lattice: `cuboids` holds each combination of levels once, in any order.
    ///
    /// Fails if a cuboid is missing, comes twice, is not of the layout that its levels ask for, or has a cell whose
    /// parent is missing.
    pub fn build(rule: &Facts, axes: &[Axis], cuboids: &[Cuboid]) -> Result<Self, ReleaseError> {
        let finest = Lattice::open(rule, axes, cuboids)?.withhold()?;
        Ok(Self {
            minimum_group: rule.minimum_group,
            axes: axes.len(),
            totals: Some(rule.totals.iter().map(|t| t.id.clone()).collect()),
            shown: finest,
        })
    }

    /// The same over a lattice of cells that lie in others' as well: those of units whose rows meet, in what each owner
    /// publishes of its own units, met or not.
    ///
    /// What the lattices `beside` it withhold of cells that are [inside](Beside::INSIDE), this one withholds, too. Without
    /// axes it is about the one cell that there is.
    pub fn build_beside(
        rule: &Facts,
        axes: &[Axis],
        cuboids: &[Cuboid],
        beside: &[Beside],
    ) -> Result<Self, ReleaseError> {
        let lattice = Lattice::open(rule, axes, cuboids)?.beside(beside)?;
        Ok(Self {
            minimum_group: rule.minimum_group,
            axes: axes.len(),
            totals: Some(rule.totals.iter().map(|t| t.id.clone()).collect()),
            shown: lattice.withhold()?,
        })
    }

    /// The pattern of an answer that is one cell, the whole table: nothing is withheld.
    #[must_use]
    pub fn whole() -> Self {
        Self {
            minimum_group: 0,
            axes: 0,
            totals: None,
            shown: HashMap::new(),
        }
    }

    /// Where the count of units and each of `facts`' totals is in [`Self::shown`].
    fn places(&self, facts: &Facts) -> Result<Vec<usize>, ReleaseError> {
        let Some(totals) = &self.totals else {
            return Ok(vec![]);
        };
        let place = |id: &str| {
            let at = totals.iter().position(|t| t == id);
            at.map(|at| at + 1)
                .ok_or_else(|| wrong(format!("no margins for total `{id}`")))
        };
        let totals = facts.totals.iter().map(|t| place(&t.id));
        std::iter::once(Ok(0)).chain(totals).collect()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pattern")
            .field("axes", &self.axes)
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}

/// A pattern, and where the cells of an answer are in it.
#[derive(Debug, Clone)]
pub struct Margins {
    /// What is withheld.
    pub pattern: Arc<Pattern>,
    /// Where an answered cell is along each axis, in axis order, at the axis's level 1.
    pub coordinates: Vec<Coordinate>,
}

/// Where the cells of an answer are along one axis.
#[derive(Clone)]
pub enum Coordinate {
    /// In this input column of the answer.
    Column(usize),
    /// All at one value, an array of length 1: what a filter fixed. It matches keys of its kind (texts, whole numbers,
    /// times and dates, ...), whatever their width or encoding; of another kind it matches nothing, which withholds all.
    Value(ArrayRef),
}

impl fmt::Debug for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => f.debug_tuple("Column").field(column).finish(),
            Self::Value(_) => f.write_str("Value(..)"),
        }
    }
}

impl Margins {
    /// The margins of an answer over the whole table, which has none.
    #[must_use]
    pub fn whole() -> Self {
        Self {
            pattern: Arc::new(Pattern::whole()),
            coordinates: vec![],
        }
    }

    /// Fails unless the pattern is one for this rule and its coordinates are there.
    pub(crate) fn check(&self, rule: &CellRule, input: &Schema) -> Result<(), ReleaseError> {
        let (pattern, coordinates) = (&self.pattern, self.coordinates.len());
        if pattern.axes != coordinates {
            return Err(wrong(format!(
                "{coordinates} coordinates along {} axes",
                pattern.axes
            )));
        }
        // Invariant: an answer of several cells has margins, and they were weighed by the answer's own minimum.
        let whole = pattern.totals.is_none();
        if whole && !rule.whole_table() {
            return Err(wrong("cells without margins".to_owned()));
        }
        if !whole && pattern.minimum_group != rule.facts.minimum_group {
            return Err(wrong("margins for another minimum group".to_owned()));
        }
        let bad = self.coordinates.iter().find(|c| match c {
            Coordinate::Column(column) => *column >= input.fields().len().min(rule.first_fact),
            Coordinate::Value(value) => value.len() != 1,
        });
        if let Some(bad) = bad {
            return Err(wrong(format!("no coordinate {bad:?}")));
        }
        pattern.places(&rule.facts).map(|_| ())
    }

    /// What the pattern says of each cell of `batch`.
    pub(crate) fn kept(&self, facts: &Facts, batch: &RecordBatch) -> Result<Kept, ReleaseError> {
        if self.pattern.totals.is_none() {
            return Ok(Kept { cells: None });
        }
        let places = self.pattern.places(facts)?;
        let axes = self.coordinates.iter().map(|c| c.read(batch));
        let axes = axes.collect::<Result<Vec<_>, _>>()?;
        let cells = (0..batch.num_rows()).map(|row| {
            let mut name = Vec::new();
            axes.iter().for_each(|axis| axis.write(row, &mut name));
            let known = self.pattern.shown.get(&name);
            let shown = |place: &usize| known.and_then(|k| k.get(*place)).copied().unwrap_or(false);
            places.iter().map(shown).collect()
        });
        Ok(Kept {
            cells: Some(cells.collect()),
        })
    }
}

impl Coordinate {
    fn read(&self, batch: &RecordBatch) -> Result<Place, ReleaseError> {
        match self {
            Self::Column(column) => {
                let values = batch.columns().get(*column).ok_or(ReleaseError::Shape)?;
                Ok(Place::Moving(KeyColumn::read(values)?))
            }
            Self::Value(value) => Ok(Place::Fixed(KeyColumn::read(value)?)),
        }
    }
}

/// A coordinate, read.
enum Place {
    Moving(KeyColumn),
    Fixed(KeyColumn),
}

impl Place {
    fn write(&self, row: usize, name: &mut Vec<u8>) {
        match self {
            Self::Moving(keys) => keys.write(row, name),
            Self::Fixed(keys) => keys.write(0, name),
        }
    }
}

/// What margins let each cell of an answer show.
pub(crate) struct Kept {
    /// For each row, the count of units and each total; none if nothing is withheld.
    cells: Option<Vec<Box<[bool]>>>,
}

impl Kept {
    pub(crate) fn shows(&self, statistic: Statistic, row: usize) -> bool {
        let place = match statistic {
            Statistic::Units => 0,
            Statistic::Total(total) => total + 1,
        };
        let Some(cells) = &self.cells else {
            return true;
        };
        cells
            .get(row)
            .and_then(|c| c.get(place))
            .copied()
            .unwrap_or(false)
    }
}

fn wrong(what: String) -> ReleaseError {
    ReleaseError::Rule { what }
}

#[cfg(test)]
impl Pattern {
    /// A pattern over one axis that shows everything of these cells, for tests of what is judged without margins.
    pub(crate) fn showing_all(facts: &Facts, keys: &ArrayRef) -> Self {
        let column = KeyColumn::read(keys).unwrap();
        let name = |row| {
            let mut name = Vec::new();
            column.write(row, &mut name);
            name
        };
        let shown = vec![true; facts.totals.len() + 1].into_boxed_slice();
        Self {
            minimum_group: facts.minimum_group,
            axes: 1,
            totals: Some(facts.totals.iter().map(|t| t.id.clone()).collect()),
            shown: (0..keys.len())
                .map(|row| (name(row), shown.clone()))
                .collect(),
        }
    }
}
