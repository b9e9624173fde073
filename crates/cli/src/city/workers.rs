//! The workers of a department, where a city is asked to have some.

use super::department::{invite, is_enrolled};
use super::{HeldPort, Role};
use anyhow::{Context as _, Result};
use guildhall_model::SharedClock;
use guildhall_node::NodeConfig;
use guildhall_workers::{AuthorityAddress, Limits, Running, WorkerConfig};
use std::path::Path;

/// One worker of a department.
pub(super) type Worker = Role<WorkerConfig, Running>;

/// Enrols and starts `w1`, `w2` and so on, so many of them, and pins them in the node's configuration. They read the
/// node's own folder of datasets.
pub(super) async fn add(
    node: &mut NodeConfig,
    count: usize,
    authority: &Path,
    clock: &SharedClock,
    held: &mut Vec<HeldPort>,
) -> Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for number in 1..=count {
        let port = HeldPort::new().context("cannot hold a port of the loopback address")?;
        let name = format!("w{number}");
        let config = config(node, &name, port.address()?.to_string())?;
        held.push(port);
        node.workers
            .at
            .insert(config.name.clone(), config.listen.clone());
        if !is_enrolled(&config.identity, clock) {
            let code = invite(authority, &config.peer(), clock)?;
            let at = &config.authority.address;
            guildhall_client::enrol(&code, at, &[], &config.identity, clock.clone())
                .await
                .with_context(|| format!("cannot enrol worker `{name}`"))?;
        }
        let running = guildhall_workers::start(config.clone(), clock.clone())
            .await
            .with_context(|| format!("cannot start worker `{name}`"))?;
        workers.push(Role {
            config,
            running: Some(running),
        });
    }
    Ok(workers)
}

fn config(node: &NodeConfig, name: &str, listen: String) -> Result<WorkerConfig> {
    Ok(WorkerConfig {
        council: node.council.clone(),
        department: node.department.clone(),
        name: name.parse()?,
        listen,
        data: node.data.clone(),
        identity: node.data.join("workers").join(name),
        host_names: Vec::new(),
        authority: AuthorityAddress {
            address: node.authority.address.clone(),
        },
        limits: Limits {
            memory_mib: node.limits.memory_mib,
            ..Limits::default()
        },
    })
}
