//! What a plan reads of the datasets at rest: which keys a question needs.

use super::view::View;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DataFusionError, TableReference};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use guildhall_grant::product::DatasetColumn;
use guildhall_model::{ColumnName, DatasetName};
use guildhall_plan::session::{bare_builder, base_config};
use std::collections::{BTreeMap, BTreeSet};

/// What the questions over a product read of the datasets at rest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lineage {
    /// By each column.
    pub(crate) by_column: BTreeMap<ColumnName, BTreeSet<DatasetColumn>>,
    /// By every question, whatever its columns.
    pub(crate) always: BTreeSet<DatasetColumn>,
}

/// One reading of a dataset in an optimised plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatasetScan {
    pub(crate) dataset: DatasetName,
    pub(crate) columns: BTreeSet<ColumnName>,
}

/// The dataset that a plan over datasets reads under this name: the one-part name that a view gives it.
pub(crate) fn dataset_of(table: &TableReference) -> Option<DatasetName> {
    match table {
        TableReference::Bare { table } => table.parse().ok(),
        _ => None,
    }
}

/// The readings of datasets in `plan`, sub-queries included.
pub(crate) fn scans(plan: &LogicalPlan) -> Result<Vec<DatasetScan>, DataFusionError> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let dataset = dataset_of(&scan.table_name)
                .ok_or_else(|| DataFusionError::Internal("a view reads no dataset".to_owned()))?;
            let read = scan
                .projected_schema
                .fields()
                .iter()
                .map(|f| f.name().clone());
            let filtered = scan
                .filters
                .iter()
                .flat_map(|f| f.column_refs())
                .map(|c| c.name.clone());
            let columns = read
                .chain(filtered)
                .map(|name| {
                    name.parse()
                        .map_err(|e| DataFusionError::External(Box::new(e)))
                })
                .collect::<Result<_, _>>()?;
            found.push(DatasetScan { dataset, columns });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// What the columns of `view` read, each by itself and all of them.
///
/// `unit` is read by every question, since cells are counted by it.
pub(crate) fn lineage(view: &View, unit: Option<&ColumnName>) -> Result<Lineage, DataFusionError> {
    let state = bare_builder(base_config()).build();
    let reads = |plan: LogicalPlan| -> Result<BTreeSet<DatasetColumn>, DataFusionError> {
        let scans = scans(&state.optimize(&plan)?)?;
        Ok(scans
            .into_iter()
            .flat_map(|s| {
                s.columns.into_iter().map(move |column| DatasetColumn {
                    dataset: s.dataset.clone(),
                    column,
                })
            })
            .collect())
    };
    let build = || LogicalPlanBuilder::from(view.plan().clone());
    let mut lineage = Lineage {
        always: reads(
            build()
                .aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64))])?
                .build()?,
        )?,
        ..Lineage::default()
    };
    for (at, field) in view.schema().fields().iter().enumerate() {
        let column = Expr::Column(Column::from(view.plan().schema().qualified_field(at)));
        let name: ColumnName = field
            .name()
            .parse()
            .map_err(|e| DataFusionError::External(Box::new(e)))?;
        // Selecting shows what a row reads, filtering what a predicate or the unit's NULL test does.
        let mut read = reads(build().project(vec![column.clone()])?.build()?)?;
        read.extend(reads(
            build()
                .filter(column.is_not_null())?
                .aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64))])?
                .build()?,
        )?);
        if unit == Some(&name) {
            lineage.always.extend(read.iter().cloned());
        }
        lineage.by_column.insert(name, read);
    }
    anchor(view, &mut lineage)?;
    Ok(lineage)
}

/// Gives every dataset of the view a column that is always read, so that its footer is always covered.
fn anchor(view: &View, lineage: &mut Lineage) -> Result<(), DataFusionError> {
    for dataset in view.datasets()? {
        if lineage.always.iter().all(|c| c.dataset != dataset) {
            let read = lineage
                .by_column
                .values()
                .flatten()
                .find(|c| c.dataset == dataset)
                .cloned();
            lineage.always.extend(read);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::draft::tests::SESSIONS;
    use super::super::view::tests::plan;
    use super::*;
    use arrow::datatypes::DataType;

    fn reads(names: &[(&str, &str)]) -> BTreeSet<DatasetColumn> {
        names
            .iter()
            .map(|(d, c)| DatasetColumn {
                dataset: d.parse().unwrap(),
                column: c.parse().unwrap(),
            })
            .collect()
    }

    #[tokio::test]
    async fn a_question_reads_its_columns_the_joins_and_the_unit() {
        let view = plan(SESSIONS).await.unwrap();
        let lineage = lineage(&view, Some(&"vehicle".parse().unwrap())).unwrap();
        let join = [("sessions", "car_park"), ("car_parks", "car_park")];
        assert_eq!(
            lineage.always,
            reads(&[join[0], join[1], ("sessions", "vehicle")])
        );
        assert_eq!(
            lineage.by_column[&"ward".parse().unwrap()],
            reads(&[join[0], join[1], ("car_parks", "ward")])
        );
        assert!(
            !lineage
                .by_column
                .values()
                .flatten()
                .any(|c| c.column.as_str() == "notes")
        );
    }

    #[tokio::test]
    async fn a_row_filter_and_a_mask_are_read_where_they_are_needed() {
        let text = SESSIONS
            .replace(
                "\n        unit =",
                "\nrow_filter = \"started > TIMESTAMP '2020-01-01'\"\nunit =",
            )
            .replace(
                "class = \"quasi\", doc",
                "class = \"quasi\", mask = \"left(ward, 2)\", doc",
            );
        let view = plan(&text).await.unwrap();
        let lineage = lineage(&view, None).unwrap();
        assert!(
            lineage
                .always
                .is_superset(&reads(&[("sessions", "started")]))
        );
        assert_eq!(view.schema().field(1).data_type(), &DataType::Utf8);
        assert!(view.plan().display_indent().to_string().contains("left("));
    }

    #[tokio::test]
    async fn a_dataset_of_which_no_column_is_always_read_gets_an_anchor() {
        let text = SESSIONS.replace(
            "JOIN car_parks c ON s.car_park = c.car_park",
            "CROSS JOIN car_parks c",
        );
        let lineage = lineage(&plan(&text).await.unwrap(), None).unwrap();
        let datasets: BTreeSet<_> = lineage.always.iter().map(|c| c.dataset.as_str()).collect();
        assert_eq!(datasets, BTreeSet::from(["car_parks", "sessions"]));
    }
}
