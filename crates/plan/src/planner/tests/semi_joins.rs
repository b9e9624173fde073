//! Keys of the small side go to the large side's node, where they may.

use super::*;
use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

fn large(rows: i64) -> Vec<RecordBatch> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "key",
            Arc::new((0..rows).map(|i| i % 5_000).collect::<Int64Array>()),
        ),
        ("value", Arc::new((0..rows).collect::<Int64Array>())),
    ];
    vec![RecordBatch::try_from_iter(columns).unwrap()]
}

fn small(rows: i64) -> Vec<RecordBatch> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new((0..rows).collect::<Int64Array>())),
        (
            "kind",
            Arc::new(
                (0..rows)
                    .map(|i| Some(format!("K{}", i % 100)))
                    .collect::<StringArray>(),
            ),
        ),
    ];
    vec![RecordBatch::try_from_iter(columns).unwrap()]
}

const JOIN: &str = "select s.kind, count(*) as n, sum(l.value) as v \
    from northmoor.works.large l join northmoor.streets.small s on l.key = s.id \
    where s.kind = 'K7' group by s.kind";

/// The answer, the rows that travelled, and whether keys did.
async fn asked(small_side: impl FnOnce(Given) -> Given) -> (Vec<String>, usize, bool) {
    let city = City::of(vec![
        Given::open("northmoor.works.large", large(100_000)),
        small_side(Given::open("northmoor.streets.small", small(5_000))),
    ]);
    let answer = city.ask(JOIN).await;
    let keys = city
        .nodes
        .ran
        .lock()
        .unwrap()
        .iter()
        .any(|(_, plan)| plan.contains(".key IN ("));
    (answer, city.traffic().1, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_open_product_narrow_the_large_side() {
    let (answer, rows, keys) = asked(|given| given).await;
    assert_eq!(answer.len(), 1);
    assert!(keys);
    assert!(rows <= 50 + 1_000, "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_restricted_product_stay_where_they_are() {
    let (answer, _, keys) = asked(|mut given| {
        given.product.class = ReleaseClass::Restricted;
        given
    })
    .await;
    assert!(!keys);
    assert_eq!(answer, asked(|given| given).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_that_keys_travel() {
    let city = City::of(vec![
        Given::open("northmoor.works.large", large(100_000)),
        Given::open("northmoor.streets.small", small(5_000)),
    ]);
    let answer = city.ask(&format!("explain {JOIN}")).await;
    let sent: Vec<&String> = answer
        .iter()
        .filter(|r| r.contains("send the keys"))
        .collect();
    assert_eq!(sent.len(), 1, "{answer:#?}");
    assert!(
        sent[0].contains("gateway to spiffe://northmoor/works/node/one | open | key |"),
        "{sent:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_whose_keys_travel_answer_as_one_engine_does() {
    let all = |other: &str| {
        vec![
            Given::open("northmoor.works.large", large(100_000)),
            Given::open(&format!("northmoor.{other}.small"), small(5_000)),
        ]
    };
    let apart = City::of(all("streets"));
    let together = City::of(all("works"));
    for sql in [
        "select count(*), sum(l.value) from northmoor.works.large l join SMALL s on l.key = s.id where s.kind in ('K1', 'K2')",
        "select count(*), count(l.value) from SMALL s left join northmoor.works.large l on l.key = s.id and l.value > 50000 where s.kind = 'K3'",
        "select count(*), count(s.kind) from SMALL s right join northmoor.works.large l on l.key = s.id and s.kind = 'K3'",
        "select count(*), count(s.kind), count(l.key) from SMALL s full join northmoor.works.large l on l.key = s.id and s.kind = 'K3'",
        "select count(*) from SMALL s where s.kind = 'K4' and exists (select 1 from northmoor.works.large l where l.key = s.id and l.value > 99000)",
        "select count(*) from SMALL s where s.kind = 'K4' and not exists (select 1 from northmoor.works.large l where l.key = s.id and l.value > 99000)",
        "select count(*) from SMALL s where s.kind = 'K4' and s.id not in (select l.key from northmoor.works.large l where l.value > 99000)",
        "select count(*) from northmoor.works.large l where l.key in (select s.id from SMALL s where s.kind = 'K5')",
        "select count(*) from northmoor.works.large l where l.key not in (select s.id from SMALL s where s.kind = 'K5')",
        "select count(*), max(l.value) from northmoor.works.large l join SMALL s on l.key = s.id and l.value = s.id * 2 where s.kind = 'K0'",
        "select count(*), max(l.value) from northmoor.works.large l join SMALL s on l.key = s.id and l.value = s.id where s.kind <> 'K0'",
        "select s.kind, g.n from SMALL s join (select key, count(*) as n from northmoor.works.large group by key) g on g.key = s.id where s.kind = 'K6' order by 1, 2",
        "select count(*) from northmoor.works.large l join SMALL s on l.key = s.id where s.kind = 'none'",
        "select count(*) from northmoor.works.large a join SMALL s on a.key = s.id join northmoor.works.large b on b.value = s.id where s.kind = 'K8'",
        "select kind, (select count(*) from northmoor.works.large l where l.key = s.id) as n from SMALL s where s.kind = 'K9' order by n limit 3",
    ] {
        let mut here = together
            .ask(&sql.replace("SMALL", "northmoor.works.small"))
            .await;
        let mut there = apart
            .ask(&sql.replace("SMALL", "northmoor.streets.small"))
            .await;
        here.sort();
        there.sort();
        assert_eq!(there, here, "{sql}");
    }
}

/// A node that answers without end, and tells when it is no longer asked.
#[derive(Debug)]
struct Endless(tokio::sync::mpsc::UnboundedSender<()>);

#[async_trait]
impl FragmentRunner for Endless {
    async fn run(&self, _fragment: &Fragment) -> EngineResult<SendableRecordBatchStream> {
        struct Guard(tokio::sync::mpsc::UnboundedSender<()>);
        impl Drop for Guard {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let batch = large(1_000).remove(0);
        let schema = batch.schema();
        let guard = Guard(self.0.clone());
        let rows = futures::stream::repeat_with(move || {
            let _ = &guard;
            Ok(batch.clone())
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_answer_ends_the_work_of_the_node() {
    let city = City::of(vec![Given::open("northmoor.works.large", large(10))]);
    let plan = city
        .plan("select * from northmoor.works.large")
        .await
        .unwrap();
    let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let mut stream = plan
        .execute(Arc::new(Endless(sender)), ExecuteLimits::default())
        .await
        .unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    assert_eq!(ended.recv().await, Some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sum_by_a_property_of_a_small_table_moves_a_row_for_each_of_its_keys() {
    let city = City::of(vec![
        Given::open("northmoor.works.large", large(100_000)).conforming("large"),
        Given::open("southmoor.works.large", large(50_000)).conforming("large"),
        Given::open("northmoor.streets.small", small(200)),
    ]);
    let together = City::of(vec![
        Given::open("northmoor.works.large", large(100_000)),
        Given::open("northmoor.works.more", large(50_000)),
        Given::open("northmoor.works.small", small(200)),
    ]);
    for (aggregates, groups) in [
        (
            "s.kind, count(*), sum(l.value), avg(l.value), max(l.value)",
            "group by s.kind",
        ),
        ("count(*), min(l.value)", ""),
    ] {
        let question = |from: &str, small: &str| {
            format!(
                "select {aggregates} from {from} l join {small} s on l.key = s.id \
                 where l.value >= 0 {groups} order by 1"
            )
        };
        let answer = city
            .ask(&question("city.works.large", "northmoor.streets.small"))
            .await;
        let (_, rows) = city.traffic();
        assert!(rows <= 10_000 + 200, "{rows}");
        let both =
            "(select * from northmoor.works.large union all select * from northmoor.works.more)";
        assert_eq!(
            answer,
            together.ask(&question(both, "northmoor.works.small")).await
        );
    }
    let none = "select count(*) from city.works.large l join northmoor.streets.small s on l.key = s.id where s.kind = 'none'";
    assert_eq!(city.ask(none).await, ["0"]);
    let by_council = "select council, s.kind, count(*) from city.works.large l join northmoor.streets.small s on l.key = s.id group by council, s.kind having s.kind = 'K1' order by 1";
    assert_eq!(
        city.ask(by_council).await,
        ["northmoor | K1 | 40", "southmoor | K1 | 20"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_askers_own_is_sent_to_no_department() {
    let city = City::of(vec![Given::open("northmoor.works.large", small(100_000))]);
    let answer = city
        .ask("select r.rule, count(*) as n from northmoor.works.large l join guildhall.refusals r on l.kind = r.rule group by r.rule")
        .await;
    assert_eq!(answer, ["K7 | 1000"]);
    let ran = city.nodes.ran.lock().unwrap();
    assert!(ran.iter().all(|(_, plan)| !plan.contains("K7")), "{ran:?}");
}
