//! A scan that others take a share of: pieces of the same parts, under the same manifest.
//!
//! A plan that leaves this process says which pieces are read and how; it holds no key. Whoever carries a share
//! out opens the dataset itself, verifies its manifest, and reads with keys that were lent to it.

use crate::footer::{self, SealedReaders};
use crate::sealed::SealedDataset;
use crate::table::{self, NOWHERE};
use datafusion::common::{Statistics, internal_datafusion_err, internal_err};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as EngineResult;
use datafusion::physical_plan::ExecutionPlan;
use guildhall_keys::ColumnKeys;
use guildhall_model::ColumnName;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How many pieces each partition's share is cut into, so that an idle one can take another's.
const PIECES: usize = 4;

/// What a scan of a sealed table reads, as its plan remembers it.
#[derive(Clone)]
pub struct SealedScan {
    dataset: Arc<SealedDataset>,
    columns: Arc<BTreeSet<ColumnName>>,
}

impl SealedScan {
    pub(crate) fn new(dataset: &Arc<SealedDataset>, columns: BTreeSet<ColumnName>) -> Self {
        Self {
            dataset: Arc::clone(dataset),
            columns: Arc::new(columns),
        }
    }

    /// What `plan` reads, if it is a scan of a sealed table.
    #[must_use]
    pub fn of(plan: &dyn ExecutionPlan) -> Option<Self> {
        let groups = &scan_of(plan)?.file_groups;
        let mut files = groups.iter().flat_map(FileGroup::iter);
        files.next()?.extension::<Self>().cloned()
    }

    /// The dataset.
    #[must_use]
    pub fn dataset(&self) -> &Arc<SealedDataset> {
        &self.dataset
    }

    /// The columns whose keys it takes.
    #[must_use]
    pub fn columns(&self) -> &BTreeSet<ColumnName> {
        &self.columns
    }

    /// How many pieces there are at most: its row groups.
    #[must_use]
    pub fn row_groups(&self) -> usize {
        let parts = self.dataset.manifest().parts.iter();
        parts.map(|p| p.row_group_rows.len()).sum()
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let parts = self.dataset.manifest().parts.iter();
        parts.flat_map(|p| &p.row_group_rows).sum()
    }

    /// All of it in at most so many shares of about the same number of rows.
    #[must_use]
    pub fn deal(&self, shares: usize) -> Vec<Vec<Piece>> {
        let parts = self.dataset.manifest().parts.iter();
        let rows: Vec<&[u64]> = parts.map(|p| p.row_group_rows.as_slice()).collect();
        deal(&rows, shares)
    }
}

/// Shape, not content.
impl fmt::Debug for SealedScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedScan")
            .field("dataset", self.dataset.id())
            .field("columns", &self.columns)
            .finish()
    }
}

/// The scan `plan` without its files and what is known of their values: how to read, and not what.
pub fn template(plan: &dyn ExecutionPlan) -> EngineResult<Arc<DataSourceExec>> {
    let scan = scan_of(plan).ok_or_else(|| internal_datafusion_err!("not a scan of files"))?;
    let unknown = Statistics::new_unknown(scan.file_source().table_schema().table_schema());
    let bare = FileScanConfigBuilder::from(scan.clone())
        .with_file_groups(vec![])
        .with_statistics(unknown)
        .build();
    Ok(DataSourceExec::from_data_source(bare))
}

/// The scan that reads `pieces` of `dataset` as `template` says, each list in a partition of its own.
///
/// Only the footers of the parts that are read are decrypted, with the keys of `columns`. A template or a piece that
/// does not fit the dataset is refused: both may come from another process.
pub async fn carry_out(
    template: &dyn ExecutionPlan,
    dataset: &SealedDataset,
    columns: &BTreeSet<ColumnName>,
    lent: &ColumnKeys,
    pieces: &[Vec<Piece>],
) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let scan = scan_of(template).ok_or_else(|| internal_datafusion_err!("not a scan of files"))?;
    let source = scan.file_source().downcast_ref::<ParquetSource>();
    let source = source.ok_or_else(|| internal_datafusion_err!("not a scan of Parquet"))?;
    if scan.object_store_url.as_str().trim_end_matches('/') != NOWHERE {
        return internal_err!("a share of files that are not sealed");
    }
    check(dataset, pieces)?;
    let schema = scan.file_schema();
    let parts: BTreeSet<usize> = pieces.iter().flatten().map(|p| p.part).collect();
    let footers = footer::read_some(dataset, &parts, columns, lent).await?;
    let mut groups = vec![];
    for share in pieces {
        let files = share.iter().filter_map(|piece| {
            let footer = footers.get(&piece.part)?;
            Some(table::file(dataset, piece, footer, schema))
        });
        groups.push(FileGroup::new(files.collect()));
    }
    let readers = Arc::new(SealedReaders::of_some(dataset, footers));
    let source = source
        .clone()
        .with_parquet_file_reader_factory(readers)
        .with_enable_page_index(false)
        .with_bloom_filter_on_read(false);
    let scan = FileScanConfigBuilder::from(scan.clone())
        .with_source(Arc::new(source))
        .with_file_groups(groups)
        .build();
    Ok(DataSourceExec::from_data_source(scan))
}

/// Refuses pieces that the manifest has not.
fn check(dataset: &SealedDataset, pieces: &[Vec<Piece>]) -> EngineResult<()> {
    let parts = &dataset.manifest().parts;
    let is_there = |piece: &Piece| {
        parts.get(piece.part).is_some_and(|part| {
            let Range { start, end } = piece.row_groups;
            start < end && end <= part.row_group_rows.len()
        })
    };
    match pieces.iter().flatten().all(is_there) {
        true => Ok(()),
        false => internal_err!("a share of row groups that the dataset has not"),
    }
}

fn scan_of(plan: &dyn ExecutionPlan) -> Option<&FileScanConfig> {
    let source = plan.downcast_ref::<DataSourceExec>()?.data_source();
    source.downcast_ref::<FileScanConfig>()
}

/// Row groups that one reader reads in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The part's place in the manifest.
    pub part: usize,
    /// Its row groups, by number.
    pub row_groups: Range<usize>,
    /// How many rows they have.
    pub rows: u64,
}

/// Deals row groups over at most `partitions` shares of about the same number of rows.
///
/// Neighbours stay together, so that what is sorted on the disk is read in order.
pub(crate) fn deal(parts: &[&[u64]], partitions: usize) -> Vec<Vec<Piece>> {
    let partitions = partitions.max(1);
    let all: u64 = parts.iter().flat_map(|p| p.iter()).sum();
    let wanted = u64::try_from(partitions * PIECES).unwrap_or(u64::MAX);
    let target = all.div_ceil(wanted).max(1);
    let mut pieces: Vec<Piece> = vec![];
    for (part, groups) in parts.iter().enumerate() {
        let mut start = 0;
        let mut rows = 0;
        for (i, group) in groups.iter().enumerate() {
            rows += group;
            if rows >= target || i + 1 == groups.len() {
                pieces.push(Piece {
                    part,
                    row_groups: start..i + 1,
                    rows,
                });
                (start, rows) = (i + 1, 0);
            }
        }
    }
    let mut shares: Vec<(u64, Vec<Piece>)> = vec![(0, vec![]); partitions.min(pieces.len())];
    let per_share = all.div_ceil(u64::try_from(shares.len().max(1)).unwrap_or(1));
    let mut at = 0;
    for piece in pieces {
        // Half of a piece may hang over the edge of a share.
        let is_full = |rows: u64| rows > 0 && rows + piece.rows / 2 >= per_share;
        if at + 1 < shares.len() && is_full(shares[at].0) {
            at += 1;
        }
        shares[at].0 += piece.rows;
        shares[at].1.push(piece);
    }
    shares
        .into_iter()
        .map(|(_, pieces)| pieces)
        .filter(|p| !p.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Department, permits};
    use crate::{Mode, SealedTable};
    use datafusion::physical_plan::{ExecutionPlanProperties, collect};
    use datafusion::prelude::{SessionContext, col, lit};
    use guildhall_keys::KeyName;

    struct Shared {
        context: SessionContext,
        dataset: Arc<SealedDataset>,
        lent: crate::LentKeys,
        plan: Arc<dyn ExecutionPlan>,
    }

    /// A scan of three parts, and the keys of the columns that it reads.
    async fn shared() -> (Department, Shared) {
        let department = Department::new();
        for mode in [Mode::Replace, Mode::Append, Mode::Append] {
            department.import(&permits(100), mode).await.unwrap();
        }
        let dataset = Arc::new(department.open().await.unwrap());
        let is_read = |k: &KeyName| k.column.as_ref().is_none_or(|c| c.as_str() != "holder");
        let lent = department.lend(&dataset, is_read);
        let table = SealedTable::new(Arc::clone(&dataset), Arc::clone(&lent)).with_view_types();
        let context = SessionContext::new();
        let frame = context.read_table(Arc::new(table)).unwrap();
        let frame = frame.select_columns(&["ward", "paid_pence"]).unwrap();
        let frame = frame.filter(col("paid_pence").gt_eq(lit(100_i64))).unwrap();
        let mut plan = frame.create_physical_plan().await.unwrap();
        while let [child] = plan.children().as_slice() {
            plan = Arc::clone(child);
        }
        let shared = Shared {
            context,
            dataset,
            lent,
            plan,
        };
        (department, shared)
    }

    async fn rows(shared: &Shared, pieces: &[Vec<Piece>]) -> EngineResult<usize> {
        let scan = SealedScan::of(shared.plan.as_ref()).unwrap();
        let template = template(shared.plan.as_ref())?;
        let keys = shared.lent.get().unwrap();
        let dataset = shared.dataset.as_ref();
        let plan = carry_out(template.as_ref(), dataset, scan.columns(), keys, pieces).await?;
        assert_eq!(plan.output_partitioning().partition_count(), pieces.len());
        let batches = collect(plan, shared.context.task_ctx()).await?;
        Ok(batches.iter().map(|b| b.num_rows()).sum())
    }

    #[tokio::test]
    async fn shares_together_are_the_whole_scan() {
        let (_department, shared) = shared().await;
        let scan = SealedScan::of(shared.plan.as_ref()).unwrap();
        assert_eq!((scan.row_groups(), scan.rows()), (3, 300));
        assert!(!scan.columns().contains(&"holder".parse().unwrap()));
        let shares = scan.deal(2);
        assert_eq!(shares.len(), 2);
        let one = rows(&shared, &shares[..1]).await.unwrap();
        let other = rows(&shared, &shares[1..]).await.unwrap();
        assert_eq!((one > 0, other > 0, one + other), (true, true, 300));
        // An empty share is an empty partition.
        assert_eq!(rows(&shared, &[vec![], vec![]]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_template_names_no_file_and_no_value() {
        let (_department, shared) = shared().await;
        let said = format!("{:?}", template(shared.plan.as_ref()).unwrap());
        let part = &shared.dataset.manifest().parts[0];
        assert!(!said.contains(&part.path), "{said}");
        assert!(!said.contains("Ward 9"), "{said}");
    }

    #[tokio::test]
    async fn pieces_that_the_manifest_has_not_are_refused() {
        let (_department, shared) = shared().await;
        for (part, row_groups) in [(3, 0..1), (0, 0..2), (0, 1..1)] {
            let piece = Piece {
                part,
                row_groups,
                rows: 1,
            };
            assert!(rows(&shared, &[vec![piece]]).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_share_reads_nothing_without_its_keys() {
        let (_department, mut shared) = shared().await;
        let cell = std::sync::OnceLock::new();
        cell.set(ColumnKeys::new()).unwrap();
        shared.lent = Arc::new(cell);
        let scan = SealedScan::of(shared.plan.as_ref()).unwrap();
        assert!(rows(&shared, &scan.deal(1)).await.is_err());
    }
}
