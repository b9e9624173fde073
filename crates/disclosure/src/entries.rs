//! What each unit has in each cell, by column.

use crate::amounts::Amounts;
use crate::release::ReleaseError;
use std::ops::Range;

/// Where a row of nobody goes, and an entry that is not there.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Entries of a chunk: few enough to stay in a processor's own memory.
const CHUNK: usize = 1 << 14;

/// What units have in cells, by the units' and the cells' numbers: for each entry an amount of every total.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) units: Vec<u32>,
    pub(crate) cells: Vec<u32>,
    pub(crate) totals: Vec<Amounts>,
    /// The last entry of each unit, and its cell: a unit's rows often lie in one cell, or come together.
    latest: Vec<(u32, u32)>,
}

impl Entries {
    pub(crate) fn of(totals: usize) -> Self {
        Self {
            totals: vec![Amounts::default(); totals],
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.units.len()
    }

    /// About how many bytes of memory they take, with what it takes to compact them.
    pub(crate) fn bytes(&self) -> usize {
        /// Of an entry its unit and cell, the same once more, its place in order and where it goes.
        const EACH: usize = 6 * size_of::<u32>();
        let totals = self.totals.iter().map(Amounts::bytes);
        // One total at a time is there twice.
        let twice = totals.clone().max().unwrap_or(0);
        let latest = self
            .latest
            .capacity()
            .saturating_mul(size_of::<(u32, u32)>());
        let entries = self.units.capacity().saturating_mul(EACH);
        totals
            .fold(entries, usize::saturating_add)
            .saturating_add(twice)
            .saturating_add(latest)
    }

    /// The entries that rows of these units in these cells belong to; to a row of nobody, [`NOWHERE`].
    pub(crate) fn places(
        &mut self,
        units: &[u32],
        cells: &[u32],
        somebody: impl Fn(usize) -> bool,
    ) -> Result<Vec<u32>, ReleaseError> {
        let place = |row: usize| match somebody(row) {
            true => self.place(units[row], cells[row]),
            false => Ok(NOWHERE),
        };
        let places = (0..units.len()).map(place).collect();
        self.totals
            .iter_mut()
            .for_each(|t| t.resize(self.units.len()));
        places
    }

    fn place(&mut self, unit: u32, cell: u32) -> Result<u32, ReleaseError> {
        let at = unit as usize;
        if at >= self.latest.len() {
            self.latest.resize(at.saturating_add(1), (NOWHERE, NOWHERE));
        }
        match self.latest[at] {
            (entry, of) if of == cell && entry != NOWHERE => Ok(entry),
            _ => {
                let next = u32::try_from(self.units.len())
                    .ok()
                    .filter(|next| *next != NOWHERE);
                let next = next.ok_or(ReleaseError::Shape)?;
                self.units.push(unit);
                self.cells.push(cell);
                self.latest[at] = (next, cell);
                Ok(next)
            }
        }
    }

    /// The same, of each unit in each cell one, in the order of units, of which there are so many, as of cells.
    pub(crate) fn compacted(self, units: usize, cells: usize) -> Self {
        let order = self.by_unit(units);
        let places = || order.iter().map(|entry| *entry as usize);
        let of = |entry: usize| (self.units[entry], self.cells[entry]);
        let merged = Merged::of(places().map(of), &mut vec![0; cells]);
        let totals = self.totals.into_iter();
        let totals = totals.map(|t| t.merged(places(), &merged.becomes, merged.units.len()));
        Self {
            totals: totals.collect(),
            units: merged.units,
            cells: merged.cells,
            latest: vec![],
        }
    }

    /// The entries in the order of their units, by counting.
    fn by_unit(&self, units: usize) -> Vec<u32> {
        let mut next = vec![0_u32; units + 1];
        for unit in &self.units {
            next[*unit as usize + 1] += 1;
        }
        for unit in 0..units {
            next[unit + 1] += next[unit];
        }
        let mut order = vec![0; self.len()];
        for (entry, unit) in (0_u32..).zip(&self.units) {
            let place = &mut next[*unit as usize];
            order[*place as usize] = entry;
            *place += 1;
        }
        order
    }

    /// Gives each cell another number.
    pub(crate) fn renumber(&mut self, numbers: &[u32]) {
        self.cells
            .iter_mut()
            .for_each(|cell| *cell = numbers[*cell as usize]);
    }

    /// The entries bit by bit, those of one unit never in two; they are in the order of units.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut start = 0_usize;
        std::iter::from_fn(move || {
            let mut end = start.saturating_add(CHUNK).min(self.len());
            while end < self.len() && self.units[end] == self.units[end.saturating_sub(1)] {
                end += 1;
            }
            let chunk = start..end;
            start = end;
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}

/// Which entries of the same unit and cell become one.
pub(crate) struct Merged {
    pub(crate) units: Vec<u32>,
    pub(crate) cells: Vec<u32>,
    /// For each of the entries in turn, which one it becomes.
    pub(crate) becomes: Vec<u32>,
}

impl Merged {
    /// Of entries in the order of units, of which there are less than four billion. `slots` has a place for each cell;
    /// what is in it does not matter.
    pub(crate) fn of(entries: impl Iterator<Item = (u32, u32)>, slots: &mut [u32]) -> Self {
        let (mut units, mut cells, mut next) = (Vec::<u32>::new(), Vec::<u32>::new(), 0);
        let becomes = entries.map(|(unit, cell)| {
            let slot = &mut slots[cell as usize];
            let at = *slot as usize;
            // Invariant: a slot that another unit left behind is told by what it points to.
            if units.get(at) != Some(&unit) || cells[at] != cell {
                *slot = next;
                next += 1;
                units.push(unit);
                cells.push(cell);
            }
            *slot
        });
        let becomes = becomes.collect();
        Self {
            units,
            cells,
            becomes,
        }
    }
}
