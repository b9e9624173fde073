//! Lending column keys: the only way a key leaves the authority.
//!
//! The grant is verified again, and a key is lent only if the grant's columns need it. What a
//! node asks for by name is checked against the name sealed inside the wrapped key, so that the
//! key of one column cannot be had by calling it another.
//!
//! A grant is good for one loan. The very same request, ephemeral recipient included, is
//! answered again within [`AGAIN`], since its answer may have been lost on the way: it brings
//! nothing new to anybody. Any other request under a grant that was used is a replay.
//!
//! A node may have workers of its own department read for it. Each borrows for itself, under the node's grant and an
//! assignment that the node signed: once, the same keys at most, sealed to the worker's own recipient. Every such loan is
//! on record with the worker that has it.

use crate::assigned;
use crate::db::{Db, DbError};
use crate::links::LinkKey;
use crate::log;
use crate::presented;
use crate::publish;
use crate::refusal::Refusal;
use crate::state::State;
use guildhall_audit::{Decision, Entry, Event, KeySeen, Reason};
use guildhall_grant::product::DatasetColumn;
use guildhall_grant::{CLOCK_SKEW, VerifiedGrant};
use guildhall_keyring::{DatasetIdentity, RootIdentity};
use guildhall_keys::{KeyName, Recipient};
use guildhall_model::{
    DatasetName, DepartmentName, Digest, FragmentDigest, PeerId, Role, Timestamp,
};
use guildhall_proto::authority::v1 as wire;
use prost::Message as _;
use rusqlite::{OptionalExtension as _, Transaction, params};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::{Zeroize as _, Zeroizing};

/// How long a lost answer may be asked for again.
const AGAIN: Duration = Duration::from_secs(10);

/// More keys than any fragment needs.
const MAX_KEYS: usize = 4096;

/// The node and as many workers as may borrow under one grant.
const MAX_BORROWERS: i64 = 65;

/// Dataset identities that are kept open.
const OPEN: usize = 1024;

/// The dataset identities that were opened of late: opening one costs as much as unwrapping a
/// key. They are wiped when they are dropped. `Debug` shows nothing.
#[derive(Default)]
pub(crate) struct Identities(Mutex<HashMap<(DepartmentName, DatasetName), Arc<DatasetIdentity>>>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identities")
    }
}

impl Identities {
    fn open(
        &self,
        db: &Db,
        root: &RootIdentity,
        department: &DepartmentName,
        dataset: &DatasetName,
    ) -> Result<Arc<DatasetIdentity>, Refusal> {
        let key = (department.clone(), dataset.clone());
        if let Some(known) = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return Ok(Arc::clone(known));
        }
        let sealed: Option<Vec<u8>> = db.read::<_, DbError>(|c| {
            Ok(c.query_row(
                "SELECT sealed FROM datasets WHERE department = ?1 AND dataset = ?2",
                [department.as_str(), dataset.as_str()],
                |r| r.get(0),
            )
            .optional()?)
        })?;
        let sealed = sealed.ok_or_else(|| {
            Refusal::Precondition(format!(
                "dataset `{dataset}` has no identity in the keyring"
            ))
        })?;
        let identity = Arc::new(
            DatasetIdentity::open_sealed(&sealed, root).map_err(|e| Refusal::internal(&e))?,
        );
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN {
            open.clear();
        }
        open.insert(key, Arc::clone(&identity));
        Ok(identity)
    }
}

/// A request for keys, parsed. `Debug` shows which, and no key.
pub(crate) struct Wanted {
    fragment: FragmentDigest,
    borrower: Recipient,
    keys: BTreeMap<KeyName, Vec<u8>>,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("keys", &self.keys.keys())
            .finish_non_exhaustive()
    }
}

impl Wanted {
    pub(crate) fn parse(request: &wire::LendKeysRequest) -> Result<Self, Refusal> {
        let fragment = FragmentDigest::from_bytes(&request.fragment_digest)
            .ok_or_else(|| Refusal::invalid("fragment_digest", "not 32 bytes"))?;
        Self::new(fragment, &request.ephemeral_recipient, &request.keys)
    }

    /// Keys for `fragment`, which is known to be well formed.
    pub(crate) fn new(
        fragment: FragmentDigest,
        borrower: &str,
        asked: &[wire::KeyWanted],
    ) -> Result<Self, Refusal> {
        if asked.is_empty() || asked.len() > MAX_KEYS {
            return Err(Refusal::invalid(
                "keys",
                format!("between 1 and {MAX_KEYS} are lent at once"),
            ));
        }
        let mut keys = BTreeMap::new();
        for key in asked {
            let column = match key.column.as_str() {
                "" => None,
                name => Some(
                    name.parse()
                        .map_err(|e| Refusal::invalid("keys.column", e))?,
                ),
            };
            let name = KeyName {
                dataset: key
                    .dataset
                    .parse()
                    .map_err(|e| Refusal::invalid("keys.dataset", e))?,
                column,
                period: key
                    .period
                    .parse()
                    .map_err(|e| Refusal::invalid("keys.period", e))?,
            };
            keys.insert(name, key.age.clone());
        }
        Ok(Self {
            fragment,
            borrower: borrower
                .parse()
                .map_err(|_| Refusal::invalid("ephemeral_recipient", "not an age recipient"))?,
            keys,
        })
    }

    /// What the keys are for.
    pub(crate) fn fragment(&self) -> FragmentDigest {
        self.fragment
    }

    /// What was asked for, by whom; the wrapped keys are what they are.
    fn digest(&self) -> Digest {
        let mut text = format!("{} {}\n", self.fragment, self.borrower);
        for KeyName {
            dataset,
            column,
            period,
        } in self.keys.keys()
        {
            let column = column.as_ref().map_or("", |c| c.as_str());
            text.extend([dataset.as_str(), "\t", period.as_str(), "\t", column, "\n"]);
        }
        Digest::of(text.as_bytes())
    }

    pub(crate) fn seen(&self) -> Vec<KeySeen> {
        self.keys
            .keys()
            .cloned()
            .map(
                |KeyName {
                     dataset,
                     column,
                     period,
                 }| KeySeen {
                    dataset,
                    column,
                    period,
                },
            )
            .collect()
    }
}

impl State {
    /// Lends the keys that a grant covers, sealed to the recipient that the borrower made for it: the node of the grant,
    /// or a worker that it assigned.
    pub(crate) async fn lend_keys(
        self: &Arc<Self>,
        borrower: &PeerId,
        request: wire::LendKeysRequest,
    ) -> Result<wire::LendKeysResponse, Refusal> {
        let now = self.clock.now();
        let mut entry = Entry {
            peer: Some(borrower.clone()),
            ..Entry::new(Event::LendKeys, Decision::Forbid)
        };
        let lent = self.lend(borrower, request, now, &mut entry).await;
        if let Err(refusal) = &lent {
            entry.reason = Some(Reason::new(refusal.name()));
            self.record(entry, now).await?;
        }
        lent
    }

    async fn lend(
        self: &Arc<Self>,
        borrower: &PeerId,
        request: wire::LendKeysRequest,
        now: Timestamp,
        entry: &mut Entry,
    ) -> Result<wire::LendKeysResponse, Refusal> {
        let wanted = Wanted::parse(&request)?;
        entry.keys = wanted.seen();
        entry.fragment = Some(wanted.fragment);
        let assignment = self.assignment(borrower, request.assignment.as_ref())?;
        let node = assignment.as_ref().map_or(borrower, |a| &a.node);
        entry.node = assignment.as_ref().map(|a| a.node.clone());
        let grant = self.verify_again(node, request.grant.as_ref(), &wanted.fragment, now)?;
        if assignment.as_ref().is_some_and(|a| a.grant != grant.id) {
            return Err(assigned::refused("it is under another grant"));
        }
        entry.grant = Some(grant.id.clone());
        entry.principal = Some(grant.principal.clone());
        entry.purpose = Some(grant.purpose.clone());
        entry.query = Some(grant.query.clone());
        self.check_current(node, &grant, now)?;
        self.check_cover(node, &grant, &wanted)?;
        self.check_unused(&grant, borrower, &wanted, now)?;

        // Invariant: tokens are made at the node that the grant names, and its key goes to nobody else.
        let link = match &grant.linkage {
            Some(linkage) if assignment.is_none() => Some(self.links.key(&linkage.id, now)?),
            Some(_) | None => None,
        };
        entry.linkage = grant.linkage.as_ref().map(|l| l.id.clone());

        let (state, department) = (Arc::clone(self), node.department.clone());
        let (wanted, sealed) = tokio::task::spawn_blocking(move || {
            let sealed = state.unwrap_and_seal(&department, &wanted, link);
            (wanted, sealed)
        })
        .await
        .map_err(|e| Refusal::internal(&e))?;
        let sealed = sealed?;

        let expires_us = grant.expires.as_micros();
        let record = Entry {
            decision: Decision::Permit,
            ..entry.clone()
        };
        let borrower = borrower.clone();
        // Invariant: the keys leave after the loan and its entry are on disk.
        self.db
            .write(move |tx| {
                record_loan(tx, &grant, &borrower, wanted.digest(), now)?;
                Ok::<_, Refusal>(log::append(tx, &record, now)?)
            })
            .await?;
        Ok(wire::LendKeysResponse { sealed, expires_us })
    }

    /// Refuses any key that the grant's columns do not need, by the products as they are
    /// registered now, and any of a dataset that another node holds.
    fn check_cover(
        &self,
        node: &PeerId,
        grant: &VerifiedGrant,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        let register = self.register()?;
        let mut covered = BTreeSet::new();
        for granted in &grant.products {
            let product = presented::unchanged(&register, node, granted)?;
            covered.extend(product.reads_of(&granted.columns));
        }
        self.check_covered(node, &covered, wanted)
    }

    /// Refuses any key but those of the columns `covered`, and of the footers of their datasets.
    pub(crate) fn check_covered(
        &self,
        node: &PeerId,
        covered: &BTreeSet<DatasetColumn>,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        let datasets: BTreeSet<&DatasetName> = covered.iter().map(|r| &r.dataset).collect();
        for KeyName {
            dataset, column, ..
        } in wanted.keys.keys()
        {
            let (is_covered, what) = match column {
                None => (datasets.contains(dataset), format!("dataset `{dataset}`")),
                Some(column) => (
                    covered
                        .iter()
                        .any(|r| r.dataset == *dataset && r.column == *column),
                    format!("column `{dataset}.{column}`"),
                ),
            };
            if !is_covered {
                return Err(Refusal::NotCovered(what));
            }
        }
        let named: BTreeSet<&DatasetName> = wanted.keys.keys().map(|k| &k.dataset).collect();
        self.db.read(|c| {
            named
                .iter()
                .try_for_each(|d| publish::check_holder(c, node, d))
        })
    }

    /// Refuses a replay before any key is unwrapped for it; [`record_loan`] is what decides.
    fn check_unused(
        &self,
        grant: &VerifiedGrant,
        borrower: &PeerId,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let loan = self.db.read(|c| loan(c, grant, borrower))?;
        if loan.is_some_and(|l| !l.is_asked_again(wanted.digest(), now)) {
            return Err(Refusal::Used(grant.id.clone()));
        }
        Ok(())
    }

    /// Unwraps the keys and seals them to the borrower, with the one that rows meet under if there is one.
    pub(crate) fn unwrap_and_seal(
        &self,
        department: &DepartmentName,
        wanted: &Wanted,
        link: Option<LinkKey>,
    ) -> Result<Vec<u8>, Refusal> {
        let mut lent = wire::LentKeys {
            keys: Vec::with_capacity(wanted.keys.len()),
            link_key: link.map(|key| key.to_vec()).unwrap_or_default(),
        };
        let unwrapped: Result<(), Refusal> = wanted.keys.iter().try_for_each(|(name, wrapped)| {
            let identity = self
                .identities
                .open(&self.db, &self.root, department, &name.dataset)?;
            let key = guildhall_keyring::unwrap(&identity, wrapped, name).map_err(|e| {
                tracing::info!(
                    error = guildhall_telemetry::error_chain(&e),
                    "a key was not unwrapped"
                );
                Refusal::NotCovered(format!("what was presented as the key of {name}"))
            })?;
            lent.keys.push(wire::LentKey {
                dataset: name.dataset.to_string(),
                column: name
                    .column
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                period: name.period.to_string(),
                key: key.as_bytes().to_vec(),
            });
            Ok(())
        });
        let plain = Zeroizing::new(lent.encode_to_vec());
        lent.keys.iter_mut().for_each(|k| k.key.zeroize());
        lent.link_key.zeroize();
        unwrapped?;
        guildhall_keys::seal(&plain, &wanted.borrower).map_err(|e| Refusal::internal(&e))
    }
}

/// A loan on record.
#[derive(Debug, Clone, Copy)]
struct Loan {
    request: Digest,
    lent: Timestamp,
}

impl Loan {
    fn is_asked_again(&self, request: Digest, now: Timestamp) -> bool {
        self.request == request && now < self.lent.after(AGAIN)
    }
}

/// Under which a loan is kept: the worker that has it, or nothing for the node itself.
fn on_record(borrower: &PeerId) -> String {
    match borrower.role {
        Role::Worker => borrower.to_string(),
        _ => String::new(),
    }
}

fn loan(
    connection: &rusqlite::Connection,
    grant: &VerifiedGrant,
    borrower: &PeerId,
) -> Result<Option<Loan>, DbError> {
    let row: Option<(Vec<u8>, i64)> = connection
        .prepare_cached("SELECT request, lent_us FROM loans WHERE grant_id = ?1 AND borrower = ?2")?
        .query_row([grant.id.as_str(), &on_record(borrower)], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .optional()?;
    row.map(|(request, lent)| {
        let request = Digest::from_bytes(&request).ok_or(DbError::Corrupt { what: "loan" })?;
        Ok(Loan {
            request,
            lent: Timestamp::from_micros(lent),
        })
    })
    .transpose()
}

/// Puts the loan on record, or finds the grant used. Loans are remembered until their grant is
/// long over.
fn record_loan(
    tx: &Transaction<'_>,
    grant: &VerifiedGrant,
    borrower: &PeerId,
    request: Digest,
    now: Timestamp,
) -> Result<(), Refusal> {
    match loan(tx, grant, borrower)? {
        Some(loan) if loan.is_asked_again(request, now) => return Ok(()),
        Some(_) => return Err(Refusal::Used(grant.id.clone())),
        None => {}
    }
    tx.prepare_cached("DELETE FROM loans WHERE forget_us < ?1")?
        .execute([now.as_micros()])?;
    let borrowers: i64 = tx
        .prepare_cached("SELECT count(*) FROM loans WHERE grant_id = ?1")?
        .query_row([grant.id.as_str()], |r| r.get(0))?;
    if borrowers >= MAX_BORROWERS {
        return Err(Refusal::Used(grant.id.clone()));
    }
    tx.prepare_cached(
        "INSERT INTO loans (grant_id, borrower, request, lent_us, forget_us)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        grant.id.as_str(),
        on_record(borrower),
        request.as_bytes().as_slice(),
        now.as_micros(),
        grant.expires.after(CLOCK_SKEW * 2).as_micros()
    ])?;
    Ok(())
}
