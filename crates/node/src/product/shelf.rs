//! The products that this node serves: as published, over the datasets as they stand.
//!
//! ```text
//! products/<name>-<version>.product   the signed envelope, as registered
//! products/<digest>.toml              the product file that it was made from
//! ```

use super::draft::{Draft, ProductError};
use super::twin::{Twin, registered_schema};
use super::types::read_schema;
use super::view::{View, dataset_names, plan_view};
use crate::datasets::{DatasetError, Datasets};
use datafusion::common::DataFusionError;
use guildhall_grant::product::{Column, DatasetColumn, Product};
use guildhall_grant::{EnvelopeError, VerifyingKey, envelope};
use guildhall_model::{ColumnName, DatasetName, Digest, ProductName};
use guildhall_store::SealedDataset;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Why a product is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShelfError {
    /// Never published here in that version, or taken away.
    #[error("no product `{name}` in version {version} here")]
    NoSuchProduct { name: ProductName, version: u32 },
    /// The disk failed.
    #[error("cannot read `{file}`")]
    Read {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Not as this node signed it.
    #[error("product `{name}` is not as this node published it")]
    Altered {
        name: ProductName,
        #[source]
        source: Option<EnvelopeError>,
    },
    /// Its datasets no longer fit it.
    #[error("product `{name}` does not fit its datasets any more; publish it again")]
    Outdated {
        name: ProductName,
        #[source]
        source: ProductError,
    },
    /// What is registered of it makes no twin.
    #[error("product `{name}` has no synthetic twin")]
    Twin {
        name: ProductName,
        #[source]
        source: DataFusionError,
    },
    /// A dataset cannot be opened.
    #[error("product `{name}` lacks a dataset")]
    Dataset {
        name: ProductName,
        #[source]
        source: DatasetError,
    },
}

/// A product over its rows, ready to be asked.
#[derive(Debug)]
pub(crate) struct Served {
    product: Product,
    view: View,
    rows: Rows,
}

/// Where the rows of a served product come from.
#[derive(Debug)]
pub(crate) enum Rows {
    /// Its datasets, as they stand.
    Sealed(BTreeMap<DatasetName, Arc<SealedDataset>>),
    /// Its synthetic twin, under the name that the view has for it: there is no dataset behind it, and no key.
    Made(DatasetName, Twin),
}

static NO_DATASETS: BTreeMap<DatasetName, Arc<SealedDataset>> = BTreeMap::new();

impl Served {
    /// What was registered.
    pub(crate) fn product(&self) -> &Product {
        &self.product
    }

    /// View, row filter and masks, over tables that hold no rows.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The datasets that the view names, as they stand; a twin has none.
    pub(crate) fn datasets(&self) -> &BTreeMap<DatasetName, Arc<SealedDataset>> {
        match &self.rows {
            Rows::Sealed(datasets) => datasets,
            Rows::Made(..) => &NO_DATASETS,
        }
    }

    /// Where its rows come from.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The synthetic twin of `product`, made of what is registered of it.
    fn twin(product: &Product) -> Result<Self, DataFusionError> {
        let schema = registered_schema(product)?;
        let name: DatasetName = product
            .name
            .as_str()
            .parse()
            .map_err(|e| DataFusionError::External(Box::new(e)))?;
        let reads = |column: &ColumnName| {
            let (dataset, column) = (name.clone(), column.clone());
            BTreeSet::from([DatasetColumn { dataset, column }])
        };
        let columns = product.columns.iter().map(|c| Column {
            reads: reads(&c.name),
            ..c.clone()
        });
        Ok(Self {
            view: View::of_table(&name, &schema)?,
            rows: Rows::Made(name.clone(), Twin::of(product, &schema)?),
            product: Product {
                columns: columns.collect(),
                always_reads: BTreeSet::new(),
                // Invariant: what is known of a twin, and its noise, is never taken for its product's.
                definition: twin_of(&product.definition),
                ..product.clone()
            },
        })
    }
}

/// What was published of one version of a product.
#[derive(Debug)]
struct Definition {
    product: Product,
    draft: Draft,
    read: Stamp,
}

/// By which a file is known to be unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

type Key = (ProductName, u32);

/// The folder of products.
#[derive(Debug)]
pub(crate) struct Products {
    folder: PathBuf,
    signer: VerifyingKey,
    datasets: Arc<Datasets>,
    definitions: Mutex<BTreeMap<Key, Arc<Definition>>>,
    served: Mutex<BTreeMap<Key, Arc<Served>>>,
    twins: Mutex<BTreeMap<Key, Arc<Served>>>,
}

impl Products {
    /// The products in `folder` that `signer` signed.
    pub(crate) fn new(folder: PathBuf, signer: VerifyingKey, datasets: Arc<Datasets>) -> Self {
        Self {
            folder,
            signer,
            datasets,
            definitions: Mutex::default(),
            served: Mutex::default(),
            twins: Mutex::default(),
        }
    }

    /// A product's synthetic twin. No dataset is opened, and the authority is not asked.
    pub(crate) fn twin(&self, name: &ProductName, version: u32) -> Result<Arc<Served>, ShelfError> {
        let product = &self.definition(name, version)?.product;
        let key = (name.clone(), version);
        let cached = lock(&self.twins).get(&key).cloned();
        let made = |twin: &Arc<Served>| twin.product.definition == twin_of(&product.definition);
        if let Some(twin) = cached.filter(made) {
            return Ok(twin);
        }
        let twin = Served::twin(product).map_err(|source| ShelfError::Twin {
            name: name.clone(),
            source,
        })?;
        let twin = Arc::new(twin);
        lock(&self.twins).insert(key, Arc::clone(&twin));
        Ok(twin)
    }

    /// Every product that was published here, at its newest version.
    pub(crate) fn newest(&self) -> std::io::Result<BTreeMap<ProductName, u32>> {
        let mut newest: BTreeMap<ProductName, u32> = BTreeMap::new();
        for file in std::fs::read_dir(&self.folder)? {
            let name = file?.file_name();
            let stem = name.to_str().and_then(|n| n.strip_suffix(".product"));
            let parts = stem.and_then(|s| s.rsplit_once('-'));
            let Some((Ok(name), Ok(version))) = parts.map(|(n, v)| (n.parse(), v.parse())) else {
                continue;
            };
            let known = newest.entry(name).or_insert(version);
            *known = version.max(*known);
        }
        Ok(newest)
    }

    /// A product over its datasets as they stand now.
    pub(crate) async fn serve(
        &self,
        name: &ProductName,
        version: u32,
    ) -> Result<Arc<Served>, ShelfError> {
        let definition = self.definition(name, version)?;
        let mut datasets = BTreeMap::new();
        for dataset in dataset_names(&definition.draft).map_err(|source| ShelfError::Outdated {
            name: name.clone(),
            source,
        })? {
            let opened = self.datasets.current(&dataset).await;
            let opened = opened.map_err(|source| ShelfError::Dataset {
                name: name.clone(),
                source,
            })?;
            datasets.insert(dataset, opened);
        }
        let key = (name.clone(), version);
        let cached = lock(&self.served).get(&key).cloned();
        if let Some(served) = cached.filter(|s| is_same(s, &definition, &datasets)) {
            return Ok(served);
        }
        let served = Arc::new(self.plan(name, &definition, datasets).await?);
        lock(&self.served).insert(key, Arc::clone(&served));
        Ok(served)
    }

    async fn plan(
        &self,
        name: &ProductName,
        definition: &Definition,
        datasets: BTreeMap<DatasetName, Arc<SealedDataset>>,
    ) -> Result<Served, ShelfError> {
        let schemas = datasets
            .iter()
            .map(|(n, d)| (n.clone(), read_schema(d.schema())))
            .collect();
        let outdated = |source| ShelfError::Outdated {
            name: name.clone(),
            source,
        };
        let view = plan_view(&definition.draft, &schemas)
            .await
            .map_err(outdated)?;
        // Invariant: what is served has the columns that were registered; grants were issued for those.
        if !super::schema_bytes(view.schema()).is_ok_and(|s| s == definition.product.arrow_schema) {
            let problem = "gives other columns or types than were registered";
            return Err(outdated(definition.draft.error("view", problem)));
        }
        Ok(Served {
            product: definition.product.clone(),
            view,
            rows: Rows::Sealed(datasets),
        })
    }

    fn definition(&self, name: &ProductName, version: u32) -> Result<Arc<Definition>, ShelfError> {
        let file = envelope_file(&self.folder, name, version);
        let stamp = match std::fs::metadata(&file) {
            Ok(m) => Stamp {
                length: m.len(),
                modified: m.modified().ok(),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(ShelfError::NoSuchProduct {
                    name: name.clone(),
                    version,
                });
            }
            Err(source) => return Err(ShelfError::Read { file, source }),
        };
        let key = (name.clone(), version);
        let known = lock(&self.definitions).get(&key).cloned();
        if let Some(known) = known.filter(|d| d.read == stamp) {
            return Ok(known);
        }
        let definition = Arc::new(self.read(name, version, &file, stamp)?);
        lock(&self.definitions).insert(key, Arc::clone(&definition));
        Ok(definition)
    }

    fn read(
        &self,
        name: &ProductName,
        version: u32,
        file: &Path,
        read: Stamp,
    ) -> Result<Definition, ShelfError> {
        let altered = |source| ShelfError::Altered {
            name: name.clone(),
            source,
        };
        let read_file = |file: &Path| {
            std::fs::read(file).map_err(|source| ShelfError::Read {
                file: file.to_owned(),
                source,
            })
        };
        let signed = envelope::decode(&read_file(file)?).map_err(|e| altered(Some(e)))?;
        let product: Product =
            envelope::verify(&signed, &[self.signer]).map_err(|e| altered(Some(e)))?;
        if product.name != *name || product.version != version {
            return Err(altered(None));
        }
        let toml = read_file(&definition_file(&self.folder, &product.definition))?;
        // Invariant: the view that runs is the one whose digest this node signed.
        if Digest::of(&toml) != product.definition {
            return Err(altered(None));
        }
        let text = String::from_utf8(toml).map_err(|_| altered(None))?;
        let draft = Draft::parse(&text, &format!("{name}.toml")).map_err(|source| {
            ShelfError::Outdated {
                name: name.clone(),
                source,
            }
        })?;
        Ok(Definition {
            product,
            draft,
            read,
        })
    }
}

/// Whether a served product is still made of these parts.
fn is_same(
    served: &Served,
    definition: &Definition,
    datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>,
) -> bool {
    let known = served.datasets();
    served.product == definition.product
        && known.len() == datasets.len()
        && known
            .values()
            .zip(datasets.values())
            .all(|(a, b)| Arc::ptr_eq(a, b))
}

/// The definition of the twin of a product of that definition.
fn twin_of(definition: &Digest) -> Digest {
    let text: Vec<u8> = [b"guildhall twin 1".as_slice(), definition.as_bytes()].concat();
    Digest::of(&text)
}

/// Where the signed envelope of a version lies.
pub(crate) fn envelope_file(folder: &Path, name: &ProductName, version: u32) -> PathBuf {
    folder.join(format!("{name}-{version}.product"))
}

/// Where a product file lies, by its digest.
pub(crate) fn definition_file(folder: &Path, definition: &Digest) -> PathBuf {
    folder.join(format!("{definition}.toml"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
