//! What parts of a running node have to say about themselves: at most one line each, until it is no longer true.
//!
//! A line is logged when it is new and shown by `/api/v1/status` as long as it stands. It names what is wrong, what
//! follows from it and nothing that a client asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The lines, by part. Parts are named in the code, so there are only so many.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    /// Held to read or replace a line.
    lines: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Board {
    /// A part says something, in place of what it said before.
    pub(crate) fn say(&self, part: &'static str, line: &str) {
        let mut lines = self.lines.lock();
        if lines.get(part).is_none_or(|before| before != line) {
            tracing::warn!("{part}: {line}");
            lines.insert(part, line.to_owned());
        }
    }

    /// A part takes back what it said.
    pub(crate) fn withdraw(&self, part: &'static str) {
        if self.lines.lock().remove(part).is_some() {
            tracing::info!("{part}: well again");
        }
    }

    /// All lines, as they are shown.
    #[must_use]
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock();
        lines.iter().map(|(part, line)| format!("{part}: {line}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_one_thing_at_a_time() {
        let board = Board::default();
        board.say("store", "memory only");
        board.say("store", "memory only because the disk is full");
        board.say("cache file", "not written");
        let shown = ["cache file: not written", "store: memory only because the disk is full"];
        assert_eq!(board.clone().lines(), shown);
        board.withdraw("store");
        board.withdraw("store");
        assert_eq!(board.lines(), ["cache file: not written"]);
    }
}
