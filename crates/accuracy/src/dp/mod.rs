//! The mathematics of the ad hoc lane: differential privacy with exact integer noise.
//!
//! A [`Plan`] says, before any row is read, what an answer will cost ([`Charge`]) and how much noise each of its
//! statistics carries ([`Sigma2`]). It is made from the owner's policy ([`Bounds`]) and the cost the question is
//! allowed ([`Rho`]); nothing here looks at data to decide how much noise data needs. The caller debits the charge
//! first, then truncates and clamps every unit's contribution to the bounds, then asks each
//! [`Share`] for a noisy value.
//!
//! # What it promises
//!
//! Two databases that differ in everything about *one protection unit* give answers that are zero-concentrated
//! differentially private (zCDP) at the charged rho. Each statistic gets discrete Gaussian noise of variance
//! `sigma^2 = D^2 / (2 rho)`, D being its L2 sensitivity; costs of statistics and of questions add.
//! Sources: Bun & Steinke 2016, "Concentrated Differential Privacy" (zCDP, composition, conversion to epsilon and
//! delta); Canonne, Kamath & Steinke 2020, "The Discrete Gaussian for Differential Privacy", arXiv 2004.00010 (that
//! the discrete Gaussian meets the same cost over vectors of integers, and the samplers). Where groups are discovered
//! in the data rather than registered, a threshold adds a delta ([`tau`]), and the promise is delta-approximate zCDP.
//!
//! # What it does not
//!
//! * It believes that one unit is in at most `cells_per_unit` cells, once in each, and within the clamps. Upstream
//!   enforces that by truncation, whose choice of cells for one unit may depend on no other unit.
//! * Running time of the samplers depends on the draw (not on the value). The caller pads the time of an answer.
//! * It keeps no ledger. Charges of questions chosen one after another may simply be summed against a fixed budget
//!   (a privacy filter: Whitehouse, Ramdas, Rogers & Wu 2023, "Fully-Adaptive Composition in Differential Privacy").
//!
//! # Why these samplers and not OpenDP's
//!
//! OpenDP 0.16.0 has the same algorithms, and we take them as the yardstick, not as a dependency:
//!
//! * its samplers take no generator. Randomness comes from OpenSSL, which `deny.toml` bars, or without that feature
//!   from a source that its own documentation calls non-secure;
//! * without a generator to seed, "the same question again gives the same draw" needs a durable store of every
//!   release, which a restored backup can lose and so redraw;
//! * it brings some 57 packages (`rand` 0.7, `statrs`, `nalgebra`, two old `num`) for five short functions, where
//!   `num-bigint`, used here instead, is already beneath Arrow. It does build, in under a minute;
//!   its licence is MIT.
//!
//! No floating-point number stands between the randomness and a released value (Mironov 2012, "On Significance of the
//! Least Significant Bits for Differential Privacy"). The tests of `yardstick` compare the draws with the closed form
//! and with a million of OpenDP's own;
//! those of `tester` look for a privacy loss beyond the charge, and show that they find one.
//!
//! # The same question again
//!
//! Every draw takes the generator as an argument. A node seeds one `ChaCha20` generator *per cell and statistic* with
//! a PRF, under a secret of the dataset, of [`Share::draw_context`]: digest of the admitted question, digest of the
//! snapshot, the policy's bounds, the cost, the cell. The same admitted question over the same snapshot under the same
//! plan then repeats its draws, after a restart too, tells nothing new and costs nothing. Whoever holds the secret can
//! take the noise off: it ranks with the data. A new secret makes new draws, so it also makes every question new, to be
//! charged again. The promise becomes computational (Mironov, Pandey, Reingold & Vadhan 2009, "Computational
//! Differential Privacy").

mod bounds;
mod cost;
mod groups;
mod noise;
mod plan;
mod sampler;
#[cfg(test)]
mod tester;
#[cfg(test)]
mod yardstick;

pub use bounds::{Bounds, Sensitivity};
pub use cost::{Charge, Delta, Rho, epsilon_at};
pub use groups::{Groups, tau};
pub use noise::{Sigma2, noisy};
pub use plan::{Plan, Share};

/// Why no plan can be made, in the order the checks run. Each is about policy or question, never about data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DpError {
    /// A unit that may be in no cell contributes nothing to protect.
    #[error("the policy lets a unit be in no cell of an answer")]
    NoCells,
    /// The clamp of a total is empty.
    #[error("the policy clamps a total from {lower} to {upper}, which holds nothing")]
    CrossedBounds {
        /// The policy's lower bound.
        lower: i128,
        /// The policy's upper bound.
        upper: i128,
    },
    /// The clamp of a total holds zero alone, so no noise would be added.
    #[error("the policy clamps a total to zero")]
    NoContribution,
    /// The squared sensitivity does not fit 128 bits.
    #[error("the policy's bounds are too wide to be protected")]
    SensitivityTooLarge,
    /// An answer without a statistic.
    #[error("the question asks for no statistic")]
    NoStatistic,
    /// Statistics of one answer share its cells.
    #[error("the statistics of one answer must have the same number of cells for each unit")]
    CellsDiffer,
    /// Discovered groups are decided by the first statistic, which has to count units.
    #[error("groups that are not registered need a count of units as the first statistic")]
    NoUnits,
    /// The cost is too small to be shared out, or nothing at all.
    #[error("a cost of {rho} cannot be shared by {statistics} statistics")]
    CostTooSmall {
        /// What the question may cost.
        rho: Rho,
        /// Among how many statistics.
        statistics: usize,
    },
    /// The cost is beyond [`Plan::MAX_RHO`], most likely a mistaken unit.
    #[error("a cost of {rho} for one question protects nobody; the most is {most}", most = Plan::MAX_RHO)]
    CostTooLarge {
        /// What the question was said to cost.
        rho: Rho,
    },
    /// A variance of zero, or over zero.
    #[error("noise needs a variance above zero")]
    NoNoise,
    /// The variance is beyond [`Sigma2::MAX`].
    #[error("the noise would be too large to be added: the bounds are too wide for the cost")]
    NoiseTooLarge,
    /// A threshold needs a chance of failure above nought and below one.
    #[error("a delta of {delta} sets no threshold")]
    NoThreshold {
        /// The chance that was given.
        delta: Delta,
    },
}
