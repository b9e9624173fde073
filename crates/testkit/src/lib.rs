//! A small city in one process, for tests: every role real, on loopback, in folders of its own.

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt as _;
use guildhall_city_data::CityOptions as MadeUp;
use guildhall_cli::city::{City, CityOptions, NodeKey, boot};
use guildhall_cli::sql::{Connection, Endpoint, Refused};
use guildhall_model::{SharedClock, SystemClock};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A running city whose folders go when it does.
#[derive(Debug)]
pub struct TestCity {
    /// The city.
    pub city: City,
    folder: TempDir,
}

impl TestCity {
    /// A made-up city, small enough for an unoptimised build.
    pub async fn start() -> Result<Self> {
        Self::made_up(&MadeUp {
            scale: 0.2,
            ..MadeUp::default()
        })
        .await
    }

    /// A made-up city.
    pub async fn made_up(options: &MadeUp) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let described = folder.path().join("city");
        guildhall_city_data::write(&described, options)?;
        Self::in_folder(&described, folder).await
    }

    /// The city that `described` describes; its state goes into `folder`.
    pub async fn in_folder(described: &Path, folder: TempDir) -> Result<Self> {
        Self::at(described, folder, Arc::new(SystemClock)).await
    }

    /// The same, where every role goes by `clock`. No node prepares anything: what is on record is what a test asked for.
    pub async fn at(described: &Path, folder: TempDir, clock: SharedClock) -> Result<Self> {
        let mut options = CityOptions::new(described, &folder.path().join("data"));
        options.clock = clock;
        options.prepare.enabled = false;
        Self::of(options, folder).await
    }

    /// A city as `options` has it; its folders go with `folder`.
    pub async fn of(options: CityOptions, folder: TempDir) -> Result<Self> {
        Ok(Self {
            city: boot(options).await?,
            folder,
        })
    }

    /// Where the city's description and its data are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection as `account`, asking for `purpose`.
    pub async fn connect(&self, account: &str, purpose: &str) -> Result<Connection> {
        Connection::open(&self.endpoint(account)?, Some(purpose.to_owned())).await
    }

    /// How to connect as `account`.
    pub fn endpoint(&self, account: &str) -> Result<Endpoint> {
        let ready = self.city.ready();
        let known = ready
            .accounts
            .get(account)
            .with_context(|| format!("no account `{account}`"))?;
        Ok(Endpoint {
            uri: ready.uri.clone(),
            ca: std::fs::read_to_string(&ready.ca)?,
            account: Some((account.to_owned(), known.password.clone())),
            certificate: None,
        })
    }

    /// The answer to one statement, as `ana` for transport planning.
    pub async fn ask(&self, statement: &str) -> Result<RecordBatch> {
        answer(
            &mut self.connect("ana", "transport_planning").await?,
            statement,
        )
        .await
    }

    /// What a statement is refused with, as `ana` for transport planning.
    pub async fn refused(&self, statement: &str) -> Result<Refused> {
        refusal(
            &mut self.connect("ana", "transport_planning").await?,
            statement,
        )
        .await
    }
}

/// A department, for [`City::kill_node`] and its like.
///
/// # Panics
/// If either is no name.
#[must_use]
#[expect(clippy::expect_used, reason = "tests give names that are names")]
pub fn node(council: &str, department: &str) -> NodeKey {
    (
        council.parse().expect("a council's name"),
        department.parse().expect("a department's name"),
    )
}

/// The whole answer to one statement, as one batch.
pub async fn answer(connection: &mut Connection, statement: &str) -> Result<RecordBatch> {
    let stream = connection.query(statement).await?;
    let schema = stream.schema().clone();
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    Ok(concat_batches(&schema, &batches)?)
}

/// What a statement is refused with; an answer is an error here.
pub async fn refusal(connection: &mut Connection, statement: &str) -> Result<Refused> {
    match answer(connection, statement).await {
        Ok(batch) => anyhow::bail!("it was answered, with {} rows", batch.num_rows()),
        Err(error) => error.downcast::<Refused>(),
    }
}

/// A batch as text, one row a line, columns parted by `|`, NULL as `-`.
pub fn rows(batch: &RecordBatch) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("-");
    let columns = batch
        .columns()
        .iter()
        .map(|c| ArrayFormatter::try_new(c.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    (0..batch.num_rows())
        .map(|row| {
            let cells: Vec<String> = columns
                .iter()
                .map(|c| c.value(row).try_to_string())
                .collect::<Result<_, _>>()?;
            Ok(cells.join("|"))
        })
        .collect()
}
