//! One order for the same cells, whatever order they were computed in.

use crate::release::ReleaseError;
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices};
use arrow::row::{RowConverter, SortField};

/// Row numbers in the order of `keys`, NULL last; fails if two rows have the same keys.
pub(crate) fn order(keys: &[ArrayRef], rows: usize) -> Result<UInt32Array, ReleaseError> {
    if keys.is_empty() {
        return if rows <= 1 {
            Ok(UInt32Array::from_iter_values(0..u32::from(rows == 1)))
        } else {
            Err(ReleaseError::SplitCell)
        };
    }
    let options = SortOptions {
        descending: false,
        nulls_first: false,
    };
    let columns: Vec<_> = keys
        .iter()
        .map(|k| SortColumn {
            values: ArrayRef::clone(k),
            options: Some(options),
        })
        .collect();
    let order = lexsort_to_indices(&columns, None)?;
    refuse_repeated(keys, &order)?;
    Ok(order)
}

fn refuse_repeated(keys: &[ArrayRef], order: &UInt32Array) -> Result<(), ReleaseError> {
    let fields = keys
        .iter()
        .map(|k| SortField::new(k.data_type().clone()))
        .collect();
    let rows = RowConverter::new(fields)?.convert_columns(keys)?;
    let index = |i: &u32| rows.row(usize::try_from(*i).unwrap_or(usize::MAX));
    match order
        .values()
        .windows(2)
        .all(|w| index(&w[0]) != index(&w[1]))
    {
        true => Ok(()),
        false => Err(ReleaseError::SplitCell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use std::sync::Arc;

    #[test]
    fn unknown_keys_come_last() {
        let keys: ArrayRef = Arc::new(StringArray::from(vec![None, Some("b"), Some("a")]));
        assert_eq!(order(&[keys], 3).unwrap().values(), &[2, 1, 0]);
    }

    #[test]
    fn a_cell_in_two_pieces_is_refused() {
        let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a")]));
        assert!(matches!(order(&[keys], 3), Err(ReleaseError::SplitCell)));
        let keys: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>, None]));
        assert!(matches!(order(&[keys], 2), Err(ReleaseError::SplitCell)));
        assert!(matches!(order(&[], 2), Err(ReleaseError::SplitCell)));
    }
}
