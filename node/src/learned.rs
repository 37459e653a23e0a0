//! Keeps what the control plane learned of its endpoints' answer times, and gives it back after a restart.
//!
//! Owned by the control task, which asks [`LearnedKeeper::look`] after everything it does: when answers have come
//! since the last time, what was learned of those endpoints goes to the store a second later. Nobody asks, nothing
//! wakes up. Endpoints are known by the string of the configuration, so what is learned survives a change of the file.
//!
//! A record is a row of fields, each an identity, a length and bytes; a reader skips those it does not know, so that
//! later versions can keep more of an endpoint without spoiling this one's.

use std::collections::BTreeMap;

use detour_core::control::{Control, Memory, Remembered};
use detour_core::health::latency::Learned;
use detour_core::time::SEC;
use detour_core::{Clock, EndpointId, Time};
use tokio::sync::oneshot;

use crate::metrics::{StoreDropped, StoreMetrics};
use crate::stamp::Stamp;
use crate::store::{Entry, StoreHandle, Tree};

/// From the first answer that is not kept until it is.
const GATHER_US: u64 = SEC;
/// What has not changed is written again after this long, so that it does not look old.
const RENEW_US: u64 = 3_600 * SEC;

/// When it was learned: a stamp.
const FIELD_STAMP: u8 = 1;
/// Quantiles of answer times: microseconds as four bytes each, little endian.
const FIELD_QUANTILES: u8 = 2;

/// What was last kept of an endpoint.
#[derive(Debug)]
struct Kept {
    /// Its answers then.
    answers: u64,
    learned: Option<Learned>,
    at: Time,
}

/// Keeps and restores.
#[derive(Debug)]
pub(crate) struct LearnedKeeper {
    store: StoreHandle,
    metrics: StoreMetrics,
    /// What an earlier process left, on its way.
    arriving: Option<oneshot::Receiver<Vec<Entry>>>,
    /// By endpoint string; at most as many as the topology has.
    kept: BTreeMap<String, Kept>,
    /// When to keep what changed.
    due: Option<Time>,
}

impl LearnedKeeper {
    /// Asks the store for what an earlier process left.
    #[must_use]
    pub(crate) fn new(store: StoreHandle, metrics: StoreMetrics) -> Self {
        Self {
            arriving: Some(store.load(Tree::Latencies)),
            store,
            metrics,
            kept: BTreeMap::new(),
            due: None,
        }
    }

    /// There are other endpoints than before: some of them may have been known once.
    pub(crate) fn ask_again(&mut self) {
        self.arriving = Some(self.store.load(Tree::Latencies));
    }

    /// When [`Self::look`] has something to do.
    #[must_use]
    pub(crate) fn due(&self) -> Option<Time> {
        self.due
    }

    /// What an earlier process left, once for each time it was asked for; cancel safe, because it stays until it was taken.
    pub(crate) async fn arrived(&mut self) -> Vec<Entry> {
        let Some(arriving) = &mut self.arriving else {
            return std::future::pending().await;
        };
        let entries = arriving.await;
        self.arriving = None;
        // Without a store there is nothing.
        entries.unwrap_or_default()
    }

    /// Gives the control plane what an earlier process left, and forgets what is too old for anybody.
    pub(crate) fn restore(&self, entries: &[Entry], control: &mut Control, clock: &dyn Clock) {
        let now = Stamp::now(clock);
        let mut memories = Vec::new();
        let mut keys = Vec::new();
        for (key, record) in entries {
            let Some((stamp, learned)) = decode(record) else {
                self.metrics.count_dropped(StoreDropped::content);
                self.store.remove(Tree::Latencies, key);
                continue;
            };
            let Some(age_us) = stamp.age(&now).us() else {
                self.metrics.count_dropped(StoreDropped::age);
                self.store.remove(Tree::Latencies, key);
                continue;
            };
            // An endpoint that is not configured has a number no endpoint has, and its age is judged all the same.
            let endpoint = endpoint_of(control, key).unwrap_or(EndpointId(u16::MAX));
            memories.push(Memory {
                endpoint,
                learned,
                age_us,
            });
            keys.push(key);
        }
        for (key, remembered) in keys.iter().zip(control.handle_learned(&memories, clock.now())) {
            match remembered {
                Remembered::Taken => self.metrics.count_restored(),
                Remembered::TooOld => {
                    self.metrics.count_dropped(StoreDropped::age);
                    self.store.remove(Tree::Latencies, key);
                }
                Remembered::KnownBetter | Remembered::Stranger => {}
            }
        }
    }

    /// Keeps what changed, if it is time.
    pub(crate) fn look(&mut self, control: &Control, clock: &dyn Clock) {
        let now = clock.now();
        match self.due {
            Some(due) if due <= now => self.keep(control, clock),
            Some(_) => {}
            None if self.has_changed(control) => self.due = Some(now.plus(GATHER_US)),
            None => {}
        }
    }

    /// Keeps what changed.
    pub(crate) fn keep(&mut self, control: &Control, clock: &dyn Clock) {
        let now = clock.now();
        self.due = None;
        let stamp = Stamp::now(clock);
        let topology = &control.routes().topology;
        for (id, endpoint) in topology.endpoint_ids().zip(&topology.endpoints) {
            let answers = control.answers(id);
            let kept = self.kept.get(&endpoint.label);
            if kept.map_or(0, |kept| kept.answers) == answers {
                continue;
            }
            let learned = control.learned(id);
            let is_known = kept.is_some_and(|kept| kept.learned == learned && now.since(kept.at) < RENEW_US);
            let at = match (kept, &learned) {
                (Some(kept), _) if is_known => kept.at,
                (_, Some(learned)) => {
                    self.store
                        .put(Tree::Latencies, endpoint.label.as_bytes(), encode(&stamp, learned));
                    now
                }
                (_, None) => now,
            };
            let kept = Kept { answers, learned, at };
            self.kept.insert(endpoint.label.clone(), kept);
        }
        // Endpoints that are gone from the configuration.
        if self.kept.len() > topology.endpoints.len() {
            self.kept
                .retain(|label, _| topology.endpoints.iter().any(|endpoint| endpoint.label == *label));
        }
    }

    fn has_changed(&self, control: &Control) -> bool {
        let topology = &control.routes().topology;
        let mut endpoints = topology.endpoint_ids().zip(&topology.endpoints);
        endpoints
            .any(|(id, endpoint)| self.kept.get(&endpoint.label).map_or(0, |kept| kept.answers) != control.answers(id))
    }
}

/// The endpoint of this string.
fn endpoint_of(control: &Control, label: &[u8]) -> Option<EndpointId> {
    let topology = &control.routes().topology;
    let mut endpoints = topology.endpoint_ids().zip(&topology.endpoints);
    endpoints.find_map(|(id, endpoint)| (endpoint.label.as_bytes() == label).then_some(id))
}

fn encode(stamp: &Stamp, learned: &Learned) -> Vec<u8> {
    let mut record = Vec::new();
    push_field(&mut record, FIELD_STAMP, &stamp.to_bytes());
    let times = learned.quantiles_us().iter();
    let quantiles: Vec<u8> = times
        // Over an hour is an hour.
        .flat_map(|us| u32::try_from(*us).unwrap_or(u32::MAX).to_le_bytes())
        .collect();
    push_field(&mut record, FIELD_QUANTILES, &quantiles);
    record
}

fn push_field(record: &mut Vec<u8>, id: u8, bytes: &[u8]) {
    // Fields are a few hundred bytes; one that were longer than its length can say would be cut.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    record.push(id);
    record.extend_from_slice(&length.to_le_bytes());
    record.extend(bytes.iter().take(usize::from(length)));
}

fn decode(record: &[u8]) -> Option<(Stamp, Learned)> {
    let (mut stamp, mut learned) = (None, None);
    let mut rest = record;
    while let Some((id, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk::<2>()?;
        let (field, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        match *id {
            FIELD_STAMP => stamp = Some(Stamp::from_bytes(field)?),
            FIELD_QUANTILES => {
                let (times, odd) = field.as_chunks::<4>();
                let times = times.iter().map(|time| u64::from(u32::from_le_bytes(*time)));
                learned = Some(Learned::new(times.collect()).filter(|_| odd.is_empty())?);
            }
            // Of a later version.
            _ => {}
        }
        rest = after;
    }
    Some((stamp?, learned?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use detour_core::health::{Begun, Finish, Purpose};
    use detour_core::outcome::Reply;
    use detour_core::routes::Settings;
    use prometheus_client::encoding::text::encode as encode_metrics;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::board::Board;
    use crate::clock::{self, BootClock};
    use crate::config::{self, Config};
    use crate::state::State;
    use crate::store;

    fn learned() -> Learned {
        Learned::new((1..=32).map(|n| n * 1_000).collect()).unwrap()
    }

    #[test]
    fn a_record_survives_its_bytes_and_fields_of_later_versions() {
        let stamp = Stamp::now(&BootClock);
        let mut record = encode(&stamp, &learned());
        assert!(record.len() < 200, "{}", record.len());
        assert_eq!(decode(&record), Some((stamp, learned())));
        push_field(&mut record, 77, b"connect times");
        assert_eq!(decode(&record), Some((stamp, learned())));
    }

    #[test]
    fn a_record_that_is_not_whole_is_none() {
        let record = encode(&Stamp::now(&BootClock), &learned());
        for length in 0..record.len() {
            assert_eq!(decode(&record[..length]), None, "{length}");
        }
        assert_eq!(decode(&[FIELD_QUANTILES, 3, 0, 1, 2, 3]), None);
        assert_eq!(decode(&[99, 255, 255]), None);
    }

    #[test]
    fn times_beyond_what_is_kept_are_the_longest_that_are() {
        let endless = Learned::new(vec![u64::MAX; 32]).unwrap();
        let (_, kept) = decode(&encode(&Stamp::now(&BootClock), &endless)).unwrap();
        assert_eq!(kept.quantiles_us(), [u64::from(u32::MAX); 32]);
    }

    /// A control plane of three endpoints, and a store in memory with what was counted about it.
    fn bench() -> (Control, StoreHandle, Registry, StoreMetrics) {
        let text = "version = 1\n[[provider]]\nname = \"p\"\nendpoints = [\"udp://192.0.2.1\", \"udp://192.0.2.2\", \
                    \"udp://192.0.2.3\"]\n";
        let config = Config::parse(text, Path::new("/etc/detour.toml")).unwrap();
        let topology = Arc::new(config::to_topology(&config));
        let control = Control::new(topology, Settings::default(), BootClock.now(), 1);
        let mut registry = Registry::default();
        let metrics = StoreMetrics::register(&mut registry);
        let state = State::Memory(String::new());
        let store = store::start(&state, Arc::new(BootClock), metrics.clone(), Board::default());
        (control, store, registry, metrics)
    }

    /// An answer of 20 ms.
    fn answered(control: &mut Control, id: u64) {
        let now = BootClock.now();
        let begun = Begun {
            id,
            at: now,
            socket: id,
            purpose: Purpose::Client,
        };
        let finish = Finish::Answered {
            reply: Reply::Positive,
            latency_us: 20_000,
        };
        control.handle_begun(EndpointId(1), begun, now);
        control.handle_finished(EndpointId(1), begun, finish, now);
        while control.poll_output().is_some() {}
    }

    #[tokio::test]
    async fn what_is_too_old_or_of_no_age_or_broken_is_forgotten() {
        let (mut control, store, registry, metrics) = bench();
        let age = |seconds: u64| Stamp::of(0xee, Time::ZERO, clock::wall_s() - seconds);
        let records = [
            ("udp://192.0.2.1", encode(&age(3_600), &learned())),
            ("udp://192.0.2.2", encode(&age(8 * 86_400 + 60), &learned())),
            ("udp://192.0.2.3", vec![1, 2, 3]),
            ("udp://198.51.100.1", encode(&age(3_600), &learned())),
            ("udp://198.51.100.2", encode(&age(8 * 86_400), &learned())),
            (
                "udp://198.51.100.3",
                encode(&Stamp::of(0xee, Time::ZERO, clock::wall_s() + 3_600), &learned()),
            ),
        ];
        for (label, record) in records {
            assert!(store.put(Tree::Latencies, label.as_bytes(), record));
        }
        let mut keeper = LearnedKeeper::new(store.clone(), metrics);
        let entries = keeper.arrived().await;
        assert_eq!(entries.len(), 6);
        keeper.restore(&entries, &mut control, &BootClock);
        let timing = |n| control.routes().endpoint(EndpointId(n)).unwrap().timing;
        assert!(timing(0).p50_us.is_some());
        assert_eq!((timing(1).p50_us, timing(2).p50_us), (None, None));
        // What this configuration does not name may be in the next one.
        let left = store.load(Tree::Latencies).await.unwrap();
        let left: Vec<_> = left.iter().map(|(key, _)| std::str::from_utf8(key).unwrap()).collect();
        assert_eq!(left, ["udp://192.0.2.1", "udp://198.51.100.1"]);
        let mut text = String::new();
        encode_metrics(&mut text, &registry).unwrap();
        for series in ["restored_total 1", "{why=\"age\"} 3", "{why=\"content\"} 1"] {
            assert!(text.contains(series), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_learned_is_kept_a_second_after_it_changed_and_not_before_there_is_enough() {
        let (mut control, store, _registry, metrics) = bench();
        let mut keeper = LearnedKeeper::new(store.clone(), metrics);
        keeper.look(&control, &BootClock);
        assert_eq!(keeper.due(), None, "nothing happened, nothing is due");
        for id in 0..31 {
            answered(&mut control, id);
        }
        keeper.look(&control, &BootClock);
        let due = keeper.due().unwrap();
        assert!(due > BootClock.now() && due <= BootClock.now().plus(GATHER_US));
        keeper.keep(&control, &BootClock);
        assert_eq!(keeper.due(), None);
        assert_eq!(store.load(Tree::Latencies).await.unwrap(), []);
        answered(&mut control, 31);
        keeper.look(&control, &BootClock);
        assert!(keeper.due().is_some());
        keeper.keep(&control, &BootClock);
        let kept = store.load(Tree::Latencies).await.unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].0, b"udp://192.0.2.2");
        assert_eq!(decode(&kept[0].1).unwrap().1, control.learned(EndpointId(1)).unwrap());
        // The same again is not written again.
        for id in 32..64 {
            answered(&mut control, id);
        }
        keeper.keep(&control, &BootClock);
        assert_eq!(store.load(Tree::Latencies).await.unwrap(), kept);
        keeper.look(&control, &BootClock);
        assert_eq!(keeper.due(), None);
    }
}
