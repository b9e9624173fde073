//! Numbers taken at their word, by somebody who knows the truth of most cells: what of them is noise, and of what.

use crate::judge::{Finding, Scene};
use crate::table::fill;
use crate::town::{Case, PER_STREET};
use crate::wire::rows;
use std::collections::{BTreeMap, BTreeSet};

/// Which part of the largest contribution a step of a total's own noise is.
const STEP_PARTS: i64 = 20;

/// One street's numbers as they are told, beside the truth: how far off, in steps.
struct Street {
    /// The noise of its count.
    count: f64,
    /// What is left of a total's noise when the count's part is taken away.
    own_hours: f64,
    own_cost: f64,
    /// All of a total's noise.
    all_cost: f64,
}

pub(crate) async fn findings(scene: &Scene) -> Vec<Finding> {
    let streets = streets(scene).await;
    let all = |is: &dyn Fn(&Street) -> bool| streets.iter().all(is);
    let tried = [
        (
            "counts are exact",
            streets.is_empty() || all(&|s| s.count == 0.0),
        ),
        (
            "totals are exact but for their count",
            all(&|s| near(s.own_hours, 0.0)),
        ),
        (
            "totals are exact in whole steps",
            all(&|s| (s.all_cost - s.all_cost.round()).abs() < 0.05),
        ),
        (
            "one noise in two totals",
            all(&|s| near(s.own_hours, s.own_cost)),
        ),
        ("one noise in all groups of a size", one_noise(scene).await),
        ("small totals have no noise", small(scene).await),
    ];
    let finding = |(name, so): (&str, bool)| {
        let result = if so {
            Err("so it is, everywhere".to_owned())
        } else {
            Ok(())
        };
        Finding::of("numbers at their word", name, "released", false, result)
    };
    tried.into_iter().map(finding).collect()
}

/// Whether two numbers of steps are the same: rounding moves hours by half of one.
fn near(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.75
}

async fn streets(scene: &Scene) -> Vec<Street> {
    let mut truth: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in &scene.truth.cases {
        truth.entry(&case.street).or_default().push(case);
    }
    let told = "count(DISTINCT person) AS n, sum(hours) AS h, sum(weekly_cost) AS c";
    let sql = format!("SELECT street, {told} FROM {{c}} WHERE ward = 'W1' GROUP BY street");
    let shown = rows(&scene.mallory, &fill(&sql)).await;
    let of = |row: &String| {
        let told: Vec<&str> = row.split('|').collect();
        let number = |at: usize| told[at].parse::<f64>().ok();
        let cases = truth
            .get(told[0])
            .filter(|_| told[0].starts_with("Street "))?;
        let cases: Vec<&&Case> = cases.iter().filter(|c| c.ward == "W1").collect();
        let people = cases.len() as f64;
        let (n, hours, cost) = (number(1)?, number(2)?, number(3)? * 100.0);
        let off = |told: f64, of: &dyn Fn(&Case) -> i64, shared: bool| {
            let sum = cases.iter().map(|c| of(c)).sum::<i64>() as f64;
            let step = (cases.iter().map(|c| of(c)).max()? / STEP_PARTS).max(1) as f64;
            let of_count = if shared {
                (n - people) * sum / people
            } else {
                0.0
            };
            Some((told - sum - of_count) / step)
        };
        Some(Street {
            count: n - people,
            own_hours: off(hours, &|c| c.hours, true)?,
            own_cost: off(cost, &|c| c.cost_pence, true)?,
            all_cost: off(cost, &|c| c.cost_pence, false)?,
        })
    };
    shown.iter().filter_map(of).collect()
}

/// Whether every street of thirteen has the same number of people, though each has thirteen others.
async fn one_noise(scene: &Scene) -> bool {
    let sql = fill("SELECT street, count(DISTINCT person) AS n FROM {n} GROUP BY street");
    let shown = rows(&scene.mallory, &sql).await;
    let told = shown
        .iter()
        .filter_map(|r| r.split_once('|')?.1.parse().ok());
    let told: BTreeSet<usize> = told.collect();
    told.len() < 2 || told.iter().all(|n| n.abs_diff(PER_STREET) == 0)
}

/// Whether the neighbour's hours, five for everybody, are five for each who is counted.
async fn small(scene: &Scene) -> bool {
    let told = "count(DISTINCT person) AS n, sum(hours) AS h";
    let sql = format!("SELECT ward, age_band, {told} FROM {{l}} GROUP BY ward, age_band");
    let shown = rows(&scene.mallory, &fill(&sql)).await;
    let of = |row: &String| {
        let told: Vec<&str> = row.split('|').collect();
        Some((told[2].parse::<i64>().ok()?, told[3].parse::<i64>().ok()?))
    };
    let told: Vec<(i64, i64)> = shown.iter().filter_map(of).collect();
    told.iter().all(|(n, hours)| *hours == 5 * n)
}
