//! The data plane put together: everything a query needs, shared by all that serve one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use detour_core::health::Purpose;
use detour_core::lookup::Via;
use detour_core::routes::Routes;
use detour_core::usage::Usage;
use detour_core::{Clock, EndpointId};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::acl::Acl;
use crate::ask::Ask;
use crate::cache::Cache;
use crate::exchange::{Attempt, ExchangeParts, Exchanges, SourcePorts};
use crate::fair::PerClient;
use crate::inflight::InFlight;
use crate::metrics::Metrics;
use crate::report::Reporter;
use crate::tasks::Tasks;
use crate::wire::NameBuf;
use crate::wire::code::{class, rtype};

/// What own probes ask: the address of a root server, which every resolver has at hand and which tells nobody
/// anything about a client.
const PROBE_NAME: &[u8] = b"\x01a\x0croot-servers\x03net\x00";

/// How the data plane is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who may ask.
    pub acl: Acl,
    /// Bytes of cache.
    pub cache_bytes: u64,
    /// How long past its expiry an answer may be served, microseconds.
    pub max_stale_us: u64,
    /// Misses resolved at once.
    pub in_flight: usize,
    /// How source ports are chosen.
    pub source_ports: SourcePorts,
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
    pub addresses: Vec<SocketAddr>,
}

/// The data plane.
#[derive(Debug)]
pub struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) routes: watch::Receiver<Arc<Routes>>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) exchanges: Exchanges,
    pub(crate) inflight: InFlight,
    pub(crate) permits: Arc<Semaphore>,
    /// What each client may have of the permits.
    pub(crate) shares: Arc<PerClient>,
    pub(crate) settings: Settings,
    pub(crate) key_seed: u64,
    number: AtomicU64,
    /// Answers.
    pub cache: Cache,
    /// What queries cost; held for a plan or a hedge.
    pub usage: Mutex<Usage>,
    /// Counters.
    pub metrics: Metrics,
}

impl Shared {
    /// Everything, with nothing opened yet.
    #[must_use]
    pub fn new(settings: Settings, parts: Parts, registry: &mut Registry) -> Arc<Self> {
        let topology = Arc::clone(&parts.routes.borrow().topology);
        let exchange_parts = ExchangeParts {
            reporter: Arc::clone(&parts.reporter),
            clock: Arc::clone(&parts.clock),
            tasks: parts.tasks.clone(),
            source_ports: settings.source_ports,
        };
        Arc::new(Self {
            exchanges: Exchanges::new(&topology, &parts.addresses, &exchange_parts),
            inflight: InFlight::default(),
            permits: Arc::new(Semaphore::new(settings.in_flight)),
            shares: PerClient::half_of(settings.in_flight),
            key_seed: rand::random(),
            number: AtomicU64::new(0),
            cache: Cache::new(settings.cache_bytes, settings.max_stale_us),
            usage: Mutex::new(Usage::new(&topology, parts.clock.now())),
            metrics: Metrics::register(registry, &topology),
            clock: parts.clock,
            tasks: parts.tasks,
            routes: parts.routes,
            reporter: parts.reporter,
            settings,
        })
    }

    /// The number of the next question.
    pub(crate) fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// Carries out a probe of the control task under its number.
    pub fn probe(&self, endpoint: EndpointId, id: u64) {
        let Some(name) = NameBuf::from_wire(PROBE_NAME) else {
            debug_assert!(false, "the probe name is a name");
            return;
        };
        // Nobody listens: the outcome goes to health alone.
        let (reply_to, _) = mpsc::channel(1);
        let attempt = Attempt {
            id,
            purpose: Purpose::Probe,
            ask: Arc::new(Ask::new(&name, rtype::A, class::IN, (false, false), self.key_seed)),
            slot: 0,
            reply_to,
            without_edns: false,
            made: self.clock.now(),
            via: Via::Own,
        };
        self.exchanges.begin_fresh(endpoint, attempt);
    }

    /// An endpoint returned: what failed before may succeed.
    pub fn forget_failures(&self) {
        self.cache.forget_failures(self.clock.now());
    }

    /// Whether no client waits for a query being resolved.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.permits.available_permits() >= self.settings.in_flight
    }

    /// A question as a client without EDNS would ask it.
    #[must_use]
    pub fn ask(&self, name: &NameBuf, qtype: u16, qclass: u16) -> Ask {
        Ask::new(name, qtype, qclass, (false, false), self.key_seed)
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
