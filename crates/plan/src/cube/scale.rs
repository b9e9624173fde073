//! How the values of a measure become decimals, and what one unit may add to a total of them.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use guildhall_grant::product::Measure;

/// The significant digits of a bound that a sum of floats keeps.
const DIGITS: i32 = 15;

/// How the values of a measure become decimals: nodes add them up so, and the bounds of errors are told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Digits after the point.
    pub decimals: i8,
    /// Whether the values are floating-point numbers, which have to be rounded.
    pub floating: bool,
}

impl Scale {
    /// The scale of a measure whose column has this type; none if that is no number.
    #[must_use]
    pub fn of(measure: &Measure, data_type: &DataType) -> Option<Self> {
        match data_type {
            t if t.is_integer() => Some(Self {
                decimals: 0,
                floating: false,
            }),
            DataType::Decimal128(_, s) if *s >= 0 => Some(Self {
                decimals: *s,
                floating: false,
            }),
            t if t.is_floating() => Some(Self::of_floats(measure)),
            _ => None,
        }
    }

    /// Enough decimals for [`DIGITS`] digits of the larger bound, and room for 10^9 rows of it.
    fn of_floats(measure: &Measure) -> Self {
        let largest = measure.lower.abs().max(measure.upper.abs());
        let mut decimals = DIGITS;
        let mut power = 1.0_f64;
        while power < largest && decimals > 0 {
            power *= 10.0;
            decimals -= 1;
        }
        Self {
            decimals: i8::try_from(decimals).unwrap_or(0),
            floating: true,
        }
    }

    /// The type of the decimals.
    #[must_use]
    pub fn data_type(self) -> DataType {
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, self.decimals)
    }

    /// A measure's bounds in units of the last decimal.
    pub fn bounds(self, measure: &Measure) -> Result<(i128, i128)> {
        let step = 10_f64.powi(i32::from(self.decimals));
        let bound =
            |x: f64| match ScalarValue::Float64(Some(x / step)).cast_to(&self.data_type())? {
                ScalarValue::Decimal128(Some(v), _, _) => Ok(v),
                _ => Err(DataFusionError::Internal(
                    "a measure whose bounds are no numbers".to_owned(),
                )),
            };
        // Inwards: a bound between two steps must not let a total past it.
        let (lower, upper) = (measure.lower * step, measure.upper * step);
        Ok((bound(lower.ceil())?, bound(upper.floor())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(lower: f64, upper: f64) -> Measure {
        Measure {
            column: "cost".parse().unwrap(),
            lower,
            upper,
        }
    }

    #[test]
    fn bounds_are_in_units_of_the_last_decimal_and_round_inwards() {
        let measure = measure(-0.5, 20.129);
        let pence = Scale::of(&measure, &DataType::Decimal128(12, 2)).unwrap();
        assert_eq!(pence.bounds(&measure).unwrap(), (-50, 2012));
        let whole = Scale::of(&measure, &DataType::Int32).unwrap();
        assert_eq!(whole.bounds(&measure).unwrap(), (0, 20));
    }

    #[test]
    fn floats_keep_fifteen_digits_of_the_larger_bound() {
        let scale = Scale::of(&measure(0.0, 5_000.0), &DataType::Float64).unwrap();
        assert_eq!((scale.decimals, scale.floating), (11, true));
        assert_eq!(Scale::of(&measure(0.0, 1.0), &DataType::Utf8), None);
    }
}
