//! What nodes put on record: datasets, manifests, products, and where they listen.

use crate::admin;
use crate::log;
use crate::refusal::Refusal;
use crate::register;
use crate::state::State;
use guildhall_audit::{Decision, Entry, Event, ProductSeen};
use guildhall_grant::product::{DEVELOPMENT, Product};
use guildhall_grant::{Statement, VerifyingKey, WireError, envelope};
use guildhall_keyring::DatasetIdentity;
use guildhall_model::{ColumnClass, ColumnName, DatasetName, PeerId, ReleaseClass, Timestamp};
use guildhall_proto::authority::v1 as wire;
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::store::v1 as store;
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The longest address that is kept.
const LONGEST_ADDRESS: usize = 300;

impl State {
    /// The recipient of one of the node's own datasets, made on first request.
    ///
    /// A dataset stays with the node that first opened it. Once that is revoked, the first of
    /// its department to open it takes its place.
    pub(crate) async fn open_dataset(
        self: &Arc<Self>,
        node: PeerId,
        request: &wire::OpenDatasetRequest,
    ) -> Result<wire::OpenDatasetResponse, Refusal> {
        let (state, now) = (Arc::clone(self), self.clock.now());
        let dataset: DatasetName = request
            .dataset
            .parse()
            .map_err(|e| Refusal::invalid("dataset", e))?;
        let recipient =
            self.db
                .write(move |tx| {
                    let recipient = match register::dataset(tx, &node.department, &dataset)? {
                        Some(known) if known.node == node => return Ok(known.recipient),
                        Some(known) if register::is_enrolled(tx, &known.node)? => {
                            return Err(held_by(&dataset, &known.node));
                        }
                        Some(known) => {
                            tx.execute(
                            "UPDATE datasets SET node = ?3 WHERE department = ?1 AND dataset = ?2",
                            [node.department.as_str(), dataset.as_str(), &node.to_string()],
                        )?;
                            known.recipient
                        }
                        None => new_dataset(&state, tx, &node, &dataset)?,
                    };
                    let entry = Entry {
                        peer: Some(node),
                        dataset: Some(dataset),
                        ..Entry::new(Event::OpenDataset, Decision::Permit)
                    };
                    log::append(tx, &entry, now)?;
                    Ok::<_, Refusal>(recipient)
                })
                .await?;
        Ok(wire::OpenDatasetResponse { recipient })
    }

    pub(crate) async fn record_manifest(
        self: &Arc<Self>,
        node: PeerId,
        request: wire::RecordManifestRequest,
    ) -> Result<wire::RecordManifestResponse, Refusal> {
        let (state, now) = (Arc::clone(self), self.clock.now());
        let manifest = request
            .manifest
            .ok_or_else(|| Refusal::invalid("manifest", "is missing"))?;
        self.db
            .write(move |tx| record_manifest(&state, tx, &node, &manifest, now))
            .await?;
        Ok(wire::RecordManifestResponse {})
    }

    pub(crate) fn latest_manifest(
        &self,
        node: &PeerId,
        request: &wire::LatestManifestRequest,
    ) -> Result<wire::LatestManifestResponse, Refusal> {
        let dataset: DatasetName = request
            .dataset
            .parse()
            .map_err(|e| Refusal::invalid("dataset", e))?;
        let latest = self.db.read(|c| {
            match register::dataset(c, &node.department, &dataset)? {
                Some(known) if known.node != *node => return Err(held_by(&dataset, &known.node)),
                _ => {}
            }
            Ok::<_, Refusal>(register::latest_manifest(c, &node.department, &dataset)?)
        })?;
        Ok(latest.map_or_else(
            wire::LatestManifestResponse::default,
            |(version, digest)| wire::LatestManifestResponse {
                version,
                digest: digest.as_bytes().to_vec(),
            },
        ))
    }

    /// Takes note of where the node listens. Not put on record: the address decides nothing,
    /// since whoever answers there must prove to be the node.
    pub(crate) async fn announce(
        &self,
        node: PeerId,
        request: wire::AnnounceRequest,
    ) -> Result<wire::AnnounceResponse, Refusal> {
        let address = request.address;
        let well_formed = address.len() <= LONGEST_ADDRESS
            && address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !well_formed {
            return Err(Refusal::invalid("address", "expected host:port"));
        }
        self.db
            .write(move |tx| {
                if register::address(tx, &node)?.as_deref() != Some(&address) {
                    tx.execute(
                        "UPDATE peers SET address = ?2 WHERE id = ?1",
                        params![node.to_string(), address],
                    )?;
                }
                Ok::<_, Refusal>(())
            })
            .await?;
        Ok(wire::AnnounceResponse {})
    }

    pub(crate) async fn register_product(
        self: &Arc<Self>,
        node: PeerId,
        request: wire::RegisterProductRequest,
    ) -> Result<wire::RegisterProductResponse, Refusal> {
        let (state, now) = (Arc::clone(self), self.clock.now());
        let product = request
            .product
            .ok_or_else(|| Refusal::invalid("product", "is missing"))?;
        self.db
            .write(move |tx| register_product(&state, tx, &node, &product, now))
            .await?;
        Ok(wire::RegisterProductResponse {})
    }
}

/// A manifest as far as the authority looks into it.
struct ManifestOnRecord(store::Manifest);

impl Statement for ManifestOnRecord {
    const PAYLOAD_TYPE: &'static str = "application/vnd.guildhall.manifest.v1";
    type Wire = store::Manifest;
    fn to_wire(&self) -> store::Manifest {
        self.0.clone()
    }
    fn from_wire(wire: store::Manifest) -> Result<Self, WireError> {
        Ok(Self(wire))
    }
}

fn signing_key(connection: &Connection, node: &PeerId) -> Result<VerifyingKey, Refusal> {
    register::signing_key(connection, node)?.ok_or_else(|| {
        Refusal::Precondition("this node enrolled without a key that signs".to_owned())
    })
}

/// Puts a manifest on record: the next version of one of the node's own datasets, following the
/// one on record. The same manifest again changes nothing.
fn record_manifest(
    state: &State,
    tx: &Transaction<'_>,
    node: &PeerId,
    manifest: &Envelope,
    now: Timestamp,
) -> Result<(), Refusal> {
    let ManifestOnRecord(stated) = envelope::verify(manifest, &[signing_key(tx, node)?])
        .map_err(|_| Refusal::invalid("manifest", "it is not signed by this node"))?;
    if stated.council != state.council().as_str() || stated.department != node.department.as_str() {
        return Err(Refusal::invalid(
            "manifest",
            "it is not of the node's own department",
        ));
    }
    let dataset: DatasetName = stated
        .dataset
        .parse()
        .map_err(|e| Refusal::invalid("manifest.dataset", e))?;
    check_holder(tx, node, &dataset)?;
    let digest = envelope::digest(manifest);
    let latest = register::latest_manifest(tx, &node.department, &dataset)?;
    if latest == Some((stated.version, digest)) {
        return Ok(());
    }
    let (version, previous) = latest.map_or((0, Vec::new()), |(v, d)| (v, d.as_bytes().to_vec()));
    if version.checked_add(1) != Some(stated.version) || stated.previous != previous {
        return Err(Refusal::Precondition(format!(
            "dataset `{dataset}` is at version {version}; this manifest does not follow it"
        )));
    }
    tx.execute(
        "INSERT INTO manifests (department, dataset, version, digest, recorded_us) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            node.department.as_str(),
            dataset.as_str(),
            stated.version,
            digest.as_bytes().as_slice(),
            now.as_micros()
        ],
    )?;
    let entry = Entry {
        peer: Some(node.clone()),
        dataset: Some(dataset),
        digest: Some(digest),
        ..Entry::new(Event::RecordManifest, Decision::Permit)
    };
    Ok(log::append(tx, &entry, now)?)
}

/// Makes the identity of a dataset that `node` then holds; gives its recipient.
fn new_dataset(
    state: &State,
    tx: &Transaction<'_>,
    node: &PeerId,
    dataset: &DatasetName,
) -> Result<String, Refusal> {
    let identity = DatasetIdentity::generate();
    let recipient = identity.recipient().to_string();
    let sealed = identity
        .seal_to(&state.root.recipients())
        .map_err(|e| Refusal::internal(&e))?;
    tx.execute(
        "INSERT INTO datasets (department, dataset, node, recipient, sealed)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            node.department.as_str(),
            dataset.as_str(),
            node.to_string(),
            recipient,
            sealed
        ],
    )?;
    Ok(recipient)
}

/// Refuses a dataset that `node` does not hold, be it a neighbour's of the same department.
pub(crate) fn check_holder(
    connection: &Connection,
    node: &PeerId,
    dataset: &DatasetName,
) -> Result<(), Refusal> {
    match register::dataset(connection, &node.department, dataset)? {
        None => Err(Refusal::Precondition(format!(
            "dataset `{dataset}` has no recipient yet; open it first"
        ))),
        Some(known) if known.node != *node => Err(held_by(dataset, &known.node)),
        Some(_) => Ok(()),
    }
}

fn held_by(dataset: &DatasetName, node: &PeerId) -> Refusal {
    Refusal::Precondition(format!(
        "dataset `{dataset}` is held by {node}; choose another name, or have that node revoked and import the dataset here"
    ))
}

/// Registers a product that `node` signed: its own department's, at a version above the last.
///
/// The same version again is taken if nothing but its count of rows differs, which new data
/// changes without anybody touching the product.
fn register_product(
    state: &State,
    tx: &Transaction<'_>,
    node: &PeerId,
    signed: &Envelope,
    now: Timestamp,
) -> Result<(), Refusal> {
    let product = own_product(state, tx, node, signed)?;
    check_product(&product, state.config.minimum_group)?;
    let published = admin::published(tx)?;
    if let Some(purpose) = product.purposes.iter().find(|p| !published.contains(p)) {
        let why = format!("`{purpose}` is not on the council's list of purposes");
        return Err(Refusal::invalid("product.purposes", why));
    }
    for dataset in datasets(&product) {
        check_holder(tx, node, dataset)?;
    }
    let reference = product.product_ref();
    let digest = envelope::digest(signed);
    if let Some(current) = register::newest(tx, &reference)? {
        let taken = current.node != *node && register::is_enrolled(tx, &current.node)?;
        if taken {
            let why = format!("product `{reference}` is served by {}", current.node);
            return Err(Refusal::Precondition(why));
        }
        if product == current {
            return Ok(());
        }
        let recounted = Product {
            row_count: current.row_count,
            ..product.clone()
        } == current;
        if product.version <= current.version && !recounted {
            return Err(Refusal::Precondition(format!(
                "product `{reference}` is registered at version {}; a change needs a higher one",
                current.version
            )));
        }
    }
    tx.execute(
        "INSERT INTO products (department, name, version, envelope, node, registered_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (department, name, version) DO UPDATE SET envelope = excluded.envelope,
         registered_us = excluded.registered_us",
        params![
            product.department.as_str(),
            product.name.as_str(),
            product.version,
            envelope::encode(signed),
            node.to_string(),
            now.as_micros()
        ],
    )?;
    let columns = product.columns.iter().map(|c| c.name.clone()).collect();
    let entry = Entry {
        peer: Some(node.clone()),
        products: vec![ProductSeen::new(&reference, product.version, columns)],
        digest: Some(digest),
        ..Entry::new(Event::RegisterProduct, Decision::Permit)
    };
    Ok(log::append(tx, &entry, now)?)
}

/// The product that `node` signed, if it is one of its own.
pub(crate) fn own_product(
    state: &State,
    connection: &Connection,
    node: &PeerId,
    signed: &Envelope,
) -> Result<Product, Refusal> {
    let product: Product = envelope::verify(signed, &[signing_key(connection, node)?])
        .map_err(|e| Refusal::invalid("product", guildhall_telemetry::error_chain(&e)))?;
    let same_department =
        product.council == *state.council() && product.department == node.department;
    if !same_department || product.node != *node {
        return Err(Refusal::invalid(
            "product",
            "it is not of this node and its department",
        ));
    }
    Ok(product)
}

pub(crate) fn datasets(product: &Product) -> BTreeSet<&DatasetName> {
    let reads = product.columns.iter().flat_map(|c| &c.reads);
    reads
        .chain(&product.always_reads)
        .map(|r| &r.dataset)
        .collect()
}

/// What a council asks of every product, beyond its parts fitting each other.
fn check_product(product: &Product, minimum_group: u32) -> Result<(), Refusal> {
    let class = |name: &ColumnName| {
        product
            .columns
            .iter()
            .find(|c| c.name == *name)
            .map(|c| c.class)
    };
    let refuse = |field, why: String| Err(Refusal::invalid(field, why));
    if product.purposes.is_empty() {
        return refuse("product.purposes", "it is offered for none".to_owned());
    }
    if product
        .budgets
        .iter()
        .any(|b| b.purpose.as_str() == DEVELOPMENT)
    {
        let why = "one is for `development`, which is charged nothing";
        return refuse("product.budgets", why.to_owned());
    }
    for d in &product.dimensions {
        if !matches!(
            class(&d.column),
            Some(ColumnClass::Quasi | ColumnClass::Open)
        ) {
            let why = format!("`{}` is of a class that nobody groups by", d.column);
            return refuse("product.dimensions", why);
        }
    }
    for m in &product.measures {
        if !matches!(
            class(&m.column),
            Some(ColumnClass::Measure | ColumnClass::Open)
        ) {
            return refuse(
                "product.measures",
                format!("`{}` is not a measure", m.column),
            );
        }
    }
    if product.class != ReleaseClass::Aggregate {
        return Ok(());
    }
    if let Some(unit) = &product.unit
        && class(unit) != Some(ColumnClass::Identifier)
    {
        return refuse("product.unit", format!("`{unit}` is not an identifier"));
    }
    if product.minimum_group < minimum_group {
        let given = product.minimum_group;
        let why = format!("{given} is below this council's least, {minimum_group}");
        return refuse("product.minimum_group", why);
    }
    Ok(())
}
