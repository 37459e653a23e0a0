//! No client takes all there is: a bound per client address on what is bounded in all.
//!
//! Half of what there is may go to one client, so that a single busy one (a router that asks for an office) is hardly
//! limited, and a hostile one leaves the other half. Whoever has an IPv6 address has the whole /64 around it, so that counts
//! as one client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::quality::RandomState;
use parking_lot::Mutex;

/// By what a client is counted: its IPv4 address, or the /64 of its IPv6 address (RFC 6177).
pub(crate) fn counted(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        client @ IpAddr::V4(_) => client,
    }
}

/// Places taken by client; addresses without any are not kept.
#[derive(Debug)]
pub(crate) struct PerClient {
    most: AtomicUsize,
    /// As many entries as places are taken; held for one look.
    taken: Mutex<HashMap<IpAddr, usize, RandomState>>,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    client: IpAddr,
    of: Arc<PerClient>,
}

impl PerClient {
    /// At most half of `places` for one client.
    pub(crate) fn half_of(places: usize) -> Arc<Self> {
        Arc::new(Self {
            most: AtomicUsize::new(places.div_ceil(2)),
            taken: Mutex::default(),
        })
    }

    /// The same of another number of places; who has more keeps them.
    pub(crate) fn resize(&self, places: usize) {
        self.most.store(places.div_ceil(2), Ordering::Relaxed);
    }

    /// A place for this client, if it has not had its share.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let client = counted(client);
        let mut taken = self.taken.lock();
        let own = taken.entry(client).or_insert(0);
        if *own >= self.most.load(Ordering::Relaxed) {
            return None;
        }
        *own += 1;
        drop(taken);
        let of = Arc::clone(self);
        Some(Place { client, of })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock();
        if let Some(own) = taken.get_mut(&self.client) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_gets_half_and_gives_it_back() {
        let places = PerClient::half_of(4);
        let (busy, other) = ([127, 0, 0, 2].into(), [127, 0, 0, 3].into());
        let held: Vec<Place> = (0..2).map(|_| places.take(busy).unwrap()).collect();
        assert!(places.take(busy).is_none());
        assert!(places.take(other).is_some());
        drop(held);
        assert!(places.take(busy).is_some());
        assert!(places.taken.lock().len() <= 1);
    }

    #[test]
    fn the_addresses_of_a_64_are_one_client_and_those_of_ipv4_are_not() {
        let places = PerClient::half_of(4);
        let take = |text: &str| places.take(text.parse().unwrap());
        let _held = (take("2001:db8::1").unwrap(), take("2001:db8::2:0:0:7").unwrap());
        assert!(take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        let _both = (take("192.0.2.1").unwrap(), take("::ffff:192.0.2.1").unwrap());
        assert!(take("192.0.2.1").is_none() && take("192.0.2.2").is_some());
    }
}
