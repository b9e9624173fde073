//! `clean-room.toml`.

use guildhall_model::CouncilName;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// How a clean room is run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanRoomConfig {
    /// The council that runs it.
    pub council: CouncilName,
    /// `host:port` that gateways dial.
    pub listen: String,
    /// The folder with its key, certificate and trust, written by enrolment.
    pub identity: PathBuf,
    /// DNS names and IP addresses that gateways reach it by, for its certificate.
    #[serde(default)]
    pub host_names: Vec<String>,
    /// The council's authority.
    pub authority: AuthorityAddress,
    /// How much it takes on.
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

/// How much one clean room takes on. Every one has a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Questions that are answered at the same time; others are told to come again.
    pub concurrent: usize,
    /// The longest that one question may take, in seconds.
    pub seconds: u64,
    /// Bytes that the parts of one question may take, in mebibytes.
    pub memory_mib: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent: 16,
            seconds: 600,
            memory_mib: 512,
        }
    }
}

/// Why a configuration is none.
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
    /// The file is not what a clean room can be run from.
    #[error("{file}: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// The field and what is the matter with it.
        problem: String,
    },
}

impl CleanRoomConfig {
    /// Reads and checks `file`. Relative paths in it start at its folder.
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
    pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Self, ConfigError> {
        let invalid = |problem: String| ConfigError::Invalid {
            file: file.to_owned(),
            problem,
        };
        let parsed = toml::from_str::<Self>(text);
        let mut config = parsed.map_err(|e| invalid(e.to_string().trim_end().to_owned()))?;
        config.identity = folder.join(&config.identity);
        config.check().map_err(invalid)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
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
        let limits = &self.limits;
        let all = [
            ("concurrent", limits.concurrent == 0),
            ("seconds", limits.seconds == 0),
            ("memory_mib", limits.memory_mib == 0),
        ];
        match all.iter().find(|(_, is_nought)| *is_nought) {
            Some((field, _)) => Err(format!("`limits.{field}` is 0")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        council = "northmoor"
        listen = "127.0.0.1:7470"
        identity = "identity"
        [authority]
        address = "authority.example:7440"
    "#;

    fn parse(text: &str) -> Result<CleanRoomConfig, String> {
        let folder = Path::new("/etc/guildhall");
        CleanRoomConfig::parse(text, "clean-room.toml", folder).map_err(|e| e.to_string())
    }

    #[test]
    fn relative_paths_start_at_the_file_and_limits_have_defaults() {
        let config = parse(TEXT).unwrap();
        assert_eq!(config.identity, Path::new("/etc/guildhall/identity"));
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = parse(&format!("lissen = 1\n{TEXT}")).unwrap_err();
        assert!(unknown.contains("lissen"), "{unknown}");
        let nowhere = parse(&TEXT.replace("example:7440", "example")).unwrap_err();
        assert_eq!(
            nowhere,
            "clean-room.toml: `authority.address` is not of the form `host:port`"
        );
        let nothing = parse(&format!("{TEXT}\n[limits]\nseconds = 0")).unwrap_err();
        assert_eq!(nothing, "clean-room.toml: `limits.seconds` is 0");
    }
}
