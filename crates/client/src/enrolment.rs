//! Becoming a role: a one-time code traded for a certificate.

use crate::call::{answer, within};
use crate::error::ClientError;
use guildhall_identity::{
    EnrolmentCode, Identity, IdentityError, TrustStore, enrol_channel, new_key_and_csr,
};
use guildhall_model::SharedClock;
use guildhall_proto::authority::v1 as proto;
use guildhall_proto::authority::v1::enrolment_client::EnrolmentClient as Stub;
use std::time::Duration;
use tonic::transport::Channel;

const DEADLINE: Duration = Duration::from_secs(10);

/// Calls the enrolment desk of the authority that a code names.
#[derive(Debug, Clone)]
pub struct EnrolmentClient {
    who: String,
    code: EnrolmentCode,
    stub: Stub<Channel>,
}

/// What a new role has after enrolment. Not yet on disk.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Its own name, key and certificate.
    pub identity: Identity,
    /// The councils that its own trusts.
    pub trust: TrustStore,
}

impl EnrolmentClient {
    /// The authority at `address`, believed only if it is the one that `code` names.
    ///
    /// # Errors
    /// If `address` is not `host:port`.
    pub fn new(
        address: &str,
        code: &EnrolmentCode,
        clock: SharedClock,
    ) -> Result<Self, ClientError> {
        let who = format!("the authority of {}", code.council);
        let channel = enrol_channel(address, code, clock).map_err(|source| ClientError::Setup {
            who: who.clone(),
            source,
        })?;
        Ok(Self {
            who,
            code: code.clone(),
            stub: Stub::new(channel),
        })
    }

    /// Makes a key, has it certified, and learns whom to trust.
    ///
    /// `signing_key` is the raw Ed25519 public key that a node signs with, empty for other
    /// roles; `host_names` are what clients reach a door by.
    ///
    /// # Errors
    /// If the code is spent or wrong, the authority is not the one it names, or its answer
    /// does not make an identity of that council.
    pub async fn enrol(
        &self,
        signing_key: &[u8],
        host_names: &[String],
    ) -> Result<Enrolled, ClientError> {
        let setup = |source| ClientError::Setup {
            who: self.who.clone(),
            source,
        };
        let (key, csr) = new_key_and_csr().map_err(setup)?;
        let message = proto::EnrolRequest {
            code: self.code.to_string(),
            csr,
            signing_key: signing_key.to_vec(),
            host_names: host_names.to_vec(),
        };
        let mut stub = self.stub.clone();
        let response = answer(&self.who, DEADLINE, stub.enrol(within(message, DEADLINE))).await?;
        let certificate = response
            .certificate
            .ok_or_else(|| ClientError::malformed(&self.who, "no certificate in it"))?;
        let unreadable = |e: IdentityError| ClientError::malformed(&self.who, e.to_string());
        let identity = Identity::from_pem(&certificate.chain_pem, &key).map_err(unreadable)?;
        if identity.peer().council != self.code.council {
            return Err(ClientError::malformed(
                &self.who,
                "the certificate is of another council",
            ));
        }
        let trust = TrustStore::from_bundles(&response.trust).map_err(unreadable)?;
        if !trust.trusts(&self.code.council) {
            return Err(ClientError::malformed(
                &self.who,
                "its own trust bundle is missing",
            ));
        }
        Ok(Enrolled { identity, trust })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Council, NODE};
    use guildhall_model::Digest;

    fn code(council: &Council) -> EnrolmentCode {
        EnrolmentCode::generate(council.authority.council(), council.authority.fingerprint())
            .unwrap()
    }

    #[tokio::test]
    async fn a_code_is_traded_for_an_identity_and_trust() {
        let council = Council::new("northmoor");
        let code = code(&council);
        let desk = council.desk(Some(code.clone())).await;
        let client =
            EnrolmentClient::new(&desk.address().to_string(), &code, council.clock.clone())
                .unwrap();
        let enrolled = client.enrol(&[], &[]).await.unwrap();
        assert_eq!(enrolled.identity.peer().to_string(), NODE);
        let chain = enrolled.identity.chain();
        assert_eq!(
            enrolled
                .trust
                .verify_chain(&chain, council.clock.now())
                .unwrap()
                .peer,
            enrolled.identity.peer()
        );
    }

    #[tokio::test]
    async fn a_code_that_was_never_given_is_refused() {
        let council = Council::new("northmoor");
        let desk = council.desk(Some(code(&council))).await;
        let other = code(&council);
        let client =
            EnrolmentClient::new(&desk.address().to_string(), &other, council.clock.clone())
                .unwrap();
        let refused = client.enrol(&[], &[]).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    }

    #[tokio::test]
    async fn the_secret_is_not_sent_to_an_authority_that_the_code_does_not_name() {
        let council = Council::new("northmoor");
        let wrong =
            EnrolmentCode::generate(council.authority.council(), Digest::of(b"another")).unwrap();
        // It would be accepted, if it ever arrived.
        let desk = council.desk(Some(wrong.clone())).await;
        let client =
            EnrolmentClient::new(&desk.address().to_string(), &wrong, council.clock.clone())
                .unwrap();
        let error = client.enrol(&[], &[]).await.unwrap_err();
        assert!(error.is_away());
        assert!(
            guildhall_telemetry::error_chain(&error)
                .contains("does not show the certificate authority")
        );
    }
}
