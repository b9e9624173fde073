//! Dominance: whether one or two units make up so much of a total that it tells of them.
//!
//! Both rules are those of SACRO's ACRO 1.0.2, with the limits of its `default.yaml`, in whole numbers. At these
//! limits whatever fails the p-ratio fails NK as well; both are kept, since their limits may part. A total whose
//! largest contribution is 0 is all zeros, and safe. Where ACRO asks for a person's review, of negatives, we fail.
//! `guildhall_accuracy::cube::DOMINANCE` names them to whoever asks.

/// Whether a total passes both rules. `first` and `second` are its largest contributions; what cannot be worked out
/// fails, and so does anything negative, for which the rules say nothing.
pub(crate) fn passes(sum: i128, first: i128, second: i128) -> bool {
    sum >= 0
        && first >= 0
        && second >= 0
        && nk(sum, first, second).unwrap_or(false)
        && p_ratio(sum, first, second).unwrap_or(false)
}

/// NK with N = 2 and k = 0.90: fails at `(first + second) / sum >= 0.90`. None if the numbers are too large.
fn nk(sum: i128, first: i128, second: i128) -> Option<bool> {
    let two = first.checked_add(second)?.checked_mul(10)?;
    Some(first == 0 || two < sum.checked_mul(9)?)
}

/// The p-ratio with p = 0.10: fails at `(sum - first - second) / first < 0.10`. None if the numbers are too large.
fn p_ratio(sum: i128, first: i128, second: i128) -> Option<bool> {
    let rest = sum.checked_sub(first)?.checked_sub(second)?;
    Some(first == 0 || rest.checked_mul(10)? >= first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_make_up_less_than_nine_tenths() {
        assert_eq!(nk(1000, 450, 449), Some(true));
        assert_eq!(nk(1000, 450, 450), Some(false));
        assert_eq!(nk(1000, 900, 0), Some(false));
        assert!(passes(1000, 450, 449) && !passes(1000, 450, 450));
    }

    #[test]
    fn the_rest_is_a_tenth_of_the_largest_at_least() {
        assert_eq!(p_ratio(1600, 1000, 500), Some(true));
        assert_eq!(p_ratio(1599, 1000, 500), Some(false));
    }

    #[test]
    fn zeros_are_safe() {
        assert!(passes(0, 0, 0));
    }

    #[test]
    fn what_is_negative_or_too_large_fails() {
        assert!(!passes(-1, 0, 0));
        assert!(!passes(100, -60, 5));
        assert!(!passes(i128::MAX, 1, 1));
        assert!(!passes(i128::MAX, i128::MAX, i128::MAX));
    }
}
