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
    /// Nodes send rows under tokens to a clean room, where they meet and whole cells of them are released.
    Linked,
}

impl Mode {
    /// The word that `EXPLAIN` and logs use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Local => "local",
            Self::Joint => "joint",
            Self::Linked => "linked",
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
    /// The plan, in the closed profile of Substrait; of parts that are linked, the question that they meet in; empty if
    /// there are other parts.
    pub bytes: Bytes,
    /// SHA-256 of the bytes, which its grant is bound to; of the parts' digests one after the other, if there are
    /// parts and no bytes.
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
    /// Of a part whose rows meet others: SHA-256 of the question that they meet in.
    pub linked: Option<Digest>,
    /// What each owner's node is to send to the clean room; empty but in the modes [`Joint`](Mode::Joint) and
    /// [`Linked`](Mode::Linked).
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
            linked: None,
            parts: parts.collect(),
        }
    }

    /// What `room` is asked: to have the rows of `parts` meet in `question` and release what comes of it.
    pub(crate) fn linked(room: &CleanRoom, question: Vec<u8>, parts: Vec<Self>) -> Self {
        let digest = Digest::of(&question);
        let parts = parts.into_iter().map(|part| Self {
            linked: Some(digest),
            ..part
        });
        Self {
            bytes: Bytes::from(question),
            digest,
            mode: Mode::Linked,
            ..Self::joint(room, parts.collect())
        }
    }

    /// The columns that it reads, by name.
    pub(crate) fn columns(&self) -> String {
        let columns = self.products.iter().flat_map(|p| &p.columns);
        let columns: Vec<&str> = columns.map(|c| c.as_str()).collect();
        columns.join(", ")
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
