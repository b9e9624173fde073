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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary::{LIFE, a_grant, n, start};
    use crate::{Grant, GrantCheck, SigningKey, envelope, verify};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn verified(grant: &Grant) -> VerifiedGrant {
        let key = SigningKey::generate().unwrap();
        let check = GrantCheck {
            council: &grant.council,
            node: &grant.node,
            fragment: &grant.fragment,
            recipient: None,
            now: grant.not_before,
        };
        verify(&envelope::sign(grant, &key), &[key.public()], &check).unwrap()
    }

    #[test]
    fn a_grant_is_admitted_once() {
        let mut guard = ReplayGuard::new();
        let grant = verified(&a_grant());
        guard.admit(&grant, start()).unwrap();
        let id = n("g-7Q2M");
        assert_eq!(
            guard.admit(&grant, start()),
            Err(GrantError::Replayed { id })
        );
    }

    #[test]
    fn the_id_counts_and_not_the_rest() {
        let mut guard = ReplayGuard::new();
        guard.admit(&verified(&a_grant()), start()).unwrap();
        let same = verified(&Grant {
            charge: 7,
            ..a_grant()
        });
        assert!(matches!(
            guard.admit(&same, start()),
            Err(GrantError::Replayed { .. })
        ));
        guard
            .admit(
                &verified(&Grant {
                    id: n("g-2"),
                    ..a_grant()
                }),
                start(),
            )
            .unwrap();
    }

    #[test]
    fn a_grant_is_remembered_for_as_long_as_it_counts() {
        let mut guard = ReplayGuard::new();
        let grant = verified(&a_grant());
        guard.admit(&grant, start()).unwrap();
        let last = start()
            .after(LIFE)
            .after(CLOCK_SKEW)
            .before(Duration::from_micros(1));
        assert!(matches!(
            guard.admit(&grant, last),
            Err(GrantError::Replayed { .. })
        ));
        assert_eq!(guard.len(), 1);
    }

    #[test]
    fn what_expired_is_forgotten() {
        let mut guard = ReplayGuard::new();
        guard.admit(&verified(&a_grant()), start()).unwrap();
        let later = start().after(LIFE * 2);
        let next = Grant {
            id: n("g-2"),
            expires: later.after(LIFE),
            ..a_grant()
        };
        guard.admit(&verified(&next), later).unwrap();
        assert_eq!(guard.len(), 1);
    }

    #[test]
    fn a_clock_that_steps_back_revives_nothing() {
        let mut guard = ReplayGuard::new();
        let grant = verified(&a_grant());
        guard.admit(&grant, start()).unwrap();
        let later = start().after(LIFE * 2);
        let next = Grant {
            id: n("g-2"),
            expires: later.after(LIFE),
            ..a_grant()
        };
        guard.admit(&verified(&next), later).unwrap();
        let error = guard.admit(&grant, start()).unwrap_err();
        assert!(matches!(error, GrantError::Expired { .. }), "{error}");
    }

    #[test]
    fn after_a_restart_older_grants_are_refused() {
        let grant = verified(&a_grant());
        let tick = Duration::from_micros(1);
        let mut guard = ReplayGuard::after_restart(start().after(tick));
        let error = guard.admit(&grant, start().after(LIFE)).unwrap_err();
        assert!(matches!(error, GrantError::FromBefore { .. }), "{error}");
        assert!(guard.is_empty());
        ReplayGuard::after_restart(start())
            .admit(&grant, start())
            .unwrap();
    }

    proptest! {
        /// Whatever the order and the clock, no id is admitted twice while any grant of that id
        /// could still be verified.
        #[test]
        fn no_grant_is_ever_admitted_twice(
            uses in vec((0u8..6, 0u64..900), 1..40),
        ) {
            let grants: BTreeMap<u8, VerifiedGrant> = (0..6)
                .map(|i| {
                    let expires = start().after(Duration::from_secs(u64::from(i) * 60 + 60));
                    let grant = Grant { id: n(&format!("g-{i}")), expires, ..a_grant() };
                    (i, verified(&grant))
                })
                .collect();
            let mut guard = ReplayGuard::new();
            let mut admitted = Vec::new();
            for (i, at) in uses {
                let now = start().after(Duration::from_secs(at));
                if guard.admit(&grants[&i], now).is_ok() {
                    prop_assert!(!admitted.contains(&i));
                    admitted.push(i);
                }
                prop_assert_eq!(guard.used.len(), guard.forget_at.len());
            }
        }
    }
}
