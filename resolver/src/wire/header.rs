//! The twelve bytes every message begins with (RFC 1035 4.1.1), and their flags.
//!
//! Reading judges nothing: whether a flag or a count is allowed is for the reader of the message to say.

use super::u16_at;

/// Size of the header.
pub(super) const HEADER_BYTES: usize = 12;

/// Flag: this is a response.
pub(super) const QR: u16 = 1 << 15;
/// Flag: authoritative answer.
pub(super) const AA: u16 = 1 << 10;
/// Flag: truncated.
pub(super) const TC: u16 = 1 << 9;
/// Flag: recursion desired.
pub(super) const RD: u16 = 1 << 8;
/// Flag: recursion available.
pub(super) const RA: u16 = 1 << 7;
/// Flag: authentic data.
pub(super) const AD: u16 = 1 << 5;
/// Flag: checking disabled.
pub(super) const CD: u16 = 1 << 4;
/// The response code's place.
pub(super) const RCODE_MASK: u16 = 0xF;

/// A header as read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// The message's id.
    pub(super) id: u16,
    /// The whole flag word: flags, opcode, rcode.
    pub(super) flags: u16,
    /// How many questions are announced.
    pub(super) question_count: u16,
    /// How many records are announced: answer, authority, additional.
    pub(super) record_counts: [u16; 3],
}

impl Header {
    /// The header of `msg`; `None` when it is not whole.
    pub(super) fn read(msg: &[u8]) -> Option<Self> {
        Some(Self {
            id: u16_at(msg, 0)?,
            flags: u16_at(msg, 2)?,
            question_count: u16_at(msg, 4)?,
            record_counts: [u16_at(msg, 6)?, u16_at(msg, 8)?, u16_at(msg, 10)?],
        })
    }

    /// Whether any of these flags is set.
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The operation, 0 to 15; 0 is QUERY.
    pub(super) fn opcode(&self) -> u16 {
        (self.flags >> 11) & 0xF
    }

    /// The lower four bits of the response code.
    pub(super) fn rcode(&self) -> u16 {
        self.flags & RCODE_MASK
    }

    /// The header's bytes.
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [answer, authority, additional] = self.record_counts.map(u16::to_be_bytes);
        let [id, flags, questions] = [self.id, self.flags, self.question_count].map(u16::to_be_bytes);
        [
            id[0],
            id[1],
            flags[0],
            flags[1],
            questions[0],
            questions[1],
            answer[0],
            answer[1],
            authority[0],
            authority[1],
            additional[0],
            additional[1],
        ]
    }
}
