//! The canary town: its people, its files, and what is true of it.

use crate::plots::{self, Plotted};
use guildhall_model::SharedClock;
use guildhall_testkit::TestCity;

/// What the system does by now of what it did not when the suite was written. An attack that rests on what is not there
/// yet is run and counted as awaited, and does not fail the suite. `GUILDHALL_FEATURES=faults,hang-up` adds to it for
/// one run.
pub(crate) const PRESENT: &[Feature] = &[
    Feature::TotalRows,
    Feature::HangUp,
    Feature::WholeCells,
    Feature::EqualParts,
    Feature::Faults,
    Feature::ErrorBounds,
];

/// A part of the system that some verdicts rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// A cell that is all of its parent, or an empty one, cannot be told from a cell that is withheld.
    WholeCells,
    /// A total whose parts are all the same does not tell the count that it is of.
    EqualParts,
    /// Columns of cells carry `guildhall.error` up to whoever asked.
    ErrorBounds,
    /// No error over an open product is the doing of a row that its row filter keeps back.
    TotalRows,
    /// A statement whose constants cannot be computed is its author's fault (`INVALID_ARGUMENT`), not ours (`INTERNAL`).
    Faults,
    /// A query whose asker has hung up ends, whatever it was doing. Until then its attack is not run: it would not end.
    HangUp,
}

impl Feature {
    pub(crate) fn is_present(self) -> bool {
        let named = std::env::var("GUILDHALL_FEATURES").unwrap_or_default();
        PRESENT.contains(&self) || named.split(',').any(|n| n == self.name())
    }

    fn name(self) -> &'static str {
        match self {
            Self::WholeCells => "whole-cells",
            Self::EqualParts => "equal-parts",
            Self::ErrorBounds => "error-bounds",
            Self::TotalRows => "total-rows",
            Self::Faults => "faults",
            Self::HangUp => "hang-up",
        }
    }
}

/// The most that a released count is off by.
pub(crate) const COUNT_BOUND: i64 = 5;
/// The fewest people that a released cell stands on.
pub(crate) const MINIMUM: usize = 10;

/// One care case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) person: String,
    pub(crate) name: String,
    pub(crate) ward: String,
    pub(crate) age_band: &'static str,
    pub(crate) need: &'static str,
    pub(crate) street: String,
    /// Month, day, hour, minute of 2025.
    pub(crate) opened: (u64, u64, u64, u64),
    pub(crate) cost_pence: i64,
    pub(crate) hours: i64,
    pub(crate) balance: f64,
    pub(crate) note: String,
}

/// One resident; `estate` and `street` are numbers.
#[derive(Debug, Clone)]
pub(crate) struct Resident {
    pub(crate) street: usize,
    pub(crate) estate: usize,
    pub(crate) band: &'static str,
    pub(crate) tenure: &'static str,
    pub(crate) flag: bool,
    pub(crate) scheme: &'static str,
    pub(crate) savings_pence: i64,
}

/// All that is true.
#[derive(Debug)]
pub(crate) struct Town {
    pub(crate) cases: Vec<Case>,
    pub(crate) neighbours: Vec<Case>,
    pub(crate) residents: Vec<Resident>,
    /// Of small tables.
    pub(crate) plots: Vec<Plotted>,
    /// Of each block, whether its target owes.
    pub(crate) debtors: Vec<bool>,
}

/// Streets with a target each: twelve people alike, and a thirteenth of whom two facts are a coin's.
pub(crate) const STREETS: usize = 400;
/// People of one street.
pub(crate) const PER_STREET: usize = 13;
/// Streets of one estate.
pub(crate) const STREETS_PER_ESTATE: usize = 4;
/// What every resident gets, in pence.
pub(crate) const ALLOWANCE_PENCE: i64 = 7_000;

/// Numbers by SplitMix64, from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// In another order.
    pub(crate) fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for at in (1..items.len()).rev() {
            items.swap(at, self.index(at + 1));
        }
        items
    }
}

const AGES: [&str; 4] = ["18-49", "50-64", "65-79", "80+"];
const NEEDS: [&str; 4] = ["home_care", "day_care", "respite", "equipment"];

impl Town {
    pub(crate) fn new() -> Self {
        Self {
            cases: cases(),
            neighbours: neighbours(),
            residents: residents(),
            plots: plots::people(),
            debtors: plots::debtors(),
        }
    }

    /// How many cases meet `wanted`; each is one person.
    pub(crate) fn count(&self, wanted: impl Fn(&Case) -> bool) -> i64 {
        i64::try_from(self.cases.iter().filter(|c| wanted(c)).count()).unwrap()
    }

    /// A running city in which all of this is kept.
    pub(crate) async fn start(&self, clock: SharedClock) -> TestCity {
        let folder = tempfile::tempdir().unwrap();
        let described = folder.path().join("city");
        crate::files::write(self, &described);
        TestCity::at(&described, folder, clock).await.unwrap()
    }
}

/// 2,400 people: three large wards, one of sixty, one of seven.
fn cases() -> Vec<Case> {
    let mut chance = Chance(20_260_801);
    let mut all = Vec::new();
    for i in 0..2_400_u64 {
        let ward = match i {
            0..60 => "W4",
            60..67 => "W5",
            67..600 => "W3",
            600..1_350 => "W2",
            _ => "W1",
        };
        // In W4 four people are 80 or older, and many are in each other band.
        let age_band = match i {
            0..4 => "80+",
            4..60 => AGES[usize::try_from(i % 3).unwrap()],
            _ => chance.pick(&AGES),
        };
        all.push(Case {
            person: format!("P-{:06}", 100_000 + i * 7),
            name: format!("Resident Number {i}"),
            ward: ward.to_owned(),
            age_band,
            need: chance.pick(&NEEDS),
            street: format!("Street {:02}", chance.below(36)),
            opened: (
                1 + chance.below(6),
                1 + chance.below(28),
                chance.below(24),
                chance.below(60),
            ),
            cost_pence: 5_000 + i64::try_from(chance.below(40_000)).unwrap(),
            hours: 1 + i64::try_from(chance.below(40)).unwrap(),
            // Few owe anything, so that no total is withheld for being next to nothing.
            balance: f64::from(u32::try_from(chance.below(2_000)).unwrap()) - 100.0,
            note: format!("nothing to say of {i}"),
        });
    }
    plant(&mut all);
    all
}

/// The canaries: four people of whom nothing may ever be seen.
fn plant(all: &mut [Case]) {
    // Gannet Row: fifteen people of small cost, and one who makes up nearly all of the street's.
    for (i, case) in all
        .iter_mut()
        .filter(|c| c.ward == "W1")
        .take(15)
        .enumerate()
    {
        "Gannet Row".clone_into(&mut case.street);
        case.cost_pence = 500 + 10 * i64::try_from(i).unwrap();
    }
    let rich = all.iter_mut().find(|c| c.street == "Gannet Row").unwrap();
    "P-7Q2MZEBEDEE".clone_into(&mut rich.person);
    "Zebedee Quillfeather".clone_into(&mut rich.name);
    rich.cost_pence = 1_193_743;
    "red kite seen at dawn, says the caseworker".clone_into(&mut rich.note);
    // Hoopoe Cut: three people, so that the street's very name is a secret.
    for case in all.iter_mut().filter(|c| c.ward == "W2").take(3) {
        "Hoopoe Cut".clone_into(&mut case.street);
    }
    let far = all.iter_mut().find(|c| c.street == "Hoopoe Cut").unwrap();
    "P-4K9XPHILOMENA".clone_into(&mut far.person);
    "Philomena Corncrake".clone_into(&mut far.name);
    far.hours = 98_765_431;
    far.balance = 7_654.321_098;
    streets_of_totals(all);
    // A need that thirty people have, to be withheld in place of a larger one beside the next.
    for case in all.iter_mut().filter(|c| c.ward == "W3").take(30) {
        case.need = "night_sitting";
    }
    // A need that two people have.
    for case in all.iter_mut().filter(|c| c.ward == "W5").take(2) {
        case.need = "kestrel fostering";
    }
    let rare = all
        .iter_mut()
        .find(|c| c.need == "kestrel fostering")
        .unwrap();
    "P-1W8CIGNATIUS".clone_into(&mut rare.person);
    "Ignatius Nightjar".clone_into(&mut rare.name);
}

/// Streets whose counts may be told, and of whose totals one rule each keeps one back.
fn streets_of_totals(all: &mut [Case]) {
    let mut moved = |street: &str, people: usize, change: &dyn Fn(usize, &mut Case)| {
        let free = |c: &&mut Case| c.ward == "W1" && c.street.starts_with("Street ");
        for (i, case) in all.iter_mut().filter(free).take(people).enumerate() {
            street.clone_into(&mut case.street);
            change(i, case);
        }
    };
    moved("Heron Row", 20, &|i, c| {
        c.cost_pence = if i == 0 { 50_000 } else { 100 };
    });
    moved("Siskin Side", 30, &|i, c| {
        c.balance = if i == 0 { -400.0 } else { 500.0 };
    });
}

/// 400 people of the other council, in two wards; one is a canary.
fn neighbours() -> Vec<Case> {
    let mut chance = Chance(7);
    let mut all: Vec<Case> = (0..400_u64)
        .map(|i| Case {
            person: format!("L-{:06}", 300_000 + i * 3),
            name: format!("Neighbour Number {i}"),
            ward: if i < 200 { "L1" } else { "L2" }.to_owned(),
            age_band: chance.pick(&AGES),
            need: chance.pick(&NEEDS),
            street: format!("Lane {}", chance.below(4)),
            opened: (1 + chance.below(6), 1 + chance.below(28), 9, 0),
            cost_pence: 5_000 + i64::try_from(chance.below(40_000)).unwrap(),
            hours: 5,
            balance: 0.0,
            note: String::new(),
        })
        .collect();
    "L-5T3VPEREGRINE".clone_into(&mut all[0].person);
    "Peregrine Hobbydale".clone_into(&mut all[0].name);
    all
}

fn residents() -> Vec<Resident> {
    let mut chance = Chance(99);
    // As many of either side: who guesses without the data is right for half of them.
    let coins = |chance: &mut Chance| -> Vec<bool> {
        chance.shuffled((0..STREETS).map(|i| i % 2 == 0).collect())
    };
    let (bands, tenures) = (coins(&mut chance), coins(&mut chance));
    let mut all = Vec::new();
    for street in 0..STREETS {
        for at in 0..PER_STREET {
            let target = at == 0;
            all.push(Resident {
                street,
                estate: street / STREETS_PER_ESTATE,
                band: if target && bands[street] {
                    "50-64"
                } else {
                    "35-49"
                },
                tenure: if target && tenures[street] {
                    "private"
                } else {
                    "council"
                },
                flag: chance.below(2) == 0,
                scheme: "A",
                savings_pence: 1_000 + i64::try_from(chance.below(90_000)).unwrap(),
            });
        }
    }
    schemes(&mut all, &mut chance);
    all
}

/// In half of the estates nobody is of scheme D, in the others one to nine people are; the rest are of A, B and C, at
/// least twelve each.
fn schemes(all: &mut [Resident], chance: &mut Chance) {
    let size = PER_STREET * STREETS_PER_ESTATE;
    for (estate, people) in all.chunks_mut(size).enumerate() {
        let few = if estate % 2 == 0 {
            0
        } else {
            1 + estate / 2 % 9
        };
        let mut of = vec!["D"; few];
        for scheme in ["A", "B", "C"] {
            of.extend([scheme; 12]);
        }
        while of.len() < people.len() {
            of.push(chance.pick(&["A", "B", "C"]));
        }
        for (person, scheme) in people.iter_mut().zip(chance.shuffled(of)) {
            person.scheme = scheme;
        }
    }
}

/// How a street of residents is written.
pub(crate) fn street_name(street: usize) -> String {
    format!("T{street:03}")
}

/// How an estate is written.
pub(crate) fn estate_name(estate: usize) -> String {
    format!("E{estate:02}")
}
