//! A department in one process, for tests: real files, keys, grants and plans; the authority is a double that
//! does as it is told.

mod authority;
mod gateway;
mod leisure;
mod parking;

pub(crate) use authority::FakeAuthority;
pub(crate) use gateway::table;
pub(crate) use leisure::{dimension, swims};
pub(crate) use parking::{CAR_PARKS, PLACES, SESSIONS_DATA, sessions};

use crate::audit::Log;
use crate::authority::Authority;
use crate::check::{CheckError, Checked, Checker, Officer};
use crate::config::Limits;
use crate::datasets::Datasets;
use crate::engine::Engine;
use crate::import::{Importer, NodeImportError};
use crate::product::Products;
use crate::publish::{PublishError, Published, Publisher};
use crate::run::{Door, Runner, Turns};
use guildhall_disclosure::NoiseSecret;
use guildhall_grant::product::Product;
use guildhall_grant::{SigningKey, envelope};
use guildhall_identity::{CertificateAuthority, TrustStore};
use guildhall_model::{Clock, MockClock, PeerId, SharedClock, Timestamp};
use guildhall_policy::{DEFAULT_DEPARTMENT_POLICY, Policies};
use guildhall_proto::authority::v1::TrustBundle;
use guildhall_store::{ImportReport, ImportSpec, Mode, Storage};
use parking::{VISITS, car_parks};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
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
            secret: NoiseSecret::from_bytes([5; 32]),
            patterns: Arc::default(),
            policies: Policies::department(policy).unwrap(),
            fleet: None,
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

    fn datasets_now(&self) -> (Datasets, SharedClock) {
        let datasets = datasets(self.folder.path(), &self.signer, &self.authority);
        (datasets, Arc::clone(&self.clock) as SharedClock)
    }

    fn publisher<'a>(&'a self, datasets: &'a Datasets, clock: &'a SharedClock) -> Publisher<'a> {
        Publisher {
            node: NODE.parse().unwrap(),
            folder: self.folder.path().join("products"),
            signer: &self.signer,
            authority: self.authority.as_ref(),
            datasets,
            log: &self.runner.log,
            clock,
        }
    }

    pub(crate) async fn publish(&mut self, text: &str) -> Result<Published, PublishError> {
        let file = self.folder.path().join("product.toml");
        std::fs::write(&file, text).unwrap();
        let (datasets, clock) = self.datasets_now();
        let published = self.publisher(&datasets, &clock).publish(&file).await?;
        self.products.insert(
            published.product.name.to_string(),
            published.product.clone(),
        );
        Ok(published)
    }

    /// Puts `product` beside the published ones, signed by the node, over a product file that is there already.
    pub(crate) fn shelve(&mut self, product: Product) {
        let folder = self.folder.path().join("products");
        let file = crate::product::envelope_file(&folder, &product.name, product.version);
        let signed = envelope::sign(&product, self.signer.as_ref());
        std::fs::write(file, envelope::encode(&signed)).unwrap();
        self.products.insert(product.name.to_string(), product);
    }

    /// Checks a product file; on its data if `lender` is there to lend keys.
    pub(crate) async fn check(
        &self,
        text: &str,
        lender: Option<&FakeAuthority>,
    ) -> Result<Checked, CheckError> {
        let file = self.folder.path().join("draft.toml");
        std::fs::write(&file, text).unwrap();
        let (datasets, clock) = self.datasets_now();
        let checker = Checker {
            publisher: self.publisher(&datasets, &clock),
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
