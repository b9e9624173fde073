//! What askers were refused of late: a few lines each, in memory, and of a refusal no more than it told.
//!
//! Kept are the time, the rule and what to ask instead; no statement, no literal, no reason that names what was asked
//! for. A principal sees its own alone. All of it is gone when the gateway stops; the decisions of record are in the
//! audit logs of the parties that made them.

use crate::error::DoorError;
use guildhall_model::{Principal, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Code;

/// The most that is kept of one principal, the newest.
const EACH: usize = 100;
/// The most principals that any are kept of: those who were refused last.
const PRINCIPALS: usize = 1_000;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) at: Timestamp,
    pub(crate) rule: String,
    /// What to ask instead; may be empty.
    pub(crate) instead: String,
}

/// The refusals of all askers. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<HashMap<Principal, VecDeque<Refused>>>>);

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals(..)")
    }
}

impl Refusals {
    /// Keeps `error` if it is a refusal by a rule.
    pub(crate) fn note(&self, principal: &Principal, error: &DoorError, at: Timestamp) {
        let Some((rule, instead)) = rule_of(error) else {
            return;
        };
        let refused = Refused { at, rule, instead };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PRINCIPALS && !all.contains_key(principal) {
            let last = |of: &VecDeque<Refused>| of.back().map(|r| r.at);
            let longest_ago = all.iter().min_by_key(|(_, of)| last(of));
            if let Some(gone) = longest_ago.map(|(who, _)| who.clone()) {
                all.remove(&gone);
            }
        }
        let own = all.entry(principal.clone()).or_default();
        if own.len() >= EACH {
            own.pop_front();
        }
        own.push_back(refused);
    }

    /// A principal's own, the newest last.
    pub(crate) fn of(&self, principal: &Principal) -> Vec<Refused> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.get(principal).into_iter().flatten();
        own.cloned().collect()
    }
}

/// The rule that an error names, and what to ask instead.
fn rule_of(error: &DoorError) -> Option<(String, String)> {
    match error {
        DoorError::Rule { refusal } => Some((refusal.rule.to_owned(), refusal.instead.clone())),
        DoorError::Refused { code, message } => {
            let rule = match code {
                Code::PermissionDenied => "policy",
                Code::ResourceExhausted if message.contains("budget") => "budget",
                Code::ResourceExhausted => "limit",
                _ => return None,
            };
            let help = message.lines().find_map(|l| l.strip_prefix("help: "));
            Some((rule.to_owned(), help.unwrap_or_default().to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::tests::caller;
    use guildhall_plan::cube::Refusal;

    fn refused(rule: &'static str) -> DoorError {
        DoorError::Rule {
            refusal: Refusal::new(rule, "for what was asked", "ask for cells"),
        }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_principal_sees_its_own_and_no_reason() {
        let (refusals, ana, bob) = (Refusals::default(), caller("ana", &[]), caller("bob", &[]));
        refusals.note(&ana.principal, &refused("cube.range"), at(1));
        refusals.note(&ana.principal, &DoorError::invalid("not SQL"), at(2));
        let own = refusals.of(&ana.principal);
        assert_eq!(own.len(), 1);
        assert_eq!(
            (own[0].rule.as_str(), own[0].instead.as_str()),
            ("cube.range", "ask for cells")
        );
        assert!(!format!("{own:?}").contains("was asked"));
        assert!(refusals.of(&bob.principal).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let refusals = Refusals::default();
        let of = |n: usize| caller(&format!("a{n}"), &[]).principal;
        for n in 0..EACH + 5 {
            refusals.note(
                &of(0),
                &refused("cube.range"),
                at(i64::try_from(n).unwrap()),
            );
        }
        assert_eq!(refusals.of(&of(0)).len(), EACH);
        assert_eq!(refusals.of(&of(0))[0].at, at(5));
        for n in 1..=PRINCIPALS {
            refusals.note(&of(n), &refused("cube.range"), at(1_000));
        }
        assert!(refusals.of(&of(0)).is_empty());
        assert_eq!(refusals.of(&of(1)).len(), 1);
    }

    #[test]
    fn a_spent_budget_is_called_so() {
        let error = DoorError::Refused {
            code: Code::ResourceExhausted,
            message: "the privacy budget is spent\nhelp: ask again in April".into(),
        };
        assert_eq!(
            rule_of(&error),
            Some(("budget".into(), "ask again in April".into()))
        );
    }
}
