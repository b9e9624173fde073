//! Whether an owner's part could be true.

use super::{TotalTerms, wrong};
use crate::facts::Statistic;
use crate::lattice::{Keys, Table};
use crate::margins::{Axis, Cuboid};
use crate::release::ReleaseError;
use arrow::array::RecordBatch;
use std::collections::{BTreeMap, BTreeSet, HashMap};

type Tables<'a> = BTreeMap<&'a [usize], (Table<'a>, Keys, &'a RecordBatch)>;

/// A part that could be true, and the values that its owner may have: by axis and level, those that it declares and those
/// that it has somewhere.
pub(super) struct Checked(HashMap<(usize, usize), BTreeSet<Vec<u8>>>);

impl Checked {
    pub(super) fn of(
        axes: &[Axis],
        tables: &Tables<'_>,
        totals: &[TotalTerms],
    ) -> Result<Self, ReleaseError> {
        let mut values: HashMap<(usize, usize), BTreeSet<Vec<u8>>> = HashMap::new();
        for (levels, (table, keys, _)) in tables {
            for row in table.rows.values() {
                check_cell(table, *row, totals, levels.iter().all(|l| *l == 0))?;
            }
            if let [(axis, level)] = placed(levels).as_slice() {
                let of = values.entry((*axis, *level)).or_default();
                let rows = table.rows.values();
                of.extend(rows.filter_map(|row| keys.at(*row).get(*axis).cloned().flatten()));
            }
        }
        for (at, axis) in axes.iter().enumerate() {
            for (level, declared) in (1..).zip(&axis.declared) {
                if declared.num_columns() == 0 {
                    continue;
                }
                let mut levels = vec![0; axes.len()];
                levels[at] = level;
                let cells = declared.clone();
                let keys = Keys::read(axes, &Cuboid { levels, cells })?;
                let of = values.entry((at, level)).or_default();
                let rows = 0..declared.num_rows();
                of.extend(rows.filter_map(|row| keys.at(row).get(at).cloned().flatten()));
            }
        }
        for (table, _, _) in tables.values() {
            check_margins(table, tables)?;
        }
        Ok(Self(values))
    }

    /// Whether each key of a cell is a value that the owner may have.
    pub(super) fn may_have(&self, levels: &[usize], at: &[Option<Vec<u8>>]) -> bool {
        placed(levels).iter().all(|(axis, level)| {
            let value = at.get(*axis).and_then(Option::as_ref);
            let values = self.0.get(&(*axis, *level));
            values
                .zip(value)
                .is_some_and(|(values, v)| values.contains(v))
        })
    }
}

/// The axes that are not rolled up to all, with their levels.
fn placed(levels: &[usize]) -> Vec<(usize, usize)> {
    let levels = levels.iter().copied().enumerate();
    levels.filter(|(_, level)| *level > 0).collect()
}

/// Whether the numbers of one cell fit each other, and the bounds of what a unit may give.
fn check_cell(
    table: &Table<'_>,
    row: usize,
    totals: &[TotalTerms],
    whole: bool,
) -> Result<(), ReleaseError> {
    let units = table.weighed.members(Statistic::Units, row);
    // All of the table is a cell even where there is nobody.
    if units == 0 && !whole {
        return Err(wrong("a cell without units"));
    }
    for (total, terms) in totals.iter().enumerate() {
        let statistic = Statistic::Total(total);
        let part = table.weighed.part(statistic, row);
        let n = i128::from(part.count);
        let amount = table.weighed.amount(statistic, row);
        let fits = match amount {
            None => part.count == 0 && part.negatives == 0,
            Some(a) => {
                let most = terms
                    .lower
                    .saturating_abs()
                    .max(terms.upper.saturating_abs());
                part.count > 0
                    && part.count <= units
                    && part.negatives <= part.count
                    && (terms.lower.saturating_mul(n)..=terms.upper.saturating_mul(n))
                        .contains(&a.sum)
                    && a.largest <= most
                    && a.second <= a.largest
                    && a.sum.saturating_abs() <= a.largest.saturating_mul(n)
                    && (part.count > 1 || (a.sum.saturating_abs() == a.largest && a.second == 0))
                    && (!terms.ones || a.sum == n)
            }
        };
        if !fits {
            return Err(wrong("a total that no units could have"));
        }
    }
    Ok(())
}

/// Whether every parent has at least the members of each of its children, and at most those of all.
fn check_margins(table: &Table<'_>, tables: &Tables<'_>) -> Result<(), ReleaseError> {
    for (levels, parents) in table.parents() {
        let (up, _, _) = tables
            .get(levels)
            .ok_or_else(|| wrong("a table without its margin"))?;
        for statistic in table.weighed.statistics() {
            let mut children: HashMap<&[u8], (u64, u64)> = HashMap::new();
            for row in table.rows.values() {
                let members = table.weighed.members(statistic, *row);
                let of = children.entry(parents[*row].as_slice()).or_default();
                *of = (of.0.max(members), of.1.saturating_add(members));
            }
            for (name, row) in &up.rows {
                let parent = up.weighed.members(statistic, *row);
                let (most, all) = children.get(name.as_slice()).copied().unwrap_or_default();
                if parent < most || parent > all {
                    return Err(wrong("a margin that its cells do not make up"));
                }
            }
        }
    }
    Ok(())
}
