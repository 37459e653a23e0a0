//! The packet cache: whole answers to whole questions, as wire bytes.
//!
//! Keyed by a 64-bit keyed hash, with question and group verified in the entry, so that a collision costs a miss and
//! nothing else. Expired answers stay for serving stale (RFC 8767); failures live in a small cache of their own,
//! so that they can never displace an answer, and die when an endpoint returns (RFC 9520).
//!
//! Answers lie in logs of bytes (`log`), a few of them, each behind a lock that is held for one look: a hit is written
//! from there into its reply. They outlive the process by way of [`warm`]; one that was taken back keeps the age it had.

mod log;
pub mod named;
#[cfg(test)]
mod tests;
pub mod warm;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use detour_core::Time;
use detour_core::lookup::GaveUp;
use detour_core::time::{MS, SEC};
use parking_lot::Mutex;
use quick_cache::sync::Cache as Sharded;
use tokio::sync::Notify;

use self::log::{Log, SEGMENT_BYTES};
use crate::ask::{Ask, GroupKey};
use crate::wire::{Answer, AnswerRef, Kind, NameBuf, TTL_S_MAX};

/// Most logs: more than threads that could meet in one.
const LOGS_MAX: usize = 16;
/// Segments a log has at least, or forgetting would be too coarse.
const SEGMENTS_MIN: usize = 5;
/// One in so many bytes is the index's, not the records'.
const INDEX_ONE_IN: u64 = 6;
/// Failures remembered; each lives seconds.
const FAILURES: usize = 8_192;
/// Bytes of an answer that is remembered as a failure: what a datagram brings. All of them together take 10 MiB at most.
const FAILURE_BYTES: usize = 1_232;
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

/// What an entry is beside its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// When it came.
    stored: Time,
    /// How old it was then, milliseconds; above 0 for one that an earlier process had. The longest age, seven weeks, is
    /// beyond any TTL and stale time.
    came_at_age_ms: u32,
    /// Asked with DO, and with CD.
    flags: (bool, bool),
    /// Who gave it.
    group: GroupKey,
    /// When its refresh last failed; 0: never.
    refresh_failed: Time,
}

impl Stamp {
    /// Microseconds since a provider gave it.
    fn age_us(&self, now: Time) -> u64 {
        now.since(self.stored)
            .saturating_add(u64::from(self.came_at_age_ms).saturating_mul(MS))
    }

    /// Whole seconds since a provider gave it.
    fn age_s(&self, now: Time) -> u32 {
        u32::try_from(self.age_us(now) / SEC).unwrap_or(u32::MAX)
    }
}

/// An answer with its time.
#[derive(Debug)]
pub struct Entry {
    /// The bytes.
    pub answer: Answer,
    stamp: Stamp,
}

impl Entry {
    /// An answer that came at `now`.
    #[must_use]
    pub fn new(answer: Answer, ask: &Ask, now: Time) -> Self {
        Self::aged(answer, ask, 0, now)
    }

    /// An answer that is `age_us` microseconds old at `now`.
    #[must_use]
    pub fn aged(answer: Answer, ask: &Ask, age_us: u64, now: Time) -> Self {
        let stamp = Stamp {
            stored: now,
            came_at_age_ms: age_ms(age_us),
            flags: (ask.do_bit, ask.cd),
            group: ask.group,
            refresh_failed: Time::ZERO,
        };
        Self { answer, stamp }
    }

    /// A copy of what is kept.
    fn copied(stamp: &Stamp, answer: AnswerRef<'_>) -> Self {
        Self {
            answer: answer.to_answer(),
            stamp: *stamp,
        }
    }

    /// Microseconds since a provider gave it.
    fn age_us(&self, now: Time) -> u64 {
        self.stamp.age_us(now)
    }

    /// Whole seconds since a provider gave it.
    #[must_use]
    pub fn age_s(&self, now: Time) -> u32 {
        self.stamp.age_s(now)
    }

    /// For how long it is fresh, microseconds.
    fn ttl_us(&self) -> u64 {
        ttl_us(self.answer.ttl_s())
    }

    /// Whether it holds records of the type asked for.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.answer.kind() == Kind::Positive
    }
}

/// Counts a hit on an answer of this age and lifetime. True once in its lifetime: it is hot, is about to expire, and is to
/// be had anew.
fn count_hit(hits: &mut u8, age_us: u64, ttl_us: u64) -> bool {
    if *hits < HOT_HITS {
        *hits = hits.saturating_add(1);
        return false;
    }
    let left_us = ttl_us.saturating_sub(age_us);
    let is_due = *hits != PREFETCHED && ttl_us >= PREFETCH_TTL_US && left_us <= ttl_us / PREFETCH_PART;
    if is_due {
        *hits = PREFETCHED;
    }
    is_due
}

/// A time to live in microseconds.
fn ttl_us(ttl_s: Option<u32>) -> u64 {
    u64::from(ttl_s.unwrap_or(0)).saturating_mul(SEC)
}

/// An age as an entry holds it.
fn age_ms(age_us: u64) -> u32 {
    u32::try_from(age_us / MS).unwrap_or(u32::MAX)
}

/// A question as it is looked up.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// [`crate::ask::key_of`] the rest.
    pub key: u64,
    /// The name.
    pub name: &'a NameBuf,
    /// Type and class.
    pub kind: (u16, u16),
    /// DO and CD.
    pub flags: (bool, bool),
    /// Whose answer.
    pub group: GroupKey,
}

impl<'a> Wanted<'a> {
    /// Of an [`Ask`].
    #[must_use]
    pub fn of(ask: &'a Ask) -> Self {
        Self {
            key: ask.key,
            name: &ask.name,
            kind: (ask.qtype, ask.qclass),
            flags: (ask.do_bit, ask.cd),
            group: ask.group,
        }
    }

    /// Whether this answers it.
    fn is_answered_by(&self, stamp: &Stamp, answer: AnswerRef<'_>) -> bool {
        let Some((own, tail)) = answer.question().split_last_chunk::<4>() else {
            return false;
        };
        let [t0, t1, c0, c1] = *tail;
        (self.flags, self.group) == (stamp.flags, stamp.group)
            && self.kind == (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1]))
            && own.eq_ignore_ascii_case(self.name.as_wire())
    }
}

/// What is known of a question.
#[derive(Debug)]
pub enum Found<F = Arc<Entry>> {
    /// Within its TTL.
    Fresh(F),
    /// Past its TTL, within the stale time.
    Stale(Arc<Entry>),
    /// Nothing.
    Nothing,
}

/// What a look at the cache comes to.
#[derive(Debug)]
pub struct Looked<F> {
    /// What is known.
    pub found: Found<F>,
    /// A copy of what was found, where it is hot and about to expire: time to have it anew. Once in its lifetime.
    pub hot: Option<Arc<Entry>>,
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
    group: GroupKey,
    until: Time,
    /// The epoch it belongs to; an endpoint that returns begins a new one.
    epoch: u64,
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    /// As many as a power of two; each held for a look or a copy.
    logs: Vec<Mutex<Log>>,
    failures: Sharded<u64, Failed>,
    epoch: AtomicU64,
    /// When the last failure ends that is remembered: nearly always there is none to be looked for.
    failures_until: AtomicU64,
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
        let bytes = size_bytes.saturating_sub(size_bytes / INDEX_ONE_IN);
        let segments = usize::try_from(bytes).unwrap_or(usize::MAX) / SEGMENT_BYTES;
        let mut logs = LOGS_MAX;
        while logs > 1 && segments / logs < SEGMENTS_MIN {
            logs /= 2;
        }
        // Each has one more, to forget with.
        let each = (segments / logs).saturating_sub(1).max(SEGMENTS_MIN - 1);
        Self {
            logs: (0..logs).map(|_| Mutex::new(Log::new(each))).collect(),
            failures: Sharded::new(FAILURES),
            epoch: AtomicU64::new(0),
            failures_until: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            max_stale_us: AtomicU64::new(max_stale_us),
            min_ttl_s: AtomicU32::new(0),
            max_ttl_s: AtomicU32::new(TTL_S_MAX),
            is_changed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// The log of a key. The bits that choose it are none of those by which an index places it.
    fn log(&self, key: u64) -> Option<&Mutex<Log>> {
        let index = usize::try_from(key >> 40).unwrap_or(0) & self.logs.len().saturating_sub(1);
        self.logs.get(index)
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
        for log in &self.logs {
            log.lock().clear();
        }
        self.failures.clear();
    }

    /// Looks a question up. Of a fresh answer the caller makes what it wants, from its bytes and its age in seconds,
    /// while its log is locked.
    pub fn look<F>(&self, wanted: &Wanted<'_>, now: Time, fresh: impl FnOnce(AnswerRef<'_>, u32) -> F) -> Looked<F> {
        let log = self.log(wanted.key).map(Mutex::lock);
        let looked = log.and_then(|mut log| {
            log.look(wanted.key, |stamp, answer, hits| {
                if !wanted.is_answered_by(stamp, answer) {
                    return None;
                }
                let copy = || Arc::new(Entry::copied(stamp, answer));
                let ttl_s = answer.shape().ttl_s;
                Some(if self.is_fresh(stamp, ttl_s, now)? {
                    let is_hot = count_hit(hits, stamp.age_us(now), ttl_us(ttl_s));
                    Looked {
                        found: Found::Fresh(fresh(answer, stamp.age_s(now))),
                        hot: is_hot.then(copy),
                    }
                } else {
                    Looked {
                        found: Found::Stale(copy()),
                        hot: None,
                    }
                })
            })
        });
        looked.unwrap_or(Looked {
            found: Found::Nothing,
            hot: None,
        })
    }

    /// Whether an entry is fresh; `None` if it is not even stale any more.
    fn is_fresh(&self, stamp: &Stamp, ttl_s: Option<u32>, now: Time) -> Option<bool> {
        let (age_us, ttl_us) = (stamp.age_us(now), ttl_us(ttl_s));
        if age_us < ttl_us {
            return Some(true);
        }
        (age_us - ttl_us < self.max_stale_us.load(Ordering::Relaxed)).then_some(false)
    }

    /// Looks an [`Ask`] up.
    #[must_use]
    pub fn find_ask(&self, ask: &Ask, now: Time) -> Found {
        let log = self.log(ask.key).map(Mutex::lock);
        let entry = log.and_then(|mut log| log.read(ask.key, |stamp, answer| entry_of(ask, stamp, answer)));
        let Some(entry) = entry.map(Arc::new) else {
            return Found::Nothing;
        };
        match self.is_fresh(&entry.stamp, entry.answer.ttl_s(), now) {
            Some(true) => Found::Fresh(entry),
            Some(false) => Found::Stale(entry),
            None => Found::Nothing,
        }
    }

    /// Keeps an answer, if it may be kept: with a TTL above zero, and for a denial with its SOA.
    pub fn store(&self, ask: &Ask, entry: &Entry, now: Time) {
        if entry.answer.ttl_s().is_some_and(|ttl| ttl > 0) {
            if let Some(log) = self.log(ask.key) {
                log.lock().insert(ask.key, &entry.stamp, (&entry.answer).into());
            }
            if self.has_failures(now) {
                self.failures.remove(&ask.key);
            }
            self.note_change();
        }
    }

    /// Remembers that a question failed, unless what was said of it is long.
    pub fn store_failure(&self, ask: &Ask, failure: Failure, now: Time) {
        if let Failure::Agreed(entry) = &failure
            && entry.answer.wire().len() > FAILURE_BYTES
        {
            return;
        }
        let lasts_us = match failure {
            Failure::Agreed(_) => AGREED_US,
            Failure::Unreached(_) => UNREACHED_US,
        };
        let failed = Failed {
            failure,
            name: ask.name.clone(),
            qtype: ask.qtype,
            group: ask.group,
            until: now.plus(lasts_us),
            epoch: self.epoch.load(Ordering::Relaxed),
        };
        self.failures_until
            .fetch_max(failed.until.as_micros(), Ordering::Relaxed);
        self.failures.insert(ask.key, failed);
    }

    /// A verdict took the place of whatever was known: an older answer must not come back as stale.
    pub fn replace_by_failure(&self, ask: &Ask, failure: Failure, now: Time) {
        if let Some(log) = self.log(ask.key) {
            log.lock().remove(ask.key);
        }
        self.store_failure(ask, failure, now);
    }

    /// A failure of this question that still stands.
    #[must_use]
    pub fn find_failure(&self, ask: &Ask, now: Time) -> Option<Failure> {
        if !self.has_failures(now) {
            return None;
        }
        let failed = self.failures.get(&ask.key)?;
        let stands = now < failed.until
            && failed.epoch == self.epoch.load(Ordering::Relaxed)
            && (failed.qtype, failed.group) == (ask.qtype, ask.group)
            && failed.name == ask.name;
        stands.then_some(failed.failure)
    }

    /// Whether any failure is remembered.
    fn has_failures(&self, now: Time) -> bool {
        now.as_micros() < self.failures_until.load(Ordering::Relaxed)
    }

    /// An endpoint returned: what failed before may succeed.
    pub fn forget_failures(&self, now: Time) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.returned.store(now.as_micros(), Ordering::Relaxed);
    }

    /// Notes that the refresh of an answer failed.
    pub fn note_refresh_failed(&self, ask: &Ask, now: Time) {
        if let Some(log) = self.log(ask.key) {
            log.lock().note_refresh_failed(ask.key, now);
        }
    }

    /// Whether the entry's refresh failed within the last 30 s and no endpoint has returned since: another one would
    /// be in vain.
    #[must_use]
    pub fn refresh_failed_lately(&self, entry: &Entry, now: Time) -> bool {
        let failed = entry.stamp.refresh_failed;
        failed.as_micros() > self.returned.load(Ordering::Relaxed) && now.since(failed) < REFRESH_FAILED_US
    }

    /// A copy of everything, by key; holds no lock from one to the next.
    fn copies(&self) -> impl Iterator<Item = (u64, Entry)> + '_ {
        self.logs.iter().flat_map(|log| {
            let keys = log.lock().keys();
            keys.into_iter().filter_map(|key| {
                let copy = |stamp: &Stamp, answer: AnswerRef<'_>| Some(Entry::copied(stamp, answer));
                Some((key, log.lock().read(key, copy)?))
            })
        })
    }

    /// Answers held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.logs.iter().map(|log| log.lock().len()).sum()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.logs.iter().map(|log| log.lock().bytes()).sum()
    }
}

/// A copy of an entry that answers this.
fn entry_of(ask: &Ask, stamp: &Stamp, answer: AnswerRef<'_>) -> Option<Entry> {
    let is_answer = Wanted::of(ask).is_answered_by(stamp, answer);
    is_answer.then(|| Entry::copied(stamp, answer))
}
