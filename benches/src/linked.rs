//! What it costs to link: rows of two departments that meet in the clean room, against a plain hash join of the same rows.
//!
//! The plain side is DataFusion in this process on plain Parquet of the same rows: what somebody who held both tables would
//! run. The other side has every protection on: mutual TLS, grants, keys lent and files encrypted, tokens made and sorted at
//! each node, rows that meet in the clean room, and the lattices beside the answer that hold back what could be subtracted.

use crate::figures::{geometric_mean, median, mixed, peak_memory_mib, ratio};
use crate::protection::{ask, millis};
use crate::{city, tpch};
use anyhow::{Context as _, Result, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchIterator, StringArray};
use clap::Args;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Arguments of `guildhall-bench linked`.
#[derive(Debug, Args)]
pub(crate) struct LinkedArgs {
    /// Rows of each department, of as many people; half of these are known to both
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Timed runs of each question on each side
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A file for the figures, as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Where generated and encrypted tables are kept for the next run
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    data: PathBuf,
}

const DEPARTMENTS: [(&str, &str, &str); 2] = [
    ("care", "clients", "ward"),
    ("housing", "tenancies", "tenure"),
];

/// Questions, `@care` and `@housing` for the products.
const QUESTIONS: [&str; 4] = [
    "SELECT count(DISTINCT c.person) FROM @care c JOIN @housing h ON c.person = h.person",
    "SELECT c.ward, count(*), sum(h.amount) FROM @care c JOIN @housing h ON c.person = h.person GROUP BY c.ward",
    "SELECT c.ward, h.tenure, avg(c.amount) FROM @care c JOIN @housing h ON c.person = h.person GROUP BY c.ward, h.tenure",
    "SELECT c.ward, count(*) FROM @care c LEFT SEMI JOIN @housing h ON c.person = h.person GROUP BY c.ward",
];

pub(crate) async fn run(args: LinkedArgs) -> Result<()> {
    let folder = args.data.join(format!("linked-{}", args.rows));
    std::fs::create_dir_all(&folder)?;
    let plain = SessionContext::new();
    for (at, (department, table, key)) in DEPARTMENTS.iter().enumerate() {
        let file = folder.join(format!("{table}.parquet"));
        if !file.exists() {
            eprintln!("  generating {table}");
            generate(&file, args.rows, u32::try_from(at)?, key)?;
        }
        let path = file.to_str().context("a folder whose name is no text")?;
        plain
            .register_parquet(*department, path, ParquetReadOptions::default())
            .await?;
    }
    let described = folder.join("city");
    describe(&described, &folder)?;
    let products: Vec<String> = DEPARTMENTS
        .iter()
        .map(|(_, t, _)| (*t).to_owned())
        .collect();
    let running = city::start_described(&described, &folder, &products).await?;
    let mut connection = city::connect(&running).await?;
    let mut times = vec![(Vec::new(), Vec::new()); QUESTIONS.len()];
    for round in 0..=args.rounds {
        eprintln!("  round {round}");
        for (question, (bare, linked)) in QUESTIONS.iter().zip(&mut times) {
            let start = Instant::now();
            let sql = question
                .replace("@care", "care")
                .replace("@housing", "housing");
            let rows = plain.sql(&sql).await?.collect().await?;
            let took = start.elapsed();
            let sql = question
                .replace("@care", "bench.care.clients")
                .replace("@housing", "bench.housing.tenancies");
            let (time, cells) = ask(&mut connection, &sql).await?;
            let count = |b: &[RecordBatch]| b.iter().map(RecordBatch::num_rows).sum::<usize>();
            ensure!(count(&cells) == count(&rows), "other cells for: {question}");
            // The first round warms both sides.
            if round > 0 {
                bare.push(took);
                linked.push(time);
            }
        }
    }
    running.stop().await;
    print(&args, &mut times)
}

fn print(args: &LinkedArgs, times: &mut [(Vec<Duration>, Vec<Duration>)]) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    println!(
        "\n{} rows of each of two departments, {} rounds, {cores} cores\n",
        args.rows, args.rounds
    );
    println!("| question | plain join ms | linked ms | ratio | linked, million rows/s |");
    println!("|---|---|---|---|---|");
    let mut csv = String::from("question,plain_ms,linked_ms,ratio,rows_per_s\n");
    let (mut ratios, both) = (Vec::new(), 2.0 * f64::from(args.rows));
    for (at, (question, (bare, linked))) in QUESTIONS.iter().zip(times).enumerate() {
        let (bare, linked) = (median(bare), median(linked));
        let (times, rate) = (ratio(linked, bare), both / linked.as_secs_f64());
        ratios.push(times);
        let question = question.replace('@', "");
        println!(
            "| `{question}` | {:.0} | {:.0} | {times:.2} | {:.2} |",
            millis(bare),
            millis(linked),
            rate / 1e6
        );
        csv.push_str(&format!(
            "{},{:.1},{:.1},{times:.3},{rate:.0}\n",
            at + 1,
            millis(bare),
            millis(linked)
        ));
    }
    println!("| geomean | | | {:.2} | |\n", geometric_mean(&ratios));
    if let Some(mib) = peak_memory_mib() {
        println!("peak memory of the process, all roles and the plain join: {mib} MiB");
    }
    if let Some(file) = &args.csv {
        std::fs::write(file, csv).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    Ok(())
}

/// A row for each of so many people, in no order; the second department knows the second half of the first one's, and as
/// many others.
fn generate(file: &Path, rows: u32, department: u32, key: &'static str) -> Result<()> {
    const BATCH: u32 = 100_000;
    let batch = move |from: u32| {
        let range = from..(from + BATCH).min(rows);
        // Every number once, since it is prime to the count.
        let turned =
            |n: u32| u32::try_from(u64::from(n) * 7_368_787 % u64::from(rows)).unwrap_or(0);
        let person = |n: u32| u64::from(turned(n)) + u64::from(department) * u64::from(rows / 2);
        let text = |of: &dyn Fn(u32) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(range.clone().map(of)))
        };
        let amount = |n: u32| i64::try_from(mixed(n, 1) % 100).unwrap_or(0);
        let values = if department == 0 { 32 } else { 4 };
        RecordBatch::try_from_iter([
            ("person", text(&|n| format!("P{:09}", person(n)))),
            (
                key,
                text(&|n| format!("{key}{:02}", mixed(n, 2 + u64::from(department)) % values)),
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

fn describe(described: &Path, folder: &Path) -> Result<()> {
    let policy = "@id(\"all-of-it\")\npermit (principal, action, resource);\n";
    let city = "open_product = \"bench.care.clients\"\n\n[[council]]\nname = \"bench\"\npurposes = [\"benchmark\"]\n\
         policy = \"council.cedar\"\ndepartment = [{ name = \"care\" }, { name = \"housing\" }]\n\n\
         [[account]]\nname = \"bench\"\ncouncil = \"bench\"\nroles = [\"analyst\"]\npurposes = [\"benchmark\"]\n";
    std::fs::create_dir_all(described)?;
    std::fs::write(described.join("city.toml"), city)?;
    std::fs::write(described.join("council.cedar"), policy)?;
    for (at, (department, table, key)) in DEPARTMENTS.iter().enumerate() {
        let home = described.join("bench").join(department);
        std::fs::create_dir_all(home.join("imports"))?;
        std::fs::create_dir_all(home.join("products"))?;
        let source = folder.join(format!("{table}.parquet")).canonicalize()?;
        let source = source.display().to_string();
        let columns: String = [("person", "text"), (key, "text"), ("amount", "integer")]
            .iter()
            .map(|(name, kind)| {
                format!("\n[[column]]\nname = \"{name}\"\ntype = \"{kind}\"\nrequired = true\n")
            })
            .collect();
        std::fs::write(
            home.join("imports").join(format!("{table}.toml")),
            format!("dataset = \"{table}\"\nsource = {source:?}\n{columns}"),
        )?;
        let (other, its, _) = DEPARTMENTS[1 - at];
        std::fs::write(
            home.join("products").join(format!("{table}.toml")),
            format!(
                "name = \"{table}\"\nversion = 1\nclass = \"aggregate\"\npurposes = [\"benchmark\"]\nunit = \"person\"\n\
                 minimum_group = 10\nmax_rows_per_unit = 1\nview = \"SELECT person, {key}, amount FROM {table}\"\n\
                 linkable = {{ identity = \"person\", dpia = \"benchmark\", with = [\"bench.{other}.{its}\"] }}\n\n\
                 [columns]\nperson = {{ class = \"identifier\" }}\n{key} = {{ class = \"quasi\" }}\n\
                 amount = {{ class = \"measure\" }}\n\n[[dimension]]\ncolumn = \"{key}\"\n\n[[measure]]\n\
                 column = \"amount\"\nlower = 0\nupper = 100\n"
            ),
        )?;
    }
    Ok(())
}
