//! The data plane put together: everything a query needs, shared by all that serve one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use detour_core::health::Purpose;
use detour_core::lookup::Via;
use detour_core::outcome::Failure;
use detour_core::routes::Routes;
use detour_core::zones::Zones;
use detour_core::{Clock, EndpointId, Transport};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};

use crate::acl::Acl;
use crate::ask::{Ask, GroupKey};
use crate::cache::Cache;
use crate::exchange::{self, Attempt, QuicSockets, Remote, SourcePorts};
use crate::fair::PerClient;
use crate::generation::Generation;
use crate::inflight::InFlight;
use crate::listen::{Backlogs, Doors, StreamLimits};
use crate::local::{self, Local};
use crate::metrics::Metrics;
use crate::places::Places;
use crate::readers::Readers;
use crate::report::Reporter;
use crate::tasks::Tasks;
use crate::translate::Translation;
use crate::wire::code::{class, rtype};
use crate::wire::{self, NameBuf};

/// What own probes ask: the address of a root server, which every resolver has at hand and which tells nobody
/// anything about a client.
const PROBE_NAME: &[u8] = b"\x01a\x0croot-servers\x03net\x00";

/// How the data plane is set up. A reload changes all but the size of the cache, what is answered here and the two
/// texts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who may ask.
    pub acl: Acl,
    /// Bytes of cache.
    pub cache_bytes: u64,
    /// How long past its expiry an answer may be served, microseconds.
    pub max_stale_us: u64,
    /// For how long answers are kept at least and at most, seconds, as far as they may be kept at all.
    pub ttl_bounds_s: (u32, u32),
    /// Misses resolved at once.
    pub in_flight: usize,
    /// Client connections.
    pub streams: StreamLimits,
    /// Where DNS over HTTPS is asked, such as `/dns-query`.
    pub doh_path: Arc<str>,
    /// How source ports are chosen.
    pub source_ports: SourcePorts,
    /// What is answered here; of the start only.
    pub local: local::Settings,
    /// What the providers of the public group do to answers, in any words: answers are kept as long as these words stay
    /// the same.
    pub classes: String,
    /// Which names are asked of the groups of routes.
    pub zones: Arc<Zones>,
    /// What these groups are called in the cache, by `GroupId` from 1 on.
    pub groups: Vec<GroupKey>,
    /// What is translated for a network without IPv4.
    pub translation: Option<Translation>,
    /// Text of `version.bind`.
    pub version: String,
    /// Text of `id.server`.
    pub identity: String,
}

/// What the rest of the process gives the data plane.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where tasks live.
    pub tasks: Tasks,
    /// The current table.
    pub routes: watch::Receiver<Arc<Routes>>,
    /// Where outcomes go.
    pub reporter: Arc<Reporter>,
    /// Where each endpoint is, by [`EndpointId`].
    pub remotes: Vec<Remote>,
}

/// The data plane.
#[derive(Debug)]
pub struct Shared {
    /// Itself, for work that goes on when whoever asked has been answered.
    pub(crate) own: Weak<Self>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    /// What queries are served by; held for a look at it or to copy the pointer.
    generation: RwLock<Arc<Generation>>,
    /// Of the start; what it counts goes on through all generations.
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) local: Arc<Local>,
    pub(crate) inflight: InFlight,
    /// Told of each new generation.
    pub(crate) succeeded: Notify,
    /// What the threads wait for that read datagrams.
    pub(crate) readers: Arc<Readers>,
    /// What QUIC is spoken over.
    pub(crate) quic: Arc<QuicSockets>,
    pub(crate) permits: Places,
    /// What each client may have of the permits.
    pub(crate) shares: Arc<PerClient>,
    /// Where connections of clients come in.
    pub(crate) doors: Doors,
    /// Of the bytes that wait to be read by them.
    pub(crate) backlogs: Backlogs,
    pub(crate) version: String,
    pub(crate) identity: String,
    /// Questions so far.
    number: AtomicU64,
    /// Attempts so far.
    attempts: AtomicU64,
    /// Answers.
    pub cache: Cache,
    /// Counters.
    pub metrics: Metrics,
}

impl Shared {
    /// Everything, with nothing opened yet.
    #[must_use]
    pub fn new(settings: Settings, parts: Parts, registry: &mut Registry) -> Arc<Self> {
        let metrics = Metrics::register(registry);
        let cache = Cache::new(settings.cache_bytes, settings.max_stale_us);
        cache.set_ttl_bounds(settings.ttl_bounds_s);
        let readers = Readers::new(&parts.tasks, &parts.clock);
        let quic = QuicSockets::new(&parts.tasks);
        let generation = Generation::new(&settings, &parts, &metrics, (&readers, &quic), None);
        Arc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            generation: RwLock::new(Arc::new(generation)),
            local: Arc::new(Local::new(settings.local)),
            inflight: InFlight::default(),
            succeeded: Notify::new(),
            readers,
            quic,
            permits: Places::new(settings.in_flight),
            shares: PerClient::half_of(settings.in_flight),
            doors: Doors::new(&settings.streams),
            backlogs: Backlogs::default(),
            number: AtomicU64::new(0),
            attempts: AtomicU64::new(1),
            cache,
            metrics,
            clock: parts.clock,
            tasks: parts.tasks,
            reporter: parts.reporter,
            version: settings.version,
            identity: settings.identity,
        })
    }

    /// Another configuration: queries that come from here on are served by it, those under way keep what they began
    /// with. Called by the owner of the routes, which are those of the new configuration; clock and tasks of the parts
    /// are the ones of the start. The reporter is the old one exactly where endpoints keep their numbers.
    pub fn succeed(&self, settings: &Settings, parts: &Parts) {
        let older = self.generation();
        let newer = Arc::new(Generation::new(
            settings,
            parts,
            &self.metrics,
            (&self.readers, &self.quic),
            Some(&older),
        ));
        *self.generation.write() = Arc::clone(&newer);
        self.succeeded.notify_one();
        self.metrics.forget_gone(&older.topology, &newer.topology);
        self.permits.resize(settings.in_flight, &self.tasks);
        self.shares.resize(settings.in_flight);
        self.doors.resize(&settings.streams);
        self.cache.set_max_stale(settings.max_stale_us);
        self.cache.set_ttl_bounds(settings.ttl_bounds_s);
        if !newer.has_classes_of(&older) {
            self.cache.forget_all();
        } else if newer.topology != older.topology {
            // Whoever is new may answer what the others could not.
            self.forget_failures();
        }
    }

    /// What queries are served by at this moment.
    #[must_use]
    pub fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generation.read())
    }

    /// How long a connection of this kind may be idle.
    pub(crate) fn idle(&self, via: wire::Via) -> Duration {
        self.generation.read().streams.idle(via)
    }

    /// The number of the next question.
    pub(crate) fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a new attempt; below the core's probe numbers for some thousand years.
    pub(crate) fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// Carries out a probe of the control task under its number.
    pub fn probe(&self, endpoint: EndpointId, id: u64) {
        let Some(name) = NameBuf::from_wire(PROBE_NAME) else {
            debug_assert!(false, "the probe name is a name");
            return;
        };
        let generation = self.generation();
        let attempt = Attempt {
            id,
            purpose: Purpose::Probe,
            ask: Arc::new(Ask::new(
                &name,
                rtype::A,
                class::IN,
                (false, false),
                GroupKey::PUBLIC,
                generation.key_seed,
            )),
            slot: 0,
            // The outcome goes to health alone.
            reply_to: None,
            without_edns: false,
            made: self.clock.now(),
            via: Via::Own,
        };
        generation.exchanges.begin_fresh(endpoint, attempt);
    }

    /// Connects to what may become an endpoint, and hangs up.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub async fn try_connect(&self, transport: Transport, remote: &Remote) -> Result<(), Failure> {
        exchange::try_connect(transport, remote, &*self.clock, (&self.tasks, &self.quic)).await
    }

    /// An endpoint returned: what failed before may succeed.
    pub fn forget_failures(&self) {
        self.cache.forget_failures(self.clock.now());
    }

    /// The table changed: which connections are kept warm may have.
    pub fn note_routes(&self, routes: &Routes) {
        self.generation.read().exchanges.keep_warm(routes.warm);
    }

    /// The way to these endpoints is another one, or the machine slept: what comes is sent on new connections and
    /// sockets, and what is under way on the old ones is still waited for.
    pub fn renew(&self, endpoints: &[EndpointId]) {
        let generation = self.generation();
        for endpoint in endpoints {
            generation.exchanges.renew(*endpoint);
        }
    }

    /// What is answered here.
    #[must_use]
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Has the hosts file read before anything is served, but waits no longer than `patience`.
    pub async fn read_hosts(&self, patience: Duration) {
        let now = self.clock.now();
        self.local.look_if_due(now, &self.tasks);
        // The end of either is the end: whoever asks for a name of a slow file waits for it then.
        drop(tokio::time::timeout(patience, self.local.settle(now)).await);
    }

    /// Whether no client waits for a query being resolved.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.permits.is_unused()
    }

    /// A question as a client without EDNS would ask it.
    #[must_use]
    pub fn ask(&self, name: &NameBuf, qtype: u16, qclass: u16) -> Ask {
        let generation = self.generation();
        let group = generation.keyed(generation.asked(name), qtype);
        Ask::new(name, qtype, qclass, (false, false), group, generation.key_seed)
    }

    /// What time it is.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where this node's tasks live.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Outcomes that health never saw because the control task was behind.
    #[must_use]
    pub fn reports_dropped(&self) -> u64 {
        self.reporter.dropped()
    }

    /// Questions being resolved.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inflight.len()
    }
}
