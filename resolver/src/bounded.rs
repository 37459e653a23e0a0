//! HTTP/3's streams with a bound on what comes on each of them: the library gathers a frame whole before it looks at it,
//! however long the other side says that it will be.
//!
//! Both sides stand on it: connections to providers, and those of clients. A stream that goes on for too long is stopped,
//! and looks to the library as if the other side had ended it with `H3_EXCESSIVE_LOAD`. Nor does h3-quinn 0.0.10 let a stream be stopped, or asked for its number, while a read of it is
//! under way: it panics. Everything else is passed on as it is.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use h3_quinn::{BidiStream, RecvStream, SendStream};

/// Bytes of one response: the largest message, its head, and what frames and trailers add.
const RESPONSE_BYTES_MAX: usize = 96 * 1024;
/// Bytes of one stream of the other side's own, all its life: settings, a few goodbyes, and grease.
const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// What a stream that goes on for too long is stopped with.
pub(crate) const TOO_MUCH: Code = Code::H3_EXCESSIVE_LOAD;

/// A connection.
pub(crate) struct Bounded(h3_quinn::Connection);

impl Bounded {
    pub(crate) fn new(connection: quinn::Connection) -> Self {
        Self(h3_quinn::Connection::new(connection))
    }
}

/// The way new streams are had.
#[derive(Clone)]
pub(crate) struct Opener(h3_quinn::OpenStreams);

/// A stream, and how much more may come on it.
pub(crate) struct Stream<T> {
    inner: T,
    id: StreamId,
    left: usize,
    /// A read is under way.
    is_reading: bool,
}

impl<T: quic::RecvStream> Stream<T> {
    fn new(inner: T, left: usize) -> Self {
        Self {
            id: inner.recv_id(),
            inner,
            left,
            is_reading: false,
        }
    }
}

type Quinn = h3_quinn::Connection;
type QuinnOpener = h3_quinn::OpenStreams;

impl quic::Connection<Bytes> for Bounded {
    type RecvStream = Stream<RecvStream>;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        let stream = ready!(<Quinn as quic::Connection<Bytes>>::poll_accept_recv(&mut self.0, cx))?;
        Poll::Ready(Ok(Stream::new(stream, CONTROL_BYTES_MAX)))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        let stream = ready!(<Quinn as quic::Connection<Bytes>>::poll_accept_bidi(&mut self.0, cx))?;
        // A request that does not end is its connection's end.
        Poll::Ready(Ok(Stream::new(stream, usize::MAX)))
    }

    fn opener(&self) -> Self::OpenStreams {
        Opener(<Quinn as quic::Connection<Bytes>>::opener(&self.0))
    }
}

impl quic::OpenStreams<Bytes> for Bounded {
    type BidiStream = Stream<BidiStream<Bytes>>;
    type SendStream = SendStream<Bytes>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        let stream = ready!(<Quinn as quic::OpenStreams<Bytes>>::poll_open_bidi(&mut self.0, cx))?;
        Poll::Ready(Ok(Stream::new(stream, RESPONSE_BYTES_MAX)))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        <Quinn as quic::OpenStreams<Bytes>>::poll_open_send(&mut self.0, cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        <Quinn as quic::OpenStreams<Bytes>>::close(&mut self.0, code, reason);
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Stream<BidiStream<Bytes>>;
    type SendStream = SendStream<Bytes>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        let stream = ready!(<QuinnOpener as quic::OpenStreams<Bytes>>::poll_open_bidi(
            &mut self.0,
            cx
        ))?;
        Poll::Ready(Ok(Stream::new(stream, RESPONSE_BYTES_MAX)))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        <QuinnOpener as quic::OpenStreams<Bytes>>::poll_open_send(&mut self.0, cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        <QuinnOpener as quic::OpenStreams<Bytes>>::close(&mut self.0, code, reason);
    }
}

impl<T: quic::RecvStream<Buf = Bytes>> quic::RecvStream for Stream<T> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let data = self.inner.poll_data(cx);
        self.is_reading = data.is_pending();
        let data = ready!(data)?;
        let length = data.as_ref().map_or(0, Bytes::len);
        Poll::Ready(match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Ok(data)
            }
            None => {
                self.inner.stop_sending(TOO_MUCH.value());
                Err(StreamErrorIncoming::StreamTerminated {
                    error_code: TOO_MUCH.value(),
                })
            }
        })
    }

    /// In the middle of a read the end of the stream stops it, without a code.
    fn stop_sending(&mut self, error_code: u64) {
        if !self.is_reading {
            self.inner.stop_sending(error_code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

impl quic::SendStream<Bytes> for Stream<BidiStream<Bytes>> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.inner.poll_ready(cx)
    }

    fn send_data<D: Into<WriteBuf<Bytes>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.inner.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.inner.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.inner.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.inner.send_id()
    }
}
