//! From a statement to a stream: whose it is, what for, over which catalogue, under which grants.
//!
//! Guard, catalogue, planner, grants, nodes, merge; in that order, every time. Preparing stops
//! before the grants and runs nothing. A plan is kept for the same principal, purpose and
//! catalogue, so that prepare, info and fetch plan once; grants are asked for at each fetch.

mod budgets;
mod question;
mod run;

pub(crate) use question::Parsed;
pub(crate) use run::Reply;

use crate::backend::{Backend, Party, PartyError};
use crate::config::Limits;
use crate::credential::Caller;
use crate::door::Call;
use crate::error::DoorError;
use crate::granted::{Asker, Missing};
use crate::metadata::Listed;
use crate::outlet::Outlet;
use crate::parameters;
use crate::refusals::Refusals;
use crate::running::{Cancelled, RunningQueries};
use crate::ticket;
use crate::view::View;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use guildhall_model::{CouncilName, Digest, PeerId, Principal, Purpose, QueryId, SharedClock};
use guildhall_plan::catalogue::CleanRoom;
use guildhall_plan::guard::StatementLimits;
use guildhall_plan::planner::{
    PlanError, PlanErrorKind, Planner, PlannerLimits, Prepared, QueryPlan,
};
use guildhall_proto::envelope::v1::Envelope;
use moka::future::Cache;
use question::{Question, question};
use run::{Plans, Run, note};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

const KEEP_PLANS: Duration = Duration::from_secs(600);

/// Answers statements.
#[derive(Debug, Clone)]
pub(crate) struct Engine(Arc<Shared>);

/// Whom questions are asked of.
pub(crate) struct Parties {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) councils: Vec<CouncilName>,
    /// Where cells of several owners are released, if anywhere.
    pub(crate) clean_room: Option<CleanRoom>,
}

struct Shared {
    backend: Arc<dyn Backend>,
    planner: Planner,
    councils: Vec<CouncilName>,
    clean_room: Option<CleanRoom>,
    recipient: PeerId,
    limits: Limits,
    statement_limits: StatementLimits,
    views: Cache<(Digest, String), Arc<View>>,
    prepared: Cache<Digest, Arc<Prepared>>,
    plans: Cache<Digest, Arc<QueryPlan>>,
    running: RunningQueries,
    memory: Arc<GreedyMemoryPool>,
    refusals: Refusals,
    clock: SharedClock,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("councils", &self.councils)
            .finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(
        parties: Parties,
        recipient: PeerId,
        limits: Limits,
        clock: SharedClock,
    ) -> Self {
        let planner = Planner::new(PlannerLimits {
            deadline: Duration::from_secs(limits.plan_seconds.max(1)),
            ..PlannerLimits::default()
        });
        let Parties {
            backend,
            councils,
            clean_room,
        } = parties;
        Self(Arc::new(Shared {
            backend,
            planner,
            councils,
            clean_room,
            recipient,
            statement_limits: StatementLimits {
                max_bytes: limits.statement_bytes,
                ..StatementLimits::default()
            },
            views: Cache::builder()
                .max_capacity(1000)
                .time_to_live(Duration::from_secs(limits.catalogue_seconds))
                .build(),
            prepared: Cache::builder()
                .max_capacity(limits.plans)
                .time_to_live(KEEP_PLANS)
                .build(),
            plans: Cache::builder()
                .max_capacity(limits.plans)
                .time_to_live(KEEP_PLANS)
                .build(),
            running: RunningQueries::new(&limits),
            memory: Arc::new(GreedyMemoryPool::new(mebibytes(limits.memory_total_mb))),
            limits,
            refusals: Refusals::default(),
            clock,
        }))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Whether products of `council` are offered here.
    pub(crate) fn knows(&self, council: &CouncilName) -> bool {
        self.0.councils.contains(council)
    }

    /// Trades an account's password for a token.
    pub(crate) async fn sign_in(
        &self,
        council: &CouncilName,
        account: &str,
        password: &str,
    ) -> Result<Envelope, DoorError> {
        self.0
            .backend
            .sign_in(council, account, password)
            .await
            .map_err(|e| match e {
                PartyError::Refused {
                    code: Code::ResourceExhausted | Code::Unavailable,
                    ..
                } => e.into(),
                PartyError::Refused { .. } => DoorError::WrongPassword,
                _ => e.into(),
            })
    }

    /// Keeps a refusal for whoever was refused to look up; the error itself goes on.
    pub(crate) fn noted<T>(
        &self,
        caller: &Caller,
        done: Result<T, DoorError>,
    ) -> Result<T, DoorError> {
        done.inspect_err(|e| {
            let now = self.0.clock.now();
            self.0.refusals.note(&caller.principal, e, now);
        })
    }

    /// Ends a principal's own query.
    pub(crate) fn cancel(&self, query: &QueryId, principal: &Principal) -> Cancelled {
        self.0.running.cancel(query, principal)
    }

    /// Ends every query.
    pub(crate) fn cancel_all(&self) {
        self.0.running.cancel_all();
    }

    /// Lets a statement in, or says what about it is not taken here.
    pub(crate) fn parse(&self, sql: &str) -> Result<Parsed, DoorError> {
        Parsed::read(sql, &self.0.statement_limits)
    }

    /// Result and parameters of a statement; nothing runs.
    pub(crate) async fn prepare(
        &self,
        call: &Call,
        parsed: &Parsed,
        wanted: Option<Purpose>,
        statement: &mut ticket::Statement,
    ) -> Result<Arc<Prepared>, DoorError> {
        let question = question(parsed)?;
        let view = self.view_for(call, question, wanted, statement).await?;
        if statement.sql.contains(['?', '$']) {
            return self.prepared(call, question, &view, statement).await;
        }
        // No parameters: the plan itself is wanted next, and what stands against it is told now.
        let plan = self.plan(call, question, &view, statement).await?;
        let parameters = Arc::new(Schema::empty());
        Ok(Arc::new(Prepared {
            schema: plan.wire_schema().clone(),
            parameters,
        }))
    }

    /// The schema of a statement's result, bound parameters checked; nothing runs.
    pub(crate) async fn describe(
        &self,
        call: &Call,
        query: &QueryId,
        parsed: &Parsed,
        wanted: Option<Purpose>,
        statement: &mut ticket::Statement,
    ) -> Result<SchemaRef, DoorError> {
        let question = question(parsed)?;
        let view = self.view_for(call, question, wanted, statement).await?;
        let schema = match &statement.parameters {
            Some(bytes) => {
                let prepared = self.prepared(call, question, &view, statement).await?;
                parameters::rows(bytes, &prepared.parameters)?;
                prepared.schema.clone()
            }
            None => self
                .plan(call, question, &view, statement)
                .await?
                .wire_schema()
                .clone(),
        };
        tracing::info!(
            %query,
            principal = %call.caller.principal,
            purpose = %statement.purpose,
            statement = %Digest::of(statement.sql.as_bytes()).short(8),
            "planned"
        );
        Ok(schema)
    }

    /// Every table that the caller may see.
    pub(crate) async fn listed(
        &self,
        caller: &Caller,
        purpose: Option<Purpose>,
    ) -> Result<Vec<Listed>, DoorError> {
        Ok(self.view(caller, purpose.as_ref()).await?.listed())
    }

    /// The catalogue for a statement, its purpose settled and written into `statement`.
    async fn view_for(
        &self,
        call: &Call,
        question: &Question,
        wanted: Option<Purpose>,
        statement: &mut ticket::Statement,
    ) -> Result<Arc<View>, DoorError> {
        let purpose = call.caller.purpose(wanted, question.reads_products())?;
        statement.purpose = purpose
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let view = self.view(&call.caller, purpose.as_ref()).await?;
        if !statement.partial
            && !call.options.partial
            && let Some(council) = question.touches(&view.away).first()
        {
            let who = Party::Authority((*council).clone());
            return Err(PartyError::Away(who).into());
        }
        Ok(view)
    }

    async fn view(
        &self,
        caller: &Caller,
        purpose: Option<&Purpose>,
    ) -> Result<Arc<View>, DoorError> {
        let purpose = purpose.map(ToString::to_string).unwrap_or_default();
        let key = (caller.id, purpose);
        if let Some(view) = self.0.views.get(&key).await {
            return Ok(view);
        }
        let (backend, room) = (self.0.backend.as_ref(), self.0.clean_room.as_ref());
        let view = View::fetch(backend, &self.0.councils, room, caller, &key.1).await?;
        let view = Arc::new(view);
        // One that lacks a council is not kept: the authority may be back for the next call.
        if view.away.is_empty() {
            self.0.views.insert(key, view.clone()).await;
        }
        Ok(view)
    }

    async fn prepared(
        &self,
        call: &Call,
        question: &Question,
        view: &View,
        statement: &ticket::Statement,
    ) -> Result<Arc<Prepared>, DoorError> {
        let key = plan_key(&call.caller.principal, view, statement);
        if let Some(prepared) = self.0.prepared.get(&key).await {
            return Ok(prepared);
        }
        let planner = self.0.planner.with_cell_status(statement.cell_status);
        let prepared = planner.prepare(&question.statement, &view.catalogue).await;
        let prepared = Arc::new(prepared.map_err(|e| plan_error(e, None))?);
        self.0.prepared.insert(key, prepared.clone()).await;
        Ok(prepared)
    }

    /// The plan of a statement without parameters.
    async fn plan(
        &self,
        call: &Call,
        question: &Question,
        view: &View,
        statement: &ticket::Statement,
    ) -> Result<Arc<QueryPlan>, DoorError> {
        let key = plan_key(&call.caller.principal, view, statement);
        if let Some(plan) = self.0.plans.get(&key).await {
            return Ok(plan);
        }
        let planner = self.0.planner.with_cell_status(statement.cell_status);
        let plan = planned(&planner, question, view, None).await?;
        self.0.plans.insert(key, plan.clone()).await;
        Ok(plan)
    }

    async fn plan_with(
        &self,
        question: &Question,
        view: &View,
        values: Option<ParamValues>,
    ) -> Result<Arc<QueryPlan>, DoorError> {
        planned(&self.0.planner, question, view, values).await
    }

    /// Runs a statement for a ticket.
    pub(crate) async fn run(
        &self,
        call: &Call,
        query: &QueryId,
        statement: &ticket::Statement,
    ) -> Result<Reply, DoorError> {
        let place = self.0.running.begin(query, &call.caller.principal)?;
        let cancelled = place.cancelled();
        let outlet = Outlet {
            query: query.clone(),
            place,
            seconds: self.0.limits.query_seconds,
        };
        tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(DoorError::Cancelled),
            reply = self.start(call, query, statement, outlet) => reply,
        }
    }

    async fn start(
        &self,
        call: &Call,
        query: &QueryId,
        statement: &ticket::Statement,
        outlet: Outlet,
    ) -> Result<Reply, DoorError> {
        let parsed = self.parse(&statement.sql)?;
        let question = question(&parsed)?;
        let mut statement = statement.clone();
        let wanted = statement.purpose.parse().ok();
        let view = self
            .view_for(call, question, wanted, &mut statement)
            .await?;
        let missing = Missing::default();
        let away = question.touches(&view.away);
        note(&missing, away.iter().map(ToString::to_string));
        let away = away.first().map(|council| (*council).clone());
        let asker = Asker {
            caller: call.caller.clone(),
            purpose: statement.purpose.parse().ok(),
            query: query.clone(),
            recipient: self.0.recipient.clone(),
            partial: statement.partial,
            councils: self.0.councils.clone(),
            refusals: self.0.refusals.clone(),
        };
        let run = Run {
            engine: self.clone(),
            asker,
            missing,
            away,
        };
        match &statement.parameters {
            None => {
                let plan = self.plan(call, question, &view, &statement).await?;
                match plan.privacy() {
                    Some(privacy) => {
                        let told = self.with_standings(&call.caller, privacy).await?;
                        Ok(run.told(told, outlet).await)
                    }
                    None => run.once(&plan, outlet).await,
                }
            }
            Some(bytes) => {
                let prepared = self.prepared(call, question, &view, &statement).await?;
                let rows = parameters::rows(bytes, &prepared.parameters)?;
                let plans = Plans {
                    engine: self.clone(),
                    parsed: Arc::new(parsed),
                    view,
                };
                run.each(plans, rows, prepared.schema.clone(), outlet).await
            }
        }
    }
}

async fn planned(
    planner: &Planner,
    question: &Question,
    view: &View,
    values: Option<ParamValues>,
) -> Result<Arc<QueryPlan>, DoorError> {
    let plan = planner.plan(&question.statement, &view.catalogue, values);
    Ok(Arc::new(plan.await.map_err(|e| plan_error(e, None))?))
}

fn mebibytes(n: usize) -> usize {
    n.saturating_mul(1024 * 1024)
}

// Invariant: whatever a plan depends on is in its key, each part with its length.
fn plan_key(principal: &Principal, view: &View, statement: &ticket::Statement) -> Digest {
    let mut key = view.version.as_bytes().to_vec();
    for part in [
        principal.council.as_str(),
        principal.name.as_str(),
        &statement.purpose,
        &statement.sql,
    ] {
        key.extend_from_slice(&part.len().to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    key.push(u8::from(statement.cell_status));
    Digest::of(&key)
}

fn plan_error(e: PlanError, failure: Option<PartyError>) -> DoorError {
    let kind = e.kind();
    let message = match e.help() {
        Some(help) => format!("{e}\nhelp: {help}"),
        None => e.to_string(),
    };
    if let PlanError::Fragment { source } = &e {
        let party = failure.or_else(|| source.downcast_ref::<PartyError>().cloned());
        if let Some(party) = party {
            return party.into();
        }
    }
    match kind {
        PlanErrorKind::InvalidArgument => DoorError::Invalid(message),
        PlanErrorKind::NotFound => DoorError::NotFound { message },
        PlanErrorKind::Refused => match e {
            PlanError::Refused { refusal } => DoorError::Rule { refusal },
            _ => DoorError::Refused {
                code: Code::PermissionDenied,
                message,
            },
        },
        PlanErrorKind::TooMuch => DoorError::TooMuch { message },
        PlanErrorKind::Deadline => DoorError::Refused {
            code: Code::DeadlineExceeded,
            message,
        },
        PlanErrorKind::Internal => DoorError::internal("answer a query", &e),
    }
}
