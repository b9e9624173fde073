//! A department in one process, for tests: real files, keys, grants and plans; the authority is a double that
//! does as it is told.

mod authority;

pub(crate) use authority::FakeAuthority;

use crate::audit::Log;
use crate::authority::Authority;
use crate::check::{CheckError, Checked, Checker, Officer};
use crate::config::Limits;
use crate::datasets::Datasets;
use crate::engine::Engine;
use crate::import::{Importer, NodeImportError};
use crate::product::Products;
use crate::publish::{PublishError, Published, Publisher};
use crate::run::{Door, Patterns, Runner, Turns};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;
use guildhall_client::arrow_message::{decode_batch, decode_schema};
use guildhall_disclosure::NoiseSecret;
use guildhall_grant::product::Product;
use guildhall_grant::{Grant, GrantedProduct, SigningKey, envelope};
use guildhall_identity::{CertificateAuthority, TrustStore};
use guildhall_model::{
    Clock, Digest, MockClock, OutputClass, PeerId, ReleaseClass, SharedClock, Timestamp,
};
use guildhall_plan::adhoc::Lane;
use guildhall_plan::profile;
use guildhall_plan::session::{bare_state, base_config};
use guildhall_policy::{DEFAULT_DEPARTMENT_POLICY, Policies};
use guildhall_proto::authority::v1::TrustBundle;
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::node::v1::RunRequest;
use guildhall_store::{ImportReport, ImportSpec, Mode, Storage};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tonic::{Code, Status};

pub(crate) const NODE: &str = "spiffe://northmoor/parking/node/parking-1";
pub(crate) const GATEWAY: &str = "spiffe://northmoor/council/gateway/main";

/// A department with a node, and its council's signing key.
pub(crate) struct TestNode {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Arc<FakeAuthority>,
    pub(crate) runner: Runner,
    pub(crate) clock: Arc<MockClock>,
    signer: Arc<SigningKey>,
    council: SigningKey,
    products: BTreeMap<String, Product>,
    grants: AtomicU32,
    /// Whether the gateway asks for status companions.
    pub(crate) cell_status: bool,
}

impl TestNode {
    /// A node with nothing in it.
    pub(crate) fn new() -> Self {
        Self::with_policy(DEFAULT_DEPARTMENT_POLICY)
    }

    /// A node with a policy of its own.
    pub(crate) fn with_policy(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = MockClock::at(Timestamp::from_micros(1_790_000_000_000_000));
        let council = SigningKey::generate().unwrap();
        let signer = Arc::new(SigningKey::generate().unwrap());
        let authority = Arc::new(FakeAuthority::generous());
        let products = folder.path().join("products");
        std::fs::create_dir(&products).unwrap();
        let datasets = datasets(folder.path(), &signer, &authority);
        let node: PeerId = NODE.parse().unwrap();
        let runner = Runner {
            door: Door::new(node, trust(&council, clock.now()), clock.now()),
            products: Products::new(products, signer.public(), Arc::new(datasets)),
            secret: NoiseSecret::from_bytes([7; 32]),
            patterns: Patterns::default(),
            policies: Policies::department(policy).unwrap(),
            engine: Engine::new(&Limits {
                partitions: 2,
                ..Limits::default()
            })
            .unwrap(),
            authority: Arc::clone(&authority) as Arc<dyn Authority>,
            log: Log::open(&folder.path().join("audit.sqlite")).unwrap(),
            clock: Arc::clone(&clock) as SharedClock,
            turns: Turns::new(4, 4),
            longest: Duration::from_secs(30),
        };
        let (products, grants) = (BTreeMap::new(), AtomicU32::new(0));
        Self {
            folder,
            authority,
            runner,
            clock,
            signer,
            council,
            products,
            grants,
            cell_status: false,
        }
    }

    /// A node with the parking department's datasets and products.
    pub(crate) async fn parking() -> Self {
        let mut node = Self::new();
        node.fill().await;
        node
    }

    pub(crate) async fn fill(&mut self) {
        self.import(CAR_PARKS, &car_parks()).await.unwrap();
        self.import(SESSIONS_DATA, &sessions()).await.unwrap();
        self.publish(crate::product::SESSIONS).await.unwrap();
        self.publish(PLACES).await.unwrap();
        self.publish(VISITS).await.unwrap();
    }

    pub(crate) async fn import(
        &self,
        spec: &str,
        csv: &str,
    ) -> Result<ImportReport, NodeImportError> {
        let spec = ImportSpec::parse(spec, self.folder.path()).unwrap();
        std::fs::write(
            self.folder.path().join(format!("{}.csv", spec.dataset)),
            csv,
        )
        .unwrap();
        let clock: SharedClock = Arc::clone(&self.clock) as SharedClock;
        let importer = Importer {
            council: &"northmoor".parse().unwrap(),
            department: &"parking".parse().unwrap(),
            storage: &Storage::local(self.folder.path()).unwrap(),
            signer: &self.signer,
            authority: self.authority.as_ref(),
            log: &self.runner.log,
            clock: &clock,
        };
        importer.run(&spec, Mode::Replace, &|_| {}).await
    }

    pub(crate) async fn publish(&mut self, text: &str) -> Result<Published, PublishError> {
        let file = self.folder.path().join("product.toml");
        std::fs::write(&file, text).unwrap();
        let datasets = datasets(self.folder.path(), &self.signer, &self.authority);
        let clock: SharedClock = Arc::clone(&self.clock) as SharedClock;
        let publisher = Publisher {
            node: NODE.parse().unwrap(),
            folder: self.folder.path().join("products"),
            signer: &self.signer,
            authority: self.authority.as_ref(),
            datasets: &datasets,
            log: &self.runner.log,
            clock: &clock,
        };
        let published = publisher.publish(&file).await?;
        self.products.insert(
            published.product.name.to_string(),
            published.product.clone(),
        );
        Ok(published)
    }

    /// Checks a product file; on its data if `lender` is there to lend keys.
    pub(crate) async fn check(
        &self,
        text: &str,
        lender: Option<&FakeAuthority>,
    ) -> Result<Checked, CheckError> {
        let file = self.folder.path().join("draft.toml");
        std::fs::write(&file, text).unwrap();
        let datasets = datasets(self.folder.path(), &self.signer, &self.authority);
        let clock: SharedClock = Arc::clone(&self.clock) as SharedClock;
        let checker = Checker {
            publisher: Publisher {
                node: NODE.parse().unwrap(),
                folder: self.folder.path().join("products"),
                signer: &self.signer,
                authority: self.authority.as_ref(),
                datasets: &datasets,
                log: &self.runner.log,
                clock: &clock,
            },
            authority: lender.unwrap_or(&self.authority),
            secret: &self.runner.secret,
            engine: &self.runner.engine,
            log: &self.runner.log,
        };
        let officer = Officer {
            account: "olu".to_owned(),
            password: "correct horse".to_owned().into(),
        };
        checker
            .check(&file, lender.is_some().then_some(&officer))
            .await
    }

    pub(crate) fn product(&self, name: &str) -> &Product {
        &self.products[name]
    }

    /// A gateway's session over every product of the node.
    pub(crate) fn gateway(&self) -> SessionState {
        let state = bare_state(base_config());
        let schema = MemorySchemaProvider::new();
        for (name, product) in &self.products {
            let bytes = arrow::buffer::Buffer::from_vec(product.arrow_schema.clone());
            let columns = arrow::ipc::convert::try_schema_from_ipc_buffer(&bytes).unwrap();
            schema
                .register_table(name.clone(), Arc::new(EmptyTable::new(Arc::new(columns))))
                .unwrap();
        }
        let catalog = MemoryCatalogProvider::new();
        catalog
            .register_schema("parking", Arc::new(schema))
            .unwrap();
        state
            .catalog_list()
            .register_catalog("northmoor".to_owned(), Arc::new(catalog));
        state
    }

    pub(crate) async fn plan(&self, sql: &str) -> LogicalPlan {
        self.gateway().create_logical_plan(sql).await.unwrap()
    }

    /// A fragment as an honest gateway writes it: optimised rows, or the canonical plan of a cube.
    pub(crate) async fn fragment(&self, sql: &str) -> Vec<u8> {
        let (state, plan) = (self.gateway(), self.plan(sql).await);
        let reads = profile::reads(&plan).unwrap();
        let product = self.product(reads[0].product.product.as_str());
        if product.class != ReleaseClass::Aggregate {
            return profile::encode(&state.optimize(&plan).unwrap(), &state).unwrap();
        }
        let mut aggregate = &plan;
        while let LogicalPlan::Projection(p) = aggregate {
            aggregate = p.input.as_ref();
        }
        let (lane, schema) = self.lane(aggregate, product);
        let plan = match lane {
            Lane::Cube(query) => query.canonical_plan(&schema),
            Lane::AdHoc(query) => query.canonical_plan(&schema),
        };
        profile::encode(&plan.unwrap(), &state).unwrap()
    }

    /// The lane of an aggregation over `product`, and the columns of its view, as an honest gateway has them.
    fn lane(
        &self,
        aggregate: &LogicalPlan,
        product: &Product,
    ) -> (Lane, arrow::datatypes::SchemaRef) {
        let budget = product.budget(&"transport_planning".parse().unwrap());
        let lane = guildhall_plan::adhoc::lane(aggregate, product, budget).unwrap();
        let bytes = arrow::buffer::Buffer::from_vec(product.arrow_schema.clone());
        let schema = arrow::ipc::convert::try_schema_from_ipc_buffer(&bytes).unwrap();
        (lane, Arc::new(schema))
    }

    /// What an honest gateway tells of the columns of the answer to `sql`, before it asks.
    pub(crate) async fn told(&self, sql: &str) -> Vec<[(String, String); 2]> {
        let plan = self.plan(sql).await;
        let reads = profile::reads(&plan).unwrap();
        let product = self.product(reads[0].product.product.as_str());
        let mut aggregate = &plan;
        while let LogicalPlan::Projection(p) = aggregate {
            aggregate = p.input.as_ref();
        }
        let budget = product.budget(&"transport_planning".parse().unwrap());
        let (lane, schema) = self.lane(aggregate, product);
        let told = match lane {
            Lane::Cube(query) => query.told(product),
            Lane::AdHoc(query) => query.told(product, &schema, budget.unwrap()).unwrap(),
        };
        told.into_iter().map(|t| t.metadata()).collect()
    }

    /// A grant for just what `fragment` reads.
    pub(crate) fn grant(&self, fragment: &[u8], output: OutputClass) -> Grant {
        let plan = profile::decode(fragment, &self.gateway(), &Default::default()).unwrap();
        let products = profile::reads(&plan).unwrap();
        let products = products
            .into_iter()
            .map(|r| GrantedProduct {
                department: r.product.department,
                version: self.product(r.product.product.as_str()).version,
                product: r.product.product,
                columns: r.columns,
            })
            .collect();
        let number = self.grants.fetch_add(1, Ordering::SeqCst);
        Grant {
            id: format!("g-{number}").parse().unwrap(),
            council: "northmoor".parse().unwrap(),
            principal: guildhall_model::Principal {
                council: "northmoor".parse().unwrap(),
                name: "ana".parse().unwrap(),
            },
            purpose: "transport_planning".parse().unwrap(),
            node: NODE.parse().unwrap(),
            fragment: Digest::of(fragment),
            products,
            output,
            recipient: GATEWAY.parse().unwrap(),
            charge: 0,
            not_before: self.clock.now(),
            expires: self.clock.now().after(Duration::from_secs(300)),
            query: format!("q-{number}").parse().unwrap(),
            gateway: GATEWAY.parse().unwrap(),
        }
    }

    pub(crate) fn sign(&self, grant: &Grant) -> Envelope {
        envelope::sign(grant, &self.council)
    }

    /// Sends a fragment under a grant, as the gateway; gives what leaves.
    pub(crate) async fn send(&self, grant: &Grant, fragment: &[u8]) -> Result<RecordBatch, Status> {
        self.send_as(GATEWAY, self.sign(grant), fragment).await
    }

    pub(crate) async fn send_as(
        &self,
        peer: &str,
        grant: Envelope,
        fragment: &[u8],
    ) -> Result<RecordBatch, Status> {
        let request = RunRequest {
            grant: Some(grant),
            fragment: fragment.to_vec().into(),
            cell_status: self.cell_status,
        };
        let answer = self.runner.answer(&peer.parse().unwrap(), request).await?;
        let messages: Vec<_> = answer.try_collect().await?;
        let schema = decode_schema(&messages[0]).unwrap();
        let batches: Vec<_> = messages[1..]
            .iter()
            .map(|m| decode_batch(&schema, m).unwrap())
            .collect();
        Ok(concat_batches(&schema, &batches).unwrap())
    }

    /// Asks honestly for rows.
    pub(crate) async fn rows(&self, sql: &str) -> Result<String, Status> {
        let fragment = self.fragment(sql).await;
        self.send(&self.grant(&fragment, OutputClass::OpenRows), &fragment)
            .await
            .map(|b| table(&b))
    }

    /// Asks honestly for cells.
    pub(crate) async fn cells(&self, sql: &str) -> Result<String, Status> {
        let fragment = self.fragment(sql).await;
        self.send(
            &self.grant(&fragment, OutputClass::ReleasedCells),
            &fragment,
        )
        .await
        .map(|b| table(&b))
    }
}

pub(crate) fn table(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch))
        .unwrap()
        .to_string()
}

/// The code and text of a refusal.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn datasets(
    folder: &std::path::Path,
    signer: &Arc<SigningKey>,
    authority: &Arc<FakeAuthority>,
) -> Datasets {
    Datasets::new(
        Storage::local(folder).unwrap(),
        "northmoor".parse().unwrap(),
        "parking".parse().unwrap(),
        Arc::clone(signer),
        Arc::clone(authority) as Arc<dyn Authority>,
    )
}

fn trust(council: &SigningKey, now: Timestamp) -> TrustStore {
    let name = "northmoor".parse().unwrap();
    let bundle = TrustBundle {
        council: "northmoor".to_owned(),
        ca_pem: vec![
            CertificateAuthority::generate(&name, now)
                .unwrap()
                .certificate_pem()
                .to_owned(),
        ],
        authority_keys: vec![council.public().as_bytes().to_vec()],
    };
    TrustStore::from_bundles(&[bundle]).unwrap()
}

pub(crate) const CAR_PARKS: &str = r#"
    dataset = "car_parks"
    source = "car_parks.csv"
    [[column]]
    name = "car_park"
    type = "text"
    [[column]]
    name = "ward"
    type = "text"
    [[column]]
    name = "spaces"
    type = "integer"
"#;

pub(crate) const SESSIONS_DATA: &str = r#"
    dataset = "sessions"
    source = "sessions.csv"
    [[column]]
    name = "vehicle"
    type = "text"
    [[column]]
    name = "car_park"
    type = "text"
    [[column]]
    name = "started"
    type = "timestamp"
    [[column]]
    name = "paid_pence"
    type = "integer"
    [[column]]
    name = "hours"
    type = "float"
    [[column]]
    name = "notes"
    type = "text"
"#;

/// An open product with a column of every class but `secret`.
pub(crate) const PLACES: &str = r#"
    name = "places"
    version = 3
    class = "open"
    purposes = ["transport_planning"]
    view = "SELECT car_park, ward, spaces FROM car_parks"
    [columns]
    car_park = { class = "identifier" }
    ward = { class = "open" }
    spaces = { class = "measure" }
"#;

/// A restricted product with a row filter, a mask and a secret.
const VISITS: &str = r#"
    name = "visits"
    version = 1
    class = "restricted"
    purposes = ["transport_planning"]
    view = "SELECT car_park, started, paid_pence, hours, notes FROM sessions"
    row_filter = "paid_pence >= 0"
    [columns]
    car_park = { class = "quasi" }
    started = { class = "open", mask = "date_trunc('month', started)" }
    paid_pence = { class = "open" }
    hours = { class = "open" }
    notes = { class = "secret" }
"#;

fn car_parks() -> String {
    "car_park,ward,spaces\nP1,Kinson,100\nP2,Boscombe,40\nP3,Kinson,60\n".to_owned()
}

/// Twelve vehicles in Kinson, of which one stays often and pays much, one without a name and nine without a
/// payment in January; nine in Boscombe.
pub(crate) fn sessions() -> String {
    let mut csv = "vehicle,car_park,started,paid_pence,hours,notes\n".to_owned();
    for v in 0..12 {
        writeln!(
            csv,
            "K{v},P1,2026-02-0{} 10:00:00,{},0.1,canary",
            v % 9 + 1,
            100 + v
        )
        .unwrap();
        let paid = if v < 3 { "100" } else { "" };
        writeln!(csv, "K{v},P3,2026-01-05 11:00:00,{paid},0.2,canary").unwrap();
    }
    for _ in 0..50 {
        writeln!(csv, "K0,P1,2026-02-03 12:00:00,1000,1.5,canary").unwrap();
    }
    writeln!(csv, ",P1,2026-02-03 12:00:00,7000,1.0,canary").unwrap();
    for v in 0..9 {
        writeln!(csv, "B{v},P2,2026-02-01 10:00:00,{},0.3,canary", 100 + v).unwrap();
    }
    writeln!(csv, "X,P2,2026-02-01 10:00:00,-5,0.3,canary").unwrap();
    csv
}
