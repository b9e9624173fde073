//! What the asker of a private product is told.

use super::city::city;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_constant_that_cannot_be_computed_is_its_authors_fault() {
    let city = city();
    for condition in [
        "paid > cast('Jane Doe' as int)",
        "paid > 4711 / 0",
        "paid > 4711 % 0",
        "paid > cast(99999994711 as int)",
        "paid > -(-9223372036854775808)",
        "ward = date_trunc('Jane Doe', timestamp '2025-01-01')",
        "regexp_like(vehicle, 'Jane (4711')",
        "round(ward) in (0, 'Jane+')",
        "ward = 'W1' and cast('Jane Doe' as timestamp) > now()",
        "cast('Jane Doe' as date) = date '2025-01-01'",
    ] {
        for sql in [
            format!("select count(*) as n from northmoor.parking.sessions where {condition}"),
            format!(
                "select council, count(*) as n from city.parking.sessions where {condition} group by council"
            ),
        ] {
            let error = city.refusal(&sql).await;
            assert_eq!(
                error.kind(),
                PlanErrorKind::InvalidArgument,
                "{sql}: {error:?}"
            );
            let words = error.to_string();
            for literal in ["Jane", "4711", "922337"] {
                assert!(!words.contains(literal), "{sql}: {words}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn released_columns_name_their_rule_and_their_error() {
    let city = city();
    let sql = "select council, ward as w, count(distinct vehicle) as v, count(*) as n, avg(paid) as p, sum(paid) / count(*) as q \
               from city.parking.sessions group by council, ward order by n";
    let plan = city.plan(sql).await.unwrap();
    let told = |name: &str, key: &str| {
        let schema = plan.wire_schema();
        let field = schema.field_with_name(name).unwrap();
        field.metadata().get(key).cloned()
    };
    let error = |name| told(name, "guildhall.error");
    let sums = guildhall_accuracy::cube::sum_error(5);
    assert_eq!(error("v").unwrap(), "at most 5");
    assert_eq!(error("w").unwrap(), "none");
    assert_eq!(error("n"), Some(sums.clone()));
    let means = guildhall_accuracy::cube::mean_error(5, false);
    assert_eq!(error("p"), Some(means));
    assert!(
        told("n", "guildhall.rule")
            .unwrap()
            .starts_with("minimum-group=10;margins;")
    );
    // What is worked out from released values has no rule of its own.
    assert_eq!(error("q"), None);
    let statement = guard(sql, &StatementLimits::default()).unwrap();
    let prepared = city.planner.prepare(&statement, &city.catalogue);
    assert_eq!(prepared.await.unwrap().schema, *plan.wire_schema());
    assert!(
        city.run(&plan)
            .await
            .iter()
            .all(|b| b.schema() == *plan.wire_schema())
    );
}

async fn with_status(city: &City, sql: &str) -> (Vec<String>, Vec<String>) {
    let statement = guard(sql, &StatementLimits::default()).unwrap();
    let planner = city.planner.with_cell_status(true);
    let plan = planner.plan(&statement, &city.catalogue, None).await;
    let plan = plan.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let prepared = planner.prepare(&statement, &city.catalogue).await.unwrap();
    assert_eq!(prepared.schema, *plan.wire_schema());
    let names = plan.wire_schema().fields().iter().map(|f| f.name().clone());
    (names.collect(), rows_of(&city.run(&plan).await))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companion_stands_beside_each_released_value_that_is_passed_on() {
    let city = city();
    let sessions = "northmoor.parking.sessions";
    for (sql, names, first) in [
        (
            format!("select ward, count(*) as n, sum(paid) as s from {sessions} group by ward order by ward"),
            vec!["ward", "n", "n_status", "s", "s_status"],
            "W0 | 200 | perturbed | 599 | perturbed",
        ),
        (
            format!("select n as m, w, cast(n as varchar) as d from (select ward as w, count(*) as n from {sessions} group by ward \
                     having count(*) > 5) x order by w limit 2"),
            vec!["m", "m_status", "w", "d", "d_status"],
            "200 | perturbed | W0 | 200 | perturbed",
        ),
        (
            "select council, ward, count(*) as n from city.parking.sessions group by council, ward order by 1, 2".to_owned(),
            vec!["council", "ward", "n", "n_status"],
            "northmoor | W0 | 200 | perturbed",
        ),
        (
            format!("with c as (select ward, avg(paid) as a, count(*) as n from {sessions} group by ward) select a, n, a * n as t from c where ward = 'W0'"),
            vec!["a", "a_status", "n", "n_status", "t"],
            "2.995000000e0 | perturbed | 200 | perturbed | 5.990000000e2",
        ),
        (
            format!("select sum(n) as n from (select ward, count(*) as n from {sessions} group by ward)"),
            vec!["n"],
            "600",
        ),
        (
            format!("select a.n from (select ward, count(*) as n from {sessions} group by ward) a \
                     join (select ward, sum(paid) as s from {sessions} group by ward) b on a.ward = b.ward order by 1"),
            vec!["n"],
            "200",
        ),
        ("select count(*) as n from ashford.parking.occupancy".to_owned(), vec!["n"], "300"),
    ] {
        let (columns, rows) = with_status(&city, &sql).await;
        assert_eq!(columns, names, "{sql}");
        assert_eq!(rows[0], first, "{sql}");
        assert_eq!(city.ask(&sql).await.len(), rows.len(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_called_as_a_companion_is_refused_only_where_there_are_any() {
    let city = city();
    let sql = "select count(*) as n, sum(paid) as n_status from northmoor.parking.sessions";
    assert_eq!(city.ask(sql).await.len(), 1);
    let statement = guard(sql, &StatementLimits::default()).unwrap();
    let planner = city.planner.with_cell_status(true);
    let error = planner
        .plan(&statement, &city.catalogue, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::InvalidArgument);
}

fn facts(plan: &QueryPlan) -> Vec<(String, String, String)> {
    let privacy = plan.privacy().unwrap();
    let facts = privacy.facts.iter();
    facts
        .map(|f| (f.column.clone(), f.what.to_owned(), f.detail.clone()))
        .collect()
}

fn is_told(facts: &[(String, String, String)], column: &str, what: &str, begins: &str) -> bool {
    facts
        .iter()
        .any(|(c, w, d)| c == column && w == what && d.starts_with(begins))
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_privacy_tells_lane_rule_error_and_cost() {
    let stays = Given::open("northmoor.parking.stays", super::city::sessions(600))
        .private("vehicle", &["ward"], &["paid"])
        .budgeted();
    let open = Given::open("northmoor.parking.wards", super::city::sessions(3));
    let city = City::of(vec![stays, open]);
    let cube = "explain privacy select ward, count(distinct vehicle) as n from northmoor.parking.stays group by ward";
    let plan = city.plan(cube).await.unwrap();
    let told = facts(&plan);
    assert!(is_told(&told, "", "lane", "cube"), "{told:?}");
    assert!(is_told(&told, "", "cost", "nothing"), "{told:?}");
    assert!(is_told(&told, "n", "error", "at most 5"), "{told:?}");
    assert!(is_told(&told, "n", "rule", "minimum-group=10;"), "{told:?}");
    assert!(
        is_told(
            &told,
            "",
            "withheld",
            "minimum-group: cells of fewer than 10"
        ),
        "{told:?}"
    );
    assert_eq!(rows_of(&city.run(&plan).await).len(), told.len());

    let free =
        "explain privacy select count(*) as n from northmoor.parking.stays where paid > 4711";
    let plan = city.plan(free).await.unwrap();
    let told = facts(&plan);
    assert!(is_told(&told, "", "lane", "ad hoc"), "{told:?}");
    assert!(is_told(&told, "", "cost", "rho 0.001"), "{told:?}");
    assert!(is_told(&told, "n", "error", "within "), "{told:?}");
    assert_eq!(plan.privacy().unwrap().costs[0].nano_rho, 1_000_000);
    assert!(!format!("{told:?}").contains("4711"));

    let open = city
        .plan("explain privacy select * from northmoor.parking.wards")
        .await
        .unwrap();
    assert!(is_told(&facts(&open), "", "lane", "open"));
    let refused =
        "explain privacy select vehicle from northmoor.parking.stays where vehicle = 'Jane Doe'";
    let refused = facts(&city.plan(refused).await.unwrap());
    assert!(
        is_told(&refused, "", "rule", "rows-of-private-product")
            || is_told(&refused, "", "rule", "cube."),
        "{refused:?}"
    );
    assert!(refused.iter().any(|(_, what, _)| what == "instead"));
    assert!(!format!("{refused:?}").contains("Jane"));
    // Nobody was asked for anything.
    assert_eq!(city.traffic(), (0, 0));
    let error = city
        .refusal("explain privacy select 1 from northmoor.parking.nowhere")
        .await;
    assert_eq!(error.kind(), PlanErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn for_development_it_is_told_that_rows_are_synthetic_and_cost_nothing() {
    let stays = Given::open("northmoor.parking.stays", super::city::sessions(600))
        .private("vehicle", &["ward"], &["paid"])
        .budgeted();
    let open = Given::open("northmoor.parking.wards", super::city::sessions(3));
    let city = City::asked_for("development", vec![stays, open]);
    for sql in [
        "select ward, count(distinct vehicle) as n from northmoor.parking.stays group by ward",
        "select count(*) as n from northmoor.parking.stays where paid > 4711",
        "select * from northmoor.parking.wards",
    ] {
        let plan = city.plan(&format!("explain privacy {sql}")).await.unwrap();
        let told = facts(&plan);
        assert_eq!(told[0].1, "rows", "{sql}: {told:?}");
        assert!(is_told(&told, "", "rows", "synthetic"), "{sql}: {told:?}");
        assert!(is_told(&told, "", "cost", "nothing"), "{sql}: {told:?}");
        assert!(plan.privacy().unwrap().costs.is_empty(), "{sql}");
        let plan = city.plan(&format!("explain {sql}")).await.unwrap();
        let rules: Vec<&str> = plan.explain().iter().map(|s| s.rule.as_str()).collect();
        assert!(
            rules.iter().any(|r| r.starts_with("synthetic rows; ")),
            "{sql}: {rules:?}"
        );
    }
    let nothing = city.plan("explain privacy select 1 as one").await.unwrap();
    assert!(!format!("{:?}", facts(&nothing)).contains("synthetic"));
}
