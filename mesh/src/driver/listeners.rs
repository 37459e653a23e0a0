//! Where this node listens, and where it tries to: a port that is taken may be free later.

use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;

use detour_core::time::{SEC, Time};

use crate::address::{ListenAddress, socket_of};
use crate::status::ListenStatus;

/// What is not listened at is tried again after this long.
const AGAIN_US: u64 = 30 * SEC;
/// Interfaces whose addresses are listed.
const BOUND_MAX: usize = 32;

#[derive(Debug)]
struct Listener {
    address: ListenAddress,
    id: Option<ListenerId>,
    bound: Vec<Multiaddr>,
    error: Option<String>,
}

/// The listeners of one life of the mesh.
#[derive(Debug)]
pub(crate) struct Listeners {
    all: Vec<Listener>,
    again: Option<Time>,
}

impl Listeners {
    pub(crate) fn new(addresses: &[ListenAddress], now: Time) -> Self {
        let all = addresses.iter().map(|address| Listener {
            address: *address,
            id: None,
            bound: Vec::new(),
            error: None,
        });
        Self {
            all: all.collect(),
            again: Some(now),
        }
    }

    /// Tries those that are not listened at, if it is time.
    pub(crate) fn run(&mut self, now: Time, mut listen: impl FnMut(Multiaddr) -> Result<ListenerId, String>) {
        if self.again.is_none_or(|again| now < again) {
            return;
        }
        self.again = None;
        for listener in self.all.iter_mut().filter(|listener| listener.id.is_none()) {
            match listen(listener.address.multiaddr()) {
                Ok(id) => {
                    listener.id = Some(id);
                    listener.error = None;
                }
                Err(error) => {
                    if listener.error.as_ref() != Some(&error) {
                        tracing::warn!(address = %listener.address, error, "the mesh cannot listen, retried every 30 s");
                    }
                    listener.error = Some(error);
                    self.again = Some(now.plus(AGAIN_US));
                }
            }
        }
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.again
    }

    /// An address is listened at.
    pub(crate) fn bound(&mut self, id: ListenerId, address: Multiaddr) {
        let listener = self.all.iter_mut().find(|listener| listener.id == Some(id));
        if let Some(listener) = listener.filter(|listener| listener.bound.len() < BOUND_MAX) {
            tracing::info!(%address, "the mesh listens");
            listener.bound.push(address);
        }
    }

    /// An address is gone with its interface.
    pub(crate) fn expired(&mut self, id: ListenerId, address: &Multiaddr) {
        if let Some(listener) = self.all.iter_mut().find(|listener| listener.id == Some(id)) {
            listener.bound.retain(|other| other != address);
        }
    }

    /// A listener ended; it is tried again.
    pub(crate) fn closed(&mut self, id: ListenerId, error: Option<String>, now: Time) {
        if let Some(listener) = self.all.iter_mut().find(|listener| listener.id == Some(id)) {
            listener.id = None;
            listener.bound.clear();
            listener.error = Some(error.unwrap_or_else(|| "closed".to_owned()));
            self.again = Some(now.plus(AGAIN_US));
        }
    }

    /// Whether there is nothing to listen at, or something is listened at.
    pub(crate) fn is_well(&self) -> bool {
        self.all.is_empty() || self.all.iter().any(|listener| listener.id.is_some())
    }

    /// The port at which this node can be dialled; 0: none.
    pub(crate) fn port(&self) -> u16 {
        let bound = self.all.iter().flat_map(|listener| &listener.bound);
        bound
            .filter_map(socket_of)
            .map(|socket| socket.port())
            .next()
            .unwrap_or(0)
    }

    pub(crate) fn ids(&self) -> Vec<ListenerId> {
        self.all.iter().filter_map(|listener| listener.id).collect()
    }

    pub(crate) fn status(&self) -> Vec<ListenStatus> {
        let all = self.all.iter().map(|listener| ListenStatus {
            address: listener.address.to_string(),
            bound: listener.bound.iter().map(Multiaddr::to_string).collect(),
            error: listener.error.clone(),
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_tried_again() {
        let start = Time::at_ms(1_000);
        let address: ListenAddress = "/ip4/127.0.0.1/udp/4853/quic-v1".parse().unwrap();
        let mut listeners = Listeners::new(&[address], start);
        assert!(!listeners.is_well() && Listeners::new(&[], start).is_well());
        listeners.run(start, |_| Err("taken".to_owned()));
        assert_eq!(listeners.status()[0].error.as_deref(), Some("taken"));
        let again = listeners.next().unwrap();
        assert_eq!(again, start.plus(AGAIN_US));
        listeners.run(start, |_| panic!("too early"));
        let id = ListenerId::next();
        listeners.run(again, |_| Ok(id));
        assert!(listeners.is_well() && listeners.next().is_none() && listeners.port() == 0);
        listeners.bound(id, address.multiaddr());
        assert_eq!(listeners.port(), 4853);
        assert_eq!(listeners.status()[0].bound, [address.to_string()]);
        listeners.closed(id, None, again);
        assert!(!listeners.is_well() && listeners.next().is_some() && listeners.port() == 0);
    }
}
