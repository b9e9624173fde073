//! The council's policy files.

use guildhall_model::Digest;
use guildhall_policy::{DEFAULT_COUNCIL_POLICY, Policies, PolicyError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Why the council's policy files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// No such file or folder, or not ours to read.
    #[error("cannot read the policies in `{}`", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder without a policy permits nothing, which nobody means.
    #[error("there is no `*.cedar` file in `{}`", path.display())]
    None {
        /// The folder.
        path: PathBuf,
    },
    /// Not policies.
    #[error("the policies in `{}` cannot be used", path.display())]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: PolicyError,
    },
}

/// The policies in force, with the digest of their text.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) policies: Policies,
    pub(crate) digest: Digest,
}

/// Where the policies come from, and those in force. A change that cannot be used is not:
/// the policies in force stay so.
#[derive(Debug)]
pub(crate) struct PolicySource {
    path: Option<PathBuf>,
    in_force: RwLock<Arc<InForce>>,
}

impl PolicySource {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, PolicyFileError> {
        let text = read(path)?;
        let in_force = RwLock::new(Arc::new(parse(path, &text)?));
        Ok(Self {
            path: path.map(Path::to_owned),
            in_force,
        })
    }

    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The policies on disk, if they are not those in force.
    pub(crate) fn changed(&self) -> Result<Option<InForce>, PolicyFileError> {
        let text = read(self.path.as_deref())?;
        if Digest::of(text.as_bytes()) == self.in_force().digest {
            return Ok(None);
        }
        parse(self.path.as_deref(), &text).map(Some)
    }

    pub(crate) fn put_in_force(&self, next: InForce) {
        *self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

fn parse(path: Option<&Path>, text: &str) -> Result<InForce, PolicyFileError> {
    let policies = Policies::council(text).map_err(|source| PolicyFileError::Invalid {
        path: path.unwrap_or(Path::new("(the default policy)")).to_owned(),
        source,
    })?;
    Ok(InForce {
        policies,
        digest: Digest::of(text.as_bytes()),
    })
}

fn read(path: Option<&Path>) -> Result<String, PolicyFileError> {
    let Some(path) = path else {
        return Ok(DEFAULT_COUNCIL_POLICY.to_owned());
    };
    let failed = |source| PolicyFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    if !path.metadata().map_err(failed)?.is_dir() {
        return std::fs::read_to_string(path).map_err(failed);
    }
    let mut files = std::fs::read_dir(path)
        .map_err(failed)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    files.retain(|f| f.extension().is_some_and(|e| e == "cedar"));
    files.sort();
    if files.is_empty() {
        return Err(PolicyFileError::None {
            path: path.to_owned(),
        });
    }
    let texts: Result<Vec<String>, _> = files.iter().map(std::fs::read_to_string).collect();
    Ok(texts.map_err(failed)?.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_whole_and_a_bad_change_is_not_put_in_force() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            PolicySource::open(Some(dir.path())),
            Err(PolicyFileError::None { .. })
        ));
        let permit = |name: &str| format!("@id(\"{name}\") permit (principal, action, resource);");
        std::fs::write(dir.path().join("a.cedar"), permit("a")).unwrap();
        std::fs::write(dir.path().join("README"), "not Cedar").unwrap();
        let source = PolicySource::open(Some(dir.path())).unwrap();
        assert!(source.changed().unwrap().is_none());

        std::fs::write(dir.path().join("b.cedar"), permit("a")).unwrap();
        assert!(matches!(
            source.changed(),
            Err(PolicyFileError::Invalid { .. })
        ));
        std::fs::write(dir.path().join("b.cedar"), permit("b")).unwrap();
        let next = source.changed().unwrap().unwrap();
        source.put_in_force(next);
        assert_eq!(source.in_force().policies.names(), ["a", "b"]);
    }
}
