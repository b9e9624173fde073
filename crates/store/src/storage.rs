//! Where objects lie: a local folder by default, any object store otherwise.
//!
//! ```text
//! datasets/<dataset>/parts/<id>.parquet               ciphertext
//! datasets/<dataset>/manifests/<version>.manifest     signed envelopes
//! rejects/<dataset>-<version>.csv                     line, column, reason; no values
//! ```

use crate::manifest::Manifest;
use futures::TryStreamExt;
use guildhall_model::{CouncilName, DatasetName, DepartmentName};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A dataset's full name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatasetId {
    /// The council that the department belongs to.
    pub council: CouncilName,
    /// The department that owns it.
    pub department: DepartmentName,
    /// Its name within the department.
    pub dataset: DatasetName,
}

impl fmt::Display for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.council, self.department, self.dataset)
    }
}

/// What went wrong with the storage itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The folder cannot be made or used.
    #[error("cannot use the data folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else imports into the dataset at this moment.
    #[error("another import of `{dataset}` is running")]
    Busy {
        /// The dataset.
        dataset: DatasetName,
    },
    /// An object cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The object.
        path: Path,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// An object cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The object.
        path: Path,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// An object is there already and was not written over.
    #[error("`{path}` exists already")]
    Exists {
        /// The object.
        path: Path,
    },
}

impl StorageError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(object_store::Error) -> Self + use<> {
        let path = path.clone();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(object_store::Error) -> Self + use<> {
        let path = path.clone();
        move |source| Self::Write { path, source }
    }
}

/// Where a department's objects lie.
#[derive(Debug, Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    local: Option<PathBuf>,
}

impl Storage {
    /// A folder on this machine, made for its owner alone if it is not there.
    ///
    /// What is written is on the medium before it counts as written.
    pub fn local(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        let fault = |source| StorageError::Folder {
            path: root.clone(),
            source,
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&root).map_err(fault)?;
        let store =
            LocalFileSystem::new_with_prefix(&root).map_err(|e| fault(std::io::Error::other(e)))?;
        Ok(Self {
            store: Arc::new(store),
            local: Some(root),
        })
    }

    /// Any object store that can put an object only if it is not there yet.
    ///
    /// Durability is the store's own; two imports of one dataset at a time end with one of
    /// them refused, and parts that an interrupted import left are removed a day later.
    #[must_use]
    pub fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, local: None }
    }

    /// The store itself.
    #[must_use]
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// What a person would call an object: its path on this machine where it has one.
    #[must_use]
    pub fn describe(&self, path: &Path) -> String {
        match &self.local {
            Some(root) => root.join(path.as_ref()).display().to_string(),
            None => path.to_string(),
        }
    }

    pub(crate) fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// The object's bytes, `None` if there is no such object.
    pub(crate) async fn read(&self, path: &Path) -> Result<Option<bytes::Bytes>, StorageError> {
        let result = match self.store.get(path).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(StorageError::read(path)(e)),
        };
        let bytes = result.bytes().await.map_err(StorageError::read(path))?;
        Ok(Some(bytes))
    }

    /// Writes a whole object, over another if there is one.
    pub(crate) async fn overwrite(&self, path: &Path, bytes: Vec<u8>) -> Result<(), StorageError> {
        let put = self.store.put(path, PutPayload::from(bytes)).await;
        put.map_err(StorageError::write(path))?;
        self.persist(path).await
    }

    /// Writes a whole object so that it appears complete, on the medium, and never over another.
    pub(crate) async fn create(&self, path: &Path, bytes: Vec<u8>) -> Result<(), StorageError> {
        let fault = |e| match e {
            object_store::Error::AlreadyExists { .. } => {
                StorageError::Exists { path: path.clone() }
            }
            e => StorageError::write(path)(e),
        };
        let payload = PutPayload::from(bytes);
        if !self.is_local() {
            let options = PutOptions::from(PutMode::Create);
            return self
                .store
                .put_opts(path, payload, options)
                .await
                .map(drop)
                .map_err(fault);
        }
        let draft = Path::from(format!("{path}.draft"));
        self.store.put(&draft, payload).await.map_err(fault)?;
        self.persist(&draft).await?;
        self.store
            .copy_if_not_exists(&draft, path)
            .await
            .map_err(fault)?;
        // From here on the object is there for everybody: what fails now is no failure to write.
        if let Err(error) = self.persist(path).await {
            tracing::warn!(%path, error = %error, "published, but the medium was not flushed");
        }
        self.remove(&draft).await;
        Ok(())
    }

    /// Waits until an object and its folders are on the medium.
    pub(crate) async fn persist(&self, path: &Path) -> Result<(), StorageError> {
        let Some(root) = self.local.clone() else {
            return Ok(());
        };
        let file = root.join(path.as_ref());
        let flush = move || {
            File::open(&file)?.sync_all()?;
            for folder in file
                .ancestors()
                .skip(1)
                .take_while(|f| f.starts_with(&root))
            {
                File::open(folder)?.sync_all()?;
            }
            Ok::<_, std::io::Error>(())
        };
        let flushed = tokio::task::spawn_blocking(flush).await;
        flushed
            .unwrap_or_else(|e| Err(std::io::Error::other(e)))
            .map_err(|e| StorageError::Write {
                path: path.clone(),
                source: object_store::Error::Generic {
                    store: "local folder",
                    source: Box::new(e),
                },
            })
    }

    /// Removes an object; one that cannot be removed is left for the next sweep.
    pub(crate) async fn remove(&self, path: &Path) {
        if let Err(error) = self.store.delete(path).await
            && !matches!(error, object_store::Error::NotFound { .. })
        {
            tracing::warn!(%path, error = %error, "cannot remove an object that nothing refers to");
        }
    }

    /// The versions of a dataset that have a manifest here, oldest first.
    pub(crate) async fn versions(&self, dataset: &DatasetName) -> Result<Vec<u32>, StorageError> {
        let folder = manifests_folder(dataset);
        let listing = self.store.list(Some(&folder)).try_collect::<Vec<_>>().await;
        let mut versions: Vec<u32> = listing
            .map_err(StorageError::read(&folder))?
            .iter()
            .filter_map(|o| {
                o.location
                    .filename()?
                    .strip_suffix(".manifest")?
                    .parse()
                    .ok()
            })
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Keeps a second import of the dataset out until dropped, also when this process dies.
    pub(crate) fn lock(&self, dataset: &DatasetName) -> Result<ImportLock, StorageError> {
        let Some(root) = &self.local else {
            return Ok(ImportLock { _file: None });
        };
        let folder = root.join(dataset_folder(dataset).as_ref());
        let fault = |source| StorageError::Folder {
            path: folder.clone(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(fault)?;
        let file = File::create(folder.join(".import")).map_err(fault)?;
        match file.try_lock() {
            Ok(()) => Ok(ImportLock { _file: Some(file) }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StorageError::Busy {
                dataset: dataset.clone(),
            }),
            Err(std::fs::TryLockError::Error(e)) => Err(fault(e)),
        }
    }

    /// Removes the parts that none of `kept` refers to, and the manifests before `oldest`.
    ///
    /// Call it under the dataset's lock. Where there is none to hold, only parts that are a
    /// day old at `now` go: a running import may be writing the others.
    pub(crate) async fn sweep(
        &self,
        dataset: &DatasetName,
        kept: &[Manifest],
        oldest: u32,
        now: guildhall_model::Timestamp,
    ) -> Result<(), StorageError> {
        let folder = dataset_folder(dataset);
        let listing = self.store.list(Some(&folder)).try_collect::<Vec<_>>().await;
        let day_ago = now.before(std::time::Duration::from_secs(86_400));
        for object in listing.map_err(StorageError::read(&folder))? {
            let name = object.location.filename().unwrap_or_default();
            let is_stale = match name.strip_suffix(".manifest") {
                Some(version) => version.parse::<u32>().is_ok_and(|v| v < oldest),
                None if name.ends_with(".draft") || name.ends_with(".parquet") => {
                    let is_used = kept
                        .iter()
                        .flat_map(|m| &m.parts)
                        .any(|p| object.location == part_path(dataset, &p.path));
                    let written = object.last_modified.timestamp_micros();
                    !is_used && (self.is_local() || written < day_ago.as_micros())
                }
                None => false,
            };
            if is_stale {
                self.remove(&object.location).await;
            }
        }
        self.sweep_unfinished_uploads(dataset);
        Ok(())
    }

    /// A killed process leaves uploads that no listing shows: `<name>#<number>`.
    fn sweep_unfinished_uploads(&self, dataset: &DatasetName) {
        let Some(root) = &self.local else { return };
        for folder in [parts_folder(dataset), manifests_folder(dataset)] {
            let Ok(entries) = std::fs::read_dir(root.join(folder.as_ref())) else {
                continue;
            };
            for entry in entries.flatten() {
                if entry.file_name().to_string_lossy().contains('#') {
                    // It is swept again next time if this fails.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }

    /// A local folder reached through another store, so that tests can make the store fail.
    #[cfg(test)]
    pub(crate) fn local_through(root: PathBuf, store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            local: Some(root),
        }
    }
}

/// Held while an import runs.
#[derive(Debug)]
pub(crate) struct ImportLock {
    _file: Option<File>,
}

/// Where all that belongs to a dataset lies.
pub(crate) fn dataset_folder(dataset: &DatasetName) -> Path {
    Path::from(format!("datasets/{dataset}"))
}

fn parts_folder(dataset: &DatasetName) -> Path {
    Path::from(format!("datasets/{dataset}/parts"))
}

fn manifests_folder(dataset: &DatasetName) -> Path {
    Path::from(format!("datasets/{dataset}/manifests"))
}

/// Where a part lies, by its path below the dataset's folder.
pub(crate) fn part_path(dataset: &DatasetName, part: &str) -> Path {
    Path::from(format!("datasets/{dataset}/{part}"))
}

/// Where the manifest of a version lies.
pub(crate) fn manifest_path(dataset: &DatasetName, version: u32) -> Path {
    Path::from(format!(
        "datasets/{dataset}/manifests/{version:010}.manifest"
    ))
}

/// Where the rejects of the import that would make `version` lie.
pub(crate) fn rejects_path(dataset: &DatasetName, version: u32) -> Path {
    Path::from(format!("rejects/{dataset}-{version}.csv"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_is_never_created_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::local(folder.path()).unwrap();
        let path = Path::from("datasets/a/manifests/1.manifest");
        storage.create(&path, b"one".to_vec()).await.unwrap();
        let again = storage.create(&path, b"two".to_vec()).await;
        assert!(
            matches!(again, Err(StorageError::Exists { .. })),
            "{again:?}"
        );
        assert_eq!(storage.read(&path).await.unwrap().unwrap().as_ref(), b"one");
    }

    #[test]
    fn one_import_of_a_dataset_runs_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::local(folder.path()).unwrap();
        let dataset = "permits".parse().unwrap();
        let held = storage.lock(&dataset).unwrap();
        assert!(matches!(
            storage.lock(&dataset),
            Err(StorageError::Busy { .. })
        ));
        drop(held);
        assert!(storage.lock(&dataset).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_data_folder_is_made_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        Storage::local(&root).unwrap();
        assert_eq!(
            std::fs::metadata(&root).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
}
