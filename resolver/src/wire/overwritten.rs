//! The octets of a kept packet that change with each reply, and names that lead there.
//!
//! A reply has TTLs of its own, and the letters of the question in the client's case; an owner that repeats the random
//! case of our question gets it in lower case. No sender compresses a name with a TTL for its target, but a pointer can
//! lead there, or into the middle of a label: such a name would be another one in every reply, or none, and what the
//! walk saw would not be what a client gets. The walk breaks it.

use super::answer::Kept;
use std::ops::Range;

/// Octets of a TTL.
const TTL_BYTES: usize = 4;

/// What changes of the part of a packet that was walked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overwritten<'a> {
    /// Where the question ends.
    pub(super) question_end: usize,
    /// Octets of the question's name.
    pub(super) name_bytes: usize,
    /// Where owners repeat it in its random case.
    pub(super) echoes: &'a [usize],
    /// The records kept, in order.
    pub(super) kept: &'a [Kept],
}

impl Overwritten<'_> {
    /// Whether a stretch of a name that a pointer led to means the same in every reply; `ends_in_pointer`: its last two
    /// octets are one. Labels may change their case and nothing else, so they may be of the question, and length octets
    /// are below any letter; but letters can be half a pointer.
    pub(super) fn spares(&self, stretch: &Range<usize>, ends_in_pointer: bool) -> bool {
        let is_clear_of_ttls = match self.kept.first() {
            Some(first) if stretch.end > first.ttl_at => {
                let before = self
                    .kept
                    .partition_point(|record| record.ttl_at + TTL_BYTES <= stretch.start);
                self.kept.get(before).is_none_or(|next| stretch.end <= next.ttl_at)
            }
            Some(_) | None => true,
        };
        is_clear_of_ttls && !(ends_in_pointer && self.has_letters_at(stretch.end.saturating_sub(2)..stretch.end))
    }

    /// Whether one of these octets is of a name whose letters change.
    fn has_letters_at(&self, octets: Range<usize>) -> bool {
        let is_in_echo = |start: &usize| octets.start < *start + self.name_bytes && *start < octets.end;
        octets.start < self.question_end || self.echoes.iter().any(is_in_echo)
    }
}
