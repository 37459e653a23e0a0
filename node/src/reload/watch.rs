//! Whether a file has changed, by looking at it from outside every two seconds (`reload = "watch"`).
//!
//! Looking is cheaper than it seems and sees what notifications of the system do not: files replaced by renaming,
//! links whose target changed, network file systems. A change counts once two looks agree on it, so that a file that
//! is still being written is not taken for a broken one. Off, it looks at nothing and wakes nobody.

use std::time::Duration;

use crate::given::{Given, Looks};

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

/// What was seen of the files in which the network's resolvers stand.
#[derive(Debug, Default)]
pub(super) struct GivenWatch {
    /// Of the last look.
    pub(super) seen: Looks,
    /// What was found then, if it is to be put in force.
    pub(super) found: Given,
    /// There was nobody at the last look.
    is_empty: bool,
}

impl GivenWatch {
    /// Takes in a look; whether what it found is something else than what is `in_force`. That nobody is left counts once
    /// two looks agree on it: a file that is being written anew is empty for a moment.
    pub(super) fn has_changed(&mut self, (given, looks): (Given, Looks), in_force: &Given) -> bool {
        let was_empty = std::mem::replace(&mut self.is_empty, given.resolvers.is_empty());
        if given.resolvers.is_empty() && !in_force.resolvers.is_empty() && !was_empty {
            // The next look sees it as new.
            self.seen.clear();
            return false;
        }
        self.seen = looks;
        // What the network told otherwise is in no file.
        let has_changed = (&given.source, &given.resolvers, &given.search)
            != (&in_force.source, &in_force.resolvers, &in_force.search);
        self.found = given;
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Look;
    use std::fs;

    #[test]
    fn nobody_left_counts_at_the_second_look() {
        let given = |address: &str| Given {
            resolvers: vec![address.parse().unwrap()],
            ..Given::default()
        };
        let (one, two) = (given("192.0.2.1:53"), given("192.0.2.2:53"));
        let looks = || vec![None];
        let mut watch = GivenWatch::default();
        assert!(!watch.has_changed((one.clone(), looks()), &one));
        assert!(watch.has_changed((two.clone(), looks()), &one));
        assert_eq!(watch.found, two);
        assert!(!watch.has_changed((Given::default(), looks()), &two));
        assert!(watch.seen.is_empty(), "read again");
        assert!(!watch.has_changed((two.clone(), looks()), &two), "it was being written");
        assert!(!watch.has_changed((Given::default(), looks()), &two));
        assert!(watch.has_changed((Given::default(), looks()), &two));
        assert!(!watch.has_changed((Given::default(), looks()), &Given::default()));
    }

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
