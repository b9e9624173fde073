//! Bringing one department up: enrol, import, publish, serve.

use anyhow::{Context as _, Result};
use guildhall_authority::Admin;
use guildhall_identity::Identity;
use guildhall_model::{Digest, PeerId, SharedClock};
use guildhall_node::{ImportSpec, Mode, Node, NodeConfig, Progress, RunningNode};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A certificate with less than this left is asked for anew before its role starts.
const LEAST_LEFT: Duration = Duration::from_secs(3600);

/// Called as each step of bringing a city up begins.
pub(super) type Report<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Whether the identity in `dir` is there and of use for a while.
pub(super) fn is_enrolled(dir: &Path, clock: &SharedClock) -> bool {
    Identity::load(dir).is_ok_and(|i| i.expires() > clock.now().after(LEAST_LEFT))
}

/// Enrols, imports what changed, publishes what changed, and serves.
pub(super) async fn bring_up(
    config: NodeConfig,
    authority: &Path,
    folder: &Path,
    clock: &SharedClock,
    report: Report<'_>,
) -> Result<RunningNode> {
    let peer = config.peer();
    if !is_enrolled(&config.identity_dir(), clock) {
        report(&format!("{}.{}: enrolling", peer.council, peer.department));
        let code = invite(authority, &peer, clock)?;
        guildhall_node::enrol(&config, &code, clock.clone()).await?;
    }
    let data = config.data.clone();
    let node = Node::open(config, clock.clone())?;
    for spec in toml_files(&folder.join("imports"))? {
        import(&node, &peer, &spec, &data, report)
            .await
            .with_context(|| format!("cannot import `{}`", spec.display()))?;
    }
    for product in toml_files(&folder.join("products"))? {
        publish(&node, &product)
            .await
            .with_context(|| format!("cannot publish `{}`", product.display()))?;
    }
    Ok(node.serve().await?)
}

/// An enrolment code from the authority whose folder is on this machine.
pub(super) fn invite(
    authority: &Path,
    peer: &PeerId,
    clock: &SharedClock,
) -> Result<guildhall_identity::EnrolmentCode> {
    Ok(Admin::open(authority)?.invite(peer, clock.now())?)
}

async fn import(
    node: &Node,
    peer: &PeerId,
    file: &Path,
    data: &Path,
    report: Report<'_>,
) -> Result<()> {
    let spec = ImportSpec::load(file)?;
    let stamp = data
        .join("imported")
        .join(format!("{}.sha256", spec.dataset));
    let digest = digest_of(file, &spec)?.to_string();
    if std::fs::read_to_string(&stamp).is_ok_and(|kept| kept == digest) {
        return Ok(());
    }
    let title = format!(
        "{}.{}: importing {}",
        peer.council, peer.department, spec.dataset
    );
    report(&title);
    let done = node.import(&spec, Mode::Replace, &|_: Progress| {}).await?;
    if done.rejects > 0 {
        report(&format!(
            "{title}: {} rows, {} rejected",
            done.rows, done.rejects
        ));
    }
    std::fs::create_dir_all(data.join("imported"))?;
    std::fs::write(&stamp, digest)?;
    Ok(())
}

/// Changes when the specification or a source file does.
fn digest_of(file: &Path, spec: &ImportSpec) -> Result<Digest> {
    let mut all = std::fs::read(file)?;
    for source in &spec.source {
        let bytes =
            std::fs::read(source).with_context(|| format!("cannot read `{}`", source.display()))?;
        all.extend_from_slice(Digest::of(&bytes).as_bytes());
    }
    Ok(Digest::of(&all))
}

async fn publish(node: &Node, file: &Path) -> Result<()> {
    match node.publish(file).await {
        Ok(_) => Ok(()),
        Err(e) => {
            let help = e.help();
            let error = anyhow::Error::new(e);
            Err(match help {
                Some(help) => error.context(format!("help: {help}")),
                None => error,
            })
        }
    }
}

/// The TOML files of a folder, in order of name; none if there is no such folder.
fn toml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
