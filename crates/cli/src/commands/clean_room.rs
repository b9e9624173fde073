//! `guildhall clean-room`.

use super::{asked_to_end, clock, read_code};
use anyhow::Result;
use clap::Subcommand;
use guildhall_clean_room::CleanRoomConfig;
use std::path::PathBuf;

/// What can be done with a clean room.
#[derive(Debug, Subcommand)]
pub enum CleanRoomCommand {
    /// Make this clean room's key and have it certified by its council's authority
    Enrol {
        /// clean-room.toml
        #[arg(long, short)]
        config: PathBuf,
        /// File with the enrolment code; `-` reads standard input
        #[arg(long, default_value = "-")]
        code: PathBuf,
    },
    /// Run the clean room
    Serve {
        /// clean-room.toml
        #[arg(long, short)]
        config: PathBuf,
    },
}

/// Carries out one command.
pub async fn run(command: CleanRoomCommand) -> Result<()> {
    match command {
        CleanRoomCommand::Enrol { config, code } => {
            let config = CleanRoomConfig::load(&config)?;
            let code = read_code(&code)?;
            let (authority, names) = (&config.authority.address, &config.host_names);
            let peer =
                guildhall_client::enrol(&code, authority, names, &config.identity, clock()).await?;
            println!("enrolled as {peer}");
        }
        CleanRoomCommand::Serve { config } => {
            let config = CleanRoomConfig::load(&config)?;
            let running = guildhall_clean_room::start(config, clock()).await?;
            eprintln!("the clean room answers on {}", running.address());
            asked_to_end().await?;
            running.stop().await;
        }
    }
    Ok(())
}
