//! Other councils: what they need to trust this one, and which of them it trusts.

use super::{Admin, AdminError, fact};
use crate::db::{self, DbError};
use crate::log;
use guildhall_audit::{Decision, Entry, Event};
use guildhall_grant::VerifyingKey;
use guildhall_identity::TrustStore;
use guildhall_model::{CouncilName, Digest, Timestamp};
use guildhall_proto::authority::v1::TrustBundle;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};

impl Admin {
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
}

fn own_bundle(connection: &Connection, council: &CouncilName) -> Result<TrustBundle, AdminError> {
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
