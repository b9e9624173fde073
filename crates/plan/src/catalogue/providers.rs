//! The catalogue as DataFusion asks for it.

use super::CatalogueProduct;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, SchemaProvider, Session, TableProvider,
};
use datafusion::common::stats::Precision;
use datafusion::common::{Statistics, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A product without its rows.
#[derive(Debug)]
pub struct ProductTable {
    product: Arc<CatalogueProduct>,
}

impl ProductTable {
    pub(crate) fn new(product: Arc<CatalogueProduct>) -> Self {
        Self { product }
    }

    /// What was registered, and where its node answers.
    #[must_use]
    pub fn product(&self) -> &Arc<CatalogueProduct> {
        &self.product
    }
}

#[async_trait]
impl TableProvider for ProductTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.product.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let rows = usize::try_from(self.product.product.row_count?).ok()?;
        let mut statistics = Statistics::new_unknown(&self.product.schema);
        statistics.num_rows = Precision::Inexact(rows);
        Some(statistics)
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // Invariant: rows of a product are reached by a fragment and in no other way.
        plan_err!("a product is read by a fragment only")
    }
}

/// The same-shaped products of all councils; the planner sees the union itself.
#[derive(Debug)]
pub(super) struct UnionTable {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl UnionTable {
    pub(super) fn new(schema: SchemaRef, plan: LogicalPlan) -> Self {
        Self { schema, plan }
    }
}

#[async_trait]
impl TableProvider for UnionTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&'_ self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("a united table is read by fragments only")
    }
}

type Tables = BTreeMap<String, Arc<dyn TableProvider>>;

#[derive(Debug, Default)]
pub(super) struct Builder {
    catalogs: BTreeMap<String, BTreeMap<String, Tables>>,
}

impl Builder {
    pub(super) fn add(
        &mut self,
        catalog: &str,
        schema: &str,
        name: &str,
        table: Arc<dyn TableProvider>,
    ) {
        self.catalogs
            .entry(catalog.to_owned())
            .or_default()
            .entry(schema.to_owned())
            .or_default()
            .insert(name.to_owned(), table);
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.catalogs.keys().cloned().collect()
    }

    pub(super) fn build(self) -> Catalogs {
        Catalogs(
            self.catalogs
                .into_iter()
                .map(|(name, schemas)| {
                    let schemas = schemas
                        .into_iter()
                        .map(|(name, tables)| (name, Arc::new(Department(tables))))
                        .collect();
                    (name, Arc::new(Council(schemas)))
                })
                .collect(),
        )
    }
}

/// All councils, and the city.
#[derive(Debug)]
pub(crate) struct Catalogs(BTreeMap<String, Arc<Council>>);

impl Catalogs {
    pub(super) fn catalog_named(&self, name: &str) -> Option<&Arc<Council>> {
        self.0.get(name)
    }
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        self.0
            .get(name)
            .map(|c| Arc::clone(c) as Arc<dyn CatalogProvider>)
    }
}

#[derive(Debug)]
pub(super) struct Council(BTreeMap<String, Arc<Department>>);

impl CatalogProvider for Council {
    fn schema_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.0
            .get(name)
            .map(|s| Arc::clone(s) as Arc<dyn SchemaProvider>)
    }
}

#[derive(Debug)]
struct Department(Tables);

#[async_trait]
impl SchemaProvider for Department {
    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.0.get(name).map(Arc::clone))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
