//! Secrets on disk: written whole or not at all, readable by their owner alone.

use crate::error::IdentityError;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

pub(crate) const KEY: &str = "key.pem";
pub(crate) const NEXT_KEY: &str = "key.next.pem";
pub(crate) const CHAIN: &str = "chain.pem";
pub(crate) const TRUST: &str = "trust.json";
const SIGNING_KEY: &str = "signing.key";

/// Writes `bytes` to `path` with mode 0600, replacing what was there in one step.
///
/// # Errors
/// If the folder cannot be written.
pub fn save_secret(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    replace(path, bytes, 0o600)
}

/// Reads a secret; refuses one that group or others may read.
///
/// # Errors
/// If the file is missing, or not its owner's alone.
pub fn load_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let read = |source| IdentityError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read)?;
    if file.metadata().map_err(read)?.permissions().mode() & 0o077 != 0 {
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
        });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}

/// Keeps the key that signs what a node publishes (PKCS#8) in `dir/signing.key`.
///
/// # Errors
/// If the folder cannot be written.
pub fn save_signing_key(dir: &Path, pkcs8: &[u8]) -> Result<(), IdentityError> {
    save_secret(&dir.join(SIGNING_KEY), pkcs8)
}

/// The key that signs what a node publishes (PKCS#8), from `dir/signing.key`.
///
/// # Errors
/// If the file is missing, or not its owner's alone.
pub fn load_signing_key(dir: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    load_secret(&dir.join(SIGNING_KEY))
}

pub(crate) fn save_public(path: &Path, text: &str) -> Result<(), IdentityError> {
    replace(path, text.as_bytes(), 0o644)
}

pub(crate) fn load_public(path: &Path) -> Result<String, IdentityError> {
    std::fs::read_to_string(path).map_err(|source| IdentityError::Read {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), IdentityError> {
    std::fs::rename(from, to).map_err(|source| IdentityError::Write {
        path: to.to_owned(),
        source,
    })
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    let write = |source| IdentityError::Write {
        path: path.to_owned(),
        source,
    };
    let mut beside: PathBuf = path.to_owned();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    beside.set_file_name(name);
    // A leftover of a crash may have another mode.
    let _ = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .map_err(write)?;
    file.write_all(bytes).map_err(write)?;
    file.sync_all().map_err(write)?;
    std::fs::rename(&beside, path).map_err(write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        save_secret(&path, b"one").unwrap();
        save_secret(&path, b"two").unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(load_secret(&path).unwrap().as_slice(), b"two");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        save_secret(&path, b"one").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load_secret(&path),
            Err(IdentityError::Exposed { .. })
        ));
    }
}
