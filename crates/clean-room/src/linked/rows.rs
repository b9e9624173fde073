//! One owner's rows: taken in as they come, checked for being whole and what was asked for.

use super::Member;
use crate::error::Error;
use crate::gather::{Offer, Room};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt8Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, SchemaRef, UInt8Type};
use futures::StreamExt as _;
use guildhall_client::arrow_message::{decode_batch, decode_schema};
use guildhall_cube::{Question, TotalOf};
use guildhall_model::ColumnName;
use guildhall_plan::cube::{CubeLevel, LevelBy};
use guildhall_proto::node::v1::ArrowMessage;
use guildhall_proto::node::v1::contribution::Kind;
use zeroize::Zeroizing;

/// Bytes of a token.
const TOKEN: i32 = 16;
/// The bytes of rows once they are read, put together and in the order of what they meet, for each byte that came.
const GROW: usize = 3;

/// What the columns of an owner's rows are, in their order: keys, the token, what is told of record keys, values.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Every level of every axis.
    pub(crate) levels: Vec<CubeLevel>,
    /// The measures, with the decimals of their values.
    pub(crate) measures: Vec<(ColumnName, i8)>,
}

impl Layout {
    /// That of the rows that `question`'s cells are made of.
    pub(crate) fn of(question: &Question<'_>) -> Result<Self, Error> {
        let mut measures: Vec<(ColumnName, i8)> = Vec::new();
        for total in question.totals.iter() {
            let (TotalOf::Sum(measure) | TotalOf::Values(measure)) = total else {
                continue;
            };
            if measures.iter().any(|(name, _)| *name == measure.column) {
                continue;
            }
            let terms = TotalOf::Sum(measure).terms(question.product, question.schema);
            let scale = terms.map_err(Error::internal)?.scale;
            measures.push((measure.column.clone(), scale));
        }
        let levels = question.axes.iter().flat_map(|a| a.levels.clone());
        Ok(Self {
            levels: levels.collect(),
            measures,
        })
    }

    /// The column of a level.
    pub(crate) fn level(&self, level: &CubeLevel) -> Option<usize> {
        self.levels.iter().position(|l| l.is_same(level))
    }

    /// The column of a measure's value.
    pub(crate) fn value(&self, measure: &ColumnName) -> Option<usize> {
        let at = self.measures.iter().position(|(m, _)| m == measure)?;
        at.checked_add(self.levels.len())?.checked_add(2)
    }

    fn token(&self) -> usize {
        self.levels.len()
    }

    /// What is wrong with rows of these columns, if anything is.
    fn misfit(&self, schema: &SchemaRef) -> Option<&'static str> {
        let mut types = schema.fields().iter().map(|f| f.data_type());
        let keys = types.by_ref().take(self.levels.len());
        let key = |(t, level): (&DataType, &CubeLevel)| match level.by {
            LevelBy::Groups(_) => *t == DataType::Utf8,
            LevelBy::Trunc(_) => matches!(t, DataType::Timestamp(_, _)),
            LevelBy::Value => !t.is_nested() && !matches!(t, DataType::Dictionary(..)),
        };
        let mut keys = keys.zip(&self.levels);
        if keys.len() != self.levels.len() || !keys.all(key) {
            return Some("its rows are told apart by other columns than were asked for");
        }
        if types.next() != Some(&DataType::FixedSizeBinary(TOKEN))
            || types.next() != Some(&DataType::UInt8)
        {
            return Some("its rows have no tokens");
        }
        let value =
            |(_, scale): &(ColumnName, i8)| DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale);
        let values: Vec<DataType> = self.measures.iter().map(value).collect();
        let came: Vec<&DataType> = types.collect();
        let alike = came.len() == values.len() && came.iter().zip(&values).all(|(a, b)| *a == b);
        (!alike).then_some("its rows have other values than were asked for")
    }
}

/// An owner's rows, in the order of their tokens. Tokens are overwritten when dropped.
pub(crate) struct Rows {
    pub(crate) tokens: Zeroizing<Vec<u128>>,
    /// What is told of each row's record key.
    pub(crate) records: UInt8Array,
    pub(crate) columns: Vec<ArrayRef>,
}

/// Takes in the rows of an offer, and the word that these were all.
pub(crate) async fn rows(offer: &mut Offer, member: &Member, room: &Room) -> Result<Rows, Error> {
    let node = Box::new(offer.part.node().clone());
    let off = |what| Error::Contribution {
        node: node.clone(),
        what,
    };
    let (mut schema, mut batches, mut said) = (None, Vec::new(), None);
    while let Some(next) = offer.rest.next().await {
        let next = next.map_err(|source| Error::Node {
            node: node.clone(),
            source: Box::new(source),
        })?;
        match next.kind {
            _ if said.is_some() => return Err(off("it went on after the end")),
            Some(Kind::Rows(message)) => match &schema {
                None => schema = Some(schema_of(&message, member).map_err(off)?),
                Some(schema) => {
                    let bytes = message.body.len().saturating_add(message.header.len());
                    room.take(bytes.saturating_mul(GROW))?;
                    let batch = decode_batch(schema, &message);
                    batches.push(batch.map_err(|_| off("rows that cannot be read"))?);
                }
            },
            Some(Kind::EndOfRows(rows)) => said = Some(rows),
            _ => return Err(off("a message does not belong there")),
        }
    }
    let came: usize = batches.iter().map(RecordBatch::num_rows).sum();
    // Invariant: rows that break off are never taken for all of them.
    let (Some(schema), true) = (schema, said == u64::try_from(came).ok()) else {
        return Err(off("it broke off"));
    };
    if u32::try_from(came).is_err() {
        return Err(off("more rows than can meet others"));
    }
    let all = concat_batches(&schema, &batches).map_err(Error::internal)?;
    read(all, &member.layout).map_err(off)
}

fn schema_of(message: &ArrowMessage, member: &Member) -> Result<SchemaRef, &'static str> {
    let schema = decode_schema(message).map_err(|_| "rows that cannot be read")?;
    match member.layout.misfit(&schema) {
        Some(what) => Err(what),
        None => Ok(schema),
    }
}

/// Rows whose tokens are there and in order.
fn read(all: RecordBatch, layout: &Layout) -> Result<Rows, &'static str> {
    let columns = all.columns().to_vec();
    let tokens = columns.get(layout.token());
    let tokens = tokens.and_then(|c| c.as_fixed_size_binary_opt());
    let records = columns.get(layout.token().saturating_add(1));
    let records = records.and_then(|c| c.as_primitive_opt::<UInt8Type>());
    let (Some(tokens), Some(records)) = (tokens, records) else {
        return Err("its rows have no tokens");
    };
    if tokens.null_count() > 0 || records.null_count() > 0 {
        return Err("it sent rows of nobody");
    }
    let token = |t: Option<&[u8]>| t.and_then(|t| t.try_into().ok()).map(u128::from_be_bytes);
    let read: Option<Vec<u128>> = tokens.iter().map(token).collect();
    let tokens = Zeroizing::new(read.ok_or("its rows have no tokens")?);
    if !tokens.is_sorted() {
        return Err("its rows are not in the order of their tokens");
    }
    Ok(Rows {
        records: records.clone(),
        tokens,
        columns,
    })
}
