//! Small tables, each a product of its own over one dataset, whose cells are placed so that one rule alone keeps a secret;
//! and blocks of people for free questions, of whom one each is a target.
//!
//! A cell that is told whatever its noise has fifteen people at least.

use crate::town::Chance;
use std::fmt::Write as _;

/// Somebody of a plot.
#[derive(Debug, Clone)]
pub(crate) struct Plotted {
    pub(crate) plot: &'static str,
    pub(crate) area: String,
    pub(crate) kind: &'static str,
    pub(crate) hours: i64,
    pub(crate) miles: i64,
    pub(crate) given: i64,
}

/// The kinds that people are of, in the order of [`PLOTS`].
pub(crate) const KINDS: [&str; 3] = ["x", "y", "z"];
/// The kind that one product declares, and that nobody is of.
pub(crate) const NOBODY: &str = "w";

/// How many people of each kind an area has.
type Area = (&'static str, [usize; 3]);

/// The plots with how many people are where.
const PLOTS: &[(&str, &[Area])] = &[
    // B is withheld for A, and each of its parts is larger than that of C beside it.
    (
        "plot_heirs",
        &[
            ("A", [7, 0, 0]),
            ("B", [18, 17, 0]),
            ("C", [15, 15, 30]),
            ("D", [40, 41, 42]),
        ],
    ),
    // What is withheld beside A's seven is alone in its own line, unless another is withheld there.
    (
        "plot_pairs",
        &[("A", [7, 20, 40]), ("B", [30, 41, 42]), ("C", [43, 44, 45])],
    ),
    (
        "plot_nobody",
        &[("A", [0, 20, 40]), ("B", [30, 41, 42]), ("C", [43, 44, 45])],
    ),
    ("plot_declared", &[("A", [30, 35, 40])]),
    // Seven people in two areas.
    (
        "plot_few",
        &[
            ("A", [3, 0, 0]),
            ("B", [4, 0, 0]),
            ("C", [30, 0, 0]),
            ("D", [40, 0, 0]),
        ],
    ),
    // The hours of A are one person's, and those of B next to nothing.
    (
        "plot_rich",
        &[
            ("A", [15, 0, 0]),
            ("B", [16, 0, 0]),
            ("C", [30, 0, 0]),
            ("D", [40, 0, 0]),
        ],
    ),
    // Whoever looks along kinds first withholds others than who looks along areas first.
    (
        "plot_turned",
        &[("A", [7, 79, 58]), ("B", [87, 76, 70]), ("C", [77, 23, 48])],
    ),
    // Everybody gives more than counts, or less.
    ("plot_clamped", &[("high", [40, 0, 0]), ("low", [41, 0, 0])]),
    // One owes.
    (
        "plot_owing",
        &[("owing", [42, 0, 0]), ("other", [43, 0, 0])],
    ),
];

/// Areas of many people each, last name first.
const MANY: usize = 40;
/// Areas of twenty, two of whom have nine tenths of the hours. A level above makes three tables, one of which is put together
/// of what two threads count.
pub(crate) const TWOS: usize = 24;

/// Everybody of every plot.
pub(crate) fn people() -> Vec<Plotted> {
    let mut chance = Chance(424_242);
    let mut all = Vec::new();
    let mut put = |plot, area: &str, kind, people: usize| {
        for at in 0..people {
            let mut some = || 100 + i64::try_from(chance.below(1_900)).unwrap();
            let (hours, miles) = (some(), some());
            all.push(Plotted {
                plot,
                area: area.to_owned(),
                kind,
                hours: hours_of(plot, area, at).unwrap_or(hours),
                miles,
                given: given_by(area, at),
            });
        }
    };
    for (plot, areas) in PLOTS {
        for (area, people) in *areas {
            KINDS
                .into_iter()
                .zip(people)
                .for_each(|(kind, n)| put(plot, area, kind, *n));
        }
    }
    for at in (0..MANY).rev() {
        put("plot_many", &format!("A{at:02}"), "x", 30);
    }
    for at in 0..TWOS {
        put("plot_twos", &format!("A{at:02}"), "x", 20);
    }
    all
}

/// The hours of the person `at` an area of a plot that is about them.
fn hours_of(plot: &str, area: &str, at: usize) -> Option<i64> {
    match (plot, area, at) {
        ("plot_rich", "A", 0) => Some(10_000),
        ("plot_rich", "A" | "B", _) => Some(10),
        ("plot_rich", _, _) => Some(1_000),
        ("plot_twos", _, 0) => Some(50_000),
        ("plot_twos", _, 1) => Some(41_000),
        ("plot_twos", _, _) => Some(500),
        _ => None,
    }
}

/// What the person `at` an area gives, of which 20 to 100 count.
fn given_by(area: &str, at: usize) -> i64 {
    match (area, at) {
        ("high", _) => 300,
        ("low", _) => 1,
        ("owing", 0) => -50,
        _ => 50,
    }
}

pub(crate) fn plots_csv(people: &[Plotted]) -> String {
    let mut csv = "person,plot,area,kind,hours,miles,given\n".to_owned();
    for (at, p) in people.iter().enumerate() {
        let (plot, area, kind) = (p.plot, &p.area, p.kind);
        let told = format!("{},{},{}", p.hours, p.miles, p.given);
        writeln!(csv, "K-{at:05},{plot},{area},{kind},{told}").unwrap();
    }
    csv
}

/// The product of each plot, from the template of all.
pub(crate) fn products(template: &str) -> Vec<(String, String)> {
    let others = ["plot_many", "plot_twos"];
    let names = PLOTS.iter().map(|(name, _)| *name).chain(others);
    let product = |name: &str| {
        let areas = match name {
            "plot_many" | "plot_twos" => {
                "roll_ups = [{ name = \"first\", values = [\"A00\", \"A01\", \"A02\", \"A03\"] }]"
            }
            _ => "",
        };
        let kinds = match name {
            "plot_declared" => format!("values = {:?}", [NOBODY, "x", "y", "z"]),
            _ => String::new(),
        };
        template
            .replace("[PLOT]", name)
            .replace("[AREAS]", areas)
            .replace("[KINDS]", &kinds)
    };
    names
        .map(|name| (format!("{name}.toml"), product(name)))
        .collect()
}

/// Blocks of [`PER_BLOCK`] people; of each the first owes all that counts, or nothing, by a coin.
pub(crate) const BLOCKS: usize = 400;
pub(crate) const PER_BLOCK: usize = 3;
const LEAST_OWED: i64 = -1_000;

pub(crate) fn block_name(block: usize) -> String {
    format!("B{block:03}")
}

/// Of each block, whether its target owes.
pub(crate) fn debtors() -> Vec<bool> {
    let mut chance = Chance(31_337);
    chance.shuffled((0..BLOCKS).map(|i| i % 2 == 0).collect())
}

pub(crate) fn blocks_csv(debtors: &[bool]) -> String {
    let mut csv = "person,block,letter,owed\n".to_owned();
    for (block, owes) in debtors.iter().enumerate() {
        for at in 0..PER_BLOCK {
            let owed = if at == 0 && *owes { LEAST_OWED } else { 0 };
            writeln!(csv, "D-{block:03}-{at},{},a,{owed}", block_name(block)).unwrap();
        }
    }
    csv
}
