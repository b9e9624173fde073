//! `worker.toml`, and the part of `node.toml` that pins workers.

use crate::address;
use guildhall_model::{CouncilName, DepartmentName, PeerId, Role, RoleName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A node's workers, and what is dealt over them: `[workers]` of node.toml.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pinned {
    /// The fewest rows of a dataset that are worth a worker's share; what has no more of them stays at the node.
    pub rows_each: u64,
    /// By name, the `host:port` where each answers.
    ///
    /// Who answers there must prove to be `spiffe://<council>/<department>/worker/<name>` of the node's own council
    /// and department.
    pub at: BTreeMap<RoleName, String>,
}

impl Default for Pinned {
    /// None; and a row group, as imports write them, is worth a share.
    fn default() -> Self {
        Self {
            rows_each: 262_144,
            at: BTreeMap::new(),
        }
    }
}

impl Pinned {
    /// What is the matter with it, and with which field.
    ///
    /// # Errors
    /// If an address is none, or a share is of no rows.
    pub fn check(&self) -> Result<(), String> {
        if self.rows_each == 0 {
            return Err("`workers.rows_each` is 0".to_owned());
        }
        let wrong = self.at.iter().find(|(n, a)| address::url(n, a).is_none());
        match wrong {
            Some((name, _)) => Err(format!(
                "`workers.at.{name}` is not of the form `host:port`"
            )),
            None => Ok(()),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what a worker can be run from.
    #[error("{file}: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// The field and what is the matter with it.
        problem: String,
    },
}

/// How a worker is run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// The council that the department belongs to.
    pub council: CouncilName,
    /// The department whose node it works for.
    pub department: DepartmentName,
    /// The worker's own name in the department.
    pub name: RoleName,
    /// `host:port` to listen on; port 0 takes any.
    pub listen: String,
    /// The node's data folder, or a copy of it: the datasets in it are read, nothing is written.
    pub data: PathBuf,
    /// Where the worker's certificate and key are kept.
    pub identity: PathBuf,
    /// DNS names and IP addresses to put in the worker's certificate.
    #[serde(default)]
    pub host_names: Vec<String>,
    /// The council's authority, which lends keys.
    pub authority: AuthorityAddress,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
}

/// Where the council's authority answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityAddress {
    /// `host:port`.
    pub address: String,
}

/// What a worker may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory for the rows of all its work, in mebibytes. Nothing is spilt to disk.
    pub memory_mib: usize,
    /// Grants that it holds keys for at the same time.
    pub concurrent: usize,
    /// The longest that it holds the keys of one grant, in seconds.
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            concurrent: 64,
            seconds: 600,
        }
    }
}

impl WorkerConfig {
    /// Reads and checks `file`. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// If the file cannot be read, or is not what a worker can be run from.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        let name = file.file_name().unwrap_or(file.as_os_str());
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::parse(&text, &name.to_string_lossy(), folder)
    }

    /// Parses and checks the text of `file`, whose relative paths start at `folder`.
    ///
    /// # Errors
    /// If the text is not what a worker can be run from.
    pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Self, ConfigError> {
        let invalid = |problem: String| ConfigError::Invalid {
            file: file.to_owned(),
            problem,
        };
        let parsed = toml::from_str::<Self>(text);
        let mut config = parsed.map_err(|e| invalid(e.to_string().trim_end().to_owned()))?;
        config.data = folder.join(&config.data);
        config.identity = folder.join(&config.identity);
        config.check().map_err(invalid)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.department.as_str() == DepartmentName::COUNCIL {
            return Err("`department` is `council`, which owns no tables".to_owned());
        }
        for (field, value) in [
            ("listen", &self.listen),
            ("authority.address", &self.authority.address),
        ] {
            let parts = value.rsplit_once(':');
            let port = parts.filter(|(host, _)| !host.is_empty());
            if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                return Err(format!("`{field}` is not of the form `host:port`"));
            }
        }
        let Limits {
            memory_mib,
            concurrent,
            seconds,
        } = self.limits;
        let all = [
            ("memory_mib", memory_mib == 0),
            ("concurrent", concurrent == 0),
            ("seconds", seconds == 0),
        ];
        match all.iter().find(|(_, is_nought)| *is_nought) {
            Some((field, _)) => Err(format!("`limits.{field}` is 0")),
            None => Ok(()),
        }
    }

    /// Who this worker is.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        PeerId {
            council: self.council.clone(),
            department: self.department.clone(),
            role: Role::Worker,
            name: self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        council = "northmoor"
        department = "parking"
        name = "w1"
        listen = "127.0.0.1:7444"
        data = "data"
        identity = "identity"
        [authority]
        address = "authority.example:7440"
    "#;

    fn parse(text: &str) -> Result<WorkerConfig, String> {
        let folder = Path::new("/etc/guildhall");
        WorkerConfig::parse(text, "worker.toml", folder).map_err(|e| e.to_string())
    }

    #[test]
    fn relative_paths_start_at_the_file_and_limits_have_defaults() {
        let config = parse(TEXT).unwrap();
        assert_eq!(config.data, Path::new("/etc/guildhall/data"));
        assert_eq!(config.limits, Limits::default());
        let peer = "spiffe://northmoor/parking/worker/w1";
        assert_eq!(config.peer().to_string(), peer);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = parse(&format!("lissen = 1\n{TEXT}")).unwrap_err();
        assert!(unknown.contains("lissen"), "{unknown}");
        let nowhere = parse(&TEXT.replace("example:7440", "example")).unwrap_err();
        let form = "worker.toml: `authority.address` is not of the form `host:port`";
        assert_eq!(nowhere, form);
        let nothing = parse(&format!("{TEXT}\n[limits]\nseconds = 0")).unwrap_err();
        assert_eq!(nothing, "worker.toml: `limits.seconds` is 0");
        assert!(parse(&TEXT.replace("\"parking\"", "\"council\"")).is_err());
    }

    #[test]
    fn a_pinned_worker_without_an_address_is_named() {
        let pinned = |address: &str| Pinned {
            at: BTreeMap::from([("w1".parse().unwrap(), address.to_owned())]),
            ..Pinned::default()
        };
        assert_eq!(pinned("w1.example:7444").check(), Ok(()));
        let wrong = pinned("w1.example").check().unwrap_err();
        assert_eq!(wrong, "`workers.at.w1` is not of the form `host:port`");
        let nothing = Pinned {
            rows_each: 0,
            ..Pinned::default()
        };
        assert_eq!(nothing.check().unwrap_err(), "`workers.rows_each` is 0");
    }
}
