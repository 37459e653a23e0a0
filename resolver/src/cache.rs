//! The packet cache: whole answers to whole questions, as wire bytes.
//!
//! Keyed by a 64-bit keyed hash, with the question verified in the entry, so that a collision costs a miss and
//! nothing else. Expired answers stay for serving stale (RFC 8767); failures live in a small cache of their own,
//! so that they can never displace an answer, and die when an endpoint returns (RFC 9520).
//!
//! Answers outlive the process by way of [`warm`]; one that was taken back keeps the age it had.

pub mod warm;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use detour_core::Time;
use detour_core::lookup::GaveUp;
use detour_core::time::{MS, SEC};
use quick_cache::Weighter;
use quick_cache::sync::Cache as Sharded;
use tokio::sync::Notify;

use crate::ask::Ask;
use crate::wire::{Answer, Kind, NameBuf};

/// Estimated bytes of an average entry, to size the table at start.
const ENTRY_BYTES: u64 = 200;
/// Overhead of an entry beyond its answer: key, pointer, counters and the table's slot.
const OVERHEAD_BYTES: u64 = 96;
/// Failures remembered; each lives seconds.
const FAILURES: usize = 8_192;
/// How long a failure is remembered that providers agree on (RFC 9520 section 3.2: at least 1 s, at most 5 min).
const AGREED_US: u64 = 5 * SEC;
/// How long a failure to reach anybody is remembered.
const UNREACHED_US: u64 = SEC;
/// After a failed refresh a stale answer is served at once for this long (RFC 8767 section 5).
const REFRESH_FAILED_US: u64 = 30 * SEC;

/// An answer with its time.
#[derive(Debug)]
pub struct Entry {
    /// The bytes.
    pub answer: Answer,
    /// Asked with DO.
    do_bit: bool,
    /// Asked with CD.
    cd: bool,
    /// When it came.
    stored: Time,
    /// How old it was then, milliseconds; above 0 for one that an earlier process had. The longest age, seven weeks, is
    /// beyond any TTL and stale time. In microseconds an entry would be eight bytes larger, which costs much more than
    /// eight bytes: see the test of its size.
    came_at_age_ms: u32,
    /// When its refresh last failed; 0: never.
    refresh_failed: AtomicU64,
}

impl Entry {
    /// An answer that came at `now`.
    #[must_use]
    pub fn new(answer: Answer, ask: &Ask, now: Time) -> Self {
        Self {
            answer,
            do_bit: ask.do_bit,
            cd: ask.cd,
            stored: now,
            came_at_age_ms: 0,
            refresh_failed: AtomicU64::new(0),
        }
    }

    /// An answer that is `age_us` microseconds old at `now`.
    #[must_use]
    pub fn aged(answer: Answer, ask: &Ask, age_us: u64, now: Time) -> Self {
        Self {
            came_at_age_ms: age_ms(age_us),
            ..Self::new(answer, ask, now)
        }
    }

    /// Microseconds since a provider gave it.
    fn age_us(&self, now: Time) -> u64 {
        now.since(self.stored)
            .saturating_add(u64::from(self.came_at_age_ms).saturating_mul(MS))
    }

    /// Whole seconds since a provider gave it.
    #[must_use]
    pub fn age_s(&self, now: Time) -> u32 {
        u32::try_from(self.age_us(now) / SEC).unwrap_or(u32::MAX)
    }

    /// For how long it is fresh, microseconds.
    fn ttl_us(&self) -> u64 {
        u64::from(self.answer.ttl_s().unwrap_or(0)).saturating_mul(SEC)
    }

    /// Whether it answers this question.
    fn answers(&self, name: &NameBuf, qtype: u16, qclass: u16, (do_bit, cd): (bool, bool)) -> bool {
        let Some((own, tail)) = self.answer.question().split_last_chunk::<4>() else {
            return false;
        };
        let [t0, t1, c0, c1] = *tail;
        self.do_bit == do_bit
            && self.cd == cd
            && u16::from_be_bytes([t0, t1]) == qtype
            && u16::from_be_bytes([c0, c1]) == qclass
            && own.eq_ignore_ascii_case(name.as_wire())
    }

    /// Whether it holds records of the type asked for.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.answer.kind() == Kind::Positive
    }

    /// Notes that a refresh failed.
    pub fn note_refresh_failed(&self, now: Time) {
        self.refresh_failed.store(now.as_micros(), Ordering::Relaxed);
    }
}

/// An age as an entry holds it.
fn age_ms(age_us: u64) -> u32 {
    u32::try_from(age_us / MS).unwrap_or(u32::MAX)
}

/// What is known of a question.
#[derive(Debug)]
pub enum Found {
    /// Within its TTL.
    Fresh(Arc<Entry>),
    /// Past its TTL, within the stale time.
    Stale(Arc<Entry>),
    /// Nothing.
    Nothing,
}

/// A remembered failure.
#[derive(Debug, Clone)]
pub enum Failure {
    /// Providers agreed on it.
    Agreed(Arc<Entry>),
    /// Nobody answered.
    Unreached(GaveUp),
}

#[derive(Debug, Clone)]
struct Failed {
    failure: Failure,
    name: NameBuf,
    qtype: u16,
    until: Time,
    /// The epoch it belongs to; an endpoint that returns begins a new one.
    epoch: u64,
}

/// Weighs entries in bytes.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<u64, Arc<Entry>> for Bytes {
    fn weight(&self, _key: &u64, entry: &Arc<Entry>) -> u64 {
        u64::try_from(entry.answer.size_bytes())
            .unwrap_or(u64::MAX)
            .saturating_add(OVERHEAD_BYTES)
    }
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    entries: Sharded<u64, Arc<Entry>, Bytes>,
    failures: Sharded<u64, Failed>,
    epoch: AtomicU64,
    /// When an endpoint last returned.
    returned: AtomicU64,
    max_stale_us: AtomicU64,
    /// Whether an answer was kept since the last export.
    is_changed: AtomicBool,
    /// Wakes who waits for that.
    changed: Notify,
}

impl Cache {
    /// A cache of at most `size_bytes` that serves answers up to `max_stale_us` after their expiry.
    #[must_use]
    pub fn new(size_bytes: u64, max_stale_us: u64) -> Self {
        let estimated = usize::try_from(size_bytes / ENTRY_BYTES).unwrap_or(usize::MAX);
        Self {
            entries: Sharded::with_weighter(estimated.min(16_384), size_bytes, Bytes),
            failures: Sharded::new(FAILURES),
            epoch: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            max_stale_us: AtomicU64::new(max_stale_us),
            is_changed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// From here on answers are served up to `max_stale_us` after their expiry.
    pub fn set_max_stale(&self, max_stale_us: u64) {
        self.max_stale_us.store(max_stale_us, Ordering::Relaxed);
    }

    /// Forgets all answers and failures: they are those of providers that answer otherwise.
    pub fn forget_all(&self) {
        self.entries.clear();
        self.failures.clear();
    }

    /// Looks a question up by its key and verifies it.
    #[must_use]
    pub fn find(&self, key: u64, name: &NameBuf, (qtype, qclass): (u16, u16), flags: (bool, bool), now: Time) -> Found {
        let Some(entry) = self.entries.get(&key) else {
            return Found::Nothing;
        };
        if !entry.answers(name, qtype, qclass, flags) {
            return Found::Nothing;
        }
        match self.freshness(&entry, now) {
            Some(true) => Found::Fresh(entry),
            Some(false) => Found::Stale(entry),
            None => Found::Nothing,
        }
    }

    /// Whether an entry is fresh; `None` if it is not even stale any more.
    fn freshness(&self, entry: &Entry, now: Time) -> Option<bool> {
        let (age_us, ttl_us) = (entry.age_us(now), entry.ttl_us());
        if age_us < ttl_us {
            return Some(true);
        }
        (age_us - ttl_us < self.max_stale_us.load(Ordering::Relaxed)).then_some(false)
    }

    /// Looks an [`Ask`] up.
    #[must_use]
    pub fn find_ask(&self, ask: &Ask, now: Time) -> Found {
        self.find(ask.key, &ask.name, (ask.qtype, ask.qclass), (ask.do_bit, ask.cd), now)
    }

    /// Keeps an answer, if it may be kept: with a TTL above zero, and for a denial with its SOA.
    pub fn store(&self, ask: &Ask, entry: &Arc<Entry>) {
        if entry.answer.ttl_s().is_some_and(|ttl| ttl > 0) {
            self.entries.insert(ask.key, Arc::clone(entry));
            self.failures.remove(&ask.key);
            self.note_change();
        }
    }

    /// Remembers that a question failed.
    pub fn store_failure(&self, ask: &Ask, failure: Failure, now: Time) {
        let lasts_us = match failure {
            Failure::Agreed(_) => AGREED_US,
            Failure::Unreached(_) => UNREACHED_US,
        };
        let failed = Failed {
            failure,
            name: ask.name.clone(),
            qtype: ask.qtype,
            until: now.plus(lasts_us),
            epoch: self.epoch.load(Ordering::Relaxed),
        };
        self.failures.insert(ask.key, failed);
    }

    /// A verdict took the place of whatever was known: an older answer must not come back as stale.
    pub fn replace_by_failure(&self, ask: &Ask, failure: Failure, now: Time) {
        self.entries.remove(&ask.key);
        self.store_failure(ask, failure, now);
    }

    /// A failure of this question that still stands.
    #[must_use]
    pub fn find_failure(&self, ask: &Ask, now: Time) -> Option<Failure> {
        let failed = self.failures.get(&ask.key)?;
        let stands = now < failed.until
            && failed.epoch == self.epoch.load(Ordering::Relaxed)
            && failed.qtype == ask.qtype
            && failed.name == ask.name;
        stands.then_some(failed.failure)
    }

    /// An endpoint returned: what failed before may succeed.
    pub fn forget_failures(&self, now: Time) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.returned.store(now.as_micros(), Ordering::Relaxed);
    }

    /// Whether the entry's refresh failed within the last 30 s and no endpoint has returned since: another one would
    /// be in vain.
    #[must_use]
    pub fn refresh_failed_lately(&self, entry: &Entry, now: Time) -> bool {
        let failed = entry.refresh_failed.load(Ordering::Relaxed);
        failed > self.returned.load(Ordering::Relaxed) && now.since(Time::from_micros(failed)) < REFRESH_FAILED_US
    }

    /// Answers held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.entries.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_does_not_grow_unnoticed() {
        // Measured with glibc: from here on each eight bytes change which freed piece an entry is put into, and with
        // 80 instead of 72 a node that answered 120,000 new names held 150 MB instead of 70.
        assert_eq!(size_of::<Entry>(), 72);
    }
}
