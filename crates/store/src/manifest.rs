//! What a version of a dataset consists of, as its node signed it.

use crate::storage::{self, DatasetId, Storage, StorageError};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use guildhall_grant::{EnvelopeError, VerifyingKey, envelope};
use guildhall_keys::KeyName;
use guildhall_model::{ColumnName, Digest, PeriodName, Timestamp};
use guildhall_proto::envelope::v1::Envelope;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One version of a dataset at rest.
///
/// Invariant (held by `check`, which every way in calls): for each part, the footer key and
/// the key of every column are among `keys`; part ids and paths are unique and lie below the
/// dataset; every column is of a type that an import makes.
#[derive(Clone, PartialEq)]
pub struct Manifest {
    /// Whose table it is.
    pub id: DatasetId,
    /// 1 for the first, one more each time.
    pub version: u32,
    /// The digest of the version before, `None` for the first.
    pub previous: Option<Digest>,
    /// The columns, with their doc comments as metadata.
    pub schema: SchemaRef,
    /// The encrypted files, in the order they were written.
    pub parts: Vec<Part>,
    /// The column and footer keys, wrapped to the dataset's recipient.
    pub keys: BTreeMap<KeyName, Vec<u8>>,
    /// When the import ran.
    pub created: Timestamp,
}

/// One encrypted Parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its object name below the dataset's folder.
    pub path: String,
    /// Its own id, bound into its AAD prefix and file keys.
    pub file_id: String,
    /// The version that wrote it, bound into its AAD prefix.
    pub written_in: u32,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the object.
    pub digest: Digest,
    /// The rows of each row group.
    pub row_group_rows: Vec<u64>,
    /// The key period its columns are encrypted under.
    pub period: PeriodName,
}

/// The newest manifest that the authority has on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Its version.
    pub version: u32,
    /// SHA-256 of its envelope.
    pub digest: Digest,
}

/// Why a dataset's manifest is not believed, in the order the checks run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The storage failed.
    #[error("cannot reach the dataset `{dataset}`")]
    Storage {
        /// The dataset.
        dataset: DatasetId,
        /// What failed.
        #[source]
        source: Box<StorageError>,
    },
    /// Nothing was ever imported, or its manifests were taken away.
    #[error("there is no dataset `{dataset}` here; `guildhall node import` makes one")]
    NoSuchDataset {
        /// The dataset.
        dataset: DatasetId,
    },
    /// The authority has a newer version on record than lies here.
    #[error("`{dataset}` was rolled back: version {recorded} is on record at the authority, {} is here", found.map_or("none".to_owned(), |v| format!("version {v}")))]
    RolledBack {
        /// The dataset.
        dataset: DatasetId,
        /// The version on record.
        recorded: u32,
        /// The newest one here.
        found: Option<u32>,
    },
    /// Not an envelope, or not signed by the node.
    #[error("the manifest of `{dataset}`, version {version}, cannot be believed")]
    NotSigned {
        /// The dataset.
        dataset: DatasetId,
        /// The version that was asked for.
        version: u32,
        /// Which check failed.
        #[source]
        source: Box<EnvelopeError>,
    },
    /// Signed, but as another dataset or version: it was put in this one's place.
    #[error(
        "the manifest in the place of `{dataset}`, version {version}, is that of `{named}`, version {says}"
    )]
    Misplaced {
        /// The dataset.
        dataset: DatasetId,
        /// The version that was asked for.
        version: u32,
        /// The dataset that it names.
        named: Box<DatasetId>,
        /// The version that it names.
        says: u32,
    },
    /// Signed and in its place, but not the one on record.
    #[error(
        "the manifest of `{dataset}`, version {version}, is not the one on record at the authority"
    )]
    NotRecorded {
        /// The dataset.
        dataset: DatasetId,
        /// The version.
        version: u32,
    },
}

impl Manifest {
    /// All rows of this version.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(Part::rows).sum()
    }

    /// All bytes of this version's parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.bytes).sum()
    }

    /// The periods that parts of this version are encrypted under.
    #[must_use]
    pub fn periods(&self) -> BTreeSet<&PeriodName> {
        self.parts.iter().map(|p| &p.period).collect()
    }

    /// The name of a column's key (`None`: the footer's) in a period of this dataset.
    #[must_use]
    pub fn key_name(&self, column: Option<ColumnName>, period: &PeriodName) -> KeyName {
        KeyName {
            dataset: self.id.dataset.clone(),
            column,
            period: period.clone(),
        }
    }

    /// The rule that is broken, as (field, rule); see the type's invariant.
    pub(crate) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.version == 0 {
            return Err(("version", "is 0"));
        }
        if self.previous.is_none() != (self.version == 1) {
            return Err((
                "previous",
                "must be there from version 2 on, and not before",
            ));
        }
        let fields = self.schema.fields();
        if fields.is_empty() || !fields.iter().all(|f| is_storable(f.data_type())) {
            return Err((
                "arrow_schema",
                "has no columns, or one of a type that is not stored",
            ));
        }
        let mut columns = BTreeSet::new();
        for field in fields {
            let name = field.name().parse::<ColumnName>();
            if !name.is_ok_and(|name| columns.insert(name)) {
                return Err(("arrow_schema", "has a column twice, or one without a name"));
            }
        }
        let (mut paths, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for part in &self.parts {
            if !part.has_sound_path() || !paths.insert(&part.path) || !ids.insert(&part.file_id) {
                return Err(("parts", "have an unsound or repeated path or id"));
            }
            if part.written_in == 0 || part.written_in > self.version {
                return Err(("parts", "were written in no version up to this one"));
            }
        }
        for period in self.periods() {
            let has = |column| self.keys.contains_key(&self.key_name(column, period));
            if !has(None) || !columns.iter().all(|c| has(Some(c.clone()))) {
                return Err(("keys", "lack the key of a column or footer"));
            }
        }
        Ok(())
    }
}

/// Shape, not content: wrapped keys are left out.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("previous", &self.previous)
            .field("columns", &self.schema.fields().len())
            .field("parts", &self.parts)
            .field("keys", &self.keys.len())
            .field("created", &self.created)
            .finish()
    }
}

impl Part {
    /// The rows of this part.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.row_group_rows.iter().sum()
    }

    /// What binds the part to its place: council, department, dataset, version, id.
    ///
    /// Names have no `/`, so no two places share a prefix.
    pub(crate) fn aad_prefix(&self, id: &DatasetId) -> Vec<u8> {
        aad_prefix(id, self.written_in, &self.file_id)
    }

    fn has_sound_path(&self) -> bool {
        let name = self
            .path
            .strip_prefix("parts/")
            .and_then(|n| n.strip_suffix(".parquet"));
        let is_plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric());
        name.is_some_and(is_plain) && is_plain(&self.file_id)
    }
}

/// The AAD prefix of a part; it is not stored in the file.
pub(crate) fn aad_prefix(id: &DatasetId, written_in: u32, file_id: &str) -> Vec<u8> {
    format!("{id}/{written_in}/{file_id}").into_bytes()
}

/// The types that an import makes.
fn is_storable(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::Int64
            | DataType::Float64
            | DataType::Boolean
            | DataType::Date32
            | DataType::Decimal128(_, _)
            | DataType::Timestamp(TimeUnit::Microsecond, None)
            | DataType::Time64(TimeUnit::Microsecond)
    )
}

/// The manifest of a version with its envelope, verified; `None` if it does not lie here.
pub(crate) async fn load(
    storage: &Storage,
    id: &DatasetId,
    version: u32,
    signers: &[VerifyingKey],
) -> Result<Option<(Manifest, Envelope, Digest)>, ManifestError> {
    let path = storage::manifest_path(&id.dataset, version);
    let bytes = storage
        .read(&path)
        .await
        .map_err(|source| ManifestError::Storage {
            dataset: id.clone(),
            source: Box::new(source),
        })?;
    let Some(bytes) = bytes else { return Ok(None) };
    let not_signed = |source| ManifestError::NotSigned {
        dataset: id.clone(),
        version,
        source: Box::new(source),
    };
    let signed = envelope::decode(&bytes).map_err(not_signed)?;
    let manifest: Manifest = envelope::verify(&signed, signers).map_err(not_signed)?;
    if manifest.id != *id || manifest.version != version {
        return Err(ManifestError::Misplaced {
            dataset: id.clone(),
            version,
            named: Box::new(manifest.id),
            says: manifest.version,
        });
    }
    let digest = envelope::digest(&signed);
    Ok(Some((manifest, signed, digest)))
}
