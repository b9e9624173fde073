//! Keys on their way from an authority: how they are asked for, and how they are opened.

use guildhall_keys::{ColumnKey, ColumnKeys, EphemeralIdentity, KeyError, KeyName, OpenError};
use guildhall_proto::authority::v1::{KeyWanted, LentKeys};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// Why what was lent cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoanError {
    /// It does not open.
    #[error("the lent keys cannot be opened")]
    Sealed {
        /// Why.
        #[source]
        source: OpenError,
    },
    /// It opens to something else.
    #[error("the lent keys are malformed")]
    Malformed,
    /// One of them is no key.
    #[error("a lent key is none")]
    Key {
        /// Why.
        #[source]
        source: KeyError,
    },
    /// One that was asked for is not among them.
    #[error("the authority lent no key for `{name}`")]
    Missing {
        /// Which.
        name: KeyName,
    },
}

/// A request for keys, made for this one time: what is asked for, and who alone can open the answer.
#[derive(Debug)]
pub struct Loan {
    identity: EphemeralIdentity,
    names: BTreeSet<KeyName>,
}

impl Loan {
    /// A request for the keys of `wanted`, which are as they stand in their manifests.
    #[must_use]
    pub fn of(wanted: BTreeMap<KeyName, Vec<u8>>) -> (Self, Vec<KeyWanted>) {
        let loan = Self {
            identity: EphemeralIdentity::generate(),
            names: wanted.keys().cloned().collect(),
        };
        (loan, wanted.into_iter().map(to_wire).collect())
    }

    /// Whom the answer is to be sealed to.
    #[must_use]
    pub fn recipient(&self) -> String {
        self.identity.recipient().to_string()
    }

    /// The keys that were asked for, all of them, as they were sealed to us.
    ///
    /// # Errors
    /// If one of them is missing or cannot be opened.
    pub fn opened(&self, sealed: &[u8]) -> Result<ColumnKeys, LoanError> {
        self.opened_with_link(sealed).map(|(keys, _)| keys)
    }

    /// The same, with the bytes of the key that rows meet under; none of it where they do not.
    ///
    /// # Errors
    /// As [`Self::opened`].
    pub fn opened_with_link(
        &self,
        sealed: &[u8],
    ) -> Result<(ColumnKeys, Zeroizing<Vec<u8>>), LoanError> {
        let opened = self.identity.open(sealed);
        let opened = opened.map_err(|source| LoanError::Sealed { source })?;
        let (keys, link) = read_keys(&opened)?;
        match self.names.iter().find(|n| keys.get(n).is_none()) {
            Some(name) => Err(LoanError::Missing { name: name.clone() }),
            None => Ok((keys, link)),
        }
    }
}

fn to_wire((name, age): (KeyName, Vec<u8>)) -> KeyWanted {
    KeyWanted {
        dataset: name.dataset.to_string(),
        column: name.column.map(String::from).unwrap_or_default(),
        period: name.period.to_string(),
        age,
    }
}

fn read_keys(opened: &[u8]) -> Result<(ColumnKeys, Zeroizing<Vec<u8>>), LoanError> {
    let mut lent = LentKeys::decode(opened).map_err(|_| LoanError::Malformed)?;
    let link = Zeroizing::new(std::mem::take(&mut lent.link_key));
    let mut keys = ColumnKeys::new();
    for key in lent.keys {
        let bytes = Zeroizing::new(key.key);
        let column = match key.column.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|_| LoanError::Malformed)?),
        };
        let name = KeyName {
            dataset: key.dataset.parse().map_err(|_| LoanError::Malformed)?,
            column,
            period: key.period.parse().map_err(|_| LoanError::Malformed)?,
        };
        let key = ColumnKey::from_bytes(&bytes).map_err(|source| LoanError::Key { source })?;
        keys.insert(name, key);
    }
    Ok((keys, link))
}
