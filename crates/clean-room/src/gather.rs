//! The owners' parts: asked for all at once, taken in as they come, checked for being whole.

use crate::admit::AdmittedPart;
use crate::error::Error;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::StreamExt as _;
use guildhall_client::arrow_message::{decode_batch, decode_schema};
use guildhall_client::{ContributionStream, ContributorClient};
use guildhall_disclosure::joint::Tables;
use guildhall_disclosure::{DrawSecret, OwnerDraws};
use guildhall_grant::Statement as _;
use guildhall_grant::product::Product;
use guildhall_identity::Dialer;
use guildhall_proto::node::v1::contribution::Kind;
use guildhall_proto::node::v1::{TablePart, Terms};
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of one owner's terms; products are a few thousand.
const MOST_TERMS: usize = 256 << 10;
/// The bytes of a part once it is read, compared and put together, for each byte that came: what [`Room`] charges.
const GROWS: usize = 4;

/// What an owner holds the release to, and its tables on their way.
pub(crate) struct Offer {
    pub(crate) part: AdmittedPart,
    pub(crate) product: Product,
    pub(crate) draws: OwnerDraws,
    pub(crate) rest: ContributionStream,
}

/// Asks an owner for its part, and waits for its terms.
pub(crate) async fn ask(part: AdmittedPart, dialer: &Dialer) -> Result<Offer, Error> {
    let node = Box::new(part.node().clone());
    let failed = |source| Error::Node {
        node: node.clone(),
        source: Box::new(source),
    };
    let client = ContributorClient::new(dialer, &part.address, part.node()).map_err(failed)?;
    let fragment = Bytes::from(part.fragment.clone());
    let asked = client.contribute(part.envelope.clone(), fragment).await;
    let mut rest = asked.map_err(failed)?;
    let off = |what| Error::Contribution {
        node: node.clone(),
        what,
    };
    let first = rest.next().await.ok_or_else(|| off("it sent nothing"))?;
    let Some(Kind::Terms(terms)) = first.map_err(failed)?.kind else {
        return Err(off("its terms do not come first"));
    };
    // On a thread of its own: a product is checked in more steps than it has lines.
    let read = tokio::task::spawn_blocking(move || terms_of(*terms));
    let read = read.await.map_err(Error::internal)?;
    let (product, draws) = read.ok_or_else(|| off("its terms cannot be read"))?;
    let granted = part.granted().map(|g| g.version);
    if product.product_ref() != part.product || granted != Some(product.version) {
        return Err(off("its terms are for another product"));
    }
    Ok(Offer {
        part,
        product,
        draws,
        rest,
    })
}

pub(crate) fn terms_of(mut terms: Terms) -> Option<(Product, OwnerDraws)> {
    if terms.encoded_len() > MOST_TERMS {
        return None;
    }
    let bytes: Option<[u8; 32]> = terms.draws.as_slice().try_into().ok();
    terms.draws.zeroize();
    let bytes = Zeroizing::new(bytes?);
    let secret = DrawSecret::from_bytes(*bytes);
    let product = Product::from_wire(terms.product?).ok()?;
    let totals = terms.totals;
    Some((product, OwnerDraws { secret, totals }))
}

/// Memory that the parts of one question may take together.
#[derive(Debug)]
pub(crate) struct Room {
    left: AtomicUsize,
    mebibytes: usize,
}

impl Room {
    pub(crate) fn new(mebibytes: usize) -> Self {
        Self {
            left: AtomicUsize::new(mebibytes.saturating_mul(1 << 20)),
            mebibytes,
        }
    }

    pub(crate) fn take(&self, bytes: usize) -> Result<(), Error> {
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let mebibytes = self.mebibytes;
        taken.map(drop).map_err(|_| Error::TooLarge { mebibytes })
    }
}

/// One table as far as it has come.
struct Coming {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

/// Takes in the rest of an owner's part: every table, and the word that this was all.
pub(crate) async fn tables(
    offer: &mut Offer,
    wanted: &[Vec<usize>],
    room: &Room,
) -> Result<Tables, Error> {
    let node = Box::new(offer.part.node().clone());
    let off = |what| Error::Contribution {
        node: node.clone(),
        what,
    };
    let mut coming: BTreeMap<Vec<usize>, Coming> = BTreeMap::new();
    let mut said = None;
    while let Some(next) = offer.rest.next().await {
        let next = next.map_err(|source| Error::Node {
            node: node.clone(),
            source: Box::new(source),
        })?;
        match next.kind {
            _ if said.is_some() => return Err(off("it went on after the end")),
            Some(Kind::Table(piece)) => take(piece, wanted, &mut coming, room, &off)?,
            Some(Kind::Tables(tables)) => said = usize::try_from(tables).ok(),
            Some(Kind::Terms(_) | Kind::Rows(_) | Kind::EndOfRows(_)) | None => {
                return Err(off("a message does not belong there"));
            }
        }
    }
    // Invariant: a part that breaks off is never taken for a whole one.
    if said != Some(coming.len()) {
        return Err(off("it broke off"));
    }
    let whole = |(levels, Coming { schema, batches }): (Vec<usize>, Coming)| {
        let table = concat_batches(&schema, &batches);
        Ok((levels, table.map_err(Error::internal)?))
    };
    coming.into_iter().map(whole).collect()
}

fn take(
    piece: TablePart,
    wanted: &[Vec<usize>],
    coming: &mut BTreeMap<Vec<usize>, Coming>,
    room: &Room,
    off: &impl Fn(&'static str) -> Error,
) -> Result<(), Error> {
    let message = piece
        .message
        .ok_or_else(|| off("a table without content"))?;
    let bytes = message.body.len().saturating_add(message.header.len());
    room.take(bytes.saturating_mul(GROWS))?;
    let levels = piece
        .levels
        .iter()
        .map(|l| usize::try_from(*l).unwrap_or(usize::MAX));
    let levels: Vec<usize> = levels.collect();
    if !wanted.contains(&levels) {
        return Err(off("a table that was not asked for"));
    }
    let unreadable = |_| off("a table that cannot be read");
    match coming.get_mut(&levels) {
        None => {
            let schema = decode_schema(&message).map_err(unreadable)?;
            let batches = Vec::new();
            coming.insert(levels, Coming { schema, batches });
        }
        Some(table) => {
            let batch = decode_batch(&table.schema, &message).map_err(unreadable)?;
            table.batches.push(batch);
        }
    }
    Ok(())
}
