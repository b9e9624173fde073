//! A clean room between two councils: who may ask, what is taken in, what is put together.

mod door;
mod meeting;
mod weighing;

use crate::admit::{AdmittedPart, Door};
use crate::error::Error;
use guildhall_grant::{Grant, GrantedProduct, SigningKey, envelope};
use guildhall_identity::{CertificateAuthority, TrustStore};
use guildhall_model::{Digest, OutputClass, PeerId, Timestamp};
use guildhall_proto::authority::v1::TrustBundle;
use guildhall_proto::clean_room::v1::{Part, ReleaseRequest};
use std::time::Duration;

const COUNCILS: [&str; 2] = ["northmoor", "southmere"];
const ROOM: &str = "spiffe://northmoor/council/clean-room/main";
const GATEWAY: &str = "spiffe://northmoor/council/gateway/main";

/// A clean room and the authorities of two councils that trust each other.
struct Town {
    door: Door,
    authorities: [SigningKey; 2],
    now: Timestamp,
}

impl Town {
    fn new() -> Self {
        let now = Timestamp::from_micros(1_795_000_000_000_000);
        let authorities = [(); 2].map(|()| SigningKey::generate().unwrap());
        let bundle = |(council, key): (&&str, &SigningKey)| {
            let ca = CertificateAuthority::generate(&council.parse().unwrap(), now).unwrap();
            TrustBundle {
                council: (*council).to_owned(),
                ca_pem: vec![ca.certificate_pem().to_owned()],
                authority_keys: vec![key.public().as_bytes().to_vec()],
            }
        };
        let bundles: Vec<TrustBundle> = COUNCILS.iter().zip(&authorities).map(bundle).collect();
        let trust = TrustStore::from_bundles(&bundles).unwrap();
        Self {
            door: Door::new(ROOM.parse().unwrap(), trust, now),
            authorities,
            now,
        }
    }

    /// Leave of the `owner`-th council for a part of the cells that `fragment` asks for.
    fn grant(&self, owner: usize, fragment: &[u8]) -> Grant {
        let council = COUNCILS[owner];
        Grant {
            id: format!("g-{owner}").parse().unwrap(),
            council: council.parse().unwrap(),
            principal: guildhall_model::Principal {
                council: "northmoor".parse().unwrap(),
                name: "ana".parse().unwrap(),
            },
            purpose: "transport_planning".parse().unwrap(),
            node: format!("spiffe://{council}/parking/node/parking-1")
                .parse()
                .unwrap(),
            fragment: Digest::of(fragment),
            products: vec![GrantedProduct {
                department: "parking".parse().unwrap(),
                product: "stays".parse().unwrap(),
                version: 1,
                columns: ["vehicle", "ward"].map(|c| c.parse().unwrap()).into(),
            }],
            output: OutputClass::PartialCells,
            recipient: ROOM.parse().unwrap(),
            charge: 0,
            not_before: self.now,
            expires: self.now.after(Duration::from_secs(300)),
            query: "q-1".parse().unwrap(),
            gateway: GATEWAY.parse().unwrap(),
            linkage: None,
        }
    }

    fn part(&self, owner: usize, fragment: &[u8], change: impl FnOnce(&mut Grant)) -> Part {
        let mut grant = self.grant(owner, fragment);
        change(&mut grant);
        Part {
            grant: Some(envelope::sign(&grant, &self.authorities[owner])),
            fragment: fragment.to_vec(),
            address: "127.0.0.1:1".to_owned(),
        }
    }

    /// What becomes of these parts, brought by a gateway.
    fn enter(&self, parts: Vec<Part>) -> Result<Vec<AdmittedPart>, Error> {
        let gateway: PeerId = GATEWAY.parse().unwrap();
        self.enter_as(&gateway, parts)
    }

    fn enter_as(&self, peer: &PeerId, parts: Vec<Part>) -> Result<Vec<AdmittedPart>, Error> {
        self.enter_with(peer, parts, vec![])
    }

    /// The same, where the parts are rows that meet in the question `linked`.
    fn enter_with(
        &self,
        peer: &PeerId,
        parts: Vec<Part>,
        linked: Vec<u8>,
    ) -> Result<Vec<AdmittedPart>, Error> {
        let request = ReleaseRequest {
            linked,
            parts,
            cell_status: false,
        };
        self.door.enter(peer, request, self.now)
    }
}
