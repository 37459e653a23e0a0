//! A store in memory: all there is where there is no disk, and what the disk is written from where there is one.

use std::collections::BTreeMap;

use super::{BYTES_MAX, ENTRIES_MAX, Entry, KEY_BYTES_MAX, Store, StoreError, Tree, VALUE_BYTES_MAX};

/// Values in memory, bounded in number and bytes.
#[derive(Debug, Default)]
pub(super) struct MemoryStore {
    values: BTreeMap<(Tree, Vec<u8>), Vec<u8>>,
    /// Of all keys and values.
    bytes: usize,
}

impl MemoryStore {
    fn of(&self, tree: Tree) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.values
            .range((tree, Vec::new())..)
            .take_while(move |((of, _), _)| *of == tree)
            .map(|((_, key), value)| (key.as_slice(), value.as_slice()))
    }
}

impl Store for MemoryStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values.get(&(tree, key.to_vec())).cloned())
    }

    fn put(&mut self, tree: Tree, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(StoreError::TooLong);
        }
        let full_key = (tree, key.to_vec());
        let before = self.values.get(&full_key).map(|old| key.len() + old.len());
        let bytes = self.bytes - before.unwrap_or(0) + key.len() + value.len();
        if bytes > BYTES_MAX || (before.is_none() && self.of(tree).count() >= ENTRIES_MAX) {
            return Err(StoreError::Full);
        }
        self.bytes = bytes;
        self.values.insert(full_key, value.to_vec());
        Ok(())
    }

    fn remove(&mut self, tree: Tree, key: &[u8]) -> Result<(), StoreError> {
        if let Some(old) = self.values.remove(&(tree, key.to_vec())) {
            self.bytes -= key.len() + old.len();
        }
        Ok(())
    }

    fn entries(&self, tree: Tree) -> Result<Vec<Entry>, StoreError> {
        let entries = self.of(tree);
        Ok(entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: Tree = Tree::Latencies;

    #[test]
    fn values_come_back_in_order_until_they_are_removed() {
        let mut store = MemoryStore::default();
        for (key, value) in [(b"b", b"2"), (b"a", b"0"), (b"a", b"1")] {
            store.put(TREE, key, value).unwrap();
        }
        assert_eq!(store.get(TREE, b"a").unwrap(), Some(b"1".to_vec()));
        let entries = [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())];
        assert_eq!(store.entries(TREE).unwrap(), entries);
        assert_eq!(store.bytes, 4);
        store.remove(TREE, b"a").unwrap();
        store.remove(TREE, b"b").unwrap();
        store.remove(TREE, b"c").unwrap();
        assert_eq!((store.entries(TREE).unwrap().len(), store.bytes), (0, 0));
    }

    #[test]
    fn it_does_not_grow_beyond_its_bounds() {
        let mut store = MemoryStore::default();
        assert!(matches!(
            store.put(TREE, &[0; KEY_BYTES_MAX + 1], b""),
            Err(StoreError::TooLong)
        ));
        assert!(matches!(
            store.put(TREE, b"", &[0; VALUE_BYTES_MAX + 1]),
            Err(StoreError::TooLong)
        ));
        for n in 0..ENTRIES_MAX {
            store.put(TREE, &n.to_be_bytes(), b"x").unwrap();
        }
        assert!(matches!(store.put(TREE, b"one more", b"x"), Err(StoreError::Full)));
        store.put(TREE, &0_usize.to_be_bytes(), b"changed").unwrap();
        let mut heavy = MemoryStore::default();
        let fit = BYTES_MAX / (VALUE_BYTES_MAX + 8);
        for n in 0..fit {
            heavy.put(TREE, &n.to_be_bytes(), &[0; VALUE_BYTES_MAX]).unwrap();
        }
        assert!(matches!(
            heavy.put(TREE, b"one more", &[0; VALUE_BYTES_MAX]),
            Err(StoreError::Full)
        ));
    }
}
