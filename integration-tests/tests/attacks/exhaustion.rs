//! More than there is room for: whatever becomes of it, an honest question is answered soon after.

use crate::judge::{Finding, Scene};
use crate::table::fill;
use crate::town::Feature;
use crate::wire::{prepare, statement};
use arrow_flight::sql::{CommandGetTables, ProstMessageExt as _};
use arrow_flight::{FlightDescriptor, Ticket};
use futures::future::join_all;
use prost::Message as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tonic::Code;

const CLASS: &str = "exhaustion";
const SURVIVES: &str = "survives";
/// How soon an honest question is answered after an attack, in an unoptimised build on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// When nothing at all moves any more.
const WEDGED: Duration = Duration::from_secs(60);
/// How long one statement that asks for too much may be weighed.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

pub(crate) async fn findings(scene: &Scene) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, sql) in too_much() {
        let started = Instant::now();
        let outcome = scene.mallory.ask(&sql).await;
        let took = started.elapsed();
        let mut result = scene.clean(&sql, &outcome);
        if took > REFUSED_WITHIN {
            result = result.and(Err(format!("it was weighed for {took:?}")));
        }
        findings.push(finding(name, result.and(still_there(scene).await)));
    }
    for (name, result) in [
        ("a hundred at once", a_hundred(scene).await),
        ("tickets that nobody fetches", tickets(scene).await),
        ("statements prepared and left", prepared(scene).await),
        ("connections that say nothing", silent(scene).await),
        ("a pattern that backtracks", pattern(scene).await),
        ("a message of 32 MiB", large_message(scene).await),
    ] {
        findings.push(finding(name, result.and(still_there(scene).await)));
    }
    findings.push(hung_up(scene).await);
    for (name, sql, words) in unread() {
        let result = refused(scene, &sql, words).await;
        findings.push(Finding::of(CLASS, name, "refused", false, result));
    }
    findings
}

/// Not run before it can end: it would keep the test from ending too.
async fn hung_up(scene: &Scene) -> Finding {
    let mut result = Err("not run".to_owned());
    if Feature::HangUp.is_present() {
        let _armed = watchdog();
        result = endless(scene).await.and(still_there(scene).await);
    }
    let awaited = !Feature::HangUp.is_present();
    Finding::of(
        CLASS,
        "joins without end, and hung up",
        SURVIVES,
        awaited,
        result,
    )
}

/// Ends the process unless what it gives is dropped in time: work that never yields stops our own clocks as well.
fn watchdog() -> mpsc::Sender<()> {
    let (armed, ended) = mpsc::channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(WEDGED) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("joins without end have wedged the whole process");
            std::process::abort();
        }
    });
    armed
}

fn finding(name: &str, result: Result<(), String>) -> Finding {
    Finding::of(CLASS, name, SURVIVES, false, result)
}

/// An honest question about people is answered, and soon.
async fn still_there(scene: &Scene) -> Result<(), String> {
    let honest = fill("SELECT ward, count(DISTINCT person) AS n FROM {c} GROUP BY ward");
    let started = Instant::now();
    let rows = scene.mallory.ask(&honest).await.rows();
    let took = started.elapsed();
    match rows {
        Ok(rows) if rows.len() >= 3 && took < SOON => Ok(()),
        other => Err(format!(
            "an honest question afterwards, in {took:?}: {other:?}"
        )),
    }
}

fn too_much() -> Vec<(&'static str, String)> {
    let many = |what: &str, n: usize, between: &str| vec![what; n].join(between);
    let texts = (0..500)
        .map(|i| format!("'Street {i}'"))
        .collect::<Vec<_>>()
        .join(", ");
    let all = [
        ("20,000 terms over people", format!("SELECT sum({}) FROM {{c}}", many("hours", 20_000, "+"))),
        ("10,000 conditions on people", format!("SELECT count(*) FROM {{c}} WHERE {}", many("ward = 'W1'", 10_000, " AND "))),
        ("2,000 unions of cells", many("SELECT ward, count(*) FROM {c} GROUP BY ward", 2_000, " UNION ALL ")),
        ("30 unions of cells", many("SELECT count(*) AS n FROM {c}", 30, " UNION ALL ")),
        ("10,000 brackets", format!("SELECT {}count(*){} FROM {{c}}", "(".repeat(10_000), ")".repeat(10_000))),
        ("1,500 queries inside each other", format!("{}SELECT ward FROM {{c}}{}", "SELECT ward FROM (".repeat(1_500), ") x".repeat(1_500))),
        ("a list of 500 streets", format!("SELECT count(*) FROM {{c}} WHERE street IN ({texts})")),
        ("a doubling of cells", doubling()),
        ("a cube of people", "SELECT count(*) FROM {c} GROUP BY CUBE (ward, street, need, age_band, opened, hours, balance)".to_owned()),
        ("a text of 100,000 letters", format!("SELECT count(*) FROM {{c}} WHERE street = '{}'", "x".repeat(100_000))),
        ("8 MiB of SQL", format!("SELECT '{}'", "x".repeat(8 << 20))),
        ("texts that grow", format!("SELECT {}", many("rpad('x', 1000, 'x')", 400, " || "))),
        ("30,000 quotes", "'".repeat(30_001)),
        ("30,000 comments", "/*".repeat(30_000)),
    ];
    all.map(|(name, sql)| (name, fill(&sql))).to_vec()
}

/// Statements that are refused for their size before anybody reads them, by these words.
fn unread() -> Vec<(&'static str, String, &'static str)> {
    let chain = "1+".repeat(514);
    vec![
        (
            "a text of 200,000 letters",
            format!("SELECT '{}' AS x", "x".repeat(200_000)),
            "bytes; ",
        ),
        // Whoever counts quotes and does not know of what is escaped takes the rest for a text.
        (
            "operators behind a quote",
            format!("SELECT E'\\'' AS q, {chain}1 AS n, '' AS e"),
            "operators",
        ),
    ]
}

async fn refused(scene: &Scene, sql: &str, words: &str) -> Result<(), String> {
    match scene.mallory.ask(sql).await.answer {
        Ok(_) => Err("it was answered".to_owned()),
        Err((Code::InvalidArgument | Code::ResourceExhausted, said)) if said.contains(words) => {
            Ok(())
        }
        Err(other) => Err(format!("refused, but not for its size: {other:?}")),
    }
}

/// Twenty-nine queries, each of which names the one before it twice, down to the people.
fn doubling() -> String {
    let steps: String = (1..30)
        .map(|i| {
            format!(
                ", a{i} AS (SELECT l.n FROM a{p} l CROSS JOIN a{p} r)",
                p = i - 1
            )
        })
        .collect();
    format!("WITH a0 AS (SELECT count(*) AS n FROM {{c}}){steps} SELECT n FROM a29")
}

/// Joins of 1,200^4 open rows, as many as one account may have at once: each would run for years. We hang up after
/// the first second.
async fn endless(scene: &Scene) -> Result<(), String> {
    let sql = fill(
        "SELECT sum(a.amount * b.amount + c.amount * d.amount) AS x \
         FROM {b} a CROSS JOIN {b} b CROSS JOIN {b} c CROSS JOIN {b} d",
    );
    let all = join_all((0..16).map(|_| scene.mallory.ask(&sql)));
    match tokio::time::timeout(Duration::from_secs(1), all).await {
        Ok(outcomes) if outcomes.iter().any(|o| o.answer.is_ok()) => {
            Err("it was answered within a second".to_owned())
        }
        _ => Ok(()),
    }
}

/// A hundred questions at once from one account: each is answered or told that it is one too many.
async fn a_hundred(scene: &Scene) -> Result<(), String> {
    let sql = fill("SELECT street, count(*) AS n FROM {c} GROUP BY street");
    for outcome in join_all((0..100).map(|_| scene.mallory.ask(&sql))).await {
        scene.clean(&sql, &outcome)?;
        if let Err((code, words)) = outcome.answer
            && code != tonic::Code::ResourceExhausted
        {
            return Err(format!("{code:?} {words}"));
        }
    }
    Ok(())
}

async fn tickets(scene: &Scene) -> Result<(), String> {
    let sql = fill("SELECT count(*) AS n FROM {c}");
    let descriptor = FlightDescriptor::new_cmd(statement(&sql)).encode_to_vec();
    for _ in 0..200 {
        let reply = scene
            .mallory
            .call("GetFlightInfo", vec![descriptor.clone()])
            .await;
        scene.nothing(&sql, &reply.bytes())?;
    }
    Ok(())
}

async fn prepared(scene: &Scene) -> Result<(), String> {
    for i in 0..200 {
        let sql = fill(&format!(
            "SELECT count(*) AS n{i} FROM {{c}} WHERE street = $1"
        ));
        let reply = scene.mallory.call("DoAction", vec![prepare(&sql)]).await;
        scene.nothing(&sql, &reply.bytes())?;
    }
    Ok(())
}

/// Fifty connections of strangers that open a call and send nothing readable.
async fn silent(scene: &Scene) -> Result<(), String> {
    let calls = (0..50).map(|i| async move {
        let stranger = crate::wire::Attacker::stranger(&scene.city);
        stranger.exchange("DoPut", vec![vec![0xff; i]], 1).await
    });
    for reply in join_all(calls).await {
        scene.nothing("", &reply.bytes())?;
    }
    Ok(())
}

/// Patterns for metadata and for regular expressions that take a naive matcher exponential time.
async fn pattern(scene: &Scene) -> Result<(), String> {
    let command = CommandGetTables {
        table_name_filter_pattern: Some("%a".repeat(60) + "b"),
        ..Default::default()
    };
    let outcome = scene
        .mallory
        .command(command.as_any().encode_to_vec())
        .await;
    scene.clean("", &outcome)?;
    let sql = fill("SELECT count(*) AS n FROM {b} WHERE regexp_like(repeat_free, '(a+)+$')")
        .replace("repeat_free", "rpad('a', 900, 'a') || 'b'");
    scene.clean(&sql, &scene.mallory.ask(&sql).await)
}

async fn large_message(scene: &Scene) -> Result<(), String> {
    let ticket = Ticket::new(vec![7; 32 << 20]).encode_to_vec();
    let reply = scene.mallory.call("DoGet", vec![ticket]).await;
    scene.nothing("", &reply.bytes())?;
    match reply.refused {
        Some(_) => Ok(()),
        None => Err("it was taken".to_owned()),
    }
}
