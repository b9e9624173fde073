//! `guildhall_disclosure::ons` beside `cell-key-perturbation` 3.1.0.
//!
//! They agree on every cell of every table, empty ones, keys beyond the table's, missing keys and pairs without a row in
//! the table included. The one known difference: of a cell with a NULL category the package's pandas form loses the
//! cell key and takes 0, where its SQL form and Guildhall take the units' own. A negative record key, of which its two
//! forms make different things, cannot be written here.

use guildhall_disclosure::ons::OnsTable;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The categories of a cell, NULL among them.
type Key = Vec<Option<String>>;

/// What the package says of a cell.
#[derive(Debug, PartialEq)]
struct Told {
    n: u64,
    ckey: u64,
    pcv: u64,
    pvalue: i64,
    count: Option<i64>,
}

#[test]
fn random_tables_are_perturbed_as_the_package_does() {
    let (mut cells, mut large, mut nulls, mut parted) = (0, 0, 0, 0);
    for table in super::tables("ons", 40) {
        let units = units(&table);
        let p_table = p_table(&table);
        let told = told(&table);
        assert_eq!(
            told.keys().collect::<BTreeSet<_>>(),
            grid(&units).iter().collect(),
            "the cells of the table"
        );
        for (key, told) in told {
            let members = units.get(&key).map(Vec::as_slice).unwrap_or_default();
            let own = p_table.cell_key(members.iter().copied());
            let null = key.contains(&None);
            if null {
                assert_eq!(told.ckey, 0, "the pandas form has lost the key of {key:?}");
            } else {
                assert_eq!(told.ckey, own, "the key of {key:?}");
            }
            let here = |ckey| perturbed(&p_table, members.len(), ckey, &table);
            assert_eq!(told, here(told.ckey), "{key:?}");
            cells += 1;
            large += u64::from(told.n > 750);
            nulls += u64::from(null && told.n > 0);
            parted += u64::from(null && told.pvalue != here(own).pvalue);
        }
    }
    assert!(
        cells > 1500 && large > 5 && nulls > 200 && parted > 50,
        "{cells} cells, {large} large, {nulls} with a NULL, of which {parted} move in another way"
    );
}

fn perturbed(p_table: &OnsTable, n: usize, ckey: u64, table: &Value) -> Told {
    let n = n as u64;
    let threshold = table["threshold"].as_i64().unwrap();
    let cell = p_table.cell_key_perturb(n, ckey, threshold);
    Told {
        n,
        ckey,
        pcv: cell.pcv,
        pvalue: cell.pvalue,
        count: cell.count,
    }
}

/// The table that was used; the package's own of the 10-5 rule is not written down, ours stands for it.
fn p_table(table: &Value) -> OnsTable {
    let Some(rows) = table["p_table"].as_array() else {
        return OnsTable::ten_five();
    };
    OnsTable::new(rows.iter().map(|row| {
        let key = |at: usize| row[at].as_u64().unwrap();
        (key(0), key(1), row[2].as_i64().unwrap())
    }))
}

/// The record keys of the units in each cell.
fn units(table: &Value) -> BTreeMap<Key, Vec<Option<u64>>> {
    let mut cells: BTreeMap<Key, Vec<Option<u64>>> = BTreeMap::new();
    for unit in table["units"].as_array().unwrap() {
        cells
            .entry(key(&unit[0]))
            .or_default()
            .push(unit[1].as_u64());
    }
    cells
}

fn told(table: &Value) -> BTreeMap<Key, Told> {
    let cells = table["cells"].as_array().unwrap().iter();
    let cells = cells.map(|cell| {
        let number = |at: usize| cell[1][at].as_u64().unwrap();
        let told = Told {
            n: number(0),
            ckey: number(1),
            pcv: number(2),
            pvalue: cell[1][3].as_i64().unwrap(),
            count: cell[1][4].as_i64(),
        };
        (key(&cell[0]), told)
    });
    cells.collect()
}

fn key(names: &Value) -> Key {
    let names = names.as_array().unwrap().iter();
    names.map(|n| n.as_str().map(str::to_owned)).collect()
}

/// Every combination of the categories that occur.
fn grid(units: &BTreeMap<Key, Vec<Option<u64>>>) -> BTreeSet<Key> {
    let columns = units.keys().next().unwrap().len();
    (0..columns).fold(BTreeSet::from([vec![]]), |grid, column| {
        let values: BTreeSet<_> = units.keys().map(|k| k[column].clone()).collect();
        let longer = |key: &Key, value: &Option<String>| {
            let last = std::slice::from_ref(value);
            [key.as_slice(), last].concat()
        };
        grid.iter()
            .flat_map(|key| values.iter().map(move |value| longer(key, value)))
            .collect()
    })
}
