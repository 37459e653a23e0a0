//! Messages with their length before them (RFC 1035 section 4.2.2, RFC 7766 section 8), out of bytes as they come.
//!
//! Any bytes are frames, whole or cut: what is in them is judged elsewhere. No more is kept than the one message that is
//! being read.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The next message, of 0 to 65,535 bytes. Not cancel safe: what was read of it is lost.
///
/// # Errors
///
/// The stream ended or failed, in the middle of a message or between two.
pub(super) async fn read_frame<R: AsyncRead + Unpin>(read: &mut R) -> io::Result<Vec<u8>> {
    let length = read.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    read.read_exact(&mut bytes).await?;
    Ok(bytes)
}
