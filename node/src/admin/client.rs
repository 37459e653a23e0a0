//! The other end of the admin interface: one request, for commands that ask a running node.
//!
//! HTTP/1.0, so that the answer comes in one piece and ends with the connection. Time and size are bounded: whatever
//! listens at that address may be anything.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take: it is made from memory on this machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer, head included: 256 endpoints need a tenth of it.
const ANSWER_BYTES: u64 = 4 * 1024 * 1024;

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// Why nothing did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    /// Most likely no node runs.
    #[error(
        "no node answers at {address} (is `detour run` running? --admin takes the address of its \"listening admin\")"
    )]
    Connect {
        /// Where it was looked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("lost the connection to the node at {address}")]
    Lost {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Connected, but then too slow.
    #[error("no answer from {address} within 5 s")]
    TooSlow {
        /// Which.
        address: SocketAddr,
    },
    /// Something else listens there.
    #[error("what answers at {address} is no admin interface of detour")]
    NotHttp {
        /// Which.
        address: SocketAddr,
    },
}

/// Gets a path, query included; both must be free of spaces and control characters.
///
/// # Errors
/// When nobody answers there in time with HTTP. Whatever the status is, an answer is none.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Answer, GetError> {
    request(address, &format!("GET {path} HTTP/1.0\r\n")).await
}

/// Posts to a path, which changes something, as whoever has this token; all of it as [`get`] wants it.
///
/// # Errors
/// As [`get`].
pub(crate) async fn post(address: SocketAddr, path: &str, token: &str) -> Result<Answer, GetError> {
    let head = format!("POST {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n");
    request(address, &head).await
}

/// Sends the head of a request, to which `Host` is added, and reads the answer.
async fn request(address: SocketAddr, head: &str) -> Result<Answer, GetError> {
    let exchange = async {
        let mut stream = TcpStream::connect(address)
            .await
            .map_err(|source| GetError::Connect { address, source })?;
        let lost = |source| GetError::Lost { address, source };
        let request = format!("{head}Host: {address}\r\nAccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(lost)?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut bytes).await.map_err(lost)?;
        split(&bytes).ok_or(GetError::NotHttp { address })
    };
    timeout(PATIENCE, exchange)
        .await
        .map_err(|_elapsed| GetError::TooSlow { address })?
}

/// Takes an answer apart.
fn split(bytes: &[u8]) -> Option<Answer> {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    let head_end = bytes.windows(HEAD_END.len()).position(|window| window == HEAD_END)?;
    let (head, rest) = bytes.split_at_checked(head_end)?;
    let first_line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(first_line).ok()?.split(' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    Some(Answer {
        status: words.next()?.parse().ok()?,
        body: rest.get(HEAD_END.len()..)?.to_vec(),
    })
}

/// A value of a query string: everything but letters, digits and `-._~` escaped (RFC 3986 2.1).
#[must_use]
pub(crate) fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_split_into_status_and_body() {
        let answer = split(b"HTTP/1.0 404 Not Found\r\na: b\r\n\r\n{}\r\n\r\n").unwrap();
        assert_eq!(answer.status, 404);
        assert_eq!(answer.body, b"{}\r\n\r\n");
        for bytes in [
            &b""[..],
            b"\r\n\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200",
        ] {
            assert_eq!(split(bytes), None);
        }
    }

    #[test]
    fn a_name_cannot_leave_its_parameter() {
        assert_eq!(escape("a.b-c_d~9"), "a.b-c_d~9");
        assert_eq!(escape("a&type=b c\r\n\u{e9}"), "a%26type%3Db%20c%0D%0A%C3%A9");
    }
}
