//! Medians, percentiles, means of ratios, memory.

use std::time::Duration;

/// The value that `percent` of the samples do not exceed (nearest rank).
pub(crate) fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    let rank = (samples.len() * percent).div_ceil(100).max(1);
    samples.get(rank - 1).copied().unwrap_or_default()
}

pub(crate) fn median(samples: &mut [Duration]) -> Duration {
    percentile(samples, 50)
}

/// How many times `base` fits into `other`.
pub(crate) fn ratio(other: Duration, base: Duration) -> f64 {
    other.as_secs_f64() / base.as_secs_f64().max(1e-9)
}

pub(crate) fn geometric_mean(ratios: &[f64]) -> f64 {
    let count = ratios.len().max(1) as f64;
    (ratios.iter().map(|r| r.ln()).sum::<f64>() / count).exp()
}

/// A number that looks like chance and is the same every time: SplitMix64's finaliser.
pub(crate) fn mixed(n: u32, salt: u64) -> u64 {
    let mut x = u64::from(n)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(salt);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 27)
}

/// The most memory that this process has held, in MiB, where the system tells (Linux).
pub(crate) fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut samples: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(median(&mut samples), Duration::from_millis(50));
        assert_eq!(percentile(&mut samples, 99), Duration::from_millis(99));
        assert_eq!(
            median(&mut [Duration::from_millis(7)]),
            Duration::from_millis(7)
        );
    }

    #[test]
    fn twice_and_half_cancel_out() {
        assert!((geometric_mean(&[2.0, 0.5]) - 1.0).abs() < 1e-12);
    }
}
