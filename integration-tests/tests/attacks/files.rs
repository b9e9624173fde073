//! The town's folder: templates, and the rows as its departments' files hold them.

use crate::plots;
use crate::town::{
    ALLOWANCE_PENCE, Case, Chance, Resident, STREETS, Town, estate_name, street_name,
};
use std::fmt::Write as _;
use std::path::Path;

/// Writes the town's folder.
pub(crate) fn write(town: &Town, to: &Path) {
    for (file, text) in every_template() {
        let path = to.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(
            path,
            text.replace("[STREETS]", &streets())
                .replace("[BLOCKS]", &blocks()),
        )
        .unwrap();
    }
    let products = to.join("siskin/care/products");
    for (file, text) in plots::products(include_str!("town/care/products/plot.toml")) {
        std::fs::write(products.join(file), text).unwrap();
    }
    let care = to.join("siskin/care/imports");
    let hall = to.join("siskin/hall/imports");
    std::fs::write(care.join("cases.csv"), cases_csv(&town.cases)).unwrap();
    std::fs::write(care.join("visits.csv"), visits_csv()).unwrap();
    std::fs::write(care.join("residents.csv"), residents_csv(&town.residents)).unwrap();
    std::fs::write(care.join("plots.csv"), plots::plots_csv(&town.plots)).unwrap();
    std::fs::write(care.join("blocks.csv"), plots::blocks_csv(&town.debtors)).unwrap();
    std::fs::write(
        to.join("linnet/care/imports/cases.csv"),
        cases_csv(&town.neighbours),
    )
    .unwrap();
    std::fs::write(hall.join("wards.csv"), WARDS).unwrap();
    std::fs::write(hall.join("bookings.csv"), bookings_csv()).unwrap();
    std::fs::write(hall.join("permits.csv"), permits_csv()).unwrap();
    std::fs::write(hall.join("register.csv"), REGISTER).unwrap();
}

/// Every street, as values of a dimension are written.
fn streets() -> String {
    let names: Vec<String> = (0..STREETS).map(street_name).collect();
    format!("{names:?}")
}

fn blocks() -> String {
    let names: Vec<String> = (0..plots::BLOCKS).map(plots::block_name).collect();
    format!("{names:?}")
}

macro_rules! templates {
    ($($council:literal / $file:literal),* $(,)?) => {
        &[$((concat!($council, "/", $file), include_str!(concat!("town/", $file)))),*]
    };
}

const OF_COUNCILS: &[(&str, &str)] = templates![
    "siskin" / "care/imports/cases.toml",
    "siskin" / "care/imports/visits.toml",
    "siskin" / "care/imports/residents.toml",
    "siskin" / "care/imports/plots.toml",
    "siskin" / "care/imports/blocks.toml",
    "siskin" / "care/products/cases.toml",
    "siskin" / "care/products/visits.toml",
    "siskin" / "care/products/neighbours.toml",
    "siskin" / "care/products/estates.toml",
    "siskin" / "care/products/surveys.toml",
    "siskin" / "care/products/panel.toml",
    "siskin" / "care/products/blocks.toml",
    "siskin" / "hall/imports/wards.toml",
    "siskin" / "hall/imports/bookings.toml",
    "siskin" / "hall/imports/permits.toml",
    "siskin" / "hall/imports/register.toml",
    "siskin" / "hall/products/wards.toml",
    "siskin" / "hall/products/bookings.toml",
    "siskin" / "hall/products/permits.toml",
    "siskin" / "hall/products/quarantine_register.toml",
    "linnet" / "care/imports/cases.toml",
    "linnet" / "care/products/cases.toml",
];

const OF_TOWN: &[(&str, &str)] = &[
    ("city.toml", include_str!("town/city.toml")),
    ("council.cedar", include_str!("town/council.cedar")),
    ("hall.cedar", include_str!("town/hall.cedar")),
    ("neighbour.cedar", include_str!("town/neighbour.cedar")),
];

fn every_template() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    OF_TOWN.iter().chain(OF_COUNCILS)
}

fn pounds(pence: i64) -> String {
    format!("{}.{:02}", pence / 100, pence % 100)
}

fn cases_csv(cases: &[Case]) -> String {
    let mut csv =
        "person,name,ward,age_band,need,street,opened,weekly_cost,hours,balance,note\n".to_owned();
    for c in cases {
        let (month, day, hour, minute) = c.opened;
        writeln!(
            csv,
            "{},{},{},{},{},{},2025-{month:02}-{day:02} {hour:02}:{minute:02},{},{},{},\"{}\"",
            c.person,
            c.name,
            c.ward,
            c.age_band,
            c.need,
            c.street,
            pounds(c.cost_pence),
            c.hours,
            c.balance,
            c.note
        )
        .unwrap();
    }
    csv
}

/// In W1 and W2 three rows a person; in W3 at night one person with 300 rows among twelve; in W4 at night three
/// people with two hundred each. By phone, in W5 five of twenty have minutes, in W7 there are nine people, and in W8 two
/// of twenty have nine tenths of all minutes, neither by far the most.
fn visits_csv() -> String {
    let mut csv = "person,ward,kind,minutes\n".to_owned();
    for i in 0..20 {
        let none = if i < 5 { "30" } else { "" };
        writeln!(csv, "P-{i:05},W5,phone,{none}").unwrap();
    }
    let mut row = |person: &str, ward: &str, kind: &str, minutes: u64| {
        writeln!(csv, "{person},{ward},{kind},{minutes}").unwrap();
    };
    for i in 0..9 {
        row(&format!("Q-{i:05}"), "W7", "phone", 30);
    }
    for i in 0..20 {
        let minutes = [500, 410].get(i).copied().unwrap_or(5);
        row(&format!("S-{i:05}"), "W8", "phone", minutes);
    }
    let mut chance = Chance(5);
    for i in 0..800_u64 {
        for kind in ["day", "day", "evening"] {
            let ward = if i % 2 == 0 { "W1" } else { "W2" };
            row(&format!("V-{i:05}"), ward, kind, 10 + chance.below(50));
        }
    }
    for i in 0..12_u64 {
        row(&format!("N-{i:05}"), "W3", "night", 30);
    }
    for _ in 1..300 {
        row("N-00000", "W3", "night", 1);
    }
    for i in 0..3_u64 {
        for _ in 0..200 {
            row(&format!("M-{i:05}"), "W4", "night", 2);
        }
    }
    csv
}

fn residents_csv(residents: &[Resident]) -> String {
    let mut csv = "person,street,estate,band,tenure,flag,scheme,allowance,savings\n".to_owned();
    for (i, r) in residents.iter().enumerate() {
        writeln!(
            csv,
            "R-{i:06},{},{},{},{},{},{},{},{}",
            street_name(r.street),
            estate_name(r.estate),
            r.band,
            r.tenure,
            if r.flag { "yes" } else { "no" },
            r.scheme,
            pounds(ALLOWANCE_PENCE),
            pounds(r.savings_pence)
        )
        .unwrap();
    }
    csv
}

const WARDS: &str = "ward,population\nW1,9000\nW2,7000\nW3,5000\nW4,800\nW5,90\n";

/// The visible bookings.
pub(crate) const BOOKINGS: u64 = 1_200;

/// Three sealed ones are among them, and one whose whole phone number nobody may see.
fn bookings_csv() -> String {
    let mut csv = "booking,ward,amount,phone,state\n".to_owned();
    for i in 0..BOOKINGS {
        let phone = if i == 77 {
            "07700 900719".to_owned()
        } else {
            format!("01632 {:06}", 960_000 + i)
        };
        writeln!(csv, "{i},W{},{},{phone},open", 1 + i % 5, 20 + i % 300).unwrap();
    }
    for (booking, amount) in [(5_000_001, 87_654_329), (5_000_002, 11), (5_000_003, 12)] {
        writeln!(csv, "{booking},W1,{amount},07700 900118,sealed").unwrap();
    }
    csv
}

/// Vehicles and pins are secret, holders are identifiers.
fn permits_csv() -> String {
    let mut csv = "permit,ward,holder,vehicle,pin\n".to_owned();
    for i in 0..300_u64 {
        let (holder, vehicle, pin) = if i == 42 {
            (
                "Leonora Shearwater".to_owned(),
                "CNRY 5IN6".to_owned(),
                76_543_219,
            )
        } else {
            (
                format!("Holder {i}"),
                format!("AB{:02} XY", i % 100),
                1_000 + i,
            )
        };
        writeln!(csv, "{i},W{},{holder},{vehicle},{pin}", 1 + i % 5).unwrap();
    }
    csv
}

const REGISTER: &str = "name,address,debt\n\
    Bartholomew Shrikeford,3 Dotterel Yard,65432187\n\
    Wilhelmina Godwit,8 Phalarope Steps,100\n";
