//! Whatever is recognised means what its canonical form says, for questions put together and
//! plans altered at random.

use super::town::{aggregation, analysed, canonical, sessions, town};
use crate::cube::recognise;
use crate::functions;
use crate::profile::tests::town::{rows, try_rows};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, LogicalPlan, Operator, TryCast, lit};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::OnceLock;

fn state() -> &'static SessionState {
    static TOWN: OnceLock<SessionState> = OnceLock::new();
    TOWN.get_or_init(town)
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap()
    })
}

/// Where `plan` is recognised, its canonical form must give the same cells. Whether it was.
fn sound(plan: &LogicalPlan) -> bool {
    let Ok(query) = recognise(plan, &sessions()) else {
        return false;
    };
    let sent = canonical(state(), &query);
    let (original, sent) = runtime().block_on(async {
        (
            try_rows(state(), plan.clone()).await,
            rows(state(), sent).await,
        )
    });
    // An altered plan may hold a part that the engine does not run and the answer does not need.
    if let Ok(original) = original {
        assert_eq!(original, sent, "{plan}\n{query:?}");
    }
    true
}

/// Of the grammar.
const KEYS: &[&str] = &[
    "ward",
    "blue",
    "zone",
    "date_trunc('month', started)",
    "date_trunc('month', day)",
];
const LIMITS: &[&str] = &[
    "ward = 'W1'",
    "blue",
    "zone IN (1, 2)",
    "day = DATE '2023-12-20'",
    "date_trunc('day', started) = TIMESTAMP '2023-11-20'",
];
const TOLD: &[&str] = &[
    "count(*)",
    "count(DISTINCT vehicle)",
    "sum(paid)",
    "avg(fee)",
    "count(fee)",
];
/// Not of it, or only just.
const OTHER_KEYS: &[&str] = &[
    "vehicle",
    "zone + 0",
    "CAST(zone AS VARCHAR)",
    "date_trunc('hour', started)",
    "coalesce(ward, 'W1')",
    "CAST(day AS TIMESTAMP)",
    "date_trunc('day', day)",
    "started::date",
    "1",
];
const OTHER_LIMITS: &[&str] = &[
    "ward = 'W1' OR blue",
    "NOT (ward = 'W1')",
    "zone IN (1, 3)",
    "zone > 1",
    "CAST(started AS DATE) = DATE '2023-11-20'",
    "CAST(zone AS DOUBLE) = 3.5",
    "CAST(fee AS INT) = 3",
    "ward = vehicle",
    "zone = 2.0",
    "day = TIMESTAMP '2023-12-20T12:00:00'",
    "date_trunc('month', started) = DATE '2023-12-01'",
    "ward IS NOT NULL",
    "blue IS NOT TRUE",
    "zone = '3'",
    "zone = '03'",
    "true",
    "false",
    "blue <> false",
    "CAST(blue AS INT) = 1",
    "ward || '' = 'W1'",
    "CAST(day AS VARCHAR) = '2023-12-20'",
];
const OTHER_TOLD: &[&str] = &[
    "max(paid)",
    "sum(DISTINCT paid)",
    "count(ward)",
    "sum(zone)",
    "sum(CAST(fee AS INT))",
    "sum(paid + 0)",
    "count(*) FILTER (WHERE blue)",
    "sum(CAST(paid AS DECIMAL(38, 4)))",
    "avg(CAST(paid AS REAL))",
    "count(NULL)",
    "count(vehicle, ward)",
];

fn question(keys: &[&str], limits: &[&str], told: &[&str], wrapped: bool) -> String {
    let from = if wrapped {
        "(SELECT * FROM (SELECT vehicle, ward, started, day, blue, zone, paid, fee FROM @sessions) a) b"
    } else {
        "@sessions"
    };
    let mut select: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(i, k)| format!("{k} AS k{i}"))
        .collect();
    select.extend(told.iter().enumerate().map(|(i, t)| format!("{t} AS t{i}")));
    let mut sql = format!("SELECT {} FROM {from}", select.join(", "));
    if !limits.is_empty() {
        sql.push_str(&format!(
            " WHERE {}",
            limits
                .iter()
                .map(|l| format!("({l})"))
                .collect::<Vec<_>>()
                .join(" AND ")
        ));
    }
    if !keys.is_empty() {
        sql.push_str(&format!(
            " GROUP BY {}",
            (1..=keys.len())
                .map(|n| n.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
    sql
}

/// How many dimensions the parts of a question name.
fn dimensions<'a>(parts: impl Iterator<Item = &'a &'a str>) -> usize {
    let named = |part: &'a &'a str| part.split(|c: char| !c.is_alphanumeric());
    let words: BTreeSet<&str> = parts.flat_map(named).collect();
    let all = ["ward", "blue", "zone", "started", "day"];
    all.iter().filter(|d| words.contains(**d)).count()
}

fn some(of: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(of, least..=of.len().min(3))
}

/// One change of one expression of a plan.
fn altered(plan: LogicalPlan, at: usize, how: usize) -> Option<LogicalPlan> {
    let mut n = 0_usize;
    let changed = plan.transform_down(|node| {
        node.map_expressions(|e| {
            e.transform_down(|e| {
                n += 1;
                if n - 1 == at {
                    Ok(change(e, how))
                } else {
                    Ok(Transformed::no(e))
                }
            })
        })
    });
    let changed = changed.ok()?;
    // Plans that no longer fit together are not of interest.
    let again = changed
        .data
        .transform_up(|node| Ok(Transformed::yes(node.recompute_schema()?)));
    if changed.transformed {
        again.ok().map(|t| t.data)
    } else {
        None
    }
}

fn change(e: Expr, how: usize) -> Transformed<Expr> {
    let ops = [
        Operator::Eq,
        Operator::NotEq,
        Operator::Lt,
        Operator::Or,
        Operator::And,
        Operator::IsNotDistinctFrom,
    ];
    let types = [
        DataType::Int64,
        DataType::Int32,
        DataType::Utf8,
        DataType::Float64,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Boolean,
        DataType::Decimal128(38, 2),
    ];
    let cast_to = types[how % types.len()].clone();
    match e {
        Expr::BinaryExpr(b) => Transformed::yes(Expr::BinaryExpr(BinaryExpr {
            op: ops[how % ops.len()],
            ..b
        })),
        Expr::InList(mut l) => {
            match how % 3 {
                0 => l.negated = !l.negated,
                1 => {
                    l.list.pop();
                }
                _ => l.list.push(lit(3_i64)),
            }
            Transformed::yes(Expr::InList(l))
        }
        Expr::AggregateFunction(mut f) => {
            match how % 4 {
                0 => f.params.distinct = !f.params.distinct,
                1 => f.params.filter = Some(Box::new(lit(how.is_multiple_of(2)))),
                _ => {
                    let all = functions::aggregate();
                    f.func = all[how % all.len()].clone();
                }
            }
            Transformed::yes(Expr::AggregateFunction(f))
        }
        Expr::Literal(_, m) => {
            let values = [
                ScalarValue::from("W2"),
                ScalarValue::from("month"),
                ScalarValue::from("day"),
                ScalarValue::Int64(Some(2)),
                ScalarValue::Int64(None),
                ScalarValue::Boolean(Some(true)),
                ScalarValue::Float64(Some(1.5)),
                ScalarValue::Date32(Some(19_720)),
            ];
            Transformed::yes(Expr::Literal(values[how % values.len()].clone(), m))
        }
        Expr::Cast(c) if how.is_multiple_of(3) => Transformed::yes(*c.expr),
        Expr::Column(mut c) if how.is_multiple_of(2) => {
            let names = [
                "ward", "zone", "paid", "day", "started", "blue", "vehicle", "fee",
            ];
            c.name = names[how / 2 % names.len()].to_owned();
            Transformed::yes(Expr::Column(c))
        }
        e if how.is_multiple_of(5) => {
            Transformed::yes(Expr::TryCast(TryCast::new(Box::new(e), cast_to)))
        }
        e if how % 5 == 1 => Transformed::yes(Expr::Not(Box::new(e))),
        e => Transformed::yes(Expr::Cast(Cast::new(Box::new(e), cast_to))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::profile::tests::town::cases(96), failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_question_of_the_grammar_is_recognised_and_means_the_same(
        keys in some(KEYS, 0), limits in some(LIMITS, 0), told in some(TOLD, 1), wrapped in any::<bool>(),
    ) {
        let sql = question(&keys, &limits, &told, wrapped);
        let plan = aggregation(runtime().block_on(analysed(state(), &sql)).unwrap());
        match recognise(&plan, &sessions()) {
            // The tables that cells of five dimensions lie in are more than are weighed together.
            Err(r) if dimensions(keys.iter().chain(&limits)) == 5 => prop_assert_eq!(r.rule, "cube.keys", "{}", sql),
            _ => prop_assert!(sound(&plan), "{sql}"),
        }
    }

    #[test]
    fn a_question_with_other_parts_is_refused_or_means_the_same(
        keys in some(KEYS, 0), limits in some(LIMITS, 0), told in some(TOLD, 0),
        other_keys in some(OTHER_KEYS, 0), other_limits in some(OTHER_LIMITS, 0), other_told in some(OTHER_TOLD, 0),
        wrapped in any::<bool>(),
    ) {
        let keys: Vec<&str> = keys.into_iter().chain(other_keys.into_iter().take(1)).collect();
        let limits: Vec<&str> = limits.into_iter().take(2).chain(other_limits.into_iter().take(1)).collect();
        let mut told: Vec<&str> = told.into_iter().chain(other_told.into_iter().take(1)).collect();
        if told.is_empty() { told.push("count(*)"); }
        let sql = question(&keys, &limits, &told, wrapped);
        if let Ok(plan) = runtime().block_on(analysed(state(), &sql)) {
            sound(&aggregation(plan));
        }
    }

    #[test]
    fn an_altered_plan_is_refused_or_means_the_same(
        keys in some(KEYS, 0), limits in some(LIMITS, 0), told in some(TOLD, 1), wrapped in any::<bool>(),
        at in 0..24_usize, how in 0..400_usize,
    ) {
        let sql = question(&keys, &limits, &told, wrapped);
        let plan = aggregation(runtime().block_on(analysed(state(), &sql)).unwrap());
        if let Some(plan) = altered(plan, at, how) {
            sound(&plan);
        }
    }
}
