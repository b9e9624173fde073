//! What is told of wrong statements, and small things that run at the gateway alone.

use super::*;
use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::common::ScalarValue;

fn city() -> City {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        (
            "name",
            Arc::new(StringArray::from(vec![Some("a"), None, Some("c")])),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    City::of(vec![Given::open("northmoor.parking.meters", vec![batch])])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_product_is_named_as_it_was_written() {
    let city = city();
    for name in [
        "northmoor.parking.secrets",
        "northmoor.housing.meters",
        "nowhere.a.b",
        "meters",
    ] {
        let error = city.refusal(&format!("select * from {name}")).await;
        assert_eq!(error.kind(), PlanErrorKind::NotFound);
        assert_eq!(error.to_string(), format!("no product `{name}`"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_column_is_told_with_those_there_are() {
    let error = city()
        .refusal("select nam from northmoor.parking.meters")
        .await;
    assert_eq!(error.kind(), PlanErrorKind::InvalidArgument);
    assert_eq!(error.to_string(), "no column `nam`; there are `id`, `name`");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_repeats_a_literal() {
    let city = city();
    for sql in [
        "select 'Jane Doe' + interval '1 day' from northmoor.parking.meters",
        "select * from northmoor.parking.meters where name > date 'Jane Doe'",
        "select cast('Jane Doe' as int)",
        "select date_trunc('Jane Doe', now())",
        "select nosuch('Jane Doe')",
        "select * from northmoor.parking.meters where id in ('Jane Doe', 1) and nosuch = 1",
    ] {
        let statement = guard(sql, &StatementLimits::default());
        let Ok(statement) = statement else { continue };
        let told = match city.planner.plan(&statement, &city.catalogue, None).await {
            Err(error) => error.to_string(),
            Ok(plan) => {
                let runner = Arc::clone(&city.nodes) as Arc<dyn FragmentRunner>;
                match plan.execute(runner, ExecuteLimits::default()).await {
                    Err(error) => error.to_string(),
                    Ok(stream) => match stream.try_collect::<Vec<_>>().await {
                        Err(error) => PlanError::running(error).to_string(),
                        Ok(_) => String::new(),
                    },
                }
            }
        };
        assert!(!told.contains("Jane"), "{sql}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn literals_alone_are_answered_by_the_gateway() {
    let city = city();
    assert_eq!(city.ask("select 1 as one, 'x' as x").await, ["1 | x"]);
    assert_eq!(city.traffic().0, 0);
    assert_eq!(
        city.ask("select * from (values (1), (2)) v(a) order by a desc")
            .await,
        ["2", "1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn information_schema_shows_what_is_visible_and_no_setting() {
    let city = city();
    let tables = city
        .ask("select table_catalog, table_schema, table_name from information_schema.tables order by 1, 2, 3")
        .await;
    assert_eq!(
        tables,
        [
            "city | guildhall | budget",
            "city | guildhall | refusals",
            "northmoor | parking | meters",
        ]
    );
    let columns = city
        .ask("select column_name, data_type from northmoor.information_schema.columns where table_name = 'meters' order by ordinal_position")
        .await;
    assert_eq!(columns, ["id | Int64", "name | Utf8"]);
    assert_eq!(city.ask("show tables").await.len(), 3);
    assert_eq!(
        city.ask("show columns from northmoor.parking.meters")
            .await
            .len(),
        2
    );
    let error = city
        .refusal("select * from information_schema.df_settings")
        .await;
    assert_eq!(error.kind(), PlanErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_typed_by_their_use_and_bound() {
    let city = city();
    let sql = "select name from northmoor.parking.meters where id = ? and name = ?";
    let statement = guard(sql, &StatementLimits::default()).unwrap();
    let prepared = city
        .planner
        .prepare(&statement, &city.catalogue)
        .await
        .unwrap();
    let types: Vec<&DataType> = prepared
        .parameters
        .fields()
        .iter()
        .map(|f| f.data_type())
        .collect();
    assert_eq!(types, [&DataType::Int64, &DataType::Utf8]);
    let values = ParamValues::from(vec![ScalarValue::from(3_i64), ScalarValue::from("c")]);
    let plan = city
        .planner
        .plan(&statement, &city.catalogue, Some(values))
        .await
        .unwrap();
    assert_eq!(plan.wire_schema(), &prepared.schema);
    assert_eq!(rows_of(&city.run(&plan).await), ["c"]);
    let error = city
        .planner
        .plan(&statement, &city.catalogue, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::InvalidArgument);
    let nulls = ParamValues::from(vec![ScalarValue::Int64(None), ScalarValue::Utf8(None)]);
    let plan = city
        .planner
        .plan(&statement, &city.catalogue, Some(nulls))
        .await
        .unwrap();
    assert!(rows_of(&city.run(&plan).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_schema_is_the_one_that_is_sent() {
    let city = city();
    for sql in [
        "select count(*), max(name), sum(id) / 2 from northmoor.parking.meters",
        "select id + 1 as a, upper(name) as b from northmoor.parking.meters where id > 1",
        "select 1, null, 'x', now()",
    ] {
        let statement = guard(sql, &StatementLimits::default()).unwrap();
        let prepared = city
            .planner
            .prepare(&statement, &city.catalogue)
            .await
            .unwrap();
        let plan = city.plan(sql).await.unwrap();
        assert_eq!(plan.wire_schema(), &prepared.schema, "{sql}");
        city.run(&plan).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_more_memory_than_it_may_have_is_told_so() {
    let ids = |n: i64| {
        let ids: ArrayRef = Arc::new((0..n).collect::<Int64Array>());
        vec![RecordBatch::try_from_iter([("id", ids)]).unwrap()]
    };
    let city = City::of(vec![
        Given::open("northmoor.parking.meters", ids(1_000)),
        Given::open("southmoor.parking.meters", ids(1_000)),
    ]);
    let plan = city
        .plan("select a.id from northmoor.parking.meters a join southmoor.parking.meters b on a.id = b.id")
        .await
        .unwrap();
    let limits = ExecuteLimits {
        memory: 16,
        ..ExecuteLimits::default()
    };
    let runner = Arc::clone(&city.nodes) as Arc<dyn FragmentRunner>;
    let stream = plan.execute(runner, limits).await.unwrap();
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(PlanError::running(error).kind(), PlanErrorKind::TooMuch);
}
