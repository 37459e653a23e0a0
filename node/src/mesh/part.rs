//! Begins the mesh when DNS is served, follows the configuration, and says goodbye when the node stops.
//!
//! Whatever keeps it from running costs the mesh and nothing else, and is said: by log, status, `/api/v1/peers` and
//! `detour_mesh_up`. A reload tries again.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use detour_core::Clock;
use detour_core::report::OwnReport;
use detour_mesh::{Handle, IDENTITY_FILE, Identity, IdentityError, MeshStatus, Metrics};
use detour_resolver::tasks::{BlockingError, Tasks};
use detour_wire::keys;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::link::MeshLink;
use super::notes::{MeshNotes, Phase};
use super::settings::{self, Setup};
use crate::board::Board;
use crate::clock::wall_ms;
use crate::output::chain;
use crate::state::State;

/// What the mesh is called on the board.
const PART: &str = "mesh";
/// How long the disk may take for the identity.
const READ: Duration = Duration::from_secs(10);
/// How often it is tried again while another process has the identity.
const AGAIN: Duration = Duration::from_secs(5);
/// Reports on their way to the control task; of what is more the mesh keeps the newest of each node.
const NEWS_MAX: usize = 64;

/// Why the mesh is off. DNS runs all the same.
#[derive(Debug, thiserror::Error)]
enum Off {
    /// Nothing outlives this process.
    #[error("off, because nothing is kept on disk ({0}), and peers admit a node by an identity that lasts")]
    NoDirectory(String),
    /// There is none that can be used.
    #[error("off, because it has no identity")]
    Identity(#[from] IdentityError),
    /// Two processes under one identity would each take the other for an impostor.
    #[error("off, because another node runs with this state directory and is known to peers by its identity")]
    Taken,
    /// The disk is busy, or worse.
    #[error("off, because its identity was not read")]
    NotRead(#[from] BlockingError),
    /// The disk does not answer.
    #[error("off, because its identity could not be read within 10 s")]
    TooSlow,
    /// The system gives it no thread, or the like.
    #[error("off, because it cannot start")]
    Start(#[source] io::Error),
}

/// What it is made of.
#[derive(Debug)]
pub(crate) struct MeshParts {
    pub(crate) state: State,
    pub(crate) board: Board,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    /// Where the control task waits for its side.
    pub(crate) links: mpsc::Sender<MeshLink>,
}

/// The mesh, from start to stop.
#[derive(Debug)]
pub(crate) struct MeshPart {
    parts: MeshParts,
    notes: Arc<MeshNotes>,
    setups: watch::Receiver<Arc<Setup>>,
    sender: watch::Sender<Arc<Setup>>,
    metrics: Metrics,
}

impl MeshPart {
    /// One that has not begun.
    pub(crate) fn new(setup: Setup, parts: MeshParts, registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        metrics.register(registry);
        let setup = Arc::new(setup);
        let notes = Arc::new(MeshNotes::new(Arc::clone(&setup)));
        let (sender, setups) = watch::channel(setup);
        Self {
            parts,
            notes,
            setups,
            sender,
            metrics,
        }
    }

    /// Where another configuration goes.
    #[must_use]
    pub(crate) fn setups(&self) -> watch::Sender<Arc<Setup>> {
        self.sender.clone()
    }

    /// For the admin interface.
    #[must_use]
    pub(crate) fn notes(&self) -> Arc<MeshNotes> {
        Arc::clone(&self.notes)
    }

    /// Runs until shutdown.
    pub(crate) async fn run(mut self) {
        let draining = self.parts.tasks.draining().clone();
        loop {
            let begun = tokio::select! {
                // Cancel safe: nothing runs yet.
                begun = self.begin() => begun,
                () = draining.cancelled() => return,
            };
            let is_taken = matches!(begun, Err(Off::Taken));
            match begun {
                Ok((handle, _held)) => return self.keep(handle).await,
                Err(off) => {
                    let why = chain(&off);
                    self.parts.board.say(PART, &why);
                    self.notes.set_phase(Phase::Off(why));
                }
            }
            tokio::select! {
                // Cancel safe: a watch keeps its change.
                Ok(()) = self.setups.changed() => {}
                // Cancel safe: a timer.
                () = sleep(AGAIN), if is_taken => {}
                () = draining.cancelled() => return,
            }
            self.follow();
        }
    }

    /// Reads the identity and starts the mesh's own thread. The file is locked for as long as it is held open.
    async fn begin(&mut self) -> Result<(Handle, File), Off> {
        let directory = match &self.parts.state {
            State::Directory(directory) => directory.clone(),
            State::Memory(why) => return Err(Off::NoDirectory(why.clone())),
        };
        let (identity, held) = self.read_identity(directory.clone()).await?;
        let setup = self.notes.setup();
        let config = &setup.config;
        let members = settings::members(config, identity.node());
        if members.len() < config.peers.len() {
            tracing::debug!("passing over this node's own line in mesh.peers");
        }
        let mesh = detour_mesh::MeshConfig {
            state_directory: Some(directory),
            cluster: keys::cluster(&config.cluster),
            site: setup.site,
            listen: settings::listen(config),
            software: settings::software(),
            clock: Arc::clone(&self.parts.clock),
            wall_ms,
            identity,
        };
        let (own, reports) = watch::channel(Arc::new(OwnReport::default()));
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let handle = detour_mesh::start(mesh, members, reports, sender, self.metrics.clone()).map_err(Off::Start)?;
        let link = MeshLink::new(news, own, Arc::clone(&self.notes));
        // The control task ends with the node only.
        drop(self.parts.links.send(link).await);
        self.notes.set_phase(Phase::On(handle.status()));
        self.parts.board.withdraw(PART);
        Ok((handle, held))
    }

    async fn read_identity(&self, directory: PathBuf) -> Result<(Identity, File), Off> {
        let read = self.parts.tasks.blocking(move || {
            let (identity, made) = Identity::load_or_create(&directory)?;
            let held = hold(&directory)?;
            Ok::<_, Off>((identity, made, held))
        });
        let (identity, made, held) = timeout(READ, read).await.map_err(|_elapsed| Off::TooSlow)???;
        if made {
            tracing::info!(
                peer_id = identity.peer_id(),
                "identity made: `detour id` shows what peers must list"
            );
        }
        Ok((identity, held))
    }

    /// Follows the configuration and the mesh's complaints until shutdown.
    async fn keep(mut self, handle: Handle) {
        let draining = self.parts.tasks.draining().clone();
        let mut status = handle.status();
        loop {
            tokio::select! {
                // Cancel safe: a watch keeps its change.
                Ok(()) = status.changed() => self.say(&status.borrow_and_update().clone()),
                // Cancel safe: as above.
                Ok(()) = self.setups.changed() => {
                    self.follow();
                    let own = status.borrow().node;
                    handle.set_members(settings::members(&self.notes.setup().config, own));
                }
                () = draining.cancelled() => break,
            }
        }
        if !handle.stop().await {
            tracing::warn!("peers were not told in time that this node stops");
        }
    }

    /// Takes up another configuration.
    fn follow(&mut self) {
        let setup = Arc::clone(&self.setups.borrow_and_update());
        self.notes.set_up(setup);
    }

    /// Puts on the board what is wrong with it.
    fn say(&self, status: &MeshStatus) {
        if status.complaints.is_empty() {
            self.parts.board.withdraw(PART);
        } else {
            self.parts.board.say(PART, &status.complaints.join("; "));
        }
    }
}

/// Locks the identity for this process, so that no second one runs under it.
fn hold(directory: &Path) -> Result<File, Off> {
    let file = File::open(directory.join(IDENTITY_FILE)).map_err(Off::Start)?;
    match file.try_lock() {
        // A file system without locks protects nobody, and is no reason to be alone.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Off::Taken),
    }
}
