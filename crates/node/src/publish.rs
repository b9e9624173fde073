//! Publishing: a product file, checked against the data, signed and registered.
//!
//! The authority registers first, then the node keeps what it signed; a publication that is stopped between the
//! two is made good by publishing again, which changes nothing that is registered already.

use crate::audit::{Log, LogError};
use crate::authority::{Authority, AuthorityError};
use crate::datasets::{DatasetError, Datasets};
use crate::product::{
    Draft, Lineage, ProductError, View, dataset_names, definition_file, envelope_file, lineage,
    origin, plan_view, read_schema, schema_bytes,
};
use datafusion::error::DataFusionError;
use guildhall_audit::{Decision, Entry, Event};
use guildhall_grant::product::{Budget, Column, Product};
use guildhall_grant::{SigningKey, WireError, envelope};
use guildhall_model::{ColumnName, DatasetName, PeerId, ProductRef, ReleaseClass, SharedClock};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_store::SealedDataset;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a product was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The file cannot be read.
    #[error("cannot read `{file}`")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a product, or does not fit the data.
    #[error(transparent)]
    Product(#[from] ProductError),
    /// A dataset that it names cannot be used.
    #[error("{file}: `view` names a dataset that cannot be used")]
    Dataset {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: DatasetError,
    },
    /// What the columns read cannot be told.
    #[error("{file}: `view` cannot be followed to the columns it reads")]
    Lineage {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: DataFusionError,
    },
    /// The parts do not fit each other.
    #[error("{file}: the product is not whole")]
    NotWhole {
        /// The file.
        file: String,
        /// What does not fit.
        #[source]
        source: WireError,
    },
    /// The authority did not register it.
    #[error("`{product}` is not registered")]
    Authority {
        /// The product.
        product: ProductRef,
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// Registered, but not kept here.
    #[error("`{product}` is registered, but cannot be kept here; publish it again")]
    Keep {
        /// The product.
        product: ProductRef,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It could not be written down.
    #[error("cannot write the publication down")]
    Log {
        /// Why.
        #[source]
        source: LogError,
    },
}

impl PublishError {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Authority {
                source: AuthorityError::Refused { message, .. },
                ..
            } if message.contains("version") => Some("raise `version` in the product file"),
            Self::Dataset {
                source: DatasetError::NoSuchDataset { .. },
                ..
            } => Some("`guildhall node import` it first"),
            _ => None,
        }
    }
}

/// What was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// As it is registered.
    pub product: Product,
    /// Whether it was registered before in just this form.
    pub unchanged: bool,
}

/// A product as it would be registered, and what it is made of.
#[derive(Debug)]
pub(crate) struct Drafted {
    pub(crate) product: Product,
    pub(crate) view: View,
    pub(crate) datasets: BTreeMap<DatasetName, Arc<SealedDataset>>,
}

/// The text of a product file, and its name for messages.
pub(crate) fn read(file: &Path) -> Result<(String, String), PublishError> {
    let text = std::fs::read_to_string(file).map_err(|source| PublishError::Read {
        file: file.to_owned(),
        source,
    })?;
    let name = file.file_name().unwrap_or(file.as_os_str());
    Ok((text, name.to_string_lossy().into_owned()))
}

/// What publishing needs of a node.
#[derive(Debug)]
pub(crate) struct Publisher<'a> {
    pub(crate) node: PeerId,
    pub(crate) folder: PathBuf,
    pub(crate) signer: &'a SigningKey,
    pub(crate) authority: &'a dyn Authority,
    pub(crate) datasets: &'a Datasets,
    pub(crate) log: &'a Log,
    pub(crate) clock: &'a SharedClock,
}

impl Publisher<'_> {
    pub(crate) async fn publish(&self, file: &Path) -> Result<Published, PublishError> {
        let (text, name) = read(file)?;
        let draft = Draft::parse(&text, &name)?;
        let product = self.drafted(&draft).await?.product;
        let (product, signed, unchanged) = match self.kept(&product) {
            Some((kept, signed)) => (kept, signed, true),
            None => {
                let signed = envelope::sign(&product, self.signer);
                (product, signed, false)
            }
        };
        let registered = self.authority.register_product(signed.clone()).await;
        registered.map_err(|source| PublishError::Authority {
            product: product.product_ref(),
            source,
        })?;
        if !unchanged {
            self.keep(&product, &text, &signed)
                .map_err(|source| PublishError::Keep {
                    product: product.product_ref(),
                    source,
                })?;
            self.write_down(&signed)?;
        }
        Ok(Published { product, unchanged })
    }

    /// The product that `draft` makes of the datasets as they stand.
    pub(crate) async fn drafted(&self, draft: &Draft) -> Result<Drafted, PublishError> {
        let mut datasets: BTreeMap<DatasetName, Arc<SealedDataset>> = BTreeMap::new();
        for name in dataset_names(draft)? {
            let opened = self.datasets.current(&name).await;
            let opened = opened.map_err(|source| PublishError::Dataset {
                file: draft.file.clone(),
                source,
            })?;
            datasets.insert(name, opened);
        }
        let schemas = datasets
            .iter()
            .map(|(n, d)| (n.clone(), read_schema(d.schema())))
            .collect();
        let view = plan_view(draft, &schemas).await?;
        let lost = |source| PublishError::Lineage {
            file: draft.file.clone(),
            source,
        };
        let lineage = lineage(&view, draft.unit.as_ref()).map_err(lost)?;
        let arrow_schema = schema_bytes(view.schema()).map_err(|e| lost(e.into()))?;
        let row_count = row_count(draft, &view, &datasets);
        let budgets = budgets(draft, &view).map_err(lost)?;
        let product = self.assemble(draft, &view, &lineage, arrow_schema, row_count, budgets);
        let not_whole = |source| PublishError::NotWhole {
            file: draft.file.clone(),
            source,
        };
        product.check().map_err(not_whole)?;
        Ok(Drafted {
            product,
            view,
            datasets,
        })
    }

    fn assemble(
        &self,
        draft: &Draft,
        view: &View,
        lineage: &Lineage,
        arrow_schema: Vec<u8>,
        row_count: Option<u64>,
        budgets: Vec<Budget>,
    ) -> Product {
        let columns = names(view)
            .filter_map(|name| {
                let (name, column) = draft.columns.get_key_value(&name)?;
                Some(Column {
                    name: name.clone(),
                    class: column.class,
                    doc: column.doc.clone(),
                    reads: lineage.by_column.get(name).cloned().unwrap_or_default(),
                })
            })
            .collect();
        Product {
            council: self.node.council.clone(),
            department: self.node.department.clone(),
            name: draft.name.clone(),
            version: draft.version,
            doc: draft.doc.clone(),
            class: draft.class,
            purposes: draft.purposes.clone(),
            conforms_to: draft.conforms_to.clone(),
            unit: draft.unit.clone(),
            minimum_group: draft.minimum_group,
            max_rows_per_unit: draft.max_rows_per_unit,
            columns,
            dimensions: draft.dimensions.clone(),
            measures: draft.measures.clone(),
            arrow_schema,
            definition: draft.definition,
            row_count,
            always_reads: lineage.always.clone(),
            node: self.node.clone(),
            budgets,
            joint_with: draft.joint_with.clone(),
            linkable: draft.linkable.clone(),
        }
    }

    /// What was published before of the same file, if nothing but the count of rows differs now.
    fn kept(&self, product: &Product) -> Option<(Product, Envelope)> {
        let file = envelope_file(&self.folder, &product.name, product.version);
        let signed = envelope::decode(&std::fs::read(file).ok()?).ok()?;
        let kept: Product = envelope::verify(&signed, &[self.signer.public()]).ok()?;
        let same = Product {
            row_count: product.row_count,
            ..kept.clone()
        } == *product;
        same.then_some((kept, signed))
    }

    fn keep(&self, product: &Product, text: &str, signed: &Envelope) -> std::io::Result<()> {
        write_whole(
            &definition_file(&self.folder, &product.definition),
            text.as_bytes(),
        )?;
        let file = envelope_file(&self.folder, &product.name, product.version);
        write_whole(&file, &envelope::encode(signed))
    }

    fn write_down(&self, signed: &Envelope) -> Result<(), PublishError> {
        let mut entry = Entry::new(Event::RegisterProduct, Decision::Permit);
        entry.digest = Some(envelope::digest(signed));
        let written = self.log.append(&entry, self.clock.now());
        written
            .map(drop)
            .map_err(|source| PublishError::Log { source })
    }
}

/// The budgets of the file, each with the datasets that the unit comes from.
fn budgets(draft: &Draft, view: &View) -> Result<Vec<Budget>, DataFusionError> {
    let datasets = match &draft.unit {
        Some(unit) if !draft.budgets.is_empty() => origin(view, unit)?,
        _ => return Ok(draft.budgets.clone()),
    };
    let with = |budget: &Budget| Budget {
        datasets: datasets.clone(),
        ..budget.clone()
    };
    Ok(draft.budgets.iter().map(with).collect())
}

/// The columns in the order of the view.
fn names(view: &View) -> impl Iterator<Item = ColumnName> {
    view.schema()
        .fields()
        .iter()
        .filter_map(|f| f.name().parse().ok())
}

/// The rows of an open product whose view keeps every row of one dataset; of any other they are not published.
fn row_count(
    draft: &Draft,
    view: &View,
    datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>,
) -> Option<u64> {
    if draft.class != ReleaseClass::Open || !view.keeps_every_row() {
        return None;
    }
    match datasets.values().collect::<Vec<_>>().as_slice() {
        [one] => Some(one.manifest().rows()),
        _ => None,
    }
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = file.with_extension("draft");
    std::fs::write(&draft, bytes)?;
    std::fs::File::open(&draft)?.sync_all()?;
    std::fs::rename(&draft, file)
}
