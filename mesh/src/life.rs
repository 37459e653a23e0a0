//! The mesh's own thread: one life after another, until it is told to stop.
//!
//! A life has a runtime of its own. When it fails or panics the runtime is dropped with everything on it, and another
//! begins after a moment: a second at first, up to a minute while lives are short. DNS never notices.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use detour_core::report::OwnReport;
use detour_core::time::{SEC, Time};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Member, MeshConfig, News};
use crate::driver::{self, Ended, Surroundings};
use crate::metrics::Metrics;
use crate::status::{Condition, MeshStatus};

/// Between the first two lives.
const PAUSE: Duration = Duration::from_secs(1);
/// Between lives that fail again and again.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A life that lasted this long was a good one: the next pause is a short one.
const GOOD_US: u64 = 60 * SEC;
/// A pause ends this soon after a stop.
const STEP: Duration = Duration::from_millis(100);
/// A stop that takes longer than this is not waited for.
const STOP: Duration = Duration::from_millis(1_500);
/// What still runs on a runtime that is dropped gets no longer.
const DROP: Duration = Duration::from_millis(100);

/// The running mesh. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Handle {
    members: watch::Sender<Arc<Vec<Member>>>,
    status: watch::Receiver<Arc<MeshStatus>>,
    stop: CancellationToken,
    kill: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Starts the mesh on a thread of its own. What this node says comes by `own_reports`; what peers say goes to `news`,
/// which may be full (see [`News`]).
///
/// # Errors
/// When there is no thread to be had.
pub fn start(
    config: MeshConfig,
    members: Vec<Member>,
    own_reports: watch::Receiver<Arc<OwnReport>>,
    news: mpsc::Sender<News>,
    metrics: Metrics,
) -> io::Result<Handle> {
    let (members, members_seen) = watch::channel(Arc::new(members));
    let first = MeshStatus::starting(config.identity.node(), config.identity.peer_id(), config.clock.now());
    let (status, status_seen) = watch::channel(Arc::new(first));
    let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
    let around = Surroundings {
        own_reports,
        members: members_seen,
        news,
        status,
        metrics,
        stop: stop.clone(),
    };
    let killed = kill.clone();
    let thread = thread::Builder::new()
        .name("mesh".to_owned())
        .spawn(move || lives(&config, &around, &killed))?;
    Ok(Handle {
        members,
        status: status_seen,
        stop,
        kill,
        thread: Some(thread),
    })
}

impl Handle {
    /// How it is, whenever that changes and at least once a second while it lives.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<MeshStatus>> {
        self.status.clone()
    }

    /// Other members are admitted from here on.
    pub fn set_members(&self, members: Vec<Member>) {
        self.members.send_replace(Arc::new(members));
    }

    /// Says goodbye to all peers and ends: within about a second, and not waited for much longer. Whether it ended.
    pub async fn stop(mut self) -> bool {
        self.stop.cancel();
        let mut status = self.status.clone();
        let stopped = status.wait_for(|status| status.condition == Condition::Stopped);
        // A thread that is gone has dropped its end of the channel.
        let ended = !matches!(tokio::time::timeout(STOP, stopped).await, Err(_elapsed));
        if let Some(thread) = self.thread.take().filter(|_| ended) {
            return thread.join().is_ok();
        }
        ended
    }

    /// Ends without a word to anybody, as a crash does; for tests. Waits for it.
    pub fn kill(mut self) {
        self.kill.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One after another.
fn lives(config: &MeshConfig, around: &Surroundings, kill: &CancellationToken) {
    let mut pause = PAUSE;
    while !around.stop.is_cancelled() {
        let began = config.clock.now();
        let Some(why) = one_life(config, around, kill) else {
            break;
        };
        let now = config.clock.now();
        if now.since(began) >= GOOD_US {
            pause = PAUSE;
        }
        around.metrics.restarted();
        around.metrics.set_up(false);
        tracing::error!(
            why,
            pause_s = pause.as_secs(),
            "the mesh failed and starts again; DNS goes on"
        );
        publish(around, Condition::Failed, Some(why), now);
        wait(pause, || around.stop.is_cancelled() || kill.is_cancelled());
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
    around.metrics.set_up(false);
    publish(around, Condition::Stopped, None, config.clock.now());
}

/// Why it failed; `None` if it ended as it was told to.
fn one_life(config: &MeshConfig, around: &Surroundings, kill: &CancellationToken) -> Option<String> {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(format!("no runtime: {error}")),
    };
    let ended = catch_unwind(AssertUnwindSafe(|| run(&runtime, config, around, kill)));
    runtime.shutdown_timeout(DROP);
    match ended {
        Ok(None | Some(Ok(Ended::Stopped))) => None,
        Ok(Some(Ok(Ended::Panicked))) | Err(_) => Some("a mistake of Detour's (panic), please report it".to_owned()),
        Ok(Some(Err(error))) => Some(driver::chain(&error)),
    }
}

/// What a life came to; `None` if it was killed.
fn run(
    runtime: &Runtime,
    config: &MeshConfig,
    around: &Surroundings,
    kill: &CancellationToken,
) -> Option<Result<Ended, crate::swarm::SwarmError>> {
    let life = Box::pin(driver::live(config.clone(), around.clone()));
    runtime.block_on(kill.run_until_cancelled(life))
}

fn publish(around: &Surroundings, condition: Condition, complaint: Option<String>, now: Time) {
    around.status.send_modify(|status| {
        let before = MeshStatus::clone(status);
        *status = Arc::new(MeshStatus {
            condition,
            since: now,
            complaints: complaint.into_iter().collect(),
            restarts: around.metrics.restarts(),
            listen: Vec::new(),
            peers: Vec::new(),
            ..before
        });
    });
}

/// Waits on a thread without a runtime; shorter if it is told to stop.
fn wait(pause: Duration, is_over: impl Fn() -> bool) {
    let mut left = pause;
    while !left.is_zero() && !is_over() {
        let step = left.min(STEP);
        // May return early, which makes the pause a little shorter.
        thread::park_timeout(step);
        left = left.saturating_sub(step);
    }
}
