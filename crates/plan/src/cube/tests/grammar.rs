//! What may be asked, what may not, and in which words it is refused.

use super::town::{aggregation, analysed, asked, canonical, sessions, town};
use crate::cube::{CubeAgg, CubeFilter, recognise};
use crate::profile::tests::town::rows;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::logical_expr::LogicalPlan;
use guildhall_model::ReleaseClass;

/// `sql` is of the cube, and its canonical form gives the same cells.
async fn taken(sql: &str) {
    let state = town();
    let query = asked(&state, sql)
        .await
        .unwrap_or_else(|e| panic!("{e}: {sql}"));
    let original = aggregation(analysed(&state, sql).await.unwrap());
    assert_eq!(
        query.output_schema().fields().len(),
        original.schema().fields().len()
    );
    let cells = rows(&state, original).await;
    assert_eq!(
        cells,
        rows(&state, canonical(&state, &query)).await,
        "{sql}"
    );
    assert!(!cells.is_empty(), "{sql}");
}

#[tokio::test]
async fn counts_sums_and_means_by_dimensions_are_taken() {
    for sql in [
        "SELECT count(*) FROM @sessions",
        "SELECT count(1), count(DISTINCT vehicle) FROM @sessions",
        "SELECT ward, count(*) AS n FROM @sessions GROUP BY ward",
        "SELECT ward, sum(paid), avg(paid), sum(fee), avg(fee), count(paid) FROM @sessions GROUP BY ward",
        "SELECT ward FROM @sessions GROUP BY ward",
        "SELECT DISTINCT ward, date_trunc('month', started) FROM @sessions",
        "SELECT ward, blue, zone, sum(paid) / 100.0, avg(fee) * 2 FROM @sessions GROUP BY 1, 2, 3 HAVING count(*) > 2 ORDER BY ward",
        "SELECT date_trunc('month', started) AS m, count(*) FROM @sessions GROUP BY 1",
        "SELECT date_trunc('DAY', started), date_trunc('month', day), count(DISTINCT vehicle) FROM @sessions GROUP BY 1, 2",
        "SELECT started, count(*) FROM @sessions GROUP BY started",
        "SELECT sum(CAST(paid AS DOUBLE)), avg(CAST(paid AS DECIMAL(30, 2))) FROM @sessions",
    ] {
        taken(sql).await;
    }
}

#[tokio::test]
async fn one_equality_or_registered_group_for_each_dimension_is_taken() {
    for sql in [
        "SELECT count(*) FROM @sessions WHERE ward = 'W1'",
        "SELECT ward, count(*) FROM @sessions WHERE 'W1' = ward AND zone = 3 GROUP BY ward",
        "SELECT count(*) FROM @sessions WHERE ward IN ('W2', 'W1')",
        "SELECT count(*) FROM @sessions WHERE ward IN ('W1')",
        "SELECT count(*) FROM @sessions WHERE zone IN (1, 2)",
        "SELECT count(*) FROM @sessions WHERE blue",
        "SELECT count(*) FROM @sessions WHERE NOT blue AND 1 = 1",
        "SELECT count(*) FROM @sessions WHERE blue = true",
        "SELECT count(*) FROM @sessions WHERE blue IS FALSE",
        "SELECT ward, count(*) FROM @sessions WHERE date_trunc('month', started) = TIMESTAMP '2023-12-01' GROUP BY ward",
        "SELECT count(*) FROM @sessions WHERE day = DATE '2023-12-20'",
        "SELECT count(*) FROM @sessions WHERE day = '2023-12-20'",
        "SELECT count(*) FROM @sessions WHERE zone = 3.0",
        "SELECT count(*) FROM @sessions WHERE ward = 'W1' AND ward = 'W1'",
        "SELECT count(*) FROM @sessions WHERE ward = 'W1' HAVING count(*) > 3",
    ] {
        taken(sql).await;
    }
}

#[tokio::test]
async fn names_and_wrappings_are_seen_through() {
    for sql in [
        "SELECT s.ward, count(*) FROM @sessions s GROUP BY s.ward",
        "SELECT area, sum(p) FROM (SELECT ward AS area, paid AS p, note FROM @sessions) x GROUP BY area",
        "WITH a AS (SELECT date_trunc('month', started) AS m, vehicle AS v FROM @sessions WHERE blue) SELECT m, count(DISTINCT v) FROM a GROUP BY m",
        "SELECT w, n FROM (SELECT b.w, count(*) AS n FROM (SELECT ward AS w, zone AS z FROM (SELECT * FROM @sessions) a) b WHERE z = 2 GROUP BY b.w) c",
        "SELECT a, b, count(*) FROM (SELECT ward AS a, ward AS b FROM @sessions) x GROUP BY a, b",
        "SELECT ward AS paid, sum(paid) AS ward FROM @sessions GROUP BY ward",
        "SELECT paid, count(*) FROM (SELECT ward AS paid, paid AS ward FROM @sessions) x GROUP BY paid",
        "SELECT q, count(*) FROM (SELECT ward AS q, fee * 2 AS unused FROM @sessions) x GROUP BY q",
    ] {
        taken(sql).await;
    }
}

async fn refused(sql: &str) -> &'static str {
    let state = town();
    let refusal = match asked(&state, sql).await {
        Err(refusal) => refusal,
        Ok(query) => panic!("taken: {sql}\n{query:?}"),
    };
    assert!(
        !refusal.reason.is_empty() && !refusal.instead.is_empty(),
        "{refusal:?}"
    );
    for literal in ["Smith", "4711", "2023"] {
        assert!(!format!("{refusal:?}").contains(literal), "{refusal:?}");
    }
    refusal.rule
}

#[tokio::test]
async fn what_is_not_of_the_grammar_is_refused_by_its_rule() {
    for (rule, sql) in [
        ("cube.rows", "SELECT ward FROM @sessions"),
        (
            "cube.rows",
            "SELECT * FROM @sessions WHERE vehicle = 'Smith'",
        ),
        ("cube.identifier", "SELECT DISTINCT vehicle FROM @sessions"),
        ("cube.expression", "SELECT DISTINCT ward, 1 FROM @sessions"),
        (
            "cube.identifier",
            "SELECT vehicle, count(*) FROM @sessions GROUP BY vehicle",
        ),
        (
            "cube.identifier",
            "SELECT count(*) FROM @sessions WHERE vehicle = 'Smith'",
        ),
        (
            "cube.identifier",
            "SELECT note, count(*) FROM @sessions GROUP BY note",
        ),
        (
            "cube.dimension",
            "SELECT paid, count(*) FROM @sessions GROUP BY paid",
        ),
        (
            "cube.dimension",
            "SELECT count(*) FROM @sessions WHERE paid = 4711",
        ),
        (
            "cube.dimension",
            "SELECT kind, count(*) FROM @sessions GROUP BY kind",
        ),
        (
            "cube.expression",
            "SELECT upper(ward), count(*) FROM @sessions GROUP BY upper(ward)",
        ),
        (
            "cube.expression",
            "SELECT zone + 1, count(*) FROM @sessions GROUP BY zone + 1",
        ),
        (
            "cube.expression",
            "SELECT CAST(started AS DATE), count(*) FROM @sessions GROUP BY 1",
        ),
        (
            "cube.expression",
            "SELECT extract(hour FROM started), count(*) FROM @sessions GROUP BY 1",
        ),
        ("cube.expression", "SELECT sum(paid * 2) FROM @sessions"),
        (
            "cube.expression",
            "SELECT sum(CASE WHEN vehicle = 'Smith' THEN paid END) FROM @sessions",
        ),
        (
            "cube.expression",
            "SELECT count(*) FROM @sessions WHERE lower(ward) = 'Smith'",
        ),
        (
            "cube.expression",
            "SELECT sum(CAST(fee AS INT)) FROM @sessions",
        ),
        (
            "cube.roll-up",
            "SELECT date_trunc('hour', started), count(*) FROM @sessions GROUP BY 1",
        ),
        (
            "cube.identifier",
            "SELECT count(DISTINCT ward) FROM (SELECT ward FROM @sessions WHERE note = 'Smith') x",
        ),
        (
            "cube.distinct",
            "SELECT count(DISTINCT ward) FROM @sessions",
        ),
        ("cube.distinct", "SELECT sum(DISTINCT paid) FROM @sessions"),
        ("cube.measure", "SELECT sum(zone) FROM @sessions"),
        ("cube.measure", "SELECT count(ward) FROM @sessions"),
        ("cube.measure", "SELECT count(vehicle) FROM @sessions"),
        ("cube.aggregate", "SELECT max(paid) FROM @sessions"),
        ("cube.aggregate", "SELECT min(started) FROM @sessions"),
        (
            "cube.aggregate",
            "SELECT ward, array_agg(vehicle) FROM @sessions GROUP BY ward",
        ),
        (
            "cube.aggregate",
            "SELECT string_agg(note, ',') FROM @sessions",
        ),
        (
            "cube.aggregate",
            "SELECT stddev(paid), median(fee) FROM @sessions",
        ),
        (
            "cube.aggregate",
            "SELECT first_value(note ORDER BY paid) FROM @sessions",
        ),
        (
            "cube.filter-clause",
            "SELECT count(*) FILTER (WHERE vehicle = 'Smith') FROM @sessions",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE ward = 'W1' OR ward = 'Smith'",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE ward <> 'Smith'",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE zone > 4711",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE started BETWEEN '2023-01-01' AND '2023-01-02'",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE ward LIKE 'Smith%'",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE ward NOT IN ('W1', 'W2')",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE NOT (ward = 'Smith')",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE ward IS NULL",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE ward IN (SELECT ward FROM @wards)",
        ),
        (
            "cube.predicate",
            "SELECT count(*) FROM @sessions WHERE ward = ward",
        ),
        (
            "cube.group",
            "SELECT count(*) FROM @sessions WHERE ward IN ('W1', 'Smith')",
        ),
        (
            "cube.group",
            "SELECT count(*) FROM @sessions WHERE ward IN ('W1', 'W2', 'W3')",
        ),
        (
            "cube.one-filter",
            "SELECT count(*) FROM @sessions WHERE ward = 'W1' AND ward = 'W2'",
        ),
        (
            "cube.one-filter",
            "SELECT count(*) FROM @sessions WHERE date_trunc('month', started) = TIMESTAMP '2023-12-01' AND date_trunc('day', started) = TIMESTAMP '2023-12-05'",
        ),
        (
            "cube.value",
            "SELECT count(*) FROM @sessions WHERE zone = 3.5",
        ),
        (
            "cube.value",
            "SELECT count(*) FROM @sessions WHERE ward = NULL",
        ),
        (
            "cube.one-product",
            "SELECT s.ward, count(*) FROM @sessions s JOIN @wards w ON s.ward = w.ward GROUP BY s.ward",
        ),
        (
            "cube.one-product",
            "SELECT ward, count(*) FROM (SELECT ward FROM @sessions UNION ALL SELECT ward FROM @wards) x GROUP BY ward",
        ),
        (
            "cube.one-product",
            "SELECT ward, count(*) FROM @wards GROUP BY ward",
        ),
        (
            "cube.nested",
            "SELECT max(n) FROM (SELECT vehicle, count(*) AS n FROM @sessions GROUP BY vehicle) x",
        ),
        (
            "cube.nested",
            "SELECT count(*) FROM (SELECT DISTINCT ward, vehicle FROM @sessions) x",
        ),
        (
            "cube.limit",
            "SELECT sum(paid) FROM (SELECT * FROM @sessions LIMIT 1) x",
        ),
        (
            "cube.limit",
            "SELECT sum(paid) FROM (SELECT * FROM @sessions ORDER BY paid LIMIT 1) x",
        ),
        (
            "cube.window",
            "SELECT sum(r) FROM (SELECT row_number() OVER (ORDER BY paid) AS r FROM @sessions) x",
        ),
        (
            "cube.grouping-sets",
            "SELECT ward, blue, count(*) FROM @sessions GROUP BY ROLLUP (ward, blue)",
        ),
        (
            "cube.grouping-sets",
            "SELECT ward, blue, count(*) FROM @sessions GROUP BY GROUPING SETS ((ward), (blue))",
        ),
    ] {
        assert_eq!(refused(sql).await, rule, "{sql}");
    }
}

#[tokio::test]
async fn a_product_that_releases_rows_has_no_cube() {
    let state = town();
    let plan = aggregation(
        analysed(&state, "SELECT count(*) FROM @sessions")
            .await
            .unwrap(),
    );
    let mut open = sessions();
    open.class = ReleaseClass::Open;
    assert_eq!(recognise(&plan, &open).unwrap_err().rule, "cube.class");
}

#[tokio::test]
async fn an_identifier_registered_as_a_dimension_is_still_refused() {
    let state = town();
    let sql = "SELECT vehicle, count(*) FROM @sessions GROUP BY vehicle";
    let plan = aggregation(analysed(&state, sql).await.unwrap());
    let mut careless = sessions();
    careless.dimensions[0].column = "vehicle".parse().unwrap();
    assert_eq!(
        recognise(&plan, &careless).unwrap_err().rule,
        "cube.identifier"
    );
}

#[tokio::test]
async fn the_parts_of_a_question_are_named() {
    let state = town();
    let sql = "SELECT ward, date_trunc('month', started), count(*), count(DISTINCT vehicle), avg(paid) FROM @sessions WHERE zone IN (2, 1) AND blue GROUP BY 1, 2";
    let query = asked(&state, sql).await.unwrap();
    assert_eq!(query.product.to_string(), "northmoor.parking.sessions");
    let keys: Vec<_> = query
        .keys
        .iter()
        .map(|k| {
            (
                k.column.as_str(),
                k.roll_up.as_ref().map(|r| r.name.as_str()),
            )
        })
        .collect();
    assert_eq!(keys, [("ward", None), ("started", Some("month"))]);
    let told: Vec<_> = query
        .aggregates
        .iter()
        .map(|a| a.aggregate.clone())
        .collect();
    assert_eq!(
        told,
        [
            CubeAgg::CountRows,
            CubeAgg::CountUnits,
            CubeAgg::Avg("paid".parse().unwrap())
        ]
    );
    assert!(
        matches!(&query.filters[0], CubeFilter::InRollUp { roll_up, values, .. } if roll_up.name == "inner" && values.len() == 2)
    );
    let reads: Vec<String> = query.reads().iter().map(ToString::to_string).collect();
    assert_eq!(
        reads,
        ["blue", "paid", "started", "vehicle", "ward", "zone"]
    );
}

#[tokio::test]
async fn no_literal_shows_in_a_debug() {
    let state = town();
    let query = asked(
        &state,
        "SELECT count(*) FROM @sessions WHERE ward = 'Mary Smith'",
    )
    .await
    .unwrap();
    assert!(!format!("{query:?}").contains("Mary"));
}

#[tokio::test]
async fn a_scan_of_the_first_rows_is_refused() {
    let plan = analysed(&town(), "SELECT count(*) FROM @sessions").await;
    let cut = aggregation(plan.unwrap()).transform_up(|node| {
        Ok(match node {
            LogicalPlan::TableScan(mut scan) => {
                scan.fetch = Some(4);
                Transformed::yes(LogicalPlan::TableScan(scan))
            }
            other => Transformed::no(other),
        })
    });
    let refusal = recognise(&cut.unwrap().data, &sessions()).unwrap_err();
    assert_eq!(refusal.rule, "cube.limit");
}
