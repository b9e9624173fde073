//! Workers that are away, that die, and questions that nobody wants any more.

use super::tpch::fill;
use super::*;
use crate::fleet::WorkerLost;
use datafusion::error::DataFusionError;
use futures::TryStreamExt as _;

/// Rows in hundreds of millions, all weighed against one another: work for minutes.
const LONG: &str = "SELECT count(*) FROM lineitem a, lineitem b, orders c
    WHERE a.l_orderkey + b.l_orderkey * c.o_orderkey = 7 GROUP BY a.l_suppkey";
const SHORT: &str = "SELECT l_returnflag, count(*) AS n FROM lineitem GROUP BY l_returnflag";

async fn department() -> (Department, (SessionContext, Vec<Reading>)) {
    let department = Department::with_workers(3).await;
    let tables = ["lineitem", "orders"];
    fill(&department, &tables).await;
    let session = department.session(&tables).await;
    (department, session)
}

async fn rows(rows: SendableRecordBatchStream) -> usize {
    let batches: Vec<_> = rows.try_collect().await.unwrap();
    batches.iter().map(|b| b.num_rows()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_away_is_done_without_and_none_at_all_is_said() {
    let (mut department, session) = department().await;
    let fleet = department.fleet();
    department.workers[0].running.take().unwrap().kill().await;
    let answer = department.start(&fleet, &session, SHORT).await.unwrap();
    assert_eq!(rows(answer).await, 3);
    assert_eq!(
        department.loans(),
        BTreeMap::from([("w1", 0), ("w2", 1), ("w3", 1)])
    );
    for worker in &mut department.workers[1..] {
        worker.running.take().unwrap().kill().await;
    }
    let nobody = department.start(&fleet, &session, SHORT).await;
    assert!(matches!(nobody, Err(FleetError::NoneAnswers)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_at_work_fails_the_question_by_name_and_the_next_runs_without_it() {
    let (mut department, session) = department().await;
    let fleet = department.fleet();
    let answer = department.start(&fleet, &session, LONG).await.unwrap();
    for worker in &department.workers {
        worker.holds(1).await;
    }
    let waiting = guildhall_telemetry::spawn(answer.try_collect::<Vec<_>>());
    department.workers[1].running.take().unwrap().kill().await;
    let failed = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let error = failed.unwrap().unwrap().unwrap_err();
    let lost = WorkerLost("spiffe://northmoor/sales/worker/w2".parse().unwrap());
    match error {
        DataFusionError::External(e) => assert_eq!(e.downcast_ref(), Some(&lost)),
        other => panic!("{other}"),
    }
    // The others gave their keys up, and go on.
    department.workers[0].holds(0).await;
    department.workers[2].holds(0).await;
    let answer = department.start(&fleet, &session, SHORT).await.unwrap();
    assert_eq!(rows(answer).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_dropped_leaves_no_key_and_no_work_at_any_worker() {
    let (department, session) = department().await;
    let fleet = department.fleet();
    let mut answer = department.start(&fleet, &session, LONG).await.unwrap();
    // It is at work: it has not ended by the time that all workers hold keys.
    let polled = futures::poll!(futures::StreamExt::next(&mut answer));
    assert!(polled.is_pending());
    for worker in &department.workers {
        worker.holds(1).await;
    }
    drop(answer);
    for worker in &department.workers {
        worker.holds(0).await;
        let idle = async {
            while worker.running.as_ref().unwrap().reserved() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), idle)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_too_small_to_share_stays_at_the_node() {
    let (department, session) = department().await;
    let running = department.workers.iter();
    let pinned = running.map(|w| (w.name.as_str(), w.address()));
    let fleet = department.fleet_with(1_000_000, pinned);
    let answer = department.start(&fleet, &session, SHORT).await.unwrap();
    assert_eq!(rows(answer).await, 3);
    assert!(department.loans().values().all(|n| *n == 0));
}

#[tokio::test]
async fn what_operators_count_is_not_collected() {
    let (department, (context, readings)) = department().await;
    let (grant, envelope) = department.signed(&department.grant());
    let question = Question {
        grant: &grant,
        envelope: &envelope,
        readings: &readings,
    };
    let plan = context
        .sql(SHORT)
        .await
        .unwrap()
        .into_optimized_plan()
        .unwrap();
    let workers = ["worker://w1@a.example:1", "worker://w2@b.example:1"];
    let workers = workers.map(|w| w.parse().unwrap()).to_vec();
    let fleet = department.fleet();
    let dealt = fleet
        .deal(&context.state(), &plan, &question, workers)
        .await
        .unwrap();
    assert!(dealt.is_for_workers());
    let config = dealt.state.config();
    let config = datafusion_distributed::DistributedConfig::from_session_config(config).unwrap();
    assert!(!config.collect_metrics);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_worker_can_do_stays_at_the_node_and_nobody_borrows_for_it() {
    let department = Department::with_workers(2).await;
    fill(&department, &["nation"]).await;
    let session = department.session(&["nation"]).await;
    let sql = "SELECT count(*) FROM nation WHERE n_regionkey > 2";
    let answer = department
        .start(&department.fleet(), &session, sql)
        .await
        .unwrap();
    assert_eq!(rows(answer).await, 1);
    assert_eq!(department.loans(), BTreeMap::from([("w1", 0), ("w2", 0)]));
}
