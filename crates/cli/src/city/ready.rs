//! What a client needs to know of a running city.

use anyhow::{Context as _, Result};
use guildhall_model::Purpose;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where a running city is and who may ask. `--ready-file` holds it as JSON.
#[derive(Clone, Serialize)]
pub struct Ready {
    /// `grpc+tls://host:port` of the gateway.
    pub uri: String,
    /// The certificate authority to trust, PEM.
    pub ca: PathBuf,
    /// The accounts.
    pub accounts: BTreeMap<String, ReadyAccount>,
    /// A client certificate of the first account.
    pub client: ClientFiles,
    /// An open product of a thousand rows or more.
    pub open_product: String,
    /// The data folder.
    pub data: PathBuf,
}

/// How to be one account.
#[derive(Clone, Serialize)]
pub struct ReadyAccount {
    /// Its password.
    pub password: String,
    /// What it may ask for.
    pub purposes: BTreeSet<Purpose>,
}

/// A certificate and its key.
#[derive(Debug, Clone, Serialize)]
pub struct ClientFiles {
    /// Chain, PEM.
    pub cert: PathBuf,
    /// Key, PEM.
    pub key: PathBuf,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready")
            .field("uri", &self.uri)
            .field("accounts", &self.accounts.keys())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ReadyAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadyAccount")
            .field("purposes", &self.purposes)
            .finish_non_exhaustive()
    }
}

impl Ready {
    /// Writes it as JSON, for its owner alone; a reader finds the whole file or none.
    pub fn save(&self, file: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        guildhall_identity::save_secret(file, &json)
            .with_context(|| format!("cannot write `{}`", file.display()))
    }
}
