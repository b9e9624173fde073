//! Local accounts: argon2id passwords, roles and purposes.

use crate::db::DbError;
use crate::refusal::Refusal;
use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use guildhall_model::{CouncilName, PeerId, Principal, PrincipalName, Purpose, Timestamp};
use guildhall_policy::Asker;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failed sign-ins an account may have at one gateway before it has to wait there.
const FREE_FAILURES: u32 = 5;
/// How long it then waits before each further attempt.
const WAIT: Duration = Duration::from_secs(30);
/// Names whose failures are remembered.
const REMEMBERED: usize = 10_000;
/// The longest password that is looked at.
const LONGEST: usize = 1024;

/// Hashes a password with argon2id at its recommended cost (RFC 9106 by way of the crate's default).
pub(crate) fn hash(password: &str) -> Result<String, argon2::password_hash::Error> {
    let salt = SaltString::generate(&mut OsRng);
    Ok(Argon2::default()
        .hash_password(password.as_bytes(), &salt)?
        .to_string())
}

/// What the database holds of one account.
pub(crate) struct Account {
    pub(crate) asker: Asker,
    pub(crate) password: Option<String>,
}

/// An account that exists and is not revoked.
pub(crate) fn find(
    connection: &Connection,
    council: &CouncilName,
    name: &PrincipalName,
) -> Result<Option<Account>, DbError> {
    let row: Option<(Option<String>, String, String)> = connection
        .prepare_cached(
            "SELECT password, roles, purposes FROM accounts WHERE name = ?1 AND revoked_us IS NULL",
        )?
        .query_row([name.as_str()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    let Some((password, roles, purposes)) = row else {
        return Ok(None);
    };
    let corrupt = |_| DbError::Corrupt { what: "account" };
    let roles: BTreeSet<String> = serde_json::from_str(&roles).map_err(corrupt)?;
    let purposes: BTreeSet<Purpose> = serde_json::from_str(&purposes).map_err(corrupt)?;
    let principal = Principal {
        council: council.clone(),
        name: name.clone(),
    };
    Ok(Some(Account {
        asker: Asker {
            principal,
            roles,
            purposes,
        },
        password,
    }))
}

/// Checks a password in about the same time whether or not the account exists.
pub(crate) fn check(account: Option<Account>, password: &str) -> Result<Asker, Refusal> {
    // A well-formed argon2id hash that no password is known for.
    const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$Z3VpbGRoYWxsLW5vYm9keQ$mD7jEYvNXBYGJ1nbTlTxpZNCcq9cPHLTkpBPjO8RR0Q";
    let (asker, stored) = match account {
        Some(Account { asker, password }) => (Some(asker), password),
        None => (None, None),
    };
    let known = stored.is_some();
    let stored = stored.unwrap_or_else(|| NOBODY.to_owned());
    let parsed = PasswordHash::new(&stored).map_err(|_| Refusal::SignIn)?;
    let matches = password.len() <= LONGEST
        && Argon2::default()
            .verify_password(password.as_bytes(), &parsed)
            .is_ok();
    asker.filter(|_| known && matches).ok_or(Refusal::SignIn)
}

/// Slows down guessing: after [`FREE_FAILURES`] an account waits [`WAIT`] between attempts.
///
/// Each gateway is counted apart, so that whoever fails at one locks nobody out at another.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<HashMap<(String, PeerId), (u32, Timestamp)>>);

impl Attempts {
    /// Whether `account` may try now, through `gateway`.
    pub(crate) fn may_try(
        &self,
        account: &str,
        gateway: &PeerId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get(&(account.to_owned(), gateway.clone())) {
            Some((count, last)) if *count >= FREE_FAILURES && now < last.after(WAIT) => {
                Err(Refusal::TooManySignIns {
                    until: last.after(WAIT),
                })
            }
            _ => Ok(()),
        }
    }

    /// Takes note of how an attempt went.
    pub(crate) fn note(&self, account: &str, gateway: &PeerId, succeeded: bool, now: Timestamp) {
        let key = (account.to_owned(), gateway.clone());
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if succeeded {
            failures.remove(&key);
            return;
        }
        if failures.len() >= REMEMBERED && !failures.contains_key(&key) {
            failures.retain(|_, (_, last)| now < last.after(WAIT));
            // Full of names that fail now: whoever makes them up is kept busy hashing instead.
            if failures.len() >= REMEMBERED {
                return;
            }
        }
        let entry = failures.entry(key).or_insert((0, now));
        *entry = (entry.0.saturating_add(1), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(password: Option<&str>) -> Account {
        Account {
            asker: Asker {
                principal: Principal {
                    council: "northmoor".parse().unwrap(),
                    name: "ana".parse().unwrap(),
                },
                roles: BTreeSet::new(),
                purposes: BTreeSet::new(),
            },
            password: password.map(|p| hash(p).unwrap()),
        }
    }

    #[test]
    fn only_the_right_password_of_an_account_that_has_one_signs_in() {
        assert!(check(Some(account(Some("right"))), "right").is_ok());
        assert!(check(Some(account(Some("right"))), "wrong").is_err());
        assert!(check(Some(account(None)), "").is_err());
        assert!(check(None, "right").is_err());
    }

    #[test]
    fn an_unknown_account_costs_a_hash_too() {
        let stored = "$argon2id$v=19$m=19456,t=2,p=1$Z3VpbGRoYWxsLW5vYm9keQ$mD7jEYvNXBYGJ1nbTlTxpZNCcq9cPHLTkpBPjO8RR0Q";
        assert!(PasswordHash::new(stored).is_ok());
    }

    #[test]
    fn guessing_has_to_wait_after_five_failures() {
        let attempts = Attempts::default();
        let now = Timestamp::from_micros(0);
        let gateway: PeerId = "spiffe://northmoor/council/gateway/gw".parse().unwrap();
        for _ in 0..FREE_FAILURES {
            assert!(attempts.may_try("ana", &gateway, now).is_ok());
            attempts.note("ana", &gateway, false, now);
        }
        assert!(attempts.may_try("ana", &gateway, now).is_err());
        assert!(attempts.may_try("bob", &gateway, now).is_ok());
        assert!(attempts.may_try("ana", &gateway, now.after(WAIT)).is_ok());
    }

    #[test]
    fn failing_at_one_gateway_locks_nobody_out_at_another() {
        let attempts = Attempts::default();
        let now = Timestamp::from_micros(0);
        let own: PeerId = "spiffe://northmoor/council/gateway/gw".parse().unwrap();
        let stranger: PeerId = "spiffe://southmoor/council/gateway/gw".parse().unwrap();
        for _ in 0..FREE_FAILURES {
            attempts.note("ana", &stranger, false, now);
        }
        assert!(attempts.may_try("ana", &stranger, now).is_err());
        assert!(attempts.may_try("ana", &own, now).is_ok());
        attempts.note("ana", &own, true, now);
        assert!(attempts.may_try("ana", &stranger, now).is_err());
    }
}
