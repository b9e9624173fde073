//! A department with a node's fleet and workers, over loopback and mutual TLS; its authority lends whatever is asked.

mod doors;
mod faults;
mod tpch;
#[path = "../../../plan/src/planner/tests/tpch_queries.rs"]
mod tpch_queries;

use crate::config::{Limits, Pinned};
use crate::fleet::{Fleet, FleetError, Question, Reading};
use crate::serve::{Parts, Running};
use crate::service::Lender;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use guildhall_client::ClientError;
use guildhall_grant::{Grant, GrantCheck, SigningKey, VerifiedGrant, envelope};
use guildhall_identity::{CertificateAuthority, Dialer, Identity, TrustStore, new_key_and_csr};
use guildhall_keys::{ColumnKeys, EphemeralIdentity, KeyName, WrappedPayload, seal};
use guildhall_model::{Clock as _, Digest, MockClock, OutputClass, PeerId, Timestamp};
use guildhall_proto::authority::v1::{
    LendKeysRequest, LendKeysResponse, LentKey, LentKeys, TrustBundle,
};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_store::{
    DatasetId, ImportRequest, ImportSpec, Mode, SealedDataset, SealedTable, Storage, import,
};
use http_body_util::BodyExt as _;
use prost::Message as _;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

pub(crate) const NODE: &str = "spiffe://northmoor/sales/node/n1";
const DAY: Duration = Duration::from_secs(86_400);

/// All bytes that are sent to the engine's service at workers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tap(Arc<Mutex<Vec<u8>>>);

impl Tap {
    pub(crate) fn on(&self, channel: Channel) -> Tapped {
        Tapped(channel, self.clone())
    }

    pub(crate) fn holds(&self, what: &[u8]) -> bool {
        let all = self.0.lock().unwrap();
        all.windows(what.len()).any(|w| w == what)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Tapped(Channel, Tap);

impl Service<http::Request<Body>> for Tapped {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let tap = self.1.clone();
        let request = request.map(|body| {
            Body::new(body.map_frame(move |frame| {
                if let Some(data) = frame.data_ref() {
                    tap.0.lock().unwrap().extend_from_slice(data);
                }
                frame
            }))
        });
        Box::pin(self.0.call(request))
    }
}

/// What of a council the tests need: its certificates, its signatures, its dataset identity.
pub(crate) struct Council {
    ca: CertificateAuthority,
    pub(crate) signer: SigningKey,
    identity: EphemeralIdentity,
    pub(crate) clock: Arc<MockClock>,
}

impl Council {
    pub(crate) fn new(name: &str) -> Self {
        let now = Timestamp::from_micros(1_795_000_000_000_000);
        Self {
            ca: CertificateAuthority::generate(&name.parse().unwrap(), now).unwrap(),
            signer: SigningKey::generate().unwrap(),
            identity: EphemeralIdentity::generate(),
            clock: MockClock::at(now),
        }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle {
            council: self.ca.council().to_string(),
            ca_pem: vec![self.ca.certificate_pem().to_owned()],
            authority_keys: vec![self.signer.public().as_bytes().to_vec()],
        }
    }

    /// Who dials as `peer` and trusts `councils`.
    pub(crate) fn dialer(&self, peer: &str, councils: &[&Self]) -> Dialer {
        let (key, csr) = new_key_and_csr().unwrap();
        let now = self.clock.now();
        let chain = self
            .ca
            .issue(&csr, &peer.parse().unwrap(), &[], now, now.after(DAY));
        let identity = Identity::from_pem(&chain.unwrap(), &key).unwrap();
        let bundles: Vec<_> = councils.iter().map(|c| c.bundle()).collect();
        let trust = TrustStore::from_bundles(&bundles).unwrap();
        Dialer::new(&identity, &trust, self.clock.clone())
    }

    /// The keys that are wrapped so, by name.
    fn unwrapped<'a>(&self, wrapped: impl Iterator<Item = &'a [u8]>) -> ColumnKeys {
        let unwrap =
            |age: &[u8]| WrappedPayload::decode(&self.identity.open(age).unwrap()).unwrap();
        wrapped.map(unwrap).map(|u| (u.name, u.key)).collect()
    }
}

/// An authority that lends to one worker whatever it asks for, and remembers.
pub(crate) struct Desk {
    council: Arc<Council>,
    pub(crate) asked: Mutex<Vec<LendKeysRequest>>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

#[async_trait]
impl Lender for Desk {
    async fn lend(&self, request: LendKeysRequest) -> Result<LendKeysResponse, ClientError> {
        let keys = self
            .council
            .unwrapped(request.keys.iter().map(|k| k.age.as_slice()));
        let lent = |(name, key): (&KeyName, &guildhall_keys::ColumnKey)| LentKey {
            dataset: name.dataset.to_string(),
            column: name.column.clone().map(String::from).unwrap_or_default(),
            period: name.period.to_string(),
            key: key.as_bytes().to_vec(),
        };
        let plain = LentKeys {
            link_key: vec![],
            keys: keys.iter().map(lent).collect(),
        }
        .encode_to_vec();
        let sealed = seal(&plain, &request.ephemeral_recipient.parse().unwrap()).unwrap();
        self.asked.lock().unwrap().push(request);
        Ok(LendKeysResponse {
            sealed,
            expires_us: 0,
        })
    }
}

/// One worker, and what its authority was asked.
pub(crate) struct TestWorker {
    pub(crate) name: String,
    pub(crate) running: Option<Running>,
    pub(crate) desk: Arc<Desk>,
}

impl TestWorker {
    pub(crate) fn address(&self) -> String {
        self.running.as_ref().unwrap().address().to_string()
    }

    /// Waits until it holds keys for so many grants.
    pub(crate) async fn holds(&self, grants: usize) {
        let mut count = self.running.as_ref().unwrap().holding();
        let wanted = count.wait_for(|n| *n == grants);
        tokio::time::timeout(Duration::from_secs(60), wanted)
            .await
            .unwrap()
            .unwrap();
    }
}

/// The department `sales` of `northmoor`, its node's tables and four workers over the same folder.
pub(crate) struct Department {
    pub(crate) council: Arc<Council>,
    pub(crate) node_key: Arc<SigningKey>,
    folder: tempfile::TempDir,
    pub(crate) workers: Vec<TestWorker>,
    grants: Mutex<u32>,
}

impl Department {
    pub(crate) async fn with_workers(workers: usize) -> Self {
        let council = Arc::new(Council::new("northmoor"));
        let mut department = Self {
            node_key: Arc::new(SigningKey::generate().unwrap()),
            folder: tempfile::tempdir().unwrap(),
            workers: vec![],
            grants: Mutex::new(0),
            council,
        };
        for n in 1..=workers {
            let worker = department.worker(&format!("w{n}"), Limits::default()).await;
            department.workers.push(worker);
        }
        department
    }

    pub(crate) fn storage(&self) -> Storage {
        Storage::local(self.folder.path().join("data")).unwrap()
    }

    pub(crate) async fn worker(&self, name: &str, limits: Limits) -> TestWorker {
        let desk = Arc::new(Desk {
            council: Arc::clone(&self.council),
            asked: Mutex::default(),
        });
        let peer = format!("spiffe://northmoor/sales/worker/{name}");
        let parts = Parts {
            listen: "127.0.0.1:0".to_owned(),
            dialer: self.council.dialer(&peer, &[&self.council]),
            storage: self.storage(),
            lender: desk.clone(),
            limits,
        };
        TestWorker {
            name: name.to_owned(),
            running: Some(parts.serve(CancellationToken::new()).await.unwrap()),
            desk,
        }
    }

    /// Imports the Parquet files of one table, each as a part of its own.
    pub(crate) async fn import(&self, spec: &str, parts: usize) {
        for part in 0..parts {
            let spec = spec.replace("{part}", &part.to_string());
            let spec = ImportSpec::parse(&spec, self.folder.path()).unwrap();
            let request = ImportRequest {
                id: &self.id(spec.dataset.as_str()),
                spec: &spec,
                storage: &self.storage(),
                recipient: &self.council.identity.recipient(),
                signer: &self.node_key,
                previous: None,
                mode: if part == 0 {
                    Mode::Replace
                } else {
                    Mode::Append
                },
                clock: self.council.clock.as_ref(),
                progress: &|_| {},
            };
            import::run(request).await.unwrap();
        }
    }

    pub(crate) fn files(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn id(&self, dataset: &str) -> DatasetId {
        DatasetId {
            council: "northmoor".parse().unwrap(),
            department: "sales".parse().unwrap(),
            dataset: dataset.parse().unwrap(),
        }
    }

    pub(crate) async fn open(&self, dataset: &str) -> Arc<SealedDataset> {
        let id = self.id(dataset);
        let signers = [self.node_key.public()];
        let opened = SealedDataset::open(&self.storage(), &id, &signers, None).await;
        Arc::new(opened.unwrap())
    }

    /// Every key of `dataset`, as the node itself was lent them.
    pub(crate) fn keys(&self, dataset: &SealedDataset) -> ColumnKeys {
        self.council
            .unwrapped(dataset.wrapped_keys().map(|(_, age)| age))
    }

    /// The node's session over `tables`, and what reading all of them takes.
    pub(crate) async fn session(&self, tables: &[&str]) -> (SessionContext, Vec<Reading>) {
        let mut config = SessionConfig::new().with_target_partitions(2);
        let optimizer = &mut config.options_mut().optimizer;
        optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        let context = SessionContext::new_with_config(config);
        let mut readings = vec![];
        for table in tables {
            let dataset = self.open(table).await;
            let lent = OnceLock::new();
            lent.set(self.keys(&dataset)).unwrap();
            let sealed = SealedTable::new(Arc::clone(&dataset), Arc::new(lent)).with_view_types();
            context.register_table(*table, Arc::new(sealed)).unwrap();
            let fields = dataset.schema().fields().iter();
            readings.push(Reading {
                columns: fields.map(|f| f.name().parse().unwrap()).collect(),
                dataset,
            });
        }
        (context, readings)
    }

    /// The node's fleet: all workers that run, by their names.
    pub(crate) fn fleet(&self) -> Fleet {
        let running = self.workers.iter().filter(|w| w.running.is_some());
        let pinned = running.map(|w| (w.name.as_str(), w.address()));
        self.fleet_of(pinned)
    }

    pub(crate) fn fleet_of<'a>(&self, pinned: impl Iterator<Item = (&'a str, String)>) -> Fleet {
        self.fleet_with(1, pinned)
    }

    /// The same, where so many rows are worth a share.
    pub(crate) fn fleet_with<'a>(
        &self,
        rows_each: u64,
        pinned: impl Iterator<Item = (&'a str, String)>,
    ) -> Fleet {
        let at = pinned
            .map(|(name, at)| (name.parse().unwrap(), at))
            .collect();
        let pinned = Pinned { rows_each, at };
        let dialer = self.council.dialer(NODE, &[&self.council]);
        Fleet::new(&pinned, &dialer, Arc::clone(&self.node_key)).unwrap()
    }

    /// A grant of the node, as its authority signs it.
    pub(crate) fn grant(&self) -> Grant {
        let mut grants = self.grants.lock().unwrap();
        *grants += 1;
        let now = self.council.clock.now();
        let gateway: PeerId = "spiffe://northmoor/council/gateway/g1".parse().unwrap();
        Grant {
            id: format!("g-{grants}").parse().unwrap(),
            council: "northmoor".parse().unwrap(),
            principal: guildhall_model::Principal {
                council: "northmoor".parse().unwrap(),
                name: "ana".parse().unwrap(),
            },
            purpose: "planning".parse().unwrap(),
            node: NODE.parse().unwrap(),
            fragment: Digest::of(b"fragment"),
            products: vec![],
            output: OutputClass::OpenRows,
            recipient: gateway.clone(),
            charge: 0,
            not_before: now,
            expires: now.after(Duration::from_secs(300)),
            query: "q-1".parse().unwrap(),
            gateway,
            linkage: None,
        }
    }

    pub(crate) fn signed(&self, grant: &Grant) -> (VerifiedGrant, Envelope) {
        let envelope = envelope::sign(grant, &self.council.signer);
        let check = GrantCheck {
            council: &grant.council,
            node: &grant.node,
            fragment: &grant.fragment,
            recipient: None,
            now: self.council.clock.now(),
        };
        let signers = [self.council.signer.public()];
        let verified = guildhall_grant::verify(&envelope, &signers, &check).unwrap();
        (verified, envelope)
    }

    /// Starts `sql` on `fleet` under a fresh grant.
    pub(crate) async fn start(
        &self,
        fleet: &Fleet,
        (context, readings): &(SessionContext, Vec<Reading>),
        sql: &str,
    ) -> Result<SendableRecordBatchStream, FleetError> {
        let (grant, envelope) = self.signed(&self.grant());
        let plan = context
            .sql(sql)
            .await
            .unwrap()
            .into_optimized_plan()
            .unwrap();
        let question = Question {
            grant: &grant,
            envelope: &envelope,
            readings,
        };
        fleet.start(&context.state(), &plan, &question).await
    }

    /// How many loans each worker asked for.
    pub(crate) fn loans(&self) -> BTreeMap<&str, usize> {
        let asked = |w: &TestWorker| w.desk.asked.lock().unwrap().len();
        self.workers
            .iter()
            .map(|w| (w.name.as_str(), asked(w)))
            .collect()
    }
}
