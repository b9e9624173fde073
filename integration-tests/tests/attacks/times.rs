//! What was good once: grants, tickets, tokens and connections whose time is over, in a town with a clock of its own.

use crate::judge::{Finding, Scene};
use crate::rogue::{RogueGateway, RogueNode};
use crate::roles::by;
use crate::table::fill;
use crate::wire::Outcome;
use guildhall_model::OutputClass::ReleasedCells;
use guildhall_model::{Clock as _, MockClock, SharedClock, SystemClock};
use guildhall_testkit::node;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

const CELLS: &str = "SELECT ward, count(*) AS n FROM {c} GROUP BY ward";
/// How long grants last, and how far clocks may differ.
const GRANT: Duration = Duration::from_secs(300);
const SKEW: Duration = Duration::from_secs(30);
/// How long a ticket lasts at most, an access token, and a certificate.
const TICKET: Duration = Duration::from_secs(600);
const TOKEN: Duration = Duration::from_secs(3_600);
const CERTIFICATE: Duration = Duration::from_secs(90 * 86_400);

pub(crate) async fn findings() -> Vec<Finding> {
    let clock = MockClock::at(SystemClock.now());
    let scene = Scene::at(Arc::clone(&clock) as SharedClock).await;
    let city = &scene.city.city;
    let shared = || Arc::clone(&clock) as SharedClock;
    let gateway = RogueGateway::of(city, shared(), "mallory", "care_planning").await;
    let care = RogueNode::of(city, &node("siskin", "care"), shared());
    let fragment = gateway.honest(&fill(CELLS)).await;
    let grant = gateway.grant(&fragment, ReleasedCells).await.unwrap();
    let ticket = scene.mallory.ticket(&fill(CELLS)).await;
    let mut tried = Vec::new();

    // A node still takes it, since clocks differ; who lends goes by one clock.
    clock.advance(GRANT + Duration::from_secs(1));
    let loan = care.request(&grant, &fragment, &["cases.ward"]).await;
    let lent = care.borrow(&loan).await;
    tried.push(("keys after a grant's end", by("expired at", lent.map(drop))));
    clock.advance(SKEW);
    let answer = gateway.send(&fragment, grant).await;
    tried.push(("a grant after its end", by("expired at", answer)));

    clock.advance(TICKET);
    let over = scene.mallory.fetch(&ticket).await;
    tried.push((
        "a ticket after its end",
        turned_away(&over, Code::FailedPrecondition),
    ));

    clock.advance(TOKEN);
    let asked = scene.mallory.ask(&fill(CELLS)).await;
    tried.push((
        "an access token after its end",
        turned_away(&asked, Code::Unauthenticated),
    ));

    // The connection is as old as the certificate that it was made with.
    clock.advance(CERTIFICATE);
    let wanted = gateway.wanted(&fragment, ReleasedCells);
    let granted = gateway.ask(&"siskin".parse().unwrap(), wanted).await;
    let words = "no valid certificate of a role that may ask this";
    tried.push((
        "a connection after its certificate's end",
        by(words, granted),
    ));
    scene.city.city.stop().await;
    let found = tried.into_iter();
    let found =
        found.map(|(name, result)| Finding::of("after its time", name, "refused", false, result));
    found.collect()
}

fn turned_away(outcome: &Outcome, by: Code) -> Result<(), String> {
    match &outcome.answer {
        Err((code, _)) if *code == by => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
