//! Lines of cells: what is withheld of the children of a cell that is told, and whether the others give it away.
//!
//! Each attack is on a plot of its own ([`crate::plots`]), by somebody who adds and takes away all that is told of it.

use crate::judge::{Finding, Scene};
use crate::plots::{KINDS, NOBODY, Plotted, TWOS};
use crate::town::MINIMUM;
use crate::wire::rows;
use std::collections::{BTreeMap, BTreeSet};

const CLASS: &str = "lines and margins";
const PEOPLE: &str = "count(DISTINCT person)";
const HOURS: &str = "sum(hours)";
/// Which part of the largest contribution a step of a total's own noise is.
const STEP_PARTS: f64 = 20.0;

/// What is told of which plot, and who is after what.
const LINES: &[(&str, &str, &str)] = &[
    (
        "parts of an area that is withheld for another",
        "plot_heirs",
        PEOPLE,
    ),
    (
        "what is withheld for another, alone in its own line",
        "plot_pairs",
        PEOPLE,
    ),
    ("a cell of nobody, by its neighbours", "plot_nobody", PEOPLE),
    ("a kind of nobody that is declared", "plot_declared", PEOPLE),
    ("two areas of few, as one", "plot_few", PEOPLE),
    (
        "one person's hours, with those of an area that has none",
        "plot_rich",
        HOURS,
    ),
];

pub(crate) async fn findings(scene: &Scene) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, plot, told) in LINES {
        let result = told_of(scene, plot, told).await.judged();
        findings.push(Finding::of(CLASS, name, "withheld", false, result));
    }
    for (name, verdict, result) in [
        (
            "a table the other way about",
            "same-as",
            turned(scene).await,
        ),
        ("the order of the rows", "same-as", in_order(scene).await),
        (
            "totals of two people each, many times",
            "withheld",
            twos(scene).await,
        ),
        ("more than counts of each", "released", above(scene).await),
        ("less than counts of each", "released", below(scene).await),
        (
            "one who owes among those who do not",
            "released",
            owing(scene).await,
        ),
        (
            "one noise for two measures",
            "released",
            two_measures(scene).await,
        ),
    ] {
        findings.push(Finding::of(CLASS, name, verdict, false, result));
    }
    findings
}

fn product(plot: &str) -> String {
    format!("siskin.care.{plot}")
}

/// Which area or kind a cell is of; none where it is of all.
type Place = (Option<String>, Option<String>);

/// All that is told of one statistic of a plot, beside the truth.
struct Told<'a> {
    people: Vec<&'a Plotted>,
    of_hours: bool,
    areas: BTreeSet<String>,
    kinds: BTreeSet<String>,
    shown: BTreeSet<Place>,
}

async fn told_of<'a>(scene: &'a Scene, plot: &str, told: &str) -> Told<'a> {
    let people: Vec<&Plotted> = scene
        .truth
        .plots
        .iter()
        .filter(|p| p.plot == plot)
        .collect();
    let mut kinds: BTreeSet<String> = people.iter().map(|p| p.kind.to_owned()).collect();
    if plot == "plot_declared" {
        kinds.insert(NOBODY.to_owned());
    }
    let mut shown = BTreeSet::new();
    for keys in [&[][..], &["area"], &["kind"], &["area", "kind"]] {
        for (key, _) in cells(scene, plot, keys, told).await {
            let of = |name| {
                keys.iter()
                    .position(|k| *k == name)
                    .map(|at| key[at].clone())
            };
            shown.insert((of("area"), of("kind")));
        }
    }
    Told {
        areas: people.iter().map(|p| p.area.clone()).collect(),
        people,
        of_hours: told == HOURS,
        kinds,
        shown,
    }
}

/// The cells of a plot of which `told` is there, in the order in which they come.
async fn cells(scene: &Scene, plot: &str, keys: &[&str], told: &str) -> Vec<(Vec<String>, f64)> {
    let (product, names) = (product(plot), keys.join(", "));
    let sql = match keys {
        [] => format!("SELECT {told} AS n FROM {product}"),
        _ => format!("SELECT {names}, {told} AS n FROM {product} GROUP BY {names}"),
    };
    let shown = rows(&scene.mallory, &sql).await.into_iter();
    let cell = |row: String| {
        let mut parts: Vec<String> = row.split('|').map(str::to_owned).collect();
        let n = parts.pop()?.parse().ok()?;
        Some((parts, n))
    };
    shown.filter_map(cell).collect()
}

impl Told<'_> {
    /// Whether no line gives away what is withheld of it.
    fn judged(&self) -> Result<(), String> {
        if !self.shown.contains(&(None, None)) || self.shown.len() < 3 {
            return Err(format!("hardly anything is told: {:?}", self.shown));
        }
        for (area, kind) in &self.shown {
            let above = [(area.clone(), None), (None, kind.clone())];
            if !above.iter().all(|cell| self.shown.contains(cell)) {
                return Err(format!(
                    "{area:?} {kind:?} is told, and what it lies in is not"
                ));
            }
        }
        self.lines().iter().try_for_each(|line| self.line(line))
    }

    /// The children of each cell that is told, along either axis.
    fn lines(&self) -> Vec<Vec<Place>> {
        let mut lines = Vec::new();
        let told = self
            .shown
            .iter()
            .filter(|(a, k)| a.is_none() || k.is_none());
        for (area, kind) in told {
            if area.is_none() {
                lines.push(
                    self.areas
                        .iter()
                        .map(|a| (Some(a.clone()), kind.clone()))
                        .collect(),
                );
            }
            if kind.is_none() {
                lines.push(
                    self.kinds
                        .iter()
                        .map(|k| (area.clone(), Some(k.clone())))
                        .collect(),
                );
            }
        }
        lines
    }

    /// What is withheld of a line is told by its parent less the rest: so it is not one cell, nor few people's, nor one
    /// person's or two's.
    fn line(&self, cells: &[Place]) -> Result<(), String> {
        let missing: Vec<&Place> = cells.iter().filter(|c| !self.shown.contains(*c)).collect();
        let people: Vec<&Plotted> = missing.iter().flat_map(|cell| self.of(cell)).collect();
        let bad = match missing.as_slice() {
            [] => return Ok(()),
            [_] => "alone",
            _ if people.len() < MINIMUM => "of few people",
            _ if self.of_hours && dominated(&people) => "of one or two people",
            _ => return Ok(()),
        };
        Err(format!("withheld of a line is {missing:?}, which is {bad}"))
    }

    fn of(&self, (area, kind): &Place) -> Vec<&Plotted> {
        let people = self.people.iter().copied();
        let within = |p: &&Plotted| {
            area.as_ref().is_none_or(|a| *a == p.area) && kind.as_ref().is_none_or(|k| *k == p.kind)
        };
        people.filter(within).collect()
    }
}

/// Whether two people have nine tenths of the hours.
fn dominated(people: &[&Plotted]) -> bool {
    let mut hours: Vec<i64> = people.iter().map(|p| p.hours).collect();
    hours.sort_unstable_by(|a, b| b.cmp(a));
    10 * hours.iter().take(2).sum::<i64>() >= 9 * hours.iter().sum::<i64>()
}

/// The same table has the same cells whichever key is named first: two patterns would withhold less together.
async fn turned(scene: &Scene) -> Result<(), String> {
    let one = cells(scene, "plot_turned", &["area", "kind"], PEOPLE).await;
    let other = cells(scene, "plot_turned", &["kind", "area"], PEOPLE).await;
    let one: BTreeSet<Vec<String>> = one.into_iter().map(|(key, _)| key).collect();
    let other = other
        .into_iter()
        .map(|(key, _)| key.into_iter().rev().collect());
    let other: BTreeSet<Vec<String>> = other.collect();
    match one == other && !one.is_empty() {
        true => Ok(()),
        false => Err(format!("{one:?} and {other:?}")),
    }
}

/// Cells come in the order of their keys, which says nothing of the file, where they are the other way about.
async fn in_order(scene: &Scene) -> Result<(), String> {
    let told = cells(scene, "plot_many", &["area"], PEOPLE).await;
    match told.len() > 10 && told.is_sorted_by_key(|(key, _)| key.clone()) {
        true => Ok(()),
        false => Err(format!("in this order: {told:?}")),
    }
}

/// Of which two of twenty have nine tenths, whichever share of the rows each of the two is in.
async fn twos(scene: &Scene) -> Result<(), String> {
    let counted = cells(scene, "plot_twos", &["area"], PEOPLE).await;
    let added = cells(scene, "plot_twos", &["area"], HOURS).await;
    match (counted.len(), added.as_slice()) {
        (TWOS, []) => Ok(()),
        _ => Err(format!("of {} areas: {added:?}", counted.len())),
    }
}

/// What is told that the people of an area have given; 20 to 100 count of each.
async fn given(scene: &Scene, plot: &str, area: &str) -> Result<(f64, f64), String> {
    let people = scene.truth.plots.iter();
    let people = people.filter(|p| p.plot == plot && p.area == area);
    let told = cells(scene, plot, &["area"], "sum(given)").await;
    let told = told.into_iter().find(|(key, _)| key == &[area]);
    let (_, sum) = told.ok_or_else(|| format!("nothing is told of `{area}`"))?;
    Ok((sum, people.count() as f64))
}

/// Nobody counts for more than the product says: five people more, and five steps, is what noise adds.
async fn above(scene: &Scene) -> Result<(), String> {
    let (sum, people) = given(scene, "plot_clamped", "high").await?;
    match sum <= 100.0 * (people + 5.0) + 5.0 * 100.0 / STEP_PARTS + 1.0 {
        true => Ok(()),
        false => Err(format!("{people} people have given {sum}")),
    }
}

async fn below(scene: &Scene) -> Result<(), String> {
    let (sum, people) = given(scene, "plot_clamped", "low").await?;
    match sum >= 20.0 * (people - 5.0) - 5.0 - 1.0 {
        true => Ok(()),
        false => Err(format!("{people} people have given {sum}")),
    }
}

/// One who gives less than nothing counts like one who gives little: a total that is withheld would say that he is there.
async fn owing(scene: &Scene) -> Result<(), String> {
    given(scene, "plot_owing", "owing").await.map(drop)
}

/// Whoever knows two totals of the same people: their own noise is not one, though their names are as long.
async fn two_measures(scene: &Scene) -> Result<(), String> {
    let mut own: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let counts = cells(scene, "plot_many", &["area"], PEOPLE).await;
    let counts: BTreeMap<String, f64> =
        counts.into_iter().map(|(k, n)| (k[0].clone(), n)).collect();
    for (told, of) in [
        (HOURS, (|p| p.hours) as fn(&Plotted) -> i64),
        ("sum(miles)", |p| p.miles),
    ] {
        for (key, sum) in cells(scene, "plot_many", &["area"], told).await {
            let people = scene.truth.plots.iter();
            let people = people.filter(|p| p.plot == "plot_many" && p.area == key[0]);
            let parts: Vec<i64> = people.map(of).collect();
            let all = parts.iter().sum::<i64>() as f64;
            let largest = parts.iter().copied().max().unwrap_or(0) as f64;
            let shared = (counts[&key[0]] - parts.len() as f64) * all / parts.len() as f64;
            let step = (largest / STEP_PARTS).floor();
            own.entry(key[0].clone())
                .or_default()
                .push((sum - all - shared) / step);
        }
    }
    let both: Vec<&Vec<f64>> = own.values().filter(|o| o.len() == 2).collect();
    let one = both.iter().all(|o| (o[0] - o[1]).abs() < 0.5);
    match both.len() > 20 && !one {
        true => Ok(()),
        false => Err(format!("of {} areas, everywhere", both.len())),
    }
}

#[test]
fn kinds_are_those_of_the_plots() {
    let kinds: BTreeSet<&str> = crate::plots::people().iter().map(|p| p.kind).collect();
    assert_eq!(kinds, KINDS.into());
}
