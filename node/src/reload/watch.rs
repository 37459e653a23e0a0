//! Whether a file has changed, by looking at it from outside every two seconds (`reload = "watch"`).
//!
//! Looking is cheaper than it seems and sees what notifications of the system do not: files replaced by renaming,
//! links whose target changed, network file systems. A change counts once two looks agree on it, so that a file that
//! is still being written is not taken for a broken one. Off, it looks at nothing and wakes nobody.

use std::time::Duration;

/// Between two looks: a change is in force within twice this.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// What was seen.
#[derive(Debug)]
pub(super) struct Watch<L> {
    /// Of the file that was read last.
    read: Option<L>,
    /// Of the last look, if it was another.
    changed: Option<Option<L>>,
}

impl<L: PartialEq> Watch<L> {
    /// A file that looked so when it was read.
    pub(super) fn new(read: Option<L>) -> Self {
        Self { read, changed: None }
    }

    /// The file is read, and looked so before.
    pub(super) fn note_read(&mut self, look: Option<L>) {
        *self = Self::new(look);
    }

    /// Takes in a look; whether the file has changed and is to be read.
    pub(super) fn has_changed(&mut self, look: Option<L>) -> bool {
        if look == self.read {
            self.changed = None;
            return false;
        }
        let is_settled = self.changed.as_ref() == Some(&look);
        self.changed = Some(look);
        is_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Look;
    use std::fs;

    #[test]
    fn a_change_counts_once_it_rests() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        fs::write(&path, "one").unwrap();
        let look = || Look::at(&path);
        let mut watch = Watch::new(look());
        assert!(!watch.has_changed(look()) && !watch.has_changed(look()));
        fs::write(&path, "one and").unwrap();
        assert!(!watch.has_changed(look()));
        fs::write(&path, "one and another").unwrap();
        assert!(!watch.has_changed(look()), "still being written");
        assert!(watch.has_changed(look()));
        watch.note_read(look());
        assert!(!watch.has_changed(look()));
        // Replaced by renaming, as editors do it.
        let other = directory.path().join("b.toml");
        fs::write(&other, "two and another").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!watch.has_changed(look()));
        assert!(watch.has_changed(look()));
        watch.note_read(look());
        fs::remove_file(&path).unwrap();
        assert!(!watch.has_changed(look()));
        assert!(watch.has_changed(look()), "gone is a change too");
    }
}
