//! What a scan skips, how its work is dealt, and what the planner is told.

use super::is_one_of;
use crate::Mode;
use crate::table::*;
use crate::testing::{Department, PERMITS, ask, permits, session};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;

#[tokio::test]
async fn row_groups_are_pruned_by_their_statistics_on_encrypted_parts() {
    let department = big().await;
    let dataset = department.open().await.unwrap();
    let lent = department.lend(&dataset, |k| is_one_of(k, &["ward"]));
    let context = session(dataset, lent, 2);
    let sql = "SELECT ward FROM permits WHERE ward = 'Ward 0'";
    let (rows, plan) = run(&context, sql).await;
    assert_eq!(rows, BIG / 10);
    assert_eq!(
        scanned(&plan),
        crate::part::ROW_GROUP_ROWS,
        "one row group of three"
    );
}

#[tokio::test]
async fn every_partition_gets_work_when_the_first_column_is_not_lent() {
    let department = big().await;
    let dataset = department.open().await.unwrap();
    assert_eq!(dataset.schema().field(0).name(), "ward");
    let lent = department.lend(&dataset, |k| is_one_of(k, &["paid_pence"]));
    let context = session(dataset, lent, 3);
    let frame = context.sql("SELECT paid_pence FROM permits").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let partitions = plan.properties().output_partitioning().partition_count();
    assert_eq!(partitions, 3, "{}", displayable(plan.as_ref()).indent(true));
    let mut rows = vec![];
    for partition in 0..partitions {
        // One after the other, so none can take another's share.
        let context = no_stealing(&context);
        let stream = plan.execute(partition, context).unwrap();
        let batches = datafusion::physical_plan::common::collect(stream)
            .await
            .unwrap();
        rows.push(batches.iter().map(|b| b.num_rows()).sum::<usize>());
    }
    assert_eq!(rows.iter().sum::<usize>(), BIG);
    assert!(rows.iter().all(|n| *n >= BIG / 6), "{rows:?}");
}

#[tokio::test]
async fn views_give_the_same_answers() {
    let department = Department::new();
    department
        .import(&permits(1000), Mode::Replace)
        .await
        .unwrap();
    let sql = "SELECT ward, count(*) AS n, max(holder) AS last FROM permits WHERE ward < 'Ward 5' GROUP BY 1 ORDER BY 1";
    let plain = ask(&department.session().await.unwrap(), sql)
        .await
        .unwrap();
    let dataset = Arc::new(department.open().await.unwrap());
    let lent = department.lend(&dataset, |_| true);
    let context = SessionContext::new();
    let table = SealedTable::new(dataset, lent).with_view_types();
    assert_eq!(*table.schema().field(0).data_type(), DataType::Utf8View);
    context.register_table("permits", Arc::new(table)).unwrap();
    assert_eq!(ask(&context, sql).await.unwrap(), plain);
}

#[tokio::test]
async fn the_planner_is_told_rows_and_bounds_of_the_columns_that_are_read() {
    let department = Department::new();
    department
        .import(&permits(1000), Mode::Replace)
        .await
        .unwrap();
    let context = department.session().await.unwrap();
    let frame = context.sql("SELECT paid_pence FROM permits").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let context = StatisticsContext::new();
    let statistics = context
        .compute(plan.as_ref(), &StatisticsArgs::new())
        .unwrap();
    assert_eq!(statistics.num_rows, Precision::Exact(1000));
    let paid = &statistics.column_statistics[0];
    assert_eq!(paid.max_value.get_value().unwrap().to_string(), "9990");
    assert_eq!(paid.null_count, Precision::Exact(0));
}

#[test]
fn row_groups_are_dealt_evenly_and_whole() {
    for (parts, partitions) in [
        (vec![vec![100; 24]], 2),
        (vec![vec![100; 16], vec![100; 7], vec![3]], 4),
        (vec![vec![5]], 8),
        (vec![vec![1, 1, 1000, 1, 1], vec![7; 3]], 3),
        (vec![vec![0], vec![]], 2),
    ] {
        let slices: Vec<&[u64]> = parts.iter().map(Vec::as_slice).collect();
        let shares = deal(&slices, partitions);
        assert!(shares.len() <= partitions);
        let mut dealt: Vec<(usize, usize)> = shares
            .iter()
            .flatten()
            .flat_map(|p| p.row_groups.clone().map(|g| (p.part, g)))
            .collect();
        dealt.sort_unstable();
        let all: Vec<(usize, usize)> = parts
            .iter()
            .enumerate()
            .flat_map(|(p, g)| (0..g.len()).map(move |g| (p, g)))
            .collect();
        assert_eq!(dealt, all, "{parts:?} over {partitions}");
    }
    let shares = deal(&[&[100; 24]], 2);
    let rows: Vec<u64> = shares
        .iter()
        .map(|s| s.iter().map(|p| p.rows).sum())
        .collect();
    assert_eq!(rows, [1200, 1200]);
}

const BIG: usize = 700_000;

/// Three row groups.
async fn big() -> Department {
    let department = Department::new();
    let spec = department.spec(PERMITS, &permits(BIG));
    department
        .import_spec(&spec, Mode::Replace, None, &department.storage)
        .await
        .unwrap();
    department
}

async fn run(context: &SessionContext, sql: &str) -> (usize, Arc<dyn ExecutionPlan>) {
    let plan = context
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let batches = collect(Arc::clone(&plan), context.task_ctx())
        .await
        .unwrap();
    (batches.iter().map(|b| b.num_rows()).sum(), plan)
}

/// The rows that the scan below a plan gave out.
fn scanned(plan: &Arc<dyn ExecutionPlan>) -> usize {
    match plan.children().first() {
        Some(child) => scanned(child),
        None => plan.metrics().unwrap().output_rows().unwrap(),
    }
}

fn no_stealing(context: &SessionContext) -> Arc<datafusion::execution::TaskContext> {
    let mut config = context.copied_config();
    config
        .options_mut()
        .execution
        .enable_file_stream_work_stealing = false;
    let task = context.task_ctx();
    Arc::new(
        datafusion::execution::TaskContext::default()
            .with_session_config(config)
            .with_runtime(task.runtime_env()),
    )
}
