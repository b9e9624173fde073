//! What protection costs: TPC-H, a point lookup, a stream.

use crate::city::{self, FOUR_NODES, Layout, ONE_NODE};
use crate::figures::{geometric_mean, median, peak_memory_mib, percentile, ratio};
use crate::{bare, tpch, tpch_queries};
use anyhow::{Context as _, Result, ensure};
use arrow::array::RecordBatch;
use clap::Args;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::{StreamExt as _, TryStreamExt as _};
use guildhall_cli::sql::Connection;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Arguments of `guildhall-bench protection`.
#[derive(Debug, Args)]
pub(crate) struct ProtectionArgs {
    /// TPC-H scale factor
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Timed runs of each query on each side, after one to warm up
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Point lookups on each side
    #[arg(long, default_value_t = 200)]
    lookups: usize,
    /// Where generated and encrypted tables are kept for the next run
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    data: PathBuf,
    /// Only these queries
    #[arg(long, value_delimiter = ',')]
    queries: Vec<usize>,
    /// Write the table as CSV too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// One side of the comparison.
struct Side {
    name: &'static str,
    layout: Layout,
    connection: Connection,
}

pub(crate) async fn run(args: ProtectionArgs) -> Result<()> {
    let folder = args.data.join(format!("tpch-sf{}", args.scale));
    let files = folder.join("plain");
    tpch::generate(&files, args.scale)?;
    let one = city::start(&folder.join("one"), &files, ONE_NODE).await?;
    let four = city::start(&folder.join("four"), &files, FOUR_NODES).await?;
    let plain = plain_context(&files).await?;
    let mut sides = [
        Side {
            name: "one node",
            layout: ONE_NODE,
            connection: city::connect(&one).await?,
        },
        Side {
            name: "four nodes",
            layout: FOUR_NODES,
            connection: city::connect(&four).await?,
        },
    ];
    println!(
        "\nTPC-H SF{}, {} rounds, {} cores; every role with TLS, grants, lent keys, encrypted Parquet\n",
        args.scale,
        args.rounds,
        std::thread::available_parallelism()?
    );
    queries(&args, &plain, &mut sides).await?;
    lookup(&args, &plain, &mut sides[0]).await?;
    let address = bare::serve(plain.clone(), &one).await?;
    stream(&args, bare::connect(address, &one).await?, &mut sides[0]).await?;
    if let Some(mib) = peak_memory_mib() {
        println!(
            "peak memory of the process, all roles, both cities and plain DataFusion: {mib} MiB"
        );
    }
    one.stop().await;
    four.stop().await;
    Ok(())
}

async fn plain_context(files: &Path) -> Result<SessionContext> {
    let context = SessionContext::new_with_config(SessionConfig::new());
    for table in tpch::TABLES {
        let file = tpch::file(files, table);
        context
            .register_parquet(
                table,
                file.display().to_string(),
                ParquetReadOptions::default(),
            )
            .await?;
    }
    Ok(context)
}

pub(crate) async fn ask(
    connection: &mut Connection,
    statement: &str,
) -> Result<(Duration, Vec<RecordBatch>)> {
    let started = Instant::now();
    let batches = connection.query(statement).await?.try_collect().await?;
    Ok((started.elapsed(), batches))
}

async fn ask_plain(
    context: &SessionContext,
    statement: &str,
) -> Result<(Duration, Vec<RecordBatch>)> {
    let started = Instant::now();
    let batches = context.sql(statement).await?.collect().await?;
    Ok((started.elapsed(), batches))
}

async fn queries(args: &ProtectionArgs, plain: &SessionContext, sides: &mut [Side]) -> Result<()> {
    let mut csv =
        String::from("query,plain_ms,one_node_ms,one_node_ratio,four_nodes_ms,four_nodes_ratio\n");
    println!("| query | plain ms | one node ms | ratio | four nodes ms | ratio |");
    println!("|---|---|---|---|---|---|");
    let mut ratios = vec![Vec::new(); sides.len()];
    for number in (1..=22).filter(|n| args.queries.is_empty() || args.queries.contains(n)) {
        let statement = tpch_queries::query(number, str::to_owned);
        let expected = tpch::canonical(&ask_plain(plain, &statement).await?.1)?;
        let statements: Vec<String> = sides
            .iter()
            .map(|s| tpch_queries::query(number, |t| city::product(s.layout, t)))
            .collect();
        for (side, statement) in sides.iter_mut().zip(&statements) {
            let (_, batches) = ask(&mut side.connection, statement)
                .await
                .with_context(|| format!("query {number} on {}", side.name))?;
            ensure!(
                tpch::canonical(&batches)? == expected,
                "query {number} on {} differs from plain DataFusion",
                side.name
            );
        }
        let mut base = Vec::new();
        let mut times = vec![Vec::new(); sides.len()];
        for _ in 0..args.rounds {
            base.push(ask_plain(plain, &statement).await?.0);
            for ((side, statement), times) in sides.iter_mut().zip(&statements).zip(&mut times) {
                times.push(ask(&mut side.connection, statement).await?.0);
            }
        }
        let base = median(&mut base);
        let mut row = format!("| Q{number} | {:.0} |", millis(base));
        let mut line = format!("Q{number},{:.1}", millis(base));
        for (times, ratios) in times.iter_mut().zip(&mut ratios) {
            let time = median(times);
            ratios.push(ratio(time, base));
            row.push_str(&format!(
                " {:.0} | {:.2} |",
                millis(time),
                ratio(time, base)
            ));
            line.push_str(&format!(",{:.1},{:.3}", millis(time), ratio(time, base)));
        }
        println!("{row}");
        csv.push_str(&format!("{line}\n"));
    }
    println!(
        "| geomean | | | {:.2} | | {:.2} |\n",
        geometric_mean(&ratios[0]),
        geometric_mean(&ratios[1])
    );
    if let Some(file) = &args.csv {
        std::fs::write(file, csv).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    Ok(())
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

async fn lookup(args: &ProtectionArgs, plain: &SessionContext, side: &mut Side) -> Result<()> {
    let statement = |table: &str, key: usize| {
        format!("SELECT o_orderdate, o_totalprice FROM {table} WHERE o_orderkey = {key}")
    };
    let product = city::product(side.layout, "orders");
    let (mut base, mut ours) = (Vec::new(), Vec::new());
    for n in 0..=args.lookups {
        // Keys 1 to 7 of every 32 exist.
        let key = n * 32 + 1 + n % 7;
        let (plain_time, expected) = ask_plain(plain, &statement("orders", key)).await?;
        let (time, found) = ask(&mut side.connection, &statement(&product, key)).await?;
        ensure!(
            tpch::canonical(&found)? == tpch::canonical(&expected)?,
            "lookup {key} differs"
        );
        if n > 0 {
            base.push(plain_time);
            ours.push(time);
        }
    }
    println!("| point lookup | plain ms | one node ms | added ms |");
    println!("|---|---|---|---|");
    for percent in [50, 99] {
        let (base, ours) = (
            percentile(&mut base, percent),
            percentile(&mut ours, percent),
        );
        println!(
            "| p{percent} | {:.1} | {:.1} | {:.1} |",
            millis(base),
            millis(ours),
            millis(ours) - millis(base)
        );
    }
    println!();
    Ok(())
}

/// Bytes of Arrow data a second, of one stream that the client reads as fast as it can.
async fn stream(
    args: &ProtectionArgs,
    mut bare: arrow_flight::flight_service_client::FlightServiceClient<tonic::transport::Channel>,
    side: &mut Side,
) -> Result<()> {
    let statement = |table: &str| {
        format!(
            "SELECT l_orderkey, l_partkey, l_suppkey, l_linenumber, l_quantity, l_extendedprice, l_discount, \
             l_tax, l_shipdate, l_returnflag FROM {table}"
        )
    };
    let product = city::product(side.layout, "lineitem");
    let (mut plain_rates, mut our_rates) = (Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let started = Instant::now();
        let mut batches = bare::query(&mut bare, &statement("lineitem")).await?;
        let mut bytes = 0;
        while let Some(batch) = batches.next().await {
            bytes += bytes_of(&batch?)?;
        }
        let plain = (bytes, started.elapsed());
        let started = Instant::now();
        let mut batches = side.connection.query(&statement(&product)).await?;
        let mut bytes = 0;
        while let Some(batch) = batches.next().await {
            bytes += bytes_of(&batch?)?;
        }
        if round > 0 {
            plain_rates.push(rate(plain.0, plain.1));
            our_rates.push(rate(bytes, started.elapsed()));
        }
    }
    let (plain, ours) = (middle(&mut plain_rates), middle(&mut our_rates));
    println!("| stream of lineitem, ten columns | MB/s |");
    println!("|---|---|");
    println!("| bare Arrow Flight over TLS, plain Parquet | {plain:.0} |");
    println!("| Guildhall, one node | {ours:.0} |");
    println!("| ratio | {:.2} |\n", ours / plain);
    Ok(())
}

/// Bytes of the values in a batch. The columns of a message share one buffer, so what the arrays
/// hold on to would count it once a column.
fn bytes_of(batch: &RecordBatch) -> Result<usize> {
    let mut bytes = 0;
    for column in batch.columns() {
        bytes += column.to_data().get_slice_memory_size()?;
    }
    Ok(bytes)
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

fn middle(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
