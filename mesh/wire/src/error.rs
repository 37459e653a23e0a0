//! What can be wrong with bytes from outside, and with values from inside.

use detour_core::mesh::Refusal;
use thiserror::Error;

/// Why bytes are not what they should be. Nothing of them was believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Longer than its kind may be; not looked at.
    #[error("{length} bytes, at most {max}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The bound of its kind.
        max: usize,
    },
    /// It ends before its layout does.
    #[error("ends too early")]
    TooShort,
    /// More bytes than its layout has.
    #[error("{0} bytes after the end")]
    Trailing(usize),
    /// It does not begin as a snapshot does.
    #[error("not a snapshot")]
    NotASnapshot,
    /// A layout of another version: of a later build, nobody's fault.
    #[error("version {0}")]
    Version(u8),
    /// A kind of message that this version does not know, or not here.
    #[error("kind {0}")]
    Kind(u8),
    /// Of another cluster.
    #[error("of another cluster")]
    OtherCluster,
    /// A node signs anew after no time at all.
    #[error("a period of no time")]
    Period,
    /// More entries than a snapshot has.
    #[error("{0} entries")]
    EntryCount(u8),
    /// Entries shorter than those of the first version.
    #[error("entries of {0} bytes")]
    EntryLength(u8),
    /// Two entries of one endpoint.
    #[error("two entries of one endpoint")]
    EntryTwice,
    /// The lowest version is above the highest, or zero.
    #[error("versions {0} to {1}")]
    Versions(u8, u8),
    /// A text longer than it may be.
    #[error("a text of {0} bytes")]
    TextLength(u8),
    /// A text with something else than printable ASCII.
    #[error("a text that cannot be shown")]
    Text,
    /// More lines in a digest than there are nodes.
    #[error("a digest of {0} lines")]
    DigestLength(u16),
    /// More snapshots in a message than it may have.
    #[error("{0} snapshots")]
    SnapshotCount(u8),
    /// A snapshot that is empty or longer than one can be.
    #[error("a snapshot of {0} bytes")]
    SnapshotLength(u16),
}

impl DecodeError {
    /// Whether a sender of a later version can mean well by this: ignored, never held against who passed it on.
    #[must_use]
    pub fn is_later_version(self) -> bool {
        matches!(self, Self::Version(_) | Self::Kind(_))
    }

    /// What the sender of such a request is told.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Version(_) | Self::Kind(_) => Refusal::Unsupported,
            Self::OtherCluster => Refusal::OtherCluster,
            Self::TooLong { .. }
            | Self::TooShort
            | Self::Trailing(_)
            | Self::NotASnapshot
            | Self::Period
            | Self::EntryCount(_)
            | Self::EntryLength(_)
            | Self::EntryTwice
            | Self::Versions(..)
            | Self::TextLength(_)
            | Self::Text
            | Self::DigestLength(_)
            | Self::SnapshotCount(_)
            | Self::SnapshotLength(_) => Refusal::Malformed,
        }
    }
}

/// Why a value has no bytes: a mistake of this build, never a peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// More than [`detour_core::report::OPINIONS_MAX`] endpoints.
    #[error("{0} entries")]
    EntryCount(usize),
    /// An incarnation above 48 bits.
    #[error("incarnation {0}")]
    Incarnation(u64),
    /// A period of no time.
    #[error("a period of no time")]
    Period,
    /// The lowest version is above the highest, or zero.
    #[error("versions {0} to {1}")]
    Versions(u8, u8),
    /// A text that is too long, or not printable ASCII.
    #[error("a text of {0} bytes that is too long or cannot be shown")]
    Text(usize),
    /// A digest of more lines than there are nodes.
    #[error("a digest of {0} lines")]
    DigestLength(usize),
    /// A snapshot that is empty or longer than one can be.
    #[error("a snapshot of {0} bytes")]
    SnapshotLength(usize),
}
