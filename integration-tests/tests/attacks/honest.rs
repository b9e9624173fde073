//! Positive controls: honest questions keep answering, within the stated error.

use crate::files::BOOKINGS;
use crate::judge::{Scene, released};
use crate::table::fill;
use crate::town::{COUNT_BOUND, Case, Feature};
use crate::wire::{Attacker, rows};
use std::collections::BTreeMap;

/// How far a mean is off in a cell of [`LARGE`] people or more: for certain where nobody's part is very large, and
/// but for chance elsewhere.
const MEAN_WITHIN: f64 = 0.02;
/// How many of all large cells may be further off by chance.
const FURTHER: usize = 1;
/// How many steps a noise has at most, and which part of the largest contribution a step of a total's own is.
const STEPS: f64 = 5.0;
const STEP_PART: f64 = 0.05;
/// People from which a cell is large.
const LARGE: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn honest_questions_keep_answering() {
    let scene = Scene::start().await;
    let mut wrong = Vec::new();
    for (what, result) in [
        ("counts", counts(&scene).await),
        ("means", means(&scene).await),
        ("most streets are shown", streets(&scene).await),
        ("totals of the town", totals(&scene).await),
        ("cells worked on", worked_on(&scene).await),
        ("open rows", open_rows(&scene).await),
        ("columns say their rule", described(&scene).await),
    ] {
        if let Err(e) = result {
            wrong.push(format!("{what}: {e}"));
        }
    }
    scene.city.city.stop().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A question's key, and the truth by it.
type Key = (&'static str, fn(&Case) -> String);

const KEYS: [Key; 4] = [
    ("ward", |c| c.ward.clone()),
    ("age_band", |c| c.age_band.to_owned()),
    ("need", |c| c.need.to_owned()),
    ("CAST(date_trunc('month', opened) AS DATE)", |c| {
        format!("2025-{:02}-01", c.opened.0)
    }),
];

fn by(scene: &Scene, key: fn(&Case) -> String) -> BTreeMap<String, Vec<&Case>> {
    let mut groups: BTreeMap<String, Vec<&Case>> = BTreeMap::new();
    for case in &scene.truth.cases {
        groups.entry(key(case)).or_default().push(case);
    }
    groups
}

/// The key as a dimension or a roll-up; dressed up only once it is released.
fn question(key: &str, told: &str) -> String {
    match key
        .strip_prefix("CAST(")
        .and_then(|k| k.strip_suffix(" AS DATE)"))
    {
        Some(inner) => fill(&format!(
            "SELECT CAST(k AS DATE) AS k, x FROM (SELECT {inner} AS k, {told} AS x FROM {{c}} GROUP BY 1) q ORDER BY 1"
        )),
        None => fill(&format!(
            "SELECT {key}, {told} AS x FROM {{c}} GROUP BY {key} ORDER BY {key}"
        )),
    }
}

async fn counts(scene: &Scene) -> Result<(), String> {
    for (name, key) in KEYS {
        let truth: Vec<(String, i64)> = by(scene, key)
            .into_iter()
            .map(|(k, v)| (k, v.len() as i64))
            .collect();
        for told in ["count(DISTINCT person)", "count(*)", "count(hours)"] {
            let shown = rows(&scene.mallory, &question(name, told)).await;
            released(&shown, &truth).map_err(|e| format!("{told} by {name}: {e}"))?;
        }
    }
    Ok(())
}

/// Which part of itself a mean over `costs` is off by at most. The noise of the count moves the total alike and leaves
/// the mean where it is; the total's own noise is divided by a count that may be told too low.
fn most_off(costs: &[f64]) -> f64 {
    let (n, total) = (costs.len() as f64, costs.iter().sum::<f64>());
    let largest = costs.iter().copied().fold(0.0, f64::max);
    STEPS * STEP_PART * largest / total * n / (n - STEPS)
}

async fn means(scene: &Scene) -> Result<(), String> {
    let (mut further, mut certain) = (Vec::new(), 0);
    for (name, key) in KEYS {
        let shown = rows(&scene.mallory, &question(name, "avg(weekly_cost)")).await;
        let shown: BTreeMap<&str, f64> = shown
            .iter()
            .filter_map(|row| row.split_once('|'))
            .filter_map(|(key, mean)| Some((key, mean.parse().ok()?)))
            .collect();
        for (group, cases) in by(scene, key) {
            let costs: Vec<f64> = cases.iter().map(|c| c.cost_pence as f64 / 100.0).collect();
            let large = costs.len() >= LARGE;
            let Some(mean) = shown.get(group.as_str()) else {
                match large {
                    true => return Err(format!("{name} {group} is not shown")),
                    false => continue,
                }
            };
            let truth = costs.iter().sum::<f64>() / costs.len() as f64;
            let (off, most) = ((mean / truth - 1.0).abs(), most_off(&costs));
            // The total is rounded to a penny, and the mean to what a float holds.
            if off > most + 1e-6 {
                return Err(format!(
                    "{name} {group}: {mean} for {truth}, {most} at most"
                ));
            }
            certain += usize::from(large && most <= MEAN_WITHIN);
            if large && off > MEAN_WITHIN {
                further.push(format!("{name} {group}: {mean} for {truth}"));
            }
        }
    }
    match further.len() <= FURTHER && certain >= 8 {
        true => Ok(()),
        false => Err(format!("{certain} certain, further off {further:?}")),
    }
}

#[test]
fn a_mean_is_certain_where_nobodys_part_is_very_large() {
    let cell = |n: usize, largest: f64| {
        // All alike but one, who has so many times the mean of all.
        let others = (n as f64 - largest) / (n as f64 - 1.0);
        let mut costs = vec![others; n];
        costs[0] = largest;
        most_off(&costs)
    };
    for n in [300, 500, 1000] {
        let most = 0.08 * (n as f64 - 5.0);
        assert!(cell(n, most - 0.01) < MEAN_WITHIN && cell(n, most + 0.01) > MEAN_WITHIN);
    }
}

async fn streets(scene: &Scene) -> Result<(), String> {
    let truth: Vec<(String, i64)> = by(scene, |c| c.street.clone())
        .into_iter()
        .map(|(k, v)| (k, v.len() as i64))
        .collect();
    let shown = rows(
        &scene.mallory,
        &question("street", "count(DISTINCT person)"),
    )
    .await;
    released(&shown, &truth)?;
    let there = shown.iter().filter(|r| !r.ends_with("|-")).count();
    // 36 streets of some sixty people, and four of few.
    if there < 30 {
        Err(format!("{there} of {}", truth.len()))
    } else {
        Ok(())
    }
}

async fn totals(scene: &Scene) -> Result<(), String> {
    let shown = rows(
        &scene.mallory,
        &fill("SELECT count(*) AS n, sum(weekly_cost) AS s, avg(weekly_cost) AS a FROM {c}"),
    )
    .await;
    let told: Vec<f64> = shown[0].split('|').map(|v| v.parse().unwrap()).collect();
    let n = scene.truth.cases.len() as f64;
    let sum = scene
        .truth
        .cases
        .iter()
        .map(|c| c.cost_pence as f64 / 100.0)
        .sum::<f64>();
    let near = |told: f64, truth: f64| (told / truth - 1.0).abs() <= MEAN_WITHIN;
    if (told[0] - n).abs() <= COUNT_BOUND as f64 && near(told[1], sum) && near(told[2], sum / n) {
        Ok(())
    } else {
        Err(format!("{told:?} for {n}, {sum}"))
    }
}

async fn worked_on(scene: &Scene) -> Result<(), String> {
    let w1 = scene.truth.count(|c| c.ward == "W1");
    let older = scene.truth.count(|c| matches!(c.age_band, "65-79" | "80+"));
    for (sql, truth) in [
        (
            "SELECT w.ward, x.n FROM (SELECT ward, count(DISTINCT person) AS n FROM {c} GROUP BY ward HAVING count(*) > 600) x JOIN {w} w ON w.ward = x.ward ORDER BY n DESC LIMIT 1",
            ("W1".to_owned(), w1),
        ),
        (
            "SELECT 'older' AS k, count(DISTINCT person) AS n FROM {c} WHERE age_band IN ('65-79', '80+')",
            ("older".to_owned(), older),
        ),
        (
            "WITH x AS (SELECT ward, count(*) AS n FROM {c} GROUP BY ward) SELECT ward, n FROM x WHERE ward = 'W1'",
            ("W1".to_owned(), w1),
        ),
        (
            "SELECT 'W1' AS k, count(*) AS n FROM {c} WHERE ward = 'W1' UNION ALL SELECT 'none' AS k, NULL AS n",
            ("W1".to_owned(), w1),
        ),
        (
            "SELECT ward, count(DISTINCT person) AS n FROM {u} WHERE council = 'siskin' AND ward = 'W1' GROUP BY ward",
            ("W1".to_owned(), w1),
        ),
    ] {
        let shown = rows(&scene.mallory, &fill(sql)).await;
        released(&shown, &[truth]).map_err(|e| format!("{sql}: {e}"))?;
    }
    let prepared = scene
        .mallory
        .prepare(&fill(
            "SELECT ward, count(*) AS n FROM {c} WHERE ward = 'W2' GROUP BY ward",
        ))
        .await;
    let shown = prepared.rows().map_err(|e| format!("{e:?}"))?;
    released(
        &shown,
        &[("W2".to_owned(), scene.truth.count(|c| c.ward == "W2"))],
    )?;
    let plan = rows(
        &scene.mallory,
        &fill("EXPLAIN SELECT ward, count(*) AS n FROM {c} GROUP BY ward"),
    )
    .await;
    if plan.is_empty() {
        Err("no plan".to_owned())
    } else {
        Ok(())
    }
}

async fn open_rows(scene: &Scene) -> Result<(), String> {
    let shown = rows(
        &scene.mallory,
        &fill("SELECT booking, phone FROM {b} WHERE state = 'open' ORDER BY booking"),
    )
    .await;
    let register = Attacker::signed_in(&scene.city, "olive", "fraud_prevention").await;
    let read = rows(&register, &fill("SELECT name FROM {r} ORDER BY name")).await;
    if shown.len() as u64 == BOOKINGS && shown[77] == "77|xxxxx 19" && read.len() == 2 {
        Ok(())
    } else {
        Err(format!(
            "{} bookings, {:?}, {} of the register",
            shown.len(),
            shown.get(77),
            read.len()
        ))
    }
}

async fn described(scene: &Scene) -> Result<(), String> {
    let outcome = scene
        .mallory
        .ask(&fill(
            "SELECT ward, count(*) AS n, avg(hours) AS a FROM {c} GROUP BY ward",
        ))
        .await;
    let batch = outcome.answer.map_err(|e| format!("{e:?}"))?;
    for field in batch.schema().fields() {
        for (key, due) in [
            ("guildhall.rule", true),
            ("guildhall.error", Feature::ErrorBounds.is_present()),
        ] {
            if due && !field.metadata().contains_key(key) {
                return Err(format!(
                    "`{}` has no {key}: {:?}",
                    field.name(),
                    field.metadata()
                ));
            }
        }
    }
    Ok(())
}
