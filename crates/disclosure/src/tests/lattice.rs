//! Margins by hand: small cubes whose pattern can be read off, and lattices that are refused.

use crate::reference::{Row, Shape, World};
use crate::tests::still;
use crate::{Axis, Cuboid, Gate, Pattern, ReleaseError, Rule};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use std::sync::Arc;

#[test]
fn a_lone_failing_cell_takes_the_smallest_beside_it() {
    let shown = shown(&[&[3, 20, 12, 30]]);
    assert_eq!(shown, [[false, true, false, true]]);
}

#[test]
fn two_failing_cells_that_are_enough_together_take_no_other() {
    assert_eq!(shown(&[&[6, 7, 12, 30]]), [[false, false, true, true]]);
    assert_eq!(shown(&[&[2, 3, 12, 30]]), [[false, false, false, true]]);
}

#[test]
fn a_table_without_failing_cells_is_shown_whole() {
    assert_eq!(shown(&[&[10, 11], &[12, 13]]), [[true, true], [true, true]]);
}

#[test]
fn in_two_dimensions_a_failing_cell_takes_a_rectangle() {
    let shown = shown(&[&[3, 20, 30], &[25, 40, 50], &[35, 60, 70]]);
    assert_eq!(
        shown,
        [
            [false, false, true],
            [false, false, true],
            [true, true, true]
        ]
    );
}

#[test]
fn what_lies_in_a_withheld_row_is_withheld() {
    // The first row is 9 in all; the second goes with it, and all of its cells.
    let shown = shown(&[&[4, 3, 2], &[20, 20, 20], &[30, 30, 30]]);
    assert_eq!(shown, [[false; 3], [false; 3], [true; 3]]);
}

#[test]
fn a_table_below_the_minimum_shows_nothing() {
    assert_eq!(shown(&[&[4, 5]]), [[false, false]]);
}

#[test]
fn where_there_is_nobody_looks_as_if_there_were_few() {
    for few in [0, 1, 9] {
        assert_eq!(
            shown(&[&[few, 20, 30], &[40, 50, 60], &[41, 51, 61]]),
            [
                [false, false, true],
                [false, false, true],
                [true, true, true]
            ],
            "{few}"
        );
    }
}

#[test]
fn a_cell_that_is_all_of_its_parent_is_withheld_unless_it_cannot_be_otherwise() {
    assert_eq!(
        shown(&[&[20, 0], &[30, 40], &[31, 41]]),
        [[false, false], [false, false], [true, true]]
    );
    assert_eq!(shown(&[&[20], &[30]]), [[true], [true]]);
}

#[test]
fn a_declared_value_that_nobody_has_is_withheld_too() {
    let world = grid(&[&[20, 30], &[40, 50]]);
    let mut axes: Vec<Axis> = world.shapes.iter().map(|s| s.axis()).collect();
    assert_eq!(shown_over(&world, &axes), [[true, true], [true, true]]);
    let values: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 7]));
    axes[1].declared = vec![RecordBatch::try_from_iter([("c", values)]).unwrap()];
    assert_eq!(shown_over(&world, &axes), [[false, true], [false, true]]);
}

#[test]
fn a_cell_in_which_nobody_has_a_value_takes_a_total_with_it() {
    let mut world = grid(&[&[12, 20, 30]]);
    world
        .rows
        .iter_mut()
        .filter(|r| r.at[1] > 0)
        .for_each(|r| r.value = Some(5));
    let out = released(&world);
    let sums = out.column_by_name("sum").unwrap();
    assert_eq!((out.num_rows(), sums.null_count()), (3, 2));
}

#[test]
fn a_total_is_withheld_with_its_cell_and_then_takes_no_other() {
    // The second cell goes with the first. The third has fewer contributors, and would go in its place were the total
    // of the second not withheld as it is.
    let mut world = grid(&[&[3, 12, 30]]);
    let paid = world.rows.iter_mut().filter(|r| r.at[1] < 2);
    paid.for_each(|r| r.value = Some(5));
    let third = world.rows.iter_mut().filter(|r| r.at[1] == 2);
    third.take(11).for_each(|r| r.value = Some(5));
    let out = released(&world);
    let sums = out.column_by_name("sum").unwrap();
    assert_eq!((out.num_rows(), sums.null_count()), (1, 0));
}

#[test]
fn weeks_and_months_do_not_nest() {
    let axis = |coarser: &[&[usize]]| Axis {
        coarser: coarser.iter().map(|c| c.to_vec()).collect(),
        declared: vec![],
    };
    assert!(axis(&[]).nests() && axis(&[&[]]).nests());
    assert!(axis(&[&[2], &[3], &[]]).nests() && axis(&[&[2, 3], &[3], &[]]).nests());
    assert!(!axis(&[&[2, 3], &[], &[]]).nests());
}

#[test]
fn a_lattice_that_is_not_whole_makes_no_pattern() {
    let world = grid(&[&[12, 13], &[14, 15]]);
    let cube = world.cube();
    let axes: Vec<Axis> = world.shapes.iter().map(|s| s.axis()).collect();
    let whole: Vec<Cuboid> = world
        .lattice()
        .iter()
        .map(|l| world.cuboid(&cube, l, 0))
        .collect();
    let build = |cuboids: &[Cuboid]| Pattern::build(&world.facts(), &axes, cuboids);
    assert!(build(&whole).is_ok());
    assert!(matches!(build(&whole[1..]), Err(ReleaseError::Rule { .. })));
    let twice = [&whole[1..], &whole[1..2]].concat();
    assert!(matches!(build(&twice), Err(ReleaseError::Rule { .. })));
    let more = [&whole[..], &whole[1..2]].concat();
    assert!(matches!(build(&more), Err(ReleaseError::Rule { .. })));
    let mut stray = whole.clone();
    stray[0].levels = vec![0, 2];
    assert!(matches!(build(&stray), Err(ReleaseError::Rule { .. })));
    let mut orphaned = whole.clone();
    orphaned[1].cells = orphaned[1].cells.slice(0, 1);
    assert!(matches!(build(&orphaned), Err(ReleaseError::Rule { .. })));
    let mut split = whole;
    let cells = &split[3].cells;
    split[3].cells = arrow::compute::concat_batches(cells.schema_ref(), [cells, cells]).unwrap();
    assert!(matches!(build(&split), Err(ReleaseError::SplitCell)));
}

#[test]
fn an_axis_whose_levels_nest_in_each_other_makes_no_pattern() {
    let world = grid(&[&[12]]);
    for coarser in [
        vec![vec![2], vec![1]],
        vec![vec![1]],
        vec![vec![0]],
        vec![vec![9]],
    ] {
        let none = RecordBatch::new_empty(world.cuboid(&world.cube(), &[0, 0], 0).cells.schema());
        let levels = |l: usize| Cuboid {
            levels: vec![l],
            cells: none.clone(),
        };
        let cuboids: Vec<Cuboid> = (0..=coarser.len()).map(levels).collect();
        let built = Pattern::build(
            &world.facts(),
            &[Axis {
                coarser,
                declared: vec![],
            }],
            &cuboids,
        );
        assert!(matches!(built, Err(ReleaseError::Rule { .. })));
    }
}

/// A table of two axes with as many units in each cell, at a minimum of 10 and without noise.
fn grid(rows: &[&[usize]]) -> World {
    let cells = (0_i64..)
        .zip(rows)
        .flat_map(|(r, row)| (0_i64..).zip(*row).map(move |(c, n)| (vec![r, c], *n)));
    let units = cells.flat_map(|(at, n)| vec![at; n]).zip(0_u32..);
    let rows = units.map(|(at, unit)| Row {
        unit,
        at,
        value: None,
    });
    World::new(10, still(), vec![Shape::Flat; 2], rows.collect())
}

/// Which cells of [`grid`] show their count.
fn shown<const N: usize>(rows: &[&[usize]]) -> Vec<[bool; N]> {
    let world = grid(rows);
    let axes: Vec<Axis> = world.shapes.iter().map(|s| s.axis()).collect();
    shown_over(&world, &axes)
}

fn shown_over<const N: usize>(world: &World, axes: &[Axis]) -> Vec<[bool; N]> {
    let out = released_over(world, axes);
    let rows = world.rows.iter().map(|row| row.at[0]).max();
    let rows = usize::try_from(rows.map_or(0, |last| last + 1)).unwrap();
    let mut shown = vec![[false; N]; rows];
    for row in 0..out.num_rows() {
        let text =
            |c: usize| arrow::util::display::array_value_to_string(out.column(c), row).unwrap();
        let at = |c: usize| text(c).trim_start_matches('k').parse().unwrap_or(0);
        let (r, c): (usize, usize) = (at(0), at(1));
        shown[r][c] = true;
    }
    shown
}

/// The answer by both axes.
fn released(world: &World) -> RecordBatch {
    let axes: Vec<Axis> = world.shapes.iter().map(|s| s.axis()).collect();
    released_over(world, &axes)
}

fn released_over(world: &World, axes: &[Axis]) -> RecordBatch {
    let (cube, fixed) = (world.cube(), [None, None]);
    let cells = cube.cells.iter().filter(|(c, _)| c.levels == [1, 1]);
    let batch = world.answer(&cells.collect::<Vec<_>>(), &fixed);
    let rule = world.rule(world.pattern_over(&cube, axes, 0), &fixed);
    let mut gate = Gate::new(Rule::Cells(rule), batch.schema()).unwrap();
    gate.release(&batch).unwrap().into_batch()
}
