//! One fetch of a result: grants, nodes, merge, and the way out.

use super::question::{Parsed, question};
use super::{Engine, mebibytes, plan_error};
use crate::backend::{Party, PartyError};
use crate::door::Answer;
use crate::error::DoorError;
use crate::granted::{Asker, Granted, Missing};
use crate::memory::Share;
use crate::outlet::{Afterword, Batches, Messages, Outlet};
use crate::view::View;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::common::ParamValues;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use guildhall_model::CouncilName;
use guildhall_plan::planner::{ExecuteLimits, PlanError, QueryPlan};
use guildhall_plan::remote::Fragment;
use guildhall_proto::node::v1::ArrowMessage;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

/// A stream of results, and who is known to be missing from it.
pub(crate) struct Reply {
    pub(crate) messages: Answer<FlightData>,
    pub(crate) missing: Vec<String>,
}

impl Reply {
    /// A reply that nobody is missing from.
    pub(crate) fn whole(messages: Answer<FlightData>) -> Self {
        Self {
            messages,
            missing: Vec::new(),
        }
    }
}

/// Plans of one statement for rows of parameters.
#[derive(Clone)]
pub(super) struct Plans {
    pub(super) engine: Engine,
    pub(super) parsed: Arc<Parsed>,
    pub(super) view: Arc<View>,
}

impl Plans {
    async fn plan(&self, values: ParamValues) -> Result<Arc<QueryPlan>, DoorError> {
        self.engine
            .plan_with(question(&self.parsed)?, &self.view, Some(values))
            .await
    }
}

/// One fetch of a result.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) engine: Engine,
    pub(super) asker: Asker,
    pub(super) missing: Missing,
    /// A council whose products are not in the catalogue, since its authority is away, and may have been asked for.
    pub(super) away: Option<CouncilName>,
}

impl Run {
    pub(super) async fn once(
        self,
        plan: &Arc<QueryPlan>,
        outlet: Outlet,
    ) -> Result<Reply, DoorError> {
        let schema = plan.wire_schema().clone();
        if !self.asker.partial
            && let Some(fragment) = plan.whole()
        {
            return self.relay(fragment, schema, outlet).await;
        }
        let batches = self.execute(plan).await?;
        Ok(self.reply(batches, schema, outlet).await)
    }

    /// Rows that this gateway has made itself.
    pub(super) async fn told(self, batch: RecordBatch, outlet: Outlet) -> Reply {
        let schema = batch.schema();
        let batches = stream::iter([Ok(batch)]).boxed();
        self.reply(batches, schema, outlet).await
    }

    /// One execution for each row of parameters, one after the other, in one stream.
    pub(super) async fn each(
        self,
        plans: Plans,
        rows: Vec<ParamValues>,
        schema: SchemaRef,
        outlet: Outlet,
    ) -> Result<Reply, DoorError> {
        let mut rows = rows.into_iter();
        let first = match rows.next() {
            Some(values) => self.execute(plans.plan(values).await?.as_ref()).await?,
            None => stream::empty().boxed(),
        };
        let run = self.clone();
        let rest = stream::iter(rows)
            .then(move |values| {
                let (run, plans) = (run.clone(), plans.clone());
                async move { run.execute(plans.plan(values).await?.as_ref()).await }.boxed()
            })
            .try_flatten();
        Ok(self.reply(first.chain(rest).boxed(), schema, outlet).await)
    }

    async fn granted(&self, fragments: &[Fragment]) -> Result<Granted, DoorError> {
        let (backend, asker) = (self.engine.0.backend.clone(), self.asker.clone());
        Ok(Granted::issue(backend, asker, fragments, self.missing.clone()).await?)
    }

    /// Refuses cells of all councils while one of these is away: without its part they would be other cells.
    fn is_whole(&self, plan: &QueryPlan) -> Result<(), DoorError> {
        match &self.away {
            Some(council) if plan.is_of_all() => {
                let who = Party::Authority(council.clone());
                Err(PartyError::PartAway(who).into())
            }
            _ => Ok(()),
        }
    }

    async fn execute(&self, plan: &QueryPlan) -> Result<Batches, DoorError> {
        self.is_whole(plan)?;
        let limits = &self.engine.0.limits;
        let granted = Arc::new(self.granted(plan.fragments()).await?);
        let default = ExecuteLimits::default();
        let memory = mebibytes(limits.memory_mb);
        let share = Share::new(memory, self.engine.0.memory.clone());
        let limits = ExecuteLimits {
            memory,
            partitions: if limits.partitions == 0 {
                default.partitions
            } else {
                limits.partitions
            },
            pool: Some(Arc::new(share)),
        };
        let (engine, caller) = (self.engine.clone(), self.asker.caller.clone());
        let batches = plan
            .execute(granted.clone(), limits)
            .await
            .map_err(|e| plan_error(e, granted.failure()))?;
        Ok(batches
            .map_err(move |e| {
                let error = plan_error(PlanError::running(e), granted.failure());
                let noted: Result<(), _> = engine.noted(&caller, Err(error));
                noted.err().unwrap_or(DoorError::Internal)
            })
            .boxed())
    }

    /// A plan that is one fragment goes from node to client as it is, if its types are those
    /// that were declared.
    async fn relay(
        self,
        fragment: &Fragment,
        schema: SchemaRef,
        outlet: Outlet,
    ) -> Result<Reply, DoorError> {
        let granted = self.granted(std::slice::from_ref(fragment)).await?;
        let mut messages: Messages = granted
            .relay(fragment)
            .await?
            .map_ok(flight_data)
            .map_err(DoorError::from)
            .boxed();
        let Some(first) = messages.next().await.transpose()? else {
            return Ok(Reply::whole(outlet.encode(
                schema,
                stream::empty().boxed(),
                no_words(),
            )));
        };
        let sent = Schema::try_from(&first)
            .map_err(|e| DoorError::internal("read a node's schema", &e))?;
        if same_types(&sent, &schema) {
            return Ok(Reply::whole(outlet.relay(schema, messages)));
        }
        let all = stream::iter([Ok(first)]).chain(messages);
        let all = all.map_err(|e| FlightError::ExternalError(Box::new(e)));
        let batches = FlightRecordBatchStream::new_from_flight_data(all).map_err(|e| match e {
            FlightError::ExternalError(inner) => match inner.downcast::<DoorError>() {
                Ok(ours) => *ours,
                Err(other) => DoorError::internal("read a node's batch", other.as_ref()),
            },
            other => DoorError::internal("read a node's batch", &other),
        });
        Ok(Reply::whole(outlet.encode(
            schema,
            batches.boxed(),
            no_words(),
        )))
    }

    async fn reply(self, batches: Batches, schema: SchemaRef, outlet: Outlet) -> Reply {
        let missing = self.missing.clone();
        let words: Afterword = Box::new(move || {
            let missing = named(&missing);
            (!missing.is_empty()).then(|| serde_json::json!({ "missing": missing }).to_string())
        });
        if !self.asker.partial {
            return Reply::whole(outlet.encode(schema, batches, words));
        }
        // By the first batch, or the end, most of those who are away have been noticed.
        let mut batches = batches.peekable();
        Pin::new(&mut batches).peek().await;
        let missing = named(&self.missing);
        Reply {
            messages: outlet.encode(schema, batches.boxed(), words),
            missing,
        }
    }
}

fn no_words() -> Afterword {
    Box::new(|| None)
}

pub(super) fn note(missing: &Missing, names: impl IntoIterator<Item = String>) {
    missing
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(names);
}

fn named(missing: &Missing) -> Vec<String> {
    missing
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .cloned()
        .collect()
}

fn flight_data(message: ArrowMessage) -> FlightData {
    FlightData {
        data_header: message.header,
        data_body: message.body,
        ..FlightData::default()
    }
}

fn same_types(a: &Schema, b: &Schema) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields()
            .iter()
            .zip(b.fields())
            .all(|(a, b)| a.data_type() == b.data_type())
}
