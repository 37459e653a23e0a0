//! A connection to an endpoint, whatever carries the messages: a way to write queries, and a queue of what comes.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frames::read_frame;
use super::h2::H2Link;
use crate::exchange::quic::QuicLink;
use crate::tasks::Tasks;
use detour_core::outcome::Failure;

/// What may wait for the connection's task; a reader beyond it waits.
pub(in crate::exchange) const ARRIVALS: usize = 64;

/// Queries in flight on one framed connection: of 65,536 ids a free one is nearly always the first one drawn.
const FRAMED_MAX: usize = 4_096;

/// What comes.
#[derive(Debug)]
pub(in crate::exchange) enum Arrival {
    /// A whole message.
    Message {
        /// The query it answers, where the link knows; else the message's id tells.
        key: Option<u16>,
        /// The message.
        bytes: Vec<u8>,
        /// How long caches on the way have held it, seconds (RFC 8484 section 5.1).
        age_s: u32,
    },
    /// One query failed, and the connection goes on.
    Failed {
        /// Which.
        key: u16,
        /// How.
        failure: Failure,
    },
    /// One query was not looked at, and may be written again (RFC 9113 section 8.7).
    Unprocessed {
        /// Which.
        key: u16,
    },
    /// The connection takes no more queries; those in flight may still be answered (RFC 9113 section 6.8).
    Draining,
    /// One query was not looked at, and the connection takes no more: it and those to come are for another one.
    Declined {
        /// Which.
        key: u16,
    },
    /// A sign of life that is no message.
    Alive,
    /// The connection is over.
    Closed,
}

/// Why a query was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exchange) enum Unsent {
    /// The connection takes no more; what it carries may still be answered.
    Draining,
    /// The connection is broken: all that it carries is to be asked elsewhere.
    Broken,
}

/// What is needed to run the tasks of a link.
#[derive(Debug, Clone)]
pub(in crate::exchange) struct LinkParts {
    /// Where arrivals go.
    pub(in crate::exchange) arrivals: mpsc::Sender<Arrival>,
    /// Where tasks live.
    pub(in crate::exchange) tasks: Tasks,
    /// Ends them.
    pub(in crate::exchange) token: CancellationToken,
}

/// A connection.
pub(in crate::exchange) enum Link {
    /// Messages with their length before them (RFC 7766 section 8, RFC 7858 section 3.3).
    Framed(Box<dyn AsyncWrite + Send + Unpin>),
    /// HTTP/2 requests (RFC 8484).
    H2(H2Link),
    /// A stream of QUIC each (RFC 9250, RFC 9114).
    Quic(QuicLink),
}

impl Link {
    /// A framed link over two halves; a task reads.
    pub(in crate::exchange) fn framed<R, W>(read: R, write: W, parts: LinkParts) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let tasks = parts.tasks.clone();
        tasks.spawn_job(async move { read_frames(read, parts).await });
        Self::Framed(Box::new(write))
    }

    /// Whether the link itself tells which query an answer is for, so that queries have id 0 (RFC 8484 section 4.1).
    pub(in crate::exchange) fn has_streams(&self) -> bool {
        matches!(self, Self::H2(_) | Self::Quic(_))
    }

    /// Queries it carries at once; more wait in the connection's queue.
    pub(in crate::exchange) fn capacity(&self) -> usize {
        match self {
            Self::Framed(_) => FRAMED_MAX,
            Self::H2(link) => link.capacity(),
            Self::Quic(link) => link.capacity(),
        }
    }

    /// Writes one query.
    ///
    /// # Errors
    ///
    /// The connection is broken, or takes no more.
    pub(in crate::exchange) async fn send(&mut self, key: u16, message: Vec<u8>) -> Result<(), Unsent> {
        match self {
            Self::Framed(write) => send_frame(write, &message).await.map_err(|_gone| Unsent::Broken),
            Self::H2(link) => link.send(key, message).await,
            Self::Quic(link) => link.send(key, message).map_err(|_over| Unsent::Broken),
        }
    }

    /// Asks for a sign of life, where the protocol has one.
    pub(in crate::exchange) fn ping(&self) {
        match self {
            Self::Framed(_) => {}
            Self::H2(link) => link.ping(),
            Self::Quic(link) => link.ping(),
        }
    }

    /// Whether signs of life came that nobody was told of, since the last time this was asked.
    pub(in crate::exchange) fn has_news(&self) -> bool {
        match self {
            Self::Framed(_) | Self::H2(_) => false,
            Self::Quic(link) => link.has_news(),
        }
    }
}

/// Writes a message and its length in one piece (RFC 7766 section 8).
async fn send_frame<W: AsyncWrite + Unpin>(write: &mut W, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_too_long| io::ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(message.len().saturating_add(2));
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    write.write_all(&frame).await?;
    write.flush().await
}

/// Reads messages in a task of its own: a read of a length and a body must not be cancelled.
async fn read_frames<R: AsyncRead + Unpin>(mut read: R, parts: LinkParts) {
    let frames = async {
        while let Ok(bytes) = read_frame(&mut read).await {
            let message = Arrival::Message {
                key: None,
                bytes,
                age_s: 0,
            };
            if parts.arrivals.send(message).await.is_err() {
                return;
            }
        }
        // Nobody to tell is fine: the connection was given up from here.
        drop(parts.arrivals.send(Arrival::Closed).await);
    };
    tokio::select! {
        () = frames => {}
        // Cancel safe: the connection is given up.
        () = parts.token.cancelled() => {}
    }
}
