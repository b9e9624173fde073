//! The statements that are signed: grants, access tokens, products, and the envelope they
//! travel in.
//!
//! Promises: a [`VerifiedGrant`], [`VerifiedToken`] or verified statement exists only after its
//! signature held, and no field is believed before that. Everything here is values in, values
//! out: no clock, no disk, no network.
//!
//! Does not promise: that a signer deserved trust (the caller says whose keys count), that a
//! product is wise, or that a grant was issued under a sound policy.

#![warn(missing_docs)]

mod assignment;
pub mod envelope;
mod grant;
mod key;
pub mod product;
mod replay;
pub mod token;
mod wire;

pub use assignment::Assignment;
pub use envelope::{EnvelopeError, Statement};
pub use grant::wire::{output_from_wire, output_to_wire, principal_from_wire, principal_to_wire};
pub use grant::{
    CLOCK_SKEW, Grant, GrantCheck, GrantError, GrantedProduct, Linkage, VerifiedGrant, verify,
};
pub use key::{KeyError, SigningKey, VerifyingKey};
pub use replay::ReplayGuard;
pub use token::{AccessToken, TokenCheck, TokenError, VerifiedToken};
pub use wire::WireError;

#[cfg(test)]
mod arbitrary;
