//! Numbers are those of first sight, and two rows have the same if and only if they have the same values.

use crate::ReleaseError;
use crate::names::Names;
use arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, StringArray, StringViewArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

#[test]
fn numbers_are_in_the_order_of_first_sight() {
    let mut names = Names::default();
    assert_eq!(
        number(&mut names, &[texts(&[Some("b"), Some("a"), Some("b")])]),
        (vec![0, 1, 0], vec![0, 1])
    );
    assert_eq!(
        number(&mut names, &[texts(&[Some("c"), Some("a"), Some("c")])]),
        (vec![2, 1, 2], vec![0])
    );
    assert_eq!(names.len(), 3);
}

#[test]
fn an_empty_text_is_not_null() {
    let mut names = Names::default();
    let (numbers, _) = number(&mut names, &[texts(&[None, Some(""), None, Some("")])]);
    assert_eq!(numbers, [0, 1, 0, 1]);
    let (numbers, new) = number(&mut names, &[texts(&[Some(""), Some("a"), None])]);
    assert_eq!((numbers, new), (vec![1, 2, 0], vec![1]));
}

#[test]
fn nought_is_not_null() {
    let mut names = Names::default();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), None, Some(-1), Some(0)]));
    assert_eq!(number(&mut names, &[column]).0, [0, 1, 2, 0]);
}

#[test]
fn whole_numbers_without_a_sign_are_told_apart_above_63_bits() {
    let mut names = Names::default();
    let values = vec![Some(u64::MAX), Some(u64::MAX - 1), None, Some(u64::MAX)];
    let column: ArrayRef = Arc::new(UInt64Array::from(values));
    assert_eq!(number(&mut names, &[column]).0, [0, 1, 2, 0]);
}

#[test]
fn rows_of_no_column_have_one_name_and_no_rows_none() {
    let mut names = Names::default();
    assert_eq!(names.number(&[], 0).unwrap().0, [0_u32; 0]);
    assert_eq!(names.len(), 0);
    let (numbers, new) = names.number(&[], 3).unwrap();
    assert_eq!((numbers, new.values().to_vec()), (vec![0; 3], vec![0]));
    assert_eq!(names.len(), 1);
}

#[test]
fn values_do_not_run_into_each_other() {
    let mut names = Names::default();
    let columns = [
        texts(&[Some("a"), Some("ab"), Some("a"), None, Some("")]),
        texts(&[Some("bc"), Some("c"), Some("bc"), Some(""), None]),
    ];
    let (numbers, new) = number(&mut names, &columns);
    assert_eq!((numbers, new), (vec![0, 1, 0, 2, 3], vec![0, 1, 3, 4]));
}

#[test]
fn other_columns_than_before_are_refused() {
    let mut names = Names::default();
    let text = texts(&[Some("a")]);
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![97]));
    names.number(std::slice::from_ref(&text), 1).unwrap();
    for columns in [vec![whole], vec![Arc::clone(&text), text], vec![]] {
        assert!(matches!(
            names.number(&columns, 1),
            Err(ReleaseError::Shape)
        ));
    }
}

#[test]
fn many_names_keep_their_numbers() {
    let mut names = Names::default();
    let all: ArrayRef = Arc::new(
        (0..50_000)
            .map(|n| Some(format!("{n}")))
            .collect::<StringArray>(),
    );
    let (first, _) = number(&mut names, &[Arc::clone(&all)]);
    assert_eq!(first, (0..50_000).collect::<Vec<u32>>());
    assert_eq!(number(&mut names, &[all]), (first, vec![]));
    assert!(names.bytes() > 50_000 * (size_of::<u32>() + size_of::<usize>() + 4));
}

#[test]
fn texts_are_told_apart_at_any_length() {
    let twelve = "abcdefghijkl";
    let long = [
        twelve,
        "abcdefghijklm",
        "abcdefghijkln",
        "abcdefghijklm",
        "\0",
        "\0\0",
        "",
    ];
    let mut names = Names::default();
    let columns = [texts(&long.map(Some)), texts(&[Some(twelve); 7])];
    assert_eq!(number(&mut names, &columns).0, [0, 1, 2, 1, 3, 4, 5]);
}

/// Types of keys, each of which can be made of small whole numbers.
fn types() -> impl Strategy<Value = DataType> {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    prop::sample::select(vec![
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Int8,
        DataType::Int64,
        DataType::UInt16,
        DataType::UInt64,
        DataType::Boolean,
        DataType::Date32,
        DataType::Date64,
        DataType::Timestamp(TimeUnit::Nanosecond, Some("+01:00".into())),
        DataType::Time32(TimeUnit::Second),
        DataType::Float64,
        DataType::Decimal128(38, 2),
        DataType::Binary,
        dictionary,
    ])
}

proptest! {
    #[test]
    fn rows_have_the_same_number_if_and_only_if_they_have_the_same_values(
        (types, rows) in prop::collection::vec(types(), 1..9).prop_flat_map(|types| {
            let row = prop::collection::vec(prop::option::weighted(0.8, 0_i64..2), types.len());
            (Just(types), prop::collection::vec(row, 0..60))
        }),
        batch in 1_usize..20,
    ) {
        let (mut names, mut seen) = (Names::default(), HashMap::<Vec<Option<String>>, u32>::new());
        for rows in rows.chunks(batch) {
            let columns: Vec<ArrayRef> = types.iter().enumerate()
                .map(|(at, to)| column(rows.iter().map(|row| row[at]).collect(), to))
                .collect();
            let (numbers, new) = number(&mut names, &columns);
            let mut first = Vec::new();
            for (row, number) in (0_u32..).zip(numbers) {
                let values = columns.iter().map(|c| text(c, row as usize)).collect();
                let next = u32::try_from(seen.len()).unwrap();
                let expected = *seen.entry(values).or_insert_with(|| {
                    first.push(row);
                    next
                });
                prop_assert_eq!(number, expected);
            }
            prop_assert_eq!(new, first);
        }
        prop_assert_eq!(names.len(), seen.len());
    }
}

#[test]
fn numbers_that_are_not_whole_are_named_by_their_bits() {
    let mut names = Names::default();
    let values = vec![Some(0.5), Some(f64::NAN), None, Some(f64::NAN), Some(0.0)];
    let column: ArrayRef = Arc::new(Float64Array::from(values));
    assert_eq!(number(&mut names, &[column]).0, [0, 1, 2, 1, 3]);
}

fn number(names: &mut Names, columns: &[ArrayRef]) -> (Vec<u32>, Vec<u32>) {
    let (numbers, new) = names.number(columns, columns[0].len()).unwrap();
    (numbers, new.values().to_vec())
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(values.iter().collect::<StringViewArray>())
}

fn column(values: Vec<Option<i64>>, to: &DataType) -> ArrayRef {
    let values = Int64Array::from(values);
    let through = match to {
        DataType::Binary | DataType::Dictionary(..) => DataType::Utf8,
        DataType::Date32 | DataType::Time32(_) => DataType::Int32,
        _ => DataType::Int64,
    };
    cast(&cast(&values, &through).unwrap(), to).unwrap()
}

fn text(column: &ArrayRef, row: usize) -> Option<String> {
    column
        .is_valid(row)
        .then(|| array_value_to_string(column, row).unwrap())
}
