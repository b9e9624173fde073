//! Threads to plan on: a large stack, a deadline, and only so many at once.
//!
//! The engine plans by recursion. A statement within the caps of [`crate::guard`] stays within
//! this stack; one that takes too long is given up at its deadline, and its thread stops at the
//! next rule of the optimiser.

use super::PlanError;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// When planning must be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    after: Duration,
}

impl Deadline {
    pub(crate) fn check(self) -> Result<(), PlanError> {
        if self.at.is_some_and(|at| Instant::now() > at) {
            return Err(PlanError::Deadline { after: self.after });
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Threads {
    permits: Arc<Semaphore>,
    stack_bytes: usize,
    deadline: Duration,
}

impl Threads {
    pub(crate) fn new(at_once: usize, stack_bytes: usize, deadline: Duration) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(at_once.max(1))),
            stack_bytes,
            deadline,
        }
    }

    /// Runs `work` on a thread of its own, until the deadline at most.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, PlanError>
    where
        T: Send + 'static,
        F: FnOnce(Deadline) -> Result<T, PlanError> + Send + 'static,
    {
        let deadline = Deadline {
            at: Instant::now().checked_add(self.deadline),
            after: self.deadline,
        };
        match tokio::time::timeout(self.deadline, self.start(work, deadline)).await {
            Ok(result) => result,
            Err(_) => Err(PlanError::Deadline {
                after: self.deadline,
            }),
        }
    }

    fn start<T, F>(
        &self,
        work: F,
        deadline: Deadline,
    ) -> impl Future<Output = Result<T, PlanError>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(Deadline) -> Result<T, PlanError> + Send + 'static,
    {
        let permits = Arc::clone(&self.permits);
        let stack_bytes = self.stack_bytes;
        async move {
            let permit = permits
                .acquire_owned()
                .await
                .map_err(|_| PlanError::TooMuch {
                    what: "of the planner",
                })?;
            let (answer, answered) = oneshot::channel();
            let span = tracing::Span::current();
            let runtime = tokio::runtime::Handle::current();
            std::thread::Builder::new()
                .name("guildhall-plan".to_owned())
                .stack_size(stack_bytes)
                .spawn(move || {
                    let _span = span.entered();
                    let _runtime = runtime.enter();
                    // A panic in the engine costs this statement, not the process.
                    let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(deadline)));
                    drop(permit);
                    // The caller may have given up; then nobody wants the answer.
                    let _ = answer.send(result);
                })
                .map_err(|e| PlanError::Internal {
                    doing: "planned",
                    source: e.into(),
                })?;
            match answered.await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => Err(PlanError::Internal {
                    doing: "planned",
                    source: datafusion::error::DataFusionError::Internal(
                        "the planner panicked".to_owned(),
                    ),
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::PlanErrorKind;

    #[tokio::test]
    async fn work_past_its_deadline_is_given_up() {
        let threads = Threads::new(1, 1 << 20, Duration::from_millis(20));
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let result = threads
            .run(move |_| {
                let _ = stopped.recv();
                Ok(())
            })
            .await;
        drop(stop);
        assert_eq!(result.unwrap_err().kind(), PlanErrorKind::Deadline);
    }

    #[tokio::test]
    async fn a_panic_while_planning_is_an_error() {
        let threads = Threads::new(1, 1 << 20, Duration::from_secs(60));
        let result: Result<(), _> = threads.run(|_| panic!("engine")).await;
        assert_eq!(result.unwrap_err().kind(), PlanErrorKind::Internal);
        assert!(threads.run(|_| Ok(())).await.is_ok());
    }
}
