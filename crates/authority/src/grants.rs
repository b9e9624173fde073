//! Deciding grants.

use crate::refusal::Refusal;
use crate::shelf::Register;
use guildhall_audit::{Decision as Decided, Entry, Event, ProductSeen, Reason};
use guildhall_grant::product::Product;
use guildhall_grant::{Grant, GrantedProduct, output_from_wire};
use guildhall_model::{
    ColumnClass, ColumnName, CouncilName, Digest, FragmentDigest, GrantId, OutputClass, PeerId,
    ProductRef, Purpose, QueryId, ReleaseClass, Role, Timestamp,
};
use guildhall_policy::{Action, Asker, Decision, Policies, Question, Subject};
use guildhall_proto::authority::v1 as wire;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the authority needs to decide.
pub(crate) struct Deciding<'a> {
    pub(crate) council: &'a CouncilName,
    pub(crate) policies: &'a Policies,
    pub(crate) register: &'a Register,
    pub(crate) gateway: &'a PeerId,
    pub(crate) now: Timestamp,
    pub(crate) life: Duration,
}

/// What is read of a product, whom it is sent to and what it meets there.
pub(crate) struct Reading<'a> {
    pub(crate) columns: &'a BTreeSet<ColumnName>,
    pub(crate) recipient: &'a PeerId,
    pub(crate) linked: &'a BTreeSet<ProductRef>,
}

/// A question whose names have been parsed.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) asker: Asker,
    pub(crate) purpose: Purpose,
    pub(crate) query: QueryId,
    pub(crate) fragments: Vec<FragmentAsked>,
    /// The council whose products they read.
    pub(crate) council: CouncilName,
}

/// A grant, and the policies that permitted it.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) grant: Grant,
    pub(crate) policies: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct FragmentAsked {
    node: PeerId,
    pub(crate) products: Vec<GrantedProduct>,
    output: OutputClass,
    pub(crate) recipient: PeerId,
    digest: FragmentDigest,
    /// The linked question that it is of; with tokenised rows, and with nothing else.
    pub(crate) linked: Option<Digest>,
}

impl FragmentAsked {
    pub(crate) fn parse(w: &wire::FragmentWanted) -> Result<Self, Refusal> {
        let bad = |e: guildhall_grant::WireError| Refusal::invalid("fragments", e);
        let mut named = BTreeSet::new();
        if !w
            .products
            .iter()
            .all(|p| named.insert((&p.department, &p.product)))
        {
            return Err(Refusal::invalid(
                "fragments.products",
                "it names a product twice",
            ));
        }
        let output = output_from_wire(w.output_class).map_err(bad)?;
        let linked = match (output, w.linked_question_digest.as_slice()) {
            (OutputClass::TokenisedRows, bytes) => Digest::from_bytes(bytes),
            (_, []) => None,
            _ => {
                let why = "it goes with tokenised rows alone";
                return Err(Refusal::invalid("fragments.linked_question_digest", why));
            }
        };
        if output == OutputClass::TokenisedRows && linked.is_none() {
            let why = "not 32 bytes, with tokenised rows";
            return Err(Refusal::invalid("fragments.linked_question_digest", why));
        }
        Ok(Self {
            linked,
            node: w
                .node
                .parse()
                .map_err(|e| Refusal::invalid("fragments.node", e))?,
            products: w
                .products
                .iter()
                .map(GrantedProduct::from_wire)
                .collect::<Result<_, _>>()
                .map_err(bad)?,
            output,
            recipient: w
                .recipient
                .parse()
                .map_err(|e| Refusal::invalid("fragments.recipient", e))?,
            digest: FragmentDigest::from_bytes(&w.fragment_digest)
                .ok_or_else(|| Refusal::invalid("fragments.fragment_digest", "not 32 bytes"))?,
        })
    }
}

impl Deciding<'_> {
    /// The grants for every fragment of a question, or the first reason against one.
    pub(crate) fn grants(&self, asked: &Asked) -> Result<Vec<Issued>, Refusal> {
        self.check_purpose(&asked.asker, &asked.purpose)?;
        let fragments = asked.fragments.iter();
        let mut issued = fragments
            .map(|f| self.grant(asked, f))
            .collect::<Result<Vec<_>, _>>()?;
        let linkages = self.linkages(asked)?;
        for (issued, fragment) in issued.iter_mut().zip(&asked.fragments) {
            let linkage = fragment.linked.as_ref().and_then(|l| linkages.get(l));
            issued.grant.linkage = linkage.cloned();
        }
        Ok(issued)
    }

    fn grant(&self, asked: &Asked, fragment: &FragmentAsked) -> Result<Issued, Refusal> {
        self.check_recipient(fragment)?;
        if fragment.products.is_empty() {
            return Err(Refusal::invalid(
                "fragments.products",
                "a fragment reads some product",
            ));
        }
        let mut policies = BTreeSet::new();
        for product in &fragment.products {
            policies.extend(self.judge(asked, fragment, product)?);
        }
        let grant = Grant {
            id: new_grant_id()?,
            council: self.council.clone(),
            principal: asked.asker.principal.clone(),
            purpose: asked.purpose.clone(),
            node: fragment.node.clone(),
            fragment: fragment.digest,
            products: fragment.products.clone(),
            output: fragment.output,
            recipient: fragment.recipient.clone(),
            charge: 0,
            not_before: self.now,
            expires: self.now.after(self.life),
            query: asked.query.clone(),
            gateway: self.gateway.clone(),
            linkage: None,
        };
        Ok(Issued {
            grant,
            policies: policies.into_iter().collect(),
        })
    }

    /// Invariant: what was not released goes to a clean room and to nobody else. Which councils' may be sent it is for
    /// policy to say.
    fn check_recipient(&self, fragment: &FragmentAsked) -> Result<(), Refusal> {
        let (fits, rule) = match fragment.output {
            OutputClass::PartialCells => (
                fragment.recipient.role == Role::CleanRoom,
                "parts of cells go to a clean room",
            ),
            OutputClass::TokenisedRows => (
                fragment.recipient.role == Role::CleanRoom
                    && fragment.recipient.council == *self.council,
                "tokenised rows go to the council's own clean room",
            ),
            OutputClass::ReleasedCells | OutputClass::OpenRows => (
                fragment.recipient == *self.gateway,
                "results go to the gateway that asks",
            ),
        };
        match fits {
            true => Ok(()),
            false => Err(Refusal::invalid("fragments.recipient", rule)),
        }
    }

    /// The purposes that `asker` may name here: those it holds of those that the council publishes.
    pub(crate) fn purposes(&self, asker: &Asker) -> BTreeSet<Purpose> {
        asker
            .purposes
            .intersection(&self.register.purposes)
            .cloned()
            .collect()
    }

    pub(crate) fn check_purpose(&self, asker: &Asker, purpose: &Purpose) -> Result<(), Refusal> {
        let held = self.purposes(asker);
        if held.contains(purpose) {
            return Ok(());
        }
        let held: Vec<&str> = held.iter().map(Purpose::as_str).collect();
        Err(Refusal::Purpose {
            purpose: purpose.clone(),
            held: held.join(", "),
        })
    }

    /// Whether one product may be part of one fragment: seen, current, at that node, of a class
    /// and with columns that fit, and permitted by policy. Gives the policies that permit.
    fn judge(
        &self,
        asked: &Asked,
        fragment: &FragmentAsked,
        wanted: &GrantedProduct,
    ) -> Result<Vec<String>, Refusal> {
        let reference = reference(self.council, wanted);
        let product = self
            .register
            .product(&wanted.department, &wanted.product)
            .map(|r| &r.product)
            .filter(|p| self.sees(&asked.asker, p, &asked.purpose))
            .ok_or_else(|| Refusal::NoProduct(reference.clone()))?;
        if product.version != wanted.version {
            return Err(Refusal::Stale {
                product: reference,
                current: product.version,
            });
        }
        if product.node != fragment.node {
            return Err(Refusal::invalid(
                "fragments.node",
                "the product is served by another node",
            ));
        }
        check_class(product, fragment.output)?;
        check_columns(product, fragment.output, &wanted.columns)?;
        let action = Action::of(fragment.output);
        match self.decide(
            &asked.asker,
            action,
            product,
            &asked.purpose,
            &Reading {
                columns: &wanted.columns,
                recipient: &fragment.recipient,
                linked: &asked.partners(fragment),
            },
        ) {
            Decision::Permit { policies } => Ok(policies),
            Decision::Forbid { policies } => Err(Refusal::Policy {
                product: reference,
                policies,
            }),
        }
    }

    /// Whether the asker may know that the product exists.
    pub(crate) fn sees(&self, asker: &Asker, product: &Product, purpose: &Purpose) -> bool {
        self.decide(
            asker,
            Action::SeeProduct,
            product,
            purpose,
            &Reading {
                columns: &BTreeSet::new(),
                recipient: self.gateway,
                linked: &BTreeSet::new(),
            },
        )
        .permits()
    }

    pub(crate) fn decide(
        &self,
        asker: &Asker,
        action: Action,
        product: &Product,
        purpose: &Purpose,
        reading: &Reading<'_>,
    ) -> Decision {
        let subject = Subject {
            product: product.product_ref(),
            class: product.class,
            purposes: product.purposes.clone(),
            conforms_to: product.conforms_to.clone(),
            dpia: product.linkable.as_ref().map(|l| l.dpia.to_string()),
        };
        self.policies.decide(&Question {
            asker,
            action,
            subject: &subject,
            purpose,
            columns: reading.columns,
            gateway: self.gateway,
            recipient: reading.recipient,
            council: self.council,
            linked: reading.linked,
        })
    }
}

pub(crate) fn reference(council: &CouncilName, wanted: &GrantedProduct) -> ProductRef {
    ProductRef {
        council: council.clone(),
        department: wanted.department.clone(),
        product: wanted.product.clone(),
    }
}

fn check_class(product: &Product, output: OutputClass) -> Result<(), Refusal> {
    let why = match (product.class, output) {
        (ReleaseClass::Warranted, _) => "it is released on a warrant only",
        (ReleaseClass::Aggregate, OutputClass::OpenRows) => "it releases cells, not rows",
        (ReleaseClass::Open | ReleaseClass::Restricted, OutputClass::PartialCells) => {
            "it releases rows; there are no parts of cells"
        }
        (ReleaseClass::Open | ReleaseClass::Restricted, OutputClass::TokenisedRows) => {
            "it releases rows; they are joined where they are asked for"
        }
        (ReleaseClass::Aggregate, OutputClass::TokenisedRows) if product.linkable.is_none() => {
            "its rows are not linked with any other product's"
        }
        (ReleaseClass::Aggregate, OutputClass::PartialCells) if product.joint_with.is_empty() => {
            "its cells are not released together with any other product's"
        }
        _ => return Ok(()),
    };
    Err(Refusal::Class {
        product: product.product_ref(),
        why: why.to_owned(),
    })
}

fn check_columns(
    product: &Product,
    output: OutputClass,
    columns: &BTreeSet<ColumnName>,
) -> Result<(), Refusal> {
    for name in columns {
        let refuse = |why: &str| {
            Err(Refusal::Class {
                product: product.product_ref(),
                why: format!("column `{name}` {why}"),
            })
        };
        match (product.column(name.as_str()).map(|c| c.class), output) {
            (None, _) => return refuse("does not exist"),
            (Some(ColumnClass::Secret), _) => return refuse("never leaves its node"),
            (Some(ColumnClass::Identifier), OutputClass::OpenRows) => {
                return refuse("is an identifier and never leaves as a row");
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn new_grant_id() -> Result<GrantId, Refusal> {
    random_id("g")?.parse().map_err(|e| Refusal::internal(&e))
}

/// `<prefix>-` and 96 random bits in hex.
pub(crate) fn random_id(prefix: &str) -> Result<String, Refusal> {
    let mut bytes = [0; 12];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Refusal::Internal("randomness".to_owned()))?;
    Ok(format!("{prefix}-{}", hex::encode(bytes)))
}

/// What is put on record of a grant.
pub(crate) fn issued(issued: &Issued) -> Entry {
    let Issued { grant, policies } = issued;
    let seen = |p: &GrantedProduct| {
        ProductSeen::new(&reference(&grant.council, p), p.version, p.columns.clone())
    };
    Entry {
        policies: policies.clone(),
        principal: Some(grant.principal.clone()),
        purpose: Some(grant.purpose.clone()),
        query: Some(grant.query.clone()),
        grant: Some(grant.id.clone()),
        node: Some(grant.node.clone()),
        peer: Some(grant.gateway.clone()),
        recipient: Some(grant.recipient.clone()),
        fragment: Some(grant.fragment),
        products: grant.products.iter().map(seen).collect(),
        output: Some(grant.output),
        linkage: grant.linkage.as_ref().map(|l| l.id.clone()),
        charge: grant.charge,
        ..Entry::new(Event::IssueGrant, Decided::Permit)
    }
}

/// What is put on record of a refusal.
pub(crate) fn refused(
    council: &CouncilName,
    gateway: &PeerId,
    asked: Option<&Asked>,
    refusal: &Refusal,
) -> Entry {
    let seen =
        |p: &GrantedProduct| ProductSeen::new(&reference(council, p), p.version, p.columns.clone());
    Entry {
        reason: Some(Reason::new(refusal.name())),
        policies: refusal.policies(),
        principal: asked.map(|a| a.asker.principal.clone()),
        purpose: asked.map(|a| a.purpose.clone()),
        query: asked.map(|a| a.query.clone()),
        recipient: Some(gateway.clone()),
        products: asked
            .map(|a| {
                a.fragments
                    .iter()
                    .flat_map(|f| f.products.iter().map(seen))
                    .collect()
            })
            .unwrap_or_default(),
        ..Entry::new(Event::IssueGrant, Decided::Forbid)
    }
}
