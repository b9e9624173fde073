//! Grants for the fragments of one execution, and the fragments run under them.

use crate::backend::{Backend, Messages, Party, PartyError};
use crate::credential::Caller;
use crate::own;
use crate::refusals::Refusals;
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt as _;
use futures::future::join_all;
use guildhall_client::arrow_message::{decode_batch, decode_schema};
use guildhall_grant::output_to_wire;
use guildhall_model::{CouncilName, FragmentDigest, OutputClass, PeerId, Purpose, QueryId};
use guildhall_plan::catalogue::OwnTable;
use guildhall_plan::remote::{Fragment, FragmentRunner};
use guildhall_proto::authority::v1::{FragmentWanted, IssueGrantsRequest};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::grant::v1::GrantedProduct;
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
    /// This gateway, the only one that may receive the results. Parts of cells go to a clean room instead.
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
    // Equal fragments have equal keys and each its own grant.
    grants: Mutex<HashMap<Key, Vec<Envelope>>>,
    missing: Missing,
    // The engine may hand an error to several streams and lose its type.
    failure: Mutex<Option<PartyError>>,
}

/// What a grant is for. A part of cells and whole cells may be asked in the same bytes, and are not the same leave.
type Key = (FragmentDigest, OutputClass, Option<PeerId>);

fn key(fragment: &Fragment) -> Key {
    let recipient = fragment.recipient.clone();
    (fragment.digest, fragment.output, recipient)
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted")
            .field("asker", &self.asker)
            .finish_non_exhaustive()
    }
}

impl Granted {
    /// Asks each council's authority for all of its fragments and parts in one call, the councils at once.
    pub(crate) async fn issue(
        backend: Arc<dyn Backend>,
        asker: Asker,
        fragments: &[Fragment],
        missing: Missing,
    ) -> Result<Self, PartyError> {
        let mut by_council: BTreeMap<&CouncilName, Vec<&Fragment>> = BTreeMap::new();
        for fragment in fragments.iter().flat_map(Fragment::granted) {
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
        let mut grants: HashMap<Key, Vec<Envelope>> = HashMap::new();
        for (fragments, issued) in join_all(asked).await {
            match issued {
                Ok(issued) => {
                    for (fragment, grant) in fragments.into_iter().zip(issued) {
                        grants.entry(key(fragment)).or_default().push(grant);
                    }
                }
                // Each of its fragments will find no grant, ask once more, and be missing; cells of which it has a part fail.
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
    pub(crate) async fn relay(&self, fragment: &Fragment) -> Result<Messages, PartyError> {
        if !fragment.parts.is_empty() {
            return self.release(fragment).await;
        }
        let grant = self.grant(fragment).await?;
        self.backend.relay(fragment, grant).await
    }

    /// What went wrong with a party, if something did.
    pub(crate) fn failure(&self) -> Option<PartyError> {
        lock(&self.failure).clone()
    }

    async fn grant(&self, fragment: &Fragment) -> Result<Envelope, PartyError> {
        if let Some(grant) = lock(&self.grants)
            .get_mut(&key(fragment))
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

    /// Has a clean room release cells put together of all of the fragment's parts. A part that cannot be had is never left
    /// out: the cells would be others.
    async fn release(&self, fragment: &Fragment) -> Result<Messages, PartyError> {
        let mut grants = Vec::new();
        for part in &fragment.parts {
            if part.address.is_empty() {
                return Err(PartyError::PartAway(Party::Node(part.node.clone())));
            }
            let grant = self.grant(part).await;
            grants.push(grant.map_err(needed)?);
        }
        self.backend.release(fragment, grants).await
    }

    async fn start(&self, fragment: &Fragment) -> Result<SendableRecordBatchStream, PartyError> {
        if !fragment.parts.is_empty() {
            let room = Party::CleanRoom(fragment.node.council.clone());
            return decoded(self.release(fragment).await?, room).await;
        }
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
            Err(PartyError::Away(who)) if self.asker.partial && fragment.parts.is_empty() => {
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
        Party::CleanRoom(council) => format!("{council}.clean-room"),
    }
}

/// An error of whoever has a part of cells: without it there are none.
fn needed(error: PartyError) -> PartyError {
    match error {
        PartyError::Away(who) => PartyError::PartAway(who),
        other => other,
    }
}

/// The batches of `messages`, the schema first, of a party that is at fault if they are none.
async fn decoded(
    mut messages: Messages,
    from: Party,
) -> Result<SendableRecordBatchStream, PartyError> {
    let failed = |from: &Party, why: &dyn fmt::Display| {
        tracing::warn!(party = %from, reason = %why, "failed");
        PartyError::Failed(from.clone())
    };
    let first = match messages.next().await {
        Some(first) => first?,
        None => return Err(failed(&from, &"it ended before the schema")),
    };
    let schema = decode_schema(&first).map_err(|e| failed(&from, &e))?;
    let of = schema.clone();
    let batches = messages.map(move |message| {
        let batch = message.and_then(|m| decode_batch(&of, &m).map_err(|e| failed(&from, &e)));
        batch.map_err(|e| DataFusionError::External(Box::new(e)))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
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
            .map(|f| wanted(f, f.recipient.as_ref().unwrap_or(&asker.recipient)))
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
        linked_question_digest: fragment
            .linked
            .map_or_else(Vec::new, |l| l.as_bytes().to_vec()),
    }
}

// A panic elsewhere does not spoil a map of grants or names.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
