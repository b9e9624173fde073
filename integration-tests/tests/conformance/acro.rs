//! The minimum group and the dominance rules of `guildhall_disclosure::Gate` beside ACRO 1.0.2 with its default limits.
//!
//! They agree on every cell where each row is another unit with a value that is not negative: a cell is withheld if ACRO's
//! threshold fails, a total if its threshold, NK or p-ratio fails. Noise, of which ACRO has none, is kept out by record
//! keys that draw none. The known differences, all but the first stricter here:
//!
//! | data | ACRO | Guildhall |
//! |---|---|---|
//! | a total of noughts | fails its p-ratio, though its source calls it safe: 0, and not 0 / 0, is compared | is safe |
//! | negative values | asks for a review, and weighs dominance in no cell of the table | withholds the total of the cell that has one, weighs the others |
//! | missing values | its threshold counts rows without a value | the minimum group holds for the contributors as well |
//! | several rows of one unit | each row is a respondent and a contributor | units are counted once, their rows added up |

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::DataType;
use guildhall_disclosure::{
    CellColumn, CellDraws, CellRule, CellValue, Facts, Gate, Margins, Members, Noise, NoiseSecret,
    PTable, Rule, Total,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// ACRO's `safe_threshold`.
const MINIMUM: u32 = 10;

type Cell = (String, String);
/// A cell's units, and what each pays in it, if anything.
type Payments = BTreeMap<i64, Option<i64>>;
/// Which of ACRO's checks a cell fails.
type Failing = BTreeMap<Cell, Vec<String>>;

#[test]
fn random_totals_are_withheld_as_the_package_would() {
    let (mut agreed, mut differ) = (BTreeMap::new(), BTreeMap::new());
    for table in super::tables("acro", 10) {
        let kind = table["kind"].as_str().unwrap();
        let theirs = failing(&table["verdict"]);
        let as_here = failing(&table["verdict_as_we_do"]);
        negatives_are_reviewed(&table, &theirs);
        for (cell, units) in cells(&table) {
            let here = released(&units);
            let whose = expected(kind, &cell, &units, &theirs, &as_here);
            assert_eq!(here, whose, "{kind}: {cell:?} {units:?}");
            let counted = (kind.to_owned(), whose);
            *agreed.entry(counted).or_insert(0) += 1;
            let lenient = theirs[&cell].is_empty() && here != (true, true);
            *differ.entry(kind.to_owned()).or_insert(0) += u32::from(lenient);
        }
    }
    for kind in ["plain", "negatives", "missing", "several"] {
        let some = |told| agreed.get(&(kind.to_owned(), told)).copied().unwrap_or(0);
        assert!(
            some((true, true)) > 0 && some((false, false)) > 0 && some((true, false)) > 0,
            "{kind} has cells of each kind: {agreed:?}"
        );
        assert_eq!(differ[kind] > 0, kind != "plain", "{kind}: {differ:?}");
    }
}

/// Whether a cell and its total are to be seen here, from what ACRO says of this table or of the one that it would be
/// without the known difference.
fn expected(
    kind: &str,
    cell: &Cell,
    units: &Payments,
    theirs: &Failing,
    as_here: &Failing,
) -> (bool, bool) {
    // A cell of which nothing is left in the other table has no total.
    let passes = |failing: &Vec<String>| match units.values().flatten().any(|paid| *paid != 0) {
        true => failing.is_empty(),
        false => noughts_are_safe(failing),
    };
    let total = as_here.get(cell).is_some_and(passes);
    match kind {
        "negatives" if units.values().flatten().any(|paid| *paid < 0) => {
            (enough(theirs, cell), false)
        }
        "missing" => (enough(theirs, cell), enough(theirs, cell) && total),
        _ => (enough(as_here, cell), total),
    }
}

/// Whether a total of noughts is shown here: ACRO fails its p-ratio, and nothing else of it.
fn noughts_are_safe(failing: &[String]) -> bool {
    let (p_ratio, others): (Vec<&String>, Vec<&String>) =
        failing.iter().partition(|check| *check == "p_ratio");
    assert_eq!(p_ratio.len(), 1, "{failing:?}");
    others.is_empty()
}

fn enough(failing: &Failing, cell: &Cell) -> bool {
    failing[cell].iter().all(|check| check != "threshold")
}

/// Where a value is negative ACRO marks the cells that have one for review, and weighs no other.
fn negatives_are_reviewed(table: &Value, theirs: &Failing) {
    let negative = |units: &Payments| units.values().flatten().any(|paid| *paid < 0);
    let units = cells(table);
    if !units.values().any(negative) {
        return;
    }
    for (cell, failing) in theirs {
        let marked = failing.iter().any(|c| c == "nk" || c == "p_ratio");
        assert_eq!(marked, units.get(cell).is_some_and(negative), "{cell:?}");
    }
}

fn failing(verdict: &Value) -> Failing {
    let cells = verdict["failing"].as_array().unwrap().iter();
    let cells = cells.map(|cell| {
        let checks = cell[2].as_array().unwrap().iter();
        let checks = checks.map(|c| c.as_str().unwrap().to_owned()).collect();
        (name(cell), checks)
    });
    cells.collect()
}

fn cells(table: &Value) -> BTreeMap<Cell, Payments> {
    let mut cells: BTreeMap<Cell, Payments> = BTreeMap::new();
    for row in table["rows"].as_array().unwrap() {
        let unit = row[2].as_i64().unwrap();
        let paid = cells.entry(name(row)).or_default().entry(unit).or_default();
        if let Some(more) = row[3].as_i64() {
            *paid = Some(paid.unwrap_or(0) + more);
        }
    }
    cells
}

fn name(row: &Value) -> Cell {
    let text = |at: usize| row[at].as_str().unwrap().to_owned();
    (text(0), text(1))
}

/// Whether the gate shows the count of units, and their total.
fn released(units: &Payments) -> (bool, bool) {
    let mut paid: Vec<i64> = units.values().flatten().copied().collect();
    paid.sort_by_key(|paid| -paid.abs());
    let (n, contributors) = (units.len() as u64, paid.len() as u64);
    let largest = |at: usize| paid.get(at).map(|paid| paid.abs());
    let facts = Columns {
        units: (n, quiet_key(n)),
        contributors: (contributors, quiet_key(contributors)),
        sum: paid.iter().sum(),
        largest: (largest(0), largest(1)),
        negatives: paid.iter().filter(|paid| **paid < 0).count() as i64,
    };
    let out = facts.release(MINIMUM);
    (out.column(0).is_valid(0), out.column(1).is_valid(0))
}

/// A sum of record keys for which the noise of `n` units is nought, so that the rule alone decides.
fn quiet_key(n: u64) -> u64 {
    if n < u64::from(MINIMUM) {
        return 0;
    }
    let unmoved = |key: &u64| {
        let facts = Columns {
            units: (n, *key),
            contributors: (n, *key),
            sum: 0,
            largest: (None, None),
            negatives: 0,
        };
        let out = facts.release(2);
        let count = out.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        count.value(0) == i64::try_from(n).unwrap()
    };
    (0..1000).find(unmoved).unwrap()
}

/// The facts of one cell: how many units or contributors and the sum of their record keys, and the total.
struct Columns {
    units: (u64, u64),
    contributors: (u64, u64),
    sum: i64,
    largest: (Option<i64>, Option<i64>),
    negatives: i64,
}

impl Columns {
    fn release(&self, minimum_group: u32) -> RecordBatch {
        let count = |n: u64| Arc::new(UInt64Array::from(vec![n])) as ArrayRef;
        let number = |n: Option<i64>| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
        let columns = [
            ("units", count(self.units.0)),
            ("keys", count(self.units.1)),
            ("contributors", count(self.contributors.0)),
            ("their_keys", count(self.contributors.1)),
            ("sum", number(Some(self.sum))),
            ("largest", number(self.largest.0.or(Some(0)))),
            ("second", number(self.largest.1)),
            ("negatives", number(Some(self.negatives))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut gate = Gate::new(Rule::Cells(rule(minimum_group)), batch.schema()).unwrap();
        gate.release(&batch).unwrap().into_batch()
    }
}

fn rule(minimum_group: u32) -> CellRule {
    let members = |count| Members {
        count,
        key_sum: count + 1,
        parts: None,
    };
    let total = Total {
        id: "sum:paid".to_owned(),
        members: members(2),
        sum: 4,
        largest: 5,
        second: 6,
        negatives: 7,
        ones: false,
    };
    let column = |name: &str, value| CellColumn {
        name: name.to_owned(),
        data_type: DataType::Int64,
        value,
    };
    CellRule {
        facts: Facts {
            minimum_group,
            units: members(0),
            totals: vec![total],
            noise: Noise {
                draws: CellDraws::Own(NoiseSecret::from_bytes([7; 32]).draws()),
                table: PTable::standard(),
            },
        },
        first_fact: 0,
        keys: vec![],
        columns: vec![
            column("units", CellValue::Units),
            column("paid", CellValue::Sum { total: 0 }),
        ],
        margins: Margins::whole(),
        cell_status: false,
    }
}
