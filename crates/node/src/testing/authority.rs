//! The double of an authority.

use crate::authority::{Authority, AuthorityError};
use async_trait::async_trait;
use guildhall_client::Debited;
use guildhall_grant::envelope;
use guildhall_keyring::{DatasetIdentity, unwrap};
use guildhall_keys::{KeyName, Recipient, seal};
use guildhall_model::{DatasetName, Digest, Timestamp};
use guildhall_proto::authority::v1::{
    DebitRequest, LendForCheckRequest, LendForCheckResponse, LendKeysRequest, LendKeysResponse,
    LendToPrepareRequest, LendToPrepareResponse, LentKey, LentKeys,
};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_store::Recorded;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// An authority in this process, which does as it is told.
pub(crate) struct FakeAuthority {
    identity: DatasetIdentity,
    canned: Option<Option<Vec<LentKey>>>,
    recorded: Mutex<BTreeMap<DatasetName, Recorded>>,
    pub(crate) asked: Mutex<Vec<LendKeysRequest>>,
    /// What was charged, each question once.
    pub(crate) debited: Mutex<Vec<DebitRequest>>,
    /// What is left of the one privacy budget.
    pub(crate) budget: AtomicU64,
    pub(crate) away: AtomicBool,
    pub(crate) forget_next: AtomicBool,
    /// When loans to prepare with end.
    pub(crate) lends_until: AtomicI64,
}

impl std::fmt::Debug for FakeAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeAuthority")
    }
}

impl FakeAuthority {
    /// Lends whatever is asked for.
    pub(crate) fn generous() -> Self {
        Self {
            identity: DatasetIdentity::generate(),
            canned: None,
            recorded: Mutex::default(),
            asked: Mutex::default(),
            debited: Mutex::default(),
            budget: AtomicU64::new(u64::MAX),
            away: AtomicBool::new(false),
            forget_next: AtomicBool::new(false),
            lends_until: AtomicI64::new(i64::MAX),
        }
    }

    /// Lends these keys, whatever is asked for.
    pub(crate) fn lending(keys: Vec<LentKey>) -> Self {
        Self {
            canned: Some(Some(keys)),
            ..Self::generous()
        }
    }

    /// Lends nothing.
    pub(crate) fn refusing() -> Self {
        Self {
            canned: Some(None),
            ..Self::generous()
        }
    }

    /// The columns that keys were asked for, in all requests; the footers' as an empty name.
    pub(crate) fn columns_asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let mut all: Vec<String> = asked
            .iter()
            .flat_map(|r| &r.keys)
            .map(|k| format!("{}.{}", k.dataset, k.column))
            .collect();
        all.sort();
        all
    }

    fn here(&self) -> Result<(), AuthorityError> {
        match self.away.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(AuthorityError::Unavailable {
                council: "northmoor".parse().unwrap(),
                source: "nobody listens".into(),
            }),
        }
    }
}

#[async_trait]
impl Authority for FakeAuthority {
    async fn open_dataset(&self, _: &DatasetName) -> Result<Recipient, AuthorityError> {
        self.here()?;
        Ok(self.identity.recipient())
    }

    async fn record_manifest(&self, manifest: Envelope) -> Result<(), AuthorityError> {
        self.here()?;
        if self.forget_next.swap(false, Ordering::SeqCst) {
            let message = "the line broke".to_owned();
            return Err(AuthorityError::Refused {
                council: "northmoor".parse().unwrap(),
                message,
            });
        }
        let stated =
            guildhall_proto::store::v1::Manifest::decode(manifest.payload.as_slice()).unwrap();
        let digest = envelope::digest(&manifest);
        let recorded = Recorded {
            version: stated.version,
            digest,
        };
        self.recorded
            .lock()
            .unwrap()
            .insert(stated.dataset.parse().unwrap(), recorded);
        Ok(())
    }

    async fn latest_manifest(
        &self,
        dataset: &DatasetName,
    ) -> Result<Option<Recorded>, AuthorityError> {
        self.here()?;
        Ok(self.recorded.lock().unwrap().get(dataset).copied())
    }

    async fn announce(&self, _: &str) -> Result<(), AuthorityError> {
        self.here()
    }

    async fn register_product(&self, _: Envelope) -> Result<(), AuthorityError> {
        self.here()
    }

    async fn lend_keys(
        &self,
        request: LendKeysRequest,
    ) -> Result<LendKeysResponse, AuthorityError> {
        self.here()?;
        let recipient = request.ephemeral_recipient.parse().unwrap();
        let keys = match &self.canned {
            Some(Some(keys)) => keys.clone(),
            Some(None) => {
                let message = "no".to_owned();
                return Err(AuthorityError::Refused {
                    council: "northmoor".parse().unwrap(),
                    message,
                });
            }
            None => request.keys.iter().map(|k| self.lend(k)).collect(),
        };
        let grant = request.grant.as_ref().map(|g| g.payload.clone());
        let grant = grant.unwrap_or_default();
        self.asked.lock().unwrap().push(request);
        let sealed = seal(
            &LentKeys {
                keys,
                link_key: Digest::of(&grant).as_bytes().to_vec(),
            }
            .encode_to_vec(),
            &recipient,
        )
        .unwrap();
        Ok(LendKeysResponse {
            sealed,
            expires_us: i64::MAX,
        })
    }

    async fn lend_for_check(
        &self,
        request: LendForCheckRequest,
    ) -> Result<LendForCheckResponse, AuthorityError> {
        let lent = self
            .lend_keys(LendKeysRequest {
                ephemeral_recipient: request.ephemeral_recipient,
                keys: request.keys,
                ..LendKeysRequest::default()
            })
            .await?;
        Ok(LendForCheckResponse {
            sealed: lent.sealed,
            expires_us: lent.expires_us,
            grant: "g-check".to_owned(),
        })
    }

    async fn lend_to_prepare(
        &self,
        request: LendToPrepareRequest,
    ) -> Result<LendToPrepareResponse, AuthorityError> {
        let lent = self
            .lend_keys(LendKeysRequest {
                ephemeral_recipient: request.ephemeral_recipient,
                keys: request.keys,
                ..LendKeysRequest::default()
            })
            .await?;
        Ok(LendToPrepareResponse {
            sealed: lent.sealed,
            expires_us: self.lends_until.load(Ordering::SeqCst),
            grant: "g-prepare".to_owned(),
        })
    }

    async fn debit(&self, request: DebitRequest) -> Result<Debited, AuthorityError> {
        self.here()?;
        let mut debited = self.debited.lock().unwrap();
        let left = self.budget.load(Ordering::SeqCst);
        let paid = debited
            .iter()
            .any(|d| d.question_digest == request.question_digest);
        let charged_nano_rho = if paid { 0 } else { request.nano_rho };
        let remaining_nano_rho =
            left.checked_sub(charged_nano_rho)
                .ok_or_else(|| AuthorityError::Exhausted {
                    message: "the privacy budget is spent".to_owned(),
                })?;
        self.budget.store(remaining_nano_rho, Ordering::SeqCst);
        if !paid {
            debited.push(request);
        }
        Ok(Debited {
            charged_nano_rho,
            remaining_nano_rho,
            renews: Timestamp::from_micros(i64::MAX),
        })
    }
}

impl FakeAuthority {
    fn lend(&self, wanted: &guildhall_proto::authority::v1::KeyWanted) -> LentKey {
        let name = KeyName {
            dataset: wanted.dataset.parse().unwrap(),
            column: (!wanted.column.is_empty()).then(|| wanted.column.parse().unwrap()),
            period: wanted.period.parse().unwrap(),
        };
        let key = unwrap(&self.identity, &wanted.age, &name).unwrap();
        LentKey {
            dataset: wanted.dataset.clone(),
            column: wanted.column.clone(),
            period: wanted.period.clone(),
            key: key.as_bytes().to_vec(),
        }
    }
}
