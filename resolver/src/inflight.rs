//! Identical questions in flight are one: the first asks, the others wait for its answer.
//!
//! Besides the load it saves, this is a defence: many identical questions outstanding at once would give a forger
//! as many chances (RFC 5452 section 5). Client subnet never splits the key, because it is never sent.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::ask::Ask;
use crate::serve::Resolved;

/// Clients that may wait for one answer; more are told SERVFAIL at once.
const WAITERS_MAX: usize = 1_000;

/// What distinguishes questions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: Box<[u8]>,
    qtype: u16,
    qclass: u16,
    flags: (bool, bool),
}

impl Key {
    fn of(ask: &Ask) -> Self {
        Self {
            name: ask.name.as_wire().into(),
            qtype: ask.qtype,
            qclass: ask.qclass,
            flags: (ask.do_bit, ask.cd),
        }
    }
}

/// Questions in flight and who waits for them.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    /// Bounded by the permits for misses; held for a map operation at a time.
    waiting: Mutex<HashMap<Key, Vec<oneshot::Sender<Resolved>>>>,
}

/// The part a client plays.
#[derive(Debug)]
pub(crate) enum Role<'a> {
    /// Ask, and tell the others by the guard.
    Leader(Leader<'a>),
    /// Wait.
    Follower(oneshot::Receiver<Resolved>),
    /// Too many wait already.
    Crowded,
}

impl InFlight {
    /// Joins whoever asks the same.
    pub(crate) fn join(&self, ask: &Ask) -> Role<'_> {
        let key = Key::of(ask);
        let mut waiting = self.waiting.lock();
        match waiting.get_mut(&key) {
            Some(waiters) if waiters.len() >= WAITERS_MAX => Role::Crowded,
            Some(waiters) => {
                let (sender, receiver) = oneshot::channel();
                waiters.push(sender);
                Role::Follower(receiver)
            }
            None => {
                waiting.insert(key.clone(), Vec::new());
                Role::Leader(Leader {
                    inflight: self,
                    key: Some(key),
                })
            }
        }
    }

    /// Questions in flight.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

/// Held by the one who asks; dropped without an answer, it lets the waiters know.
#[derive(Debug)]
pub(crate) struct Leader<'a> {
    inflight: &'a InFlight,
    key: Option<Key>,
}

impl Leader<'_> {
    /// Gives the answer to all who wait.
    pub(crate) fn finish(mut self, resolved: &Resolved) {
        for waiter in self.leave() {
            // A waiter that is gone needs no answer.
            drop(waiter.send(resolved.clone()));
        }
    }

    fn leave(&mut self) -> Vec<oneshot::Sender<Resolved>> {
        self.key
            .take()
            .and_then(|key| self.inflight.waiting.lock().remove(&key))
            .unwrap_or_default()
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}
