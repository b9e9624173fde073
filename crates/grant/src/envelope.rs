//! The one envelope: DSSE over protobuf, signed with Ed25519.
//!
//! A signature covers the payload's type as well as the payload, so a statement of one kind is
//! never read as another, though one key signs several kinds. What an envelope cannot say is
//! whether its signer was entitled to the statement; the keys that count are an argument.

use crate::key::{SigningKey, VerifyingKey};
use crate::wire::WireError;
use guildhall_model::Digest;
use guildhall_proto::envelope::v1 as proto;
use prost::Message;

/// The largest payload that is looked at.
pub const MAX_PAYLOAD: usize = 8 << 20;

/// The most signatures that an envelope may bear.
pub const MAX_SIGNATURES: usize = 8;

/// Why an envelope is not a statement of those who should have signed it, in the order the
/// checks run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The bytes are no envelope.
    #[error("not an envelope")]
    NotAnEnvelope {
        /// What protobuf made of it.
        #[source]
        source: prost::DecodeError,
    },
    /// Beyond [`MAX_PAYLOAD`] or [`MAX_SIGNATURES`].
    #[error(
        "the envelope is over its limits of {MAX_PAYLOAD} bytes and {MAX_SIGNATURES} signatures"
    )]
    TooLarge,
    /// A statement of another kind.
    #[error("the envelope does not hold `{expected}`")]
    WrongType {
        /// The payload type that was asked for.
        expected: &'static str,
    },
    /// No signature by any of the keys that count.
    #[error("the envelope is not signed by a key that counts here")]
    NotSigned,
    /// Signed, but the payload does not decode.
    #[error("cannot read the payload of the envelope")]
    Undecodable {
        /// What protobuf made of it.
        #[source]
        source: prost::DecodeError,
    },
    /// Signed and decoded, but a field is not what it should be.
    #[error("the statement in the envelope is not well formed")]
    IllFormed {
        /// Which field, and why.
        #[source]
        source: WireError,
    },
}

/// A thing that is said under signature.
pub trait Statement: Sized {
    /// The payload type that the signature covers.
    const PAYLOAD_TYPE: &'static str;
    /// Its form on the wire.
    type Wire: Message + Default;
    /// The wire form; the same value always gives the same bytes.
    fn to_wire(&self) -> Self::Wire;
    /// The statement, if every field is what it should be.
    fn from_wire(wire: Self::Wire) -> Result<Self, WireError>;
}

/// Signs `statement` with `key`.
#[must_use]
pub fn sign<S: Statement>(statement: &S, key: &SigningKey) -> proto::Envelope {
    let payload = statement.to_wire().encode_to_vec();
    let sig = key.sign(&pae(S::PAYLOAD_TYPE, &payload));
    proto::Envelope {
        payload_type: S::PAYLOAD_TYPE.to_owned(),
        payload,
        signatures: vec![proto::Signature {
            keyid: key.public().id(),
            sig,
        }],
    }
}

/// The statement that `envelope` holds, if one of `signers` signed it.
///
/// Nothing of the payload is looked at before a signature held.
pub fn verify<S: Statement>(
    envelope: &proto::Envelope,
    signers: &[VerifyingKey],
) -> Result<S, EnvelopeError> {
    let proto::Envelope {
        payload_type,
        payload,
        signatures,
    } = envelope;
    if payload.len() > MAX_PAYLOAD || signatures.len() > MAX_SIGNATURES {
        return Err(EnvelopeError::TooLarge);
    }
    if payload_type != S::PAYLOAD_TYPE {
        return Err(EnvelopeError::WrongType {
            expected: S::PAYLOAD_TYPE,
        });
    }
    let message = pae(payload_type, payload);
    // The key id is a hint that saves work; it decides nothing.
    let by = |key: &VerifyingKey, s: &proto::Signature| {
        (s.keyid.is_empty() || s.keyid == key.id()) && key.holds(&message, &s.sig)
    };
    if !signatures
        .iter()
        .any(|s| signers.iter().any(|key| by(key, s)))
    {
        return Err(EnvelopeError::NotSigned);
    }
    read(payload)
}

/// An envelope from its bytes; nothing in it is verified yet.
pub fn decode(bytes: &[u8]) -> Result<proto::Envelope, EnvelopeError> {
    // Room for the payload, its type, the signatures and their key ids.
    if bytes.len() > MAX_PAYLOAD + 4096 {
        return Err(EnvelopeError::TooLarge);
    }
    proto::Envelope::decode(bytes).map_err(|source| EnvelopeError::NotAnEnvelope { source })
}

/// The bytes of an envelope.
#[must_use]
pub fn encode(envelope: &proto::Envelope) -> Vec<u8> {
    envelope.encode_to_vec()
}

/// SHA-256 of the encoded envelope, by which logs and manifests refer to it.
#[must_use]
pub fn digest(envelope: &proto::Envelope) -> Digest {
    Digest::of(&envelope.encode_to_vec())
}

/// DSSE's pre-authentication encoding, version 1: what a signature covers.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    out.extend_from_slice(payload);
    out
}

/// The statement that `envelope` holds, unverified.
///
/// For who was handed it by a peer it trusts for exactly this, as a gateway is handed products
/// by its council's authority.
pub fn read_unverified<S: Statement>(envelope: &proto::Envelope) -> Result<S, EnvelopeError> {
    let proto::Envelope {
        payload_type,
        payload,
        ..
    } = envelope;
    if payload.len() > MAX_PAYLOAD {
        return Err(EnvelopeError::TooLarge);
    }
    if payload_type != S::PAYLOAD_TYPE {
        return Err(EnvelopeError::WrongType {
            expected: S::PAYLOAD_TYPE,
        });
    }
    read(payload)
}

fn read<S: Statement>(payload: &[u8]) -> Result<S, EnvelopeError> {
    let wire = S::Wire::decode(payload).map_err(|source| EnvelopeError::Undecodable { source })?;
    S::from_wire(wire).map_err(|source| EnvelopeError::IllFormed { source })
}

#[cfg(test)]
mod tests;
