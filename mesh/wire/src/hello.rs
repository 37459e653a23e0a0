//! The first thing both sides of a connection say: `/detour/hello/1`.
//!
//! A hello's layout never changes but in its extension area, so that nodes of all versions can at least tell each other
//! that they have none in common.

use detour_core::mesh::Hello;
use detour_core::report::{BootId, ClusterKey, Edition, SiteKey};

use crate::bytes::{Reader, U48_MAX};
use crate::frame::{self, kind};
use crate::{DecodeError, EncodeError, Refused};

/// Longest message of this protocol, request or answer, in bytes.
pub const HELLO_MAX: usize = 512;
/// Longest name and version of a node's software, in bytes of printable ASCII.
pub const SOFTWARE_MAX: usize = 32;

/// The speaker holds a snapshot of the addressee.
const HOLDS_YOURS: u8 = 1;
/// What stands there if it holds none.
const NOTHING_OF_YOURS: (Edition, BootId) = (
    Edition {
        incarnation: 0,
        sequence: 0,
    },
    BootId(0),
);

/// What comes back on a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Taken: the other side's.
    Hello(Hello),
    /// Not taken.
    Refused(Refused),
}

/// The bytes of a hello as a request.
///
/// # Errors
///
/// Versions upside down, an incarnation above 48 bits, a software name that is too long or cannot be shown.
pub fn encode_request(hello: &Hello) -> Result<Vec<u8>, EncodeError> {
    encode(hello, kind::HELLO)
}

/// The bytes of an answer.
///
/// # Errors
///
/// As [`encode_request`], and as [`Refused::encode`].
pub fn encode_answer(answer: &Answer) -> Result<Vec<u8>, EncodeError> {
    match answer {
        Answer::Hello(hello) => encode(hello, kind::HELLO_ANSWER),
        Answer::Refused(refused) => refused.encode(),
    }
}

/// A hello that somebody sent as a request.
///
/// # Errors
///
/// What is wrong with it; [`DecodeError::refusal`] is what the sender is told.
pub fn decode_request(bytes: &[u8]) -> Result<Hello, DecodeError> {
    match frame::begin(bytes, HELLO_MAX)? {
        (kind::HELLO, reader) => decode(reader),
        (other, _) => Err(DecodeError::Kind(other)),
    }
}

/// The answer to our hello.
///
/// # Errors
///
/// What is wrong with it.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, DecodeError> {
    match frame::begin(bytes, HELLO_MAX)? {
        (kind::HELLO_ANSWER, reader) => decode(reader).map(Answer::Hello),
        (kind::REFUSED, reader) => Refused::read(reader).map(Answer::Refused),
        (other, _) => Err(DecodeError::Kind(other)),
    }
}

/// Both directions say the same.
fn encode(hello: &Hello, kind: u8) -> Result<Vec<u8>, EncodeError> {
    let (lowest, highest) = hello.versions;
    if lowest == 0 || lowest > highest {
        return Err(EncodeError::Versions(lowest, highest));
    }
    let (edition, boot) = hello.yours.unwrap_or(NOTHING_OF_YOURS);
    if edition.incarnation > U48_MAX {
        return Err(EncodeError::Incarnation(edition.incarnation));
    }
    let mut writer = frame::write(kind, 96);
    writer.bytes(&hello.cluster.0);
    writer.u8(lowest);
    writer.u8(highest);
    writer.u64(hello.boot.0);
    writer.u48(hello.wall_ms);
    writer.bytes(&hello.site.0);
    writer.u16(hello.port);
    writer.u8(if hello.yours.is_some() { HOLDS_YOURS } else { 0 });
    writer.u48(edition.incarnation);
    writer.u32(edition.sequence);
    writer.u64(boot.0);
    writer.text(&hello.software, SOFTWARE_MAX)?;
    writer.no_extension();
    Ok(writer.into_bytes())
}

/// The body of a hello.
fn decode(mut reader: Reader<'_>) -> Result<Hello, DecodeError> {
    let cluster = ClusterKey(reader.array()?);
    let versions = (reader.u8()?, reader.u8()?);
    if versions.0 == 0 || versions.0 > versions.1 {
        return Err(DecodeError::Versions(versions.0, versions.1));
    }
    let boot = BootId(reader.u64()?);
    let wall_ms = reader.u48()?;
    let site = SiteKey(reader.array()?);
    let port = reader.u16()?;
    let holds_yours = reader.u8()? & HOLDS_YOURS != 0;
    let incarnation = reader.u48()?;
    let sequence = reader.u32()?;
    let edition = Edition { incarnation, sequence };
    let yours = Some((edition, BootId(reader.u64()?))).filter(|_| holds_yours);
    let software = reader.text(SOFTWARE_MAX)?;
    frame::end(reader)?;
    Ok(Hello {
        cluster,
        versions,
        boot,
        wall_ms,
        site,
        port,
        software,
        yours,
    })
}
