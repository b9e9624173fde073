//! What a decision is asked about.

use cedar_policy::{
    Context, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression as Value,
};
use guildhall_model::{
    ColumnName, CouncilName, OutputClass, PeerId, Principal, ProductName, ProductRef, Purpose,
    ReleaseClass,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

/// What a principal wants to do with a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Learn that it exists, and its columns. Decided by councils only.
    SeeProduct,
    /// Be given rows.
    ReadRows,
    /// Be given cells that passed disclosure control.
    ReadCells,
    /// Have what is known of cells sent to a clean room, which releases them together with those of other owners.
    JoinCells,
    /// Have rows sent to a clean room under tokens, to be linked with those of other owners.
    LinkUnits,
    /// Be shown, at the department's own node, what a product would release and withhold. Decided by councils only.
    CheckProduct,
    /// Be lent keys, as a node of its own department, to make a product's tables before anybody asks. Decided by
    /// councils only.
    PrepareProduct,
}

impl Action {
    /// The act that a grant of this output allows.
    #[must_use]
    pub fn of(output: OutputClass) -> Self {
        match output {
            OutputClass::OpenRows => Self::ReadRows,
            OutputClass::ReleasedCells => Self::ReadCells,
            OutputClass::PartialCells => Self::JoinCells,
            OutputClass::TokenisedRows => Self::LinkUnits,
        }
    }

    /// The word used in policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SeeProduct => "SeeProduct",
            Self::ReadRows => "ReadRows",
            Self::ReadCells => "ReadCells",
            Self::JoinCells => "JoinCells",
            Self::LinkUnits => "LinkUnits",
            Self::CheckProduct => "CheckProduct",
            Self::PrepareProduct => "PrepareProduct",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asker {
    /// Its council and name.
    pub principal: Principal,
    /// What its council says it is. A node does not know, and leaves it empty.
    pub roles: BTreeSet<String>,
    /// The purposes it may name. A node does not know, and leaves it empty.
    pub purposes: BTreeSet<Purpose>,
}

impl Asker {
    /// The principal of a grant, as a department knows it.
    #[must_use]
    pub fn named(principal: Principal) -> Self {
        Self {
            principal,
            roles: BTreeSet::new(),
            purposes: BTreeSet::new(),
        }
    }
}

/// The product it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its full name.
    pub product: ProductRef,
    /// What may leave the node from it.
    pub class: ReleaseClass,
    /// What it is offered for.
    pub purposes: BTreeSet<Purpose>,
    /// The template it shares with products of other councils.
    pub conforms_to: Option<ProductName>,
    /// The reference of the data protection impact assessment that its rows are linked under, if they may be.
    pub dpia: Option<String>,
}

/// One question to a policy set.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub asker: &'a Asker,
    /// To do what.
    pub action: Action,
    /// With which product.
    pub subject: &'a Subject,
    /// Why.
    pub purpose: &'a Purpose,
    /// The product's columns that are read; not looked at by `SeeProduct`.
    pub columns: &'a BTreeSet<ColumnName>,
    /// The gateway that is sent the answer.
    pub gateway: &'a PeerId,
    /// Whom the node sends to: that gateway, or a clean room.
    pub recipient: &'a PeerId,
    /// The council whose authority decides, or issued the grant.
    pub council: &'a CouncilName,
    /// The products whose rows its own are to meet; looked at by `LinkUnits` alone.
    pub linked: &'a BTreeSet<ProductRef>,
}

/// The names of the entity types, parsed once.
#[derive(Debug, Clone)]
pub(crate) struct Types {
    pub(crate) principal: EntityTypeName,
    pub(crate) product: EntityTypeName,
    pub(crate) action: EntityTypeName,
}

/// Whose policies: what they may look at differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Council,
    Department,
}

fn text(s: impl AsRef<str>) -> Value {
    Value::new_string(s.as_ref().to_owned())
}

fn texts<T: AsRef<str>>(all: impl IntoIterator<Item = T>) -> Value {
    Value::new_set(all.into_iter().map(text))
}

impl Question<'_> {
    pub(crate) fn principal_uid(&self, types: &Types) -> EntityUid {
        EntityUid::from_type_name_and_id(
            types.principal.clone(),
            EntityId::new(self.asker.principal.to_string()),
        )
    }

    pub(crate) fn action_uid(&self, types: &Types) -> EntityUid {
        EntityUid::from_type_name_and_id(types.action.clone(), EntityId::new(self.action.as_str()))
    }

    pub(crate) fn product_uid(&self, types: &Types) -> EntityUid {
        EntityUid::from_type_name_and_id(
            types.product.clone(),
            EntityId::new(self.subject.product.to_string()),
        )
    }

    pub(crate) fn entities(&self, types: &Types, side: Side) -> Option<[Entity; 2]> {
        let asker = self.asker;
        let mut who = HashMap::from([
            ("council".to_owned(), text(&asker.principal.council)),
            ("name".to_owned(), text(&asker.principal.name)),
        ]);
        if side == Side::Council {
            who.insert("roles".to_owned(), texts(&asker.roles));
            who.insert("purposes".to_owned(), texts(&asker.purposes));
        }
        let subject = self.subject;
        let mut what = HashMap::from([
            ("council".to_owned(), text(&subject.product.council)),
            ("department".to_owned(), text(&subject.product.department)),
            ("name".to_owned(), text(&subject.product.product)),
            ("class".to_owned(), text(subject.class.as_str())),
            ("purposes".to_owned(), texts(&subject.purposes)),
        ]);
        if let Some(template) = &subject.conforms_to {
            what.insert("conforms_to".to_owned(), text(template));
        }
        if let Some(dpia) = &subject.dpia {
            what.insert("dpia".to_owned(), text(dpia));
        }
        Some([
            Entity::new(self.principal_uid(types), who, HashSet::new()).ok()?,
            Entity::new(self.product_uid(types), what, HashSet::new()).ok()?,
        ])
    }

    pub(crate) fn context(&self) -> Option<Context> {
        let mut pairs = vec![
            ("purpose".to_owned(), text(self.purpose)),
            ("gateway".to_owned(), text(self.gateway.to_string())),
            ("council".to_owned(), text(self.council)),
        ];
        if self.action != Action::SeeProduct {
            pairs.push(("columns".to_owned(), texts(self.columns)));
            let recipient = text(&self.recipient.council);
            pairs.push(("recipient_council".to_owned(), recipient));
        }
        if self.action == Action::LinkUnits {
            let linked = self.linked.iter().map(ToString::to_string);
            pairs.push(("linked".to_owned(), texts(linked)));
        }
        Context::from_pairs(pairs).ok()
    }
}
