//! That nobody can tell an answer from tables that were made for something larger.

use crate::run::{Patterns, Prepared};
use crate::testing::TestNode;
use arrow::array::RecordBatch;
use guildhall_model::{Clock as _, OutputClass};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

const MEMORY: usize = 64 << 20;

const VISITS_DATA: &str = r#"
    dataset = "visits"
    source = "visits.csv"
    [[column]]
    name = "person"
    type = "text"
    [[column]]
    name = "ward"
    type = "text"
    [[column]]
    name = "area"
    type = "text"
    [[column]]
    name = "band"
    type = "text"
    [[column]]
    name = "day"
    type = "date"
    [[column]]
    name = "amount"
    type = "integer"
    [[column]]
    name = "weight"
    type = "float"
"#;

const VISITS: &str = r#"
    name = "visited"
    version = 1
    class = "aggregate"
    purposes = ["transport_planning"]
    view = "SELECT person, ward, area, band, day, amount, weight FROM visits"
    unit = "person"
    minimum_group = 3
    max_rows_per_unit = 4
    [columns]
    person = { class = "identifier" }
    ward = { class = "quasi" }
    area = { class = "quasi" }
    band = { class = "quasi" }
    day = { class = "quasi" }
    amount = { class = "measure" }
    weight = { class = "measure" }
    [[dimension]]
    column = "band"
    values = ["A", "B", "C", "D"]
    roll_ups = [ { name = "low", values = ["A", "B"] } ]
    [[dimension]]
    column = "area"
    [[dimension]]
    column = "day"
    roll_ups = [ { name = "week", date_trunc = "week" }, { name = "month", date_trunc = "month" }, { name = "year", date_trunc = "year" } ]
    [[dimension]]
    column = "ward"
    within = "area"
    [[measure]]
    column = "amount"
    lower = 0
    upper = 500
    [[measure]]
    column = "weight"
    lower = -2
    upper = 9.5
"#;

/// Numbers that look as if they were random, the same every time.
struct Made(u64);

impl Made {
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).unwrap()]
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// So many visits, now of many and now of few: some of nobody, some nowhere, some without a number.
fn visits(made: &mut Made, rows: u64) -> String {
    let mut csv = "person,ward,area,band,day,amount,weight\n".to_owned();
    let (people, wards) = (20 + made.below(60), 2 + made.below(4));
    for _ in 0..rows {
        let ward = made.below(wards).min(made.below(wards));
        let place = match made.below(25) {
            0 => ",".to_owned(),
            _ => format!("W{ward},A{}", ward / 2),
        };
        let person = match made.below(30) {
            0 => String::new(),
            _ => format!("P{}", made.below(people)),
        };
        let band = made.one_of(&["A", "A", "A", "B", "B", "C", "D", ""]);
        let day = format!(
            "202{}-0{}-1{}",
            made.below(2),
            1 + made.below(2),
            made.below(5)
        );
        let amount = match made.below(6) {
            0 => String::new(),
            1 => format!("{}", made.below(900)),
            _ => format!("{}", made.below(40)),
        };
        let weight = format!("{}.{}", made.below(4), made.below(10));
        writeln!(csv, "{person},{place},{band},{day},{amount},{weight}").unwrap();
    }
    csv
}

/// Questions of every lattice within the product's, each with other statistics.
fn questions(made: &mut Made) -> Vec<String> {
    const PLACES: [&str; 4] = ["", "ward", "area", "area, ward"];
    const BANDS: [(&str, &str); 4] = [
        ("", ""),
        ("band", ""),
        ("", "band = 'A'"),
        ("", "band IN ('A', 'B')"),
    ];
    const TIMES: [(&str, &str); 5] = [
        ("", ""),
        ("day", ""),
        ("date_trunc('month', CAST(day AS TIMESTAMP))", ""),
        ("date_trunc('week', CAST(day AS TIMESTAMP))", ""),
        (
            "",
            "date_trunc('month', CAST(day AS TIMESTAMP)) = TIMESTAMP '2021-02-01'",
        ),
    ];
    const TOLD: [&str; 6] = [
        "count(*)",
        "count(DISTINCT person), sum(amount)",
        "avg(weight), count(*)",
        "sum(weight), avg(amount), count(amount)",
        "count(DISTINCT person)",
        "sum(amount), sum(weight), count(*)",
    ];
    let mut questions = Vec::new();
    for place in PLACES {
        for (band, first) in BANDS {
            for (time, second) in TIMES {
                let keys: Vec<&str> = [place, band, time]
                    .into_iter()
                    .filter(|k| !k.is_empty())
                    .collect();
                let limits: Vec<&str> = [first, second]
                    .into_iter()
                    .filter(|l| !l.is_empty())
                    .collect();
                let keys = keys.join(", ");
                let mut sql = match keys.as_str() {
                    "" => "SELECT ".to_owned(),
                    keys => format!("SELECT {keys}, "),
                };
                sql += made.one_of(&TOLD);
                sql += " FROM northmoor.parking.visited";
                if !limits.is_empty() {
                    write!(sql, " WHERE {}", limits.join(" AND ")).unwrap();
                }
                if !keys.is_empty() {
                    write!(sql, " GROUP BY {keys}").unwrap();
                }
                questions.push(sql);
            }
        }
    }
    questions
}

async fn node(made: &mut Made, rows: u64) -> TestNode {
    let mut node = TestNode::new();
    node.import(VISITS_DATA, &visits(made, rows)).await.unwrap();
    let group = 2 + made.below(4);
    let product = VISITS.replace("minimum_group = 3", &format!("minimum_group = {group}"));
    node.publish(&product).await.unwrap();
    node.cell_status = true;
    node
}

async fn asked(node: &TestNode, sql: &str) -> RecordBatch {
    let fragment = node.fragment(sql).await;
    let grant = node.grant(&fragment, OutputClass::ReleasedCells);
    node.send(&grant, &fragment)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
}

async fn prepare(node: &TestNode, memory: usize) -> Prepared {
    let name = "visited".parse().unwrap();
    let served = node.runner.products.serve(&name, 1).await.unwrap();
    node.runner.prepare(&served, memory).await.unwrap()
}

/// Asks each question of a node that knows nothing yet.
async fn alone(node: &mut TestNode, questions: &[String]) -> Vec<RecordBatch> {
    let mut answers = Vec::new();
    for sql in questions {
        node.runner.patterns = Arc::default();
        answers.push(asked(node, sql).await);
    }
    node.runner.patterns = Arc::default();
    answers
}

#[tokio::test]
async fn an_answer_does_not_depend_on_what_was_prepared_or_asked_before() {
    let (mut told, mut withheld) = (0, 0);
    for (seed, rows) in [100, 400, 900].into_iter().enumerate() {
        let mut made = Made(seed as u64);
        let mut node = node(&mut made, rows).await;
        let mut questions = questions(&mut made);
        // A different fourth of them for each product.
        let mut at = seed;
        questions.retain(|_| {
            at += 1;
            at.is_multiple_of(4)
        });
        let alone = alone(&mut node, &questions).await;
        let same = async |node: &TestNode, sql: &String, alone: &RecordBatch, how: &str| {
            let shared = asked(node, sql).await;
            assert_eq!(shared, *alone, "seed {seed}, {how}: {sql}");
        };
        // One after the other, of which the later ones may be told from tables of the earlier.
        for (sql, alone) in questions.iter().zip(&alone).rev() {
            same(&node, sql, alone, "after others").await;
        }
        node.runner.patterns = Arc::default();
        // In passes over some units each.
        let memory = if seed % 2 == 0 { MEMORY } else { 1 << 15 };
        let prepared = prepare(&node, memory).await;
        assert_eq!((prepared.lattices, prepared.tables), (1, 3 * 3 * 5));
        assert_eq!(prepared.passes > 1, memory < MEMORY, "{prepared:?}");
        for (sql, alone) in questions.iter().zip(&alone) {
            same(&node, sql, alone, "prepared").await;
            for column in alone.columns() {
                withheld += column.null_count();
                told += column.len() - column.null_count();
            }
        }
        assert_eq!(node.runner.patterns.made_for_questions(), 0);
    }
    assert!(told > 500 && withheld > 50, "{told} {withheld}");
}

#[tokio::test]
async fn where_not_all_may_be_kept_coarser_tables_are() {
    const ROOM: usize = 300_000;
    let mut made = Made(7);
    let mut node = node(&mut made, 300).await;
    let questions = [
        "SELECT ward, band, count(*) AS n, sum(amount) FROM northmoor.parking.visited GROUP BY ward, band",
        "SELECT day, ward, band, count(*) AS n FROM northmoor.parking.visited GROUP BY day, ward, band",
    ];
    let questions = questions.map(str::to_owned);
    let alone = alone(&mut node, &questions).await;
    node.runner.patterns = Arc::new(Patterns::holding(ROOM));
    let prepared = prepare(&node, MEMORY).await;
    assert!(
        prepared.lattices > 0 && prepared.tables < 45,
        "{prepared:?}"
    );
    assert!(node.runner.patterns.kept_bytes() <= ROOM, "{prepared:?}");
    assert_eq!(prepared.kept_bytes, node.runner.patterns.kept_bytes());
    for (sql, alone) in questions.iter().zip(&alone) {
        assert_eq!(asked(&node, sql).await, *alone, "{sql}");
    }
    // What a question leaves behind takes nothing from what was prepared.
    assert!(node.runner.patterns.kept_bytes() >= prepared.kept_bytes);
}

#[tokio::test]
async fn a_question_borrows_its_keys_though_all_is_prepared() {
    let mut made = Made(3);
    let node = node(&mut made, 200).await;
    prepare(&node, MEMORY).await;
    let columns = |node: &TestNode| -> BTreeSet<String> {
        let mut asked = node.authority.asked.lock().unwrap();
        let last = asked.pop().unwrap();
        assert!(asked.is_empty());
        last.keys.into_iter().map(|k| k.column).collect()
    };
    let all = [
        "", "amount", "area", "band", "day", "person", "ward", "weight",
    ];
    assert_eq!(columns(&node), all.map(str::to_owned).into());
    asked(
        &node,
        "SELECT band, count(*) FROM northmoor.parking.visited GROUP BY band",
    )
    .await;
    let own = ["", "band", "person"];
    assert_eq!(columns(&node), own.map(str::to_owned).into());
}

#[tokio::test]
async fn new_data_are_not_told_from_tables_of_the_old() {
    let mut made = Made(5);
    let mut node = node(&mut made, 200).await;
    prepare(&node, MEMORY).await;
    let sql = "SELECT band, count(*) AS n FROM northmoor.parking.visited GROUP BY band".to_owned();
    let old = asked(&node, &sql).await;
    let new = visits(&mut made, 400);
    node.import(VISITS_DATA, &new).await.unwrap();
    let now = asked(&node, &sql).await;
    assert!(now != old && node.runner.patterns.made_for_questions() == 1);
    assert_eq!(alone(&mut node, &[sql]).await, [now]);
}

#[tokio::test]
async fn the_loan_is_in_the_nodes_log() {
    let mut made = Made(3);
    let node = node(&mut made, 50).await;
    prepare(&node, MEMORY).await;
    let records = node.runner.log.records().unwrap();
    let last = String::from_utf8(records.last().unwrap().bytes.clone()).unwrap();
    for said in [
        "lend-keys",
        "permit",
        "\"prepare\"",
        "g-prepare",
        "parking.visited",
    ] {
        assert!(last.contains(said), "{said} is not in {last}");
    }
}

#[tokio::test]
async fn nothing_is_read_after_the_loan_has_ended() {
    let mut made = Made(3);
    let node = node(&mut made, 50).await;
    let now = node.clock.now().as_micros();
    let ends = &node.authority.lends_until;
    ends.store(now, std::sync::atomic::Ordering::SeqCst);
    let name = "visited".parse().unwrap();
    let served = node.runner.products.serve(&name, 1).await.unwrap();
    let error = node.runner.prepare(&served, MEMORY).await.unwrap_err();
    assert!(error.to_string().contains("more than 0 s"), "{error}");
}
