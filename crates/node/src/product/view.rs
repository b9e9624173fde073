//! A product's view as a relation over this node's datasets.

use super::draft::{Draft, ProductError};
use super::lineage::scans;
use super::types::{is_form_of, plain_type};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, Session,
    TableProvider,
};
use datafusion::common::{Column, DataFusionError, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, cast,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::Ident;
use guildhall_model::{ColumnName, DatasetName};
use guildhall_plan::profile::types::is_flat;
use guildhall_plan::session::{bare_builder, base_config};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where datasets are to be found while a view is planned.
const CATALOG: &str = "node";
/// The same.
const SCHEMA: &str = "datasets";

/// A product's relation: the view with row filter and masks, over datasets that hold no rows.
///
/// Invariant: its columns are those of [`View::schema`], in that order, of those types; text may still be in the
/// form of string views, which the engine groups and compares faster, until it is written to a peer.
#[derive(Debug, Clone)]
pub(crate) struct View {
    plan: LogicalPlan,
    schema: SchemaRef,
}

impl View {
    /// A view of one table of that name, all of it.
    pub(crate) fn of_table(
        name: &DatasetName,
        columns: &SchemaRef,
    ) -> Result<Self, DataFusionError> {
        let table = provider_as_source(Arc::new(Shelf(Arc::clone(columns))));
        finish(LogicalPlanBuilder::scan(TableReference::bare(name.as_str()), table, None)?.build()?)
    }

    /// The relation, over tables named by [`dataset_of`] that cannot be scanned.
    pub(crate) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// The columns as they are registered: all of them may be NULL, none is a view or dictionary.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether it is one dataset's rows, all of them, once each.
    pub(crate) fn keeps_every_row(&self) -> bool {
        let mut plan = &self.plan;
        loop {
            plan = match plan {
                LogicalPlan::Projection(p) => &p.input,
                LogicalPlan::SubqueryAlias(a) => &a.input,
                LogicalPlan::TableScan(s) => return s.filters.is_empty() && s.fetch.is_none(),
                _ => return false,
            };
        }
    }

    /// The datasets that it names.
    pub(crate) fn datasets(&self) -> Result<BTreeSet<DatasetName>, DataFusionError> {
        Ok(scans(&self.plan)?.into_iter().map(|s| s.dataset).collect())
    }
}

/// The datasets that the text of `draft` names.
pub(crate) fn dataset_names(draft: &Draft) -> Result<BTreeSet<DatasetName>, ProductError> {
    let state = bare_builder(base_config()).build();
    let dialect = state.config_options().sql_parser.dialect;
    let columns: Vec<ColumnName> = draft.columns.keys().cloned().collect();
    let named = || -> Result<Vec<TableReference>, DataFusionError> {
        let statement = state.sql_to_statement(&whole(draft, &columns), &dialect)?;
        state.resolve_table_references(&statement)
    };
    let named = named()
        .map_err(|e| draft.error("view", format!("cannot be parsed: {}", e.strip_backtrace())))?;
    named
        .into_iter()
        .map(|table| match &table {
            TableReference::Bare { table } => table
                .parse()
                .map_err(|_| draft.error("view", format!("names `{table}`, which is no dataset"))),
            _ => Err(draft.error(
                "view",
                format!("names `{table}`; datasets have one-part names"),
            )),
        })
        .collect()
}

/// Plans the view of `draft` over datasets of these schemas.
pub(crate) async fn plan_view(
    draft: &Draft,
    datasets: &BTreeMap<DatasetName, SchemaRef>,
) -> Result<View, ProductError> {
    let state = state(datasets).map_err(|e| draft.error("view", e.to_string()))?;
    let view = query(&state, &draft.view)
        .await
        .map_err(|e| draft.error("view", e))?;
    let columns = listed(draft, &view)?;
    if let Some(filter) = &draft.row_filter {
        let alone = format!(
            "SELECT 1 FROM (\n{}\n) AS view WHERE (\n{filter}\n)",
            bare(&draft.view)
        );
        query(&state, &alone)
            .await
            .map_err(|e| draft.error("row_filter", e))?;
    }
    let whole = query(&state, &whole(draft, &columns))
        .await
        .map_err(|e| draft.error("columns", e))?;
    let view = finish(whole).map_err(|e| draft.error("view", e.strip_backtrace()))?;
    check_types(draft, &view)?;
    Ok(view)
}

/// View, masks and row filter in one query.
fn whole(draft: &Draft, columns: &[ColumnName]) -> String {
    let masked: Vec<String> = columns
        .iter()
        .map(|name| {
            let quoted = Ident::with_quote('"', name.as_str());
            match draft.columns.get(name).and_then(|c| c.mask.as_ref()) {
                Some(mask) => format!("({mask}\n) AS {quoted}"),
                None => quoted.to_string(),
            }
        })
        .collect();
    let sql = format!(
        "SELECT {} FROM (\n{}\n) AS view",
        masked.join(", "),
        bare(&draft.view)
    );
    match &draft.row_filter {
        Some(filter) => format!("{sql} WHERE (\n{filter}\n)"),
        None => sql,
    }
}

/// The view's columns in their order, each of them listed in the file and none else.
fn listed(draft: &Draft, view: &LogicalPlan) -> Result<Vec<ColumnName>, ProductError> {
    let mut columns = Vec::new();
    for field in view.schema().fields() {
        let name: ColumnName = field.name().parse().map_err(|_| {
            draft.error(
                "view",
                format!("has a column `{}`, which is no column name", field.name()),
            )
        })?;
        if columns.contains(&name) {
            return Err(draft.error(
                "view",
                format!("has two columns `{name}`; give one another name with AS"),
            ));
        }
        if !draft.columns.contains_key(&name) {
            return Err(draft.error(
                format!("columns.{name}"),
                "is not there; every column of the view has a class",
            ));
        }
        columns.push(name);
    }
    match draft.columns.keys().find(|c| !columns.contains(c)) {
        Some(extra) => Err(draft.error(format!("columns.{extra}"), "is no column of the view")),
        None => Ok(columns),
    }
}

/// Casts every column to the type it is registered as.
fn finish(plan: LogicalPlan) -> Result<View, DataFusionError> {
    let (mut columns, mut fields) = (Vec::new(), Vec::new());
    for (at, field) in plan.schema().fields().iter().enumerate() {
        let column = Expr::Column(Column::from(plan.schema().qualified_field(at)));
        let to = plain_type(field.data_type());
        let column = if is_form_of(field.data_type(), &to) {
            column
        } else {
            cast(column, to.clone())
        };
        columns.push(column.alias(field.name()));
        fields.push(Field::new(field.name(), to, true));
    }
    let plan = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
    Ok(View {
        plan,
        schema: Arc::new(Schema::new(fields)),
    })
}

fn check_types(draft: &Draft, view: &View) -> Result<(), ProductError> {
    let type_of = |name: &ColumnName| {
        view.schema
            .field_with_name(name.as_str())
            .ok()
            .map(|f| f.data_type().clone())
    };
    for field in view.schema.fields() {
        if !is_flat(field.data_type()) {
            let problem = format!(
                "has the type {}, which no product can have",
                field.data_type()
            );
            return Err(draft.error(format!("columns.{}", field.name()), problem));
        }
    }
    for measure in &draft.measures {
        if !type_of(&measure.column).is_some_and(|t| t.is_numeric()) {
            return Err(draft.error(format!("measure.{}", measure.column), "is not a number"));
        }
    }
    for dimension in &draft.dimensions {
        let truncates = dimension
            .roll_ups
            .iter()
            .any(|r| matches!(r.kind, guildhall_grant::product::RollUpKind::DateTrunc(_)));
        if truncates && !type_of(&dimension.column).is_some_and(|t| t.is_temporal()) {
            return Err(draft.error(
                format!("dimension.{}", dimension.column),
                "is no date or time, but has a `date_trunc`",
            ));
        }
    }
    Ok(())
}

fn state(datasets: &BTreeMap<DatasetName, SchemaRef>) -> Result<SessionState, DataFusionError> {
    let tables = MemorySchemaProvider::new();
    for (name, schema) in datasets {
        tables.register_table(name.to_string(), Arc::new(Shelf(Arc::clone(schema))))?;
    }
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(tables))?;
    let state =
        bare_builder(base_config().with_default_catalog_and_schema(CATALOG, SCHEMA)).build();
    state
        .catalog_list()
        .register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    Ok(state)
}

fn bare(sql: &str) -> &str {
    sql.trim().trim_end_matches(';')
}

/// Plans one query; an error is a text for the department's own eyes.
async fn query(state: &SessionState, sql: &str) -> Result<LogicalPlan, String> {
    let plan = state
        .create_logical_plan(sql)
        .await
        .map_err(|e| format!("cannot be planned: {}", e.strip_backtrace()))?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(|_| "is not a query".to_owned())?;
    Ok(plan)
}

/// A dataset's schema; it holds no rows.
#[derive(Debug)]
struct Shelf(SchemaRef);

#[async_trait::async_trait]
impl TableProvider for Shelf {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Err(DataFusionError::Internal(
            "a view was run without its datasets".to_owned(),
        ))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::product::draft::tests::SESSIONS;
    use arrow::datatypes::{DataType, TimeUnit};

    pub(crate) fn datasets() -> BTreeMap<DatasetName, SchemaRef> {
        let text = |n: &str| Field::new(n, DataType::Utf8, true);
        let sessions = Schema::new(vec![
            text("vehicle"),
            text("car_park"),
            Field::new(
                "started",
                DataType::Timestamp(TimeUnit::Microsecond, None),
                true,
            ),
            Field::new("paid_pence", DataType::Int64, true),
            text("notes"),
        ]);
        let car_parks = Schema::new(vec![
            text("car_park"),
            text("ward"),
            Field::new("spaces", DataType::Int64, true),
        ]);
        BTreeMap::from([
            ("sessions".parse().unwrap(), Arc::new(sessions)),
            ("car_parks".parse().unwrap(), Arc::new(car_parks)),
        ])
    }

    pub(crate) async fn plan(text: &str) -> Result<View, String> {
        let draft = Draft::parse(text, "sessions.toml").unwrap();
        plan_view(&draft, &datasets())
            .await
            .map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn every_column_of_the_view_is_listed_and_none_else() {
        let error = plan(&SESSIONS.replace("c.ward, s.started", "c.ward, c.spaces, s.started"))
            .await
            .unwrap_err();
        assert!(error.contains("`columns.spaces` is not there"), "{error}");
        let error = plan(&SESSIONS.replace("s.started, ", ""))
            .await
            .unwrap_err();
        assert!(
            error.contains("`columns.started` is no column of the view"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_view_is_a_query_over_datasets() {
        for view in [
            "DROP TABLE sessions",
            "SELECT * FROM elsewhere",
            "COPY sessions TO 'x.csv'",
            "SET a.b = 1",
        ] {
            let line = SESSIONS.lines().find(|l| l.contains("view =")).unwrap();
            let error = plan(&SESSIONS.replace(line, &format!("view = \"{view}\"")))
                .await
                .unwrap_err();
            assert!(error.starts_with("sessions.toml: `view`"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_measure_is_a_number() {
        let error = plan(&SESSIONS.replace("s.paid_pence", "s.notes AS paid_pence"))
            .await
            .unwrap_err();
        assert!(
            error.contains("`measure.paid_pence` is not a number"),
            "{error}"
        );
    }
}
