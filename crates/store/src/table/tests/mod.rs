//! Sealed tables, read and attacked.

mod lending;
mod real_files;
mod scanning;
mod tampering;

use super::LentKeys;
use guildhall_keys::{ColumnKey, KeyName};

fn is_one_of(key: &KeyName, columns: &[&str]) -> bool {
    key.column
        .as_ref()
        .is_none_or(|c| columns.contains(&c.as_str()))
}

fn copy(lent: &LentKeys, name: &KeyName) -> ColumnKey {
    ColumnKey::from_bytes(lent.get().unwrap().get(name).unwrap().as_bytes()).unwrap()
}
