//! The line rule: what is withheld of the children of one published parent.

use crate::dominance;
use crate::facts::{Amount, Statistic};
use crate::lattice::Table;

/// The lines of one table with the tables it nests in.
pub(crate) struct Lines<'t, 'a> {
    pub(crate) table: &'t Table<'a>,
    pub(crate) lines: Vec<Line<'t, 'a>>,
    pub(crate) statistics: Vec<Statistic>,
}

/// The children of one parent along one step of one axis.
pub(crate) struct Line<'t, 'a> {
    pub(crate) up: &'t Table<'a>,
    /// The parent's row in `up`.
    pub(crate) parent: usize,
    /// Rows of the table.
    pub(crate) children: Vec<usize>,
    /// How many other values the axis has below the parent's: children in which there is nobody.
    pub(crate) absent: usize,
}

impl Lines<'_, '_> {
    /// For each statistic, whether it is withheld in each row; `beside` says of which cell, by its name, which statistic is
    /// withheld in any case.
    pub(crate) fn withhold(&self, beside: &dyn Fn(&[u8], usize) -> bool) -> Vec<Vec<bool>> {
        let mut all: Vec<Vec<bool>> = Vec::new();
        for (at, statistic) in self.statistics.iter().enumerate() {
            let mut own = self.failing(*statistic, all.first());
            for (name, row) in &self.table.rows {
                if let Some(own) = own.get_mut(*row) {
                    *own |= beside(name, at);
                }
            }
            all.push(self.mended(at, *statistic, own));
        }
        all
    }

    /// What fails on its own; a total fails with its cell.
    fn failing(&self, statistic: Statistic, units: Option<&Vec<bool>>) -> Vec<bool> {
        let weighed = &self.table.weighed;
        let passes = |row: usize| match statistic {
            Statistic::Units => weighed.stands(row),
            Statistic::Total(total) => {
                weighed.total_passes(total, row) && units.is_some_and(|u| !u[row])
            }
        };
        (0..weighed.rows()).map(|row| !passes(row)).collect()
    }

    /// `hidden` with what heredity and the line rule add.
    fn mended(&self, at: usize, statistic: Statistic, mut hidden: Vec<bool>) -> Vec<bool> {
        let withheld = |line: &&Line<'_, '_>| line.up.hidden[at][line.parent];
        for line in self.lines.iter().filter(withheld) {
            line.children.iter().for_each(|row| hidden[*row] = true);
        }
        let published: Vec<_> = self.lines.iter().filter(|line| !withheld(line)).collect();
        // Ends: a round that changes nothing is the last, and each other one withholds a cell more.
        loop {
            let mut changed = false;
            for line in &published {
                changed |= line.mend(self.table, statistic, &mut hidden);
            }
            if !changed {
                return hidden;
            }
        }
    }
}

impl Line<'_, '_> {
    /// Withholds children, fewest members first, until those withheld protect each other; whether it did.
    fn mend(&self, table: &Table<'_>, statistic: Statistic, hidden: &mut [bool]) -> bool {
        let weighed = &table.weighed;
        let smallness = |row: &&usize| {
            (
                weighed.members(statistic, **row),
                weighed.tie(statistic, **row),
            )
        };
        let mut changed = false;
        while self.exposed(table, statistic, hidden) {
            let shown = self.children.iter().filter(|row| !hidden[**row]);
            let Some(smallest) = shown.min_by_key(smallness) else {
                break;
            };
            hidden[*smallest] = true;
            changed = true;
        }
        changed
    }

    /// Whether what is withheld of the line could be told from its parent and the rest.
    ///
    /// A child without members is withheld like one with few: were it not, a line in which nothing else is withheld
    /// would say that there is nobody.
    fn exposed(&self, table: &Table<'_>, statistic: Statistic, hidden: &[bool]) -> bool {
        let weighed = &table.weighed;
        let members = |row: &usize| weighed.members(statistic, *row);
        let (withheld, shown): (Vec<usize>, Vec<usize>) =
            self.children.iter().partition(|row| hidden[**row]);
        let cells = withheld.len().saturating_add(self.absent);
        if cells == 0 {
            return false;
        }
        let most = withheld.iter().map(members).max().unwrap_or(0);
        // The distinct members of several cells: no fewer than of one, and no fewer than the parent has left over.
        let elsewhere = shown.iter().map(members).fold(0, u64::saturating_add);
        let parent = self.up.weighed.members(statistic, self.parent);
        let together = most.max(parent.saturating_sub(elsewhere));
        cells < 2
            || together < u64::from(weighed.minimum_group())
            || self.dominated(table, statistic, &withheld)
    }

    /// Whether what is withheld, taken as one cell in which no unit is twice, is dominated by one or two.
    fn dominated(&self, table: &Table<'_>, statistic: Statistic, withheld: &[usize]) -> bool {
        let amounts = withheld
            .iter()
            .filter_map(|row| table.weighed.amount(statistic, *row));
        let union = together(amounts);
        !dominance::passes(union.sum, union.largest, union.second)
    }
}

/// Several cells as one in which no unit is twice.
pub(crate) fn together(amounts: impl Iterator<Item = Amount>) -> Amount {
    // A sum that is too large fails every rule.
    let too_large = Amount {
        sum: i128::MAX,
        largest: i128::MAX,
        second: i128::MAX,
    };
    let mut all = Amount::default();
    for amount in amounts {
        all = all.with(amount).unwrap_or(too_large);
    }
    all
}
