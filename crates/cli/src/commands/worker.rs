//! `guildhall worker`.

use super::{asked_to_end, clock, read_code};
use anyhow::{Result, bail};
use clap::Subcommand;
use guildhall_workers::WorkerConfig;
use std::path::PathBuf;

/// What can be done with a worker.
#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// Make this worker's key and have it certified by its council's authority
    Enrol {
        /// worker.toml
        #[arg(long, short)]
        config: PathBuf,
        /// File with the enrolment code; `-` reads standard input
        #[arg(long, default_value = "-")]
        code: PathBuf,
    },
    /// Run the worker
    Serve {
        /// worker.toml
        #[arg(long, short)]
        config: PathBuf,
    },
}

/// Carries out one command.
pub async fn run(command: WorkerCommand) -> Result<()> {
    match command {
        WorkerCommand::Enrol { config, code } => {
            let config = WorkerConfig::load(&config)?;
            let code = read_code(&code)?;
            let (authority, names) = (&config.authority.address, &config.host_names);
            let peer =
                guildhall_client::enrol(&code, authority, names, &config.identity, clock()).await?;
            if peer != config.peer() {
                bail!(
                    "the code is for {peer}, but worker.toml is that of {}",
                    config.peer()
                );
            }
            println!("enrolled as {peer}");
        }
        WorkerCommand::Serve { config } => {
            let config = WorkerConfig::load(&config)?;
            let running = guildhall_workers::start(config, clock()).await?;
            eprintln!("the worker answers on {}", running.address());
            asked_to_end().await?;
            running.stop().await;
        }
    }
    Ok(())
}
