//! What comes on a connection, and what it means for the queries the connection carries.

use std::sync::atomic::Ordering;

use detour_core::outcome::Failure;
use detour_core::time::MS;
use detour_core::{Time, Transport};

use super::connection::{CONNECTIONS_MAX, Connection};
use super::link::Arrival;
use crate::report::Report;
use crate::wire::{Expected, Kind, Rejected, accept};

/// How the connection goes on after something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// As before.
    GoOn,
    /// It takes no more queries, and is over when those in flight are answered.
    Drain {
        /// Whether the one in its place may connect before there is a query for it.
        eager: bool,
    },
    /// It is over.
    Broken,
}

impl Connection {
    /// Something came.
    pub(super) fn handle(&mut self, arrival: Arrival) -> Next {
        let now = self.line.clock.now();
        self.last_read = now;
        match arrival {
            Arrival::Message { key, bytes, age_s } => self.handle_message(key, &bytes, age_s, now),
            Arrival::Failed { key, failure } => {
                if let Some(query) = self.pending.take(key) {
                    self.line.failed(&query.attempt, query.begun, failure);
                }
                Next::GoOn
            }
            Arrival::Unprocessed { key } => {
                if let Some(query) = self.pending.take(key) {
                    self.write_again(query);
                }
                Next::GoOn
            }
            Arrival::Declined { key } => {
                if let Some(query) = self.pending.take(key) {
                    self.write_again(query);
                }
                // Where there are many already, the query waits for room on this one.
                if self.known.open.load(Ordering::Relaxed) < CONNECTIONS_MAX {
                    Next::Drain { eager: true }
                } else {
                    Next::GoOn
                }
            }
            Arrival::Draining => Next::Drain { eager: true },
            Arrival::Alive | Arrival::Closed => Next::GoOn,
        }
    }

    /// One message.
    fn handle_message(&mut self, key: Option<u16>, message: &[u8], age_s: u32, now: Time) -> Next {
        let key_of = || message.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
        let own = key.unwrap_or_else(key_of);
        let verdict = self
            .pending
            .find(own)
            .map(|pending| accept(message, &pending.expected(false, self.line.trusts_ad)));
        match verdict {
            // What is forbidden over QUIC ends the connection (RFC 9250 sections 4.3.3 and 5.5.2).
            Some(Ok(accepted)) if accepted.keepalive.is_some() && self.line.transport == Transport::Quic => {
                self.line.reporter.send(Report::Garbage(self.line.endpoint));
                if let Some(query) = self.pending.take(own) {
                    self.line.failed(&query.attempt, query.begun, Failure::Garbage);
                }
                Next::Broken
            }
            // There is nothing longer to be had than a stream carries (RFC 7766 section 8): the query has no answer.
            Some(Ok(accepted)) if accepted.answer.kind() == Kind::Truncated => {
                self.last_answer = now;
                if let Some(query) = self.pending.take(own) {
                    self.line.cut_short(&query.attempt, query.begun);
                }
                Next::GoOn
            }
            Some(Ok(mut accepted)) => {
                accepted.age_s = age_s;
                self.may_retry = true;
                self.last_answer = now;
                // Of a connection that HTTP manages it would say nothing.
                let keepalive = accepted.keepalive.filter(|_| key.is_none());
                if let Some(query) = self.pending.take(own) {
                    self.line
                        .answered(&query.attempt, query.begun, accepted, query.edns_sent, now);
                }
                self.heed(keepalive)
            }
            // A stream of its own: nothing else is in doubt.
            Some(Err(_)) if key.is_some() => {
                self.line.reporter.send(Report::Garbage(self.line.endpoint));
                if let Some(query) = self.pending.take(own) {
                    self.line.failed(&query.attempt, query.begun, Failure::Garbage);
                }
                Next::GoOn
            }
            // An answer to a query forgotten long ago.
            None if key.is_some() || is_answer_shaped(message) => Next::GoOn,
            // On a stream nobody but the endpoint can have sent this: it is not to be trusted with the rest.
            Some(Err(_)) | None => {
                self.line.reporter.send(Report::Garbage(self.line.endpoint));
                for query in self.pending.take_all() {
                    self.line.failed(&query.attempt, query.begun, Failure::Garbage);
                }
                Next::Broken
            }
        }
    }

    /// Does as the server says about idle connections, in tenths of a second: 0 asks for this one to be closed once it is
    /// idle (RFC 7828 section 3.4).
    fn heed(&self, keepalive: Option<u16>) -> Next {
        match keepalive {
            None => Next::GoOn,
            Some(0) => Next::Drain { eager: false },
            Some(tenths) => {
                self.known.idle.lock().told(u64::from(tenths).saturating_mul(100 * MS));
                Next::GoOn
            }
        }
    }
}

/// Whether bytes under an unknown id are at least a DNS answer.
fn is_answer_shaped(message: &[u8]) -> bool {
    let expected = Expected {
        id: message.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes)),
        question: &[],
        check_case: false,
        encrypted: false,
    };
    !matches!(accept(message, &expected), Err(Rejected::Garbage(_)))
}
