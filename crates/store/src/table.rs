//! A sealed dataset as a table of DataFusion.
//!
//! Made for one grant: it reads with the keys that were lent for it and nothing else. A column
//! whose key was not lent is refused by name when a scan needs it, and stays ciphertext when
//! none does. Reading costs what DataFusion's own Parquet table costs: row groups are pruned
//! by statistics and dealt over all partitions, by row count rather than by byte range (byte
//! ranges go by the offset of the first column, which is hidden when its key was not lent).

use crate::footer::{self, SealedReaders};
use crate::sealed::{ReadError, SealedDataset};
use crate::share::{Piece, SealedScan, deal};
use crate::storage;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as EngineResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use guildhall_keys::ColumnKeys;
use guildhall_model::ColumnName;
use object_store::memory::InMemory;
use parquet::file::metadata::ParquetMetaData;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What the engine is told that parts lie in. The readers have a store of their own.
pub(crate) const NOWHERE: &str = "sealed://parts";

/// The keys of one loan. Empty while a plan is made, filled before it is carried out.
pub type LentKeys = Arc<OnceLock<ColumnKeys>>;

/// A sealed dataset, to be read with the keys of one loan.
pub struct SealedTable {
    dataset: Arc<SealedDataset>,
    lent: LentKeys,
    schema: SchemaRef,
}

impl SealedTable {
    /// The dataset's columns as they are stored: text is `Utf8`.
    #[must_use]
    pub fn new(dataset: Arc<SealedDataset>, lent: LentKeys) -> Self {
        let schema = Arc::clone(dataset.schema());
        Self {
            dataset,
            lent,
            schema,
        }
    }

    /// The same with text as `Utf8View`, which the engine reads, compares and groups faster.
    #[must_use]
    pub fn with_view_types(mut self) -> Self {
        let fields = self
            .dataset
            .schema()
            .fields()
            .iter()
            .map(|f| match f.data_type() {
                DataType::Utf8 => Field::new(f.name(), DataType::Utf8View, f.is_nullable()),
                _ => f.as_ref().clone(),
            });
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self
    }

    /// The dataset that it reads.
    #[must_use]
    pub fn dataset(&self) -> &Arc<SealedDataset> {
        &self.dataset
    }

    /// The columns that a scan reads: those it gives back and those it filters by.
    fn columns_read(
        &self,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> BTreeSet<ColumnName> {
        let fields = self.schema.fields();
        let projected: Vec<&str> = match projection {
            Some(places) => places
                .iter()
                .filter_map(|i| fields.get(*i))
                .map(|f| f.name().as_str())
                .collect(),
            None => fields.iter().map(|f| f.name().as_str()).collect(),
        };
        let filtered = filters
            .iter()
            .flat_map(Expr::column_refs)
            .map(|c| c.name.as_str());
        projected
            .into_iter()
            .chain(filtered)
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    fn source(&self, state: &dyn Session, readers: SealedReaders) -> ParquetSource {
        let readers: Arc<dyn ParquetFileReaderFactory> = Arc::new(readers);
        ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(state.default_table_options().parquet)
            .with_parquet_file_reader_factory(readers)
            .with_enable_page_index(false)
            .with_bloom_filter_on_read(false)
    }

    /// One piece of a part, as a file of which these row groups are to be read.
    fn file(
        &self,
        piece: &Piece,
        scan: &SealedScan,
        footer: &ParquetMetaData,
        statistics: Arc<Statistics>,
    ) -> PartitionedFile {
        file(&self.dataset, piece, footer, &self.schema)
            .with_statistics(statistics)
            .with_extension(scan.clone())
    }

    /// The statistics of some row groups, for the columns that are read.
    fn statistics(
        &self,
        footer: &ParquetMetaData,
        row_groups: Range<usize>,
        columns: &BTreeSet<ColumnName>,
    ) -> EngineResult<Statistics> {
        let is_read = |f: &&Arc<Field>| columns.iter().any(|c| c.as_str() == f.name());
        let read: Vec<Arc<Field>> = self
            .schema
            .fields()
            .iter()
            .filter(is_read)
            .cloned()
            .collect();
        let groups = footer.row_groups()[row_groups].to_vec();
        let rows = groups
            .iter()
            .map(|g| usize::try_from(g.num_rows()).unwrap_or(0))
            .sum();
        let mut statistics =
            Statistics::new_unknown(&self.schema).with_num_rows(Precision::Exact(rows));
        if read.is_empty() {
            return Ok(statistics);
        }
        let some = ParquetMetaData::new(footer.file_metadata().clone(), groups);
        let read_schema = Arc::new(Schema::new(read));
        let of_read = DFParquetMetadata::statistics_from_parquet_metadata(&some, &read_schema)?;
        for (field, column) in read_schema.fields().iter().zip(of_read.column_statistics) {
            let place = self.schema.index_of(field.name())?;
            statistics.column_statistics[place] = column;
        }
        statistics.calculate_total_byte_size(&self.schema);
        Ok(statistics)
    }
}

/// Shape, not keys.
impl fmt::Debug for SealedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedTable")
            .field("dataset", self.dataset.id())
            .field("version", &self.dataset.manifest().version)
            .field("lent", &self.lent.get().map(ColumnKeys::len))
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SealedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        // Inexact: row groups are pruned by them, rows are filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let parts = &self.dataset.manifest().parts;
        if parts.is_empty() {
            let schema = match projection {
                Some(places) => Arc::new(self.schema.project(places)?),
                None => Arc::clone(&self.schema),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let lent = self.lent.get().ok_or_else(|| ReadError::NothingLent {
            dataset: self.dataset.id().clone(),
        })?;
        let columns = self.columns_read(projection, filters);
        let footers = footer::read(&self.dataset, &columns, lent).await?;
        let rows: Vec<&[u64]> = parts.iter().map(|p| p.row_group_rows.as_slice()).collect();
        let mut all: Vec<Arc<Statistics>> = vec![];
        let mut groups = vec![];
        let scan = SealedScan::new(&self.dataset, columns.clone());
        for share in deal(&rows, state.config().target_partitions()) {
            let mut files = vec![];
            for piece in &share {
                let groups = piece.row_groups.clone();
                let statistics = self.statistics(&footers[piece.part], groups, &columns)?;
                let statistics = Arc::new(statistics);
                all.push(Arc::clone(&statistics));
                files.push(self.file(piece, &scan, &footers[piece.part], statistics));
            }
            let shared = all[all.len() - files.len()..].iter().map(AsRef::as_ref);
            let shared = Statistics::try_merge_iter(shared, &self.schema)?;
            groups.push(FileGroup::new(files).with_statistics(Arc::new(shared)));
        }
        let statistics = Statistics::try_merge_iter(all.iter().map(AsRef::as_ref), &self.schema)?;
        let readers = SealedReaders::new(&self.dataset, &footers);
        let url = nowhere(state)?;
        let config = FileScanConfigBuilder::new(url, Arc::new(self.source(state, readers)))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// One piece of a part, as a file of which these row groups are to be read as `schema`.
pub(crate) fn file(
    dataset: &SealedDataset,
    piece: &Piece,
    footer: &ParquetMetaData,
    schema: &SchemaRef,
) -> PartitionedFile {
    let part = &dataset.manifest().parts[piece.part];
    let path = storage::part_path(&dataset.id().dataset, &part.path);
    let mut plan = ParquetAccessPlan::new_none(footer.num_row_groups());
    piece.row_groups.clone().for_each(|group| plan.scan(group));
    // A size of 0 keeps DataFusion from cutting pieces once more, by byte range. Nothing
    // else looks at it: the readers know their footers already.
    let mut file = PartitionedFile::new(String::new(), 0)
        .with_arrow_schema(Arc::clone(schema))
        .with_extension(plan);
    file.object_meta.location = path;
    file
}

/// A store for DataFusion to look up and never to read from: the readers have their own.
fn nowhere(state: &dyn Session) -> EngineResult<ObjectStoreUrl> {
    let url = ObjectStoreUrl::parse(NOWHERE)?;
    let runtime = state.runtime_env();
    if runtime.object_store(&url).is_err() {
        runtime.register_object_store(url.as_ref(), Arc::new(InMemory::new()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
