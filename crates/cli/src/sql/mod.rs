//! `guildhall sql`: a shell and a one-shot client for any Guildhall gateway.

mod connect;
mod output;
mod shell;

pub use connect::{Connection, Endpoint, Refused};
pub use output::Format;

use anyhow::{Context as _, Result};
use clap::Args;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Arguments of `guildhall sql`.
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// A demo's ready file: gateway, certificate and accounts are read from it
    #[arg(long, env = "GUILDHALL_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// The gateway, grpc+tls://HOST:PORT
    #[arg(long, env = "GUILDHALL_URI", required_unless_present = "ready_file")]
    uri: Option<String>,
    /// The council's certificate authority, PEM
    #[arg(long, env = "GUILDHALL_CA", required_unless_present = "ready_file")]
    ca: Option<PathBuf>,
    /// Account to sign in with
    #[arg(long, short, env = "GUILDHALL_ACCOUNT")]
    account: Option<String>,
    /// File that holds the account's password; asked for if neither this nor GUILDHALL_PASSWORD is set
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Client certificate chain, PEM, instead of an account
    #[arg(long, requires = "key", conflicts_with = "account")]
    cert: Option<PathBuf>,
    /// Key of the client certificate, PEM
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// Why you ask, from your council's list
    #[arg(long, short, env = "GUILDHALL_PURPOSE")]
    purpose: Option<String>,
    /// Run this and exit; `-` reads standard input
    #[arg(long, short = 'c', value_name = "SQL")]
    command: Option<String>,
    /// How results are written
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Do not print rows and time after each result
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the client; the process' exit code is 0 if every statement was answered.
pub async fn run(args: SqlArgs) -> Result<()> {
    let endpoint = endpoint(&args)?;
    let mut connection = Connection::open(&endpoint, args.purpose.clone()).await?;
    let settings = Settings {
        format: args.format,
        quiet: args.quiet,
    };
    match args.command {
        None => shell::run(&mut connection, settings).await,
        Some(command) => {
            let text = if command == "-" {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .context("cannot read standard input")?;
                text
            } else {
                command
            };
            for statement in shell::statements(&text) {
                answer(&mut connection, &statement, settings).await?;
            }
            Ok(())
        }
    }
}

fn endpoint(args: &SqlArgs) -> Result<Endpoint> {
    let mut endpoint = match &args.ready_file {
        Some(file) => Endpoint::from_ready_file(file, args.account.as_deref())?,
        None => Endpoint::default(),
    };
    if let Some(uri) = &args.uri {
        endpoint.uri.clone_from(uri);
    }
    if let Some(ca) = &args.ca {
        endpoint.ca = std::fs::read_to_string(ca)
            .with_context(|| format!("cannot read `{}`", ca.display()))?;
    }
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        let read = |p: &PathBuf| {
            std::fs::read_to_string(p).with_context(|| format!("cannot read `{}`", p.display()))
        };
        endpoint.account = None;
        endpoint.certificate = Some((read(cert)?, read(key)?));
    } else if let Some(account) = &args.account {
        let known = endpoint
            .account
            .take()
            .filter(|(name, _)| name == account)
            .map(|(_, p)| p);
        let password = match (args.password_file.as_deref(), known) {
            (None, Some(password)) => password,
            (file, _) => password_of(account, file)?,
        };
        endpoint.account = Some((account.clone(), password));
    }
    Ok(endpoint)
}

/// An account's password: from a file, from GUILDHALL_PASSWORD, or asked for on the terminal.
pub(crate) fn password_of(account: &str, file: Option<&Path>) -> Result<String> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read `{}`", file.display()))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    match std::env::var("GUILDHALL_PASSWORD") {
        Ok(password) => Ok(password),
        Err(_) => shell::ask_password(account),
    }
}

/// How answers are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
}

/// Asks one statement and writes its answer to standard output; ctrl-C stops it at the nodes.
pub(crate) async fn answer(
    connection: &mut Connection,
    statement: &str,
    settings: Settings,
) -> Result<()> {
    let started = Instant::now();
    let progress = progress_bar();
    let run = async {
        let mut stream = connection.query(statement).await?;
        let mut sink = output::Sink::new(settings.format, stream.schema().clone());
        let mut rows = 0_usize;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows();
            progress.set_message(format!("{rows} rows"));
            progress.suspend(|| sink.write(&batch))?;
        }
        let warnings = stream.warnings();
        progress.finish_and_clear();
        sink.finish()?;
        Ok::<_, anyhow::Error>((rows, warnings))
    };
    let (rows, warnings) = tokio::select! {
        done = run => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("cancelled")),
    }
    .inspect_err(|_| progress.finish_and_clear())?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    if !settings.quiet {
        let noun = if rows == 1 { "row" } else { "rows" };
        eprintln!("{rows} {noun} in {:.3} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Asks one statement and writes its answer to standard output, nothing else.
pub async fn print_answer(
    connection: &mut Connection,
    statement: &str,
    format: Format,
) -> Result<()> {
    answer(
        connection,
        statement,
        Settings {
            format,
            quiet: true,
        },
    )
    .await
}

/// A spinner on standard error, if that is a terminal; it shows after half a second.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
