//! What a plan reads.

use super::ProfileError;
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use guildhall_model::{ColumnName, ProductRef};
use std::collections::{BTreeMap, BTreeSet};

/// One product that a plan reads, and of it the columns it returns, filters or computes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRead {
    /// The product.
    pub product: ProductRef,
    /// The columns read, all scans of it together.
    pub columns: BTreeSet<ColumnName>,
}

/// The products that `plan` reads, in order of name, sub-queries included.
///
/// A scan without a projection reads every column of its source.
pub fn reads(plan: &LogicalPlan) -> Result<Vec<ProductRead>, ProfileError> {
    let mut found: BTreeMap<ProductRef, BTreeSet<ColumnName>> = BTreeMap::new();
    let mut failed = None;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Err(e) = read_of(scan, &mut found)
        {
            failed = Some(e);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Some(e) = failed {
        return Err(e);
    }
    walked.map_err(|e| super::plan::engine("read", &e))?;
    Ok(found
        .into_iter()
        .map(|(product, columns)| ProductRead { product, columns })
        .collect())
}

fn read_of(
    scan: &TableScan,
    found: &mut BTreeMap<ProductRef, BTreeSet<ColumnName>>,
) -> Result<(), ProfileError> {
    let columns = found.entry(product_of(&scan.table_name)?).or_default();
    let mut add = |name: &str| -> Result<(), ProfileError> {
        columns.insert(name.parse().map_err(|_| ProfileError::NotAProduct)?);
        Ok(())
    };
    for field in scan.projected_schema.fields() {
        add(field.name())?;
    }
    for filter in &scan.filters {
        for column in filter.column_refs() {
            add(&column.name)?;
        }
    }
    Ok(())
}

/// The product that a scan's table name names, if it is a full one.
pub fn product_of(table: &TableReference) -> Result<ProductRef, ProfileError> {
    let TableReference::Full {
        catalog,
        schema,
        table,
    } = table
    else {
        return Err(ProfileError::NotAProduct);
    };
    named(catalog, schema, table)
}

pub(super) fn named(
    council: &str,
    department: &str,
    product: &str,
) -> Result<ProductRef, ProfileError> {
    Ok(ProductRef {
        council: council.parse().map_err(|_| ProfileError::NotAProduct)?,
        department: department.parse().map_err(|_| ProfileError::NotAProduct)?,
        product: product.parse().map_err(|_| ProfileError::NotAProduct)?,
    })
}
