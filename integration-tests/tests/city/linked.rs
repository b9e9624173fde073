//! Rows of people at three departments that meet in the council's clean room, of which cells alone leave.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use guildhall_cli::sql::Connection;
use guildhall_testkit::{TestCity, answer, node, refusal, rows};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use tonic::Code;

const CITY: &str = r#"
open_product = "northmoor.care.wards"

[[council]]
name = "northmoor"
purposes = ["prevention", "service_review"]
policy = "council.cedar"
department = [{ name = "care" }, { name = "housing" }, { name = "tax" }]

[[account]]
name = "ana"
council = "northmoor"
roles = ["analyst"]
purposes = ["prevention", "service_review"]
"#;

const POLICY: &str = r#"
@id("people-of-three-departments-for-prevention")
permit (principal, action == Action::"LinkUnits", resource)
when {
    principal.roles.contains("analyst") &&
    context.purpose == "prevention" &&
    resource has dpia && resource.dpia == "DPIA-2026-014" &&
    ["northmoor.care.clients", "northmoor.housing.tenancies", "northmoor.tax.accounts"].containsAll(context.linked)
};
"#;

/// Somebody of the town: where they live, and at which departments they are known.
struct Person {
    name: String,
    ward: String,
    care: bool,
    housing: bool,
    tax: bool,
    number: u32,
}

impl Person {
    fn need(&self) -> &'static str {
        ["day", "home", "respite"][self.number as usize % 3]
    }

    fn tenure(&self) -> &'static str {
        ["council", "private"][self.number as usize / 3 % 2]
    }

    fn band(&self) -> &'static str {
        ["A", "B", "C"][self.number as usize / 7 % 3]
    }

    fn hours(&self) -> u32 {
        1 + self.number % 20
    }
}

/// Three thousand people of five wards; of ward W8, seven of thirty whom care knows are tenants; of W9 all but three of
/// forty.
fn people() -> Vec<Person> {
    let mixed = |n: u32| n.wrapping_mul(2_654_435_761) >> 16;
    let mut people: Vec<Person> = (0..3_000)
        .map(|number| {
            let bits = mixed(number + 1);
            Person {
                name: format!("P{number:06}"),
                ward: format!("W{}", number % 5),
                care: bits & 7 < 4,
                housing: bits >> 3 & 7 < 5,
                tax: bits >> 6 & 7 < 6,
                number,
            }
        })
        .collect();
    for (ward, all, tenants) in [("W8", 30, 7), ("W9", 40, 37)] {
        for at in 0..all {
            let number = u32::try_from(people.len()).unwrap();
            people.push(Person {
                name: format!("P{number:06}"),
                ward: ward.to_owned(),
                care: true,
                housing: at < tenants,
                tax: true,
                number,
            });
        }
    }
    people
}

fn put(folder: &Path, file: &str, text: &str) {
    let file = folder.join(file);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

/// A dataset of `columns` at a department.
fn dataset(folder: &Path, department: &str, name: &str, columns: &[(&str, &str)], csv: &str) {
    let mut import = format!("dataset = \"{name}\"\nsource = \"../data/{name}.csv\"\n");
    for (column, data_type) in columns {
        write!(
            import,
            "\n[[column]]\nname = \"{column}\"\ntype = \"{data_type}\"\nrequired = true\n"
        )
        .unwrap();
    }
    put(
        folder,
        &format!("northmoor/{department}/imports/{name}.toml"),
        &import,
    );
    put(
        folder,
        &format!("northmoor/{department}/data/{name}.csv"),
        csv,
    );
}

/// A product of people whose rows may meet those of `with`.
fn product(name: &str, with: &[&str], minimum: u32, dimensions: &[&str], measure: &str) -> String {
    let with: Vec<String> = with.iter().map(|w| format!("\"northmoor.{w}\"")).collect();
    let names = dimensions.join(", ");
    let mut text = format!(
        "name = \"{name}\"\nversion = 1\nclass = \"aggregate\"\npurposes = [\"prevention\", \"service_review\"]\n\
         unit = \"person\"\nminimum_group = {minimum}\nmax_rows_per_unit = 2\n\
         view = \"SELECT person, {names}, {measure} FROM {name}\"\n\
         linkable = {{ identity = \"person\", dpia = \"DPIA-2026-014\", with = [{}] }}\n\n[columns]\n\
         person = {{ class = \"identifier\" }}\n{measure} = {{ class = \"measure\" }}\n",
        with.join(", ")
    );
    for dimension in dimensions {
        writeln!(text, "{dimension} = {{ class = \"quasi\" }}").unwrap();
    }
    for dimension in dimensions {
        writeln!(text, "\n[[dimension]]\ncolumn = \"{dimension}\"").unwrap();
    }
    write!(
        text,
        "\n[[measure]]\ncolumn = \"{measure}\"\nlower = 0\nupper = 40\n"
    )
    .unwrap();
    text
}

async fn town() -> TestCity {
    let folder = tempfile::tempdir().unwrap();
    let described = folder.path().join("city");
    put(&described, "city.toml", CITY);
    let policy = include_str!("../../../crates/policy/policies/council.cedar");
    put(&described, "council.cedar", &format!("{policy}{POLICY}"));
    let (mut care, mut housing, mut tax) = (
        "person,ward,need,hours\n".to_owned(),
        "person,tenure,arrears\n".to_owned(),
        "person,band,balance\n".to_owned(),
    );
    for p in people() {
        if p.care {
            writeln!(care, "{},{},{},{}", p.name, p.ward, p.need(), p.hours()).unwrap();
        }
        if p.housing {
            writeln!(housing, "{},{},{}", p.name, p.tenure(), p.number % 30).unwrap();
        }
        if p.tax {
            writeln!(tax, "{},{},{}", p.name, p.band(), p.number % 40).unwrap();
        }
    }
    let text = [
        ("person", "text"),
        ("ward", "text"),
        ("need", "text"),
        ("hours", "integer"),
    ];
    dataset(&described, "care", "clients", &text, &care);
    let text = [
        ("person", "text"),
        ("tenure", "text"),
        ("arrears", "integer"),
    ];
    dataset(&described, "housing", "tenancies", &text, &housing);
    let text = [("person", "text"), ("band", "text"), ("balance", "integer")];
    dataset(&described, "tax", "accounts", &text, &tax);
    let mut wards = "ward\n".to_owned();
    (0..10).for_each(|w| writeln!(wards, "W{w}").unwrap());
    dataset(&described, "care", "wards", &[("ward", "text")], &wards);
    put(
        &described,
        "northmoor/care/products/wards.toml",
        "name = \"wards\"\nversion = 1\nclass = \"open\"\npurposes = [\"prevention\", \"service_review\"]\n\
         view = \"SELECT ward FROM wards\"\n\n[columns]\nward = { class = \"open\" }\n",
    );
    for (at, name, with, minimum, dimensions, measure) in [
        (
            "care",
            "clients",
            ["housing.tenancies", "tax.accounts"],
            10,
            &["ward", "need"][..],
            "hours",
        ),
        (
            "housing",
            "tenancies",
            ["care.clients", "tax.accounts"],
            12,
            &["tenure"],
            "arrears",
        ),
        (
            "tax",
            "accounts",
            ["care.clients", "housing.tenancies"],
            10,
            &["band"],
            "balance",
        ),
    ] {
        let text = product(name, &with, minimum, dimensions, measure);
        put(
            &described,
            &format!("northmoor/{at}/products/{name}.toml"),
            &text,
        );
    }
    TestCity::in_folder(&described, folder).await.unwrap()
}

async fn ana(town: &TestCity) -> Connection {
    let mut ana = town.connect("ana", "prevention").await.unwrap();
    answer(&mut ana, "SET guildhall.purpose = 'prevention'")
        .await
        .unwrap();
    ana
}

async fn ask(town: &TestCity, sql: &str) -> RecordBatch {
    answer(&mut ana(town).await, sql).await.unwrap()
}

/// The first column and the second, of an answer; NULL is none.
fn counts(batch: &RecordBatch) -> BTreeMap<String, Option<i64>> {
    let keys = batch.column(0).as_string::<i32>();
    let counts = batch.column(1).as_primitive::<Int64Type>();
    let row = |row| {
        let count = counts.is_valid(row).then(|| counts.value(row));
        (keys.value(row).to_owned(), count)
    };
    (0..batch.num_rows()).map(row).collect()
}

/// How many people of each key there are.
fn truth(key: impl Fn(&Person) -> &str, is: impl Fn(&Person) -> bool) -> BTreeMap<String, i64> {
    let mut truth = BTreeMap::new();
    for person in people().iter().filter(|p| is(p)) {
        *truth.entry(key(person).to_owned()).or_default() += 1;
    }
    truth
}

/// What is told is true to within `far`, and so much is told.
fn told(answer: &RecordBatch, truth: &BTreeMap<String, i64>, withheld: &[&str], far: i64) {
    let counts = counts(answer);
    for (key, is) in truth {
        let told = counts.get(key).copied().flatten();
        match told {
            Some(count) => assert!((count - is).abs() <= far, "{key}: {count}, {is}"),
            None => assert!(
                withheld.contains(&key.as_str()),
                "{key} is withheld: {counts:?}"
            ),
        }
        assert!(
            told.is_none() || !withheld.contains(&key.as_str()),
            "{key} is told"
        );
    }
    assert!(
        counts.keys().all(|key| truth.contains_key(key)),
        "{counts:?}"
    );
}

const TENANTS_IN_CARE: &str = "SELECT c.ward, count(DISTINCT c.person) AS people \
     FROM northmoor.care.clients c JOIN northmoor.housing.tenancies h ON c.person = h.person GROUP BY c.ward";

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_two_departments_meet_and_cells_alone_are_told() {
    let mut town = town().await;
    let released = ask(&town, TENANTS_IN_CARE).await;
    let both = truth(|p| &p.ward, |p| p.care && p.housing);
    // Of W8 too few meet; of W9 too few do not, and care tells how many there are.
    told(&released, &both, &["W8", "W9"], 5);

    for (sql, is) in [
        // The other way round, a condition, and names that the statement gives.
        (
            "SELECT w, count(*) FROM (SELECT x.ward AS w, x.person AS p FROM northmoor.care.clients x) c \
             JOIN northmoor.housing.tenancies h ON h.person = c.p WHERE h.tenure = 'council' GROUP BY w",
            truth(
                |p| &p.ward,
                |p| p.care && p.housing && p.tenure() == "council",
            ),
        ),
        (
            "SELECT ward, count(*) FROM northmoor.care.clients \
             WHERE person IN (SELECT person FROM northmoor.housing.tenancies) GROUP BY ward",
            truth(|p| &p.ward, |p| p.care && p.housing),
        ),
        (
            "SELECT h.tenure, count(*) FROM northmoor.housing.tenancies h, northmoor.care.clients c, \
             northmoor.tax.accounts t WHERE h.person = c.person AND c.person = t.person AND t.band = 'B' GROUP BY h.tenure",
            truth(
                |p| p.tenure(),
                |p| p.care && p.housing && p.tax && p.band() == "B",
            ),
        ),
    ] {
        // Rows are counted: the noise of the units, and as much of their own.
        told(&ask(&town, sql).await, &is, &["W8", "W9"], 10);
    }
    // How many are in both.
    let size = "SELECT 'both', count(DISTINCT c.person) FROM northmoor.care.clients c \
         JOIN northmoor.housing.tenancies h ON c.person = h.person";
    let both: i64 = truth(|_| "both", |p| p.care && p.housing)["both"];
    told(
        &ask(&town, size).await,
        &BTreeMap::from([("both".to_owned(), both)]),
        &[],
        5,
    );

    // The same numbers after everybody was away.
    let first = rows(&released).unwrap();
    town.city.kill_clean_room().await;
    for department in ["care", "housing"] {
        let key = node("northmoor", department);
        town.city.kill_node(&key).await.unwrap();
        town.city.start_node(&key).await.unwrap();
    }
    town.city.restart_gateway().await.unwrap();
    town.city.start_clean_room().await.unwrap();
    assert_eq!(rows(&ask(&town, TENANTS_IN_CARE).await).unwrap(), first);
    town.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn measures_of_either_side_are_told_where_rows_meet() {
    let town = town().await;
    let sql = "SELECT c.need, sum(h.arrears) AS arrears, avg(c.hours) AS hours, count(*) AS n \
         FROM northmoor.care.clients c JOIN northmoor.housing.tenancies h ON c.person = h.person GROUP BY c.need";
    let released = ask(&town, sql).await;
    assert_eq!(released.num_rows(), 3);
    let people = people();
    for row in 0..3 {
        let need = released.column(0).as_string::<i32>().value(row);
        let known: Vec<&Person> = people
            .iter()
            .filter(|p| p.care && p.housing && p.need() == need)
            .collect();
        let arrears: f64 = known
            .iter()
            .filter(|p| p.housing)
            .map(|p| f64::from(p.number % 30))
            .sum();
        let hours: f64 =
            known.iter().map(|p| f64::from(p.hours())).sum::<f64>() / known.len() as f64;
        let number = |column: usize| {
            let column = arrow::compute::cast(
                released.column(column),
                &arrow::datatypes::DataType::Float64,
            )
            .unwrap();
            column
                .as_primitive::<arrow::datatypes::Float64Type>()
                .value(row)
        };
        // Five mean parts with the count, and five steps of 5 % of the largest.
        assert!(
            (number(1) - arrears).abs() <= 5.0 * 15.0 + 5.0 * 2.0,
            "{need}: {} {arrears}",
            number(1)
        );
        assert!(
            (number(2) / hours - 1.0).abs() <= 0.03,
            "{need}: {} {hours}",
            number(2)
        );
        assert!((number(3) - known.len() as f64).abs() <= 5.0);
    }
    town.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_linked_is_explained_and_what_may_not_be_is_refused() {
    let town = town().await;
    let explained = rows(&ask(&town, &format!("EXPLAIN {TENANTS_IN_CARE}")).await)
        .unwrap()
        .join("\n");
    for said in [
        "linked",
        "clean room of northmoor",
        "under tokens",
        "DPIA-2026-014",
        "minimum group of 12",
    ] {
        assert!(explained.contains(said), "{said}: {explained}");
    }
    let told = rows(&ask(&town, &format!("EXPLAIN PRIVACY {TENANTS_IN_CARE}")).await)
        .unwrap()
        .join("\n");
    assert!(told.contains("linked: 2 owners"), "{told}");

    let refused = async |purpose: &str, sql: &str| {
        let mut ana = town.connect("ana", purpose).await.unwrap();
        refusal(&mut ana, sql).await.unwrap()
    };
    // Policy permits it for one purpose alone.
    let other = refused("service_review", TENANTS_IN_CARE).await;
    assert_eq!(other.code, Code::PermissionDenied, "{other}");
    for (what, sql) in [
        (
            "on anything but the unit",
            TENANTS_IN_CARE.replace("c.person = h.person", "c.ward = h.tenure"),
        ),
        (
            "measure",
            TENANTS_IN_CARE.replace("c.person = h.person", "c.hours = h.arrears"),
        ),
        (
            "rows",
            TENANTS_IN_CARE
                .replace(
                    "c.ward, count(DISTINCT c.person) AS people",
                    "c.person, h.tenure",
                )
                .replace(" GROUP BY c.ward", ""),
        ),
        ("identifier", TENANTS_IN_CARE.replace("c.ward", "c.person")),
        (
            "range",
            format!(
                "{} HAVING true",
                TENANTS_IN_CARE.replace("GROUP", "WHERE c.hours > 5 GROUP")
            ),
        ),
        ("outer", TENANTS_IN_CARE.replace("JOIN", "FULL JOIN")),
        ("outer", TENANTS_IN_CARE.replace("JOIN", "LEFT JOIN")),
        ("anti", TENANTS_IN_CARE.replace("JOIN", "LEFT ANTI JOIN")),
    ] {
        let refused = refused("prevention", &sql).await;
        assert!(
            matches!(refused.code, Code::PermissionDenied | Code::InvalidArgument),
            "{what}: {refused}"
        );
    }
    town.city.stop().await;
}
