//! Lending column keys to prepare a product with: to make, at its own node, the tables that its cells are told from,
//! before anybody asks.
//!
//! No officer gives leave, so less is lent than for a check: keys for a product of class `aggregate` alone, as it is registered
//! now, at the node that offers it, and of the columns that questions of the cube read (its unit, its dimensions, its measures).
//! The council's policy decides (`PrepareProduct`), and both the grant and the loan are on record, for the purpose
//! `prepare` under the node's own name, before a key leaves. The grant is made and used up in this one step.
//!
//! What it changes: a node that policy lets prepare is lent these keys whenever it asks, and not only when an analyst does.
//! What it would read then it could read at any question; what leaves it is not more. A council that does not want it
//! takes the rule out of its policy, and questions are answered as before, the first over new data slowly.

use crate::check::Leave;
use crate::grants;
use crate::lend::Wanted;
use crate::presented;
use crate::refusal::Refusal;
use crate::state::State;
use guildhall_audit::{Decision as Decided, Entry, Event, ProductSeen, Reason};
use guildhall_grant::product::Product;
use guildhall_grant::{GrantedProduct, envelope};
use guildhall_model::{ColumnName, Digest, PeerId, Principal, Purpose, ReleaseClass, Timestamp};
use guildhall_policy::{Action, Asker, Decision};
use guildhall_proto::authority::v1 as wire;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What preparing is for; nobody else may name it by this alone.
const PURPOSE: &str = "prepare";
/// What a node that prepares is to policies.
const ROLE: &str = "node";

impl State {
    /// Lends the keys that the tables of the node's own product are made with.
    pub(crate) async fn lend_to_prepare(
        self: &Arc<Self>,
        node: &PeerId,
        request: wire::LendToPrepareRequest,
    ) -> Result<wire::LendToPrepareResponse, Refusal> {
        let now = self.clock.now();
        let mut entry = Entry {
            peer: Some(node.clone()),
            ..Entry::new(Event::LendKeys, Decided::Forbid)
        };
        let lent = self.lend_prepared(node, request, now, &mut entry).await;
        if let Err(refusal) = &lent {
            entry.reason = Some(Reason::new(refusal.name()));
            entry.policies = refusal.policies();
            self.record(entry, now).await?;
        }
        lent
    }

    async fn lend_prepared(
        self: &Arc<Self>,
        node: &PeerId,
        request: wire::LendToPrepareRequest,
        now: Timestamp,
        entry: &mut Entry,
    ) -> Result<wire::LendToPrepareResponse, Refusal> {
        let purpose: Purpose = PURPOSE.parse().map_err(|e| Refusal::internal(&e))?;
        let asker = preparing(node, &purpose)?;
        entry.principal = Some(asker.principal.clone());
        entry.purpose = Some(purpose.clone());
        let (product, digest) = self.registered(node, &request)?;
        let wanted = Wanted::new(digest, &request.ephemeral_recipient, &request.keys)?;
        let columns = cube_columns(&product);
        entry.keys = wanted.seen();
        let seen = ProductSeen::new(&product.product_ref(), product.version, columns.clone());
        entry.products = vec![seen];
        entry.digest = Some(digest);
        let policies = self.permit_preparing(node, &asker, &product, &purpose, &columns, now)?;
        self.check_covered(node, &product.reads_of(&columns), &wanted)?;
        let leave = Leave {
            principal: asker.principal,
            purpose,
            product,
            columns,
            policies,
        };
        let (grant, sealed) = self.lend_at_once(node, leave, wanted, entry, now).await?;
        Ok(wire::LendToPrepareResponse {
            sealed,
            expires_us: grant.expires.as_micros(),
            grant: grant.id.to_string(),
        })
    }

    /// The product as it is registered at `node` now, and the digest of its envelope.
    fn registered(
        &self,
        node: &PeerId,
        request: &wire::LendToPrepareRequest,
    ) -> Result<(Product, Digest), Refusal> {
        let invalid = |e| Refusal::invalid("product", e);
        let named = GrantedProduct {
            department: node.department.clone(),
            product: request.product.parse().map_err(invalid)?,
            version: request.version,
            columns: BTreeSet::new(),
        };
        let register = self.register()?;
        let product = presented::unchanged(&register, node, &named)?.clone();
        // Invariant: whatever policy says, no other class is prepared.
        if product.class != ReleaseClass::Aggregate {
            let why = format!("it is of class `{}`", product.class);
            return Err(Refusal::invalid("product", why));
        }
        let registered = register.product(&named.department, &named.product);
        let signed = registered
            .map(|r| envelope::decode(&r.envelope))
            .transpose();
        let signed = signed
            .map_err(|e| Refusal::internal(&e))?
            .unwrap_or_default();
        Ok((product, envelope::digest(&signed)))
    }

    /// The policies that permit it, or why it is not permitted.
    fn permit_preparing(
        &self,
        node: &PeerId,
        asker: &Asker,
        product: &Product,
        purpose: &Purpose,
        columns: &BTreeSet<ColumnName>,
        now: Timestamp,
    ) -> Result<Vec<String>, Refusal> {
        let (register, policy) = (self.register()?, self.policies.in_force());
        let deciding = self.deciding(&register, &policy, node, now);
        let (act, at) = (Action::PrepareProduct, deciding.gateway);
        let reading = grants::Reading {
            columns,
            recipient: at,
            linked: &BTreeSet::new(),
        };
        match deciding.decide(asker, act, product, purpose, &reading) {
            Decision::Permit { policies } => Ok(policies),
            Decision::Forbid { policies } => Err(Refusal::Policy {
                product: product.product_ref(),
                policies,
            }),
        }
    }
}

/// The node as policies see it: it holds the one purpose, which is no account's to give.
fn preparing(node: &PeerId, purpose: &Purpose) -> Result<Asker, Refusal> {
    let name = node.name.as_str().parse();
    Ok(Asker {
        principal: Principal {
            council: node.council.clone(),
            name: name.map_err(|e| Refusal::invalid("node", e))?,
        },
        roles: BTreeSet::from([ROLE.to_owned()]),
        purposes: BTreeSet::from([purpose.clone()]),
    })
}

/// The columns that questions of the cube are about.
fn cube_columns(product: &Product) -> BTreeSet<ColumnName> {
    let dimensions = product.dimensions.iter().map(|d| &d.column);
    let measures = product.measures.iter().map(|m| &m.column);
    let columns = product.unit.iter().chain(dimensions).chain(measures);
    columns.cloned().collect()
}
