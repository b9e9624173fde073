//! `authority.toml`.

use guildhall_model::CouncilName;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How one council's authority runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityConfig {
    /// The council.
    pub council: CouncilName,
    /// Where roles reach it.
    pub listen: SocketAddr,
    /// DNS names and addresses that the council reaches it by, for its own notes: roles know
    /// their authority by its SPIFFE id, newcomers by the fingerprint in their code.
    #[serde(default)]
    pub host_names: Vec<String>,
    /// Folder of the database; made by `authority init`, readable by this user alone.
    pub data: PathBuf,
    /// The council root: an age identity file, readable by this user alone.
    pub root_identity: PathBuf,
    /// Folder of Cedar files (`*.cedar`, read in order of name), or one such file; the default
    /// policy if not set. Read again when it changes.
    pub policy: Option<PathBuf>,
    /// Life of a certificate, in days.
    #[serde(default = "default_certificate_days")]
    pub certificate_days: u32,
    /// Life of a grant, in seconds.
    #[serde(default = "default_grant_seconds")]
    pub grant_seconds: u32,
    /// Life of an access token, in minutes.
    #[serde(default = "default_token_minutes")]
    pub token_minutes: u32,
    /// The smallest minimum group that a product of class `aggregate` may declare.
    #[serde(default = "default_minimum_group")]
    pub minimum_group: u32,
}

fn default_certificate_days() -> u32 {
    7
}

fn default_grant_seconds() -> u32 {
    300
}

fn default_token_minutes() -> u32 {
    60
}

fn default_minimum_group() -> u32 {
    3
}

impl AuthorityConfig {
    /// Reads a configuration file; paths in it are relative to the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|source| ConfigError::Invalid {
            path: path.to_owned(),
            source,
        })?;
        let base = path.parent().unwrap_or(Path::new("."));
        config.data = base.join(&config.data);
        config.root_identity = base.join(&config.root_identity);
        config.policy = config.policy.map(|p| base.join(p));
        Ok(config)
    }

    /// Life of a certificate.
    #[must_use]
    pub fn certificate_life(&self) -> Duration {
        Duration::from_secs(u64::from(self.certificate_days) * 86_400)
    }

    /// Life of a grant.
    #[must_use]
    pub fn grant_life(&self) -> Duration {
        Duration::from_secs(u64::from(self.grant_seconds))
    }

    /// Life of an access token.
    #[must_use]
    pub fn token_life(&self) -> Duration {
        Duration::from_secs(u64::from(self.token_minutes) * 60)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such file, or not ours to read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        #[source]
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or not an authority's.
    #[error("`{}` is not an authority's configuration", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        #[source]
        /// Line and field.
        source: toml::de::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_and_unknown_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authority.toml");
        let text = "council = 'northmoor'\nlisten = '127.0.0.1:0'\ndata = 'data'\nroot_identity = '/etc/root.age'\n";
        std::fs::write(&path, text).unwrap();
        let config = AuthorityConfig::load(&path).unwrap();
        assert_eq!(config.data, dir.path().join("data"));
        assert_eq!(config.root_identity, Path::new("/etc/root.age"));
        assert_eq!(config.grant_life(), Duration::from_secs(300));
        std::fs::write(&path, format!("{text}grant_second = 5\n")).unwrap();
        assert!(matches!(
            AuthorityConfig::load(&path),
            Err(ConfigError::Invalid { .. })
        ));
    }
}
