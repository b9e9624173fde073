//! Accounts and the purposes that they may name.

use super::{Admin, AdminError};
use crate::accounts;
use crate::db::{self, DbError};
use crate::log;
use guildhall_audit::{Decision, Entry, Event};
use guildhall_model::{Principal, PrincipalName, Purpose, Timestamp};
use rusqlite::{Connection, params};
use std::collections::BTreeSet;
use std::fmt;

impl Admin {
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
