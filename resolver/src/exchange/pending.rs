//! Queries on one socket or connection that have no answer yet.

use detour_core::Time;
use detour_core::health::Begun;
use detour_core::time::SEC;

use super::Attempt;
use super::habits::Defences;
use crate::wire::Expected;

/// A query without an answer is forgotten after this long: a second after its lookup's last moment.
const FORGET_US: u64 = 5 * SEC;

/// One query.
#[derive(Debug)]
pub(super) struct Pending {
    /// What it is found by: the id, or a number of the link's own where ids are 0.
    pub(super) key: u16,
    /// Id on the wire.
    pub(super) id: u16,
    /// Name, type and class as sent.
    pub(super) question: Box<[u8]>,
    /// Whether an OPT record was sent.
    pub(super) edns_sent: bool,
    /// What it carries against forgers.
    pub(super) defences: Defences,
    /// It was written once more because the server wanted another cookie.
    pub(super) has_new_cookie: bool,
    /// Well-formed answers to something else seen for it.
    pub(super) mismatches: u8,
    /// Its lookup was told of garbage.
    pub(super) garbage_told: bool,
    /// Times its attempt was written, this one included.
    pub(super) writes: u8,
    /// The attempt it was written for.
    pub(super) begun: Begun,
    /// Who waits.
    pub(super) attempt: Attempt,
}

impl Pending {
    /// What its answer must match.
    pub(super) fn expected(&self, check_case: bool, encrypted: bool) -> Expected<'_> {
        Expected {
            id: self.id,
            question: &self.question,
            check_case,
            encrypted,
        }
    }
}

/// All of one socket, few enough to be searched one by one.
#[derive(Debug, Default)]
pub(super) struct PendingQueries {
    queries: Vec<Pending>,
}

impl PendingQueries {
    pub(super) fn len(&self) -> usize {
        self.queries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    pub(super) fn push(&mut self, query: Pending) {
        self.queries.push(query);
    }

    /// A random key that no other query here uses.
    pub(super) fn free_id(&self) -> Option<u16> {
        // Some hundred ids of 65,536 are taken at most, so the first draw nearly always fits.
        (0..16)
            .map(|_| rand::random::<u16>())
            .find(|key| self.queries.iter().all(|query| query.key != *key))
    }

    /// The query of this key.
    pub(super) fn find(&self, key: u16) -> Option<&Pending> {
        self.queries.iter().find(|query| query.key == key)
    }

    /// All, for what cannot be told apart.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.queries.iter_mut()
    }

    /// Takes the query of this key out.
    pub(super) fn take(&mut self, key: u16) -> Option<Pending> {
        let index = self.queries.iter().position(|query| query.key == key)?;
        Some(self.queries.swap_remove(index))
    }

    /// Takes all out.
    pub(super) fn take_all(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.queries)
    }

    /// Whether a query waits for longer than `us`.
    pub(super) fn has_older_than(&self, now: Time, us: u64) -> bool {
        self.queries.iter().any(|query| now.since(query.begun.at) >= us)
    }

    /// Forgets what is too old; health has judged it long ago.
    pub(super) fn forget_old(&mut self, now: Time) {
        self.queries.retain(|query| now.since(query.begun.at) < FORGET_US);
    }
}
