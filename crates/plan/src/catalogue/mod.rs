//! The products that one principal may ask for one purpose, as tables without rows.
//!
//! A table here has a schema and an owner; it cannot be scanned. A plan over it is cut into
//! fragments, and whatever of it is left uncut fails to become a physical plan.

mod information;
mod own;
mod providers;

use crate::planner::PlanError;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::ipc::convert::try_schema_from_ipc_buffer;
use datafusion::catalog::{CatalogProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use guildhall_grant::product::{Budget, DEVELOPMENT, Product};
use guildhall_model::{PeerId, ProductRef, Purpose, ReleaseClass};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use own::Giver;
pub use own::{OWN_SCHEMA, OwnTable};
pub use providers::ProductTable;

/// The catalogue that unites the same-shaped products of all councils.
pub const CITY: &str = "city";
/// The column of a united table that says whose row it is.
pub const COUNCIL_COLUMN: &str = "council";
/// The schema that lists what is visible.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// A product that is offered, and where its node answers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What was registered.
    pub product: Product,
    /// Where its node listens, `host:port`.
    pub address: String,
}

/// A clean room, to which nodes may send their parts of cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanRoom {
    /// Who it is. Nodes and authorities are named it; whoever answers there has to be it.
    pub peer: PeerId,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// A visible product with its schema read.
#[derive(Debug)]
pub struct CatalogueProduct {
    /// What was registered.
    pub product: Product,
    /// Where its node listens.
    pub address: String,
    /// The view's columns.
    pub schema: SchemaRef,
    /// What free questions may cost for the catalogue's purpose; none, and there are none.
    pub budget: Option<Budget>,
}

/// What a table is made of.
#[derive(Debug, Clone)]
pub enum TableKind {
    /// One product of one council.
    Product(Arc<CatalogueProduct>),
    /// The same-shaped products of all councils.
    Union(Vec<Arc<CatalogueProduct>>),
    /// A list of what is visible, or of the asker's own ([`OwnTable`]).
    Information,
}

/// One visible table, as a metadata call tells of it.
#[derive(Debug, Clone)]
pub struct CatalogueTable {
    /// The council, or [`CITY`].
    pub catalog: String,
    /// The department.
    pub schema: String,
    /// The product or template.
    pub name: String,
    /// What it is, in a sentence.
    pub doc: String,
    /// Its columns, in the types that leave the gateway.
    pub columns: SchemaRef,
    /// What it is made of.
    pub kind: TableKind,
}

impl CatalogueTable {
    /// The type that a Flight SQL client is told.
    #[must_use]
    pub fn table_type(&self) -> &'static str {
        match self.kind {
            TableKind::Product(_) => "TABLE",
            TableKind::Union(_) => "VIEW",
            TableKind::Information => "SYSTEM TABLE",
        }
    }
}

/// The products that one principal may ask for one purpose.
#[derive(Debug)]
pub struct Catalogue {
    products: BTreeMap<ProductRef, Arc<CatalogueProduct>>,
    tables: Vec<CatalogueTable>,
    catalogs: Arc<providers::Catalogs>,
    synthetic: bool,
    clean_room: Option<CleanRoom>,
}

impl Catalogue {
    /// The catalogue of these offers, which are for `purpose`.
    pub fn new(
        offers: impl IntoIterator<Item = Offer>,
        purpose: Option<&Purpose>,
    ) -> Result<Self, PlanError> {
        let mut products = BTreeMap::new();
        for Offer { product, address } in offers {
            let schema = read_schema(&product)?;
            let budget = purpose.and_then(|p| product.terms(p)).cloned();
            products.insert(
                product.product_ref(),
                Arc::new(CatalogueProduct {
                    product,
                    address,
                    schema,
                    budget,
                }),
            );
        }
        let mut tables = Vec::new();
        let mut catalogs = providers::Builder::default();
        for (name, product) in &products {
            let table = Arc::new(ProductTable::new(Arc::clone(product)));
            tables.push(CatalogueTable {
                catalog: name.council.to_string(),
                schema: name.department.to_string(),
                name: name.product.to_string(),
                doc: product.product.doc.clone(),
                columns: crate::planner::wire_schema(&product.schema),
                kind: TableKind::Product(Arc::clone(product)),
            });
            catalogs.add(
                name.council.as_str(),
                name.department.as_str(),
                name.product.as_str(),
                table,
            );
        }
        for ((department, template), members) in united(products.values()) {
            let table = unite(&members)?;
            tables.push(CatalogueTable {
                catalog: CITY.to_owned(),
                schema: department.clone(),
                name: template.clone(),
                doc: members[0].product.doc.clone(),
                columns: crate::planner::wire_schema(&table.schema()),
                kind: TableKind::Union(members),
            });
            catalogs.add(CITY, &department, &template, table);
        }
        tables.sort_by(|a, b| {
            (&a.catalog, &a.schema, &a.name).cmp(&(&b.catalog, &b.schema, &b.name))
        });
        let internal = |source| PlanError::Internal {
            doing: "planned",
            source,
        };
        for own in OwnTable::ALL {
            catalogs.add(
                CITY,
                OWN_SCHEMA,
                own.name(),
                own.provider().map_err(internal)?,
            );
            tables.push(CatalogueTable {
                catalog: CITY.to_owned(),
                schema: OWN_SCHEMA.to_owned(),
                name: own.name().to_owned(),
                doc: own.doc().to_owned(),
                columns: own.schema(),
                kind: TableKind::Information,
            });
        }
        let information = information::tables(&tables).map_err(internal)?;
        for (name, table) in &information {
            for catalog in catalogs.names() {
                catalogs.add(&catalog, INFORMATION_SCHEMA, name, Arc::clone(table));
            }
            tables.push(CatalogueTable {
                catalog: CITY.to_owned(),
                schema: INFORMATION_SCHEMA.to_owned(),
                name: (*name).to_owned(),
                doc: "what you may see".to_owned(),
                columns: crate::planner::wire_schema(&table.schema()),
                kind: TableKind::Information,
            });
        }
        Ok(Self {
            products,
            tables,
            catalogs: Arc::new(catalogs.build()),
            synthetic: purpose.is_some_and(|p| p.as_str() == DEVELOPMENT),
            clean_room: None,
        })
    }

    /// The same with a clean room, which cells of several owners are released in; without one they are refused.
    #[must_use]
    pub fn with_clean_room(self, clean_room: Option<CleanRoom>) -> Self {
        Self { clean_room, ..self }
    }

    /// Where cells of several owners are released.
    #[must_use]
    pub fn clean_room(&self) -> Option<&CleanRoom> {
        self.clean_room.as_ref()
    }

    /// A catalogue of nothing but [`INFORMATION_SCHEMA`] and the tables about the asker.
    pub fn empty() -> Result<Self, PlanError> {
        Self::new([], None)
    }

    /// Whether its questions are answered from synthetic twins.
    #[must_use]
    pub fn is_synthetic(&self) -> bool {
        self.synthetic
    }

    /// The product of that name.
    #[must_use]
    pub fn product(&self, name: &ProductRef) -> Option<&Arc<CatalogueProduct>> {
        self.products.get(name)
    }

    /// Every product, in the order of their names.
    pub fn products(&self) -> impl Iterator<Item = &Arc<CatalogueProduct>> {
        self.products.values()
    }

    /// Every table, united ones too, in the order of their names; those about the asker and [`INFORMATION_SCHEMA`] last.
    #[must_use]
    pub fn tables(&self) -> &[CatalogueTable] {
        &self.tables
    }

    pub(crate) fn catalog_list(&self) -> Arc<providers::Catalogs> {
        Arc::clone(&self.catalogs)
    }

    /// Whether the name, with its catalogue and schema filled in, is that of a table here.
    pub(crate) fn has_table(&self, catalog: &str, schema: &str, table: &str) -> bool {
        self.catalogs
            .catalog_named(catalog)
            .and_then(|c| c.schema(schema))
            .is_some_and(|s| s.table_exist(table))
    }
}

fn read_schema(product: &Product) -> Result<SchemaRef, PlanError> {
    let schema =
        try_schema_from_ipc_buffer(&product.arrow_schema).map_err(|e| PlanError::Internal {
            doing: "planned",
            source: e.into(),
        })?;
    // What a product file says of its rows is not the engine's business: names and types only.
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| Field::new(f.name(), f.data_type().clone(), f.is_nullable()))
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

type Members = Vec<Arc<CatalogueProduct>>;

fn united<'a>(
    products: impl Iterator<Item = &'a Arc<CatalogueProduct>>,
) -> BTreeMap<(String, String), Members> {
    let mut groups: BTreeMap<(String, String), Members> = BTreeMap::new();
    for product in products {
        if let Some(template) = &product.product.conforms_to {
            groups
                .entry((product.product.department.to_string(), template.to_string()))
                .or_default()
                .push(Arc::clone(product));
        }
    }
    groups
}

/// One table of `council` and the columns that all members have, by name and type.
fn unite(members: &[Arc<CatalogueProduct>]) -> Result<Arc<dyn TableProvider>, PlanError> {
    let internal = |source| PlanError::Internal {
        doing: "planned",
        source,
    };
    let Some(first) = members.first() else {
        return Err(PlanError::invalid("a template without products"));
    };
    let shared: Vec<&str> = first
        .schema
        .fields()
        .iter()
        .filter(|f| f.name() != COUNCIL_COLUMN)
        .filter(|f| {
            members.iter().all(|m| {
                m.schema
                    .field_with_name(f.name())
                    .is_ok_and(|g| g.data_type() == f.data_type())
            })
        })
        .map(|f| f.name().as_str())
        .collect();
    let mut union: Option<LogicalPlanBuilder> = None;
    for member in members {
        let branch = branch(member, &shared).map_err(internal)?;
        union = Some(match union {
            None => LogicalPlanBuilder::from(branch),
            Some(so_far) => so_far.union(branch).map_err(internal)?,
        });
    }
    let plan = match union {
        Some(builder) => builder.build().map_err(internal)?,
        None => return Err(PlanError::invalid("a template without products")),
    };
    let mut fields = vec![Field::new(COUNCIL_COLUMN, DataType::Utf8, false)];
    for name in shared {
        let nullable = members
            .iter()
            .any(|m| m.schema.field_with_name(name).is_ok_and(Field::is_nullable));
        if let Ok(field) = first.schema.field_with_name(name) {
            fields.push(Field::new(name, field.data_type().clone(), nullable));
        }
    }
    Ok(Arc::new(providers::UnionTable::new(
        Arc::new(Schema::new(fields)),
        plan,
    )))
}

fn branch(
    member: &Arc<CatalogueProduct>,
    shared: &[&str],
) -> datafusion::error::Result<LogicalPlan> {
    let name = member.product.product_ref();
    let table = TableReference::full(
        name.council.as_str(),
        name.department.as_str(),
        name.product.as_str(),
    );
    let source = provider_as_source(Arc::new(ProductTable::new(Arc::clone(member))));
    let mut exprs: Vec<Expr> = vec![lit(name.council.as_str()).alias(COUNCIL_COLUMN)];
    exprs.extend(
        shared
            .iter()
            .map(|c| Expr::Column(datafusion::common::Column::new(Some(table.clone()), *c))),
    );
    LogicalPlanBuilder::scan(table, source, None)?
        .project(exprs)?
        .build()
}

impl CatalogueProduct {
    /// Whether rows of it may leave under an ordinary grant.
    #[must_use]
    pub fn releases_rows(&self) -> bool {
        self.product.class.releases_rows()
    }

    /// Whether anybody with a grant may have its rows, so that its values may travel.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.product.class == ReleaseClass::Open
    }
}
