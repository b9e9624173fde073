//! Two councils with a department each, answered from memory.

use super::city::PASSWORD;
use crate::backend::{Backend, Messages, Party, PartyError};
use crate::credential::tests as credentials;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::datasource::MemTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use guildhall_client::arrow_message::ArrowEncoder;
use guildhall_grant::product::{Column, Product};
use guildhall_grant::{SigningKey, envelope};
use guildhall_model::{Clock, ColumnClass, CouncilName, Digest, MockClock, Purpose, ReleaseClass};
use guildhall_plan::profile::{FragmentLimits, decode};
use guildhall_plan::remote::Fragment;
use guildhall_plan::session::{bare_builder, base_config};
use guildhall_proto::authority::v1::{
    CatalogueEntry, CatalogueRequest, CatalogueResponse, Credential, IssueGrantsRequest,
    ProductBudget,
};
use guildhall_proto::envelope::v1::Envelope;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tonic::Code;

/// Rows of every department: `car_park`, `spaces`.
fn rows(council: &str) -> RecordBatch {
    let parks: ArrayRef = Arc::new(StringArray::from(vec![
        format!("{council} 1"),
        format!("{council} 2"),
    ]));
    let spaces: ArrayRef = Arc::new(Int64Array::from(vec![Some(10), Some(30)]));
    RecordBatch::try_from_iter_with_nullable([("car_park", parks, true), ("spaces", spaces, true)])
        .unwrap()
}

pub(super) fn product(council: &str) -> Product {
    let column = |name: &str| Column {
        name: name.parse().unwrap(),
        class: ColumnClass::Open,
        doc: format!("the {name}"),
        reads: BTreeSet::new(),
    };
    Product {
        council: council.parse().unwrap(),
        department: "parking".parse().unwrap(),
        name: "occupancy".parse().unwrap(),
        version: 1,
        doc: "how full car parks are".into(),
        class: ReleaseClass::Open,
        purposes: ["planning", "review"].map(|p| p.parse().unwrap()).into(),
        conforms_to: Some("occupancy".parse().unwrap()),
        unit: None,
        minimum_group: 1,
        max_rows_per_unit: 1,
        columns: vec![column("car_park"), column("spaces")],
        dimensions: vec![],
        measures: vec![],
        arrow_schema: crate::encode::schema_bytes(&rows(council).schema())
            .unwrap()
            .to_vec(),
        definition: Digest::of(council.as_bytes()),
        row_count: Some(2),
        always_reads: BTreeSet::new(),
        budgets: vec![],
        joint_with: std::collections::BTreeSet::new(),
        linkable: None,
        node: format!("spiffe://{council}/parking/node/parking-1")
            .parse()
            .unwrap(),
    }
}

/// Authorities and nodes in memory.
#[derive(Debug)]
pub(crate) struct Parties {
    pub(crate) key: SigningKey,
    clock: Arc<MockClock>,
    pub(crate) away: Mutex<BTreeSet<Party>>,
    /// Whose certificate every certificate is, at every authority.
    certified: Mutex<String>,
    /// Certificates that were traded for a token, or refused one.
    pub(crate) traded: AtomicUsize,
    pub(super) granted: AtomicUsize,
    pub(super) ran: AtomicUsize,
    /// Nodes that never stop sending.
    pub(super) endless: AtomicBool,
    /// Streams of nodes that are open now.
    pub(super) open: Arc<AtomicUsize>,
}

impl Parties {
    /// Everybody is there, and `ana` is certified.
    pub(crate) fn new(key: SigningKey, clock: Arc<MockClock>) -> Self {
        Self {
            key,
            clock,
            away: Mutex::default(),
            certified: Mutex::new("ana".into()),
            traded: AtomicUsize::new(0),
            granted: AtomicUsize::new(0),
            ran: AtomicUsize::new(0),
            endless: AtomicBool::new(false),
            open: Arc::default(),
        }
    }

    /// Every certificate is that of `name` from now on; of nobody if it is empty.
    pub(crate) fn certifies(&self, name: &str) {
        name.clone_into(&mut self.certified.lock().unwrap());
    }

    pub(super) fn here(&self, party: Party) -> Result<(), PartyError> {
        if self.away.lock().unwrap().contains(&party) {
            Err(PartyError::Away(party))
        } else {
            Ok(())
        }
    }

    pub(super) fn goes_away(&self, party: Party) {
        self.away.lock().unwrap().insert(party);
    }

    async fn execute(&self, fragment: &Fragment) -> Result<SendableRecordBatchStream, PartyError> {
        self.here(Party::Node(fragment.node.clone()))?;
        self.ran.fetch_add(1, Ordering::SeqCst);
        let council = fragment.node.council.as_str();
        let rows = rows(council);
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
        let (schema, catalog) = (MemorySchemaProvider::new(), MemoryCatalogProvider::new());
        schema
            .register_table("occupancy".into(), Arc::new(table))
            .unwrap();
        catalog
            .register_schema("parking", Arc::new(schema))
            .unwrap();
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(council.into(), Arc::new(catalog));
        let state = bare_builder(base_config())
            .with_catalog_list(Arc::new(catalogs))
            .build();
        let plan = decode(&fragment.bytes, &state, &FragmentLimits::default()).unwrap();
        let context = SessionContext::new_with_state(state);
        let plan = DataFrame::new(context.state(), plan);
        let stream = plan.execute_stream().await.unwrap();
        let schema = stream.schema();
        let open = Open::new(&self.open);
        let batches: BoxStream<'static, _> = if self.endless.load(Ordering::SeqCst) {
            let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
            stream::iter(batches.into_iter().cycle().map(Ok))
                .then(|b| async {
                    tokio::task::yield_now().await;
                    b
                })
                .boxed()
        } else {
            stream.boxed()
        };
        let batches = batches.inspect(move |_| {
            let _ = &open;
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// Counts what is open.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Backend for Parties {
    async fn sign_in(
        &self,
        council: &CouncilName,
        account: &str,
        password: &str,
    ) -> Result<Envelope, PartyError> {
        let party = Party::Authority(council.clone());
        self.here(party.clone())?;
        if password != PASSWORD {
            let message = "no".into();
            return Err(PartyError::Refused {
                party,
                code: Code::Unauthenticated,
                message,
            });
        }
        Ok(credentials::token(
            &self.key,
            council.as_str(),
            account,
            &["planning"],
        ))
    }

    async fn sign_in_with_certificate(
        &self,
        council: &CouncilName,
        _: Vec<Vec<u8>>,
    ) -> Result<Envelope, PartyError> {
        let party = Party::Authority(council.clone());
        self.here(party.clone())?;
        self.traded.fetch_add(1, Ordering::SeqCst);
        let name = self.certified.lock().unwrap().clone();
        if name.is_empty() {
            return Err(PartyError::Refused {
                party,
                code: Code::Unauthenticated,
                message: "the certificate is revoked".into(),
            });
        }
        let (now, purposes) = (self.clock.now(), ["planning"]);
        Ok(credentials::token_at(
            now,
            &self.key,
            council.as_str(),
            &name,
            &purposes,
        ))
    }

    async fn catalogue(
        &self,
        council: &CouncilName,
        _: CatalogueRequest,
    ) -> Result<CatalogueResponse, PartyError> {
        self.here(Party::Authority(council.clone()))?;
        let product = envelope::sign(&product(council.as_str()), &self.key).encode_to_vec();
        let entry = CatalogueEntry {
            product,
            address: "127.0.0.1:1".into(),
        };
        Ok(CatalogueResponse {
            principal: None,
            purposes: vec!["planning".into()],
            products: vec![entry],
        })
    }

    async fn budgets(
        &self,
        council: &CouncilName,
        _: Credential,
        purpose: &Purpose,
    ) -> Result<Vec<ProductBudget>, PartyError> {
        self.here(Party::Authority(council.clone()))?;
        if purpose.as_str() != "planning" {
            return Ok(vec![]);
        }
        Ok(vec![ProductBudget {
            department: "parking".into(),
            product: "occupancy".into(),
            limit_nano_rho: 50_000_000,
            spent_nano_rho: 10_000_000,
            per_query_nano_rho: 1_000_000,
            period_start_us: 0,
            period_end_us: 86_400_000_000,
        }])
    }

    async fn issue_grants(
        &self,
        council: &CouncilName,
        request: IssueGrantsRequest,
    ) -> Result<Vec<Envelope>, PartyError> {
        self.here(Party::Authority(council.clone()))?;
        self.granted
            .fetch_add(request.fragments.len(), Ordering::SeqCst);
        Ok(vec![Envelope::default(); request.fragments.len()])
    }

    async fn run(
        &self,
        fragment: &Fragment,
        _: Envelope,
    ) -> Result<SendableRecordBatchStream, PartyError> {
        self.execute(fragment).await
    }

    async fn relay(&self, fragment: &Fragment, _: Envelope) -> Result<Messages, PartyError> {
        Ok(messages(self.execute(fragment).await?))
    }

    async fn release(&self, fragment: &Fragment, _: Vec<Envelope>) -> Result<Messages, PartyError> {
        Err(PartyError::Away(Party::CleanRoom(
            fragment.node.council.clone(),
        )))
    }
}

/// Batches as a party sends them.
pub(super) fn messages(batches: SendableRecordBatchStream) -> Messages {
    let mut encoder = ArrowEncoder::default();
    let schema = encoder.schema(&batches.schema());
    let messages = batches
        .map(move |b| stream::iter(encoder.batch(&b.unwrap()).unwrap().into_iter().map(Ok)))
        .flatten();
    stream::iter([Ok(schema)]).chain(messages).boxed()
}
