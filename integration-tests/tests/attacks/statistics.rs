//! Attacks that no single answer shows: many honest questions, a little arithmetic, and guesses that are right more
//! often than they should be.
//!
//! Each attack guesses facts about people that the town decided by a coin (or a die), from nothing but released
//! cells. Its advantage is the share of right guesses less the share that somebody without the data has, in
//! percentage points. Where a guess needs to know what a pattern of answers means, it is learnt on the streets of
//! one half, whose truth is given away for that, and tried on those of the other.

use crate::judge::Scene;
use crate::least_squares::{Equation, solve};
use crate::table::fill;
use crate::town::{
    ALLOWANCE_PENCE, Feature, PER_STREET, Resident, STREETS, STREETS_PER_ESTATE, estate_name,
    street_name,
};
use crate::wire::rows;
use std::collections::BTreeMap;

/// The most by which guessing with the answers may be better than without, in points.
const MOST: f64 = 5.0;
/// How far chance alone carries a share of right guesses, in standard deviations; one attack in a hundred.
const CHANCE: f64 = 2.33;
/// Estates in all.
const ESTATES: usize = STREETS / STREETS_PER_ESTATE;

/// What an attack gained.
#[derive(Debug)]
pub(crate) struct Advantage {
    pub(crate) name: &'static str,
    pub(crate) questions: usize,
    pub(crate) facts: usize,
    pub(crate) right: usize,
    /// The share that is right without the data, or for a count with its one published answer.
    pub(crate) baseline: f64,
    /// What has to be there before it fails.
    pub(crate) needs: Option<Feature>,
}

impl Advantage {
    fn points(&self) -> f64 {
        100.0 * (self.right as f64 / self.facts as f64 - self.baseline)
    }

    /// What chance may add to it, in points.
    fn chance(&self) -> f64 {
        CHANCE * 100.0 * (self.baseline * (1.0 - self.baseline) / self.facts as f64).sqrt()
    }

    /// Whether it is better than is allowed, and than chance explains.
    pub(crate) fn is_too_good(&self) -> bool {
        self.points() > MOST + self.chance()
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "| {} | {} | {} | {:.1} % | {:+.1} |",
            self.name,
            self.questions,
            self.facts,
            100.0 * self.baseline,
            self.points()
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistical_attacks_gain_next_to_nothing() {
    let scene = Scene::start().await;
    let gained = [
        equality_oracle(&scene).await,
        roll_up_tracker(&scene).await,
        tracker_on_totals(&scene).await,
        empty_or_withheld(&scene).await,
        partition_averaging(&scene).await,
        constant_measure(&scene).await,
        linear_reconstruction(&scene).await,
    ];
    eprintln!(
        "| attack | questions | facts | baseline | advantage, points |\n|---|---|---|---|---|"
    );
    for a in &gained {
        eprintln!("{}", a.line());
    }
    scene.city.city.stop().await;
    let too_good = gained.iter().filter(|a| a.is_too_good());
    let (failed, awaited): (Vec<_>, Vec<_>) =
        too_good.partition(|a| a.needs.is_none_or(Feature::is_present));
    for a in awaited {
        eprintln!("awaited: {}", a.line());
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The released values of one question, by its key; the last columns are the values, NULL where withheld.
async fn cells(scene: &Scene, sql: &str, values: usize) -> BTreeMap<String, Vec<Option<f64>>> {
    let mut cells = BTreeMap::new();
    for row in rows(&scene.mallory, &fill(sql)).await {
        let parts: Vec<&str> = row.split('|').collect();
        let (key, told) = parts.split_at(parts.len() - values);
        cells.insert(key.join("|"), told.iter().map(|v| v.parse().ok()).collect());
    }
    cells
}

fn value(of: &BTreeMap<String, Vec<Option<f64>>>, key: &str, at: usize) -> Option<f64> {
    *of.get(key)?.get(at)?
}

/// The first resident of each street.
pub(crate) fn targets(scene: &Scene) -> Vec<&Resident> {
    scene.truth.residents.iter().step_by(PER_STREET).collect()
}

/// Learns on one half what each pattern means, guesses on the other; and the other way round.
fn learnt<P: Ord + Clone>(patterns: &[P], truth: &[bool]) -> usize {
    let mut right = 0;
    for half in 0..2 {
        let mut seen: BTreeMap<P, i64> = BTreeMap::new();
        for (at, pattern) in patterns.iter().enumerate().filter(|(at, _)| at % 2 != half) {
            *seen.entry(pattern.clone()).or_default() += if truth[at] { 1 } else { -1 };
        }
        for (at, pattern) in patterns.iter().enumerate().filter(|(at, _)| at % 2 == half) {
            let guess = seen.get(pattern).is_some_and(|n| *n > 0);
            right += usize::from(guess == truth[at]);
        }
    }
    right
}

/// What two answers look like beside each other: which are there, whether they are one, and how far apart.
fn beside(a: Option<f64>, b: Option<f64>) -> (bool, bool, Option<String>) {
    let apart = a.zip(b).map(|(a, b)| whole((a - b).clamp(-9.0, 9.0)));
    (a.is_some(), b.is_some(), apart)
}

/// To the next whole number, as text; nothing is below nothing.
fn whole(n: f64) -> String {
    format!("{:.0}", n.round() + 0.0)
}

/// The same members give the same noise: is the street's count that of its larger band? Then nobody is in the other.
async fn equality_oracle(scene: &Scene) -> Advantage {
    let all = cells(
        scene,
        "SELECT street, count(DISTINCT person) AS n, sum(savings) AS s FROM {n} GROUP BY street",
        2,
    )
    .await;
    let most = cells(scene, "SELECT street, count(DISTINCT person) AS n, sum(savings) AS s FROM {n} WHERE band = '35-49' GROUP BY street", 2).await;
    let few = cells(
        scene,
        "SELECT street, count(DISTINCT person) AS n FROM {n} WHERE band = '50-64' GROUP BY street",
        1,
    )
    .await;
    let patterns: Vec<_> = (0..STREETS)
        .map(street_name)
        .map(|s| {
            let n = beside(value(&all, &s, 0), value(&most, &s, 0));
            let total = beside(value(&all, &s, 1), value(&most, &s, 1));
            (
                n,
                total.2.as_deref() == Some("0"),
                value(&few, &s, 0).is_some(),
            )
        })
        .collect();
    let truth: Vec<bool> = targets(scene).iter().map(|r| r.band == "50-64").collect();
    Advantage {
        name: "equality oracle",
        needs: Some(Feature::WholeCells),
        questions: 3,
        facts: STREETS,
        right: learnt(&patterns, &truth),
        baseline: 0.5,
    }
}

/// A registered group less one of its values is the other.
async fn roll_up_tracker(scene: &Scene) -> Advantage {
    let group = cells(scene, "SELECT street, count(DISTINCT person) AS n FROM {n} WHERE tenure IN ('council', 'private') GROUP BY street", 1).await;
    let one = cells(scene, "SELECT street, count(DISTINCT person) AS n FROM {n} WHERE tenure = 'council' GROUP BY street", 1).await;
    let patterns: Vec<_> = (0..STREETS)
        .map(street_name)
        .map(|s| beside(value(&group, &s, 0), value(&one, &s, 0)))
        .collect();
    let truth: Vec<bool> = targets(scene)
        .iter()
        .map(|r| r.tenure == "private")
        .collect();
    Advantage {
        name: "tracker through a registered group",
        needs: Some(Feature::WholeCells),
        questions: 2,
        facts: STREETS,
        right: learnt(&patterns, &truth),
        baseline: 0.5,
    }
}

/// A street's savings less those of its larger band are the target's: more than the middle, or less?
async fn tracker_on_totals(scene: &Scene) -> Advantage {
    const MIDDLE: f64 = 460.0;
    let all = cells(
        scene,
        "SELECT street, sum(savings) AS s FROM {n} GROUP BY street",
        1,
    )
    .await;
    let most = cells(
        scene,
        "SELECT street, sum(savings) AS s FROM {n} WHERE band = '35-49' GROUP BY street",
        1,
    )
    .await;
    let alone = targets(scene)
        .into_iter()
        .filter(|r| r.band == "50-64")
        .collect::<Vec<_>>();
    let right = alone.iter().filter(|r| {
        let s = street_name(r.street);
        let apart = value(&all, &s, 0)
            .zip(value(&most, &s, 0))
            .map_or(0.0, |(a, b)| a - b);
        (apart > MIDDLE) == (r.savings_pence as f64 / 100.0 > MIDDLE)
    });
    let above = alone
        .iter()
        .filter(|r| r.savings_pence as f64 / 100.0 > MIDDLE)
        .count();
    let share = above as f64 / alone.len() as f64;
    Advantage {
        name: "tracker on totals",
        needs: None,
        questions: 2,
        facts: alone.len(),
        right: right.count(),
        baseline: share.max(1.0 - share),
    }
}

/// Nobody of an estate is of the small scheme where nothing of it is withheld.
async fn empty_or_withheld(scene: &Scene) -> Advantage {
    let schemes = cells(
        scene,
        "SELECT estate, scheme, count(DISTINCT person) AS n FROM {e} GROUP BY estate, scheme",
        1,
    )
    .await;
    let shown: Vec<_> = (0..ESTATES)
        .map(estate_name)
        .map(|e| ["A", "B", "C"].map(|s| value(&schemes, &format!("{e}|{s}"), 0).is_some()))
        .collect();
    let truth: Vec<bool> = (0..ESTATES).map(|e| few(scene, e) == 0).collect();
    Advantage {
        name: "an empty cell or a withheld one",
        needs: Some(Feature::WholeCells),
        questions: 1,
        facts: ESTATES,
        right: learnt(&halves(&shown), &halves(&truth)),
        baseline: 0.5,
    }
}

/// Estates in an order in which either half has as many of each kind: they take turns.
fn halves<T: Clone>(of: &[T]) -> Vec<T> {
    let turns = of
        .chunks(4)
        .flat_map(|c| [0, 2, 1, 3].into_iter().filter_map(|i| c.get(i)));
    turns.cloned().collect()
}

/// How many of an estate are of the small scheme.
fn few(scene: &Scene, estate: usize) -> usize {
    let size = PER_STREET * STREETS_PER_ESTATE;
    let people = &scene.truth.residents[estate * size..][..size];
    people.iter().filter(|r| r.scheme == "D").count()
}

/// How many are of the small scheme, where somebody is: the estate less the other schemes, by every partition.
async fn partition_averaging(scene: &Scene) -> Advantage {
    let of = |keys: &'static str| async move {
        let sql = format!("SELECT {keys}, count(DISTINCT person) AS n FROM {{e}} GROUP BY {keys}");
        cells(scene, &sql, 1).await
    };
    let (total, by_flag) = (of("estate").await, of("estate, flag").await);
    let (schemes, finest) = (of("estate, scheme").await, of("estate, flag, scheme").await);
    let flags = ["yes", "no"];
    let (mut facts, mut right) = (0, 0);
    for at in (0..ESTATES).filter(|e| few(scene, *e) > 0) {
        let estate = estate_name(at);
        let wholes = [
            value(&total, &estate, 0),
            sum(flags.map(|f| value(&by_flag, &format!("{estate}|{f}"), 0))),
        ];
        let others = [
            sum(["A", "B", "C"].map(|s| value(&schemes, &format!("{estate}|{s}"), 0))),
            sum(["A", "B", "C"]
                .map(|s| sum(flags.map(|f| value(&finest, &format!("{estate}|{f}|{s}"), 0))))),
        ];
        let mut estimates = Vec::new();
        for whole in wholes.into_iter().flatten() {
            estimates.extend(others.into_iter().flatten().map(|other| whole - other));
        }
        facts += 1;
        right += usize::from(mean_left(&estimates) == few(scene, at));
    }
    Advantage {
        name: "partition averaging",
        needs: None,
        questions: 4,
        facts,
        right,
        baseline: 1.0 / 9.0,
    }
}

fn sum<const N: usize>(parts: [Option<f64>; N]) -> Option<f64> {
    parts.into_iter().sum()
}

fn mean_left(estimates: &[f64]) -> usize {
    if estimates.is_empty() {
        return 5;
    }
    let mean = estimates.iter().sum::<f64>() / estimates.len() as f64;
    whole(mean.clamp(1.0, 9.0)).parse().unwrap()
}

/// Everybody gets the same allowance, so a total of it is a count; what of the count's noise is left?
///
/// The fact is a published cell's exact count, and the baseline how often its published count is exact.
async fn constant_measure(scene: &Scene) -> Advantage {
    let told = cells(scene, "SELECT estate, scheme, sum(allowance) AS s, count(DISTINCT person) AS n FROM {e} GROUP BY estate, scheme", 2).await;
    let mut truth: BTreeMap<String, f64> = BTreeMap::new();
    for r in &scene.truth.residents {
        *truth
            .entry(format!("{}|{}", estate_name(r.estate), r.scheme))
            .or_default() += 1.0;
    }
    let each = ALLOWANCE_PENCE as f64 / 100.0;
    let (mut by_total, mut by_count) = (0, 0);
    for (key, values) in &told {
        by_total += usize::from(values[0].map(|s| (s / each).round()) == Some(truth[key]));
        by_count += usize::from(values[1] == Some(truth[key]));
    }
    let facts = told.len().max(1);
    Advantage {
        name: "a count from a constant measure",
        needs: Some(Feature::EqualParts),
        questions: 1,
        facts,
        right: by_total,
        baseline: by_count as f64 / facts as f64,
    }
}

/// Every table by flag at once, as equations in one unknown a person.
async fn linear_reconstruction(scene: &Scene) -> Advantage {
    const TABLES: [&[&str]; 6] = [
        &[],
        &["street"],
        &["band"],
        &["tenure"],
        &["street", "band"],
        &["street", "tenure"],
    ];
    let residents = &scene.truth.residents;
    let of = |r: &Resident, dimension: &str| match dimension {
        "street" => street_name(r.street),
        "band" => r.band.to_owned(),
        _ => r.tenure.to_owned(),
    };
    let mut equations = Vec::new();
    for table in TABLES {
        let keys: Vec<&str> = ["flag"].into_iter().chain(table.iter().copied()).collect();
        let keys = keys.join(", ");
        let told = cells(
            scene,
            &format!("SELECT {keys}, count(DISTINCT person) AS n FROM {{n}} GROUP BY {keys}"),
            1,
        )
        .await;
        let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, r) in residents.iter().enumerate() {
            let key: String = table.iter().map(|d| format!("|{}", of(r, d))).collect();
            members.entry(key).or_default().push(at);
        }
        for (key, people) in members {
            if let Some(n) = value(&told, &format!("yes{key}"), 0) {
                equations.push(Equation {
                    people: people.clone(),
                    total: n,
                });
            }
            if let Some(n) = value(&told, &format!("no{key}"), 0) {
                let total = people.len() as f64 - n;
                equations.push(Equation { people, total });
            }
        }
    }
    let guesses = solve(residents.len(), &equations);
    let right = residents
        .iter()
        .zip(&guesses)
        .filter(|(r, x)| r.flag == (**x > 0.5))
        .count();
    let yes = residents.iter().filter(|r| r.flag).count() as f64 / residents.len() as f64;
    Advantage {
        name: "linear reconstruction",
        needs: None,
        questions: TABLES.len(),
        facts: residents.len(),
        right,
        baseline: yes.max(1.0 - yes),
    }
}
