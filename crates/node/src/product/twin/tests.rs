//! What twins are made of.

use super::*;
use crate::testing::{dimension, swims};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimeUnit, TimestampMicrosecondType};
use guildhall_grant::product::RollUp;
use std::collections::{BTreeMap, BTreeSet};

fn schema() -> SchemaRef {
    let field = |name: &str, t| Field::new(name, t, true);
    Arc::new(Schema::new(vec![
        field("member", DataType::Utf8),
        field("pool", DataType::Utf8),
        field("ward", DataType::Utf8),
        field("day", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("lane", DataType::Int64),
        field("paid", DataType::Boolean),
        field("pence", DataType::Int64),
        field("note", DataType::Utf8),
        field("born", DataType::Date32),
    ]))
}

fn product() -> Product {
    let columns = [
        ("member", ColumnClass::Identifier),
        ("pool", ColumnClass::Quasi),
        ("ward", ColumnClass::Quasi),
        ("day", ColumnClass::Quasi),
        ("lane", ColumnClass::Quasi),
        ("paid", ColumnClass::Open),
        ("pence", ColumnClass::Measure),
        ("note", ColumnClass::Secret),
        ("born", ColumnClass::Quasi),
    ];
    let [mut pool, ward, mut day, mut lane] = ["pool", "ward", "day", "lane"].map(dimension);
    pool.within = Some("ward".parse().unwrap());
    day.roll_ups = vec![RollUp {
        name: "month".to_owned(),
        kind: RollUpKind::DateTrunc("month".to_owned()),
    }];
    lane.values = ["1", "2", "7"].map(str::to_owned).into();
    let mut product = swims(&columns);
    product.dimensions = vec![pool, ward, day, lane];
    product.measures[0].lower = -100.0;
    product
}

fn twin(product: &Product) -> RecordBatch {
    Twin::of(product, &schema()).unwrap().rows().clone()
}

fn texts(rows: &RecordBatch, column: &str) -> Vec<String> {
    let column = rows.column_by_name(column).unwrap();
    let column = column.as_string::<i32>();
    column.iter().map(|v| v.unwrap().to_owned()).collect()
}

fn distinct(values: &[String]) -> BTreeSet<&str> {
    values.iter().map(String::as_str).collect()
}

#[test]
fn the_same_declaration_makes_the_same_rows_of_the_registered_columns() {
    let rows = twin(&product());
    assert_eq!(rows, twin(&product()));
    assert_eq!(rows.schema(), schema());
    assert_eq!(rows.num_rows(), 4096);
}

#[test]
fn a_unit_has_two_rows_or_one_if_no_more_count() {
    let rows = twin(&product());
    assert_eq!(distinct(&texts(&rows, "member")).len(), 2048);
    let one = Product {
        max_rows_per_unit: 1,
        ..product()
    };
    assert_eq!(distinct(&texts(&twin(&one), "member")).len(), 4096);
}

#[test]
fn dimensions_have_their_registered_values_or_numbered_ones() {
    let rows = twin(&product());
    let lanes = rows.column_by_name("lane").unwrap();
    let lanes: BTreeSet<i64> = lanes.as_primitive::<Int64Type>().iter().flatten().collect();
    assert_eq!(lanes, BTreeSet::from([1, 2, 7]));
    let wards = texts(&rows, "ward");
    assert_eq!(distinct(&wards).len(), 8);
    assert!(wards.contains(&"ward-1".to_owned()));
    let mut grouped = product();
    grouped.dimensions[1].roll_ups = vec![RollUp {
        name: "north".to_owned(),
        kind: RollUpKind::Group(vec!["N1".to_owned(), "N2".to_owned()]),
    }];
    assert_eq!(
        distinct(&texts(&twin(&grouped), "ward")),
        BTreeSet::from(["N1", "N2"])
    );
}

#[test]
fn what_lies_within_another_does_so_in_every_row() {
    for values in [&[][..], &["A", "B", "C"][..]] {
        let mut product = product();
        product.dimensions[0].values = values.iter().map(|v| (*v).to_owned()).collect();
        let rows = twin(&product);
        let mut around: BTreeMap<String, String> = BTreeMap::new();
        for (pool, ward) in texts(&rows, "pool").into_iter().zip(texts(&rows, "ward")) {
            let known = around.entry(pool).or_insert_with(|| ward.clone());
            assert_eq!(*known, ward);
        }
        assert!(around.len() >= 3);
    }
}

#[test]
fn amounts_lie_within_their_bounds_for_a_whole_unit_and_are_no_debts() {
    let rows = twin(&product());
    let pence = rows.column_by_name("pence").unwrap();
    let pence = pence.as_primitive::<Int64Type>();
    assert_eq!(pence.null_count(), 0);
    assert!(pence.iter().flatten().all(|p| (0..=2500).contains(&p)));
    assert!(pence.iter().flatten().collect::<BTreeSet<_>>().len() > 500);
}

#[test]
fn times_lie_in_one_year_and_secrets_are_null() {
    let rows = twin(&product());
    let days = rows.column_by_name("day").unwrap();
    let days = days.as_primitive::<TimestampMicrosecondType>();
    let year = FIRST_DAY..FIRST_DAY + 365 * DAY;
    assert!(days.iter().flatten().all(|d| year.contains(&d)));
    assert_eq!(rows.column_by_name("note").unwrap().null_count(), 4096);
    assert_eq!(rows.column_by_name("born").unwrap().null_count(), 0);
}

#[test]
fn a_twin_shows_its_shape_alone() {
    let shown = format!("{:?}", Twin::of(&product(), &schema()).unwrap());
    assert_eq!(shown, "Twin { columns: 9, rows: 4096 }");
}
