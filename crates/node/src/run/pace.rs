//! How long an answer of a private product takes, told in buckets.
//!
//! Work over rows takes as long as there are rows, and cells that match. So what was found, be it cells or a refusal,
//! leaves at the end of a bucket of time only: the first bucket ends [`FIRST`] after the work began, each one after it
//! lasts until half as much again has gone by, and the last ends with the time that a fragment may run. Work begins when
//! the fragment is admitted, charged and has its keys; what comes before looks at no row.
//!
//! What it costs: at most the rest of a bucket, so 5 ms for a question that is answered at once, and else half of the
//! time that the work itself took; and the turn is held so long, since a caller who fills all others could time it
//! otherwise.
//!
//! What can be seen all the same: which bucket it was, of some thirty up to ten minutes. With it, whether the tables of
//! a question were at hand, since somebody had asked, or had to be worked out; and how busy the machine is meanwhile.

use crate::error::RunError;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// When the first bucket ends: what is at hand is taken from it and weighed in less.
pub(crate) const FIRST: Duration = Duration::from_millis(5);

/// When work began, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    begun: Instant,
    longest: Duration,
}

impl Pace {
    /// Work that begins now.
    pub(crate) fn begin(longest: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, longest }
    }

    /// What comes of `work`, at the end of a bucket. Work that was stopped after its time tells no more by that than
    /// that it was, and waits for nothing.
    pub(crate) async fn keep<T>(
        self,
        work: impl Future<Output = Result<T, RunError>>,
    ) -> Result<T, RunError> {
        let found = work.await;
        if !matches!(found, Err(RunError::TooLong { .. })) {
            let end = bucket_end(self.begun.elapsed(), self.longest);
            sleep_until(self.begun + end).await;
        }
        found
    }
}

/// The end of the bucket that `elapsed` lies in.
fn bucket_end(elapsed: Duration, longest: Duration) -> Duration {
    let mut end = FIRST;
    while end < elapsed {
        end = end.saturating_add(end / 2);
    }
    if elapsed <= longest {
        end = end.min(longest);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const LONGEST: Duration = Duration::from_secs(600);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How long it takes to be told of work that takes so long.
    async fn told(
        work: Duration,
        longest: Duration,
        found: Result<(), RunError>,
    ) -> (Duration, Result<(), RunError>) {
        let start = Instant::now();
        let work = async {
            sleep(work).await;
            found
        };
        let found = Pace::begin(longest).keep(work).await;
        (start.elapsed(), found)
    }

    fn refusal() -> RunError {
        RunError::TooManyCells { most: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_found_within_one_bucket_is_told_at_one_moment() {
        for (works, end) in [([0, 1, 5], 5), ([6, 7, 7], 8), ([9, 10, 11], 12)] {
            for work in works {
                let (took, _) = told(millis(work), LONGEST, Ok(())).await;
                assert_eq!(took.as_millis(), end, "{work} ms");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_at_the_same_moment_as_an_answer() {
        for work in [0, 3, 40, 1000] {
            let (answered, _) = told(millis(work), LONGEST, Ok(())).await;
            let (refused, error) = told(millis(work), LONGEST, Err(refusal())).await;
            assert!(matches!(error, Err(RunError::TooManyCells { .. })));
            assert_eq!(answered, refused);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_bucket_ends_with_the_time_that_work_may_take() {
        let longest = Duration::from_secs(30);
        let (took, _) = told(longest - millis(1), longest, Ok(())).await;
        assert_eq!(took, longest);
        let too_long = RunError::TooLong { seconds: 30 };
        let (took, _) = told(longest, longest, Err(too_long)).await;
        assert_eq!(took, longest);
    }

    #[test]
    fn a_bucket_costs_half_of_the_work_at_most_and_there_are_few() {
        let mut ends = std::collections::BTreeSet::new();
        for work in (1..600_000).map(millis) {
            let end = bucket_end(work, LONGEST);
            assert!(end >= work && end <= FIRST.max(work + work / 2), "{work:?}");
            ends.insert(end);
        }
        assert!(ends.len() < 32, "{}", ends.len());
    }

    #[test]
    fn work_that_was_weighed_after_its_time_has_buckets_too() {
        let longest = millis(20);
        assert!(bucket_end(millis(21), longest) > longest);
    }
}
