//! From a question of cells to the node's own plans for it, and how its answer is taken from what they give.
//!
//! The gateway's plan is never run. From what was recognised in it the node builds a plan of rows, which are made into
//! every table of the lattice that the cells lie in: which of them are withheld depends on all of these. The answer is
//! the cells of the finest table that meet the filters.

use super::declared::declared;
use super::facts::{CellFacts, internal};
use super::patterns::Known;
use arrow::array::{ArrayRef, RecordBatch, Scalar, StringArray};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use guildhall_disclosure::{
    Axis, CellColumn, CellRule, CellValue, Coordinate, Facts, Margins, schema_of,
};
use guildhall_plan::cube::{AxisPlace, CubeAgg, CubeAxis, CubeFilter, CubeLevel, CubeQuery};
use std::sync::Arc;

/// A question of cells over the relation of its product.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    pub(super) query: &'a CubeQuery,
    pub(super) facts: CellFacts<'a>,
    pub(super) axes: Vec<CubeAxis>,
}

/// How an answer is taken from the cells of the finest table, and weighed. It holds literals: it is not to be printed.
pub(crate) struct Asked {
    facts: Facts,
    /// Columns of the finest table: the keys of the answer, and the first of the facts.
    keys: Vec<usize>,
    first_fact: usize,
    /// Columns of the finest table, and the value that each is to have.
    filters: Vec<(usize, ArrayRef)>,
    columns: Vec<CellColumn>,
    coordinates: Vec<Coordinate>,
    /// Whether each value has a companion that says what was done to it.
    cell_status: bool,
}

impl Asked {
    /// The shape of the answer.
    pub(crate) fn schema(&self) -> SchemaRef {
        schema_of(&self.facts, &self.columns, self.cell_status)
    }

    /// The cells that were asked for, and the rule they are weighed by.
    pub(crate) fn of(self, known: &Known) -> Result<(RecordBatch, CellRule), ArrowError> {
        let mut cells = known.cells.clone();
        for (column, value) in &self.filters {
            // The column as the literal is: a literal that is cut to the column's type might meet another value.
            let column = cast(cells.column(*column), value.data_type())?;
            let meets = eq(&column, &Scalar::new(value))?;
            cells = filter_record_batch(&cells, &meets)?;
        }
        let facts = self.first_fact..cells.num_columns();
        let columns: Vec<usize> = self.keys.iter().copied().chain(facts).collect();
        let rule = CellRule {
            facts: self.facts,
            first_fact: self.keys.len(),
            keys: (0..self.keys.len()).collect(),
            columns: self.columns,
            margins: Margins {
                pattern: Arc::clone(&known.pattern),
                coordinates: self.coordinates,
            },
            cell_status: self.cell_status,
        };
        Ok((cells.project(&columns)?, rule))
    }
}

/// The columns of the finest table that name its cells.
#[derive(Debug, Default)]
struct Columns<'a> {
    /// Where each cell lies on each axis, and the levels that this nests in with none between.
    places: Vec<&'a CubeLevel>,
    /// The other levels.
    more: Vec<&'a CubeLevel>,
    /// For each axis, its own column.
    own: Vec<usize>,
}

impl Cells<'_> {
    /// The rows that cells are made of, with their keys at each level of each axis.
    pub(super) fn rows(&self, relation: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let levels = self.axes.iter().flat_map(|a| &a.levels);
        let keys = levels.map(|level| self.facts.level(level));
        self.facts
            .rows_of(relation, keys.collect::<Result<_, _>>()?)
    }

    /// How many columns of the finest table say where a cell lies, and the axes and levels of the others that name it.
    pub(super) fn places(&self) -> (usize, Vec<(usize, usize)>) {
        let Columns { places, more, .. } = self.columns();
        let of = |level: &&CubeLevel| {
            let axes = self.axes.iter().enumerate();
            let mut found = axes.flat_map(|(at, axis)| {
                let at_level = axis.levels.iter().position(|l| l == *level);
                at_level.map(|l| (at, l.saturating_add(1)))
            });
            found.next()
        };
        let more = more.iter().filter_map(of).collect();
        (places.len(), more)
    }

    fn columns(&self) -> Columns<'_> {
        let mut columns = Columns::default();
        for axis in &self.axes {
            columns.own.push(columns.places.len());
            let above = axis.coarser(self.facts.product).into_iter().next();
            let above = above.unwrap_or_default();
            for (at, level) in axis.levels.iter().enumerate() {
                let direct = at == 0 || above.contains(&at.saturating_add(1));
                if !direct {
                    columns.more.push(level);
                }
            }
            columns.places.extend(axis.levels.first());
            let direct = above
                .iter()
                .filter_map(|c| axis.levels.get(c.saturating_sub(1)));
            columns.places.extend(direct);
        }
        columns
    }

    /// The axes as the rules see them.
    pub(super) fn axes(&self) -> Result<Vec<Axis>, DataFusionError> {
        self.axes.iter().map(|axis| self.axis(axis)).collect()
    }

    fn axis(&self, axis: &CubeAxis) -> Result<Axis, DataFusionError> {
        let product = self.facts.product;
        let coarser = axis.coarser(product);
        let declared = axis.levels.iter().zip(&coarser).map(|(level, above)| {
            let dimension = product.dimension(level.column.as_str());
            let dimension = dimension.ok_or_else(|| internal("a level of no dimension"))?;
            let data_type = self.facts.data_type(&level.column)?;
            Ok(declared(axis, level, above, dimension, &data_type)?)
        });
        Ok(Axis {
            declared: declared.collect::<Result<_, DataFusionError>>()?,
            coarser,
        })
    }

    /// How the answer is taken from the finest table's cells, and weighed; with `cell_status`, each value has a companion.
    pub(super) fn asked(&self, cell_status: bool) -> Result<Asked, DataFusionError> {
        let Columns { places, more, own } = self.columns();
        let column = |level: &CubeLevel| {
            let at = places.iter().chain(&more).position(|l| l.is_same(level));
            at.ok_or_else(|| internal("a level that is on no axis"))
        };
        let keys = self.query.keys.iter().map(|key| {
            let level = CubeLevel::of(&key.column, key.roll_up.as_ref());
            column(&level)
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let filters = self.query.filters.iter().map(|filter| {
            let (level, value) = match filter {
                CubeFilter::Eq {
                    column,
                    roll_up,
                    value,
                } => {
                    let level = CubeLevel::of(column, roll_up.as_ref());
                    (level, value.to_array_of_size(1)?)
                }
                CubeFilter::InRollUp {
                    column, roll_up, ..
                } => {
                    let level = CubeLevel::groups(column, self.facts.product);
                    (level, group(&roll_up.name))
                }
            };
            Ok((column(&level)?, value))
        });
        let told = self.query.aggregates.iter().map(|a| {
            Ok(CellColumn {
                name: a.name.clone(),
                data_type: a.data_type.clone(),
                value: self.value(&a.aggregate)?,
            })
        });
        let named = self.query.keys.iter().enumerate().map(|(column, key)| {
            Ok(CellColumn {
                name: key.name.clone(),
                data_type: key.data_type.clone(),
                value: CellValue::Key { column },
            })
        });
        let coordinates = self.axes.iter().zip(own).map(|(axis, own)| match &axis.at {
            // A key's place among the answer's keys, which are taken from the finest table in the answer's order.
            AxisPlace::Key(_) => {
                let key = keys.iter().position(|k| *k == own);
                let key = key.ok_or_else(|| internal("an axis without its key"))?;
                Ok(Coordinate::Column(key))
            }
            AxisPlace::Value(value) => Ok(Coordinate::Value(value.to_array_of_size(1)?)),
            AxisPlace::Group(name) => Ok(Coordinate::Value(group(name))),
        });
        Ok(Asked {
            facts: self.facts.layout()?,
            filters: filters.collect::<Result<_, DataFusionError>>()?,
            columns: named.chain(told).collect::<Result<_, DataFusionError>>()?,
            coordinates: coordinates.collect::<Result<_, DataFusionError>>()?,
            first_fact: places.len().saturating_add(more.len()),
            keys,
            cell_status,
        })
    }

    fn value(&self, told: &CubeAgg) -> Result<CellValue, DataFusionError> {
        let facts = &self.facts;
        Ok(match told {
            CubeAgg::CountUnits => CellValue::Units,
            CubeAgg::CountRows => CellValue::Sum {
                total: facts.rows()?,
            },
            CubeAgg::CountMeasure(c) => CellValue::Sum {
                total: facts.values(c)?,
            },
            CubeAgg::Sum(c) => CellValue::Sum {
                total: facts.sum(c)?,
            },
            CubeAgg::Avg(c) => CellValue::Mean {
                sum: facts.sum(c)?,
                count: facts.values(c)?,
            },
        })
    }
}

fn group(name: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![name]))
}
