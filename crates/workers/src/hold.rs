//! Keys that a worker holds: one node's, for one grant, while that node's call lasts.

use crate::share::Share;
use guildhall_keys::ColumnKeys;
use guildhall_model::{DatasetName, GrantId, PeerId};
use guildhall_store::SealedDataset;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Datasets that were opened for one grant, and the keys that were lent for them.
pub(crate) struct Held {
    datasets: BTreeMap<DatasetName, Arc<SealedDataset>>,
    /// Gone when the hold has ended, whoever still refers to it.
    keys: Mutex<Option<Arc<ColumnKeys>>>,
}

impl Held {
    pub(crate) fn new(
        datasets: BTreeMap<DatasetName, Arc<SealedDataset>>,
        keys: ColumnKeys,
    ) -> Self {
        Self {
            datasets,
            keys: Mutex::new(Some(Arc::new(keys))),
        }
    }

    /// The dataset that `share` reads, at its very version, and the keys; `None` if the hold has ended or is for others.
    pub(crate) fn reading(&self, share: &Share) -> Option<(Arc<SealedDataset>, Arc<ColumnKeys>)> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let dataset = self.datasets.get(&share.dataset)?;
        (dataset.recorded() == share.recorded)
            .then(|| Some((Arc::clone(dataset), keys.clone()?)))
            .flatten()
    }

    fn end(&self) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Shape, not keys.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("datasets", &self.datasets.keys())
            .finish_non_exhaustive()
    }
}

/// Whose grant keys are held for.
type For = (PeerId, GrantId);

/// Why no more is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HoldLimit {
    #[error("keys are held for that grant already")]
    Twice,
    #[error("keys are held for as many grants as this worker takes")]
    Full,
}

/// All that a worker holds.
#[derive(Debug)]
pub(crate) struct Holds {
    held: Mutex<HashMap<For, Arc<Held>>>,
    count: watch::Sender<usize>,
    most: usize,
}

impl Holds {
    /// Nothing yet, and at most so many.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            count: watch::Sender::new(0),
            most,
        })
    }

    /// How many grants keys are held for, now and whenever it changes.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Whether there is room for one more; [`Self::put`] is what decides.
    pub(crate) fn has_room(&self) -> Result<(), HoldLimit> {
        match *self.count.borrow() < self.most {
            true => Ok(()),
            false => Err(HoldLimit::Full),
        }
    }

    /// Holds until the answer is dropped.
    pub(crate) fn put(
        self: &Arc<Self>,
        node: PeerId,
        grant: GrantId,
        held: Held,
    ) -> Result<Holding, HoldLimit> {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let by = (node, grant);
        if all.contains_key(&by) {
            return Err(HoldLimit::Twice);
        }
        if all.len() >= self.most {
            return Err(HoldLimit::Full);
        }
        all.insert(by.clone(), Arc::new(held));
        self.count.send_replace(all.len());
        Ok(Holding {
            by,
            of: Arc::clone(self),
        })
    }

    /// What is held for a grant of `node`.
    pub(crate) fn get(&self, node: PeerId, grant: GrantId) -> Option<Arc<Held>> {
        let all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(node, grant)).cloned()
    }
}

/// A hold that lasts; when it is dropped the keys are wiped.
#[derive(Debug)]
#[must_use = "a hold ends when this is dropped"]
pub(crate) struct Holding {
    by: For,
    of: Arc<Holds>,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut all = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.remove(&self.by) {
            held.end();
        }
        self.of.count.send_replace(all.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> PeerId {
        "spiffe://northmoor/parking/node/n1".parse().unwrap()
    }

    fn grant(id: &str) -> GrantId {
        id.parse().unwrap()
    }

    fn nothing() -> Held {
        Held::new(BTreeMap::new(), ColumnKeys::new())
    }

    #[test]
    fn keys_go_with_the_hold_even_where_a_task_still_refers_to_them() {
        let holds = Holds::new(4);
        let holding = holds.put(node(), grant("g-1"), nothing()).unwrap();
        let held = holds.get(node(), grant("g-1")).unwrap();
        assert!(held.keys.lock().unwrap().is_some());
        drop(holding);
        assert!(held.keys.lock().unwrap().is_none());
        assert!(holds.get(node(), grant("g-1")).is_none());
        assert_eq!(*holds.count().borrow(), 0);
    }

    #[test]
    fn a_grant_is_held_once_by_its_own_node_and_no_more_than_so_many_at_a_time() {
        let holds = Holds::new(2);
        let _one = holds.put(node(), grant("g-1"), nothing()).unwrap();
        let again = holds.put(node(), grant("g-1"), nothing());
        assert_eq!(again.unwrap_err(), HoldLimit::Twice);
        let other = "spiffe://northmoor/parking/node/n2".parse().unwrap();
        assert!(holds.get(other, grant("g-1")).is_none());
        let _two = holds.put(node(), grant("g-2"), nothing()).unwrap();
        assert_eq!(holds.has_room(), Err(HoldLimit::Full));
        let three = holds.put(node(), grant("g-3"), nothing());
        assert_eq!(three.unwrap_err(), HoldLimit::Full);
    }
}
