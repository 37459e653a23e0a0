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
use detour_resolver::listen::secure::{SecureBound, SetupError, Tls, bind_secure};
use detour_resolver::listen::{self, BindError, Bound};
use detour_resolver::tasks::Tasks;
use detour_resolver::wire::Via;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, AdminState, Configuration, Notes};
use crate::board::Board;
use crate::certificate::CertificateKeeper;
use crate::cli::{RunArgs, exit_code};
use crate::clock::{BootClock, Sleeps};
use crate::config::{Admin, Config, Encrypted, Listen};
use crate::control_task::{ControlTask, Succession};
use crate::ddr;
use crate::descriptors;
use crate::dns64;
use crate::given;
use crate::kept::Kept;
use crate::learned::LearnedKeeper;
use crate::leash;
use crate::mesh::{MeshLink, MeshPart, MeshParts, Setup};
use crate::metrics::ControlMetrics;
use crate::names::NamesKeeper;
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
    /// The cryptography cannot be set up: nothing an operator did.
    #[error("cannot serve encrypted DNS")]
    Tls(#[source] SetupError),
    /// The system refuses signals or output: nothing an operator did.
    #[error("cannot start")]
    System(#[source] io::Error),
}

/// Everything that was bound.
struct Sockets {
    dns: Vec<Bound>,
    secure: Vec<SecureBound>,
    admin: Option<TcpListener>,
}

/// Runs a node until it is told to stop; the exit code.
pub(crate) async fn run(start: Start, args: &RunArgs) -> Result<u8, StartError> {
    let Start {
        config,
        text,
        look,
        degraded,
        pair,
    } = start;
    let level = telemetry::install(&config.log);
    descriptors::raise();
    let state = crate::state::open(args.state_dir.as_deref(), config.state_dir.as_deref());
    let (mut stop, hang_up) = signals(args).map_err(StartError::System)?;

    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let (mut registry, tasks) = (Registry::with_prefix("detour"), Tasks::default());
    let given = given::at_start(&config, &tasks).await;
    let planes = Planes::build(Plan::of(&config, &given), &clock, &tasks, &mut registry);
    let shared = Arc::clone(&planes.shared);
    // Before anything is bound, so that what an earlier process knew is there for the first queries.
    let board = Board::default();
    let kept = Kept::start(&state, config.cache.persist, &shared, &board, &mut registry);

    let certificate = CertificateKeeper::new(pair, config.listen.encrypted.is_used(), board.clone());
    let (sockets, notes) = bind(&config.listen, &certificate, first_notes(board, &config), &state).await?;
    announce(&notes, degraded.as_ref()).map_err(StartError::System)?;
    shared.read_hosts(HOSTS_PATIENCE).await;
    let (notes, mistakes) = (Arc::new(notes), degraded.as_ref().map(Degraded::mistakes));
    let configuration = Arc::new(Configuration::new(&config, mistakes, clock.now()));

    let (mesh, links) = mesh_part(&config, &state, &notes, &shared, &mut registry);
    let metrics = ControlMetrics::register(&mut registry, &planes.control.routes().topology);
    let (channels, ends) = channels(links);
    run_control(planes, channels, metrics, kept.of_control(&notes, &tasks));
    listen::serve(&shared, sockets.dns, sockets.secure);
    let state_of_admin = AdminState::new(
        Arc::clone(&shared),
        Arc::new(registry),
        Arc::clone(&clock),
        Arc::clone(&notes),
        Arc::clone(&configuration),
        mesh.as_ref().map(MeshPart::notes),
    );
    let state_of_admin = state_of_admin.with_token_in(state.directory().cloned());
    let state_of_admin = state_of_admin.with_certificate(&config, &certificate);
    serve_admin(sockets.admin, state_of_admin, &tasks);
    print_line("ready").map_err(StartError::System)?;
    let setups = run_mesh(mesh, &tasks);

    let reached = reached(&notes, &config, args.config.as_deref());
    let parts = ReloaderParts {
        args: args.clone(),
        ddr: ddr::start(&shared, &notes.board, kept.names_metrics(), (&config, ends.notices)),
        running: config,
        given,
        text,
        look,
        bound: notes.own(),
        directory: state.directory().cloned(),
        successions: ends.successions,
        discovery: dns64::start(&shared),
        elsewhere: ends.elsewhere,
        mesh: setups,
        certificate,
        configuration,
        notes: Arc::clone(&notes),
        level,
        clock: Arc::clone(&clock),
        tasks: tasks.clone(),
        hang_up,
    };
    tasks.spawn_job(Reloader::new(parts).run());
    see_to_the_rest(&shared, reached, &state, notes);
    stop.asked_or(tasks.draining()).await;
    Ok(shut_down(&tasks, &shared, kept).await)
}

/// Where clients and operators reach this node.
fn reached(notes: &Notes, config: &Config, file: Option<&Path>) -> Reached {
    let bootstrap = config.bootstrap.iter().map(|server| server.endpoint.label.clone());
    Reached {
        dns: notes.dns.clone(),
        admin: notes.admin,
        board: notes.board.clone(),
        bootstrap: bootstrap.collect(),
        doctor: file.map_or_else(
            || "detour doctor".to_owned(),
            |file| format!("detour doctor -c {}", file.display()),
        ),
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

/// Begins the mesh, if there is one; DNS is served by then. Where other settings go.
fn run_mesh(mesh: Option<MeshPart>, tasks: &Tasks) -> Option<watch::Sender<Arc<Setup>>> {
    let mesh = mesh?;
    let setups = mesh.setups();
    tasks.spawn_job(mesh.run());
    Some(setups)
}

/// Starts the admin interface, if there is one.
fn serve_admin(listener: Option<TcpListener>, state: AdminState, tasks: &Tasks) {
    if let Some(listener) = listener {
        tasks.spawn_job(admin::serve(listener, state, tasks.token().clone()));
    }
}

/// What comes to the control task while it runs, and what it tells of designated endpoints.
struct Channels {
    queue: mpsc::Receiver<Succession>,
    designations: ddr::NoticeSender,
    links: mpsc::Receiver<MeshLink>,
    elsewhere: Arc<Notify>,
}

/// Where they come from and go to.
struct Ends {
    successions: mpsc::Sender<Succession>,
    notices: mpsc::Receiver<ddr::Notice>,
    elsewhere: Arc<Notify>,
}

fn channels(links: mpsc::Receiver<MeshLink>) -> (Channels, Ends) {
    let (successions, queue) = mpsc::channel(1);
    let (designations, notices) = ddr::notices();
    let elsewhere = Arc::new(Notify::new());
    let channels = Channels {
        queue,
        designations,
        links,
        elsewhere: Arc::clone(&elsewhere),
    };
    let ends = Ends {
        successions,
        notices,
        elsewhere,
    };
    (channels, ends)
}

/// Starts the control task.
fn run_control(
    planes: Planes,
    channels: Channels,
    metrics: ControlMetrics,
    (learned, mut names): (LearnedKeeper, NamesKeeper),
) {
    let Planes {
        control,
        reports,
        reporter,
        routes,
        shared,
        remotes,
        bootstrap,
    } = planes;
    let (now, tasks) = (shared.clock().now(), shared.tasks().clone());
    let addresses = remotes.iter().map(|remote| remote.addresses.clone()).collect();
    let changes = names.follow(&remotes, &control.routes().topology, bootstrap, now);
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
        names,
        sleeps: Sleeps::new(now),
        successions: channels.queue,
        links: channels.links,
        designations: channels.designations,
        elsewhere: channels.elsewhere,
        mesh: None,
        token: tasks.token().clone(),
        rests_until: Time::ZERO,
    };
    // Before the first query: it must not be sent where there is no route, or nowhere.
    control.move_endpoints(changes);
    control.look_at_network();
    tasks.spawn_pillar("control", control.run());
}

/// What is done once the node runs, whatever comes of it.
fn see_to_the_rest(shared: &Arc<Shared>, reached: Reached, state: &State, notes: Arc<Notes>) {
    tell_later(shared, reached);
    keep_token(state, shared.tasks(), notes);
}

/// Tells the operator who answers, when that is known.
fn tell_later(shared: &Arc<Shared>, reached: Reached) {
    let clock = Arc::clone(shared.clock());
    let (own, draining) = (Arc::clone(shared), shared.tasks().draining().clone());
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
async fn bind(
    listen: &Listen,
    certificate: &CertificateKeeper,
    mut notes: Notes,
    state: &State,
) -> Result<(Sockets, Notes), StartError> {
    let Listen {
        dns,
        admin,
        admin_is_named,
        allow: _,
        encrypted,
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
    let secure = bind_encrypted(encrypted, certificate, &mut notes)?;
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
    let dns = bound;
    Ok((Sockets { dns, secure, admin }, notes))
}

/// Binds what is for encrypted DNS, if anything is.
fn bind_encrypted(
    encrypted: &Encrypted,
    certificate: &CertificateKeeper,
    notes: &mut Notes,
) -> Result<Vec<SecureBound>, StartError> {
    if !encrypted.is_used() {
        return Ok(Vec::new());
    }
    let tls = Tls::new(certificate.certificates()).map_err(StartError::Tls)?;
    let mut secure = Vec::new();
    for (via, address) in encrypted.addresses() {
        match bind_secure(via, address, &tls) {
            Ok(socket) => {
                notes.encrypted.push((via, socket.address));
                secure.push(socket);
            }
            Err(error) if error.is_not_here() && address.ip().is_ipv6() && address.ip().is_loopback() => {
                notes.warn(format!("{error}: running without it"));
            }
            Err(error) => return Err(StartError::Dns(error)),
        }
    }
    Ok(secure)
}

/// What is amiss before anything is bound.
fn first_notes(board: Board, config: &Config) -> Notes {
    let mut notes = Notes::of(board);
    if let Some(shortage) = descriptors::shortage(&config.limits, &config.listen.encrypted) {
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
    for (via, address) in &notes.encrypted {
        let carrier = if matches!(via, Via::H3 | Via::Quic) {
            "udp"
        } else {
            "tcp"
        };
        print_line(format_args!("listening {} {address} {carrier}", via.word()))?;
    }
    if let Some(address) = notes.admin {
        print_line(format_args!("listening admin {address} http"))?;
    }
    for warning in notes.of_start() {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// What ends the node, and what has it read its file again: from here on a SIGHUP ends nothing, and is acted on once the
/// node runs.
fn signals(args: &RunArgs) -> io::Result<(StopSignals, Signal)> {
    Ok((StopSignals::new(args.stop_with_stdin)?, signal(SignalKind::hangup())?))
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

/// Ends the node within its grace; what is kept is written last.
async fn shut_down(tasks: &Tasks, shared: &Shared, kept: Kept) -> u8 {
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
    kept.close().await;
    if let Some(pillar) = tasks.fallen() {
        tracing::error!(part = pillar, "a part that must not end has ended: stopping");
        return exit_code::INTERNAL;
    }
    if ended { exit_code::OK } else { exit_code::FAILED }
}
