//! The values that a product declares for the levels of an axis, whether or not anybody has them.
//!
//! In a line of cells a value that nobody has is withheld like one that few have. Without a declaration only values that
//! are somewhere in the data are known of, and whether they are shows.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{cast, filter, is_not_null};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use guildhall_grant::product::{Dimension, RollUp, RollUpKind};
use guildhall_plan::cube::{CubeAxis, CubeLevel, LevelBy};
use std::sync::Arc;

/// The declared values of `level`, which is of `dimension`, with the keys of the levels of `axis` that it nests in (`coarser`, from 1), as columns;
/// no column where none are declared, or where they do not say what they lie in.
pub(crate) fn declared(
    axis: &CubeAxis,
    level: &CubeLevel,
    coarser: &[usize],
    dimension: &Dimension,
    data_type: &DataType,
) -> Result<RecordBatch, ArrowError> {
    let above = coarser
        .iter()
        .filter_map(|c| axis.levels.get(c.checked_sub(1)?));
    let above: Vec<&CubeLevel> = above.collect();
    match (&level.by, above.as_slice()) {
        (LevelBy::Value, []) if !dimension.values.is_empty() => {
            columns(vec![typed(&dimension.values, data_type)?])
        }
        (
            LevelBy::Value,
            [
                CubeLevel {
                    column,
                    by: LevelBy::Groups(groups),
                },
            ],
        ) if *column == level.column && !dimension.values.is_empty() => {
            let values = typed(&dimension.values, data_type)?;
            let names = texts(&values)?
                .iter()
                .map(|v| v.and_then(|v| group_of(groups, v)))
                .collect::<StringArray>();
            columns(vec![values, Arc::new(names)])
        }
        (LevelBy::Groups(groups), []) => columns(vec![Arc::new(names(groups, dimension))]),
        _ => columns(vec![]),
    }
}

/// The groups, and what is in none of them if a declared value is.
fn names(groups: &[RollUp], dimension: &Dimension) -> StringArray {
    let rest = dimension
        .values
        .iter()
        .any(|v| group_of(groups, v).is_none());
    let names = groups.iter().map(|g| Some(g.name.as_str()));
    names.chain(rest.then_some(None)).collect()
}

fn group_of<'g>(groups: &'g [RollUp], value: &str) -> Option<&'g str> {
    let holds = |group: &&RollUp| match &group.kind {
        RollUpKind::Group(values) => values.iter().any(|v| v == value),
        RollUpKind::DateTrunc(_) => false,
    };
    groups.iter().find(holds).map(|g| g.name.as_str())
}

/// Declared texts as values of the column.
fn typed(values: &[String], data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let texts: ArrayRef = Arc::new(
        values
            .iter()
            .map(|v| Some(v.as_str()))
            .collect::<StringArray>(),
    );
    let typed = cast(&texts, data_type)?;
    filter(&typed, &is_not_null(&typed)?)
}

/// Values as the groups of a product name them.
fn texts(values: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(StringArray::from(cast(values, &DataType::Utf8)?.to_data()))
}

fn columns(columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
    let field =
        |(at, c): (usize, &ArrayRef)| Field::new(format!("key{at}"), c.data_type().clone(), true);
    let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
    let rows = columns.first().map_or(0, |c| c.len());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::display::array_value_to_string;
    use guildhall_plan::cube::AxisPlace;

    /// The declared keys of a level, line by line; NULL is `-`.
    fn lines(
        levels: &[CubeLevel],
        level: usize,
        coarser: &[usize],
        values: &[&str],
    ) -> Vec<String> {
        let dimension = Dimension {
            column: "ward".parse().unwrap(),
            roll_ups: vec![],
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            within: None,
        };
        let at = AxisPlace::Key(0);
        let levels = levels.to_vec();
        let axis = CubeAxis { levels, at };
        let keys = declared(
            &axis,
            &axis.levels[level],
            coarser,
            &dimension,
            &DataType::Utf8View,
        )
        .unwrap();
        let text = |c: &ArrayRef, row| match c.is_null(row) {
            true => "-".to_owned(),
            false => array_value_to_string(c, row).unwrap(),
        };
        let line = |row| {
            keys.columns()
                .iter()
                .map(|c| text(c, row))
                .collect::<Vec<_>>()
                .join(" in ")
        };
        (0..keys.num_rows()).map(line).collect()
    }

    fn level(by: LevelBy) -> CubeLevel {
        let column = "ward".parse().unwrap();
        CubeLevel { column, by }
    }

    fn groups() -> LevelBy {
        let group = |name: &str, value: &str| RollUp {
            name: name.to_owned(),
            kind: RollUpKind::Group(vec![value.to_owned()]),
        };
        LevelBy::Groups(vec![group("north", "Kinson"), group("south", "Boscombe")])
    }

    #[test]
    fn values_are_declared_with_the_groups_that_they_lie_in() {
        let wards = ["Kinson", "Moordown"];
        let levels = [level(LevelBy::Value), level(groups())];
        assert_eq!(lines(&levels, 0, &[], &wards), wards);
        assert_eq!(
            lines(&levels, 0, &[2], &wards),
            ["Kinson in north", "Moordown in -"]
        );
        assert_eq!(lines(&levels, 1, &[], &wards), ["north", "south", "-"]);
        assert_eq!(lines(&levels, 1, &[], &["Kinson"]), ["north", "south"]);
    }

    #[test]
    fn what_is_not_declared_or_lies_in_what_is_not_known_is_left_to_the_data() {
        let month = RollUp {
            name: "month".to_owned(),
            kind: RollUpKind::DateTrunc("month".to_owned()),
        };
        let levels = [level(LevelBy::Value), level(LevelBy::Trunc(month))];
        assert!(lines(&levels, 0, &[], &[]).is_empty());
        assert!(lines(&levels, 0, &[2], &["Kinson"]).is_empty());
        assert!(lines(&levels, 1, &[], &["Kinson"]).is_empty());
    }
}
