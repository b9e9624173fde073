//! One unary call with its deadline.

use crate::error::ClientError;
use std::future::Future;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// A request that tells the server how long we will wait.
pub(crate) fn within<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Waits for the answer, connecting included, no longer than `deadline`.
pub(crate) async fn answer<T>(
    who: &str,
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ClientError> {
    let late = || ClientError::Deadline {
        who: who.to_owned(),
        within: deadline,
    };
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) if is_timeout(&status) => Err(late()),
        Ok(Err(status)) => Err(ClientError::from_status(who, &status)),
        Err(_) => Err(late()),
    }
}

// The deadline that we sent may fire in tonic, or at the server, a moment before ours.
fn is_timeout(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    status.code() == tonic::Code::DeadlineExceeded
}
