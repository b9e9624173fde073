use super::*;
use crate::arbitrary::{a_grant, a_product, a_token, any_grant, any_product, any_token};
use crate::{AccessToken, Grant, product::Product};
use proptest::collection::vec;
use proptest::prelude::*;
use std::fmt::Debug;

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

#[test]
fn the_dsse_vector_holds() {
    let vector = include_str!("../../vectors/dsse/hello_world.json");
    let v: serde_json::Value = serde_json::from_str(vector).unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let bytes = |v: &serde_json::Value| hex::decode(v.as_str().unwrap()).unwrap();
    let message = pae(&text(&v["payload_type"]), text(&v["payload"]).as_bytes());
    assert_eq!(message, text(&v["pae"]).as_bytes());

    let ecdsa = &v["ecdsa_p256_sha256"];
    ring::signature::UnparsedPublicKey::new(
        &ring::signature::ECDSA_P256_SHA256_FIXED,
        bytes(&ecdsa["public_key"]),
    )
    .verify(&message, &bytes(&ecdsa["signature"]))
    .unwrap();

    let ed25519 = &v["ed25519"];
    let key = SigningKey::from_seed(&bytes(&ed25519["seed"]));
    assert_eq!(
        key.public().as_bytes().as_slice(),
        bytes(&ed25519["public_key"])
    );
    assert_eq!(key.sign(&message), bytes(&ed25519["signature"]));
}

#[test]
fn pae_counts_bytes_and_leads_with_no_zero() {
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    assert_eq!(pae("é", b"\x00\xff"), b"DSSEv1 2 \xc3\xa9 2 \x00\xff");
}

#[test]
fn a_signed_statement_reads_back() {
    let key = key();
    let envelope = sign(&a_grant(), &key);
    assert_eq!(
        verify::<Grant>(&envelope, &[key.public()]).unwrap(),
        a_grant()
    );
    assert_eq!(envelope.signatures[0].keyid, key.public().id());
}

#[test]
fn any_one_of_the_signers_will_do() {
    let (old, new) = (key(), key());
    let signers = [old.public(), new.public()];
    for key in [&old, &new] {
        verify::<Grant>(&sign(&a_grant(), key), &signers).unwrap();
    }
}

#[test]
fn no_other_key_will_do() {
    let (theirs, ours) = (key(), key());
    let mut envelope = sign(&a_grant(), &theirs);
    let refused = |e: &proto::Envelope, signers: &[VerifyingKey]| {
        assert_eq!(verify::<Grant>(e, signers), Err(EnvelopeError::NotSigned));
    };
    refused(&envelope, &[ours.public()]);
    refused(&envelope, &[]);
    envelope.signatures[0].keyid = ours.public().id();
    refused(&envelope, &[ours.public()]);
    envelope.signatures[0].keyid = String::new();
    refused(&envelope, &[ours.public()]);
    envelope.signatures.clear();
    refused(&envelope, &[theirs.public()]);
}

#[test]
fn the_key_id_is_a_hint_and_may_be_absent() {
    let key = key();
    let mut envelope = sign(&a_grant(), &key);
    envelope.signatures[0].keyid = String::new();
    verify::<Grant>(&envelope, &[key.public()]).unwrap();
}

#[test]
fn another_signature_beside_the_right_one_does_no_harm() {
    let (ours, theirs) = (key(), key());
    let mut envelope = sign(&a_grant(), &ours);
    envelope
        .signatures
        .insert(0, sign(&a_grant(), &theirs).signatures[0].clone());
    envelope.signatures.insert(0, proto::Signature::default());
    verify::<Grant>(&envelope, &[ours.public()]).unwrap();
}

#[test]
fn a_token_is_no_grant_though_one_key_signs_both() {
    let key = key();
    let mut envelope = sign(&a_token(), &key);
    let expected = Grant::PAYLOAD_TYPE;
    assert_eq!(
        verify::<Grant>(&envelope, &[key.public()]),
        Err(EnvelopeError::WrongType { expected })
    );
    // Relabelled, it is no longer signed: the signature covers the type.
    envelope.payload_type = expected.to_owned();
    assert_eq!(
        verify::<Grant>(&envelope, &[key.public()]),
        Err(EnvelopeError::NotSigned)
    );
}

#[test]
fn payload_types_are_all_different() {
    let types = [
        Grant::PAYLOAD_TYPE,
        AccessToken::PAYLOAD_TYPE,
        Product::PAYLOAD_TYPE,
    ];
    let set: std::collections::BTreeSet<_> = types.into_iter().collect();
    assert_eq!(set.len(), types.len());
}

#[test]
fn an_envelope_over_its_limits_is_not_looked_at() {
    let key = key();
    let mut many = sign(&a_grant(), &key);
    many.signatures = vec![many.signatures[0].clone(); MAX_SIGNATURES + 1];
    assert_eq!(
        verify::<Grant>(&many, &[key.public()]),
        Err(EnvelopeError::TooLarge)
    );
    let mut large = sign(&a_grant(), &key);
    large.payload = vec![0; MAX_PAYLOAD + 1];
    assert_eq!(
        verify::<Grant>(&large, &[key.public()]),
        Err(EnvelopeError::TooLarge)
    );
    assert_eq!(
        read_unverified::<Grant>(&large),
        Err(EnvelopeError::TooLarge)
    );
    assert_eq!(
        decode(&vec![0; MAX_PAYLOAD + 4097]),
        Err(EnvelopeError::TooLarge)
    );
}

#[test]
fn reading_unverified_still_minds_the_type() {
    let envelope = sign(&a_product(), &key());
    assert_eq!(read_unverified::<Product>(&envelope).unwrap(), a_product());
    assert!(matches!(
        read_unverified::<Grant>(&envelope),
        Err(EnvelopeError::WrongType { .. })
    ));
}

/// Signs any bytes as the payload of an `S`, as a faulty or hostile signer would.
fn signed_bytes<S: Statement>(payload: Vec<u8>, key: &SigningKey) -> proto::Envelope {
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

/// A statement goes through its bytes unchanged, and always to the same bytes.
fn goes_through<S: Statement + PartialEq + Debug>(statement: &S) {
    let key = key();
    let envelope = sign(statement, &key);
    let bytes = encode(&envelope);
    assert_eq!(digest(&envelope), Digest::of(&bytes));
    let again: S = verify(&decode(&bytes).unwrap(), &[key.public()]).unwrap();
    assert_eq!(&again, statement);
    assert_eq!(sign(&again, &key), envelope);
}

/// Whatever is decoded at all is a statement that goes through its bytes.
fn decodes_or_refuses<S: Statement + PartialEq + Debug>(payload: Vec<u8>, key: &SigningKey) {
    let envelope = signed_bytes::<S>(payload, key);
    if let Ok(statement) = verify::<S>(&envelope, &[key.public()]) {
        goes_through(&statement);
    }
}

fn altered(mut bytes: Vec<u8>, changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    for (at, to) in changes {
        let at = at % bytes.len();
        bytes[at] ^= to;
    }
    let keep = bytes.len() - cut.min(bytes.len());
    bytes.truncate(keep);
    bytes
}

proptest! {
    #[test]
    fn every_grant_goes_through(grant in any_grant()) {
        goes_through(&grant);
    }

    #[test]
    fn every_token_goes_through(token in any_token()) {
        goes_through(&token);
    }

    #[test]
    fn every_product_goes_through(product in any_product()) {
        goes_through(&product);
    }

    #[test]
    fn different_type_or_payload_gives_different_pae(
        a in "[ -~]{0,6}", b in vec(any::<u8>(), 0..6),
        c in "[ -~]{0,6}", d in vec(any::<u8>(), 0..6),
    ) {
        prop_assert_eq!(pae(&a, &b) == pae(&c, &d), a == c && b == d);
    }

    #[test]
    fn random_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        let key = key();
        decodes_or_refuses::<Grant>(bytes.clone(), &key);
        decodes_or_refuses::<AccessToken>(bytes.clone(), &key);
        decodes_or_refuses::<Product>(bytes.clone(), &key);
        if let Ok(envelope) = decode(&bytes) {
            prop_assert!(verify::<Grant>(&envelope, &[key.public()]).is_err());
        }
    }

    #[test]
    fn altered_payloads_are_decoded_or_refused(
        changes in vec((any::<usize>(), any::<u8>()), 1..6),
        cut in prop_oneof![Just(0usize), 0usize..50],
    ) {
        let key = key();
        let of = |payload: Vec<u8>| altered(payload, &changes, cut);
        decodes_or_refuses::<Grant>(of(a_grant().to_wire().encode_to_vec()), &key);
        decodes_or_refuses::<AccessToken>(of(a_token().to_wire().encode_to_vec()), &key);
        decodes_or_refuses::<Product>(of(a_product().to_wire().encode_to_vec()), &key);
    }

    #[test]
    fn an_altered_envelope_says_the_same_or_nothing(
        changes in vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let key = key();
        let bytes = altered(encode(&sign(&a_grant(), &key)), &changes, 0);
        if let Ok(grant) = decode(&bytes).and_then(|e| verify::<Grant>(&e, &[key.public()])) {
            prop_assert_eq!(grant, a_grant());
        }
    }
}

#[test]
fn no_single_bit_of_a_payload_can_be_flipped() {
    let key = key();
    let envelope = sign(&a_grant(), &key);
    for bit in 0..envelope.payload.len() * 8 {
        let mut forged = envelope.clone();
        forged.payload[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            verify::<Grant>(&forged, &[key.public()]),
            Err(EnvelopeError::NotSigned)
        );
    }
}

#[test]
fn no_single_bit_of_a_signature_can_be_flipped() {
    let key = key();
    let envelope = sign(&a_grant(), &key);
    for bit in 0..512 {
        let mut forged = envelope.clone();
        forged.signatures[0].sig[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            verify::<Grant>(&forged, &[key.public()]),
            Err(EnvelopeError::NotSigned)
        );
    }
}
