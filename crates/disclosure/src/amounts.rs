//! Whole numbers that are added up, in 64 bits as long as they fit.

/// What has been given to one total so far, by its place: nothing, or a sum.
#[derive(Debug, Clone)]
pub(crate) struct Amounts {
    // Invariant: the sum of what was not given is 0.
    sums: Sums,
    given: Vec<bool>,
}

#[derive(Debug, Clone)]
enum Sums {
    Narrow(Vec<i64>),
    Wide(Vec<i128>),
}

impl Default for Amounts {
    fn default() -> Self {
        Self {
            sums: Sums::Narrow(vec![]),
            given: vec![],
        }
    }
}

impl Amounts {
    /// As many places; to those that are new nothing has been given.
    pub(crate) fn resize(&mut self, places: usize) {
        self.given.resize(places, false);
        match &mut self.sums {
            Sums::Narrow(sums) => sums.resize(places, 0),
            Sums::Wide(sums) => sums.resize(places, 0),
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, place: usize, value: i128) {
        self.given[place] = true;
        match &mut self.sums {
            Sums::Wide(sums) => sums[place] = sums[place].saturating_add(value),
            Sums::Narrow(sums) => {
                let sum = i64::try_from(value).ok();
                match sum.and_then(|value| sums[place].checked_add(value)) {
                    Some(sum) => sums[place] = sum,
                    None => self.add_wide(place, value),
                }
            }
        }
    }

    /// Adds what is too large for 64 bits, or makes a sum so.
    #[cold]
    fn add_wide(&mut self, place: usize, value: i128) {
        if let Sums::Narrow(sums) = &self.sums {
            self.sums = Sums::Wide(sums.iter().copied().map(i128::from).collect());
        }
        self.add(place, value);
    }

    pub(crate) fn at(&self, place: usize) -> Option<i128> {
        self.given[place].then(|| self.sums.at(place))
    }

    /// What `places` have together: the first of them goes to the first of `to`, of which there are `len`.
    pub(crate) fn merged(
        &self,
        places: impl Iterator<Item = usize> + Clone,
        to: &[u32],
        len: usize,
    ) -> Self {
        let mut given = vec![false; len];
        for (from, to) in places.clone().zip(to) {
            given[*to as usize] |= self.given[from];
        }
        let narrow = match &self.sums {
            Sums::Narrow(sums) => narrow(sums, places.clone().zip(to), len),
            Sums::Wide(_) => None,
        };
        let sums = match narrow {
            Some(sums) => Sums::Narrow(sums),
            None => Sums::Wide(self.wide(places.zip(to), len)),
        };
        Self { sums, given }
    }

    fn wide<'a>(&self, moves: impl Iterator<Item = (usize, &'a u32)>, len: usize) -> Vec<i128> {
        let mut merged = vec![0_i128; len];
        for (from, to) in moves {
            let sum = &mut merged[*to as usize];
            *sum = sum.saturating_add(self.sums.at(from));
        }
        merged
    }

    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let sums = match &self.sums {
            Sums::Narrow(sums) => sums.capacity().saturating_mul(size_of::<i64>()),
            Sums::Wide(sums) => sums.capacity().saturating_mul(size_of::<i128>()),
        };
        sums.saturating_add(self.given.capacity())
    }
}

impl Sums {
    fn at(&self, place: usize) -> i128 {
        match self {
            Self::Narrow(sums) => i128::from(sums[place]),
            Self::Wide(sums) => sums[place],
        }
    }
}

/// What goes to each of `len` places; nothing if it does not fit in 64 bits. What was not given is 0.
fn narrow<'a>(
    sums: &[i64],
    moves: impl Iterator<Item = (usize, &'a u32)>,
    len: usize,
) -> Option<Vec<i64>> {
    let mut merged = vec![0_i64; len];
    for (from, to) in moves {
        let sum = &mut merged[*to as usize];
        *sum = sum.checked_add(sums[from])?;
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_outgrows_64_bits_is_added_up_in_full() {
        let max = i128::from(i64::MAX);
        for (values, sum) in [
            (vec![max, 1], max + 1),
            (vec![-max, -2], -max - 2),
            (vec![max + 5, -max], 5),
            (vec![i128::MAX, 1], i128::MAX),
        ] {
            let mut amounts = Amounts::default();
            amounts.resize(3);
            amounts.add(0, 7);
            values.iter().for_each(|value| amounts.add(1, *value));
            let all = [0, 1, 2].map(|at| amounts.at(at));
            assert_eq!(all, [Some(7), Some(sum), None], "{values:?}");
        }
    }

    #[test]
    fn merging_adds_what_goes_to_the_same_place() {
        let mut amounts = Amounts::default();
        amounts.resize(4);
        [5, 6, 7]
            .iter()
            .zip(0..)
            .for_each(|(v, at)| amounts.add(at, *v));
        let merged = amounts.merged([2, 0, 1, 3].into_iter(), &[0, 1, 0, 2], 3);
        let all = [0, 1, 2].map(|at| merged.at(at));
        assert_eq!(all, [Some(13), Some(5), None]);
    }

    #[test]
    fn merging_outgrows_64_bits_and_stays_there() {
        let max = i128::from(i64::MAX);
        let mut amounts = Amounts::default();
        amounts.resize(2);
        [max, 1]
            .iter()
            .zip(0..)
            .for_each(|(v, at)| amounts.add(at, *v));
        let merged = amounts.merged([0, 1].into_iter(), &[0, 0], 2);
        assert_eq!((merged.at(0), merged.at(1)), (Some(max + 1), None));
        let again = merged.merged([1, 0].into_iter(), &[0, 1], 2);
        assert_eq!((again.at(0), again.at(1)), (None, Some(max + 1)));
    }
}
