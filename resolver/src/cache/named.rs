//! What is known of a name, whatever was asked about it: for people who look, and for those who want it forgotten.
//!
//! The cache is keyed by whole questions, so each of these goes through all of it: for a command now and then, never for
//! a query.

use std::sync::Arc;

use detour_core::Time;

use super::{Cache, Entry};
use crate::ask::GroupKey;
use crate::wire::NameBuf;

/// Answers shown of one name; there are four ways to ask for each type.
const SHOWN_MAX: usize = 256;

/// An answer that is known.
#[derive(Debug)]
pub struct Known {
    /// The answer.
    pub entry: Arc<Entry>,
    /// Whether it is within its time.
    pub is_fresh: bool,
}

impl Entry {
    /// What was asked: name as it was sent, type and class.
    fn question(&self) -> Option<(NameBuf, [u16; 2])> {
        let (name, tail) = self.answer.question().split_last_chunk::<4>()?;
        let [t0, t1, c0, c1] = *tail;
        let kind = [u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1])];
        Some((NameBuf::from_wire(name)?, kind))
    }

    /// The type and class that were asked for.
    #[must_use]
    pub fn kind_asked(&self) -> [u16; 2] {
        self.question().map_or([0; 2], |(_, kind)| kind)
    }

    /// Whether it was asked with DO, and with CD.
    #[must_use]
    pub fn flags_asked(&self) -> (bool, bool) {
        self.stamp.flags
    }

    /// Who gave it.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        self.stamp.group
    }

    /// Whether it is about this name, or about one below it if those count.
    fn is_about(&self, name: &NameBuf, below: bool) -> bool {
        self.question().is_some_and(|(own, _)| is_about(&own, name, below))
    }
}

fn is_about(own: &NameBuf, name: &NameBuf, below: bool) -> bool {
    own == name || (below && own.suffixes().any(|suffix| suffix == name.as_wire()))
}

impl Cache {
    /// The answers known of a name, by type, class, DO and CD.
    #[must_use]
    pub fn known(&self, name: &NameBuf, now: Time) -> Vec<Known> {
        let about = self.copies().filter(|(_, entry)| entry.is_about(name, false));
        let mut known: Vec<Known> = about
            .filter_map(|(_, entry)| {
                let is_fresh = self.is_fresh(&entry.stamp, entry.answer.ttl_s(), now)?;
                let entry = Arc::new(entry);
                Some(Known { entry, is_fresh })
            })
            .take(SHOWN_MAX)
            .collect();
        known.sort_by_key(|known| (known.entry.group(), known.entry.kind_asked(), known.entry.flags_asked()));
        known
    }

    /// Forgets what is known of a name, failures too, and with `below` of all names below it; how many answers that were.
    /// What is being asked at the moment is kept when it comes.
    pub fn forget(&self, name: &NameBuf, below: bool) -> usize {
        let about = self.copies().filter(|(_, entry)| entry.is_about(name, below));
        let forgotten = about
            .filter(|(key, _)| self.log(*key).is_some_and(|log| log.lock().remove(*key)))
            .count();
        let failed = self
            .failures
            .iter()
            .filter(|(_, failed)| is_about(&failed.name, name, below));
        let keys: Vec<u64> = failed.map(|(key, _)| key).collect();
        for key in &keys {
            self.failures.remove(key);
        }
        if forgotten > 0 {
            // Else the cache file would bring it back.
            self.note_change();
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Ask;
    use crate::cache::Failure;
    use crate::wire::tests::accepted_for;
    use detour_core::lookup::GaveUp;

    const NOW: Time = Time::at_ms(1_000);

    fn ask(name: &str, qtype: u16, flags: (bool, bool)) -> Ask {
        Ask::new(&name.parse().unwrap(), qtype, 1, flags, GroupKey::PUBLIC, 7)
    }

    fn filled() -> Cache {
        let cache = Cache::new(1 << 20, 0);
        for (name, qtype, flags) in [
            ("www.example", 28, (false, false)),
            ("www.example", 1, (true, false)),
            ("www.example", 1, (false, false)),
            ("a.www.example", 1, (false, false)),
            ("notwww.example", 1, (false, false)),
            ("example", 1, (false, false)),
        ] {
            let ask = ask(name, qtype, flags);
            let entry = Entry::new(accepted_for(name, qtype).answer, &ask, NOW);
            cache.store(&ask, &entry, NOW);
        }
        cache.store_failure(
            &ask("bad.www.example", 1, (false, false)),
            Failure::Unreached(GaveUp::Network),
            NOW,
        );
        cache
    }

    #[test]
    fn a_name_is_known_by_all_that_was_asked_about_it() {
        let cache = filled();
        let known = cache.known(&"WWW.Example".parse().unwrap(), NOW);
        let what: Vec<_> = known
            .iter()
            .map(|known| (known.entry.kind_asked(), known.entry.flags_asked()))
            .collect();
        assert_eq!(
            what,
            [
                ([1, 1], (false, false)),
                ([1, 1], (true, false)),
                ([28, 1], (false, false))
            ]
        );
        assert!(known.iter().all(|known| known.is_fresh));
        assert!(cache.known(&"www".parse().unwrap(), NOW).is_empty());
    }

    #[test]
    fn a_name_is_forgotten_alone_or_with_what_is_below_it() {
        let cache = filled();
        let name: NameBuf = "www.example".parse().unwrap();
        let failed = ask("bad.www.example", 1, (false, false));
        assert_eq!(cache.export(NOW).count(), 6);
        assert_eq!(cache.forget(&name, false), 3);
        assert!(cache.is_changed(), "the file forgets it too");
        assert!(cache.find_failure(&failed, NOW).is_some());
        assert_eq!(cache.forget(&name, true), 1);
        assert!(cache.find_failure(&failed, NOW).is_none());
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.forget(&NameBuf::root(), true), 2);
        assert_eq!((cache.forget(&name, true), cache.len()), (0, 0));
    }
}
