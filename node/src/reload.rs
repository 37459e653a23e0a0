//! Another configuration while the node runs: reads the file when it is told to, judges it as a start would, and hands
//! it to the control task. A file with mistakes changes nothing and is reported wherever somebody may look.
//!
//! Looks after what the network gives as well: resolvers that change are another configuration to both planes.
//!
//! Also keeps the text of what has served for a minute, to start from when the file is broken one day. Reading and
//! writing happen off the threads that serve; a disk that hangs delays reloads and nothing else.

mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use detour_core::ddr::Designated;
use detour_core::time::SEC;
use detour_core::{Clock, Time};
use detour_resolver::tasks::{BlockingError, Tasks};
use tokio::signal::unix::Signal;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use self::watch::{GivenWatch, Watch};
use crate::admin::{Configuration, Mistakes, Notes};
use crate::certificate::CertificateKeeper;
use crate::cli::{Misuse, RunArgs};
use crate::config::{
    Config, Designations, Dns64, EndpointConfig, LoadError, Loaded, Look, Reload, Source, answers_to_itself,
    designating, is_enough, keep_running, with_designations,
};
use crate::control_task::Succession;
use crate::ddr::{Adopted, Ddr};
use crate::descriptors;
use crate::dns64::{Asking, Discovered, Whose};
use crate::given::{self, Given, Looks};
use crate::last_good;
use crate::mesh::Setup;
use crate::output::chain;
use crate::planes::Plan;
use crate::state;
use crate::telemetry::LogLevel;

/// How long reading a file may take.
const READ: Duration = Duration::from_secs(10);
/// A configuration that has served for this long is worth keeping: whoever breaks everything notices sooner.
const SERVED_US: u64 = 60 * SEC;
/// After a failed try the disk is left alone for this long.
const RETRY_US: u64 = 600 * SEC;
/// What warnings about the copy are filed under.
const COPY: &str = "copy of the configuration";

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    /// The file has mistakes, or cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It contradicts the command line of the start.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// It contradicts an address this node has.
    #[error("provider {provider} has the endpoint {label}, which is this node: queries would go round in circles")]
    AsksItself {
        /// Its name.
        provider: String,
        /// The endpoint.
        label: String,
    },
    /// The disk does not answer, or it is no ordinary file.
    #[error("{} could not be read within 10 s", path.display())]
    TooSlow {
        /// The file.
        path: PathBuf,
    },
    /// Nothing was read.
    #[error("{} could not be read", path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BlockingError,
    },
}

/// Why the task woke up.
enum Action {
    /// SIGHUP.
    Asked,
    /// Time to look at the file.
    Look,
    /// Time to look at what the network gives.
    Network,
    /// The way to the network's resolvers is another one.
    Elsewhere,
    /// The network has told its translator's prefix.
    Translate(Discovered),
    /// The configuration has served its minute.
    Keep,
    /// An endpoint designated others.
    Adopt(Adopted),
    /// Shutdown.
    Stop,
}

/// A text that will be worth keeping.
#[derive(Debug)]
struct Candidate {
    text: String,
    due: Time,
}

/// What a reloader starts with.
#[derive(Debug)]
pub(crate) struct ReloaderParts {
    /// As the node was started.
    pub(crate) args: RunArgs,
    /// Who is asked for designated resolvers, and what came of it.
    pub(crate) ddr: Ddr,
    /// In force, command line applied.
    pub(crate) running: Config,
    /// What the network gave, as it is in force.
    pub(crate) given: Given,
    /// Its text, if it is from a sound file.
    pub(crate) text: Option<String>,
    /// What the file looked like when it was read.
    pub(crate) look: Option<Look>,
    /// Bound for DNS.
    pub(crate) bound: Vec<SocketAddr>,
    /// Where copies are kept, if anywhere.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) successions: mpsc::Sender<Succession>,
    /// Where resolvers are asked for a translator's prefix.
    pub(crate) discovery: Asking,
    /// Told when this machine may be in another network.
    pub(crate) elsewhere: Arc<Notify>,
    /// Where another `[mesh]` goes, if there is a mesh.
    pub(crate) mesh: Option<tokio::sync::watch::Sender<Arc<Setup>>>,
    /// What encrypted listeners show.
    pub(crate) certificate: Arc<CertificateKeeper>,
    pub(crate) configuration: Arc<Configuration>,
    pub(crate) notes: Arc<Notes>,
    pub(crate) level: LogLevel,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) hang_up: Signal,
}

/// Owns the configuration in force.
#[derive(Debug)]
pub(crate) struct Reloader {
    parts: ReloaderParts,
    watch: Watch<Look>,
    /// Of the certificate and its key.
    pair_watch: Watch<[Option<Look>; 2]>,
    next_look: Time,
    network: GivenWatch,
    next_network: Time,
    candidate: Option<Candidate>,
    /// What is in force beside what the file says.
    designations: Designations,
}

impl Reloader {
    pub(crate) fn new(mut parts: ReloaderParts) -> Self {
        let (text, now) = (parts.text.take(), parts.clock.now());
        parts.configuration.note_given(&parts.running, &parts.given);
        let mut reloader = Self {
            watch: Watch::new(parts.look.take()),
            pair_watch: Watch::new(None),
            next_look: now,
            network: GivenWatch::default(),
            next_network: now,
            candidate: None,
            designations: Designations::new(),
            parts,
        };
        if let Some(text) = text {
            reloader.consider(text, now);
        }
        reloader
    }

    /// Runs until shutdown.
    pub(crate) async fn run(mut self) {
        self.tell_discovery();
        loop {
            match self.select().await {
                Action::Asked => self.reload().await,
                Action::Look => self.look().await,
                Action::Network => self.look_at_network().await,
                Action::Elsewhere => self.move_elsewhere().await,
                Action::Translate(discovered) => self.translate(discovered).await,
                Action::Keep => self.keep().await,
                Action::Adopt(adopted) => self.adopt(adopted).await,
                Action::Stop => return,
            }
        }
    }

    async fn select(&mut self) -> Action {
        let now = self.parts.clock.now();
        let is_watched = self.parts.running.reload == Reload::Watch && self.file().is_some();
        let look = is_watched.then_some(self.next_look);
        let keep = self.candidate.as_ref().map(|candidate| candidate.due);
        let network = self.parts.running.network.enabled.then_some(self.next_network);
        let dues = [
            look.map(|at| (at, Action::Look)),
            network.map(|at| (at, Action::Network)),
            keep.map(|at| (at, Action::Keep)),
        ];
        let due = dues.into_iter().flatten().min_by_key(|(at, _)| *at);
        let timer = async {
            match due {
                Some((at, action)) => {
                    tokio::time::sleep(Duration::from_micros(at.since(now))).await;
                    action
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel safe: the token stays cancelled.
            () = self.parts.tasks.draining().cancelled() => Action::Stop,
            // Cancel safe: a signal stays noted; several that wait are one.
            Some(()) = self.parts.hang_up.recv() => Action::Asked,
            // Cancel safe: recv of a channel. Without a sender nothing comes any more.
            Some(adopted) = self.parts.ddr.adopted.recv() => Action::Adopt(adopted),
            // Cancel safe: recv of a channel. Without a sender nothing comes any more, and nothing need.
            Some(discovered) = self.parts.discovery.discovered.recv() => Action::Translate(discovered),
            // Cancel safe: a notice stays; several that wait are one.
            () = self.parts.elsewhere.notified() => Action::Elsewhere,
            // Cancel safe: a timer.
            action = timer => action,
        }
    }

    /// The file, if there is one.
    fn file(&self) -> Option<&PathBuf> {
        match &self.parts.running.source {
            Source::File(path) => Some(path),
            Source::Embedded => None,
        }
    }

    /// Looks at the file, and reads it if it has changed and come to rest.
    async fn look(&mut self) {
        let Some(path) = self.file().cloned() else { return };
        self.next_look = self.parts.clock.now().plus(u64_micros(watch::INTERVAL));
        let look = timeout(READ, self.parts.tasks.blocking(move || Look::at(&path))).await;
        if let Ok(Ok(look)) = look
            && self.watch.has_changed(look)
        {
            self.reload().await;
        }
        self.look_at_pair().await;
    }

    /// Looks at the certificate and its key, and reads them if they have changed and come to rest.
    async fn look_at_pair(&mut self) {
        let encrypted = &self.parts.running.listen.encrypted;
        let Some(files) = encrypted.files.clone().filter(|_| encrypted.is_used()) else {
            return;
        };
        let looks = move || [Look::at(&files.cert), Look::at(&files.key)];
        let looks = timeout(READ, self.parts.tasks.blocking(looks)).await;
        if let Ok(Ok(looks)) = looks
            && self.pair_watch.has_changed(Some(looks.clone()))
        {
            self.pair_watch.note_read(Some(looks));
            self.read_pair().await;
        }
    }

    /// Reads the certificate of the configuration in force, and has clients shown it if it is sound.
    async fn read_pair(&self) {
        let config = self.parts.running.clone();
        let work = self.parts.tasks.blocking(move || config.pair());
        let pair = match timeout(READ, work).await {
            Ok(Ok(pair)) => pair,
            Ok(Err(error)) => Err(self.cannot_read_pair(io::Error::other(error))),
            Err(_elapsed) => Err(self.cannot_read_pair(io::ErrorKind::TimedOut.into())),
        };
        self.parts.certificate.take(pair);
    }

    fn cannot_read_pair(&self, source: io::Error) -> LoadError {
        let files = self.parts.running.listen.encrypted.files.as_ref();
        let path = files.map(|files| files.cert.clone()).unwrap_or_default();
        LoadError::Read { path, source }
    }

    /// The network has told its translator's prefix, or that it has none.
    async fn translate(&mut self, Discovered { whose, prefix }: Discovered) {
        // Of another network it says nothing.
        if whose != self.whose() || prefix == self.parts.given.prefix {
            return;
        }
        self.parts.given.prefix = prefix;
        let config = self.parts.running.clone();
        if self.hand_over(&config).await.is_some() {
            match prefix {
                Some(prefix) => tracing::info!(%prefix, "the network translates addresses: names get such (DNS64)"),
                None => tracing::info!("the network translates addresses no more"),
            }
            self.parts.configuration.note_given(&config, &self.parts.given);
        }
    }

    /// Whose word on a translator's prefix counts: that of the resolvers in force, where the prefix is looked for.
    fn whose(&self) -> Whose {
        let (config, given) = (&self.parts.running, &self.parts.given);
        if !config.network.enabled || config.dns64 != Dns64::Auto || given.resolvers.is_empty() {
            return Whose::default();
        }
        Whose {
            resolvers: given.resolvers.clone(),
            epoch: given.epoch,
        }
    }

    fn tell_discovery(&self) {
        let whose = self.whose();
        self.parts.discovery.whose.send_if_modified(|known| {
            let is_other = *known != whose;
            *known = whose;
            is_other
        });
    }

    /// Another network, though it may give the same: what the last one said does not hold here.
    async fn move_elsewhere(&mut self) {
        let config = self.parts.running.clone();
        self.parts.given = self.parts.given.elsewhere();
        if self.hand_over(&config).await.is_some() {
            tracing::info!("what the network's resolvers said is forgotten: it may be another network");
            self.parts.configuration.note_given(&config, &self.parts.given);
            self.tell_discovery();
        }
    }

    /// Looks at what the network gives, and puts it in force if it is something else.
    async fn look_at_network(&mut self) {
        self.next_network = self.parts.clock.now().plus(u64_micros(watch::INTERVAL));
        let config = self.parts.running.clone();
        if let Some(given) = self.given(&config, &self.network.seen).await
            && self.network.has_changed(given, &self.parts.given)
        {
            let given = std::mem::take(&mut self.network.found).after(&self.parts.given);
            let (resolvers, search) = (given.resolvers.len(), given.search.len());
            self.parts.given = given;
            if self.hand_over(&config).await.is_some() {
                tracing::info!(resolvers, search, "the network gives other resolvers");
                self.parts.configuration.note_given(&config, &self.parts.given);
                self.tell_discovery();
            }
        }
    }

    /// What the network gives, unless all looks as it did.
    async fn given(&self, config: &Config, seen: &Looks) -> Option<(Given, Looks)> {
        let (files, listening, seen) = (config.network.files.clone(), self.parts.bound.clone(), seen.clone());
        let work = self.parts.tasks.blocking(move || {
            let looks = given::look(&files);
            (looks != seen).then(|| (given::read(&files, &listening), looks))
        });
        // A disk that hangs is looked at again.
        timeout(READ, work).await.ok()?.ok()?
    }

    /// Reads the file and puts it in force, or says why not.
    async fn reload(&mut self) {
        let Some(path) = self.file().cloned() else {
            tracing::info!("asked to reload: there is no configuration file, nothing changed");
            return;
        };
        let result = match self.read(path).await {
            Ok(loaded) => self.judge(loaded),
            Err(rejected) => Err(rejected),
        };
        match result {
            Ok((config, text, restart)) => self.put_in_force(config, text, restart).await,
            Err(rejected) => self.report(&rejected),
        }
    }

    /// Reads the file, off the threads that serve.
    async fn read(&mut self, path: PathBuf) -> Result<Loaded, Rejected> {
        let file = path.clone();
        let work = self
            .parts
            .tasks
            .blocking(move || (Look::at(&file), Config::load(&file)));
        let Ok(read) = timeout(READ, work).await else {
            return Err(Rejected::TooSlow { path });
        };
        let (look, loaded) = read.map_err(|source| Rejected::NotRead { path, source })?;
        self.watch.note_read(look);
        Ok(loaded?)
    }

    /// What of the file can be put in force, its text, and the keys that wait for a restart.
    fn judge(&self, loaded: Loaded) -> Result<(Config, String, Vec<&'static str>), Rejected> {
        let Loaded { mut config, text } = loaded;
        self.parts.args.apply_to(&mut config)?;
        let is_given = state::is_given(self.parts.args.state_dir.as_deref());
        let restart = keep_running(&mut config, &self.parts.running, is_given);
        for provider in &config.providers {
            let mut endpoints = provider.endpoints.iter();
            let is_own = |e: &&EndpointConfig| e.at.address().is_some_and(|a| answers_to_itself(&self.parts.bound, a));
            if let Some(endpoint) = endpoints.find(is_own) {
                return Err(Rejected::AsksItself {
                    provider: provider.name.clone(),
                    label: endpoint.label.clone(),
                });
            }
        }
        Ok((config, text, restart))
    }

    /// Hands a configuration to the control task and waits until queries are served by it.
    async fn put_in_force(&mut self, config: Config, text: String, restart: Vec<&'static str>) {
        if let Some(shortage) = descriptors::shortage(&config.limits, &config.listen.encrypted) {
            tracing::warn!("{shortage}");
        }
        if config.network.enabled && config.network != self.parts.running.network {
            // From the first query on, or names of this network would go elsewhere until the next look.
            if let Some((given, looks)) = self.given(&config, &Looks::default()).await {
                (self.parts.given, self.network.seen) = (given.after(&self.parts.given), looks);
            }
        }
        self.parts.level.set(config.log.level);
        let asked = designating(&config);
        self.designations
            .retain(|label, _| asked.iter().any(|own| own.label == *label));
        let Some((providers, endpoints)) = self.hand_over(&config).await else {
            return;
        };
        self.parts.ddr.designating.send_replace(asked.into());
        let now = self.parts.clock.now();
        tracing::info!(providers, endpoints, "configuration reloaded");
        if restart.is_empty() {
            self.consider(text, now);
        } else {
            // A part of it has not served.
            self.candidate = None;
            tracing::warn!(keys = restart.join(" "), "what these keys say waits for a restart");
        }
        self.parts.running = config;
        // Before it is said that the configuration is in force: the certificate is part of it.
        self.read_pair().await;
        let running = &self.parts.running;
        self.parts.configuration.note_applied(running, restart, now);
        self.parts.configuration.note_given(running, &self.parts.given);
        self.tell_discovery();
    }

    /// Hands a configuration, and what was designated or given by the network beside it, to control task and mesh; how many
    /// providers and endpoints there are then, unless the node stops.
    async fn hand_over(&self, config: &Config) -> Option<(usize, usize)> {
        let whole = with_designations(config, &self.designations);
        let plan = Plan::of(&whole, &self.parts.given);
        let counts = (plan.topology.providers.len(), plan.topology.endpoints.len());
        let (done, is_done) = oneshot::channel();
        let succession = Succession { plan, done };
        // The control task ends with the node only.
        self.parts.successions.send(succession).await.ok()?;
        is_done.await.ok()?;
        if let (Some(mesh), Some(setup)) = (&self.parts.mesh, Setup::of(&whole)) {
            mesh.send_replace(Arc::new(setup));
        }
        Some(counts)
    }

    /// Puts designated endpoints in force: another configuration, though the file is the same.
    async fn adopt(&mut self, adopted: Adopted) {
        let Adopted { label, mut endpoints } = adopted;
        // A forwarder beside this node that asks it would pass on what this node says of itself.
        let place = |own: &Designated| SocketAddr::new(own.address, own.port);
        endpoints.retain(|own| !answers_to_itself(&self.parts.bound, place(own)));
        if self.designations.get(&label) == Some(&endpoints) {
            return;
        }
        let encryption = self.parts.running.select.encryption;
        let used = endpoints.iter().filter(|own| is_enough(own.proof, encryption)).count();
        if used < endpoints.len() {
            tracing::warn!(
                endpoint = label,
                "designates itself without a certificate for its address: not used, because encryption is required"
            );
        }
        if used > 0 {
            tracing::info!(endpoint = label, designated = used, "designated resolvers are used");
        } else {
            tracing::info!(endpoint = label, "no designated resolver is used");
        }
        self.designations.insert(label, endpoints);
        self.hand_over(&self.parts.running).await;
    }

    /// Says that a file changed nothing, and why.
    fn report(&self, rejected: &Rejected) {
        let mistakes = match rejected {
            Rejected::Load(error) => {
                let (first, more) = error.first_and_more();
                Mistakes { first, more }
            }
            Rejected::Misuse(_) | Rejected::AsksItself { .. } | Rejected::TooSlow { .. } | Rejected::NotRead { .. } => {
                Mistakes {
                    first: chain(rejected),
                    more: 0,
                }
            }
        };
        for mistake in chain(rejected).lines() {
            tracing::error!(%mistake, "configuration not reloaded, nothing changed");
        }
        self.parts.configuration.note_rejected(mistakes, self.parts.clock.now());
    }

    /// A configuration is in force: it is worth keeping when it has served for a minute.
    fn consider(&mut self, text: String, now: Time) {
        let is_kept = self.parts.directory.is_some() && self.file().is_some();
        self.candidate = is_kept.then(|| Candidate {
            text,
            due: now.plus(SERVED_US),
        });
    }

    /// Keeps what has served.
    async fn keep(&mut self) {
        let (Some(candidate), Some(directory), Some(source)) = (
            self.candidate.take(),
            self.parts.directory.clone(),
            self.file().cloned(),
        ) else {
            return;
        };
        let text = candidate.text.clone();
        let shown = directory.display().to_string();
        let work = move || last_good::keep(&directory, &source, &text);
        let kept = match timeout(READ, self.parts.tasks.blocking(work)).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        };
        if let Err(error) = kept {
            let line = format!("none is kept to start from: {shown}: {error}");
            self.parts.notes.board.say(COPY, &line);
            let due = self.parts.clock.now().plus(RETRY_US);
            self.candidate = Some(Candidate { due, ..candidate });
        } else {
            tracing::debug!("configuration kept to start from");
            self.parts.notes.board.withdraw(COPY);
        }
    }
}

fn u64_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
