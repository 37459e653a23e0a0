//! A TCP stream that says nothing while its fake is silent, and is reset when its fake resets what is open.
//!
//! It lies under TLS and HTTP/2, because both speak without being asked: handshakes, acknowledgements of settings,
//! echoes of pings. A client that asks "are you there" of a black hole must not be answered by a library. What is
//! written meanwhile waits and leaves when the silence ends, as it does when a cable is plugged in again; reading goes
//! on, so that the fake can count what is asked of it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::clock;
use crate::fault::{Conduct, Fault};

/// The stream of one connection.
pub(super) struct Gate {
    stream: TcpStream,
    conduct: watch::Receiver<Conduct>,
    /// Resets before this connection was accepted.
    resets: u64,
    /// Whether there was a handshake.
    is_established: bool,
    /// Ends when the silence may be over; only while there is one.
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Gate {
    pub(super) fn new(stream: TcpStream, mut conduct: watch::Receiver<Conduct>) -> Self {
        let resets = conduct.borrow_and_update().resets;
        Self {
            stream,
            conduct,
            resets,
            is_established: false,
            silence: None,
        }
    }

    /// There was a handshake: from here on a deaf provider is silent.
    pub(super) const fn establish(&mut self) {
        self.is_established = true;
    }

    /// Completes when this connection is to be reset, which dropping the gate then does. Cancel-safe: it asks for a
    /// state.
    pub(super) fn reset(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut conduct, resets) = (self.conduct.clone(), self.resets);
        async move {
            // A fake that is gone resets nobody: its token ends the connection.
            if conduct.wait_for(|conduct| is_reset(conduct, resets)).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Ready when something may be sent.
    fn poll_speak(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let (now, state) = (clock::now(), *self.conduct.borrow_and_update());
            let fault = state.effective(now);
            let is_silent = fault.is_silent() || (self.is_established && fault.is_deaf());
            if !is_silent {
                self.silence = None;
                return Poll::Ready(());
            }
            let silence = self.silence.get_or_insert_with(|| {
                let mut conduct = self.conduct.clone();
                let turn = state.next_turn(now);
                Box::pin(async move {
                    tokio::select! {
                        // Cancel-safe: a change not yet seen stays unseen. Without a sender nothing changes any more,
                        // and nothing is sent any more.
                        changed = conduct.changed() => if changed.is_err() { std::future::pending::<()>().await },
                        // Cancel-safe: a timer.
                        () = sleep_until(turn.unwrap_or(now)), if turn.is_some() => {}
                    }
                })
            });
            ready!(silence.as_mut().poll(context));
            self.silence = None;
        }
    }
}

fn is_reset(conduct: &Conduct, resets: u64) -> bool {
    conduct.resets != resets || conduct.fault == Fault::Rst
}

impl Drop for Gate {
    /// Whoever drops it closes it; under a fault that resets, with a reset.
    fn drop(&mut self) {
        if is_reset(&self.conduct.borrow(), self.resets) {
            // Without linger 0 the close is an ordinary one: the client still loses its connection.
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_speak(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_speak(context));
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
