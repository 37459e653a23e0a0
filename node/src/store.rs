//! What a node learned, kept between its starts: values by key in a few trees, on sled where there is a disk for it.
//!
//! Everything here can be learned again, so the disk never decides anything: a node starts, answers and stops the
//! same whether its store is there, damaged, slow, full, read-only or another process'. Identity, configuration and
//! the cache file are not kept here.
//!
//! * One thread of the system (`keeper`) owns the disk. Requests reach it through a bounded queue; when that is full
//!   the newest is dropped and counted. It opens the store in the background, holds all values in memory, writes what
//!   changed about once a second, and sleeps when nothing does.
//! * Every value is sealed (`value`) with the version of its tree and a checksum; what cannot be read is dropped and
//!   counted, alone.
//! * A store that is damaged, or that panics, is set aside (`place`) as `store.corrupt-N` and begun anew from memory.
//!   One that another process holds is left alone.
//! * sled writes without forcing the disk's own cache: what the last seconds taught may be lost with the power.

mod disk;
mod handle;
mod keeper;
mod memory;
mod place;
#[cfg(test)]
mod tests;
mod value;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use detour_core::Clock;

use crate::board::Board;
use crate::metrics::StoreMetrics;
use crate::state::State;

pub(crate) use self::handle::StoreHandle;

/// Longest key, bytes: any sane endpoint string.
const KEY_BYTES_MAX: usize = 1_024;
/// Longest value, bytes; what is kept of an endpoint takes a few hundred.
const VALUE_BYTES_MAX: usize = 16 * 1_024;
/// Most values of a tree: sixteen times as many as a configuration has endpoints.
const ENTRIES_MAX: usize = 4_096;
/// Most memory of all keys and values.
const BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// A set of values of one kind. The list is closed, so that each has one name and one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tree {
    /// Answer times, by endpoint.
    Latencies,
    /// Addresses, by host name of endpoints.
    Addresses,
}

impl Tree {
    /// All of them.
    const ALL: [Self; 2] = [Self::Latencies, Self::Addresses];

    /// Its name on disk.
    const fn name(self) -> &'static str {
        match self {
            Self::Latencies => "latencies",
            Self::Addresses => "addresses",
        }
    }

    /// How its values are written. A value of another version is left alone and not read.
    const fn version(self) -> u8 {
        match self {
            Self::Latencies | Self::Addresses => 1,
        }
    }
}

/// A key and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// Values by key, in trees.
pub(crate) trait Store: fmt::Debug + Send {
    /// The value of a key.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets the value of a key.
    fn put(&mut self, tree: Tree, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Forgets a key.
    fn remove(&mut self, tree: Tree, key: &[u8]) -> Result<(), StoreError>;

    /// The values of a tree in order of their keys, at most [`ENTRIES_MAX`].
    fn entries(&self, tree: Tree) -> Result<Vec<Entry>, StoreError>;

    /// Hands what was changed to the system.
    fn flush(&mut self) -> Result<(), StoreError>;
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A key or a value is longer than allowed; nothing changed.
    #[error("a key or value is too long")]
    TooLong,
    /// There are as many values as there may be; nothing changed.
    #[error("the store is full")]
    Full,
    /// Another process has it; nothing changed.
    #[error("another process has it")]
    Locked,
    /// The disk refused; what is on it is what was there before, or part of what was to be written.
    #[error("the disk refused")]
    Io(#[source] io::Error),
    /// What is on the disk makes no sense.
    #[error("it is damaged")]
    Damaged(#[source] Box<dyn Error + Send + Sync>),
    /// The engine panicked.
    #[error("its engine panicked")]
    Panicked,
}

/// Starts the store's thread; returns at once, whatever the disk does.
pub(crate) fn start(state: &State, clock: Arc<dyn Clock>, metrics: StoreMetrics, board: Board) -> StoreHandle {
    handle::start(Box::new(disk::Sled), state, clock, metrics, board)
}
