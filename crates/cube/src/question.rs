//! A question of cells, and the tables that they lie in.

use crate::asked::Asked;
use crate::declared::declared;
use crate::{Totals, internal};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::DataFusionError;
use guildhall_disclosure::{Axis, CellColumn, CellValue, Coordinate, Facts};
use guildhall_grant::product::Product;
use guildhall_model::ColumnName;
use guildhall_plan::cube::{AxisPlace, CubeAgg, CubeAxis, CubeFilter, CubeLevel, CubeQuery, axes};
use std::sync::Arc;

/// A question of cells over one product.
#[derive(Debug)]
pub struct Question<'a> {
    /// What is asked.
    pub query: &'a CubeQuery,
    /// Of what.
    pub product: &'a Product,
    /// The columns of its view.
    pub schema: &'a Schema,
    /// What its cells are told apart by.
    pub axes: Vec<CubeAxis>,
    /// What is added up over each.
    pub totals: Totals<'a>,
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

impl<'a> Question<'a> {
    /// What `query` asks of `product`, the columns of whose view are `schema`'s.
    ///
    /// Fails for what is not of the cube, which admission has refused before.
    pub fn new(
        query: &'a CubeQuery,
        product: &'a Product,
        schema: &'a Schema,
    ) -> Result<Self, DataFusionError> {
        let axes = axes(query, product);
        Ok(Self {
            query,
            product,
            schema,
            axes: axes.map_err(|_| internal("an admitted question lies in no lattice"))?,
            totals: Totals::of(query, product)?,
        })
    }

    /// How many columns of the finest table say where a cell lies, and the axes and levels of the others that name it.
    #[must_use]
    pub fn places(&self) -> (usize, Vec<(usize, usize)>) {
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
            let above = axis.coarser(self.product).into_iter().next();
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
    pub fn axes(&self) -> Result<Vec<Axis>, DataFusionError> {
        self.axes.iter().map(|axis| self.axis(axis)).collect()
    }

    fn axis(&self, axis: &CubeAxis) -> Result<Axis, DataFusionError> {
        let product = self.product;
        let coarser = axis.coarser(product);
        let declared = axis.levels.iter().zip(&coarser).map(|(level, above)| {
            let dimension = product.dimension(level.column.as_str());
            let dimension = dimension.ok_or_else(|| internal("a level of no dimension"))?;
            let data_type = self.data_type(&level.column)?;
            Ok(declared(axis, level, above, dimension, &data_type)?)
        });
        Ok(Axis {
            declared: declared.collect::<Result<_, DataFusionError>>()?,
            coarser,
        })
    }

    /// How the answer is taken from the finest table's cells, and weighed by `facts`; with `cell_status`, each value has a
    /// companion.
    pub fn asked(&self, facts: Facts, cell_status: bool) -> Result<Asked, DataFusionError> {
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
                    let level = CubeLevel::groups(column, self.product);
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
            facts,
            filters: filters.collect::<Result<_, DataFusionError>>()?,
            columns: named.chain(told).collect::<Result<_, DataFusionError>>()?,
            coordinates: coordinates.collect::<Result<_, DataFusionError>>()?,
            first_fact: places.len().saturating_add(more.len()),
            keys,
            cell_status,
        })
    }

    fn data_type(&self, name: &ColumnName) -> Result<DataType, DataFusionError> {
        let field = self.schema.field_with_name(name.as_str())?;
        Ok(field.data_type().clone())
    }

    fn value(&self, told: &CubeAgg) -> Result<CellValue, DataFusionError> {
        let totals = &self.totals;
        Ok(match told {
            CubeAgg::CountUnits => CellValue::Units,
            CubeAgg::CountRows => CellValue::Sum {
                total: totals.rows()?,
            },
            CubeAgg::CountMeasure(c) => CellValue::Sum {
                total: totals.values(c)?,
            },
            CubeAgg::Sum(c) => CellValue::Sum {
                total: totals.sum(c)?,
            },
            CubeAgg::Avg(c) => CellValue::Mean {
                sum: totals.sum(c)?,
                count: totals.values(c)?,
            },
        })
    }
}

fn group(name: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![name]))
}
