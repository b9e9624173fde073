//! Lending column keys for the check of a product, which need not be registered.
//!
//! What a node may see of its own department's data is the council's to say here as everywhere: an officer gives
//! leave with an account, the council's policy decides (`CheckProduct`), and both the grant and the loan are on
//! record before a key leaves. The grant is made and used up in this one step: nothing is left that could be
//! presented again. Keys are of the columns that the product reads and of no other, and of datasets that this very
//! node holds; nobody but the node is sent anything.

use crate::grants::{self, Issued};
use crate::lend::Wanted;
use crate::log;
use crate::publish;
use crate::refusal::Refusal;
use crate::state::State;
use guildhall_audit::{Decision as Decided, Entry, Event, ProductSeen, Reason};
use guildhall_grant::product::Product;
use guildhall_grant::{Grant, GrantedProduct, envelope};
use guildhall_model::{ColumnName, OutputClass, PeerId, Principal, Purpose, Timestamp};
use guildhall_policy::{Action, Asker, Decision};
use guildhall_proto::authority::v1 as wire;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a check of a product is for: the purpose that its officer holds.
const PURPOSE: &str = "product_check";

/// What policy gave leave for.
pub(crate) struct Leave {
    pub(crate) principal: Principal,
    pub(crate) purpose: Purpose,
    pub(crate) product: Product,
    pub(crate) columns: BTreeSet<ColumnName>,
    /// The policies that permit it.
    pub(crate) policies: Vec<String>,
}

impl State {
    /// Lends the keys that a check of the node's own product reads.
    pub(crate) async fn lend_for_check(
        self: &Arc<Self>,
        node: &PeerId,
        request: wire::LendForCheckRequest,
    ) -> Result<wire::LendForCheckResponse, Refusal> {
        let now = self.clock.now();
        let mut entry = Entry {
            peer: Some(node.clone()),
            ..Entry::new(Event::LendKeys, Decided::Forbid)
        };
        let lent = self.lend_to_check(node, request, now, &mut entry).await;
        if let Err(refusal) = &lent {
            entry.reason = Some(Reason::new(refusal.name()));
            entry.policies = refusal.policies();
            self.record(entry, now).await?;
        }
        lent
    }

    async fn lend_to_check(
        self: &Arc<Self>,
        node: &PeerId,
        request: wire::LendForCheckRequest,
        now: Timestamp,
        entry: &mut Entry,
    ) -> Result<wire::LendForCheckResponse, Refusal> {
        let (named, asker) = self
            .password(node, &request.account, request.password, now)
            .await?;
        entry.principal = named;
        let asker = asker?;
        let purpose: Purpose = PURPOSE.parse().map_err(|e| Refusal::internal(&e))?;
        entry.purpose = Some(purpose.clone());
        let signed = request
            .product
            .ok_or_else(|| Refusal::invalid("product", "is missing"))?;
        let product = self
            .db
            .read(|c| publish::own_product(self, c, node, &signed))?;
        let digest = envelope::digest(&signed);
        let wanted = Wanted::new(digest, &request.ephemeral_recipient, &request.keys)?;
        let columns: BTreeSet<ColumnName> =
            product.columns.iter().map(|c| c.name.clone()).collect();
        entry.keys = wanted.seen();
        entry.products = vec![ProductSeen::new(
            &product.product_ref(),
            product.version,
            columns.clone(),
        )];
        entry.digest = Some(digest);
        let policies = self.permit_check(node, &asker, &product, &purpose, &columns, now)?;
        self.check_covered(node, &product.reads_of(&columns), &wanted)?;

        let leave = Leave {
            principal: asker.principal,
            purpose,
            product,
            columns,
            policies,
        };
        let (grant, sealed) = self.lend_at_once(node, leave, wanted, entry, now).await?;
        Ok(wire::LendForCheckResponse {
            sealed,
            expires_us: grant.expires.as_micros(),
            grant: grant.id.to_string(),
        })
    }

    /// Grants what policy gave `leave` for and lends `wanted` under it, in one step.
    pub(crate) async fn lend_at_once(
        self: &Arc<Self>,
        node: &PeerId,
        leave: Leave,
        wanted: Wanted,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<(Grant, Vec<u8>), Refusal> {
        let policies = leave.policies.clone();
        let grant = self.at_once(node, leave, &wanted, now)?;
        let (state, department) = (Arc::clone(self), node.department.clone());
        let sealed =
            tokio::task::spawn_blocking(move || state.unwrap_and_seal(&department, &wanted, None))
                .await
                .map_err(|e| Refusal::internal(&e))??;
        let lent = Entry {
            decision: Decided::Permit,
            grant: Some(grant.id.clone()),
            query: Some(grant.query.clone()),
            ..entry.clone()
        };
        let issued = Issued {
            grant: grant.clone(),
            policies,
        };
        let issued = Entry {
            peer: Some(node.clone()),
            ..grants::issued(&issued)
        };
        // Invariant: the keys leave after grant and loan are on record.
        self.db
            .write(move |tx| {
                log::append(tx, &issued, now)?;
                Ok::<_, Refusal>(log::append(tx, &lent, now)?)
            })
            .await?;
        Ok((grant, sealed))
    }

    /// The grant of a loan that is made in the same step.
    fn at_once(
        &self,
        node: &PeerId,
        leave: Leave,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Grant, Refusal> {
        Ok(Grant {
            id: grants::new_grant_id()?,
            council: self.council().clone(),
            principal: leave.principal,
            purpose: leave.purpose,
            node: node.clone(),
            fragment: wanted.fragment(),
            products: vec![GrantedProduct {
                department: leave.product.department,
                product: leave.product.name,
                version: leave.product.version,
                columns: leave.columns,
            }],
            output: OutputClass::ReleasedCells,
            recipient: node.clone(),
            gateway: node.clone(),
            linkage: None,
            charge: 0,
            not_before: now,
            expires: now.after(self.config.grant_life()),
            query: grants::random_id("q")?
                .parse()
                .map_err(|e| Refusal::internal(&e))?,
        })
    }

    /// The policies that permit the check, or why it is not permitted.
    fn permit_check(
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
        deciding.check_purpose(asker, purpose)?;
        let at = deciding.gateway;
        let reading = grants::Reading {
            columns,
            recipient: at,
            linked: &BTreeSet::new(),
        };
        match deciding.decide(asker, Action::CheckProduct, product, purpose, &reading) {
            Decision::Permit { policies } => Ok(policies),
            Decision::Forbid { policies } => Err(Refusal::Policy {
                product: product.product_ref(),
                policies,
            }),
        }
    }
}
