//! `guildhall analyst`.

use super::{clock, read_code};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use guildhall_client::EnrolmentClient;
use std::path::PathBuf;

/// What an analyst does once.
#[derive(Debug, Subcommand)]
pub enum AnalystCommand {
    /// Make a key and have it certified, to sign in with instead of a password
    Enrol {
        /// The authority, HOST:PORT
        #[arg(long)]
        authority: String,
        /// File with the enrolment code; `-` reads standard input
        #[arg(long, default_value = "-")]
        code: PathBuf,
        /// Where chain.pem and key.pem go
        #[arg(long)]
        out: PathBuf,
    },
}

/// Carries out one command.
pub async fn run(command: AnalystCommand) -> Result<()> {
    let AnalystCommand::Enrol {
        authority,
        code,
        out,
    } = command;
    let desk = EnrolmentClient::new(&authority, &read_code(&code)?, clock())?;
    let enrolled = desk.enrol(&[], &[]).await?;
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make `{}`", out.display()))?;
    enrolled.identity.save(&out)?;
    println!("enrolled as {}", enrolled.identity.peer());
    Ok(())
}
