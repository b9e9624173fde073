//! The lattice of a cube's tables, from the coarsest to the finest.

use crate::coordinates::KeyColumn;
use crate::facts::{Facts, Statistic, Weighed};
use crate::lines::{Line, Lines};
use crate::margins::{Axis, Beside, Cuboid};
use crate::release::ReleaseError;
use arrow::array::{ArrayRef, StringArray};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// All cuboids of a cube, each of the layout that its levels ask for.
pub(crate) struct Lattice<'a> {
    facts: &'a Facts,
    axes: &'a [Axis],
    /// Parents before their children.
    cuboids: Vec<&'a Cuboid>,
    /// What is withheld whatever the lattice itself says.
    beside: Withheld,
}

/// Cells that are withheld for another lattice's sake.
#[derive(Debug, Default)]
pub(crate) struct Withheld(Vec<OfTables>);

/// What another lattice says of the tables of some axes.
#[derive(Debug)]
struct OfTables {
    /// Numbers of the axes that it has, in order.
    axes: Vec<usize>,
    /// For each of its statistics, the units first, the place of it among this lattice's.
    statistics: Vec<usize>,
    /// By the levels of those axes, and the names of cells: for each of its statistics whether it is withheld. A cell that
    /// is not there is withheld.
    tables: HashMap<Vec<usize>, HashMap<Vec<u8>, Vec<bool>>>,
}

impl Withheld {
    /// Whether a statistic of a cell of the table at `levels` is withheld.
    fn holds(&self, levels: &[usize], name: &[u8], statistic: usize) -> bool {
        self.0.iter().any(|of| of.holds(levels, name, statistic))
    }
}

impl OfTables {
    /// What `beside` says, by the axes and totals of the lattice that it is beside.
    fn of(beside: &Beside) -> Result<Self, ReleaseError> {
        let lattice = Lattice::open(&beside.facts, &beside.axes, &beside.cuboids)?;
        let mut inside = Vec::new();
        let value: ArrayRef = Arc::new(StringArray::from(vec![Beside::INSIDE]));
        KeyColumn::read(&value)?.write(0, &mut inside);
        let mut tables = HashMap::new();
        for (levels, table) in lattice.tables()? {
            let Some((1, own)) = levels.split_last() else {
                continue;
            };
            let mut cells = HashMap::new();
            for (name, row) in &table.rows {
                if let Some(name) = name.strip_suffix(inside.as_slice()) {
                    let withheld = table.hidden.iter().map(|h| h[*row]);
                    cells.insert(name.to_vec(), withheld.collect());
                }
            }
            tables.insert(own.to_vec(), cells);
        }
        Ok(Self {
            axes: beside.of.clone(),
            statistics: std::iter::once(0)
                .chain(beside.totals.iter().map(|t| t.saturating_add(1)))
                .collect(),
            tables,
        })
    }

    fn holds(&self, levels: &[usize], name: &[u8], statistic: usize) -> bool {
        let others = levels.iter().enumerate();
        let mut others = others.filter(|(at, level)| !self.axes.contains(at) && **level != 0);
        let Some(at) = self.statistics.iter().position(|s| *s == statistic) else {
            return false;
        };
        if others.next().is_some() {
            return false;
        }
        let own = self.axes.iter().filter_map(|at| levels.get(*at).copied());
        let cells = self.tables.get(&own.collect::<Vec<usize>>());
        let withheld = cells.and_then(|c| c.get(name)).and_then(|w| w.get(at));
        withheld.copied().unwrap_or(true)
    }
}

impl<'a> Lattice<'a> {
    pub(crate) fn open(
        facts: &'a Facts,
        axes: &'a [Axis],
        cuboids: &'a [Cuboid],
    ) -> Result<Self, ReleaseError> {
        let depths = axes.iter().map(depths).collect::<Result<Vec<_>, _>>()?;
        let fits = |c: &Cuboid| {
            c.levels.len() == axes.len() && c.levels.iter().zip(&depths).all(|(l, d)| *l < d.len())
        };
        if !cuboids.iter().all(fits) {
            return Err(wrong("a cuboid at a level that its axis has not"));
        }
        let depth = |c: &Cuboid| {
            c.levels
                .iter()
                .zip(&depths)
                .map(|(l, d)| d[*l])
                .sum::<usize>()
        };
        let mut ordered: Vec<&Cuboid> = cuboids.iter().collect();
        ordered.sort_by_key(|c| (depth(c), c.levels.clone()));
        let repeated = ordered.windows(2).any(|w| w[0].levels == w[1].levels);
        let all = depths
            .iter()
            .try_fold(1_usize, |n, d| n.checked_mul(d.len()));
        // Invariant: with levels in range and none twice, as many as there are is each of them once.
        if repeated || all != Some(ordered.len()) {
            return Err(wrong("the lattice has not each of its cuboids once"));
        }
        Ok(Self {
            facts,
            axes,
            cuboids: ordered,
            beside: Withheld::default(),
        })
    }

    /// The same, where cells are withheld for the sake of lattices beside it, too.
    pub(crate) fn beside(self, all: &[Beside]) -> Result<Self, ReleaseError> {
        let fits = |b: &Beside| {
            let axes = b.of.iter().map(|at| self.axes.get(*at));
            let own = b.axes.split_last().map(|(_, own)| own);
            let alike = own.is_some_and(|own| {
                own.len() == b.of.len()
                    && axes
                        .zip(own)
                        .all(|(a, b)| a.is_some_and(|a| a.coarser == b.coarser))
            });
            alike && b.of.is_sorted() && b.totals.len() == b.facts.totals.len()
        };
        if !all.iter().all(fits) {
            return Err(wrong("a lattice beside it that has other axes"));
        }
        let withheld = all.iter().map(OfTables::of);
        let beside = Withheld(withheld.collect::<Result<_, _>>()?);
        Ok(Self { beside, ..self })
    }

    /// What is shown of each cell of the finest cuboid: the count of units, then each total.
    pub(crate) fn withhold(&self) -> Result<HashMap<Vec<u8>, Box<[bool]>>, ReleaseError> {
        let finest = self.axes.iter().map(|a| a.coarser.len().min(1));
        let finest: Vec<usize> = finest.collect();
        let table = self
            .tables()?
            .remove(finest.as_slice())
            .ok_or_else(|| wrong("the lattice has no finest cuboid"))?;
        Ok(table.shown())
    }

    /// Each table with what is withheld of it, by its levels.
    pub(crate) fn tables(&self) -> Result<HashMap<&'a [usize], Table<'a>>, ReleaseError> {
        let domains = Domains::of(self.axes, &self.cuboids)?;
        let mut done: HashMap<&'a [usize], Table<'a>> = HashMap::new();
        for cuboid in &self.cuboids {
            let mut table = Table::open(self.facts, self.axes, cuboid)?;
            let beside = |name: &[u8], at: usize| self.beside.holds(&cuboid.levels, name, at);
            let hidden = table.lines(&done, &domains)?.withhold(&beside);
            table.hidden = hidden;
            done.insert(&cuboid.levels, table);
        }
        Ok(done)
    }
}

/// How many steps each level of an axis is from "all", at most; level 0 comes first.
fn depths(axis: &Axis) -> Result<Vec<usize>, ReleaseError> {
    let levels = axis.coarser.len();
    if axis
        .coarser
        .iter()
        .flatten()
        .any(|l| *l == 0 || *l > levels)
    {
        return Err(wrong("an axis nests in a level that it has not"));
    }
    let mut depths = vec![0; levels + 1];
    // A path without a cycle has at most as many steps as there are levels.
    for _ in 0..=levels {
        let before = depths.clone();
        for (at, coarser) in axis.coarser.iter().enumerate() {
            depths[at + 1] = 1 + coarser.iter().map(|l| before[*l]).max().unwrap_or(0);
        }
        if before == depths {
            return Ok(depths);
        }
    }
    Err(wrong("an axis has levels that nest in each other"))
}

/// One cuboid, read.
pub(crate) struct Table<'a> {
    pub(crate) weighed: Weighed<'a>,
    /// Its rows by their cells' names, which order them whatever order they came in.
    pub(crate) rows: BTreeMap<Vec<u8>, usize>,
    steps: Vec<Step>,
    /// For the count of units and each total, whether it is withheld in each row.
    pub(crate) hidden: Vec<Vec<bool>>,
}

/// One axis moved one step coarser.
struct Step {
    /// The axis, its level and the level it moves to.
    along: Along,
    /// The levels of the cuboid it leads to.
    levels: Vec<usize>,
    /// The name there of each row's parent.
    parents: Vec<Vec<u8>>,
    /// The parent's value on the axis that moves; the same for all if that is rolled up to all.
    above: Vec<Vec<u8>>,
}

/// An axis, one of its levels and one that this nests in.
type Along = (usize, usize, usize);

/// The values that each axis has below each of its coarser values: those that are declared, and those that are anywhere
/// in the data.
struct Domains(HashMap<Along, BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>>);

impl Domains {
    /// Read off the tables of a single axis, which have every value that it has.
    fn of(axes: &[Axis], cuboids: &[&Cuboid]) -> Result<Self, ReleaseError> {
        let mut domains = Self(HashMap::new());
        for cuboid in cuboids.iter().filter(|c| c.is_of_one_axis()) {
            domains.read(axes, cuboid)?;
        }
        for (at, axis) in axes.iter().enumerate() {
            for (level, declared) in (1..).zip(&axis.declared) {
                let mut levels = vec![0; axes.len()];
                levels[at] = level;
                let cells = declared.clone();
                domains.read(axes, &Cuboid { levels, cells })?;
            }
        }
        Ok(domains)
    }

    fn read(&mut self, axes: &[Axis], cuboid: &Cuboid) -> Result<(), ReleaseError> {
        if cuboid.cells.num_columns() == 0 {
            return Ok(());
        }
        let keys = Keys::read(axes, cuboid)?;
        for step in keys.steps(cuboid) {
            let values = self.0.entry(step.along).or_default();
            for (row, above) in step.above.into_iter().enumerate() {
                let value = keys.name(row, None);
                values.entry(above).or_default().insert(value);
            }
        }
        Ok(())
    }

    /// How many values there are below `above`.
    fn below(&self, along: Along, above: &[u8]) -> usize {
        let values = self.0.get(&along).and_then(|v| v.get(above));
        values.map_or(0, BTreeSet::len)
    }
}

impl Cuboid {
    fn is_of_one_axis(&self) -> bool {
        self.levels.iter().filter(|level| **level > 0).count() == 1
    }
}

impl<'a> Table<'a> {
    fn open(facts: &'a Facts, axes: &[Axis], cuboid: &Cuboid) -> Result<Self, ReleaseError> {
        let keys = Keys::read(axes, cuboid)?;
        facts.check(cuboid.cells.schema_ref(), keys.columns)?;
        let mut rows = BTreeMap::new();
        for row in 0..cuboid.cells.num_rows() {
            if rows.insert(keys.name(row, None), row).is_some() {
                return Err(ReleaseError::SplitCell);
            }
        }
        Ok(Self {
            weighed: Weighed::read(facts, &cuboid.cells, keys.columns)?,
            rows,
            steps: keys.steps(cuboid),
            hidden: vec![],
        })
    }

    /// The lines that its cells make with the tables it nests in.
    fn lines<'t>(
        &'t self,
        done: &'t HashMap<&[usize], Table<'a>>,
        domains: &Domains,
    ) -> Result<Lines<'t, 'a>, ReleaseError> {
        let mut lines = Vec::new();
        for step in &self.steps {
            let up = done
                .get(step.levels.as_slice())
                .ok_or_else(|| wrong("a cuboid without its parent"))?;
            lines.extend(self.lines_to(up, step, domains)?);
        }
        let statistics = self.weighed.statistics();
        Ok(Lines {
            table: self,
            lines,
            statistics,
        })
    }

    /// One line for each parent, in the order of the parents' names; their children in the order of theirs.
    fn lines_to<'t>(
        &'t self,
        up: &'t Table<'a>,
        step: &Step,
        domains: &Domains,
    ) -> Result<Vec<Line<'t, 'a>>, ReleaseError> {
        let mut children: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        for row in self.rows.values() {
            children.entry(&step.parents[*row]).or_default().push(*row);
        }
        let line = |(name, children): (&[u8], Vec<usize>)| {
            let parent = up
                .rows
                .get(name)
                .ok_or_else(|| wrong("a cell without its margin"))?;
            let above = children.first().and_then(|row| step.above.get(*row));
            let values = above.map_or(0, |above| domains.below(step.along, above));
            // Invariant: the children of a line differ in the value that moves, which the axis alone has too.
            let absent = values
                .checked_sub(children.len())
                .ok_or_else(|| wrong("a cell at a value that its axis has not"))?;
            Ok(Line {
                up,
                parent: *parent,
                children,
                absent,
            })
        };
        children.into_iter().map(line).collect()
    }

    /// For each table that it nests in, its levels and the name there of each row's parent.
    pub(crate) fn parents(&self) -> impl Iterator<Item = (&[usize], &[Vec<u8>])> {
        let steps = self.steps.iter();
        steps.map(|step| (step.levels.as_slice(), step.parents.as_slice()))
    }

    fn shown(self) -> HashMap<Vec<u8>, Box<[bool]>> {
        let hidden = self.hidden;
        let shown = |row: usize| hidden.iter().map(|h| !h[row]).collect::<Box<[bool]>>();
        let cells = self.rows.into_iter().map(|(name, row)| (name, shown(row)));
        cells.filter(|(_, shown)| shown.contains(&true)).collect()
    }
}

impl Weighed<'_> {
    pub(crate) fn statistics(&self) -> Vec<Statistic> {
        let totals = (0..self.totals()).map(Statistic::Total);
        std::iter::once(Statistic::Units).chain(totals).collect()
    }
}

/// The key columns of one cuboid.
pub(crate) struct Keys {
    /// None for an axis that is rolled up to all.
    axes: Vec<Option<AxisKeys>>,
    columns: usize,
}

/// The key columns of one axis.
struct AxisKeys {
    own: KeyColumn,
    /// The key at each coarser level, with that level.
    up: Vec<(usize, KeyColumn)>,
}

/// For one axis, the level it moves to and the key there; level 0 has none.
pub(crate) type Move<'a> = (usize, usize, Option<&'a KeyColumn>);

impl Keys {
    /// How many columns they are in a table at `levels`.
    pub(crate) fn columns_of(axes: &[Axis], levels: &[usize]) -> usize {
        let of = |(axis, level): (&Axis, &usize)| {
            let coarser = level.checked_sub(1).and_then(|at| axis.coarser.get(at));
            coarser.map_or(0, |coarser| 1 + coarser.len())
        };
        axes.iter().zip(levels).map(of).sum()
    }

    pub(crate) fn read(axes: &[Axis], cuboid: &Cuboid) -> Result<Self, ReleaseError> {
        let mut columns = cuboid.cells.columns().iter();
        let mut next = || {
            columns
                .next()
                .ok_or_else(|| wrong("a cuboid without its keys"))
                .and_then(KeyColumn::read)
        };
        let mut keys = Vec::new();
        let mut count = 0;
        for (axis, level) in axes.iter().zip(&cuboid.levels) {
            let Some(coarser) = level.checked_sub(1).and_then(|at| axis.coarser.get(at)) else {
                keys.push(None);
                continue;
            };
            let own = next()?;
            let up = coarser
                .iter()
                .map(|l| Ok((*l, next()?)))
                .collect::<Result<Vec<_>, ReleaseError>>()?;
            count += 1 + up.len();
            keys.push(Some(AxisKeys { own, up }));
        }
        Ok(Self {
            axes: keys,
            columns: count,
        })
    }

    /// Where a row's cell is on each axis; none where that is rolled up to all.
    pub(crate) fn at(&self, row: usize) -> Vec<Option<Vec<u8>>> {
        let at = |axis: &Option<AxisKeys>| {
            axis.as_ref().map(|keys| {
                let mut value = Vec::new();
                keys.own.write(row, &mut value);
                value
            })
        };
        self.axes.iter().map(at).collect()
    }

    /// The name of a row's cell, or of its parent after `moved`.
    pub(crate) fn name(&self, row: usize, moved: Option<&Move<'_>>) -> Vec<u8> {
        let mut name = Vec::new();
        for (at, axis) in self.axes.iter().enumerate() {
            let own = axis.as_ref().map(|axis| &axis.own);
            let key = match moved {
                Some((axis, _, to)) if *axis == at => *to,
                _ => own,
            };
            if let Some(key) = key {
                key.write(row, &mut name);
            }
        }
        name
    }

    fn steps(&self, cuboid: &Cuboid) -> Vec<Step> {
        let step = |moved: Move<'_>| {
            let mut levels = cuboid.levels.clone();
            levels[moved.0] = moved.1;
            let along = (moved.0, cuboid.levels[moved.0], moved.1);
            let rows = 0..cuboid.cells.num_rows();
            let parents = rows.clone().map(|row| self.name(row, Some(&moved)));
            let above = rows.map(|row| {
                let mut value = Vec::new();
                moved.2.iter().for_each(|key| key.write(row, &mut value));
                value
            });
            Step {
                along,
                levels,
                parents: parents.collect(),
                above: above.collect(),
            }
        };
        self.moves().into_iter().map(step).collect()
    }

    fn moves(&self) -> Vec<Move<'_>> {
        let mut moves = Vec::new();
        for (at, axis) in self.axes.iter().enumerate() {
            match axis {
                None => {}
                Some(keys) if keys.up.is_empty() => moves.push((at, 0, None)),
                Some(keys) => {
                    moves.extend(keys.up.iter().map(|(level, key)| (at, *level, Some(key))))
                }
            }
        }
        moves
    }
}

fn wrong(what: &str) -> ReleaseError {
    ReleaseError::Rule {
        what: what.to_owned(),
    }
}
