//! Preparing: a serving node makes the tables of its products of cells before anybody asks.
//!
//! It does when it starts, and looks now and then, and whenever a question had to wait, whether there are new data or a
//! new product. One product at a time is read, on half as many threads as a question has and in memory of its own
//! ([`crate::Prepare`]); what is kept is bounded like all that questions leave behind. A failure is told in the log, and
//! questions then wait for their tables as they did before; it is tried again after a while, and at once when data or
//! product change.
//!
//! The design says that a node holds "column keys lent to it, in memory, until their grant ends". It still holds: each
//! reading has a loan for itself, made under the council's policy, on record at authority and node for the purpose
//! `prepare`, and its keys go when the reading ends. What is new is who starts it. A node that may prepare is lent the
//! keys of its own published products of cells without anybody asking a question; whoever takes over such a node, or its
//! identity, need not wait for one. A council that minds takes the rule out of its policy, a department sets
//! `prepare.enabled = false`, and either pays with a slow first question.

use crate::config::Prepare;
use crate::error::RunError;
use crate::product::Served;
use crate::run::{Prepared, Runner, Standing};
use guildhall_model::{ProductName, ReleaseClass};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest after which something is tried again.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a serving node has prepared so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preparation {
    /// How often it has looked at all of its products.
    pub rounds: u64,
    /// What it has prepared of which, last time.
    pub products: BTreeMap<ProductName, Prepared>,
}

/// What keeps a node prepared.
#[derive(Debug)]
pub(crate) struct Preparer {
    how: Prepare,
    tried: HashMap<ProductName, Tried>,
    told: watch::Sender<Preparation>,
}

/// How it went with a product, last time.
#[derive(Debug)]
struct Tried {
    /// None if it could not be opened.
    standing: Option<Standing>,
    /// How often in turn it failed.
    failed: u32,
    again: Instant,
}

impl Preparer {
    pub(crate) fn new(how: Prepare) -> Self {
        Self {
            how,
            tried: HashMap::new(),
            told: watch::Sender::default(),
        }
    }

    /// Where it is told what was prepared.
    pub(crate) fn told(&self) -> watch::Receiver<Preparation> {
        self.told.subscribe()
    }

    /// Prepares what there is, again and again, until told to stop.
    pub(crate) async fn keep_prepared(mut self, runner: Arc<Runner>, shutdown: CancellationToken) {
        if !self.how.enabled {
            return;
        }
        let every = Duration::from_secs(self.how.every_seconds);
        let work = async {
            loop {
                self.round(&runner).await;
                let missed = runner.patterns.missed.notified();
                // Whichever is first.
                let _ = tokio::time::timeout(every, missed).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    }

    /// Prepares every product that is not.
    pub(crate) async fn round(&mut self, runner: &Runner) {
        let newest = runner.products.newest().unwrap_or_else(|error| {
            let error = error.to_string();
            tracing::info!(error, "the folder of products cannot be read");
            BTreeMap::new()
        });
        for (name, version) in newest {
            if !self.how.except.contains(&name) {
                self.one(runner, &name, version).await;
            }
        }
        self.told.send_modify(|told| {
            told.rounds = told.rounds.saturating_add(1);
        });
    }

    async fn one(&mut self, runner: &Runner, name: &ProductName, version: u32) {
        let served = runner.products.serve(name, version).await;
        let served = served.map_err(|source| RunError::Shelf { source });
        let standing = served.as_ref().ok().map(|s| Standing::of(s));
        let (now, before) = (Instant::now(), self.tried.get(name));
        let same = before.filter(|t| t.standing == standing);
        if same.is_some_and(|t| t.failed == 0 || now < t.again) {
            return;
        }
        let failed = same.map_or(0, |t| t.failed);
        let outcome = match &served {
            Ok(served) => self.prepare(runner, name, served).await,
            Err(error) => Err(error.detail()),
        };
        let failed = match outcome {
            Ok(()) => 0,
            Err(error) => {
                let product = name.as_str();
                tracing::info!(product, version, error, "a product was not prepared");
                failed.saturating_add(1)
            }
        };
        let every = Duration::from_secs(self.how.every_seconds);
        let pause = every.saturating_mul(2_u32.saturating_pow(failed));
        let tried = Tried {
            standing,
            failed,
            again: Instant::now() + pause.min(LONGEST),
        };
        self.tried.insert(name.clone(), tried);
    }

    async fn prepare(
        &self,
        runner: &Runner,
        name: &ProductName,
        served: &Arc<Served>,
    ) -> Result<(), String> {
        if served.product().class != ReleaseClass::Aggregate {
            return Ok(());
        }
        let memory = self.how.memory_mib.saturating_mul(1 << 20);
        let prepared = runner.prepare(served, memory).await;
        let prepared = prepared.map_err(|e| e.detail())?;
        tracing::info!(
            product = name.as_str(),
            version = prepared.version,
            tables = prepared.tables,
            cells = prepared.cells,
            kept_bytes = prepared.kept_bytes,
            gathered_bytes = prepared.gathered_bytes,
            passes = prepared.passes,
            seconds = prepared.took.as_secs_f64(),
            "a product is prepared"
        );
        let name = name.clone();
        self.told.send_modify(|told| {
            told.products.insert(name, prepared);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
