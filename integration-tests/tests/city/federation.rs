//! Over open products, the federation answers as one engine over all rows would.

use guildhall_city_data::{CityOptions, Council, Department, council};
use guildhall_testkit::{TestCity, rows};
use std::collections::BTreeMap;

fn options(councils: usize) -> CityOptions {
    CityOptions {
        scale: 0.15,
        councils,
        ..CityOptions::default()
    }
}

fn all(options: &CityOptions) -> Vec<Council> {
    (0..options.councils)
        .map(|i| council(options, i).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_union_over_four_councils_counts_every_row_once() {
    let options = CityOptions {
        departments: Some(vec![Department::Parking]),
        ..options(4)
    };
    let city = TestCity::made_up(&options).await.unwrap();
    let answer = city
        .ask(
            "SELECT council, count(*), sum(occupied), min(occupied), max(occupied), avg(occupied) \
             FROM city.parking.occupancy GROUP BY council ORDER BY council",
        )
        .await
        .unwrap();
    let mut expected = Vec::new();
    for council in all(&options) {
        let taken: Vec<i64> = council.occupancy.iter().map(|o| o.occupied).collect();
        let sum: i64 = taken.iter().sum();
        let mean = sum as f64 / taken.len() as f64;
        expected.push(format!(
            "{}|{}|{sum}|{}|{}|{mean}",
            council.name,
            taken.len(),
            taken.iter().min().unwrap(),
            taken.iter().max().unwrap()
        ));
    }
    expected.sort();
    assert_eq!(rows(&answer).unwrap(), expected);
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn departments_and_councils_are_joined_at_the_gateway() {
    let options = options(2);
    let city = TestCity::made_up(&options).await.unwrap();
    let answer = city
        .ask(
            "SELECT t.council, t.ward, t.vehicles, a.readings \
             FROM (SELECT council, ward, sum(vehicles) AS vehicles FROM city.highways.traffic_counts \
                   GROUP BY council, ward) t \
             JOIN (SELECT council, ward, count(no2) AS readings FROM city.environment.air_quality \
                   WHERE site = 'roadside' GROUP BY council, ward) a \
               ON t.council = a.council AND t.ward = a.ward ORDER BY 1, 2",
        )
        .await
        .unwrap();
    let mut expected = Vec::new();
    for council in all(&options) {
        let ward_of: BTreeMap<i64, &str> = council
            .streets
            .iter()
            .map(|s| (s.usrn, s.ward.as_str()))
            .collect();
        let mut vehicles: BTreeMap<&str, i64> = BTreeMap::new();
        for count in &council.counts {
            *vehicles.entry(ward_of[&count.usrn]).or_default() += count.vehicles.unwrap_or(0);
        }
        let mut readings: BTreeMap<&str, usize> = BTreeMap::new();
        for sensor in council.sensors.iter().filter(|s| s.site == "roadside") {
            let of =
                |r: &&guildhall_city_data::Reading| r.sensor == sensor.sensor && r.no2.is_some();
            *readings.entry(&sensor.ward).or_default() +=
                council.readings.iter().filter(of).count();
        }
        for (ward, vehicles) in vehicles {
            if let Some(readings) = readings.get(ward) {
                expected.push(format!("{}|{ward}|{vehicles}|{readings}", council.name));
            }
        }
    }
    expected.sort();
    assert!(expected.len() > 4);
    assert_eq!(rows(&answer).unwrap(), expected);
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_limits_and_top_k_come_back_as_asked() {
    let options = options(2);
    let city = TestCity::made_up(&options).await.unwrap();
    let answer = city
        .ask("SELECT car_park, spaces FROM northmoor.parking.car_parks ORDER BY spaces DESC, car_park LIMIT 3")
        .await
        .unwrap();
    let mut parks: Vec<(i64, String)> = all(&options)[0]
        .car_parks
        .iter()
        .map(|p| (-p.spaces, p.car_park.clone()))
        .collect();
    parks.sort();
    let expected: Vec<String> = parks
        .iter()
        .take(3)
        .map(|(spaces, park)| format!("{park}|{}", -spaces))
        .collect();
    assert_eq!(rows(&answer).unwrap(), expected);

    let streets = city
        .ask("SELECT street FROM northmoor.highways.streets WHERE street LIKE '%Café%' OR street LIKE '%–%' ORDER BY usrn")
        .await
        .unwrap();
    let expected: Vec<String> = all(&options)[0]
        .streets
        .iter()
        .filter(|s| s.street.contains("Café") || s.street.contains('\u{2013}'))
        .map(|s| s.street.clone())
        .collect();
    assert_eq!(rows(&streets).unwrap(), expected);
    city.city.stop().await;
}
