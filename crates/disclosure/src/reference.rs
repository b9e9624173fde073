//! The cube lane over raw rows, slowly: everything from sets of units, to hold the gate and the margins against.
//!
//! Shares with them the perturbation table's probabilities and nothing else of the rules.

use crate::tests::SECRET;
use crate::{Axis, PTable};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use ring::hmac;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A row: whose it is, where it is on each axis at the finest level, and a value if it has one.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) unit: u32,
    pub(crate) at: Vec<i64>,
    pub(crate) value: Option<i64>,
}

/// How an axis nests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// One level.
    Flat,
    /// Pairs.
    Pairs,
    /// Pairs, and pairs of pairs.
    Fours,
    /// Two kinds of pairs that do not nest in each other, like weeks and months.
    Overlapping,
}

impl Shape {
    pub(crate) fn axis(self) -> Axis {
        let coarser = match self {
            Self::Flat => vec![vec![]],
            Self::Pairs => vec![vec![2], vec![]],
            Self::Fours => vec![vec![2, 3], vec![3], vec![]],
            Self::Overlapping => vec![vec![2, 3], vec![], vec![]],
        };
        let declared = coarser
            .iter()
            .map(|_| RecordBatch::new_empty(Arc::new(Schema::empty())));
        Axis {
            declared: declared.collect(),
            coarser,
        }
    }

    /// The value at `level` of what is at `leaf` at level 1; level 0 has one value.
    pub(crate) fn key(self, level: usize, leaf: i64) -> i64 {
        match (self, level) {
            (_, 0) => 0,
            (_, 1) => leaf,
            (Self::Overlapping, 3) => (leaf + 1) / 2,
            (_, 2) => leaf / 2,
            _ => leaf / 4,
        }
    }

    fn depth(self, level: usize) -> usize {
        let coarser = self.axis().coarser;
        let up = |level: usize| coarser[level - 1].iter().map(|l| self.depth(*l)).max();
        if level == 0 {
            0
        } else {
            1 + up(level).unwrap_or(0)
        }
    }
}

/// The totals of the reference: rows of a unit, clamped; and its values' sum, clamped.
pub(crate) const TOTALS: [&str; 2] = ["rows", "sum:v"];
/// A unit counts for as many rows at most.
pub(crate) const MOST_ROWS: i64 = 3;
/// A unit's values count for as much at least, and at most.
pub(crate) const BOUNDS: (i64, i64) = (-50, 1000);

/// A cell: a level for each axis, and a value at it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) levels: Vec<usize>,
    pub(crate) keys: Vec<i64>,
}

/// For the count of units (0) and each total (1..), the members with what each contributes.
pub(crate) type Content = [BTreeMap<u32, i128>; 3];

/// A table and how it is released.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) k: u32,
    pub(crate) table: &'static PTable,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) rows: Vec<Row>,
    record_keys: BTreeMap<u32, u64>,
    hash: hmac::Key,
    draws: hmac::Key,
}

/// The children of one cell along one step of one axis.
pub(crate) struct Line {
    pub(crate) parent: Cell,
    pub(crate) children: Vec<Cell>,
    /// Values of the axis below the parent's at which the parent has nobody.
    pub(crate) absent: usize,
}

/// All cells of a world, and of which statistics each is withheld.
pub(crate) struct Cube<'a> {
    world: &'a World,
    pub(crate) cells: BTreeMap<Cell, Content>,
    /// A row of each cell, which says where it is at every level.
    pub(crate) sample: BTreeMap<Cell, &'a Row>,
    pub(crate) withheld: BTreeSet<(Cell, usize)>,
}

/// The key of draws: one block of HKDF-SHA256 (RFC 5869) of the secret.
fn draws() -> hmac::Key {
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let prk = hmac::sign(&key(b"guildhall cell-key noise"), &SECRET);
    let okm = hmac::sign(&key(prk.as_ref()), b"guildhall draws\x01");
    key(okm.as_ref())
}

impl World {
    pub(crate) fn new(k: u32, table: &'static PTable, shapes: Vec<Shape>, rows: Vec<Row>) -> Self {
        let mut world = Self {
            k,
            table,
            shapes,
            rows,
            record_keys: BTreeMap::new(),
            hash: hmac::Key::new(hmac::HMAC_SHA256, &SECRET),
            draws: draws(),
        };
        let units: BTreeSet<u32> = world.rows.iter().map(|r| r.unit).collect();
        let name = |unit: u32| unit.to_string();
        let key = |unit| {
            (
                unit,
                Self::hash(&world.hash, &[b"rk", name(unit).as_bytes()]),
            )
        };
        world.record_keys = units.into_iter().map(key).collect();
        world
    }

    pub(crate) fn lattice(&self) -> Vec<Vec<usize>> {
        let mut all = vec![vec![]];
        for shape in &self.shapes {
            let levels = 0..=shape.axis().coarser.len();
            let longer = |l: &Vec<usize>| {
                levels
                    .clone()
                    .map(|level| [l.as_slice(), &[level]].concat())
                    .collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        let depth = |levels: &Vec<usize>| -> usize {
            self.shapes
                .iter()
                .zip(levels)
                .map(|(s, l)| s.depth(*l))
                .sum()
        };
        all.sort_by_key(|levels| (depth(levels), levels.clone()));
        all
    }

    pub(crate) fn finest(&self) -> Vec<usize> {
        vec![1; self.shapes.len()]
    }

    fn keys(&self, levels: &[usize], row: &Row) -> Vec<i64> {
        let axes = self.shapes.iter().zip(levels).zip(&row.at);
        axes.map(|((shape, level), leaf)| shape.key(*level, *leaf))
            .collect()
    }

    /// What the rows of one cell come to.
    fn content(cell: &[&Row]) -> Content {
        let mut units: BTreeMap<u32, Vec<&Row>> = BTreeMap::new();
        for row in cell {
            units.entry(row.unit).or_default().push(row);
        }
        let rows = |rows: &Vec<&Row>| i128::from(MOST_ROWS.min(rows.len() as i64));
        let sum = |rows: &Vec<&Row>| {
            let values: Vec<i64> = rows.iter().filter_map(|r| r.value).collect();
            let clamped = values.iter().sum::<i64>().clamp(BOUNDS.0, BOUNDS.1);
            (!values.is_empty()).then_some(i128::from(clamped))
        };
        [
            units.keys().map(|u| (*u, 1)).collect(),
            units.iter().map(|(u, r)| (*u, rows(r))).collect(),
            units
                .iter()
                .filter_map(|(u, r)| Some((*u, sum(r)?)))
                .collect(),
        ]
    }

    pub(crate) fn cube(&self) -> Cube<'_> {
        let mut cube = self.cube_cells();
        self.lattice()
            .iter()
            .for_each(|levels| cube.withhold(levels));
        cube
    }

    /// All cells, before any is withheld.
    pub(crate) fn cube_cells(&self) -> Cube<'_> {
        let mut rows: BTreeMap<Cell, Vec<&Row>> = BTreeMap::new();
        for levels in self.lattice() {
            for row in &self.rows {
                let (levels, keys) = (levels.clone(), self.keys(&levels, row));
                rows.entry(Cell { levels, keys }).or_default().push(row);
            }
        }
        let content = |(cell, rows): (&Cell, &Vec<&Row>)| (cell.clone(), Self::content(rows));
        Cube {
            world: self,
            cells: rows.iter().map(content).collect(),
            sample: rows
                .iter()
                .map(|(cell, rows)| (cell.clone(), rows[0]))
                .collect(),
            withheld: BTreeSet::new(),
        }
    }

    fn hash(key: &hmac::Key, message: &[&[u8]]) -> u64 {
        let tag = hmac::sign(key, &message.concat());
        u64::from_le_bytes(*tag.as_ref().first_chunk().unwrap())
    }

    /// The wrapping sum of the record keys of these units.
    pub(crate) fn key_sum(&self, members: &BTreeMap<u32, i128>) -> u64 {
        let keys = members.keys().map(|u| self.record_keys[u]);
        keys.fold(0, u64::wrapping_add)
    }

    fn index(&self, kind: &str, id: &str, members: &BTreeMap<u32, i128>) -> u64 {
        let length = |s: &str| (s.len() as u64).to_le_bytes();
        let (keys, n) = (
            self.key_sum(members).to_le_bytes(),
            (members.len() as u64).to_le_bytes(),
        );
        let message: [&[u8]; 7] = [
            b"pt",
            &length(kind),
            kind.as_bytes(),
            &length(id),
            id.as_bytes(),
            &keys,
            &n,
        ];
        Self::hash(&self.draws, &message)
    }

    /// The first step whose cumulative probability is beyond the index.
    fn noise(&self, kind: &str, id: &str, members: &BTreeMap<u32, i128>) -> i64 {
        let share = self.index(kind, id, members) as f64 / 2_f64.powi(64);
        let mut sum = 0.0;
        let steps = self.table.chances(members.len() as u64);
        let beyond = steps.filter(|(_, p)| {
            sum += p;
            share < sum
        });
        beyond.map(|(d, _)| d).next().unwrap_or(0)
    }

    /// Whether these units are enough, before and after noise.
    fn enough(&self, members: &BTreeMap<u32, i128>) -> bool {
        let (n, k) = (members.len() as i64, i64::from(self.k));
        n >= k && n + self.noise("units", "", members) >= k
    }

    /// Whether a statistic passes on its own.
    fn passes(&self, content: &Content, statistic: usize) -> bool {
        let members = &content[statistic];
        self.enough(&content[0])
            && self.enough(members)
            && (statistic == 0 || undominated(members.values().copied()))
    }

    /// What is released of a statistic that is shown.
    pub(crate) fn published(&self, content: &Content, statistic: usize) -> i128 {
        let members = &content[statistic];
        if statistic == 0 {
            return members.len() as i128 + i128::from(self.noise("units", "", members));
        }
        let sum: i128 = members.values().sum();
        let largest = members.values().map(|v| v.abs()).max().unwrap_or(0);
        let n = members.len().max(1) as i128;
        let (shared, own) = (
            i128::from(self.noise("units", "", members)),
            i128::from(self.noise("total", TOTALS[statistic - 1], members)),
        );
        // To the nearest, halves up.
        let mean_parts = (2 * sum * shared + n).div_euclid(2 * n);
        sum + mean_parts + own * (largest / 20).max(1)
    }
}

/// ACRO's rules on what each of several units contributes.
fn undominated(contributions: impl Iterator<Item = i128>) -> bool {
    let mut all: Vec<i128> = contributions.collect();
    all.sort_by(|a, b| b.cmp(a));
    let at = |n: usize| all.get(n).copied().unwrap_or(0);
    all.iter().all(|v| *v >= 0) && acro(all.iter().sum(), at(0), at(1))
}

/// ACRO's rules as ACRO has them, in floating point; what is safe.
fn acro(sum: i128, first: i128, second: i128) -> bool {
    let (sum, first, second) = (sum as f64, first as f64, second as f64);
    let nk = sum != 0.0 && 10.0 * (first + second) >= 9.0 * sum;
    let p_ratio = first != 0.0 && 10.0 * (sum - first - second) < first;
    sum >= 0.0 && !nk && !p_ratio
}

impl Cube<'_> {
    pub(crate) fn fails(&self, cell: &Cell, statistic: usize) -> bool {
        !self.world.passes(&self.cells[cell], statistic)
    }

    pub(crate) fn hides(&self, cell: &Cell, statistic: usize) -> bool {
        self.withheld.contains(&(cell.clone(), statistic))
    }

    /// The parents of a cell: for each step of each axis in turn, one.
    fn parents(&self, cell: &Cell) -> Vec<Cell> {
        let row = self.sample[cell];
        let mut parents = Vec::new();
        for (axis, shape) in self.world.shapes.iter().enumerate() {
            let coarser = shape.axis().coarser;
            let up: &[usize] = match cell.levels[axis] {
                0 => &[],
                level if coarser[level - 1].is_empty() => &[0],
                level => &coarser[level - 1],
            };
            for level in up {
                let mut levels = cell.levels.clone();
                levels[axis] = *level;
                let keys = self.world.keys(&levels, row);
                parents.push(Cell { levels, keys });
            }
        }
        parents
    }

    /// All lines of one table: for each step the parents in order of their keys, each with its children.
    pub(crate) fn lines(&self, levels: &[usize]) -> Vec<Line> {
        let mut lines: BTreeMap<(usize, Cell), Vec<Cell>> = BTreeMap::new();
        for cell in self.cells.keys().filter(|c| c.levels == levels) {
            for (step, parent) in self.parents(cell).into_iter().enumerate() {
                lines.entry((step, parent)).or_default().push(cell.clone());
            }
        }
        let line = |((_, parent), children): ((usize, Cell), Vec<Cell>)| Line {
            absent: self.siblings(&parent, &children[0]) - children.len(),
            parent,
            children,
        };
        lines.into_iter().map(line).collect()
    }

    /// How many values of the one axis that differs there are in the data below the parent's.
    fn siblings(&self, parent: &Cell, child: &Cell) -> usize {
        let axis = (0..child.levels.len())
            .find(|a| parent.levels[*a] != child.levels[*a])
            .unwrap();
        let shape = self.world.shapes[axis];
        let key = |row: &Row, of: &Cell| shape.key(of.levels[axis], row.at[axis]);
        let below = self
            .world
            .rows
            .iter()
            .filter(|row| key(row, parent) == parent.keys[axis]);
        below
            .map(|row| key(row, child))
            .collect::<BTreeSet<i64>>()
            .len()
    }

    fn withhold(&mut self, levels: &[usize]) {
        let lines = self.lines(levels);
        for statistic in 0..=TOTALS.len() {
            let cells: Vec<Cell> = self
                .cells
                .keys()
                .filter(|c| c.levels == levels)
                .cloned()
                .collect();
            for cell in cells {
                let inherits = self.parents(&cell).iter().any(|p| self.hides(p, statistic));
                if inherits
                    || self.fails(&cell, statistic)
                    || (statistic > 0 && self.hides(&cell, 0))
                {
                    self.withheld.insert((cell, statistic));
                }
            }
            loop {
                let mut changed = false;
                for line in &lines {
                    changed |= self.mend(line, statistic);
                }
                if !changed {
                    break;
                }
            }
        }
    }

    /// Withholds the smallest children until those withheld protect each other; whether it withheld any.
    fn mend(&mut self, line: &Line, statistic: usize) -> bool {
        let mut changed = false;
        while !self.hides(&line.parent, statistic) && self.exposed(line, statistic) {
            let shown = line.children.iter().filter(|c| !self.hides(c, statistic));
            let size = |c: &&Cell| {
                let members = &self.cells[*c][statistic];
                (members.len(), self.world.index("units", "", members))
            };
            let Some(next) = shown.min_by_key(size).cloned() else {
                break;
            };
            self.withheld.insert((next, statistic));
            changed = true;
        }
        changed
    }

    fn exposed(&self, line: &Line, statistic: usize) -> bool {
        let members = |c: &Cell| &self.cells[c][statistic];
        let (withheld, shown): (Vec<&Cell>, Vec<&Cell>) =
            line.children.iter().partition(|c| self.hides(c, statistic));
        let cells = withheld.len() + line.absent;
        if cells == 0 {
            return false;
        }
        let largest = withheld.iter().map(|c| members(c).len()).max().unwrap_or(0);
        let elsewhere: usize = shown.iter().map(|c| members(c).len()).sum();
        let together = largest.max(members(&line.parent).len().saturating_sub(elsewhere));
        let contributions = withheld.iter().flat_map(|c| members(c).values());
        // A refund in one cell is no reason to withhold the whole line: only the size of contributions counts here.
        let sum: i128 = contributions.clone().sum();
        let mut sizes: Vec<i128> = contributions.map(|v| v.abs()).collect();
        sizes.sort_by(|a, b| b.cmp(a));
        let at = |n: usize| sizes.get(n).copied().unwrap_or(0);
        let dominated = statistic > 0 && !acro(sum, at(0), at(1));
        cells < 2 || together < self.world.k as usize || dominated
    }
}
