//! Host names of endpoints, as the control task sees to them: has them resolved, puts their addresses where connections
//! read them, keeps them for the next process, and says what that means for health.
//!
//! When a name is resolved is [`detour_core::names`]'s to decide and how [`detour_resolver::bootstrap`]'s to do. Nobody
//! waits for any of it: a node starts and answers by what it has.

mod record;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use detour_core::health::state::State;
use detour_core::names::{Found, NAMES_MAX, NameId, Names, Output};
use detour_core::outcome::Cause;
use detour_core::{Clock, EndpointId, Family, Time, Topology, Transport};
use detour_resolver::bootstrap::{self, BootstrapServer};
use detour_resolver::exchange::{Addresses, Remote};
use detour_resolver::tasks::Tasks;
use tokio::sync::{mpsc, oneshot};

use crate::board::Board;
use crate::config::answers_to_itself;
use crate::metrics::{NameLookup, NamesMetrics, StoreDropped, StoreMetrics};
use crate::stamp::Stamp;
use crate::store::{Entry, StoreHandle, Tree};

/// What was known so long ago is forgotten: a provider that moves keeps its old addresses up for days.
const REMEMBERED_US: u64 = 30 * 86_400 * 1_000_000;
/// What the board calls it.
pub(crate) const PART: &str = "host names";
/// Names that the board lists.
const SHOWN_MAX: usize = 4;

/// What woke it.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A resolution is over.
    Found(Arc<str>, Found),
    /// What earlier processes knew.
    Remembered(Vec<Entry>),
    /// It is time.
    Due,
}

/// What follows for endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is not known where these are.
    Unresolved(Vec<EndpointId>),
    /// These are somewhere, or somewhere else.
    Resolved(Vec<EndpointId>),
    /// Another of the known addresses of this one is asked from here on; what is known of it stays.
    Elsewhere(EndpointId),
}

/// What it is given once.
#[derive(Debug)]
pub(crate) struct NamesParts {
    pub(crate) store: StoreHandle,
    pub(crate) store_metrics: StoreMetrics,
    pub(crate) metrics: NamesMetrics,
    pub(crate) board: Board,
    pub(crate) tasks: Tasks,
}

/// An endpoint with a host name.
#[derive(Debug)]
struct Named {
    endpoint: EndpointId,
    label: String,
    name: NameId,
    addresses: Addresses,
    transport: Transport,
    is_troubled: bool,
}

/// The names of the configuration in force.
#[derive(Debug)]
pub(crate) struct NamesKeeper {
    parts: NamesParts,
    names: Names,
    /// In order of the endpoints.
    named: Vec<Named>,
    servers: Arc<[BootstrapServer]>,
    /// Names of which it was said the last time that they have no address.
    denied: BTreeSet<Arc<str>>,
    /// Where this node answers: nobody is asked there, and no name is believed to be there.
    own: Vec<SocketAddr>,
    found: mpsc::Receiver<(Arc<str>, Found)>,
    /// One message for each name that is being resolved; with more than that under way, after reloads, they wait.
    finder: mpsc::Sender<(Arc<str>, Found)>,
    /// What an earlier process left, on its way.
    arriving: Option<oneshot::Receiver<Vec<Entry>>>,
}

impl NamesKeeper {
    /// Asks the store for what an earlier process left; `own` are the addresses this node answers at.
    #[must_use]
    pub(crate) fn new(parts: NamesParts, own: Vec<SocketAddr>) -> Self {
        let (finder, found) = mpsc::channel(NAMES_MAX);
        Self {
            arriving: Some(parts.store.load(Tree::Addresses)),
            parts,
            names: Names::default(),
            named: Vec::new(),
            servers: Arc::default(),
            denied: BTreeSet::new(),
            own,
            found,
            finder,
        }
    }

    /// Endpoints that stay keep their addresses, so that what stands on them does.
    pub(crate) fn adopt(&self, remotes: &mut [Remote], topology: &Topology) {
        for (remote, endpoint) in remotes.iter_mut().zip(&topology.endpoints) {
            let known = self.named.iter().find(|named| named.label == endpoint.label);
            if let Some(known) = known.filter(|known| known.addresses == remote.addresses) {
                remote.addresses = known.addresses.clone();
            }
        }
    }

    /// These are the endpoints from here on, [`Self::adopt`]ed before.
    pub(crate) fn follow(
        &mut self,
        remotes: &[Remote],
        topology: &Topology,
        servers: Vec<BootstrapServer>,
        now: Time,
    ) -> Vec<Change> {
        let is_own = |server: &BootstrapServer| {
            let address = server.remote.addresses.first();
            address.is_some_and(|address| answers_to_itself(&self.own, address))
        };
        self.servers = servers.into_iter().filter(|server| !is_own(server)).collect();
        let mut hosts: Vec<String> = Vec::new();
        self.named.clear();
        for ((endpoint, own), remote) in topology.endpoint_ids().zip(&topology.endpoints).zip(remotes) {
            let Some(at) = remote.addresses.name() else { continue };
            let known = hosts.iter().position(|host| **host == *at.host);
            let index = known.unwrap_or_else(|| {
                hosts.push(at.host.to_string());
                hosts.len().saturating_sub(1)
            });
            self.named.push(Named {
                endpoint,
                label: own.label.clone(),
                name: NameId(u16::try_from(index).unwrap_or(u16::MAX)),
                addresses: remote.addresses.clone(),
                transport: own.transport,
                is_troubled: false,
            });
        }
        if !self.named.is_empty() && self.names.poll_timeout().is_none() && self.arriving.is_none() {
            // The first names since the start: some of them may have been known once.
            self.arriving = Some(self.parts.store.load(Tree::Addresses));
        }
        self.names.handle_configuration(&hosts, now);
        self.denied.retain(|denied| hosts.iter().any(|host| **host == **denied));
        let mut changes = self.drain();
        let nowhere = self.named.iter().filter(|named| named.addresses.first().is_none());
        let nowhere: Vec<EndpointId> = nowhere.map(|named| named.endpoint).collect();
        if !nowhere.is_empty() {
            changes.push(Change::Unresolved(nowhere));
        }
        changes
    }

    /// Waits until there is something to do; for ever where there are no names. Cancel safe.
    pub(crate) async fn wait(&mut self, now: Time) -> Heard {
        let due = self.names.poll_timeout().map(|(at, _why)| at);
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep(Duration::from_micros(at.since(now))).await,
                None => std::future::pending().await,
            }
        };
        let arriving = &mut self.arriving;
        let remembered = async {
            match arriving {
                // Without a store there is nothing.
                Some(arriving) => arriving.await.unwrap_or_default(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel safe: recv of a channel. There is a sender as long as this is.
            Some((host, found)) = self.found.recv() => Heard::Found(host, found),
            // Cancel safe: what arrives stays until it was taken.
            entries = remembered => {
                self.arriving = None;
                Heard::Remembered(entries)
            }
            // Cancel safe: a timer.
            () = timer => Heard::Due,
        }
    }

    /// Takes what was heard.
    pub(crate) fn take(&mut self, heard: Heard, clock: &dyn Clock) -> Vec<Change> {
        let now = clock.now();
        match heard {
            Heard::Found(host, found) => {
                let outcome = outcome(&found);
                self.parts.metrics.count(outcome);
                // Numbers are those of the configuration in force.
                if let Some(id) = self.id_of(&host) {
                    self.names.handle_found(id, &found, now);
                    if outcome == NameLookup::empty {
                        self.denied.insert(host);
                    } else {
                        self.denied.remove(&host);
                    }
                }
            }
            Heard::Remembered(entries) => self.remember(&entries, clock),
            Heard::Due => self.names.handle_timeout(now),
        }
        let changes = self.drain_at(Some(clock));
        self.tell();
        changes
    }

    /// An endpoint's state changed.
    pub(crate) fn note_state(&mut self, endpoint: EndpointId, to: State, cause: Cause, now: Time) -> Vec<Change> {
        let Some(named) = self.named.iter_mut().find(|named| named.endpoint == endpoint) else {
            return Vec::new();
        };
        named.is_troubled = !to.is_usable();
        let (name, has_failed) = (named.name, named.is_troubled);
        // An address that cannot be connected to was left then and there.
        let is_silent = matches!(cause, Cause::Timeout | Cause::Silence | Cause::Loss);
        let is_lost = is_silent || (named.transport == Transport::Udp && cause == Cause::Unreachable);
        let first = named.addresses.first().filter(|_| has_failed && is_lost);
        let elsewhere = first.is_some_and(|first| named.addresses.defer(first));
        let is_troubled = self.named.iter().any(|named| named.name == name && named.is_troubled);
        if has_failed || !is_troubled {
            self.names.handle_trouble(name, is_troubled, now);
        }
        let mut changes = self.drain();
        changes.extend(elsewhere.then_some(Change::Elsewhere(endpoint)));
        changes
    }

    /// The network here is another one, or the machine slept.
    pub(crate) fn note_new_network(&mut self, now: Time) -> Vec<Change> {
        self.names.handle_new_network(now);
        self.drain()
    }

    fn id_of(&self, host: &str) -> Option<NameId> {
        let mut named = self.named.iter();
        named.find_map(|named| (self.names.host(named.name) == Some(host)).then_some(named.name))
    }

    fn drain(&mut self) -> Vec<Change> {
        self.drain_at(None)
    }

    /// Does what is to be done; only with a clock is anything kept.
    fn drain_at(&mut self, clock: Option<&dyn Clock>) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(output) = self.names.poll_output() {
            match output {
                Output::Resolve(id) => self.resolve(id),
                Output::Changed(id, addresses) => changes.extend(self.move_to(id, &addresses)),
                Output::Keep(id, addresses) => {
                    if let (Some(host), Some(clock)) = (self.names.host(id), clock) {
                        let record = record::encode(&Stamp::now(clock), &addresses);
                        self.parts.store.put(Tree::Addresses, host.as_bytes(), record);
                    }
                }
            }
        }
        changes
    }

    /// Has a name resolved.
    fn resolve(&self, id: NameId) {
        let Some(host) = self.names.host(id).map(Arc::<str>::from) else {
            return;
        };
        let (servers, tasks, finder) = (Arc::clone(&self.servers), self.parts.tasks.clone(), self.finder.clone());
        let token = self.parts.tasks.token().clone();
        self.parts.tasks.spawn_job(async move {
            tokio::select! {
                // Cancel safe: the token stays cancelled.
                () = token.cancelled() => {}
                // It is not polled again. Nobody to tell is fine: the node stops.
                found = bootstrap::resolve(Arc::clone(&host), servers, &tasks) => drop(finder.send((host, found)).await),
            }
        });
    }

    /// A name is somewhere else: what is sent from here on goes there.
    fn move_to(&self, id: NameId, addresses: &[IpAddr]) -> Vec<Change> {
        let (mut lost, mut moved) = (Vec::new(), Vec::new());
        for named in self.named.iter().filter(|named| named.name == id) {
            let Some(at) = named.addresses.name() else { continue };
            let of_family = addresses.iter().filter(|ip| ip.is_ipv4() == (at.family == Family::V4));
            let places = of_family.map(|ip| SocketAddr::new(*ip, at.port));
            // A name that leads here would have this node ask itself.
            let places: Vec<SocketAddr> = places.filter(|place| !answers_to_itself(&self.own, *place)).collect();
            let had_some = named.addresses.first().is_some();
            if named.addresses.set(&places) {
                let what = moved_text(had_some, !places.is_empty());
                tracing::info!(endpoint = named.label, addresses = ?places, "{what}");
                if places.is_empty() { &mut lost } else { &mut moved }.push(named.endpoint);
            }
        }
        let lost = (!lost.is_empty()).then_some(Change::Unresolved(lost));
        let moved = (!moved.is_empty()).then_some(Change::Resolved(moved));
        lost.into_iter().chain(moved).collect()
    }

    /// What earlier processes knew: too old is forgotten.
    fn remember(&mut self, entries: &[Entry], clock: &dyn Clock) {
        let (stamp, now) = (Stamp::now(clock), clock.now());
        for (key, value) in entries {
            let read = record::decode(value).zip(str::from_utf8(key).ok());
            let Some(((written, addresses), host)) = read else {
                self.parts.store_metrics.count_dropped(StoreDropped::content);
                self.parts.store.remove(Tree::Addresses, key);
                continue;
            };
            if written.age(&stamp).us().is_none_or(|age_us| age_us > REMEMBERED_US) {
                self.parts.store_metrics.count_dropped(StoreDropped::age);
                self.parts.store.remove(Tree::Addresses, key);
                continue;
            }
            self.names.handle_remembered(host, &addresses, now);
        }
    }

    /// Says which names cannot be resolved, as long as that is so.
    fn tell(&self) {
        let hosts: BTreeSet<&str> = self.names.failing().collect();
        let failing = hosts.into_iter().map(|host| Failing {
            host,
            is_denied: self.denied.contains(host),
            is_known: self.id_of(host).is_some_and(|id| !self.names.addresses(id).is_empty()),
        });
        let failing: Vec<Failing<'_>> = failing.collect();
        if failing.is_empty() {
            self.parts.board.withdraw(PART);
            return;
        }
        let servers = self.servers.iter().filter_map(|server| {
            let address = server.remote.addresses.first()?;
            Some(format!("{}://{address}", server.transport.word()))
        });
        self.parts
            .board
            .say(PART, &failing_text(&failing, &servers.collect::<Vec<_>>()));
    }
}

/// A name that cannot be resolved.
#[derive(Debug, Clone, Copy)]
struct Failing<'a> {
    host: &'a str,
    /// Somebody said that it has no address, rather than nobody anything.
    is_denied: bool,
    /// There are addresses of it all the same, from before.
    is_known: bool,
}

/// Which names cannot be resolved, why, and what follows.
fn failing_text(failing: &[Failing<'_>], servers: &[String]) -> String {
    let silent = match servers {
        [] => "there is nobody to ask for it".to_owned(),
        [one] => format!("no answer from {one}"),
        [one, others @ ..] => format!("no answer from {one} and {} more", others.len()),
    };
    let told = failing.iter().take(SHOWN_MAX).map(|name| {
        let why = if name.is_denied {
            "there is no such name, or no address of it"
        } else {
            &silent
        };
        let then = if name.is_known {
            "its last known addresses are used"
        } else {
            "no address of it is known"
        };
        format!("{} ({why}; {then})", name.host)
    });
    let mut told: Vec<String> = told.collect();
    let more = failing.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        told.push(format!("{more} more"));
    }
    format!("cannot be resolved: {}", told.join(", "))
}

/// What became of an endpoint's addresses.
fn moved_text(had_some: bool, has_some: bool) -> &'static str {
    match (had_some, has_some) {
        (false, true) => "an endpoint's host name has addresses",
        (true, true) => "an endpoint's host name has other addresses",
        (_, false) => "an endpoint's host name has no addresses of this family",
    }
}

/// What came of a resolution, in a word.
fn outcome(found: &Found) -> NameLookup {
    let families = [&found.v4, &found.v6];
    let mut said = families.into_iter().flatten();
    if families.into_iter().flatten().any(|ips| !ips.is_empty()) {
        NameLookup::found
    } else if said.next().is_some() {
        NameLookup::empty
    } else {
        NameLookup::failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_name_that_cannot_be_resolved_is_told_with_why_and_what_follows() {
        let failing = |host, is_denied, is_known| Failing {
            host,
            is_denied,
            is_known,
        };
        let one = [failing("a.example", false, false)];
        let some = [
            one[0],
            failing("b.example", true, true),
            failing("c.example", true, false),
        ];
        let many = [one[0]; 6];
        let servers = ["udp://192.0.2.1:53".to_owned(), "tls://192.0.2.2:853".to_owned()];
        let lines = [
            failing_text(&one, &[]),
            failing_text(&one, &servers[..1]),
            failing_text(&some, &servers),
        ];
        expect![[r"
            cannot be resolved: a.example (there is nobody to ask for it; no address of it is known)
            cannot be resolved: a.example (no answer from udp://192.0.2.1:53; no address of it is known)
            cannot be resolved: a.example (no answer from udp://192.0.2.1:53 and 1 more; no address of it is known), b.example (there is no such name, or no address of it; its last known addresses are used), c.example (there is no such name, or no address of it; no address of it is known)"]]
        .assert_eq(&lines.join("\n"));
        assert!(failing_text(&many, &servers).ends_with(", 2 more"));
        assert_eq!(moved_text(false, true), "an endpoint's host name has addresses");
        assert_eq!(moved_text(true, true), "an endpoint's host name has other addresses");
    }
}
