//! Rows that are to meet those of other departments, as a clean room is sent them.
//!
//! The same steps lead here as to a release ([`Runner::keyed`](super::Runner)), and the rows are those that the cells of
//! this owner's own answer would be made of: row filter and masks applied, of each dimension and measure that the question
//! names its keys at every level and its value, and no other column. In place of the unit stands a token.
//!
//! # Tokens
//!
//! `token(unit) = HMAC-SHA256(K, "guildhall link 1" || len(identity) || identity || unit)`, its first 16 bytes, where `unit`
//! is the unit's value as text, `identity` is what all whose rows meet call the unit, lengths are 8 bytes little-endian, and
//! `K` is 32 random bytes that the authority makes for this one linkage and lends to its nodes alone, sealed to each one's
//! ephemeral recipient.
//!
//! *Assumption*: HMAC-SHA256 is a pseudorandom function. Then to whoever has not `K`, which is everybody but the nodes of
//! this linkage and the authority, tokens are random: equal for equal units within the linkage, and of no relation to those
//! of any other linkage, nor to the units. 16 bytes: among ten million units two have the same token with probability below
//! 2^-81.
//!
//! *What is learnt*: the clean room learns, for as long as it answers, how many rows each owner sent, which of them are of the
//! same unit within and across owners, and their keys and values; it can keep nothing that means anything in another
//! question but the values themselves. A node that lies and works together with the clean room can say which of *its own*
//! units (or of any that it makes up and guesses) are at another owner, with that owner's keys and values in this question:
//! it has `K`. So can a node that works together with whoever reads the clean room's memory. Nodes that
//! do not lie learn nothing of each other: rows go to the clean room only.
//!
//! # Record keys
//!
//! That cells of the same units have the same noise whatever they are asked with, the rows of one member, the first by name,
//! tell 8 bits of their unit's record key as well (the last byte of the key under a secret for linked rows alone). These stay
//! the same from question to question, where tokens do not: 1 in 256 units has the same, so they tell about as much as one
//! more column of attributes would. Without them the noise could only depend on how a cell is asked for, and asking in many
//! ways would average it out. Of the other members that byte is 0: two bytes of two secrets would be a pseudonym.
//!
//! A node that lies about these bits, about the secret of its draws or about its rows can have cells of others drawn anew:
//! departments that link agree to that, too. The secret of draws is the same in each question of a product, so a clean room
//! that kept it could tell the noise of later ones.
//!
//! Rows are sent in the order of their tokens, which is no order to anybody else: where a row stands says nothing of where it
//! is at rest.

use super::contribute::plain;
use super::lattice::Lattice;
use super::planned::PlannedCells;
use crate::engine::Engine;
use crate::error::RunError;
use arrow::array::{
    Array as _, ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch, UInt8Array, UInt32Array,
};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt as _;
use guildhall_client::arrow_message::ArrowEncoder;
use guildhall_cube::internal;
use guildhall_disclosure::NoiseSecret;
use guildhall_model::IdentityName;
use guildhall_proto::node::v1::contribution::Kind;
use guildhall_proto::node::v1::{Contribution, Terms};
use ring::hmac;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;
use zeroize::Zeroizing;

/// Bytes of a key, and of a token.
const KEY: usize = 32;
const TOKEN: usize = 16;
/// Sets tokens apart from any other use of the same key.
const LABEL: &[u8] = b"guildhall link 1";
/// Rows of one message.
const ROWS: usize = 32_768;

/// What tokens of one linkage are made with. Overwritten when dropped; `Debug` shows nothing.
pub(crate) struct LinkKey(Zeroizing<[u8; KEY]>);

impl LinkKey {
    /// The key with these bytes, if they are as many as a key has.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; KEY] = bytes.try_into().ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey")
    }
}

/// Makes the tokens of units of one identity in one linkage.
pub(crate) struct Tokens(hmac::Context);

impl Drop for Tokens {
    fn drop(&mut self) {
        // The state is the key in all but name. `ring` wipes nothing, so it is overwritten in place.
        self.0 = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &[0; KEY]));
        std::hint::black_box(&self.0);
    }
}

impl Tokens {
    pub(crate) fn of(key: &LinkKey, identity: &IdentityName) -> Self {
        let mut state = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &*key.0));
        state.update(LABEL);
        state.update(&(identity.as_str().len() as u64).to_le_bytes());
        state.update(identity.as_str().as_bytes());
        Self(state)
    }

    /// The token of a unit.
    fn token(&self, unit: &str) -> [u8; TOKEN] {
        let mut state = self.0.clone();
        state.update(unit.as_bytes());
        let tag = state.sign();
        let mut token = [0; TOKEN];
        token
            .iter_mut()
            .zip(tag.as_ref())
            .for_each(|(to, from)| *to = *from);
        token
    }

    /// The tokens of `units`, none of which is NULL.
    fn all(&self, units: &ArrayRef) -> Result<FixedSizeBinaryArray, RunError> {
        let encode = |source| RunError::Encode { source };
        let texts = cast(units, &DataType::Utf8).map_err(encode)?;
        let texts = texts.as_string::<i32>();
        let tokens = texts
            .iter()
            .map(|unit| self.token(unit.unwrap_or_default()));
        let mut bytes = Vec::with_capacity(texts.len().saturating_mul(TOKEN));
        tokens.for_each(|token| bytes.extend(token));
        let size = i32::try_from(TOKEN).map_err(|_| internal("a token too long"))?;
        FixedSizeBinaryArray::try_new(size, bytes.into(), None).map_err(encode)
    }
}

/// What is told of units in place of themselves.
struct Units {
    tokens: Tokens,
    /// What their record keys are of; none where another member tells them.
    secret: Option<NoiseSecret>,
}

/// Sends terms, rows and the end, or as much as somebody takes; what record keys there are, if this is who tells.
pub(super) async fn send(
    cells: PlannedCells,
    (tokens, tells): (Tokens, bool),
    engine: &Engine,
    to: &mpsc::Sender<Result<Contribution, Status>>,
) -> Result<(), RunError> {
    let PlannedCells {
        lattice,
        terms,
        linked_secret,
        ..
    } = cells;
    let terms = Terms {
        draws: linked_secret.draws().to_bytes().to_vec(),
        ..terms
    };
    let give = async |kind| to.send(Ok(Contribution { kind: Some(kind) })).await.is_ok();
    // Ahead of the work, so that whoever waits knows that it goes on.
    if !give(Kind::Terms(Box::new(terms))).await {
        return Ok(());
    }
    let units = Units {
        tokens,
        secret: tells.then_some(linked_secret),
    };
    let rows = lattice.tokenised(engine, units).await?;
    let mut encoder = ArrowEncoder::default();
    if !give(Kind::Rows(encoder.schema(rows.schema_ref()))).await {
        return Ok(());
    }
    for start in (0..rows.num_rows()).step_by(ROWS) {
        let some = rows.slice(start, ROWS.min(rows.num_rows().saturating_sub(start)));
        let encoded = encoder.batch(&some);
        for message in encoded.map_err(|_| internal("rows that are not to be encoded"))? {
            if !give(Kind::Rows(message)).await {
                return Ok(());
            }
        }
    }
    let end = u64::try_from(rows.num_rows()).unwrap_or(u64::MAX);
    give(Kind::EndOfRows(end)).await;
    Ok(())
}

impl Lattice {
    /// The rows that cells are made of, with a token in place of the unit, in the order of the tokens.
    async fn tokenised(
        self: &Arc<Self>,
        engine: &Engine,
        units: Units,
    ) -> Result<RecordBatch, RunError> {
        let (physical, context) = engine.physical(&self.plan).await?;
        let memory = MemoryConsumer::new("rows that meet others").register(context.memory_pool());
        let mut rows = execute_stream(physical, context)?;
        let place = self.keys();
        let mut batches = vec![units.told(&RecordBatch::new_empty(rows.schema()), place)?];
        while let Some(batch) = rows.next().await {
            let batch = units.told(&batch?, place)?;
            // Once as it came, and once put in order.
            memory.try_grow(batch.get_array_memory_size().saturating_mul(2))?;
            batches.push(batch);
        }
        let sorted = tokio::task::spawn_blocking(move || {
            let _memory = memory;
            in_order(&batches, place)
        });
        sorted.await.map_err(|_| internal("rows broke off"))?
    }
}

impl Units {
    /// `batch` with tokens in place of its column `place`, and after them what is told of record keys.
    fn told(&self, batch: &RecordBatch, place: usize) -> Result<RecordBatch, RunError> {
        let encode = |source| RunError::Encode { source };
        let units = batch.columns().get(place);
        let units = units.ok_or_else(|| internal("rows without a unit"))?;
        let keys = self.secret.as_ref().map(|s| s.record_keys(units));
        let keys = keys.transpose().map_err(encode)?;
        let record = |row: usize| {
            let key = keys.as_ref().map_or(0, |k| k.value(row));
            key.to_be_bytes().last().copied()
        };
        let records = (0..units.len()).map(record);
        let told: [ArrayRef; 2] = [
            Arc::new(self.tokens.all(units)?),
            Arc::new(records.collect::<UInt8Array>()),
        ];
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        let all = batch.columns().iter().zip(batch.schema_ref().fields());
        for (at, (column, field)) in all.enumerate() {
            if at == place {
                for (name, told) in ["token", "record"].into_iter().zip(&told) {
                    fields.push(Field::new(name, told.data_type().clone(), false));
                    columns.push(Arc::clone(told));
                }
            } else {
                fields.push(field.as_ref().clone());
                columns.push(Arc::clone(column));
            }
        }
        let schema = Arc::new(Schema::new(fields));
        plain(&RecordBatch::try_new(schema, columns).map_err(encode)?)
    }
}

/// The rows of `batches` in the order of their tokens.
fn in_order(batches: &[RecordBatch], place: usize) -> Result<RecordBatch, RunError> {
    let encode = |source| RunError::Encode { source };
    let schema = batches.first().map(RecordBatch::schema);
    let schema = schema.ok_or_else(|| internal("rows without columns"))?;
    let all = concat_batches(&schema, batches).map_err(encode)?;
    let tokens = all.columns().get(place);
    let tokens = tokens.and_then(|c| c.as_fixed_size_binary_opt());
    let tokens = tokens.ok_or_else(|| internal("rows without tokens"))?;
    let token = |(row, token): (usize, Option<&[u8]>)| {
        let token: Option<[u8; TOKEN]> = token.and_then(|t| t.try_into().ok());
        Some((u128::from_be_bytes(token?), u32::try_from(row).ok()?))
    };
    let order: Option<Vec<(u128, u32)>> = tokens.iter().enumerate().map(token).collect();
    let mut order = order.ok_or_else(|| internal("more rows than can be numbered"))?;
    order.sort_unstable();
    let order: UInt32Array = order.into_iter().map(|(_, row)| row).collect();
    take_record_batch(&all, &order).map_err(encode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(key: u8, identity: &str) -> Tokens {
        let key = LinkKey::from_bytes(&[key; KEY]).unwrap();
        Tokens::of(&key, &identity.parse().unwrap())
    }

    /// Against HMAC-SHA256 in one piece over what the module's text says.
    #[test]
    fn a_token_is_what_is_written_of_it() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; KEY]);
        let mut text = LABEL.to_vec();
        text.extend(6_u64.to_le_bytes());
        text.extend(b"personp-17");
        let tag = hmac::sign(&key, &text);
        assert_eq!(tokens(7, "person").token("p-17"), tag.as_ref()[..TOKEN]);
    }

    #[test]
    fn tokens_are_equal_for_equal_units_of_one_identity_under_one_key_alone() {
        let token = tokens(7, "person").token("17");
        assert_eq!(tokens(7, "person").token("17"), token);
        for other in [
            tokens(8, "person").token("17"),
            tokens(7, "property").token("17"),
            tokens(7, "person").token("71"),
        ] {
            assert_ne!(other, token);
        }
    }
}
