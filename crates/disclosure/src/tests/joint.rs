//! Cells put together of several owners' parts, against the reference over all their rows.

use crate::facts::{Statistic, Weighed};
use crate::joint::{Joined, JointError, OwnerPart, TotalTerms, join, join_with};
use crate::lattice::Keys;
use crate::reference::{BOUNDS, Cell, Cube, MOST_ROWS, Row, Shape, TOTALS, World};
use crate::tests::worlds::{SCALE, worlds};
use crate::tests::{cases, secret, still};
use crate::{Cuboid, DrawSecret, NoiseSecret, OwnerDraws, Pattern};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;

const TERMS: [TotalTerms; 2] = [
    TotalTerms {
        ones: false,
        lower: 0,
        upper: MOST_ROWS as i128,
        scale: 0,
    },
    TotalTerms {
        ones: false,
        lower: BOUNDS.0 as i128,
        upper: BOUNDS.1 as i128,
        scale: SCALE,
    },
];

/// What an owner of this world knows, drawing with `draws`.
fn part(world: &World, cube: &Cube<'_>, draws: DrawSecret) -> OwnerPart {
    let table = |levels: &Vec<usize>| (levels.clone(), world.cuboid(cube, levels, 0).cells);
    OwnerPart {
        minimum_group: world.k,
        draws: OwnerDraws {
            secret: draws,
            totals: TOTALS.map(str::to_owned).to_vec(),
        },
        axes: world.shapes.iter().map(|s| s.axis()).collect(),
        tables: world.lattice().iter().map(table).collect(),
    }
}

/// The rows of `world`, those of a unit at one of `owners`.
fn split(world: &World, owners: u32) -> Vec<World> {
    let of = |owner: u32| {
        let rows = world.rows.iter().filter(|r| r.unit % owners == owner);
        let rows = rows.cloned().collect();
        World::new(world.k, world.table, world.shapes.clone(), rows)
    };
    (0..owners).map(of).collect()
}

/// The cells of a table by their names, with how they are weighed.
fn weighed<'a>(joined: &'a Joined, levels: &[usize]) -> (BTreeMap<Vec<u8>, usize>, Weighed<'a>) {
    let (_, cells) = joined.tables.iter().find(|(l, _)| l == levels).unwrap();
    read(&joined.facts, &joined.axes, levels, cells)
}

fn read<'a>(
    facts: &'a crate::Facts,
    axes: &[crate::Axis],
    levels: &[usize],
    cells: &RecordBatch,
) -> (BTreeMap<Vec<u8>, usize>, Weighed<'a>) {
    let cuboid = Cuboid {
        levels: levels.to_vec(),
        cells: cells.clone(),
    };
    let keys = Keys::read(axes, &cuboid).unwrap();
    let names = (0..cells.num_rows()).map(|row| (keys.name(row, None), row));
    let first = Keys::columns_of(axes, levels);
    (names.collect(), Weighed::read(facts, cells, first).unwrap())
}

fn cuboids(joined: &Joined) -> Vec<Cuboid> {
    let cuboid = |(levels, cells): &(Vec<usize>, RecordBatch)| Cuboid {
        levels: levels.clone(),
        cells: cells.clone(),
    };
    joined.tables.iter().map(cuboid).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(200)))]

    #[test]
    fn parts_add_up_to_what_one_owner_of_all_rows_would_know_and_draw(
        world in worlds(),
        owners in 1_u32..5,
    ) {
        let apart = split(&world, owners);
        let cubes: Vec<Cube<'_>> = apart.iter().map(World::cube_cells).collect();
        let parts: Vec<OwnerPart> = apart
            .iter()
            .zip(&cubes)
            .map(|(world, cube)| part(world, cube, secret().draws()))
            .collect();
        let joined = join_with(&parts, &TERMS, world.table).unwrap();
        let (cube, facts) = (world.cube_cells(), world.facts());
        for levels in world.lattice() {
            let (names, weighed) = weighed(&joined, &levels);
            let cells = world.cuboid(&cube, &levels, 0).cells;
            let (whole_names, whole) = read(&facts, &joined.axes, &levels, &cells);
            prop_assert!(names.keys().eq(whole_names.keys()));
            for (name, row) in names {
                let at = whole_names[&name];
                prop_assert_eq!(weighed.published_units(row), whole.published_units(at));
                for total in 0..TOTALS.len() {
                    let of = Statistic::Total(total);
                    prop_assert_eq!(weighed.published_total(total, row), whole.published_total(total, at));
                    let facts = |w: &Weighed<'_>, row| format!("{:?} {:?}", w.part(of, row), w.amount(of, row));
                    prop_assert_eq!(facts(&weighed, row), facts(&whole, at));
                }
            }
        }
    }

    /// By the reference, at every owner by itself.
    #[test]
    fn what_is_shown_leaves_nothing_that_an_owner_withholds(world in worlds(), owners in 2_u32..5) {
        let apart = split(&world, owners);
        let cubes: Vec<Cube<'_>> = apart.iter().map(World::cube).collect();
        let parts: Vec<OwnerPart> = apart
            .iter()
            .zip(&cubes)
            .map(|(world, cube)| part(world, cube, secret().draws()))
            .collect();
        let joined = join_with(&parts, &TERMS, world.table).unwrap();
        let all = world.cube_cells();
        for levels in world.lattice() {
            let (names, weighed) = weighed(&joined, &levels);
            let cells = world.cuboid(&all, &levels, 0).cells;
            let (whole, _) = read(&world.facts(), &joined.axes, &levels, &cells);
            let mut here: Vec<&Cell> = all.cells.keys().filter(|c| c.levels == levels).collect();
            here.sort();
            for (name, row) in names {
                let cell = here[whole[&name]];
                let withheld: Vec<usize> = cubes
                    .iter()
                    .filter(|cube| withholds(cube, cell))
                    .map(|cube| cube.cells.get(cell).map_or(0, |c| c[0].len()))
                    .collect();
                let people: usize = withheld.iter().sum();
                let some = withheld.iter().filter(|n| **n > 0).count();
                let safe = withheld.is_empty() || (some >= 2 && people >= world.k as usize);
                prop_assert!(safe || !weighed.stands(row), "{cell:?}: {withheld:?}");
            }
        }
    }

    #[test]
    fn the_part_of_one_owner_alone_is_released_as_it_would_be(world in worlds()) {
        let cube = world.cube_cells();
        let joined = join_with(&[part(&world, &cube, secret().draws())], &TERMS, world.table).unwrap();
        let local: Vec<Cuboid> = world.lattice().iter().map(|l| world.cuboid(&cube, l, 0)).collect();
        let facts = world.facts();
        let shown = |facts, cuboids: &[Cuboid]| {
            let tables = crate::lattice::Lattice::open(facts, &joined.axes, cuboids).unwrap().withhold();
            tables.unwrap().into_iter().collect::<BTreeMap<_, _>>()
        };
        prop_assert_eq!(shown(&joined.facts, &cuboids(&joined)), shown(&facts, &local));
    }
}

/// Whether an owner withholds the units of a cell by itself: that it has some and shows none of them, or might have.
fn withholds(cube: &Cube<'_>, cell: &Cell) -> bool {
    if cube.cells.contains_key(cell) {
        return cube.hides(cell, 0);
    }
    let has = |axis: usize| {
        let here = |other: &Cell| {
            other.levels[axis] == cell.levels[axis] && other.keys[axis] == cell.keys[axis]
        };
        cell.levels[axis] == 0 || cube.cells.keys().any(here)
    };
    (0..cell.levels.len()).all(has)
}

/// People at wards, of each so many, from the `first` on.
fn people(k: u32, first: u32, wards: &[(i64, u32)]) -> World {
    let mut next = first..;
    let mut rows = Vec::new();
    for (ward, count) in wards {
        for unit in next.by_ref().take(*count as usize) {
            rows.push(Row {
                unit,
                at: vec![*ward],
                value: None,
            });
        }
    }
    World::new(k, still(), vec![Shape::Flat], rows)
}

/// The wards that are shown of these owners' together, and how many people each is said to have.
fn shown(worlds: &[World]) -> BTreeMap<i64, i64> {
    let cubes: Vec<Cube<'_>> = worlds.iter().map(World::cube_cells).collect();
    let parts: Vec<OwnerPart> = worlds
        .iter()
        .zip(&cubes)
        .map(|(world, cube)| part(world, cube, secret().draws()))
        .collect();
    let joined = join_with(&parts, &TERMS, still()).unwrap();
    let pattern = Pattern::build(&joined.facts, &joined.axes, &cuboids(&joined)).unwrap();
    let (_, cells) = joined.tables.iter().find(|(l, _)| l == &[1]).unwrap();
    let weighed = Weighed::read(&joined.facts, cells, 1).unwrap();
    let coordinates = vec![crate::Coordinate::Column(0)];
    let margins = crate::Margins {
        pattern: Arc::new(pattern),
        coordinates,
    };
    let kept = margins.kept(&joined.facts, cells).unwrap();
    let text = |row| arrow::util::display::array_value_to_string(cells.column(0), row).unwrap();
    let rows = (0..cells.num_rows()).filter(|row| kept.shows(Statistic::Units, *row));
    rows.map(|row| {
        let ward = text(row).trim_start_matches('k').parse().unwrap_or(0);
        (ward, weighed.published_units(row).unwrap())
    })
    .collect()
}

#[test]
fn a_cell_of_few_at_each_of_three_owners_is_shown_when_they_are_enough_together() {
    let own = [
        people(10, 0, &[(1, 4), (2, 40)]),
        people(10, 100, &[(1, 3), (2, 40)]),
        people(10, 200, &[(1, 5), (2, 40)]),
    ];
    // By themselves: the second ward is all of the rest, so neither is shown.
    let [a, ..] = &own;
    assert_eq!(shown(std::slice::from_ref(a)), BTreeMap::new());
    assert_eq!(shown(&own), BTreeMap::from([(1, 12), (2, 120)]));
}

#[test]
fn a_part_that_one_owner_alone_withholds_is_not_what_the_joint_cell_leaves() {
    let many = people(10, 0, &[(1, 40), (2, 40), (3, 40)]);
    let few = people(10, 200, &[(1, 3), (2, 40), (3, 40)]);
    // 40 at one, 3 at the other: 43 less 40 would tell of three. With them goes a second ward, as in any line.
    let shown = shown(&[many, few]);
    assert!(!shown.contains_key(&1), "{shown:?}");
    assert!(shown.len() < 2, "{shown:?}");
}

#[test]
fn a_part_that_might_have_been_and_is_empty_counts_as_withheld() {
    let both = people(10, 0, &[(1, 40), (2, 40), (3, 40)]);
    let rest = people(10, 200, &[(2, 40), (3, 40)]);
    // Nobody of the second owner's is anywhere in ward 1: it is no ward of theirs.
    let [first, second] = [both, rest];
    assert!(shown(&[first, second]).contains_key(&1));
    let both = people(10, 0, &[(1, 40), (2, 40), (3, 40)]);
    let rest = people(10, 200, &[(2, 40), (3, 40)]);
    let mut parts = Vec::new();
    for world in [&both, &rest] {
        let mut part = part(world, &world.cube_cells(), secret().draws());
        let wards = crate::tests::worlds::key_column(0, 1, &[1, 2, 3]);
        part.axes[0].declared[0] = crate::tests::worlds::batch(vec![wards]);
        parts.push(part);
    }
    let joined = join_with(&parts, &TERMS, still()).unwrap();
    let (names, weighed) = weighed(&joined, &[1]);
    // It is declared there: that the joint cell is the first owner's would tell that the second has nobody.
    let stand: Vec<bool> = names.values().map(|row| weighed.stands(*row)).collect();
    // With it goes what that owner withholds beside it.
    assert!(!stand[0] && stand[1] != stand[2], "{stand:?}");
}

#[test]
fn what_an_owner_keeps_back_for_its_margin_is_not_told_where_the_others_have_nobody() {
    // 15 go with the 3 that the first owner withholds; the second has nobody there.
    let first = people(10, 0, &[(1, 3), (2, 15), (3, 40), (4, 50), (5, 60)]);
    let second = people(10, 300, &[(1, 9), (3, 30), (4, 40), (5, 50)]);
    let mut parts = Vec::new();
    for world in [&first, &second] {
        let mut part = part(world, &world.cube_cells(), secret().draws());
        let wards = crate::tests::worlds::key_column(0, 1, &[1, 2, 3, 4, 5]);
        part.axes[0].declared[0] = crate::tests::worlds::batch(vec![wards]);
        parts.push(part);
    }
    let joined = join_with(&parts, &TERMS, still()).unwrap();
    let (names, weighed) = weighed(&joined, &[1]);
    let stand: Vec<bool> = names.values().map(|row| weighed.stands(*row)).collect();
    assert!(stand[0] && !stand[1], "{stand:?}");
}

#[test]
fn a_cell_of_one_owners_members_has_that_owners_noise_whoever_else_is_asked() {
    let other = |byte: u8| NoiseSecret::from_bytes([byte; 32]).draws();
    let own = people(10, 0, &[(1, 40), (2, 30)]);
    let next = people(10, 200, &[(3, 40), (4, 30)]);
    let published = |with: Option<u8>| {
        let mut parts = vec![part(&own, &own.cube_cells(), secret().draws())];
        if let Some(byte) = with {
            parts.push(part(&next, &next.cube_cells(), other(byte)));
        }
        let joined = join(&parts, &TERMS).unwrap();
        let (names, weighed) = weighed(&joined, &[1]);
        let rows = names.values().take(2).copied().collect::<Vec<_>>();
        let of = |row: &usize| {
            (
                weighed.tie(Statistic::Units, *row),
                weighed.published_units(*row),
            )
        };
        (
            rows.iter().map(of).collect::<Vec<_>>(),
            weighed_whole(&joined),
        )
    };
    let (alone, whole) = published(None);
    let (with_next, together) = published(Some(7));
    assert_eq!(alone, with_next);
    assert_ne!(whole, together);
    // What lies with both is drawn with the secrets of both.
    assert_ne!(together, published(Some(8)).1);
    assert_eq!(together, published(Some(7)).1);
}

/// Where the noise of the whole is drawn.
fn weighed_whole(joined: &Joined) -> u64 {
    let (names, weighed) = weighed(joined, &[0]);
    weighed.tie(Statistic::Units, *names.values().next().unwrap())
}

#[test]
fn it_does_not_matter_which_owner_is_named_first() {
    let (a, b) = (secret().draws(), NoiseSecret::from_bytes([7; 32]).draws());
    let index = |of: &[&DrawSecret]| DrawSecret::together(of).index("units", "", 1, 2);
    assert_eq!(index(&[&a, &b]), index(&[&b, &a]));
    assert_eq!(index(&[&a, &a]), a.index("units", "", 1, 2));
    assert_ne!(index(&[&a, &b]), index(&[&a]));
}

#[test]
fn the_strictest_minimum_holds() {
    let worlds = [people(10, 0, &[(1, 40)]), people(12, 200, &[(1, 40)])];
    let parts: Vec<OwnerPart> = worlds
        .iter()
        .map(|w| part(w, &w.cube_cells(), secret().draws()))
        .collect();
    assert_eq!(join(&parts, &TERMS).unwrap().facts.minimum_group, 12);
}

/// What is said of two owners' parts, the second of which is changed.
fn refused(change: impl Fn(&mut OwnerPart)) -> String {
    let rows = |first: u32| {
        let row = |n: u32| Row {
            unit: first + n / 2,
            at: vec![i64::from(n % 3)],
            value: Some(i64::from(n)),
        };
        World::new(3, still(), vec![Shape::Flat], (0..60).map(row).collect())
    };
    let worlds = [rows(0), rows(100)];
    let mut parts: Vec<OwnerPart> = worlds
        .iter()
        .map(|w| part(w, &w.cube_cells(), secret().draws()))
        .collect();
    join(&parts, &TERMS).unwrap();
    change(&mut parts[1]);
    let error = join(&parts, &TERMS).unwrap_err();
    let (JointError::Part { owner, .. } | JointError::Unlike { owner }) = &error else {
        panic!("{error}");
    };
    assert_eq!(*owner, 1);
    error
        .source()
        .map_or(error.to_string(), ToString::to_string)
}

/// Puts `values` in place of a column of the table at level 1.
fn put(part: &mut OwnerPart, column: usize, value: impl Fn(usize, &ArrayRef) -> ArrayRef) {
    let (_, cells) = part.tables.iter_mut().find(|(l, _)| l == &[1]).unwrap();
    let mut columns = cells.columns().to_vec();
    columns[column] = value(cells.num_rows(), &columns[column]);
    *cells = RecordBatch::try_new(cells.schema(), columns).unwrap();
}

#[test]
fn a_part_that_no_units_could_have_is_refused_with_its_owner_named() {
    let all = |value: i64| {
        move |rows: usize, _: &ArrayRef| -> ArrayRef {
            Arc::new(Int64Array::from(vec![value; rows]))
        }
    };
    let no_units = "the release rule does not fit its result: a cell without units";
    let margin = "the release rule does not fit its result: a margin that its cells do not make up";
    let total = "the release rule does not fit its result: a total that no units could have";
    assert_eq!(refused(|p| put(p, 1, all(0))), no_units);
    assert_eq!(refused(|p| put(p, 1, all(1_000))), margin);
    // Rows of units: contributors, their sum, the largest and the second, those below nought.
    assert_eq!(refused(|p| put(p, 3, all(1_000))), total);
    assert_eq!(refused(|p| put(p, 5, all(1_000_000))), total);
    assert_eq!(refused(|p| put(p, 5, all(-1))), total);
    assert_eq!(refused(|p| put(p, 6, all(MOST_ROWS + 1))), total);
    assert_eq!(refused(|p| put(p, 7, all(MOST_ROWS + 1))), total);
    assert_eq!(refused(|p| put(p, 8, all(1_000))), total);
}

#[test]
fn a_part_of_other_cells_is_refused_with_its_owner_named() {
    let again = |p: &mut OwnerPart| {
        let table = p.tables[1].clone();
        p.tables.push(table);
    };
    assert!(refused(again).contains("each of its cuboids once"));
    let lost = |p: &mut OwnerPart| drop(p.tables.pop());
    assert!(refused(lost).contains("each of its cuboids once"));
    let fewer = |p: &mut OwnerPart| drop(p.draws.totals.pop());
    assert!(refused(fewer).contains("other totals"));
    let twice = |p: &mut OwnerPart| {
        put(p, 0, |_, keys| {
            let rows = UInt64Array::from(vec![0; keys.len()]);
            arrow::compute::take(keys, &rows, None).unwrap()
        });
    };
    assert_eq!(refused(twice), "a cell came in more than one piece");
    let axes = |p: &mut OwnerPart| {
        let again = p.axes[0].clone();
        p.axes.push(again);
    };
    assert!(refused(axes).contains("level"));
}

#[test]
fn a_cell_that_lies_elsewhere_with_another_owner_is_refused() {
    let world = |first: u32| {
        let row = |n: u32| Row {
            unit: first + n,
            at: vec![i64::from(n % 4)],
            value: None,
        };
        World::new(3, still(), vec![Shape::Pairs], (0..40).map(row).collect())
    };
    let worlds = [world(0), world(100)];
    let mut parts: Vec<OwnerPart> = worlds
        .iter()
        .map(|w| part(w, &w.cube_cells(), secret().draws()))
        .collect();
    join(&parts, &TERMS).unwrap();
    // The same wards, the other half of the town: every count and margin is as it was.
    put(&mut parts[1], 1, |_, above| {
        let rows = UInt64Array::from_iter_values((0..above.len() as u64).rev());
        arrow::compute::take(above, &rows, None).unwrap()
    });
    let error = join(&parts, &TERMS).unwrap_err();
    assert!(
        matches!(error, JointError::Part { owner: 1, .. }),
        "{error}"
    );
    let said = error.source().unwrap().to_string();
    assert!(said.contains("lies elsewhere"), "{said}");
}
