//! Pull and push between admitted nodes: `/detour/sync/1`. Snapshots travel in them as they were signed.
//!
//! Every message carries the sender's wall clock, so that each exchange shows how far two clocks are apart.

use std::sync::Arc;

use detour_core::mesh::{DigestLine, NODES_MAX, Passed, RejectedSnapshot};
use detour_core::report::Edition;

use crate::bytes::{Reader, U48_MAX, Writer};
use crate::frame::{self, kind};
use crate::snapshot::SNAPSHOT_MAX;
use crate::{DecodeError, EncodeError, Refused, codes};

/// Longest pull, in bytes.
pub const PULL_MAX: usize = 16 * 1024;
/// Longest push, in bytes.
pub const PUSH_MAX: usize = 16 * 1024;
/// Longest request of this protocol, in bytes: what a reader may allocate for one.
pub const REQUEST_MAX: usize = PULL_MAX;
/// Longest answer of this protocol, in bytes.
pub const ANSWER_MAX: usize = 128 * 1024;
/// Snapshots in one push; who has more pushes again, or leaves it to the next pull.
pub const PUSHED_MAX: usize = 16;
/// Snapshots in the answer to one pull; the next pull gets the next ones.
pub const PULLED_MAX: usize = 128;

/// Give me what is newer than this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Wall clock of the sender, milliseconds since 1970.
    pub wall_ms: u64,
    /// What it holds; at most [`NODES_MAX`] lines.
    pub digest: Vec<DigestLine>,
}

/// The answer to a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullAnswer {
    /// Wall clock of the sender, milliseconds since 1970.
    pub wall_ms: u64,
    /// What is newer; of more than [`PULLED_MAX`] the first are written.
    pub snapshots: Vec<Passed>,
}

/// Here is something new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Wall clock of the sender, milliseconds since 1970.
    pub wall_ms: u64,
    /// What is new; of more than [`PUSHED_MAX`] the first are written.
    pub snapshots: Vec<Passed>,
}

/// The answer to a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushAnswer {
    /// Wall clock of the sender, milliseconds since 1970.
    pub wall_ms: u64,
    /// What became of each snapshot, in their order.
    pub receipts: Vec<Receipt>,
}

/// What became of a snapshot that was pushed; for counters and people, nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is that node's newest there.
    Newest,
    /// Known there already.
    Known,
    /// Not taken, and why.
    Rejected(RejectedSnapshot),
    /// No snapshot of this cluster.
    Unreadable,
    /// Its signature is wrong.
    BadSignature,
    /// None of these, such as a snapshot of a later version; or a number that this version does not know.
    Other,
}

/// What one node asks another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// See [`Pull`].
    Pull(Pull),
    /// See [`Push`].
    Push(Push),
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a pull.
    Pull(PullAnswer),
    /// To a push.
    Push(PushAnswer),
    /// To either.
    Refused(Refused),
}

impl Request {
    /// Its bytes, at most [`REQUEST_MAX`].
    ///
    /// # Errors
    ///
    /// A digest of too many lines or with an incarnation above 48 bits; a snapshot that is empty or too long.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Pull(pull) => pull.encode(),
            Self::Push(push) => encode_passed(kind::PUSH, push.wall_ms, &push.snapshots, PUSHED_MAX),
        }
    }

    /// From what somebody sent.
    ///
    /// # Errors
    ///
    /// What is wrong with it; [`DecodeError::refusal`] is what the sender is told.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match frame::begin(bytes, REQUEST_MAX)? {
            (kind::PULL, reader) => Pull::read(reader).map(Self::Pull),
            (kind::PUSH, reader) => {
                let (wall_ms, snapshots) = read_passed(reader, PUSHED_MAX)?;
                Ok(Self::Push(Push { wall_ms, snapshots }))
            }
            (other, _) => Err(DecodeError::Kind(other)),
        }
    }
}

impl Answer {
    /// Its bytes, at most [`ANSWER_MAX`].
    ///
    /// # Errors
    ///
    /// A snapshot that is empty or too long; a text as in [`Refused::encode`].
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Pull(answer) => encode_passed(kind::PULL_ANSWER, answer.wall_ms, &answer.snapshots, PULLED_MAX),
            Self::Push(answer) => Ok(answer.encode()),
            Self::Refused(refused) => refused.encode(),
        }
    }

    /// From what came back.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match frame::begin(bytes, ANSWER_MAX)? {
            (kind::PULL_ANSWER, reader) => {
                let (wall_ms, snapshots) = read_passed(reader, PULLED_MAX)?;
                Ok(Self::Pull(PullAnswer { wall_ms, snapshots }))
            }
            (kind::PUSH_ANSWER, reader) => PushAnswer::read(reader).map(Self::Push),
            (kind::REFUSED, reader) => Refused::read(reader).map(Self::Refused),
            (other, _) => Err(DecodeError::Kind(other)),
        }
    }
}

impl Pull {
    /// Its bytes.
    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let count = u16::try_from(self.digest.len()).ok();
        let count = count.filter(|count| usize::from(*count) <= NODES_MAX);
        let count = count.ok_or(EncodeError::DigestLength(self.digest.len()))?;
        let mut writer = frame::write(kind::PULL, 256);
        writer.u48(self.wall_ms);
        writer.u16(count);
        for DigestLine { node, edition } in &self.digest {
            if edition.incarnation > U48_MAX {
                return Err(EncodeError::Incarnation(edition.incarnation));
            }
            writer.bytes(node);
            writer.u48(edition.incarnation);
            writer.u32(edition.sequence);
        }
        writer.no_extension();
        Ok(writer.into_bytes())
    }

    /// From the body of a message.
    fn read(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let wall_ms = reader.u48()?;
        let count = reader.u16()?;
        if usize::from(count) > NODES_MAX {
            return Err(DecodeError::DigestLength(count));
        }
        let mut digest = Vec::new();
        for _ in 0..count {
            let node = reader.array()?;
            let incarnation = reader.u48()?;
            let sequence = reader.u32()?;
            let edition = Edition { incarnation, sequence };
            digest.push(DigestLine { node, edition });
        }
        frame::end(reader)?;
        Ok(Self { wall_ms, digest })
    }
}

impl PushAnswer {
    /// Its bytes; of more receipts than a push has snapshots the first.
    fn encode(&self) -> Vec<u8> {
        let receipts = self.receipts.get(..PUSHED_MAX).unwrap_or(&self.receipts);
        let mut writer = frame::write(kind::PUSH_ANSWER, 32);
        writer.u48(self.wall_ms);
        writer.u8(u8::try_from(receipts.len()).unwrap_or(u8::MAX));
        for receipt in receipts {
            writer.u8(receipt.code());
        }
        writer.no_extension();
        writer.into_bytes()
    }

    /// From the body of a message.
    fn read(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let wall_ms = reader.u48()?;
        let count = reader.u8()?;
        if usize::from(count) > PUSHED_MAX {
            return Err(DecodeError::SnapshotCount(count));
        }
        let codes = reader.bytes(usize::from(count))?;
        let receipts = codes.iter().map(|code| Receipt::of_code(*code)).collect();
        frame::end(reader)?;
        Ok(Self { wall_ms, receipts })
    }
}

impl Receipt {
    /// Its number; those of rejections are in [`codes::REJECTIONS`].
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Newest => 0,
            Self::Known => 1,
            Self::Unreadable => 2,
            Self::BadSignature => 3,
            Self::Rejected(why) => codes::rejection_code(why),
            Self::Other => 255,
        }
    }

    /// What has this number.
    #[must_use]
    pub fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Newest,
            1 => Self::Known,
            2 => Self::Unreadable,
            3 => Self::BadSignature,
            _ => codes::rejection_of(code).map_or(Self::Other, Self::Rejected),
        }
    }
}

/// Clock and snapshots: a push, or the answer to a pull. Of more than `max` the first.
fn encode_passed(kind: u8, wall_ms: u64, snapshots: &[Passed], max: usize) -> Result<Vec<u8>, EncodeError> {
    let snapshots = snapshots.get(..max).unwrap_or(snapshots);
    let mut writer = frame::write(kind, 1_024);
    writer.u48(wall_ms);
    writer.u8(u8::try_from(snapshots.len()).unwrap_or(u8::MAX));
    for passed in snapshots {
        write_one(&mut writer, passed)?;
    }
    writer.no_extension();
    Ok(writer.into_bytes())
}

/// One snapshot on its way.
fn write_one(writer: &mut Writer, passed: &Passed) -> Result<(), EncodeError> {
    let length = passed.bytes.len();
    let valid = u16::try_from(length)
        .ok()
        .filter(|_| (1..=SNAPSHOT_MAX).contains(&length));
    writer.u32(passed.age_ms);
    writer.u16(valid.ok_or(EncodeError::SnapshotLength(length))?);
    writer.bytes(&passed.bytes);
    Ok(())
}

/// Clock and snapshots from the body of a message.
fn read_passed(mut reader: Reader<'_>, max: usize) -> Result<(u64, Vec<Passed>), DecodeError> {
    let wall_ms = reader.u48()?;
    let count = reader.u8()?;
    if usize::from(count) > max {
        return Err(DecodeError::SnapshotCount(count));
    }
    let mut snapshots = Vec::new();
    for _ in 0..count {
        let age_ms = reader.u32()?;
        let length = reader.u16()?;
        if !(1..=SNAPSHOT_MAX).contains(&usize::from(length)) {
            return Err(DecodeError::SnapshotLength(length));
        }
        let bytes = Arc::from(reader.bytes(usize::from(length))?);
        snapshots.push(Passed { bytes, age_ms });
    }
    frame::end(reader)?;
    Ok((wall_ms, snapshots))
}
