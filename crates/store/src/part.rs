//! One part: an encrypted Parquet file, written as it is made.
//!
//! Encrypted footer, every column under its own file key, the AAD prefix left out of the file.
//! No bloom filters (they would be written in clear), no page index (reading one takes every
//! column's key) and no Arrow schema beside the Parquet one.

use crate::manifest::{Part, aad_prefix};
use crate::storage::{self, DatasetId, Storage, StorageError};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use guildhall_keys::{ColumnKey, KeyError, KeyName, Recipient, SealError, file_key};
use guildhall_model::{ColumnName, Digest, PeriodName};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::encryption::encrypt::FileEncryptionProperties;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Rows of a row group: enough to compress well, few enough to prune by.
pub(crate) const ROW_GROUP_ROWS: usize = 262_144;

/// What is sent to the store at a time.
const CHUNK: usize = 8 << 20;

/// Why a part was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// The system gave no randomness.
    #[error("the system's random source failed")]
    NoRandomness,
    /// A column key could not be made.
    #[error("cannot make a column key")]
    Key {
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A column key could not be wrapped.
    #[error("cannot wrap a column key to the dataset's recipient")]
    Wrap {
        /// Why.
        #[source]
        source: SealError,
    },
    /// The Parquet writer failed.
    #[error("cannot encode a part")]
    Encode {
        /// Why.
        #[source]
        source: ParquetError,
    },
    /// The store failed.
    #[error("cannot store a part")]
    Store {
        /// Why.
        #[source]
        source: StorageError,
    },
}

impl From<ParquetError> for PartError {
    fn from(source: ParquetError) -> Self {
        Self::Encode { source }
    }
}

impl From<StorageError> for PartError {
    fn from(source: StorageError) -> Self {
        Self::Store { source }
    }
}

/// Fresh keys for one period of a dataset: the footer's and one for each column.
///
/// They leave this type only wrapped, or as the file keys of a part that is being written.
#[derive(Debug)]
pub(crate) struct FreshKeys {
    id: DatasetId,
    period: PeriodName,
    footer: ColumnKey,
    columns: BTreeMap<ColumnName, ColumnKey>,
}

impl FreshKeys {
    pub(crate) fn generate<'a>(
        id: &DatasetId,
        period: &PeriodName,
        columns: impl Iterator<Item = &'a ColumnName>,
    ) -> Result<Self, PartError> {
        let key = || ColumnKey::generate().map_err(|source| PartError::Key { source });
        Ok(Self {
            id: id.clone(),
            period: period.clone(),
            footer: key()?,
            columns: columns
                .map(|c| Ok((c.clone(), key()?)))
                .collect::<Result<_, PartError>>()?,
        })
    }

    /// The keys as they stand in a manifest.
    pub(crate) fn wrapped(
        &self,
        recipient: &Recipient,
    ) -> Result<BTreeMap<KeyName, Vec<u8>>, PartError> {
        let columns = self
            .columns
            .iter()
            .map(|(name, key)| (Some(name.clone()), key));
        std::iter::once((None, &self.footer))
            .chain(columns)
            .map(|(column, key)| {
                let name = KeyName {
                    dataset: self.id.dataset.clone(),
                    column,
                    period: self.period.clone(),
                };
                let wrapped = guildhall_keys::wrap(&name, key, recipient)
                    .map_err(|source| PartError::Wrap { source })?;
                Ok((name, wrapped))
            })
            .collect()
    }

    fn for_file(
        &self,
        version: u32,
        file_id: &str,
    ) -> Result<Arc<FileEncryptionProperties>, PartError> {
        let footer = file_key(&self.footer, file_id, "").to_vec();
        let mut properties = FileEncryptionProperties::builder(footer)
            .with_aad_prefix(aad_prefix(&self.id, version, file_id))
            .with_aad_prefix_storage(false);
        for (name, key) in &self.columns {
            let key = file_key(key, file_id, name.as_str()).to_vec();
            properties = properties.with_column_key(name.as_str(), key);
        }
        Ok(properties.build()?)
    }
}

/// Writes one part. Blocking; the store is awaited on `runtime`.
pub(crate) struct PartWriter {
    runtime: Handle,
    storage: Storage,
    part: Part,
    location: Path,
    upload: Box<dyn MultipartUpload>,
    writer: ArrowWriter<Chunk>,
}

impl PartWriter {
    pub(crate) fn open(
        runtime: &Handle,
        storage: &Storage,
        keys: &FreshKeys,
        version: u32,
        schema: &SchemaRef,
    ) -> Result<Self, PartError> {
        let file_id = fresh_id()?;
        let path = format!("parts/{file_id}.parquet");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_bloom_filter_enabled(false)
            .set_created_by("guildhall".to_owned())
            .with_file_encryption_properties(keys.for_file(version, &file_id)?)
            .build();
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        let schema = bare(schema);
        let writer = ArrowWriter::try_new_with_options(Chunk::default(), schema, options)?;
        let location = storage::part_path(&keys.id.dataset, &path);
        let upload = runtime
            .block_on(storage.object_store().put_multipart(&location))
            .map_err(StorageError::write(&location))?;
        Ok(Self {
            runtime: runtime.clone(),
            storage: storage.clone(),
            part: Part {
                path,
                file_id,
                written_in: version,
                bytes: 0,
                digest: Digest::of(&[]),
                row_group_rows: vec![],
                period: keys.period.clone(),
            },
            location,
            upload,
            writer,
        })
    }

    /// Where the part will lie.
    pub(crate) fn location(&self) -> &Path {
        &self.location
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), PartError> {
        let batch = RecordBatch::try_new(bare(&batch.schema()), batch.columns().to_vec())
            .map_err(|e| ParquetError::ArrowError(e.to_string()))?;
        self.writer.write(&batch)?;
        while self.writer.inner().bytes.len() >= CHUNK {
            let rest = self.writer.inner_mut().bytes.split_off(CHUNK);
            let chunk = std::mem::replace(&mut self.writer.inner_mut().bytes, rest);
            self.send(chunk)?;
        }
        Ok(())
    }

    /// Ends the file and waits until it is on the medium.
    pub(crate) fn finish(mut self) -> Result<Part, PartError> {
        let footer = self.writer.finish()?;
        self.part.row_group_rows = footer
            .row_groups()
            .iter()
            .map(|g| u64::try_from(g.num_rows()).unwrap_or(0))
            .collect();
        let chunk = self.writer.inner_mut();
        let rest = std::mem::take(&mut chunk.bytes);
        self.part.bytes = chunk.written;
        let digest = std::mem::take(&mut chunk.digest).finish();
        self.part.digest = digest;
        for piece in rest.chunks(CHUNK) {
            self.send(piece.to_vec())?;
        }
        self.runtime
            .block_on(self.upload.complete())
            .map_err(StorageError::write(&self.location))?;
        self.runtime
            .block_on(self.storage.persist(&self.location))?;
        Ok(self.part)
    }

    fn send(&mut self, chunk: Vec<u8>) -> Result<(), PartError> {
        self.runtime
            .block_on(self.upload.put_part(PutPayload::from(chunk)))
            .map_err(StorageError::write(&self.location))?;
        Ok(())
    }
}

/// A schema without its comments.
pub(crate) fn bare(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| f.as_ref().clone().with_metadata(Default::default()))
        .collect();
    Arc::new(Schema::new(fields))
}

/// 16 random bytes in hex.
fn fresh_id() -> Result<String, PartError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| PartError::NoRandomness)?;
    Ok(hex::encode(bytes))
}

/// Bytes on their way to the store, counted and digested as they come.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    written: u64,
    digest: Sha256,
}

impl Write for Chunk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        self.written += u64::try_from(bytes.len()).map_err(io::Error::other)?;
        self.digest.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// SHA-256 of bytes that come in pieces.
pub(crate) struct Sha256(ring::digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl Sha256 {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        // SHA-256 has 32 bytes, so there always is a digest.
        Digest::from_bytes(self.0.finish().as_ref()).unwrap_or_else(|| Digest::of(&[]))
    }
}
