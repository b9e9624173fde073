//! The rule of the ad hoc lane, on cells that the test makes up.

use super::*;
use crate::dp::{Bounds, Groups, Rho};
use crate::release::{Gate, Rule};
use crate::{ERROR_METADATA, RULE_METADATA};
use arrow::array::Int64Array;
use arrow::datatypes::Float64Type;

/// Rows and a total of two decimals by ward, of which three are registered.
fn rule(question: u8, nano_rho: u64) -> AdHocRule {
    let bounds = [
        Bounds::total(1, 0, 2).unwrap(),
        Bounds::total(1, -100, 500).unwrap(),
    ];
    let wards = ["Kinson", "Boscombe", "Moordown"].map(str::to_owned);
    let column = |name: &str, data_type, value| AdHocColumn {
        name: name.to_owned(),
        data_type,
        value,
    };
    AdHocRule {
        plan: Plan::new(Rho::from_nano(nano_rho), &bounds, Groups::Registered).unwrap(),
        draws: Draws {
            secret: NoiseSecret::from_bytes([7; 32]),
            question: [question; 32],
            snapshot: [9; 32],
        },
        grid: Grid::new(&[(DataType::Utf8, wards.to_vec())]).unwrap(),
        columns: vec![
            column("ward", DataType::Utf8, AdHocValue::Key(0)),
            column("n", DataType::Int64, AdHocValue::Statistic(0)),
            column("paid", DataType::Float64, AdHocValue::Statistic(1)),
            column(
                "mean",
                DataType::Float64,
                AdHocValue::Mean { sum: 1, count: 0 },
            ),
        ],
        cell_status: false,
    }
}

fn cells(rows: &[(&str, i64, i128)]) -> RecordBatch {
    let totals: Decimal128Array = rows.iter().map(|r| Some(r.2)).collect();
    let totals = totals.with_precision_and_scale(38, 2).unwrap();
    RecordBatch::try_from_iter([
        (
            "ward",
            Arc::new(rows.iter().map(|r| Some(r.0)).collect::<StringArray>()) as ArrayRef,
        ),
        (
            "rows",
            Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>()) as ArrayRef,
        ),
        ("paid", Arc::new(totals) as ArrayRef),
    ])
    .unwrap()
}

fn released(rule: AdHocRule, input: &RecordBatch) -> Result<RecordBatch, ReleaseError> {
    let mut gate = Gate::new(Rule::AdHoc(rule), input.schema())?;
    gate.release(input).map(crate::Released::into_batch)
}

fn counts(batch: &RecordBatch) -> Vec<i64> {
    let counts = batch.column(1);
    counts
        .as_primitive::<arrow::datatypes::Int64Type>()
        .values()
        .to_vec()
}

#[test]
fn the_whole_register_leaves_in_its_order_whoever_is_in_it() {
    let none = released(rule(1, 1_000_000), &cells(&[])).unwrap();
    let some = released(
        rule(1, 1_000_000),
        &cells(&[("Unregistered", 9, 9), ("Boscombe", 700, 10)]),
    )
    .unwrap();
    assert_eq!(none.column(0), some.column(0));
    let wards: Vec<_> = none.column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!(wards, ["Kinson", "Boscombe", "Moordown"]);
    // The draws are the same, so what differs is the truth.
    let differ: Vec<i64> = counts(&some)
        .iter()
        .zip(counts(&none))
        .map(|(a, b)| a - b)
        .collect();
    assert_eq!(differ, [0, 700, 0]);
}

#[test]
fn another_question_another_snapshot_and_another_cost_draw_anew() {
    let input = cells(&[("Kinson", 1000, 0)]);
    let one = counts(&released(rule(1, 1_000_000), &input).unwrap());
    assert_eq!(one, counts(&released(rule(1, 1_000_000), &input).unwrap()));
    let mut later = rule(1, 1_000_000);
    later.draws.snapshot = [8; 32];
    let mut elsewhere = rule(1, 1_000_000);
    elsewhere.draws.secret = NoiseSecret::from_bytes([8; 32]);
    for other in [rule(2, 1_000_000), rule(1, 1_000_001), later, elsewhere] {
        assert_ne!(one, counts(&released(other, &input).unwrap()));
    }
}

#[test]
fn noise_has_the_promised_variance_and_no_cell_shares_its_draw() {
    // Half of rho 0.02 for rows of at most 2: sigma^2 = 4 / (2 * 0.01) = 200.
    let input = cells(&[("Kinson", 50, 0)]);
    let draws: Vec<Vec<i64>> = (0..200)
        .map(|q| counts(&released(rule(q, 20_000_000), &input).unwrap()))
        .collect();
    let off = |at: usize| {
        draws
            .iter()
            .map(move |d| d[at] - if at == 0 { 50 } else { 0 })
    };
    for at in 0..3 {
        let variance = off(at).map(|d| (d * d) as f64).sum::<f64>() / 200.0;
        assert!((120.0..300.0).contains(&variance), "{variance}");
    }
    let together: f64 = off(0).zip(off(1)).map(|(a, b)| (a * b) as f64).sum();
    assert!((together / 200.0).abs() < 60.0, "{together}");
}

#[test]
fn a_mean_is_of_what_is_released_and_none_where_nobody_is_counted() {
    let batch = released(rule(3, 1_000_000_000), &cells(&[("Kinson", 4000, 400_000)])).unwrap();
    let column = |at: usize| batch.column(at).as_primitive::<Float64Type>().clone();
    for row in 0..3 {
        let n = counts(&batch)[row];
        match n > 0 {
            true => {
                let mean = column(2).value(row) / n as f64;
                assert!((column(3).value(row) - mean).abs() < 1e-9);
            }
            false => assert!(column(3).is_null(row)),
        }
    }
    assert!((column(3).value(0) - 1.0).abs() < 0.1);
}

#[test]
fn a_column_says_what_it_cost_and_how_far_off_it_may_be() {
    let gate = Gate::new(Rule::AdHoc(rule(1, 20_000_000)), cells(&[]).schema()).unwrap();
    let told: Vec<_> = gate
        .schema()
        .fields()
        .iter()
        .map(|f| {
            let m = f.metadata();
            (m[RULE_METADATA].clone(), m[ERROR_METADATA].clone())
        })
        .collect();
    let rule = "differential-privacy;rho=0.02".to_owned();
    assert!(told.iter().all(|t| t.0 == rule), "{told:?}");
    // 1.96 * sqrt(200) = 27.7; the total's sigma is 500 / sqrt(0.02) = 3535.5 hundredths.
    let errors: Vec<&str> = told.iter().map(|t| t.1.as_str()).collect();
    assert_eq!(
        errors,
        [
            "none",
            "within 28 with 95 %",
            "within 69.30 with 95 %",
            "its sum within 69.30 and its count within 28, each with 95 %"
        ]
    );
}

#[test]
fn what_does_not_fit_the_plan_stays() {
    let input = cells(&[("Kinson", 1, 1)]);
    let mut more = rule(1, 1_000_000);
    more.columns[1].value = AdHocValue::Statistic(2);
    assert!(released(more, &input).is_err());
    assert!(released(rule(1, 1_000_000), &input.project(&[0, 1]).unwrap()).is_err());
    let twice = cells(&[("Kinson", 1, 1), ("Kinson", 1, 1)]);
    let error = released(rule(1, 1_000_000), &twice).unwrap_err();
    assert!(matches!(error, ReleaseError::SplitCell));
    let texts = |t: &[&str]| t.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    for values in [["1", "01"], ["1", "x"]] {
        assert!(Grid::new(&[(DataType::Int64, texts(&values))]).is_err());
    }
}

#[test]
fn cells_are_released_once() {
    let input = cells(&[("Kinson", 9, 9)]);
    let mut gate = Gate::new(Rule::AdHoc(rule(1, 1_000_000)), input.schema()).unwrap();
    assert!(gate.release(&input).is_ok());
    assert!(matches!(gate.release(&input), Err(ReleaseError::Again)));
}

#[test]
fn the_one_cell_of_all_rows_is_there_without_a_row() {
    let mut whole = rule(1, 1_000_000);
    whole.grid = Grid::new(&[]).unwrap();
    whole.columns.remove(0);
    let input = cells(&[("x", 5, 5)]).project(&[1, 2]).unwrap();
    let some = released(whole.clone(), &input).unwrap();
    let none = released(whole, &input.slice(0, 0)).unwrap();
    assert_eq!((some.num_rows(), none.num_rows()), (1, 1));
}
