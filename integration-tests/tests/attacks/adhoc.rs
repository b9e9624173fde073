//! Attacks on the lane of free questions: a budget that is spent once and by everybody together, draws that do not
//! change with the words, guesses about one person with all of an analyst's budget, and what an answer says besides its
//! numbers.

use crate::judge::{Scene, same};
use crate::rogue::authority_log;
use crate::statistics::{Advantage, targets};
use crate::table::fill;
use crate::town::{PER_STREET, STREETS, street_name};
use crate::wire::{Attacker, Outcome, rows};
use arrow::datatypes::SchemaRef;
use guildhall_audit::{Decision, Entry, Event};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Code;

/// What one question of care planning costs, and how many the budget pays for.
const PER_QUESTION: u64 = 1_000_000;
const QUESTIONS: usize = 15;
/// The rho of the budgets that one analyst can hold: of care planning, and of commissioning, which one question takes.
const RHO: [f64; 2] = [0.015, 0.01];

const BASE: &str = "SELECT count(*) AS n FROM {s} WHERE savings > 460 AND band <> '35-49'";

/// What one who has all of `rho` may gain at most for one guess between two equally likely facts about one person, in
/// points: two Gaussians of distance sqrt(2 rho) standard deviations, told apart at the middle.
fn most_points(rho: f64) -> f64 {
    100.0 * (normal((rho / 2.0).sqrt()) - 0.5)
}

/// The standard normal distribution function, by its series; for small `x`.
fn normal(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..60 {
        let n = f64::from(n);
        term *= x * x / (2.0 * n + 1.0);
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// What was charged so far, and to whom keys were lent.
fn log(scene: &Scene) -> Vec<Entry> {
    authority_log(&scene.city.city, "siskin")
}

fn charged(entries: &[Entry]) -> usize {
    let charges = entries.iter().filter(|e| e.event == Event::Debit);
    let nano: u64 = charges.map(|e| e.charge).sum();
    assert_eq!(nano % PER_QUESTION, 0, "a charge of another size");
    usize::try_from(nano / PER_QUESTION).unwrap()
}

/// Asks, and gives the answer's rows with what it cost.
async fn asked(scene: &Scene, who: &Attacker, sql: &str) -> (Vec<String>, usize) {
    let before = charged(&log(scene));
    let told = rows(who, &fill(sql)).await;
    (told, charged(&log(scene)) - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_spent_once_by_everybody_together() {
    let scene = Scene::start().await;
    let mabel = Attacker::signed_in(&scene.city, "mabel", "care_planning").await;
    let (first, cost) = asked(&scene, &scene.mallory, BASE).await;
    assert_eq!(cost, 1);
    free_again(&scene, &mabel, &first).await;
    new_or_the_same(&scene, &first).await;
    shared(&scene, &mabel).await;
    let spent = charged(&log(&scene));
    assert!(spent < QUESTIONS, "{spent} are spent before the end");
    // Until nothing is left, in turns.
    for at in spent..QUESTIONS {
        let who = [&scene.mallory, &mabel][at % 2];
        let sql = format!("SELECT count(*) AS n FROM {{s}} WHERE savings > {at}.25");
        assert_eq!(asked(&scene, who, &sql).await.1, 1, "{sql}");
    }
    nothing_is_left(&scene, &mabel, &first).await;
    scene.city.city.stop().await;
}

/// Who asks the same again has the same, for nothing: in the same words or others, at once or by a handle, by another
/// sign-in, or as another analyst of the purpose.
async fn free_again(scene: &Scene, mabel: &Attacker, first: &[String]) {
    let again = Attacker::signed_in(&scene.city, "mallory", "care_planning").await;
    let turned = "SELECT count(*) AS m FROM {s} x WHERE x.band <> '35-49' AND x.savings > 460";
    for who in [&scene.mallory, &again, mabel] {
        for sql in [BASE, turned] {
            assert_eq!(asked(scene, who, sql).await, (first.to_vec(), 0), "{sql}");
        }
    }
    let before = charged(&log(scene));
    let prepared = mabel.prepare(&fill(BASE)).await.rows().unwrap();
    let plan = rows(
        mabel,
        &fill("EXPLAIN SELECT count(*) AS n FROM {s} WHERE savings > 461"),
    )
    .await;
    assert_eq!((prepared.as_slice(), plan.is_empty()), (first, false));
    assert_eq!(
        charged(&log(scene)),
        before,
        "a handle or a plan cost something"
    );
}

/// In words that mean the same a question is either the same, draw and all, or another that is paid for.
async fn new_or_the_same(scene: &Scene, first: &[String]) {
    for sql in [
        "SELECT count(*) AS n FROM {s} WHERE NOT (band = '35-49') AND savings > 460",
        "SELECT count(*) AS n FROM {s} WHERE 460 < savings AND band <> '35-49'",
        "SELECT count(*) AS n FROM {s} WHERE savings > 460.00 AND band <> '35-49'",
        "SELECT count(1) AS n FROM {s} WHERE savings > 460 AND band <> '35-49'",
        "SELECT count(*) AS n FROM {s} WHERE (savings > 460 AND band <> '35-49') OR false",
    ] {
        let (told, cost) = asked(scene, &scene.mallory, sql).await;
        assert!(
            cost == 1 || told == first,
            "{sql}: another draw for nothing"
        );
        assert_eq!(asked(scene, &scene.mallory, sql).await, (told, 0), "{sql}");
    }
}

/// By another product over the same people, and as another analyst, it is the same budget.
async fn shared(scene: &Scene, mabel: &Attacker) {
    let by_panel = "SELECT count(*) AS n FROM {a} WHERE savings > 900";
    let (told, cost) = asked(scene, mabel, by_panel).await;
    assert_eq!(cost, 1);
    assert_eq!(asked(scene, &scene.mallory, by_panel).await, (told, 0));
    // Another order of what is told is another question, with other draws.
    let both = "SELECT count(*) AS n, sum(savings) AS s FROM {s} WHERE band <> '35-49'";
    let turned = "SELECT sum(savings) AS s, count(*) AS n FROM {s} WHERE band <> '35-49'";
    assert_eq!(asked(scene, mabel, both).await.1, 1);
    assert!(asked(scene, mabel, turned).await.1 <= 1);
}

/// Once it is spent no new question is charged, has keys, or is answered, and each refusal looks like any other; what
/// was paid for is still answered, and the cube costs nothing.
async fn nothing_is_left(scene: &Scene, mabel: &Attacker, first: &[String]) {
    let before = log(scene);
    let mut refusals: Vec<Outcome> = Vec::new();
    for (who, sql) in [
        // Of nobody, of everybody, of one person of whom it is so, and of one of whom it is not.
        (mabel, "SELECT count(*) AS n FROM {s} WHERE savings > 99999"),
        (mabel, "SELECT count(*) AS n FROM {s} WHERE savings > -9999"),
        (
            mabel,
            "SELECT count(*) AS n FROM {s} WHERE street <= 'T000' AND band <> '35-49'",
        ),
        (
            mabel,
            "SELECT count(*) AS n FROM {s} WHERE street <= 'T000' AND band <> '50-64'",
        ),
    ] {
        let outcome = who.ask(&fill(sql)).await;
        let (code, words) = outcome.rows().unwrap_err();
        assert_eq!(code, Code::ResourceExhausted, "{words}");
        assert!(
            !words.contains("T000") && !words.contains("9999"),
            "{words}"
        );
        refusals.push(outcome);
    }
    // Statements of one length, since tickets hold them.
    same(&refusals[0], &refusals[1]).unwrap();
    same(&refusals[2], &refusals[3]).unwrap();
    let panel = scene
        .mallory
        .ask(&fill("SELECT count(*) AS n FROM {a} WHERE savings > 901"))
        .await;
    assert_eq!(panel.rows().unwrap_err().0, Code::ResourceExhausted);
    let entries = log(scene);
    assert_eq!(charged(&entries), QUESTIONS);
    let after = &entries[before.len()..];
    let refused = after
        .iter()
        .filter(|e| e.event == Event::Debit && e.decision == Decision::Forbid);
    assert_eq!(refused.count(), 5);
    assert!(
        after.iter().all(|e| e.event != Event::LendKeys),
        "a key was lent without a charge"
    );
    assert_eq!(asked(scene, mabel, BASE).await, (first.to_vec(), 0));
    let cube = rows(
        mabel,
        &fill("SELECT count(*) AS n FROM {s} WHERE band = '35-49'"),
    )
    .await;
    assert_eq!(cube.len(), 1);
    lent_after_charges(&log(scene));
}

/// No grant of a free question has a key before its charge.
fn lent_after_charges(entries: &[Entry]) {
    let mut charged = BTreeSet::new();
    let debited: BTreeSet<_> = entries
        .iter()
        .filter(|e| e.event == Event::Debit)
        .filter_map(|e| e.grant.clone())
        .collect();
    for entry in entries {
        let Some(grant) = entry.grant.clone().filter(|g| debited.contains(g)) else {
            continue;
        };
        match (&entry.event, &entry.decision) {
            (Event::Debit, Decision::Permit) => drop(charged.insert(grant)),
            (Event::LendKeys, _) => assert!(charged.contains(&grant), "keys before the charge"),
            _ => {}
        }
    }
    assert!(!charged.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_budget_tells_next_to_nothing_of_one_person() {
    let most = most_points(RHO.iter().sum());
    assert!((most - 4.45).abs() < 0.05, "{most}");
    let scene = Scene::start().await;
    let mallory = Attacker::signed_in(&scene.city, "mallory", "commissioning").await;
    // All that commissioning has, for one question that singles out a person of each street by what they are.
    let at_once = by_street(&mallory, "count(*)", "band <> '35-49'").await;
    let refused = mallory
        .ask(&fill("SELECT count(*) AS n FROM {s} WHERE savings > 1.5"))
        .await;
    assert_eq!(refused.rows().unwrap_err().0, Code::ResourceExhausted);
    // All that care planning has: streets with that person and without, over and over in other words.
    let mut apart = vec![Vec::new(); STREETS];
    for turn in 0..QUESTIONS / 2 {
        let all = by_street(&scene.mallory, "count(*)", &format!("savings > -{turn}.5")).await;
        let rest = by_street(
            &scene.mallory,
            "count(*)",
            &format!("savings > -{turn}.5 AND band <> '50-64'"),
        )
        .await;
        for (street, apart) in apart.iter_mut().enumerate() {
            apart.push(all[street] - rest[street]);
        }
    }
    let difference: Vec<f64> = apart
        .iter()
        .map(|a| a.iter().sum::<f64>() / a.len() as f64)
        .collect();
    // The variance of a count is 1 / (2 rho); of a difference of two it is twice as much, of a mean a part of it.
    let noise = [0.5 / RHO[1], 2.0 * 0.5 / 0.001 / (QUESTIONS / 2) as f64];
    let together: Vec<f64> = at_once
        .iter()
        .zip(&difference)
        .map(|(a, d)| (a / noise[0] + d / noise[1]) / (1.0 / noise[0] + 1.0 / noise[1]))
        .collect();
    // The draws do not change with the words: a mean of many answers is as far off as one.
    let (mut sums, mut askings) = (vec![0.0; STREETS], 0.0);
    for salt in 0..10 {
        let sql = format!("savings > -0.5 /* {salt} */ AND band <> '50-64'");
        let told = by_street(&scene.mallory, "count(*)", &sql).await;
        sums.iter_mut().zip(told).for_each(|(s, n)| *s += n);
        askings += 1.0;
    }
    let averaged: Vec<f64> = sums
        .iter()
        .map(|s| PER_STREET as f64 - s / askings)
        .collect();
    let gained = [
        guessed(
            &scene,
            "free: one question with all of a budget",
            1,
            &at_once,
        ),
        guessed(
            &scene,
            "free: with and without one person",
            QUESTIONS - 1,
            &difference,
        ),
        guessed(&scene, "free: all budgets together", QUESTIONS, &together),
        guessed(
            &scene,
            "free: the mean of one question in many words",
            10,
            &averaged,
        ),
    ];
    scene.city.city.stop().await;
    for a in &gained {
        eprintln!("{}", a.line());
    }
    let too_good: Vec<_> = gained.iter().filter(|a| a.is_too_good()).collect();
    assert!(too_good.is_empty(), "{too_good:#?}");
}

/// What is told of each street.
async fn by_street(who: &Attacker, told: &str, condition: &str) -> Vec<f64> {
    let sql = format!("SELECT street, {told} AS n FROM {{s}} WHERE {condition} GROUP BY street");
    let shown = rows(who, &fill(&sql)).await;
    let told: BTreeMap<&str, f64> = shown
        .iter()
        .filter_map(|row| row.split_once('|'))
        .map(|(street, n)| (street, n.parse().unwrap()))
        .collect();
    let streets = (0..STREETS).map(street_name);
    streets.map(|s| told[s.as_str()]).collect()
}

/// Whether each street's target is of the larger band, guessed from an estimate that is 1 if so and 0 if not.
fn guessed(scene: &Scene, name: &'static str, questions: usize, estimates: &[f64]) -> Advantage {
    let guesses = targets(scene).into_iter().zip(estimates);
    let right = guesses.filter(|(r, e)| (**e > 0.5) == (r.band == "50-64"));
    Advantage {
        name,
        questions,
        facts: STREETS,
        right: right.count(),
        baseline: 0.5,
        needs: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_answer_says_nothing_but_its_numbers() {
    let scene = Scene::start().await;
    let by_street = |condition: &str| {
        let told = "count(*) AS n, sum(savings) AS s, avg(savings) AS a";
        fill(&format!(
            "SELECT street, {told} FROM {{s}} WHERE {condition} GROUP BY street"
        ))
    };
    // Each of them fails, or is of nobody, or of everybody, or of some, by what the data are.
    let conditions = [
        "savings > -1.5",
        "savings > 99999999",
        "street <= 'T000' AND band <> '35-49'",
        "1 / (CASE WHEN band = '50-64' THEN 0 ELSE 1 END) = 1",
        "CAST(band AS INT) > 0",
        "power(savings, 400) > 1",
        "CAST(savings * 1000000 AS INT) > 0",
        "CAST(CASE WHEN band = '50-64' THEN '2025-13-45' ELSE '2025-01-01' END AS DATE) > DATE '2024-01-01'",
        "lpad(band, 900, 'x') LIKE '%50-64%'",
        "CAST(savings AS DOUBLE) * 1e308 * 1e308 > 0",
    ];
    let mut answers = Vec::new();
    for condition in conditions {
        let sql = by_street(condition);
        let outcome = scene.mallory.ask(&sql).await;
        scene.clean(&sql, &outcome).unwrap();
        if let Err((code, words)) = &outcome.answer {
            panic!("{condition}: {code:?} {words}");
        }
        answers.push((condition, outcome));
    }
    let (_, first) = &answers[0];
    for (condition, answer) in &answers[1..] {
        assert_eq!(shape(answer), shape(first), "{condition}");
    }
    scene.city.city.stop().await;
}

/// All of an answer but its numbers: keys and their order, the schema with its metadata, which values are NULL, and the
/// lengths of messages. A mean is NULL where its count is not above nothing, which its noise decides.
fn shape(answer: &Outcome) -> (Vec<String>, SchemaRef, usize, Vec<usize>) {
    let batch = answer.answer.as_ref().unwrap();
    let keys = answer.rows().unwrap();
    let keys = keys.iter().map(|r| r.split('|').next().unwrap().to_owned());
    let nulls = (0..3).map(|at| batch.column(at).null_count()).sum();
    let rows = answer.replies.last().unwrap();
    // All but the means, whose validity has as many bytes or none.
    let lengths = rows.messages.iter().map(|m| m.len() / 1024).collect();
    (keys.collect(), batch.schema(), nulls, lengths)
}

#[test]
fn points_are_those_of_two_gaussians() {
    assert!((normal(1.0) - 0.841_345).abs() < 1e-5);
    assert!((6.26..6.30).contains(&most_points(0.05)));
    assert!(most_points(0.03) < 5.0 && most_points(0.033) > 5.0);
}
