//! What disclosure control costs: the same questions to a private product and to the same view declared open.
//!
//! A private cell needs its distinct units, the sum of their record keys and their largest contributions, in
//! every table of the lattice that it lies in. A node works a lattice out at the first question after the data
//! changed and keeps it, so both are shown: the first question, and the same again.

use crate::figures::{geometric_mean, median, peak_memory_mib, ratio};
use crate::protection::{ask, millis};
use crate::{city, tpch};
use anyhow::{Result, ensure};
use arrow::array::{
    ArrayRef, Date32Array, Int64Array, RecordBatch, RecordBatchIterator, StringArray,
};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `guildhall-bench release`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// Rows of the product; a tenth as many units
    #[arg(long, default_value_t = 10_000_000)]
    rows: u32,
    /// Timed runs of each question on each side
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

pub(crate) async fn run(args: ReleaseArgs) -> Result<()> {
    let folder = args.data.join(format!("release-{}", args.rows));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("visits.parquet");
    if !file.exists() {
        eprintln!("  generating visits");
        generate(&file, args.rows)?;
    }
    let described = folder.join("city");
    describe(&described, &file)?;
    let running = city::start_described(&described, &folder).await?;
    let mut connection = city::connect(&running).await?;
    let cores = std::thread::available_parallelism()?;
    println!(
        "\n{} rows, {} rounds, {cores} cores\n",
        args.rows, args.rounds
    );
    println!("| question | open ms | private, first, ms | ratio | private, again, ms | ratio |");
    println!("|---|---|---|---|---|---|");
    let (mut firsts, mut agains) = (Vec::new(), Vec::new());
    for question in QUESTIONS {
        let [private, open] = ["visits", "visits_open"]
            .map(|product| question.replace('@', &format!("release.records.{product}")));
        let (first, cells) = ask(&mut connection, &private).await?;
        ensure!(
            cells.iter().map(RecordBatch::num_rows).sum::<usize>() > 0,
            "nothing was released for: {question}"
        );
        ask(&mut connection, &open).await?;
        let (mut opens, mut privates) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            opens.push(ask(&mut connection, &open).await?.0);
            privates.push(ask(&mut connection, &private).await?.0);
        }
        let (open, again) = (median(&mut opens), median(&mut privates));
        firsts.push(ratio(first, open));
        agains.push(ratio(again, open));
        println!(
            "| `{}` | {:.0} | {:.0} | {:.2} | {:.0} | {:.2} |",
            question.replace('@', "visits"),
            millis(open),
            millis(first),
            ratio(first, open),
            millis(again),
            ratio(again, open)
        );
    }
    println!(
        "| geomean | | | {:.2} | | {:.2} |\n",
        geometric_mean(&firsts),
        geometric_mean(&agains)
    );
    if let Some(mib) = peak_memory_mib() {
        println!("peak memory of the process, all roles: {mib} MiB");
    }
    running.stop().await;
    Ok(())
}

/// Visits of persons, a tenth as many as rows, some of whom come often: spread by multiplication, the same every time.
fn generate(file: &Path, rows: u32) -> Result<()> {
    const BATCH: u32 = 100_000;
    let persons = u64::from(rows / 10).max(1);
    let batch = move |from: u32| {
        let range = from..(from + BATCH).min(rows);
        let mixed = |n: u32, salt: u64| {
            let mut x = u64::from(n)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add(salt);
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x ^ (x >> 27)
        };
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

fn describe(described: &Path, file: &Path) -> Result<()> {
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
    let private = format!(
        "name = \"visits\"\nclass = \"aggregate\"\nunit = \"person\"\nminimum_group = 10\nmax_rows_per_unit = 500\n{view}{}",
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
    );
    Ok(std::fs::write(
        home.join("products").join("visits.toml"),
        private,
    )?)
}
