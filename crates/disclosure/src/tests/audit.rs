//! What an attacker gains who adds and subtracts everything that is published: random cubes, solved by least squares.

use crate::PTable;
use crate::reference::{Cell, Cube, Row, Shape, World};
use crate::tests::cases;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};

/// The variance of each published count.
const VARIANCE: f64 = 3.0;

proptest! {
    // One seed: these are statements about many cubes, of which the rare worst is worth no flaky test.
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(20_261_122),
        ..ProptestConfig::with_cases(cases(10_000) / 10)
    })]

    #[test]
    fn in_a_full_cube_a_cell_that_fails_is_not_told_or_takes_two_counts_at_least(world in full_cubes()) {
        let cube = world.cube();
        let attack = Attack::on(&world, &cube, false);
        for cell in cube.cells.keys().filter(|c| cube.fails(c, 0)) {
            let variance = attack.variance(cell).unwrap_or(f64::INFINITY);
            prop_assert!(variance >= 2.0 * VARIANCE - 1e-6, "{cell:?}: {variance}");
        }
    }

    #[test]
    fn in_no_cube_is_a_cell_that_fails_told_without_noise(world in sparse_cubes()) {
        let cube = world.cube();
        let attack = Attack::on(&world, &cube, true);
        for cell in cube.cells.keys().filter(|c| cube.fails(c, 0)) {
            let variance = attack.variance(cell).unwrap_or(f64::INFINITY);
            prop_assert!(variance >= VARIANCE / 6.0, "{cell:?}: {variance}");
        }
    }
}

/// Cubes whose levels nest and of which most combinations have units; one in four or so fails.
fn full_cubes() -> impl Strategy<Value = World> {
    let shape = prop_oneof![Just(Shape::Flat), Just(Shape::Pairs)];
    let sides = |shapes: Vec<Shape>| (prop::collection::vec(2_i64..6, shapes.len()), Just(shapes));
    let cubes = prop_oneof![
        1 => prop::collection::vec(shape.clone(), 1..=1).prop_flat_map(sides),
        4 => prop::collection::vec(shape, 2..=2).prop_flat_map(sides),
        1 => Just((vec![3, 3, 2], vec![Shape::Flat; 3])),
    ];
    cubes.prop_flat_map(|(sides, shapes)| {
        let cells = sides.iter().fold(vec![vec![]], |all: Vec<Vec<i64>>, side| {
            let longer = |at: &Vec<i64>| {
                (0..*side)
                    .map(|v| [at.as_slice(), &[v]].concat())
                    .collect::<Vec<_>>()
            };
            all.iter().flat_map(longer).collect()
        });
        let size = prop_oneof![1 => 0_usize..6, 3 => 5_usize..14];
        let sizes = prop::collection::vec(size, cells.len());
        sizes.prop_map(move |sizes| world(5, &shapes, cells.iter().cloned().zip(sizes)))
    })
}

/// Cubes of any kind of which most combinations are empty.
fn sparse_cubes() -> impl Strategy<Value = World> {
    let shape = prop_oneof![
        Just(Shape::Flat),
        Just(Shape::Pairs),
        Just(Shape::Overlapping)
    ];
    let shapes = prop_oneof![
        1 => prop::collection::vec(shape.clone(), 1..=1),
        4 => prop::collection::vec(shape, 2..=2),
        1 => Just(vec![Shape::Flat; 3]),
    ];
    (shapes, 2_u32..5).prop_flat_map(|(shapes, k)| {
        let at = prop::collection::vec(0_i64..5, shapes.len());
        let cells = prop::collection::vec((at, 1_usize..8), 1..30);
        cells.prop_map(move |cells| world(k, &shapes, cells.into_iter()))
    })
}

/// A table of cells with as many units each. No unit is in two, so that counts add up: the best case for an attacker.
fn world(k: u32, shapes: &[Shape], cells: impl Iterator<Item = (Vec<i64>, usize)>) -> World {
    let units = cells.flat_map(|(at, n)| vec![at; n]).zip(0_u32..);
    let rows = units.map(|(at, unit)| Row {
        unit,
        at,
        value: None,
    });
    World::new(k, PTable::standard(), shapes.to_vec(), rows.collect())
}

/// Published counts as equations in the counts of the finest cells: the matrix A, of 0 and 1.
struct Attack<'a> {
    world: &'a World,
    finest: Vec<Vec<i64>>,
    published: Vec<Vec<f64>>,
}

impl<'a> Attack<'a> {
    /// The attacker knows all values of each axis, and which combinations of them are empty if `told`; else only those
    /// that published cells give away, by being equal to a part of themselves.
    ///
    /// Every published set of units is one equation: cells of the same units have the same noise.
    fn on(world: &'a World, cube: &Cube<'_>, told: bool) -> Self {
        let units =
            |cell: &Cell| -> BTreeSet<u32> { cube.cells[cell][0].keys().copied().collect() };
        let mut attack = Self {
            world,
            finest: combinations(world),
            published: vec![],
        };
        let shown: Vec<&Cell> = cube.cells.keys().filter(|c| !cube.hides(c, 0)).collect();
        let empty = |at: &Vec<i64>| !world.rows.iter().any(|r| r.at == *at);
        let given_away = |at: &Vec<i64>| {
            shown.iter().filter(|p| attack.holds(p, at)).any(|p| {
                shown
                    .iter()
                    .any(|q| !attack.holds(q, at) && units(q) == units(p))
            })
        };
        let known: Vec<bool> = attack
            .finest
            .iter()
            .map(|at| empty(at) && (told || given_away(at)))
            .collect();
        let mut known = known.iter();
        attack.finest.retain(|_| known.next() != Some(&true));
        let sets: BTreeMap<BTreeSet<u32>, &Cell> = shown.iter().map(|c| (units(c), *c)).collect();
        attack.published = sets.values().map(|cell| attack.row(cell)).collect();
        attack
    }

    fn holds(&self, cell: &Cell, at: &[i64]) -> bool {
        let axes = self
            .world
            .shapes
            .iter()
            .zip(&cell.levels)
            .zip(at)
            .zip(&cell.keys);
        axes.into_iter()
            .all(|(((shape, level), leaf), key)| shape.key(*level, *leaf) == *key)
    }

    fn row(&self, cell: &Cell) -> Vec<f64> {
        self.finest
            .iter()
            .map(|at| f64::from(u8::from(self.holds(cell, at))))
            .collect()
    }

    /// The variance of the best linear unbiased estimate of a cell's count; none if there is no unbiased one.
    ///
    /// With c the cell as a row: solve (AᵀA) z = c. If it has a solution, the variance is V cᵀz.
    fn variance(&self, cell: &Cell) -> Option<f64> {
        let c = self.row(cell);
        let n = c.len();
        let gram = |i: usize, j: usize| -> f64 { self.published.iter().map(|r| r[i] * r[j]).sum() };
        let line = |i: usize| (0..n).map(|j| gram(i, j)).chain([c[i]]).collect();
        let z = solve((0..n).map(line).collect())?;
        Some(VARIANCE * c.iter().zip(z).map(|(c, z)| c * z).sum::<f64>())
    }
}

/// Every combination of the values that the axes have.
fn combinations(world: &World) -> Vec<Vec<i64>> {
    let mut all = vec![vec![]];
    for axis in 0..world.shapes.len() {
        let values: BTreeSet<i64> = world.rows.iter().map(|r| r.at[axis]).collect();
        let longer = |at: &Vec<i64>| {
            values
                .iter()
                .map(|v| [at.as_slice(), &[*v]].concat())
                .collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// A solution of the equations whose right sides come last, by elimination with pivots; none if they contradict.
fn solve(mut m: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = m.len();
    let mut pivots = Vec::new();
    for column in 0..n {
        let top = pivots.len();
        let best = (top..n).max_by(|a, b| m[*a][column].abs().total_cmp(&m[*b][column].abs()));
        let Some(best) = best.filter(|row| m[*row][column].abs() > 1e-7) else {
            continue;
        };
        m.swap(top, best);
        let pivot = m[top].clone();
        for row in (0..n).filter(|row| *row != top) {
            let factor = m[row][column] / pivot[column];
            m[row]
                .iter_mut()
                .zip(&pivot)
                .for_each(|(x, p)| *x -= factor * p);
        }
        pivots.push(column);
    }
    let contradicts = m.iter().skip(pivots.len()).any(|row| row[n].abs() > 1e-6);
    let mut solution = vec![0.0; n];
    for (row, column) in pivots.iter().enumerate() {
        solution[*column] = m[row][n] / m[row][*column];
    }
    (!contradicts).then_some(solution)
}

#[test]
fn the_audit_sees_a_cell_that_is_one_margin_less_one_cell() {
    // A total and one of its two cells are published; the other is the difference of two noisy counts.
    let (published, c) = ([[1.0, 1.0], [1.0, 0.0]], [0.0, 1.0]);
    let gram = |i: usize, j: usize| -> f64 { published.iter().map(|r| r[i] * r[j]).sum() };
    let z = solve((0..2).map(|i| vec![gram(i, 0), gram(i, 1), c[i]]).collect()).unwrap();
    assert!((VARIANCE * z[1] - 6.0).abs() < 1e-9);
    assert_eq!(solve(vec![vec![1.0, 1.0, 1.0], vec![1.0, 1.0, 0.0]]), None);
}
