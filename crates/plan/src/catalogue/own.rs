//! The tables about whoever asks: `guildhall.budget` and `guildhall.refusals`.
//!
//! Their rows are the asker's own, made for one run of a query and never kept in a plan: the runner gives them
//! ([`FragmentRunner::own`](crate::remote::FragmentRunner::own)). They stand at the gateway, in [`CITY`](super::CITY), and
//! can be joined there with what was released; rows of a private product they never meet, since those do not get there.

use crate::remote::FragmentRunner;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use std::sync::Arc;

/// The schema of the tables about whoever asks.
pub const OWN_SCHEMA: &str = "guildhall";

/// A table about whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnTable {
    /// The privacy budgets of the products that the asker may see, for the purposes that it holds.
    Budget,
    /// What the asker was refused of late.
    Refusals,
}

impl OwnTable {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Budget, Self::Refusals];

    /// Its name within [`OWN_SCHEMA`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Refusals => "refusals",
        }
    }

    /// What it is, in a sentence.
    #[must_use]
    pub fn doc(self) -> &'static str {
        match self {
            Self::Budget => {
                "your privacy budgets: products over one dataset share one, and so does everybody who asks for the purpose"
            }
            Self::Refusals => "what you were refused of late through this gateway",
        }
    }

    /// Its columns. Amounts of rho are exact; epsilon is at a delta of one in a million; times are UTC.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let rho = |name: &str| Field::new(name, DataType::Decimal128(20, 9), true);
        let epsilon = |name: &str| Field::new(name, DataType::Float64, true);
        let time =
            |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true);
        Arc::new(Schema::new(match self {
            Self::Budget => vec![
                text("council"),
                text("department"),
                text("product"),
                text("purpose"),
                rho("total_rho"),
                rho("spent_rho"),
                rho("remaining_rho"),
                rho("question_rho"),
                epsilon("total_epsilon"),
                epsilon("spent_epsilon"),
                time("period_start"),
                time("period_end"),
            ],
            Self::Refusals => vec![time("at"), text("rule"), text("instead")],
        }))
    }

    pub(super) fn provider(self) -> Result<Arc<dyn TableProvider>> {
        let rows = Arc::new(OwnRows {
            table: self,
            schema: self.schema(),
        });
        Ok(Arc::new(StreamingTable::try_new(
            self.schema(),
            vec![rows],
        )?))
    }
}

/// Who gives the rows of this run. An extension of the session's settings while a query runs.
pub(crate) struct Giver(pub(crate) Arc<dyn FragmentRunner>);

#[derive(Debug)]
struct OwnRows {
    table: OwnTable,
    schema: SchemaRef,
}

impl PartitionStream for OwnRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (table, giver) = (
            self.table,
            context.session_config().get_extension::<Giver>(),
        );
        let rows = async move {
            match giver {
                Some(giver) => giver.0.own(table).await,
                None => Err(DataFusionError::Internal("rows of nobody".to_owned())),
            }
        };
        let rows = futures::stream::once(rows);
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            rows,
        ))
    }
}
