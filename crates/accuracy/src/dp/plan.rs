//! What an answer will cost and how it is made noisy, settled before a row is read.

use crate::dp::{Bounds, Charge, Delta, DpError, Groups, Rho, Sigma2, noisy, tau};
use rand_core::CryptoRng;

/// How one answer spends its cost over its statistics.
///
/// Made from the policy and the question alone. Invariant: the shares' costs sum to the charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    shares: Vec<Share>,
    charge: Charge,
    tau: Option<i128>,
}

/// One statistic of an answer: its bounds, its part of the cost, and the noise that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    position: u32,
    bounds: Bounds,
    rho: Rho,
    sigma2: Sigma2,
}

impl Plan {
    /// The most that one question may cost: epsilon 8.4 at one in a million. More is a mistaken unit, not a policy.
    pub const MAX_RHO: Rho = Rho::from_nano(1_000_000_000);

    /// Shares `rho` equally among the statistics of `bounds`, what is left over going to the first.
    ///
    /// An average is no statistic of its own: it is computed from the published total and count.
    pub fn new(rho: Rho, bounds: &[Bounds], groups: Groups) -> Result<Self, DpError> {
        let first = bounds.first().ok_or(DpError::NoStatistic)?;
        if bounds
            .iter()
            .any(|b| b.cells_per_unit() != first.cells_per_unit())
        {
            return Err(DpError::CellsDiffer);
        }
        if groups != Groups::Registered && !first.counts_units() {
            return Err(DpError::NoUnits);
        }
        let shares = share_out(rho, bounds)?;
        let (tau, delta) = threshold(&shares, groups)?;
        Ok(Self {
            shares,
            charge: Charge { rho, delta },
            tau,
        })
    }

    /// The statistics, in the order they were asked for.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// What to debit before the answer is computed.
    #[must_use]
    pub fn charge(&self) -> Charge {
        self.charge
    }

    /// Where groups are discovered, the least noisy count of units at which a cell is published, all its statistics
    /// or none. `None` where groups are registered, and all are.
    #[must_use]
    pub fn tau(&self) -> Option<i128> {
        self.tau
    }
}

/// Equal parts in whole billionths; the remainder goes to the first.
fn share_out(rho: Rho, bounds: &[Bounds]) -> Result<Vec<Share>, DpError> {
    let too_small = DpError::CostTooSmall {
        rho,
        statistics: bounds.len(),
    };
    let count = u64::try_from(bounds.len()).map_err(|_| too_small)?;
    if rho.nano() < count {
        return Err(too_small);
    }
    if rho > Plan::MAX_RHO {
        return Err(DpError::CostTooLarge { rho });
    }
    let (each, left) = (rho.nano() / count, rho.nano() % count);
    (0u32..)
        .zip(bounds)
        .map(|(position, bounds)| {
            Share::new(
                position,
                *bounds,
                Rho::from_nano(if position == 0 { each + left } else { each }),
            )
        })
        .collect()
}

/// The threshold on the first statistic, and its chance of failure.
fn threshold(shares: &[Share], groups: Groups) -> Result<(Option<i128>, Delta), DpError> {
    match (groups, shares.first()) {
        (Groups::Discovered { delta }, Some(units)) => Ok((
            Some(tau(&units.sigma2, units.bounds.cells_per_unit(), delta)?),
            delta,
        )),
        _ => Ok((None, Delta::ZERO)),
    }
}

impl Share {
    fn new(position: u32, bounds: Bounds, rho: Rho) -> Result<Self, DpError> {
        let sigma2 = Sigma2::for_cost(bounds.sensitivity(), rho)?;
        Ok(Self {
            position,
            bounds,
            rho,
            sigma2,
        })
    }

    /// What each unit's contribution is cut to before it is added up.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// This statistic's part of the cost.
    #[must_use]
    pub fn rho(&self) -> Rho {
        self.rho
    }

    /// The noise of each of its cells.
    #[must_use]
    pub fn sigma2(&self) -> &Sigma2 {
        &self.sigma2
    }

    /// One cell's value with its noise. Every cell has a draw of its own.
    pub fn noisy<R: CryptoRng + ?Sized>(&self, value: i128, rng: &mut R) -> i128 {
        noisy(value, &self.sigma2, rng)
    }

    /// What the seed of this statistic's draw in one cell is a PRF of.
    ///
    /// Holds all that the noise depends on. Two draws from one seed at two sizes of noise would be two views of the
    /// same randomness and give the value away, so bounds and cost are in it; a draw that depended on which cells came
    /// before it would change with the data, so each cell has its own. `question` is the digest of the admitted
    /// question, `snapshot` that of the data it runs over, `cell` a canonical encoding of the cell's group values.
    #[must_use]
    pub fn draw_context(&self, question: &[u8; 32], snapshot: &[u8; 32], cell: &[u8]) -> Vec<u8> {
        let bounds = &self.bounds;
        let mut context = b"guildhall differential privacy draw 1".to_vec();
        context.extend_from_slice(question);
        context.extend_from_slice(snapshot);
        context.extend_from_slice(&self.position.to_le_bytes());
        context.extend_from_slice(&bounds.cells_per_unit().to_le_bytes());
        context.extend_from_slice(&bounds.lower().to_le_bytes());
        context.extend_from_slice(&bounds.upper().to_le_bytes());
        context.extend_from_slice(&self.rho.nano().to_le_bytes());
        context.extend_from_slice(cell); // last, and everything before it is of fixed length
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use std::collections::HashSet;

    fn bounds() -> Vec<Bounds> {
        vec![
            Bounds::units(2).unwrap(),
            Bounds::total(2, 0, 10).unwrap(),
            Bounds::total(2, -5, 5).unwrap(),
        ]
    }

    #[test]
    fn shares_sum_to_the_charge_and_the_first_takes_what_is_left() {
        for nano in [3, 4, 5, 50_000_000, 999_999_999] {
            let plan = Plan::new(Rho::from_nano(nano), &bounds(), Groups::Registered).unwrap();
            let parts: Vec<u64> = plan.shares().iter().map(|s| s.rho().nano()).collect();
            assert_eq!(parts.iter().sum::<u64>(), nano);
            assert_eq!(parts, [nano / 3 + nano % 3, nano / 3, nano / 3]);
            assert_eq!(
                plan.charge(),
                Charge {
                    rho: Rho::from_nano(nano),
                    delta: Delta::ZERO
                }
            );
        }
    }

    #[test]
    fn each_share_has_the_noise_of_its_own_sensitivity() {
        let plan = Plan::new(Rho::from_nano(60_000_000), &bounds(), Groups::Registered).unwrap();
        let sigmas: Vec<String> = plan
            .shares()
            .iter()
            .map(|s| s.sigma2().to_string())
            .collect();
        assert_eq!(sigmas, ["50", "5000", "1250"]);
        assert_eq!(plan.tau(), None);
    }

    #[test]
    fn discovered_groups_add_their_delta_and_set_a_threshold() {
        let groups = Groups::Discovered {
            delta: Delta::ONE_IN_A_MILLION,
        };
        let plan = Plan::new(Rho::from_nano(60_000_000), &bounds(), groups).unwrap();
        assert_eq!(
            plan.tau(),
            Some(tau(plan.shares()[0].sigma2(), 2, Delta::ONE_IN_A_MILLION).unwrap())
        );
        assert_eq!(plan.charge().delta, Delta::ONE_IN_A_MILLION);
        let totals = [Bounds::total(2, 0, 10).unwrap()];
        assert_eq!(
            Plan::new(Rho::from_nano(60), &totals, groups),
            Err(DpError::NoUnits)
        );
    }

    #[test]
    fn a_plan_that_cannot_be_kept_is_refused() {
        let plan =
            |nano, bounds: &[Bounds]| Plan::new(Rho::from_nano(nano), bounds, Groups::Registered);
        assert_eq!(plan(10, &[]), Err(DpError::NoStatistic));
        let small = DpError::CostTooSmall {
            rho: Rho::from_nano(2),
            statistics: 3,
        };
        assert_eq!(plan(2, &bounds()), Err(small));
        assert!(matches!(
            plan(0, &bounds()[..1]),
            Err(DpError::CostTooSmall { .. })
        ));
        let most = Plan::MAX_RHO.nano();
        assert!(plan(most, &bounds()).is_ok());
        assert!(matches!(
            plan(most + 1, &bounds()),
            Err(DpError::CostTooLarge { .. })
        ));
        assert_eq!(
            plan(10, &[Bounds::units(1).unwrap(), Bounds::units(2).unwrap()]),
            Err(DpError::CellsDiffer)
        );
        assert_eq!(
            plan(1, &[Bounds::total(1, 0, 1 << 62).unwrap()]),
            Err(DpError::NoiseTooLarge)
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_draws_and_another_does_not() {
        let plan = Plan::new(Rho::from_nano(60_000), &bounds(), Groups::Registered).unwrap();
        let draws = |seed: u8| -> Vec<i128> {
            let mut rng = ChaCha20Rng::from_seed([seed; 32]);
            (0..20)
                .flat_map(|_| plan.shares())
                .map(|s| s.noisy(1000, &mut rng))
                .collect()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn a_seed_gives_these_draws_on_every_machine() {
        let sigma2 = Sigma2::new(10_000, 3).unwrap();
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let draws: Vec<i128> = (0..8).map(|_| noisy(0, &sigma2, &mut rng)).collect();
        assert_eq!(draws, PINNED);
    }

    const PINNED: [i128; 8] = [52, -57, -9, -30, 84, 72, 88, 61];

    #[test]
    fn whatever_the_noise_depends_on_is_in_the_context() {
        let contexts = |nano, bounds: &[Bounds]| -> Vec<Vec<u8>> {
            let plan = Plan::new(Rho::from_nano(nano), bounds, Groups::Registered).unwrap();
            let share =
                |q: u8, s: u8, cell: &[u8]| plan.shares()[0].draw_context(&[q; 32], &[s; 32], cell);
            let second = plan.shares()[1].draw_context(&[1; 32], &[2; 32], b"Kinson");
            vec![
                share(1, 2, b"Kinson"),
                share(3, 2, b"Kinson"),
                share(1, 3, b"Kinson"),
                share(1, 2, b"Boscombe"),
                second,
            ]
        };
        let with = |c, lower, upper| [Bounds::total(c, lower, upper).unwrap(); 2];
        let policies = [with(1, 0, 1), with(2, 0, 1), with(1, 0, 2), with(1, -1, 1)];
        let all: Vec<Vec<u8>> = policies
            .iter()
            .flat_map(|p| [contexts(100, p), contexts(200, p)].concat())
            .collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(contexts(100, &policies[0]), contexts(100, &policies[0]));
    }
}
