//! A whole city in one process: every role with its own keys, folders and TLS, on loopback.
//!
//! This is how the demo, the tests and the benchmarks run. The roles are the ones that run
//! apart in production; they share the process and nothing else.

mod accounts;
mod boot;
mod department;
mod file;
mod held;
mod ready;
mod workers;

pub use boot::{CityOptions, boot};
pub use file::{AccountEntry, CityFile, CouncilEntry, DepartmentEntry, QuestionEntry};
pub use guildhall_node::{Preparation, Prepare, Prepared};
pub use held::HeldPort;
pub use ready::{ClientFiles, Ready, ReadyAccount};

use anyhow::{Context as _, Result};
use guildhall_authority::AuthorityConfig;
use guildhall_clean_room::CleanRoomConfig;
use guildhall_gateway::GatewayConfig;
use guildhall_model::{CouncilName, DepartmentName, SharedClock};
use guildhall_node::NodeConfig;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::watch::Receiver;

/// A department of a council.
pub type NodeKey = (CouncilName, DepartmentName);

/// One role: how it is started, and that it runs.
#[derive(Debug)]
struct Role<C, R> {
    config: C,
    running: Option<R>,
}

/// A running city. It ends when dropped.
#[derive(Debug)]
#[must_use = "a city ends when this is dropped"]
pub struct City {
    authorities: BTreeMap<CouncilName, Role<AuthorityConfig, guildhall_authority::serve::Running>>,
    nodes: BTreeMap<NodeKey, Role<NodeConfig, guildhall_node::RunningNode>>,
    /// Those of each department, if the city was asked for some.
    workers: BTreeMap<NodeKey, Vec<workers::Worker>>,
    /// The first council's.
    clean_room: Role<CleanRoomConfig, guildhall_clean_room::Running>,
    gateway: Role<GatewayConfig, guildhall_gateway::Running>,
    clock: SharedClock,
    ready: Ready,
    file: CityFile,
    /// What keeps the address of a role that was killed.
    _held: Vec<HeldPort>,
}

impl City {
    /// What a client needs to know.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// What it was made from.
    #[must_use]
    pub fn file(&self) -> &CityFile {
        &self.file
    }

    /// The departments that have a node.
    pub fn departments(&self) -> impl Iterator<Item = &NodeKey> {
        self.nodes.keys()
    }

    /// Where a department keeps its files.
    pub fn node_data(&self, key: &NodeKey) -> Result<PathBuf> {
        Ok(self.node(key)?.config.data.clone())
    }

    /// How a department's node is configured.
    pub fn node_config(&self, key: &NodeKey) -> Result<NodeConfig> {
        Ok(self.node(key)?.config.clone())
    }

    /// What a department's node has prepared so far, and whatever it prepares from now on.
    pub fn preparation(&self, key: &NodeKey) -> Result<Receiver<Preparation>> {
        let running = self.node(key)?.running.as_ref();
        let running = running.with_context(|| format!("the node of `{}` is down", key.1))?;
        Ok(running.preparation())
    }

    /// How a council's authority is configured.
    pub fn authority_config(&self, council: &CouncilName) -> Result<AuthorityConfig> {
        let role = self
            .authorities
            .get(council)
            .with_context(|| format!("no council `{council}`"))?;
        Ok(role.config.clone())
    }

    /// How the clean room is configured.
    #[must_use]
    pub fn clean_room_config(&self) -> &CleanRoomConfig {
        &self.clean_room.config
    }

    /// How the gateway is configured.
    #[must_use]
    pub fn gateway_config(&self) -> &GatewayConfig {
        &self.gateway.config
    }

    fn node(&self, key: &NodeKey) -> Result<&Role<NodeConfig, guildhall_node::RunningNode>> {
        self.nodes
            .get(key)
            .with_context(|| format!("no department `{}` in `{}`", key.1, key.0))
    }

    /// Cuts a node's connections and ends it, as a crash would.
    pub async fn kill_node(&mut self, key: &NodeKey) -> Result<()> {
        self.node(key)?;
        if let Some(running) = self.nodes.get_mut(key).and_then(|role| role.running.take()) {
            running.kill().await;
        }
        Ok(())
    }

    /// Cuts the connections of a department's worker and ends it, as a crash would. The first is `w1`.
    pub async fn kill_worker(&mut self, key: &NodeKey, name: &str) -> Result<()> {
        let workers = self.workers.get_mut(key).into_iter().flatten();
        let worker = workers
            .into_iter()
            .find(|w| w.config.name.as_str() == name)
            .with_context(|| format!("no worker `{name}` of `{}`", key.1))?;
        if let Some(running) = worker.running.take() {
            running.kill().await;
        }
        Ok(())
    }

    /// Starts a department's node anew with the first so many of its workers.
    pub async fn pin_workers(&mut self, key: &NodeKey, count: usize) -> Result<()> {
        self.kill_node(key).await?;
        let workers = self.workers.get(key).into_iter().flatten();
        let pinned = workers
            .take(count)
            .map(|w| (w.config.name.clone(), w.config.listen.clone()));
        let pinned = pinned.collect();
        if let Some(role) = self.nodes.get_mut(key) {
            role.config.workers.at = pinned;
        }
        self.start_node(key).await
    }

    /// Starts a node that was killed, at the address it had.
    pub async fn start_node(&mut self, key: &NodeKey) -> Result<()> {
        let config = self.node(key)?.config.clone();
        let running = guildhall_node::start(config, self.clock.clone()).await?;
        if let Some(role) = self.nodes.get_mut(key) {
            role.running = Some(running);
        }
        Ok(())
    }

    /// Cuts an authority's connections and ends it, as a crash would.
    pub async fn kill_authority(&mut self, council: &CouncilName) -> Result<()> {
        let role = self
            .authorities
            .get_mut(council)
            .with_context(|| format!("no council `{council}`"))?;
        if let Some(running) = role.running.take() {
            running.kill().await;
        }
        Ok(())
    }

    /// Starts an authority that was killed, at the address it had.
    pub async fn start_authority(&mut self, council: &CouncilName) -> Result<()> {
        let role = self
            .authorities
            .get_mut(council)
            .with_context(|| format!("no council `{council}`"))?;
        role.running =
            Some(guildhall_authority::serve::start(role.config.clone(), self.clock.clone()).await?);
        Ok(())
    }

    /// Cuts the clean room's connections and ends it, as a crash would.
    pub async fn kill_clean_room(&mut self) {
        if let Some(running) = self.clean_room.running.take() {
            running.kill().await;
        }
    }

    /// Starts the clean room that was killed, at the address it had.
    pub async fn start_clean_room(&mut self) -> Result<()> {
        let config = self.clean_room.config.clone();
        let running = guildhall_clean_room::start(config, self.clock.clone()).await?;
        self.clean_room.running = Some(running);
        Ok(())
    }

    /// Cuts the gateway's connections and starts it anew, at the address it had.
    pub async fn restart_gateway(&mut self) -> Result<()> {
        if let Some(running) = self.gateway.running.take() {
            running.kill().await;
        }
        self.gateway.running =
            Some(guildhall_gateway::start(self.gateway.config.clone(), self.clock.clone()).await?);
        Ok(())
    }

    /// Ends every role: the gateway first, so that no question is cut off at a node.
    pub async fn stop(self) {
        if let Some(gateway) = self.gateway.running {
            gateway.stop().await;
        }
        if let Some(clean_room) = self.clean_room.running {
            clean_room.stop().await;
        }
        for node in self.nodes.into_values().filter_map(|n| n.running) {
            node.stop().await;
        }
        let workers = self.workers.into_values().flatten();
        for worker in workers.filter_map(|w| w.running) {
            worker.stop().await;
        }
        for authority in self.authorities.into_values().filter_map(|a| a.running) {
            authority.stop().await;
        }
    }
}
