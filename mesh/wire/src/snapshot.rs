//! A node's signed statement as bytes: what travels by push, pull and gossip, unchanged from its signer to everybody.
//!
//! ```text
//! "detour-snapshot:"  version  cluster  node  boot  incarnation  sequence  issued  period  flags  site   fixed head
//! count  entry length                                                                                   of the entries
//! entries                                                                                               count times
//! extension length  extension                                                                           of later versions
//! signature                                                                                             over all before
//! ```

use detour_core::report::{BootId, ClusterKey, Edition, EndpointKey, Entry, NodeId, OPINIONS_MAX, SiteKey, Snapshot};

use crate::bytes::{Reader, U48_MAX, Writer};
use crate::codes;
use crate::{DecodeError, EncodeError, VERSION};

/// What every snapshot begins with, and so what every signature covers first: nothing else that a node's key signs
/// begins like this.
pub const MAGIC: [u8; 16] = *b"detour-snapshot:";
/// Longest snapshot in bytes, signature included: it fits one packet of QUIC, and gossip never announces it beforehand.
pub const SNAPSHOT_MAX: usize = 999;
/// Bytes of one entry of this version.
pub const ENTRY_LENGTH: u8 = 23;
/// Bytes of an Ed25519 signature (RFC 8032 section 5.1.6).
pub const SIGNATURE_LENGTH: usize = 64;

/// A path of the node is suspect.
const UPLINK_SUSPECT: u8 = 1;
/// The node is about to stop.
const LEAVING: u8 = 2;
/// See [`Entry::witnessed`].
const WITNESSED: u8 = 1;
/// See [`Entry::stalled`].
const STALLED: u8 = 2;
/// The age that says there is none.
const NO_AGE: u32 = u32::MAX;

/// A snapshot that is well-formed and of this cluster. Nothing of it may be believed before the caller has verified
/// `signature` over `signed` with the key `snapshot.node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened<'a> {
    /// What it says.
    pub snapshot: Snapshot,
    /// The bytes that the signature covers.
    pub signed: &'a [u8],
    /// Ed25519, by the node.
    pub signature: [u8; SIGNATURE_LENGTH],
    /// Entries left out because this version does not know their state.
    pub skipped: u8,
    /// What a later version put behind the entries, unread.
    pub extension: &'a [u8],
}

/// Who says it and which edition it is: enough to drop what is known already before a signature is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Who claims to have signed it.
    pub node: NodeId,
    /// Which life of it.
    pub boot: BootId,
    /// Which of its snapshots.
    pub edition: Edition,
}

/// The bytes of a snapshot that its node must sign. Of two entries of one endpoint the first is written.
///
/// # Errors
///
/// More than [`OPINIONS_MAX`] entries, an incarnation above 48 bits, a period of no time.
pub fn signed_part(snapshot: &Snapshot, cluster: ClusterKey) -> Result<Vec<u8>, EncodeError> {
    let Edition { incarnation, sequence } = snapshot.edition;
    if incarnation > U48_MAX {
        return Err(EncodeError::Incarnation(incarnation));
    }
    if snapshot.period_s == 0 {
        return Err(EncodeError::Period);
    }
    let mut entries: Vec<&Entry> = Vec::with_capacity(OPINIONS_MAX);
    for entry in &snapshot.entries {
        if !entries.iter().any(|other| other.endpoint == entry.endpoint) {
            entries.push(entry);
        }
    }
    let count = u8::try_from(entries.len())
        .ok()
        .filter(|count| usize::from(*count) <= OPINIONS_MAX);
    let count = count.ok_or(EncodeError::EntryCount(entries.len()))?;
    let mut writer = Writer::with_capacity(SNAPSHOT_MAX);
    writer.bytes(&MAGIC);
    writer.u8(VERSION);
    writer.bytes(&cluster.0);
    writer.bytes(&snapshot.node.0);
    writer.u64(snapshot.boot.0);
    writer.u48(incarnation);
    writer.u32(sequence);
    writer.u48(snapshot.issued_wall_ms);
    writer.u8(snapshot.period_s);
    writer.u8(bits(&[
        (snapshot.uplink_suspect, UPLINK_SUSPECT),
        (snapshot.leaving, LEAVING),
    ]));
    writer.bytes(&snapshot.site.0);
    writer.u8(count);
    writer.u8(ENTRY_LENGTH);
    for entry in entries {
        write_entry(&mut writer, entry);
    }
    writer.no_extension();
    Ok(writer.into_bytes())
}

/// The snapshot as it travels: what [`signed_part`] gave, and its signature.
#[must_use]
pub fn seal(mut signed: Vec<u8>, signature: [u8; SIGNATURE_LENGTH]) -> Vec<u8> {
    signed.extend_from_slice(&signature);
    signed
}

/// Reads a snapshot; cheap, so that a flood is dropped before a signature is verified: size, magic, version and cluster
/// first.
///
/// # Errors
///
/// What is wrong with it. Of a later version ([`DecodeError::is_later_version`]): nobody's fault.
pub fn open(bytes: &[u8], cluster: ClusterKey) -> Result<Opened<'_>, DecodeError> {
    let (head, mut reader) = begin(bytes, cluster)?;
    let issued_wall_ms = reader.u48()?;
    let period_s = reader.u8()?;
    if period_s == 0 {
        return Err(DecodeError::Period);
    }
    let flags = reader.u8()?;
    let site = SiteKey(reader.array()?);
    let count = reader.u8()?;
    if usize::from(count) > OPINIONS_MAX {
        return Err(DecodeError::EntryCount(count));
    }
    let entry_length = reader.u8()?;
    if entry_length < ENTRY_LENGTH {
        return Err(DecodeError::EntryLength(entry_length));
    }
    let mut entries = Vec::with_capacity(usize::from(count));
    let mut seen: Vec<EndpointKey> = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let mut one = Reader::new(reader.bytes(usize::from(entry_length))?, SNAPSHOT_MAX)?;
        let (endpoint, entry) = read_entry(&mut one)?;
        if seen.contains(&endpoint) {
            return Err(DecodeError::EntryTwice);
        }
        seen.push(endpoint);
        entries.extend(entry);
    }
    let extension = reader.extension()?;
    let signed = bytes
        .get(..bytes.len().saturating_sub(reader.left()))
        .unwrap_or_default();
    let signature = reader.array()?;
    reader.finish()?;
    let skipped = u8::try_from(seen.len().saturating_sub(entries.len())).unwrap_or(u8::MAX);
    let snapshot = Snapshot {
        node: head.node,
        boot: head.boot,
        edition: head.edition,
        issued_wall_ms,
        period_s,
        site,
        uplink_suspect: flags & UPLINK_SUSPECT != 0,
        leaving: flags & LEAVING != 0,
        entries,
    };
    Ok(Opened {
        snapshot,
        signed,
        signature,
        skipped,
        extension,
    })
}

/// Reads the head only, unverified: good for dropping a snapshot, for nothing else.
///
/// # Errors
///
/// As [`open`], as far as the head goes.
pub fn head(bytes: &[u8], cluster: ClusterKey) -> Result<Head, DecodeError> {
    begin(bytes, cluster).map(|(head, _)| head)
}

/// The head, and what follows it.
fn begin(bytes: &[u8], cluster: ClusterKey) -> Result<(Head, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(bytes, SNAPSHOT_MAX)?;
    if reader.array()? != MAGIC {
        return Err(DecodeError::NotASnapshot);
    }
    match reader.u8()? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    if ClusterKey(reader.array()?) != cluster {
        return Err(DecodeError::OtherCluster);
    }
    let node = NodeId(reader.array()?);
    let boot = BootId(reader.u64()?);
    let incarnation = reader.u48()?;
    let sequence = reader.u32()?;
    let edition = Edition { incarnation, sequence };
    Ok((Head { node, boot, edition }, reader))
}

/// One entry of this version's length.
fn write_entry(writer: &mut Writer, entry: &Entry) {
    writer.bytes(&entry.endpoint.0);
    writer.u8(codes::state_code(entry.state));
    writer.u8(codes::cause_code(entry.cause));
    writer.u8(bits(&[(entry.witnessed, WITNESSED), (entry.stalled, STALLED)]));
    writer.u32(entry.first_failure_age_ms.unwrap_or(NO_AGE));
    writer.u32(entry.last_failure_age_ms.unwrap_or(NO_AGE));
    writer.u32(entry.last_success_age_ms.unwrap_or(NO_AGE));
}

/// The endpoint of an entry, and the entry if its state is known here. What a later version put behind is not read.
fn read_entry(reader: &mut Reader<'_>) -> Result<(EndpointKey, Option<Entry>), DecodeError> {
    let endpoint = EndpointKey(reader.array()?);
    let state = codes::state_of(reader.u8()?);
    let cause = codes::cause_of(reader.u8()?).unwrap_or(detour_core::outcome::Cause::Other);
    let flags = reader.u8()?;
    let mut age = || Ok(Some(reader.u32()?).filter(|age| *age != NO_AGE));
    let (first_failure_age_ms, last_failure_age_ms, last_success_age_ms) = (age()?, age()?, age()?);
    let entry = state.map(|state| Entry {
        endpoint,
        state,
        cause,
        witnessed: flags & WITNESSED != 0,
        stalled: flags & STALLED != 0,
        first_failure_age_ms,
        last_failure_age_ms,
        last_success_age_ms,
    });
    Ok((endpoint, entry))
}

/// The flags that hold, in one byte.
fn bits(flags: &[(bool, u8)]) -> u8 {
    flags
        .iter()
        .filter(|(holds, _)| *holds)
        .fold(0, |all, (_, bit)| all | bit)
}
