//! Cells of some of the units of a published table.

use super::{secret, still};
use crate::facts::Statistic;
use crate::joint::Tables;
use crate::{
    Adds, Axis, Beside, CellDraws, Coordinate, Cuboid, Facts, Gathering, Margins, Noise, Pattern,
    Takes,
};
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use std::sync::Arc;

/// Some units of a ward, and whether they are in the answer.
type Group = (&'static str, bool, u32);

fn facts() -> Facts {
    let noise = Noise {
        draws: CellDraws::Own(secret().draws()),
        table: still(),
    };
    Facts::gathered(10, [("rows".to_owned(), true)], noise)
}

fn axis(declared: &[&str]) -> Axis {
    let values: ArrayRef = Arc::new(StringArray::from(declared.to_vec()));
    let declared = match declared {
        [] => vec![],
        _ => vec![RecordBatch::try_from_iter([("value", values)]).unwrap()],
    };
    Axis {
        coarser: vec![vec![]],
        declared,
    }
}

/// Every table of `axes` over units that `keys` tells the keys of.
fn tables(some: &[Group], axes: &[Axis], keys: impl Fn(&Group) -> Vec<&'static str>) -> Tables {
    let adds = Adds {
        takes: Takes::Rows,
        lower: 0,
        upper: 1,
        scale: 0,
    };
    let mut gathering = Gathering::new(secret(), vec![adds]);
    let mut unit = 0;
    for of in some {
        let units: Vec<u32> = (unit..unit + of.2).collect();
        unit += of.2;
        let keys: Vec<ArrayRef> = keys(of)
            .into_iter()
            .map(|key| Arc::new(StringArray::from(vec![key; units.len()])) as ArrayRef)
            .collect();
        let records = UInt64Array::from_iter_values(units.iter().map(|u| u64::from(*u)));
        let units: ArrayRef = Arc::new(UInt32Array::from(units));
        gathering.push_keyed(&keys, &units, &[], &records).unwrap();
    }
    let gathered = gathering.finish().unwrap();
    let mut all = vec![vec![]];
    for _ in axes {
        all = all
            .into_iter()
            .flat_map(|l: Vec<usize>| [[l.clone(), vec![0]].concat(), [l, vec![1]].concat()])
            .collect();
    }
    let table = |levels: Vec<usize>| {
        let table = gathered.table(axes, &levels, &[]).unwrap();
        (levels, table)
    };
    all.into_iter().map(table).collect()
}

fn cuboids(tables: Tables) -> Vec<Cuboid> {
    let cuboid = |(levels, cells)| Cuboid { levels, cells };
    tables.into_iter().map(cuboid).collect()
}

/// The wards of which the count of units in the answer is shown.
fn shown(some: &[Group], by_ward: bool) -> Vec<&'static str> {
    let axes: Vec<Axis> = by_ward.then(|| axis(&[])).into_iter().collect();
    let inside: Vec<Group> = some.iter().filter(|s| s.1).copied().collect();
    let keys = |of: &Group| if by_ward { vec![of.0] } else { vec![] };
    let own = tables(&inside, &axes, keys);
    let mut beside_axes = axes.clone();
    beside_axes.push(axis(&[Beside::INSIDE, "out"]));
    let beside = tables(some, &beside_axes, |of| {
        let word = if of.1 { Beside::INSIDE } else { "out" };
        keys(of).into_iter().chain([word]).collect()
    });
    let beside = Beside {
        facts: facts(),
        axes: beside_axes,
        of: (0..axes.len()).collect(),
        totals: vec![0],
        cuboids: cuboids(beside),
    };
    let pattern = Pattern::build_beside(&facts(), &axes, &cuboids(own), &[beside]).unwrap();
    let mut wards: Vec<&str> = some.iter().map(|s| s.0).collect();
    wards.dedup();
    let values: ArrayRef = Arc::new(StringArray::from(wards.clone()));
    let batch = RecordBatch::try_from_iter([("ward", values)]).unwrap();
    let margins = Margins {
        pattern: Arc::new(pattern),
        coordinates: by_ward
            .then_some(Coordinate::Column(0))
            .into_iter()
            .collect(),
    };
    let kept = margins.kept(&facts(), &batch).unwrap();
    let is = |(row, _): &(usize, &&str)| kept.shows(Statistic::Units, *row);
    let all = wards.iter().enumerate();
    all.filter(is).map(|(_, ward)| *ward).collect()
}

#[test]
fn a_cell_gives_way_where_what_is_left_of_a_published_one_has_too_few() {
    let some = [
        // Enough in and out, and the smallest of such.
        ("a", true, 30),
        ("a", false, 30),
        // Three are not in it.
        ("b", true, 30),
        ("b", false, 3),
        // Nobody is not in it.
        ("c", true, 30),
        // Too few to be told themselves.
        ("d", true, 4),
        ("d", false, 40),
        ("e", true, 60),
        ("e", false, 70),
        ("f", true, 50),
        ("f", false, 80),
    ];
    // The smallest goes with what is withheld of those that are not in it.
    assert_eq!(shown(&some, true), ["e", "f"]);
}

#[test]
fn the_one_cell_of_an_answer_without_keys_gives_way_too() {
    assert_eq!(
        shown(&[("all", true, 30), ("all", false, 30)], false),
        ["all"]
    );
    assert!(shown(&[("all", true, 30), ("all", false, 9)], false).is_empty());
    assert!(shown(&[("all", true, 30)], false).is_empty());
    assert!(shown(&[("all", true, 9), ("all", false, 30)], false).is_empty());
}

#[test]
fn a_lattice_beside_of_other_axes_makes_no_pattern() {
    let axes = [axis(&[])];
    let own = cuboids(tables(&[("a", true, 30)], &axes, |of| vec![of.0]));
    let link = axis(&[Beside::INSIDE, "out"]);
    let mut both = axes.to_vec();
    both.push(link);
    let cells = tables(&[("a", true, 30)], &both, |of| vec![of.0, Beside::INSIDE]);
    let beside = Beside {
        facts: facts(),
        axes: both,
        of: vec![0],
        totals: vec![0],
        cuboids: cuboids(cells),
    };
    let built = |b: Beside| Pattern::build_beside(&facts(), &axes, &own, &[b]);
    assert!(built(beside.clone()).is_ok());
    let elsewhere = Beside {
        of: vec![1],
        ..beside.clone()
    };
    let without = Beside {
        of: vec![],
        ..beside.clone()
    };
    let untold = Beside {
        totals: vec![],
        ..beside
    };
    for wrong in [elsewhere, without, untold] {
        assert!(built(wrong).is_err());
    }
}
