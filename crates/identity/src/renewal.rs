//! Certificates that renew themselves.

use crate::authority::new_key_and_csr;
use crate::credential::Identity;
use guildhall_model::{SharedClock, Timestamp};
use guildhall_telemetry::error_chain;
use std::error::Error;
use std::future::Future;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Renews `identity` whenever two thirds of its certificate's life are over, until `shutdown`.
///
/// `renew` takes a certificate request (DER) for a fresh key to the authority and brings back
/// the chain (PEM). A renewal that fails is logged and tried again half a minute later.
pub async fn keep_renewed<F, R, E>(
    identity: Identity,
    renew: F,
    clock: SharedClock,
    shutdown: CancellationToken,
) where
    F: Fn(Vec<u8>) -> R + Send,
    R: Future<Output = Result<String, E>> + Send,
    E: Error + Send + Sync + 'static,
{
    keep(identity, renew, clock, shutdown, LOOK_EVERY).await;
}

async fn keep<F, R, E>(
    identity: Identity,
    renew: F,
    clock: SharedClock,
    shutdown: CancellationToken,
    look_every: Duration,
) where
    F: Fn(Vec<u8>) -> R + Send,
    R: Future<Output = Result<String, E>> + Send,
    E: Error + Send + Sync + 'static,
{
    let mut look = tokio::time::interval(look_every);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = look.tick() => {}
        }
        if clock.now() < due(&identity) {
            continue;
        }
        let renewed = tokio::select! {
            () = shutdown.cancelled() => return,
            renewed = renew_once(&identity, &renew) => renewed,
        };
        match renewed {
            Ok(()) => {
                tracing::info!(peer = %identity.peer(), expires = %identity.expires(), "renewed the certificate")
            }
            Err(error) => tracing::warn!(
                peer = %identity.peer(),
                expires = %identity.expires(),
                error = error_chain(error.as_ref()),
                "cannot renew the certificate; trying again"
            ),
        }
    }
}

async fn renew_once<F, R, E>(
    identity: &Identity,
    renew: &F,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    F: Fn(Vec<u8>) -> R,
    R: Future<Output = Result<String, E>>,
    E: Error + Send + Sync + 'static,
{
    let (key, csr) = new_key_and_csr()?;
    let chain = renew(csr).await?;
    identity.replace(&chain, &key)?;
    Ok(())
}

fn due(identity: &Identity) -> Timestamp {
    let from = identity.not_before();
    from.after(identity.expires().since(from) * 2 / 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::IdentityError;
    use crate::verify::tests::{authority, identity, now, peer};
    use guildhall_model::{Clock as _, MockClock};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::mpsc;

    const NODE: &str = "spiffe://northmoor/parking/node/p1";

    #[tokio::test]
    async fn a_certificate_is_renewed_at_two_thirds_of_its_life_and_after_a_failure() {
        let authority = Arc::new(authority("northmoor"));
        let ours = identity(&authority, NODE);
        let clock = MockClock::at(now().after(Duration::from_secs(39 * 60)));
        let shutdown = CancellationToken::new();
        let (tried, mut tries) = mpsc::unbounded_channel();
        let failures = Arc::new(AtomicU32::new(1));
        let renew = {
            let (authority, clock) = (authority.clone(), clock.clone());
            move |csr: Vec<u8>| {
                let (authority, clock, tried, failures) = (
                    authority.clone(),
                    clock.clone(),
                    tried.clone(),
                    failures.clone(),
                );
                async move {
                    tried.send(()).unwrap();
                    if failures
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                        .is_ok()
                    {
                        return Err(IdentityError::Address {
                            address: "nowhere".to_owned(),
                        });
                    }
                    let at = clock.now();
                    authority.issue(
                        &csr,
                        &peer(NODE),
                        &[],
                        at,
                        at.after(Duration::from_secs(3600)),
                    )
                }
            }
        };
        let old = ours.chain();
        let task = guildhall_telemetry::spawn(keep(
            ours.clone(),
            renew,
            clock.clone(),
            shutdown.clone(),
            Duration::from_millis(1),
        ));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), tries.recv())
                .await
                .is_err(),
            "renewed too early"
        );
        clock.advance(Duration::from_secs(60));
        tries.recv().await.unwrap();
        tries.recv().await.unwrap();
        while ours.chain() == old {
            tokio::task::yield_now().await;
        }
        assert_eq!(ours.expires(), now().after(Duration::from_secs(100 * 60)));
        shutdown.cancel();
        task.await.unwrap();
    }
}
