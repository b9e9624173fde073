//! Founding a council's authority.

use crate::admin::{AdminError, fact, put_fact};
use crate::db;
use crate::log;
use guildhall_audit::{Decision, Entry, Event};
use guildhall_grant::SigningKey;
use guildhall_identity::CertificateAuthority;
use guildhall_keyring::RootIdentity;
use guildhall_keys::seal_to_all;
use guildhall_model::{CouncilName, Purpose, Timestamp};
use rusqlite::params;
use std::collections::BTreeSet;
use std::path::PathBuf;

pub(crate) const CA_KEY: &str = "ca_key";
pub(crate) const SIGNING_KEY: &str = "signing_key";

/// What an authority is founded with.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Folder of its database; made if it is not there.
    pub data: PathBuf,
    /// Its council.
    pub council: CouncilName,
    /// The council root: an age identity file that only its owner can read; made if it is not
    /// there.
    pub root_identity: PathBuf,
    /// The purposes that principals may name and products be offered for.
    pub purposes: BTreeSet<Purpose>,
}

/// Founds an authority: its certificate authority, the key that signs its grants, its database.
///
/// The secrets in the database are age-encrypted to the root. All in one transaction: an
/// authority that was half made, because the machine stopped, is not one and is made anew.
pub fn init(options: &InitOptions, now: Timestamp) -> Result<(), AdminError> {
    let InitOptions {
        data,
        council,
        root_identity,
        purposes,
    } = options;
    let mut connection = db::open(data)?;
    let tx = db::begin(&mut connection)?;
    if fact(&tx, "council")?.is_some() {
        return Err(AdminError::AlreadyFounded);
    }
    if !root_identity.exists() {
        RootIdentity::generate().create(root_identity)?;
    }
    let recipients = RootIdentity::load(root_identity)?.recipients();
    let ca = CertificateAuthority::generate(council, now)?;
    let signing = SigningKey::generate().map_err(|_| AdminError::Crypto("making a key"))?;
    for (name, secret) in [
        (CA_KEY, ca.key_pem().as_bytes()),
        (SIGNING_KEY, signing.to_pkcs8().as_slice()),
    ] {
        let sealed = seal_to_all(secret, recipients.as_slice())
            .map_err(|_| AdminError::Crypto("sealing to the root"))?;
        tx.execute(
            "INSERT INTO secrets (name, sealed) VALUES (?1, ?2)",
            params![name, sealed],
        )?;
    }
    put_fact(&tx, "council", council.as_str().as_bytes())?;
    put_fact(&tx, "ca_pem", ca.certificate_pem().as_bytes())?;
    put_fact(&tx, "ca_fingerprint", ca.fingerprint().as_bytes())?;
    put_fact(&tx, "authority_key", signing.public().as_bytes())?;
    for purpose in purposes {
        tx.execute(
            "INSERT INTO purposes (name) VALUES (?1)",
            [purpose.as_str()],
        )?;
    }
    let entry = Entry {
        subject: Some(council.to_string()),
        ..Entry::new(Event::Found, Decision::Permit)
    };
    log::append(&tx, &entry, now)?;
    tx.commit()?;
    Ok(())
}
