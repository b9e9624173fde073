//! Connections to workers, each to the one that its URL names and to no other.

use crate::address;
use async_trait::async_trait;
use datafusion::common::{config_err, exec_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{ChannelResolver, WorkerChannel};
use guildhall_identity::{Dialer, Expect};
use guildhall_model::PeerId;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::transport::Channel;
use url::Url;

/// More workers than any department has; beyond it connections are made anew.
const KNOWN: usize = 1024;

/// Dials workers of one's own department. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    dialer: Dialer,
    own: PeerId,
    /// The only ones to dial; any of the department for a worker, which is told by its node.
    pinned: Option<Arc<BTreeSet<Url>>>,
    known: Arc<Mutex<HashMap<Url, Channel>>>,
    /// What is sent to the engine's service at workers, for tests to search.
    #[cfg(test)]
    pub(crate) tap: crate::tests::Tap,
}

impl Channels {
    /// Connections of a worker: to whatever worker of its department its node names.
    pub(crate) fn of_worker(dialer: &Dialer) -> Self {
        Self {
            own: dialer.identity().peer(),
            dialer: dialer.clone(),
            pinned: None,
            known: Arc::default(),
            #[cfg(test)]
            tap: Default::default(),
        }
    }

    /// Connections of a node: to `pinned` and to nobody else.
    pub(crate) fn of_node(dialer: &Dialer, pinned: BTreeSet<Url>) -> Self {
        Self {
            pinned: Some(Arc::new(pinned)),
            ..Self::of_worker(dialer)
        }
    }

    /// The connection to the worker that `url` names; it comes about when it is first used.
    pub(crate) fn to(&self, url: &Url) -> Result<Channel, DataFusionError> {
        if self.pinned.as_ref().is_some_and(|p| !p.contains(url)) {
            return config_err!("`{url}` is not one of this node's workers");
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = known.get(url) {
            return Ok(channel.clone());
        }
        let (Some(peer), Some(address)) = (address::peer(url, &self.own), address::address(url))
        else {
            return config_err!("`{url}` names no worker");
        };
        let channel = self.dialer.shuffle_channel(&address, Expect::Peer(peer));
        let channel = channel.map_err(|e| exec_datafusion_err!("cannot dial `{url}`: {e}"))?;
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(url.clone(), channel.clone());
        Ok(channel)
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(
        &self,
        url: &Url,
    ) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        let channel = self.to(url)?;
        #[cfg(test)]
        let channel = self.tap.on(channel);
        Ok(create_worker_client(BoxCloneSyncChannel::new(channel)))
    }
}
