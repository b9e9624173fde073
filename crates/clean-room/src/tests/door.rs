//! Which grants let a question in.

use super::{COUNCILS, GATEWAY, ROOM, Town};
use crate::error::Error;
use guildhall_grant::{Grant, SigningKey, envelope};
use guildhall_model::OutputClass;
use guildhall_proto::clean_room::v1::Part;
use std::time::Duration;
use tonic::Code;

const ASKED: &[u8] = b"a question";

fn both(town: &Town) -> Vec<Part> {
    vec![town.part(1, ASKED, |_| {}), town.part(0, ASKED, |_| {})]
}

#[test]
fn parts_are_let_in_in_the_order_of_their_products_and_their_grants_used_once() {
    let town = Town::new();
    let parts = town.enter(both(&town)).unwrap();
    let councils: Vec<&str> = parts.iter().map(|p| p.product.council.as_str()).collect();
    assert_eq!(councils, COUNCILS);
    let again = town.enter(both(&town)).unwrap_err();
    assert!(matches!(again, Error::Grant { .. }), "{again}");
}

#[test]
fn what_is_refused_for_one_part_uses_up_no_grant_of_another() {
    let town = Town::new();
    let forged = town.part(1, ASKED, |g| g.query = "q-2".parse().unwrap());
    let refused = town.enter(vec![town.part(0, ASKED, |_| {}), forged]);
    assert!(matches!(refused, Err(Error::Unlike { .. })));
    town.enter(both(&town)).unwrap();
}

/// What is said of a question whose second grant is changed before it is signed.
fn refused(change: impl FnOnce(&mut Grant)) -> (Code, String) {
    let town = Town::new();
    let parts = vec![town.part(0, ASKED, |_| {}), town.part(1, ASKED, change)];
    let error = town.enter(parts).unwrap_err();
    (error.status().code(), error.status().message().to_owned())
}

#[test]
fn a_grant_is_for_this_room_this_gateway_and_a_part_of_cells_of_one_product() {
    let elsewhere = ROOM.replace("main", "other");
    let (code, said) = refused(|g| g.recipient = elsewhere.parse().unwrap());
    assert_eq!(code, Code::PermissionDenied, "{said}");
    let (code, said) = refused(|g| g.gateway = GATEWAY.replace("main", "gw-2").parse().unwrap());
    assert_eq!(code, Code::PermissionDenied, "{said}");
    for output in [OutputClass::ReleasedCells, OutputClass::OpenRows] {
        assert_eq!(refused(|g| g.output = output).0, Code::InvalidArgument);
    }
    assert_eq!(refused(|g| g.products.clear()).0, Code::InvalidArgument);
    let twice = |g: &mut Grant| {
        let mut other = g.products[0].clone();
        other.product = "permits".parse().unwrap();
        g.products.push(other);
    };
    assert_eq!(refused(twice).0, Code::InvalidArgument);
    // The node is the product's own department's.
    let other = |g: &mut Grant| g.node = "spiffe://southmere/housing/node/n-1".parse().unwrap();
    assert_eq!(refused(other).0, Code::InvalidArgument);
}

#[test]
fn the_grants_are_of_one_question() {
    for (what, change) in [
        (
            "the query",
            (|g| g.query = "q-2".parse().unwrap()) as fn(&mut Grant),
        ),
        ("the purpose", |g| {
            g.purpose = "development".parse().unwrap()
        }),
        ("the principal", |g| {
            g.principal.name = "bob".parse().unwrap()
        }),
    ] {
        let (code, said) = refused(change);
        assert_eq!(code, Code::InvalidArgument);
        assert!(said.contains(what), "{said}");
    }
    let town = Town::new();
    let again = town.part(0, ASKED, |g| g.id = "g-9".parse().unwrap());
    let twice = town.enter(vec![town.part(0, ASKED, |_| {}), again]);
    assert!(matches!(twice, Err(Error::Unlike { .. })));
}

#[test]
fn a_grant_is_of_its_nodes_council_of_now_and_for_this_fragment() {
    let town = Town::new();
    let with = |part: Part| {
        let refused = town.enter(vec![town.part(0, ASKED, |_| {}), part]);
        matches!(refused, Err(Error::Grant { .. } | Error::Missing { .. }))
    };
    let grant = town.grant(1, ASKED);
    let signed_by = |key: &SigningKey| Part {
        grant: Some(envelope::sign(&grant, key)),
        fragment: ASKED.to_vec(),
        address: String::new(),
    };
    // By the neighbour's authority, by nobody's, by none.
    assert!(with(signed_by(&town.authorities[0])));
    assert!(with(signed_by(&SigningKey::generate().unwrap())));
    assert!(with(Part {
        grant: None,
        ..signed_by(&town.authorities[1])
    }));
    assert!(with(Part {
        fragment: b"another question".to_vec(),
        ..signed_by(&town.authorities[1])
    }));
    let day = Duration::from_secs(86_400);
    assert!(with(town.part(1, ASKED, |g| {
        g.not_before = g.not_before.after(day);
        g.expires = g.expires.after(day);
    })));
    town.enter(both(&town)).unwrap();
}

#[test]
fn one_owner_or_very_many_are_no_joint_question_and_only_gateways_ask() {
    let town = Town::new();
    let one = town.enter(vec![town.part(0, ASKED, |_| {})]);
    assert!(matches!(one, Err(Error::Parts { parts: 1 })));
    let many = (0..65).map(|_| town.part(0, ASKED, |_| {})).collect();
    assert!(matches!(town.enter(many), Err(Error::Parts { parts: 65 })));
    for peer in [ROOM, "spiffe://northmoor/parking/node/parking-1"] {
        let refused = town
            .enter_as(&peer.parse().unwrap(), both(&town))
            .unwrap_err();
        assert_eq!(refused.status().code(), Code::PermissionDenied);
    }
}
