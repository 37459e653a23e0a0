//! The store on sled 0.34.
//!
//! sled is used by one thread and told to do nothing by itself: its own flushing thread would wake up twice a second.
//! It may panic and it may hang; the keeper catches the one and is watched for the other. Its page cache is small,
//! because everything is in memory anyway.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::keeper::Engine;
use super::{ENTRIES_MAX, Entry, Store, StoreError, Tree};

/// sled's page cache, bytes; by default it is a gibibyte.
const CACHE_BYTES: u64 = 1_024 * 1_024;

/// Opens sled.
#[derive(Debug)]
pub(super) struct Sled;

impl Engine for Sled {
    fn open(&self, directory: &Path) -> Result<Box<dyn Store>, StoreError> {
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let db = config.open().map_err(of_sled)?;
        let mut trees = BTreeMap::new();
        for tree in Tree::ALL {
            trees.insert(tree, db.open_tree(tree.name()).map_err(of_sled)?);
        }
        Ok(Box::new(SledStore { db, trees }))
    }
}

#[derive(Debug)]
struct SledStore {
    db: sled::Db,
    trees: BTreeMap<Tree, sled::Tree>,
}

impl SledStore {
    fn tree(&self, tree: Tree) -> Result<&sled::Tree, StoreError> {
        // All were opened.
        self.trees.get(&tree).ok_or(StoreError::Full)
    }
}

impl Store for SledStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.tree(tree)?.get(key).map_err(of_sled)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn put(&mut self, tree: Tree, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.tree(tree)?.insert(key, value).map_err(of_sled)?;
        Ok(())
    }

    fn remove(&mut self, tree: Tree, key: &[u8]) -> Result<(), StoreError> {
        self.tree(tree)?.remove(key).map_err(of_sled)?;
        Ok(())
    }

    fn entries(&self, tree: Tree) -> Result<Vec<Entry>, StoreError> {
        let entries = self.tree(tree)?.iter().take(ENTRIES_MAX);
        entries
            .map(|entry| {
                entry
                    .map(|(key, value)| (key.to_vec(), value.to_vec()))
                    .map_err(of_sled)
            })
            .collect()
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.db.flush().map_err(of_sled)?;
        Ok(())
    }
}

/// sled's errors, by what follows from them.
fn of_sled(error: sled::Error) -> StoreError {
    match error {
        // It has no kind of its own for this.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => StoreError::Locked,
        // A file that ends too early is not the disk's refusal.
        sled::Error::Io(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) => {
            StoreError::Damaged(Box::new(error))
        }
        sled::Error::Io(error) => StoreError::Io(of_system(error)),
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => StoreError::Damaged(Box::new(error)),
    }
}

/// sled hands an error on as the text that programmers read; the system's number in it has words for everybody.
fn of_system(error: io::Error) -> io::Error {
    let text = error.to_string();
    let digits = text.split_once("code: ").map(|(_, rest)| rest);
    let number = digits.and_then(|rest| rest.split(',').next()?.parse().ok());
    match (error.raw_os_error(), number) {
        (None, Some(number)) => io::Error::from_raw_os_error(number),
        (None, None) | (Some(_), _) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_after_opening_again() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("store");
        let tree = Tree::Latencies;
        let mut store = Sled.open(&directory).unwrap();
        store.put(tree, b"a", b"1").unwrap();
        store.put(tree, b"b", b"2").unwrap();
        store.remove(tree, b"b").unwrap();
        store.flush().unwrap();
        drop(store);
        let store = Sled.open(&directory).unwrap();
        assert_eq!(store.get(tree, b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(store.entries(tree).unwrap(), [(b"a".to_vec(), b"1".to_vec())]);
    }

    #[test]
    fn one_at_a_time_has_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("store");
        let first = Sled.open(&directory).unwrap();
        assert!(matches!(Sled.open(&directory), Err(StoreError::Locked)));
        drop(first);
        assert!(Sled.open(&directory).is_ok());
    }

    #[test]
    fn a_refusal_is_told_in_the_systems_words() {
        let own = io::Error::from_raw_os_error(28);
        let handed_on = io::Error::new(own.kind(), format!("{own:?}"));
        assert_eq!(of_system(handed_on).to_string(), own.to_string());
        assert_eq!(of_system(io::Error::from_raw_os_error(5)).raw_os_error(), Some(5));
        assert_eq!(of_system(io::Error::other("no number")).to_string(), "no number");
    }

    #[test]
    fn a_file_that_is_cut_off_is_damage() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("store");
        drop(Sled.open(&directory).unwrap());
        std::fs::write(directory.join("conf"), b"segment_size: what").unwrap();
        assert!(matches!(Sled.open(&directory), Err(StoreError::Damaged(_))));
    }
}
