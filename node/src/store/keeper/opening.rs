//! Opening the store: waiting for its place, reading what an earlier process left, and what follows if that fails.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use detour_core::time::SEC;

use super::{Keeper, PART, guarded, memory_only};
use crate::metrics::{StoreDropped, StoreFailure};
use crate::store::place::Place;
use crate::store::value::{self, Unreadable};
use crate::store::{Entry, Store, StoreError, Tree};

/// How long a start waits for another process to let go of the store: an earlier one of this node may be stopping, and
/// takes up to five seconds for it.
const LOCK_PATIENCE_US: u64 = 6 * SEC;
/// How often it looks whether it has.
const LOCK_LOOK: Duration = Duration::from_millis(100);
/// A tree and its sealed values, as found on the disk.
type Found = (Tree, Vec<Entry>);

impl Keeper {
    /// Waits until no other process has the store, for a while.
    pub(super) fn wait_for_place(&mut self) {
        let Some(state) = self.parts.state.clone() else {
            return;
        };
        let until = self.now().plus(LOCK_PATIENCE_US);
        loop {
            self.parts.activity.begin(self.parts.clock.now());
            let place = Place::take(&state);
            self.parts.activity.end();
            match place {
                Ok(place) => {
                    self.place = Some(place);
                    return;
                }
                Err(error @ StoreError::Locked) if self.now() < until && !self.parts.activity.is_closing() => {
                    self.parts.board.say(PART, &memory_only(&error));
                    thread::park_timeout(LOCK_LOOK);
                }
                // Opening meets it again, and says it.
                Err(_) => return,
            }
        }
    }

    /// Opens the store, or says why there is memory only. A damaged one is set aside, and then it is tried once more.
    pub(super) fn open(&mut self) {
        while self.retry.is_some() && self.disk.is_none() {
            match self.try_open() {
                // A disk that can be read need not be one that can be written.
                Ok(()) if !self.changed.is_empty() => {}
                Ok(()) => self.note_well(),
                Err(error @ (StoreError::Damaged(_) | StoreError::Panicked)) => self.replace(&error),
                Err(error) => {
                    self.parts.metrics.count_failure(StoreFailure::open);
                    return self.postpone(&error);
                }
            }
        }
    }

    fn try_open(&mut self) -> Result<(), StoreError> {
        self.parts.activity.begin(self.parts.clock.now());
        let opened = self.read_disk();
        self.parts.activity.end();
        let (store, found) = opened?;
        self.merge(found);
        self.disk = Some(store);
        Ok(())
    }

    /// Opens what is on the disk and reads all of it.
    fn read_disk(&mut self) -> Result<(Box<dyn Store>, Vec<Found>), StoreError> {
        let Some(state) = self.parts.state.clone() else {
            return Err(StoreError::Io(ErrorKind::NotFound.into()));
        };
        let place = match self.place.take() {
            Some(place) => place,
            None => Place::take(&state)?,
        };
        let place = self.place.insert(place);
        let directory = place.directory()?;
        if place.note_opening() {
            place.note_opened();
            return Err(StoreError::Damaged("processes died while opening it".into()));
        }
        let opened = guarded(|| {
            let store = self.parts.engine.open(&directory)?;
            let mut found = Vec::new();
            for tree in Tree::ALL {
                found.push((tree, store.entries(tree)?));
            }
            Ok((store, found))
        });
        place.note_opened();
        opened
    }

    /// Brings memory and what was found on the disk together.
    fn merge(&mut self, found: Vec<Found>) {
        if self.is_loaded {
            // This process has changed what it found, or has begun a new store: memory says what is right.
            for tree in Tree::ALL {
                for (key, _) in self.memory.entries(tree).unwrap_or_default() {
                    self.note_change(tree, key);
                }
            }
        }
        for (tree, entries) in found {
            for (key, sealed) in entries {
                match value::unseal(tree, &key, &sealed) {
                    // Changed by this process since.
                    Ok(_) if self.changed.contains(&(tree, key.clone())) => {}
                    Ok(payload) if !self.is_loaded => {
                        if self.memory.put(tree, &key, payload).is_err() {
                            self.parts.metrics.count_dropped(StoreDropped::full);
                        }
                    }
                    // Forgotten by this process.
                    Ok(_) => self.note_change(tree, key),
                    // It may be that version's again tomorrow.
                    Err(Unreadable::Version) => self.parts.metrics.count_dropped(StoreDropped::version),
                    Err(Unreadable::Checksum) => {
                        self.parts.metrics.count_dropped(StoreDropped::checksum);
                        self.note_change(tree, key);
                    }
                }
            }
        }
        self.is_loaded = true;
    }
}
