//! What leaves a product of class `aggregate`, and what does not.

use guildhall_city_data::{CityOptions, Council, council};
use guildhall_testkit::{TestCity, refusal, rows};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Code;

const PRODUCT: &str = "northmoor.parking.sessions";

fn options() -> CityOptions {
    CityOptions {
        scale: 0.05,
        ..CityOptions::default()
    }
}

fn truth() -> Council {
    council(&options(), 0).unwrap()
}

/// By ward and channel: stays, and the vehicles that made them.
fn groups(council: &Council) -> BTreeMap<(String, &'static str), (usize, BTreeSet<&str>)> {
    let ward: BTreeMap<&str, &str> = council
        .car_parks
        .iter()
        .map(|p| (p.car_park.as_str(), p.ward.as_str()))
        .collect();
    let mut groups: BTreeMap<_, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for s in &council.sessions {
        let group = groups
            .entry((ward[s.car_park.as_str()].to_owned(), s.channel))
            .or_default();
        group.0 += 1;
        group.1.insert(&s.vehicle);
    }
    groups
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_below_the_minimum_of_distinct_units_are_withheld() {
    let city = TestCity::made_up(&options()).await.unwrap();
    let answer = city
        .ask(&format!(
            "SELECT ward, channel, count(*) AS stays, count(DISTINCT vehicle) AS vehicles \
             FROM {PRODUCT} GROUP BY ward, channel ORDER BY ward, channel"
        ))
        .await
        .unwrap();
    let truth = truth();
    let groups = groups(&truth);
    let expected: Vec<String> = groups
        .iter()
        .filter(|(_, (_, vehicles))| vehicles.len() >= 10)
        .map(|((ward, channel), (stays, vehicles))| {
            format!("{ward}|{channel}|{stays}|{}", vehicles.len())
        })
        .collect();
    assert!(
        expected.len() < groups.len(),
        "the made-up city has small groups"
    );
    assert!(!expected.is_empty());
    assert_eq!(rows(&answer).unwrap(), expected);
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
        .find(|(_, (_, vehicles))| vehicles.len() < 10)
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
        format!("SELECT count(*) FROM {PRODUCT} WHERE paid > 3"),
        format!("SELECT count(*) FROM {PRODUCT} WHERE ward = 'NO01' OR channel = 'app'"),
        format!("SELECT count(*) FROM {PRODUCT} WHERE NOT ward = 'NO01'"),
        format!("SELECT count(*) FROM {PRODUCT} WHERE channel IN ('app', 'machine')"),
        format!("SELECT count(*) FROM {PRODUCT} WHERE started > '2026-03-03'"),
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
