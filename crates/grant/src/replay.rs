//! A grant is used once.

use crate::grant::{CLOCK_SKEW, GrantError, VerifiedGrant};
use guildhall_model::{GrantId, Timestamp};
use std::collections::{BTreeSet, HashSet};

/// The grants that were used and have not expired.
///
/// It remembers in memory alone: a process that starts afresh says so with
/// [`ReplayGuard::after_restart`], or a grant used just before would count again.
#[derive(Debug, Default)]
pub struct ReplayGuard {
    used: HashSet<GrantId>,
    // Invariant: the same ids as `used`, by when they may be forgotten.
    forget_at: BTreeSet<(Timestamp, GrantId)>,
    // The latest time seen. What expired by then is forgotten, so it never counts again,
    // even if the clock steps back.
    latest: Option<Timestamp>,
    started: Option<Timestamp>,
}

impl ReplayGuard {
    /// A guard that has seen no grant, and knows that none was used before.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A guard that refuses grants that count from before `started`.
    ///
    /// The price is that for as long as the authority's clock is behind, its fresh grants are
    /// refused after a restart.
    #[must_use]
    pub fn after_restart(started: Timestamp) -> Self {
        Self {
            started: Some(started),
            ..Self::default()
        }
    }

    /// Takes note that `grant` is used now; refuses it if it was used before.
    pub fn admit(&mut self, grant: &VerifiedGrant, now: Timestamp) -> Result<(), GrantError> {
        let latest = self.latest.map_or(now, |l| l.max(now));
        self.latest = Some(latest);
        self.forget(latest);
        let id = grant.id.clone();
        if let Some(started) = self.started.filter(|s| grant.not_before < *s) {
            return Err(GrantError::FromBefore { id, started });
        }
        let forget_at = grant.expires.after(CLOCK_SKEW);
        if forget_at <= latest {
            return Err(GrantError::Expired {
                id,
                expired: grant.expires,
            });
        }
        if !self.used.insert(id.clone()) {
            return Err(GrantError::Replayed { id });
        }
        self.forget_at.insert((forget_at, id));
        Ok(())
    }

    /// How many grants it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.forget_at.first().filter(|(at, _)| *at <= now) {
            self.used.remove(id);
            self.forget_at.pop_first();
        }
    }
}
