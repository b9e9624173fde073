//! Catalogues, schemas and tables.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{GetCatalogsBuilder, GetDbSchemasBuilder, GetTablesBuilder};
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use std::collections::BTreeSet;

/// The table type of one department's product.
const TABLE: &str = "TABLE";
/// The table type of a product united over councils.
const VIEW: &str = "VIEW";
/// The table type of the lists of what is visible.
const SYSTEM_TABLE: &str = "SYSTEM TABLE";

// Names have 63 characters at most, so a longer pattern of plain text matches none. pandas sends
// whole statements as patterns; they must cost nothing and raise nothing.
const LONGEST_PATTERN: usize = 256;

/// One table that the caller may see.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) catalog: String,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) table_type: &'static str,
    /// As `SELECT *` would stream it.
    pub(crate) columns: SchemaRef,
}

/// The answer to GetCatalogs.
pub(crate) fn catalogs(listed: &[Listed]) -> Result<RecordBatch> {
    let mut builder = GetCatalogsBuilder::new();
    for catalog in listed.iter().map(|t| &t.catalog).collect::<BTreeSet<_>>() {
        builder.append(catalog);
    }
    builder.build()
}

/// The answer to GetDbSchemas.
pub(crate) fn schemas(command: CommandGetDbSchemas, listed: &[Listed]) -> Result<RecordBatch> {
    let hopeless = is_hopeless(command.db_schema_filter_pattern.as_deref());
    let fallback = empty_schemas();
    let mut builder = command.into_builder();
    if hopeless {
        return fallback;
    }
    for (catalog, schema) in listed
        .iter()
        .map(|t| (&t.catalog, &t.schema))
        .collect::<BTreeSet<_>>()
    {
        builder.append(catalog, schema);
    }
    builder.build().or(fallback)
}

/// The answer to GetTables, in either of its shapes.
pub(crate) fn tables(command: CommandGetTables, listed: &[Listed]) -> Result<RecordBatch> {
    let hopeless = is_hopeless(command.db_schema_filter_pattern.as_deref())
        || is_hopeless(command.table_name_filter_pattern.as_deref());
    let fallback = empty_tables(command.include_schema);
    if hopeless {
        return fallback;
    }
    let mut builder = command.into_builder();
    for t in listed {
        builder.append(&t.catalog, &t.schema, &t.table, t.table_type, &t.columns)?;
    }
    // What remains to fail is a pattern that the matcher cannot read; it matches nothing.
    builder.build().or(fallback)
}

/// The answer to GetTableTypes.
pub(crate) fn table_types() -> Result<RecordBatch> {
    let mut builder = CommandGetTableTypes {}.into_builder();
    builder.append(TABLE);
    builder.append(VIEW);
    builder.append(SYSTEM_TABLE);
    builder.build()
}

fn is_hopeless(pattern: Option<&str>) -> bool {
    pattern.is_some_and(|p| p.len() > LONGEST_PATTERN)
}

fn empty_schemas() -> Result<RecordBatch> {
    GetDbSchemasBuilder::new(None::<String>, None::<String>).build()
}

fn empty_tables(include_schema: bool) -> Result<RecordBatch> {
    GetTablesBuilder::new(
        None::<String>,
        None::<String>,
        None::<String>,
        Vec::<String>::new(),
        include_schema,
    )
    .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn listed() -> Vec<Listed> {
        let columns = Arc::new(Schema::new(vec![Field::new("ts", DataType::Date32, true)]));
        [("northmoor", TABLE), ("southsea", TABLE), ("city", VIEW)]
            .map(|(catalog, table_type)| Listed {
                catalog: catalog.into(),
                schema: "parking".into(),
                table: "occupancy".into(),
                table_type,
                columns: columns.clone(),
            })
            .to_vec()
    }

    #[test]
    fn no_filter_means_everything() {
        let batch = tables(CommandGetTables::default(), &listed()).unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (3, 4));
        assert_eq!(catalogs(&listed()).unwrap().num_rows(), 3);
        assert_eq!(
            schemas(CommandGetDbSchemas::default(), &listed())
                .unwrap()
                .num_rows(),
            3
        );
    }

    #[test]
    fn with_schemas_there_are_five_columns() {
        let command = CommandGetTables {
            include_schema: true,
            ..Default::default()
        };
        assert_eq!(tables(command, &listed()).unwrap().num_columns(), 5);
    }

    #[test]
    fn a_statement_as_a_pattern_finds_nothing_and_fails_nothing() {
        for pattern in [
            "SELECT * FROM (x) WHERE a LIKE '%\\".to_owned(),
            "%_".repeat(200_000),
        ] {
            let command = CommandGetTables {
                table_name_filter_pattern: Some(pattern),
                ..Default::default()
            };
            assert_eq!(tables(command, &listed()).unwrap().num_rows(), 0);
        }
    }

    #[test]
    fn filters_narrow() {
        let command = CommandGetTables {
            catalog: Some("city".into()),
            ..Default::default()
        };
        assert_eq!(tables(command, &listed()).unwrap().num_rows(), 1);
        let command = CommandGetTables {
            table_types: vec![VIEW.into()],
            ..Default::default()
        };
        assert_eq!(tables(command, &listed()).unwrap().num_rows(), 1);
        let command = CommandGetTables {
            catalog: Some(String::new()),
            ..Default::default()
        };
        assert_eq!(tables(command, &listed()).unwrap().num_rows(), 0);
    }
}
