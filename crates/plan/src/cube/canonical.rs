//! The one plan that a question of the cube is sent as.

use super::{CubeAgg, CubeAggregate, CubeFilter, CubeKey, CubeQuery};
use crate::functions;
use crate::profile::unused;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DataFusionError, Result, ScalarValue, TableReference, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, InList, ScalarFunction};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Cast, Expr, Filter, LogicalPlan, LogicalPlanBuilder, LogicalTableSource, lit,
};
use guildhall_grant::product::{RollUp, RollUpKind};
use guildhall_model::ColumnName;
use std::collections::BTreeSet;
use std::sync::Arc;

impl CubeQuery {
    /// The question as a plan over the product's schema: an aggregation of a filter (if there
    /// are limits) of a scan that reads what is named, and the unit.
    ///
    /// It may be written as a fragment, and is recognised again as this same question.
    pub fn canonical_plan(&self, schema: &SchemaRef) -> Result<LogicalPlan> {
        self.plan_where(schema, &BTreeSet::new(), &[])
    }

    /// The same, limited also by `predicates`, which name columns by their bare names; `read` are these columns.
    pub(crate) fn plan_where(
        &self,
        schema: &SchemaRef,
        read: &BTreeSet<ColumnName>,
        predicates: &[Expr],
    ) -> Result<LogicalPlan> {
        let table = TableReference::full(
            self.product.council.as_str(),
            self.product.department.as_str(),
            self.product.product.as_str(),
        );
        let mut projection = Vec::new();
        for name in self.reads().union(read) {
            projection.push(schema.index_of(name.as_str())?);
        }
        projection.sort_unstable();
        let source = Arc::new(LogicalTableSource::new(Arc::clone(schema)));
        let scan = LogicalPlanBuilder::scan(table.clone(), source, Some(projection))?.build()?;
        let made = Made { table, schema };
        let limits = self
            .filters
            .iter()
            .map(|f| made.limit(f))
            .chain(predicates.iter().map(|e| made.named(e)))
            .collect::<Result<Vec<_>>>()?;
        let input = match conjunction(limits) {
            Some(predicate) => LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(scan))?),
            None => scan,
        };
        let mut names = BTreeSet::new();
        let keys = self
            .keys
            .iter()
            .map(|k| Ok(made.key(k)?.alias(unused(&k.name, &mut names))))
            .collect::<Result<Vec<_>>>()?;
        let aggregates = self
            .aggregates
            .iter()
            .map(|a| Ok(made.told(a, &self.unit)?.alias(unused(&a.name, &mut names))))
            .collect::<Result<Vec<_>>>()?;
        Ok(LogicalPlan::Aggregate(Aggregate::try_new(
            Arc::new(input),
            keys,
            aggregates,
        )?))
    }
}

struct Made<'a> {
    table: TableReference,
    schema: &'a SchemaRef,
}

impl Made<'_> {
    fn column(&self, name: &ColumnName) -> Expr {
        Expr::Column(Column::new(Some(self.table.clone()), name.as_str()))
    }

    /// `e` with the table's name before those of its columns.
    fn named(&self, e: &Expr) -> Result<Expr> {
        let named = e.clone().transform_up(|e| {
            Ok(match e {
                Expr::Column(c) => {
                    let named = Column::new(Some(self.table.clone()), c.name);
                    Transformed::yes(Expr::Column(named))
                }
                other => Transformed::no(other),
            })
        })?;
        Ok(named.data)
    }

    fn type_of(&self, name: &ColumnName) -> Result<DataType> {
        Ok(self
            .schema
            .field_with_name(name.as_str())?
            .data_type()
            .clone())
    }

    fn key(&self, key: &CubeKey) -> Result<Expr> {
        match &key.roll_up {
            None => Ok(self.column(&key.column)),
            Some(roll_up) => self.truncated(&key.column, roll_up, &key.data_type),
        }
    }

    fn truncated(&self, column: &ColumnName, roll_up: &RollUp, to: &DataType) -> Result<Expr> {
        let RollUpKind::DateTrunc(unit) = &roll_up.kind else {
            return plan_err!("a group of values is not a key");
        };
        let of = self.widened(column, Some(to))?;
        let Some(date_trunc) = functions::scalar()
            .into_iter()
            .find(|f| f.name() == "date_trunc")
        else {
            return plan_err!("the engine has no date_trunc");
        };
        let args = vec![lit(unit.to_ascii_lowercase()), of];
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(
            date_trunc, args,
        )))
    }

    fn widened(&self, column: &ColumnName, to: Option<&DataType>) -> Result<Expr> {
        let e = self.column(column);
        match to {
            Some(t) if self.type_of(column)? != *t => {
                Ok(Expr::Cast(Cast::new(Box::new(e), t.clone())))
            }
            _ => Ok(e),
        }
    }

    fn limit(&self, filter: &CubeFilter) -> Result<Expr> {
        let literal = |v: &ScalarValue| Expr::Literal(v.clone(), None);
        match filter {
            CubeFilter::Eq {
                column,
                roll_up: None,
                value,
            } => Ok(self.column(column).eq(literal(value))),
            CubeFilter::Eq {
                column,
                roll_up: Some(roll_up),
                value,
            } => Ok(self
                .truncated(column, roll_up, &value.data_type())?
                .eq(literal(value))),
            CubeFilter::InRollUp {
                column,
                roll_up: _,
                values,
            } => Ok(Expr::InList(InList::new(
                Box::new(self.column(column)),
                values.iter().map(literal).collect(),
                false,
            ))),
        }
    }

    fn told(&self, told: &CubeAggregate, unit: &ColumnName) -> Result<Expr> {
        let (name, argument, distinct) = match &told.aggregate {
            CubeAgg::CountRows => ("count", lit(1_i64), false),
            CubeAgg::CountUnits => ("count", self.column(unit), true),
            CubeAgg::CountMeasure(c) => ("count", self.column(c), false),
            CubeAgg::Sum(c) => ("sum", self.widened(c, told.argument.as_ref())?, false),
            CubeAgg::Avg(c) => ("avg", self.widened(c, told.argument.as_ref())?, false),
        };
        let function = functions::aggregate()
            .into_iter()
            .find(|f| f.name() == name)
            .ok_or_else(|| DataFusionError::Plan(format!("the engine has no {name}")))?;
        Ok(Expr::AggregateFunction(AggregateFunction::new_udf(
            function,
            vec![argument],
            distinct,
            None,
            Vec::new(),
            None,
        )))
    }
}
