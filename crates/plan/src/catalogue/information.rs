//! `information_schema`: what is visible, as tables that the gateway holds itself.

use super::{CatalogueTable, TableKind};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The tables of `information_schema` over these tables.
pub(super) fn tables(
    visible: &[CatalogueTable],
) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>> {
    Ok(vec![
        ("tables", table_list(visible)?),
        ("columns", column_list(visible)?),
        ("schemata", schema_list(visible)?),
        ("views", view_list()?),
    ])
}

fn table_list(visible: &[CatalogueTable]) -> Result<Arc<dyn TableProvider>> {
    mem_table(vec![
        text(
            "table_catalog",
            visible.iter().map(|t| Some(t.catalog.as_str())),
        ),
        text(
            "table_schema",
            visible.iter().map(|t| Some(t.schema.as_str())),
        ),
        text("table_name", visible.iter().map(|t| Some(t.name.as_str()))),
        text("table_type", visible.iter().map(|t| Some(sql_type(t)))),
        text("release_class", visible.iter().map(|t| Some(class(t)))),
        text("remarks", visible.iter().map(|t| Some(t.doc.as_str()))),
    ])
}

fn column_list(visible: &[CatalogueTable]) -> Result<Arc<dyn TableProvider>> {
    let rows: Vec<(&CatalogueTable, usize, &Field)> = visible
        .iter()
        .flat_map(|t| {
            t.columns
                .fields()
                .iter()
                .enumerate()
                .map(move |(i, f)| (t, i, f.as_ref()))
        })
        .collect();
    let ordinals: UInt64Array = rows
        .iter()
        .map(|(_, i, _)| u64::try_from(*i).unwrap_or(u64::MAX).saturating_add(1))
        .collect::<Vec<u64>>()
        .into();
    let types: Vec<String> = rows
        .iter()
        .map(|(_, _, f)| f.data_type().to_string())
        .collect();
    let about: Vec<(&str, &str)> = rows.iter().map(|(t, _, f)| describe(t, f.name())).collect();
    mem_table(vec![
        text(
            "table_catalog",
            rows.iter().map(|(t, _, _)| Some(t.catalog.as_str())),
        ),
        text(
            "table_schema",
            rows.iter().map(|(t, _, _)| Some(t.schema.as_str())),
        ),
        text(
            "table_name",
            rows.iter().map(|(t, _, _)| Some(t.name.as_str())),
        ),
        text(
            "column_name",
            rows.iter().map(|(_, _, f)| Some(f.name().as_str())),
        ),
        (
            Field::new("ordinal_position", DataType::UInt64, false),
            Arc::new(ordinals),
        ),
        text("column_default", rows.iter().map(|_| None)),
        text("is_nullable", rows.iter().map(|_| Some("YES"))),
        text("data_type", types.iter().map(|t| Some(t.as_str()))),
        text("column_class", about.iter().map(|(class, _)| Some(*class))),
        text("remarks", about.iter().map(|(_, doc)| Some(*doc))),
    ])
}

fn schema_list(visible: &[CatalogueTable]) -> Result<Arc<dyn TableProvider>> {
    let schemas: BTreeSet<(&str, &str)> = visible
        .iter()
        .map(|t| (t.catalog.as_str(), t.schema.as_str()))
        .collect();
    mem_table(vec![
        text("catalog_name", schemas.iter().map(|(c, _)| Some(*c))),
        text("schema_name", schemas.iter().map(|(_, s)| Some(*s))),
    ])
}

/// Always empty: how a product is made stays at its node.
fn view_list() -> Result<Arc<dyn TableProvider>> {
    mem_table(vec![
        text("table_catalog", std::iter::empty()),
        text("table_schema", std::iter::empty()),
        text("table_name", std::iter::empty()),
        text("definition", std::iter::empty()),
    ])
}

fn sql_type(table: &CatalogueTable) -> &'static str {
    match table.kind {
        TableKind::Product(_) => "BASE TABLE",
        TableKind::Union(_) => "VIEW",
        TableKind::Information => "SYSTEM TABLE",
    }
}

/// The strictest class among what the table is made of.
fn class(table: &CatalogueTable) -> &'static str {
    let strictness = |class: &str| {
        ["open", "restricted", "aggregate", "warranted"]
            .iter()
            .position(|c| *c == class)
    };
    match &table.kind {
        TableKind::Product(p) => p.product.class.as_str(),
        TableKind::Union(members) => members
            .iter()
            .map(|m| m.product.class.as_str())
            .max_by_key(|c| strictness(c))
            .unwrap_or("open"),
        TableKind::Information => "open",
    }
}

fn describe<'a>(table: &'a CatalogueTable, column: &str) -> (&'a str, &'a str) {
    let product = match &table.kind {
        TableKind::Product(p) => Some(p),
        TableKind::Union(members) => members.first(),
        TableKind::Information => None,
    };
    match product.and_then(|p| p.product.column(column)) {
        Some(c) => (c.class.as_str(), c.doc.as_str()),
        None => ("open", ""),
    }
}

fn text<'a>(name: &str, values: impl Iterator<Item = Option<&'a str>>) -> (Field, ArrayRef) {
    let values: StringArray = values.collect();
    (Field::new(name, DataType::Utf8, true), Arc::new(values))
}

fn mem_table(columns: Vec<(Field, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}
