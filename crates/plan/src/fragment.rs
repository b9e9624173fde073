//! What a node or a clean room is asked.

use crate::catalogue::CleanRoom;
use bytes::Bytes;
use guildhall_grant::GrantedProduct;
use guildhall_model::{Digest, FragmentDigest, OutputClass, PeerId};
use std::fmt;

/// How rows or cells of a fragment leave their node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Rows of open or permitted products go to the gateway.
    Open,
    /// The node releases whole cells; the gateway only merges what was released.
    Local,
    /// Nodes send their parts of cells to a clean room, which puts them together and releases whole cells.
    Joint,
}

impl Mode {
    /// The word that `EXPLAIN` and logs use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Local => "local",
            Self::Joint => "joint",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of a plan that one node is asked to run, or of which a clean room puts together what several nodes give.
///
/// What a clean room is asked holds no plan of its own: it has [`parts`](Self::parts), and a grant is needed for each of
/// these and none for itself.
#[derive(Clone)]
pub struct Fragment {
    /// The node that holds what it reads, or the clean room.
    pub node: PeerId,
    /// Where that node or clean room listens.
    pub address: String,
    /// The plan, in the closed profile of Substrait; empty if there are parts.
    pub bytes: Bytes,
    /// SHA-256 of the bytes, which its grant is bound to; of the parts' digests one after the other, if there are parts.
    pub digest: FragmentDigest,
    /// What it reads; of parts, they say.
    pub products: Vec<GrantedProduct>,
    /// What may leave.
    pub output: OutputClass,
    /// How it leaves.
    pub mode: Mode,
    /// Whether each released value is to have a companion that says what was done to it.
    pub cell_status: bool,
    /// Who receives what leaves; none for the gateway that asks.
    pub recipient: Option<PeerId>,
    /// What each owner's node is to send to the clean room; empty but in mode [`Joint`](Mode::Joint).
    ///
    /// Invariant: two or more, or none; each with no parts of its own, and with the clean room as recipient.
    pub parts: Vec<Fragment>,
}

impl Fragment {
    /// What `room` is asked: to put `parts` together and release what comes of it.
    pub(crate) fn joint(room: &CleanRoom, parts: Vec<Self>) -> Self {
        let digests: Vec<u8> = parts.iter().flat_map(|p| *p.digest.as_bytes()).collect();
        let parts = parts.into_iter().map(|part| Self {
            recipient: Some(room.peer.clone()),
            ..part
        });
        Self {
            node: room.peer.clone(),
            address: room.address.clone(),
            bytes: Bytes::new(),
            digest: Digest::of(&digests),
            products: vec![],
            output: OutputClass::ReleasedCells,
            mode: Mode::Joint,
            cell_status: false,
            recipient: None,
            parts: parts.collect(),
        }
    }

    /// What grants are needed for: its parts, or itself if it has none.
    #[must_use]
    pub fn granted(&self) -> &[Self] {
        match self.parts.as_slice() {
            [] => std::slice::from_ref(self),
            parts => parts,
        }
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fragment")
            .field("node", &self.node)
            .field("digest", &self.digest)
            .field("bytes", &self.bytes.len())
            .field("mode", &self.mode)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}
