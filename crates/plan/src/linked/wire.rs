//! Linked questions in bytes, which every grant of theirs names by digest.

use super::{LinkedMember, LinkedQuery, Presence, Registered, United};
use crate::cube::{self, Refusal};
use crate::profile::{self, FragmentLimits, ProfileError};
use crate::session::state_over;
use datafusion::common::DataFusionError;
use datafusion::execution::SessionState;
use guildhall_model::ProductRef;
use guildhall_proto::clean_room::v1 as wire;
use prost::Message as _;

/// Bytes of one question; they are a few hundred.
const MOST: usize = 1 << 20;

/// Why bytes are no linked question of these products.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkedError {
    /// Not the message, or too large a one.
    #[error("the linked question cannot be read")]
    Malformed,
    /// A member that nobody has given rows for.
    #[error("the linked question names `{product}`, which is none of those whose rows are there")]
    Unknown {
        /// The product.
        product: String,
    },
    /// A part of it is not of the closed profile.
    #[error("the linked question is not of the closed profile")]
    Profile {
        /// Why.
        #[source]
        source: ProfileError,
    },
    /// It is of the profile and not of the grammar.
    #[error("the linked question is not one that is answered")]
    Refused {
        /// The rule, and what to ask instead.
        #[source]
        refusal: Box<Refusal>,
    },
    /// A fault of our own.
    #[error("the linked question cannot be planned")]
    Engine {
        /// What the engine says, for our own log.
        #[source]
        source: DataFusionError,
    },
}

impl From<Refusal> for LinkedError {
    fn from(refusal: Refusal) -> Self {
        let refusal = Box::new(refusal);
        Self::Refused { refusal }
    }
}

impl From<DataFusionError> for LinkedError {
    fn from(source: DataFusionError) -> Self {
        Self::Engine { source }
    }
}

impl From<ProfileError> for LinkedError {
    fn from(source: ProfileError) -> Self {
        Self::Profile { source }
    }
}

/// `query` over these members, in their order, in bytes.
pub fn encode(
    query: &LinkedQuery,
    members: &[Registered<'_>],
    state: &SessionState,
) -> Result<Vec<u8>, LinkedError> {
    let of = query.members.iter().zip(members);
    let shown: Vec<_> = of.map(|(m, r)| (*r, m.presence)).collect();
    let united = United::of(&shown)?;
    let written = query.members.iter().map(|member| wire::LinkedMember {
        product: member.product.to_string(),
        presence: to_wire(member.presence).into(),
    });
    let cells = query.cells.canonical_plan(&united.schema)?;
    let question = wire::LinkedQuestion {
        members: written.collect(),
        cells: profile::encode(&cells, state)?,
    };
    Ok(question.encode_to_vec())
}

/// The question that `bytes` are, of the products that `registered` knows by name, and the product that these make.
///
/// Believes nothing of the bytes: their size, the messages in them and the question are checked as a node checks what it
/// is asked.
pub fn decode<'a>(
    bytes: &[u8],
    registered: impl Fn(&ProductRef) -> Option<Registered<'a>>,
) -> Result<(LinkedQuery, United), LinkedError> {
    if bytes.len() > MOST {
        return Err(LinkedError::Malformed);
    }
    let question = wire::LinkedQuestion::decode(bytes).map_err(|_| LinkedError::Malformed)?;
    let (mut members, mut shown) = (Vec::new(), Vec::new());
    for member in question.members {
        let unknown = || LinkedError::Unknown {
            product: member.product.chars().take(256).collect(),
        };
        let product: ProductRef = member.product.parse().map_err(|_| unknown())?;
        let known = registered(&product).ok_or_else(unknown)?;
        let presence = from_wire(member.presence).ok_or(LinkedError::Malformed)?;
        shown.push((known, presence));
        members.push(LinkedMember { product, presence });
    }
    let united = United::of(&shown)?;
    let name = united.product.product_ref();
    let state = state_over(&name, &united.schema)?;
    let plan = profile::decode(&question.cells, &state, &FragmentLimits::default())?;
    let cells = cube::recognise(&plan, &united.product)?;
    let query = LinkedQuery { members, cells };
    query.check()?;
    Ok((query, united))
}

fn to_wire(presence: Presence) -> wire::Presence {
    match presence {
        Presence::Required => wire::Presence::Required,
        Presence::Some => wire::Presence::Some,
    }
}

fn from_wire(value: i32) -> Option<Presence> {
    match wire::Presence::try_from(value).ok()? {
        wire::Presence::Unspecified => None,
        wire::Presence::Required => Some(Presence::Required),
        wire::Presence::Some => Some(Presence::Some),
    }
}
