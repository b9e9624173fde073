//! Roles: who may enrol, and who is shut out.

use super::{Admin, AdminError, fact};
use crate::db;
use crate::log;
use guildhall_audit::{Decision, Entry, Event};
use guildhall_identity::EnrolmentCode;
use guildhall_model::{DepartmentName, Digest, PeerId, Role, Timestamp};
use rusqlite::params;
use std::time::Duration;

/// How long an enrolment code counts.
pub const INVITE_LIFE: Duration = Duration::from_secs(24 * 3600);

impl Admin {
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
        let is_council = peer.department.as_str() == DepartmentName::COUNCIL;
        if peer.role == Role::Node && is_council {
            return refuse("a node is of a department, and `council` is none");
        }
        if peer.role == Role::Worker && is_council {
            return refuse("a worker is of a department, and `council` is none");
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

    /// Whether `peer` has enrolled and is not revoked.
    pub fn has_peer(&self, peer: &PeerId) -> Result<bool, AdminError> {
        Ok(crate::register::is_enrolled(&self.connection, peer)?)
    }
}

pub(crate) fn code_hash(secret: &str) -> Vec<u8> {
    Digest::of(secret.as_bytes()).as_bytes().to_vec()
}
