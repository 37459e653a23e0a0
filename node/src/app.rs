//! The composition root: builds everything, binds everything, and only then lets anything run.
//!
//! Order of a start: configuration, state directory, control plane, data plane, what an earlier process left (in the
//! background), sockets, hosts file, tasks, "ready", mesh. Order of a stop: nothing new is taken up, peers are told, what
//! is under way gets up to three seconds, everything ends, what was learned is on disk.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use detour_core::{Clock, Time};
use detour_resolver::forwarder::Shared;
use detour_resolver::listen::{self, BindError, Bound};
use detour_resolver::tasks::Tasks;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, AdminState, Configuration, Notes};
use crate::board::Board;
use crate::cli::{RunArgs, exit_code};
use crate::clock::{BootClock, Sleeps};
use crate::config::{Admin, Config, Listen};
use crate::control_task::{ControlTask, Succession};
use crate::descriptors;
use crate::dns64;
use crate::given;
use crate::kept::Kept;
use crate::learned::LearnedKeeper;
use crate::leash;
use crate::mesh::{MeshLink, MeshPart, MeshParts, Setup};
use crate::metrics::ControlMetrics;
use crate::network::NetworkWatch;
use crate::output::{chain, print_line};
use crate::planes::{Plan, Planes};
use crate::reload::{Reloader, ReloaderParts};
use crate::start::{Degraded, Start};
use crate::start_report::{self, Reached};
use crate::state::State;
use crate::telemetry;
use crate::token;

/// How long queries under way may take after a stop was asked for; the whole stop stays within 5 s.
const DRAIN: Duration = Duration::from_secs(3);
/// How long tasks have to end after that.
const END: Duration = Duration::from_millis(1_500);
/// How often the drain looks whether it is over.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// How long the start waits for the hosts file. Read within it, its names are there from the first query on; a disk
/// that takes longer must not keep the others from being answered.
const HOSTS_PATIENCE: Duration = Duration::from_millis(50);

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
pub(crate) async fn run(start: Start, args: &RunArgs) -> Result<u8, StartError> {
    let Start {
        config,
        text,
        look,
        degraded,
    } = start;
    let level = telemetry::install(&config.log);
    descriptors::raise();
    let state = crate::state::open(args.state_dir.as_deref(), config.state_dir.as_deref());
    let mut stop = StopSignals::new(args.stop_with_stdin).map_err(StartError::System)?;
    // From here on a SIGHUP ends nothing; it is acted on once the node runs.
    let hang_up = signal(SignalKind::hangup()).map_err(StartError::System)?;

    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let (mut registry, tasks) = (Registry::with_prefix("detour"), Tasks::default());
    let given = given::at_start(&config, &tasks).await;
    let plan = Plan::of(&config, &given);
    let topology = Arc::clone(&plan.topology);
    let planes = Planes::build(plan, &clock, &tasks, &mut registry);
    let shared = Arc::clone(&planes.shared);
    // Before anything is bound, so that what an earlier process knew is there for the first queries.
    let board = Board::default();
    let kept = Kept::start(&state, config.cache.persist, &shared, &board, &mut registry);

    let Sockets { dns, admin, notes } = bind(&config.listen, first_notes(board, &config), &state).await?;
    announce(&notes, degraded.as_ref()).map_err(StartError::System)?;
    shared.read_hosts(HOSTS_PATIENCE).await;
    let (notes, mistakes) = (Arc::new(notes), degraded.as_ref().map(Degraded::mistakes));
    let configuration = Arc::new(Configuration::new(&config, mistakes, clock.now()));

    let (successions, queue) = mpsc::channel(1);
    let (mesh, links) = mesh_part(&config, &state, &notes, &shared, &mut registry);
    let metrics = ControlMetrics::register(&mut registry, &topology);
    run_control(planes, Channels { queue, links }, metrics, kept.learned(), &tasks);
    listen::serve(&shared, dns);
    let state_of_admin = AdminState::new(
        Arc::clone(&shared),
        Arc::new(registry),
        Arc::clone(&clock),
        Arc::clone(&notes),
        Arc::clone(&configuration),
        mesh.as_ref().map(MeshPart::notes),
    );
    serve_admin(admin, state_of_admin.with_token_in(state.directory().cloned()), &tasks);
    print_line("ready").map_err(StartError::System)?;
    let setups = mesh.as_ref().map(MeshPart::setups);
    run_mesh(mesh, &tasks);

    let reached = reached(&notes);
    let reloader = Reloader::new(ReloaderParts {
        args: args.clone(),
        running: config,
        given,
        text,
        look,
        bound: reached.dns.clone(),
        directory: state.directory().cloned(),
        successions,
        discovery: dns64::start(&shared),
        mesh: setups,
        configuration,
        notes: Arc::clone(&notes),
        level,
        clock: Arc::clone(&clock),
        tasks: tasks.clone(),
        hang_up,
    });
    tasks.spawn_job(reloader.run());
    tell_later(&shared, &clock, reached);
    keep_token(&state, &tasks, notes);
    stop.asked_or(tasks.draining()).await;
    let code = shut_down(&tasks, &shared).await;
    kept.close().await;
    Ok(code)
}

/// Where clients and operators reach this node.
fn reached(notes: &Notes) -> Reached {
    Reached {
        dns: notes.dns.clone(),
        admin: notes.admin,
    }
}

/// The mesh, if the configuration has one, and where the control task hears from it once it runs.
fn mesh_part(
    config: &Config,
    state: &State,
    notes: &Notes,
    shared: &Shared,
    registry: &mut Registry,
) -> (Option<MeshPart>, mpsc::Receiver<MeshLink>) {
    let (links, joined) = mpsc::channel(1);
    let parts = MeshParts {
        state: state.clone(),
        board: notes.board.clone(),
        clock: Arc::clone(shared.clock()),
        tasks: shared.tasks().clone(),
        links,
    };
    let part = Setup::of(config).map(|setup| MeshPart::new(setup, parts, registry));
    (part, joined)
}

/// Begins the mesh, if there is one; DNS is served by then.
fn run_mesh(mesh: Option<MeshPart>, tasks: &Tasks) {
    if let Some(mesh) = mesh {
        tasks.spawn_job(mesh.run());
    }
}

/// Starts the admin interface, if there is one.
fn serve_admin(listener: Option<TcpListener>, state: AdminState, tasks: &Tasks) {
    if let Some(listener) = listener {
        tasks.spawn_job(admin::serve(listener, state, tasks.token().clone()));
    }
}

/// What comes to the control task while it runs.
struct Channels {
    queue: mpsc::Receiver<Succession>,
    links: mpsc::Receiver<MeshLink>,
}

/// Starts the control task.
fn run_control(planes: Planes, channels: Channels, metrics: ControlMetrics, learned: LearnedKeeper, tasks: &Tasks) {
    let Planes {
        control,
        reports,
        reporter,
        routes,
        shared,
        addresses,
    } = planes;
    let now = shared.clock().now();
    let mut control = ControlTask {
        control,
        reports,
        reporter,
        routes,
        clock: Arc::clone(shared.clock()),
        shared,
        metrics,
        learned,
        network: NetworkWatch::open(addresses, now),
        sleeps: Sleeps::new(now),
        successions: channels.queue,
        links: channels.links,
        mesh: None,
        token: tasks.token().clone(),
        rests_until: Time::ZERO,
    };
    // Before the first query: it must not be sent where there is no route.
    control.look_at_network();
    tasks.spawn_pillar("control", control.run());
}

/// Tells the operator who answers, when that is known.
fn tell_later(shared: &Arc<Shared>, clock: &Arc<dyn Clock>, reached: Reached) {
    let (own, clock, draining) = (Arc::clone(shared), Arc::clone(clock), shared.tasks().draining().clone());
    shared.tasks().spawn_job(async move {
        tokio::select! {
            () = start_report::tell(own, clock, reached) => {}
            // Cancel safe: who stops a node need not be told.
            () = draining.cancelled() => {}
        }
    });
}

/// Sees to the token file, if there is a place for it.
fn keep_token(state: &State, tasks: &Tasks, notes: Arc<Notes>) {
    if let Some(directory) = state.directory() {
        tasks.spawn_job(see_to_token(tasks.clone(), directory.clone(), notes));
    }
}

/// Sees to it that there is a token file; without one nothing can be changed from outside, and nothing else is amiss.
async fn see_to_token(tasks: Tasks, directory: PathBuf, notes: Arc<Notes>) {
    let path = directory.join(token::FILE);
    match tasks.blocking(move || token::ensure(&directory)).await {
        Ok(Ok(true)) => tracing::debug!("token file made"),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => warn_of_token(&notes, &path, &error),
        Err(error) => warn_of_token(&notes, &path, &error),
    }
}

fn warn_of_token(notes: &Notes, path: &Path, error: &dyn Error) {
    notes
        .board
        .say("token file", &format!("none: {}: {error}", path.display()));
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

/// What is amiss before anything is bound.
fn first_notes(board: Board, config: &Config) -> Notes {
    let mut notes = Notes::of(board);
    if let Some(shortage) = descriptors::shortage(config.limits.tcp_connections) {
        notes.warn(shortage);
    }
    notes
}

/// Says what was bound, one line each, for people and for programs that start a node on port 0; and what is amiss.
fn announce(notes: &Notes, degraded: Option<&Degraded>) -> io::Result<()> {
    if let Some(degraded) = degraded {
        let (mistakes, copy) = (degraded.mistakes(), degraded.copy.display());
        print_line(format_args!("degraded: running on {copy}, because of {mistakes}"))?;
        for mistake in chain(&degraded.error).lines() {
            tracing::error!(%mistake, "the configuration cannot be used");
        }
        tracing::error!(%copy, "running on the copy of the last good configuration");
    }
    for address in &notes.dns {
        print_line(format_args!("listening dns {address} udp+tcp"))?;
    }
    if let Some(address) = notes.admin {
        print_line(format_args!("listening admin {address} http"))?;
    }
    for warning in notes.of_start() {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// SIGINT and SIGTERM end the node, and the end of standard input if that was asked for.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    stdin_ended: CancellationToken,
}

impl StopSignals {
    fn new(with_stdin: bool) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            stdin_ended: if with_stdin {
                leash::stdin_ended()?
            } else {
                CancellationToken::new()
            },
        })
    }

    /// Waits until somebody asks for the end, or a part that must not end has ended.
    async fn asked_or(&mut self, draining: &CancellationToken) {
        tokio::select! {
            // Cancel safe: a signal stays noted.
            _ = self.interrupt.recv() => {}
            // Cancel safe: as above.
            _ = self.terminate.recv() => {}
            // Cancel safe: the token stays cancelled.
            () = self.stdin_ended.cancelled() => {}
            // Cancel safe: as above.
            () = draining.cancelled() => return,
        }
        tracing::info!("stopping: finishing what is under way");
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
