//! Rows of several owners, unit by unit.
//!
//! Every owner's rows come in the order of their tokens, so units are met by going through all of them side by side. What a
//! unit has at each owner are spans of rows; the rows that meet are every way to take one row of each span.

use super::rows::Rows;
use guildhall_plan::linked::Presence;
use std::ops::Range;

/// One unit: of each member the rows that it has there, none where it has none.
pub(crate) struct Unit<'a> {
    /// A number of its own.
    pub(crate) number: u32,
    pub(crate) spans: &'a [Range<usize>],
}

impl Unit<'_> {
    /// Whether it has rows at a member.
    pub(crate) fn is_at(&self, member: usize) -> bool {
        self.spans.get(member).is_some_and(|s| !s.is_empty())
    }

    /// Whether its rows are in the answer, for what it takes at each member.
    pub(crate) fn is_in(&self, presences: &[Presence]) -> bool {
        let holds = |(at, presence): (usize, &Presence)| match presence {
            Presence::Required | Presence::Some => self.is_at(at),
            Presence::None => !self.is_at(at),
            Presence::Optional => true,
        };
        presences.iter().enumerate().all(holds)
    }

    /// Every way to take one row of each of `members`, none of a member where it has none: calls `each` with the rows taken,
    /// in the order of `members`, until that says that it is enough.
    pub(crate) fn ways(
        &self,
        members: &[usize],
        taken: &mut Vec<Option<u32>>,
        each: &mut impl FnMut(&[Option<u32>]) -> bool,
    ) -> bool {
        let Some(member) = members.get(taken.len()) else {
            return each(taken);
        };
        let span = self.spans.get(*member).cloned().unwrap_or_default();
        let none = span.is_empty().then_some(None);
        // Rows are fewer than 2^32, see where they come in.
        let rows = span.map(|row| u32::try_from(row).ok());
        for row in rows.chain(none) {
            taken.push(row);
            let goes_on = self.ways(members, taken, each);
            taken.pop();
            if !goes_on {
                return false;
            }
        }
        true
    }
}

/// Calls `each` for every unit of any member until that fails.
pub(crate) fn units<E>(
    rows: &[Rows],
    mut each: impl FnMut(&Unit<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = vec![0_usize; rows.len()];
    let mut spans = vec![0..0; rows.len()];
    let mut number = 0_u32;
    loop {
        let next = rows.iter().zip(&at);
        let next = next.filter_map(|(rows, at)| rows.tokens.get(*at)).min();
        let Some(next) = next.copied() else {
            return Ok(());
        };
        for ((rows, at), span) in rows.iter().zip(&mut at).zip(&mut spans) {
            let rest = rows.tokens.get(*at..).unwrap_or_default();
            let same = rest.iter().take_while(|token| **token == next).count();
            let end = at.saturating_add(same);
            *span = *at..end;
            *at = end;
        }
        let spans = spans.as_slice();
        each(&Unit { number, spans })?;
        // No more units than rows of all members, each of which has fewer than 2^32; two of one number would be one unit.
        number = number.saturating_add(1);
    }
}
