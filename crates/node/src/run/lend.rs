//! Column keys, lent for one grant.

use super::link::LinkKey;
use crate::authority::{Authority, AuthorityError};
use crate::check::Officer;
use crate::product::DatasetScan;
use guildhall_grant::product::Product;
use guildhall_keys::{ColumnKeys, KeyName};
use guildhall_model::{ColumnName, DatasetName, Digest, GrantId, Timestamp};
use guildhall_proto::authority::v1::{LendForCheckRequest, LendKeysRequest, LendToPrepareRequest};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_store::SealedDataset;
use guildhall_workers::Reading;
use guildhall_workers::loan::{Loan, LoanError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why no keys were lent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LendError {
    #[error("no keys are lent")]
    Authority {
        #[source]
        source: AuthorityError,
    },
    #[error(transparent)]
    Loan(#[from] LoanError),
    #[error("the grant of the loan is malformed")]
    Malformed,
}

/// The names and wrapped forms of the keys that `scans` need: of each dataset the footer's and those of the
/// columns that are read, in every period that has parts.
pub(crate) fn wanted(
    scans: &[DatasetScan],
    datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>,
) -> BTreeMap<KeyName, Vec<u8>> {
    let mut read: BTreeMap<&DatasetName, BTreeSet<_>> = BTreeMap::new();
    for scan in scans {
        read.entry(&scan.dataset).or_default().extend(&scan.columns);
    }
    let mut wanted = BTreeMap::new();
    for (name, columns) in read {
        let Some(dataset) = datasets.get(name) else {
            continue;
        };
        let manifest = dataset.manifest();
        let periods = manifest.periods();
        for (key, age) in &manifest.keys {
            let is_read = key.column.as_ref().is_none_or(|c| columns.contains(c));
            if is_read && periods.contains(&key.period) {
                wanted.insert(key.clone(), age.clone());
            }
        }
    }
    wanted
}

/// What was lent under a grant.
pub(crate) struct Lent {
    pub(crate) keys: ColumnKeys,
    /// What tokens are made with, under a grant for rows that meet others.
    pub(crate) link: Option<LinkKey>,
}

/// What `scans` read, dataset by dataset.
pub(crate) fn readings(
    scans: &[DatasetScan],
    datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>,
) -> Vec<Reading> {
    let mut read: BTreeMap<&DatasetName, BTreeSet<ColumnName>> = BTreeMap::new();
    for scan in scans {
        let columns = read.entry(&scan.dataset).or_default();
        columns.extend(scan.columns.iter().cloned());
    }
    let read = read.into_iter().filter_map(|(name, columns)| {
        let dataset = Arc::clone(datasets.get(name)?);
        Some(Reading { dataset, columns })
    });
    read.collect()
}

/// Borrows the keys of `wanted` under `grant`, sealed to a recipient that is made for this one time.
pub(crate) async fn borrow_keys(
    authority: &dyn Authority,
    grant: &Envelope,
    fragment: &Digest,
    wanted: BTreeMap<KeyName, Vec<u8>>,
) -> Result<Lent, LendError> {
    if wanted.is_empty() {
        return Ok(Lent {
            keys: ColumnKeys::new(),
            link: None,
        });
    }
    let (loan, keys) = Loan::of(wanted);
    let request = LendKeysRequest {
        grant: Some(grant.clone()),
        fragment_digest: fragment.as_bytes().to_vec(),
        ephemeral_recipient: loan.recipient(),
        keys,
        assignment: None,
    };
    let lent = authority
        .lend_keys(request)
        .await
        .map_err(|source| LendError::Authority { source })?;
    let (keys, link) = loan.opened_with_link(&lent.sealed)?;
    let link = match link.as_slice() {
        [] => None,
        bytes => Some(LinkKey::from_bytes(bytes).ok_or(LoanError::Malformed)?),
    };
    Ok(Lent { keys, link })
}

/// Borrows the keys of all that `product` reads of `datasets`, on an officer's leave; and the grant that it was
/// under, which is used up.
pub(crate) async fn borrow_for_check(
    authority: &dyn Authority,
    officer: &Officer,
    product: &Product,
    signed: Envelope,
    datasets: &BTreeMap<DatasetName, Arc<SealedDataset>>,
) -> Result<(ColumnKeys, GrantId), LendError> {
    let mut scans: BTreeMap<DatasetName, BTreeSet<ColumnName>> = BTreeMap::new();
    for read in product.reads_of(product.columns.iter().map(|c| &c.name)) {
        scans.entry(read.dataset).or_default().insert(read.column);
    }
    let scans = scans.into_iter();
    let scans: Vec<DatasetScan> = scans
        .map(|(dataset, columns)| DatasetScan { dataset, columns })
        .collect();
    let wanted = wanted(&scans, datasets);
    let (loan, keys) = Loan::of(wanted);
    let request = LendForCheckRequest {
        account: officer.account.clone(),
        password: officer.password.to_string(),
        product: Some(signed),
        ephemeral_recipient: loan.recipient(),
        keys,
    };
    let lent = authority.lend_for_check(request).await;
    let lent = lent.map_err(|source| LendError::Authority { source })?;
    let grant = lent.grant.parse().map_err(|_| LendError::Malformed)?;
    Ok((loan.opened(&lent.sealed)?, grant))
}

/// Keys that were lent to prepare with, the grant that it was under, which is used up, and the end of the loan.
pub(crate) struct ToPrepare {
    pub(crate) keys: ColumnKeys,
    pub(crate) grant: GrantId,
    pub(crate) ends: Timestamp,
}

/// Borrows the keys of `wanted` to prepare `product` with.
pub(crate) async fn borrow_to_prepare(
    authority: &dyn Authority,
    product: &Product,
    wanted: BTreeMap<KeyName, Vec<u8>>,
) -> Result<ToPrepare, LendError> {
    let (loan, keys) = Loan::of(wanted);
    let request = LendToPrepareRequest {
        product: product.name.to_string(),
        version: product.version,
        ephemeral_recipient: loan.recipient(),
        keys,
    };
    let lent = authority.lend_to_prepare(request).await;
    let lent = lent.map_err(|source| LendError::Authority { source })?;
    Ok(ToPrepare {
        keys: loan.opened(&lent.sealed)?,
        grant: lent.grant.parse().map_err(|_| LendError::Malformed)?,
        ends: Timestamp::from_micros(lent.expires_us),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeAuthority;
    use guildhall_proto::authority::v1::LentKey;

    fn name(column: Option<&str>) -> KeyName {
        KeyName {
            dataset: "sessions".parse().unwrap(),
            column: column.map(|c| c.parse().unwrap()),
            period: "all".parse().unwrap(),
        }
    }

    fn wanted(columns: &[Option<&str>]) -> BTreeMap<KeyName, Vec<u8>> {
        columns.iter().map(|c| (name(*c), vec![7; 9])).collect()
    }

    fn lent(column: &str) -> LentKey {
        LentKey {
            dataset: "sessions".into(),
            column: column.into(),
            period: "all".into(),
            key: vec![1; 32],
        }
    }

    async fn borrow(lent: Vec<LentKey>, columns: &[Option<&str>]) -> Result<ColumnKeys, LendError> {
        let authority = FakeAuthority::lending(lent);
        borrow_keys(
            &authority,
            &Envelope::default(),
            &Digest::of(b"f"),
            wanted(columns),
        )
        .await
        .map(|lent| lent.keys)
    }

    #[tokio::test]
    async fn lent_keys_are_those_that_were_asked_for() {
        let keys = borrow(vec![lent(""), lent("ward")], &[None, Some("ward")])
            .await
            .unwrap();
        assert!(keys.get(&name(None)).is_some() && keys.get(&name(Some("ward"))).is_some());
    }

    #[tokio::test]
    async fn a_key_that_is_not_lent_is_named() {
        let error = borrow(vec![lent("")], &[None, Some("ward")])
            .await
            .unwrap_err();
        assert!(error.to_string().contains("sessions.ward"), "{error}");
    }

    #[tokio::test]
    async fn nothing_is_asked_for_nothing() {
        let authority = FakeAuthority::refusing();
        let keys = borrow_keys(
            &authority,
            &Envelope::default(),
            &Digest::of(b"f"),
            BTreeMap::new(),
        )
        .await
        .unwrap();
        assert!(keys.keys.is_empty() && keys.link.is_none());
    }
}
