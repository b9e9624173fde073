//! Rows of several owners, unit by unit.
//!
//! Every owner's rows come in the order of their tokens, so units are met by going through all of them side by side. What a
//! unit has at each owner are spans of rows; the rows that meet are every way to take one row of each span.

use super::rows::Rows;
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

    /// Whether it has rows at each of `members`.
    pub(crate) fn is_at_all(&self, members: &[usize]) -> bool {
        members.iter().all(|at| self.is_at(*at))
    }

    /// In how many ways one row of each of `members` can be taken.
    pub(crate) fn count(&self, members: &[usize]) -> u64 {
        let spans = members.iter().filter_map(|at| self.spans.get(*at));
        let rows = spans.map(|s| u64::try_from(s.len()).unwrap_or(u64::MAX));
        rows.fold(1, u64::saturating_mul)
    }

    /// Every way to take one row of each of `members`: calls `each` with the rows taken, in the order of `members`, until that
    /// says that it is enough.
    pub(crate) fn ways(
        &self,
        members: &[usize],
        taken: &mut Vec<u32>,
        each: &mut impl FnMut(&[u32]) -> bool,
    ) -> bool {
        let Some(member) = members.get(taken.len()) else {
            return each(taken);
        };
        // Rows are fewer than 2^32, see where they come in.
        let span = self.spans.get(*member).cloned().unwrap_or_default();
        for row in span.filter_map(|row| u32::try_from(row).ok()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::UInt8Array;
    use std::collections::BTreeSet;
    use zeroize::Zeroizing;

    fn rows(tokens: &[u128]) -> Rows {
        Rows {
            tokens: Zeroizing::new(tokens.to_vec()),
            records: UInt8Array::from(vec![0; tokens.len()]),
            columns: vec![],
        }
    }

    /// Against three loops, one within the other.
    #[test]
    fn every_row_meets_each_of_the_same_unit_once() {
        let all = [
            vec![1, 1, 3, 5],
            vec![1, 2, 2, 3, 3, 3],
            vec![0, 1, 1, 3, 9],
        ];
        let mut met = Vec::new();
        let of: Vec<Rows> = all.iter().map(|t| rows(t)).collect();
        let mut numbers = BTreeSet::new();
        units::<()>(&of, |unit| {
            assert!(numbers.insert(unit.number));
            if unit.is_at_all(&[0, 1, 2]) {
                assert!(unit.count(&[0, 1, 2]) > 0);
                unit.ways(&[0, 1, 2], &mut Vec::new(), &mut |taken| {
                    met.push(taken.to_vec());
                    true
                });
            }
            Ok(())
        })
        .unwrap();
        let mut expected = Vec::new();
        for (a, x) in all[0].iter().enumerate() {
            for (b, y) in all[1].iter().enumerate() {
                for (c, z) in all[2].iter().enumerate() {
                    if x == y && y == z {
                        expected.push([a, b, c].map(|row| u32::try_from(row).unwrap()).to_vec());
                    }
                }
            }
        }
        met.sort();
        assert_eq!(met, expected);
        assert_eq!(numbers.len(), 6);
    }

    #[test]
    fn whoever_has_seen_enough_is_shown_no_more() {
        let of = [rows(&[1; 100]), rows(&[1; 100])];
        let mut seen = 0;
        units::<()>(&of, |unit| {
            assert_eq!(unit.count(&[0, 1]), 10_000);
            let whole = unit.ways(&[0, 1], &mut Vec::new(), &mut |_| {
                seen += 1;
                seen < 7
            });
            assert!(!whole);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, 7);
    }
}
