//! What disclosure control costs: the same questions to a private product and to the same view declared open.
//!
//! A private cell needs its distinct units, the sum of their record keys and their largest contributions, in
//! every table of the lattice that it lies in. A node works these out when it starts and when data change, so what is shown
//! is the first time that a question is asked of a node that has, the first time of one that has not, and the same again. In
//! every round the node is started anew.

use crate::figures::{geometric_mean, median, mixed, peak_memory_mib, ratio};
use crate::protection::{ask, millis};
use crate::{city, tpch};
use anyhow::{Context as _, Result, ensure};
use arrow::array::{
    ArrayRef, Date32Array, Int64Array, RecordBatch, RecordBatchIterator, StringArray,
};
use clap::Args;
use guildhall_cli::city::{City, Prepared};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `guildhall-bench release`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// Rows of the product; a tenth as many units
    #[arg(long, default_value_t = 10_000_000)]
    rows: u32,
    /// Timed runs of each question on each side, the node started anew for each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where generated and encrypted tables are kept for the next run
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    data: PathBuf,
}

/// Questions of the cube, `@` for the product.
const QUESTIONS: [&str; 8] = [
    "SELECT count(DISTINCT person) FROM @",
    "SELECT ward, count(*) FROM @ GROUP BY ward",
    "SELECT ward, count(DISTINCT person) FROM @ GROUP BY ward",
    "SELECT ward, band, sum(amount), avg(amount) FROM @ GROUP BY ward, band",
    "SELECT date_trunc('month', day), count(*), count(DISTINCT person) FROM @ GROUP BY 1",
    "SELECT band, sum(amount) FROM @ WHERE ward = 'W07' GROUP BY band",
    "SELECT ward, date_trunc('month', day), sum(amount) FROM @ GROUP BY 1, 2",
    "SELECT count(*), avg(amount) FROM @ WHERE band IN ('A', 'B')",
];

/// What one question took, on every side.
#[derive(Debug, Default)]
struct Times {
    open: Vec<Duration>,
    prepared: Vec<Duration>,
    unprepared: Vec<Duration>,
    again: Vec<Duration>,
}

pub(crate) async fn run(args: ReleaseArgs) -> Result<()> {
    let folder = args.data.join(format!("release-{}", args.rows));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("visits.parquet");
    if !file.exists() {
        eprintln!("  generating visits");
        generate(&file, args.rows)?;
    }
    let described = folder.join("city");
    let unprepared: Vec<String> = (0..QUESTIONS.len())
        .map(|at| format!("visits_{at}"))
        .collect();
    describe(&described, &file, &unprepared)?;
    let mut times: Vec<Times> = QUESTIONS.iter().map(|_| Times::default()).collect();
    let mut preparations = Vec::new();
    for round in 0..args.rounds {
        eprintln!("  round {}", round + 1);
        let running = city::start_described(&described, &folder, &unprepared).await?;
        preparations.push(prepared(&running).await?);
        ask_all(&running, &unprepared, &mut times).await?;
        running.stop().await;
    }
    print(&args, &mut times, preparations)
}

/// Waits until the node has prepared what it prepares.
async fn prepared(running: &City) -> Result<Prepared> {
    let key = running
        .departments()
        .next()
        .context("the city has no node")?;
    let mut told = running.preparation(key)?;
    let told = told.wait_for(|p| p.rounds > 0).await?;
    let visits = told.products.get(&"visits".parse()?);
    visits.cloned().context("nothing was prepared")
}

/// Asks every question of a node that has just started: each of the prepared product, of one of its own that is not, and
/// of the open one.
async fn ask_all(running: &City, unprepared: &[String], times: &mut [Times]) -> Result<()> {
    let mut connection = city::connect(running).await?;
    ask(
        &mut connection,
        "SELECT count(*) FROM release.records.visits_open",
    )
    .await?;
    for ((question, unprepared), times) in QUESTIONS.iter().zip(unprepared).zip(times) {
        let of = |product: &str| question.replace('@', &format!("release.records.{product}"));
        let (open, private) = (of("visits_open"), of("visits"));
        times.open.push(ask(&mut connection, &open).await?.0);
        let (first, cells) = ask(&mut connection, &private).await?;
        ensure!(
            cells.iter().map(RecordBatch::num_rows).sum::<usize>() > 0,
            "nothing was released for: {question}"
        );
        times.prepared.push(first);
        times.open.push(ask(&mut connection, &open).await?.0);
        times
            .unprepared
            .push(ask(&mut connection, &of(unprepared)).await?.0);
        times.open.push(ask(&mut connection, &open).await?.0);
        times.again.push(ask(&mut connection, &private).await?.0);
    }
    Ok(())
}

fn print(args: &ReleaseArgs, times: &mut [Times], preparations: Vec<Prepared>) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    println!(
        "\n{} rows, {} rounds, {cores} cores\n",
        args.rows, args.rounds
    );
    println!(
        "| question | open ms | prepared, first, ms | ratio | unprepared, first, ms | ratio | again, ms | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut ratios: [Vec<f64>; 3] = Default::default();
    for (question, times) in QUESTIONS.iter().zip(times) {
        let open = median(&mut times.open);
        print!(
            "| `{}` | {:.0} |",
            question.replace('@', "visits"),
            millis(open)
        );
        let sides = [&mut times.prepared, &mut times.unprepared, &mut times.again];
        for (side, ratios) in sides.into_iter().zip(&mut ratios) {
            let (took, times) = (median(side), ratio(median(side), open));
            ratios.push(times);
            print!(" {:.0} | {times:.2} |", millis(took));
        }
        println!();
    }
    let [prepared, unprepared, again] = ratios.map(|r| geometric_mean(&r));
    println!("| geomean | | | {prepared:.2} | | {unprepared:.2} | | {again:.2} |\n");
    let mut took: Vec<Duration> = preparations.iter().map(|p| p.took).collect();
    if let Some(last) = preparations.last() {
        let mib = |bytes: usize| bytes >> 20;
        println!(
            "preparing took {:.1} s: {} tables, {} cells in the largest, {} MiB kept, at most {} MiB to gather, rows read {} times",
            median(&mut took).as_secs_f64(),
            last.tables,
            last.cells,
            mib(last.kept_bytes),
            mib(last.gathered_bytes),
            last.passes
        );
    }
    if let Some(mib) = peak_memory_mib() {
        println!("peak memory of the process, all roles: {mib} MiB");
    }
    Ok(())
}

/// Visits of persons, a tenth as many as rows, some of whom come often: spread by multiplication, the same every time.
fn generate(file: &Path, rows: u32) -> Result<()> {
    const BATCH: u32 = 100_000;
    let persons = u64::from(rows / 10).max(1);
    let batch = move |from: u32| {
        let range = from..(from + BATCH).min(rows);
        let text = |of: &dyn Fn(u32) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(range.clone().map(of)))
        };
        let person = |n| mixed(n, 1) % persons * (mixed(n, 2) % persons) / persons;
        let day = |n| 20_000 + i32::try_from(mixed(n, 5) % 365).unwrap_or(0);
        let amount = |n| i64::try_from(50 + mixed(n, 6) % 2_000).unwrap_or(0);
        let band = |n| char::from(b'A' + u8::try_from(mixed(n, 4) % 8).unwrap_or(0));
        RecordBatch::try_from_iter([
            ("person", text(&|n| format!("P{:08}", person(n)))),
            ("ward", text(&|n| format!("W{:02}", mixed(n, 3) % 32))),
            ("band", text(&|n| band(n).to_string())),
            (
                "day",
                Arc::new(Date32Array::from_iter_values(range.clone().map(day))),
            ),
            (
                "amount",
                Arc::new(Int64Array::from_iter_values(range.clone().map(amount))),
            ),
        ])
    };
    let starts = (0..rows).step_by(usize::try_from(BATCH)?);
    let schema = batch(0)?.schema();
    let mut batches = RecordBatchIterator::new(starts.map(batch), schema);
    tpch::write(file, &mut batches)
}

fn describe(described: &Path, file: &Path, unprepared: &[String]) -> Result<()> {
    let home = described.join("release").join("records");
    std::fs::create_dir_all(home.join("imports"))?;
    std::fs::create_dir_all(home.join("products"))?;
    std::fs::write(
        described.join("city.toml"),
        "open_product = \"release.records.visits_open\"\n\n[[council]]\nname = \"release\"\npurposes = [\"benchmark\"]\n\n\
         [[council.department]]\nname = \"records\"\n\n\
         [[account]]\nname = \"bench\"\ncouncil = \"release\"\nroles = [\"analyst\"]\npurposes = [\"benchmark\"]\n",
    )?;
    let types = [
        ("person", "text"),
        ("ward", "text"),
        ("band", "text"),
        ("day", "date"),
        ("amount", "integer"),
    ];
    let columns: String = types
        .iter()
        .map(|(name, kind)| {
            format!("\n[[column]]\nname = \"{name}\"\ntype = \"{kind}\"\nrequired = true\n")
        })
        .collect();
    let source = file.canonicalize()?.display().to_string();
    let import = format!("dataset = \"visits\"\nsource = {source:?}\n{columns}");
    std::fs::write(home.join("imports").join("visits.toml"), import)?;
    let view = "view = \"SELECT person, ward, band, day, amount FROM visits\"\npurposes = [\"benchmark\"]\nversion = 1\n";
    let open: String = types
        .iter()
        .map(|(name, _)| format!("[columns.{name}]\nclass = \"open\"\n"))
        .collect();
    std::fs::write(
        home.join("products").join("visits_open.toml"),
        format!("name = \"visits_open\"\nclass = \"open\"\n{view}{open}"),
    )?;
    let private = |name: &str| {
        format!(
            "name = \"{name}\"\nclass = \"aggregate\"\nunit = \"person\"\nminimum_group = 10\nmax_rows_per_unit = 500\n{view}{}",
            r#"
[columns]
person = { class = "identifier" }
ward = { class = "quasi" }
band = { class = "quasi" }
day = { class = "quasi" }
amount = { class = "measure" }

[[dimension]]
column = "ward"

[[dimension]]
column = "band"
roll_ups = [{ name = "low", values = ["A", "B"] }]

[[dimension]]
column = "day"
roll_ups = [{ name = "month", date_trunc = "month" }]

[[measure]]
column = "amount"
lower = 0
upper = 100000
"#
        )
    };
    for name in unprepared.iter().map(String::as_str).chain(["visits"]) {
        let file = home.join("products").join(format!("{name}.toml"));
        std::fs::write(file, private(name))?;
    }
    Ok(())
}
