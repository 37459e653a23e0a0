//! The composition root: builds everything, binds everything, and only then lets anything run.
//!
//! Order of a start: configuration, state directory, control plane, data plane, what an earlier process left (in the
//! background), sockets, tasks, "ready". Order of a stop: nothing new is taken up, what is under way gets up to three
//! seconds, everything ends, what was learned is on disk.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_core::control::Control;
use detour_core::routes::Settings as RouteSettings;
use detour_core::{Clock, Time, Topology};
use detour_resolver::acl::Acl;
use detour_resolver::exchange::SourcePorts;
use detour_resolver::forwarder::{Parts, Settings, Shared};
use detour_resolver::listen::{self, BindError, Bound, TcpLimits};
use detour_resolver::report::{Report, Reporter};
use detour_resolver::tasks::Tasks;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::admin::{self, AdminState, Notes};
use crate::board::Board;
use crate::cli::{RunArgs, exit_code};
use crate::clock::BootClock;
use crate::config::{self, Admin, CacheConfig, Config, Limits, Listen, Select};
use crate::control_task::ControlTask;
use crate::kept::{self, Kept};
use crate::metrics::ControlMetrics;
use crate::output::print_line;
use crate::state::State;
use crate::telemetry;

/// How long queries under way may take after a stop was asked for; the whole stop stays within 5 s.
const DRAIN: Duration = Duration::from_secs(3);
/// How long tasks have to end after that.
const END: Duration = Duration::from_millis(1_500);
/// How often the drain looks whether it is over.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// Descriptors wanted: 256 sockets for each of 16 endpoints, and as many client connections.
const DESCRIPTORS: u64 = 16_384;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A DNS address cannot be had: the operator's to mend. Nothing was served.
    #[error("cannot serve DNS")]
    Dns(#[source] BindError),
    /// None of the addresses exists here.
    #[error("cannot serve DNS: none of the listen addresses is one of this machine's")]
    NoAddress,
    /// The admin address was asked for and cannot be had.
    #[error("cannot serve the admin interface on {address}")]
    Admin {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refuses signals or output: nothing an operator did.
    #[error("cannot start")]
    System(#[source] io::Error),
}

/// Everything that was bound.
struct Sockets {
    dns: Vec<Bound>,
    admin: Option<TcpListener>,
    notes: Notes,
}

/// Runs a node until it is told to stop; the exit code.
pub(crate) async fn run(config: Config, args: &RunArgs) -> Result<u8, StartError> {
    let Config {
        source,
        state_dir,
        listen,
        providers: _,
        select: _,
        cache: _,
        limits,
        log,
    } = &config;
    telemetry::install(log);
    raise_descriptor_limit();
    let state = crate::state::open(args.state_dir.as_deref(), state_dir.as_deref());
    let mut stop = StopSignals::new().map_err(StartError::System)?;

    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let topology = Arc::new(config::to_topology(&config));
    let mut registry = Registry::with_prefix("detour");
    let tasks = Tasks::default();
    let plane = Planes::build(&config, &topology, &clock, &tasks, &mut registry);
    let board = Board::default();
    // Before anything is bound, so that what an earlier process knew is there for the first queries.
    let parts = kept::Parts {
        state: &state,
        persist: config.cache.persist,
        shared: &plane.shared,
        routes: &plane.table,
        board: &board,
    };
    let kept = Kept::start(&parts, &mut registry);

    let sockets = bind(listen, Notes::new(&config, source, board), &state).await?;
    announce(&sockets).map_err(StartError::System)?;

    let control = ControlTask {
        metrics: ControlMetrics::register(&mut registry, &topology),
        control: plane.control,
        reports: plane.reports,
        reporter: plane.reporter,
        routes: plane.routes,
        shared: Arc::clone(&plane.shared),
        clock: Arc::clone(&clock),
        learned: kept.learned(),
        token: tasks.token().clone(),
    };
    tasks.spawn_pillar("control", control.run());
    let tcp = TcpLimits {
        connections: limits.tcp_connections,
        idle: limits.tcp_idle,
    };
    for bound in sockets.dns {
        listen::serve(&plane.shared, bound, tcp);
    }
    if let Some(listener) = sockets.admin {
        let state = AdminState::new(
            plane.table,
            Arc::clone(&plane.shared),
            Arc::new(registry),
            Arc::clone(&clock),
            sockets.notes,
        );
        let token = tasks.token().clone();
        tasks.spawn_job(async move { admin::serve(listener, state, token).await });
    }
    print_line("ready").map_err(StartError::System)?;

    tokio::select! {
        () = stop.asked() => tracing::info!("stopping: finishing what is under way"),
        () = tasks.draining().cancelled() => {}
    }
    let code = shut_down(&tasks, &plane.shared).await;
    kept.close().await;
    Ok(code)
}

/// Control and data plane, connected.
struct Planes {
    control: Control,
    reports: mpsc::Receiver<Report>,
    reporter: Arc<Reporter>,
    routes: watch::Sender<Arc<detour_core::routes::Routes>>,
    table: watch::Receiver<Arc<detour_core::routes::Routes>>,
    shared: Arc<Shared>,
}

impl Planes {
    fn build(
        config: &Config,
        topology: &Arc<Topology>,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
        registry: &mut Registry,
    ) -> Self {
        let Select {
            strategy,
            mix_policies: _,
            source_ports,
        } = config.select;
        let CacheConfig {
            size_bytes,
            max_stale,
            persist: _,
        } = config.cache;
        let Limits { in_flight, .. } = config.limits;
        let now = clock.now();
        let settings = RouteSettings { strategy };
        let control = Control::new(Arc::clone(topology), settings, now, seed(now));
        // Readers always see the newest table; older ones coalesce.
        let (routes, table) = watch::channel(Arc::clone(control.routes()));
        let (reporter, reports) = Reporter::new();
        let reporter = Arc::new(reporter);
        let parts = Parts {
            clock: Arc::clone(clock),
            tasks: tasks.clone(),
            routes: table.clone(),
            reporter: Arc::clone(&reporter),
            addresses: config::addresses(config),
        };
        let settings = Settings {
            acl: Acl::new(config.listen.allow.clone()),
            cache_bytes: size_bytes,
            max_stale_us: u64::try_from(max_stale.as_micros()).unwrap_or(u64::MAX),
            in_flight,
            source_ports: match source_ports {
                config::SourcePorts::Pool => SourcePorts::Pool,
                config::SourcePorts::PerQuery => SourcePorts::PerQuery,
            },
            version: format!("detour {}", env!("CARGO_PKG_VERSION")),
            identity: "detour".to_owned(),
        };
        let shared = Shared::new(settings, parts, registry);
        Self {
            control,
            reports,
            reporter,
            routes,
            table,
            shared,
        }
    }
}

/// A seed nobody outside can guess: plans must not be predictable.
fn seed(now: Time) -> u64 {
    RandomState::new().hash_one(now.as_micros())
}

/// Binds all addresses; an IPv6 loopback that this machine does not have is left out and said.
async fn bind(listen: &Listen, mut notes: Notes, state: &State) -> Result<Sockets, StartError> {
    let Listen {
        dns,
        admin,
        admin_is_named,
        allow: _,
    } = listen;
    let mut bound = Vec::with_capacity(dns.len());
    for address in dns {
        match listen::bind(*address) {
            Ok(socket) => {
                notes.dns.push(socket.address);
                bound.push(socket);
            }
            Err(error) if error.is_not_here() && address.ip().is_ipv6() && address.ip().is_loopback() => {
                notes.warn(format!("{error}: running without it"));
            }
            Err(error) => return Err(StartError::Dns(error)),
        }
    }
    if bound.is_empty() {
        return Err(StartError::NoAddress);
    }
    let admin = match admin {
        Admin::Off => None,
        Admin::At(address) => match TcpListener::bind(address).await {
            Ok(listener) => {
                notes.admin = listener.local_addr().ok();
                Some(listener)
            }
            Err(source) if *admin_is_named => {
                let address = *address;
                return Err(StartError::Admin { address, source });
            }
            Err(error) => {
                notes.warn(format!("no admin interface: {address}: {error}"));
                None
            }
        },
    };
    if let State::Memory(why) = state {
        notes.warn(format!("nothing is kept on disk: {why}"));
    }
    Ok(Sockets {
        dns: bound,
        admin,
        notes,
    })
}

/// Says what was bound, one line each: for people, and for programs that start a node on port 0.
fn announce(sockets: &Sockets) -> io::Result<()> {
    for address in &sockets.notes.dns {
        print_line(format_args!("listening dns {address} udp+tcp"))?;
    }
    if let Some(address) = sockets.notes.admin {
        print_line(format_args!("listening admin {address} http"))?;
    }
    for warning in sockets.notes.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// A socket per query costs a descriptor: takes what the hard limit allows.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < DESCRIPTORS
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard)
    {
        tracing::warn!(%error, limit = soft, "cannot raise the limit of open files");
    }
}

/// SIGINT and SIGTERM end the node; SIGHUP must not.
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        loop {
            tokio::select! {
                // Cancel safe: a signal stays noted.
                _ = self.interrupt.recv() => return,
                // Cancel safe: as above.
                _ = self.terminate.recv() => return,
                // Cancel safe: as above.
                _ = self.hang_up.recv() => {
                    tracing::warn!("this version does not reload its configuration: nothing changed, restart to apply it");
                }
            }
        }
    }
}

/// Ends the node within its grace.
async fn shut_down(tasks: &Tasks, shared: &Shared) -> u8 {
    tasks.draining().cancel();
    let drained = tokio::time::timeout(DRAIN, async {
        while !shared.is_idle() {
            tokio::time::sleep(DRAIN_TICK).await;
        }
    })
    .await
    .is_ok();
    if !drained {
        tracing::warn!("stopping with queries unanswered");
    }
    let ended = tokio::time::timeout(END, tasks.stop()).await.is_ok();
    if !ended {
        tracing::warn!("stopping with tasks still running");
    }
    if let Some(pillar) = tasks.fallen() {
        tracing::error!(part = pillar, "a part that must not end has ended: stopping");
        return exit_code::INTERNAL;
    }
    if ended { exit_code::OK } else { exit_code::FAILED }
}
