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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(column: &str) -> KeyName {
        KeyName {
            dataset: "permits".parse().unwrap(),
            column: Some(column.parse().unwrap()),
            period: "2026".parse().unwrap(),
        }
    }

    fn key(byte: u8) -> ColumnKey {
        ColumnKey::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_key_is_found_by_its_whole_name() {
        let keys: ColumnKeys = [(named("postcode"), key(1))].into_iter().collect();
        assert_eq!(keys.get(&named("postcode")).unwrap().as_bytes(), &[1; 32]);
        for other in [
            named("ward"),
            KeyName {
                column: None,
                ..named("postcode")
            },
            KeyName {
                dataset: "cases".parse().unwrap(),
                ..named("postcode")
            },
            KeyName {
                period: "2025".parse().unwrap(),
                ..named("postcode")
            },
        ] {
            assert!(keys.get(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_later_key_takes_the_place_of_an_earlier_one() {
        let mut keys = ColumnKeys::new();
        keys.insert(named("postcode"), key(1));
        keys.insert(named("postcode"), key(2));
        assert_eq!(keys.len(), 1);
        assert_eq!(keys.get(&named("postcode")).unwrap().as_bytes(), &[2; 32]);
    }

    #[test]
    fn debug_prints_names_alone() {
        let keys: ColumnKeys = [(named("ward"), key(0xab)), (named("postcode"), key(0xab))]
            .into_iter()
            .collect();
        let names = "ColumnKeys[\"permits.postcode (2026)\", \"permits.ward (2026)\"]";
        assert_eq!(format!("{keys:?}"), names);
    }

    #[test]
    fn keys_are_wiped_when_dropped() {
        fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        wiped::<ColumnKey>();
    }
}
