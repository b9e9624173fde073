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
