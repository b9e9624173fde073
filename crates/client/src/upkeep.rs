//! What a role does in the background to stay who it is: renew, and learn whom to trust.

use crate::authority::AuthorityClient;
use crate::error::ClientError;
use guildhall_identity::{Dialer, IdentityError, keep_renewed};
use guildhall_telemetry::error_chain;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const TRUST_EVERY: Duration = Duration::from_secs(60);

/// What [`keep_up`] needs to know of a role.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// Its identity, trust and clock.
    pub dialer: Dialer,
    /// Its own council's authority.
    pub authority: AuthorityClient,
    /// What clients reach it by, for the renewed certificate.
    pub host_names: Vec<String>,
    /// Where `trust.json` is kept; nowhere if `None`.
    pub dir: Option<PathBuf>,
}

/// Renews the certificate in time and asks every minute whom the council trusts, until
/// `shutdown`. Failures are logged and tried again.
pub async fn keep_up(role: Upkeep, shutdown: CancellationToken) {
    let renew = {
        let role = role.clone();
        move |csr: Vec<u8>| {
            let (authority, host_names) = (role.authority.clone(), role.host_names.clone());
            async move { Ok::<_, ClientError>(authority.renew(csr, host_names).await?.chain_pem) }
        }
    };
    let identity = role.dialer.identity().clone();
    let clock = role.dialer.clock().clone();
    tokio::join!(
        keep_renewed(identity, renew, clock, shutdown.clone()),
        keep_trusting(&role, &shutdown)
    );
}

async fn keep_trusting(role: &Upkeep, shutdown: &CancellationToken) {
    let mut look = tokio::time::interval(TRUST_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was read at start is fresh enough for the first minute.
    look.tick().await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = look.tick() => {}
        }
        let fresh = tokio::select! {
            () = shutdown.cancelled() => return,
            fresh = role.authority.trust() => fresh,
        };
        match fresh {
            Ok(bundles) => {
                if let Err(error) = take(role, &bundles) {
                    tracing::warn!(
                        error = error_chain(&error),
                        "cannot take the new trust bundles"
                    );
                }
            }
            Err(error) => tracing::warn!(
                error = error_chain(&error),
                "cannot ask whom to trust; trying again"
            ),
        }
    }
}

fn take(
    role: &Upkeep,
    bundles: &[guildhall_proto::authority::v1::TrustBundle],
) -> Result<(), IdentityError> {
    let trust = role.dialer.trust();
    let before = trust.to_bundles();
    trust.replace(bundles)?;
    if trust.to_bundles() == before {
        return Ok(());
    }
    tracing::info!(councils = ?trust.councils(), "the trusted councils changed");
    role.dir.as_deref().map_or(Ok(()), |dir| trust.save(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Council;
    use guildhall_identity::TrustStore;

    #[tokio::test]
    async fn what_the_council_newly_trusts_is_trusted_at_once_and_kept() {
        let (ours, theirs) = (Council::new("northmoor"), Council::new("southmere"));
        let dir = tempfile::tempdir().unwrap();
        let dialer = ours.gateway();
        let council = "northmoor".parse().unwrap();
        let role = Upkeep {
            authority: AuthorityClient::new(&dialer, "127.0.0.1:1", &council).unwrap(),
            dialer,
            host_names: Vec::new(),
            dir: Some(dir.path().to_owned()),
        };
        let mut bundles = ours.trust.to_bundles();
        bundles.extend(theirs.trust.to_bundles());
        take(&role, &bundles).unwrap();
        assert_eq!(role.dialer.trust().to_bundles(), bundles);
        assert_eq!(TrustStore::load(dir.path()).unwrap().to_bundles(), bundles);
        // An answer that makes no sense changes nothing.
        bundles[0].ca_pem.clear();
        assert!(take(&role, &bundles).is_err());
        assert_eq!(role.dialer.trust().councils().len(), 2);
    }
}
