//! Grants for the fragments of one execution, and the fragments run under them.

use crate::backend::{Backend, Party, PartyError};
use crate::credential::Caller;
use crate::own;
use crate::refusals::Refusals;
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::EmptyRecordBatchStream;
use futures::future::join_all;
use futures::stream::BoxStream;
use guildhall_grant::output_to_wire;
use guildhall_model::{CouncilName, FragmentDigest, PeerId, Purpose, QueryId};
use guildhall_plan::catalogue::OwnTable;
use guildhall_plan::remote::{Fragment, FragmentRunner};
use guildhall_proto::authority::v1::{FragmentWanted, IssueGrantsRequest};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::grant::v1::GrantedProduct;
use guildhall_proto::node::v1::ArrowMessage;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who is missing from an answer.
pub(crate) type Missing = Arc<Mutex<BTreeSet<String>>>;

/// On whose behalf grants are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) caller: Caller,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) query: QueryId,
    /// This gateway, the only one that may receive the results.
    pub(crate) recipient: PeerId,
    /// Whether an answer may lack departments that are away.
    pub(crate) partial: bool,
    /// Whose authorities know of budgets.
    pub(crate) councils: Vec<CouncilName>,
    pub(crate) refusals: Refusals,
}

/// Runs fragments under grants; each grant is used once.
pub(crate) struct Granted {
    backend: Arc<dyn Backend>,
    asker: Asker,
    // Equal fragments have equal digests and each its own grant.
    grants: Mutex<HashMap<FragmentDigest, Vec<Envelope>>>,
    missing: Missing,
    // The engine may hand an error to several streams and lose its type.
    failure: Mutex<Option<PartyError>>,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted")
            .field("asker", &self.asker)
            .finish_non_exhaustive()
    }
}

impl Granted {
    /// Asks each council's authority for all of its fragments in one call, the councils at once.
    pub(crate) async fn issue(
        backend: Arc<dyn Backend>,
        asker: Asker,
        fragments: &[Fragment],
        missing: Missing,
    ) -> Result<Self, PartyError> {
        let mut by_council: BTreeMap<&CouncilName, Vec<&Fragment>> = BTreeMap::new();
        for fragment in fragments {
            by_council
                .entry(&fragment.node.council)
                .or_default()
                .push(fragment);
        }
        let asked = by_council.into_iter().map(|(council, fragments)| {
            let (backend, asker) = (&backend, &asker);
            async move {
                let issued = ask(backend.as_ref(), asker, council, &fragments).await;
                (fragments, issued)
            }
        });
        let mut grants: HashMap<FragmentDigest, Vec<Envelope>> = HashMap::new();
        for (fragments, issued) in join_all(asked).await {
            match issued {
                Ok(issued) => {
                    for (fragment, grant) in fragments.into_iter().zip(issued) {
                        grants.entry(fragment.digest).or_default().push(grant);
                    }
                }
                // Each of its fragments will find no grant, ask once more, and be missing.
                Err(e) if asker.partial && e.is_away() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Self {
            backend,
            asker,
            grants: Mutex::new(grants),
            missing,
            failure: Mutex::default(),
        })
    }

    /// Runs a fragment without decoding what comes back.
    pub(crate) async fn relay(
        &self,
        fragment: &Fragment,
    ) -> Result<BoxStream<'static, Result<ArrowMessage, PartyError>>, PartyError> {
        let grant = self.grant(fragment).await?;
        self.backend.relay(fragment, grant).await
    }

    /// What went wrong with a party, if something did.
    pub(crate) fn failure(&self) -> Option<PartyError> {
        lock(&self.failure).clone()
    }

    async fn grant(&self, fragment: &Fragment) -> Result<Envelope, PartyError> {
        if let Some(grant) = lock(&self.grants)
            .get_mut(&fragment.digest)
            .and_then(Vec::pop)
        {
            return Ok(grant);
        }
        // A fragment narrowed while the query ran, or one that runs twice.
        let council = &fragment.node.council;
        let mut issued = ask(self.backend.as_ref(), &self.asker, council, &[fragment]).await?;
        issued
            .pop()
            .ok_or_else(|| PartyError::Failed(Party::Authority(council.clone())))
    }

    async fn start(&self, fragment: &Fragment) -> Result<SendableRecordBatchStream, PartyError> {
        if fragment.address.is_empty() {
            return Err(PartyError::Away(Party::Node(fragment.node.clone())));
        }
        let grant = self.grant(fragment).await?;
        self.backend.run(fragment, grant).await
    }
}

#[async_trait]
impl FragmentRunner for Granted {
    async fn run(&self, fragment: &Fragment) -> Result<SendableRecordBatchStream, DataFusionError> {
        match self.start(fragment).await {
            Ok(stream) => Ok(stream),
            Err(PartyError::Away(who)) if self.asker.partial => {
                lock(&self.missing).insert(name(&who));
                Ok(Box::pin(EmptyRecordBatchStream::new(Arc::new(
                    Schema::empty(),
                ))))
            }
            Err(e) => {
                lock(&self.failure).get_or_insert(e.clone());
                Err(DataFusionError::External(Box::new(e)))
            }
        }
    }

    async fn own(&self, table: OwnTable) -> Result<RecordBatch, DataFusionError> {
        let rows = match table {
            OwnTable::Refusals => {
                let own = self.asker.refusals.of(&self.asker.caller.principal);
                own::refusal_rows(&own)
            }
            OwnTable::Budget => {
                let (stated, failed) = own::budgets(self.backend.as_ref(), &self.asker).await;
                for error in failed {
                    match own::away(&error) {
                        Some(council) if self.asker.partial => {
                            lock(&self.missing).insert(council);
                        }
                        _ => {
                            lock(&self.failure).get_or_insert(error.clone());
                            return Err(DataFusionError::External(Box::new(error)));
                        }
                    }
                }
                own::budget_rows(&stated)
            }
        };
        rows.map_err(DataFusionError::from)
    }
}

/// A party as partial answers name it.
pub(crate) fn name(who: &Party) -> String {
    match who {
        Party::Authority(council) => council.to_string(),
        Party::Node(node) => format!("{}.{}", node.council, node.department),
    }
}

async fn ask(
    backend: &dyn Backend,
    asker: &Asker,
    council: &CouncilName,
    fragments: &[&Fragment],
) -> Result<Vec<Envelope>, PartyError> {
    let request = IssueGrantsRequest {
        credential: Some(asker.caller.credential.clone()),
        purpose: asker
            .purpose
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        query_id: asker.query.to_string(),
        fragments: fragments
            .iter()
            .map(|f| wanted(f, &asker.recipient))
            .collect(),
    };
    let issued = backend.issue_grants(council, request).await?;
    if issued.len() == fragments.len() {
        Ok(issued)
    } else {
        Err(PartyError::Failed(Party::Authority(council.clone())))
    }
}

fn wanted(fragment: &Fragment, recipient: &PeerId) -> FragmentWanted {
    FragmentWanted {
        node: fragment.node.to_string(),
        products: fragment
            .products
            .iter()
            .map(|p| GrantedProduct {
                department: p.department.to_string(),
                product: p.product.to_string(),
                version: p.version,
                columns: p.columns.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        output_class: output_to_wire(fragment.output).into(),
        recipient: recipient.to_string(),
        fragment_digest: fragment.digest.as_bytes().to_vec(),
    }
}

// A panic elsewhere does not spoil a map of grants or names.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
