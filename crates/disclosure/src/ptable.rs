//! The perturbation table: how likely each step of noise is, for each true count.
//!
//! Of all distributions over the allowed steps with mean 0 and the asked variance, each row is the one of maximum
//! entropy, so it promises nothing else: `p_d` is proportional to `exp(a d + b d²)` (Giessing 2016; the `ptable`
//! package of the European Statistical System).

use guildhall_accuracy::cube::CellNoise;
use std::fmt;
use std::sync::LazyLock;

/// What a table has to keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PTableSpec {
    /// The most that a count may move, either way (D); 1 to 100.
    pub most: u32,
    /// The variance of the noise (V), for every count from 1 upwards.
    pub variance: f64,
    /// Published counts from 1 to this (js) do not occur.
    pub barred: u32,
}

/// Why there is no such table.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PTableError {
    /// Outside what a table is made for.
    #[error(
        "a perturbation table moves counts by 1 to {MOST}, and bars as many at most, with a variance above 0"
    )]
    Spec,
    /// No distribution over the allowed steps has mean 0 and this variance, or only one has.
    #[error("no noise for a count of {count} has mean 0 and variance {variance}")]
    Infeasible {
        /// The first count without one.
        count: u32,
        /// The variance that was asked for.
        variance: f64,
    },
}

/// The largest step of any table.
const MOST: u32 = 100;
/// Newton's method doubles its digits each step once it is near; a table that needs more is at the edge of the feasible.
const STEPS: u32 = 200;
/// How far mean and variance may be off, per unit of D².
const PRECISION: f64 = 1e-13;
/// What the dual may seem to rise by near its least value, by rounding alone.
const ROUNDING: f64 = 1e-13;
/// The indices of a row: 2^64 equally likely ones.
const INDICES: f64 = 18_446_744_073_709_551_616.0;

/// A perturbation table.
///
/// A count of 0 is never moved. Counts from `D + js` upwards share one row.
#[derive(Clone)]
pub struct PTable {
    spec: PTableSpec,
    rows: Vec<Row>,
}

/// The noise of one true count.
#[derive(Clone)]
struct Row {
    /// The allowed steps, ascending.
    steps: Vec<i64>,
    /// How likely each is.
    chances: Vec<f64>,
    /// The first index beyond each step but the last.
    ends: Vec<u64>,
}

impl PTable {
    /// The table of `spec`.
    pub fn generate(spec: PTableSpec) -> Result<Self, PTableError> {
        let fits = (1..=MOST).contains(&spec.most) && spec.barred <= MOST;
        if !fits || !spec.variance.is_finite() || spec.variance <= 0.0 {
            return Err(PTableError::Spec);
        }
        let rows = (1..=spec.most + spec.barred).map(|count| Row::generate(count, &spec));
        let rows = rows.collect::<Result<_, _>>()?;
        Ok(Self { spec, rows })
    }

    /// The table of the cube lane: at most 5 either way, variance 3, no count barred.
    #[must_use]
    pub fn standard() -> &'static Self {
        static STANDARD: LazyLock<PTable> = LazyLock::new(|| {
            let spec = PTableSpec {
                most: CellNoise::STANDARD.most,
                variance: CellNoise::STANDARD.variance,
                barred: 0,
            };
            // A table without rows moves nothing; `the_standard_table_has_all_its_rows` holds that this one has them.
            PTable::generate(spec).unwrap_or(PTable { spec, rows: vec![] })
        });
        &STANDARD
    }

    /// How far it moves counts, as its columns' metadata says.
    pub(crate) fn noise_of_cells(&self) -> CellNoise {
        let PTableSpec { most, variance, .. } = self.spec;
        CellNoise { most, variance }
    }

    /// A table without rows, which moves nothing.
    #[cfg(test)]
    pub(crate) fn still() -> Self {
        let spec = PTableSpec {
            most: 0,
            variance: 0.0,
            barred: 0,
        };
        Self { spec, rows: vec![] }
    }

    /// The noise for a true count of `n` at `index`, which is uniform over all of `u64`.
    #[must_use]
    pub fn noise(&self, n: u64, index: u64) -> i64 {
        self.row(n).map_or(0, |row| row.step(index))
    }

    /// The most that a count moves, either way.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.spec.most
    }

    /// What the table was made for.
    #[must_use]
    pub fn spec(&self) -> PTableSpec {
        self.spec
    }

    /// The steps that a true count of `n` may take, ascending, and how likely each is; nothing for 0.
    pub fn chances(&self, n: u64) -> impl Iterator<Item = (i64, f64)> {
        let pairs = |row: &'_ Row| {
            let pairs = row.steps.iter().copied().zip(row.chances.iter().copied());
            pairs.collect::<Vec<_>>()
        };
        self.row(n).map(pairs).unwrap_or_default().into_iter()
    }

    fn row(&self, n: u64) -> Option<&Row> {
        let before = usize::try_from(n.checked_sub(1)?).unwrap_or(usize::MAX);
        self.rows.get(before).or(self.rows.last())
    }
}

impl fmt::Debug for PTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PTable").field("spec", &self.spec).finish()
    }
}

impl Row {
    fn generate(count: u32, spec: &PTableSpec) -> Result<Self, PTableError> {
        let (count_i, most) = (i64::from(count), i64::from(spec.most));
        let allowed = |d: &i64| {
            let published = count_i + d;
            published == 0 || published > i64::from(spec.barred)
        };
        let steps: Vec<i64> = (-most..=most).filter(allowed).collect();
        let chances = max_entropy(&steps, spec.variance).ok_or(PTableError::Infeasible {
            count,
            variance: spec.variance,
        })?;
        let mut ends: Vec<u64> = chances
            .iter()
            .scan(0.0, |sum, p| {
                *sum += p;
                Some(index_at(*sum))
            })
            .collect();
        ends.pop();
        Ok(Self {
            steps,
            chances,
            ends,
        })
    }

    fn step(&self, index: u64) -> i64 {
        let at = self.ends.partition_point(|end| *end <= index);
        self.steps.get(at).copied().unwrap_or(0)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast to an integer saturates, which is meant"
)]
fn index_at(share: f64) -> u64 {
    (share * INDICES) as u64
}

/// The chances of `steps` with mean 0 and this variance that have the most entropy.
///
/// They minimise the convex `ln sum exp(a d + b d²) - b V`; this is Newton's method with its step halved until it helps.
fn max_entropy(steps: &[i64], variance: f64) -> Option<Vec<f64>> {
    let steps: Vec<f64> = steps.iter().map(|d| *d as f64).collect();
    let widest = steps.iter().fold(1.0_f64, |w, d| w.max(d.abs()));
    let (mut a, mut b) = (0.0, -0.5 / variance);
    for _ in 0..STEPS {
        let at = Dual::at(&steps, variance, a, b);
        if at.slope.0.abs().max(at.slope.1.abs()) < PRECISION * (1.0 + widest * widest) {
            return Some(at.chances);
        }
        let (da, db) = at.newton_step()?;
        let mut size = 1.0;
        while Dual::at(&steps, variance, a - size * da, b - size * db).value > at.value + ROUNDING
            && size > 1e-12
        {
            size /= 2.0;
        }
        a -= size * da;
        b -= size * db;
    }
    None
}

/// The function that [`max_entropy`] minimises, at one point.
struct Dual {
    chances: Vec<f64>,
    value: f64,
    /// By a: the mean. By b: how far the second moment is from the variance.
    slope: (f64, f64),
    /// Covariances of (d, d²): dd, dq, qq.
    curve: (f64, f64, f64),
}

impl Dual {
    fn at(steps: &[f64], variance: f64, a: f64, b: f64) -> Self {
        let powers: Vec<f64> = steps.iter().map(|d| a * d + b * d * d).collect();
        let top = powers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = powers.iter().map(|p| (p - top).exp()).collect();
        let all: f64 = weights.iter().sum();
        let chances: Vec<f64> = weights.iter().map(|w| w / all).collect();
        let moment =
            |k: i32| -> f64 { steps.iter().zip(&chances).map(|(d, p)| p * d.powi(k)).sum() };
        let (one, two) = (moment(1), moment(2));
        let curve = (
            two - one * one,
            moment(3) - one * two,
            moment(4) - two * two,
        );
        Self {
            chances,
            value: top + all.ln() - b * variance,
            slope: (one, two - variance),
            curve,
        }
    }

    /// The curve's inverse times the slope; none where the curve is flat.
    fn newton_step(&self) -> Option<(f64, f64)> {
        let (dd, dq, qq) = self.curve;
        let (x, y) = self.slope;
        let area = dd * qq - dq * dq;
        let step = ((qq * x - dq * y) / area, (dd * y - dq * x) / area);
        (area > 0.0 && step.0.is_finite() && step.1.is_finite()).then_some(step)
    }
}
