//! How messages of hello and sync lie on a stream: the whole of it is one message, its end is the message's end.
//!
//! What is longer than its kind may be is not read to its end, whatever the sender promises; nothing is allocated ahead
//! of what came.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

/// Reads and writes the messages of one protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames {
    /// Longest request, bytes.
    pub(crate) request_max: usize,
    /// Longest answer, bytes.
    pub(crate) answer_max: usize,
}

impl Codec for Frames {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _protocol: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.request_max).await
    }

    async fn read_response<T>(&mut self, _protocol: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.answer_max).await
    }

    async fn write_request<T>(&mut self, _protocol: &StreamProtocol, io: &mut T, request: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        // libp2p closes the stream afterwards, which is the end of the message.
        io.write_all(&request).await
    }

    async fn write_response<T>(&mut self, _protocol: &StreamProtocol, io: &mut T, answer: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&answer).await
    }
}

/// Everything up to the end of the stream, at most `max` bytes.
async fn read<T: AsyncRead + Unpin>(io: &mut T, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let one_more = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    io.take(one_more).read_to_end(&mut bytes).await?;
    if bytes.len() > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "longer than a message may be",
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    #[test]
    fn a_message_is_read_to_its_end_or_not_at_all() {
        let ten = [7; 10];
        for (max, fits) in [(10, true), (11, true), (9, false), (0, false)] {
            let read = block_on(read(&mut Cursor::new(ten), max));
            assert_eq!(read.ok(), fits.then(|| ten.to_vec()), "{max}");
        }
        assert_eq!(block_on(read(&mut Cursor::new([]), 0)).unwrap(), Vec::<u8>::new());
    }
}
