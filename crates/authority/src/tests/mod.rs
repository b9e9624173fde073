//! An authority without its network: what it answers to whom, and what it puts on record.

mod assigning;
mod budgets;
mod checking;
mod crashing;
mod debiting;
mod enrolling;
mod granting;
mod joining;
mod killing;
mod lending;
mod linking;
mod modelling;
mod periods;
mod preparing;
mod publishing;
mod serving;
mod signing_in;
mod visiting;

use crate::config::AuthorityConfig;
use crate::refusal::Refusal;
use crate::state::State;
use crate::{Account, Admin, InitOptions, init};
use guildhall_audit::Entry;
use guildhall_grant::product::{
    Budget, BudgetPeriod, Column, DatasetColumn, Dimension, Measure, NanoRho, Product,
};
use guildhall_grant::{Grant, SigningKey, Statement, envelope, output_to_wire};
use guildhall_identity::new_key_and_csr;
use guildhall_keys::{ColumnKey, KeyName, Recipient, wrap};
use guildhall_model::{
    Clock as _, ColumnClass, Digest, MockClock, OutputClass, PeerId, Purpose, ReleaseClass,
    Timestamp,
};
use guildhall_proto::authority::v1 as wire;
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::grant::v1 as grant_wire;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const NODE: &str = "spiffe://northmoor/parking/node/n1";
const GATEWAY: &str = "spiffe://northmoor/council/gateway/gw";
const PASSWORD: &str = "correct horse battery";

/// A council with a node that holds `sessions`, a gateway, and the account `ana`.
struct Town {
    state: Arc<State>,
    clock: Arc<MockClock>,
    node: PeerId,
    node_key: SigningKey,
    gateway: PeerId,
    sessions: Recipient,
    dir: TempDir,
}

impl Town {
    async fn new() -> Self {
        Self::of("northmoor").await
    }

    /// A town with the product `sessions` on offer.
    async fn with_product() -> Self {
        let town = Self::new().await;
        town.register(&town.product()).await.unwrap();
        town
    }

    async fn of(council: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = MockClock::at(Timestamp::from_micros(1_795_000_000_000_000));
        let options = InitOptions {
            data: dir.path().join("data"),
            council: council.parse().unwrap(),
            root_identity: dir.path().join("root.age"),
            purposes: names(&["planning", "review"]),
        };
        init(&options, clock.now()).unwrap();
        let state = unlock(dir.path(), council, &clock);
        let peer = |id: &str| -> PeerId { id.replace("northmoor", council).parse().unwrap() };
        let mut town = Self {
            state,
            clock,
            node: peer(NODE),
            node_key: SigningKey::generate().unwrap(),
            gateway: peer(GATEWAY),
            sessions: guildhall_keys::EphemeralIdentity::generate().recipient(),
            dir,
        };
        town.enrol(&town.node, Some(&town.node_key)).await.unwrap();
        town.enrol(&town.gateway, None).await.unwrap();
        town.account("ana", &["analyst"], &["planning", "review"]);
        let opened = town.open("sessions").await;
        town.sessions = opened;
        town
    }

    fn admin(&self) -> Admin {
        Admin::open(&self.dir.path().join("data")).unwrap()
    }

    fn account(&self, name: &str, roles: &[&str], purposes: &[&str]) {
        let account = Account {
            name: &name.parse().unwrap(),
            password: Some(PASSWORD),
            roles: &roles.iter().map(|r| (*r).to_owned()).collect(),
            purposes: &names(purposes),
        };
        self.admin()
            .add_account(&account, self.clock.now())
            .unwrap();
    }

    async fn enrol(
        &self,
        peer: &PeerId,
        key: Option<&SigningKey>,
    ) -> Result<wire::EnrolResponse, Refusal> {
        let code = self.admin().invite(peer, self.clock.now()).unwrap();
        self.state
            .enrol(enrol_request(&code.to_string(), key))
            .await
    }

    async fn open(&self, dataset: &str) -> Recipient {
        let request = wire::OpenDatasetRequest {
            dataset: dataset.to_owned(),
        };
        let opened = self
            .state
            .open_dataset(self.node.clone(), &request)
            .await
            .unwrap();
        opened.recipient.parse().unwrap()
    }

    /// Statistics about parking sessions, of vehicles.
    fn product(&self) -> Product {
        let column = |name: &str, class, reads: &[&str]| Column {
            name: name.parse().unwrap(),
            class,
            doc: String::new(),
            reads: reads.iter().map(|c| dataset_column(c)).collect(),
        };
        Product {
            council: self.node.council.clone(),
            department: self.node.department.clone(),
            name: "sessions".parse().unwrap(),
            version: 1,
            doc: "Parking sessions".to_owned(),
            class: ReleaseClass::Aggregate,
            purposes: names(&["planning"]),
            conforms_to: None,
            unit: Some("vehicle".parse().unwrap()),
            minimum_group: 10,
            max_rows_per_unit: 100,
            columns: vec![
                column("ward", ColumnClass::Quasi, &["ward"]),
                column("paid", ColumnClass::Measure, &["paid"]),
                column("vehicle", ColumnClass::Identifier, &["plate"]),
                column("note", ColumnClass::Secret, &["note"]),
            ],
            dimensions: vec![Dimension {
                column: "ward".parse().unwrap(),
                roll_ups: Vec::new(),
                values: Vec::new(),
                within: None,
            }],
            measures: vec![Measure {
                column: "paid".parse().unwrap(),
                lower: 0.0,
                upper: 5000.0,
            }],
            arrow_schema: vec![1],
            definition: Digest::of(b"product file"),
            row_count: None,
            always_reads: BTreeSet::from([dataset_column("plate")]),
            node: self.node.clone(),
            budgets: Vec::new(),
            joint_with: std::collections::BTreeSet::new(),
            linkable: None,
        }
    }

    /// The same, with a quarter's budget for planning of which one question may take half.
    fn budgeted(&self, nano_rho: u64) -> Product {
        Product {
            budgets: vec![budget("planning", nano_rho)],
            ..self.product()
        }
    }

    /// A town whose product has such a budget.
    async fn with_budget(nano_rho: u64) -> Self {
        let town = Self::new().await;
        town.register(&town.budgeted(nano_rho)).await.unwrap();
        town
    }

    /// The same, as rows that anybody may have.
    fn open_product(&self) -> Product {
        Product {
            name: "open_sessions".parse().unwrap(),
            class: ReleaseClass::Open,
            row_count: Some(7),
            unit: None,
            ..self.product()
        }
    }

    async fn register(&self, product: &Product) -> Result<(), Refusal> {
        let product = Some(envelope::sign(product, &self.node_key));
        let request = wire::RegisterProductRequest { product };
        self.state
            .register_product(self.node.clone(), request)
            .await
            .map(drop)
    }

    async fn token(&self, account: &str) -> wire::Credential {
        let request = wire::SignInRequest {
            account: account.to_owned(),
            password: PASSWORD.to_owned(),
            certificate: None,
        };
        let signed_in = self.state.sign_in(&self.gateway, request).await.unwrap();
        credential(signed_in.token.unwrap())
    }

    /// A question over wards and payments, as a well-meaning gateway asks it.
    async fn question(&self) -> wire::IssueGrantsRequest {
        wire::IssueGrantsRequest {
            credential: Some(self.token("ana").await),
            purpose: "planning".to_owned(),
            query_id: "q-1".to_owned(),
            fragments: vec![self.fragment(
                "sessions",
                OutputClass::ReleasedCells,
                &["ward", "paid"],
            )],
        }
    }

    fn fragment(
        &self,
        product: &str,
        output: OutputClass,
        columns: &[&str],
    ) -> wire::FragmentWanted {
        wire::FragmentWanted {
            node: self.node.to_string(),
            products: vec![grant_wire::GrantedProduct {
                department: "parking".to_owned(),
                product: product.to_owned(),
                version: 1,
                columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            }],
            output_class: output_to_wire(output).into(),
            recipient: self.gateway.to_string(),
            fragment_digest: fragment_digest().as_bytes().to_vec(),
            linked_question_digest: vec![],
        }
    }

    async fn grant(&self) -> Envelope {
        let granted = self
            .state
            .issue_grants(&self.gateway, self.question().await)
            .await
            .unwrap();
        granted.grants.into_iter().next().unwrap()
    }

    fn log(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.admin()
            .read_log(|_, entry| entries.push(entry))
            .unwrap();
        entries
    }
}

fn unlock(dir: &Path, council: &str, clock: &Arc<MockClock>) -> Arc<State> {
    Arc::new(State::unlock(config(dir, council), clock.clone()).unwrap())
}

fn config(dir: &Path, council: &str) -> AuthorityConfig {
    AuthorityConfig {
        council: council.parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        host_names: Vec::new(),
        data: dir.join("data"),
        root_identity: dir.join("root.age"),
        policy: None,
        certificate_days: 7,
        grant_seconds: 300,
        token_minutes: 60,
        minimum_group: 3,
    }
}

fn enrol_request(code: &str, key: Option<&SigningKey>) -> wire::EnrolRequest {
    wire::EnrolRequest {
        code: code.to_owned(),
        csr: new_key_and_csr().unwrap().1,
        signing_key: key
            .map(|k| k.public().as_bytes().to_vec())
            .unwrap_or_default(),
        host_names: Vec::new(),
    }
}

fn credential(token: Envelope) -> wire::Credential {
    wire::Credential {
        kind: Some(wire::credential::Kind::AccessToken(token)),
    }
}

/// What a grant says, unverified.
fn read<S: Statement>(envelope: &Envelope) -> S {
    S::from_wire(prost::Message::decode(envelope.payload.as_slice()).unwrap()).unwrap()
}

fn fragment_digest() -> Digest {
    Digest::of(b"fragment")
}

fn names(names: &[&str]) -> BTreeSet<Purpose> {
    names.iter().map(|p| p.parse().unwrap()).collect()
}

fn budget(purpose: &str, nano_rho: u64) -> Budget {
    Budget {
        purpose: purpose.parse().unwrap(),
        datasets: ["sessions".parse().unwrap()].into(),
        rho: NanoRho::new(nano_rho),
        period: BudgetPeriod::Quarter,
        per_query: NanoRho::new(nano_rho / 2),
        cells_per_unit: 1,
    }
}

fn dataset_column(column: &str) -> DatasetColumn {
    DatasetColumn {
        dataset: "sessions".parse().unwrap(),
        column: column.parse().unwrap(),
    }
}

fn key_name(column: Option<&str>) -> KeyName {
    KeyName {
        dataset: "sessions".parse().unwrap(),
        column: column.map(|c| c.parse().unwrap()),
        period: "all".parse().unwrap(),
    }
}

/// A fresh key of `sessions`, wrapped as a node wraps it.
fn wrapped(column: Option<&str>, to: &Recipient) -> wire::KeyWanted {
    let name = key_name(column);
    wire::KeyWanted {
        dataset: name.dataset.to_string(),
        column: column.unwrap_or_default().to_owned(),
        period: name.period.to_string(),
        age: wrap(&name, &ColumnKey::generate().unwrap(), to).unwrap(),
    }
}
