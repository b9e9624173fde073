//! The one door out: a batch in, a [`Released`] out.

use crate::adhoc::{AdHocRule, CheckedAdHoc};
use crate::answer::CheckedCells;
use crate::cells::CellRule;
use crate::{ERROR_METADATA, RULE_METADATA};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use std::fmt;
use std::sync::Arc;

/// What a result has to pass before it may leave.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Rows of products whose class releases rows. Which columns may be among them is decided at admission.
    OpenRows,
    /// Cells over a private product, all of one answer at once.
    Cells(CellRule),
    /// Cells over a private product with differential privacy, all of one answer at once. Their cost is debited before.
    AdHoc(AdHocRule),
}

/// Why a result stays in the node. No variant carries a value of the data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The rule does not fit the result it was made for.
    #[error("the release rule does not fit its result: {what}")]
    Rule {
        /// Which part does not fit.
        what: String,
    },
    /// A batch is of another shape than the gate was made for.
    #[error("the result is of another shape than the one admitted")]
    Shape,
    /// Cells come whole or not at all.
    #[error("cells are released once, all of an answer together")]
    Again,
    /// The same cell twice: each half would be weighed alone.
    #[error("a cell came in more than one piece")]
    SplitCell,
    /// A kernel refused; the result is not released.
    #[error("cannot weigh the result")]
    Arrow {
        /// What the kernel said; stays in the node's own log.
        #[source]
        source: ArrowError,
    },
}

impl From<ArrowError> for ReleaseError {
    fn from(source: ArrowError) -> Self {
        Self::Arrow { source }
    }
}

/// A batch that has passed disclosure control and may leave the node.
///
/// Only [`Gate::release`] makes one. There is no `From<RecordBatch>`, on purpose.
pub struct Released {
    batch: RecordBatch,
    receipt: Receipt,
}

/// What was released, for the log: never what was kept back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The rule's name.
    pub rule: &'static str,
    /// Released rows or cells.
    pub rows: usize,
}

impl Released {
    /// What left.
    #[must_use]
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// What left, to be written to a peer.
    #[must_use]
    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }

    /// What to write in the log.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }
}

impl fmt::Debug for Released {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Released")
            .field("columns", &self.batch.num_columns())
            .field("rows", &self.batch.num_rows())
            .field("rule", &self.receipt.rule)
            .finish()
    }
}

/// Holds one rule over one result.
#[derive(Debug)]
pub struct Gate {
    input: SchemaRef,
    output: SchemaRef,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    OpenRows,
    Cells { cells: CheckedCells, done: bool },
    AdHoc { cells: CheckedAdHoc, done: bool },
}

impl Gate {
    /// A gate for one result of the shape `input`. Fails if the rule does not fit that shape.
    pub fn new(rule: Rule, input: SchemaRef) -> Result<Self, ReleaseError> {
        let (output, kind) = match rule {
            Rule::OpenRows => (open_schema(&input), Kind::OpenRows),
            Rule::Cells(rule) => {
                let cells = CheckedCells::new(rule, &input)?;
                (cells.schema(), Kind::Cells { cells, done: false })
            }
            Rule::AdHoc(rule) => {
                let cells = CheckedAdHoc::new(rule, &input)?;
                (cells.schema(), Kind::AdHoc { cells, done: false })
            }
        };
        Ok(Self {
            input,
            output,
            kind,
        })
    }

    /// The shape of what it takes.
    #[must_use]
    pub fn input(&self) -> &SchemaRef {
        &self.input
    }

    /// The shape of what will be released; says nothing about the data.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// Releases `batch`, or what of it the rule lets go.
    ///
    /// Rows may come in many batches. Cells come in one, which holds the whole answer: a group is judged once.
    pub fn release(&mut self, batch: &RecordBatch) -> Result<Released, ReleaseError> {
        if !same_shape(&self.input, batch.schema_ref()) {
            return Err(ReleaseError::Shape);
        }
        let (columns, rows, rule) = match &mut self.kind {
            Kind::OpenRows => (batch.columns().to_vec(), batch.num_rows(), "open-rows"),
            Kind::Cells { done: true, .. } | Kind::AdHoc { done: true, .. } => {
                return Err(ReleaseError::Again);
            }
            Kind::Cells { cells, done } => {
                *done = true;
                let (columns, rows) = cells.release(batch)?;
                (columns, rows, "cells")
            }
            Kind::AdHoc { cells, done } => {
                *done = true;
                let (columns, rows) = cells.release(batch)?;
                (columns, rows, "differential-privacy")
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema(), columns, &options)?;
        Ok(Released {
            batch,
            receipt: Receipt { rule, rows },
        })
    }
}

fn same_shape(a: &Schema, b: &Schema) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields()
            .iter()
            .zip(b.fields())
            .all(|(a, b)| a.data_type() == b.data_type())
}

/// The same columns, all of which may be NULL, each with the rule it left under.
fn open_schema(input: &Schema) -> SchemaRef {
    let fields: Vec<_> = input
        .fields()
        .iter()
        .map(|f| {
            let rule = [(RULE_METADATA, "open-rows"), (ERROR_METADATA, "none")];
            let metadata = rule.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            f.as_ref()
                .clone()
                .with_nullable(true)
                .with_metadata(metadata)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field};

    #[test]
    fn rows_leave_as_they_are() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![Arc::new(Int64Array::from(vec![1, 2]))],
        )
        .unwrap();
        let mut gate = Gate::new(Rule::OpenRows, schema).unwrap();
        for _ in 0..2 {
            let out = gate.release(&batch).unwrap();
            assert_eq!(out.batch().columns(), batch.columns());
            assert_eq!(
                out.receipt(),
                Receipt {
                    rule: "open-rows",
                    rows: 2
                }
            );
        }
        assert_eq!(
            gate.schema().field(0).metadata()[RULE_METADATA],
            "open-rows"
        );
    }

    #[test]
    fn a_batch_of_another_shape_stays() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Utf8, false)]));
        let other = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let mut gate = Gate::new(Rule::OpenRows, schema).unwrap();
        let batch = RecordBatch::new_empty(other);
        assert!(matches!(gate.release(&batch), Err(ReleaseError::Shape)));
    }
}
