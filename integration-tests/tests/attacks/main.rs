//! Our own red team: attacks as data against a live town with planted canaries, each with the verdict of a safe
//! system; statistical attacks with their advantage; honest questions that must keep answering; and a fuzzer.
//!
//! `cargo test -p guildhall-integration-tests --test attacks -- --nocapture` prints the tables.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy's own allowance does not reach helper functions"
)]

mod adhoc;
mod apart;
mod exhaustion;
mod files;
mod fuzz;
mod grants;
mod honest;
mod judge;
mod least_squares;
mod lines;
mod net;
mod noise;
mod paid;
mod plots;
mod protocol;
mod report;
#[expect(
    dead_code,
    reason = "shared with the city's tests, which use all of it"
)]
#[path = "../city/rogue.rs"]
mod rogue;
mod roles;
mod statistics;
mod table;
mod times;
mod town;
mod wire;

use futures::{StreamExt as _, stream};
use judge::{Finding, Scene};
use std::time::Instant;
use wire::Attacker;

/// Attacks that are under way at once.
const AT_ONCE: usize = 4;

/// Names the parts of the suite that one run is of, or classes of statements; all of it if it is not set.
const PARTS: &str = "GUILDHALL_ATTACKS";

fn in_this_run(part: &str) -> bool {
    std::env::var(PARTS).map_or(true, |parts| parts.split(',').any(|p| p == part))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_red_team_gets_nothing() {
    let mut scene = Scene::start().await;
    the_net_would_catch_it(&scene).await;
    let started = Instant::now();
    let mut findings = Vec::new();
    findings.extend(statements(&scene).await);
    eprintln!("statements: {:?}", started.elapsed());
    if in_this_run("noise") {
        findings.extend(noise::findings(&scene).await);
        eprintln!("noise: {:?}", started.elapsed());
    }
    if in_this_run("lines") {
        findings.extend(lines::findings(&scene).await);
        findings.extend(apart::findings().await);
        eprintln!("lines: {:?}", started.elapsed());
    }
    if in_this_run("paid") {
        findings.extend(paid::findings(&scene).await);
        eprintln!("paid: {:?}", started.elapsed());
    }
    if in_this_run("exhaustion") {
        findings.extend(exhaustion::findings(&scene).await);
        eprintln!("exhaustion: {:?}", started.elapsed());
    }
    if in_this_run("protocol") {
        findings.extend(protocol::findings(&scene).await);
        eprintln!("protocol: {:?}", started.elapsed());
    }
    if in_this_run("grants") {
        findings.extend(grants::findings(&scene).await);
        eprintln!("grants: {:?}", started.elapsed());
    }
    if in_this_run("roles") {
        findings.extend(roles::findings(&mut scene).await);
        eprintln!("roles: {:?}", started.elapsed());
    }
    if in_this_run("times") {
        findings.extend(times::findings().await);
        eprintln!("times: {:?}", started.elapsed());
    }
    let table = report::table(&findings);
    eprintln!("{table}");
    for line in report::failures(&findings, true) {
        eprintln!("awaited: {line}");
    }
    let failed = report::failures(&findings, false);
    scene.city.city.stop().await;
    assert!(
        failed.is_empty(),
        "{} attacks:\n{}",
        failed.len(),
        failed.join("\n")
    );
    if std::env::var_os(PARTS).is_some() {
        return;
    }
    assert!(findings.len() >= 150);
    let readme = include_str!("../../README.md");
    assert!(
        readme.contains(&table),
        "the table in the README is another:\n{table}"
    );
}

/// One who may read the register sees what the net is to catch; so it would be caught if it leaked.
async fn the_net_would_catch_it(scene: &Scene) {
    let olive = Attacker::signed_in(&scene.city, "olive", "fraud_prevention").await;
    let read = olive
        .ask(&table::fill("SELECT * FROM {r} ORDER BY name"))
        .await;
    let caught = scene.net.catch(&read.bytes());
    for canary in ["Bartholomew Shrikeford", "8 Phalarope Steps", "65432187"] {
        assert!(
            caught.iter().any(|c| c.canary == canary),
            "{canary} is not in {caught:?}"
        );
    }
}

async fn statements(scene: &Scene) -> Vec<Finding> {
    let all = table::STATEMENTS
        .iter()
        .filter(|(class, _)| in_this_run("statements") || in_this_run(class))
        .flat_map(|(class, lines)| lines.iter().map(|line| (*class, *line)));
    let asked = all.map(|(class, line)| scene.statement(class, line));
    stream::iter(asked).buffered(AT_ONCE).collect().await
}
