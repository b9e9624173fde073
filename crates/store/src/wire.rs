//! Manifests on the wire.

use crate::manifest::{Manifest, Part};
use crate::storage::DatasetId;
use arrow::datatypes::Schema;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, write_message};
use guildhall_grant::{Statement, WireError};
use guildhall_keys::KeyName;
use guildhall_model::{Digest, NameError, Timestamp};
use guildhall_proto::store::v1 as proto;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

impl Statement for Manifest {
    const PAYLOAD_TYPE: &'static str = "application/vnd.guildhall.manifest.v1";
    type Wire = proto::Manifest;

    fn to_wire(&self) -> proto::Manifest {
        proto::Manifest {
            council: self.id.council.to_string(),
            department: self.id.department.to_string(),
            dataset: self.id.dataset.to_string(),
            version: self.version,
            previous: self
                .previous
                .map(|d| d.as_bytes().to_vec())
                .unwrap_or_default(),
            arrow_schema: schema_message(&self.schema),
            parts: self.parts.iter().map(part_to_wire).collect(),
            keys: self
                .keys
                .iter()
                .map(|(name, age)| proto::WrappedKey {
                    column: name
                        .column
                        .as_ref()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    period: name.period.to_string(),
                    age: age.clone(),
                })
                .collect(),
            created_us: self.created.as_micros(),
        }
    }

    fn from_wire(w: proto::Manifest) -> Result<Self, WireError> {
        let id = DatasetId {
            council: name("council", &w.council)?,
            department: name("department", &w.department)?,
            dataset: name("dataset", &w.dataset)?,
        };
        let previous = match w.previous.as_slice() {
            [] => None,
            bytes => Some(digest("previous", bytes)?),
        };
        let mut keys = BTreeMap::new();
        for key in w.keys {
            let column = match key.column.as_str() {
                "" => None,
                column => Some(name("keys.column", column)?),
            };
            let key_name = KeyName {
                dataset: id.dataset.clone(),
                column,
                period: name("keys.period", &key.period)?,
            };
            if keys.insert(key_name, key.age).is_some() {
                return Err(rule("keys", "name a column and period twice"));
            }
        }
        let manifest = Self {
            id,
            version: w.version,
            previous,
            schema: Arc::new(schema(&w.arrow_schema)?),
            parts: w
                .parts
                .into_iter()
                .map(part_from_wire)
                .collect::<Result<_, _>>()?,
            keys,
            created: Timestamp::from_micros(w.created_us),
        };
        manifest
            .check()
            .map_err(|(field, text)| rule(field, text))?;
        Ok(manifest)
    }
}

fn part_to_wire(part: &Part) -> proto::Part {
    proto::Part {
        path: part.path.clone(),
        file_id: part.file_id.clone(),
        written_in: part.written_in,
        bytes: part.bytes,
        digest: part.digest.as_bytes().to_vec(),
        row_group_rows: part.row_group_rows.clone(),
        period: part.period.to_string(),
    }
}

fn part_from_wire(w: proto::Part) -> Result<Part, WireError> {
    Ok(Part {
        path: w.path,
        file_id: w.file_id,
        written_in: w.written_in,
        bytes: w.bytes,
        digest: digest("parts.digest", &w.digest)?,
        row_group_rows: w.row_group_rows,
        period: name("parts.period", &w.period)?,
    })
}

/// The schema as an IPC encapsulated message.
fn schema_message(schema: &Schema) -> Vec<u8> {
    let options = IpcWriteOptions::default();
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut DictionaryTracker::new(false),
        &options,
    );
    let mut out = Vec::with_capacity(encoded.ipc_message.len() + 16);
    // A `Vec` takes every byte; were it cut short, it would not be read back as a schema.
    let _ = write_message(&mut out, encoded, &options);
    out
}

fn schema(message: &[u8]) -> Result<Schema, WireError> {
    arrow::ipc::convert::try_schema_from_ipc_buffer(message)
        .map_err(|_| rule("arrow_schema", "is no Arrow schema message"))
}

fn name<T: FromStr<Err = NameError>>(field: &'static str, text: &str) -> Result<T, WireError> {
    text.parse()
        .map_err(|source| WireError::Name { field, source })
}

fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, WireError> {
    Digest::from_bytes(bytes).ok_or(WireError::Digest { field })
}

fn rule(field: &'static str, rule: &'static str) -> WireError {
    WireError::Rule { field, rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, TimeUnit};
    use guildhall_grant::{SigningKey, envelope};

    #[test]
    fn a_manifest_reads_back_as_it_was_signed() {
        let key = SigningKey::generate().unwrap();
        let manifest = manifest();
        let signed = envelope::sign(&manifest, &key);
        let read: Manifest = envelope::verify(&signed, &[key.public()]).unwrap();
        assert_eq!(read, manifest);
    }

    #[test]
    fn a_manifest_whose_part_has_no_key_is_refused() {
        let mut wire = manifest().to_wire();
        wire.keys.retain(|k| k.column != "ward");
        assert_eq!(
            Manifest::from_wire(wire).unwrap_err(),
            rule("keys", "lack the key of a column or footer")
        );
    }

    #[test]
    fn a_part_outside_the_dataset_is_refused() {
        for path in [
            "../other/parts/a.parquet",
            "parts/../a.parquet",
            "parts/.parquet",
            "a.parquet",
        ] {
            let mut wire = manifest().to_wire();
            wire.parts[0].path = path.to_owned();
            assert!(Manifest::from_wire(wire).is_err(), "{path}");
        }
    }

    #[test]
    fn garbled_fields_are_refused_without_a_panic() {
        let mut wire = manifest().to_wire();
        wire.arrow_schema.truncate(20);
        assert!(Manifest::from_wire(wire).is_err());
        let mut wire = manifest().to_wire();
        wire.parts[0].digest.pop();
        assert!(Manifest::from_wire(wire).is_err());
        let mut wire = manifest().to_wire();
        wire.version = 2;
        assert!(
            Manifest::from_wire(wire).is_err(),
            "version 2 without a version before"
        );
    }

    fn manifest() -> Manifest {
        let period = guildhall_model::PeriodName::from_str("all").unwrap();
        let key = |column: Option<&str>| KeyName {
            dataset: "permits".parse().unwrap(),
            column: column.map(|c| c.parse().unwrap()),
            period: period.clone(),
        };
        Manifest {
            id: DatasetId {
                council: "northmoor".parse().unwrap(),
                department: "parking".parse().unwrap(),
                dataset: "permits".parse().unwrap(),
            },
            version: 1,
            previous: None,
            schema: Arc::new(Schema::new(vec![
                Field::new("ward", DataType::Utf8, false),
                Field::new(
                    "started",
                    DataType::Timestamp(TimeUnit::Microsecond, None),
                    true,
                ),
            ])),
            parts: vec![Part {
                path: "parts/ab12.parquet".to_owned(),
                file_id: "ab12".to_owned(),
                written_in: 1,
                bytes: 1000,
                digest: Digest::of(b"part"),
                row_group_rows: vec![10, 3],
                period: period.clone(),
            }],
            keys: [None, Some("ward"), Some("started")]
                .into_iter()
                .map(|c| (key(c), b"age".to_vec()))
                .collect(),
            created: Timestamp::from_micros(7),
        }
    }
}
