//! Free questions by somebody who knows the truth of most blocks: whether the noise is what was paid for, and in each cell
//! and question another; and a gateway that asks freely what it may not.

use crate::judge::{Finding, Scene};
use crate::plots::{PER_BLOCK, block_name};
use crate::rogue::RogueGateway;
use crate::roles::by;
use crate::table::fill;
use crate::wire::{Attacker, rows};
use datafusion::logical_expr::LogicalPlan;
use guildhall_model::{OutputClass, SystemClock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CLASS: &str = "what was paid for";
/// What one question costs here, of a budget of either purpose.
const RHO: f64 = 0.01;
/// How many cells of commissioning a person may be in.
const CELLS_PER_UNIT: f64 = 4.0;

pub(crate) async fn findings(scene: &Scene) -> Vec<Finding> {
    let commissioning = Attacker::signed_in(&scene.city, "mallory", "commissioning").await;
    let (mut one, mut four) = (Vec::new(), Vec::new());
    for beyond in [5_000.5, 6_000.5, 7_000.5] {
        one.push(noise(&scene.mallory, beyond).await);
    }
    for beyond in [5_000.5, 6_000.5] {
        four.push(noise(&commissioning, beyond).await);
    }
    let tried = [
        ("one draw in all blocks", "released", in_each(&one)),
        ("one draw for two literals", "released", by_literal(&one)),
        (
            "less noise than was paid for",
            "released",
            as_paid(&one, 1.0),
        ),
        (
            "less noise than for four cells of each",
            "released",
            as_paid(&four, CELLS_PER_UNIT),
        ),
        ("who owes", "released", debts(scene).await),
        ("a condition on the day", "refused", on_the_day(scene).await),
    ];
    let finding = |(name, verdict, result)| Finding::of(CLASS, name, verdict, false, result);
    tried.into_iter().map(finding).collect()
}

/// What a free question about everybody tells of each block.
async fn told(who: &Attacker, what: &str, condition: &str) -> Vec<f64> {
    let sql = format!("SELECT block, {what} AS n FROM {{k}} WHERE {condition} GROUP BY block");
    let shown = rows(who, &fill(&sql)).await;
    let told: BTreeMap<&str, f64> = shown
        .iter()
        .filter_map(|row| row.split_once('|'))
        .map(|(block, n)| (block, n.parse().unwrap()))
        .collect();
    (0..told.len())
        .map(|b| told[block_name(b).as_str()])
        .collect()
}

/// The noise of the count of each block.
async fn noise(who: &Attacker, beyond: f64) -> Vec<f64> {
    let counts = told(who, "count(*)", &format!("owed > -{beyond}")).await;
    counts.iter().map(|n| n - PER_BLOCK as f64).collect()
}

/// The mean square of the noise is what theory says, of so many cells of each person. Of 800 draws it is below 0.72 of that
/// by chance less than once in a hundred million runs, and of half the noise it is above that more seldom still.
fn as_paid(noise: &[Vec<f64>], cells_per_unit: f64) -> Result<(), String> {
    let draws: Vec<f64> = noise.iter().flatten().copied().collect();
    let square = draws.iter().map(|n| n * n).sum::<f64>() / draws.len() as f64;
    let theory = cells_per_unit / (2.0 * RHO);
    match square > 0.72 * theory {
        true => Ok(()),
        false => Err(format!(
            "the mean square of the noise is {square}, and not {theory}"
        )),
    }
}

/// Blocks have draws of their own, so that the difference of two is no more exact than either.
fn in_each(noise: &[Vec<f64>]) -> Result<(), String> {
    let few = |draws: &&Vec<f64>| {
        let values: BTreeSet<String> = draws.iter().map(|n| format!("{n:.0}")).collect();
        values.len() < 5
    };
    match noise.iter().find(few) {
        None => Ok(()),
        Some(draws) => Err(format!("{:?}", draws.iter().take(5).collect::<Vec<_>>())),
    }
}

/// Questions that differ in a literal have draws of their own: the difference of two would be exact.
fn by_literal(noise: &[Vec<f64>]) -> Result<(), String> {
    match noise.windows(2).any(|two| two[0] == two[1]) {
        true => Err("the same noise in all blocks".to_owned()),
        false => Ok(()),
    }
}

/// Who owes is told by what the block owes, if it has the noise of what may be above nothing alone. With the noise that was
/// paid for 53 % of the guesses are right; 70 % are by chance less than once in a billion runs.
async fn debts(scene: &Scene) -> Result<(), String> {
    let owed = told(&scene.mallory, "sum(owed)", "owed < 5000.5").await;
    let guesses = owed.iter().zip(&scene.truth.debtors);
    let right = guesses.filter(|(n, owes)| (**n < -500.0) == **owes).count();
    match 10 * right < 7 * owed.len() {
        true => Ok(()),
        false => Err(format!("{right} guesses of {} are right", owed.len())),
    }
}

/// A gateway that sends what it should have made a literal: asked tomorrow it were another question under the same noise.
async fn on_the_day(scene: &Scene) -> Result<(), String> {
    let city = &scene.city.city;
    let gateway = RogueGateway::of(city, Arc::new(SystemClock), "mallory", "care_planning").await;
    let sql =
        "SELECT count(*) AS n FROM {k} WHERE owed > -9000.5 AND current_date > DATE '2025-01-01'";
    let plan = gateway.plan(&fill(sql)).await;
    let mut aggregate = &plan;
    while let LogicalPlan::Projection(p) = aggregate {
        aggregate = p.input.as_ref();
    }
    let fragment = gateway.encoded(aggregate);
    by(
        "(rule `adhoc.function`)",
        gateway.run(&fragment, OutputClass::ReleasedCells).await,
    )
}
