//! Signing in.

use super::Inner;
use crate::credential::{basic, token_text};
use crate::error::DoorError;
use arrow_flight::{BasicAuth, HandshakeRequest};
use guildhall_model::CouncilName;
use prost::Message;
use std::time::Duration;
use tonic::{Request, Streaming};

// A client that neither sends a header nor a first message within this gets no handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

impl Inner {
    pub(super) async fn sign_in(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<String, DoorError> {
        let Some(given) = basic(request.metadata())? else {
            // Somebody who shows a token or certificate already needs no other.
            return match self.check.caller(&request).await {
                Ok(caller) => Ok(caller.token_text().unwrap_or_default()),
                Err(DoorError::NoCredential) => {
                    // Flight's older handshake sends name and password in its first message.
                    let first =
                        tokio::time::timeout(HANDSHAKE_WITHIN, request.into_inner().message())
                            .await;
                    let Ok(Ok(Some(first))) = first else {
                        return Err(DoorError::NoCredential);
                    };
                    let given =
                        BasicAuth::decode(first.payload).map_err(|_| DoorError::NoCredential)?;
                    self.trade(&given.username, &given.password).await
                }
                Err(e) => Err(e),
            };
        };
        // A token as the password of any name signs in as itself.
        if let Ok(caller) = self.check.caller(&request).await {
            return Ok(caller.token_text().unwrap_or_default());
        }
        self.trade(&given.name, &given.password).await
    }

    async fn trade(&self, account: &str, password: &str) -> Result<String, DoorError> {
        let (account, council) = match account.rsplit_once('@') {
            Some((account, council)) => match council.parse::<CouncilName>() {
                Ok(council) if self.engine.knows(&council) => (account, council),
                _ => return Err(DoorError::WrongPassword),
            },
            None => (account, self.default_council.clone()),
        };
        let token = self.engine.sign_in(&council, account, password).await?;
        Ok(token_text(&token))
    }
}
