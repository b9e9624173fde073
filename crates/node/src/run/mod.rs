//! One fragment, from the request to what leaves.
//!
//! The order is fixed by types: each step takes what only the step before it can make.
//!
//! ```text
//! verify, replay   -> FreshGrant        whose leave it is, used once
//! admit            -> AdmittedFragment  what is read and what it may be released as
//! permit           -> Permitted         the department's policy agrees, and it is written down
//! plan             -> Planned           views, row filters, masks; the columns that will be read
//! debit            -> Paid              a free question is charged to its budget, and written down
//! borrow           -> Keyed             the keys of those columns, lent for this grant
//! run              -> Released          through the gate, the only way to a message
//! ```

mod adhoc;
mod cells;
mod contribute;
mod door;
mod expand;
mod facts;
mod functions;
mod guarded;
mod kept;
mod lattice;
mod lend;
mod link;
mod pace;
mod patterns;
mod planned;
mod prepare;
mod stream;
mod survey;
mod total;

pub(crate) use contribute::Contributions;
pub(crate) use door::{Door, FreshGrant};
pub(crate) use expand::relation_of;
pub(crate) use lend::{LendError, borrow_for_check};
pub(crate) use patterns::{Patterns, Standing};
pub use prepare::Prepared;
pub(crate) use stream::{Answer, Turns};
pub(crate) use survey::Surveyor;

use crate::admit::{AdmittedFragment, Shape, admit};
use crate::audit::Log;
use crate::authority::Authority;
use crate::engine::Engine;
use crate::error::{Privacy, RunError};
use crate::product::{Products, Served, ShelfError, scans};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use guildhall_audit::{Decision, Entry, Event, Mode, Reason};
use guildhall_disclosure::{Gate, NoiseSecret, Rule};
use guildhall_grant::product::DEVELOPMENT;
use guildhall_model::{Digest, OutputClass, PeerId, ProductRef, Role, SharedClock};
use guildhall_policy::{Action, Asker, Decision as PolicyDecision, Policies, Question, Subject};
use guildhall_proto::authority::v1::DebitRequest;
use guildhall_proto::node::v1::RunRequest;
use guildhall_workers::{Fleet, Reading};
use pace::Pace;
use planned::{Planned, PlannedWork, Source};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// What answers fragments.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) door: Door,
    pub(crate) products: Products,
    pub(crate) policies: Policies,
    pub(crate) secret: NoiseSecret,
    pub(crate) patterns: Arc<Patterns>,
    pub(crate) engine: Engine,
    /// The department's workers, which rows are worked out by.
    pub(crate) fleet: Option<Fleet>,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) log: Log,
    pub(crate) clock: SharedClock,
    pub(crate) turns: Turns,
    pub(crate) longest: Duration,
}

impl Runner {
    /// Answers one request of `peer`, or says what the caller may learn of why not.
    pub(crate) async fn answer(
        &self,
        peer: &PeerId,
        request: RunRequest,
    ) -> Result<Answer, Status> {
        let reference = Digest::of(&request.fragment);
        let mut privacy = Privacy::Cells;
        match self
            .answer_or_fault(peer, request, reference, &mut privacy)
            .await
        {
            Ok(answer) => Ok(answer),
            Err(error) => {
                error.log(privacy, &reference);
                Err(error.status(privacy, &reference))
            }
        }
    }

    async fn answer_or_fault(
        &self,
        peer: &PeerId,
        request: RunRequest,
        fragment: Digest,
        privacy: &mut Privacy,
    ) -> Result<Answer, RunError> {
        let (keyed, turn) = self
            .keyed(peer, request, fragment, privacy, Role::Gateway)
            .await?;
        self.start(keyed, turn).await
    }

    /// Everything up to the keys, for a peer that has to be of `role`: who is released to does not contribute to, and the
    /// other way round.
    async fn keyed(
        &self,
        peer: &PeerId,
        request: RunRequest,
        fragment: Digest,
        privacy: &mut Privacy,
        role: Role,
    ) -> Result<(Keyed, stream::Turn), RunError> {
        if peer.role != role {
            let error = RunError::Role { role: peer.role };
            self.refused(peer, fragment, None, &error.to_string())?;
            return Err(error);
        }
        let envelope = request.grant.ok_or(RunError::Missing { field: "grant" })?;
        let grant = match self.door.enter(envelope, peer, fragment, self.clock.now()) {
            Ok(grant) => grant,
            Err(source) => {
                self.refused(peer, fragment, None, &source.to_string())?;
                return Err(RunError::Grant { source });
            }
        };
        let turn = self.turns.take().await?;
        let served = match self.serve(&grant).await {
            Ok(served) => served,
            Err(error) => {
                self.refused(peer, fragment, Some(&grant), &error.to_string())?;
                return Err(error);
            }
        };
        let admitted = match admit(
            grant.clone(),
            served,
            &request.fragment,
            self.engine.state(),
        ) {
            Ok(admitted) => admitted,
            Err(source) => {
                self.refused(
                    peer,
                    fragment,
                    Some(&grant),
                    &guildhall_telemetry::error_chain(&source),
                )?;
                return Err(RunError::Admission { source });
            }
        };
        if matches!(admitted.shape(), Shape::Rows(_)) {
            *privacy = Privacy::Rows;
        }
        let permitted = self.permit(admitted, peer)?;
        let planned = self.plan(permitted, request.cell_status)?;
        let paid = self.debit(planned, peer).await?;
        let keyed = self.borrow(paid).await?;
        Ok((keyed, turn))
    }

    /// The products of the grant, at the versions that it names.
    async fn serve(&self, grant: &FreshGrant) -> Result<Vec<Arc<Served>>, RunError> {
        let mut served = Vec::new();
        // Invariant: for this purpose no dataset is opened, so there is none that could be read.
        let made_up = grant.purpose.as_str() == DEVELOPMENT;
        for granted in &grant.products {
            let product = if granted.department != self.door.node().department {
                let (name, version) = (granted.product.clone(), granted.version);
                Err(ShelfError::NoSuchProduct { name, version })
            } else if made_up {
                self.products.twin(&granted.product, granted.version)
            } else {
                self.products.serve(&granted.product, granted.version).await
            };
            served.push(product.map_err(|source| RunError::Shelf { source })?);
        }
        Ok(served)
    }

    /// Asks the department's policy about every product that is read, and writes the decision down.
    fn permit(&self, admitted: AdmittedFragment, peer: &PeerId) -> Result<Permitted, RunError> {
        let grant = admitted.grant();
        let asker = Asker::named(grant.principal.clone());
        let mut policies = Vec::new();
        for read in admitted.reads() {
            let Some(served) = admitted.products().get(&read.product) else {
                continue;
            };
            let product = served.product();
            let subject = Subject {
                product: read.product.clone(),
                class: product.class,
                purposes: product.purposes.clone(),
                conforms_to: product.conforms_to.clone(),
                dpia: product.linkable.as_ref().map(|l| l.dpia.to_string()),
            };
            let mut linked: BTreeSet<ProductRef> = BTreeSet::new();
            linked.extend(grant.linkage.iter().flat_map(|l| l.products.clone()));
            linked.remove(&read.product);
            let decision = self.policies.decide(&Question {
                asker: &asker,
                action: Action::of(grant.output),
                subject: &subject,
                purpose: &grant.purpose,
                columns: &read.columns,
                gateway: &grant.gateway,
                recipient: peer,
                council: &grant.council,
                linked: &linked,
            });
            match decision {
                PolicyDecision::Permit { policies: named } => policies.extend(named),
                PolicyDecision::Forbid { policies } => {
                    let mut entry = entry(&admitted, peer, Decision::Forbid);
                    entry.policies.clone_from(&policies);
                    entry.reason = Some(Reason::new("policy"));
                    self.append(&entry)?;
                    return Err(RunError::Policy { policies });
                }
            }
        }
        policies.sort_unstable();
        policies.dedup();
        let mut entry = entry(&admitted, peer, Decision::Permit);
        entry.policies = policies;
        self.append(&entry)?;
        Ok(Permitted(admitted))
    }

    /// Charges a free question to its budget; the cube's cost nothing, and a twin's have nothing to be charged for.
    ///
    /// Invariant: no key of a free question is asked for before this. What is debited is never given back.
    async fn debit(&self, planned: Planned, peer: &PeerId) -> Result<Paid, RunError> {
        let (PlannedWork::AdHoc(work), Source::Sealed { .. }) = (&planned.work, &planned.source)
        else {
            return Ok(Paid(planned));
        };
        let (grant, charge) = (&planned.grant, &work.charge);
        let request = DebitRequest {
            grant: Some(grant.envelope().clone()),
            fragment_digest: grant.fragment.as_bytes().to_vec(),
            product: charge.product.to_string(),
            nano_rho: charge.nano_rho,
            question_digest: charge.question.as_bytes().to_vec(),
        };
        let debited = self.authority.debit(request).await;
        let decision = match &debited {
            Ok(_) => Decision::Permit,
            Err(_) => Decision::Forbid,
        };
        let mut entry = about(Event::Debit, decision, peer, grant.fragment, Some(grant));
        entry.digest = Some(charge.question);
        match &debited {
            Ok(debited) => {
                entry.charge = debited.charged_nano_rho;
                entry.remaining = Some(debited.remaining_nano_rho);
            }
            Err(error) => entry.reason = Some(Reason::new(&error.to_string())),
        }
        self.append(&entry)?;
        debited.map_err(|source| RunError::Budget { source })?;
        Ok(Paid(planned))
    }

    /// Borrows the keys of the columns that the plan reads: once, for this grant alone.
    async fn borrow(&self, paid: Paid) -> Result<Keyed, RunError> {
        let Paid(Planned {
            grant,
            work,
            source,
        }) = paid;
        let Source::Sealed { datasets, lent } = source else {
            return Ok(Keyed {
                grant,
                work,
                readings: Vec::new(),
                made_up: true,
                link: None,
            });
        };
        let mut read = Vec::new();
        for plan in work.plans() {
            read.extend(scans(plan)?);
        }
        let wanted = lend::wanted(&read, &datasets);
        let lend::Lent { keys, link } = lend::borrow_keys(
            self.authority.as_ref(),
            grant.envelope(),
            &grant.fragment,
            wanted,
        )
        .await
        .map_err(|source| RunError::Keys { source })?;
        // The cell is fresh: nobody else can have set it.
        let _ = lent.set(keys);
        Ok(Keyed {
            grant,
            work,
            readings: lend::readings(&read, &datasets),
            made_up: false,
            link,
        })
    }

    /// Starts the work; what it releases comes out of the answer.
    async fn start(&self, keyed: Keyed, turn: stream::Turn) -> Result<Answer, RunError> {
        let Keyed {
            grant,
            work,
            readings,
            made_up,
            link: _,
        } = keyed;
        let (fragment, longest) = (grant.fragment, self.longest);
        let pace = Pace::begin(longest);
        let (rows, gate, privacy) = match work {
            PlannedWork::Rows(plan) => {
                let rows = self.rows(&plan, &grant, &readings).await?;
                let gate = Gate::new(Rule::OpenRows, rows.schema())?;
                (rows, gate, Privacy::Rows)
            }
            PlannedWork::Cells(cells) => {
                let whole = stream::Whole {
                    schema: cells.asked.schema(),
                    cells: Box::pin(cells.found(self.engine.clone(), Arc::clone(&self.patterns))),
                    fragment,
                    longest,
                    pace,
                    turn,
                    made_up,
                };
                return Ok(whole.start());
            }
            PlannedWork::AdHoc(work) => match self.start_ad_hoc(*work).await {
                Ok((rows, gate)) => (rows, gate, Privacy::Cells),
                // The plan is made over tables that can be read.
                Err(error) => return pace.keep(async { Err(error) }).await,
            },
        };
        let work = stream::Work {
            rows,
            gate,
            privacy,
            fragment,
            longest,
            pace,
            turn,
            made_up,
        };
        Ok(work.start())
    }

    /// The rows of a plan whose rows leave, worked out by the workers if there are any.
    ///
    /// Invariant: what comes of workers goes the way of what comes of this engine, through the gate.
    async fn rows(
        &self,
        plan: &LogicalPlan,
        grant: &FreshGrant,
        readings: &[Reading],
    ) -> Result<SendableRecordBatchStream, RunError> {
        if let Some(fleet) = self.fleet.as_ref().filter(|_| !readings.is_empty()) {
            let question = guildhall_workers::Question {
                grant,
                envelope: grant.envelope(),
                readings,
            };
            let rows = fleet.start(&self.engine.state(), plan, &question).await;
            return rows.map_err(|source| RunError::Workers { source });
        }
        let (physical, context) = self.engine.physical(plan).await?;
        Ok(execute_stream(physical, context)?)
    }

    async fn start_ad_hoc(
        &self,
        work: adhoc::PlannedAdHoc,
    ) -> Result<(SendableRecordBatchStream, Gate), RunError> {
        let (physical, context) = self.engine.physical(&work.plan).await?;
        let gate = Gate::new(Rule::AdHoc(work.rule), physical.schema())?;
        Ok((execute_stream(physical, context)?, gate))
    }

    fn refused(
        &self,
        peer: &PeerId,
        fragment: Digest,
        grant: Option<&FreshGrant>,
        reason: &str,
    ) -> Result<(), RunError> {
        let mut entry = about(
            Event::AdmitFragment,
            Decision::Forbid,
            peer,
            fragment,
            grant,
        );
        entry.reason = Some(Reason::new(reason));
        self.append(&entry)
    }

    fn append(&self, entry: &Entry) -> Result<(), RunError> {
        self.log
            .append(entry, self.clock.now())
            .map(drop)
            .map_err(|source| RunError::Log { source })
    }
}

/// What every entry says of a fragment.
fn about(
    event: Event,
    decision: Decision,
    peer: &PeerId,
    fragment: Digest,
    grant: Option<&FreshGrant>,
) -> Entry {
    let mut entry = Entry::new(event, decision);
    entry.peer = Some(peer.clone());
    entry.fragment = Some(fragment);
    if let Some(grant) = grant {
        entry.grant = Some(grant.id.clone());
        entry.principal = Some(grant.principal.clone());
        entry.purpose = Some(grant.purpose.clone());
        entry.query = Some(grant.query.clone());
    }
    entry
}

fn entry(admitted: &AdmittedFragment, peer: &PeerId, decision: Decision) -> Entry {
    let grant = admitted.grant();
    let mut entry = about(
        Event::AdmitFragment,
        decision,
        peer,
        grant.fragment,
        Some(grant),
    );
    entry.products = admitted.seen();
    entry.output = Some(grant.output);
    entry.linkage = grant.linkage.as_ref().map(|l| l.id.clone());
    let linkable = admitted
        .products()
        .values()
        .find_map(|s| s.product().linkable.as_ref());
    entry.dpia = linkable
        .filter(|_| grant.linkage.is_some())
        .map(|l| l.dpia.clone());
    entry.mode = Some(match admitted.shape() {
        Shape::Rows(_) => Mode::Open,
        Shape::Cells(_) if grant.output == OutputClass::PartialCells => Mode::Joint,
        Shape::Cells(_) if grant.output == OutputClass::TokenisedRows => Mode::Linked,
        Shape::Cells(_) | Shape::AdHoc(_) => Mode::Local,
    });
    entry
}

/// An admitted fragment that the department's policy agrees to, written down.
#[derive(Debug)]
struct Permitted(AdmittedFragment);

/// A plan whose cost, if it has one, is debited.
struct Paid(Planned);

/// Work whose tables hold the keys lent for it.
struct Keyed {
    grant: FreshGrant,
    work: PlannedWork,
    /// What it reads of datasets at rest.
    readings: Vec<Reading>,
    /// Whether its rows are a twin's.
    made_up: bool,
    /// What tokens are made with, where rows meet others.
    link: Option<link::LinkKey>,
}

#[cfg(test)]
mod adhoc_tests;
#[cfg(test)]
mod second_line_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin_tests;
