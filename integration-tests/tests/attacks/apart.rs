//! What would weigh on the town is in another: many products of eleven people in all, and somebody of very many kinds.
//!
//! What is told of a whole has no margins: where noise takes its count below the minimum, its totals fall with it, though
//! those of ten people each have a noise of their own. One product in five shows whether they do.
//!
//! What people have in cells is counted a part at a time, and whoever has too much for one part counts once all the same. If
//! not, an area of nine people weighs like one of many, and another is not withheld with it.

use crate::judge::Finding;
use crate::wire::{Attacker, Outcome, rows};
use arrow::array::Array as _;
use futures::{StreamExt as _, stream};
use guildhall_model::SystemClock;
use guildhall_testkit::TestCity;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// As many that all of them stand in one run of ten thousand or fewer.
const PRODUCTS: usize = 48;
const PEOPLE: usize = 11;
/// Each of whose values one person has not.
const MEASURES: usize = 4;
const AT_ONCE: usize = 4;

/// The kinds of one person, six parts and more of what is counted at a time.
const KINDS: usize = 100_000;
/// Who else is in which area, by the kinds x, y and z. In each of these another area has fewer than B has.
const AREAS: [(&str, [usize; 3]); 4] = [
    ("A", [8, 0, 0]),
    ("B", [18, 17, 16]),
    ("C", [15, 15, 30]),
    ("D", [40, 41, 42]),
];

const CITY: &str = r#"
open_product = "siskin.care.dozen_00"

[[council]]
name = "siskin"
purposes = ["care_planning"]
policy = "council.cedar"

[[council.department]]
name = "care"

[[account]]
name = "mallory"
council = "siskin"
roles = ["analyst"]
purposes = ["care_planning"]
"#;

pub(crate) async fn findings() -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    let described = folder.path().join("city");
    write(&described);
    let town = TestCity::at(&described, folder, Arc::new(SystemClock)).await;
    let town = town.unwrap();
    let mallory = Attacker::signed_in(&town, "mallory", "care_planning").await;
    let tried = [
        (
            "totals of a whole whose count has fallen",
            dozens(&mallory).await,
        ),
        (
            "an area of few, one of whom is of very many kinds",
            wide(&mallory).await,
        ),
    ];
    town.city.stop().await;
    let finding =
        |(name, result)| Finding::of("lines and margins", name, "withheld", false, result);
    tried.into_iter().map(finding).collect()
}

async fn dozens(mallory: &Attacker) -> Result<(), String> {
    let sums: Vec<String> = measures().map(|m| format!("sum({m}) AS {m}")).collect();
    let told = format!("count(DISTINCT person) AS n, {}", sums.join(", "));
    let asked = (0..PRODUCTS).map(|at| {
        let sql = format!("SELECT {told} FROM siskin.care.{}", name(at));
        async move { fallen(&mallory.ask(&sql).await) }
    });
    let told: Vec<Result<(), String>> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    told.into_iter().collect()
}

/// B is withheld beside A, which has nine people; so is each part of it.
async fn wide(mallory: &Attacker) -> Result<(), String> {
    let told = "count(DISTINCT person) AS n FROM siskin.care.wide GROUP BY";
    let areas = format!("SELECT area, {told} area");
    let parts = format!("SELECT area, kind, {told} area, kind");
    let areas: BTreeSet<String> = rows(mallory, &areas)
        .await
        .iter()
        .map(|r| area(r))
        .collect();
    let of: BTreeSet<String> = rows(mallory, &parts)
        .await
        .iter()
        .map(|r| area(r))
        .collect();
    match areas == ["C", "D"].map(str::to_owned).into() && of.is_subset(&areas) && !of.is_empty() {
        true => Ok(()),
        false => Err(format!("of {areas:?} parts are told of {of:?}")),
    }
}

fn area(row: &str) -> String {
    row.split('|').next().unwrap_or_default().to_owned()
}

/// Nothing is told of a whole whose count is withheld.
fn fallen(outcome: &Outcome) -> Result<(), String> {
    let answer = outcome.answer.as_ref().map_err(|e| format!("{e:?}"))?;
    let nulls: Vec<bool> = answer.columns().iter().map(|c| c.is_null(0)).collect();
    match nulls.split_first() {
        Some((true, totals)) if totals.contains(&false) => {
            Err(format!("{:?}", guildhall_testkit::rows(answer)))
        }
        Some(_) => Ok(()),
        None => Err("nothing came".to_owned()),
    }
}

fn name(product: usize) -> String {
    format!("dozen_{product:02}")
}

fn measures() -> impl Iterator<Item = String> {
    (0..MEASURES).map(|at| format!("m{at}"))
}

/// Writes the town's folder.
fn write(to: &Path) {
    let care = to.join("siskin/care");
    for folder in ["imports", "products"] {
        std::fs::create_dir_all(care.join(folder)).unwrap();
    }
    std::fs::write(to.join("city.toml"), CITY).unwrap();
    std::fs::write(to.join("council.cedar"), include_str!("town/council.cedar")).unwrap();
    std::fs::write(care.join("imports/dozens.csv"), csv()).unwrap();
    let names = measures().map(|m| (m, "integer"));
    let dozens = import("dozens", &["person", "dozen"], names);
    std::fs::write(care.join("imports/dozens.toml"), dozens).unwrap();
    std::fs::write(care.join("imports/wide.csv"), wide_csv()).unwrap();
    let wide = import("wide", &["person", "area", "kind"], std::iter::empty());
    std::fs::write(care.join("imports/wide.toml"), wide).unwrap();
    std::fs::write(care.join("products/wide.toml"), WIDE).unwrap();
    for at in 0..PRODUCTS {
        let file = care.join(format!("products/{}.toml", name(at)));
        std::fs::write(file, product(&name(at))).unwrap();
    }
}

fn csv() -> String {
    let names: Vec<String> = measures().collect();
    let mut csv = format!("person,dozen,{}\n", names.join(","));
    for product in 0..PRODUCTS {
        for at in 0..PEOPLE {
            let value = |measure| if measure == at { "" } else { "5" };
            let values: Vec<&str> = (0..MEASURES).map(value).collect();
            let dozen = name(product);
            writeln!(csv, "{dozen}-{at},{dozen},{}", values.join(",")).unwrap();
        }
    }
    csv
}

/// Everybody has one row, and one of A one more for each of very many kinds.
fn wide_csv() -> String {
    let mut csv = "person,area,kind\n".to_owned();
    for kind in 0..KINDS {
        writeln!(csv, "W,A,f{kind}").unwrap();
    }
    for (area, people) in AREAS {
        for (kind, people) in ["x", "y", "z"].iter().zip(people) {
            for at in 0..people {
                writeln!(csv, "{area}{kind}{at},{area},{kind}").unwrap();
            }
        }
    }
    csv
}

fn import(
    dataset: &str,
    texts: &[&str],
    others: impl Iterator<Item = (String, &'static str)>,
) -> String {
    let mut toml = format!("dataset = \"{dataset}\"\nsource = \"{dataset}.csv\"\n");
    let texts = texts.iter().map(|name| ((*name).to_owned(), "text"));
    for (name, data_type) in texts.chain(others) {
        writeln!(
            toml,
            "\n[[column]]\nname = \"{name}\"\ntype = \"{data_type}\""
        )
        .unwrap();
    }
    toml
}

const WIDE: &str = r#"
name = "wide"
version = 1
class = "aggregate"
doc = "People by area and kind."
purposes = ["care_planning"]
unit = "person"
minimum_group = 10
max_rows_per_unit = 100000
view = "SELECT person, area, kind FROM wide"

[columns]
person = { class = "identifier" }
area = { class = "quasi" }
kind = { class = "quasi" }

[[dimension]]
column = "area"

[[dimension]]
column = "kind"
"#;

fn product(name: &str) -> String {
    let names: Vec<String> = measures().collect();
    let names = names.join(", ");
    let mut toml = format!(
        r#"name = "{name}"
version = 1
class = "aggregate"
doc = "Eleven people."
purposes = ["care_planning"]
unit = "person"
minimum_group = 10
max_rows_per_unit = 1
view = "SELECT person, dozen, {names} FROM dozens"
row_filter = "dozen = '{name}'"

[columns]
person = {{ class = "identifier" }}
dozen = {{ class = "quasi" }}
"#
    );
    for measure in measures() {
        writeln!(toml, "{measure} = {{ class = \"measure\" }}").unwrap();
    }
    for measure in measures() {
        writeln!(
            toml,
            "\n[[measure]]\ncolumn = \"{measure}\"\nlower = 0\nupper = 10"
        )
        .unwrap();
    }
    toml
}
