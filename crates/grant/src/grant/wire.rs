//! Grants on the wire.

use super::{Grant, GrantedProduct, Linkage};
use crate::envelope::Statement;
use crate::wire::{self, WireError};
use guildhall_model::{OutputClass, Principal};
use guildhall_proto::grant::v1 as proto;
use std::collections::BTreeSet;

impl Statement for Grant {
    const PAYLOAD_TYPE: &'static str = "application/vnd.guildhall.grant.v1";
    type Wire = proto::Grant;

    fn to_wire(&self) -> proto::Grant {
        proto::Grant {
            id: self.id.to_string(),
            council: self.council.to_string(),
            principal: Some(principal_to_wire(&self.principal)),
            purpose: self.purpose.to_string(),
            node: self.node.to_string(),
            fragment_digest: self.fragment.as_bytes().to_vec(),
            products: self.products.iter().map(GrantedProduct::to_wire).collect(),
            output_class: output_to_wire(self.output).into(),
            recipient: self.recipient.to_string(),
            budget_charge: self.charge,
            not_before_us: self.not_before.as_micros(),
            expires_us: self.expires.as_micros(),
            query_id: self.query.to_string(),
            gateway: self.gateway.to_string(),
            linkage: self.linkage.as_ref().map(Linkage::to_wire),
        }
    }

    fn from_wire(w: proto::Grant) -> Result<Self, WireError> {
        let products = w
            .products
            .iter()
            .map(GrantedProduct::from_wire)
            .collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::new();
        if let Some(p) = products
            .iter()
            .find(|p| !seen.insert((&p.department, &p.product)))
        {
            let name = format!("{}.{}", p.department, p.product);
            return Err(WireError::Twice {
                field: "products",
                name,
            });
        }
        let (not_before, expires) = wire::span(w.not_before_us, w.expires_us)?;
        let output = output_from_wire(w.output_class)?;
        let linkage = w.linkage.as_ref().map(Linkage::from_wire).transpose()?;
        if linkage.is_some() != (output == OutputClass::TokenisedRows) {
            return Err(WireError::Rule {
                field: "linkage",
                rule: "goes with tokenised rows, and they with it",
            });
        }
        Ok(Self {
            id: wire::name("id", &w.id)?,
            council: wire::name("council", &w.council)?,
            principal: principal_from_wire(w.principal)?,
            purpose: wire::name("purpose", &w.purpose)?,
            node: wire::peer("node", &w.node)?,
            fragment: wire::digest("fragment_digest", &w.fragment_digest)?,
            products,
            output,
            recipient: wire::peer("recipient", &w.recipient)?,
            charge: w.budget_charge,
            not_before,
            expires,
            query: wire::name("query_id", &w.query_id)?,
            gateway: wire::peer("gateway", &w.gateway)?,
            linkage,
        })
    }
}

impl Linkage {
    fn to_wire(&self) -> proto::Linkage {
        proto::Linkage {
            id: self.id.to_string(),
            question_digest: self.question.as_bytes().to_vec(),
            products: self.products.iter().map(ToString::to_string).collect(),
        }
    }

    fn from_wire(w: &proto::Linkage) -> Result<Self, WireError> {
        Ok(Self {
            id: wire::name("linkage.id", &w.id)?,
            question: wire::digest("linkage.question_digest", &w.question_digest)?,
            products: wire::names("linkage.products", &w.products)?,
        })
    }
}

impl GrantedProduct {
    /// The wire form, also spoken when asking for a grant.
    #[must_use]
    pub fn to_wire(&self) -> proto::GrantedProduct {
        proto::GrantedProduct {
            department: self.department.to_string(),
            product: self.product.to_string(),
            version: self.version,
            columns: self.columns.iter().map(ToString::to_string).collect(),
        }
    }

    /// From the wire form.
    pub fn from_wire(w: &proto::GrantedProduct) -> Result<Self, WireError> {
        Ok(Self {
            department: wire::name("products.department", &w.department)?,
            product: wire::name("products.product", &w.product)?,
            version: w.version,
            columns: wire::names("products.columns", &w.columns)?,
        })
    }
}

/// An output class on the wire.
#[must_use]
pub fn output_to_wire(output: OutputClass) -> proto::OutputClass {
    match output {
        OutputClass::ReleasedCells => proto::OutputClass::ReleasedCells,
        OutputClass::OpenRows => proto::OutputClass::OpenRows,
        OutputClass::PartialCells => proto::OutputClass::PartialCells,
        OutputClass::TokenisedRows => proto::OutputClass::TokenisedRows,
    }
}

/// An output class from the wire; an unspecified one is refused.
pub fn output_from_wire(value: i32) -> Result<OutputClass, WireError> {
    match proto::OutputClass::try_from(value) {
        Ok(proto::OutputClass::ReleasedCells) => Ok(OutputClass::ReleasedCells),
        Ok(proto::OutputClass::OpenRows) => Ok(OutputClass::OpenRows),
        Ok(proto::OutputClass::PartialCells) => Ok(OutputClass::PartialCells),
        Ok(proto::OutputClass::TokenisedRows) => Ok(OutputClass::TokenisedRows),
        Ok(proto::OutputClass::Unspecified) | Err(_) => Err(WireError::Unknown {
            field: "output_class",
            value,
        }),
    }
}

/// A principal on the wire.
#[must_use]
pub fn principal_to_wire(p: &Principal) -> proto::Principal {
    proto::Principal {
        council: p.council.to_string(),
        name: p.name.to_string(),
    }
}

/// A principal from the wire.
pub fn principal_from_wire(p: Option<proto::Principal>) -> Result<Principal, WireError> {
    let p = p.ok_or(WireError::Missing { field: "principal" })?;
    Ok(Principal {
        council: wire::name("principal.council", &p.council)?,
        name: wire::name("principal.name", &p.name)?,
    })
}
