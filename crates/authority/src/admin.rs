//! What a council officer does on the authority's own machine, running or not.
//!
//! Each is one transaction on the database; a running authority sees it at its next decision.

use crate::accounts;
use crate::db::{self, DbError};
use crate::ledger::check::LedgerError;
use crate::log::{self, LogError};
use guildhall_audit::{Chain, Decision, Entry, Event};
use guildhall_grant::VerifyingKey;
use guildhall_identity::{EnrolmentCode, TrustStore};
use guildhall_model::{
    CouncilName, DepartmentName, Digest, NameError, PeerId, Principal, PrincipalName, Purpose,
    Role, Timestamp,
};
use guildhall_proto::authority::v1::TrustBundle;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// How long an enrolment code counts.
pub const INVITE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Why an officer's command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The database.
    #[error("the authority's database cannot be used")]
    Db(#[from] DbError),
    /// No authority was made in this folder.
    #[error("there is no authority in this folder; `guildhall authority init` makes one")]
    NotFounded,
    /// An authority is there already.
    #[error("there is an authority in this folder already")]
    AlreadyFounded,
    /// The log.
    #[error("the authority's log cannot be used")]
    Log(#[from] LogError),
    /// The ledger of privacy budgets.
    #[error("the ledger of privacy budgets cannot be believed")]
    Ledger(#[from] LedgerError),
    /// A role that nobody enrols as, or not there.
    #[error("`{peer}` cannot be invited: {why}")]
    NotInvited {
        /// The role.
        peer: PeerId,
        /// Why not.
        why: &'static str,
    },
    /// Another council's name where this one's must be.
    #[error("`{given}` is not of this authority's council, `{own}`")]
    OtherCouncil {
        /// What was given.
        given: String,
        /// Ours.
        own: CouncilName,
    },
    /// Nothing of that name.
    #[error("there is no {kind} `{name}`")]
    Unknown {
        /// Peer, account, purpose.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A purpose that is not on the council's list.
    #[error("`{purpose}` is not on the council's list of purposes: {published}")]
    Unpublished {
        /// The purpose.
        purpose: Purpose,
        /// The list.
        published: String,
    },
    /// Not a name.
    #[error("a name is not valid")]
    Name(#[from] NameError),
    /// The password could not be hashed, or randomness could not be had.
    #[error("{0} failed")]
    Crypto(&'static str),
    /// A trust bundle that cannot be read.
    #[error("the trust bundle is not valid: {0}")]
    Bundle(String),
    /// Certificates or keys.
    #[error("the council's certificate authority cannot be used")]
    Identity(#[from] guildhall_identity::IdentityError),
    /// The keyring.
    #[error("the council's keyring cannot be used")]
    Keyring(#[from] guildhall_keyring::RootError),
}

impl From<rusqlite::Error> for AdminError {
    fn from(e: rusqlite::Error) -> Self {
        Self::Db(e.into())
    }
}

/// The authority's folder, opened for one command.
#[derive(Debug)]
pub struct Admin {
    connection: Connection,
    council: CouncilName,
}

impl Admin {
    /// Opens the database below `folder` of an authority that `init` made.
    pub fn open(folder: &Path) -> Result<Self, AdminError> {
        if !db::is_there(folder) {
            return Err(AdminError::NotFounded);
        }
        let connection = db::open(folder)?;
        let council = fact(&connection, "council")?.ok_or(AdminError::NotFounded)?;
        let council = String::from_utf8(council)
            .map_err(|_| DbError::Corrupt {
                what: "council name",
            })?
            .parse()?;
        Ok(Self {
            connection,
            council,
        })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The council.
    #[must_use]
    pub fn council(&self) -> &CouncilName {
        &self.council
    }

    /// A one-time code with which `peer` can enrol until [`INVITE_LIFE`] is over.
    ///
    /// A role that is enrolled already can be invited again, and then enrols with new keys in
    /// place of its old ones; one that was revoked cannot, since its old certificate would
    /// count again.
    pub fn invite(&mut self, peer: &PeerId, now: Timestamp) -> Result<EnrolmentCode, AdminError> {
        self.is_invitable(peer)?;
        let fingerprint = fact(&self.connection, "ca_fingerprint")?
            .and_then(|f| Digest::from_bytes(&f))
            .ok_or(AdminError::NotFounded)?;
        let code = EnrolmentCode::generate(&self.council, fingerprint)
            .ok_or(AdminError::Crypto("drawing a secret"))?;
        let tx = db::begin(&mut self.connection)?;
        tx.execute(
            "DELETE FROM invites WHERE expires_us <= ?1",
            [now.as_micros()],
        )?;
        tx.execute(
            "INSERT INTO invites (code, peer, expires_us) VALUES (?1, ?2, ?3)",
            params![
                code_hash(code.secret()),
                peer.to_string(),
                now.after(INVITE_LIFE).as_micros()
            ],
        )?;
        let entry = Entry {
            peer: Some(peer.clone()),
            ..Entry::new(Event::Invite, Decision::Permit)
        };
        log::append(&tx, &entry, now)?;
        tx.commit()?;
        Ok(code)
    }

    fn is_invitable(&self, peer: &PeerId) -> Result<(), AdminError> {
        if peer.council != self.council {
            let own = self.council.clone();
            return Err(AdminError::OtherCouncil {
                given: peer.to_string(),
                own,
            });
        }
        let refuse = |why| {
            Err(AdminError::NotInvited {
                peer: peer.clone(),
                why,
            })
        };
        if peer.role == Role::Authority {
            return refuse("a council has one authority, and it makes its own certificate");
        }
        if peer.role == Role::Node && peer.department.as_str() == DepartmentName::COUNCIL {
            return refuse("a node is of a department, and `council` is none");
        }
        if crate::register::is_revoked(&self.connection, peer)? {
            return refuse("it was revoked; give the new one another name");
        }
        Ok(())
    }

    /// Shuts a peer out: no certificate, no grant, no key from now on. A peer of another
    /// council is shut out here.
    pub fn revoke_peer(&mut self, peer: &PeerId, now: Timestamp) -> Result<(), AdminError> {
        let own = peer.council == self.council;
        let tx = db::begin(&mut self.connection)?;
        let changed = if own {
            tx.execute("DELETE FROM invites WHERE peer = ?1", [peer.to_string()])?;
            tx.execute(
                "UPDATE peers SET revoked_us = ?2 WHERE id = ?1 AND revoked_us IS NULL",
                params![peer.to_string(), now.as_micros()],
            )?
        } else {
            tx.execute(
                "INSERT INTO peers (id, enrolled_us, revoked_us) VALUES (?1, 0, ?2) ON CONFLICT DO NOTHING",
                params![peer.to_string(), now.as_micros()],
            )?
        };
        if changed == 0 {
            return Err(AdminError::Unknown {
                kind: "enrolled peer",
                name: peer.to_string(),
            });
        }
        let entry = Entry {
            peer: Some(peer.clone()),
            ..Entry::new(Event::Revoke, Decision::Permit)
        };
        log::append(&tx, &entry, now)?;
        tx.commit()?;
        Ok(())
    }

    /// Closes an account; its tokens are worth nothing here from now on, and nothing elsewhere
    /// once they expire.
    pub fn revoke_account(
        &mut self,
        name: &PrincipalName,
        now: Timestamp,
    ) -> Result<(), AdminError> {
        let tx = db::begin(&mut self.connection)?;
        let changed = tx.execute(
            "UPDATE accounts SET revoked_us = ?2 WHERE name = ?1 AND revoked_us IS NULL",
            params![name.as_str(), now.as_micros()],
        )?;
        if changed == 0 {
            return Err(AdminError::Unknown {
                kind: "account",
                name: name.to_string(),
            });
        }
        let principal = Principal {
            council: self.council.clone(),
            name: name.clone(),
        };
        let entry = Entry {
            principal: Some(principal),
            ..Entry::new(Event::Revoke, Decision::Permit)
        };
        log::append(&tx, &entry, now)?;
        tx.commit()?;
        Ok(())
    }

    /// Adds an account, or replaces the one of that name.
    ///
    /// An analyst's client certificate speaks for the account of the same name.
    pub fn add_account(&mut self, account: &Account<'_>, now: Timestamp) -> Result<(), AdminError> {
        let Account {
            name,
            password,
            roles,
            purposes,
        } = *account;
        let hash = password
            .map(accounts::hash)
            .transpose()
            .map_err(|_| AdminError::Crypto("hashing the password"))?;
        let tx = db::begin(&mut self.connection)?;
        let published = published(&tx)?;
        if let Some(purpose) = purposes.iter().find(|p| !published.contains(p)) {
            let names: Vec<&str> = published.iter().map(Purpose::as_str).collect();
            return Err(AdminError::Unpublished {
                purpose: purpose.clone(),
                published: names.join(", "),
            });
        }
        let json = |e: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(e));
        tx.execute(
            "INSERT INTO accounts (name, password, roles, purposes) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET password = excluded.password, roles = excluded.roles,
             purposes = excluded.purposes, revoked_us = NULL",
            params![
                name.as_str(),
                hash,
                serde_json::to_string(roles).map_err(json)?,
                serde_json::to_string(purposes).map_err(json)?
            ],
        )?;
        let principal = Principal {
            council: self.council.clone(),
            name: name.clone(),
        };
        let entry = Entry {
            principal: Some(principal),
            ..Entry::new(Event::AccountChange, Decision::Permit)
        };
        log::append(&tx, &entry, now)?;
        tx.commit()?;
        Ok(())
    }

    /// Whether there is an account of that name that is not revoked.
    pub fn has_account(&self, name: &PrincipalName) -> Result<bool, AdminError> {
        Ok(accounts::find(&self.connection, &self.council, name)?.is_some())
    }

    /// Whether `peer` has enrolled and is not revoked.
    pub fn has_peer(&self, peer: &PeerId) -> Result<bool, AdminError> {
        Ok(crate::register::is_enrolled(&self.connection, peer)?)
    }

    /// The council's published list of purposes.
    pub fn purposes(&self) -> Result<BTreeSet<Purpose>, AdminError> {
        Ok(published(&self.connection)?)
    }

    /// Publishes another list of purposes. What is no longer on it nobody may name, whatever
    /// accounts and products say.
    pub fn set_purposes(
        &mut self,
        purposes: &BTreeSet<Purpose>,
        now: Timestamp,
    ) -> Result<(), AdminError> {
        let tx = db::begin(&mut self.connection)?;
        if published(&tx)? == *purposes {
            return Ok(());
        }
        tx.execute("DELETE FROM purposes", [])?;
        for purpose in purposes {
            tx.execute(
                "INSERT INTO purposes (name) VALUES (?1)",
                [purpose.as_str()],
            )?;
        }
        let names: Vec<&str> = purposes.iter().map(Purpose::as_str).collect();
        let entry = Entry {
            subject: Some(format!("purposes: {}", names.join(", "))),
            ..Entry::new(Event::PolicyChange, Decision::Permit)
        };
        log::append(&tx, &entry, now)?;
        tx.commit()?;
        Ok(())
    }

    /// What another council's authority needs to trust this one.
    pub fn bundle(&self) -> Result<TrustBundle, AdminError> {
        own_bundle(&self.connection, &self.council)
    }

    /// Trusts another council: its gateways may connect, its principals may ask (policy
    /// decides). Its bundle takes the place of one it gave before.
    pub fn trust_add(&mut self, bundle: &TrustBundle, now: Timestamp) -> Result<(), AdminError> {
        let council: CouncilName = bundle.council.parse()?;
        if council == self.council {
            return Err(AdminError::Bundle("it is this council's own".to_owned()));
        }
        TrustStore::from_bundles(std::slice::from_ref(bundle))?;
        if bundle
            .authority_keys
            .iter()
            .any(|k| VerifyingKey::from_bytes(k).is_err())
        {
            return Err(AdminError::Bundle(
                "a key in it is no Ed25519 public key".to_owned(),
            ));
        }
        let tx = db::begin(&mut self.connection)?;
        let bytes = bundle.encode_to_vec();
        let known: Option<Vec<u8>> = tx
            .query_row(
                "SELECT bundle FROM trust WHERE council = ?1",
                [council.as_str()],
                |r| r.get(0),
            )
            .optional()?;
        if known.as_deref() == Some(&bytes) {
            return Ok(());
        }
        tx.execute(
            "INSERT INTO trust (council, bundle) VALUES (?1, ?2)
             ON CONFLICT (council) DO UPDATE SET bundle = excluded.bundle",
            params![council.as_str(), bytes],
        )?;
        let entry = Entry {
            subject: Some(council.to_string()),
            digest: Some(Digest::of(&bytes)),
            ..Entry::new(Event::TrustChange, Decision::Permit)
        };
        log::append(&tx, &entry, now)?;
        tx.commit()?;
        Ok(())
    }

    /// Trusts another council no longer.
    pub fn trust_remove(
        &mut self,
        council: &CouncilName,
        now: Timestamp,
    ) -> Result<(), AdminError> {
        let tx = db::begin(&mut self.connection)?;
        if tx.execute("DELETE FROM trust WHERE council = ?1", [council.as_str()])? == 0 {
            return Err(AdminError::Unknown {
                kind: "trusted council",
                name: council.to_string(),
            });
        }
        let entry = Entry {
            subject: Some(council.to_string()),
            ..Entry::new(Event::TrustChange, Decision::Forbid)
        };
        log::append(&tx, &entry, now)?;
        tx.commit()?;
        Ok(())
    }

    /// Checks the whole hash chain of the log; how many entries, and the digest of the last.
    pub fn verify_log(&self) -> Result<Chain, AdminError> {
        Ok(log::read(&self.connection, |_, _| {})?)
    }

    /// Hands every entry of the log to `each`, from the first, checking the chain on the way.
    pub fn read_log(&self, each: impl FnMut(Timestamp, Entry)) -> Result<Chain, AdminError> {
        Ok(log::read(&self.connection, each)?)
    }
}

/// An account, as an officer describes it.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    /// Its name.
    pub name: &'a PrincipalName,
    /// Its password; without one it is used with a client certificate only.
    pub password: Option<&'a str>,
    /// What policies may call it: `analyst`, `service`.
    pub roles: &'a BTreeSet<String>,
    /// The purposes that it may name.
    pub purposes: &'a BTreeSet<Purpose>,
}

impl fmt::Debug for Account<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("name", &self.name.as_str())
            .field("roles", &self.roles)
            .field("purposes", &self.purposes)
            .finish_non_exhaustive()
    }
}

pub(crate) fn fact(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, DbError> {
    Ok(connection
        .query_row("SELECT value FROM facts WHERE name = ?1", [name], |r| {
            r.get(0)
        })
        .optional()?)
}

pub(crate) fn put_fact(tx: &Connection, name: &str, value: &[u8]) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO facts (name, value) VALUES (?1, ?2)",
        params![name, value],
    )?;
    Ok(())
}

pub(crate) fn code_hash(secret: &str) -> Vec<u8> {
    Digest::of(secret.as_bytes()).as_bytes().to_vec()
}

/// The council's published list of purposes.
pub(crate) fn published(connection: &Connection) -> Result<BTreeSet<Purpose>, DbError> {
    let mut statement = connection.prepare_cached("SELECT name FROM purposes")?;
    let rows = statement.query_map([], |r| r.get::<_, String>(0))?;
    rows.map(|name| {
        name?
            .parse()
            .map_err(|_| DbError::Corrupt { what: "purpose" })
    })
    .collect()
}

pub(crate) fn own_bundle(
    connection: &Connection,
    council: &CouncilName,
) -> Result<TrustBundle, AdminError> {
    let ca = fact(connection, "ca_pem")?.ok_or(AdminError::NotFounded)?;
    let key = fact(connection, "authority_key")?.ok_or(AdminError::NotFounded)?;
    Ok(TrustBundle {
        council: council.to_string(),
        ca_pem: vec![String::from_utf8(ca).map_err(|_| DbError::Corrupt {
            what: "certificate",
        })?],
        authority_keys: vec![key],
    })
}

/// The bundles of every council that this one trusts, itself first.
pub(crate) fn bundles(
    connection: &Connection,
    council: &CouncilName,
) -> Result<Vec<TrustBundle>, AdminError> {
    let mut all = vec![own_bundle(connection, council)?];
    let mut statement = connection.prepare("SELECT bundle FROM trust ORDER BY council")?;
    let rows = statement.query_map([], |r| r.get::<_, Vec<u8>>(0))?;
    for bytes in rows {
        let bundle = TrustBundle::decode(bytes?.as_slice()).map_err(|_| DbError::Corrupt {
            what: "trust bundle",
        })?;
        all.push(bundle);
    }
    Ok(all)
}
