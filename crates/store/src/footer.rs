//! Footers, decrypted once for a scan and shared by all that read for it.
//!
//! A footer decrypted with the keys of one grant is never kept for another: what it tells
//! (smallest and largest values) belongs to the columns that were lent. The decoder keeps the
//! file keys it was given in memory that it does not wipe; they are keys of one file and go
//! with the scan, and the column keys they come from are wiped.

use crate::manifest::Part;
use crate::sealed::{ReadError, SealedDataset};
use crate::storage;
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use guildhall_keys::{ColumnKeys, KeyName, file_key};
use guildhall_model::ColumnName;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::encryption::decrypt::FileDecryptionProperties;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How many footers are read at a time.
const AT_ONCE: usize = 8;

/// What is read from the end of a part in the hope that the footer is within.
const FOOTER_HINT: usize = 256 << 10;

/// The footers of all parts, with the metadata of the columns that a scan reads.
pub(crate) async fn read(
    dataset: &SealedDataset,
    columns: &BTreeSet<ColumnName>,
    lent: &ColumnKeys,
) -> Result<Vec<Arc<ParquetMetaData>>, ReadError> {
    let mut reads = vec![];
    for part in &dataset.manifest().parts {
        let keys = file_keys(dataset, part, columns, lent)?;
        reads.push(read_one(dataset, part, keys));
    }
    futures::stream::iter(reads)
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// The footers of `parts` alone, by their place in the manifest.
pub(crate) async fn read_some(
    dataset: &SealedDataset,
    parts: &BTreeSet<usize>,
    columns: &BTreeSet<ColumnName>,
    lent: &ColumnKeys,
) -> Result<BTreeMap<usize, Arc<ParquetMetaData>>, ReadError> {
    let mut reads = vec![];
    for (place, part) in dataset.manifest().parts.iter().enumerate() {
        if parts.contains(&place) {
            let keys = file_keys(dataset, part, columns, lent)?;
            reads.push(read_one(dataset, part, keys).map_ok(move |footer| (place, footer)));
        }
    }
    futures::stream::iter(reads)
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// The keys of one part for the footer and `columns`; nothing else is derived.
fn file_keys(
    dataset: &SealedDataset,
    part: &Part,
    columns: &BTreeSet<ColumnName>,
    lent: &ColumnKeys,
) -> Result<Arc<FileDecryptionProperties>, ReadError> {
    let key = |column: Option<&ColumnName>| {
        let name = KeyName {
            dataset: dataset.id().dataset.clone(),
            column: column.cloned(),
            period: part.period.clone(),
        };
        let of_column = column.map_or("", ColumnName::as_str);
        match lent.get(&name) {
            Some(key) => Ok(file_key(key, &part.file_id, of_column).to_vec()),
            None => Err(ReadError::ColumnNotLent { key: name }),
        }
    };
    let mut properties = FileDecryptionProperties::builder(key(None)?)
        .with_aad_prefix(part.aad_prefix(dataset.id()));
    for column in columns {
        properties = properties.with_column_key(column.as_str(), key(Some(column))?);
    }
    properties
        .build()
        .map_err(|e| sealed(dataset, part, e.into()))
}

async fn read_one(
    dataset: &SealedDataset,
    part: &Part,
    keys: Arc<FileDecryptionProperties>,
) -> Result<Arc<ParquetMetaData>, ReadError> {
    let object = object_of(dataset, part);
    let hint = usize::try_from(part.bytes)
        .unwrap_or(FOOTER_HINT)
        .min(FOOTER_HINT);
    let footer = DFParquetMetadata::new(dataset.storage().object_store().as_ref(), &object)
        .with_decryption_properties(Some(keys))
        .with_metadata_size_hint(Some(hint))
        .with_page_index_policy(Some(PageIndexPolicy::Skip))
        .fetch_metadata()
        .await
        .map_err(|e| sealed(dataset, part, e))?;
    let rows = footer
        .row_groups()
        .iter()
        .map(|g| u64::try_from(g.num_rows()).ok());
    if !rows.eq(part.row_group_rows.iter().map(|n| Some(*n))) {
        return Err(dataset.damaged(part, "its row groups are not the manifest's"));
    }
    Ok(footer)
}

fn sealed(dataset: &SealedDataset, part: &Part, source: DataFusionError) -> ReadError {
    ReadError::Sealed {
        dataset: dataset.id().clone(),
        part: part.file_id.clone(),
        source: Box::new(source),
    }
}

fn object_of(dataset: &SealedDataset, part: &Part) -> ObjectMeta {
    ObjectMeta {
        location: storage::part_path(&dataset.id().dataset, &part.path),
        last_modified: Default::default(),
        size: part.bytes,
        e_tag: None,
        version: None,
    }
}

/// Hands out readers that know their footer already.
pub(crate) struct SealedReaders {
    store: Arc<dyn ObjectStore>,
    footers: HashMap<Path, Arc<ParquetMetaData>>,
}

impl SealedReaders {
    pub(crate) fn new(dataset: &SealedDataset, footers: &[Arc<ParquetMetaData>]) -> Self {
        Self::of_some(dataset, footers.iter().cloned().enumerate())
    }

    /// Readers of those parts alone whose footers these are, by their place in the manifest.
    pub(crate) fn of_some(
        dataset: &SealedDataset,
        footers: impl IntoIterator<Item = (usize, Arc<ParquetMetaData>)>,
    ) -> Self {
        let parts = &dataset.manifest().parts;
        let path = |place: usize| {
            let part = parts.get(place)?;
            Some(storage::part_path(&dataset.id().dataset, &part.path))
        };
        Self {
            store: Arc::clone(dataset.storage().object_store()),
            footers: footers
                .into_iter()
                .filter_map(|(place, footer)| Some((path(place)?, footer)))
                .collect(),
        }
    }
}

impl fmt::Debug for SealedReaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedReaders({} parts)", self.footers.len())
    }
}

impl ParquetFileReaderFactory for SealedReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> EngineResult<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location;
        let footer = self.footers.get(&path).cloned().ok_or_else(|| {
            DataFusionError::Internal("a scan reached for a part that is not its own".to_owned())
        })?;
        Ok(Box::new(SealedReader {
            metrics: ParquetFileMetrics::new(partition, path.as_ref(), metrics),
            store: Arc::clone(&self.store),
            path,
            footer,
        }))
    }
}

struct SealedReader {
    metrics: ParquetFileMetrics,
    store: Arc<dyn ObjectStore>,
    path: Path,
    footer: Arc<ParquetMetaData>,
}

impl SealedReader {
    fn count(&self, range: &Range<u64>) {
        let bytes = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        self.metrics.bytes_scanned.add(bytes);
    }
}

impl AsyncFileReader for SealedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.count(&range);
        self.store
            .get_range(&self.path, range)
            .map_err(|e| ParquetError::External(Box::new(e)))
            .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        ranges.iter().for_each(|r| self.count(r));
        async move {
            let ranges = self.store.get_ranges(&self.path, &ranges).await;
            ranges.map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let footer = Arc::clone(&self.footer);
        async move { Ok(footer) }.boxed()
    }
}
