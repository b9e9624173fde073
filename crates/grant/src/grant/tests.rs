use super::*;
use crate::arbitrary::{LIFE, a_grant, n, start};
use crate::envelope::sign;
use crate::{SigningKey, Statement, WireError};
use guildhall_model::Digest;
use guildhall_proto::grant::v1 as grant_proto;
use prost::Message;

/// The check that [`a_grant`] passes, owned.
struct At {
    council: CouncilName,
    node: PeerId,
    fragment: Digest,
    recipient: Option<PeerId>,
    now: Timestamp,
}

fn right() -> At {
    let Grant {
        council,
        node,
        fragment,
        recipient,
        ..
    } = a_grant();
    At {
        council,
        node,
        fragment,
        recipient: Some(recipient),
        now: start(),
    }
}

fn present(grant: &Grant, at: &At) -> Result<VerifiedGrant, GrantError> {
    let key = SigningKey::generate().unwrap();
    let At {
        council,
        node,
        fragment,
        recipient,
        now,
    } = at;
    let recipient = recipient.as_ref();
    let check = GrantCheck {
        council,
        node,
        fragment,
        recipient,
        now: *now,
    };
    verify(&sign(grant, &key), &[key.public()], &check)
}

#[test]
fn the_right_grant_is_verified() {
    assert_eq!(*present(&a_grant(), &right()).unwrap(), a_grant());
}

#[test]
fn each_check_turns_its_own_grant_away() {
    let other = Digest::of(b"another fragment");
    let cases: [(&str, At); 6] = [
        (
            "WrongCouncil",
            At {
                council: n("southmoor"),
                ..right()
            },
        ),
        (
            "NotYet",
            At {
                now: start().before(CLOCK_SKEW).before(Duration::from_micros(1)),
                ..right()
            },
        ),
        (
            "Expired",
            At {
                now: start().after(LIFE).after(CLOCK_SKEW),
                ..right()
            },
        ),
        (
            "WrongNode",
            At {
                node: n("spiffe://northmoor/parking/node/parking-2"),
                ..right()
            },
        ),
        (
            "WrongFragment",
            At {
                fragment: other,
                ..right()
            },
        ),
        (
            "WrongRecipient",
            At {
                recipient: Some(n("spiffe://northmoor/council/gateway/gw-2")),
                ..right()
            },
        ),
    ];
    for (name, at) in cases {
        let error = present(&a_grant(), &at).unwrap_err();
        assert!(format!("{error:?}").starts_with(name), "{name}: {error:?}");
    }
}

#[test]
fn each_part_of_a_peer_s_name_counts() {
    for node in [
        "spiffe://southmoor/parking/node/parking-1",
        "spiffe://northmoor/highways/node/parking-1",
        "spiffe://northmoor/parking/gateway/parking-1",
        "spiffe://northmoor/parking/node/parking-10",
    ] {
        let error = present(
            &a_grant(),
            &At {
                node: n(node),
                ..right()
            },
        )
        .unwrap_err();
        assert!(
            matches!(error, GrantError::WrongNode { .. }),
            "{node}: {error}"
        );
    }
}

#[test]
fn the_checks_run_in_the_order_of_the_errors() {
    // Everything is wrong at first; each step mends what was complained of.
    let mut at = At {
        council: n("southmoor"),
        node: n("spiffe://northmoor/parking/node/parking-2"),
        fragment: Digest::of(b"another fragment"),
        recipient: Some(n("spiffe://northmoor/council/gateway/gw-2")),
        now: Timestamp::from_micros(0),
    };
    let mut seen = Vec::new();
    loop {
        let error = match present(&a_grant(), &at) {
            Ok(_) => break,
            Err(error) => error,
        };
        let name = format!("{error:?}");
        seen.push(name.split([' ', '{']).next().unwrap().to_owned());
        match error {
            GrantError::WrongCouncil { .. } => at.council = right().council,
            GrantError::NotYet { .. } => at.now = start().after(LIFE * 3),
            GrantError::Expired { .. } => at.now = right().now,
            GrantError::WrongNode { .. } => at.node = right().node,
            GrantError::WrongFragment { .. } => at.fragment = right().fragment,
            GrantError::WrongRecipient { .. } => at.recipient = right().recipient,
            other => panic!("{other}"),
        }
    }
    assert_eq!(
        seen,
        [
            "WrongCouncil",
            "NotYet",
            "Expired",
            "WrongNode",
            "WrongFragment",
            "WrongRecipient"
        ]
    );
}

#[test]
fn the_signature_is_checked_before_any_other_field() {
    let At {
        council,
        node,
        fragment,
        ..
    } = right();
    let check = GrantCheck {
        council: &council,
        node: &node,
        fragment: &fragment,
        recipient: None,
        now: Timestamp::from_micros(0),
    };
    let key = SigningKey::generate().unwrap();
    let envelope = sign(&a_grant(), &SigningKey::generate().unwrap());
    let error = verify(&envelope, &[key.public()], &check).unwrap_err();
    assert_eq!(
        error,
        GrantError::NotStated {
            council: council.clone(),
            source: EnvelopeError::NotSigned
        }
    );
}

#[test]
fn clocks_may_differ_by_the_skew_and_no_more() {
    let tick = Duration::from_micros(1);
    let end = start().after(LIFE).after(CLOCK_SKEW);
    let first = start().before(CLOCK_SKEW);
    for (now, counts) in [
        (first.before(tick), false),
        (first, true),
        (start(), true),
        (start().after(LIFE), true),
        (end.before(tick), true),
        (end, false),
    ] {
        assert_eq!(
            present(&a_grant(), &At { now, ..right() }).is_ok(),
            counts,
            "{now}"
        );
    }
}

#[test]
fn who_asks_for_no_result_needs_not_be_the_recipient() {
    present(
        &a_grant(),
        &At {
            recipient: None,
            ..right()
        },
    )
    .unwrap();
}

#[test]
fn times_at_the_ends_of_time_neither_wrap_nor_panic() {
    let ends = [
        Timestamp::from_micros(i64::MIN),
        Timestamp::from_micros(i64::MAX),
    ];
    let forever = Grant {
        not_before: ends[0],
        expires: ends[1],
        ..a_grant()
    };
    assert!(
        present(
            &forever,
            &At {
                now: ends[0],
                ..right()
            }
        )
        .is_ok()
    );
    for now in ends {
        assert!(present(&a_grant(), &At { now, ..right() }).is_err());
    }
}

/// What a change to the wire form of [`a_grant`] makes of it.
fn changed(change: impl FnOnce(&mut grant_proto::Grant)) -> Result<Grant, WireError> {
    let mut wire = a_grant().to_wire();
    change(&mut wire);
    Grant::from_wire(wire)
}

#[test]
fn every_field_is_needed_and_named_when_it_is_wrong() {
    type Change = fn(&mut grant_proto::Grant);
    let cases: [(&str, Change); 20] = [
        ("id", |w| w.id.clear()),
        ("council", |w| w.council = "North Moor".into()),
        ("principal", |w| w.principal = None),
        ("principal.council", |w| {
            w.principal.as_mut().unwrap().council.clear()
        }),
        ("principal.name", |w| {
            w.principal.as_mut().unwrap().name = "a b".into()
        }),
        ("purpose", |w| w.purpose.clear()),
        ("node", |w| w.node = "parking-1".into()),
        ("fragment_digest", |w| w.fragment_digest.truncate(31)),
        ("fragment_digest", |w| w.fragment_digest.push(0)),
        ("products.department", |w| w.products[0].department.clear()),
        ("products.product", |w| w.products[0].product = "a;b".into()),
        ("products.columns", |w| w.products[0].columns[0].clear()),
        ("output_class", |w| w.output_class = 0),
        ("output_class", |w| w.output_class = 5),
        ("linkage", |w| w.output_class = 4),
        ("linkage", |w| {
            w.linkage = Some(grant_proto::Linkage::default());
            w.linkage.as_mut().unwrap().id = "l-1".into();
            w.linkage.as_mut().unwrap().question_digest = vec![1; 32];
        }),
        ("recipient", |w| w.recipient.clear()),
        ("expires", |w| w.expires_us = w.not_before_us),
        ("query_id", |w| w.query_id.clear()),
        ("gateway", |w| w.gateway.clear()),
    ];
    for (field, change) in cases {
        let error = changed(change).unwrap_err();
        assert!(
            error.to_string().contains(&format!("`{field}`")),
            "{field}: {error}"
        );
    }
}

#[test]
fn nothing_is_granted_twice() {
    let error = changed(|w| w.products.push(w.products[0].clone())).unwrap_err();
    assert_eq!(
        error,
        WireError::Twice {
            field: "products",
            name: "parking.sessions".into()
        }
    );
    let error = changed(|w| w.products[0].columns.push("ward".into())).unwrap_err();
    assert_eq!(
        error,
        WireError::Twice {
            field: "products.columns",
            name: "ward".into()
        }
    );
}

#[test]
fn every_field_is_under_the_signature() {
    type Change = fn(&mut grant_proto::Grant);
    let cases: [(&str, Change); 16] = [
        ("id", |w| w.id.push('x')),
        ("council", |w| w.council = "southmoor".into()),
        ("principal council", |w| {
            w.principal.as_mut().unwrap().council = "southmoor".into()
        }),
        ("principal name", |w| {
            w.principal.as_mut().unwrap().name = "bob".into()
        }),
        ("purpose", |w| w.purpose = "development".into()),
        ("node", |w| w.node.push('0')),
        ("fragment", |w| w.fragment_digest[0] ^= 1),
        ("product department", |w| {
            w.products[0].department = "highways".into()
        }),
        ("product", |w| w.products[0].product = "permits".into()),
        ("product version", |w| w.products[0].version += 1),
        ("one column more", |w| {
            w.products[0].columns.push("vehicle".into())
        }),
        ("output", |w| w.output_class = 2),
        ("recipient", |w| w.recipient.push('0')),
        ("charge", |w| w.budget_charge += 1),
        ("not before", |w| w.not_before_us -= 1),
        ("expires", |w| w.expires_us += 1),
    ];
    let key = SigningKey::generate().unwrap();
    let honest = sign(&a_grant(), &key);
    for (field, change) in cases {
        let mut wire = a_grant().to_wire();
        change(&mut wire);
        let mut forged = honest.clone();
        forged.payload = wire.encode_to_vec();
        assert_ne!(forged.payload, honest.payload, "{field}");
        let error = envelope::verify::<Grant>(&forged, &[key.public()]).unwrap_err();
        assert_eq!(error, EnvelopeError::NotSigned, "{field}");
    }
}

#[test]
fn a_product_of_another_council_is_not_in_the_grant() {
    let grant = a_grant();
    let mine = ProductRef {
        council: n("northmoor"),
        department: n("parking"),
        product: n("sessions"),
    };
    assert_eq!(grant.product(&mine).unwrap().version, 3);
    assert!(grant.product_refs().eq([mine.clone()]));
    for other in [
        ProductRef {
            council: n("southmoor"),
            ..mine.clone()
        },
        ProductRef {
            department: n("highways"),
            ..mine.clone()
        },
        ProductRef {
            product: n("permits"),
            ..mine
        },
    ] {
        assert_eq!(grant.product(&other), None);
    }
}

#[test]
fn an_expired_grant_is_no_attempt_and_says_what_to_do() {
    let error = present(
        &a_grant(),
        &At {
            now: start().after(LIFE * 2),
            ..right()
        },
    )
    .unwrap_err();
    assert!(!error.is_attempt());
    assert_eq!(
        error.to_string(),
        "grant `g-7Q2M` expired at 2026-11-22T10:35:00Z"
    );
    assert!(error.help().unwrap().contains("ask again"));
    let foreign = At {
        fragment: Digest::of(b""),
        ..right()
    };
    assert!(present(&a_grant(), &foreign).unwrap_err().is_attempt());
}
