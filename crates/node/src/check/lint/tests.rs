//! Each rule, where it speaks and where it does not.

use super::*;
use crate::check::{ColumnSurvey, StatisticSurvey};
use crate::testing::{dimension, swims};
use guildhall_grant::product::{RollUp, RollUpKind};
use guildhall_model::ReleaseClass;
use std::collections::BTreeMap;

/// Swims by pool, ward and day.
fn product() -> Product {
    let columns = [
        ("member", ColumnClass::Identifier),
        ("pool", ColumnClass::Quasi),
        ("ward", ColumnClass::Quasi),
        ("day", ColumnClass::Quasi),
        ("pence", ColumnClass::Measure),
    ];
    Product {
        dimensions: ["pool", "ward", "day"].map(dimension).into(),
        ..swims(&columns)
    }
}

fn named(name: &str) -> Product {
    let mut product = product();
    product.columns[1].name = name.parse().unwrap();
    product.dimensions[0].column = name.parse().unwrap();
    product
}

fn trunc(units: &[&str]) -> Product {
    let mut product = product();
    product.dimensions[2].roll_ups = units
        .iter()
        .map(|u| RollUp {
            name: (*u).to_owned(),
            kind: RollUpKind::DateTrunc((*u).to_owned()),
        })
        .collect();
    product
}

fn rules(found: &[Finding]) -> Vec<&'static str> {
    found.iter().map(|f| f.rule).collect()
}

fn of(change: impl FnOnce(&mut Survey)) -> Vec<Finding> {
    let mut survey = Survey {
        rows: 10_000,
        units: 2_000,
        ..Survey::default()
    };
    change(&mut survey);
    of_data(&product(), &survey)
}

#[test]
fn a_product_without_fault_has_no_finding() {
    assert!(of_file(&product()).is_empty());
    assert!(of(|_| {}).is_empty());
}

#[test]
fn a_column_named_as_an_identifier_is_not_left_open() {
    for name in [
        "case_id",
        "uprn",
        "vrm",
        "nhs_number",
        "email",
        "home_postcode",
        "date_of_birth",
        "id",
        "first_name",
        "account",
    ] {
        let found = of_file(&named(name));
        assert_eq!(rules(&found), ["identifier-left-open"], "{name}");
        assert_eq!(found[0].columns[0].as_str(), name);
    }
    for name in ["paid", "video", "wards", "reason", "idle", "plates"] {
        assert!(of_file(&named(name)).is_empty(), "{name}");
    }
}

#[test]
fn an_open_product_may_name_things_but_not_people() {
    let open = |name: &str| Product {
        class: ReleaseClass::Open,
        ..named(name)
    };
    assert!(of_file(&open("uprn")).is_empty());
    assert_eq!(rules(&of_file(&open("email"))), ["identifier-left-open"]);
    // As an identifier it is where it belongs.
    let mut closed = named("uprn");
    closed.columns[1].class = ColumnClass::Identifier;
    assert!(of_file(&closed).is_empty());
}

#[test]
fn weeks_and_months_of_one_dimension_do_not_nest() {
    let found = of_file(&trunc(&["day", "week", "month"]));
    assert_eq!(rules(&found), ["levels-do-not-nest"]);
    assert_eq!(found[0].columns[0].as_str(), "day");
    assert!(of_file(&trunc(&["day", "month", "year"])).is_empty());
    assert!(of_file(&trunc(&["day", "week"])).is_empty());
}

#[test]
fn bounds_that_bound_nothing_are_too_wide() {
    for (lower, upper) in [(0.0, 1e12), (-1e9, 1e9), (-f64::MAX, f64::MAX)] {
        let mut product = product();
        (product.measures[0].lower, product.measures[0].upper) = (lower, upper);
        assert_eq!(rules(&of_file(&product)), ["bounds-too-wide"]);
    }
}

#[test]
fn rows_of_nobody_are_told_beyond_one_in_a_hundred() {
    assert_eq!(rules(&of(|s| s.rows_of_nobody = 101)), ["rows-of-nobody"]);
    assert!(of(|s| s.rows_of_nobody = 100).is_empty());
}

fn column(name: &str, values: u64, distinct: u64, spread: Option<f64>) -> ColumnSurvey {
    ColumnSurvey {
        name: name.parse().unwrap(),
        values,
        distinct,
        spread,
    }
}

#[test]
fn a_column_of_nearly_as_many_values_as_units_is_told() {
    let with =
        |name, values, distinct| of(|s| s.columns = vec![column(name, values, distinct, None)]);
    assert_eq!(rules(&with("pool", 10_000, 1_700)), ["near-unique-values"]);
    assert!(with("pool", 10_000, 1_500).is_empty());
    assert!(with("pool", 40, 40).is_empty());
    // The unit itself is meant to be unique.
    assert!(with("member", 10_000, 10_000).is_empty());
}

#[test]
fn a_measure_that_hardly_varies_tells_the_count() {
    let with = |spread| of(|s| s.columns = vec![column("pence", 9_000, 3, Some(spread))]);
    assert_eq!(rules(&with(0.0)), ["constant-measure"]);
    assert_eq!(rules(&with(0.009)), ["constant-measure"]);
    assert!(with(0.02).is_empty());
}

fn pair(ones: u64, others: u64, both: u64) -> PairSurvey {
    PairSurvey {
        one: "pool".parse().unwrap(),
        other: "ward".parse().unwrap(),
        ones,
        others,
        both,
    }
}

fn pool_within_ward() -> Product {
    let mut product = product();
    product.dimensions[0].within = Some("ward".parse().unwrap());
    product
}

#[test]
fn a_dimension_that_lies_within_another_says_so() {
    let with = |p: PairSurvey| of(|s| s.pairs = vec![p]);
    let found = with(pair(12, 4, 12));
    assert_eq!(rules(&found), ["undeclared-within"]);
    assert_eq!(found[0].columns[0].as_str(), "pool");
    let found = with(pair(4, 12, 12));
    assert_eq!(found[0].columns[0].as_str(), "ward");
    assert_eq!(rules(&with(pair(12, 12, 12))), ["undeclared-within"]);
    assert!(with(pair(12, 4, 13)).is_empty());
    // A dimension of one value holds everything, and says nothing.
    assert!(with(pair(12, 1, 12)).is_empty());
    let survey = Survey {
        pairs: vec![pair(12, 4, 12)],
        ..Survey::default()
    };
    assert!(of_data(&pool_within_ward(), &survey).is_empty());
}

#[test]
fn a_within_that_the_data_contradict_is_an_error() {
    let survey = |both| Survey {
        pairs: vec![pair(12, 4, both)],
        ..Survey::default()
    };
    let found = of_data(&pool_within_ward(), &survey(13));
    assert_eq!(rules(&found), ["contradicted-within"]);
    assert_eq!(found[0].gravity, Gravity::Error);
    assert!(of_data(&pool_within_ward(), &survey(12)).is_empty());
}

fn part(keys: &[&str], over_rows: u64, above: u64, unused: bool) -> PartSurvey {
    PartSurvey {
        keys: keys.iter().map(|k| k.parse().unwrap()).collect(),
        units: 1_000,
        over_rows,
        measures: vec![BoundSurvey {
            column: "pence".parse().unwrap(),
            totals: 1_000,
            below: 0,
            above,
            unused,
        }],
    }
}

#[test]
fn limits_that_cut_many_units_are_told() {
    let finest = |over, above| {
        of(|s| s.parts = vec![part(&[], 0, 0, false), part(&["pool"], over, above, false)])
    };
    assert_eq!(rules(&finest(60, 0)), ["rows-per-unit-cut"]);
    assert_eq!(rules(&finest(0, 60)), ["bounds-too-narrow"]);
    assert!(finest(50, 50).is_empty());
    // Of the whole product more may be cut: it is asked for least.
    assert!(of(|s| s.parts = vec![part(&[], 200, 200, false)]).is_empty());
    let found = of(|s| s.parts = vec![part(&[], 300, 300, false)]);
    assert_eq!(rules(&found), ["rows-per-unit-cut", "bounds-too-narrow"]);
}

#[test]
fn bounds_of_which_little_is_used_are_too_wide() {
    let found = of(|s| s.parts = vec![part(&[], 0, 0, true)]);
    assert_eq!(rules(&found), ["bounds-too-wide"]);
    // In fine cells totals are small anyway.
    assert!(of(|s| s.parts = vec![part(&[], 0, 0, false), part(&["pool"], 0, 0, true)]).is_empty());
}

fn table(keys: &[&str], cells: u64, units: u64) -> TableSurvey {
    TableSurvey {
        keys: keys.iter().map(|k| k.parse().unwrap()).collect(),
        roll_up: None,
        cells,
        possible: cells,
        units,
        units_told: units,
        rows: units,
        rows_told: units,
        units_for_margins: 0,
        null_fails: false,
        statistics: vec![StatisticSurvey {
            name: "units".to_owned(),
            fates: BTreeMap::from([(Fate::Published, cells)]),
        }],
    }
}

#[test]
fn dimensions_that_together_tell_units_apart_are_told() {
    let found = of(|s| s.tables = vec![table(&["pool", "day"], 1_000, 2_000)]);
    assert_eq!(rules(&found), ["near-unique-combination"]);
    assert!(of(|s| s.tables = vec![table(&["pool", "day"], 1_000, 5_000)]).is_empty());
    assert!(of(|s| s.tables = vec![table(&["day"], 1_000, 2_000)]).is_empty());
}

#[test]
fn rare_values_that_cost_others_are_told_and_null_is_named() {
    let with = |failing: u64, units_for_margins: u64, null_fails| {
        let mut table = table(&["pool"], 10, 2_000);
        table.units_for_margins = units_for_margins;
        table.null_fails = null_fails;
        table.statistics[0].fates = BTreeMap::from([(Fate::FewUnits, failing), (Fate::Margins, 1)]);
        of(|s| s.tables = vec![table])
    };
    let found = with(1, 50, true);
    assert_eq!(rules(&found), ["rare-values"]);
    assert!(found[0].says.contains("NULL"), "{}", found[0].says);
    assert!(!with(1, 50, false)[0].says.contains("NULL"));
    assert!(with(1, 49, false).is_empty());
    assert!(with(0, 500, false).is_empty());
}

#[test]
fn a_table_with_more_empty_combinations_than_not_is_told() {
    let with = |possible, keys: &[&str]| {
        let mut table = table(keys, 49, 2_000);
        table.possible = possible;
        of(|s| s.tables = vec![table])
    };
    assert_eq!(rules(&with(100, &["pool", "day"])), ["mostly-empty"]);
    assert!(with(98, &["pool", "day"]).is_empty());
    assert!(with(100, &["day"]).is_empty());
}

#[test]
fn a_dimension_of_which_most_is_withheld_is_told_at_its_level() {
    let with = |units_told, roll_up: Option<&str>| {
        let mut table = table(&["day"], 400, 2_000);
        table.units_told = units_told;
        table.roll_up = roll_up.map(str::to_owned);
        of(|s| s.tables = vec![table])
    };
    assert_eq!(rules(&with(999, None)), ["mostly-withheld"]);
    assert!(
        with(999, Some("week"))[0]
            .says
            .contains("by `week`, 50.0 %"),
        "{:?}",
        with(999, Some("week"))
    );
    assert!(with(1_000, None).is_empty());
}

#[test]
fn a_finding_reads_as_a_line_and_its_help() {
    let found = &of_file(&named("email"))[0];
    let text = found.to_string();
    assert!(
        text.starts_with("warning[identifier-left-open]: email: is named as an identifier is"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("\n  help: "), "{text}");
}
