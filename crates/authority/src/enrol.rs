//! Newcomers, and renewals.

use crate::admin;
use crate::log;
use crate::refusal::Refusal;
use crate::register;
use crate::state::State;
use guildhall_audit::{Decision, Entry, Event};
use guildhall_grant::VerifyingKey;
use guildhall_identity::EnrolmentCode;
use guildhall_model::{PeerId, Role};
use guildhall_proto::authority::v1 as wire;
use rusqlite::{OptionalExtension as _, params};
use std::sync::Arc;

/// More host names than a door has.
const MAX_HOST_NAMES: usize = 32;

impl State {
    /// Trades a one-time code for a certificate over the newcomer's own key.
    ///
    /// A code that nobody made is not put on record: a stranger cannot make the log grow.
    pub(crate) async fn enrol(
        self: &Arc<Self>,
        request: wire::EnrolRequest,
    ) -> Result<wire::EnrolResponse, Refusal> {
        let (state, now) = (Arc::clone(self), self.clock.now());
        let code: EnrolmentCode = request.code.parse().map_err(|_| Refusal::Code)?;
        check_host_names(&request.host_names)?;
        self.db
            .write(move |tx| {
                let code = admin::code_hash(code.secret());
                let peer: Option<String> = tx
                    .query_row(
                        "SELECT peer FROM invites WHERE code = ?1 AND used_us IS NULL AND expires_us > ?2",
                        params![code, now.as_micros()],
                        |r| r.get(0),
                    )
                    .optional()?;
                let peer: PeerId = peer.and_then(|p| p.parse().ok()).ok_or(Refusal::Code)?;
                let host_names = serde_json::to_string(&request.host_names)
                    .map_err(|e| Refusal::internal(&e))?;
                let signing_key = signing_key(&peer, request.signing_key)?;
                let certificate = state.certificate(&peer, &request.csr, &request.host_names, now)?;
                tx.execute(
                    "UPDATE invites SET used_us = ?2 WHERE code = ?1",
                    params![code, now.as_micros()],
                )?;
                // Invariant: nothing here brings back a peer that was revoked.
                let enrolled = tx.execute(
                    "INSERT INTO peers (id, signing_key, enrolled_us, host_names) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (id) DO UPDATE SET signing_key = excluded.signing_key,
                     enrolled_us = excluded.enrolled_us, host_names = excluded.host_names
                     WHERE revoked_us IS NULL",
                    params![peer.to_string(), signing_key, now.as_micros(), host_names],
                )?;
                if enrolled == 0 {
                    return Err(Refusal::Code);
                }
                let entry =
                    Entry { peer: Some(peer), ..Entry::new(Event::Enrol, Decision::Permit) };
                log::append(tx, &entry, now)?;
                let trust =
                    admin::bundles(tx, state.council()).map_err(|e| Refusal::internal(&e))?;
                Ok(wire::EnrolResponse { certificate: Some(certificate), trust })
            })
            .await
    }

    /// A fresh certificate for the same name, and for host names of the enrolment alone: whoever
    /// holds a certificate cannot have it pose as another door.
    pub(crate) async fn renew(
        &self,
        peer: PeerId,
        request: &wire::RenewRequest,
    ) -> Result<wire::RenewResponse, Refusal> {
        let now = self.clock.now();
        let enrolled = self.db.read(|c| register::host_names(c, &peer))?;
        if let Some(other) = request.host_names.iter().find(|n| !enrolled.contains(n)) {
            let why = format!(
                "`{other}` is not one that it enrolled with; enrol again with a fresh code"
            );
            return Err(Refusal::invalid("host_names", why));
        }
        let certificate = self.certificate(&peer, &request.csr, &request.host_names, now)?;
        let entry = Entry {
            peer: Some(peer),
            ..Entry::new(Event::Renew, Decision::Permit)
        };
        self.record(entry, now).await?;
        Ok(wire::RenewResponse {
            certificate: Some(certificate),
        })
    }

    /// The councils that this one trusts, itself first.
    pub(crate) fn trusted(&self) -> Result<wire::TrustResponse, Refusal> {
        let bundles = self
            .db
            .read(|c| admin::bundles(c, self.council()))
            .map_err(|e| Refusal::internal(&e))?;
        Ok(wire::TrustResponse { bundles })
    }
}

fn check_host_names(names: &[String]) -> Result<(), Refusal> {
    if names.len() > MAX_HOST_NAMES {
        let why = format!("more than {MAX_HOST_NAMES}");
        return Err(Refusal::invalid("host_names", why));
    }
    Ok(())
}

/// A node signs what it publishes; nobody else has a key to sign with.
fn signing_key(peer: &PeerId, key: Vec<u8>) -> Result<Option<Vec<u8>>, Refusal> {
    if peer.role != Role::Node {
        return Ok(None);
    }
    VerifyingKey::from_bytes(&key)
        .map(|k| Some(k.as_bytes().to_vec()))
        .map_err(|e| Refusal::invalid("signing_key", e))
}
