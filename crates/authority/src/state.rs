//! An unlocked authority.

use crate::accounts::Attempts;
use crate::admin::{self, AdminError, fact};
use crate::ask::Answers;
use crate::config::AuthorityConfig;
use crate::credential::Believing;
use crate::db::Db;
use crate::init::{CA_KEY, SIGNING_KEY};
use crate::lend::Identities;
use crate::log::{self, LogError};
use crate::policies::{PolicyFileError, PolicySource};
use crate::refusal::Refusal;
use crate::register;
use crate::serve::StartError;
use crate::shelf::{Register, Shelf};
use guildhall_audit::{Decision, Entry, Event};
use guildhall_grant::{CLOCK_SKEW, SigningKey, VerifyingKey};
use guildhall_identity::{CertificateAuthority, TrustStore};
use guildhall_keyring::RootIdentity;
use guildhall_model::{CouncilName, DepartmentName, PeerId, Role, SharedClock, Timestamp};
use guildhall_proto::authority::v1 as wire;
use rusqlite::{Connection, OptionalExtension as _};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Password hashes computed at once: each takes 19 MiB and tens of milliseconds of a core.
const HASHES_AT_ONCE: usize = 2;

/// An authority whose secrets are open. `Debug` shows the council alone.
pub(crate) struct State {
    pub(crate) config: AuthorityConfig,
    /// Its own name.
    pub(crate) own: PeerId,
    pub(crate) clock: SharedClock,
    pub(crate) db: Db,
    pub(crate) ca: CertificateAuthority,
    pub(crate) signing: SigningKey,
    pub(crate) verifying: VerifyingKey,
    pub(crate) root: RootIdentity,
    pub(crate) policies: PolicySource,
    pub(crate) trust: TrustStore,
    pub(crate) shelf: Shelf,
    pub(crate) answers: Answers,
    pub(crate) attempts: Attempts,
    pub(crate) identities: Identities,
    pub(crate) links: crate::links::Links,
    pub(crate) hashing: Semaphore,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("council", &self.config.council.as_str())
            .finish_non_exhaustive()
    }
}

impl State {
    /// Opens the database below the configured folder and, with the root, what is sealed in it.
    pub(crate) fn unlock(config: AuthorityConfig, clock: SharedClock) -> Result<Self, StartError> {
        if !crate::db::is_there(&config.data) {
            return Err(AdminError::NotFounded.into());
        }
        let policies = PolicySource::open(config.policy.as_deref())?;
        let root = RootIdentity::load(&config.root_identity).map_err(AdminError::from)?;
        let db = Db::open(&config.data).map_err(AdminError::from)?;
        let (ca, signing, bundles) = db.read(|c| {
            let council = text(c, "council")?;
            if council != config.council.as_str() {
                let own = CouncilName::from_str(&council).map_err(AdminError::from)?;
                let given = config.council.to_string();
                return Err(StartError::Admin(AdminError::OtherCouncil { given, own }));
            }
            let ca_key = secret(c, CA_KEY, &root)?;
            let ca_key =
                std::str::from_utf8(&ca_key).map_err(|_| StartError::Locked { what: CA_KEY })?;
            let ca = CertificateAuthority::from_pem(&text(c, "ca_pem")?, ca_key)
                .map_err(AdminError::from)?;
            let signing = SigningKey::from_pkcs8(&secret(c, SIGNING_KEY, &root)?)
                .map_err(|_| StartError::Locked { what: SIGNING_KEY })?;
            Ok((ca, signing, admin::bundles(c, &config.council)?))
        })?;
        let trust = TrustStore::from_bundles(&bundles).map_err(AdminError::from)?;
        let own = PeerId {
            council: config.council.clone(),
            department: DepartmentName::COUNCIL.parse().map_err(AdminError::from)?,
            role: Role::Authority,
            name: Role::Authority.as_str().parse().map_err(AdminError::from)?,
        };
        Ok(Self {
            own,
            verifying: signing.public(),
            config,
            clock,
            db,
            ca,
            signing,
            root,
            policies,
            trust,
            shelf: Shelf::default(),
            answers: Answers::default(),
            attempts: Attempts::default(),
            identities: Identities::default(),
            links: crate::links::Links::default(),
            hashing: Semaphore::new(HASHES_AT_ONCE),
        })
    }

    pub(crate) fn council(&self) -> &CouncilName {
        &self.config.council
    }

    pub(crate) fn believing(&self, now: Timestamp) -> Believing<'_> {
        Believing {
            council: self.council(),
            db: &self.db,
            trust: &self.trust,
            now,
        }
    }

    pub(crate) fn register(&self) -> Result<Arc<Register>, Refusal> {
        self.db.read(|c| self.shelf.now(c).map_err(Refusal::from))
    }

    /// The peer, if it has one of the roles (any, if none is named), is known here and is not
    /// revoked. A gateway may be another trusted council's; every other role is our own.
    pub(crate) fn admit(&self, peer: PeerId, roles: &[Role]) -> Result<PeerId, Refusal> {
        if !roles.is_empty() && !roles.contains(&peer.role) {
            return Err(Refusal::Peer);
        }
        let known = if peer.council == *self.council() {
            self.db.read(|c| register::is_enrolled(c, &peer))?
        } else {
            roles == [Role::Gateway]
                && self.trust.trusts(&peer.council)
                && !self.db.read(|c| register::is_revoked(c, &peer))?
        };
        known.then_some(peer).ok_or(Refusal::Peer)
    }

    /// A certificate for `peer` over the key of the request.
    pub(crate) fn certificate(
        &self,
        peer: &PeerId,
        csr: &[u8],
        host_names: &[String],
        now: Timestamp,
    ) -> Result<wire::Certificate, Refusal> {
        let expires = now.after(self.config.certificate_life());
        let chain_pem = self
            .ca
            .issue(csr, peer, host_names, now.before(CLOCK_SKEW), expires)
            .map_err(|e| Refusal::invalid("csr", guildhall_telemetry::error_chain(&e)))?;
        Ok(wire::Certificate {
            chain_pem,
            expires_us: expires.as_micros(),
        })
    }

    /// Puts one entry on record, on disk when this returns.
    pub(crate) async fn record(&self, entry: Entry, now: Timestamp) -> Result<(), Refusal> {
        self.db
            .write(move |tx| Ok(log::append(tx, &entry, now)?))
            .await
    }

    /// Takes notice of what the command line changed: trusted councils and policy files. What
    /// cannot be used is not; what was in force stays so.
    pub(crate) async fn refresh(&self) -> Result<(), RefreshError> {
        let bundles = self.db.read(|c| admin::bundles(c, self.council()))?;
        if sorted(bundles.clone()) != sorted(self.trust.to_bundles()) {
            self.trust.replace(&bundles).map_err(AdminError::from)?;
            tracing::info!(
                councils = bundles.len(),
                "the list of trusted councils changed"
            );
        }
        if let Some(next) = self.policies.changed()? {
            let entry = Entry {
                digest: Some(next.digest),
                policies: next
                    .policies
                    .names()
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                ..Entry::new(Event::PolicyChange, Decision::Permit)
            };
            let now = self.clock.now();
            self.db
                .write(move |tx| log::append(tx, &entry, now))
                .await?;
            tracing::info!(digest = %next.digest, "another policy is in force");
            self.policies.put_in_force(next);
        }
        Ok(())
    }
}

/// Why a change was not taken notice of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error("cannot read the list of trusted councils")]
    Trust(#[from] AdminError),
    #[error("the policy in force stays so")]
    Policy(#[from] PolicyFileError),
    #[error("cannot put the change of policy on record")]
    Log(#[from] LogError),
}

fn sorted(mut bundles: Vec<wire::TrustBundle>) -> Vec<wire::TrustBundle> {
    bundles.sort_by(|a, b| a.council.cmp(&b.council));
    bundles
}

fn text(connection: &Connection, name: &str) -> Result<String, AdminError> {
    let value = fact(connection, name)?.ok_or(AdminError::NotFounded)?;
    Ok(String::from_utf8(value).map_err(|_| crate::db::DbError::Corrupt { what: "fact" })?)
}

fn secret(
    connection: &Connection,
    what: &'static str,
    root: &RootIdentity,
) -> Result<Zeroizing<Vec<u8>>, StartError> {
    let sealed: Option<Vec<u8>> = connection
        .query_row("SELECT sealed FROM secrets WHERE name = ?1", [what], |r| {
            r.get(0)
        })
        .optional()
        .map_err(AdminError::from)?;
    root.open(&sealed.ok_or(AdminError::NotFounded)?)
        .map_err(|source| StartError::WrongRoot { what, source })
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        Self::internal(&error)
    }
}
