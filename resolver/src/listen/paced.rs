//! A connection's way out, seen by whoever drives it: what waits to be taken, and when several writes become one.
//!
//! HTTP libraries own the connection they speak on and write each reply by itself. Here they write into a buffer, which
//! goes out as one when their driver has nothing more to add, and the driver sees whether the client takes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that gather before they are written in any case: two TLS records.
const GATHERED_BYTES: usize = 32 * 1024;

/// What the driver sees and says.
#[derive(Debug)]
pub(super) struct Pace<S> {
    is_held: AtomicBool,
    is_waiting: AtomicBool,
    taken: AtomicU64,
    /// The connection itself, once the library is done with it; held to put it there or take it.
    returned: Mutex<Option<S>>,
}

impl<S> Default for Pace<S> {
    fn default() -> Self {
        Self {
            is_held: AtomicBool::default(),
            is_waiting: AtomicBool::default(),
            taken: AtomicU64::default(),
            returned: Mutex::default(),
        }
    }
}

impl<S> Pace<S> {
    /// The connection, once what was on it is gone.
    pub(super) fn returned(&self) -> Option<S> {
        self.returned.lock().take()
    }

    /// More is to come: what is written gathers.
    pub(super) fn hold(&self) {
        self.is_held.store(true, Ordering::Relaxed);
    }

    /// What has gathered can go.
    pub(super) fn release(&self) {
        self.is_held.store(false, Ordering::Relaxed);
    }

    /// Whether the client has not taken all it was sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Relaxed)
    }

    /// Bytes it has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Paced<S> {
    /// Until this is dropped.
    stream: Option<S>,
    gathered: Vec<u8>,
    written: usize,
    pace: Arc<Pace<S>>,
}

impl<S> Drop for Paced<S> {
    fn drop(&mut self) {
        *self.pace.returned.lock() = self.stream.take();
    }
}

impl<S: Unpin> Paced<S> {
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        let stream = self.stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S: AsyncWrite + Unpin> Paced<S> {
    pub(super) fn new(stream: S, pace: &Arc<Pace<S>>) -> Self {
        Self {
            stream: Some(stream),
            gathered: Vec::new(),
            written: 0,
            pace: Arc::clone(pace),
        }
    }

    fn waiting(&self) -> usize {
        self.gathered.len() - self.written
    }

    /// Writes what has gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = self.stream.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while let Some(rest) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *stream).poll_write(cx, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    self.written += count;
                    let count = u64::try_from(count).unwrap_or(0);
                    self.pace.taken.fetch_add(count, Ordering::Relaxed);
                }
                Poll::Pending => {
                    self.pace.is_waiting.store(true, Ordering::Relaxed);
                    return Poll::Pending;
                }
            }
        }
        self.written = 0;
        if self.gathered.capacity() > 2 * GATHERED_BYTES {
            self.gathered = Vec::new();
        } else {
            self.gathered.clear();
        }
        self.pace.is_waiting.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.waiting() >= GATHERED_BYTES && self.poll_send(cx)?.is_pending() {
            return Poll::Pending;
        }
        let before = self.gathered.len();
        for part in parts {
            self.gathered.extend_from_slice(part);
        }
        Poll::Ready(Ok(self.gathered.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pace.is_held.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        match self.poll_send(cx)? {
            Poll::Ready(()) => self.stream()?.poll_flush(cx),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_send(cx)? {
            Poll::Ready(()) => self.stream()?.poll_shutdown(cx),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn writes_gather_while_they_are_held_and_a_client_that_does_not_read_is_seen() {
        let (mut client, server) = duplex(64);
        let pace = Arc::new(Pace::default());
        let mut paced = Paced::new(server, &pace);
        pace.hold();
        for _ in 0..8 {
            paced.write_all(&[7; 16]).await.unwrap();
            paced.flush().await.unwrap();
        }
        assert_eq!((pace.taken(), pace.is_waiting()), (0, false));
        pace.release();
        let flush = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut paced).poll_flush(cx).is_ready()));
        assert!(!flush.await);
        assert_eq!((pace.taken(), pace.is_waiting()), (64, true));
        let mut bytes = [0; 128];
        let (read, flushed) = tokio::join!(client.read_exact(&mut bytes), paced.flush());
        assert_eq!((read.unwrap(), flushed.is_ok()), (128, true));
        assert_eq!((pace.taken(), pace.is_waiting(), bytes), (128, false, [7; 128]));
        assert!(pace.returned().is_none());
        drop(paced);
        assert!(pace.returned().is_some());
    }
}
