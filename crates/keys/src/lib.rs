//! Data keys: column keys, the file keys derived from them, and the age encryption that wraps
//! them on their way to a council and lends them back.
//!
//! Promises: a key is wiped from memory when it is dropped, and no `Debug`, `Display` or error
//! here prints one. A wrapped key names its dataset, column and period inside the ciphertext, so
//! it cannot be passed off as another.
//!
//! Does not promise: that copies inside the cipher libraries are wiped, nor anything against
//! who reads this process's memory. There is no age identity of a council here and no way to
//! unwrap a wrapped key; that is the keyring's, at the authority alone.

#![warn(missing_docs)]

mod column_key;
mod file_key;
mod name;
mod payload;
mod seal;
mod set;

pub use column_key::{ColumnKey, KeyError};
pub use file_key::{FILE_KEY_BYTES, file_key};
pub use name::KeyName;
pub use payload::{PayloadError, UnwrappedKey, WrappedPayload, wrap};
pub use seal::{
    EphemeralIdentity, MAX_SEALED, OpenError, Recipient, RecipientError, SealError, open_with,
    seal, seal_to_all,
};
pub use set::ColumnKeys;
