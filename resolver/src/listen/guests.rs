//! So many places for those who are served at once, and who has to leave when all are taken.
//!
//! Half of them at most go to one client (`fair`). When all are taken and somebody comes who has fewer than whoever has
//! most, then that one loses the place that it has not used for longest (RFC 7766 section 6.2.3): two addresses do not keep
//! out all others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use detour_core::Time;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::fair::counted;
use crate::metrics::Refused;

/// Who has a place.
#[derive(Debug, Default)]
pub(super) struct Guest {
    /// When it last did what it is here for, microseconds.
    active_us: AtomicU64,
    /// It has lost its place.
    ended: CancellationToken,
}

impl Guest {
    /// It did what it is here for.
    pub(super) fn note(&self, now: Time) {
        self.active_us.store(now.as_micros(), Ordering::Relaxed);
    }

    /// Returns when it has to leave.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    client: IpAddr,
    guest: Arc<Guest>,
    of: Arc<Guests>,
}

impl Held {
    /// Who has it.
    pub(super) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.all.lock().remove(self.client, &self.guest);
    }
}

/// The places and who has them.
#[derive(Debug)]
pub(super) struct Guests {
    /// Held for one look; one at everybody when somebody comes and all places are taken.
    all: Mutex<All>,
}

#[derive(Debug)]
struct All {
    places: usize,
    count: usize,
    /// As many as places are taken; clients without any are not kept.
    of_client: HashMap<IpAddr, Vec<Arc<Guest>>, RandomState>,
}

impl All {
    fn remove(&mut self, client: IpAddr, guest: &Arc<Guest>) {
        let Some(own) = self.of_client.get_mut(&client) else {
            return;
        };
        // Who lost its place is not there any more.
        if let Some(at) = own.iter().position(|other| Arc::ptr_eq(other, guest)) {
            own.swap_remove(at);
            self.count -= 1;
        }
        if own.is_empty() {
            self.of_client.remove(&client);
        }
    }

    /// Of those with most places, more than this, the guest that has done nothing for longest.
    fn find_idle(&self, more_than: usize) -> Option<(IpAddr, Arc<Guest>)> {
        let most = self.of_client.values().map(Vec::len).max()?;
        if most <= more_than {
            return None;
        }
        let largest = self.of_client.iter().filter(|(_, own)| own.len() == most);
        let guests = largest.flat_map(|(client, own)| own.iter().map(|guest| (*client, guest)));
        let idle = guests.min_by_key(|(client, guest)| (guest.active_us.load(Ordering::Relaxed), *client));
        idle.map(|(client, guest)| (client, Arc::clone(guest)))
    }
}

impl Guests {
    /// This many places.
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Mutex::new(All {
                places,
                count: 0,
                of_client: HashMap::default(),
            }),
        })
    }

    /// From here on there are this many; who is in stays in.
    pub(super) fn resize(&self, places: usize) {
        self.all.lock().places = places;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.lock().count
    }

    /// Somebody comes.
    ///
    /// # Errors
    /// When it has its share, or nobody has to leave for it.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr, now: Time) -> Result<Held, Refused> {
        let client = counted(client);
        let guest = Arc::new(Guest::default());
        guest.note(now);
        let mut all = self.all.lock();
        let own = all.of_client.get(&client).map_or(0, Vec::len);
        if own >= all.places.div_ceil(2) {
            return Err(Refused::Client);
        }
        if all.count > all.places {
            return Err(Refused::Total);
        }
        if all.count == all.places {
            let (other, idle) = all.find_idle(own).ok_or(Refused::Total)?;
            all.remove(other, &idle);
            idle.ended.cancel();
        }
        all.of_client.entry(client).or_default().push(Arc::clone(&guest));
        all.count += 1;
        drop(all);
        let of = Arc::clone(self);
        Ok(Held { client, guest, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn at(us: u64) -> Time {
        Time::ZERO.plus(us)
    }

    #[test]
    fn whoever_has_most_makes_room_with_what_it_used_least() {
        let guests = Guests::new(4);
        let first: Vec<_> = (1..=2).map(|us| guests.enter(client(1), at(us)).unwrap()).collect();
        let second = guests.enter(client(2), at(0)).unwrap();
        let third = guests.enter(client(3), at(3)).unwrap();
        assert_eq!(guests.enter(client(1), at(9)).unwrap_err(), Refused::Client);
        first[0].guest().note(at(5));
        let fourth = guests.enter(client(4), at(6)).unwrap();
        assert!(
            first[1].guest().ended.is_cancelled(),
            "not used for longer than the other"
        );
        assert!(!second.guest().ended.is_cancelled(), "the only one of its client");
        assert_eq!(guests.count(), 4);
        assert_eq!(
            guests.enter(client(4), at(7)).unwrap_err(),
            Refused::Total,
            "nobody has more"
        );
        let _fifth = guests.enter(client(5), at(8)).unwrap();
        assert!(second.guest().ended.is_cancelled(), "all have one");
        drop((first, second, third, fourth));
        assert_eq!(guests.count(), 1);
    }

    #[test]
    fn who_is_in_stays_in_when_places_become_fewer() {
        let guests = Guests::new(4);
        let held: Vec<_> = (0..4).map(|last| guests.enter(client(last), at(0)).unwrap()).collect();
        guests.resize(2);
        assert_eq!(guests.enter(client(9), at(1)).unwrap_err(), Refused::Total);
        assert!(held.iter().all(|held| !held.guest().ended.is_cancelled()));
        drop(held);
        assert!(guests.enter(client(9), at(1)).is_ok());
    }
}
