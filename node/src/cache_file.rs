//! The cache file: answers that survive a restart, and the only file that may hold names that clients asked.
//!
//! `cache.persist` says whether there is one and where: `"runtime"` in a directory that a reboot empties, `"disk"` in
//! the state directory, `"off"` nowhere, and then one that an earlier process left is removed. It is for its owner
//! alone (0600), replaced as a whole (written beside, forced to disk, renamed), no larger than the cache and 64 MiB.
//!
//! * Written by a thread of its own when the node stops, and five minutes after the first answer it lacks: an idle
//!   node neither wakes up nor writes.
//! * Read at the start by a thread of its own, piece by piece, while queries are being answered. Each answer is checked
//!   like a provider's (`detour_resolver::cache::warm`).
//! * Answers belong to the providers that gave them: a file written for other endpoints is not read.
//! * What a file lies about, or does not say, costs at most itself: see `format`.

#[cfg(any(test, fuzzing))]
mod exercise;
mod format;
mod place;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use detour_resolver::forwarder::Shared;
use detour_resolver::tasks::Tasks;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::place::Place;
use crate::board::Board;
use crate::metrics::CacheFileMetrics;
use crate::stamp::Stamp;

pub(crate) use self::place::{Places, RuntimeDirs, choose};

/// From the first answer that the file lacks until it is written.
const WRITE_EVERY: Duration = Duration::from_secs(300);
/// How long a stop waits for it to be written; the whole stop stays within 5 s. What is not done then is not renamed,
/// and the file is the last one.
const STOP_PATIENCE: Duration = Duration::from_millis(1_000);
/// Most bytes of a file: as many answers as 200 MB of cache hold. On the memory-backed file systems it usually lies on
/// it is memory, too.
const FILE_BYTES_MAX: u64 = 64 * 1_024 * 1_024;
/// Bytes after which reader and writer let others have the processor.
const PIECE_BYTES: u64 = 256 * 1_024;
/// For this long.
const PAUSE: Duration = Duration::from_millis(1);
/// What the board calls it.
const PART: &str = "cache file";

/// What the cache file needs of the rest of the node.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The cache, and what time it is.
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: CacheFileMetrics,
    pub(crate) board: Board,
}

/// Reads what an earlier process left, and keeps the file until the node stops. Returns at once.
pub(crate) fn start(places: Places, parts: Parts, tasks: &Tasks) {
    let Places { chosen, others } = places;
    let chosen = chosen.map(Arc::new);
    let read = in_thread(&parts, {
        let (chosen, parts) = (chosen.clone(), parts.clone());
        move || {
            others.iter().for_each(Place::remove);
            if let Some(place) = chosen {
                read::read(&place, &parts);
            }
        }
    });
    let Some(place) = chosen else {
        return;
    };
    let draining = tasks.draining().clone();
    tasks.spawn_job(async move {
        tokio::select! {
            // Cancel safe: its thread goes on, and the node stops without it.
            is_read = read => if is_read.is_err() {
                return;
            },
            // What is not read yet would be lost by writing. Cancel safe: the token stays cancelled.
            () = draining.cancelled() => return,
        }
        let unfinished = keep(&place, &parts, &draining).await;
        let last = async {
            if let Some(writing) = unfinished {
                writing.await.ok();
            }
            if parts.shared.cache.is_changed() {
                write(&place, &parts).await.ok();
            }
        };
        if tokio::time::timeout(STOP_PATIENCE, last).await.is_err() {
            tracing::warn!("stopping without having written the cache file");
        }
    });
}

/// Writes the file from time to time until the node stops; a write that was not finished then.
async fn keep(place: &Arc<Place>, parts: &Parts, draining: &CancellationToken) -> Option<oneshot::Receiver<()>> {
    loop {
        tokio::select! {
            // Cancel safe: the change stays noted.
            () = parts.shared.cache.changed() => {}
            // Cancel safe: the token stays cancelled.
            () = draining.cancelled() => return None,
        }
        tokio::select! {
            // Cancel safe: a timer.
            () = tokio::time::sleep(WRITE_EVERY) => {}
            // Cancel safe: as above.
            () = draining.cancelled() => return None,
        }
        let mut writing = write(place, parts);
        tokio::select! {
            // Cancel safe: its thread goes on. It says itself what went wrong.
            _ = &mut writing => {}
            // Cancel safe: as above.
            () = draining.cancelled() => return Some(writing),
        }
    }
}

/// Writes the file in a thread of its own.
fn write(place: &Arc<Place>, parts: &Parts) -> oneshot::Receiver<()> {
    let (place, own) = (Arc::clone(place), parts.clone());
    in_thread(parts, move || write::write(&place, &own))
}

/// Does what may wait for a disk; the receiver hears when it is done, or an error if it could not be begun.
fn in_thread(parts: &Parts, work: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (done, receiver) = oneshot::channel();
    let thread = thread::Builder::new().name("cache-file".to_owned());
    let spawned = thread.spawn(move || {
        work();
        // Whoever asked may have stopped waiting.
        done.send(()).ok();
    });
    if let Err(error) = spawned {
        parts.metrics.count_failure();
        parts.board.say(PART, &format!("no thread can be started: {error}"));
    }
    receiver
}

/// What a file is for: a checksum of all endpoints and of whether they validate. Where it differs, a name may resolve
/// otherwise.
fn pool(parts: &Parts) -> u32 {
    let topology = Arc::clone(&parts.shared.generation().topology);
    let mut endpoints: Vec<(&str, bool)> = topology
        .endpoints
        .iter()
        .filter_map(|endpoint| {
            // Answers of routes' groups carry the key of theirs.
            let provider = topology.provider(endpoint.provider).filter(|p| p.is_public)?;
            Some((endpoint.label.as_str(), provider.validates))
        })
        .collect();
    endpoints.sort_unstable();
    let mut hasher = crc32fast::Hasher::new();
    for (label, validates) in endpoints {
        hasher.update(label.as_bytes());
        hasher.update(&[0, validates.into()]);
    }
    hasher.finalize()
}

/// A failure, counted and said until the next success.
fn complain(parts: &Parts, what: &str, error: &io::Error) {
    parts.metrics.count_failure();
    parts.board.say(PART, &format!("{what}: {error}"));
}

/// When a file is written.
fn stamp(parts: &Parts) -> Stamp {
    Stamp::now(parts.shared.clock().as_ref())
}
