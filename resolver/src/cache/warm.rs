//! Answers that outlive the process: out of the cache into a file, and back.
//!
//! What comes back is a stranger's bytes until the acceptance walk of [`crate::wire`] has been through it, as through
//! any provider's answer: a file can be damaged in ways a checksum does not see, and its writer may be an older
//! version. It never takes the place of what this process knows. The age an answer had goes with it, and one whose age
//! is a guess is stale at best (RFC 8767 sections 4 and 5: never longer than the stale time after its expiry).

use std::sync::atomic::Ordering;

use detour_core::Time;
use parking_lot::Mutex;

use super::{Cache, Entry, age_ms};
use crate::ask::{Ask, GroupKey};
use crate::forwarder::Shared;
use crate::wire::{Answer, Expected, accept, question_of};

/// An answer on its way into a file.
#[derive(Debug)]
pub struct Exported {
    entry: Entry,
    /// Microseconds since a provider gave it.
    pub age_us: u64,
}

impl Exported {
    /// The packet: see [`Answer::wire`](crate::wire::Answer::wire).
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        self.entry.answer.wire()
    }

    /// Whether it was asked with DO.
    #[must_use]
    pub fn do_bit(&self) -> bool {
        self.entry.stamp.flags.0
    }

    /// Whether it was asked with CD.
    #[must_use]
    pub fn cd(&self) -> bool {
        self.entry.stamp.flags.1
    }

    /// Who gave it.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        self.entry.stamp.group
    }
}

/// An answer on its way back from a file: what [`Exported`] was, and the time that passed.
#[derive(Debug, Clone, Copy)]
pub struct Import<'a> {
    /// Bytes that nobody has looked at.
    pub wire: &'a [u8],
    /// Whether it was asked with DO.
    pub do_bit: bool,
    /// Whether it was asked with CD.
    pub cd: bool,
    /// Who gave it.
    pub group: GroupKey,
    /// Microseconds since a provider gave it.
    pub age_us: u64,
    /// Whether that is certain. If not, it is not fresh, however young it seems: only what a provider does not refresh
    /// in time is served from it.
    pub is_certain: bool,
}

/// What became of an [`Import`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is in the cache.
    Taken,
    /// Something is known already.
    Known,
    /// Older than what may be served stale.
    Expired,
    /// An answer that may not be kept.
    Unkeepable,
    /// An answer of a group that there is not any more: of another network, most likely.
    Stranger,
    /// Bytes that are no answer.
    Rejected,
}

impl Import<'_> {
    /// The answer and what it answers, if the bytes are one.
    fn read(&self, seed: u64) -> Option<(Ask, Answer)> {
        let (question, name, [qtype, qclass]) = question_of(self.wire)?;
        let expected = Expected {
            id: 0,
            question,
            // Owners have the letters that they are to have; this would take the provider's for a random case of ours.
            check_case: false,
            // What this says of the path was settled when the answer came.
            encrypted: true,
        };
        let accepted = accept(self.wire, &expected).ok()?;
        let ask = Ask::new(&name, qtype, qclass, (self.do_bit, self.cd), self.group, seed);
        Some((ask, accepted.answer))
    }
}

impl Shared {
    /// Takes an answer back into the cache.
    pub fn import(&self, import: &Import<'_>) -> Imported {
        let generation = self.generation();
        let Some((ask, answer)) = import.read(generation.key_seed) else {
            return Imported::Rejected;
        };
        if generation.group(import.group).is_none() {
            return Imported::Stranger;
        }
        let now = self.clock.now();
        let mut entry = Entry::aged(answer, &ask, import.age_us, now);
        if !import.is_certain {
            entry.stamp.came_at_age_ms = entry.stamp.came_at_age_ms.max(age_ms(entry.ttl_us()));
        }
        self.cache.take_back(&ask, &entry, now)
    }
}

impl Cache {
    /// Takes back what an earlier process knew, unless something is known already.
    fn take_back(&self, ask: &Ask, entry: &Entry, now: Time) -> Imported {
        if entry.answer.ttl_s().is_none_or(|ttl| ttl == 0) {
            return Imported::Unkeepable;
        }
        if self.is_fresh(&entry.stamp, entry.answer.ttl_s(), now).is_none() {
            return Imported::Expired;
        }
        let Some(mut log) = self.log(ask.key).map(Mutex::lock) else {
            return Imported::Known;
        };
        if log.contains(ask.key) {
            return Imported::Known;
        }
        log.insert(ask.key, &entry.stamp, (&entry.answer).into());
        Imported::Taken
    }

    /// Notes that there is something that was not exported.
    pub(super) fn note_change(&self) {
        if !self.is_changed.swap(true, Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }

    /// Waits until an answer was kept that the last [`Cache::export`] did not have. For one waiter; cancel safe.
    pub async fn changed(&self) {
        while !self.is_changed.load(Ordering::Relaxed) {
            self.changed.notified().await;
        }
    }

    /// Whether [`Self::changed`] would end at once.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.is_changed.load(Ordering::Relaxed)
    }

    /// What is fresh or stale at `now`, each as it is to be kept; holds no lock from one to the next.
    pub fn export(&self, now: Time) -> impl Iterator<Item = Exported> + '_ {
        self.is_changed.store(false, Ordering::Relaxed);
        let kept = self.copies();
        kept.filter_map(move |(_, entry)| {
            self.is_fresh(&entry.stamp, entry.answer.ttl_s(), now)?;
            Some(Exported {
                age_us: entry.age_us(now),
                entry,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use detour_core::time::SEC;

    use super::super::Found;
    use super::*;
    use crate::testing::shared_with_stale;
    use crate::wire::NameBuf;

    const NAME: &[u8] = b"\x03www\x07example\x03org\x00";
    const HOUR_US: u64 = 3_600 * SEC;

    /// An answer to `www.example.org A` as it lies in a file: id 0, one address, this TTL.
    fn packet(ttl_s: u32) -> Vec<u8> {
        let mut packet = vec![0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        packet.extend_from_slice(b"\x03wWw\x07example\x03org\x00\x00\x01\x00\x01");
        packet.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01");
        packet.extend_from_slice(&ttl_s.to_be_bytes());
        packet.extend_from_slice(&[0, 4, 192, 0, 2, 1]);
        packet
    }

    fn import(wire: &[u8], age_us: u64, is_certain: bool) -> Import<'_> {
        Import {
            wire,
            do_bit: true,
            cd: false,
            group: GroupKey::PUBLIC,
            age_us,
            is_certain,
        }
    }

    /// Seconds it has been there, and whether it is fresh.
    fn find(shared: &Shared, flags: (bool, bool)) -> Option<(u32, bool)> {
        let name = NameBuf::from_wire(NAME)?;
        let ask = Ask::new(&name, 1, 1, flags, GroupKey::PUBLIC, shared.generation().key_seed);
        let now = shared.clock.now();
        match shared.cache.find_ask(&ask, now) {
            Found::Fresh(entry) => Some((entry.age_s(now), true)),
            Found::Stale(entry) => Some((entry.age_s(now), false)),
            Found::Nothing => None,
        }
    }

    #[test]
    fn an_answer_comes_back_with_its_age_and_its_flags() {
        let (shared, _control) = shared_with_stale(8, HOUR_US);
        let packet = packet(300);
        assert_eq!(shared.import(&import(&packet, 100 * SEC, true)), Imported::Taken);
        assert_eq!(find(&shared, (true, false)), Some((100, true)));
        assert_eq!(find(&shared, (false, false)), None);
        let exported: Vec<_> = shared.cache.export(shared.clock.now()).collect();
        assert_eq!(exported.len(), 1);
        let again = &exported[0];
        assert_eq!((again.wire(), again.age_us), (packet.as_slice(), 100 * SEC));
        assert_eq!((again.do_bit(), again.cd()), (true, false));
    }

    #[test]
    fn an_answer_of_a_group_that_is_gone_is_nobodys() {
        let (shared, _control) = shared_with_stale(8, HOUR_US);
        let packet = packet(300);
        let private = Import {
            group: GroupKey::of("office"),
            ..import(&packet, 0, true)
        };
        assert_eq!(shared.import(&private), Imported::Stranger);
        assert_eq!(find(&shared, (true, false)), None);
    }

    #[test]
    fn owners_keep_their_letters() {
        let (shared, _control) = shared_with_stale(8, HOUR_US);
        let mut packet = packet(300);
        let owner_at = packet.len() - 16;
        packet.splice(owner_at..owner_at + 2, *b"\x03wWw\x07example\x03org\x00");
        assert_eq!(shared.import(&import(&packet, 0, true)), Imported::Taken);
        let exported: Vec<_> = shared.cache.export(shared.clock.now()).collect();
        assert_eq!(exported[0].wire(), packet);
    }

    #[test]
    fn ages_older_than_the_boot_count() {
        // The clock of these tests says that the machine started a second ago.
        let (shared, _control) = shared_with_stale(8, HOUR_US);
        assert_eq!(shared.import(&import(&packet(300), 400 * SEC, true)), Imported::Taken);
        assert_eq!(find(&shared, (true, false)), Some((400, false)));
        // An hour past its expiry it is worth nothing.
        let (shared, _control) = shared_with_stale(8, HOUR_US);
        let too_old = HOUR_US + 300 * SEC;
        assert_eq!(shared.import(&import(&packet(300), too_old, true)), Imported::Expired);
        let endless = import(&packet(300), u64::MAX, true).age_us;
        assert_eq!(shared.import(&import(&packet(300), endless, true)), Imported::Expired);
    }

    #[test]
    fn an_age_that_is_a_guess_is_stale_at_best() {
        let (shared, _control) = shared_with_stale(8, HOUR_US);
        assert_eq!(shared.import(&import(&packet(300), 10 * SEC, false)), Imported::Taken);
        assert_eq!(find(&shared, (true, false)), Some((300, false)));
        // Where nothing stale is served, there is nothing to take back.
        let (shared, _control) = shared_with_stale(8, 0);
        assert_eq!(shared.import(&import(&packet(300), 10 * SEC, false)), Imported::Expired);
    }

    #[test]
    fn what_is_known_stays() {
        let (shared, _control) = shared_with_stale(8, HOUR_US);
        assert_eq!(shared.import(&import(&packet(300), 10 * SEC, true)), Imported::Taken);
        assert_eq!(shared.import(&import(&packet(300), 0, true)), Imported::Known);
        assert_eq!(find(&shared, (true, false)), Some((10, true)));
    }

    #[test]
    fn no_byte_is_believed_unseen() {
        let (shared, _control) = shared_with_stale(8, HOUR_US);
        let whole = packet(300);
        for length in 0..whole.len() {
            let verdict = shared.import(&import(&whole[..length], 0, true));
            assert_eq!(verdict, Imported::Rejected, "{length}");
        }
        // A failure, and an answer that lives no time.
        let mut failure = whole.clone();
        failure[3] = 2;
        assert_eq!(shared.import(&import(&failure, 0, true)), Imported::Unkeepable);
        assert_eq!(shared.import(&import(&packet(0), 0, true)), Imported::Unkeepable);
        // Whatever bit is wrong, nothing breaks.
        for bit in 0..whole.len() * 8 {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            shared.import(&import(&broken, 0, true));
        }
        assert_eq!(find(&shared, (true, false)).map(|(age, _)| age), Some(0));
    }

    #[tokio::test]
    async fn a_change_wakes_who_waits_until_it_is_exported() {
        let (shared, _control) = shared_with_stale(8, HOUR_US);
        // What came from a file is in that file.
        shared.import(&import(&packet(300), 0, true));
        assert!(!shared.cache.is_changed());
        shared.cache.note_change();
        shared.cache.note_change();
        shared.cache.changed().await;
        assert_eq!(shared.cache.export(shared.clock.now()).count(), 1);
        assert!(!shared.cache.is_changed());
    }
}
