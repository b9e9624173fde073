//! Reading the register: who is enrolled, which datasets, manifests and products are on record.

use crate::db::DbError;
use crate::shelf::Registered;
use guildhall_grant::product::Product;
use guildhall_grant::{Statement, VerifyingKey, envelope};
use guildhall_model::{DatasetName, DepartmentName, Digest, PeerId, ProductRef};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _};

/// Whether `peer` has enrolled here and has not been revoked.
pub(crate) fn is_enrolled(connection: &Connection, peer: &PeerId) -> Result<bool, DbError> {
    Ok(revoked_at(connection, peer)? == Some(None))
}

/// Whether `peer` was shut out here.
pub(crate) fn is_revoked(connection: &Connection, peer: &PeerId) -> Result<bool, DbError> {
    Ok(matches!(revoked_at(connection, peer)?, Some(Some(_))))
}

fn revoked_at(connection: &Connection, peer: &PeerId) -> Result<Option<Option<i64>>, DbError> {
    Ok(connection
        .prepare_cached("SELECT revoked_us FROM peers WHERE id = ?1")?
        .query_row([peer.to_string()], |r| r.get(0))
        .optional()?)
}

/// Counts the changes of the register.
pub(crate) fn revision(connection: &Connection) -> Result<i64, DbError> {
    Ok(connection
        .prepare_cached("SELECT n FROM revision")?
        .query_row([], |r| r.get(0))?)
}

/// The key that `node` signs its manifests and products with.
pub(crate) fn signing_key(
    connection: &Connection,
    node: &PeerId,
) -> Result<Option<VerifyingKey>, DbError> {
    let key: Option<Vec<u8>> = connection
        .query_row(
            "SELECT signing_key FROM peers WHERE id = ?1 AND revoked_us IS NULL",
            [node.to_string()],
            |r| r.get(0),
        )
        .optional()?
        .flatten();
    Ok(key.and_then(|k| VerifyingKey::from_bytes(&k).ok()))
}

/// Where `node` listens, if it has said so.
pub(crate) fn address(connection: &Connection, node: &PeerId) -> Result<Option<String>, DbError> {
    Ok(connection
        .query_row(
            "SELECT address FROM peers WHERE id = ?1",
            [node.to_string()],
            |r| r.get(0),
        )
        .optional()?
        .flatten())
}

/// A dataset that has keys.
#[derive(Debug)]
pub(crate) struct Dataset {
    pub(crate) recipient: String,
    /// The one node that holds it.
    pub(crate) node: PeerId,
}

/// A dataset, if it has been opened.
pub(crate) fn dataset(
    connection: &Connection,
    department: &DepartmentName,
    dataset: &DatasetName,
) -> Result<Option<Dataset>, DbError> {
    let row: Option<(String, String)> = connection
        .prepare_cached(
            "SELECT recipient, node FROM datasets WHERE department = ?1 AND dataset = ?2",
        )?
        .query_row([department.as_str(), dataset.as_str()], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .optional()?;
    row.map(|(recipient, node)| {
        let corrupt = |_| DbError::Corrupt { what: "dataset" };
        let node = node.parse().map_err(corrupt)?;
        Ok(Dataset { recipient, node })
    })
    .transpose()
}

/// The host names that `peer` enrolled with.
pub(crate) fn host_names(connection: &Connection, peer: &PeerId) -> Result<Vec<String>, DbError> {
    let names: Option<String> = connection
        .query_row(
            "SELECT host_names FROM peers WHERE id = ?1",
            [peer.to_string()],
            |r| r.get(0),
        )
        .optional()?;
    let corrupt = |_| DbError::Corrupt { what: "peer" };
    names.map_or(Ok(Vec::new()), |n| {
        serde_json::from_str(&n).map_err(corrupt)
    })
}

/// The newest manifest of a dataset.
pub(crate) fn latest_manifest(
    connection: &Connection,
    department: &DepartmentName,
    dataset: &DatasetName,
) -> Result<Option<(u32, Digest)>, DbError> {
    let row: Option<(u32, Vec<u8>)> = connection
        .query_row(
            "SELECT version, digest FROM manifests WHERE department = ?1 AND dataset = ?2
             ORDER BY version DESC LIMIT 1",
            [department.as_str(), dataset.as_str()],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .optional()?;
    let corrupt = DbError::Corrupt { what: "manifest" };
    row.map(|(version, digest)| Ok((version, Digest::from_bytes(&digest).ok_or(corrupt)?)))
        .transpose()
}

/// The newest version of a product, whether or not its node is still enrolled.
pub(crate) fn newest(
    connection: &Connection,
    product: &ProductRef,
) -> Result<Option<Product>, DbError> {
    connection
        .query_row(
            "SELECT envelope FROM products WHERE department = ?1 AND name = ?2
             ORDER BY version DESC LIMIT 1",
            [product.department.as_str(), product.product.as_str()],
            |r| r.get::<_, Vec<u8>>(0),
        )
        .optional()?
        .map(|bytes| decode(&bytes))
        .transpose()
}

/// The newest version of every product whose node is enrolled.
pub(crate) fn products(connection: &Connection) -> Result<Vec<Registered>, DbError> {
    let mut statement = connection.prepare_cached(
        "SELECT envelope, address FROM products p JOIN peers ON peers.id = p.node
         WHERE revoked_us IS NULL AND version =
            (SELECT max(version) FROM products q WHERE q.department = p.department AND q.name = p.name)",
    )?;
    let rows = statement.query_map([], |r| Ok((r.get::<_, Vec<u8>>(0)?, r.get(1)?)))?;
    rows.map(|row| {
        let (envelope, address) = row?;
        Ok(Registered {
            product: decode(&envelope)?,
            envelope,
            address,
        })
    })
    .collect()
}

/// A product from the envelope that was verified when it was registered.
fn decode(envelope: &[u8]) -> Result<Product, DbError> {
    let corrupt = || DbError::Corrupt { what: "product" };
    let envelope = envelope::decode(envelope).map_err(|_| corrupt())?;
    let wire = <Product as Statement>::Wire::decode(envelope.payload.as_slice());
    Product::from_wire(wire.map_err(|_| corrupt())?).map_err(|_| corrupt())
}
