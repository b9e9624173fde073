//! What the tests of this crate share: a department with a folder, a key and an identity.

use crate::manifest::Recorded;
use crate::{
    DatasetId, ImportError, ImportReport, ImportRequest, ImportSpec, LentKeys, Mode, ReadError,
    SealedDataset, SealedTable, Storage, import,
};
use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use guildhall_grant::SigningKey;
use guildhall_keys::{ColumnKeys, EphemeralIdentity, KeyName, Recipient, WrappedPayload};
use guildhall_model::{MockClock, Timestamp};
use std::path::Path;
use std::sync::{Arc, OnceLock};

pub(crate) mod failing;

/// A department: its data folder, what it signs with, and (as its authority would hold it)
/// the identity that its column keys are wrapped to.
pub(crate) struct Department {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) storage: Storage,
    pub(crate) id: DatasetId,
    pub(crate) signer: SigningKey,
    pub(crate) identity: EphemeralIdentity,
    pub(crate) recipient: Recipient,
    pub(crate) clock: Arc<MockClock>,
}

pub(crate) const PERMITS: &str = r#"
dataset = "permits"
source = "permits.csv"
sort_by = ["ward"]
[[column]]
name = "ward"
type = "text"
required = true
[[column]]
name = "holder"
type = "text"
[[column]]
name = "paid_pence"
type = "integer"
"#;

impl Department {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::local(folder.path().join("data")).unwrap();
        let identity = EphemeralIdentity::generate();
        Self {
            folder,
            storage,
            id: DatasetId {
                council: "northmoor".parse().unwrap(),
                department: "parking".parse().unwrap(),
                dataset: "permits".parse().unwrap(),
            },
            signer: SigningKey::generate().unwrap(),
            recipient: identity.recipient(),
            identity,
            clock: MockClock::at(Timestamp::from_micros(1_000_000)),
        }
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// A spec whose source file holds `csv`.
    pub(crate) fn spec(&self, spec: &str, csv: &str) -> ImportSpec {
        std::fs::write(self.folder.path().join("permits.csv"), csv).unwrap();
        ImportSpec::parse(spec, self.folder.path()).unwrap()
    }

    pub(crate) async fn import(&self, csv: &str, mode: Mode) -> Result<ImportReport, ImportError> {
        let spec = self.spec(PERMITS, csv);
        self.import_spec(&spec, mode, None, &self.storage).await
    }

    pub(crate) async fn import_spec(
        &self,
        spec: &ImportSpec,
        mode: Mode,
        previous: Option<Recorded>,
        storage: &Storage,
    ) -> Result<ImportReport, ImportError> {
        import::run(ImportRequest {
            spec,
            storage,
            id: &DatasetId {
                dataset: spec.dataset.clone(),
                ..self.id.clone()
            },
            recipient: &self.recipient,
            signer: &self.signer,
            previous,
            mode,
            clock: self.clock.as_ref(),
            progress: &|_| {},
        })
        .await
    }

    pub(crate) async fn open(&self) -> Result<SealedDataset, ReadError> {
        self.open_expecting(None).await
    }

    pub(crate) async fn open_expecting(
        &self,
        expected: Option<Recorded>,
    ) -> Result<SealedDataset, ReadError> {
        SealedDataset::open(&self.storage, &self.id, &[self.signer.public()], expected).await
    }

    /// The keys whose names `lend` picks, unwrapped as an authority would.
    pub(crate) fn lend(
        &self,
        dataset: &SealedDataset,
        lend: impl Fn(&KeyName) -> bool,
    ) -> LentKeys {
        let keys = dataset
            .wrapped_keys()
            .filter(|(name, _)| lend(name))
            .map(|(name, age)| {
                let payload = self.identity.open(age).unwrap();
                let unwrapped = WrappedPayload::decode(&payload).unwrap();
                assert_eq!(unwrapped.name, *name);
                (unwrapped.name, unwrapped.key)
            });
        let keys: ColumnKeys = keys.collect();
        let lent = OnceLock::new();
        lent.set(keys).unwrap();
        Arc::new(lent)
    }

    /// A session over the newest version with every key lent.
    pub(crate) async fn session(&self) -> Result<SessionContext, ReadError> {
        let dataset = self.open().await?;
        let lent = self.lend(&dataset, |_| true);
        Ok(session(dataset, lent, 2))
    }

    pub(crate) async fn count(&self) -> Option<String> {
        let context = self.session().await.ok()?;
        Some(
            ask(
                &context,
                "SELECT count(holder) AS n, min(ward) AS first FROM permits",
            )
            .await
            .unwrap(),
        )
    }
}

pub(crate) fn session(dataset: SealedDataset, lent: LentKeys, partitions: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(partitions);
    let context = SessionContext::new_with_config(config);
    let name = dataset.id().dataset.to_string();
    let table = SealedTable::new(Arc::new(dataset), lent);
    context.register_table(name, Arc::new(table)).unwrap();
    context
}

pub(crate) async fn batches(
    context: &SessionContext,
    sql: &str,
) -> Result<Vec<RecordBatch>, String> {
    let frame = context.sql(sql).await.map_err(|e| e.to_string())?;
    frame.collect().await.map_err(|e| e.to_string())
}

/// The answer as a table.
pub(crate) async fn ask(context: &SessionContext, sql: &str) -> Result<String, String> {
    let batches = batches(context, sql).await?;
    Ok(pretty_format_batches(&batches).unwrap().to_string())
}

/// `n` permits over ten wards, every holder a name that is easily found.
pub(crate) fn permits(n: usize) -> String {
    let mut csv = String::from("ward,holder,paid_pence\n");
    for i in 0..n {
        csv.push_str(&format!("Ward {},Zebedee Quill {i},{}\n", i % 10, i * 10));
    }
    csv
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

pub(crate) fn parts(department: &Department) -> Vec<std::path::PathBuf> {
    files(&department.data())
        .into_iter()
        .filter(|f| f.extension().is_some_and(|e| e == "parquet"))
        .collect()
}
