//! What a clean room is sent: this owner's part of cells, before disclosure control.
//!
//! The same steps lead here as to a release ([`Runner::keyed`]). What leaves is every table of the lattice that the cells
//! lie in, and the owner's terms: no row and no name of a unit. The sum of record keys of a cell with one unit is that
//! unit's: whoever reads the clean room's memory knows it again for as long as `noise.key` lasts.
//!
//! Where rows are to meet those of other owners, they are what is sent ([`link`]).
//!
//! A clean room is the council's own, named by the grant and known by its certificate; it releases by the strictest terms
//! of all owners.

use super::link::{self, Tokens};
use super::planned::{PlannedCells, PlannedWork};
use super::{Keyed, Patterns, Runner, stream};
use crate::engine::Engine;
use crate::error::{Privacy, RunError};
use crate::product::plain_type;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::Schema;
use guildhall_client::arrow_message::ArrowEncoder;
use guildhall_cube::internal;
use guildhall_model::{Digest, PeerId, Role};
use guildhall_proto::node::v1::contribution::Kind;
use guildhall_proto::node::v1::{Contribution, RunRequest, TablePart};
use guildhall_telemetry::spawn;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Messages between the work and the clean room.
const AHEAD: usize = 4;

/// The messages of one part. Dropping it stops the work behind it.
pub(crate) type Contributions =
    Pin<Box<dyn Stream<Item = Result<Contribution, Status>> + Send + 'static>>;

impl Runner {
    /// Gives a clean room its part of the cells that `request` asks for.
    pub(crate) async fn contribute(
        &self,
        peer: &PeerId,
        request: RunRequest,
    ) -> Result<Contributions, Status> {
        let reference = Digest::of(&request.fragment);
        let mut privacy = Privacy::Cells;
        let keyed = self.keyed(peer, request, reference, &mut privacy, Role::CleanRoom);
        let started = keyed.await.and_then(|(keyed, turn)| self.part(keyed, turn));
        started.map_err(|error| {
            error.log(privacy, &reference);
            error.status(privacy, &reference)
        })
    }

    fn part(&self, keyed: Keyed, turn: stream::Turn) -> Result<Contributions, RunError> {
        let (fragment, longest) = (keyed.grant.fragment, self.longest);
        let PlannedWork::Cells(cells) = keyed.work else {
            return Err(internal("a part of what is not cells").into());
        };
        let tokens = match &keyed.grant.linkage {
            Some(linkage) => {
                let tells = linkage.products.first() == Some(&cells.product);
                let of = keyed.link.as_ref().zip(cells.identity.as_ref());
                let (key, identity) = of.ok_or_else(|| internal("a linkage without its key"))?;
                Some((Tokens::of(key, identity), tells))
            }
            None => None,
        };
        let (messages, answer) = mpsc::channel(AHEAD);
        let (engine, patterns) = (self.engine.clone(), Arc::clone(&self.patterns));
        spawn(async move {
            let _turn = turn;
            let work = async {
                let sending = async {
                    match tokens {
                        Some(tokens) => link::send(*cells, tokens, &engine, &messages).await,
                        None => send(*cells, &engine, &patterns, &messages).await,
                    }
                };
                let sent = tokio::time::timeout(longest, sending).await;
                let seconds = longest.as_secs();
                sent.map_err(|_| RunError::TooLong { seconds })?
            };
            let done = tokio::select! {
                () = messages.closed() => return,
                done = work => done,
            };
            if let Err(error) = done {
                error.log(Privacy::Cells, &fragment);
                // Nobody may be listening any more.
                let _ = messages
                    .send(Err(error.status(Privacy::Cells, &fragment)))
                    .await;
            }
        });
        Ok(Box::pin(ReceiverStream::new(answer)))
    }
}

/// Sends terms, tables and the end, or as much as somebody takes.
async fn send(
    cells: PlannedCells,
    engine: &Engine,
    patterns: &Patterns,
    to: &mpsc::Sender<Result<Contribution, Status>>,
) -> Result<(), RunError> {
    let PlannedCells {
        standing,
        lattice,
        terms,
        ..
    } = cells;
    // Ahead of the work, so that whoever waits knows that it goes on.
    let give = async |kind| to.send(Ok(Contribution { kind: Some(kind) })).await.is_ok();
    if !give(Kind::Terms(Box::new(terms))).await {
        return Ok(());
    }
    let mut kinds = Vec::new();
    let tables = patterns.tables(&standing, &lattice, engine).await?;
    for (levels, cells) in &tables {
        let levels = levels.iter().map(|l| u32::try_from(*l).unwrap_or(u32::MAX));
        let levels: Vec<u32> = levels.collect();
        let mut encoder = ArrowEncoder::default();
        let batch = plain(cells)?;
        let mut of_table = vec![encoder.schema(batch.schema_ref())];
        let encoded = encoder.batch(&batch);
        of_table.extend(encoded.map_err(|_| internal("a table that is not to be encoded"))?);
        let part = |message| TablePart {
            levels: levels.clone(),
            message: Some(message),
        };
        kinds.extend(of_table.into_iter().map(part).map(Kind::Table));
    }
    kinds.push(Kind::Tables(
        u32::try_from(tables.len()).unwrap_or(u32::MAX),
    ));
    for kind in kinds {
        if !give(kind).await {
            break;
        }
    }
    Ok(())
}

/// The table without views and dictionaries.
pub(super) fn plain(cells: &RecordBatch) -> Result<RecordBatch, RunError> {
    let encode = |source| RunError::Encode { source };
    let columns = cells.columns().iter().map(|column| {
        let wanted = plain_type(column.data_type());
        cast(column, &wanted).map_err(encode)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let fields = cells.schema_ref().fields().iter().zip(&columns);
    let fields = fields.map(|(field, column)| {
        let field = field.as_ref().clone();
        field.with_data_type(column.data_type().clone())
    });
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(cells.num_rows()));
    RecordBatch::try_new_with_options(schema.into(), columns, &options).map_err(encode)
}
