//! What one credential may see for one purpose, gathered from every council's authority.

use crate::backend::{Backend, PartyError};
use crate::credential::Caller;
use crate::error::DoorError;
use crate::metadata::Listed;
use arrow::datatypes::{Field, Schema};
use futures::future::join_all;
use guildhall_grant::Statement;
use guildhall_grant::product::Product;
use guildhall_model::{CouncilName, Digest, Purpose};
use guildhall_plan::catalogue::{Catalogue, CatalogueTable, CleanRoom, Offer, TableKind};
use guildhall_proto::authority::v1::{CatalogueEntry, CatalogueRequest, CatalogueResponse};
use guildhall_proto::envelope::v1::Envelope;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use tonic::Code;

// Field metadata by which Flight SQL carries what a column is.
const REMARKS: &str = "ARROW:FLIGHT:SQL:REMARKS";

/// What one credential may see for one purpose.
pub(crate) struct View {
    pub(crate) catalogue: Arc<Catalogue>,
    /// Changes whenever anything in it does.
    pub(crate) version: Digest,
    /// Councils whose authority did not answer; their products are not in here.
    pub(crate) away: BTreeSet<CouncilName>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("version", &self.version)
            .field("tables", &self.catalogue.tables().len())
            .field("away", &self.away)
            .finish_non_exhaustive()
    }
}

impl View {
    /// Asks every council's authority at once. One that is away is noted; one that knows nothing
    /// of the caller or the purpose offers nothing, unless it is the caller's own.
    pub(crate) async fn fetch(
        backend: &dyn Backend,
        councils: &[CouncilName],
        clean_room: Option<&CleanRoom>,
        caller: &Caller,
        purpose: &str,
    ) -> Result<Self, DoorError> {
        let asked = councils.iter().map(|council| async move {
            let request = CatalogueRequest {
                credential: Some(caller.credential.clone()),
                purpose: purpose.to_owned(),
            };
            (council, backend.catalogue(council, request).await)
        });
        let (mut answers, mut away) = (BTreeMap::new(), BTreeSet::new());
        for (council, answer) in join_all(asked).await {
            match answer {
                Ok(answer) => {
                    answers.insert(council, answer);
                }
                Err(PartyError::Refused { code, .. })
                    if *council != caller.principal.council && is_stranger(code) => {}
                Err(e @ PartyError::Refused { .. }) => return Err(e.into()),
                Err(PartyError::Away(_) | PartyError::PartAway(_) | PartyError::Failed(_)) => {
                    away.insert(council.clone());
                }
            }
        }
        let version = version(&answers, &away);
        let why = purpose.parse::<Purpose>().ok();
        let catalogue = Catalogue::new(offers(&answers), why.as_ref())
            .map_err(|e| DoorError::internal("read the catalogue", &e))?;
        Ok(Self {
            catalogue: Arc::new(catalogue.with_clean_room(clean_room.cloned())),
            version,
            away,
        })
    }

    /// Every table, for tools that browse.
    pub(crate) fn listed(&self) -> Vec<Listed> {
        self.catalogue.tables().iter().map(listed).collect()
    }
}

/// Whether a council says that it knows nothing of the caller or the purpose.
fn is_stranger(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated | Code::PermissionDenied | Code::NotFound | Code::InvalidArgument
    )
}

fn version(
    answers: &BTreeMap<&CouncilName, CatalogueResponse>,
    away: &BTreeSet<CouncilName>,
) -> Digest {
    let mut text = Vec::new();
    for (council, answer) in answers {
        text.extend_from_slice(council.as_str().as_bytes());
        for entry in &answer.products {
            text.extend_from_slice(Digest::of(&entry.encode_to_vec()).as_bytes());
        }
    }
    for council in away {
        text.push(0);
        text.extend_from_slice(council.as_str().as_bytes());
    }
    Digest::of(&text)
}

fn offers(answers: &BTreeMap<&CouncilName, CatalogueResponse>) -> Vec<Offer> {
    let mut offers = Vec::new();
    for (council, answer) in answers {
        for entry in &answer.products {
            match offer(entry) {
                // A council speaks of its own products only.
                Some(offer)
                    if offer.product.council == **council
                        && offer.product.node.council == **council =>
                {
                    offers.push(offer);
                }
                _ => {
                    tracing::warn!(%council, "left a product out of the catalogue: it is not well formed")
                }
            }
        }
    }
    offers
}

/// The node's signature was checked by its authority, which alone knows the node's key. Nothing
/// is at stake here: the node holds every fragment against its own product.
fn offer(entry: &CatalogueEntry) -> Option<Offer> {
    let envelope = Envelope::decode(entry.product.as_slice()).ok()?;
    if envelope.payload_type != Product::PAYLOAD_TYPE {
        return None;
    }
    let wire = <Product as Statement>::Wire::decode(envelope.payload.as_slice()).ok()?;
    let product = Product::from_wire(wire).ok()?;
    Some(Offer {
        product,
        address: entry.address.clone(),
    })
}

fn listed(table: &CatalogueTable) -> Listed {
    let product = match &table.kind {
        TableKind::Product(p) => Some(p),
        TableKind::Union(members) => members.first(),
        TableKind::Information => None,
    };
    let docs: HashMap<&str, &str> = product
        .map(|p| {
            p.product
                .columns
                .iter()
                .map(|c| (c.name.as_str(), c.doc.as_str()))
                .collect()
        })
        .unwrap_or_default();
    let fields: Vec<Field> = table
        .columns
        .fields()
        .iter()
        .map(|field| match docs.get(field.name().as_str()) {
            Some(doc) if !doc.is_empty() => {
                let metadata = HashMap::from([(REMARKS.to_owned(), (*doc).to_owned())]);
                field.as_ref().clone().with_metadata(metadata)
            }
            _ => field.as_ref().clone(),
        })
        .collect();
    Listed {
        catalog: table.catalog.clone(),
        schema: table.schema.clone(),
        table: table.name.clone(),
        table_type: table.table_type(),
        columns: Arc::new(Schema::new(fields)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;
    use guildhall_grant::product::Column;
    use guildhall_grant::{SigningKey, envelope};
    use guildhall_model::{ColumnClass, ReleaseClass};

    /// A product of `council`, as an authority offers it. Its node is of the same council, or it does not parse.
    fn entry(council: &str) -> CatalogueEntry {
        let product = Product {
            council: council.parse().unwrap(),
            department: "parking".parse().unwrap(),
            name: "occupancy".parse().unwrap(),
            version: 1,
            doc: String::new(),
            class: ReleaseClass::Open,
            purposes: BTreeSet::from(["planning".parse().unwrap()]),
            conforms_to: None,
            unit: None,
            minimum_group: 1,
            max_rows_per_unit: 1,
            columns: vec![Column {
                name: "spaces".parse().unwrap(),
                class: ColumnClass::Open,
                doc: String::new(),
                reads: BTreeSet::new(),
            }],
            dimensions: vec![],
            measures: vec![],
            arrow_schema: crate::encode::schema_bytes(&Schema::new(vec![Field::new(
                "spaces",
                DataType::Int64,
                true,
            )]))
            .unwrap()
            .to_vec(),
            definition: Digest::of(b"occupancy"),
            row_count: None,
            always_reads: BTreeSet::new(),
            budgets: vec![],
            joint_with: std::collections::BTreeSet::new(),
            linkable: None,
            node: format!("spiffe://{council}/parking/node/parking-1")
                .parse()
                .unwrap(),
        };
        let signed = envelope::sign(&product, &SigningKey::generate().unwrap());
        CatalogueEntry {
            product: signed.encode_to_vec(),
            address: "https://parking:1".to_owned(),
        }
    }

    #[test]
    fn a_council_speaks_of_its_own_products() {
        let said = CatalogueResponse {
            products: vec![entry("northmoor"), entry("southsea")],
            ..CatalogueResponse::default()
        };
        let council = "northmoor".parse().unwrap();
        let believed = offers(&BTreeMap::from([(&council, said)]));
        let believed: Vec<_> = believed
            .iter()
            .map(|o| o.product.council.as_str())
            .collect();
        assert_eq!(believed, ["northmoor"]);
    }
}
