//! Cities that hold TPC-H: one council, its tables dealt to departments as open products.

use crate::tpch;
use anyhow::{Context as _, Result};
use guildhall_cli::city::{City, CityOptions, boot};
use guildhall_cli::sql::{Connection, Endpoint};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Which department holds which tables.
pub(crate) type Layout = &'static [(&'static str, &'static [&'static str])];

pub(crate) const ONE_NODE: Layout = &[(
    "sales",
    &[
        "lineitem", "orders", "customer", "partsupp", "part", "supplier", "nation", "region",
    ],
)];

pub(crate) const FOUR_NODES: Layout = &[
    ("sales", &["lineitem", "orders"]),
    ("people", &["customer"]),
    ("goods", &["part", "partsupp"]),
    ("places", &["supplier", "nation", "region"]),
];

/// The full name of `table` in a city of that layout.
pub(crate) fn product(layout: Layout, table: &str) -> String {
    let department = layout
        .iter()
        .find(|(_, tables)| tables.contains(&table))
        .map_or("", |(d, _)| d);
    format!("tpch.{department}.{table}")
}

/// Brings up a city over the plain files in `files`; its state is kept in `folder`.
pub(crate) async fn start(folder: &Path, files: &Path, layout: Layout) -> Result<City> {
    start_with_workers(folder, files, layout, 0).await
}

/// The same, where each department has so many workers.
pub(crate) async fn start_with_workers(
    folder: &Path,
    files: &Path,
    layout: Layout,
    workers: usize,
) -> Result<City> {
    let described = folder.join("city");
    describe(&described, files, layout).context("cannot describe the city")?;
    boot_city(&described, folder, &[], workers).await
}

/// Brings up the city described by the folder `described`; its state is kept in `folder`. Its nodes do not prepare the products
/// `unprepared`.
pub(crate) async fn start_described(
    described: &Path,
    folder: &Path,
    unprepared: &[String],
) -> Result<City> {
    boot_city(described, folder, unprepared, 0).await
}

async fn boot_city(
    described: &Path,
    folder: &Path,
    unprepared: &[String],
    workers: usize,
) -> Result<City> {
    let mut options = CityOptions::new(described, &folder.join("data"));
    options.report = Arc::new(|step| eprintln!("  {step}"));
    // Bulk reads of whole tables, as in any benchmark of an engine.
    options.node_limits.memory_mib = 8192;
    options.gateway_limits.memory_mb = 8192;
    for product in unprepared {
        options.prepare.except.insert(product.parse()?);
    }
    options.workers = workers;
    boot(options).await
}

pub(crate) async fn connect(city: &City) -> Result<Connection> {
    let ready = city.ready();
    let (name, account) = ready
        .accounts
        .iter()
        .next()
        .context("the city has no account")?;
    let endpoint = Endpoint {
        uri: ready.uri.clone(),
        ca: std::fs::read_to_string(&ready.ca)?,
        account: Some((name.clone(), account.password.clone())),
        certificate: None,
    };
    Connection::open(&endpoint, Some("benchmark".to_owned())).await
}

fn describe(described: &Path, files: &Path, layout: Layout) -> Result<()> {
    let mut city = format!(
        "open_product = \"{}\"\n\n[[council]]\nname = \"tpch\"\npurposes = [\"benchmark\"]\n",
        product(layout, "lineitem")
    );
    for (department, tables) in layout {
        writeln!(city, "\n[[council.department]]\nname = \"{department}\"")?;
        let home = described.join("tpch").join(department);
        std::fs::create_dir_all(home.join("imports"))?;
        std::fs::create_dir_all(home.join("products"))?;
        for table in *tables {
            let (import, product) = table_files(files, table)?;
            std::fs::write(home.join("imports").join(format!("{table}.toml")), import)?;
            std::fs::write(home.join("products").join(format!("{table}.toml")), product)?;
        }
    }
    city.push_str(
        "\n[[account]]\nname = \"bench\"\ncouncil = \"tpch\"\nroles = [\"analyst\"]\npurposes = [\"benchmark\"]\n",
    );
    std::fs::write(described.join("city.toml"), city)?;
    Ok(())
}

fn table_files(files: &Path, table: &str) -> Result<(String, String)> {
    let source = tpch::file(files, table).canonicalize()?;
    let schema = tpch::schema(files, table)?;
    let mut import = format!(
        "dataset = \"{table}\"\nsource = {:?}\n",
        source.display().to_string()
    );
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let mut product = format!(
        "name = \"{table}\"\nversion = 1\nclass = \"open\"\ndoc = \"TPC-H {table}.\"\npurposes = [\"benchmark\"]\n\
         view = \"SELECT {} FROM {table}\"\n",
        names.join(", ")
    );
    for field in schema.fields() {
        let kind = tpch::import_type(field.data_type())?;
        write!(
            import,
            "\n[[column]]\nname = \"{0}\"\ntype = \"{kind}\"\nrequired = true\n",
            field.name()
        )?;
        write!(product, "\n[columns.{}]\nclass = \"open\"\n", field.name())?;
    }
    Ok((import, product))
}
