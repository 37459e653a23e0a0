//! The thread that owns the disk: opens it, takes requests, writes what changed, and outlives whatever the disk does.
//!
//! Memory is the truth and the disk follows it. What was changed is written together, a second after the first change;
//! without changes the thread sleeps without a timer. A disk that refuses is closed and tried again when there is
//! something to write, a second later, then after twice as long each time up to five minutes. A store that is damaged
//! or panics is set aside and written anew from memory; after the second time in one process there is memory only.

mod opening;

use std::collections::BTreeSet;
use std::error::Error;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use detour_core::time::SEC;
use detour_core::{Clock, Time};
use tokio::sync::oneshot;

use super::memory::MemoryStore;
use super::place::Place;
use super::value;
use super::{ENTRIES_MAX, Entry, Store, StoreError, Tree};
use crate::board::Board;
use crate::metrics::{StoreDropped, StoreFailure, StoreMetrics};

/// Changes wait this long for others, so that a busy node writes once a second.
const GATHER_US: u64 = SEC;
/// First and longest time until a disk that refused is tried again.
const RETRY_US: (u64, u64) = (SEC, 300 * SEC);
/// Damaged stores one process sets aside: a third one means that the disk, or this program, breaks them.
const SET_ASIDE_MAX: u8 = 2;

/// Keys that wait to be written, at most: every value there may be, and as many removed ones. A further one is counted
/// as dropped; what memory has of it is written when the store is next opened.
const CHANGED_MAX: usize = 2 * ENTRIES_MAX;

/// What the board calls the store.
pub(super) const PART: &str = "store";
/// What the board calls one that was set aside.
const DAMAGED: &str = "damaged store";

/// Opens stores; another one than sled's is for tests.
pub(super) trait Engine: Send {
    /// The store in this directory, which exists.
    fn open(&self, directory: &Path) -> Result<Box<dyn Store>, StoreError>;
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Request {
    /// Set a value.
    Put(Tree, Vec<u8>, Vec<u8>),
    /// Forget a key.
    Remove(Tree, Vec<u8>),
    /// Tell all values of a tree.
    Load(Tree, oneshot::Sender<Vec<Entry>>),
    /// Write what is to be written, say so, and end.
    Close(oneshot::Sender<()>),
}

/// What others may see of the thread.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Since when it waits for the disk, microseconds; 0 when it does not.
    waits_since: AtomicU64,
    /// Whether it was asked to close.
    closing: AtomicBool,
}

impl Activity {
    /// How long it has been waiting for the disk.
    pub(super) fn waits_us(&self, now: Time) -> u64 {
        match self.waits_since.load(Ordering::Relaxed) {
            0 => 0,
            since => now.since(Time::from_micros(since)),
        }
    }

    fn begin(&self, now: Time) {
        self.waits_since.store(now.as_micros().max(1), Ordering::Relaxed);
    }

    fn end(&self) {
        self.waits_since.store(0, Ordering::Relaxed);
    }

    /// It is being asked to close: it need not wait for anybody.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to close.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// What the thread is made with.
pub(super) struct Parts {
    pub(super) engine: Box<dyn Engine>,
    /// The state directory, if there is one.
    pub(super) state: Option<PathBuf>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: StoreMetrics,
    pub(super) board: Board,
    pub(super) activity: Arc<Activity>,
}

/// The thread's own.
pub(super) struct Keeper {
    parts: Parts,
    memory: MemoryStore,
    /// What memory has and the disk has not, or the other way round.
    changed: BTreeSet<(Tree, Vec<u8>)>,
    /// When the first of them changed.
    changed_since: Option<Time>,
    /// The open store; without one, `retry` says when to try.
    disk: Option<Box<dyn Store>>,
    /// Held while this process has the store's place.
    place: Option<Place>,
    /// When to try again, and how long after that; `None`: never.
    retry: Option<(Time, u64)>,
    /// Whether memory has had what an earlier process left.
    is_loaded: bool,
    set_aside: u8,
}

impl Keeper {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            retry: parts.state.as_ref().map(|_| (Time::ZERO, RETRY_US.0)),
            parts,
            memory: MemoryStore::default(),
            changed: BTreeSet::new(),
            changed_since: None,
            disk: None,
            place: None,
            is_loaded: false,
            set_aside: 0,
        }
    }

    /// Runs until asked to close, or until nobody can ask any more.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        self.wait_for_place();
        self.open();
        let mut closed = None;
        while closed.is_none() {
            let next = match self.due() {
                // Nothing to write: no timer.
                None => requests.recv().map_err(|_nobody| RecvTimeoutError::Disconnected),
                Some(due) => requests.recv_timeout(Duration::from_micros(due.since(self.now()))),
            };
            match next {
                Ok(Request::Put(tree, key, payload)) => self.put(tree, key, &payload),
                Ok(Request::Remove(tree, key)) => self.remove(tree, key),
                Ok(Request::Load(tree, reply)) => self.load(tree, reply),
                Ok(Request::Close(reply)) => closed = Some(Some(reply)),
                Err(RecvTimeoutError::Disconnected) => closed = Some(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.due().is_some_and(|due| due <= self.now()) {
                self.write();
            }
        }
        if self.disk.is_some() {
            self.write();
        }
        self.close_disk();
        if let Some(reply) = closed.flatten() {
            // Whoever asked may have stopped waiting.
            reply.send(()).ok();
        }
    }

    fn now(&self) -> Time {
        self.parts.clock.now()
    }

    fn put(&mut self, tree: Tree, key: Vec<u8>, payload: &[u8]) {
        match self.memory.put(tree, &key, payload) {
            Ok(()) => self.note_change(tree, key),
            Err(StoreError::TooLong) => self.parts.metrics.count_dropped(StoreDropped::too_long),
            Err(_) => self.parts.metrics.count_dropped(StoreDropped::full),
        }
    }

    fn remove(&mut self, tree: Tree, key: Vec<u8>) {
        if self.memory.remove(tree, &key).is_ok() {
            self.note_change(tree, key);
        }
    }

    fn load(&self, tree: Tree, reply: oneshot::Sender<Vec<Entry>>) {
        // Memory does not fail, and whoever asked may have stopped waiting.
        drop(reply.send(self.memory.entries(tree).unwrap_or_default()));
    }

    fn note_change(&mut self, tree: Tree, key: Vec<u8>) {
        if self.changed.len() >= CHANGED_MAX {
            self.parts.metrics.count_dropped(StoreDropped::full);
        } else if self.parts.state.is_some() {
            self.changed.insert((tree, key));
            let now = self.now();
            self.changed_since.get_or_insert(now);
        }
    }

    /// When there is something to write and a disk to write it to, or to be tried again.
    fn due(&self) -> Option<Time> {
        let gathered = self.changed_since?.plus(GATHER_US);
        if self.disk.is_some() {
            return Some(gathered);
        }
        self.retry.map(|(at, _)| at.max(gathered))
    }

    /// Writes what changed.
    fn write(&mut self) {
        if self.disk.is_none() {
            self.open();
        }
        let Some(disk) = &mut self.disk else {
            return;
        };
        if self.changed.is_empty() {
            return;
        }
        self.parts.activity.begin(self.parts.clock.now());
        let written = guarded(|| {
            for (tree, key) in &self.changed {
                match self.memory.get(*tree, key)? {
                    Some(payload) => disk.put(*tree, key, &value::seal(*tree, key, &payload))?,
                    None => disk.remove(*tree, key)?,
                }
            }
            disk.flush()
        });
        self.parts.activity.end();
        match written {
            Ok(()) => {
                self.changed.clear();
                self.changed_since = None;
                self.parts.metrics.count_write();
                self.note_well();
            }
            Err(error @ (StoreError::Damaged(_) | StoreError::Panicked)) => {
                // Closing it could hang, or write more of what is wrong.
                mem::forget(self.disk.take());
                self.replace(&error);
            }
            Err(error) => {
                self.close_disk();
                self.parts.metrics.count_failure(StoreFailure::write);
                self.postpone(&error);
            }
        }
    }

    /// Closes the store; sled writes what it still holds, or tries to.
    fn close_disk(&mut self) {
        if let Some(disk) = self.disk.take() {
            self.parts.activity.begin(self.parts.clock.now());
            // A panic at the end ends it too.
            drop(guarded(|| {
                drop(disk);
                Ok(())
            }));
            self.parts.activity.end();
        }
    }

    /// The disk does what it is asked.
    fn note_well(&mut self) {
        self.retry = Some((Time::ZERO, RETRY_US.0));
        self.parts.metrics.set_on_disk(true);
        self.parts.board.withdraw(PART);
    }

    /// There is memory only, until it is time to try again.
    fn postpone(&mut self, error: &StoreError) {
        let backoff_us = self.retry.map_or(RETRY_US.0, |(_, backoff_us)| backoff_us);
        self.retry = Some((
            self.now().plus(backoff_us),
            backoff_us.saturating_mul(2).min(RETRY_US.1),
        ));
        self.parts.metrics.set_on_disk(false);
        self.parts.board.say(PART, &memory_only(error));
    }

    /// The store is of no use: set aside, so that a new one can be begun; or given up, if that has happened before.
    fn replace(&mut self, error: &StoreError) {
        self.parts.metrics.set_on_disk(false);
        self.parts.metrics.count_failure(match error {
            StoreError::Panicked => StoreFailure::panic,
            StoreError::TooLong
            | StoreError::Full
            | StoreError::Locked
            | StoreError::Io(_)
            | StoreError::Damaged(_) => StoreFailure::damaged,
        });
        let aside = match &self.place {
            Some(place) if self.set_aside < SET_ASIDE_MAX => place.set_aside().map_err(StoreError::Io),
            Some(_) | None => Err(StoreError::Full),
        };
        self.set_aside = self.set_aside.saturating_add(1);
        match aside {
            Ok(name) => {
                let line = format!("{}; set aside as {name}, begun anew", chain(error));
                self.parts.board.say(DAMAGED, &line);
                self.retry = Some((self.now(), RETRY_US.0));
            }
            Err(_) => {
                self.retry = None;
                self.changed.clear();
                self.changed_since = None;
                let line = format!("memory only until the next start, because {}", chain(error));
                self.parts.board.say(PART, &line);
            }
        }
    }
}

/// What the board says while the disk cannot be had.
fn memory_only(error: &StoreError) -> String {
    format!(
        "memory only because {}; tried again when there is something to write",
        chain(error)
    )
}

/// An error and what caused it, in one line.
fn chain(error: &StoreError) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    line
}

/// Turns a panic into an error. The store it happened in is not used again.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(StoreError::Panicked))
}
