//! The axes of a question: what each of its cells is a part of.
//!
//! A cell of `GROUP BY ward, month` lies in a ward, in a month, in a year if years are registered, and in the
//! whole. Whether it may be told depends on all of these, since what is told of them can be subtracted. A
//! filter to one value is the cell of that value: `WHERE ward = 'x' GROUP BY month` asks for cells of the same
//! table.

use super::{CubeFilter, CubeQuery, Refusal};
use datafusion::common::ScalarValue;
use guildhall_grant::product::{Dimension, Product, RollUp, RollUpKind};
use guildhall_model::ColumnName;

/// The most tables that one question's cells may lie in.
const MAX_TABLES: usize = 128;

/// A dimension that the cells of a question are told apart by, and those that it lies within.
#[derive(Debug, Clone, PartialEq)]
pub struct CubeAxis {
    /// Its levels from the one that is asked for to the coarsest; level `n` is at `n - 1`.
    pub levels: Vec<CubeLevel>,
    /// Where a cell's place on the axis is found.
    pub at: AxisPlace,
}

/// How finely an axis is told apart: a dimension, and how its values are taken together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CubeLevel {
    /// The dimension.
    pub column: ColumnName,
    /// How its values are taken together.
    pub by: LevelBy,
}

/// How a dimension's values are taken together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LevelBy {
    /// Each alone.
    Value,
    /// By a unit of `date_trunc`.
    Trunc(RollUp),
    /// By its registered groups, which do not overlap; what is in none of them is together.
    Groups(Vec<RollUp>),
}

/// Where a cell's place on an axis is found.
#[derive(Clone, PartialEq)]
pub enum AxisPlace {
    /// In the key of that number.
    Key(usize),
    /// It is the one value of a filter.
    Value(ScalarValue),
    /// It is the registered group of a filter.
    Group(String),
}

impl std::fmt::Debug for AxisPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(at) => write!(f, "Key({at})"),
            Self::Value(_) => f.write_str("Value"),
            Self::Group(_) => f.write_str("Group"),
        }
    }
}

impl CubeAxis {
    /// For each level, the levels (numbered from 1) that it nests in with none between.
    #[must_use]
    pub fn coarser(&self, product: &Product) -> Vec<Vec<usize>> {
        let above = |level: &CubeLevel| -> Vec<usize> {
            let holds = |at: &usize| {
                let other = self.levels.get(*at);
                other.is_some_and(|l| nests(level, l, product))
            };
            (0..self.levels.len()).filter(holds).collect()
        };
        let direct = |level| {
            let all = above(level);
            let between = |at: &usize| {
                let others = all.iter().filter_map(|other| self.levels.get(*other));
                others.into_iter().any(|l| above(l).contains(at))
            };
            let direct = all.iter().filter(|at| !between(at));
            direct.map(|at| at.saturating_add(1)).collect()
        };
        self.levels.iter().map(direct).collect()
    }
}

impl CubeLevel {
    /// A dimension by its own values, or by a unit of `date_trunc`.
    #[must_use]
    pub fn of(column: &ColumnName, roll_up: Option<&RollUp>) -> Self {
        Self {
            column: column.clone(),
            by: roll_up.cloned().map_or(LevelBy::Value, LevelBy::Trunc),
        }
    }

    /// A dimension by its registered groups.
    #[must_use]
    pub fn groups(column: &ColumnName, product: &Product) -> Self {
        let groups = product.dimension(column.as_str()).map(groups);
        Self {
            column: column.clone(),
            by: LevelBy::Groups(groups.unwrap_or_default()),
        }
    }

    /// Whether two levels are one, under whatever name.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self == other
            || self.column == other.column && unit(self).is_some() && unit(self) == unit(other)
    }
}

/// The axes of `query`, or why its cells do not lie in a lattice of tables.
///
/// They stand in the product's order, not the question's: what is withheld for the margins of a table is looked
/// for axis after axis, and must not differ with how the table is asked for. Two patterns would withhold together
/// less than either.
pub fn axes(query: &CubeQuery, product: &Product) -> Result<Vec<CubeAxis>, Refusal> {
    let keys = query.keys.iter().enumerate().map(|(at, key)| {
        let level = CubeLevel::of(&key.column, key.roll_up.as_ref());
        (level, AxisPlace::Key(at))
    });
    let limits = query.filters.iter().map(|filter| match filter {
        CubeFilter::Eq {
            column,
            roll_up,
            value,
        } => (
            CubeLevel::of(column, roll_up.as_ref()),
            AxisPlace::Value(value.clone()),
        ),
        CubeFilter::InRollUp {
            column, roll_up, ..
        } => (
            CubeLevel::groups(column, product),
            AxisPlace::Group(roll_up.name.clone()),
        ),
    });
    let mut axes = Vec::new();
    for (level, at) in keys.chain(limits) {
        put(&mut axes, level, at, product)?;
    }
    for axis in &mut axes {
        climb(axis, product);
    }
    axes.sort_by_key(|axis| rank(axis, product));
    let tables = axes.iter().map(|a| a.levels.len().saturating_add(1));
    if tables.fold(1, usize::saturating_mul) > MAX_TABLES {
        return Err(Refusal::new(
            "cube.keys",
            "a question of too many dimensions at once",
            "group and filter by fewer dimensions",
        ));
    }
    Ok(axes)
}

/// Where an axis stands among those of its product: by the outermost dimension that it lies within, which all of its
/// levels have in common, then by its own.
fn rank(axis: &CubeAxis, product: &Product) -> (usize, usize) {
    let place = |column: &ColumnName| {
        let found = product.dimensions.iter().position(|d| d.column == *column);
        found.unwrap_or(usize::MAX)
    };
    let Some(own) = axis.levels.first().map(|l| &l.column) else {
        return (usize::MAX, usize::MAX);
    };
    let outer = product.dimensions.iter().map(|d| &d.column);
    let outer = outer.filter(|outer| lies_within(own, outer, product));
    let mut outermost = outer.filter(|o| {
        product
            .dimension(o.as_str())
            .is_some_and(|d| d.within.is_none())
    });
    (place(outermost.next().unwrap_or(own)), place(own))
}

/// Puts `level` on the axis that it shares with a finer or a coarser one, or on an axis of its own.
fn put(
    axes: &mut Vec<CubeAxis>,
    level: CubeLevel,
    at: AxisPlace,
    product: &Product,
) -> Result<(), Refusal> {
    for axis in axes.iter_mut() {
        let Some(held) = axis.levels.first_mut() else {
            continue;
        };
        if held.is_same(&level) || nests(held, &level, product) {
            return Ok(());
        }
        if nests(&level, held, product) {
            *held = level;
            axis.at = at;
            return Ok(());
        }
        if held.column == level.column {
            return Err(Refusal::new(
                "cube.levels",
                format!(
                    "`{}` is told apart in two ways of which neither lies in the other",
                    level.column
                ),
                "use one roll-up of a dimension at a time, or such as nest (days in months)",
            ));
        }
    }
    let levels = vec![level];
    axes.push(CubeAxis { levels, at });
    Ok(())
}

/// Adds the registered levels that the asked one nests in.
fn climb(axis: &mut CubeAxis, product: &Product) {
    let Some(asked) = axis.levels.first().cloned() else {
        return;
    };
    let mut seen: Vec<CubeLevel> = Vec::new();
    for dimension in &product.dimensions {
        let groups = groups(dimension);
        let truncs = dimension.roll_ups.iter().filter(|r| is_trunc(r)).cloned();
        let all = std::iter::once(LevelBy::Value)
            .chain(truncs.map(LevelBy::Trunc))
            .chain((!groups.is_empty()).then_some(LevelBy::Groups(groups)));
        for by in all {
            let column = dimension.column.clone();
            let level = CubeLevel { column, by };
            let known = seen.iter().any(|l| l.is_same(&level)) || asked.is_same(&level);
            if !known && nests(&asked, &level, product) {
                seen.push(level);
            }
        }
    }
    axis.levels.extend(seen);
}

/// The registered groups of values of a dimension.
fn groups(dimension: &Dimension) -> Vec<RollUp> {
    let groups = dimension.roll_ups.iter().filter(|r| !is_trunc(r));
    groups.cloned().collect()
}

fn is_trunc(roll_up: &RollUp) -> bool {
    matches!(roll_up.kind, RollUpKind::DateTrunc(_))
}

fn unit(level: &CubeLevel) -> Option<&str> {
    match &level.by {
        LevelBy::Trunc(RollUp {
            kind: RollUpKind::DateTrunc(unit),
            ..
        }) => Some(unit),
        _ => None,
    }
}

/// Whether every cell of `fine` lies in one cell of `coarse`, another level.
fn nests(fine: &CubeLevel, coarse: &CubeLevel, product: &Product) -> bool {
    if fine.column != coarse.column {
        return fine.by == LevelBy::Value && lies_within(&fine.column, &coarse.column, product);
    }
    match (&fine.by, &coarse.by) {
        (LevelBy::Value, LevelBy::Trunc(_) | LevelBy::Groups(_)) => true,
        (LevelBy::Trunc(_), LevelBy::Trunc(_)) => match (unit(fine), unit(coarse)) {
            (Some(fine), Some(coarse)) => coarser_units(fine).contains(&coarse),
            _ => false,
        },
        _ => false,
    }
}

/// Whether one value of `outer` holds each value of `inner`, by way of others perhaps.
fn lies_within(inner: &ColumnName, outer: &ColumnName, product: &Product) -> bool {
    let mut at = inner;
    for _ in 0..product.dimensions.len() {
        let dimension = product.dimension(at.as_str());
        match dimension.and_then(|d| d.within.as_ref()) {
            None => return false,
            Some(within) if within == outer => return true,
            Some(within) => at = within,
        }
    }
    false
}

/// The units of `date_trunc` that one nests in: weeks run over the ends of months.
fn coarser_units(unit: &str) -> &'static [&'static str] {
    match unit {
        "hour" => &["day", "week", "month", "quarter", "year"],
        "day" => &["week", "month", "quarter", "year"],
        "month" => &["quarter", "year"],
        "quarter" => &["year"],
        _ => &[],
    }
}
