//! `guildhall`.

use clap::{CommandFactory as _, Parser, Subcommand};
use guildhall_cli::commands::{analyst, authority, clean_room, gateway, node, product, worker};
use guildhall_cli::{demo, sql};
use std::process::ExitCode;

/// Answers over a council's departments without pooling their data.
#[derive(Debug, Parser)]
#[command(name = "guildhall", version, arg_required_else_help = true)]
struct Cli {
    /// What is logged to standard error: error, warn, info, debug, or directives as in RUST_LOG
    #[arg(long, global = true, env = "GUILDHALL_LOG", default_value = "warn")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole city in one process: authorities, nodes, a gateway, on loopback
    Demo(demo::DemoArgs),
    /// The council's authority: decides, holds keys, keeps the log
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// A department's node: holds tables, releases answers
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// A department's worker: shares its node's work
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// Product files before they are published: what to mend, and what they would release
    #[command(subcommand)]
    Product(product::ProductCommand),
    /// The gateway: the Flight SQL door for analysts
    #[command(subcommand)]
    Gateway(gateway::GatewayCommand),
    /// The clean room: puts together cells that have parts at several owners
    #[command(subcommand)]
    CleanRoom(clean_room::CleanRoomCommand),
    /// An analyst's client certificate
    #[command(subcommand)]
    Analyst(analyst::AnalystCommand),
    /// Ask a gateway, in a shell or once
    Sql(sql::SqlArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    guildhall_telemetry::init(&cli.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli.command));
    // A prompt that nobody answers must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Authority(command) => authority::run(command).await,
        Command::Node(command) => node::run(command).await,
        Command::Worker(command) => worker::run(command).await,
        Command::Product(command) => product::run(command).await,
        Command::Gateway(command) => gateway::run(command).await,
        Command::CleanRoom(command) => clean_room::run(command).await,
        Command::Analyst(command) => analyst::run(command).await,
        Command::Sql(args) => sql::run(args).await,
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "guildhall",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
