//! The packet cache: whole answers to whole questions, as wire bytes.
//!
//! Keyed by a 64-bit keyed hash, with the question verified in the entry, so that a collision costs a miss and
//! nothing else. Expired answers stay for serving stale (RFC 8767); failures live in a small cache of their own,
//! so that they can never displace an answer, and die when an endpoint returns (RFC 9520).
//!
//! Answers outlive the process by way of [`warm`]; one that was taken back keeps the age it had.

pub mod named;
pub mod warm;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use detour_core::Time;
use detour_core::lookup::GaveUp;
use detour_core::time::{MS, SEC};
use quick_cache::Weighter;
use quick_cache::sync::Cache as Sharded;
use tokio::sync::Notify;

use crate::ask::Ask;
use crate::wire::{Answer, Kind, NameBuf, TTL_S_MAX};

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

/// Hits after which an answer is worth having anew before it expires: a client that repeats itself once is no crowd.
const HOT_HITS: u8 = 3;
/// Instead of a count: it is being had anew, or was.
const PREFETCHED: u8 = u8::MAX;
/// Of an answer's lifetime, the last so-many-th in which it is had anew, as Unbound does.
const PREFETCH_PART: u64 = 10;
/// An answer that lives no longer than this is not prefetched: it would be asked for at nearly every expiry as it is.
const PREFETCH_TTL_US: u64 = 10 * SEC;

/// An answer with its time.
#[derive(Debug)]
pub struct Entry {
    /// The bytes.
    pub answer: Answer,
    /// Asked with DO.
    do_bit: bool,
    /// Asked with CD.
    cd: bool,
    /// Hits, up to the third.
    hits: AtomicU8,
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
            hits: AtomicU8::new(0),
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

    /// Counts a hit. True once in its lifetime: it is hot, is about to expire, and is to be had anew.
    #[must_use]
    pub fn note_hit(&self, now: Time) -> bool {
        let hits = self.hits.load(Ordering::Relaxed);
        if hits < HOT_HITS {
            // Two at once may count as one, which is as good.
            self.hits.store(hits.saturating_add(1), Ordering::Relaxed);
            return false;
        }
        if hits == PREFETCHED {
            return false;
        }
        let ttl_us = self.ttl_us();
        let left_us = ttl_us.saturating_sub(self.age_us(now));
        ttl_us >= PREFETCH_TTL_US
            && left_us <= ttl_us / PREFETCH_PART
            && self.hits.swap(PREFETCHED, Ordering::Relaxed) != PREFETCHED
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
    /// Bounds of TTLs, seconds.
    min_ttl_s: AtomicU32,
    max_ttl_s: AtomicU32,
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
            min_ttl_s: AtomicU32::new(0),
            max_ttl_s: AtomicU32::new(TTL_S_MAX),
            is_changed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// From here on answers are served up to `max_stale_us` after their expiry.
    pub fn set_max_stale(&self, max_stale_us: u64) {
        self.max_stale_us.store(max_stale_us, Ordering::Relaxed);
    }

    /// From here on what comes is kept for at least and at most so many seconds, as far as it may be kept at all; what is
    /// there keeps its time.
    pub fn set_ttl_bounds(&self, (min_s, max_s): (u32, u32)) {
        self.min_ttl_s.store(min_s, Ordering::Relaxed);
        self.max_ttl_s.store(max_s, Ordering::Relaxed);
    }

    /// An answer as this cache keeps and tells it: its TTLs within the bounds.
    pub(crate) fn bounded(&self, answer: Answer) -> Answer {
        let (min_s, max_s) = (&self.min_ttl_s, &self.max_ttl_s);
        answer.within(min_s.load(Ordering::Relaxed), max_s.load(Ordering::Relaxed))
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
    use crate::wire::tests::accepted_with_ttl;

    #[test]
    fn the_fourth_hit_in_the_last_tenth_of_its_time_has_an_answer_anew_once() {
        let name: NameBuf = "www.t".parse().unwrap();
        let ask = Ask::new(&name, 1, 1, (false, false), 0);
        let start = Time::at_ms(1_000);
        let entry = |ttl_s| Entry::new(accepted_with_ttl(ttl_s).answer, &ask, start);
        let hit = |entry: &Entry, ms: u64| entry.note_hit(start.plus(ms * MS));
        let hot = entry(100);
        for (ms, anew) in [
            (1, false),
            (2, false),
            (95_000, false),
            (89_999, false),
            (90_000, true),
            (90_001, false),
        ] {
            assert_eq!(hit(&hot, ms), anew, "at {ms} ms");
        }
        // Three hits near the end are no crowd; and what lives for seconds is let go.
        let cold = entry(100);
        assert_eq!([95_000, 95_001, 95_002].map(|ms| hit(&cold, ms)), [false; 3]);
        let brief = entry(9);
        assert_eq!([1, 2, 3, 8_900].map(|ms| hit(&brief, ms)), [false; 4]);
    }

    #[test]
    fn an_entry_does_not_grow_unnoticed() {
        // Measured with glibc: from here on each eight bytes change which freed piece an entry is put into, and with
        // 80 instead of 72 a node that answered 120,000 new names held 150 MB instead of 70.
        assert_eq!(size_of::<Entry>(), 72);
    }
}
