//! A server's end of one connection.

use crate::caller::Caller;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// A connection whose other end is known, and that we can cut.
pub(crate) struct PeerStream {
    io: TlsStream<BufReader<TcpStream>>,
    caller: Caller,
    killed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs out if the other end shakes hands and then says nothing; gone once it spoke.
    silence: Option<Pin<Box<Sleep>>>,
    /// One of the connections that the server may have open.
    _place: OwnedSemaphorePermit,
}

impl PeerStream {
    pub(crate) fn new(
        io: TlsStream<BufReader<TcpStream>>,
        caller: Caller,
        kill: &CancellationToken,
        speak_within: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            io,
            caller,
            killed: Box::pin(kill.clone().cancelled_owned()),
            silence: Some(Box::pin(tokio::time::sleep(speak_within))),
            _place: place,
        }
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Some(silence) = &mut self.silence {
            if buf.filled().len() > before {
                self.silence = None;
            } else if read.is_pending() && silence.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
