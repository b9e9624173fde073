//! `gateway.toml`.

use guildhall_model::{CouncilName, DepartmentName, PeerId, Role, RoleName};
use guildhall_plan::catalogue::CleanRoom;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a gateway needs to know to start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// `host:port` that analysts connect to.
    pub listen: String,
    /// The folder with this gateway's key, certificate and trust, written by enrolment.
    pub identity: PathBuf,
    /// DNS names and IP addresses that analysts reach the gateway by, for its certificate.
    #[serde(default)]
    pub host_names: Vec<String>,
    /// Whose accounts are meant when an account is named without `@council`.
    pub default_council: CouncilName,
    /// The councils whose products are offered.
    #[serde(rename = "council")]
    pub councils: Vec<CouncilConfig>,
    /// The clean room that releases cells with parts at several owners; without one they are refused.
    #[serde(default)]
    pub clean_room: Option<CleanRoomConfig>,
    /// How much one gateway takes on.
    #[serde(default)]
    pub limits: Limits,
}

/// A council's clean room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanRoomConfig {
    /// Its name at its council; `main` if it is not said.
    #[serde(default)]
    pub name: Option<RoleName>,
    /// Whose it is; the default council's if it is not said. Other councils' authorities grant it parts of cells where
    /// their policy says so.
    #[serde(default)]
    pub council: Option<CouncilName>,
    /// `host:port` where it listens.
    pub address: String,
}

/// One council and its authority.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CouncilConfig {
    /// Its name.
    pub name: CouncilName,
    /// `host:port` of its authority.
    pub authority: String,
}

/// How much one gateway takes on. Every one has a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Queries that one principal may have running at once.
    pub queries_per_principal: usize,
    /// Queries that may run at once in all.
    pub queries: usize,
    /// Longest statement in bytes.
    pub statement_bytes: usize,
    /// Longest time to plan one statement.
    pub plan_seconds: u64,
    /// Longest time to answer one statement, reading it included.
    pub query_seconds: u64,
    /// Memory that merging one query may take, in MiB.
    pub memory_mb: usize,
    /// Memory that merging all queries together may take, in MiB.
    pub memory_total_mb: usize,
    /// Plan partitions of one query; 0 means as many as there are cores.
    pub partitions: usize,
    /// Rows of parameters that one execution may bind.
    pub parameter_rows: usize,
    /// Bytes of parameters that one execution may bind; they travel in handle and ticket.
    pub parameter_bytes: usize,
    /// How long a ticket can be redeemed.
    pub ticket_seconds: u64,
    /// How long a prepared statement can be used.
    pub handle_seconds: u64,
    /// How long a session without a call keeps its options.
    pub session_seconds: u64,
    /// Sessions that are kept at once.
    pub sessions: u64,
    /// How long a catalogue is believed before the authorities are asked again.
    pub catalogue_seconds: u64,
    /// Plans that are kept for the next time.
    pub plans: u64,
    /// Streams at once on one connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queries_per_principal: 16,
            queries: 128,
            statement_bytes: 128 * 1024,
            plan_seconds: 20,
            query_seconds: 3600,
            memory_mb: 1024,
            memory_total_mb: 4096,
            partitions: 0,
            parameter_rows: 1000,
            parameter_bytes: 1024 * 1024,
            ticket_seconds: 600,
            handle_seconds: 12 * 3600,
            session_seconds: 12 * 3600,
            sessions: 10_000,
            catalogue_seconds: 3,
            plans: 512,
            streams: 128,
        }
    }
}

impl Limits {
    pub(crate) fn ticket_life(&self) -> Duration {
        Duration::from_secs(self.ticket_seconds)
    }

    pub(crate) fn handle_life(&self) -> Duration {
        Duration::from_secs(self.handle_seconds)
    }
}

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML of the expected shape.
    #[error("{name} is not a gateway's configuration")]
    Syntax {
        /// The file's name.
        name: String,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A setting does not fit the others.
    #[error("{name}: {rule}")]
    Rule {
        /// The file's name.
        name: String,
        /// What must hold.
        rule: String,
    },
}

impl GatewayConfig {
    /// Reads `path`; relative folders in it are taken from the file's own folder.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config = Self::parse(&path.display().to_string(), &text)?;
        if let Some(folder) = path.parent() {
            config.identity = folder.join(&config.identity);
        }
        Ok(config)
    }

    /// Parses `text`; `name` is what messages call it.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Syntax {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        config.check().map_err(|rule| ConfigError::Rule {
            name: name.to_owned(),
            rule,
        })?;
        Ok(config)
    }

    /// Who the clean room is, and where.
    pub(crate) fn clean_room(&self) -> Option<CleanRoom> {
        let room = self.clean_room.as_ref()?;
        let peer = PeerId {
            council: self.council_of(room).clone(),
            department: "council".parse::<DepartmentName>().ok()?,
            role: Role::CleanRoom,
            name: match &room.name {
                Some(name) => name.clone(),
                None => "main".parse().ok()?,
            },
        };
        Some(CleanRoom {
            peer,
            address: room.address.clone(),
        })
    }

    fn council_of<'a>(&'a self, room: &'a CleanRoomConfig) -> &'a CouncilName {
        room.council.as_ref().unwrap_or(&self.default_council)
    }

    fn check(&self) -> Result<(), String> {
        let names: Vec<_> = self.councils.iter().map(|c| &c.name).collect();
        if !names.contains(&&self.default_council) {
            return Err(format!(
                "`default_council` is `{}`, which no [[council]] describes",
                self.default_council
            ));
        }
        if let Some(twice) = names
            .iter()
            .enumerate()
            .find_map(|(i, n)| names[..i].contains(n).then_some(n))
        {
            return Err(format!("council `{twice}` is described twice"));
        }
        if let Some(room) = &self.clean_room {
            let council = self.council_of(room);
            if !names.contains(&council) {
                return Err(format!(
                    "`clean_room.council` is `{council}`, which no [[council]] describes"
                ));
            }
        }
        let limits = &self.limits;
        for (limit, value) in [
            ("queries_per_principal", limits.queries_per_principal),
            ("queries", limits.queries),
            ("statement_bytes", limits.statement_bytes),
            ("memory_mb", limits.memory_mb),
            ("memory_total_mb", limits.memory_total_mb),
        ] {
            if value == 0 {
                return Err(format!("`limits.{limit}` is 0; nothing could be asked"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        listen = "127.0.0.1:0"
        identity = "identity"
        default_council = "northmoor"
        [[council]]
        name = "northmoor"
        authority = "127.0.0.1:7000"
    "#;

    #[test]
    fn what_is_not_said_has_a_default() {
        assert_eq!(
            GatewayConfig::parse("gateway.toml", TEXT).unwrap().limits,
            Limits::default()
        );
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = format!("tickets = 3\n{TEXT}");
        assert!(matches!(
            GatewayConfig::parse("gateway.toml", &text),
            Err(ConfigError::Syntax { .. })
        ));
    }

    #[test]
    fn a_clean_room_is_the_default_councils_and_called_main_if_nothing_else_is_said() {
        let read = |more: &str| GatewayConfig::parse("gateway.toml", &format!("{TEXT}\n{more}"));
        assert_eq!(read("").unwrap().clean_room(), None);
        let room = read("[clean_room]\naddress = \"room:7470\"").unwrap();
        let room = room.clean_room().unwrap();
        assert_eq!(
            room.peer.to_string(),
            "spiffe://northmoor/council/clean-room/main"
        );
        assert_eq!(room.address, "room:7470");
        let other = "[clean_room]\naddress = \"room:7470\"\nname = \"two\"\ncouncil = \"southsea\"";
        let error = read(other).unwrap_err().to_string();
        assert!(error.contains("`southsea`"), "{error}");
        let second = "[[council]]\nname = \"southsea\"\nauthority = \"127.0.0.1:7001\"";
        let room = read(&format!("{second}\n{other}")).unwrap();
        assert_eq!(
            room.clean_room().unwrap().peer.to_string(),
            "spiffe://southsea/council/clean-room/two"
        );
    }

    #[test]
    fn the_default_council_is_one_that_is_described() {
        let text = TEXT.replace(
            "default_council = \"northmoor\"",
            "default_council = \"southsea\"",
        );
        let error = GatewayConfig::parse("gateway.toml", &text).unwrap_err();
        assert!(error.to_string().contains("`southsea`"), "{error}");
    }
}
