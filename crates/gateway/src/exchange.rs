//! Client certificates: each is traded for an access token at its own council's authority.
//!
//! Other councils believe a council's token, and no gateway's word for a certificate. So a
//! certificate speaks everywhere by a token, and its bearer has the standing of an account. The
//! token stays in here: it would outlive a revocation in anybody's hands. It ends with the
//! certificate at the latest.
//!
//! A token is used for [`RENEW_AFTER`] and asked for anew by the next call, so that a
//! certificate that was revoked has nothing after that. While its authority is away the one at
//! hand is used to its end, which is how long a revocation can take at worst.
//!
//! What this does not do: verify the certificate. Its caller does, at every call.

use crate::backend::{Backend, Party, PartyError};
use guildhall_grant::VerifyingKey;
use guildhall_grant::token::{self, TokenCheck, VerifiedToken};
use guildhall_identity::TrustStore;
use guildhall_model::{CouncilName, Digest, Principal, SharedClock, Timestamp};
use guildhall_proto::authority::v1::CertificateChain;
use guildhall_proto::envelope::v1::Envelope;
use guildhall_telemetry::error_chain;
use moka::future::Cache;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a token is used before its authority is asked again, if it lasts that long.
const RENEW_AFTER: Duration = Duration::from_secs(5 * 60);

/// A token is not begun with when it has less than this left: what it is for may take a while.
const SPARE: Duration = Duration::from_secs(30);

/// An authority that said no, or is away while a token is at hand, is left alone for so long: it
/// puts every sign-in on record.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Certificates whose token is kept, and how long without a call.
const MOST: u64 = 4096;
const IDLE: Duration = Duration::from_secs(3600);

/// A token and what it says.
pub(crate) struct Held {
    pub(crate) envelope: Envelope,
    pub(crate) token: VerifiedToken,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("id", &self.token.id)
            .finish_non_exhaustive()
    }
}

/// What came of a trade.
#[derive(Debug, Clone)]
struct Traded {
    answer: Result<Arc<Held>, PartyError>,
    /// When to ask again.
    again: Timestamp,
}

/// Trades certificates for tokens.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    backend: Arc<dyn Backend>,
    trust: TrustStore,
    clock: SharedClock,
    traded: Cache<Digest, Traded>,
}

impl Exchange {
    pub(crate) fn new(backend: Arc<dyn Backend>, trust: TrustStore, clock: SharedClock) -> Self {
        let traded = Cache::builder()
            .max_capacity(MOST)
            .time_to_idle(IDLE)
            .build();
        Self {
            backend,
            trust,
            clock,
            traded,
        }
    }

    /// The token of `principal`, whose certificate `chain` is and holds now. `id` is the digest
    /// of the chain. Calls at once share one trade.
    pub(crate) async fn token(
        &self,
        principal: &Principal,
        chain: &CertificateChain,
        id: Digest,
    ) -> Result<Arc<Held>, PartyError> {
        let now = self.clock.now();
        let before = self.traded.get(&id).await;
        let entry = self.traded.entry(id).or_insert_with_if(
            async {
                let asked = self.trade(principal, chain).await;
                settle(asked, before.and_then(|b| b.answer.ok()), self.clock.now())
            },
            |kept| now >= kept.again,
        );
        entry.await.into_value().answer
    }

    async fn trade(
        &self,
        principal: &Principal,
        chain: &CertificateChain,
    ) -> Result<Arc<Held>, PartyError> {
        let home = &principal.council;
        let envelope = self
            .backend
            .sign_in_with_certificate(home, chain.der.clone())
            .await?;
        let check = TokenCheck {
            council: home,
            now: self.clock.now(),
        };
        let failed = |reason: String| {
            tracing::warn!(council = %home, reason, "what a certificate was traded for is no token of its principal");
            PartyError::Failed(Party::Authority(home.clone()))
        };
        let token = token::verify(&envelope, &signers(&self.trust, home), &check)
            .map_err(|e| failed(error_chain(&e)))?;
        if token.principal != *principal {
            return Err(failed(format!("it is for `{}`", token.principal)));
        }
        Ok(Arc::new(Held { envelope, token }))
    }
}

/// What is kept of a trade: a token, a refusal, or the token from before if nobody answered.
// Invariant: a refusal takes the place of any token from before.
fn settle(
    asked: Result<Arc<Held>, PartyError>,
    before: Option<Arc<Held>>,
    now: Timestamp,
) -> Traded {
    match (asked, before.filter(|held| now < last_use(held))) {
        (Ok(held), _) => Traded {
            again: renewal(&held, now),
            answer: Ok(held),
        },
        (Err(e @ PartyError::Refused { .. }), _) => Traded {
            again: now.after(ASK_AGAIN),
            answer: Err(e),
        },
        (Err(_), Some(held)) => Traded {
            again: now.after(ASK_AGAIN).min(last_use(&held)),
            answer: Ok(held),
        },
        (Err(e), None) => Traded {
            again: now,
            answer: Err(e),
        },
    }
}

/// When a token that was given now is asked for anew. In the last moments of a certificate no
/// token lasts, and the one at hand is used up.
fn renewal(held: &Held, now: Timestamp) -> Timestamp {
    let before_its_end = now.after(RENEW_AFTER).min(last_use(held));
    before_its_end
        .max(now.after(ASK_AGAIN))
        .min(held.token.expires)
}

fn last_use(held: &Held) -> Timestamp {
    held.token.expires.before(SPARE)
}

/// The keys that a council's statements are signed with.
pub(crate) fn signers(trust: &TrustStore, council: &CouncilName) -> Vec<VerifyingKey> {
    trust
        .authority_keys(council)
        .iter()
        .filter_map(|k| VerifyingKey::from_bytes(k).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::tests::{council, now};
    use crate::tests::Parties;
    use guildhall_model::MockClock;
    use std::sync::atomic::Ordering;
    use tonic::Code;

    struct Town {
        parties: Arc<Parties>,
        clock: Arc<MockClock>,
        exchange: Exchange,
    }

    impl Town {
        fn new() -> Self {
            let (key, trust) = council();
            let clock = MockClock::at(now());
            let parties = Arc::new(Parties::new(key, clock.clone()));
            let exchange = Exchange::new(parties.clone(), trust, clock.clone());
            Self {
                parties,
                clock,
                exchange,
            }
        }

        async fn ask_as(&self, name: &str) -> Result<Arc<Held>, PartyError> {
            let principal = Principal {
                council: "northmoor".parse().unwrap(),
                name: name.parse().unwrap(),
            };
            let chain = CertificateChain::default();
            let id = Digest::of(name.as_bytes());
            self.exchange.token(&principal, &chain, id).await
        }

        async fn ask(&self) -> Result<Arc<Held>, PartyError> {
            self.ask_as("ana").await
        }

        fn trades(&self) -> usize {
            self.parties.traded.load(Ordering::SeqCst)
        }

        fn wait(&self, seconds: u64) {
            self.clock.advance(Duration::from_secs(seconds));
        }

        fn away(&self, away: bool) {
            let party = Party::Authority("northmoor".parse().unwrap());
            let mut all = self.parties.away.lock().unwrap();
            if away {
                all.insert(party);
            } else {
                all.remove(&party);
            }
        }
    }

    #[tokio::test]
    async fn one_trade_does_for_many_calls() {
        let town = Town::new();
        for held in futures::future::join_all((0..20).map(|_| town.ask())).await {
            assert_eq!(held.unwrap().token.principal.to_string(), "northmoor/ana");
        }
        town.wait(299);
        town.ask().await.unwrap();
        assert_eq!(town.trades(), 1);
    }

    #[tokio::test]
    async fn a_token_is_renewed_before_it_ends() {
        let town = Town::new();
        let first = town.ask().await.unwrap().token.expires;
        town.wait(301);
        let second = town.ask().await.unwrap().token.expires;
        assert!(second > first);
        assert_eq!(town.trades(), 2);
    }

    #[tokio::test]
    async fn a_revoked_certificate_has_nothing_after_the_next_trade() {
        let town = Town::new();
        town.ask().await.unwrap();
        town.parties.certifies("");
        town.wait(301);
        for _ in 0..3 {
            let refused = town.ask().await;
            assert!(
                matches!(
                    refused,
                    Err(PartyError::Refused {
                        code: Code::Unauthenticated,
                        ..
                    })
                ),
                "{refused:?}"
            );
        }
        assert_eq!(town.trades(), 2, "a refusal is not asked for again at once");
        town.parties.certifies("ana");
        town.wait(5);
        assert!(town.ask().await.is_ok());
    }

    #[tokio::test]
    async fn a_token_at_hand_is_used_while_its_authority_is_away_and_no_longer() {
        let town = Town::new();
        let expires = town.ask().await.unwrap().token.expires;
        town.away(true);
        town.wait(301);
        assert_eq!(town.ask().await.unwrap().token.expires, expires);
        town.wait(270);
        assert!(matches!(town.ask().await, Err(PartyError::Away(_))));
        town.away(false);
        assert!(town.ask().await.unwrap().token.expires > expires);
    }

    #[tokio::test]
    async fn an_authority_that_was_away_is_asked_again_at_the_next_call() {
        let town = Town::new();
        town.away(true);
        assert!(matches!(town.ask().await, Err(PartyError::Away(_))));
        town.away(false);
        assert!(town.ask().await.is_ok());
    }

    #[tokio::test]
    async fn a_token_that_ends_with_its_certificate_is_not_asked_for_at_every_call() {
        let town = Town::new();
        let held = town.ask().await.unwrap();
        let expires = held.token.expires;
        for (left, again) in [(10, 5), (3, 0)] {
            let now = expires.before(Duration::from_secs(left));
            let traded = settle(Ok(held.clone()), None, now);
            assert_eq!(traded.again, expires.before(Duration::from_secs(again)));
        }
    }

    #[tokio::test]
    async fn a_token_of_somebody_else_is_no_answer() {
        let town = Town::new();
        let other = town.ask_as("bob").await;
        assert!(matches!(other, Err(PartyError::Failed(_))), "{other:?}");
    }
}
