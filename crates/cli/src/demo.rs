//! `guildhall demo`: a city on one machine.

use crate::city::{City, CityOptions, boot};
use crate::commands::asked_to_end;
use crate::sql::{Connection, Endpoint, Format, print_answer};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Arguments of `guildhall demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where all roles keep their state; used again at the next start. A folder that is removed at the end if not given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A city of your own: a folder with city.toml, imports and products
    #[arg(long, value_name = "DIR", conflicts_with = "scale")]
    city: Option<PathBuf>,
    /// Size of the made-up city; 1 is some thirty thousand rows a council
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Where the gateway listens; a free port of 127.0.0.1 if not given
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Write how to connect to this file, as JSON, once everything answers
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// End after the example questions instead of serving
    #[arg(long)]
    once: bool,
}

/// Brings the city up, asks its questions, and serves until asked to end.
pub async fn run(args: DemoArgs) -> Result<()> {
    let started = Instant::now();
    let mut passing = None;
    let data = match &args.data {
        Some(data) => data.clone(),
        None => passing
            .insert(tempfile::tempdir().context("cannot make a data folder")?)
            .path()
            .to_owned(),
    };
    let folder = match &args.city {
        Some(city) => city.clone(),
        None => made_up(&data, args.scale)?,
    };
    let mut options = CityOptions::new(&folder, &data);
    options.listen.clone_from(&args.listen);
    options.report = Arc::new(|step| eprintln!("  {step}"));
    let city = boot(options).await?;
    eprintln!(
        "the city answers after {:.1} s\n",
        started.elapsed().as_secs_f64()
    );
    if let Some(file) = &args.ready_file {
        city.ready().save(file)?;
    }
    let asked = ask_all(&city).await;
    if asked.is_ok() && !args.once {
        print_how_to(&city, args.ready_file.as_deref());
        asked_to_end().await?;
    }
    city.stop().await;
    asked
}

/// The made-up city of that scale, written into the data folder once.
fn made_up(data: &Path, scale: f64) -> Result<PathBuf> {
    let folder = data.join("city");
    let stamp = data.join("city.scale");
    let wanted = scale.to_string();
    match std::fs::read_to_string(&stamp) {
        Ok(kept) if kept == wanted => return Ok(folder),
        Ok(kept) => bail!(
            "`{}` holds a city of scale {kept}\nhelp: choose another --data folder for scale {wanted}",
            data.display()
        ),
        Err(_) => {}
    }
    if folder.exists() {
        // Written, but not stamped: the last start was cut short.
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove `{}`", folder.display()))?;
    }
    let options = guildhall_city_data::CityOptions {
        scale,
        ..Default::default()
    };
    guildhall_city_data::write(&folder, &options)?;
    std::fs::write(&stamp, wanted)
        .with_context(|| format!("cannot write `{}`", stamp.display()))?;
    Ok(folder)
}

async fn ask_all(city: &City) -> Result<()> {
    for question in &city.file().questions {
        let endpoint = endpoint_for(city, question.purpose.as_str())?;
        let mut connection =
            Connection::open(&endpoint, Some(question.purpose.to_string())).await?;
        println!("-- {}\n{}", question.title, question.sql.trim());
        let started = Instant::now();
        print_answer(&mut connection, &question.sql, Format::Table)
            .await
            .with_context(|| format!("cannot answer: {}", question.title))?;
        println!("({:.0} ms)\n", started.elapsed().as_secs_f64() * 1000.0);
        print_answer(
            &mut connection,
            &format!("EXPLAIN {}", question.sql),
            Format::Table,
        )
        .await?;
        println!();
    }
    Ok(())
}

/// As the first account that holds the purpose.
fn endpoint_for(city: &City, purpose: &str) -> Result<Endpoint> {
    let ready = city.ready();
    let (name, account) = ready
        .accounts
        .iter()
        .find(|(_, a)| a.purposes.iter().any(|p| p.as_str() == purpose))
        .with_context(|| format!("no account holds purpose `{purpose}`"))?;
    Ok(Endpoint {
        uri: ready.uri.clone(),
        ca: std::fs::read_to_string(&ready.ca)
            .with_context(|| format!("cannot read `{}`", ready.ca.display()))?,
        account: Some((name.clone(), account.password.clone())),
        certificate: None,
    })
}

fn print_how_to(city: &City, ready_file: Option<&Path>) {
    let ready = city.ready();
    println!(
        "The city serves at {} (certificate authority: {}).",
        ready.uri,
        ready.ca.display()
    );
    for (name, account) in &ready.accounts {
        let purposes: Vec<&str> = account.purposes.iter().map(|p| p.as_str()).collect();
        println!(
            "  account {name}  password {}  purposes {}",
            account.password,
            purposes.join(", ")
        );
    }
    if let Some(file) = ready_file {
        println!(
            "\n  guildhall sql --ready-file {} --purpose transport_planning",
            file.display()
        );
    }
    if let Some((name, account)) = ready.accounts.iter().next()
        && let Some(purpose) = account.purposes.iter().next()
    {
        println!(
            "\n  import adbc_driver_flightsql.dbapi as flight_sql\n  connection = flight_sql.connect(\"{}\", db_kwargs={{\n      \"username\": \"{name}\", \"password\": \"{}\",\n      \"adbc.flight.sql.client_option.tls_root_certs\": open(\"{}\").read(),\n      \"adbc.flight.sql.rpc.call_header.x-guildhall-purpose\": \"{purpose}\"}})",
            ready.uri,
            account.password,
            ready.ca.display(),
        );
    }
    println!("\nCtrl-C ends it.");
}
