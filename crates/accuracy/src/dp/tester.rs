//! A stochastic tester: does an answer give one unit away more than its charge says?
//!
//! After Wilson, Zhang, Lam, Desfontaines, Simmons-Marengo & Gipson 2019, "Differentially Private SQL with Bounded
//! User Contribution": run the mechanism many times on two databases that differ in one unit, and compare. It knows
//! nothing of the noise. Each verdict is wrong about an honest mechanism at most once in a thousand seeds:
//!
//! * *hockey stick*: rho-zCDP allows `P(S) - e^eps Q(S)` up to a known delta, for every set S. All half-lines are
//!   tried at once, at several epsilons, both ways round; what sampling may add is bounded by Massart 1990 (DKW).
//! * *Renyi*: rho-zCDP allows `sum P^2/Q` up to `e^(2 rho)`. A lower bound of the sum is taken from Chernoff bounds
//!   of each outcome's chance. Leaving outcomes out only lowers it.

use crate::dp::yardstick::{Tape, cases};
use crate::dp::{Bounds, Delta, Groups, Plan, Rho, Sigma2, noisy};
use std::collections::BTreeMap;

/// Draws of an outcome on a database and on its neighbour.
struct Neighbours {
    here: Vec<i128>,
    there: Vec<i128>,
}

/// How often a verdict may be wrong about an honest mechanism.
const DOUBT: f64 = 0.001;

impl Neighbours {
    fn draw(draws: usize, mut mechanism: impl FnMut(bool) -> i128) -> Self {
        let mut sorted = |with| {
            let mut draws: Vec<i128> = (0..draws).map(|_| mechanism(with)).collect();
            draws.sort_unstable();
            draws
        };
        Self {
            here: sorted(true),
            there: sorted(false),
        }
    }

    fn swapped(&self) -> Self {
        Self {
            here: self.there.clone(),
            there: self.here.clone(),
        }
    }

    /// Whether either check finds more than `rho`, either way round.
    fn breach(&self, rho: f64) -> bool {
        [self, &self.swapped()]
            .iter()
            .any(|pair| pair.hockey_stick_breach(rho) || pair.renyi_breach(rho))
    }

    fn hockey_stick_breach(&self, rho: f64) -> bool {
        let n = self.here.len() as f64;
        let slack = ((4.0 / DOUBT).ln() / (2.0 * n)).sqrt();
        let share = |draws: &[i128], at: i128| draws.partition_point(|&d| d < at) as f64 / n;
        let (first, last) = (self.here[0], self.here[self.here.len() - 1]);
        (first..=last + 1).any(|at| {
            let (p, q) = (share(&self.here, at), share(&self.there, at));
            [0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0]
                .iter()
                .any(|&epsilon: &f64| {
                    let allowed = allowed_delta(rho, epsilon);
                    let over = |p: f64, q: f64| p - slack - epsilon.exp() * (q + slack) > allowed;
                    over(p, q) || over(1.0 - p, 1.0 - q)
                })
        })
    }

    fn renyi_breach(&self, rho: f64) -> bool {
        const OUTCOMES: i128 = 200; // fixed before the draws are seen; those outside are left out
        let n = self.here.len() as f64;
        let log = (4.0 * OUTCOMES as f64 / DOUBT).ln();
        let (p, q) = (shares(&self.here), shares(&self.there));
        let sum: f64 = (-OUTCOMES..OUTCOMES)
            .filter_map(|x| p.get(&x).map(|&p| (p, q.get(&x).copied().unwrap_or(0.0))))
            .map(|(p, q)| {
                let least = (p - (2.0 * p * log / n).sqrt()).max(0.0);
                let most = q + (2.0 * q * log / n).sqrt() + 2.0 * log / n;
                least * least / most
            })
            .sum();
        sum > (2.0 * rho).exp()
    }
}

fn shares(draws: &[i128]) -> BTreeMap<i128, f64> {
    let mut shares = BTreeMap::new();
    draws
        .iter()
        .for_each(|&d| *shares.entry(d).or_insert(0.0) += 1.0 / draws.len() as f64);
    shares
}

/// The delta that rho-zCDP comes to at epsilon: the least over alpha of
/// `exp((alpha - 1)(alpha rho - epsilon)) / (alpha - 1) * (1 - 1/alpha)^alpha` (Canonne, Kamath & Steinke 2020). Any
/// alpha gives a bound, so the least of a grid is one.
fn allowed_delta(rho: f64, epsilon: f64) -> f64 {
    (1..4000)
        .map(|step| 1.0 + f64::from(step) * 0.02)
        .map(|a| ((a - 1.0) * (a * rho - epsilon)).exp() / (a - 1.0) * (1.0 - 1.0 / a).powf(a))
        .fold(1.0, f64::min)
}

/// One count, with a unit and without, at the noise of `rho` over `divisor`.
fn count(nano: u64, divisor: u128, draws: usize) -> Neighbours {
    let honest = Sigma2::for_cost(
        Bounds::units(1).unwrap().sensitivity(),
        Rho::from_nano(nano),
    )
    .unwrap();
    let sigma2 = Sigma2::new(honest.numerator(), honest.denominator() * divisor).unwrap();
    let mut rng = Tape::seeded(draws as u64);
    Neighbours::draw(draws, |with| {
        noisy(if with { 1 } else { 0 }, &sigma2, &mut rng)
    })
}

/// A whole answer of two statistics over two cells. One unit is in both, with 10 in each.
///
/// The outcome is the one number that tells most: each difference, weighed by one over its variance.
fn answer(plan: &Plan, draws: usize) -> Neighbours {
    let mut rng = Tape::seeded(draws as u64);
    let without = [[1i128, 4], [0, 0]];
    let with = [[2i128, 14], [1, 10]];
    Neighbours::draw(draws, |there| {
        let cells = if there { with } else { without };
        let weighed = cells
            .iter()
            .flat_map(|cell| plan.shares().iter().zip(cell).zip([10, 1]));
        weighed
            .map(|((share, value), weight)| weight * share.noisy(*value, &mut rng))
            .sum::<i128>()
            / 5
    })
}

fn plan(nano: u64, cells_per_unit: u32, upper: i128) -> Plan {
    let bounds = [
        Bounds::units(cells_per_unit).unwrap(),
        Bounds::total(cells_per_unit, 0, upper).unwrap(),
    ];
    Plan::new(Rho::from_nano(nano), &bounds, Groups::Registered).unwrap()
}

#[test]
fn a_count_gives_a_unit_away_no_more_than_it_costs() {
    for nano in [500_000_000, 50_000_000, 1_000_000_000] {
        assert!(!count(nano, 1, cases()).breach(nano as f64 / 1e9), "{nano}");
    }
}

#[test]
fn noise_of_half_the_sigma_is_found_out() {
    for nano in [500_000_000, 50_000_000, 1_000_000_000] {
        assert!(
            count(nano, 4, cases() / 2).hockey_stick_breach(nano as f64 / 1e9),
            "{nano}"
        );
    }
    assert!(count(500_000_000, 4, cases() / 4).renyi_breach(0.5));
}

#[test]
fn a_whole_answer_gives_a_unit_away_no_more_than_its_charge() {
    let plan = plan(500_000_000, 2, 10);
    assert_eq!(plan.charge().rho.nano(), 500_000_000);
    assert!(!answer(&plan, cases()).breach(0.5));
}

#[test]
fn an_answer_whose_policy_forgot_a_cell_or_a_clamp_is_found_out() {
    assert!(answer(&plan(500_000_000, 1, 5), cases() / 4).breach(0.5));
    // Each statistic at the cost of the whole: what happens when costs are not shared out.
    assert!(answer(&plan(1_000_000_000, 1, 10), cases() / 4).breach(0.5));
}

#[test]
fn a_group_of_one_unit_does_not_show() {
    let groups = Groups::Discovered {
        delta: Delta::from_pico(1_000_000_000),
    };
    let plan = Plan::new(
        Rho::from_nano(50_000_000),
        &[Bounds::units(1).unwrap()],
        groups,
    )
    .unwrap();
    let (share, tau) = (&plan.shares()[0], plan.tau().unwrap());
    let mut rng = Tape::seeded(5);
    let shown = (0..cases())
        .filter(|_| share.noisy(1, &mut rng) >= tau)
        .count();
    let expected = cases() as f64 / 1000.0;
    assert!(
        (shown as f64) < expected + 4.0 * expected.sqrt(),
        "{shown} shown, {expected} allowed"
    );
    // Nor is it hidden for want of noise: a threshold of three sigma less would show it too often.
    let lower = tau - 3 * 3;
    let shown = (0..cases())
        .filter(|_| share.noisy(1, &mut rng) >= lower)
        .count();
    assert!(shown as f64 > 4.0 * expected, "{shown}");
}
