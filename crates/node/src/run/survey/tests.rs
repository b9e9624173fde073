//! What is counted of made-up rows.

use super::*;
use crate::testing::TestNode;
use std::fmt::Write as _;

const VISITS: &str = r#"
    dataset = "swims"
    source = "swims.csv"
    [[column]]
    name = "member"
    type = "text"
    [[column]]
    name = "pool"
    type = "text"
    [[column]]
    name = "ward"
    type = "text"
    [[column]]
    name = "sex"
    type = "text"
    [[column]]
    name = "pence"
    type = "integer"
"#;

const SWIMS: &str = r#"
    name = "swims"
    version = 1
    class = "aggregate"
    purposes = ["transport_planning"]
    unit = "member"
    minimum_group = 10
    max_rows_per_unit = 2
    view = "SELECT member, pool, ward, sex, pence FROM swims"
    [columns]
    member = { class = "identifier" }
    pool = { class = "quasi" }
    ward = { class = "quasi" }
    sex = { class = "quasi" }
    pence = { class = "measure" }
    [[dimension]]
    column = "pool"
    [[dimension]]
    column = "ward"
    [[dimension]]
    column = "sex"
    [[measure]]
    column = "pence"
    lower = 0
    upper = 1000
"#;

/// Two wards, the one with pools A and B of 40 members each, the other with pool C of 40, of whom half are of each
/// sex; five swimmers at pool D, of whom one swims ten times and one pays 5,000; a row of nobody.
fn swims() -> String {
    let mut csv = "member,pool,ward,sex,pence\n".to_owned();
    for (pool, ward) in [("A", "North"), ("B", "North"), ("C", "South")] {
        for m in 0..40 {
            let sex = if m % 2 == 0 { "f" } else { "m" };
            writeln!(csv, "{pool}{m},{pool},{ward},{sex},{}", 300 + m).unwrap();
        }
    }
    for m in 0..5 {
        let pence = if m == 1 { 5000 } else { 300 };
        writeln!(csv, "D{m},D,South,f,{pence}").unwrap();
    }
    for _ in 0..9 {
        writeln!(csv, "D0,D,South,f,10").unwrap();
    }
    writeln!(csv, ",A,North,f,300").unwrap();
    csv
}

async fn survey_of(product: &str) -> Survey {
    let node = TestNode::new();
    node.import(VISITS, &swims()).await.unwrap();
    let checked = node.check(product, Some(&node.authority)).await.unwrap();
    checked.survey.unwrap()
}

fn table<'a>(survey: &'a Survey, keys: &[&str]) -> &'a TableSurvey {
    let is = |t: &&TableSurvey| {
        t.keys
            .iter()
            .map(ColumnName::as_str)
            .eq(keys.iter().copied())
    };
    survey.tables.iter().find(is).unwrap()
}

#[tokio::test]
async fn rows_units_and_values_are_counted() {
    let survey = survey_of(SWIMS).await;
    assert_eq!(
        (survey.rows, survey.rows_of_nobody, survey.units),
        (135, 1, 125)
    );
    let pool = survey
        .columns
        .iter()
        .find(|c| c.name.as_str() == "pool")
        .unwrap();
    assert_eq!((pool.values, pool.distinct, pool.spread), (135, 4, None));
    let pence = survey
        .columns
        .iter()
        .find(|c| c.name.as_str() == "pence")
        .unwrap();
    assert!(pence.spread.unwrap() > 0.5);
}

#[tokio::test]
async fn pairs_say_what_lies_in_what() {
    let survey = survey_of(SWIMS).await;
    let counts: Vec<_> = survey
        .pairs
        .iter()
        .map(|p| (p.one.as_str(), p.other.as_str(), p.ones, p.others, p.both))
        .collect();
    assert_eq!(
        counts,
        [
            ("pool", "ward", 4, 2, 4),
            ("pool", "sex", 4, 2, 7),
            ("ward", "sex", 2, 2, 4),
        ]
    );
}

#[tokio::test]
async fn bounds_are_held_against_each_units_part() {
    let survey = survey_of(SWIMS).await;
    let [whole, finest] = survey.parts.as_slice() else {
        panic!("both ends of the lattice are looked at")
    };
    assert_eq!((whole.units, whole.over_rows), (125, 1));
    assert_eq!(
        (finest.keys.len(), finest.units, finest.over_rows),
        (3, 125, 1)
    );
    let pence = &whole.measures[0];
    assert_eq!(
        (pence.totals, pence.below, pence.above, pence.unused),
        (125, 0, 1, false)
    );
    let wide = survey_of(&SWIMS.replace("upper = 1000", "upper = 1000000")).await;
    assert!(wide.parts[0].measures[0].unused);
}

#[tokio::test]
async fn every_table_says_what_is_lost_and_why() {
    let survey = survey_of(SWIMS).await;
    assert!(survey.left_out.is_empty(), "{:?}", survey.left_out);
    let keys: Vec<usize> = survey.tables.iter().map(|t| t.keys.len()).collect();
    assert_eq!(keys, [1, 1, 1, 2, 2, 2, 3]);

    // Pool D fails, and takes another with it.
    let pool = table(&survey, &["pool"]);
    assert_eq!((pool.cells, pool.possible, pool.units), (4, 4, 125));
    assert_eq!((pool.of(Fate::Published), pool.of(Fate::FewUnits)), (2, 1));
    assert_eq!((pool.of(Fate::Margins), pool.units_for_margins), (1, 40));
    assert_eq!((pool.units_told, pool.rows_told), (80, 80));
    assert!(!pool.null_fails);

    // One payer of 5,000, clamped to 1,000, among 125: no dominance; everything of two wards stands.
    let ward = table(&survey, &["ward"]);
    assert_eq!((ward.of(Fate::Published), ward.units_told), (2, 125));
    let names: Vec<&str> = ward.statistics.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["units", "rows", "sum of pence"]);

    let both = table(&survey, &["pool", "sex"]);
    assert_eq!((both.cells, both.possible), (7, 8));
}

#[tokio::test]
async fn a_dimension_is_weighed_by_its_roll_ups_too() {
    let node = TestNode::parking().await;
    let checked = node
        .check(crate::product::SESSIONS, Some(&node.authority))
        .await;
    let survey = checked.unwrap().survey.unwrap();
    let of: Vec<(&str, Option<&str>)> = survey
        .tables
        .iter()
        .filter(|t| t.keys.len() == 1)
        .map(|t| (t.keys[0].as_str(), t.roll_up.as_deref()))
        .collect();
    assert_eq!(
        of,
        [
            ("ward", None),
            ("started", None),
            ("started", Some("month"))
        ]
    );
    let month = survey.tables.iter().find(|t| t.roll_up.is_some()).unwrap();
    assert_eq!(
        (month.cells, month.possible, month.of(Fate::Published)),
        (2, 2, 2)
    );
}

#[tokio::test]
async fn what_lies_within_another_is_one_axis() {
    let nested = SWIMS.replacen(
        "column = \"pool\"",
        "column = \"pool\"\n    within = \"ward\"",
        1,
    );
    let survey = survey_of(&nested).await;
    assert!(survey.left_out.is_empty(), "{:?}", survey.left_out);
    let both = table(&survey, &["pool", "ward"]);
    assert_eq!((both.cells, both.possible), (4, 4));
    // Margins are looked for in each ward: of South nothing is left, of North all.
    assert_eq!(both.units_told, 80);
}

#[tokio::test]
async fn a_within_that_the_data_contradict_leaves_its_tables_out() {
    let wrong = SWIMS.replacen(
        "column = \"ward\"",
        "column = \"ward\"\n    within = \"sex\"",
        1,
    );
    let survey = survey_of(&wrong).await;
    assert!(
        survey.left_out.iter().any(|l| l.contains("ward")),
        "{survey:?}"
    );
    assert!(table(&survey, &["pool"]).units > 0);
}

#[test]
fn a_grouping_set_is_numbered_as_the_engine_does() {
    assert_eq!(passes::grouping_id(&[0], 3), 0b011);
    assert_eq!(passes::grouping_id(&[1, 2], 3), 0b100);
}
