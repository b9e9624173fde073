//! What the gate lets go of single cells, margins apart.

use crate::tests::worlds::batch;
use crate::tests::{secret, still};
use crate::{
    CellColumn, CellRule, CellValue, Coordinate, ERROR_METADATA, Facts, Gate, Margins, Members,
    Noise, PTable,
};
use crate::{CellDraws, Pattern, RULE_METADATA, ReleaseError, Rule, Total};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use std::sync::Arc;

const UNITS: usize = 1;
const ROWS: usize = 2;
const TOTAL: usize = 3;
const MEAN: usize = 4;

#[test]
fn a_group_below_the_minimum_is_withheld() {
    let out = release(10, &[ward("Kinson", 10), ward("Boscombe", 9)]);
    assert_eq!(wards(&out), ["Kinson"]);
}

#[test]
fn many_rows_of_few_units_are_withheld_too() {
    let mut crowd = ward("Kinson", 1);
    crowd.rows = 10_000;
    assert_eq!(release(10, &[crowd]).num_rows(), 0);
}

#[test]
fn a_group_that_noise_takes_below_the_minimum_is_withheld() {
    let cells: Vec<Ward> = (0..200)
        .map(|key| ward(&format!("w{key:03}"), 10).keyed(key))
        .collect();
    let out = noisy(10, &cells);
    let units = ints(&out, UNITS);
    assert!(units.iter().all(|n| n.unwrap() >= 10));
    assert!(
        (80..160).contains(&units.len()),
        "{} of 200 stand",
        units.len()
    );
}

#[test]
fn a_measure_with_too_few_contributors_is_null_in_a_cell_that_stands() {
    let mut few = ward("Kinson", 12);
    few.contributors = 9;
    let out = release(10, &[few]);
    assert!(out.column(ROWS).is_valid(0));
    assert!(out.column(TOTAL).is_null(0) && out.column(MEAN).is_null(0));
}

#[test]
fn a_measure_that_two_units_dominate_is_null() {
    let mut two = ward("Kinson", 12);
    (two.sum, two.top) = (1000, (450, 450));
    assert!(release(10, &[two.clone()]).column(TOTAL).is_null(0));
    two.top = (450, 449);
    assert!(release(10, &[two]).column(TOTAL).is_valid(0));
}

#[test]
fn a_measure_with_a_negative_contribution_is_null() {
    let mut refund = ward("Kinson", 12);
    refund.negatives = 1;
    let out = release(10, &[refund]);
    assert!(out.column(UNITS).is_valid(0) && out.column(TOTAL).is_null(0));
}

#[test]
fn a_mean_comes_from_the_released_sum_and_count() {
    for out in [
        release(2, &[ward("Kinson", 40)]),
        noisy(2, &[ward("Kinson", 40)]),
    ] {
        let mean = out.column(MEAN).as_primitive::<Float64Type>().value(0);
        let (rows, total) = (ints(&out, ROWS)[0].unwrap(), ints(&out, TOTAL)[0].unwrap());
        assert!((mean - total as f64 / rows as f64).abs() < 1e-12);
    }
}

#[test]
fn a_total_has_the_noise_of_its_count_and_its_own_by_the_largest_contribution() {
    let mut cell = ward("Kinson", 40);
    (cell.sum, cell.top) = (28_000, (2000, 2000));
    let own = own_noise(&cell, 28_000 / 40);
    assert!(own.iter().all(|s| s % 100 == 0 && s.abs() <= 500));
    assert!(own.iter().any(|s| s.abs() >= 200));
}

#[test]
fn a_step_of_a_totals_own_noise_is_one_in_the_last_digit_at_least() {
    let mut cell = ward("Kinson", 40);
    (cell.sum, cell.top) = (40, (1, 1));
    let own = own_noise(&cell, 1);
    assert!(own.iter().all(|s| s.abs() <= 5) && own.iter().any(|s| *s != 0));
}

#[test]
fn a_total_of_equal_parts_tells_the_count_that_is_told_anyway() {
    let mut cell = ward("Kinson", 40);
    (cell.sum, cell.top) = (40 * 7000, (7000, 7000));
    for key in 0..50 {
        let out = noisy(2, &[cell.clone().keyed(key)]);
        let told = (ints(&out, TOTAL)[0].unwrap() + 3500).div_euclid(7000);
        assert_eq!(told, ints(&out, UNITS)[0].unwrap());
    }
}

#[test]
fn a_total_of_ones_by_declaration_is_the_count() {
    let mut cell = ward("Kinson", 40);
    (cell.sum, cell.top) = (40, (1, 1));
    for key in 0..50 {
        let cells = [cell.clone().keyed(key)];
        let mut rule = ward_rule(2, &cells, PTable::standard());
        rule.facts.totals[1].ones = true;
        let out = gated(rule, &cells);
        assert_eq!(ints(&out, TOTAL), ints(&out, UNITS));
    }
}

/// What the total of `cell` is off by, under many keys, less the noise of its count times `mean`.
fn own_noise(cell: &Ward, mean: i64) -> Vec<i64> {
    let off = |key| {
        let out = noisy(2, &[cell.clone().keyed(key)]);
        let (units, total) = (ints(&out, UNITS)[0], ints(&out, TOTAL)[0]);
        total.unwrap() - cell.sum - mean * (units.unwrap() - cell.units)
    };
    (0..50).map(off).collect()
}

#[test]
fn what_overflows_its_type_is_withheld_and_says_so() {
    let mut cell = ward("Kinson", 40);
    (cell.sum, cell.top) = (i64::MAX, (i64::MAX / 40, i64::MAX / 40));
    let mut rule = ward_rule(2, &[cell.clone()], still());
    rule.cell_status = true;
    rule.columns[TOTAL].data_type = DataType::Int32;
    let out = gated(rule, &[cell]);
    let status = |at: usize| out.column(at).as_string::<i32>().value(0);
    assert!(out.column(5).is_null(0));
    assert_eq!((status(2), status(6)), ("perturbed", "suppressed"));
}

#[test]
fn the_order_of_cells_says_nothing_about_the_data() {
    let (a, b) = (ward("a", 6), ward("b", 5));
    let one = release(2, &[b.clone(), a.clone()]);
    assert_eq!(one, release(2, &[a, b]));
    assert_eq!(wards(&one), ["a", "b"]);
}

#[test]
fn a_whole_table_below_the_minimum_is_one_row_of_nulls() {
    let out = gated(whole_rule(10, still()), &[ward("", 9)]);
    assert_eq!(out.num_rows(), 1);
    assert!(out.columns().iter().all(|c| c.is_null(0)));
}

#[test]
fn a_total_falls_with_its_cell() {
    let mut cell = ward("", 9);
    cell.contributors = 12;
    let out = gated(whole_rule(10, still()), &[cell]);
    assert!(out.columns().iter().all(|c| c.is_null(0)));
}

#[test]
fn an_empty_whole_table_looks_like_a_withheld_one() {
    let few = gated(whole_rule(10, still()), &[ward("", 3)]);
    let mut nobody = ward("", 0);
    (nobody.sum, nobody.rows, nobody.top) = (0, 0, (0, 0));
    assert_eq!(few, gated(whole_rule(10, still()), &[nobody]));
    assert_eq!(few, gated(whole_rule(10, still()), &[]));
}

#[test]
fn the_facts_that_the_rule_looks_at_do_not_leave() {
    let out = release(2, &[ward("Kinson", 77)]);
    let schema = out.schema();
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["ward", "units", "rows", "total", "mean"]);
    assert_eq!(
        (ints(&out, ROWS), ints(&out, TOTAL)),
        (vec![Some(78)], vec![Some(770)])
    );
}

#[test]
fn a_minimum_that_protects_nobody_makes_no_gate() {
    for k in [0, 1] {
        assert!(refused(ward_rule(k, &[], still())));
    }
}

#[test]
fn a_rule_over_columns_that_are_not_there_makes_no_gate() {
    let wrong: [fn(&mut CellRule); 9] = [
        |r| r.facts.units.count = 17,
        |r| r.first_fact = 0,
        |r| r.facts.units.key_sum = 0,
        |r| r.facts.totals[1].id = "rows".to_owned(),
        |r| r.keys.clear(),
        |r| r.keys = vec![2],
        |r| r.columns[TOTAL].value = CellValue::Sum { total: 2 },
        |r| r.columns[0].value = CellValue::Key { column: 1 },
        |r| r.facts.totals[1].largest = 99,
    ];
    for (at, change) in wrong.iter().enumerate() {
        let mut rule = ward_rule(10, &[], still());
        change(&mut rule);
        assert!(refused(rule), "change {at}");
    }
    assert!(!refused(ward_rule(10, &[], still())));
}

#[test]
fn cells_without_margins_of_their_own_make_no_gate() {
    let wrong: [fn(&mut CellRule); 5] = [
        |r| r.margins = Margins::whole(),
        |r| r.margins.coordinates.clear(),
        |r| r.margins.coordinates[0] = Coordinate::Column(1),
        |r| r.facts.minimum_group = 11,
        |r| r.facts.totals[0].id = "another".to_owned(),
    ];
    for (at, change) in wrong.iter().enumerate() {
        let mut rule = ward_rule(10, &[], still());
        change(&mut rule);
        assert!(refused(rule), "change {at}");
    }
}

#[test]
fn a_cell_that_the_margins_do_not_know_is_withheld() {
    let rule = ward_rule(10, &[ward("Kinson", 20)], still());
    let out = gated(rule, &[ward("Kinson", 20), ward("Boscombe", 20)]);
    assert_eq!(wards(&out), ["Kinson"]);
}

#[test]
fn every_released_column_names_its_rule_and_its_error() {
    let mut rule = ward_rule(10, &[], PTable::standard());
    rule.cell_status = true;
    let schema = gated(rule, &[]).schema();
    let lines = schema.fields().iter().map(|f| {
        assert!(f.is_nullable());
        format!(
            "{}: {}; error {}",
            f.name(),
            f.metadata()[RULE_METADATA],
            f.metadata()[ERROR_METADATA]
        )
    });
    let own = "at most 25% of the largest contribution, or 5 in the last digit if that is more";
    let sum = format!("at most 5 mean contributions and {own}");
    let rules = "minimum-group=10;margins;minimum-contributors=10;dominance=2,0.90;p-ratio=0.10;clamped-per-unit;cell-key=5,3";
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "ward: minimum-group=10;margins; error none".to_owned(),
            "units: minimum-group=10;margins;cell-key=5,3; error at most 5".to_owned(),
            "units_status: cell-status; error none".to_owned(),
            format!("rows: {rules}; error {sum}"),
            "rows_status: cell-status; error none".to_owned(),
            format!("total: {rules}; error {sum}"),
            "total_status: cell-status; error none".to_owned(),
            format!("mean: {rules}; error its sum moved by {own}, its count moved by {own}"),
            "mean_status: cell-status; error none".to_owned(),
        ]
    );
}

#[test]
fn cells_are_released_once() {
    let cells = [ward("A", 10)];
    let batch = facts_of(&cells);
    let mut gate = Gate::new(Rule::Cells(ward_rule(10, &cells, still())), batch.schema()).unwrap();
    assert!(gate.release(&batch).is_ok());
    assert!(matches!(gate.release(&batch), Err(ReleaseError::Again)));
}

#[test]
fn debug_shows_shape_and_no_value() {
    let mut cell = ward("Boscombe", 10);
    cell.sum = 987_654;
    let batch = facts_of(&[cell.clone()]);
    let mut rule = ward_rule(10, &[cell], still());
    rule.margins.coordinates = vec![Coordinate::Value(Arc::new(StringArray::from(vec![
        "Boscombe",
    ])))];
    let mut gate = Gate::new(Rule::Cells(rule), batch.schema()).unwrap();
    let text = format!("{:?} {gate:?}", gate.release(&batch).unwrap());
    assert!(
        !text.contains("Boscombe") && !text.contains("987654"),
        "{text}"
    );
    assert!(
        text.contains("rows: 1") && text.contains("NoiseSecret(..)"),
        "{text}"
    );
}

/// A cell of twelve facts: its units with ten each, unless a test says otherwise.
#[derive(Clone)]
struct Ward {
    name: String,
    units: i64,
    rows: i64,
    contributors: i64,
    sum: i64,
    top: (i64, i64),
    negatives: i64,
    key: u64,
}

impl Ward {
    fn keyed(mut self, key: u64) -> Self {
        self.key = key;
        self
    }
}

fn ward(name: &str, units: i64) -> Ward {
    Ward {
        name: name.to_owned(),
        units,
        rows: units + 1,
        contributors: units,
        sum: 10 * units,
        top: (10, 10),
        negatives: 0,
        key: 7,
    }
}

fn facts_of(cells: &[Ward]) -> RecordBatch {
    let wards: ArrayRef = Arc::new(
        cells
            .iter()
            .map(|c| Some(c.name.as_str()))
            .collect::<StringArray>(),
    );
    let number = |pick: fn(&Ward) -> i64| -> ArrayRef {
        Arc::new(cells.iter().map(pick).map(Some).collect::<Int64Array>())
    };
    let keys: ArrayRef = Arc::new(cells.iter().map(|c| Some(c.key)).collect::<UInt64Array>());
    batch(vec![
        wards,
        number(|c| c.units),
        Arc::clone(&keys),
        number(|c| c.rows),
        number(|c| 2.min(c.rows)),
        number(|c| 1.min(c.rows)),
        number(|_| 0),
        number(|c| c.contributors),
        keys,
        number(|c| c.sum),
        number(|c| c.top.0),
        number(|c| c.top.1),
        number(|c| c.negatives),
    ])
}

fn ward_rule(minimum_group: u32, cells: &[Ward], table: &'static PTable) -> CellRule {
    let mut rule = whole_rule(minimum_group, table);
    rule.keys = vec![0];
    let key = CellValue::Key { column: 0 };
    rule.columns.insert(0, column("ward", DataType::Utf8, key));
    let pattern = Pattern::showing_all(&rule.facts, facts_of(cells).column(0));
    rule.margins = Margins {
        pattern: Arc::new(pattern),
        coordinates: vec![Coordinate::Column(0)],
    };
    rule
}

fn whole_rule(minimum_group: u32, table: &'static PTable) -> CellRule {
    let members = |first| Members {
        count: first,
        key_sum: first + 1,
        parts: None,
    };
    let total = |id: &str, members: Members, first: usize| Total {
        id: id.to_owned(),
        members,
        sum: first,
        largest: first + 1,
        second: first + 2,
        negatives: first + 3,
        ones: false,
    };
    let noise = Noise {
        draws: CellDraws::Own(secret().draws()),
        table,
    };
    CellRule {
        facts: Facts {
            minimum_group,
            units: members(0),
            totals: vec![
                total("rows", members(0), 2),
                total("sum:paid", members(6), 8),
            ],
            noise,
        },
        first_fact: 1,
        keys: vec![],
        columns: vec![
            column("units", DataType::Int64, CellValue::Units),
            column("rows", DataType::Int64, CellValue::Sum { total: 0 }),
            column("total", DataType::Int64, CellValue::Sum { total: 1 }),
            column(
                "mean",
                DataType::Float64,
                CellValue::Mean { sum: 1, count: 0 },
            ),
        ],
        margins: Margins::whole(),
        cell_status: false,
    }
}

fn column(name: &str, data_type: DataType, value: CellValue) -> CellColumn {
    CellColumn {
        name: name.to_owned(),
        data_type,
        value,
    }
}

fn release(minimum_group: u32, cells: &[Ward]) -> RecordBatch {
    gated(ward_rule(minimum_group, cells, still()), cells)
}

fn noisy(minimum_group: u32, cells: &[Ward]) -> RecordBatch {
    gated(ward_rule(minimum_group, cells, PTable::standard()), cells)
}

fn gated(rule: CellRule, cells: &[Ward]) -> RecordBatch {
    let batch = facts_of(cells);
    let mut gate = Gate::new(Rule::Cells(rule), batch.schema()).unwrap();
    gate.release(&batch).unwrap().into_batch()
}

fn refused(rule: CellRule) -> bool {
    matches!(
        Gate::new(Rule::Cells(rule), facts_of(&[]).schema()),
        Err(ReleaseError::Rule { .. })
    )
}

fn wards(batch: &RecordBatch) -> Vec<&str> {
    batch
        .column(0)
        .as_string::<i32>()
        .iter()
        .map(Option::unwrap)
        .collect()
}

fn ints(batch: &RecordBatch, column: usize) -> Vec<Option<i64>> {
    batch
        .column(column)
        .as_primitive::<Int64Type>()
        .iter()
        .collect()
}
