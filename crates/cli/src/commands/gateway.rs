//! `guildhall gateway`.

use super::{asked_to_end, clock, read_code};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use guildhall_gateway::GatewayConfig;
use std::path::PathBuf;

/// What can be done with a gateway.
#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Make this gateway's key and have it certified by its council's authority
    Enrol {
        /// gateway.toml
        #[arg(long, short)]
        config: PathBuf,
        /// File with the enrolment code; `-` reads standard input
        #[arg(long, default_value = "-")]
        code: PathBuf,
    },
    /// Run the gateway
    Serve {
        /// gateway.toml
        #[arg(long, short)]
        config: PathBuf,
    },
}

/// Carries out one command.
pub async fn run(command: GatewayCommand) -> Result<()> {
    match command {
        GatewayCommand::Enrol { config, code } => {
            let config = GatewayConfig::load(&config)?;
            let code = read_code(&code)?;
            let home = config
                .councils
                .iter()
                .find(|c| c.name == code.council)
                .with_context(|| {
                    format!(
                        "no [[council]] describes `{}`, which gave the code",
                        code.council
                    )
                })?;
            let peer = guildhall_client::enrol(
                &code,
                &home.authority,
                &config.host_names,
                &config.identity,
                clock(),
            )
            .await?;
            println!("enrolled as {peer}");
        }
        GatewayCommand::Serve { config } => {
            let running = guildhall_gateway::start(GatewayConfig::load(&config)?, clock()).await?;
            eprintln!("the gateway answers on {}", running.address());
            asked_to_end().await?;
            running.stop().await;
        }
    }
    Ok(())
}
