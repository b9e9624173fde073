//! What may be asked freely, what may not, and that no two questions have the same form.

use super::{AdHocQuery, Lane, lane, recognise};
use crate::cube::Refusal;
use crate::cube::tests::town::{aggregation, analysed, schema, sessions, town};
use crate::profile::tests::town::rows;
use crate::profile::{FragmentLimits, decode, encode};
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{Expr, lit};
use guildhall_grant::product::{Budget, BudgetPeriod, NanoRho, Product};
use std::collections::{BTreeMap, BTreeSet};

/// The product of the town, with registered values and a budget.
fn product() -> Product {
    let mut product = sessions();
    for (column, values) in [("ward", ["W0", "W1"]), ("zone", ["1", "2"])] {
        let dimension = product.dimensions.iter_mut();
        for d in dimension.filter(|d| d.column.as_str() == column) {
            d.values = values.map(str::to_owned).to_vec();
        }
    }
    product.budgets.push(Budget {
        purpose: "transport_planning".parse().unwrap(),
        datasets: BTreeSet::from(["sessions".parse().unwrap()]),
        rho: NanoRho::new(50_000_000),
        period: BudgetPeriod::Quarter,
        per_query: NanoRho::new(1_000_000),
        cells_per_unit: 2,
    });
    product
}

async fn asked(sql: &str) -> Result<AdHocQuery, Refusal> {
    let plan = analysed(&town(), sql).await;
    let plan = plan.unwrap_or_else(|e| panic!("{e}: {sql}"));
    recognise(&aggregation(plan), &product())
}

/// `sql` is a free question, and its canonical form gives the same cells where it is written and read.
async fn taken(sql: &str) -> AdHocQuery {
    let state = town();
    let query = asked(sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    let plan = query.canonical_plan(&schema(&state)).unwrap();
    let bytes = encode(&plan, &state).unwrap_or_else(|e| panic!("{e}: {sql}\n{plan}"));
    let read = decode(&bytes, &state, &FragmentLimits::default());
    let read = read.unwrap_or_else(|e| panic!("{e}: {sql}\n{plan}"));
    let again = recognise(&read, &product()).unwrap_or_else(|e| panic!("{e}: {sql}\n{read}"));
    assert_eq!(again.cells().columns(), query.cells().columns(), "{sql}");
    let original = aggregation(analysed(&state, sql).await.unwrap());
    let cells = rows(&state, original).await;
    assert_eq!(cells, rows(&state, read).await, "{sql}");
    query
}

async fn refused(sql: &str, rule: &str) {
    let refusal = asked(sql).await.expect_err(sql);
    assert_eq!(refusal.rule, rule, "{sql}: {refusal}");
    assert!(!refusal.instead.is_empty(), "{sql}");
    for literal in ["4711", "W1", "canary"] {
        let told = format!("{refusal} {}", refusal.instead);
        assert!(!told.contains(literal), "{sql}: {told}");
    }
}

#[tokio::test]
async fn any_predicate_over_columns_that_are_no_identifiers_is_taken() {
    for predicate in [
        "paid > 100",
        "paid > 100 OR ward <> 'W1'",
        "NOT (paid BETWEEN 100 AND 300)",
        "ward LIKE 'W%' AND fee < 20.5",
        "ward IN ('W0', 'W3') AND zone NOT IN (1, 4)",
        "started >= TIMESTAMP '2023-12-01' AND day < DATE '2024-01-05'",
        "date_part('hour', started) BETWEEN 7 AND 9",
        "upper(substr(ward, 1, 2)) = 'W2' OR ward IS NULL",
        "CASE WHEN blue THEN paid ELSE 2 * paid END > 500",
        "CAST(fee AS BIGINT) % 2 = 1",
        "blue IS NOT TRUE",
        "coalesce(zone, 0) + paid / 10 = 5",
        "kind = 'k1' AND paid = zone",
        "1.0 / (fee - 2.5) > 0",
    ] {
        let query = taken(&format!(
            "SELECT count(*) AS n FROM @sessions WHERE {predicate}"
        ))
        .await;
        assert!(!query.predicates().is_empty(), "{predicate}");
    }
}

#[tokio::test]
async fn counts_sums_and_means_are_told_of_all_rows_or_of_registered_cells() {
    for sql in [
        "SELECT count(*), count(DISTINCT vehicle), count(paid), sum(paid), avg(fee) FROM @sessions WHERE paid > 50",
        "SELECT ward, count(*) AS n, avg(paid) FROM @sessions WHERE fee > 1 GROUP BY ward",
        "SELECT ward, zone, sum(CAST(paid AS DOUBLE)) FROM @sessions WHERE paid > 1 OR blue GROUP BY ward, zone",
        "SELECT w, count(*) FROM (SELECT ward AS w, paid * 2 AS twice FROM @sessions WHERE fee > 1) x WHERE twice > 90 GROUP BY w",
        "SELECT ward, count(*) FROM @sessions GROUP BY ward",
    ] {
        taken(sql).await;
    }
}

#[tokio::test]
async fn what_is_not_in_the_grammar_is_refused_by_name() {
    let filtered = |predicate: &str| format!("SELECT count(*) FROM @sessions WHERE {predicate}");
    for (predicate, rule) in [
        ("vehicle = 'v4711'", "adhoc.identifier"),
        ("length(vehicle) > 3 OR paid > 1", "adhoc.identifier"),
        ("note = 'canary'", "adhoc.column"),
        ("paid > 1 AND note IS NOT NULL", "adhoc.column"),
        ("ward IN (SELECT ward FROM @wards)", "adhoc.subquery"),
        ("paid > (SELECT count(*) FROM @wards)", "adhoc.subquery"),
        (
            "EXISTS (SELECT 1 FROM @wards WHERE ward = 'W1')",
            "adhoc.subquery",
        ),
        ("started < now()", "adhoc.function"),
        ("day < current_date", "adhoc.function"),
    ] {
        refused(&filtered(predicate), rule).await;
    }
    for (sql, rule) in [
        (
            "SELECT max(paid) FROM @sessions WHERE paid > 4711",
            "adhoc.cells",
        ),
        (
            "SELECT stddev(fee) FROM @sessions WHERE paid > 4711",
            "adhoc.cells",
        ),
        (
            "SELECT sum(paid * paid) FROM @sessions WHERE paid > 1",
            "adhoc.cells",
        ),
        (
            "SELECT count(DISTINCT ward) FROM @sessions WHERE paid > 1",
            "adhoc.cells",
        ),
        (
            "SELECT sum(zone) FROM @sessions WHERE paid > 1",
            "adhoc.cells",
        ),
        (
            "SELECT vehicle, count(*) FROM @sessions WHERE paid > 1 GROUP BY vehicle",
            "adhoc.cells",
        ),
        (
            "SELECT count(*) FILTER (WHERE blue) FROM @sessions WHERE paid > 1",
            "adhoc.cells",
        ),
        (
            "SELECT blue, count(*) FROM @sessions WHERE paid > 1 GROUP BY blue",
            "adhoc.key",
        ),
        (
            "SELECT date_trunc('month', started), count(*) FROM @sessions WHERE paid > 1 GROUP BY 1",
            "adhoc.key",
        ),
        (
            "SELECT a, b, count(*) FROM (SELECT ward AS a, ward AS b FROM @sessions WHERE paid > 1) x GROUP BY a, b",
            "adhoc.key",
        ),
        (
            "SELECT ward FROM @sessions WHERE paid > 1 GROUP BY ward",
            "adhoc.aggregate",
        ),
        (
            "SELECT DISTINCT ward FROM @sessions WHERE paid > 1",
            "adhoc.form",
        ),
        ("SELECT paid FROM @sessions WHERE paid > 1", "adhoc.form"),
        (
            "SELECT count(*) FROM @sessions s JOIN @wards w ON s.ward = w.ward WHERE paid > 1",
            "adhoc.form",
        ),
        (
            "SELECT count(*) FROM (SELECT ward, count(*) AS n FROM @sessions GROUP BY ward) x WHERE n < 5",
            "adhoc.form",
        ),
        (
            "SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY paid) AS r FROM @sessions) x WHERE r = 1",
            "adhoc.form",
        ),
        (
            "SELECT count(*) FROM (SELECT * FROM @sessions ORDER BY paid LIMIT 1) x WHERE paid > 1",
            "adhoc.form",
        ),
        ("SELECT count(*) FROM @wards WHERE ward > 'W'", "adhoc.form"),
    ] {
        refused(sql, rule).await;
    }
}

#[tokio::test]
async fn an_expression_that_doubles_with_each_projection_is_refused_before_it_is_made() {
    let state = town();
    let mut plan = analysed(&state, "SELECT paid AS p FROM @sessions")
        .await
        .unwrap();
    let p = || datafusion::prelude::col("p");
    let builder = |plan| datafusion::logical_expr::LogicalPlanBuilder::from(plan);
    for _ in 0..60 {
        plan = builder(plan)
            .project([(p() + p()).alias("p")])
            .unwrap()
            .build()
            .unwrap();
    }
    let counted = datafusion::functions_aggregate::expr_fn::count(datafusion::prelude::lit(1));
    let plan = builder(plan)
        .filter(p().gt(datafusion::prelude::lit(1_i64)))
        .unwrap()
        .aggregate(Vec::<datafusion::logical_expr::Expr>::new(), [counted])
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(recognise(&plan, &product()).unwrap_err().rule, "adhoc.size");
}

#[tokio::test]
async fn no_two_questions_have_the_same_form() {
    let mut seen: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    let count = |predicate: &str| format!("SELECT count(*) FROM @sessions WHERE {predicate}");
    let mut all: Vec<String> = [
        "paid > 100",
        "paid > 101",
        "paid >= 100",
        "100 >= paid",
        "paid > CAST(100 AS DOUBLE)",
        "fee > 100",
        "fee > 0.1",
        "fee > 0.10000000000000002",
        "ward = 'a' OR kind = 'b'",
        // Prints as the one before it, in the engine's words.
        "ward = 'a\") OR kind = Utf8(\"b'",
        "ward LIKE 'W_'",
        "ward NOT LIKE 'W_'",
        "ward ILIKE 'W_'",
        "ward LIKE 'W_' ESCAPE 'W'",
        "zone IN (1, 2, 3, 4)",
        "zone IN (1, 2, 3, 4, 5)",
        "zone NOT IN (1, 2, 3, 4)",
        "day > DATE '2024-01-01'",
        "started > TIMESTAMP '2024-01-01'",
        "started > TIMESTAMP '2024-01-01 00:00:00.000001'",
        "upper(ward) > 'A'",
        "lower(ward) > 'A'",
        "CASE WHEN blue THEN paid ELSE zone END > 1",
        "CASE WHEN blue THEN zone ELSE paid END > 1",
        "blue IS NOT TRUE",
        "blue IS NOT FALSE",
        "blue IS NULL",
    ]
    .iter()
    .map(|p| count(p))
    .collect();
    all.extend(
        [
            "SELECT count(paid) FROM @sessions WHERE paid > 100",
            "SELECT sum(paid) FROM @sessions WHERE paid > 100",
            "SELECT avg(paid) FROM @sessions WHERE paid > 100",
            "SELECT sum(paid), count(*) FROM @sessions WHERE paid > 100",
            "SELECT count(*), sum(paid) FROM @sessions WHERE paid > 100",
            "SELECT ward, count(*) FROM @sessions WHERE paid > 100 GROUP BY ward",
            "SELECT zone, count(*) FROM @sessions WHERE paid > 100 GROUP BY zone",
        ]
        .map(str::to_owned),
    );
    for sql in all {
        let form = asked(&sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
        if let Some(other) = seen.insert(form.form().to_vec(), sql.clone()) {
            panic!("one form for {sql} and {other}");
        }
    }
}

#[tokio::test]
async fn names_and_the_order_of_conditions_make_no_other_question() {
    let form = async |sql: &str| asked(sql).await.unwrap().form().to_vec();
    let one =
        form("SELECT ward, count(*) AS n FROM @sessions WHERE paid > 1 AND fee > 2 GROUP BY ward")
            .await;
    for same in [
        "SELECT s.ward AS w, count(*) AS m FROM @sessions s WHERE s.fee > 2 AND s.paid > 1 AND paid > 1 GROUP BY s.ward",
        "SELECT w, count(*) FROM (SELECT ward AS w, fee AS f FROM @sessions WHERE paid > 1) x WHERE f > 2 GROUP BY w",
    ] {
        assert_eq!(form(same).await, one, "{same}");
    }
}

#[tokio::test]
async fn a_question_of_the_cube_is_never_charged_and_without_a_budget_none_is_free() {
    let product = product();
    let budget = product.budgets.first();
    let plan = async |sql: &str| aggregation(analysed(&town(), sql).await.unwrap());
    let cube = plan("SELECT ward, count(*) FROM @sessions WHERE zone = 3 GROUP BY ward").await;
    assert!(matches!(lane(&cube, &product, budget), Ok(Lane::Cube(_))));
    let free = plan("SELECT count(*) FROM @sessions WHERE zone > 3").await;
    assert!(matches!(lane(&free, &product, budget), Ok(Lane::AdHoc(_))));
    let without = lane(&free, &product, None).unwrap_err();
    assert_eq!(
        Err(without),
        crate::cube::recognise(&free, &product).map(|_| ())
    );
    let neither = plan("SELECT count(*) FROM @sessions WHERE vehicle > 'v'").await;
    let refusal = lane(&neither, &product, budget).unwrap_err();
    assert!(refusal.rule.starts_with("cube."), "{refusal}");
    assert!(
        refusal.instead.contains("(rule `adhoc.identifier`)"),
        "{}",
        refusal.instead
    );
}

#[tokio::test]
async fn debug_shows_no_literal() {
    let query = asked("SELECT count(*) FROM @sessions WHERE ward = 'W1' OR paid = 4711").await;
    let text = format!("{:?}", query.unwrap());
    assert!(!text.contains("W1") && !text.contains("4711"), "{text}");
}

#[tokio::test]
async fn a_function_that_is_not_listed_is_refused_whatever_it_is_a_function_of() {
    let mut all = SessionStateDefaults::default_scalar_functions().into_iter();
    let repeat = all.find(|f| f.name() == "repeat").unwrap();
    let sql = "SELECT count(*) AS n FROM @sessions WHERE upper(ward) = 'W1W1'";
    let plan = aggregation(analysed(&town(), sql).await.unwrap());
    let twice = |e: Expr| {
        Ok(match e {
            Expr::ScalarFunction(f) if f.name() == "upper" => {
                Transformed::yes(repeat.call([f.args, vec![lit(2_i64)]].concat()))
            }
            other => Transformed::no(other),
        })
    };
    let changed = plan.transform_up(|node| node.map_expressions(|e| e.transform_up(twice)));
    let refusal = recognise(&changed.unwrap().data, &product()).unwrap_err();
    assert_eq!(refusal.rule, "adhoc.function");
}

#[tokio::test]
async fn cells_are_ten_thousand_at_most() {
    let sql = "SELECT ward, zone, count(*) FROM @sessions WHERE paid > 1 GROUP BY ward, zone";
    let plan = aggregation(analysed(&town(), sql).await.unwrap());
    let asked = |values: usize| {
        let mut product = product();
        for dimension in &mut product.dimensions {
            dimension.values = (0..values).map(|v| v.to_string()).collect();
        }
        recognise(&plan, &product).map_err(|refusal| refusal.rule)
    };
    assert!(asked(100).is_ok());
    assert_eq!(asked(101).unwrap_err(), "adhoc.grid");
}
