//! `node.toml`: what a node has to be told.

use guildhall_model::{CouncilName, DepartmentName, PeerId, ProductName, Role, RoleName};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{file}`")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what a node can be run from.
    #[error("{file}: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// The field and what is the matter with it.
        problem: String,
    },
}

/// How a node is run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The council that the department belongs to.
    pub council: CouncilName,
    /// The department that owns the tables.
    pub department: DepartmentName,
    /// This node's own name in the department.
    pub name: RoleName,
    /// `host:port` to listen on; port 0 takes any.
    pub listen: String,
    /// `host:port` that gateways dial; the address listened on if not set.
    #[serde(default)]
    pub announce: Option<String>,
    /// Where datasets, products and the node's own log are kept.
    pub data: PathBuf,
    /// Where the node's certificate and keys are kept; `identity` below `data` if not set.
    #[serde(default)]
    pub identity: Option<PathBuf>,
    /// DNS names and IP addresses to put in the node's certificate.
    #[serde(default)]
    pub host_names: Vec<String>,
    /// The department's own Cedar policy; the default one if not set.
    #[serde(default)]
    pub policy: Option<PathBuf>,
    /// The council's authority.
    pub authority: AuthorityAddress,
    /// What one node may use.
    #[serde(default)]
    pub limits: Limits,
    /// What it works out before anybody asks.
    #[serde(default)]
    pub prepare: Prepare,
    /// The department's workers that share this node's work; none by default.
    #[serde(default)]
    pub workers: guildhall_workers::Pinned,
}

/// Where the council's authority answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityAddress {
    /// `host:port`.
    pub address: String,
}

/// What a node may use at most.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory for the rows of all running fragments, in mebibytes. Nothing is spilt to disk.
    pub memory_mib: usize,
    /// Fragments that run at the same time; others wait their turn.
    pub concurrent: usize,
    /// Fragments that may wait; beyond it a caller is told to come again.
    pub waiting: usize,
    /// Threads that one fragment's plan is spread over; 0 for one a core.
    pub partitions: usize,
    /// The longest a fragment may run, in seconds.
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            concurrent: 64,
            waiting: 256,
            partitions: 0,
            seconds: 600,
        }
    }
}

/// What a serving node works out of its `aggregate` products before anybody asks: the tables that their cells are told
/// from, when it starts, after an import and after a publication. The council's policy says whether it is lent the keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prepare {
    /// Whether it does; if not, the first question over new data waits until its tables are made.
    pub enabled: bool,
    /// Products that are left out.
    pub except: BTreeSet<ProductName>,
    /// Memory for the rows of the one product that is being prepared, in mebibytes, beside that of `limits`. Where it
    /// does not do for all units at once, the rows are read several times.
    pub memory_mib: usize,
    /// How often it looks for new data and new products, in seconds; it also looks when a question had to wait.
    pub every_seconds: u64,
}

impl Default for Prepare {
    fn default() -> Self {
        Self {
            enabled: true,
            except: BTreeSet::new(),
            memory_mib: 512,
            every_seconds: 60,
        }
    }
}

impl NodeConfig {
    /// Reads and checks `file`. Relative paths in it start at its folder.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        let name = file
            .file_name()
            .unwrap_or(file.as_os_str())
            .to_string_lossy();
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::parse(&text, &name, folder)
    }

    /// Parses and checks the text of `file`, whose relative paths start at `folder`.
    pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Self, ConfigError> {
        let invalid = |problem: String| ConfigError::Invalid {
            file: file.to_owned(),
            problem,
        };
        let mut config: Self =
            toml::from_str(text).map_err(|e| invalid(e.to_string().trim_end().to_owned()))?;
        for path in [
            Some(&mut config.data),
            config.identity.as_mut(),
            config.policy.as_mut(),
        ]
        .into_iter()
        .flatten()
        {
            *path = folder.join(&*path);
        }
        config.check().map_err(invalid)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.department.as_str() == DepartmentName::COUNCIL {
            return Err("`department` is `council`, which owns no tables".to_owned());
        }
        for (field, value) in [
            ("listen", Some(&self.listen)),
            ("announce", self.announce.as_ref()),
            ("authority.address", Some(&self.authority.address)),
        ] {
            let port = value.map(|v| {
                v.rsplit_once(':')
                    .map(|(host, port)| (host, port.parse::<u16>()))
            });
            if let Some(None | Some(("", _) | (_, Err(_)))) = port {
                return Err(format!("`{field}` is not of the form `host:port`"));
            }
        }
        let Limits {
            memory_mib,
            concurrent,
            seconds,
            ..
        } = self.limits;
        for (field, value) in [("memory_mib", memory_mib), ("concurrent", concurrent)] {
            if value == 0 {
                return Err(format!("`limits.{field}` is 0"));
            }
        }
        if seconds == 0 {
            return Err("`limits.seconds` is 0".to_owned());
        }
        if self.prepare.memory_mib == 0 {
            return Err("`prepare.memory_mib` is 0".to_owned());
        }
        if self.prepare.every_seconds == 0 {
            return Err("`prepare.every_seconds` is 0".to_owned());
        }
        self.workers.check()
    }

    /// Who this node is.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        PeerId {
            council: self.council.clone(),
            department: self.department.clone(),
            role: Role::Node,
            name: self.name.clone(),
        }
    }

    /// Where its certificate and keys are kept.
    #[must_use]
    pub fn identity_dir(&self) -> PathBuf {
        self.identity
            .clone()
            .unwrap_or_else(|| self.data.join("identity"))
    }

    pub(crate) fn products_dir(&self) -> PathBuf {
        self.data.join("products")
    }

    pub(crate) fn audit_file(&self) -> PathBuf {
        self.data.join("audit.sqlite")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        council = "northmoor"
        department = "parking"
        name = "parking-1"
        listen = "127.0.0.1:7443"
        data = "data"
        [authority]
        address = "authority.example:7440"
    "#;

    fn parse(text: &str) -> Result<NodeConfig, String> {
        NodeConfig::parse(text, "node.toml", Path::new("/etc/guildhall")).map_err(|e| e.to_string())
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let config = parse(TEXT).unwrap();
        assert_eq!(config.data, Path::new("/etc/guildhall/data"));
        assert_eq!(
            config.identity_dir(),
            Path::new("/etc/guildhall/data/identity")
        );
        assert_eq!(
            config.peer().to_string(),
            "spiffe://northmoor/parking/node/parking-1"
        );
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = parse(&TEXT.replace("listen =", "lissen = 1\nlisten =")).unwrap_err();
        assert!(
            error.starts_with("node.toml: ") && error.contains("lissen"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_authority_is_named() {
        let error = parse(TEXT.split("[authority]").next().unwrap()).unwrap_err();
        assert!(error.contains("authority"), "{error}");
    }

    #[test]
    fn an_address_without_a_port_is_named() {
        let error = parse(&TEXT.replace("example:7440", "example")).unwrap_err();
        assert_eq!(
            error,
            "node.toml: `authority.address` is not of the form `host:port`"
        );
    }

    #[test]
    fn products_are_prepared_unless_the_department_says_otherwise() {
        assert!(parse(TEXT).unwrap().prepare.enabled);
        let prepare = |text: &str| parse(&format!("{TEXT}[prepare]\n{text}"));
        let without = prepare("except = [\"stays\"]").unwrap().prepare;
        assert!(without.enabled && without.except.contains(&"stays".parse().unwrap()));
        assert!(!prepare("enabled = false").unwrap().prepare.enabled);
        for field in ["memory_mib", "every_seconds"] {
            let error = prepare(&format!("{field} = 0")).unwrap_err();
            assert_eq!(error, format!("node.toml: `prepare.{field}` is 0"));
        }
    }

    #[test]
    fn workers_are_pinned_by_name_and_one_without_an_address_is_named() {
        let config = parse(&format!("{TEXT}[workers.at]\nw1 = \"w1.example:7444\"\n")).unwrap();
        assert_eq!(config.workers.at.len(), 1);
        let error = parse(&format!("{TEXT}[workers.at]\nw1 = \"w1.example\"\n")).unwrap_err();
        let form = "node.toml: `workers.at.w1` is not of the form `host:port`";
        assert_eq!(error, form);
    }

    #[test]
    fn the_council_itself_is_no_department() {
        assert!(parse(&TEXT.replace("\"parking\"", "\"council\"")).is_err());
    }
}
