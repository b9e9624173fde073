//! What nodes put on record.

use super::*;
use guildhall_audit::Event;
use guildhall_grant::WireError;
use guildhall_model::ProductName;
use guildhall_proto::store::v1::Manifest;

struct Stated(Manifest);

impl Statement for Stated {
    const PAYLOAD_TYPE: &'static str = "application/vnd.guildhall.manifest.v1";
    type Wire = Manifest;
    fn to_wire(&self) -> Manifest {
        self.0.clone()
    }
    fn from_wire(wire: Manifest) -> Result<Self, WireError> {
        Ok(Self(wire))
    }
}

fn manifest(version: u32, previous: &[u8]) -> Manifest {
    Manifest {
        council: "northmoor".to_owned(),
        department: "parking".to_owned(),
        dataset: "sessions".to_owned(),
        version,
        previous: previous.to_vec(),
        ..Manifest::default()
    }
}

async fn record(town: &Town, manifest: Envelope) -> Result<(), Refusal> {
    let request = wire::RecordManifestRequest {
        manifest: Some(manifest),
    };
    town.state
        .record_manifest(town.node.clone(), request)
        .await
        .map(drop)
}

fn latest(town: &Town) -> (u32, Vec<u8>) {
    let request = wire::LatestManifestRequest {
        dataset: "sessions".to_owned(),
    };
    let latest = town.state.latest_manifest(&town.node, &request).unwrap();
    (latest.version, latest.digest)
}

#[tokio::test]
async fn manifests_follow_each_other() {
    let town = Town::new().await;
    let sign = |m: Manifest| envelope::sign(&Stated(m), &town.node_key);
    assert_eq!(latest(&town).0, 0);
    let first = sign(manifest(1, &[]));
    record(&town, first.clone()).await.unwrap();
    let digest = envelope::digest(&first).as_bytes().to_vec();
    assert_eq!(latest(&town), (1, digest.clone()));
    // Again, as after an answer that was lost.
    let entries = town.log().len();
    record(&town, first).await.unwrap();
    assert_eq!(town.log().len(), entries);

    for wrong in [
        manifest(3, &digest),
        manifest(2, &[]),
        manifest(1, &digest),
        manifest(0, &[]),
    ] {
        assert!(matches!(
            record(&town, sign(wrong)).await,
            Err(Refusal::Precondition(_))
        ));
    }
    record(&town, sign(manifest(2, &digest))).await.unwrap();
    assert_eq!(latest(&town).0, 2);
    assert_eq!(town.log().pop().unwrap().event, Event::RecordManifest);
}

#[tokio::test]
async fn a_manifest_of_another_signer_department_or_dataset_is_refused() {
    let town = Town::new().await;
    let stranger = SigningKey::generate().unwrap();
    let forged = envelope::sign(&Stated(manifest(1, &[])), &stranger);
    assert!(matches!(
        record(&town, forged).await,
        Err(Refusal::Invalid {
            field: "manifest",
            ..
        })
    ));
    for wrong in [
        Manifest {
            department: "housing".to_owned(),
            ..manifest(1, &[])
        },
        Manifest {
            council: "southmoor".to_owned(),
            ..manifest(1, &[])
        },
        Manifest {
            dataset: "no_such".to_owned(),
            ..manifest(1, &[])
        },
        Manifest {
            dataset: "No Such".to_owned(),
            ..manifest(1, &[])
        },
    ] {
        assert!(
            record(&town, envelope::sign(&Stated(wrong), &town.node_key))
                .await
                .is_err()
        );
    }
    assert_eq!(latest(&town).0, 0);
}

#[tokio::test]
async fn a_dataset_has_one_recipient_for_good() {
    let town = Town::new().await;
    assert_eq!(town.open("sessions").await, town.sessions);
    assert_ne!(town.open("fines").await, town.sessions);
}

/// Another node of the department of [`NODE`].
async fn neighbour(town: &Town) -> PeerId {
    let other: PeerId = "spiffe://northmoor/parking/node/n2".parse().unwrap();
    town.enrol(&other, Some(&town.node_key)).await.unwrap();
    other
}

const HELD: &str = "dataset `sessions` is held by spiffe://northmoor/parking/node/n1; choose another name, or have that node revoked and import the dataset here";

#[tokio::test]
async fn a_dataset_is_its_nodes_and_not_its_departments() {
    let town = Town::new().await;
    let other = neighbour(&town).await;
    let dataset = || "sessions".to_owned();
    let open = wire::OpenDatasetRequest { dataset: dataset() };
    let refused = town.state.open_dataset(other.clone(), &open).await;
    assert_eq!(refused.unwrap_err().to_string(), HELD);

    let latest = wire::LatestManifestRequest { dataset: dataset() };
    let refused = town.state.latest_manifest(&other, &latest);
    assert_eq!(refused.unwrap_err().to_string(), HELD);

    let first = Some(envelope::sign(&Stated(manifest(1, &[])), &town.node_key));
    let request = wire::RecordManifestRequest { manifest: first };
    let refused = town.state.record_manifest(other.clone(), request).await;
    assert_eq!(refused.unwrap_err().to_string(), HELD);

    let over = Product {
        name: "theirs".parse().unwrap(),
        node: other.clone(),
        ..town.product()
    };
    let product = Some(envelope::sign(&over, &town.node_key));
    let request = wire::RegisterProductRequest { product };
    let refused = town.state.register_product(other, request).await;
    assert_eq!(refused.unwrap_err().to_string(), HELD);
}

#[tokio::test]
async fn a_product_is_registered_once_and_changed_by_a_higher_version() {
    let town = Town::with_product().await;
    let entries = town.log().len();
    town.register(&town.product()).await.unwrap();
    assert_eq!(town.log().len(), entries);
    let changed = Product {
        doc: "Other words".to_owned(),
        ..town.product()
    };
    assert!(matches!(
        town.register(&changed).await,
        Err(Refusal::Precondition(_))
    ));
    town.register(&Product {
        version: 3,
        ..changed.clone()
    })
    .await
    .unwrap();
    assert!(
        town.register(&Product {
            version: 2,
            ..changed
        })
        .await
        .is_err()
    );
}

#[tokio::test]
async fn new_data_changes_the_count_of_rows_and_not_the_version() {
    let town = Town::new().await;
    let product = town.open_product();
    town.register(&product).await.unwrap();
    town.register(&Product {
        row_count: Some(8),
        ..product.clone()
    })
    .await
    .unwrap();
    let register = town.state.register().unwrap();
    let registered = register
        .product(&product.department, &product.name)
        .unwrap();
    assert_eq!(registered.product.row_count, Some(8));
}

#[tokio::test]
async fn a_product_that_asks_too_little_care_is_refused() {
    let town = Town::new().await;
    let product = || town.product();
    let class = |name: &str, class| {
        let mut product = product();
        product
            .columns
            .iter_mut()
            .filter(|c| c.name.as_str() == name)
            .for_each(|c| c.class = class);
        product
    };
    for (why, wrong) in [
        (
            "no purpose",
            Product {
                purposes: names(&[]),
                ..product()
            },
        ),
        (
            "an unpublished purpose",
            Product {
                purposes: names(&["gossip"]),
                ..product()
            },
        ),
        (
            "a group of two",
            Product {
                minimum_group: 2,
                ..product()
            },
        ),
        (
            "no unit",
            Product {
                unit: None,
                ..product()
            },
        ),
        (
            "a unit that is no identifier",
            Product {
                unit: Some("ward".parse().unwrap()),
                ..product()
            },
        ),
        ("a secret dimension", class("ward", ColumnClass::Secret)),
        (
            "an identifier as a measure",
            class("paid", ColumnClass::Identifier),
        ),
        (
            "another department",
            Product {
                department: "housing".parse().unwrap(),
                ..product()
            },
        ),
        (
            "another council",
            Product {
                council: "southmoor".parse().unwrap(),
                ..product()
            },
        ),
        (
            "another node",
            Product {
                node: "spiffe://northmoor/parking/node/n2".parse().unwrap(),
                ..product()
            },
        ),
        (
            "a dataset that has no keys",
            Product {
                always_reads: BTreeSet::from([DatasetColumn {
                    dataset: "fines".parse().unwrap(),
                    column: "a".parse().unwrap(),
                }]),
                ..product()
            },
        ),
    ] {
        assert!(town.register(&wrong).await.is_err(), "{why}");
    }
    let forged = envelope::sign(&product(), &SigningKey::generate().unwrap());
    let request = wire::RegisterProductRequest {
        product: Some(forged),
    };
    assert!(
        town.state
            .register_product(town.node.clone(), request)
            .await
            .is_err()
    );
    assert!(town.state.register().unwrap().products().next().is_none());
}

#[tokio::test]
async fn a_product_may_be_offered_for_development_and_has_no_budget_for_it() {
    let town = Town::new().await;
    let purposes = names(&["planning", "review", "development"]);
    town.admin()
        .set_purposes(&purposes, town.clock.now())
        .unwrap();
    let offered = |budget| Product {
        purposes: names(&["planning", "development"]),
        budgets: vec![budget],
        ..town.product()
    };
    let refused = town.register(&offered(budget("development", 10))).await;
    let why = refused.unwrap_err().to_string();
    assert!(
        why.contains("`product.budgets`")
            && why.contains("`development`, which is charged nothing"),
        "{why}"
    );
    town.register(&offered(budget("planning", 10)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_product_stays_with_its_node_until_that_is_revoked() {
    let town = Town::with_product().await;
    let other: PeerId = "spiffe://northmoor/parking/node/n2".parse().unwrap();
    town.enrol(&other, Some(&town.node_key)).await.unwrap();
    let moved = Product {
        node: other.clone(),
        version: 2,
        ..town.product()
    };
    let take = async || {
        let product = Some(envelope::sign(&moved, &town.node_key));
        let request = wire::RegisterProductRequest { product };
        town.state.register_product(other.clone(), request).await
    };
    assert!(take().await.is_err());
    town.admin()
        .revoke_peer(&town.node, town.clock.now())
        .unwrap();
    assert!(take().await.is_err(), "before it holds the dataset");
    let open = wire::OpenDatasetRequest {
        dataset: "sessions".to_owned(),
    };
    let opened = town.state.open_dataset(other.clone(), &open).await.unwrap();
    assert_eq!(opened.recipient, town.sessions.to_string());
    assert_eq!(town.log().pop().unwrap().event, Event::OpenDataset);
    take().await.unwrap();
    let name: ProductName = "sessions".parse().unwrap();
    let register = town.state.register().unwrap();
    assert_eq!(
        register
            .product(&other.department, &name)
            .unwrap()
            .product
            .node,
        other
    );
}

#[tokio::test]
async fn a_node_says_where_it_listens() {
    let town = Town::with_product().await;
    let announce = async |address: &str| {
        let request = wire::AnnounceRequest {
            address: address.to_owned(),
        };
        town.state.announce(town.node.clone(), request).await
    };
    for bad in ["", "parking", ":1", "parking:http", "parking:70000"] {
        assert!(announce(bad).await.is_err(), "{bad}");
    }
    announce("parking.example:7100").await.unwrap();
    let register = town.state.register().unwrap();
    let address = register.products().next().unwrap().address.as_deref();
    assert_eq!(address, Some("parking.example:7100"));
}
