//! The same cell has the same numbers, however and whenever it is asked for.

use crate::release::{PRODUCT, Stays, TOLD, ask, groups, options, truth};
use guildhall_model::SystemClock;
use guildhall_node::{ImportSpec, Mode, Node};
use guildhall_testkit::{TestCity, node};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_cell_has_the_same_numbers_however_and_whenever_it_is_asked_for() {
    let mut city = TestCity::made_up(&options()).await.unwrap();
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let question = format!(
        "SELECT ward, channel, {TOLD} FROM {PRODUCT} GROUP BY ward, channel ORDER BY ward, channel"
    );
    let told = ask(&mut ana, &question).await;
    assert!(told.len() > 5, "{told:?}");
    for rewritten in rewritten(&question) {
        assert_eq!(ask(&mut ana, &rewritten).await, told, "{rewritten}");
    }
    let truth = truth();
    for (of, sql) in parts_of(&groups(&truth)) {
        let part = told.iter().filter(|cell| of.iter().all(|k| has(cell, k)));
        let part: Vec<String> = part.map(|cell| without(cell, &of)).collect();
        let asked = ask(&mut ana, &sql).await;
        if part.is_empty() {
            // An answer that is one cell has its row all the same.
            assert!(asked.is_empty() || asked == ["-|-|-|-"], "{sql}: {asked:?}");
        } else {
            assert_eq!(asked, part, "{sql}");
        }
    }

    restart(&mut city).await;
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    assert_eq!(ask(&mut ana, &question).await, told);
    import_again(&mut city).await;
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    assert_eq!(ask(&mut ana, &question).await, told);
    city.city.stop().await;
}

/// Starts the node and the gateway anew.
async fn restart(city: &mut TestCity) {
    let parking = node("northmoor", "parking");
    city.city.kill_node(&parking).await.unwrap();
    city.city.start_node(&parking).await.unwrap();
    city.city.restart_gateway().await.unwrap();
}

/// Imports the same rows again: another version, other files, other keys.
async fn import_again(city: &mut TestCity) {
    let parking = node("northmoor", "parking");
    city.city.kill_node(&parking).await.unwrap();
    let config = city.city.node_config(&parking).unwrap();
    let manifests = config.data.join("datasets/sessions/manifests");
    let before = names(&manifests);
    let spec = city
        .folder()
        .join("city/northmoor/parking/imports/sessions.toml");
    let spec = ImportSpec::load(&spec).unwrap();
    let opened = Node::open(config, Arc::new(SystemClock)).unwrap();
    opened.import(&spec, Mode::Replace, &|_| {}).await.unwrap();
    drop(opened);
    assert!(!names(&manifests).is_subset(&before));
    city.city.start_node(&parking).await.unwrap();
}

/// The question in other words.
fn rewritten(question: &str) -> Vec<String> {
    vec![
        question.to_owned(),
        format!(
            "SELECT s.ward AS w, s.channel AS how, count(DISTINCT s.vehicle) AS a, count(1) AS b, sum(s.paid) AS c, \
             avg(s.minutes) AS d FROM {PRODUCT} AS s GROUP BY s.channel, s.ward ORDER BY w, how"
        ),
        format!(
            "WITH cells AS (SELECT ward, channel, {TOLD} FROM {PRODUCT} GROUP BY ward, channel) \
             SELECT * FROM cells ORDER BY ward, channel"
        ),
        format!(
            "SELECT ward, channel, {TOLD} FROM (SELECT channel, minutes, paid, vehicle, ward FROM {PRODUCT}) parked \
             GROUP BY 2, 1 ORDER BY 1, 2"
        ),
        format!(
            "SELECT ward, channel, vehicles, stays, pounds, minutes FROM (SELECT avg(minutes) AS minutes, \
             sum(paid) AS pounds, channel, count(*) AS stays, count(DISTINCT vehicle) AS vehicles, ward \
             FROM {PRODUCT} GROUP BY channel, ward ORDER BY stays DESC) cells ORDER BY ward, channel"
        ),
        format!(
            "SELECT v.ward, v.channel, v.vehicles, s.stays, p.pounds, m.minutes FROM \
             (SELECT ward, channel, count(DISTINCT vehicle) AS vehicles FROM {PRODUCT} GROUP BY ward, channel) v \
             JOIN (SELECT ward, channel, count(*) AS stays FROM {PRODUCT} GROUP BY ward, channel) s \
               ON s.ward = v.ward AND s.channel = v.channel \
             JOIN (SELECT ward, channel, sum(paid) AS pounds FROM {PRODUCT} GROUP BY ward, channel) p \
               ON p.ward = v.ward AND p.channel = v.channel \
             JOIN (SELECT ward, channel, avg(minutes) AS minutes FROM {PRODUCT} GROUP BY ward, channel) m \
               ON m.ward = v.ward AND m.channel = v.channel ORDER BY v.ward, v.channel"
        ),
    ]
}

/// Questions for a part of its cells, and the values that name the part: a filter in place of a group.
fn parts_of<'a>(groups: &BTreeMap<(&'a str, &'a str), Stays<'_>>) -> Vec<(Vec<&'a str>, String)> {
    let wards: BTreeSet<&str> = groups.keys().map(|(ward, _)| *ward).collect();
    let channels: BTreeSet<&str> = groups.keys().map(|(_, channel)| *channel).collect();
    let of_ward = wards.iter().map(|ward| {
        let sql = format!("SELECT channel, {TOLD} FROM {PRODUCT} WHERE ward = '{ward}' GROUP BY channel ORDER BY channel");
        (vec![*ward], sql)
    });
    let of_channel = channels.iter().map(|channel| {
        let sql = format!("SELECT ward, {TOLD} FROM {PRODUCT} WHERE '{channel}' = channel GROUP BY ward ORDER BY ward");
        (vec![*channel], sql)
    });
    let of_both = groups.keys().map(|(ward, channel)| {
        let sql =
            format!("SELECT {TOLD} FROM {PRODUCT} WHERE channel = '{channel}' AND ward = '{ward}'");
        (vec![*ward, *channel], sql)
    });
    of_ward.chain(of_channel).chain(of_both).collect()
}

fn has(cell: &str, key: &str) -> bool {
    cell.split('|').any(|k| k == key)
}

/// A cell without the values that name its part.
fn without(cell: &str, of: &[&str]) -> String {
    let rest: Vec<&str> = cell.split('|').filter(|k| !of.contains(k)).collect();
    rest.join("|")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Values that are compared, a third of them before a restart, after it, and after another import of the same rows.
const CHECKS: usize = 10_000;
/// What cells are told apart by.
const KEYS: [&str; 4] = [
    "ward",
    "channel",
    "car_park",
    "date_trunc('month', started)",
];
/// What is told of them.
const VALUES: [&str; 4] = [
    "count(DISTINCT vehicle)",
    "count(*)",
    "sum(paid)",
    "avg(minutes)",
];

/// The released values of a table by the names of its cells.
type Table = BTreeMap<Vec<String>, Vec<String>>;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_values_are_the_same_in_whatever_words_and_after_whatever_happened() {
    let mut city = TestCity::made_up(&options()).await.unwrap();
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let mut tables: BTreeMap<Vec<usize>, Table> = BTreeMap::new();
    for keys in [
        vec![0],
        vec![1],
        vec![2],
        vec![3],
        vec![0, 1],
        vec![0, 3],
        vec![1, 2],
        vec![1, 3],
        vec![0, 1, 3],
    ] {
        let sql = question(&keys, &[], &[0, 1, 2, 3], 0);
        let lines = ask(&mut ana, &sql).await;
        let table: Table = lines.iter().map(|line| named(line, keys.len())).collect();
        assert!(!table.is_empty(), "{sql}");
        tables.insert(keys, table);
    }
    let mut chance = Chance(20_261_122);
    let mut checks = 0;
    for happened in 0..3 {
        match happened {
            0 => {}
            1 => restart(&mut city).await,
            _ => import_again(&mut city).await,
        }
        let mut ana = city.connect("ana", "transport_planning").await.unwrap();
        while checks < CHECKS * (happened + 1) / 3 {
            checks += check(&mut ana, &tables, &mut chance).await;
        }
    }
    city.city.stop().await;
}

/// Asks for a table, or for a part of it by a filter, and compares: how many values.
async fn check(
    ana: &mut guildhall_cli::sql::Connection,
    tables: &BTreeMap<Vec<usize>, Table>,
    chance: &mut Chance,
) -> usize {
    let (keys, table) = tables.iter().nth(chance.below(tables.len())).unwrap();
    // One of the keys of a cell that is told becomes a filter, now and then.
    let fixed = (keys.len() > 1 && chance.below(3) > 0).then(|| chance.below(keys.len()));
    let of = table.keys().nth(chance.below(table.len())).unwrap();
    let filter: Vec<(usize, &str)> = fixed
        .iter()
        .map(|at| (keys[*at], of[*at].as_str()))
        .collect();
    let mut free: Vec<usize> = (0..keys.len()).filter(|at| Some(*at) != fixed).collect();
    chance.shuffle(&mut free);
    let mut values = vec![0, 1, 2, 3];
    chance.shuffle(&mut values);
    values.truncate(1 + chance.below(4));
    let grouped: Vec<usize> = free.iter().map(|at| keys[*at]).collect();
    let sql = question(&grouped, &filter, &values, chance.below(5));
    let told: Table = ask(ana, &sql)
        .await
        .iter()
        .map(|line| named(line, free.len()))
        .collect();
    let part = table
        .iter()
        .filter(|(name, _)| fixed.is_none_or(|at| name[at] == of[at]));
    let wanted: Table = part
        .map(|(name, all)| {
            let name = free.iter().map(|at| name[*at].clone()).collect();
            (name, values.iter().map(|v| all[*v].clone()).collect())
        })
        .collect();
    assert_eq!(told, wanted, "{sql}");
    wanted.len() * values.len()
}

/// A question in one of five ways to write it.
fn question(keys: &[usize], filter: &[(usize, &str)], values: &[usize], way: usize) -> String {
    let keys: Vec<&str> = keys.iter().map(|k| KEYS[*k]).collect();
    let values: Vec<&str> = values.iter().map(|v| VALUES[*v]).collect();
    let told = [keys.as_slice(), &values].concat();
    let named: Vec<String> = told
        .iter()
        .enumerate()
        .map(|(at, t)| format!("{t} AS c{at}"))
        .collect();
    let (named, names) = (
        named.join(", "),
        (0..told.len())
            .map(|at| format!("c{at}"))
            .collect::<Vec<_>>()
            .join(", "),
    );
    let of: Vec<String> = filter
        .iter()
        .map(|(key, value)| match way % 2 {
            0 => format!("{} = '{value}'", KEYS[*key]),
            _ => format!("'{value}' = {}", KEYS[*key]),
        })
        .collect();
    let of = if of.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", of.join(" AND "))
    };
    let places: Vec<String> = (1..=keys.len()).map(|at| at.to_string()).collect();
    let group = match (keys.len(), way) {
        (0, _) => String::new(),
        (_, 0 | 1) => format!(
            "GROUP BY {}",
            keys.iter().rev().copied().collect::<Vec<_>>().join(", ")
        ),
        _ => format!("GROUP BY {}", places.join(", ")),
    };
    match way {
        0 => format!("SELECT {named} FROM {PRODUCT} {of} {group}"),
        1 => {
            format!("select {named} /* again */ from {PRODUCT} AS s {of} {group} ORDER BY c0 DESC")
        }
        2 => format!(
            "WITH cells AS (SELECT {named} FROM {PRODUCT} {of} {group}) SELECT {names} FROM cells"
        ),
        3 => format!(
            "SELECT {named} FROM (SELECT started, vehicle, channel, paid, car_park, minutes, ward FROM {PRODUCT}) p {of} {group}"
        ),
        _ => format!(
            "SELECT {names} FROM (SELECT {named} FROM (SELECT * FROM {PRODUCT} {of}) q {group} LIMIT 100000) cells"
        ),
    }
}

/// A line of an answer as a cell's name and its values.
fn named(line: &str, keys: usize) -> (Vec<String>, Vec<String>) {
    let mut name: Vec<String> = line.split('|').map(str::to_owned).collect();
    let values = name.split_off(keys);
    (name, values)
}

/// Numbers by SplitMix64, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}
