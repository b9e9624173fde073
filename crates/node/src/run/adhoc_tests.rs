//! Free questions on real encrypted files, charged to a budget that the test keeps.

use crate::testing::{TestNode, refused, table};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::logical_expr::LogicalPlan;
use guildhall_model::OutputClass;
use std::sync::atomic::Ordering;
use tonic::{Code, Status};

/// Budgets of one purpose; a question costs as much as the product lets it.
pub(super) fn product(per_query: &str, cells_per_unit: u32) -> String {
    let text = crate::product::SESSIONS
        .replace("name = \"sessions\"", "name = \"stays\"")
        .replace(
            "column = \"ward\"",
            "column = \"ward\"\nvalues = [\"Kinson\", \"Boscombe\", \"Moordown\"]",
        );
    format!(
        "{text}\n[[budget]]\npurpose = \"transport_planning\"\nrho = 5\nperiod = \"quarter\"\n\
         per_query = {per_query}\ncells_per_unit = {cells_per_unit}\n"
    )
}

/// The parking department with a product that has a budget.
async fn node(per_query: &str, cells_per_unit: u32) -> TestNode {
    let mut node = TestNode::parking().await;
    node.publish(&product(per_query, cells_per_unit))
        .await
        .unwrap();
    node
}

pub(super) const STAYS: &str = "northmoor.parking.stays";

pub(super) async fn asked(node: &TestNode, sql: &str) -> Result<RecordBatch, Status> {
    let fragment = node.fragment(sql).await;
    let grant = node.grant(&fragment, OutputClass::ReleasedCells);
    node.send(&grant, &fragment).await
}

/// Why `sql` is refused to a gateway that sends it whatever it asks.
async fn forced(node: &TestNode, sql: &str) -> (Code, String) {
    let plan = node.plan(sql).await;
    let mut aggregate = &plan;
    while let LogicalPlan::Projection(p) = aggregate {
        aggregate = p.input.as_ref();
    }
    let fragment = guildhall_plan::profile::encode(aggregate, &node.gateway()).unwrap();
    let grant = node.grant(&fragment, OutputClass::ReleasedCells);
    refused(node.send(&grant, &fragment).await)
}

fn count(predicate: &str) -> String {
    format!("SELECT count(*) AS n FROM {STAYS} WHERE {predicate}")
}

pub(super) fn numbers(batch: &RecordBatch, column: usize) -> Vec<i64> {
    batch
        .column(column)
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

pub(super) fn debits(node: &TestNode) -> usize {
    node.authority.debited.lock().unwrap().len()
}

#[tokio::test]
async fn the_same_question_has_the_same_answer_and_is_charged_once() {
    let node = node("0.001", 1).await;
    let sql = count("paid_pence > 100");
    let first = asked(&node, &sql).await.unwrap();
    for again in [
        sql.clone(),
        format!("SELECT count(*) AS m FROM {STAYS} s WHERE s.paid_pence > 100"),
    ] {
        let again = asked(&node, &again).await.unwrap();
        assert_eq!(first.columns(), again.columns());
    }
    assert_eq!(debits(&node), 1);
    asked(&node, &count("paid_pence > 101")).await.unwrap();
    assert_eq!(debits(&node), 2);
    let asked_of = node.authority.debited.lock().unwrap();
    assert!(
        asked_of
            .iter()
            .all(|d| d.nano_rho == 1_000_000 && d.product == "stays")
    );
}

#[tokio::test]
async fn a_node_that_starts_again_answers_as_before() {
    let mut one = node("0.001", 1).await;
    let sql =
        format!("SELECT ward, count(*) AS n FROM {STAYS} WHERE paid_pence > 100 GROUP BY ward");
    let before = asked(&one, &sql).await.unwrap();
    one.runner.patterns = Default::default();
    one.runner.engine = crate::engine::Engine::new(&crate::config::Limits {
        partitions: 3,
        ..Default::default()
    })
    .unwrap();
    assert_eq!(before, asked(&one, &sql).await.unwrap());
    assert_eq!(debits(&one), 1);
    // Another node of the same data has another secret: other draws, and a question of its own.
    one.runner.secret = guildhall_disclosure::NoiseSecret::from_bytes([8; 32]);
    assert_ne!(before, asked(&one, &sql).await.unwrap());
    assert_eq!(debits(&one), 2);
}

#[tokio::test]
async fn new_data_is_another_question() {
    let node = node("0.001", 1).await;
    let sql = count("paid_pence > 100");
    asked(&node, &sql).await.unwrap();
    let csv = crate::testing::sessions();
    node.import(crate::testing::SESSIONS_DATA, &csv)
        .await
        .unwrap();
    asked(&node, &sql).await.unwrap();
    assert_eq!(debits(&node), 2);
}

#[tokio::test]
async fn a_spent_budget_stops_a_question_before_any_key_is_asked_for() {
    let node = node("0.001", 1).await;
    node.authority.budget.store(1_500_000, Ordering::SeqCst);
    let paid = count("paid_pence > 100");
    asked(&node, &paid).await.unwrap();
    let keys = node.authority.columns_asked();
    let (code, text) = refused(asked(&node, &count("paid_pence > 7654321")).await);
    assert_eq!(
        (code, text.as_str()),
        (Code::ResourceExhausted, "the privacy budget is spent")
    );
    assert_eq!(node.authority.columns_asked(), keys);
    let log = node.runner.log.records().unwrap();
    let last = String::from_utf8(log.last().unwrap().bytes.clone()).unwrap();
    assert!(
        last.contains("\"debit\"") && last.contains("\"forbid\""),
        "{last}"
    );
    assert!(!last.contains("7654321"), "{last}");
    // What was paid for is still answered.
    asked(&node, &paid).await.unwrap();
}

#[tokio::test]
async fn an_authority_that_is_away_charges_nothing_and_nothing_is_answered() {
    let node = node("0.001", 1).await;
    let fragment = node.fragment(&count("paid_pence > 100")).await;
    let grant = node.grant(&fragment, OutputClass::ReleasedCells);
    node.authority.away.store(true, Ordering::SeqCst);
    let (code, _) = refused(node.send(&grant, &fragment).await);
    assert_eq!(code, Code::Unavailable);
    assert!(node.authority.columns_asked().is_empty());
}

#[tokio::test]
async fn a_department_that_forbids_is_not_charged() {
    let policy = format!(
        "{}\n@id(\"not-for-ana\") forbid (principal == Principal::\"northmoor/ana\", action, resource);",
        guildhall_policy::DEFAULT_DEPARTMENT_POLICY
    );
    let mut node = TestNode::with_policy(&policy);
    node.fill().await;
    node.publish(&product("0.001", 1)).await.unwrap();
    let (code, _) = refused(asked(&node, &count("paid_pence > 100")).await);
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(debits(&node), 0);
}

#[tokio::test]
async fn without_a_budget_for_the_purpose_a_free_question_is_refused_as_the_cube_does() {
    let node = node("0.001", 1).await;
    // A gateway that writes the free question for a product without a budget.
    let with = node.fragment(&count("paid_pence > 100")).await;
    let sql = "SELECT count(*) AS n FROM northmoor.parking.sessions WHERE paid_pence > 100";
    let (code, text) = forced(&node, sql).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(
        text.contains("(rule `cube.predicate`)") && !text.contains("adhoc"),
        "{text}"
    );
    let mut grant = node.grant(&with, OutputClass::ReleasedCells);
    grant.purpose = "fraud_detection".parse().unwrap();
    let (code, text) = refused(node.send(&grant, &with).await);
    assert_eq!(code, Code::PermissionDenied, "{text}");
    assert_eq!(debits(&node), 0);
    assert!(node.authority.columns_asked().is_empty());
}

#[tokio::test]
async fn what_the_lane_does_not_take_is_refused_before_it_costs() {
    let node = node("0.001", 1).await;
    for (told, predicate, rule) in [
        ("count(*)", "vehicle = 'K0'", "adhoc.identifier"),
        (
            "count(*)",
            "left(vehicle, 1) = 'K' OR paid_pence > 1",
            "adhoc.identifier",
        ),
        ("count(*)", "started < now()", "adhoc.function"),
        ("max(paid_pence)", "paid_pence > 1", "adhoc.cells"),
        (
            "sum(paid_pence * paid_pence)",
            "paid_pence > 1",
            "adhoc.cells",
        ),
    ] {
        let sql = format!("SELECT {told} AS n FROM {STAYS} WHERE {predicate}");
        let (code, text) = forced(&node, &sql).await;
        assert_eq!(code, Code::PermissionDenied, "{text}");
        assert!(text.contains("(rule `cube."), "{text}");
        assert!(text.contains(&format!("(rule `{rule}`)")), "{text}");
    }
    assert_eq!(debits(&node), 0);
    assert!(node.authority.columns_asked().is_empty());
}

#[tokio::test]
async fn the_truth_is_told_within_the_noise_and_every_registered_cell_is_there() {
    // Rho 1 for a count of units: sigma below 1.
    let node = node("1", 2).await;
    let sql = format!(
        "SELECT ward, count(DISTINCT vehicle) AS n FROM {STAYS} WHERE paid_pence >= 100 GROUP BY ward"
    );
    let batch = asked(&node, &sql).await.unwrap();
    let wards: Vec<_> = batch
        .column(0)
        .as_string::<i32>()
        .iter()
        .flatten()
        .collect();
    assert_eq!(wards, ["Kinson", "Boscombe", "Moordown"]);
    for (told, truth) in numbers(&batch, 1).iter().zip([12, 9, 0]) {
        assert!((told - truth).abs() <= 8, "{}", table(&batch));
    }
    // K0 paid 50200, which counts as 5000; the eleven others 1366. Half of rho 1 gives a total a sigma of 5000.
    let sql = format!(
        "SELECT sum(paid_pence) AS s, avg(paid_pence) AS a FROM {STAYS} WHERE ward LIKE 'K%'"
    );
    let batch = asked(&node, &sql).await.unwrap();
    let sum = numbers(&batch, 0)[0];
    assert!((sum - 6366).abs() < 6 * 5000, "{}", table(&batch));
    let rule = &batch.schema().field(0).metadata()["guildhall.rule"].clone();
    assert_eq!(rule, "differential-privacy;rho=1");
}

#[tokio::test]
async fn rows_and_totals_of_one_unit_count_for_as_much_as_the_product_lets_them() {
    let mut node = TestNode::parking().await;
    let text = product("1", 1).replace("max_rows_per_unit = 60", "max_rows_per_unit = 3");
    node.publish(&text.replace("upper = 5000", "upper = 150"))
        .await
        .unwrap();
    // K0 has 52 of Kinson's rows, which count as 3; the other eleven have two each. Its 50200 count as 150, as do the
    // 201 and 202 of two others; the rest comes to 963.
    let sql =
        format!("SELECT count(*) AS n, sum(paid_pence) AS s FROM {STAYS} WHERE ward LIKE 'K%'");
    let batch = asked(&node, &sql).await.unwrap();
    // Half of rho 1 each: a sigma of 3 for rows, and of 150 for pence.
    let (rows, pence) = (numbers(&batch, 0)[0], numbers(&batch, 1)[0]);
    assert!((rows - 25).abs() <= 18, "{}", table(&batch));
    assert!((pence - (3 * 150 + 963)).abs() <= 900, "{}", table(&batch));
}

#[tokio::test]
async fn what_a_gateway_tells_before_is_what_the_gate_tells() {
    let node = node("0.0000011", 3).await;
    let asked_for = "ward, count(DISTINCT vehicle), sum(paid_pence), count(*), count(paid_pence), \
                     avg(paid_pence)";
    for sql in [
        format!(
            "SELECT {asked_for} FROM {STAYS} WHERE started > TIMESTAMP '2026-01-01' GROUP BY ward"
        ),
        format!("SELECT sum(paid_pence), count(*) FROM {STAYS} WHERE paid_pence > 1"),
        format!("SELECT {asked_for} FROM {STAYS} GROUP BY ward"),
    ] {
        let batch = asked(&node, &sql).await.unwrap();
        let told = node.told(&sql).await;
        assert_eq!(told.len(), batch.num_columns());
        for (field, told) in batch.schema().fields().iter().zip(told) {
            assert_eq!(*field.metadata(), told.into_iter().collect(), "{field:?}");
        }
    }
}

#[tokio::test]
async fn companions_of_a_free_question_are_not_charged_and_change_no_value() {
    let mut node = node("0.001", 1).await;
    let sql = format!(
        "SELECT ward, count(*) AS n, avg(paid_pence) AS a FROM {STAYS} WHERE paid_pence > 1 GROUP BY ward"
    );
    let without = asked(&node, &sql).await.unwrap();
    node.cell_status = true;
    let with = asked(&node, &sql).await.unwrap();
    assert_eq!(debits(&node), 1);
    assert_eq!(with.project(&[0, 1, 3]).unwrap(), without);
    let schema = with.schema();
    for at in [2, 4] {
        let name = schema.field(at - 1).name();
        assert_eq!(*schema.field(at).name(), format!("{name}_status"));
    }
    assert!(
        with.column(2)
            .as_string::<i32>()
            .iter()
            .all(|s| s == Some("perturbed"))
    );
    let means = with.column(4).as_string::<i32>().iter().enumerate();
    for (row, status) in means {
        let told = if with.column(3).is_null(row) {
            "undefined"
        } else {
            "perturbed"
        };
        assert_eq!(status, Some(told));
    }
}

/// 40 vehicles with one stay in each of five wards.
async fn wandering(cells_per_unit: u32) -> TestNode {
    let mut node = TestNode::parking().await;
    let wards = ["A", "B", "C", "D", "E"];
    let places: String = wards.iter().map(|w| format!("P{w},{w},1\n")).collect();
    node.import(
        crate::testing::CAR_PARKS,
        &format!("car_park,ward,spaces\n{places}"),
    )
    .await
    .unwrap();
    let stays: String = (0..40)
        .flat_map(|v| wards.map(|w| format!("V{v},P{w},2026-02-01 10:00:00,100,0.1,canary\n")))
        .collect();
    let csv = format!("vehicle,car_park,started,paid_pence,hours,notes\n{stays}");
    node.import(crate::testing::SESSIONS_DATA, &csv)
        .await
        .unwrap();
    let text = product("1", cells_per_unit).replace(
        "[\"Kinson\", \"Boscombe\", \"Moordown\"]",
        "[\"A\", \"B\", \"C\", \"D\", \"E\"]",
    );
    node.publish(&text).await.unwrap();
    node
}

#[tokio::test]
async fn a_unit_in_five_cells_counts_in_as_many_as_its_policy_lets_it() {
    for (cells, truth) in [(1, 40), (2, 80), (5, 200), (9, 200)] {
        let node = wandering(cells).await;
        let sql = format!(
            "SELECT ward, count(DISTINCT vehicle) AS n FROM {STAYS} WHERE paid_pence > 1 GROUP BY ward"
        );
        let batch = asked(&node, &sql).await.unwrap();
        let all: i64 = numbers(&batch, 1).iter().sum();
        // Five draws of variance c / 2.
        let off = 6.0 * (5.0 * f64::from(cells) / 2.0).sqrt();
        assert!(
            ((all - truth) as f64).abs() < off,
            "{cells}: {}",
            table(&batch)
        );
        // Which cells count differs from unit to unit.
        if cells == 2 {
            assert!(
                numbers(&batch, 1).iter().all(|n| (2..40).contains(n)),
                "{}",
                table(&batch)
            );
        }
    }
}

#[tokio::test]
async fn counts_are_off_by_the_promised_variance() {
    // Rho 0.02 for a count of units: sigma^2 = 1 / 0.04 = 25.
    let mut node = node("0.02", 1).await;
    node.authority.budget.store(u64::MAX, Ordering::SeqCst);
    node.runner.turns = crate::run::Turns::new(4, 4);
    let mut squares = 0.0;
    for draw in 0..200 {
        // The same twelve vehicles each time.
        let sql = format!(
            "SELECT count(DISTINCT vehicle) AS n FROM {STAYS} WHERE ward LIKE 'K%' AND paid_pence > -{}",
            1000 + draw
        );
        let off = numbers(&asked(&node, &sql).await.unwrap(), 0)[0] - 12;
        squares += (off * off) as f64;
    }
    let variance = squares / 200.0;
    assert!((16.0..36.0).contains(&variance), "{variance}");
    assert_eq!(debits(&node), 200);
}

#[tokio::test]
async fn an_expression_that_fails_for_one_row_tells_nothing_of_it() {
    let node = node("1", 1).await;
    for (failing, harmless) in [
        // Minus five is what X paid, and no other.
        (
            "1 / (paid_pence + 5) >= 0",
            "1 / (paid_pence + 7000000) >= 0",
        ),
        (
            "CAST(ward AS BIGINT) > 0 OR paid_pence > 0",
            "paid_pence > 0",
        ),
        ("factorial(paid_pence) > 0", "abs(paid_pence) > 0"),
        ("chr(paid_pence) = 'd'", "paid_pence = 100"),
        (
            "ward ~ CASE WHEN paid_pence < 0 THEN '(' ELSE 'K' END",
            "ward ~ 'K'",
        ),
        (
            "CAST(paid_pence AS DECIMAL(38, 0)) * CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) > 0",
            "paid_pence > 0",
        ),
        (
            "to_timestamp(ward) > started OR paid_pence > 0",
            "paid_pence > 0",
        ),
    ] {
        for predicate in [failing, harmless] {
            let sql = format!("SELECT count(DISTINCT vehicle) AS n FROM {STAYS} WHERE {predicate}");
            let batch = asked(&node, &sql).await;
            let batch = batch.unwrap_or_else(|e| panic!("{predicate}: {e}"));
            assert!(batch.column(0).is_valid(0), "{predicate}");
        }
    }
    let sql =
        format!("SELECT count(DISTINCT vehicle) AS n FROM {STAYS} WHERE chr(paid_pence) = 'd'");
    // Those who paid 100, whatever the others: K0, B0, and K0 to K2 in January.
    let n = numbers(&asked(&node, &sql).await.unwrap(), 0)[0];
    assert!((n - 4).abs() <= 8, "{n}");
}

#[tokio::test]
async fn a_budget_that_cannot_bear_the_question_is_not_charged() {
    let node = node("0.000000001", 1).await;
    let sql =
        format!("SELECT count(*) AS n, sum(paid_pence) AS s FROM {STAYS} WHERE paid_pence > 1");
    let (code, text) = refused(asked(&node, &sql).await);
    assert_eq!(code, Code::FailedPrecondition, "{text}");
    assert_eq!(debits(&node), 0);
}
