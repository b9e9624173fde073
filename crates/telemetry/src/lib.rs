//! How a service speaks to whoever runs it: logs, spans, chains of causes.
//!
//! Logs go to standard error and hold no row, key, credential or statement text; that is
//! for each caller to keep. Nothing here leaves the machine.

#![warn(missing_docs)]

use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use tokio::task::JoinHandle;
use tracing::Instrument as _;
use tracing_subscriber::EnvFilter;

/// Spawns a task that stays in the span of its parent.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.in_current_span())
}

/// Sends log lines to standard error, filtered by `level` (`info`, or directives such as
/// `info,guildhall_node=debug`; what cannot be read counts as `info`). The first call in a
/// process counts; later ones change nothing.
pub fn init(level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .finish();
    // Only fails when a subscriber is already set, which then stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// An error and its causes on one line, outermost first: `cannot open the store: no such file`.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat the cause in their own text.
        if !line.ends_with(&text) {
            let _ = write!(line, ": {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|e| e as _)
        }
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let inner = Layer("no such file", None);
        let middle = Layer("cannot read `a`: no such file", Some(Box::new(inner)));
        let outer = Layer("cannot start", Some(Box::new(middle)));
        assert_eq!(
            error_chain(&outer),
            "cannot start: cannot read `a`: no such file"
        );
    }

    #[tokio::test]
    async fn a_spawned_task_stays_in_its_parents_span() {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(std::io::sink)
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let span = tracing::info_span!("query");
        let id = span.id();
        assert!(id.is_some());
        let task = span.in_scope(|| spawn(async { tracing::Span::current().id() }));
        assert_eq!(task.await.unwrap(), id);
    }
}
