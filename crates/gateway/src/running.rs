//! The queries that run now: how many, whose, and how to end one.

use crate::config::Limits;
use crate::error::DoorError;
use guildhall_model::{Principal, QueryId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Cancelled queries that are remembered.
const REMEMBERED: usize = 1024;

/// What a cancellation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// It ran, and is told to end.
    Running,
    /// It had not begun, and will not.
    BeforeStart,
}

/// The queries that run now.
#[derive(Debug, Clone)]
pub(crate) struct RunningQueries(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    at_most: usize,
    at_most_each: usize,
    now: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    queries: HashMap<u64, (QueryId, Principal, CancellationToken)>,
    // Cancelled, and not to begin again; the oldest are forgotten.
    refused: VecDeque<(QueryId, Principal)>,
}

/// A query's place among those that run. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    number: u64,
    cancelled: CancellationToken,
}

impl Place {
    /// Cancelled when the query is to end.
    pub(crate) fn cancelled(&self) -> CancellationToken {
        self.cancelled.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.shared.now).queries.remove(&self.number);
    }
}

impl RunningQueries {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Shared {
            at_most: limits.queries,
            at_most_each: limits.queries_per_principal,
            now: Mutex::default(),
        }))
    }

    /// A place for a query, if there is one and it was not cancelled beforehand.
    pub(crate) fn begin(&self, query: &QueryId, principal: &Principal) -> Result<Place, DoorError> {
        let mut now = lock(&self.0.now);
        if now
            .refused
            .iter()
            .any(|(q, p)| q == query && p == principal)
        {
            return Err(DoorError::Cancelled);
        }
        let mine = now
            .queries
            .values()
            .filter(|(_, p, _)| p == principal)
            .count();
        if mine >= self.0.at_most_each {
            return Err(DoorError::TooMuch {
                message: format!(
                    "{mine} of your queries run already, which is the most\nhelp: let one end, or cancel it"
                ),
            });
        }
        if now.queries.len() >= self.0.at_most {
            return Err(DoorError::TooMuch {
                message: "the gateway has as many queries as it takes\nhelp: ask again in a moment"
                    .to_owned(),
            });
        }
        let number = now.next;
        now.next += 1;
        let cancelled = CancellationToken::new();
        now.queries.insert(
            number,
            (query.clone(), principal.clone(), cancelled.clone()),
        );
        Ok(Place {
            shared: self.0.clone(),
            number,
            cancelled,
        })
    }

    /// Ends the principal's own query.
    pub(crate) fn cancel(&self, query: &QueryId, principal: &Principal) -> Cancelled {
        let mut now = lock(&self.0.now);
        if now.refused.len() >= REMEMBERED {
            now.refused.pop_front();
        }
        now.refused.push_back((query.clone(), principal.clone()));
        let mut outcome = Cancelled::BeforeStart;
        for (_, _, token) in now
            .queries
            .values()
            .filter(|(q, p, _)| q == query && p == principal)
        {
            token.cancel();
            outcome = Cancelled::Running;
        }
        outcome
    }

    /// Ends every query.
    pub(crate) fn cancel_all(&self) {
        for (_, _, token) in lock(&self.0.now).queries.values() {
            token.cancel();
        }
    }
}

// A panic elsewhere does not spoil a map of tokens.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(name: &str) -> Principal {
        Principal {
            council: "northmoor".parse().unwrap(),
            name: name.parse().unwrap(),
        }
    }

    fn query(id: &str) -> QueryId {
        id.parse().unwrap()
    }

    fn queries(each: usize, all: usize) -> RunningQueries {
        RunningQueries::new(&Limits {
            queries_per_principal: each,
            queries: all,
            ..Limits::default()
        })
    }

    #[test]
    fn a_principal_has_so_many_at_once_and_others_still_have_theirs() {
        let running = queries(2, 3);
        let first = running.begin(&query("q-1"), &principal("ana")).unwrap();
        let _second = running.begin(&query("q-2"), &principal("ana")).unwrap();
        assert!(matches!(
            running.begin(&query("q-3"), &principal("ana")),
            Err(DoorError::TooMuch { .. })
        ));
        let _third = running.begin(&query("q-4"), &principal("bob")).unwrap();
        assert!(matches!(
            running.begin(&query("q-5"), &principal("bob")),
            Err(DoorError::TooMuch { .. })
        ));
        drop(first);
        assert!(running.begin(&query("q-6"), &principal("ana")).is_ok());
    }

    #[test]
    fn a_query_is_cancelled_by_its_own_principal_alone() {
        let running = queries(2, 3);
        let place = running.begin(&query("q-1"), &principal("ana")).unwrap();
        running.cancel(&query("q-1"), &principal("bob"));
        assert!(!place.cancelled().is_cancelled());
        assert_eq!(
            running.cancel(&query("q-1"), &principal("ana")),
            Cancelled::Running
        );
        assert!(place.cancelled().is_cancelled());
    }

    #[test]
    fn a_query_cancelled_before_it_began_does_not_begin() {
        let running = queries(2, 3);
        assert_eq!(
            running.cancel(&query("q-1"), &principal("ana")),
            Cancelled::BeforeStart
        );
        assert!(matches!(
            running.begin(&query("q-1"), &principal("ana")),
            Err(DoorError::Cancelled)
        ));
    }
}
