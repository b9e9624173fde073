//! Rejects: weighed against the declared rate, and listed.

use super::writer::Written;
use super::{ImportError, ImportRequest};
use crate::rows::{Reject, short_name};
use crate::storage::{self, StorageError};
use guildhall_model::ColumnName;

/// Whether `rejects` of `rows` is more than the share `rate`.
pub(super) fn are_above(rejects: u64, rows: u64, rate: f64) -> bool {
    // Both are far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "no import has 2^53 rows")]
    let allowed = rows as f64 * rate;
    #[expect(clippy::cast_precision_loss, reason = "no import has 2^53 rows")]
    let rejects = rejects as f64;
    rejects > allowed
}

/// Lists the rejects: file, line, column, reason. Values are personal and stay out.
pub(super) async fn store(
    request: &ImportRequest<'_>,
    version: u32,
    written: &Written,
) -> Result<Option<String>, ImportError> {
    if written.rejects == 0 {
        return Ok(None);
    }
    let ImportRequest {
        spec, storage, id, ..
    } = request;
    let mut list = csv::Writer::from_writer(vec![]);
    let mut listed = list.write_record(["file", "line", "column", "reason"]);
    for reject in &written.listed {
        let Reject {
            source,
            line,
            lines,
            column,
            reason,
        } = reject;
        let file = spec.source.get(*source).map(|p| short_name(p));
        let lines = match lines {
            1 => String::new(),
            n => format!(" (and the {} lines after it: is a quote left open?)", n - 1),
        };
        listed = listed.and_then(|()| {
            list.write_record([
                file.as_deref().unwrap_or_default(),
                &line.to_string(),
                column.as_ref().map(ColumnName::as_str).unwrap_or_default(),
                &format!("{reason}{lines}"),
            ])
        });
    }
    let bytes = listed
        .map_err(std::io::Error::from)
        .and_then(|()| list.into_inner().map_err(csv::IntoInnerError::into_error));
    let path = storage::rejects_path(&id.dataset, version);
    let stored = match bytes {
        Ok(bytes) => storage.overwrite(&path, bytes).await,
        Err(source) => Err(StorageError::Write {
            path: path.clone(),
            source: object_store::Error::Generic {
                store: "rejects",
                source: Box::new(source),
            },
        }),
    };
    stored.map_err(|source| ImportError::Storage { source })?;
    Ok(Some(storage.describe(&path)))
}
