//! One generation of the data plane: everything of a configuration that queries are served by, immutable as a whole.
//!
//! A reload puts a new generation in the place of the old one by one pointer. Queries that come read the pointer;
//! those under way keep the generation they began with to their end, its routes and its connections. When the last of
//! them is done the generation goes, and with it its sockets. What did not change is handed on: under the same
//! providers the new generation has the old one's routes and usage, under the same endpoints its connections.

use std::net::IpAddr;
use std::sync::Arc;

use detour_core::dns64;
use detour_core::lookup::Heard;
use detour_core::routes::Routes;
use detour_core::usage::Usage;
use detour_core::zones::Zones;
use detour_core::{EndpointId, GroupId, Time, Topology};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::acl::Acl;
use crate::ask::{Ask, Asked, Group, GroupKey};
use crate::exchange::{ExchangeParts, Exchanges, QuicSockets, Remote, SourcePorts};
use crate::forwarder::{Parts, Settings};
use crate::listen::StreamLimits;
use crate::metrics::{EndpointCounters, Metrics};
use crate::readers::Readers;
use crate::report::Reporter;
use crate::translate::Translation;
use crate::wire::NameBuf;
use crate::wire::code::rtype;

/// What queries are served by.
#[derive(Debug)]
pub struct Generation {
    /// What there is to choose from.
    pub topology: Arc<Topology>,
    /// What queries cost; held for a plan or a hedge.
    pub usage: Arc<Mutex<Usage>>,
    pub(crate) routes: watch::Receiver<Arc<Routes>>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) exchanges: Arc<Exchanges>,
    pub(crate) counters: Arc<EndpointCounters>,
    pub(crate) streams: StreamLimits,
    /// Where DNS over HTTPS is asked.
    pub doh_path: Arc<str>,
    acl: Acl,
    /// Which names are whose.
    zones: Arc<Zones>,
    /// Of routes' groups, by [`GroupId`] from 1 on.
    groups: Vec<GroupKey>,
    /// What is translated for a network without IPv4.
    pub(crate) translation: Option<Translation>,
    /// Marks what may be; zero without.
    mark: u32,
    /// Keys the cache: answers of another class of providers are not found.
    pub(crate) key_seed: u64,
    /// What the seed stands for.
    classes: String,
    /// What the exchanges were made from, beside the endpoints.
    lines: Lines,
}

/// What exchanges are made from, beside the endpoints of the topology: the same again means the same exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lines {
    remotes: Vec<Remote>,
    source_ports: SourcePorts,
}

impl Generation {
    /// The generation of a start, or the one that follows `older`.
    pub(crate) fn new(
        settings: &Settings,
        parts: &Parts,
        metrics: &Metrics,
        (readers, quic): (&Arc<Readers>, &Arc<QuicSockets>),
        older: Option<&Self>,
    ) -> Self {
        let topology = Arc::clone(&parts.routes.borrow().topology);
        let lines = Lines {
            remotes: parts.remotes.clone(),
            source_ports: settings.source_ports,
        };
        let same_numbers = older.filter(|older| topology.numbers_endpoints_like(&older.topology));
        let same_topology = same_numbers.filter(|older| *topology == *older.topology);
        let same_lines = same_numbers.filter(|older| lines == older.lines);
        let same_classes = older.filter(|older| settings.classes == older.classes);
        let now = parts.clock.now();
        Self {
            usage: match (same_topology, older) {
                (Some(older), _) => Arc::clone(&older.usage),
                (None, Some(older)) => {
                    let usage = older.usage.lock().carried_over(&older.topology, &topology, now);
                    Arc::new(Mutex::new(usage))
                }
                (None, None) => Arc::new(Mutex::new(Usage::new(&topology, now))),
            },
            exchanges: same_lines.map_or_else(
                || Arc::new(exchanges(&topology, &lines, parts, (readers, quic))),
                |older| Arc::clone(&older.exchanges),
            ),
            counters: same_numbers.map_or_else(
                || Arc::new(metrics.counters_of(&topology)),
                |older| Arc::clone(&older.counters),
            ),
            routes: parts.routes.clone(),
            reporter: Arc::clone(&parts.reporter),
            streams: settings.streams,
            doh_path: Arc::clone(&settings.doh_path),
            acl: settings.acl.clone(),
            zones: Arc::clone(&settings.zones),
            groups: settings.groups.clone(),
            translation: settings.translation,
            mark: settings.translation.map_or(0, mark_of),
            key_seed: same_classes.map_or_else(rand::random, |older| older.key_seed),
            classes: settings.classes.clone(),
            lines,
            topology,
        }
    }

    /// Whether this client may ask.
    pub(crate) fn allows(&self, client: IpAddr) -> bool {
        self.acl.allows(client)
    }

    /// Whom a name is asked of.
    #[must_use]
    pub fn asked(&self, name: &NameBuf) -> Asked {
        let Some(routed) = self.zones.find(name.as_wire()) else {
            return Asked::default();
        };
        Asked {
            group: Group {
                id: routed.to,
                key: self.key_of(routed.to),
            },
            zone_bytes: Some(routed.zone_bytes),
        }
    }

    /// Before how many octets of a name the zones give way that are answered here; `None`: they answer. To the route that
    /// has it for its zone, and to the translator whose address it is the name of.
    #[must_use]
    pub fn yields(&self, asked: Asked, name: &NameBuf, qtype: u16) -> Option<usize> {
        let is_pointer = |own: Translation| dns64::pointer(own.prefix, name.as_wire()).is_some();
        if qtype == rtype::PTR && self.translation.is_some_and(is_pointer) {
            return Some(name.as_wire().len());
        }
        asked.zone_bytes
    }

    /// By what answers to this type of question are kept, for a name that is asked so.
    #[must_use]
    pub fn keyed(&self, asked: Asked, qtype: u16) -> GroupKey {
        match qtype {
            // Translated or not: with another prefix, or none, it is another answer.
            rtype::AAAA | rtype::PTR => asked.group.key.marked(self.mark),
            _ => asked.group.key,
        }
    }

    /// What is translated of a question, if it is kept by what this translation's answers are kept by. One that was put
    /// before there was a translator, or behind another prefix, is not.
    pub(crate) fn translation_of(&self, ask: &Ask) -> Option<Translation> {
        let is_own = |_: &Translation| ask.group == self.keyed(self.asked(&ask.name), ask.qtype);
        self.translation.filter(is_own)
    }

    /// What a group is called under all configurations. One that has no key is nobody's, and never the public one.
    pub(crate) fn key_of(&self, id: GroupId) -> GroupKey {
        match usize::from(id.0).checked_sub(1) {
            None => GroupKey::PUBLIC,
            Some(index) => self.groups.get(index).copied().unwrap_or(NOBODY),
        }
    }

    /// The group of this key, if this configuration has it.
    #[must_use]
    pub fn group(&self, key: GroupKey) -> Option<GroupId> {
        let mut ids = self.topology.group_ids();
        let is_own = |id: &GroupId| {
            let own = self.key_of(*id);
            own == key || own.marked(self.mark) == key
        };
        ids.find(is_own)
    }

    /// What is translated for a network without IPv4.
    #[must_use]
    pub fn translation(&self) -> Option<Translation> {
        self.translation
    }

    /// Whether answers of `older` are answers of this one too.
    pub(crate) fn has_classes_of(&self, older: &Self) -> bool {
        self.classes == older.classes
    }

    /// The current table; the lock behind it is not held.
    #[must_use]
    pub fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.borrow())
    }

    /// The current table of a group, if this configuration has it: else nobody may be asked.
    #[must_use]
    pub fn routes_of(&self, key: GroupKey) -> Option<Arc<Routes>> {
        let id = self.group(key)?;
        self.routes.borrow().of(id).map(Arc::clone)
    }

    /// The table and its changes, until another generation takes this one's place.
    #[must_use]
    pub fn watch_routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.clone()
    }

    /// How an endpoint takes what goes beyond plain DNS, in a word each: `no-edns`, `cookies`, `no-0x20`.
    #[must_use]
    pub fn habits(&self, endpoint: EndpointId, now: Time) -> Vec<&'static str> {
        self.exchanges.habits(endpoint, now)
    }

    /// Whether anything has ever come from this endpoint, over the connections of this generation.
    #[must_use]
    pub fn has_heard(&self, endpoint: EndpointId) -> bool {
        self.exchanges.last_heard(endpoint) > Time::ZERO
    }
}

/// A number for a prefix, the same in every process.
fn mark_of(translation: Translation) -> u32 {
    GroupKey::of(&translation.prefix.to_string()).to_bits()
}

/// The key of a group that does not exist.
const NOBODY: GroupKey = GroupKey::from_bits(u32::MAX);

/// New lines to all endpoints.
fn exchanges(
    topology: &Topology,
    lines: &Lines,
    parts: &Parts,
    (readers, quic): (&Arc<Readers>, &Arc<QuicSockets>),
) -> Exchanges {
    let exchange_parts = ExchangeParts {
        reporter: Arc::clone(&parts.reporter),
        clock: Arc::clone(&parts.clock),
        tasks: parts.tasks.clone(),
        source_ports: lines.source_ports,
        readers: Arc::clone(readers),
        quic: Arc::clone(quic),
    };
    Exchanges::new(topology, &lines.remotes, &exchange_parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarder::Shared;
    use crate::testing::{parts, settings, shared, topology};
    use detour_core::ProviderId;

    /// Puts a provider at this address in the place of what there is.
    fn succeed(shared: &Shared, settings: &Settings, topology: Topology, address: &str) -> Arc<Generation> {
        let older = shared.generation();
        let reporter = if topology.numbers_endpoints_like(&older.topology) {
            Arc::clone(&older.reporter)
        } else {
            Arc::new(older.reporter.renumbered().0)
        };
        let (parts, _control) = parts(topology, address, reporter);
        shared.succeed(settings, &parts);
        shared.generation()
    }

    #[tokio::test]
    async fn what_does_not_change_is_handed_on() {
        let (shared, _control) = shared(4);
        let first = shared.generation();
        let here = "127.0.0.1:9";
        let same = succeed(&shared, &settings(4), topology(here), here);
        assert!(Arc::ptr_eq(&first.usage, &same.usage));
        assert!(Arc::ptr_eq(&first.exchanges, &same.exchanges));
        assert_eq!(first.key_seed, same.key_seed);

        // A cap of the provider: its endpoint is the same.
        let mut capped = topology(here);
        capped.providers[0].max_qps = Some(10);
        first.usage.lock().count_first_choice(ProviderId(0), Time::at_ms(1_000));
        let third = succeed(&shared, &settings(4), capped.clone(), here);
        assert!(!Arc::ptr_eq(&first.usage, &third.usage));
        let share = third.usage.lock().share_permille(ProviderId(0), Time::at_ms(1_000));
        assert_eq!(share, 1_000, "what was used goes on");
        assert!(Arc::ptr_eq(&first.exchanges, &third.exchanges));
        assert!(Arc::ptr_eq(&first.counters, &third.counters));

        // Other ports to send from: other sockets.
        let per_query = Settings {
            source_ports: SourcePorts::PerQuery,
            ..settings(4)
        };
        let fourth = succeed(&shared, &per_query, capped, here);
        assert!(!Arc::ptr_eq(&third.exchanges, &fourth.exchanges));
        assert!(Arc::ptr_eq(&third.usage, &fourth.usage));

        let there = "127.0.0.1:10";
        let last = succeed(&shared, &settings(4), topology(there), there);
        assert!(!Arc::ptr_eq(&fourth.exchanges, &last.exchanges));
        assert!(!Arc::ptr_eq(&fourth.counters, &last.counters));
        assert_eq!(first.key_seed, last.key_seed);
    }

    #[tokio::test]
    async fn answers_of_another_class_are_not_found_any_more() {
        let (shared, _control) = shared(4);
        let first = shared.generation();
        let filtering = Settings {
            classes: "malware/validating".to_owned(),
            ..settings(4)
        };
        let here = "127.0.0.1:9";
        let other = succeed(&shared, &filtering, topology(here), here);
        assert_ne!(first.key_seed, other.key_seed);
        assert!(Arc::ptr_eq(&first.exchanges, &other.exchanges));
        let again = succeed(&shared, &filtering, topology(here), here);
        assert_eq!(other.key_seed, again.key_seed);
    }

    #[tokio::test]
    async fn who_may_ask_and_how_much_follows_the_configuration() {
        let (shared, _control) = shared(2);
        let here = "127.0.0.1:9";
        let (inside, outside) = ([127, 0, 0, 1].into(), [192, 0, 2, 1].into());
        let allows = |client| shared.generation().allows(client);
        assert!(allows(inside) && !allows(outside));
        let wider = Settings {
            acl: Acl::new(vec!["192.0.2.0/24".parse().unwrap()]),
            ..settings(3)
        };
        succeed(&shared, &wider, topology(here), here);
        assert!(!allows(inside) && allows(outside));
        assert_eq!(shared.permits.free(), 3);
    }
}
