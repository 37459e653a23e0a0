//! A message that comes in pieces on a stream of its own.
//!
//! Of each message as much is kept as of a datagram: what is longer is read to its end and answered as what it is without
//! it, mostly by FORMERR. What is kept of all messages of a connection is bounded too: a client that begins a hundred
//! queries and ends none makes work and nothing else.

use std::sync::Arc;

use super::backlog::Backlog;
use crate::wire::MESSAGE_BYTES_MAX;

/// Bytes of a message that are kept.
pub(super) const KEPT_BYTES: usize = 4_096;

/// What has come of a message.
#[derive(Debug)]
pub(super) struct Gathered {
    kept: Vec<u8>,
    /// All that came, kept or not.
    bytes: usize,
    /// Bytes before the message itself.
    before: usize,
    backlog: Arc<Backlog>,
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.backlog.let_go(self.kept.len());
    }
}

impl Gathered {
    /// Of a message behind so many bytes of framing.
    pub(super) fn behind(before: usize, backlog: &Arc<Backlog>) -> Self {
        Self {
            kept: Vec::new(),
            bytes: 0,
            before,
            backlog: Arc::clone(backlog),
        }
    }

    /// The next piece came. False: it is longer than any message.
    pub(super) fn push(&mut self, piece: &[u8]) -> bool {
        let room = (self.before + KEPT_BYTES).saturating_sub(self.kept.len());
        let kept = piece.get(..room).unwrap_or(piece);
        self.kept.extend_from_slice(kept);
        self.backlog.gather(kept.len());
        self.bytes = self.bytes.saturating_add(piece.len());
        self.bytes <= self.before + MESSAGE_BYTES_MAX
    }

    /// What is kept, with what stands before the message.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// How long it is in all.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_message_the_beginning_is_kept_and_counts_until_it_is_dropped() {
        let backlog = Arc::new(Backlog::new([192, 0, 2, 1].into()));
        let mut gathered = Gathered::behind(2, &backlog);
        for _ in 0..16 {
            assert!(gathered.push(&[7; KEPT_BYTES]));
        }
        assert!(gathered.push(&[7]));
        assert_eq!((gathered.kept().len(), gathered.bytes()), (2 + KEPT_BYTES, 65_537));
        assert!(!gathered.push(&[7]));
        let others: Vec<_> = (0..14)
            .map(|_| {
                let mut other = Gathered::behind(0, &backlog);
                other.push(&[7; KEPT_BYTES]);
                other
            })
            .collect();
        assert!(!backlog.holds_too_much());
        let mut last = Gathered::behind(0, &backlog);
        assert!(last.push(&[7; KEPT_BYTES]) && backlog.holds_too_much());
        drop((others, last));
        assert!(!backlog.holds_too_much());
    }
}
