//! What an answer costs, as exact integers that a ledger can add.

use std::fmt;

const NANO: u64 = 1_000_000_000;
const PICO: u64 = 1_000_000_000_000;

/// A cost in zero-concentrated differential privacy, in whole billionths of a rho.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rho(u64);

impl Rho {
    /// No cost.
    pub const ZERO: Self = Self(0);

    /// A cost of `nano` billionths of a rho: 50 000 000 is rho 0.05.
    #[must_use]
    pub const fn from_nano(nano: u64) -> Self {
        Self(nano)
    }

    /// Billionths of a rho.
    #[must_use]
    pub const fn nano(self) -> u64 {
        self.0
    }

    /// Both costs together, or `None` beyond what can be counted.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// What is left of this budget after `spent`, or `None` where it does not reach.
    #[must_use]
    pub fn checked_sub(self, spent: Self) -> Option<Self> {
        self.0.checked_sub(spent.0).map(Self)
    }
}

impl fmt::Display for Rho {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rho {}", Decimal(self.0, NANO, 9))
    }
}

/// A chance of failure, in whole million-millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delta(u64);

impl Delta {
    /// No chance.
    pub const ZERO: Self = Self(0);
    /// The delta at which epsilon is reported.
    pub const ONE_IN_A_MILLION: Self = Self(1_000_000);
    /// Certainty, which is no protection.
    pub(crate) const ONE: Self = Self(PICO);

    /// A chance of `pico` in a million million: 1 000 000 is one in a million.
    #[must_use]
    pub const fn from_pico(pico: u64) -> Self {
        Self(pico)
    }

    /// Million-millionths.
    #[must_use]
    pub const fn pico(self) -> u64 {
        self.0
    }

    /// Both chances together, or `None` beyond what can be counted.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal(self.0, PICO, 12).fmt(f)
    }
}

/// What one answer costs: debited before it is computed, and never given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Charge {
    /// The zCDP cost of all its noise.
    pub rho: Rho,
    /// The chance that a group only one unit is in shows through. Zero where groups are registered.
    pub delta: Delta,
}

impl Charge {
    /// Both charges together, or `None` beyond what can be counted. Charges compose by addition.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (rho, delta) = (
            self.rho.checked_add(other.rho)?,
            self.delta.checked_add(other.delta)?,
        );
        Some(Self { rho, delta })
    }
}

/// The epsilon that `rho` comes to at `delta`: `rho + 2 sqrt(rho ln(1/delta))` (Bun & Steinke 2016, proposition 1.3).
///
/// For reports only: ledgers count [`Rho`]. Where thresholds had a delta of their own ([`Charge::delta`]), the
/// epsilon holds at the sum of both. Infinite at a delta of nought.
#[must_use]
pub fn epsilon_at(rho: Rho, delta: Delta) -> f64 {
    if rho == Rho::ZERO {
        return 0.0;
    }
    let value = rho.0 as f64 / NANO as f64;
    let log = (PICO as f64 / delta.0 as f64).ln().max(0.0);
    value + 2.0 * (value * log).sqrt()
}

/// `self.0 / self.1` in decimal, with at most `self.2` places and no trailing noughts.
struct Decimal(u64, u64, usize);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit, places) = *self;
        let fraction = format!("{:0places$}", value % unit);
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{}", value / unit),
            digits => write!(f, "{}.{digits}", value / unit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_written_as_the_policy_writes_them() {
        let written = [0, 1, 50_000_000, 1_000_000_000, 12_500_000_000]
            .map(|n| Rho::from_nano(n).to_string());
        assert_eq!(
            written,
            ["rho 0", "rho 0.000000001", "rho 0.05", "rho 1", "rho 12.5"]
        );
        assert_eq!(Delta::ONE_IN_A_MILLION.to_string(), "0.000001");
    }

    #[test]
    fn a_sum_that_cannot_be_counted_is_none() {
        let (most, one) = (Rho::from_nano(u64::MAX), Rho::from_nano(1));
        assert_eq!(most.checked_add(one), None);
        assert_eq!(one.checked_sub(Rho::from_nano(2)), None);
        let full = Charge {
            rho: Rho::ZERO,
            delta: Delta::from_pico(u64::MAX),
        };
        assert_eq!(
            full.checked_add(Charge {
                rho: one,
                delta: Delta::from_pico(1)
            }),
            None
        );
    }

    #[test]
    fn epsilon_is_bun_and_steinkes() {
        // mpmath, 30 digits: 0.05 + 2 sqrt(0.05 ln 1e6)
        let cases = [
            (50_000_000, 1.712_258_136_269_11),
            (500_000_000, 5.756_521_769_756_93),
        ];
        for (nano, expected) in cases {
            let got = epsilon_at(Rho::from_nano(nano), Delta::ONE_IN_A_MILLION);
            assert!((got - expected).abs() < 1e-12, "{got}");
        }
        assert_eq!(epsilon_at(Rho::ZERO, Delta::ZERO), 0.0);
        assert_eq!(epsilon_at(Rho::from_nano(1), Delta::ZERO), f64::INFINITY);
    }
}
