//! Questions in flight: who asks, who waits for the answer, and when each lookup wants to be woken.
//!
//! Identical questions are one: the first asks, the others wait. Besides the load it saves, this is a defence: many
//! identical questions outstanding at once would give a forger as many chances (RFC 5452 section 5). Client subnet never
//! splits the key, because it is never sent.
//!
//! Everything here is as large as there are permits for misses, refreshes included.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use detour_core::Time;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ask::{AsItIs, Ask};
use crate::drive::Running;
use crate::serve::Resolved;

/// Clients that may wait for one answer; more are told SERVFAIL at once.
const WAITERS_MAX: usize = 1_000;
/// Places looked at for a question whose own is taken by another one of the same hash.
const PLACES: u64 = 4;
/// Timers of lookups that are over are thrown out when there are more than this, and more than four to a lookup.
const TIMERS_SPARED: usize = 1_024;

/// Somebody who wants to know what a question came to. Dropped without, it has to help itself.
pub(crate) trait Waiter: Send {
    /// What it came to; `merged`: somebody else asked.
    fn resolved(self: Box<Self>, resolved: &Resolved, merged: bool, now: Time);

    /// Too many wait for it already.
    fn crowded(self: Box<Self>);
}

/// A question and who waits for it.
struct Flight {
    running: Arc<Running>,
    /// Who asked first.
    first: Box<dyn Waiter>,
    others: Vec<Box<dyn Waiter>>,
}

/// By a hash that is keyed already.
type Flights = HashMap<u64, Flight, BuildHasherDefault<AsItIs>>;

/// When a lookup wants to be woken: due, place, number of the lookup.
type Timer = Reverse<(Time, u64, u64)>;

/// Questions in flight.
#[derive(Default)]
pub(crate) struct InFlight {
    /// By the question's hash; held for a map operation at a time.
    flights: Mutex<Flights>,
    /// Of lookups that are over too, until they are due. Taken before `flights`, where both are.
    timers: Mutex<BinaryHeap<Timer>>,
    /// Until when whoever looks after the timers sleeps.
    sleeps_until: AtomicU64,
    /// Wakes it.
    earlier: Notify,
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("questions", &self.len())
            .finish_non_exhaustive()
    }
}

impl InFlight {
    /// Joins whoever asks the same; the lookup that is to be started if nobody does. `running` makes one for a place.
    pub(crate) fn join(
        &self,
        ask: &Ask,
        waiter: Box<dyn Waiter>,
        running: impl FnOnce(u64) -> Arc<Running>,
    ) -> Option<Arc<Running>> {
        let mut flights = self.flights.lock();
        let places = (0..PLACES).map(|offset| ask.key.wrapping_add(offset));
        for place in places {
            let Some(flight) = flights.get_mut(&place) else {
                let running = running(place);
                let flight = Flight {
                    running: Arc::clone(&running),
                    first: waiter,
                    others: Vec::new(),
                };
                flights.insert(place, flight);
                return Some(running);
            };
            if flight.running.ask().is_same(ask) {
                if flight.others.len() < WAITERS_MAX {
                    flight.others.push(waiter);
                } else {
                    drop(flights);
                    waiter.crowded();
                }
                return None;
            }
        }
        drop(flights);
        // Five questions of one keyed hash: an accident nobody will see.
        waiter.crowded();
        None
    }

    /// The lookup of this number at this place is over: tells all who wait, or drops them.
    pub(crate) fn finish(&self, (place, number): (u64, u64), resolved: Option<(&Resolved, Time)>) {
        let flight = {
            let mut flights = self.flights.lock();
            // What panicked while it told of its end has left its place to another.
            if is_of(&flights, place, number) {
                flights.remove(&place)
            } else {
                None
            }
        };
        let (Some(Flight { first, others, .. }), Some((resolved, now))) = (flight, resolved) else {
            return;
        };
        first.resolved(resolved, false, now);
        for waiter in others {
            waiter.resolved(resolved, true, now);
        }
    }

    /// Has the lookup at this place woken at `due`.
    pub(crate) fn wake_at(&self, due: Time, place: u64, number: u64) {
        let mut timers = self.timers.lock();
        if timers.len() >= TIMERS_SPARED {
            let flights = self.flights.lock();
            if timers.len() / 4 > flights.len() {
                timers.retain(|Reverse((_, place, number))| is_of(&flights, *place, *number));
            }
        }
        timers.push(Reverse((due, place, number)));
        drop(timers);
        if due.as_micros() < self.sleeps_until.load(Ordering::Acquire) {
            self.earlier.notify_one();
        }
    }

    /// The lookups that are due, and when the next one is.
    pub(crate) fn take_due(&self, now: Time) -> (Vec<Arc<Running>>, Time) {
        let mut due = Vec::new();
        let mut timers = self.timers.lock();
        while let Some(Reverse((at, place, number))) = timers.peek().copied() {
            if at > now {
                break;
            }
            timers.pop();
            let flights = self.flights.lock();
            if let Some(flight) = flights.get(&place).filter(|flight| flight.running.number() == number) {
                due.push(Arc::clone(&flight.running));
            }
        }
        let next = timers.peek().map_or(Time::FAR, |Reverse((at, _, _))| *at);
        // Under the lock: who adds an earlier one after it sees this.
        self.sleeps_until.store(next.as_micros(), Ordering::Release);
        (due, next)
    }

    /// Waits for a timer earlier than the one that [`Self::take_due`] told. Cancel safe.
    pub(crate) async fn earlier(&self) {
        self.earlier.notified().await;
    }

    /// All lookups.
    pub(crate) fn all(&self) -> Vec<Arc<Running>> {
        let flights = self.flights.lock();
        flights.values().map(|flight| Arc::clone(&flight.running)).collect()
    }

    /// Questions in flight.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.flights.lock().len()
    }
}

fn is_of(flights: &Flights, place: u64, number: u64) -> bool {
    flights
        .get(&place)
        .is_some_and(|flight| flight.running.number() == number)
}
