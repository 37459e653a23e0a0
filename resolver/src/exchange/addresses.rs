//! The addresses of an endpoint: one for ever, or those that its host name has at the time.
//!
//! Shared by all that speak to the endpoint, through reloads too. Another address is for what is sent from then on;
//! connections that stand go on to their end. Where there are several, the one that last worked is the first.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_core::Family;
use tokio::sync::watch;

/// A host name's addresses of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAt {
    /// Lower case.
    pub host: Box<str>,
    /// The same for all of them.
    pub port: u16,
    /// Of the addresses.
    pub family: Family,
}

/// The addresses of an endpoint. Clones are the same ones.
#[derive(Clone)]
pub struct Addresses(Arc<Inner>);

struct Inner {
    /// `None`: the one address is the endpoint's own.
    name: Option<NamedAt>,
    current: watch::Sender<Current>,
}

#[derive(Debug, Default)]
struct Current {
    /// Best first.
    all: Arc<[SocketAddr]>,
    /// Whether somebody has said so; none at all, too.
    is_known: bool,
}

impl Addresses {
    /// One, for ever.
    #[must_use]
    pub fn fixed(address: SocketAddr) -> Self {
        let all = [address].into();
        Self::new(None, Current { all, is_known: true })
    }

    /// Those of a name; none until it is resolved.
    #[must_use]
    pub fn of_name(at: NamedAt) -> Self {
        Self::new(Some(at), Current::default())
    }

    fn new(name: Option<NamedAt>, first: Current) -> Self {
        let (current, _) = watch::channel(first);
        Self(Arc::new(Inner { name, current }))
    }

    /// The name they belong to, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<&NamedAt> {
        self.0.name.as_ref()
    }

    /// The one that is asked.
    #[must_use]
    pub fn first(&self) -> Option<SocketAddr> {
        self.0.current.borrow().all.first().copied()
    }

    /// All of them, best first.
    #[must_use]
    pub fn all(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.0.current.borrow().all)
    }

    /// Whether somebody has said where it is, or that it is nowhere.
    pub(super) fn is_known(&self) -> bool {
        self.0.current.borrow().is_known
    }

    /// The name has these addresses now; whether another one is asked from here on, or none. Those that were known stay
    /// in front, in their order: servers show some of many, and turn them round. An endpoint's own address does not change.
    pub fn set(&self, addresses: &[SocketAddr]) -> bool {
        if self.0.name.is_none() {
            return false;
        }
        let mut is_elsewhere = false;
        self.0.current.send_modify(|current| {
            let older = &current.all;
            let known = older.iter().filter(|one| addresses.contains(one));
            let new = addresses.iter().filter(|one| !older.contains(one));
            let all: Arc<[SocketAddr]> = known.chain(new).copied().collect();
            is_elsewhere = all.first() != older.first();
            current.all = all;
            current.is_known = true;
        });
        is_elsewhere
    }

    /// This one worked: it is the first from here on.
    pub(super) fn prefer(&self, address: SocketAddr) {
        self.put(address, |others| others.insert(0, address));
    }

    /// This one did not: it is the last from here on. Whether there is another first.
    pub fn defer(&self, address: SocketAddr) -> bool {
        self.put(address, |others| others.push(address));
        self.first() != Some(address)
    }

    /// Puts one of several elsewhere among the others.
    fn put(&self, address: SocketAddr, place: impl FnOnce(&mut Vec<SocketAddr>)) {
        self.0.current.send_if_modified(|current| {
            if current.all.len() < 2 || !current.all.contains(&address) {
                return false;
            }
            let mut others: Vec<SocketAddr> = current.all.iter().copied().filter(|one| *one != address).collect();
            place(&mut others);
            current.all = others.into();
            // Whoever waits for addresses has them.
            false
        });
    }

    /// All of them, once they are known or `patience` is over; there may be none.
    pub(super) async fn ready(&self, patience: Duration) -> Arc<[SocketAddr]> {
        let mut current = self.0.current.subscribe();
        let known = tokio::time::timeout(patience, current.wait_for(|current| current.is_known)).await;
        match known {
            Ok(Ok(current)) => Arc::clone(&current.all),
            Ok(Err(_)) | Err(_) => self.all(),
        }
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses")
            .field("name", &self.0.name)
            .field("current", &self.all())
            .finish()
    }
}

/// Of the same name, or the same address: what a name has at the time is no difference.
impl PartialEq for Addresses {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0.name, &other.0.name) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.first() == other.first(),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl Eq for Addresses {}

impl From<SocketAddr> for Addresses {
    fn from(address: SocketAddr) -> Self {
        Self::fixed(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn of_name() -> Addresses {
        Addresses::of_name(NamedAt {
            host: "dns.example".into(),
            port: 53,
            family: Family::V4,
        })
    }

    #[test]
    fn the_best_address_stays_the_best_while_it_is_one() {
        let addresses = of_name();
        assert_eq!(addresses.first(), None);
        assert!(addresses.set(&list(&["192.0.2.1:53", "192.0.2.2:53"])));
        assert!(!addresses.set(&list(&["192.0.2.2:53", "192.0.2.1:53"])), "turned round");
        assert_eq!(addresses.all()[..], list(&["192.0.2.1:53", "192.0.2.2:53"]));
        let others = list(&["192.0.2.3:53", "192.0.2.2:53", "192.0.2.1:53"]);
        assert!(!addresses.set(&others), "one more is no reason to ask another one");
        assert_eq!(
            addresses.all()[..],
            list(&["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"])
        );
        assert!(addresses.defer("192.0.2.1:53".parse().unwrap()));
        assert!(!addresses.set(&others), "what did not work stays the last");
        assert_eq!(addresses.first(), Some("192.0.2.2:53".parse().unwrap()));
        assert!(!addresses.set(&list(&["192.0.2.4:53", "192.0.2.2:53"])), "some of many");
        assert!(addresses.set(&list(&["192.0.2.3:53"])));
        assert_eq!(addresses.first(), Some("192.0.2.3:53".parse().unwrap()));
        assert!(addresses.set(&[]));
        assert_eq!(addresses, of_name());
    }

    #[test]
    fn what_worked_is_first_and_what_did_not_is_last() {
        let addresses = of_name();
        let all = list(&["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]);
        addresses.set(&all);
        addresses.prefer(all[2]);
        assert_eq!(addresses.all()[..], [all[2], all[0], all[1]]);
        assert!(addresses.defer(all[2]));
        assert_eq!(addresses.all()[..], all);
        addresses.prefer("192.0.2.9:53".parse().unwrap());
        assert_eq!(addresses.all()[..], all, "one that it does not have");
        let own = Addresses::fixed(all[0]);
        assert!(!own.defer(all[0]), "there is no other");
    }

    #[test]
    fn an_endpoints_own_address_does_not_change() {
        let own = Addresses::fixed("192.0.2.1:53".parse().unwrap());
        assert!(!own.set(&list(&["192.0.2.2:53"])));
        assert_eq!(own, Addresses::fixed("192.0.2.1:53".parse().unwrap()));
        assert_ne!(own, Addresses::fixed("192.0.2.2:53".parse().unwrap()));
        assert_ne!(own, of_name());
    }

    #[tokio::test]
    async fn who_waits_for_an_address_gets_it() {
        let addresses = of_name();
        assert!(addresses.ready(Duration::from_millis(1)).await.is_empty());
        let (waits, ()) = tokio::join!(addresses.ready(Duration::from_secs(60)), async {
            addresses.set(&list(&["192.0.2.1:53"]));
        });
        assert_eq!(waits[..], list(&["192.0.2.1:53"]));
        let none = of_name();
        none.set(&[]);
        assert!(
            none.ready(Duration::from_secs(60)).await.is_empty(),
            "known to have none"
        );
    }
}
