//! The gate and the margins against the reference, over random tables.

use crate::reference::{Cell, Content, Cube, Line, TOTALS, World};
use crate::tests::cases;
use crate::tests::worlds::worlds;
use crate::{Gate, Rule};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(10_000)))]

    #[test]
    fn gate_and_margins_release_what_the_reference_does(
        world in worlds(),
        fix in prop::collection::vec(prop::option::weighted(0.3, 0_i64..5), 3),
        turn in any::<prop::sample::Index>(),
    ) {
        let cube = world.cube();
        let fixed = &fix[..world.shapes.len()];
        let answered = answered_cells(&world, &cube, fixed);
        let batch = world.answer(&answered, fixed);
        let rule = world.rule(world.pattern(&cube, turn.index(97)), fixed);
        let mut gate = Gate::new(Rule::Cells(rule), batch.schema()).unwrap();
        let released = gate.release(&batch).unwrap().into_batch();
        let keys = fixed.iter().filter(|f| f.is_none()).count();
        prop_assert_eq!(read(&released, keys), expected(&world, &cube, &answered, fixed));
        prop_assert!(every_line_is_safe(&world, &cube));
    }
}

/// Whether what is withheld in each line is of two cells and enough units, counted as sets.
fn every_line_is_safe(world: &World, cube: &Cube<'_>) -> bool {
    let lattice = world.lattice();
    let mut lines = lattice.iter().flat_map(|levels| cube.lines(levels));
    lines.all(|line| (0..=TOTALS.len()).all(|statistic| kept_safe(world, cube, &line, statistic)))
}

/// Whether all children of a line are withheld with their parent, and else those that are hide each other.
fn kept_safe(world: &World, cube: &Cube<'_>, line: &Line, statistic: usize) -> bool {
    let hides = |c: &&Cell| cube.hides(c, statistic);
    let hidden: Vec<&Cell> = line.children.iter().filter(hides).collect();
    let all = hidden.len() == line.children.len();
    if cube.hides(&line.parent, statistic) {
        return all;
    }
    let members = hidden.iter().flat_map(|c| cube.cells[*c][statistic].keys());
    let members: BTreeSet<_> = members.collect();
    let cells = hidden.len() + line.absent;
    cells == 0 || all || (cells >= 2 && members.len() >= world.k as usize)
}

/// The cells of the finest table that a filter leaves, or nobody's one cell for a whole table that has none.
fn answered_cells<'c>(
    world: &World,
    cube: &'c Cube<'_>,
    fixed: &[Option<i64>],
) -> Vec<(&'c Cell, &'c Content)> {
    let finest = world.finest();
    let matches = |cell: &Cell| {
        cell.keys
            .iter()
            .zip(fixed)
            .all(|(k, f)| f.is_none_or(|f| f == *k))
    };
    cube.cells
        .iter()
        .filter(|(c, _)| c.levels == finest && matches(c))
        .collect()
}

/// What a released cell shows: units, rows, sum, mean.
type Shown = (Option<i128>, Option<i128>, Option<i128>, Option<String>);

fn expected(
    world: &World,
    cube: &Cube<'_>,
    cells: &[(&Cell, &Content)],
    fixed: &[Option<i64>],
) -> BTreeMap<Vec<String>, Shown> {
    let whole = fixed.iter().all(Option::is_some);
    let mut all = BTreeMap::new();
    for (cell, content) in cells {
        let value = |s: usize| (!cube.hides(cell, s)).then(|| world.published(content, s));
        let (rows, sum) = (value(1), value(2));
        let mean = sum.zip(rows).filter(|(_, n)| *n > 0);
        let mean = mean.map(|(sum, n)| format!("{:.9}", sum as f64 / 100.0 / n as f64));
        if whole || value(0).is_some() {
            all.insert(names(cell, fixed), (value(0), rows, sum, mean));
        }
    }
    if whole && cells.is_empty() {
        all.insert(vec![], (None, None, None, None));
    }
    all
}

fn names(cell: &Cell, fixed: &[Option<i64>]) -> Vec<String> {
    let free = (0..fixed.len()).filter(|axis| fixed[*axis].is_none());
    let name = |axis: usize| match (axis, cell.keys[axis]) {
        (0, 0) => String::new(),
        (0, key) => format!("k{key}"),
        (_, key) => key.to_string(),
    };
    free.map(name).collect()
}

/// What was released; fails where a status says otherwise than its value.
fn read(batch: &RecordBatch, keys: usize) -> BTreeMap<Vec<String>, Shown> {
    let cell = |row: usize| {
        let name = (0..keys).map(|k| array_value_to_string(batch.column(k), row).unwrap());
        let column = |at: usize| batch.column(keys + 2 * at);
        for at in 0..4 {
            let status = batch
                .column(keys + 2 * at + 1)
                .as_string::<i32>()
                .value(row);
            let word = if column(at).is_null(row) {
                "suppressed"
            } else {
                "perturbed"
            };
            assert_eq!(status, word);
        }
        let int = |at: usize| {
            let column = column(at).as_primitive::<Int64Type>();
            column.is_valid(row).then(|| i128::from(column.value(row)))
        };
        let sum = column(2).as_primitive::<Decimal128Type>();
        let mean = column(3).as_primitive::<Float64Type>();
        let mean = mean
            .is_valid(row)
            .then(|| format!("{:.9}", mean.value(row)));
        let shown = (
            int(0),
            int(1),
            sum.is_valid(row).then(|| sum.value(row)),
            mean,
        );
        (name.collect(), shown)
    };
    (0..batch.num_rows()).map(cell).collect()
}
