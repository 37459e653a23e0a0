//! Asks the network's resolvers for the prefix of its translator (RFC 7050), and hands on what they say.
//!
//! When to ask and what it means is [`detour_core::dns64::Discovery`]'s. Asked is what clients could ask too: the name is
//! routed to the network's resolvers (RFC 8880), and they answer this node as they would any other machine.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use detour_core::dns64::{Discovery, Prefix, Told, WELL_KNOWN_NAME};
use detour_resolver::forwarder::Shared;
use detour_resolver::wire::NameBuf;
use detour_resolver::wire::code::rtype;
use tokio::sync::{mpsc, watch};

/// Whose word on a translator counts; the default is nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Whose {
    /// The network's resolvers.
    pub(crate) resolvers: Vec<SocketAddr>,
    /// Which network it is, of those that have such resolvers ([`crate::given::Given::epoch`]).
    pub(crate) epoch: u64,
}

/// What resolvers say of a translator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discovered {
    /// Who says so.
    pub(crate) whose: Whose,
    /// The prefix, if there is one.
    pub(crate) prefix: Option<Prefix>,
}

/// Whoever asks, as others have it.
#[derive(Debug)]
pub(crate) struct Asking {
    /// Whose word counts; nobody's ends it for the time being.
    pub(crate) whose: watch::Sender<Whose>,
    /// What they say.
    pub(crate) discovered: mpsc::Receiver<Discovered>,
}

/// Starts asking.
pub(crate) fn start(shared: &Arc<Shared>) -> Asking {
    let (sender, whose) = watch::channel(Whose::default());
    let (found, discovered) = mpsc::channel(1);
    let asker = Asker {
        shared: Arc::clone(shared),
        whose,
        found,
        discovery: Discovery::default(),
    };
    shared.tasks().spawn_job(asker.run());
    Asking {
        whose: sender,
        discovered,
    }
}

/// Why the task woke up.
enum Action {
    /// Another network, or other resolvers.
    Network,
    /// Time to ask.
    Ask,
    /// Shutdown.
    Stop,
}

struct Asker {
    shared: Arc<Shared>,
    whose: watch::Receiver<Whose>,
    found: mpsc::Sender<Discovered>,
    discovery: Discovery,
}

impl Asker {
    /// Runs until shutdown.
    async fn run(mut self) {
        loop {
            match self.select().await {
                Action::Network => {
                    let has_resolvers = !self.whose.borrow_and_update().resolvers.is_empty();
                    let now = self.shared.clock().now();
                    self.discovery.handle_network(has_resolvers, now);
                }
                Action::Ask => self.ask().await,
                Action::Stop => return,
            }
        }
    }

    async fn select(&mut self) -> Action {
        let now = self.shared.clock().now();
        let due = self.discovery.poll_timeout();
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep(Duration::from_micros(at.since(now))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel safe: the token stays cancelled.
            () = self.shared.tasks().draining().cancelled() => Action::Stop,
            // Cancel safe: the change stays marked as unseen.
            changed = self.whose.changed() => match changed {
                Ok(()) => Action::Network,
                Err(_) => Action::Stop,
            },
            // Cancel safe: a timer.
            () = timer => Action::Ask,
        }
    }

    /// Asks once, and hands on what is new.
    async fn ask(&mut self) {
        let whose = self.whose.borrow().clone();
        let told = self.told().await;
        let before = self.discovery.prefix();
        self.discovery.handle_told(&told, self.shared.clock().now());
        let prefix = self.discovery.prefix();
        if prefix != before {
            let discovered = Discovered { whose, prefix };
            if self.found.send(discovered).await.is_err() {
                tracing::debug!("nobody wants to know the translator's prefix any more");
            }
        }
    }

    /// What the resolvers say of the well-known name.
    async fn told(&self) -> Told {
        let Some(name) = NameBuf::from_wire(WELL_KNOWN_NAME) else {
            debug_assert!(false, "the well-known name is a name");
            return Told::Nothing;
        };
        match self.shared.look_up(&name, rtype::AAAA).await {
            Some(entry) => {
                let v6 = |address| match address {
                    IpAddr::V6(v6) => Some(v6),
                    IpAddr::V4(_) => None,
                };
                let addresses: Vec<Ipv6Addr> = entry.answer.addresses().filter_map(v6).collect();
                Told::Addresses(addresses, entry.answer.ttl_s().unwrap_or(0))
            }
            None => Told::Nothing,
        }
    }
}
