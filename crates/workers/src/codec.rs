//! Shares on the wire: which row groups, and how they are read. There is no place for a key.

use crate::hold::Held;
use crate::share::{Share, ShareExec};
use datafusion::common::{Result, exec_datafusion_err, exec_err, internal_datafusion_err};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use guildhall_model::Digest;
use guildhall_store::{Piece, Recorded};
use prost::Message;
use std::sync::Arc;

/// Writes a share where it is planned, and gives it back its reader where it is carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShareCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct ShareMessage {
    #[prost(string, tag = "1")]
    dataset: String,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
    #[prost(string, repeated, tag = "4")]
    columns: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    partitions: Vec<PiecesMessage>,
    /// The scan without its files, as the engine writes it.
    #[prost(message, optional, tag = "6")]
    template: Option<PhysicalPlanNode>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PiecesMessage {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<PieceMessage>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct PieceMessage {
    #[prost(uint64, tag = "1")]
    part: u64,
    #[prost(uint64, tag = "2")]
    start: u64,
    #[prost(uint64, tag = "3")]
    end: u64,
    #[prost(uint64, tag = "4")]
    rows: u64,
}

impl PhysicalExtensionCodec for ShareCodec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(exec) = node.downcast_ref::<ShareExec>() else {
            return exec_err!("a {} does not travel", node.name());
        };
        let template: Arc<dyn ExecutionPlan> = exec.template().clone();
        let message = ShareMessage {
            template: Some(converter.execution_plan_to_proto(&template, self)?),
            ..to_wire(exec.share())
        };
        message
            .encode(buf)
            .map_err(|e| internal_datafusion_err!("{e}"))
    }

    fn try_decode(
        &self,
        buf: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let message =
            ShareMessage::decode(buf).map_err(|e| exec_datafusion_err!("not a share: {e}"))?;
        let malformed = || exec_datafusion_err!("a share is malformed");
        let template = message.template.as_ref().ok_or_else(malformed)?;
        let decode = PhysicalPlanDecodeContext::new(context, self);
        let template = converter.proto_to_execution_plan(template, &decode)?;
        let template: &DataSourceExec = template.downcast_ref().ok_or_else(malformed)?;
        let share = from_wire(message.clone()).ok_or_else(malformed)?;
        let held = context.session_config().get_extension::<Held>();
        Ok(Arc::new(ShareExec::new(
            share,
            Arc::new(template.clone()),
            held,
        )))
    }
}

fn to_wire(share: &Share) -> ShareMessage {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let piece = |piece: &Piece| PieceMessage {
        part: number(piece.part),
        start: number(piece.row_groups.start),
        end: number(piece.row_groups.end),
        rows: piece.rows,
    };
    let pieces = |pieces: &Vec<Piece>| PiecesMessage {
        pieces: pieces.iter().map(piece).collect(),
    };
    ShareMessage {
        dataset: share.dataset.to_string(),
        version: share.recorded.version,
        digest: share.recorded.digest.as_bytes().to_vec(),
        columns: share.columns.iter().map(ToString::to_string).collect(),
        partitions: share.pieces.iter().map(pieces).collect(),
        template: None,
    }
}

fn from_wire(message: ShareMessage) -> Option<Share> {
    let piece = |piece: PieceMessage| {
        let place = |n: u64| usize::try_from(n).ok();
        Some(Piece {
            part: place(piece.part)?,
            row_groups: place(piece.start)?..place(piece.end)?,
            rows: piece.rows,
        })
    };
    let pieces = |p: PiecesMessage| p.pieces.into_iter().map(piece).collect::<Option<Vec<_>>>();
    let columns = message.columns.iter().map(|c| c.parse().ok());
    Some(Share {
        dataset: message.dataset.parse().ok()?,
        recorded: Recorded {
            version: message.version,
            digest: Digest::from_bytes(&message.digest)?,
        },
        columns: columns.collect::<Option<_>>()?,
        pieces: message
            .partitions
            .into_iter()
            .map(pieces)
            .collect::<Option<_>>()?,
    })
}
