//! Tables of gathered rows against those of the reference.

use crate::gather::{Adds, Gathered, Gathering, Takes};
use crate::reference::{BOUNDS, Cube, MOST_ROWS, Row, World};
use crate::tests::worlds::{SCALE, key_column, worlds};
use crate::tests::{cases, secret};
use crate::{Axis, ReleaseError, Tally, keys_of};
use arrow::array::{
    Array, ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, UInt32Array,
};
use arrow::compute::cast;
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use std::sync::Arc;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(10_000) / 20))]

    #[test]
    fn tables_are_those_of_the_reference_however_the_rows_come(
        world in worlds(),
        batch in 1_usize..100,
        compact_at in 1_usize..50,
        parts in 1_u32..4,
        split in 0_usize..4,
    ) {
        let axes: Vec<Axis> = world.shapes.iter().map(|s| s.axis()).collect();
        let gathered = dealt(&world, batch, compact_at, parts);
        prop_assert_eq!(gathered.parts(), parts as usize);
        let cube = world.cube_cells();
        for levels in world.lattice() {
            let split = split.min(gathered.parts());
            let mut tally = gathered.tally(&axes, &levels, &[], 0..split).unwrap();
            tally.merge(&gathered.tally(&axes, &levels, &[], split..gathered.parts()).unwrap()).unwrap();
            let table = tally.table().unwrap();
            prop_assert_eq!(&table, &gathered.table(&axes, &levels, &[]).unwrap());
            prop_assert_eq!(lines(&table, None), reference(&world, &cube, &levels, &table), "{:?}", levels);
        }
    }

    #[test]
    fn tables_that_are_made_of_some_units_at_a_time_are_those_of_all(world in worlds(), passes in 1_u32..4) {
        let axes: Vec<Axis> = world.shapes.iter().map(|s| s.axis()).collect();
        let whole = gathered(&world, 50, 20);
        let passes: Vec<Gathered> = (0..passes).map(|pass| pass_of(&world, pass, passes)).collect();
        for levels in world.lattice() {
            let tally = |of: &Gathered| of.tally(&axes, &levels, &[], 0..1).unwrap();
            let tallies: Vec<Tally> = passes.iter().map(tally).collect();
            let joined = Tally::joined(&tallies, keys_of(&axes, &levels).len()).unwrap();
            let table = whole.table(&axes, &levels, &[]).unwrap();
            prop_assert_eq!(lines(&joined.table().unwrap(), None), lines(&table, None), "{:?}", levels);
        }
    }

    #[test]
    fn tables_of_fewer_axes_are_the_same_whether_gathered_alone_or_with_more(world in worlds(), only in 0_usize..3) {
        let only = only % world.shapes.len();
        let axes: Vec<Axis> = world.shapes.iter().map(|s| s.axis()).collect();
        let rows = world.rows.iter().map(|row| Row { at: vec![row.at[only]], ..row.clone() });
        let fewer = World::new(2, crate::tests::still(), vec![world.shapes[only]], rows.collect());
        // The first axis' keys have a type of their own there.
        let (more, alone) = (gathered(&world, 50, 20), gathered(&fewer, 50, 20));
        for level in 0..=axes[only].coarser.len() {
            let mut levels = vec![0; axes.len()];
            levels[only] = level;
            let own = std::slice::from_ref(&axes[only]);
            let (from, keys) = (more.table(&axes, &levels, &[]).unwrap(), keys_of(own, &[level]).len());
            let alone = alone.table(own, &[level], &[]).unwrap();
            let facts = |table: &RecordBatch| {
                let facts: Vec<usize> = (keys..table.num_columns()).collect();
                lines(&table.project(&facts).unwrap(), None)
            };
            prop_assert_eq!(from.num_columns(), alone.num_columns());
            prop_assert_eq!(facts(&from), facts(&alone), "{:?}", levels);
        }
    }
}

#[test]
fn other_levels_stand_between_keys_and_facts() {
    let world = World::new(
        2,
        crate::tests::still(),
        vec![crate::reference::Shape::Fours],
        (0..8)
            .map(|at| Row {
                unit: at,
                at: vec![i64::from(at)],
                value: None,
            })
            .collect(),
    );
    let axes = [Axis {
        coarser: vec![vec![2], vec![3], vec![]],
        declared: vec![],
    }];
    let table = gathered(&world, 3, 100)
        .table(&axes, &[1], &[(0, 3)])
        .unwrap();
    assert_eq!(lines(&table, Some(3))[5], ["k5", "k2", "k1"]);
}

#[test]
fn a_table_of_no_rows_has_its_columns_and_the_whole_its_cell() {
    let world = World::new(
        2,
        crate::tests::still(),
        vec![crate::reference::Shape::Flat],
        vec![],
    );
    let axes = [world.shapes[0].axis()];
    let gathered = gathered(&world, 10, 100);
    let (whole, parts) = (
        gathered.table(&axes, &[0], &[]).unwrap(),
        gathered.table(&axes, &[1], &[]).unwrap(),
    );
    assert_eq!((whole.num_rows(), parts.num_rows()), (1, 0));
    assert_eq!(whole.num_columns() + 1, parts.num_columns());
}

#[test]
fn a_row_of_nobody_is_in_no_cell() {
    let mut gathering = Gathering::new(secret(), vec![]);
    let unit: ArrayRef = Arc::new(StringArray::from(vec![Some("u"), None]));
    gathering.push(&[], &unit, &[]).unwrap();
    let table = gathering.finish().unwrap().table(&[], &[], &[]).unwrap();
    assert_eq!(array_value_to_string(table.column(0), 0).unwrap(), "1");
}

#[test]
fn what_a_unit_adds_up_to_is_clamped_and_not_each_of_its_rows() {
    let adds = Adds {
        takes: Takes::Sum(0),
        lower: -2,
        upper: 9,
        scale: 0,
    };
    let sum = |values: Vec<i128>| {
        let unit: ArrayRef = Arc::new(StringArray::from(vec!["u"; values.len()]));
        let values = Decimal128Array::from(values).with_precision_and_scale(38, 0);
        let mut gathering = Gathering::new(secret(), vec![adds]);
        gathering
            .push(&[], &unit, &[Arc::new(values.unwrap())])
            .unwrap();
        let table = gathering.finish().unwrap().table(&[], &[], &[]).unwrap();
        array_value_to_string(table.column(4), 0).unwrap()
    };
    assert_eq!(sum(vec![-7, 4]), "-2");
    assert_eq!(sum(vec![7, 4]), "9");
    assert_eq!(sum(vec![-40, 45]), "5");
}

#[test]
fn columns_that_do_not_fit_are_refused() {
    let adds = Adds {
        takes: Takes::Sum(0),
        lower: 0,
        upper: 9,
        scale: 2,
    };
    let unit: ArrayRef = Arc::new(StringArray::from(vec!["u"]));
    let decimal = |scale| -> ArrayRef {
        Arc::new(
            Decimal128Array::from(vec![7])
                .with_precision_and_scale(38, scale)
                .unwrap(),
        )
    };
    let push = |values: &[ArrayRef], keys: &[ArrayRef]| {
        Gathering::new(secret(), vec![adds]).push(keys, &unit, values)
    };
    let long: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    assert!(push(&[decimal(2)], &[]).is_ok());
    for (values, keys) in [
        (vec![], vec![]),
        (vec![decimal(3)], vec![]),
        (vec![Arc::clone(&unit)], vec![]),
        (vec![decimal(2)], vec![long]),
    ] {
        assert!(matches!(push(&values, &keys), Err(ReleaseError::Shape)));
    }
}

#[test]
fn cells_of_several_parts_are_one_list() {
    let gathered = |units: &[&str], cells: &[Option<&str>]| {
        let keys: ArrayRef = Arc::new(cells.iter().collect::<StringArray>());
        let unit: ArrayRef = Arc::new(StringArray::from(units.to_vec()));
        let mut gathering = Gathering::new(secret(), vec![]);
        gathering.push(&[keys], &unit, &[]).unwrap();
        gathering.finish().unwrap()
    };
    let (one, other) = (
        gathered(&["a", "a", "b"], &[Some("x"), Some(""), Some("x")]),
        gathered(&["c", "d", "c"], &[None, Some("x"), Some("")]),
    );
    let joined = Gathered::joined(vec![one, other]).unwrap();
    assert_eq!((joined.cells(), joined.parts()), (3, 2));
    let axes = [Axis {
        coarser: vec![vec![]],
        declared: vec![],
    }];
    let table = joined.table(&axes, &[1], &[]).unwrap();
    let expected = [["", "2"], ["-", "1"], ["x", "3"]];
    assert_eq!(lines(&table, Some(2)), expected);
    assert_eq!(
        lines(&joined.table(&axes, &[0], &[]).unwrap(), Some(1)),
        [["4"]]
    );
}

#[test]
fn what_was_gathered_otherwise_is_not_joined_nor_merged() {
    let adds = Adds {
        takes: Takes::Rows,
        lower: 0,
        upper: 9,
        scale: 0,
    };
    let of = |keys: usize, adds: Vec<Adds>| {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["u", "v"]));
        let mut gathering = Gathering::new(secret(), adds);
        gathering
            .push(&vec![Arc::clone(&column); keys], &column, &[])
            .unwrap();
        gathering.finish().unwrap()
    };
    for others in [
        vec![],
        vec![of(0, vec![]), of(0, vec![adds])],
        vec![of(0, vec![]), of(1, vec![])],
    ] {
        assert!(matches!(Gathered::joined(others), Err(ReleaseError::Shape)));
    }
    let axis = Axis {
        coarser: vec![vec![]],
        declared: vec![],
    };
    let tally =
        |of: &Gathered, levels: &[usize]| of.tally(std::slice::from_ref(&axis), levels, &[], 0..1);
    let (one, other) = (of(1, vec![]), of(1, vec![adds]));
    let mut whole = tally(&one, &[0]).unwrap();
    assert!(whole.merge(&tally(&one, &[1]).unwrap()).is_err());
    assert!(whole.merge(&tally(&other, &[0]).unwrap()).is_err());
    assert!(one.tally(&[], &[], &[], 0..2).is_err());
    let (one, other) = (tally(&one, &[1]).unwrap(), tally(&other, &[1]).unwrap());
    assert!(matches!(Tally::joined(&[], 0), Err(ReleaseError::Shape)));
    assert!(matches!(
        Tally::joined(&[one, other], 1),
        Err(ReleaseError::Shape)
    ));
}

#[test]
fn a_unit_counts_once_however_many_entries_there_are() {
    const UNITS: u32 = 20_000;
    let rows = || (0..UNITS).flat_map(|unit| (0..3).map(move |cell| (unit, cell)));
    let adds = Adds {
        takes: Takes::Rows,
        lower: 0,
        upper: 2,
        scale: 0,
    };
    let cells: ArrayRef = Arc::new(rows().map(|(_, cell)| Some(cell)).collect::<Int64Array>());
    let units: ArrayRef = Arc::new(rows().map(|(u, _)| Some(u)).collect::<UInt32Array>());
    let mut gathering = Gathering::new(secret(), vec![adds]).one_of(2);
    gathering.push(&[cells], &units, &[]).unwrap();
    let gathered = gathering.finish().unwrap();
    let axes = [Axis {
        coarser: vec![vec![]],
        declared: vec![],
    }];
    let whole = gathered.table(&axes, &[0], &[]).unwrap();
    let units = [0, 4].map(|at| array_value_to_string(whole.column(at), 0).unwrap());
    // Three rows each, of which two count.
    assert_eq!(units, ["20000", "40000"]);
    let parts = lines(&gathered.table(&axes, &[1], &[]).unwrap(), Some(2));
    assert_eq!(parts, [["0", "20000"], ["1", "20000"], ["2", "20000"]]);
}

#[test]
fn rows_of_one_batch_are_those_of_many() {
    const ROWS: i64 = 10_000;
    let adds = [Takes::Rows, Takes::Values(0), Takes::Sum(0)].map(|takes| Adds {
        takes,
        lower: -5_000,
        upper: 5_000,
        scale: 0,
    });
    let rows = |rows: std::ops::Range<i64>| -> (ArrayRef, ArrayRef, ArrayRef) {
        let cell = |row| (row % 11 > 0).then(|| format!("cell {}", row * row % 5_003));
        let unit = |row| (row % 13 > 0).then_some(row * 7 % 3_001);
        let value = |row| (row % 17 > 0).then(|| i128::from(row - ROWS / 2));
        let values: Decimal128Array = rows.clone().map(value).collect();
        let values = values.with_precision_and_scale(38, 0).unwrap();
        (
            Arc::new(rows.clone().map(cell).collect::<StringArray>()),
            Arc::new(rows.map(unit).collect::<Int64Array>()),
            Arc::new(values),
        )
    };
    let table = |batch: i64| {
        let mut gathering = Gathering::new(secret(), adds.to_vec());
        for from in (0..ROWS).step_by(usize::try_from(batch).unwrap()) {
            let (cell, unit, value) = rows(from..(from + batch).min(ROWS));
            gathering.push(&[cell], &unit, &[value]).unwrap();
        }
        let axes = [Axis {
            coarser: vec![vec![]],
            declared: vec![],
        }];
        let gathered = gathering.finish().unwrap();
        [[0], [1]].map(|levels| gathered.table(&axes, &levels, &[]).unwrap())
    };
    assert_eq!(table(ROWS), table(100));
}

/// The rows of a world, in batches of so many, with the reference's totals.
fn gathered(world: &World, batch: usize, compact_at: usize) -> Gathered {
    dealt(world, batch, compact_at, 1)
}

/// The same, dealt out to so many gatherings.
fn dealt(world: &World, batch: usize, compact_at: usize, parts: u32) -> Gathered {
    let part = |part| {
        let own = |row: &&Row| row.unit % parts == part;
        let rows: Vec<Row> = world.rows.iter().filter(own).cloned().collect();
        part_of(world, &rows, batch, compact_at)
    };
    Gathered::joined((0..parts).map(part).collect()).unwrap()
}

/// Of each of so many passes the rows of its own units.
fn pass_of(world: &World, pass: u32, passes: u32) -> Gathered {
    let own = world.rows.iter().filter(|row| row.unit % passes == pass);
    part_of(world, &own.cloned().collect::<Vec<Row>>(), 50, 20)
}

fn part_of(world: &World, rows: &[Row], batch: usize, compact_at: usize) -> Gathered {
    let adds = vec![
        Adds {
            takes: Takes::Rows,
            lower: 0,
            upper: i128::from(MOST_ROWS),
            scale: 0,
        },
        Adds {
            takes: Takes::Sum(0),
            lower: i128::from(BOUNDS.0),
            upper: i128::from(BOUNDS.1),
            scale: SCALE,
        },
    ];
    let mut gathering = Gathering::new(secret(), adds).compacting_at(compact_at);
    for rows in std::iter::once(&[][..]).chain(rows.chunks(batch)) {
        let mut keys = Vec::new();
        for (axis, shape) in world.shapes.iter().enumerate() {
            for level in 1..=shape.axis().coarser.len() {
                let values: Vec<i64> = rows.iter().map(|r| shape.key(level, r.at[axis])).collect();
                keys.push(key_column(axis, level, &values));
            }
        }
        let unit: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.unit)).collect::<UInt32Array>());
        let value: Decimal128Array = rows.iter().map(|r| r.value.map(i128::from)).collect();
        let value = value.with_precision_and_scale(38, SCALE).unwrap();
        gathering.push(&keys, &unit, &[Arc::new(value)]).unwrap();
    }
    gathering.finish().unwrap()
}

/// The reference's table, its columns as those of `like`.
fn reference(
    world: &World,
    cube: &Cube<'_>,
    levels: &[usize],
    like: &RecordBatch,
) -> Vec<Vec<String>> {
    let cells = world.cuboid(cube, levels, 0).cells;
    if cells.num_rows() == 0 && levels.iter().all(|l| *l == 0) {
        // Nobody's one cell, which the reference leaves out.
        return lines(like, None);
    }
    let columns = cells.columns().iter().zip(like.columns());
    let columns: Vec<ArrayRef> = columns
        .map(|(c, l)| cast(c, l.data_type()).unwrap())
        .collect();
    lines(&crate::tests::worlds::batch(columns), None)
}

/// The first columns of a table as text, in order.
fn lines(table: &RecordBatch, columns: Option<usize>) -> Vec<Vec<String>> {
    let columns = &table.columns()[..columns.unwrap_or(table.num_columns())];
    let text = |c: &ArrayRef, row: usize| match c.is_null(row) {
        true => "-".to_owned(),
        false => array_value_to_string(c, row).unwrap(),
    };
    let mut lines: Vec<Vec<String>> = (0..table.num_rows())
        .map(|row| columns.iter().map(|c| text(c, row)).collect())
        .collect();
    lines.sort();
    lines
}
