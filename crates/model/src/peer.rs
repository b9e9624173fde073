//! Who is at the other end, and who asks.

use crate::name::{CouncilName, DepartmentName, PrincipalName, RoleName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a process or person does for a council.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Decides, holds keys, keeps the log.
    Authority,
    /// Holds a department's tables and releases.
    Node,
    /// Shares the work of its department's node, and releases nothing.
    Worker,
    /// Plans and merges.
    Gateway,
    /// Joins owners, releases once.
    CleanRoom,
    /// The suppliers' door.
    SupplierDoor,
    /// A person or service that asks questions.
    Analyst,
}

impl Role {
    /// The path segment of this role in a SPIFFE id.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Node => "node",
            Self::Worker => "worker",
            Self::Gateway => "gateway",
            Self::CleanRoom => "clean-room",
            Self::SupplierDoor => "supplier-door",
            Self::Analyst => "analyst",
        }
    }
}

impl FromStr for Role {
    type Err = PeerIdError;
    fn from_str(s: &str) -> Result<Self, PeerIdError> {
        [
            Self::Authority,
            Self::Node,
            Self::Worker,
            Self::Gateway,
            Self::CleanRoom,
            Self::SupplierDoor,
            Self::Analyst,
        ]
        .into_iter()
        .find(|r| r.as_str() == s)
        .ok_or(PeerIdError::Role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a peer's SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdError {
    /// Not `spiffe://<council>/<department>/<role>/<name>`.
    #[error("not of the form `spiffe://<council>/<department>/<role>/<name>`")]
    Form,
    /// The role is none that Guildhall has.
    #[error(
        "the role is not one of authority, node, worker, gateway, clean-room, supplier-door, analyst"
    )]
    Role,
}

/// A peer identity: `spiffe://<council>/<department>/<role>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerId {
    /// Whose certificate authority vouches for it.
    pub council: CouncilName,
    /// `council` for roles of the council itself.
    pub department: DepartmentName,
    /// What it does.
    pub role: Role,
    /// Which one it is.
    pub name: RoleName,
}

impl FromStr for PeerId {
    type Err = PeerIdError;
    fn from_str(s: &str) -> Result<Self, PeerIdError> {
        let rest = s.strip_prefix("spiffe://").ok_or(PeerIdError::Form)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [council, department, role, name] = parts.as_slice() else {
            return Err(PeerIdError::Form);
        };
        Ok(Self {
            council: council.parse().map_err(|_| PeerIdError::Form)?,
            department: department.parse().map_err(|_| PeerIdError::Form)?,
            role: role.parse()?,
            name: name.parse().map_err(|_| PeerIdError::Form)?,
        })
    }
}

impl TryFrom<String> for PeerId {
    type Error = PeerIdError;
    fn try_from(s: String) -> Result<Self, PeerIdError> {
        s.parse()
    }
}

impl From<PeerId> for String {
    fn from(p: PeerId) -> String {
        p.to_string()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            council,
            department,
            role,
            name,
        } = self;
        write!(f, "spiffe://{council}/{department}/{role}/{name}")
    }
}

/// Who asks, and whose council says so.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Principal {
    /// The council whose account or certificate it is.
    pub council: CouncilName,
    /// Its name there.
    pub name: PrincipalName,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.council, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_reads_back_as_it_was_written() {
        let text = "spiffe://northmoor/parking/node/parking-1";
        assert_eq!(text.parse::<PeerId>().unwrap().to_string(), text);
    }

    #[test]
    fn other_uris_are_no_peer_ids() {
        for bad in [
            "https://northmoor/parking/node/a",
            "spiffe://northmoor/parking/node",
            "spiffe://northmoor/parking/node/a/b",
            "spiffe://northmoor/parking/king/a",
            "spiffe:///parking/node/a",
        ] {
            assert!(bad.parse::<PeerId>().is_err(), "{bad}");
        }
    }
}
