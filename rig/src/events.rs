//! What a node's log says happened to endpoints, and when: read while the node writes it.
//!
//! The log is JSON, one object per line (`log.format = "json"`). `at_us` is CLOCK_BOOTTIME, the same clock in every
//! process of a machine ([`clock::boot_us`]), so events of several nodes and switched faults are put in one order to
//! the microsecond. A line without it is taken to be as old as its reading.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::Value;

use crate::clock;

/// Bytes read per look; the rest is read at the next one.
const READ_BYTES_MAX: usize = 1 << 20;
/// A line that has no end within so many bytes is none of ours, and dropped.
const LINE_BYTES_MAX: usize = 1 << 16;

/// Something that happened to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, in microseconds of CLOCK_BOOTTIME.
    pub at_us: u64,
    /// To which, as the configuration names it.
    pub endpoint: Box<str>,
    /// What.
    pub what: What,
}

/// What happened; the words are those of `/api/v1/providers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The node's own opinion changed.
    State {
        /// What it was.
        from: Box<str>,
        /// What it is.
        to: Box<str>,
        /// Why.
        cause: Box<str>,
    },
    /// Where plans put it changed, or why.
    Place {
        /// Why it stood where it stood.
        from: Box<str>,
        /// Where it stands.
        place: Box<str>,
        /// Why.
        why: Box<str>,
    },
}

impl Event {
    /// Whether a state begins with it.
    #[must_use]
    pub fn is_state(&self, wanted: &str) -> bool {
        matches!(&self.what, What::State { to, .. } if &**to == wanted)
    }

    /// Whether plans put the endpoint behind others from here on.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(&self.what, What::Place { place, .. } if &**place != "normal")
    }

    /// Whether plans treat it like any other from here on.
    #[must_use]
    pub fn is_return(&self) -> bool {
        matches!(&self.what, What::Place { place, .. } if &**place == "normal")
    }

    fn of(line: &[u8]) -> Option<Self> {
        let fields: Value = serde_json::from_slice(line).ok()?;
        let text = |key: &str| fields.get(key)?.as_str().map(Box::from);
        let what = match fields.get("message")?.as_str()? {
            "endpoint state changed" => What::State {
                from: text("from")?,
                to: text("to")?,
                cause: text("cause")?,
            },
            "endpoint place changed" => What::Place {
                from: text("from")?,
                place: text("place")?,
                why: text("why")?,
            },
            _ => return None,
        };
        Some(Self {
            at_us: fields
                .get("at_us")
                .and_then(Value::as_u64)
                .unwrap_or_else(clock::boot_us),
            endpoint: text("endpoint")?,
            what,
        })
    }
}

/// A node's log, from its beginning on.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    /// What was read of a line whose end is not there yet.
    begun: Vec<u8>,
}

impl EventLog {
    /// The log in this file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            begun: Vec::new(),
        })
    }

    /// What happened since the last call, in the order of the log. A log that cannot be read says nothing.
    pub fn read(&mut self) -> Vec<Event> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(READ_BYTES_MAX).unwrap_or(u64::MAX);
        if self.file.by_ref().take(limit).read_to_end(&mut bytes).is_err() {
            return Vec::new();
        }
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") {
                events.extend(Event::of(&self.begun));
                self.begun.clear();
            } else if self.begun.len() > LINE_BYTES_MAX {
                self.begun.clear();
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn events_are_read_as_they_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.log");
        let mut file = File::create(&path).unwrap();
        let mut log = EventLog::open(&path).unwrap();
        assert_eq!(log.read(), []);
        file.write_all(
            br#"{"level":"WARN","message":"endpoint state changed","endpoint":"udp://a","from":"suspect","to":"down","cause":"timeout","at_us":17}
{"level":"INFO","message":"ready"}
no JSON
{"message":"endpoint place changed","endpoint":"udp://a","pla"#,
        )
        .unwrap();
        let events = log.read();
        assert_eq!(events.len(), 1);
        assert!(events[0].is_state("down") && !events[0].is_leaving(), "{events:?}");
        assert_eq!((events[0].at_us, &*events[0].endpoint), (17, "udp://a"));
        let before = clock::boot_us();
        file.write_all(b"ce\":\"last\",\"from\":\"healthy\",\"why\":\"suspect\"}\n")
            .unwrap();
        let events = log.read();
        assert!(events.len() == 1 && events[0].is_leaving(), "{events:?}");
        assert!(
            events[0].at_us >= before,
            "a line without a time is as old as its reading"
        );
        assert_eq!(log.read(), []);
    }
}
