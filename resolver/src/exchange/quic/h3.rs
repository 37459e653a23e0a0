//! DNS over HTTPS to one endpoint (RFC 8484) by HTTP/3 (RFC 9114): one request per query, answered in any order.

use std::future::Future;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use detour_core::outcome::Failure;
use h3::client::{Connection as Driver, RequestStream, SendRequest};
use h3::error::{Code, StreamError};
use h3_quinn::BidiStream;
use http::Uri;
use quinn::{Connection, VarInt};
use tokio::time::timeout;

use super::link::{ANSWER, Room, Teller};
use crate::bounded::{self, Bounded, Opener};
use crate::exchange::stream::http::{HEADER_BYTES_MAX, read_head, request};
use crate::wire::MESSAGE_BYTES_MAX;

/// No error (RFC 9114 section 8.1).
pub(super) const NO_ERROR: VarInt = VarInt::from_u32(0x100);

type Stream = RequestStream<bounded::Stream<BidiStream<Bytes>>, Bytes>;

/// The way requests go out.
#[derive(Clone)]
pub(super) struct H3Requests {
    send: SendRequest<Opener, Bytes>,
    url: Uri,
}

/// Why there is no message.
enum Refused {
    /// It is a whole response, or a stream that failed.
    Answer(Failure),
    /// The stream or the connection failed.
    Protocol(StreamError),
}

impl From<StreamError> for Refused {
    fn from(error: StreamError) -> Self {
        Self::Protocol(error)
    }
}

impl H3Requests {
    /// Speaks HTTP/3 on a connection; the future drives it to its end.
    pub(super) async fn open(
        connection: Connection,
        url: Uri,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), Failure> {
        let (mut driver, send): (Driver<Bounded, Bytes>, _) = h3::client::builder()
            .max_field_section_size(u64::from(HEADER_BYTES_MAX))
            .send_grease(false)
            .build(Bounded::new(connection))
            .await
            .map_err(|_ended| Failure::Http)?;
        let drive = async move {
            let ended = driver.wait_idle().await;
            if !ended.is_h3_no_error() {
                tracing::debug!(error = %ended, "HTTP/3 connection ended");
            }
        };
        Ok((Self { send, url }, drive))
    }

    /// Asks one query, and tells what came of it.
    pub(super) async fn ask(mut self, message: Vec<u8>, teller: Teller, room: Arc<Room>) {
        let opening = self.send.send_request(request(self.url, message.len()));
        let mut stream = match room.wait(opening, &teller).await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return tell(&teller, Refused::Protocol(error)).await,
            None => return teller.declined().await,
        };
        match timeout(ANSWER, exchange(&mut stream, message)).await {
            Ok(Ok((bytes, age_s))) => teller.message(bytes, age_s).await,
            Ok(Err(refused)) => tell(&teller, refused).await,
            Err(_late) => stream.stop_sending(Code::H3_REQUEST_CANCELLED),
        }
    }
}

/// Tells why there is no message.
async fn tell(teller: &Teller, refused: Refused) {
    let error = match refused {
        Refused::Answer(failure) => return teller.failed(failure).await,
        Refused::Protocol(error) => error,
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library keeps the right to add some")]
    match error {
        StreamError::RemoteClosing { .. } => teller.declined().await,
        // Not looked at (RFC 9114 section 8.1).
        StreamError::RemoteTerminate {
            code: Code::H3_REQUEST_REJECTED,
            ..
        } => teller.unprocessed().await,
        StreamError::RemoteTerminate {
            code: bounded::TOO_MUCH,
            ..
        } => teller.failed(Failure::Garbage).await,
        StreamError::RemoteTerminate { .. } => teller.failed(Failure::Reset).await,
        StreamError::StreamError { .. } | StreamError::HeaderTooBig { .. } => teller.failed(Failure::Http).await,
        // The connection's end is told elsewhere.
        StreamError::ConnectionError { .. } => {}
        // What was sent as early data and not taken.
        _ => teller.unprocessed().await,
    }
}

/// Sends the query and reads the response.
async fn exchange(stream: &mut Stream, message: Vec<u8>) -> Result<(Vec<u8>, u32), Refused> {
    let sent = async {
        stream.send_data(Bytes::from(message)).await?;
        stream.finish().await
    };
    match sent.await {
        // A server may answer before it has read all, and stop reading then (RFC 9114 section 4.1).
        Ok(())
        | Err(StreamError::RemoteTerminate {
            code: Code::H3_NO_ERROR,
            ..
        }) => {}
        Err(error) => return Err(error.into()),
    }
    let response = stream.recv_response().await?;
    let age_s = read_head(&response).map_err(Refused::Answer)?;
    let mut bytes = Vec::new();
    while let Some(mut chunk) = stream.recv_data().await? {
        if bytes.len().saturating_add(chunk.remaining()) > MESSAGE_BYTES_MAX {
            stream.stop_sending(Code::H3_REQUEST_CANCELLED);
            return Err(Refused::Answer(Failure::Garbage));
        }
        while chunk.has_remaining() {
            let part = chunk.chunk();
            bytes.extend_from_slice(part);
            let length = part.len();
            chunk.advance(length);
        }
    }
    Ok((bytes, age_s))
}
