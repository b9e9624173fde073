//! Several councils, some of them away.

use super::city::City;
use super::client::statement;
use crate::config::Limits;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use std::sync::atomic::Ordering;
use tonic::Code;

const UNION: &str = "SELECT council, sum(spaces) AS spaces FROM city.parking.occupancy GROUP BY council ORDER BY council";
const NORTH: &str = "SELECT car_park, spaces FROM northmoor.parking.occupancy";

#[tokio::test]
async fn a_union_over_councils_is_one_answer() {
    let city = City::start().await;
    let fetched = city.ana().ask(UNION).await.unwrap();
    assert_eq!(fetched.rows(), 2);
    let sums = fetched.batches[0].column(1).as_primitive::<Int64Type>();
    assert_eq!(sums.values(), &[40, 40]);
    assert_eq!(city.parties.ran.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_node_that_is_away_is_named() {
    let city = City::start().await;
    city.parties.goes_away(City::node("southsea"));
    for sql in [UNION, "SELECT car_park FROM southsea.parking.occupancy"] {
        let refused = city.ana().ask(sql).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(
            refused
                .message()
                .contains("department `parking` of `southsea`"),
            "{}",
            refused.message()
        );
    }
    assert_eq!(city.ana().ask(NORTH).await.unwrap().rows(), 2);
}

#[tokio::test]
async fn a_partial_answer_says_who_is_missing() {
    let city = City::start().await;
    city.parties.goes_away(City::node("southsea"));
    let partial = city.ana().header("x-guildhall-partial", "on");
    let fetched = partial.ask(UNION).await.unwrap();
    assert_eq!(fetched.rows(), 1);
    assert_eq!(fetched.missing.as_deref(), Some("southsea.parking"));
    assert_eq!(fetched.last_words, r#"{"missing":["southsea.parking"]}"#);
    // Nobody is missing from an answer that needs nobody else.
    assert_eq!(partial.ask(NORTH).await.unwrap().missing, None);
}

#[tokio::test]
async fn an_authority_that_is_away_is_named_and_others_answer() {
    let city = City::start().await;
    city.parties.goes_away(City::authority("southsea"));
    for sql in [UNION, "SELECT car_park FROM southsea.parking.occupancy"] {
        let refused = city.ana().ask(sql).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(
            refused.message().contains("the authority of `southsea`"),
            "{}",
            refused.message()
        );
    }
    assert_eq!(city.ana().ask(NORTH).await.unwrap().rows(), 2);
    let fetched = city
        .ana()
        .header("x-guildhall-partial", "on")
        .ask(UNION)
        .await
        .unwrap();
    assert_eq!(
        (fetched.rows(), fetched.missing.as_deref()),
        (1, Some("southsea"))
    );
    // It is back: so is its council, at once.
    city.parties.away.lock().unwrap().clear();
    assert_eq!(city.ana().ask(UNION).await.unwrap().rows(), 2);
}

#[tokio::test]
async fn an_authority_that_goes_after_planning_is_named() {
    let city = City::start().await;
    let info = city.ana().info(statement(UNION)).await.unwrap();
    city.parties.goes_away(City::authority("southsea"));
    let refused = city.ana().fetch(&info).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused.message().contains("the authority of `southsea`"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn every_fetch_asks_for_its_own_grants() {
    let city = City::start().await;
    let info = city.ana().info(statement(UNION)).await.unwrap();
    assert_eq!(city.parties.granted.load(Ordering::SeqCst), 0);
    city.ana().fetch(&info).await.unwrap();
    city.ana().fetch(&info).await.unwrap();
    assert_eq!(city.parties.granted.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_principal_has_so_many_queries_at_once() {
    let city = City::with(Limits {
        queries_per_principal: 1,
        ..Limits::default()
    })
    .await;
    city.parties.endless.store(true, Ordering::SeqCst);
    let ana = city.ana();
    let info = ana.info(statement(NORTH)).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut first = ana
        .inner
        .clone()
        .do_get(ana.request(ticket))
        .await
        .unwrap()
        .into_inner();
    first.message().await.unwrap().unwrap();
    assert_eq!(
        ana.fetch(&info).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
}
