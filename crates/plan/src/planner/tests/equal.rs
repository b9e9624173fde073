//! What the federation answers is what one engine answers over the same rows.

use super::*;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
};
use datafusion::prelude::SessionContext;

/// Readings of a council's streets, with gaps.
fn readings(rows: i64, seed: i64) -> RecordBatch {
    let street = |i: i64| (i * seed) % 17;
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "street",
            Arc::new(
                (0..rows)
                    .map(|i| (i % 13 != 0).then(|| street(i)))
                    .collect::<Int64Array>(),
            ),
        ),
        (
            "ward",
            Arc::new(
                (0..rows)
                    .map(|i| (i % 11 != 0).then(|| format!("W{}", (i + seed) % 4)))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "flow",
            Arc::new(
                (0..rows)
                    .map(|i| (i % 7 != 0).then(|| (i * seed) % 1000))
                    .collect::<Int64Array>(),
            ),
        ),
        (
            "speed",
            Arc::new(
                (0..rows)
                    .map(|i| (i % 5 != 0).then(|| ((i * seed) % 64) as f64 / 4.0))
                    .collect::<Float64Array>(),
            ),
        ),
        (
            "cost",
            Arc::new(
                (0..rows)
                    .map(|i| (i % 3 != 0).then(|| i128::from((i * seed) % 9_999)))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
        ),
        (
            "day",
            Arc::new(
                (0..rows)
                    .map(|i| Some(19_000 + i32::try_from(i % 40).unwrap()))
                    .collect::<Date32Array>(),
            ),
        ),
        (
            "wet",
            Arc::new(
                (0..rows)
                    .map(|i| (i % 9 != 0).then_some(i % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn streets() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("street", Arc::new((0..17).collect::<Int64Array>())),
        (
            "name",
            Arc::new(
                (0..17)
                    .map(|i| Some(format!("Street {i}")))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "class",
            Arc::new(
                (0..17)
                    .map(|i| Some(["A", "B", "C"][i % 3]))
                    .collect::<StringArray>(),
            ),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

const COUNCILS: [(&str, i64, i64); 3] = [
    ("ashford", 230, 3),
    ("brackley", 170, 7),
    ("northmoor", 310, 11),
];

fn city() -> City {
    let mut given: Vec<Given> = COUNCILS
        .iter()
        .map(|(council, rows, seed)| {
            Given::open(
                &format!("{council}.highways.readings"),
                vec![readings(*rows, *seed)],
            )
            .conforming("readings")
        })
        .collect();
    given.push(Given::open("northmoor.geography.streets", vec![streets()]));
    City::of(given)
}

async fn one_engine() -> SessionContext {
    let config = session::base_config()
        .with_create_default_catalog_and_schema(true)
        .with_default_catalog_and_schema("datafusion", "public")
        .with_target_partitions(2);
    let context = SessionContext::new_with_config(config);
    let mut united = Vec::new();
    for (council, rows, seed) in COUNCILS {
        let batch = readings(rows, seed);
        let mut columns: Vec<(String, ArrayRef)> = vec![(
            "council".to_owned(),
            Arc::new(StringArray::from(vec![council; batch.num_rows()])),
        )];
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            columns.push((field.name().clone(), Arc::clone(column)));
        }
        united.push(
            RecordBatch::try_from_iter_with_nullable(
                columns.into_iter().map(|(n, c)| (n, c, true)),
            )
            .unwrap(),
        );
    }
    for (name, batches) in [("readings", united), ("streets", vec![streets()])] {
        let table = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    context
}

const QUESTIONS: &[&str] = &[
    "select count(*), count(flow), sum(flow), min(flow), max(flow), avg(flow) from READINGS",
    "select sum(cost), avg(cost), min(cost), max(cost) from READINGS",
    "select ward, avg(cost), avg(speed), sum(speed), count(*) filter (where wet) from READINGS group by ward",
    "select council, ward, sum(flow) from READINGS group by council, ward having sum(flow) > 1000",
    "select ward, count(distinct street), count(distinct day) from READINGS group by ward",
    "select ward, sum(distinct flow) from READINGS group by ward",
    "select ward, median(flow), stddev(speed) is not null from READINGS group by ward",
    "select bool_and(wet), bool_or(wet), bit_and(flow), bit_or(flow) from READINGS",
    "select date_trunc('month', day), sum(flow) from READINGS group by 1",
    "select upper(ward) || '!', min(day), max(day) from READINGS where flow > 500 group by upper(ward)",
    "select count(*) from READINGS where council <> 'ashford' and ward = 'W1'",
    "select count(*) from READINGS where council = 'nowhere'",
    "select ward, sum(flow) from READINGS where council = 'nowhere' group by ward",
    "select distinct ward, wet from READINGS",
    "select distinct council from READINGS",
    "select council, street, flow from READINGS order by flow desc nulls last, council, street nulls last limit 7",
    "select council, flow + 1 as f from READINGS where flow is not null order by f, council limit 5 offset 3",
    "select ward, grouping(ward), count(*) from READINGS group by rollup (ward)",
    "select council, ward, count(*) from READINGS group by grouping sets ((council), (ward), ())",
    "select s.class, sum(r.flow) from READINGS r join STREETS s on r.street = s.street group by s.class",
    "select s.name, count(r.flow) from STREETS s left join READINGS r on r.street = s.street and r.flow > 900 group by s.name",
    "select count(*), count(s.name) from READINGS r left join STREETS s on r.street = s.street",
    "select count(*) from READINGS r where exists (select 1 from STREETS s where s.street = r.street and s.class = 'A')",
    "select count(*) from READINGS r where not exists (select 1 from STREETS s where s.street = r.street and s.class = 'A')",
    "select count(*) from READINGS r where r.street not in (select s.street from STREETS s where s.class = 'A')",
    "select count(*) from STREETS where street not in (select street from READINGS)",
    "select count(*) from READINGS where flow > (select avg(flow) from READINGS)",
    "select ward, count(*) from READINGS r where flow = (select max(flow) from READINGS i where i.ward = r.ward) group by ward",
    "select council, ward, flow, rank() over (partition by ward order by flow desc, council) as place from READINGS where flow > 950",
    "select ward, sum(f) from (select ward, max(flow) as f from READINGS group by ward, council) group by ward",
    "with busy as (select street, sum(flow) as f from READINGS group by street) select s.name, b.f from busy b join STREETS s on s.street = b.street where b.f > 5000",
    "select a.ward, count(*) from READINGS a join READINGS b on a.street = b.street and a.day = b.day and a.council < b.council group by a.ward",
    "select ward from READINGS where flow > 990 union select class from STREETS",
    "select ward from READINGS where flow > 990 intersect select ward from READINGS where wet",
    "select ward from READINGS except select ward from READINGS where flow < 300",
    "select case when flow > 500 then 'busy' else 'quiet' end as kind, count(*) from READINGS group by 1",
    "select count(*) from READINGS where ward like 'W%' and street between 3 and 9 and day in (date '2022-01-10', date '2022-01-12')",
    "select coalesce(ward, 'none') as w, sum(coalesce(flow, 0)) from READINGS group by coalesce(ward, 'none')",
    "select 1 from READINGS limit 2",
    "select count(*) from (select * from READINGS limit 10)",
    "select corr(flow, speed) is null, regr_slope(flow, speed) is null from READINGS",
    "select approx_distinct(street) > 10 from READINGS",
    "select max(council), min(council) from READINGS",
    "select string_agg(name, ',' order by name) from STREETS where class = 'B'",
    "select first_value(name order by street) from STREETS",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_city_answers_as_one_engine_does() {
    let city = city();
    let engine = one_engine().await;
    for question in QUESTIONS {
        let there = question
            .replace("READINGS", "city.highways.readings")
            .replace("STREETS", "northmoor.geography.streets");
        let here = question
            .replace("READINGS", "readings")
            .replace("STREETS", "streets");
        let mut answer = city.ask(&there).await;
        let batches = engine.sql(&here).await.unwrap().collect().await.unwrap();
        let mut expected = rows_of(&batches);
        answer.sort();
        expected.sort();
        assert_eq!(answer, expected, "{question}");
    }
}
