//! Tables of the reference as the batches that gate and margins take.

use crate::reference::{Cell, Content, Cube, MOST_ROWS, Row, Shape, TOTALS, World};
use crate::tests::secret;
use crate::{Axis, CellColumn, CellRule, CellValue, Coordinate, Cuboid, Facts, Margins, Noise};
use crate::{CellDraws, PTable, Pattern};
use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Digits of the sum of values that are decimals.
pub(crate) const SCALE: i8 = 2;

impl World {
    pub(crate) fn facts(&self) -> Facts {
        let noise = Noise {
            draws: CellDraws::Own(secret().draws()),
            table: self.table,
        };
        Facts::gathered(self.k, TOTALS.map(|id| (id.to_owned(), false)), noise)
    }

    /// The columns of facts of these cells.
    pub(crate) fn fact_columns(&self, cells: &[&Content]) -> Vec<ArrayRef> {
        let mut columns = Vec::new();
        for statistic in 0..=TOTALS.len() {
            let members: Vec<&BTreeMap<u32, i128>> = cells.iter().map(|c| &c[statistic]).collect();
            let counts = members.iter().map(|m| Some(m.len() as i64));
            columns.push(Arc::new(counts.collect::<Int64Array>()) as ArrayRef);
            let keys = members.iter().map(|m| Some(self.key_sum(m)));
            columns.push(Arc::new(keys.collect::<UInt64Array>()));
            if statistic > 0 {
                columns.extend(amounts(statistic, &members));
            }
        }
        columns
    }

    /// One table of the lattice, its rows turned round by `turn`.
    pub(crate) fn cuboid(&self, cube: &Cube<'_>, levels: &[usize], turn: usize) -> Cuboid {
        let mut cells: Vec<(&Cell, &Content)> = cube
            .cells
            .iter()
            .filter(|(c, _)| c.levels == levels)
            .collect();
        let by = turn % cells.len().max(1);
        cells.rotate_left(by);
        let mut columns = Vec::new();
        for (axis, shape) in self.shapes.iter().enumerate() {
            let Some(at) = levels[axis].checked_sub(1) else {
                continue;
            };
            let values: Vec<i64> = cells.iter().map(|(c, _)| c.keys[axis]).collect();
            columns.push(key_column(axis, levels[axis], &values));
            for coarser in &shape.axis().coarser[at] {
                let leaf = |cell: &Cell| shape.key(*coarser, cube.sample[cell].at[axis]);
                let values: Vec<i64> = cells.iter().map(|(c, _)| leaf(c)).collect();
                columns.push(key_column(axis, *coarser, &values));
            }
        }
        let contents: Vec<&Content> = cells.iter().map(|(_, content)| *content).collect();
        columns.extend(self.fact_columns(&contents));
        Cuboid {
            levels: levels.to_vec(),
            cells: batch(columns),
        }
    }

    pub(crate) fn pattern(&self, cube: &Cube<'_>, turn: usize) -> Pattern {
        let axes: Vec<_> = self.shapes.iter().map(|s| s.axis()).collect();
        self.pattern_over(cube, &axes, turn)
    }

    /// The same over axes of the same levels.
    pub(crate) fn pattern_over(&self, cube: &Cube<'_>, axes: &[Axis], turn: usize) -> Pattern {
        let mut cuboids: Vec<_> = self
            .lattice()
            .iter()
            .map(|levels| self.cuboid(cube, levels, turn))
            .collect();
        let by = turn % cuboids.len();
        cuboids.rotate_left(by);
        Pattern::build(&self.facts(), axes, &cuboids).expect("the lattice is whole")
    }

    /// The rule of an answer grouped by the axes that `fixed` leaves free.
    pub(crate) fn rule(&self, pattern: Pattern, fixed: &[Option<i64>]) -> CellRule {
        let free = || fixed.iter().enumerate().filter(|(_, f)| f.is_none());
        let mut next = 0;
        let coordinates = fixed.iter().enumerate().map(|(axis, fixed)| match fixed {
            Some(value) => Coordinate::Value(as_literal(&key_column(axis, 1, &[*value]))),
            None => {
                next += 1;
                Coordinate::Column(next - 1)
            }
        });
        let coordinates = coordinates.collect();
        let column = |name: &str, data_type: DataType, value: CellValue| CellColumn {
            name: name.to_owned(),
            data_type,
            value,
        };
        let keys = free().enumerate().map(|(column_, (axis, _))| {
            let data_type = answered(&key_column(axis, 1, &[])).data_type().clone();
            column("key", data_type, CellValue::Key { column: column_ })
        });
        let told = [
            column("units", DataType::Int64, CellValue::Units),
            column("rows", DataType::Int64, CellValue::Sum { total: 0 }),
            column(
                "sum",
                DataType::Decimal128(38, SCALE),
                CellValue::Sum { total: 1 },
            ),
            column(
                "mean",
                DataType::Float64,
                CellValue::Mean { sum: 1, count: 0 },
            ),
        ];
        CellRule {
            facts: self.facts(),
            first_fact: free().count(),
            keys: (0..free().count()).collect(),
            columns: keys.chain(told).collect(),
            margins: Margins {
                pattern: Arc::new(pattern),
                coordinates,
            },
            cell_status: true,
        }
    }

    /// The cells of an answer, with their keys as another type than the margins saw.
    pub(crate) fn answer(&self, cells: &[(&Cell, &Content)], fixed: &[Option<i64>]) -> RecordBatch {
        let free = (0..fixed.len()).filter(|axis| fixed[*axis].is_none());
        let key = |axis: usize| {
            let values: Vec<i64> = cells.iter().map(|(c, _)| c.keys[axis]).collect();
            answered(&key_column(axis, 1, &values))
        };
        let mut columns: Vec<ArrayRef> = free.map(key).collect();
        let contents: Vec<&Content> = cells.iter().map(|(_, content)| *content).collect();
        columns.extend(self.fact_columns(&contents));
        batch(columns)
    }
}

/// The first axis is of texts, of which one is NULL; the others are of numbers.
pub(crate) fn key_column(axis: usize, level: usize, values: &[i64]) -> ArrayRef {
    let text = |v: &i64| (level > 1 || *v > 0).then(|| format!("k{v}"));
    match axis {
        0 => Arc::new(values.iter().map(text).collect::<StringArray>()),
        _ => Arc::new(values.iter().copied().map(Some).collect::<Int64Array>()),
    }
}

fn answered(key: &ArrayRef) -> ArrayRef {
    let narrow = if key.data_type() == &DataType::Utf8 {
        DataType::Utf8View
    } else {
        DataType::Int16
    };
    cast(key, &narrow).expect("keys are small")
}

fn as_literal(key: &ArrayRef) -> ArrayRef {
    let wide = if key.data_type() == &DataType::Utf8 {
        DataType::LargeUtf8
    } else {
        DataType::UInt64
    };
    cast(key, &wide).expect("keys are not negative")
}

fn amounts(statistic: usize, members: &[&BTreeMap<u32, i128>]) -> Vec<ArrayRef> {
    let sums = |m: &&BTreeMap<u32, i128>| (!m.is_empty()).then(|| m.values().sum());
    let top = |m: &&BTreeMap<u32, i128>, at: usize| {
        let mut all: Vec<i128> = m.values().copied().collect();
        all.sort_by_key(|v| -v.abs());
        all.get(at).map(|v| v.abs())
    };
    let number = |values: Vec<Option<i128>>| -> ArrayRef {
        let values = Decimal128Array::from(values);
        let scale = if statistic == 1 { 0 } else { SCALE };
        let values: ArrayRef = Arc::new(
            values
                .with_precision_and_scale(38, scale)
                .expect("38 digits"),
        );
        if statistic == 1 {
            cast(&values, &DataType::Int64).expect("rows are few")
        } else {
            values
        }
    };
    let negatives = members
        .iter()
        .map(|m| Some(m.values().filter(|v| **v < 0).count() as i64));
    vec![
        number(members.iter().map(sums).collect()),
        number(members.iter().map(|m| top(m, 0)).collect()),
        number(members.iter().map(|m| top(m, 1)).collect()),
        Arc::new(negatives.collect::<Int64Array>()),
    ]
}

pub(crate) fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let named = columns
        .into_iter()
        .enumerate()
        .map(|(at, column)| (format!("c{at}"), column, true));
    RecordBatch::try_from_iter_with_nullable(named).expect("columns of one length")
}

/// Small worlds of which many cells fail, on every rule.
pub(crate) fn worlds() -> impl Strategy<Value = World> {
    let shape = prop_oneof![
        4 => Just(Shape::Flat),
        2 => Just(Shape::Pairs),
        1 => Just(Shape::Fours),
        1 => Just(Shape::Overlapping),
    ];
    let shapes = prop_oneof![
        3 => prop::collection::vec(shape.clone(), 1..=1),
        3 => prop::collection::vec(shape, 2..=2),
        1 => Just(vec![Shape::Flat; 3]),
    ];
    (shapes, 2_u32..6, any::<bool>()).prop_flat_map(|(shapes, k, moved)| {
        let value = prop_oneof![
            2 => Just(None),
            8 => (0_i64..100).prop_map(Some),
            1 => (100_i64..2000).prop_map(Some),
            1 => (-1_i64..1).prop_map(Some),
        ];
        let at = prop::collection::vec(0_i64..5, shapes.len());
        let row = (0_u32..60, at, value).prop_map(|(unit, at, value)| Row { unit, at, value });
        let table = if moved {
            PTable::standard()
        } else {
            crate::tests::still()
        };
        let rows = prop::collection::vec(row, 0..80);
        rows.prop_map(move |rows| World::new(k, table, shapes.clone(), rows))
    })
}

#[test]
fn a_unit_with_many_rows_is_clamped() {
    let row = Row {
        unit: 1,
        at: vec![0],
        value: Some(900),
    };
    let world = World::new(2, PTable::standard(), vec![Shape::Flat], vec![row; 9]);
    let cube = world.cube();
    let content = cube.cells.values().next().unwrap();
    assert_eq!(
        content[1].values().copied().collect::<Vec<_>>(),
        [i128::from(MOST_ROWS)]
    );
    assert_eq!(content[2].values().copied().collect::<Vec<_>>(), [1000]);
}
