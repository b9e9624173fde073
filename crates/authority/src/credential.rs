//! Who asks: from a credential to an [`Asker`] that policy can judge.

use crate::accounts;
use crate::db::Db;
use crate::refusal::Refusal;
use crate::register;
use guildhall_grant::token::{self, TokenCheck};
use guildhall_grant::{AccessToken, Statement, VerifyingKey};
use guildhall_identity::{PeerCertificate, TrustStore};
use guildhall_model::{CouncilName, PeerId, PrincipalName, Role, Timestamp};
use guildhall_policy::Asker;
use guildhall_proto::authority::v1 as wire;
use guildhall_proto::envelope::v1::Envelope;
use prost::Message as _;

/// Who a certificate speaks for, and how long.
pub(crate) struct Certified {
    pub(crate) asker: Asker,
    pub(crate) expires: Timestamp,
}

/// What is needed to believe a credential.
pub(crate) struct Believing<'a> {
    pub(crate) council: &'a CouncilName,
    pub(crate) db: &'a Db,
    pub(crate) trust: &'a TrustStore,
    pub(crate) now: Timestamp,
}

impl Believing<'_> {
    /// Who the credential speaks for.
    ///
    /// A principal of this council is looked up, so that a revoked account has nothing from the
    /// moment it is revoked; of another council's principal, its token is all that is known.
    // Invariant: a token is believed only of the gateway that it was given through. Every
    // council that a gateway asks has seen it.
    pub(crate) fn asker(
        &self,
        credential: Option<wire::Credential>,
        gateway: &PeerId,
    ) -> Result<Asker, Refusal> {
        let missing = Refusal::Credential {
            why: "none was given",
        };
        match credential.and_then(|c| c.kind).ok_or(missing)? {
            wire::credential::Kind::AccessToken(envelope) => self.token(&envelope, gateway),
            wire::credential::Kind::Certificate(chain) => {
                Ok(self.certificate(&chain, gateway)?.asker)
            }
        }
    }

    fn token(&self, envelope: &Envelope, gateway: &PeerId) -> Result<Asker, Refusal> {
        let bad = |why| Refusal::Credential { why };
        let council = claimed_council(envelope).ok_or(bad("it is not an access token"))?;
        let signers: Vec<VerifyingKey> = self
            .trust
            .authority_keys(&council)
            .iter()
            .filter_map(|k| VerifyingKey::from_bytes(k).ok())
            .collect();
        let check = TokenCheck {
            council: &council,
            now: self.now,
        };
        let token = token::verify(envelope, &signers, &check).map_err(|_| {
            bad("the access token is not one of a trusted council, or has expired; sign in again")
        })?;
        if token.gateway != *gateway {
            return Err(bad(
                "the access token was given through another gateway; sign in through this one",
            ));
        }
        if council == *self.council {
            return self.own(&token.principal.name);
        }
        Ok(Asker {
            principal: token.principal.clone(),
            // Another council's word makes nobody our analyst.
            roles: token
                .roles
                .iter()
                .map(|r| format!("{council}/{r}"))
                .collect(),
            purposes: token.purposes.iter().cloned().collect(),
        })
    }

    /// The principal of a client certificate that a gateway vouches to have seen.
    ///
    /// The chain proves nothing by itself, since everybody who met it has a copy. So the word
    /// of a gateway of another council does not do for our own people.
    pub(crate) fn certificate(
        &self,
        chain: &wire::CertificateChain,
        gateway: &PeerId,
    ) -> Result<Certified, Refusal> {
        let bad = |why| Refusal::Credential { why };
        if gateway.council != *self.council {
            return Err(bad(
                "only a gateway of this council vouches for a certificate; sign in with a password instead",
            ));
        }
        let PeerCertificate { peer, expires, .. } =
            self.trust.verify_chain(&chain.der, self.now).map_err(|_| {
                bad("the certificate is not one of a trusted council, or has expired")
            })?;
        if peer.role != Role::Analyst {
            return Err(bad("the certificate is not an analyst's"));
        }
        if peer.council != *self.council {
            return Err(bad(
                "the certificate is another council's; its own authority gives an access token for it",
            ));
        }
        if !self.db.read(|c| register::is_enrolled(c, &peer))? {
            return Err(bad("the certificate is revoked"));
        }
        let name: PrincipalName = peer
            .name
            .as_str()
            .parse()
            .map_err(|_| bad("it names no principal"))?;
        let asker = self.own(&name)?;
        Ok(Certified { asker, expires })
    }

    fn own(&self, name: &PrincipalName) -> Result<Asker, Refusal> {
        self.db
            .read(|c| accounts::find(c, self.council, name).map_err(Refusal::from))?
            .map(|account| account.asker)
            .ok_or(Refusal::Credential {
                why: "there is no such account, or it is closed",
            })
    }
}

/// Whose token it says it is: only picks the keys that it is then verified with.
fn claimed_council(envelope: &Envelope) -> Option<CouncilName> {
    let wire = <AccessToken as Statement>::Wire::decode(envelope.payload.as_slice()).ok()?;
    Some(AccessToken::from_wire(wire).ok()?.principal.council)
}
