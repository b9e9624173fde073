//! Roles that keep to no rule: each holds a real role's identity and says what it likes.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use guildhall_audit::{Chain, Entry};
use guildhall_authority::Admin;
use guildhall_cli::city::{City, NodeKey};
use guildhall_client::{AuthorityClient, ClientError, NodeClient};
use guildhall_grant::product::Product;
use guildhall_grant::{GrantedProduct, SigningKey, envelope, output_to_wire};
use guildhall_identity::{Dialer, Identity, TrustStore, load_signing_key};
use guildhall_keys::{ColumnKey, ColumnKeys, EphemeralIdentity, KeyName};
use guildhall_model::{
    CouncilName, Digest, OutputClass, PeerId, ProductRef, Purpose, ReleaseClass, SharedClock,
};
use guildhall_plan::session::{bare_state, base_config};
use guildhall_plan::{cube, profile};
use guildhall_proto::authority::v1::{
    Credential, FragmentWanted, IssueGrantsRequest, KeyWanted, LendKeysRequest, LentKeys,
    credential,
};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::grant::v1 as wire;
use guildhall_store::{DatasetId, LentKeys as Lent, SealedDataset, SealedTable, Storage};
use prost::Message as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tonic::Code;

/// The city's gateway in the hands of somebody else, with one analyst's token in its pocket.
pub(crate) struct RogueGateway {
    pub(crate) peer: PeerId,
    pub(crate) dialer: Dialer,
    pub(crate) authorities: BTreeMap<CouncilName, AuthorityClient>,
    pub(crate) credential: Credential,
    pub(crate) purpose: Purpose,
    offered: BTreeMap<ProductRef, (Product, String)>,
    state: SessionState,
}

/// A fragment, what it reads, and where it is to run.
#[derive(Clone)]
pub(crate) struct Fragment {
    pub(crate) bytes: Vec<u8>,
    pub(crate) products: Vec<GrantedProduct>,
    pub(crate) node: PeerId,
    pub(crate) address: String,
}

impl Fragment {
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The same reads, with other bytes.
    pub(crate) fn with_bytes(&self, bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ..self.clone()
        }
    }
}

impl RogueGateway {
    pub(crate) async fn of(city: &City, clock: SharedClock, account: &str, purpose: &str) -> Self {
        let config = city.gateway_config();
        let identity = Identity::load(&config.identity).unwrap();
        let trust = TrustStore::load(&config.identity).unwrap();
        let dialer = Dialer::new(&identity, &trust, clock);
        let authorities: BTreeMap<CouncilName, AuthorityClient> = config
            .councils
            .iter()
            .map(|c| {
                let client = AuthorityClient::new(&dialer, &c.authority, &c.name).unwrap();
                (c.name.clone(), client)
            })
            .collect();
        let password = &city.ready().accounts[account].password;
        let token = authorities[&config.default_council]
            .sign_in(account, password)
            .await
            .unwrap();
        let credential = Credential {
            kind: Some(credential::Kind::AccessToken(token)),
        };
        let purpose: Purpose = purpose.parse().unwrap();
        let mut offered = BTreeMap::new();
        for authority in authorities.values() {
            let seen = authority
                .catalogue(credential.clone(), Some(&purpose))
                .await
                .unwrap();
            for entry in seen.products {
                let signed = envelope::decode(&entry.product).unwrap();
                let product: Product = envelope::read_unverified(&signed).unwrap();
                offered.insert(product.product_ref(), (product, entry.address));
            }
        }
        let state = session(&offered);
        Self {
            peer: identity.peer(),
            dialer,
            authorities,
            credential,
            purpose,
            offered,
            state,
        }
    }

    pub(crate) fn product(&self, name: &str) -> &Product {
        &self.offer(name).0
    }

    fn offer(&self, name: &str) -> &(Product, String) {
        self.offered
            .iter()
            .find(|(p, _)| p.to_string() == name)
            .map(|(_, offer)| offer)
            .unwrap()
    }

    pub(crate) async fn plan(&self, sql: &str) -> LogicalPlan {
        self.state.create_logical_plan(sql).await.unwrap()
    }

    /// What an honest gateway would send for `sql`: rows, or the canonical plan of a cube.
    pub(crate) async fn honest(&self, sql: &str) -> Fragment {
        let plan = self.plan(sql).await;
        let read = profile::reads(&plan).unwrap();
        let product = self.product(&read[0].product.to_string());
        if product.class != ReleaseClass::Aggregate {
            return self.encoded(&self.state.optimize(&plan).unwrap());
        }
        let mut aggregate = &plan;
        while let LogicalPlan::Projection(p) = aggregate {
            aggregate = p.input.as_ref();
        }
        let query = cube::recognise(aggregate, product).unwrap();
        self.encoded(&query.canonical_plan(&schema_of(product)).unwrap())
    }

    /// `sql` as it is planned, whatever it asks.
    pub(crate) async fn forced(&self, sql: &str) -> Fragment {
        self.encoded(&self.state.optimize(&self.plan(sql).await).unwrap())
    }

    /// `plan` as a fragment; where the profile has no words for it, the engine's own producer has.
    pub(crate) fn encoded(&self, plan: &LogicalPlan) -> Fragment {
        let bytes = profile::encode(plan, &self.state).unwrap_or_else(|_| {
            let free = datafusion_substrait::logical_plan::producer::to_substrait_plan;
            free(plan, &self.state).unwrap().encode_to_vec()
        });
        let reads = profile::reads(plan).unwrap();
        let (first, address) = &self.offered[&reads[0].product];
        let products = reads
            .iter()
            .map(|r| GrantedProduct {
                department: r.product.department.clone(),
                product: r.product.product.clone(),
                version: self.offered[&r.product].0.version,
                columns: r.columns.clone(),
            })
            .collect();
        Fragment {
            bytes,
            products,
            node: first.node.clone(),
            address: address.clone(),
        }
    }

    /// A grant for all that `fragment` reads, from the authority of its node's council.
    pub(crate) async fn grant(
        &self,
        fragment: &Fragment,
        output: OutputClass,
    ) -> Result<Envelope, ClientError> {
        self.ask(&fragment.node.council, self.wanted(fragment, output))
            .await
    }

    pub(crate) fn wanted(&self, fragment: &Fragment, output: OutputClass) -> FragmentWanted {
        FragmentWanted {
            node: fragment.node.to_string(),
            products: fragment.products.iter().map(to_wire).collect(),
            output_class: output_to_wire(output).into(),
            recipient: self.peer.to_string(),
            fragment_digest: fragment.digest().as_bytes().to_vec(),
            linked_question_digest: vec![],
        }
    }

    pub(crate) async fn ask(
        &self,
        council: &CouncilName,
        wanted: FragmentWanted,
    ) -> Result<Envelope, ClientError> {
        let request = IssueGrantsRequest {
            credential: Some(self.credential.clone()),
            purpose: self.purpose.to_string(),
            query_id: "q-rogue".to_owned(),
            fragments: vec![wanted],
        };
        Ok(self.authorities[council]
            .issue_grants(request)
            .await?
            .remove(0))
    }

    /// Has `fragment` run at its node under `grant`; what leaves.
    pub(crate) async fn send(
        &self,
        fragment: &Fragment,
        grant: Envelope,
    ) -> Result<RecordBatch, ClientError> {
        send_as(&self.dialer, fragment, grant).await
    }

    /// Gets the grant and has the fragment run under it.
    pub(crate) async fn run(
        &self,
        fragment: &Fragment,
        output: OutputClass,
    ) -> Result<RecordBatch, ClientError> {
        self.send(fragment, self.grant(fragment, output).await?)
            .await
    }
}

/// Has `fragment` run at its node under `grant`, as whoever `dialer` is.
pub(crate) async fn send_as(
    dialer: &Dialer,
    fragment: &Fragment,
    grant: Envelope,
) -> Result<RecordBatch, ClientError> {
    let node = NodeClient::new(dialer, &fragment.address, &fragment.node)?;
    let (schema, batches) = node.run(grant, fragment.bytes.clone().into()).await?;
    let batches: Vec<RecordBatch> = batches.try_collect().await?;
    Ok(concat_batches(&schema, &batches).unwrap())
}

fn to_wire(product: &GrantedProduct) -> wire::GrantedProduct {
    wire::GrantedProduct {
        department: product.department.to_string(),
        product: product.product.to_string(),
        version: product.version,
        columns: product.columns.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn schema_of(product: &Product) -> SchemaRef {
    let bytes = Buffer::from_vec(product.arrow_schema.clone());
    let schema: Schema = try_schema_from_ipc_buffer(&bytes).unwrap();
    Arc::new(schema)
}

fn session(offered: &BTreeMap<ProductRef, (Product, String)>) -> SessionState {
    let state = bare_state(base_config());
    for (name, (product, _)) in offered {
        let list = state.catalog_list();
        let catalog = list.catalog(name.council.as_str()).unwrap_or_else(|| {
            let catalog: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
            list.register_catalog(name.council.to_string(), Arc::clone(&catalog));
            catalog
        });
        let schema = catalog.schema(name.department.as_str()).unwrap_or_else(|| {
            let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
            catalog
                .register_schema(name.department.as_str(), Arc::clone(&schema))
                .unwrap();
            schema
        });
        let table = Arc::new(EmptyTable::new(schema_of(product)));
        schema
            .register_table(name.product.to_string(), table)
            .unwrap();
    }
    state
}

/// A department's node in the hands of whoever hosts it.
pub(crate) struct RogueNode {
    pub(crate) peer: PeerId,
    pub(crate) dialer: Dialer,
    pub(crate) signer: SigningKey,
    pub(crate) authority: AuthorityClient,
    data: PathBuf,
}

impl RogueNode {
    pub(crate) fn of(city: &City, key: &NodeKey, clock: SharedClock) -> Self {
        let config = city.node_config(key).unwrap();
        let dir = config.identity_dir();
        let identity = Identity::load(&dir).unwrap();
        let dialer = Dialer::new(&identity, &TrustStore::load(&dir).unwrap(), clock);
        let authority =
            AuthorityClient::new(&dialer, &config.authority.address, &config.council).unwrap();
        let signer = SigningKey::from_pkcs8(&load_signing_key(&dir).unwrap()).unwrap();
        Self {
            peer: identity.peer(),
            dialer,
            signer,
            authority,
            data: config.data,
        }
    }

    /// A dataset as it lies on the node's disk.
    pub(crate) async fn dataset(&self, name: &str) -> Arc<SealedDataset> {
        let storage = Storage::local(&self.data).unwrap();
        let id = DatasetId {
            council: self.peer.council.clone(),
            department: self.peer.department.clone(),
            dataset: name.parse().unwrap(),
        };
        let opened = SealedDataset::open(&storage, &id, &[self.signer.public()], None).await;
        Arc::new(opened.unwrap())
    }

    /// A request for the keys of `columns` (`dataset.column`, or `dataset.` for the footer), as
    /// they lie wrapped on this node's disk.
    pub(crate) async fn request(
        &self,
        grant: &Envelope,
        fragment: &Fragment,
        columns: &[&str],
    ) -> Loan {
        let mut keys = Vec::new();
        for wanted in columns {
            let (dataset, column) = wanted.split_once('.').unwrap();
            let sealed = self.dataset(dataset).await;
            let found = sealed
                .wrapped_keys()
                .find(|(name, _)| name.column.as_ref().map_or("", |c| c.as_str()) == column);
            let (name, age) = found.unwrap();
            keys.push(KeyWanted {
                dataset: dataset.to_owned(),
                column: column.to_owned(),
                period: name.period.to_string(),
                age: age.to_vec(),
            });
        }
        let identity = EphemeralIdentity::generate();
        let request = LendKeysRequest {
            assignment: None,
            grant: Some(grant.clone()),
            fragment_digest: fragment.digest().as_bytes().to_vec(),
            ephemeral_recipient: identity.recipient().to_string(),
            keys,
        };
        Loan { request, identity }
    }

    /// Asks our own council's authority.
    pub(crate) async fn borrow(&self, loan: &Loan) -> Result<ColumnKeys, ClientError> {
        let lent = self.authority.lend_keys(loan.request.clone()).await?;
        let opened = loan.identity.open(&lent.sealed).unwrap();
        let lent = LentKeys::decode(opened.as_slice()).unwrap();
        let keys = lent.keys.into_iter().map(|k| {
            let name = key_name(&k.dataset, &k.column, &k.period);
            (name, ColumnKey::from_bytes(&k.key).unwrap())
        });
        Ok(keys.collect())
    }
}

/// A request for keys, with the identity that opens the answer.
pub(crate) struct Loan {
    pub(crate) request: LendKeysRequest,
    identity: EphemeralIdentity,
}

pub(crate) fn key_name(dataset: &str, column: &str, period: &str) -> KeyName {
    KeyName {
        dataset: dataset.parse().unwrap(),
        column: (!column.is_empty()).then(|| column.parse().unwrap()),
        period: period.parse().unwrap(),
    }
}

/// One column of a dataset, read with these keys.
pub(crate) async fn read_column(
    dataset: &Arc<SealedDataset>,
    keys: &ColumnKeys,
    column: &str,
) -> Result<RecordBatch, DataFusionError> {
    let lent: Lent = Arc::new(OnceLock::from(keys.clone()));
    let table = SealedTable::new(Arc::clone(dataset), lent);
    let frame = SessionContext::new()
        .read_table(Arc::new(table))?
        .select_columns(&[column])?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    Ok(concat_batches(&schema, &frame.collect().await?)?)
}

/// The code and the words of a refusal.
pub(crate) fn no<T>(answer: Result<T, ClientError>) -> (Code, String) {
    let error = answer.err().unwrap();
    (error.code(), error.message().unwrap_or_default().to_owned())
}

/// The log of a council's authority, its chain checked.
pub(crate) fn authority_log(city: &City, council: &str) -> Vec<Entry> {
    let folder = city
        .authority_config(&council.parse().unwrap())
        .unwrap()
        .data;
    let mut entries = Vec::new();
    Admin::open(&folder)
        .unwrap()
        .read_log(|_, entry| entries.push(entry))
        .unwrap();
    entries
}

/// The log of a node, its chain checked.
pub(crate) fn node_log(city: &City, key: &NodeKey) -> Vec<Entry> {
    let file = city.node_data(key).unwrap().join("audit.sqlite");
    let records = guildhall_node::Log::open(&file).unwrap().records().unwrap();
    let mut chain = Chain::new();
    records.iter().map(|r| chain.follow(r).unwrap().1).collect()
}
