//! The threads that read datagrams, seen as sets of sockets: those of clients and those to providers.
//!
//! A thread waits for all its sockets at once and reads them itself; no runtime stands between a datagram and the code
//! that knows what to do with it. What is readable is read once and told again if more is there (level-triggered), so
//! that a flood on one socket cannot keep the others waiting. A thread without anything to read is not woken.
//!
//! On Linux they wait by epoll, elsewhere in a plain loop over all sockets.

#[cfg(target_os = "linux")]
mod epoll;
#[cfg(any(not(target_os = "linux"), test))]
mod plain;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use detour_core::{Clock, Time};
use parking_lot::Mutex;

#[cfg(target_os = "linux")]
use self::epoll::Waiting;
#[cfg(not(target_os = "linux"))]
use self::plain::Waiting;
use crate::tasks::Tasks;

/// Sockets told of at once: what is read before clients get their next turn.
pub(crate) const READY_MAX: usize = 16;
/// Largest datagram read from a provider; more than 1232 was never asked for.
const DATAGRAM_BYTES: usize = 4_096;
/// How often sockets are looked at that wait for their end.
const SWEEP: Duration = Duration::from_secs(1);
/// Most threads: each answers some hundred thousand hits a second, more do not make a forwarder faster.
const READERS_MAX: usize = 4;

/// A key of nobody's socket: the thread is to look whether it has to stop.
const WAKE: u64 = u64::MAX;

/// What can be waited for.
pub(crate) trait Descriptor: AsFd + fmt::Debug + Send + Sync {}

impl<T: AsFd + fmt::Debug + Send + Sync> Descriptor for T {}

/// A socket that is read when it is readable.
pub(crate) trait Source: Descriptor {
    /// Reads what is there, or once; false if it is done and to be closed.
    fn read(&self, buffer: &mut [u8]) -> bool;

    /// Called every second or so; false if it is done and to be closed.
    fn sweep(&self, now: Time) -> bool;
}

/// A source and whose it is.
#[derive(Debug)]
struct Owned {
    source: Arc<dyn Source>,
    owner: u64,
}

/// The sockets of one thread.
#[derive(Debug)]
pub(crate) struct Reader {
    waiting: Waiting,
    /// Those to providers, by key; held for a map operation at a time.
    sources: Mutex<HashMap<u64, Owned>>,
    next_key: AtomicU64,
}

/// What a thread woke up for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ready {
    /// One of its listening sockets has datagrams.
    Client(usize),
    /// A source is to be read.
    Source(u64),
    /// It was called.
    Called,
}

impl Reader {
    fn new() -> io::Result<Self> {
        Ok(Self {
            waiting: Waiting::new()?,
            sources: Mutex::default(),
            next_key: AtomicU64::new(0),
        })
    }

    /// Waits for a listening socket too, under its number.
    pub(crate) fn listen(&self, socket: &Arc<dyn Descriptor>, number: usize) -> io::Result<()> {
        self.waiting.add(socket, key_of(number))
    }

    /// No longer waits for a listening socket.
    pub(crate) fn deafen(&self, socket: &impl AsFd, number: usize) {
        self.waiting.remove(socket, key_of(number));
    }

    /// Waits until something is there, or not at all; what there is.
    ///
    /// # Errors
    /// The system's; an interrupted wait is none.
    pub(crate) fn wait(&self, now_or_never: bool) -> io::Result<impl ExactSizeIterator<Item = Ready> + use<>> {
        let mut keys = [0; READY_MAX];
        let count = self.waiting.wait(now_or_never, &mut keys)?;
        Ok(keys.into_iter().take(count).map(Ready::of))
    }

    /// Reads a source.
    pub(crate) fn read(&self, key: u64, buffer: &mut [u8; DATAGRAM_BYTES]) {
        let source = self.sources.lock().get(&key).map(|owned| Arc::clone(&owned.source));
        // What is not there was closed between being readable and now.
        if let Some(source) = source
            && !source.read(buffer)
        {
            self.remove(key);
        }
    }

    /// Room for what a source reads.
    pub(crate) fn buffer() -> [u8; DATAGRAM_BYTES] {
        [0; DATAGRAM_BYTES]
    }

    /// Has the thread look up.
    pub(crate) fn call(&self) {
        self.waiting.call();
    }

    fn add(&self, source: Arc<dyn Source>, owner: u64) -> io::Result<()> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let own: Arc<dyn Descriptor> = Arc::<dyn Source>::clone(&source);
        self.sources.lock().insert(key, Owned { source, owner });
        let added = self.waiting.add(&own, key);
        if added.is_err() {
            self.remove(key);
        }
        added
    }

    fn remove(&self, key: u64) {
        // Not closed under the lock.
        let removed = self.sources.lock().remove(&key);
        if let Some(Owned { source, .. }) = removed
            && Arc::strong_count(&source) > 1
        {
            // Whoever else holds the socket keeps it open, which is no reason to be told of it.
            self.waiting.remove(&source, key);
        }
    }

    /// Removes the sources that are done; whether there are others.
    fn sweep(&self, now: Time) -> bool {
        let all: Vec<(u64, Arc<dyn Source>)> = {
            let sources = self.sources.lock();
            let all = sources.iter();
            all.map(|(key, owned)| (*key, Arc::clone(&owned.source))).collect()
        };
        for (key, source) in all {
            if !source.sweep(now) {
                self.remove(key);
            }
        }
        !self.sources.lock().is_empty()
    }

    fn remove_of(&self, owner: u64) {
        let keys: Vec<u64> = {
            let sources = self.sources.lock();
            let own = sources.iter().filter(|(_, owned)| owned.owner == owner);
            own.map(|(key, _)| *key).collect()
        };
        for key in keys {
            self.remove(key);
        }
    }
}

/// The key of a listening socket.
fn key_of(number: usize) -> u64 {
    u64::try_from(number).map_or(WAKE, |number| !number).saturating_sub(1)
}

impl Ready {
    fn of(key: u64) -> Self {
        if key == WAKE {
            return Self::Called;
        }
        // Numbers of listening sockets count down from there, keys of sources up from zero.
        match usize::try_from(!key.saturating_add(1)) {
            Ok(number) if key > u64::MAX / 2 => Self::Client(number),
            Ok(_) | Err(_) => Self::Source(key),
        }
    }
}

/// All threads' sockets.
#[derive(Debug)]
pub(crate) struct Readers {
    readers: Vec<Arc<Reader>>,
    next: AtomicUsize,
    next_owner: AtomicU64,
    is_swept: AtomicBool,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
}

impl Readers {
    /// As many as there are cores for them. Without what the system needs for it there are none, and nothing can be
    /// read.
    pub(crate) fn new(tasks: &Tasks, clock: &Arc<dyn Clock>) -> Arc<Self> {
        let readers = (0..count()).map(|_| Reader::new().map(Arc::new));
        let readers: io::Result<Vec<_>> = readers.collect();
        Arc::new(Self {
            readers: readers.unwrap_or_else(|error| {
                tracing::error!(%error, "cannot wait for datagrams");
                Vec::new()
            }),
            next: AtomicUsize::new(0),
            next_owner: AtomicU64::new(0),
            is_swept: AtomicBool::new(false),
            tasks: tasks.clone(),
            clock: Arc::clone(clock),
        })
    }

    pub(crate) fn all(&self) -> &[Arc<Reader>] {
        &self.readers
    }

    /// A name for who opens sockets.
    pub(crate) fn new_owner(&self) -> u64 {
        self.next_owner.fetch_add(1, Ordering::Relaxed)
    }

    /// Has a socket read until it says that it is done. Must be called within the runtime.
    pub(crate) fn add(self: &Arc<Self>, source: Arc<dyn Source>, owner: u64) -> io::Result<()> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let index = turn.checked_rem(self.readers.len());
        let reader = index.and_then(|index| self.readers.get(index));
        reader.ok_or(io::ErrorKind::Unsupported)?.add(source, owner)?;
        if !self.is_swept.swap(true, Ordering::AcqRel) {
            self.tasks.spawn_job(Arc::clone(self).sweep());
        }
        Ok(())
    }

    /// Closes all sockets of an owner: nobody waits for what they would read.
    pub(crate) fn remove_of(&self, owner: u64) {
        for reader in &self.readers {
            reader.remove_of(owner);
        }
    }

    /// Sweeps as long as there is something to be swept.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::select! {
                // Cancel safe: a timer.
                () = tokio::time::sleep(SWEEP) => {}
                // Cancel safe: the token stays cancelled.
                () = self.tasks.token().cancelled() => return,
            }
            let now = self.clock.now();
            // All of them, not up to the first with sources.
            let left = self.readers.iter().filter(|reader| reader.sweep(now)).count();
            if left > 0 {
                continue;
            }
            self.is_swept.store(false, Ordering::Release);
            // What was added since the last look saw somebody sweeping.
            let added = self.readers.iter().any(|reader| !reader.sources.lock().is_empty());
            if !added || self.is_swept.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

/// Threads that read.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(READERS_MAX))
}
