//! Admission: the owner does not trust the planner.
//!
//! All of it before a key is asked for. Bytes are decoded against a catalogue of nothing but the products that
//! the grant names; what is read must lie within what was granted; and the class of the answer is inferred from
//! the products, never from what the plan says of itself.

mod classes;

use crate::product::Served;
use crate::run::FreshGrant;
use classes::{ClassError, Known, check_rows};
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider,
};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use guildhall_audit::ProductSeen;
use guildhall_model::{
    ColumnClass, ColumnName, OutputClass, ProductRef, Purpose, ReleaseClass, Role,
};
use guildhall_plan::adhoc::{AdHocQuery, Lane, lane};
use guildhall_plan::cube::{CubeQuery, Refusal};
use guildhall_plan::profile::{self, FragmentLimits, ProductRead, ProfileError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use tonic::Status;

/// Why a fragment is not run, in the order the checks run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmissionError {
    #[error("the fragment is not of the closed profile")]
    Profile {
        #[source]
        source: ProfileError,
    },
    #[error("the fragment reads no product")]
    ReadsNothing,
    #[error("the grant does not cover column `{column}` of `{product}`")]
    NotGranted {
        product: ProductRef,
        column: ColumnName,
    },
    #[error("column `{column}` of `{product}` is secret")]
    Secret {
        product: ProductRef,
        column: ColumnName,
    },
    #[error("product `{product}` is released on a warrant only")]
    Warranted { product: ProductRef },
    #[error("a question to `{product}` reads no other product")]
    Mixed { product: ProductRef },
    #[error("the question is of no lane of `{product}`")]
    Refused {
        product: ProductRef,
        #[source]
        refusal: Box<Refusal>,
    },
    #[error("rows of the answer may not leave")]
    Classes {
        #[source]
        source: ClassError,
    },
    #[error("the answer is of class {found}, the grant is for {granted}")]
    Output {
        found: OutputClass,
        granted: OutputClass,
    },
    #[error("cells of `{product}` are released together with no other product's")]
    NotJoint { product: ProductRef },
    #[error("rows of `{product}` may not meet those of `{other}`")]
    NotLinked {
        product: Box<ProductRef>,
        other: Box<ProductRef>,
    },
    #[error("the catalogue of the grant cannot be made")]
    Catalogue {
        #[source]
        source: DataFusionError,
    },
}

impl AdmissionError {
    /// What the caller is told: names of products, columns and rules; no literal.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Profile {
                source: ProfileError::NoSuchProduct { product },
            } => Status::not_found(format!("no product `{product}` in the grant")),
            Self::Profile { .. } => {
                Status::invalid_argument(guildhall_telemetry::error_chain(self))
            }
            Self::ReadsNothing => Status::invalid_argument(self.to_string()),
            // That a secret column exists is one as well.
            Self::Secret { product, .. } => {
                Status::permission_denied(format!("a column of `{product}` may not be read"))
            }
            Self::Refused { refusal, .. } => {
                Status::permission_denied(format!("{refusal}\nhelp: {}", refusal.help()))
            }
            Self::Classes { .. } => {
                Status::permission_denied(guildhall_telemetry::error_chain(self))
            }
            Self::NotGranted { .. }
            | Self::Warranted { .. }
            | Self::Mixed { .. }
            | Self::NotJoint { .. }
            | Self::NotLinked { .. }
            | Self::Output { .. } => Status::permission_denied(self.to_string()),
            Self::Catalogue { .. } => Status::internal("the node failed"),
        }
    }
}

/// What a fragment may be run as. `Debug` shows no literal.
pub(crate) enum Shape {
    /// Rows of products that release rows.
    Rows(LogicalPlan),
    /// Cells of one product. The gateway's plan is not kept: the node makes its own.
    Cells(CubeQuery),
    /// Cells of one product that are charged to a budget. Nor is the gateway's plan kept here.
    AdHoc(AdHocQuery),
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A plan prints its literals, and names columns after them.
            Self::Rows(plan) => f
                .debug_struct("Rows")
                .field("columns", &plan.schema().fields().len())
                .finish_non_exhaustive(),
            Self::Cells(query) => f.debug_tuple("Cells").field(query).finish(),
            Self::AdHoc(query) => f.debug_tuple("AdHoc").field(query).finish(),
        }
    }
}

/// A fragment that its grant covers and its products allow.
///
/// Only [`admit`] makes one. Behind it: signature, time, recipient, replay, profile, columns, classes. To do:
/// the department's policy, keys, run, release.
#[derive(Debug)]
pub(crate) struct AdmittedFragment {
    grant: FreshGrant,
    products: BTreeMap<ProductRef, Arc<Served>>,
    reads: Vec<ProductRead>,
    shape: Shape,
}

impl AdmittedFragment {
    pub(crate) fn grant(&self) -> &FreshGrant {
        &self.grant
    }

    pub(crate) fn products(&self) -> &BTreeMap<ProductRef, Arc<Served>> {
        &self.products
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What is read, with versions, for policy and log.
    pub(crate) fn seen(&self) -> Vec<ProductSeen> {
        self.reads
            .iter()
            .filter_map(|r| {
                let served = self.products.get(&r.product)?;
                Some(ProductSeen::new(
                    &r.product,
                    served.product().version,
                    r.columns.clone(),
                ))
            })
            .collect()
    }

    /// What is read.
    pub(crate) fn reads(&self) -> &[ProductRead] {
        &self.reads
    }
}

/// Admits `fragment` under `grant`, whose products are `served`, for the grant's recipient.
pub(crate) fn admit(
    grant: FreshGrant,
    served: Vec<Arc<Served>>,
    fragment: &[u8],
    state: SessionState,
) -> Result<AdmittedFragment, AdmissionError> {
    let products: BTreeMap<ProductRef, Arc<Served>> = served
        .into_iter()
        .map(|s| (s.product().product_ref(), s))
        .collect();
    let state =
        catalogue(state, &products).map_err(|source| AdmissionError::Catalogue { source })?;
    let profile = |source| AdmissionError::Profile { source };
    let plan = profile::decode(fragment, &state, &FragmentLimits::default()).map_err(profile)?;
    let reads = profile::reads(&plan).map_err(profile)?;
    if reads.is_empty() {
        return Err(AdmissionError::ReadsNothing);
    }
    for read in &reads {
        check_read(read, &grant, &products)?;
    }
    let shape = classify(plan, &reads, &products, &grant.purpose)?;
    // Invariant: what was not released is for a clean room alone, and a clean room is sent nothing else.
    let found = match shape {
        Shape::Rows(_) => OutputClass::OpenRows,
        Shape::Cells(_) if grant.linkage.is_some() => OutputClass::TokenisedRows,
        Shape::Cells(_) if grant.recipient.role == Role::CleanRoom => OutputClass::PartialCells,
        Shape::Cells(_) | Shape::AdHoc(_) => OutputClass::ReleasedCells,
    };
    if found != grant.output {
        return Err(AdmissionError::Output {
            found,
            granted: grant.output,
        });
    }
    if found == OutputClass::PartialCells {
        let alone = |s: &&Arc<Served>| s.product().joint_with.is_empty();
        if let Some(served) = products.values().find(alone) {
            let product = served.product().product_ref();
            return Err(AdmissionError::NotJoint { product });
        }
    }
    if found == OutputClass::TokenisedRows {
        check_linkage(&grant, &products)?;
    }
    Ok(AdmittedFragment {
        grant,
        products,
        reads,
        shape,
    })
}

/// Rows go to a clean room of the council's own, to meet those of products that their department agreed to, and of no
/// other.
fn check_linkage(
    grant: &FreshGrant,
    products: &BTreeMap<ProductRef, Arc<Served>>,
) -> Result<(), AdmissionError> {
    let room = &grant.recipient;
    if room.role != Role::CleanRoom || room.council != grant.council {
        return Err(AdmissionError::Output {
            found: OutputClass::ReleasedCells,
            granted: grant.output,
        });
    }
    let linked = grant.linkage.iter().flat_map(|l| &l.products);
    for other in linked.filter(|other| !products.contains_key(*other)) {
        let agreed = |s: &Arc<Served>| {
            let linkable = s.product().linkable.as_ref();
            linkable.is_some_and(|l| l.with.contains(other))
        };
        if let Some(served) = products.values().find(|s| !agreed(s)) {
            return Err(AdmissionError::NotLinked {
                product: Box::new(served.product().product_ref()),
                other: Box::new(other.clone()),
            });
        }
    }
    Ok(())
}

/// A session that knows the products of the grant by name, without rows, and nothing else.
fn catalogue(
    mut state: SessionState,
    products: &BTreeMap<ProductRef, Arc<Served>>,
) -> Result<SessionState, DataFusionError> {
    let list = MemoryCatalogProviderList::new();
    state.register_catalog_list(Arc::new(list));
    for (name, served) in products {
        let catalogs = state.catalog_list();
        let catalog = catalogs.catalog(name.council.as_str()).unwrap_or_else(|| {
            let catalog: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
            catalogs.register_catalog(name.council.to_string(), Arc::clone(&catalog));
            catalog
        });
        let schema = match catalog.schema(name.department.as_str()) {
            Some(schema) => schema,
            None => {
                let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(name.department.as_str(), Arc::clone(&schema))?;
                schema
            }
        };
        let table = EmptyTable::new(Arc::clone(served.view().schema()));
        schema.register_table(name.product.to_string(), Arc::new(table))?;
    }
    Ok(state)
}

/// A read lies within what was granted, and touches nothing secret.
fn check_read(
    read: &ProductRead,
    grant: &FreshGrant,
    products: &BTreeMap<ProductRef, Arc<Served>>,
) -> Result<(), AdmissionError> {
    let product = &read.product;
    let unknown = || AdmissionError::Profile {
        source: ProfileError::NoSuchProduct {
            product: product.clone(),
        },
    };
    let served = products.get(product).ok_or_else(unknown)?;
    let granted: BTreeSet<&ColumnName> = grant
        .products
        .iter()
        .filter(|g| g.department == product.department && g.product == product.product)
        .flat_map(|g| &g.columns)
        .collect();
    for column in &read.columns {
        match served.product().column(column.as_str()).map(|c| c.class) {
            None => return Err(unknown()),
            Some(ColumnClass::Secret) if served.product().unit.as_ref() != Some(column) => {
                return Err(AdmissionError::Secret {
                    product: product.clone(),
                    column: column.clone(),
                });
            }
            Some(_) => {}
        }
        if !granted.contains(column) {
            return Err(AdmissionError::NotGranted {
                product: product.clone(),
                column: column.clone(),
            });
        }
    }
    Ok(())
}

/// What the answer is, by the classes of what is read.
fn classify(
    plan: LogicalPlan,
    reads: &[ProductRead],
    products: &BTreeMap<ProductRef, Arc<Served>>,
    purpose: &Purpose,
) -> Result<Shape, AdmissionError> {
    let read: Vec<&Arc<Served>> = reads
        .iter()
        .filter_map(|r| products.get(&r.product))
        .collect();
    let of_class = |class| read.iter().map(|s| s.product()).find(|p| p.class == class);
    if let Some(p) = of_class(ReleaseClass::Warranted) {
        return Err(AdmissionError::Warranted {
            product: p.product_ref(),
        });
    }
    // Invariant: whatever touches a product of cells is the cube's, or charged to a budget, or nothing.
    if let Some(private) = of_class(ReleaseClass::Aggregate) {
        let product = private.product_ref();
        if reads.len() > 1 {
            return Err(AdmissionError::Mixed { product });
        }
        return match lane(&plan, private, private.terms(purpose)) {
            Ok(Lane::Cube(query)) if query.product == product => Ok(Shape::Cells(query)),
            Ok(Lane::AdHoc(query)) if query.cells().product == product => Ok(Shape::AdHoc(query)),
            Ok(_) => Err(AdmissionError::Mixed { product }),
            Err(refusal) => Err(AdmissionError::Refused {
                product,
                refusal: Box::new(refusal),
            }),
        };
    }
    let known: Known<'_> = read
        .iter()
        .map(|s| (s.product().product_ref(), s.product()))
        .collect();
    check_rows(&plan, &known).map_err(|source| AdmissionError::Classes { source })?;
    Ok(Shape::Rows(plan))
}

#[cfg(test)]
mod tests;
