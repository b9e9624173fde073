//! `guildhall-bench`: what protection costs, beside the same engine without it.
//!
//! Every comparison alternates its sides within one run, because machines are noisy; what counts
//! is the ratio of medians. See `benches/README.md` for the commands and the figures.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod bare;
mod city;
mod distributed;
mod figures;
mod linked;
mod protection;
mod release;
mod tpch;
#[expect(
    clippy::unwrap_used,
    reason = "written for tests; the numbers are 1 to 22"
)]
#[path = "../../crates/plan/src/planner/tests/tpch_queries.rs"]
mod tpch_queries;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Guildhall's benchmarks.
#[derive(Debug, Parser)]
#[command(name = "guildhall-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// TPC-H, a point lookup and a stream: all protection on, against plain DataFusion
    Protection(protection::ProtectionArgs),
    /// TPC-H on a node with workers, against the node alone
    Distributed(distributed::DistributedArgs),
    /// What it costs to link rows of two departments, against a plain hash join of them
    Linked(linked::LinkedArgs),
    /// What disclosure control costs: aggregates over a private product, against the same product declared open
    Release(release::ReleaseArgs),
}

fn main() -> Result<()> {
    guildhall_telemetry::init("warn");
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Protection(args) => protection::run(args).await,
            Command::Distributed(args) => distributed::run(args).await,
            Command::Linked(args) => linked::run(args).await,
            Command::Release(args) => release::run(args).await,
        }
    })
}
