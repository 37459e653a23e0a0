//! Any bytes, as what a connection to a provider brings, in any pieces: the same messages come out of it, and no more
//! is kept than one of them.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

#[path = "../../src/exchange/stream/frames.rs"]
mod reader;

/// Brings bytes in pieces of lengths that its first byte leads to, and is not ready before each.
struct Pieces<'a> {
    rest: &'a [u8],
    next: u8,
    is_ready: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.is_ready = !self.is_ready;
        if !self.is_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = usize::from(self.next).min(self.rest.len()).min(buffer.remaining());
        // 1 to 255: none would be the end.
        self.next = self.next.wrapping_mul(109).wrapping_add(31).max(1);
        let (piece, rest) = self.rest.split_at(length);
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// The messages of a stream, to its end.
fn read_all(mut pieces: Pieces<'_>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut reading = pin!(reader::read_frame(&mut pieces));
        let read = loop {
            if let Poll::Ready(read) = reading.as_mut().poll(&mut cx) {
                break read;
            }
        };
        match read {
            Ok(message) => messages.push(message),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                return messages;
            }
        }
    }
}

/// The same by hand.
fn frames_of(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk() {
        let Some((message, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            break;
        };
        messages.push(message.to_vec());
        stream = rest;
    }
    messages
}

/// The first byte leads to the lengths of the pieces, the others are the stream.
pub(crate) fn exercise(bytes: &[u8]) {
    let Some((first, stream)) = bytes.split_first() else {
        return;
    };
    let read = read_all(Pieces {
        rest: stream,
        next: (*first).max(1),
        is_ready: false,
    });
    let expected = frames_of(stream);
    assert!(read == expected, "{} messages and not {}", read.len(), expected.len());
    assert!(read.iter().all(|message| message.capacity() <= 65_535));
}
