//! The closed profile of Substrait that fragments are written in.
//!
//! [`encode`] writes an optimised plan and refuses what the format would lose on the way.
//! [`decode`] is a node's reading of bytes it does not trust: size, depth, a walk over the message
//! itself, the engine's consumer with every index checked, and a walk over the plan that came
//! out. A relation, expression, function or type that is not on a list is refused.
//!
//! What it does not decide: whether a grant covers the reads ([`reads`] says what they are), nor
//! whether the result may leave.

mod consume;
mod message;
mod not_in;
mod plan;
mod produce;
mod reads;
pub mod types;

pub use consume::decode;
pub use plan::{Stage, check};
pub use produce::encode;
pub use reads::{ProductRead, product_of, reads};

use guildhall_model::ProductRef;
use std::collections::BTreeSet;

/// How large a fragment may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Bytes of the encoded fragment.
    pub max_bytes: usize,
    /// Relations, expressions and types of it, values of `IN` lists aside.
    pub max_nodes: usize,
    /// Values in `IN` lists, all of them together.
    pub max_list_values: usize,
    /// Rows of literal tables, all of them together.
    pub max_literal_rows: usize,
}

impl Default for FragmentLimits {
    fn default() -> Self {
        Self {
            max_bytes: 4 << 20,
            max_nodes: 20_000,
            max_list_values: 131_072,
            max_literal_rows: 1_000,
        }
    }
}

/// Why a fragment is not written or not read, in the order the checks run.
///
/// No text here holds a literal of the statement; product, column and function names may appear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Longer than a fragment may be.
    #[error("the fragment has {bytes} bytes; {limit} is the most")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// Not a Substrait plan, or nested deeper than one may be.
    #[error("the fragment is not a Substrait plan, or nested too deeply")]
    Malformed,
    /// More of something than a fragment may have.
    #[error("the fragment has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most.
        limit: usize,
    },
    /// A part that a fragment cannot have.
    #[error("{what} is not part of the fragment profile")]
    NotInProfile {
        /// What it is, in the format's own words.
        what: String,
    },
    /// A function that is not on the list, or not with these arguments.
    #[error("the fragment calls a function that it may not")]
    Function(#[from] crate::functions::FunctionError),
    /// A table that is not named `council.department.product`.
    #[error("a fragment reads products by their full name only")]
    NotAProduct,
    /// A product that is not in the catalogue at hand.
    #[error("no product `{product}`")]
    NoSuchProduct {
        /// Its name.
        product: ProductRef,
    },
    /// The engine could not read or write it; its own words may hold literals and are dropped.
    #[error("the fragment cannot be {doing}: {kind}")]
    Engine {
        /// `written` or `read`.
        doing: &'static str,
        /// The engine's class of error.
        kind: &'static str,
    },
}

impl ProfileError {
    pub(crate) fn not_in_profile(what: impl Into<String>) -> Self {
        Self::NotInProfile { what: what.into() }
    }
}

/// `name`, or if it is taken, `name` with the least number from 2 that makes it new.
pub(crate) fn unused(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut n = 1_usize;
    while !taken.insert(candidate.clone()) {
        n = n.saturating_add(1);
        candidate = format!("{name}:{n}");
    }
    candidate
}

#[cfg(test)]
pub(crate) mod tests;
