//! Failures without later success: which are one event, which late answers withdraw, and when they condemn.
//!
//! Many queries that fail in the same instant are one failure: at a thousand queries a second a counter would
//! condemn an endpoint for a hiccup of three milliseconds.

use super::attempt::Begun;
use crate::time::{MS, Time};

/// Failures begun closer together than this are one event.
pub(super) const DISTINCT_US: u64 = 100 * MS;
/// Distinct failures remembered; three decide.
pub(super) const FAILURES_MAX: usize = 8;
/// Distinct failures that condemn.
const FAILURES_DOWN: usize = 3;

/// Failures begun within 100 ms of each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failed {
    /// When the first of them began.
    pub(super) begun: Time,
    /// Its socket.
    socket: u64,
    /// Whether another socket failed in the same instant.
    more_sockets: bool,
    /// Attempts that make it up; late answers take them away.
    members: u32,
}

/// Distinct failures, oldest first.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// At most [`FAILURES_MAX`].
    list: Vec<Failed>,
}

impl Failures {
    /// Files a failed attempt; says when the failure it is part of began.
    pub(super) fn file(&mut self, begun: Begun) -> Time {
        let same = self
            .list
            .iter_mut()
            .find(|f| f.begun.since(begun.at) < DISTINCT_US && begun.at.since(f.begun) < DISTINCT_US);
        if let Some(failure) = same {
            failure.members = failure.members.saturating_add(1);
            failure.more_sockets |= failure.socket != begun.socket;
            return failure.begun;
        }
        if self.list.len() >= FAILURES_MAX {
            // The first one tells since when; the middle ones decide nothing.
            self.list.remove(1);
        }
        self.list.push(Failed {
            begun: begun.at,
            socket: begun.socket,
            more_sockets: false,
            members: 1,
        });
        self.list.sort_by_key(|failure| failure.begun);
        begun.at
    }

    /// An attempt filed under the failure begun at `failure` was answered after all.
    pub(super) fn withdraw(&mut self, failure: Time) {
        for own in self.list.iter_mut().filter(|own| own.begun == failure) {
            own.members = own.members.saturating_sub(1);
        }
        self.list.retain(|own| own.members > 0);
    }

    /// Forgets what began at `until` or before.
    pub(super) fn forget_until(&mut self, until: Time) {
        self.list.retain(|failure| failure.begun > until);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// Whether none stands.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those that stand.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Failed> {
        self.list.iter()
    }

    /// Since when three distinct failures over two sockets stand.
    pub(super) fn condemning_since(&self) -> Option<Time> {
        let first = self.list.first()?;
        let two_sockets = self.list.iter().any(|f| f.more_sockets || f.socket != first.socket);
        (self.list.len() >= FAILURES_DOWN && two_sockets).then_some(first.begun)
    }
}
