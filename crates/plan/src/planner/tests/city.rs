//! Questions over the united tables of all councils.

use super::*;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};

/// `rows` counts of cars by car park; the values differ from council to council.
fn occupancy(rows: i64, seed: i64) -> Vec<RecordBatch> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "car_park",
            Arc::new(
                (0..rows)
                    .map(|i| Some(format!("P{}", i % 5)))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "taken",
            Arc::new((0..rows).map(|i| (i * seed) % 97).collect::<Int64Array>()),
        ),
        (
            "share",
            Arc::new(
                (0..rows)
                    .map(|i| ((i % 10) as f64) / 8.0)
                    .collect::<Float64Array>(),
            ),
        ),
    ];
    vec![RecordBatch::try_from_iter(columns).unwrap()]
}

pub(super) fn sessions(rows: i64) -> Vec<RecordBatch> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "vehicle",
            Arc::new(
                (0..rows)
                    .map(|i| Some(format!("V{}", i % 40)))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "ward",
            Arc::new(
                (0..rows)
                    .map(|i| Some(format!("W{}", i % 3)))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "paid",
            Arc::new((0..rows).map(|i| i % 7).collect::<Int64Array>()),
        ),
    ];
    vec![RecordBatch::try_from_iter(columns).unwrap()]
}

pub(super) fn city() -> City {
    let councils = [
        ("ashford", 300, 3),
        ("brackley", 200, 7),
        ("northmoor", 500, 11),
        ("southmoor", 100, 13),
    ];
    let mut given: Vec<Given> = councils
        .iter()
        .map(|(council, rows, seed)| {
            Given::open(
                &format!("{council}.parking.occupancy"),
                occupancy(*rows, *seed),
            )
            .conforming("occupancy")
        })
        .collect();
    for (council, rows) in [("northmoor", 600), ("southmoor", 300)] {
        given.push(
            Given::open(&format!("{council}.parking.sessions"), sessions(rows))
                .conforming("sessions")
                .private("vehicle", &["ward"], &["paid"]),
        );
    }
    City::of(given)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_over_four_councils_moves_a_row_for_each_group_and_council() {
    let city = city();
    let answer = city
        .ask("select car_park, count(*) as n, sum(taken) as s, min(taken) as lo, max(taken) as hi, avg(share) as mean \
              from city.parking.occupancy group by car_park order by car_park")
        .await;
    assert_eq!(city.traffic(), (4, 20));
    assert_eq!(answer.len(), 5);
    let whole: Vec<RecordBatch> = [(300, 3), (200, 7), (500, 11), (100, 13)]
        .iter()
        .flat_map(|(rows, seed)| occupancy(*rows, *seed))
        .collect();
    let one = City::of(vec![Given::open("x.parking.occupancy", whole)]);
    let expected = one
        .ask("select car_park, count(*) as n, sum(taken) as s, min(taken) as lo, max(taken) as hi, avg(share) as mean \
              from x.parking.occupancy group by car_park order by car_park")
        .await;
    assert_eq!(answer, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_by_council() {
    let city = city();
    let answer = city
        .ask("select council, count(*) as n from city.parking.occupancy group by council order by council")
        .await;
    assert_eq!(
        answer,
        [
            "ashford | 300",
            "brackley | 200",
            "northmoor | 500",
            "southmoor | 100"
        ]
    );
    assert_eq!(city.traffic(), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_council_of_the_city_is_asked_alone() {
    let city = city();
    let answer = city
        .ask("select sum(taken) from city.parking.occupancy where council = 'brackley'")
        .await;
    let direct = city
        .ask("select sum(taken) from brackley.parking.occupancy")
        .await;
    assert_eq!(answer, direct);
    assert_eq!(city.traffic(), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rows_of_the_city_come_from_the_first_of_each_council() {
    let city = city();
    let answer = city
        .ask("select council, car_park, taken from city.parking.occupancy order by taken desc, council, car_park limit 3")
        .await;
    assert_eq!(answer.len(), 3);
    assert_eq!(city.traffic(), (4, 12));
    assert_eq!(
        city.ask("select * from city.parking.occupancy limit 5")
            .await
            .len(),
        5
    );
    let (_, rows) = city.traffic();
    assert!(rows <= 20, "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn distinct_values_and_distinct_counts_are_right_over_councils() {
    let city = city();
    assert_eq!(
        city.ask("select count(distinct car_park) from city.parking.occupancy")
            .await,
        ["5"]
    );
    assert_eq!(
        city.ask("select distinct car_park from city.parking.occupancy")
            .await
            .len(),
        5
    );
    let (_, rows) = city.traffic();
    assert!(rows <= 40, "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_of_one_product_are_one_local_fragment() {
    let city = city();
    let plan = city
        .plan(
            "select ward, count(*) as n, count(distinct vehicle) as v, avg(paid) as p \
               from northmoor.parking.sessions where ward = 'W1' group by ward",
        )
        .await
        .unwrap();
    let [fragment] = plan.fragments() else {
        panic!("{:?}", plan.explain());
    };
    assert_eq!(fragment.mode, crate::remote::Mode::Local);
    assert_eq!(fragment.output, guildhall_model::OutputClass::ReleasedCells);
    assert!(plan.wire_schema().fields().iter().all(|f| f.is_nullable()));
    assert_eq!(
        plan.wire_schema().field(2).metadata()["guildhall.rule"],
        "minimum-group=10;margins;cell-key=5,3"
    );
    assert_eq!(rows_of(&city.run(&plan).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_by_council_are_one_fragment_for_each_council() {
    let city = city();
    let answer = city
        .ask("select council, ward, count(*) as n from city.parking.sessions group by council, ward order by 1, 2")
        .await;
    assert_eq!(
        answer,
        [
            "northmoor | W0 | 200",
            "northmoor | W1 | 200",
            "northmoor | W2 | 200",
            "southmoor | W0 | 100",
            "southmoor | W1 | 100",
            "southmoor | W2 | 100",
        ]
    );
    assert_eq!(city.traffic().0, 2);
    let answer = city
        .ask("select sum(n) from (select council, count(*) as n from city.parking.sessions group by council)")
        .await;
    assert_eq!(answer, ["900"]);
    let answer = city
        .ask("select ward, count(*) from city.parking.sessions where council = 'southmoor' group by ward order by 1")
        .await;
    assert_eq!(answer, ["W0 | 100", "W1 | 100", "W2 | 100"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_of_several_owners_are_refused_with_what_to_ask_instead() {
    let city = city();
    let error = city
        .refusal("select ward, count(*) from city.parking.sessions group by ward")
        .await;
    assert_eq!(error.kind(), PlanErrorKind::Refused);
    assert!(
        error.to_string().contains("northmoor, southmoor"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("group by council"));
}

#[tokio::test(flavor = "multi_thread")]
async fn released_cells_are_joined_filtered_and_sorted_at_the_gateway() {
    let city = city();
    let answer = city
        .ask("select s.ward, s.n, o.cars from \
              (select ward, count(*) as n from northmoor.parking.sessions group by ward having count(*) > 10) s \
              cross join (select count(*) as cars from northmoor.parking.occupancy) o order by s.ward desc limit 2")
        .await;
    assert_eq!(answer, ["W2 | 200 | 500", "W1 | 200 | 500"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_private_product_do_not_leave() {
    let city = city();
    for sql in [
        "select * from northmoor.parking.sessions",
        "select vehicle from city.parking.sessions limit 1",
        "select count(*) from northmoor.parking.sessions s join northmoor.parking.occupancy o on s.ward = o.car_park",
        "select o.car_park from northmoor.parking.occupancy o where exists (select 1 from northmoor.parking.sessions s where s.ward = o.car_park)",
        "select min(paid) from northmoor.parking.sessions",
        "select ward, row_number() over (order by paid) from northmoor.parking.sessions",
        "select vehicle, count(*) from northmoor.parking.sessions group by vehicle",
        "select count(*) from northmoor.parking.sessions where paid > 3",
        "select count(*) from (select * from northmoor.parking.sessions union all select * from northmoor.parking.sessions)",
    ] {
        let error = city.refusal(sql).await;
        assert_eq!(error.kind(), PlanErrorKind::Refused, "{sql}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_where_each_step_runs_and_asks_nobody() {
    let city = city();
    let answer = city
        .ask("explain select council, count(*) from city.parking.sessions where ward = 'W2' group by council")
        .await;
    assert!(
        answer
            .iter()
            .any(|r| r.contains("spiffe://northmoor/parking/node/one | local")),
        "{answer:?}"
    );
    assert!(!answer.iter().any(|r| r.contains("W2")), "{answer:?}");
    assert_eq!(city.traffic().0, 0);
    let plan = city
        .plan("explain select * from northmoor.parking.occupancy")
        .await
        .unwrap();
    assert!(plan.fragments().is_empty());
    let error = city.refusal("explain analyze select 1").await;
    assert_eq!(error.kind(), PlanErrorKind::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_columns_of_a_private_product_are_told_to_tools_that_ask_for_no_rows() {
    let city = city();
    for sql in [
        "select * from northmoor.parking.sessions where 1 = 0",
        "select * from (select * from northmoor.parking.sessions) t limit 0",
    ] {
        let plan = city.plan(sql).await.unwrap();
        assert_eq!(plan.wire_schema().fields().len(), 3, "{sql}");
        assert!(plan.fragments().is_empty());
        assert!(rows_of(&city.run(&plan).await).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_council_that_is_not_asked_for_has_no_part_in_a_cell() {
    let city = city();
    let sql =
        "select count(*) from city.parking.sessions where council in ('southmoor', 'nowhere')";
    assert_eq!(city.ask(sql).await, ["300"]);
    assert_eq!(city.traffic().0, 1);
    let none =
        "select ward, count(*) from city.parking.sessions where council = 'nowhere' group by ward";
    assert!(city.ask(none).await.is_empty());
    assert_eq!(city.traffic().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_with_open_and_private_products_asks_each_as_it_may() {
    let city = City::of(vec![
        Given::open("northmoor.parking.sessions", sessions(600)).conforming("sessions"),
        Given::open("southmoor.parking.sessions", sessions(300))
            .conforming("sessions")
            .private("vehicle", &["ward"], &["paid"]),
    ]);
    let plan = city
        .plan("select council, ward, count(*) as n from city.parking.sessions group by council, ward order by 1, 2")
        .await
        .unwrap();
    let modes: Vec<&str> = plan.fragments().iter().map(|f| f.mode.as_str()).collect();
    assert_eq!(modes, ["open", "local"]);
    let answer = rows_of(&city.run(&plan).await);
    assert_eq!(answer[0], "northmoor | W0 | 200");
    assert_eq!(answer[3], "southmoor | W0 | 100");
    let one = "select max(paid) from city.parking.sessions where council = 'northmoor'";
    assert_eq!(city.ask(one).await, ["6"]);
    let error = city
        .refusal("select max(paid) from city.parking.sessions")
        .await;
    assert_eq!(error.kind(), PlanErrorKind::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_question_is_sent_where_there_is_a_budget_and_explain_tells_what_it_costs() {
    let stays =
        |name: &str| Given::open(name, sessions(600)).private("vehicle", &["ward"], &["paid"]);
    let city = City::of(vec![
        stays("northmoor.parking.stays").budgeted(),
        stays("northmoor.parking.sessions"),
    ]);
    let free = "select s.n from (select count(*) as n from northmoor.parking.stays where paid > 3 or ward = 'W1') s";
    // The nodes of this test give what they are asked without noise: three in seven, and a third of the others.
    assert_eq!(city.ask(free).await, ["371"]);
    let told = city.ask(&format!("explain {free}")).await;
    let cost = "ad hoc: differential privacy; a question not asked before costs rho 0.001 of the 0.05 that \
                `transport_planning` has each quarter";
    assert!(told.iter().any(|r| r.contains(cost)), "{told:?}");
    assert!(!told.iter().any(|r| r.contains("W1")), "{told:?}");
    let cube = "explain select count(*) from northmoor.parking.stays where ward = 'W1'";
    let told = city.ask(cube).await;
    assert!(
        told.iter().any(|r| r.contains("minimum group of 10")),
        "{told:?}"
    );
    let without = free.replace("stays", "sessions");
    let error = city.refusal(&without).await;
    assert_eq!(error.kind(), PlanErrorKind::Refused);
    assert!(!error.help().unwrap().contains("adhoc"), "{error:?}");
}
