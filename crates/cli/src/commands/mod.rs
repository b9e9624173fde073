//! The subcommands that run and administer one role.

pub mod analyst;
pub mod authority;
pub mod clean_room;
pub mod gateway;
pub mod node;
pub mod product;
pub mod worker;

use anyhow::{Context as _, Result};
use guildhall_identity::EnrolmentCode;
use guildhall_model::{SharedClock, SystemClock};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

/// A one-time code from a file, or from standard input if the file is `-`: a code on the command
/// line would be seen by everyone on the machine.
fn read_code(file: &Path) -> Result<EnrolmentCode> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
    } else {
        text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read `{}`", file.display()))?;
    }
    Ok(text.parse()?)
}

/// The error with a last line that says what to do about it.
fn with_help<H: std::fmt::Display>(error: anyhow::Error, help: Option<H>) -> anyhow::Error {
    match help {
        Some(help) => anyhow::anyhow!("{error:#}\nhelp: {help}"),
        None => error,
    }
}

/// Resolves when the process is asked to end, by ctrl-C or by its service manager.
pub(crate) async fn asked_to_end() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.context("cannot wait for signals"),
        _ = terminate.recv() => Ok(()),
    }
}
