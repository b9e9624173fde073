//! What leaves a product of class `aggregate`, and what does not.

use guildhall_city_data::{CityOptions, Council, council};
use guildhall_cli::sql::Connection;
use guildhall_testkit::{TestCity, answer, refusal, rows};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Code;

pub(crate) const PRODUCT: &str = "northmoor.parking.sessions";
/// Everything that a cell of it may tell.
pub(crate) const TOLD: &str = "count(DISTINCT vehicle) AS vehicles, count(*) AS stays, sum(paid) AS pounds, avg(minutes) AS minutes";
/// The fewest vehicles that a cell may stand on.
const MINIMUM: u64 = 10;
/// The most steps that noise moves a number by.
const STEPS: u64 = 5;

pub(crate) fn options() -> CityOptions {
    CityOptions {
        scale: 0.05,
        ..CityOptions::default()
    }
}

pub(crate) fn truth() -> Council {
    council(&options(), 0).unwrap()
}

/// A vehicle's stays.
pub(crate) type Stays<'a> = BTreeMap<&'a str, u64>;

/// By ward and channel: who stayed, and how often.
pub(crate) fn groups(council: &Council) -> BTreeMap<(&str, &str), Stays<'_>> {
    let ward: BTreeMap<&str, &str> = council
        .car_parks
        .iter()
        .map(|p| (p.car_park.as_str(), p.ward.as_str()))
        .collect();
    let mut groups: BTreeMap<_, Stays<'_>> = BTreeMap::new();
    for s in &council.sessions {
        let group = groups.entry((ward[s.car_park.as_str()], s.channel));
        *group.or_default().entry(&s.vehicle).or_default() += 1;
    }
    groups
}

fn units(stays: &Stays<'_>) -> u64 {
    stays.len().try_into().unwrap()
}

pub(crate) async fn ask(ana: &mut Connection, sql: &str) -> Vec<String> {
    let answer = answer(ana, sql)
        .await
        .inspect_err(|e| eprintln!("{sql}: {e}"));
    rows(&answer.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_stands_on_ten_vehicles_and_its_numbers_are_a_little_off() {
    let city = TestCity::made_up(&options()).await.unwrap();
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let told = ask(
        &mut ana,
        &format!(
            "SELECT ward, channel, count(*) AS stays, count(DISTINCT vehicle) AS vehicles \
             FROM {PRODUCT} GROUP BY ward, channel ORDER BY ward, channel"
        ),
    )
    .await;
    let truth = truth();
    let groups = groups(&truth);
    assert!(
        groups.values().any(|g| units(g) < MINIMUM),
        "the made-up city has small groups"
    );
    let mut exact = 0;
    for cell in &told {
        let cell: Vec<&str> = cell.split('|').collect();
        let [ward, channel, stays, vehicles] = cell[..] else {
            panic!("{cell:?}")
        };
        let (stays, vehicles): (u64, u64) = (stays.parse().unwrap(), vehicles.parse().unwrap());
        let group = &groups[&(ward, channel)];
        assert!(units(group) >= MINIMUM, "{cell:?} of {}", group.len());
        assert!(vehicles >= MINIMUM, "{cell:?}");
        assert!(vehicles.abs_diff(units(group)) <= STEPS, "{cell:?}");
        // A vehicle stays now and then, none of them forty times: a step of stays is one stay, beside the mean.
        assert!(group.values().all(|n| *n < 40));
        let all: u64 = group.values().sum();
        let off = STEPS * all.div_ceil(units(group)) + STEPS;
        assert!(stays.abs_diff(all) <= off, "{cell:?} of {all}");
        exact += usize::from(stays == all) + usize::from(vehicles == units(group));
    }
    assert!(exact < told.len(), "{exact} of {told:?} are exact");
    let fit = groups.values().filter(|g| units(g) >= 2 * MINIMUM).count();
    assert!(told.len() * 10 >= fit * 9, "{} of {fit}", told.len());
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_is_withheld_is_not_what_its_margin_leaves() {
    let city = TestCity::made_up(&options()).await.unwrap();
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let told = |keys: &str, filter: &str| {
        format!("SELECT {keys}, count(DISTINCT vehicle) FROM {PRODUCT} {filter} GROUP BY {keys}")
    };
    let cells = ask(&mut ana, &told("ward, channel", "")).await;
    let cells: BTreeSet<&str> = cells
        .iter()
        .map(|c| c.rsplit_once('|').unwrap().0)
        .collect();
    // A channel lies in the registered group of those without cash, before it lies in all of them.
    let cashless = "WHERE channel IN ('app', 'phone')";
    let margins = [
        ask(&mut ana, &told("ward", cashless)).await,
        ask(&mut ana, &told("channel", "")).await,
    ];
    let truth = truth();
    let groups = groups(&truth);
    let mut weighed = 0;
    for margin in margins.iter().flatten() {
        let (name, _) = margin.rsplit_once('|').unwrap();
        let is_child = |ward, channel| name == channel || name == ward && channel != "machine";
        let line = groups.iter().filter(|((w, c), _)| is_child(*w, *c));
        let line: Vec<_> = line.collect();
        let withheld: Vec<_> = line
            .iter()
            .filter(|((w, c), _)| !cells.contains(format!("{w}|{c}").as_str()))
            .collect();
        let of_them: BTreeSet<&str> = withheld
            .iter()
            .flat_map(|(_, stays)| stays.keys().copied())
            .collect();
        let alone = line.len() > 1 && withheld.len() == 1;
        assert!(!alone, "{name} less what is told of it");
        assert!(withheld.is_empty() || of_them.len() >= 10, "{name}");
        weighed += usize::from(!withheld.is_empty());
    }
    assert!(weighed > 0, "some margin has a withheld cell in its line");
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_that_is_withheld_reads_like_one_that_is_empty() {
    let city = TestCity::made_up(&options()).await.unwrap();
    let one = |filter: &str| {
        format!("SELECT count(*) AS n, sum(paid) AS p FROM {PRODUCT} WHERE {filter}")
    };
    let truth = truth();
    let groups = groups(&truth);
    let ((ward, channel), _) = groups
        .iter()
        .find(|(_, vehicles)| units(vehicles) < MINIMUM)
        .expect("the made-up city has small groups");
    let small = city
        .ask(&one(&format!("ward = '{ward}' AND channel = '{channel}'")))
        .await
        .unwrap();
    let none = city.ask(&one("ward = 'nowhere'")).await.unwrap();
    assert_eq!(rows(&small).unwrap(), ["-|-"]);
    assert_eq!(small, none);
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_provably_safe_is_refused_and_says_what_to_ask() {
    let city = TestCity::made_up(&options()).await.unwrap();
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let vehicle = &truth().sessions[0].vehicle.clone();
    for statement in [
        format!("SELECT * FROM {PRODUCT}"),
        format!("SELECT vehicle FROM {PRODUCT} LIMIT 1"),
        format!("SELECT count(*) FROM {PRODUCT} WHERE vehicle = '{vehicle}'"),
        format!("SELECT vehicle, count(*) FROM {PRODUCT} GROUP BY vehicle"),
        format!("SELECT min(paid), max(paid) FROM {PRODUCT}"),
        format!("SELECT array_agg(vehicle) FROM {PRODUCT}"),
        format!("SELECT sum(paid * 2) FROM {PRODUCT}"),
        format!("SELECT count(*) FROM {PRODUCT} WHERE paid > 3 OR vehicle = '{vehicle}'"),
        format!(
            "SELECT count(*) FROM {PRODUCT} WHERE started > '2026-03-03' AND left(vehicle, 1) = 'A'"
        ),
        format!("SELECT ward, count(*) FROM {PRODUCT} WHERE started > '2026-03-03' GROUP BY ward"),
        format!("SELECT max(paid) FROM {PRODUCT} WHERE started > '2026-03-03'"),
        format!("SELECT date_trunc('minute', started), count(*) FROM {PRODUCT} GROUP BY 1"),
        format!("SELECT count(*) OVER () FROM {PRODUCT}"),
        format!(
            "SELECT c.ward FROM northmoor.parking.car_parks c JOIN {PRODUCT} s ON s.ward = c.ward"
        ),
        format!(
            "SELECT ward FROM northmoor.parking.car_parks WHERE ward IN (SELECT ward FROM {PRODUCT})"
        ),
        format!("SELECT (SELECT max(paid) FROM {PRODUCT})"),
        format!(
            "SELECT ward FROM {PRODUCT} UNION ALL SELECT ward FROM northmoor.parking.car_parks"
        ),
        format!("SELECT DISTINCT vehicle FROM {PRODUCT}"),
    ] {
        let refused = refusal(&mut ana, &statement)
            .await
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
        assert!(
            matches!(refused.code, Code::PermissionDenied | Code::InvalidArgument),
            "{statement}: {refused:?}"
        );
        assert!(
            !refused.message.contains(vehicle.as_str()),
            "{}",
            refused.message
        );
        assert!(
            !refused.message.contains("2026-03-03"),
            "{}",
            refused.message
        );
    }
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn released_cells_can_be_worked_on_freely() {
    let city = TestCity::made_up(&options()).await.unwrap();
    let answer = city
        .ask(&format!(
            "SELECT w.name, s.vehicles * 2 AS twice FROM \
             (SELECT ward, count(DISTINCT vehicle) AS vehicles FROM {PRODUCT} GROUP BY ward HAVING count(*) > 20) s \
             JOIN northmoor.highways.wards w ON w.ward = s.ward ORDER BY twice DESC LIMIT 2"
        ))
        .await
        .unwrap();
    assert_eq!(answer.num_rows(), 2);
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_made_up_citys_own_questions_are_answered_with_numbers() {
    let city = TestCity::start().await.unwrap();
    let questions = &city.city.file().questions;
    assert!(questions.iter().any(|q| q.sql.contains(PRODUCT)));
    for question in questions {
        let purpose = question.purpose.as_str();
        let accounts = &city.city.ready().accounts;
        let (account, _) = accounts
            .iter()
            .find(|(_, a)| a.purposes.iter().any(|p| p.as_str() == purpose))
            .unwrap();
        let mut asker = city.connect(account, purpose).await.unwrap();
        let told = ask(&mut asker, &question.sql).await;
        assert!(told.len() > 1, "{}: {told:?}", question.title);
        let mut values = told.iter().flat_map(|row| row.split('|'));
        assert!(values.all(|v| v != "-"), "{told:?}");
    }
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_one_may_not_see_is_one_that_never_was() {
    let city = TestCity::made_up(&options()).await.unwrap();
    let hidden = city
        .refused("SELECT count(*) FROM northmoor.social_care.cases")
        .await
        .unwrap();
    let absent = city
        .refused("SELECT count(*) FROM northmoor.social_care.castles")
        .await
        .unwrap();
    let plain = |message: &str| {
        let message = message.replace("castles", "cases");
        message
            .split_whitespace()
            .filter(|w| !w.contains("q-"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        (hidden.code, plain(&hidden.message)),
        (absent.code, plain(&absent.message))
    );
    assert_eq!(hidden.code, Code::NotFound);
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_question_is_answered_with_noise_until_its_budget_is_spent() {
    let city = TestCity::made_up(&options()).await.unwrap();
    let asked = |least: usize| {
        format!(
            "SELECT count(DISTINCT vehicle) AS n FROM {PRODUCT} WHERE paid > 0.0{least:02} OR NOT ward = 'nowhere'"
        )
    };
    let first = rows(&city.ask(&asked(0)).await.unwrap()).unwrap();
    let truth = truth();
    let vehicles: BTreeSet<&str> = truth.sessions.iter().map(|s| s.vehicle.as_str()).collect();
    // Rho 0.001 for a count of units is a sigma of 22.4.
    let told: f64 = first[0].parse().unwrap();
    assert!(
        (told - vehicles.len() as f64).abs() < 6.0 * 22.4,
        "{told} of {}",
        vehicles.len()
    );
    assert_eq!(rows(&city.ask(&asked(0)).await.unwrap()).unwrap(), first);
    for other in 1..50 {
        city.ask(&asked(other)).await.unwrap();
    }
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let refused = refusal(&mut ana, &asked(50)).await.unwrap();
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused:?}");
    // What was paid for is still answered, and the cube costs nothing.
    assert_eq!(rows(&city.ask(&asked(0)).await.unwrap()).unwrap(), first);
    let cube = format!("SELECT count(*) AS n FROM {PRODUCT} WHERE channel = 'app'");
    city.ask(&cube).await.unwrap();
    city.city.stop().await;
}
