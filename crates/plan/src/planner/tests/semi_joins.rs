//! Keys of the small side go to the large side's node, where they may.

use super::*;
use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

fn large(rows: i64) -> Vec<RecordBatch> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new((0..rows).map(|i| i % 5_000).collect::<Int64Array>())),
        ("value", Arc::new((0..rows).collect::<Int64Array>())),
    ];
    vec![RecordBatch::try_from_iter(columns).unwrap()]
}

fn small(rows: i64) -> Vec<RecordBatch> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new((0..rows).collect::<Int64Array>())),
        ("kind", Arc::new((0..rows).map(|i| Some(format!("K{}", i % 100))).collect::<StringArray>())),
    ];
    vec![RecordBatch::try_from_iter(columns).unwrap()]
}

const JOIN: &str = "select s.kind, count(*) as n, sum(l.value) as v \
    from northmoor.works.large l join northmoor.streets.small s on l.key = s.id \
    where s.kind = 'K7' group by s.kind";

async fn rows_asked_for(small_side: impl FnOnce(Given) -> Given) -> (Vec<String>, usize) {
    let city = City::of(vec![
        Given::open("northmoor.works.large", large(100_000)),
        small_side(Given::open("northmoor.streets.small", small(5_000))),
    ]);
    let answer = city.ask(JOIN).await;
    (answer, city.traffic().1)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_open_product_narrow_the_large_side() {
    let (answer, rows) = rows_asked_for(|given| given).await;
    assert_eq!(answer.len(), 1);
    assert!(rows <= 50 + 1_000, "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_restricted_product_stay_where_they_are() {
    let (answer, rows) = rows_asked_for(|mut given| {
        given.product.class = ReleaseClass::Restricted;
        given
    })
    .await;
    let (expected, _) = rows_asked_for(|given| given).await;
    assert_eq!(answer, expected);
    assert!(rows >= 100_000, "{rows}");
}
