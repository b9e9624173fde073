//! The keys that were lent for one scan or query.

use crate::{ColumnKey, KeyName};
use std::collections::BTreeMap;
use std::fmt;

/// Column keys by name; each is wiped when the set is dropped.
#[derive(Default, Clone)]
pub struct ColumnKeys(BTreeMap<KeyName, ColumnKey>);

impl ColumnKeys {
    /// A set of none.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a key in; a key of the same name before it is wiped.
    pub fn insert(&mut self, name: KeyName, key: ColumnKey) {
        self.0.insert(name, key);
    }

    /// The key of that name.
    #[must_use]
    pub fn get(&self, name: &KeyName) -> Option<&ColumnKey> {
        self.0.get(name)
    }

    /// Whose keys are here, in order.
    pub fn names(&self) -> impl Iterator<Item = &KeyName> {
        self.0.keys()
    }

    /// The keys with their names, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyName, &ColumnKey)> {
        self.0.iter()
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(KeyName, ColumnKey)> for ColumnKeys {
    fn from_iter<I: IntoIterator<Item = (KeyName, ColumnKey)>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl fmt::Debug for ColumnKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ColumnKeys")?;
        f.debug_list()
            .entries(self.names().map(ToString::to_string))
            .finish()
    }
}
