//! One HTTP/1.1 GET over loopback, by hand: enough for a node's admin listener in tests and benchmarks.
//!
//! It asks for the connection to be closed and reads to the end. No chunked bodies, no redirects, no TLS: a listener
//! that answers in another way is reported, not guessed at.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than any admin page; what is longer is an error.
const RESPONSE_BYTES_MAX: u64 = 4 << 20;

/// A response: its status and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// For example 200.
    pub status: u16,
    /// The body as it was sent.
    pub body: Vec<u8>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Connecting, sending or reading failed.
    #[error("cannot get {path} from {address}")]
    Exchange {
        /// Who was asked.
        address: SocketAddr,
        /// For what.
        path: Box<str>,
        /// The system's reason.
        source: io::Error,
    },
    /// It took longer than the caller waits.
    #[error("no response to {path} from {address} in time")]
    Timeout {
        /// Who was asked.
        address: SocketAddr,
        /// For what.
        path: Box<str>,
    },
    /// What came is no HTTP/1 response with a plain body.
    #[error("unreadable response to {path} from {address}")]
    Unreadable {
        /// Who was asked.
        address: SocketAddr,
        /// For what.
        path: Box<str>,
    },
}

/// Gets `path` from `address`, waiting at most `patience`.
///
/// # Errors
/// When there is no response in time, or none that can be read. Any status is a response.
pub async fn get(address: SocketAddr, path: &str, patience: Duration) -> Result<Response, GetError> {
    let bytes = match timeout(patience, exchange(address, path)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(source)) => {
            return Err(GetError::Exchange {
                address,
                path: path.into(),
                source,
            });
        }
        Err(_elapsed) => {
            return Err(GetError::Timeout {
                address,
                path: path.into(),
            });
        }
    };
    parse_response(&bytes).ok_or_else(|| GetError::Unreadable {
        address,
        path: path.into(),
    })
}

async fn exchange(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn parse_response(bytes: &[u8]) -> Option<Response> {
    let head_bytes = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..head_bytes)?).ok()?;
    let mut body = bytes.get(head_bytes + 4..)?;
    let mut lines = head.split("\r\n");
    let mut status_line = lines.next()?.split(' ');
    if !status_line.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let status = status_line.next()?.parse().ok()?;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
        if name.eq_ignore_ascii_case("content-length") {
            body = body.get(..value.trim().parse().ok()?)?;
        }
    }
    Some(Response {
        status,
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read() {
        let response = parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\n[]").unwrap();
        assert_eq!(
            response,
            Response {
                status: 200,
                body: b"[]".to_vec()
            }
        );
        assert_eq!(parse_response(b"HTTP/1.1 503 No\r\n\r\n").unwrap().status, 503);
    }

    #[test]
    fn what_is_cut_or_chunked_is_no_response() {
        assert_eq!(parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]"), None);
        assert_eq!(
            parse_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            None
        );
        assert_eq!(parse_response(b"HTTP/1.1 200 OK\r\nContent"), None);
        assert_eq!(parse_response(b"220 smtp\r\n\r\n"), None);
    }

    #[tokio::test]
    async fn a_listener_is_asked_as_it_wants_to_be() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let count = stream.read(&mut request).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")
                .await
                .unwrap();
            String::from_utf8(request[..count].to_vec()).unwrap()
        };
        let (request, response) = tokio::join!(server, get(address, "/readyz", Duration::from_secs(5)));
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nHost: {address}\r\n")), "{request}");
        assert_eq!(response.unwrap().body, b"true");
    }
}
