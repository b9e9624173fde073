//! The council's age identities: its root, one per dataset, and the one function that unwraps a
//! column key. Linked by the authority alone.
//!
//! Promises: a root identity is read only from a file that nobody else may read; a dataset's
//! identity is stored only as a ciphertext to the root; [`unwrap`] is the only way from a
//! wrapped key to a column key, and gives it only under the name it was asked for.
//!
//! Does not promise: that a caller of [`unwrap`] was entitled to the key. The authority holds a
//! grant against the request first.

#![warn(missing_docs)]

mod dataset;
mod root;

pub use dataset::{DatasetIdentity, MAX_WRAPPED, SealedIdentityError, UnwrapError, unwrap};
pub use root::{RootError, RootIdentity, RootRecipients};
