//! What was there before an import, and what follows it.

use super::writer::Written;
use super::{ImportError, ImportRequest, Mode};
use crate::manifest::{self, Manifest, ManifestError, Part, Recorded};
use guildhall_model::Digest;

/// What was there before this import.
pub(super) struct Before {
    newest: Option<(Manifest, Digest)>,
    /// The version before the newest, which a query may be reading.
    second: Option<Manifest>,
    recorded: Option<Recorded>,
}

impl Before {
    pub(super) async fn find(request: &ImportRequest<'_>) -> Result<Self, ImportError> {
        let ImportRequest {
            storage,
            id,
            signer,
            ..
        } = request;
        let unreadable = |source| ImportError::Before { source };
        let versions = storage.versions(&id.dataset).await;
        let versions = versions.map_err(|source| ImportError::Storage { source })?;
        let signers = [signer.public()];
        let mut newest = None;
        let mut second = None;
        if let Some(version) = versions.last() {
            let found = manifest::load(storage, id, *version, &signers).await;
            newest = found.map_err(unreadable)?.map(|(m, _, digest)| (m, digest));
        }
        if let [.., version, _] = versions.as_slice() {
            let found = manifest::load(storage, id, *version, &signers).await;
            second = found.map_err(unreadable)?.map(|(m, _, _)| m);
        }
        let before = Self {
            newest,
            second,
            recorded: request.previous,
        };
        before.check(request).map_err(unreadable)?;
        before.check_columns(request)?;
        Ok(before)
    }

    /// An append builds on what is on record, or it would sign a rollback as its own.
    fn check(&self, request: &ImportRequest<'_>) -> Result<(), ManifestError> {
        let Some(recorded) = self.recorded else {
            return Ok(());
        };
        let found = self.newest.as_ref().map(|(m, _)| m.version);
        if request.mode == Mode::Append && found < Some(recorded.version) {
            return Err(ManifestError::RolledBack {
                dataset: request.id.clone(),
                recorded: recorded.version,
                found,
            });
        }
        match &self.newest {
            Some((m, digest)) if m.version == recorded.version && *digest != recorded.digest => {
                Err(ManifestError::NotRecorded {
                    dataset: request.id.clone(),
                    version: m.version,
                })
            }
            _ => Ok(()),
        }
    }

    fn check_columns(&self, request: &ImportRequest<'_>) -> Result<(), ImportError> {
        let (Mode::Append, Some((newest, _))) = (request.mode, &self.newest) else {
            return Ok(());
        };
        let schema = crate::part::bare(&request.spec.schema());
        let old = crate::part::bare(&newest.schema);
        let pairs = schema.fields().len().max(old.fields().len());
        let differs = (0..pairs).find(|i| schema.fields().get(*i) != old.fields().get(*i));
        match differs {
            None => Ok(()),
            Some(i) => Err(ImportError::OtherColumns {
                column: schema
                    .fields()
                    .get(i)
                    .or(old.fields().get(i))
                    .map(|f| f.name().clone())
                    .unwrap_or_default(),
                version: newest.version,
            }),
        }
    }

    /// The version that this import makes.
    pub(super) fn next_version(&self) -> u32 {
        let newest = self.newest.as_ref().map_or(0, |(m, _)| m.version);
        let recorded = self.recorded.map_or(0, |r| r.version);
        newest.max(recorded).saturating_add(1)
    }

    /// The digest that the next version names as the one before it.
    fn digest(&self) -> Option<Digest> {
        let newest = self.newest.as_ref().map(|(m, digest)| (m.version, *digest));
        let recorded = self.recorded.map(|r| (r.version, r.digest));
        // Where this machine lost what the authority remembers, its record is what came before.
        newest
            .into_iter()
            .chain(recorded)
            .max_by_key(|(version, _)| *version)
            .map(|(_, d)| d)
    }

    /// Removes what no version that matters refers to.
    pub(super) async fn sweep(&self, request: &ImportRequest<'_>) -> Result<(), ImportError> {
        let ImportRequest { storage, id, .. } = request;
        let kept: Vec<Manifest> = self
            .newest
            .iter()
            .map(|(m, _)| m)
            .chain(&self.second)
            .cloned()
            .collect();
        let oldest = kept.iter().map(|m| m.version).min().unwrap_or(0);
        let oldest = self.recorded.map_or(oldest, |r| oldest.min(r.version));
        storage
            .sweep(&id.dataset, &kept, oldest, request.clock.now())
            .await
            .map_err(|source| ImportError::Storage { source })
    }

    /// The manifest of the new version.
    pub(super) fn followed_by(
        &self,
        request: &ImportRequest<'_>,
        version: u32,
        written: &Written,
    ) -> Manifest {
        let mut parts: Vec<Part> = vec![];
        let mut keys = std::collections::BTreeMap::new();
        if let (Mode::Append, Some((newest, _))) = (request.mode, &self.newest) {
            parts.extend_from_slice(&newest.parts);
            keys.extend(newest.keys.clone());
        }
        parts.extend_from_slice(&written.parts);
        if !written.parts.is_empty() {
            keys.extend(written.wrapped.clone());
        }
        Manifest {
            id: request.id.clone(),
            version,
            previous: self.digest(),
            schema: request.spec.schema(),
            parts,
            keys,
            created: request.clock.now(),
        }
    }
}
