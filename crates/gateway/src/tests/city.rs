//! Two councils with a department each, answered from memory; and a client.

use crate::backend::{Backend, Party, PartyError};
use crate::config::Limits;
use crate::credential::{Check, tests as credentials, token_text};
use crate::door::{Door, Inner};
use crate::engine::Engine;
use crate::seal::Sealer;
use crate::serve::service;
use crate::session::Sessions;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandPreparedStatementQuery, CommandStatementQuery, DoPutPreparedStatementResult,
    ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, Ticket};
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
use guildhall_proto::node::v1::ArrowMessage;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status};

pub(super) const COUNCILS: [&str; 2] = ["northmoor", "southsea"];
pub(super) const PASSWORD: &str = "correct horse";

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

fn product(council: &str) -> Product {
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
        distinct_units: false,
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

    fn here(&self, party: Party) -> Result<(), PartyError> {
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

    async fn relay(
        &self,
        fragment: &Fragment,
        _: Envelope,
    ) -> Result<BoxStream<'static, Result<ArrowMessage, PartyError>>, PartyError> {
        let batches = self.execute(fragment).await?;
        let mut encoder = ArrowEncoder::default();
        let schema = encoder.schema(&batches.schema());
        let messages = batches
            .map(move |b| stream::iter(encoder.batch(&b.unwrap()).unwrap().into_iter().map(Ok)))
            .flatten();
        Ok(stream::iter([Ok(schema)]).chain(messages).boxed())
    }
}

/// A gateway over the two councils, listening.
pub(super) struct City {
    pub(super) parties: Arc<Parties>,
    pub(super) clock: Arc<MockClock>,
    channel: Channel,
}

impl City {
    pub(super) async fn start() -> Self {
        Self::with(Limits {
            ticket_seconds: 60,
            ..Limits::default()
        })
        .await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        let (key, trust) = credentials::council();
        let clock = MockClock::at(credentials::now());
        let parties = Arc::new(Parties::new(key, clock.clone()));
        let councils = COUNCILS.map(|c| c.parse().unwrap()).to_vec();
        let recipient = "spiffe://northmoor/council/gateway/door-1".parse().unwrap();
        let inner = Inner {
            check: Check::new(parties.clone(), &councils, trust, clock.clone()),
            engine: Engine::new(parties.clone(), councils, recipient, limits, clock.clone()),
            sealer: Sealer::new().unwrap(),
            sessions: Sessions::new(100, Duration::from_secs(60)),
            clock: clock.clone(),
            default_council: "northmoor".parse().unwrap(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpListenerStream::new(listener)
            .map(|stream| stream.inspect(|s| s.set_nodelay(true).unwrap()));
        let router = Server::builder().add_service(service(Door(Arc::new(inner))));
        guildhall_telemetry::spawn(router.serve_with_incoming(incoming));
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self {
            parties,
            clock,
            channel,
        }
    }

    /// A client that shows nothing.
    pub(super) fn stranger(&self) -> Client {
        let inner =
            FlightServiceClient::new(self.channel.clone()).max_decoding_message_size(16 << 20);
        Client {
            inner,
            headers: Vec::new(),
        }
    }

    /// A signed-in client of northmoor's.
    pub(super) fn client(&self, name: &str, purposes: &[&str]) -> Client {
        let token = credentials::token(&self.parties.key, "northmoor", name, purposes);
        self.stranger()
            .header("authorization", format!("Bearer {}", token_text(&token)))
    }

    /// A client that needs not name its purpose.
    pub(super) fn ana(&self) -> Client {
        self.client("ana", &["planning"])
    }

    pub(super) fn authority(council: &str) -> Party {
        Party::Authority(council.parse().unwrap())
    }

    pub(super) fn node(council: &str) -> Party {
        Party::Node(product(council).node)
    }
}

/// A Flight client, one method a call.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) inner: FlightServiceClient<Channel>,
    headers: Vec<(&'static str, String)>,
}

/// A result with all that came with it.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) missing: Option<String>,
    pub(super) last_words: String,
}

impl Fetched {
    pub(super) fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

impl Client {
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.headers {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        request
    }

    pub(super) async fn info(&self, command: impl ProstMessageExt) -> Result<FlightInfo, Status> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        Ok(self
            .inner
            .clone()
            .get_flight_info(self.request(descriptor))
            .await?
            .into_inner())
    }

    pub(super) async fn get(&self, ticket: Ticket) -> Result<Fetched, Status> {
        let response = self.inner.clone().do_get(self.request(ticket)).await?;
        let missing = response
            .metadata()
            .get("x-guildhall-missing")
            .map(|v| v.to_str().unwrap().to_owned());
        let messages: Vec<FlightData> = response.into_inner().try_collect().await?;
        let last_words = messages
            .last()
            .map(|m| String::from_utf8(m.app_metadata.to_vec()).unwrap());
        let stream = stream::iter(messages.into_iter().map(Ok::<_, FlightError>)).boxed();
        let mut decoded = FlightRecordBatchStream::new_from_flight_data(stream);
        let mut batches = Vec::new();
        while let Some(batch) = decoded.next().await {
            batches.push(batch.unwrap());
        }
        let schema = decoded.schema().unwrap().clone();
        Ok(Fetched {
            schema,
            batches,
            missing,
            last_words: last_words.unwrap_or_default(),
        })
    }

    pub(super) async fn fetch(&self, info: &FlightInfo) -> Result<Fetched, Status> {
        self.get(info.endpoint[0].ticket.clone().unwrap()).await
    }

    pub(super) async fn ask(&self, sql: &str) -> Result<Fetched, Status> {
        let info = self.info(statement(sql)).await?;
        let fetched = self.fetch(&info).await?;
        let declared = info.try_decode_schema().unwrap();
        assert_eq!(
            *fetched.schema, declared,
            "the stream's schema is the declared one"
        );
        Ok(fetched)
    }

    pub(super) async fn act(&self, name: &str, body: Vec<u8>) -> Result<Vec<Vec<u8>>, Status> {
        let action = Action {
            r#type: name.into(),
            body: body.into(),
        };
        let results = self
            .inner
            .clone()
            .do_action(self.request(action))
            .await?
            .into_inner();
        Ok(results
            .try_collect::<Vec<_>>()
            .await?
            .into_iter()
            .map(|r| r.body.to_vec())
            .collect())
    }

    pub(super) async fn prepare(
        &self,
        sql: &str,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let request = ActionCreatePreparedStatementRequest {
            query: sql.into(),
            transaction_id: None,
        };
        let body = self
            .act("CreatePreparedStatement", request.as_any().encode_to_vec())
            .await?;
        Ok(Any::decode(body[0].as_slice())
            .unwrap()
            .unpack()
            .unwrap()
            .unwrap())
    }

    pub(super) async fn bind(&self, handle: &[u8], batch: RecordBatch) -> Result<Vec<u8>, Status> {
        let command = CommandPreparedStatementQuery {
            prepared_statement_handle: handle.to_vec().into(),
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let messages: Vec<FlightData> = arrow_flight::encode::FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(descriptor))
            .build(stream::iter([Ok(batch)]))
            .try_collect()
            .await
            .unwrap();
        let mut results = self
            .inner
            .clone()
            .do_put(self.request(stream::iter(messages)))
            .await?
            .into_inner();
        let result = results.message().await?.unwrap();
        let result = DoPutPreparedStatementResult::decode(result.app_metadata).unwrap();
        Ok(result.prepared_statement_handle.unwrap().to_vec())
    }
}

pub(super) fn statement(sql: &str) -> CommandStatementQuery {
    CommandStatementQuery {
        query: sql.into(),
        transaction_id: None,
    }
}

pub(super) fn prepared(handle: &[u8]) -> CommandPreparedStatementQuery {
    CommandPreparedStatementQuery {
        prepared_statement_handle: handle.to_vec().into(),
    }
}
