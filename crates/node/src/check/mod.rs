//! Checking a product before it is offered: what to mend, and what each choice releases and withholds.
//!
//! The product file alone is linted without any key. What it does on the data is counted under a loan of its own: the
//! node asks the council's authority with the leave of an officer, whose account holds the purpose `product_check`;
//! the authority decides by its policy, puts it on record and lends the keys of the columns that the product reads,
//! for this once. A department's officers have no standing right to its data, and a check gives them none; what a node may
//! prepare ([`crate::Prepare`]) it shows to nobody.
//!
//! Nothing is sent anywhere. What is told at the node is counts of cells, and shares of cells, units and rows, table
//! by table: never a value of a row or a cell. Where a table withholds one cell alone, the share of units that are lost
//! tells how many are in it, so a report is for those who may see the data, and is kept as the data are.

mod lint;
mod report;
mod survey;

pub use lint::{Finding, Gravity};
pub use survey::{
    BoundSurvey, ColumnSurvey, PairSurvey, PartSurvey, StatisticSurvey, Survey, TableSurvey,
};

use crate::audit::{Log, LogError};
use crate::authority::Authority;
use crate::engine::Engine;
use crate::error::RunError;
use crate::product::Draft;
use crate::publish::{Drafted, PublishError, Publisher, read};
use crate::run::{Surveyor, borrow_for_check, relation_of};
use datafusion::common::TableReference;
use guildhall_audit::{Decision, Entry, Event, ProductSeen};
use guildhall_disclosure::NoiseSecret;
use guildhall_grant::envelope;
use guildhall_grant::product::Product;
use guildhall_model::{GrantId, ReleaseClass};
use guildhall_store::LentKeys;
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// Whose leave a check of the data has: an account of the council's. `Debug` shows no password.
#[derive(Clone)]
pub struct Officer {
    /// The account's name.
    pub account: String,
    /// Its password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Officer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Officer")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// Why a product was not checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It could not be published either.
    #[error(transparent)]
    Product(#[from] PublishError),
    /// This node cannot work.
    #[error(transparent)]
    Node(#[from] crate::NodeError),
    /// No keys for it.
    #[error("no keys are lent for the check")]
    Keys {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The data cannot be read or counted.
    #[error("the rows cannot be counted")]
    Count {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It could not be written down.
    #[error("cannot write the check down")]
    Log {
        /// Why.
        #[source]
        source: LogError,
    },
}

impl CheckError {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Product(error) => error.help(),
            Self::Keys { .. } => Some(
                "the account needs the purpose `product_check`, which the council has to publish, and its policy an action `CheckProduct`",
            ),
            _ => None,
        }
    }
}

/// What a check found. Its text is the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The product as it would be registered.
    pub product: Product,
    /// What to mend, errors first.
    pub findings: Vec<Finding>,
    /// What was counted of the data, if it was read.
    pub survey: Option<Survey>,
}

impl Checked {
    /// Whether anything weighs as much as that.
    #[must_use]
    pub fn has(&self, gravity: Gravity) -> bool {
        self.findings.iter().any(|f| f.gravity == gravity)
    }
}

/// What checking needs of a node.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    pub(crate) publisher: Publisher<'a>,
    pub(crate) authority: &'a dyn Authority,
    pub(crate) secret: &'a NoiseSecret,
    pub(crate) engine: &'a Engine,
    pub(crate) log: &'a Log,
}

impl Checker<'_> {
    /// Checks the product in `file`; on its data, too, if an officer gives leave and it is a product of cells.
    pub(crate) async fn check(
        &self,
        file: &Path,
        officer: Option<&Officer>,
    ) -> Result<Checked, CheckError> {
        let (text, name) = read(file)?;
        let draft = Draft::parse(&text, &name).map_err(PublishError::from)?;
        let drafted = self.publisher.drafted(&draft).await?;
        let mut findings = lint::of_file(&drafted.product);
        let survey = match officer {
            Some(officer) if drafted.product.class == ReleaseClass::Aggregate => {
                Some(self.survey(&drafted, officer).await?)
            }
            _ => None,
        };
        if let Some(survey) = &survey {
            findings.extend(lint::of_data(&drafted.product, survey));
        }
        findings.sort_by_key(|f| std::cmp::Reverse(f.gravity));
        Ok(Checked {
            product: drafted.product,
            findings,
            survey,
        })
    }

    /// Borrows keys, counts, and lets go of them.
    async fn survey(&self, drafted: &Drafted, officer: &Officer) -> Result<Survey, CheckError> {
        let Drafted {
            product,
            view,
            datasets,
        } = drafted;
        let signed = envelope::sign(product, self.publisher.signer);
        let digest = envelope::digest(&signed);
        let (keys, grant) = borrow_for_check(self.authority, officer, product, signed, datasets)
            .await
            .map_err(|source| CheckError::Keys {
                source: Box::new(source),
            })?;
        self.write_down(product, digest, &grant)?;
        let lent = LentKeys::default();
        // The cell is fresh: nobody else can have set it.
        let _ = lent.set(keys);
        let count = |source: RunError| CheckError::Count {
            source: Box::new(source),
        };
        let name = TableReference::full(
            product.council.as_str(),
            product.department.as_str(),
            product.name.as_str(),
        );
        let relation = relation_of(view, &name, datasets, &lent).map_err(|e| count(e.into()))?;
        let surveyor = Surveyor {
            product,
            view,
            relation,
            name,
            secret: self.secret,
            engine: self.engine,
        };
        surveyor.survey().await.map_err(count)
    }

    /// Invariant: no row is read before this is on record.
    fn write_down(
        &self,
        product: &Product,
        digest: guildhall_model::Digest,
        grant: &GrantId,
    ) -> Result<(), CheckError> {
        let columns = product.columns.iter().map(|c| c.name.clone()).collect();
        let seen = ProductSeen::new(&product.product_ref(), product.version, columns);
        let entry = Entry {
            products: vec![seen],
            digest: Some(digest),
            grant: Some(grant.clone()),
            ..Entry::new(Event::LendKeys, Decision::Permit)
        };
        let written = self.log.append(&entry, self.publisher.clock.now());
        written
            .map(drop)
            .map_err(|source| CheckError::Log { source })
    }
}

#[cfg(test)]
mod tests;
