//! What is told of the columns of the ad hoc lane, whose values carry differential privacy.

use crate::Told;
use crate::dp::Plan;

/// What a column of a free question's answer is made of. Numbers are of the plan's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// A part of the cell's name.
    Key,
    /// A statistic with its noise.
    Statistic(usize),
    /// One noisy statistic over another.
    Mean {
        /// Which is divided.
        sum: usize,
        /// By which.
        count: usize,
    },
}

impl Column {
    /// Its rule and its error, where `scales` has the decimals of each statistic of `plan`.
    #[must_use]
    pub fn told(self, plan: &Plan, scales: &[i8]) -> Told {
        let cost = plan.charge().rho.to_string();
        let error = |at| error(plan, scales, at);
        Told {
            rule: format!("differential-privacy;{}", cost.replace(' ', "=")),
            error: match self {
                Self::Key => crate::NO_ERROR.to_owned(),
                Self::Statistic(at) => format!("within {} with 95 %", error(at)),
                Self::Mean { sum, count } => format!(
                    "its sum within {} and its count within {}, each with 95 %",
                    error(sum),
                    error(count)
                ),
            },
        }
    }
}

/// How far a noisy statistic is from what was clamped, 95 times in 100.
fn error(plan: &Plan, scales: &[i8], at: usize) -> String {
    match (plan.shares().get(at), scales.get(at)) {
        (Some(share), Some(scale)) => decimal(share.sigma2().error_95(), *scale),
        _ => String::new(),
    }
}

/// `value` units of the last of `scale` decimals, in full.
fn decimal(value: i128, scale: i8) -> String {
    let places = usize::try_from(scale).unwrap_or(0);
    let digits = format!("{value:0width$}", width = places.saturating_add(1));
    match digits
        .len()
        .checked_sub(places)
        .map(|at| digits.split_at(at))
    {
        Some((whole, rest)) if places > 0 => format!("{whole}.{rest}"),
        _ => digits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dp::{Bounds, Groups, Rho};

    #[test]
    fn a_column_is_told_by_the_noise_of_its_own_statistic() {
        let bounds = [
            Bounds::total(1, 0, 2).unwrap(),
            Bounds::total(1, -100, 500).unwrap(),
        ];
        let plan = Plan::new(Rho::from_nano(1_000_000), &bounds, Groups::Registered).unwrap();
        let count = Column::Statistic(0).told(&plan, &[0, 2]);
        assert_eq!(count.rule, "differential-privacy;rho=0.001");
        // 1.96 * sqrt(4 / (2 * 0.0005)), rounded up.
        assert_eq!(count.error, "within 124 with 95 %");
        let sum = Column::Statistic(1).told(&plan, &[0, 2]);
        assert_eq!(sum.error, "within 309.90 with 95 %");
        let mean = Column::Mean { sum: 1, count: 0 }.told(&plan, &[0, 2]);
        assert_eq!(
            mean.error,
            "its sum within 309.90 and its count within 124, each with 95 %"
        );
        assert_eq!(Column::Key.told(&plan, &[0, 2]).error, "none");
    }
}
