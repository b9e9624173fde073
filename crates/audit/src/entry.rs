//! One entry: who did what, why, and what was decided.

use guildhall_model::{
    ColumnName, DatasetName, Digest, DpiaReference, GrantId, LinkageId, OutputClass, PeerId,
    PeriodName, Principal, ProductRef, Purpose, QueryId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The authority was founded.
    Found,
    /// An enrolment code was made.
    Invite,
    /// A role traded its code for a certificate.
    Enrol,
    /// A role renewed its certificate.
    Renew,
    /// A role or account was revoked.
    Revoke,
    /// An account was added or changed.
    AccountChange,
    /// Another council was trusted, or no longer.
    TrustChange,
    /// The council's policy or list of purposes changed.
    PolicyChange,
    /// A principal signed in.
    SignIn,
    /// A principal was shown the products it may see.
    Catalogue,
    /// A dataset got its identity, or a node asked for its recipient.
    OpenDataset,
    /// A manifest was recorded.
    RecordManifest,
    /// A product was registered.
    RegisterProduct,
    /// A grant was asked for.
    IssueGrant,
    /// Column keys were asked for under a grant.
    LendKeys,
    /// A question was charged to a privacy budget.
    Debit,
    /// A node was handed a fragment.
    AdmitFragment,
    /// A result left a node, or was withheld.
    Release,
    /// A dataset was imported.
    Import,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It was let happen.
    Permit,
    /// It was refused.
    Forbid,
}

/// Where a cell is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Open or permitted rows.
    Open,
    /// One owner holds the whole cell and releases it.
    Local,
    /// Parts at several owners, merged and released once.
    Joint,
    /// Rows of two owners met in a clean room.
    Linked,
    /// Rows sealed to an officer.
    Warranted,
}

/// Why, in the words of a rule or policy: its name, never what it was applied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Reason(String);

impl Reason {
    /// The most characters that a reason keeps.
    pub const MAX: usize = 256;

    /// A reason on one line, cut to [`Reason::MAX`] characters.
    ///
    /// The caller keeps values and literals out of it; this only keeps it short and on its line.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let tame = |c: char| if c.is_control() { ' ' } else { c };
        Self(text.chars().take(Self::MAX).map(tame).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A product that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductSeen {
    /// `council.department.product`.
    pub product: String,
    /// The version.
    pub version: u32,
    /// The columns.
    pub columns: BTreeSet<ColumnName>,
}

impl ProductSeen {
    /// A product with the version and columns that were asked for.
    #[must_use]
    pub fn new(product: &ProductRef, version: u32, columns: BTreeSet<ColumnName>) -> Self {
        Self {
            product: product.to_string(),
            version,
            columns,
        }
    }
}

/// A column key that was asked for, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySeen {
    /// The dataset.
    pub dataset: DatasetName,
    /// Its column; none for the footer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<ColumnName>,
    /// The key period.
    pub period: PeriodName,
}

/// What is written down of one decision. What does not apply is left out.
///
/// There is no field for a literal, a value, a count or a key, on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What happened.
    pub event: Event,
    /// What was decided.
    pub decision: Decision,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The policies that decided, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// The peer at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerId>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// Why they asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// The query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryId>,
    /// The grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// The node that runs the fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<PeerId>,
    /// Who may have the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<PeerId>,
    /// The fragment's digest.
    #[serde(default, with = "hex_digest", skip_serializing_if = "Option::is_none")]
    pub fragment: Option<Digest>,
    /// The products, with the columns asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<ProductSeen>,
    /// The column keys, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeySeen>,
    /// What may leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputClass>,
    /// Where it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The meeting of rows that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linkage: Option<LinkageId>,
    /// The data protection impact assessment that rows meet under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpia: Option<DpiaReference>,
    /// What it cost of a privacy budget, in billionths of rho.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub charge: u64,
    /// What that left of it, in billionths of rho.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    /// The dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetName>,
    /// The digest of what was signed, recorded or registered.
    #[serde(default, with = "hex_digest", skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The name of what else it was about: an account, a role, another council.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Entry {
    /// An entry with nothing but what happened and what was decided.
    #[must_use]
    pub fn new(event: Event, decision: Decision) -> Self {
        Self {
            event,
            decision,
            reason: None,
            policies: Vec::new(),
            peer: None,
            principal: None,
            purpose: None,
            query: None,
            grant: None,
            node: None,
            recipient: None,
            fragment: None,
            products: Vec::new(),
            keys: Vec::new(),
            output: None,
            mode: None,
            linkage: None,
            dpia: None,
            charge: 0,
            remaining: None,
            dataset: None,
            digest: None,
            subject: None,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

mod hex_digest {
    use guildhall_model::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(d: &Option<Digest>, s: S) -> Result<S::Ok, S::Error> {
        match d {
            Some(d) => s.serialize_str(&d.to_string()),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Digest>, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else {
            return Ok(None);
        };
        hex::decode(&text)
            .ok()
            .and_then(|b| Digest::from_bytes(&b))
            .map(Some)
            .ok_or_else(|| D::Error::custom("not a SHA-256 digest in hex"))
    }
}
