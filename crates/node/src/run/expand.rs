//! An admitted plan over products becomes a plan over this node's own datasets.

use crate::product::{Rows, Served, View, dataset_of};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DataFusionError, TableReference};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan};
use guildhall_model::{DatasetName, ProductRef};
use guildhall_plan::profile::product_of;
use guildhall_store::{LentKeys, SealedDataset, SealedTable};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The products of one fragment.
pub(crate) type ServedProducts = BTreeMap<ProductRef, Arc<Served>>;
/// The tables of one fragment, to be read with the keys lent for it.
pub(crate) type Tables = BTreeMap<DatasetName, Arc<dyn TableProvider>>;

/// Replaces every product in `plan` by its relation: view, row filter, masks, over `tables`.
pub(crate) fn expand(
    plan: LogicalPlan,
    products: &ServedProducts,
    tables: &Tables,
) -> Result<LogicalPlan, DataFusionError> {
    let expanded = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) => {
            Ok(Transformed::yes(product_scan(&scan, products, tables)?))
        }
        // Whether a column may be NULL is the relation's to say, all the way up.
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    })?;
    Ok(expanded.data)
}

/// The relation of one product over `tables`, its columns named by `name`.
pub(crate) fn relation(
    served: &Served,
    name: &TableReference,
    tables: &Tables,
) -> Result<LogicalPlan, DataFusionError> {
    named(served.view(), name, tables)
}

/// The tables of `served`: their datasets, to be read with the keys that are `lent`, or the rows of their twins.
pub(crate) fn tables<'a>(
    served: impl Iterator<Item = &'a Arc<Served>>,
    lent: &LentKeys,
) -> Result<Tables, DataFusionError> {
    let mut tables = Tables::new();
    for product in served {
        match product.rows() {
            Rows::Sealed(datasets) => tables.extend(sealed(datasets, lent)),
            Rows::Made(name, twin) => {
                let rows = twin.rows();
                let made = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]])?;
                tables.insert(name.clone(), Arc::new(made));
            }
        }
    }
    Ok(tables)
}

fn sealed(datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>, lent: &LentKeys) -> Tables {
    let table = |dataset: &Arc<SealedDataset>| -> Arc<dyn TableProvider> {
        Arc::new(SealedTable::new(Arc::clone(dataset), Arc::clone(lent)).with_view_types())
    };
    let tables = datasets.iter().map(|(n, d)| (n.clone(), table(d)));
    tables.collect()
}

/// The relation of `view` over `datasets`, which are read with the keys that are `lent`.
pub(crate) fn relation_of(
    view: &View,
    name: &TableReference,
    datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>,
    lent: &LentKeys,
) -> Result<LogicalPlan, DataFusionError> {
    named(view, name, &sealed(datasets, lent))
}

fn named(
    view: &View,
    name: &TableReference,
    tables: &Tables,
) -> Result<LogicalPlan, DataFusionError> {
    let plan = over(view.plan().clone(), tables)?;
    let columns: Vec<Expr> = (0..plan.schema().fields().len())
        .map(|at| {
            let (qualifier, field) = plan.schema().qualified_field(at);
            let column = Expr::Column(Column::from((qualifier, field)));
            column.alias_qualified(Some(name.clone()), field.name())
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

fn product_scan(
    scan: &TableScan,
    products: &ServedProducts,
    tables: &Tables,
) -> Result<LogicalPlan, DataFusionError> {
    let missing =
        || DataFusionError::Internal("an admitted plan reads what was not admitted".to_owned());
    let served = product_of(&scan.table_name)
        .ok()
        .and_then(|p| products.get(&p))
        .ok_or_else(missing)?;
    let mut builder = LogicalPlanBuilder::from(relation(served, &scan.table_name, tables)?);
    if let Some(predicate) = conjunction(scan.filters.iter().cloned()) {
        builder = builder.filter(predicate)?;
    }
    let read: Vec<Expr> = scan
        .projected_schema
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    builder.project(read)?.limit(0, scan.fetch)?.build()
}

/// Puts the tables of this fragment in the place of those that a view was planned over.
fn over(plan: LogicalPlan, tables: &Tables) -> Result<LogicalPlan, DataFusionError> {
    let replaced = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(mut scan) => {
            let table = dataset_of(&scan.table_name).and_then(|d| tables.get(&d));
            let Some(table) = table else {
                return Err(DataFusionError::Internal(
                    "a view reads a dataset that is not at hand".to_owned(),
                ));
            };
            scan.source = provider_as_source(Arc::clone(table));
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}
