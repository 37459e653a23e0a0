//! Walking and holding domain names.
//!
//! A compressed name is followed by rules no loop survives (RFC 1035 4.1.4 "a prior occurrence", RFC 9267): each
//! pointer must lead to labels that end before the run of labels begins that it ends, never into the header, at most
//! 128 times; label types 01 and 10 are refused, and a name has at most 255 octets decoded (RFC 1035 3.1).
//!
//! [`NameBuf`] is always a whole, uncompressed, ASCII-lower-cased name: equality, order and hash of its bytes are those
//! of the name (RFC 4343). Bytes outside ASCII letters are never changed: a label may hold any octet.

use super::header::HEADER_BYTES;
use super::u16_at;
use std::hash::{Hash, Hasher};
use std::ops::Range;

/// The longest name in wire form, length octets and root included (RFC 1035 2.3.4).
pub const NAME_BYTES_MAX: usize = 255;

/// The longest label (RFC 1035 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// Pointers followed in one name. A name has at most 127 labels, so no sane name needs more than one pointer per
/// label; BIND and Unbound stop at 127 and 256.
const HOPS_MAX: u32 = 128;

/// Whether a name may be compressed where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pointers {
    /// Backward pointers are followed.
    Allowed,
    /// A pointer breaks the name: nothing comes before it.
    Refused,
}

/// Where the name at `offset` of `msg` ends (behind its root octet or first pointer); `None` if it is broken.
#[must_use]
pub fn skip_name(msg: &[u8], offset: usize) -> Option<usize> {
    walk(msg, offset, Pointers::Allowed, |_| {}, |_, _| true)
}

/// As [`skip_name`], if `may_read` says so of each stretch that a pointer leads to: where it stands, and whether it ends in
/// another pointer.
pub(super) fn skip_name_if(
    msg: &[u8],
    offset: usize,
    may_read: impl FnMut(&Range<usize>, bool) -> bool,
) -> Option<usize> {
    walk(msg, offset, Pointers::Allowed, |_| {}, may_read)
}

/// As [`skip_name`], for a place where no pointer may stand (a question).
#[must_use]
pub fn skip_plain_name(msg: &[u8], offset: usize) -> Option<usize> {
    walk(msg, offset, Pointers::Refused, |_| {}, |_, _| true)
}

/// Reads the name at `offset`, decompressed and lower-cased, into `name` and says where it ends; on `None` the
/// buffer holds the root.
#[must_use]
pub fn read_name_folded(msg: &[u8], offset: usize, name: &mut NameBuf) -> Option<usize> {
    read_name_folded_if(msg, offset, name, |_, _| true)
}

/// As [`read_name_folded`], if `may_read` says so as in [`skip_name_if`].
pub(super) fn read_name_folded_if(
    msg: &[u8],
    offset: usize,
    name: &mut NameBuf,
    may_read: impl FnMut(&Range<usize>, bool) -> bool,
) -> Option<usize> {
    name.len = 0;
    let end = walk(msg, offset, Pointers::Allowed, |label| name.push(label), may_read);
    if end.is_some() {
        name.push(&[0]);
        name.fold();
    } else {
        *name = NameBuf::root();
    }
    end
}

/// Appends the name at `offset`, decompressed, its letters as they are, to `out` and says where it ends; what was appended
/// by then stays there on `None`.
#[must_use]
pub(super) fn push_name(msg: &[u8], offset: usize, out: &mut Vec<u8>) -> Option<usize> {
    let end = walk(
        msg,
        offset,
        Pointers::Allowed,
        |label| out.extend_from_slice(label),
        |_, _| true,
    )?;
    out.push(0);
    Some(end)
}

/// Calls `label` with each label (length octet included, root left out) and returns where the name ends in place. What
/// pointers lead to is shown to `may_read`, stretch by stretch.
fn walk<'a>(
    msg: &'a [u8],
    offset: usize,
    pointers: Pointers,
    mut label: impl FnMut(&'a [u8]),
    mut may_read: impl FnMut(&Range<usize>, bool) -> bool,
) -> Option<usize> {
    let mut at = offset;
    let mut run_start = offset;
    let mut run_limit = msg.len();
    let mut end_in_place = None;
    let mut decoded_bytes = 1;
    let mut hops = 0;
    loop {
        let first = *msg.get(at).filter(|_| at < run_limit)?;
        match first {
            0 => {
                let is_allowed = end_in_place.is_none() || may_read(&(run_start..at + 1), false);
                return is_allowed.then(|| end_in_place.unwrap_or(at + 1));
            }
            1..=63 => {
                let next = at + usize::from(first) + 1;
                decoded_bytes += usize::from(first) + 1;
                if decoded_bytes > NAME_BYTES_MAX {
                    return None;
                }
                label(msg.get(at..next)?);
                at = next;
            }
            64..=191 => return None,
            192..=255 => {
                let target = usize::from(u16_at(msg, at)? & 0x3FFF);
                hops += 1;
                let is_prior = at + 2 <= run_limit && (HEADER_BYTES..run_start).contains(&target);
                if pointers == Pointers::Refused || hops > HOPS_MAX || !is_prior {
                    return None;
                }
                if end_in_place.is_some() && !may_read(&(run_start..at + 2), true) {
                    return None;
                }
                end_in_place.get_or_insert(at + 2);
                run_limit = run_start;
                run_start = target;
                at = target;
            }
        }
    }
}

/// A whole name in lower case and wire form, on the stack.
#[derive(Clone)]
pub struct NameBuf {
    len: u8,
    bytes: [u8; NAME_BYTES_MAX],
}

impl NameBuf {
    /// The root.
    #[must_use]
    pub const fn root() -> Self {
        Self {
            len: 1,
            bytes: [0; NAME_BYTES_MAX],
        }
    }

    /// The name these bytes are exactly, lower-cased; `None` if they are no whole uncompressed name.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        let end = skip_plain_name(bytes, 0)?;
        (end == bytes.len()).then(|| Self::from_checked(bytes))
    }

    /// The name at `offset`, where no pointer may stand, and where it ends.
    pub(super) fn read_plain(msg: &[u8], offset: usize) -> Option<(Self, usize)> {
        let end = skip_plain_name(msg, offset)?;
        Some((Self::from_checked(msg.get(offset..end)?), end))
    }

    /// Takes bytes that a walk has found to be one plain name.
    fn from_checked(bytes: &[u8]) -> Self {
        let mut name = Self::root();
        name.len = 0;
        name.push(bytes);
        name.fold();
        name
    }

    /// The wire form: length-prefixed labels, lower-cased, root octet included.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[0])
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.len <= 1
    }

    /// The labels from left to right, without length octets and without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.suffixes().filter_map(|suffix| {
            let (len, rest) = suffix.split_first()?;
            (*len > 0).then(|| rest.get(..usize::from(*len))).flatten()
        })
    }

    /// The name itself, its parent, and so on to the root, each in wire form: the order of a longest-match lookup.
    #[must_use]
    pub fn suffixes(&self) -> Suffixes<'_> {
        Suffixes {
            rest: Some(self.as_wire()),
        }
    }

    /// The registrable domain by the public suffix list, in wire form: `example.co.uk` of `www.example.co.uk`. A name
    /// that is itself a public suffix, or the root, is returned whole.
    #[must_use]
    pub fn registrable(&self) -> &[u8] {
        let wire = self.as_wire();
        let mut dotted = [0_u8; NAME_BYTES_MAX];
        let mut used = 0;
        for label in self.labels() {
            let end = used + label.len();
            let Some(place) = dotted.get_mut(used..end) else {
                return wire;
            };
            // A dot inside a label would be taken for a border; any other octet has no meaning in the list.
            for (to, from) in place.iter_mut().zip(label) {
                *to = if *from == b'.' { b'_' } else { *from };
            }
            if let Some(dot) = dotted.get_mut(end) {
                *dot = b'.';
            }
            used = end + 1;
        }
        let found = dotted.get(..used.saturating_sub(1)).and_then(psl::domain);
        // The dotted text of a suffix is its wire form less the first length octet and the root.
        found
            .and_then(|domain| wire.len().checked_sub(domain.as_bytes().len() + 2))
            .and_then(|start| wire.get(start..))
            .unwrap_or(wire)
    }

    /// Whether the public suffix list has this very name: `com`, `co.uk`. Top-level domains that it does not know, such as
    /// `lan`, are none.
    #[must_use]
    pub fn is_public_suffix(&self) -> bool {
        let labels: Vec<&[u8]> = self.labels().collect();
        let dotted = labels.join(&b'.');
        psl::suffix(&dotted).is_some_and(|suffix| suffix.is_known() && suffix.as_bytes() == dotted)
    }

    /// A 64-bit hash of the name that is the same on every node and in every run.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(self.as_wire(), 0)
    }

    /// As [`Self::fingerprint`], different for each seed.
    #[must_use]
    pub fn fingerprint_seeded(&self, seed: u64) -> u64 {
        fingerprint(self.as_wire(), seed)
    }

    /// Appends bytes; what would exceed the longest name is dropped, which the walk has ruled out.
    fn push(&mut self, part: &[u8]) {
        let start = usize::from(self.len);
        let end = start + part.len();
        debug_assert!(end <= NAME_BYTES_MAX, "the walk bounds the name");
        if let (Some(place), Ok(len)) = (self.bytes.get_mut(start..end), u8::try_from(end)) {
            place.copy_from_slice(part);
            self.len = len;
        }
    }

    /// Lower-cases the name; length octets are below `A` and stay.
    fn fold(&mut self) {
        if let Some(used) = self.bytes.get_mut(..usize::from(self.len)) {
            used.make_ascii_lowercase();
        }
    }
}

/// FNV-1a over lower-cased wire bytes with a final mix, so that low bits can choose a bucket. It spreads load and
/// names shards; it does not resist somebody who chooses names to collide.
#[must_use]
pub fn fingerprint(wire: &[u8], seed: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for byte in wire {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

/// See [`NameBuf::suffixes`].
#[derive(Debug, Clone)]
pub struct Suffixes<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Suffixes<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let current = self.rest?;
        let len = usize::from(*current.first()?);
        self.rest = (len > 0).then(|| current.get(len + 1..)).flatten();
        Some(current)
    }
}

impl PartialEq for NameBuf {
    fn eq(&self, other: &Self) -> bool {
        self.as_wire() == other.as_wire()
    }
}

impl Eq for NameBuf {}

impl PartialOrd for NameBuf {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NameBuf {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_wire().cmp(other.as_wire())
    }
}

impl Hash for NameBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_wire().hash(state);
    }
}
