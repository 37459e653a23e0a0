//! DNS over QUIC (RFC 9250): a message with its length before it on a stream of its own, and the end of the stream.
//!
//! A server that breaks the rules of section 4.3.3 is not asked on this connection any more: it is closed with the code
//! for that. A query that nobody wants any more is taken back after its time, not when its lookup is over: its outcome
//! still tells about the endpoint.

use std::sync::Arc;
use std::time::Duration;

use detour_core::outcome::Failure;
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream, VarInt, WriteError};
use tokio::time::timeout;

use super::link::{ANSWER, Room, Teller};

/// No error (RFC 9250 section 8.4, as the codes below).
pub(super) const NO_ERROR: VarInt = VarInt::from_u32(0);
/// The other side broke the protocol.
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
/// Nobody wants the answer any more.
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
/// The end of the stream follows the answer at once.
const FIN: Duration = Duration::from_secs(1);

/// What came of a query, when it was no answer.
enum Refused {
    /// The stream failed.
    Stream(Failure),
    /// It was sent as early data, which the server did not take.
    Early,
    /// The server broke the protocol.
    Protocol,
    /// The whole connection is over, which is told elsewhere.
    Connection,
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(_) | ReadError::ClosedStream | ReadError::IllegalOrderedRead => {
                Self::Stream(Failure::Reset)
            }
            ReadError::ConnectionLost(_) => Self::Connection,
            ReadError::ZeroRttRejected => Self::Early,
        }
    }
}

impl From<ReadExactError> for Refused {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Protocol,
            ReadExactError::ReadError(error) => error.into(),
        }
    }
}

impl From<WriteError> for Refused {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(_) | WriteError::ClosedStream => Self::Stream(Failure::Reset),
            WriteError::ConnectionLost(_) => Self::Connection,
            WriteError::ZeroRttRejected => Self::Early,
        }
    }
}

/// Asks one query, and tells what came of it.
pub(super) async fn ask(connection: Connection, message: Vec<u8>, teller: Teller, room: Arc<Room>) {
    let (send, mut recv) = match room.wait(connection.open_bi(), &teller).await {
        Some(Ok(streams)) => streams,
        // The connection's end is told elsewhere.
        Some(Err(_)) => return,
        None => return teller.declined().await,
    };
    match timeout(ANSWER, exchange(send, &mut recv, &message)).await {
        Ok(Ok(answer)) => {
            let has_id = answer.first_chunk().is_some_and(|id| *id != [0, 0]);
            // With an id it is refused as no answer to our question.
            teller.message(answer, 0).await;
            if has_id || !ends(&mut recv).await {
                connection.close(PROTOCOL_ERROR, b"");
            }
        }
        Ok(Err(Refused::Stream(failure))) => teller.failed(failure).await,
        Ok(Err(Refused::Early)) => teller.unprocessed().await,
        Ok(Err(Refused::Protocol)) => {
            teller.failed(Failure::Garbage).await;
            connection.close(PROTOCOL_ERROR, b"");
        }
        Ok(Err(Refused::Connection)) => {}
        // A stream that is closed already needs no stopping.
        Err(_late) => drop(recv.stop(REQUEST_CANCELLED)),
    }
}

/// Writes the query and reads the one answer.
async fn exchange(mut send: SendStream, recv: &mut RecvStream, message: &[u8]) -> Result<Vec<u8>, Refused> {
    let length = u16::try_from(message.len()).map_err(|_too_long| Refused::Stream(Failure::Local))?;
    let mut frame = Vec::with_capacity(message.len().saturating_add(2));
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    send.write_all(&frame).await?;
    // Nobody but us can have closed it.
    drop(send.finish());
    let mut length = [0; 2];
    recv.read_exact(&mut length).await?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    recv.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Whether nothing follows the answer: more would be one answer too many. A server that only forgets to end the stream
/// is not asked to.
async fn ends(recv: &mut RecvStream) -> bool {
    let mut byte = [0; 1];
    match timeout(FIN, recv.read(&mut byte)).await {
        Ok(Ok(Some(_))) => false,
        Ok(Ok(None) | Err(_)) => true,
        Err(_late) => {
            drop(recv.stop(REQUEST_CANCELLED));
            true
        }
    }
}
