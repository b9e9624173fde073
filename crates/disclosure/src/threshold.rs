//! The minimum group: which cells, and which values in them, stand on enough units.

use crate::release::ReleaseError;
use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

/// For each row, whether `counts` reaches `minimum`. An unknown count does not.
pub(crate) fn enough(counts: &dyn Array, minimum: u32) -> Result<BooleanArray, ReleaseError> {
    let counts = cast(counts, &DataType::Int64)?;
    let minimum = i64::from(minimum);
    Ok(counts
        .as_primitive::<Int64Type>()
        .iter()
        .map(|n| Some(n.is_some_and(|n| n >= minimum)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, UInt64Array};

    #[test]
    fn a_group_at_the_minimum_is_enough_and_one_below_is_not() {
        let got = enough(&Int64Array::from(vec![9, 10, 11]), 10).unwrap();
        assert_eq!(got, BooleanArray::from(vec![false, true, true]));
    }

    #[test]
    fn an_unknown_or_impossible_count_is_never_enough() {
        let got = enough(&Int64Array::from(vec![None, Some(-1)]), 1).unwrap();
        assert_eq!(got, BooleanArray::from(vec![false, false]));
        let got = enough(&UInt64Array::from(vec![u64::MAX]), 1);
        assert!(got.map_or(true, |b| !b.value(0)));
    }
}
