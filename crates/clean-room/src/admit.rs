//! Whether a question may be answered here at all, before any node is asked: the grants of its parts.

use crate::error::Error;
use guildhall_grant::{
    Grant, GrantCheck, GrantError, GrantedProduct, ReplayGuard, Statement as _, VerifiedGrant,
    VerifyingKey, verify,
};
use guildhall_identity::TrustStore;
use guildhall_model::{Digest, OutputClass, PeerId, ProductRef, Role, Timestamp};
use guildhall_proto::clean_room::v1::{Part, ReleaseRequest};
use guildhall_proto::envelope::v1::Envelope;
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The fewest and the most owners of one cell.
const OWNERS: std::ops::RangeInclusive<usize> = 2..=64;

/// A part whose grant holds, here and now, for the first time.
///
/// Only [`Door::enter`] makes one.
#[derive(Debug)]
pub(crate) struct AdmittedPart {
    grant: VerifiedGrant,
    pub(crate) envelope: Envelope,
    pub(crate) fragment: Vec<u8>,
    pub(crate) address: String,
    pub(crate) product: ProductRef,
}

impl AdmittedPart {
    /// The node that the grant is for.
    pub(crate) fn node(&self) -> &PeerId {
        &self.grant.node
    }

    /// What of its one product may be read.
    pub(crate) fn granted(&self) -> Option<&GrantedProduct> {
        self.grant.products.first()
    }
}

/// Who stands here, and which grants were used.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) own: PeerId,
    pub(crate) trust: TrustStore,
    used: Mutex<ReplayGuard>,
}

impl Door {
    /// The door of the clean room `own`, which remembers nothing of grants from before `now`.
    pub(crate) fn new(own: PeerId, trust: TrustStore, now: Timestamp) -> Self {
        Self {
            own,
            trust,
            used: Mutex::new(ReplayGuard::after_restart(now)),
        }
    }

    /// The parts of a question that `gateway` brings, in the order of their products: parts of the same cells, or rows that
    /// meet, if the request says in what question.
    ///
    /// Each grant is signed by the authority of its node's council, names this clean room and that gateway, and is used
    /// once; all are of one query of one principal for one purpose, and no product comes twice.
    pub(crate) fn enter(
        &self,
        gateway: &PeerId,
        request: ReleaseRequest,
        now: Timestamp,
    ) -> Result<Vec<AdmittedPart>, Error> {
        if gateway.role != Role::Gateway {
            let role = gateway.role;
            return Err(Error::Role { role });
        }
        let linked = (!request.linked.is_empty()).then(|| Digest::of(&request.linked));
        let parts = request.parts.len();
        if !OWNERS.contains(&parts) {
            return Err(Error::Parts { parts });
        }
        let admitted = request
            .parts
            .into_iter()
            .map(|p| self.part(gateway, p, linked.as_ref(), now));
        let mut admitted = admitted.collect::<Result<Vec<_>, _>>()?;
        one_question(&admitted)?;
        self.one_linkage(&admitted)?;
        admitted.sort_by(|a, b| a.product.cmp(&b.product));
        // Last, so that what is refused for another part uses up no grant.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        for part in &admitted {
            let fresh = used.admit(&part.grant, now);
            fresh.map_err(grant)?;
        }
        Ok(admitted)
    }

    fn part(
        &self,
        gateway: &PeerId,
        part: Part,
        linked: Option<&Digest>,
        now: Timestamp,
    ) -> Result<AdmittedPart, Error> {
        let envelope = part.grant.ok_or(Error::Missing { field: "grant" })?;
        let said = said(&envelope).ok_or(Error::Missing { field: "grant" })?;
        let signers: Vec<VerifyingKey> = self
            .trust
            .authority_keys(&said.council)
            .iter()
            .filter_map(|key| VerifyingKey::from_bytes(key).ok())
            .collect();
        let check = GrantCheck {
            council: &said.council,
            node: &said.node,
            fragment: &Digest::of(&part.fragment),
            recipient: Some(&self.own),
            now,
        };
        let grant = verify(&envelope, &signers, &check).map_err(grant)?;
        if grant.gateway != *gateway {
            return Err(Error::Gateway {
                granted: Box::new(grant.gateway.clone()),
                presented: Box::new(gateway.clone()),
            });
        }
        let mut products = grant.product_refs();
        let (Some(product), None) = (products.next(), products.next()) else {
            return Err(Error::NotPart);
        };
        let of_node = grant.node.role == Role::Node
            && grant.node.council == grant.council
            && grant.node.department == product.department;
        // Invariant: rows meet in the question that their grants name, and in no other.
        let fits = match (grant.output, &grant.linkage) {
            (OutputClass::PartialCells, None) => linked.is_none(),
            (OutputClass::TokenisedRows, Some(linkage)) => linked == Some(&linkage.question),
            _ => false,
        };
        if !fits || !of_node {
            return Err(Error::NotPart);
        }
        drop(products);
        Ok(AdmittedPart {
            grant,
            envelope,
            fragment: part.fragment,
            address: part.address,
            product,
        })
    }
}

impl Door {
    /// Rows that meet are of one linkage, all of its products are there, and its council is ours.
    fn one_linkage(&self, parts: &[AdmittedPart]) -> Result<(), Error> {
        let Some(linkage) = parts.first().and_then(|p| p.grant.linkage.as_ref()) else {
            return Ok(());
        };
        let products: BTreeSet<_> = parts.iter().map(|p| p.product.clone()).collect();
        let council = |p: &AdmittedPart| p.grant.council == self.own.council;
        let same = |p: &AdmittedPart| p.grant.linkage.as_ref() == Some(linkage);
        match parts.iter().all(|p| same(p) && council(p)) && products == linkage.products {
            true => Ok(()),
            false => Err(Error::Unlike {
                what: "whose rows meet",
            }),
        }
    }
}

fn grant(source: GrantError) -> Error {
    let source = Box::new(source);
    Error::Grant { source }
}

/// What an envelope says it is, of which nothing is believed but whose signature to look for.
fn said(envelope: &Envelope) -> Option<Grant> {
    let wire = guildhall_proto::grant::v1::Grant::decode(envelope.payload.as_slice()).ok()?;
    Grant::from_wire(wire).ok()
}

fn one_question(parts: &[AdmittedPart]) -> Result<(), Error> {
    let mut products = BTreeSet::new();
    let Some(first) = parts.first().map(|p| &p.grant) else {
        return Ok(());
    };
    for part in parts {
        let grant = &part.grant;
        let differs = [
            ("the principal", grant.principal != first.principal),
            ("the purpose", grant.purpose != first.purpose),
            ("the query", grant.query != first.query),
            (
                "a product, which comes twice",
                !products.insert(&part.product),
            ),
        ];
        if let Some((what, _)) = differs.iter().find(|(_, differs)| *differs) {
            return Err(Error::Unlike { what });
        }
    }
    Ok(())
}
