//! `guildhall node`.

use super::{asked_to_end, clock, read_code, with_help};
use anyhow::Result;
use clap::Subcommand;
use guildhall_model::DatasetName;
use guildhall_node::{ImportSpec, Mode, Node, NodeConfig, Phase, Progress};
use guildhall_store::InferOptions;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

/// What can be done with a node.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make this node's keys and have them certified by the authority
    Enrol {
        /// node.toml
        #[arg(long, short)]
        config: PathBuf,
        /// File with the enrolment code; `-` reads standard input
        #[arg(long, default_value = "-")]
        code: PathBuf,
    },
    /// Print an import specification for a CSV or Parquet file, to be read before it is used
    Infer {
        /// The file
        file: PathBuf,
        /// The dataset's name; the file's if not given
        #[arg(long)]
        dataset: Option<DatasetName>,
    },
    /// Encrypt CSV or Parquet files into a dataset
    Import {
        /// node.toml
        #[arg(long, short)]
        config: PathBuf,
        /// The import specification
        spec: PathBuf,
        /// Add to what is there instead of taking its place
        #[arg(long)]
        append: bool,
    },
    /// Check, sign and register product files
    Publish {
        /// node.toml
        #[arg(long, short)]
        config: PathBuf,
        /// The product files
        #[arg(required = true)]
        products: Vec<PathBuf>,
    },
    /// Run the node
    Serve {
        /// node.toml
        #[arg(long, short)]
        config: PathBuf,
    },
}

/// Carries out one command.
pub async fn run(command: NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Enrol { config, code } => {
            let config = NodeConfig::load(&config)?;
            let peer = guildhall_node::enrol(&config, &read_code(&code)?, clock()).await?;
            println!("enrolled as {peer}");
        }
        NodeCommand::Infer { file, dataset } => print!("{}", infer(&file, dataset)?),
        NodeCommand::Import {
            config,
            spec,
            append,
        } => import(&config, &spec, append).await?,
        NodeCommand::Publish { config, products } => {
            let node = Node::open(NodeConfig::load(&config)?, clock())?;
            for file in products {
                publish(&node, &file).await?;
            }
        }
        NodeCommand::Serve { config } => {
            let running = guildhall_node::start(NodeConfig::load(&config)?, clock()).await?;
            eprintln!("the node serves on {}", running.address());
            asked_to_end().await?;
            running.stop().await;
        }
    }
    Ok(())
}

fn infer(file: &Path, dataset: Option<DatasetName>) -> Result<String> {
    let options = InferOptions {
        dataset,
        ..InferOptions::default()
    };
    Ok(guildhall_store::import::infer(file, &options)?.toml)
}

async fn import(config: &Path, spec: &Path, append: bool) -> Result<()> {
    let spec = ImportSpec::load(spec)?;
    let node = Node::open(NodeConfig::load(config)?, clock())?;
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {msg} {eta}") {
        bar.set_style(style);
    }
    let mode = if append { Mode::Append } else { Mode::Replace };
    let report = node
        .import(&spec, mode, &|p: Progress| {
            bar.set_length(p.of_bytes);
            bar.set_position(p.bytes);
            bar.set_message(match p.phase {
                Phase::Reading => format!("{} rows", HumanCount(p.rows)),
                Phase::Publishing => "publishing".to_owned(),
            });
        })
        .await;
    bar.finish_and_clear();
    let report = report.map_err(|e| {
        let help = e.help();
        with_help(e.into(), help)
    })?;
    println!(
        "{}: version {}, {} rows",
        spec.dataset,
        report.version,
        HumanCount(report.rows)
    );
    if report.rejects > 0 {
        println!(
            "{} rows were rejected, see {}",
            report.rejects,
            report.reject_file.as_deref().unwrap_or("-")
        );
    }
    Ok(())
}

async fn publish(node: &Node, file: &Path) -> Result<()> {
    match node.publish(file).await {
        Ok(done) => {
            let product = done.product.product_ref();
            let said = if done.unchanged {
                "unchanged"
            } else {
                "registered"
            };
            println!("{product}: version {}, {said}", done.product.version);
            Ok(())
        }
        Err(e) => {
            let help = e.help();
            Err(with_help(e.into(), help))
        }
    }
}
