//! What workers bring: TPC-H on a node alone and on a node with workers, all encrypted.

use crate::city::{self, ONE_NODE};
use crate::figures::{geometric_mean, median, peak_memory_mib, ratio};
use crate::protection::{ask, millis};
use crate::{tpch, tpch_queries};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use guildhall_cli::city::{City, NodeKey};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `guildhall-bench distributed`.
#[derive(Debug, Args)]
pub(crate) struct DistributedArgs {
    /// TPC-H scale factor
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Timed runs of each query with each number of workers, after one to warm up
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of workers to compare with the node alone
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    workers: Vec<usize>,
    /// Where generated and encrypted tables are kept for the next run
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    data: PathBuf,
    /// Only these queries
    #[arg(long, value_delimiter = ',')]
    queries: Vec<usize>,
    /// Write every query's medians as CSV too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// Times by query and number of workers.
type Times = BTreeMap<(usize, usize), Vec<Duration>>;

pub(crate) async fn run(args: DistributedArgs) -> Result<()> {
    let folder = args.data.join(format!("tpch-sf{}", args.scale));
    let files = folder.join("plain");
    tpch::generate(&files, args.scale)?;
    let most = args.workers.iter().copied().max().unwrap_or(0);
    let mut city =
        city::start_with_workers(&folder.join("distributed"), &files, ONE_NODE, most).await?;
    let node = city.departments().next().cloned();
    let node = node.context("the city has a node")?;
    println!(
        "\nTPC-H SF{}, {} rounds, {} cores for all workers together; encrypted Parquet, every connection TLS\n",
        args.scale,
        args.rounds,
        std::thread::available_parallelism()?
    );
    let mut sides = vec![0];
    sides.extend(args.workers.iter().copied().filter(|n| *n > 0));
    let times = times(&args, &mut city, &node, &sides).await?;
    print(&args, &sides, times)?;
    if let Some(mib) = peak_memory_mib() {
        println!("peak memory of the process, all roles and workers: {mib} MiB");
    }
    city.stop().await;
    Ok(())
}

/// Goes round all sides, so that a change of the machine's mood meets them alike. The first round warms up, and its
/// answers are compared: a difference ends the run.
async fn times(
    args: &DistributedArgs,
    city: &mut City,
    node: &NodeKey,
    sides: &[usize],
) -> Result<Times> {
    let mut times = Times::new();
    let mut expected = BTreeMap::new();
    for round in 0..=args.rounds {
        for workers in sides {
            city.pin_workers(node, *workers).await?;
            let mut connection = city::connect(city).await?;
            for number in (1..=22).filter(|n| args.queries.is_empty() || args.queries.contains(n)) {
                let statement = tpch_queries::query(number, |t| city::product(ONE_NODE, t));
                let asked = ask(&mut connection, &statement).await;
                let (time, batches) =
                    asked.with_context(|| format!("query {number} with {workers} workers"))?;
                if round > 0 {
                    times.entry((number, *workers)).or_default().push(time);
                    continue;
                }
                let rows = tpch::canonical(&batches)?;
                let same = expected.entry(number).or_insert_with(|| rows.clone());
                ensure!(
                    *same == rows,
                    "query {number} with {workers} workers differs from the node alone"
                );
            }
        }
    }
    Ok(times)
}

fn print(args: &DistributedArgs, sides: &[usize], mut times: Times) -> Result<()> {
    let name = |workers: &usize| match workers {
        0 => "node alone ms".to_owned(),
        1 => "1 worker ms | ratio".to_owned(),
        n => format!("{n} workers ms | ratio"),
    };
    let heads: Vec<String> = sides.iter().map(name).collect();
    println!("| query | {} |", heads.join(" | "));
    println!("|{}", "---|".repeat(2 * sides.len()));
    let mut csv = String::from("query,workers,median_ms,ratio\n");
    let mut ratios: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let numbers: Vec<usize> = times
        .keys()
        .filter(|(_, w)| *w == 0)
        .map(|(n, _)| *n)
        .collect();
    for number in numbers {
        let mut row = format!("| Q{number} |");
        let mut base = Duration::ZERO;
        for workers in sides {
            let time = times.get_mut(&(number, *workers)).map(|t| median(t));
            let time = time.unwrap_or_default();
            if *workers == 0 {
                base = time;
                row.push_str(&format!(" {:.0} |", millis(time)));
            } else {
                row.push_str(&format!(
                    " {:.0} | {:.2} |",
                    millis(time),
                    ratio(time, base)
                ));
                ratios.entry(*workers).or_default().push(ratio(time, base));
            }
            csv.push_str(&format!(
                "Q{number},{workers},{:.1},{:.3}\n",
                millis(time),
                ratio(time, base)
            ));
        }
        println!("{row}");
    }
    let means = ratios
        .values()
        .map(|r| format!(" | {:.2} |", geometric_mean(r)));
    println!("| geomean | |{}\n", means.collect::<String>());
    if let Some(file) = &args.csv {
        std::fs::write(file, csv).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    Ok(())
}
