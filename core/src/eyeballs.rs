//! Connecting to one of several addresses: the first at once, each further one a quarter of a second after the one before,
//! or as soon as one has failed (RFC 8305 section 5). The first that stands wins; what lost is not held against anybody,
//! because only the whole is an attempt.
//!
//! The addresses of one race are of one family: a path is judged by itself. Where a provider has the other family too,
//! that is another endpoint, and is asked as soon as this one is slow ([`crate::control::Control::handle_slow`]).

use crate::time::{MS, Time};

/// From one beginning to the next. RFC 8305 section 8 recommends this: shorter, and every slow network is asked twice;
/// longer, and it shows.
pub const STAGGER_US: u64 = 250 * MS;

/// One race.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Race {
    /// How many there are to begin with.
    addresses: usize,
    /// How many were begun.
    begun: usize,
    /// How many of these failed.
    failed: usize,
    /// When the next one begins.
    next: Time,
}

impl Race {
    /// Among so many addresses, in their order; the first begins now.
    #[must_use]
    pub fn new(addresses: usize, now: Time) -> Self {
        Self {
            addresses,
            begun: 0,
            failed: 0,
            next: now,
        }
    }

    /// One that was begun has failed: the next one need not wait.
    pub fn handle_failed(&mut self, now: Time) {
        self.failed = self.failed.saturating_add(1).min(self.begun);
        self.next = self.next.min(now);
    }

    /// The address to begin with now, by its place in the list.
    pub fn poll_begin(&mut self, now: Time) -> Option<usize> {
        if self.begun >= self.addresses || now < self.next {
            return None;
        }
        let index = self.begun;
        self.begun = self.begun.saturating_add(1);
        self.next = now.plus(STAGGER_US);
        Some(index)
    }

    /// When [`Self::poll_begin`] has something to say, and why; `None`: all have begun.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        (self.begun < self.addresses).then_some((self.next, "next address"))
    }

    /// Whether all of them failed.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.failed >= self.addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(race: &mut Race, ms: u64) -> Vec<usize> {
        std::iter::from_fn(|| race.poll_begin(Time::at_ms(ms))).collect()
    }

    #[test]
    fn addresses_begin_a_quarter_of_a_second_apart() {
        let mut race = Race::new(3, Time::ZERO);
        assert_eq!(begins(&mut race, 0), [0]);
        assert_eq!(race.poll_timeout(), Some((Time::at_ms(250), "next address")));
        assert_eq!(begins(&mut race, 249), [0; 0]);
        assert_eq!(begins(&mut race, 250), [1]);
        // However late somebody looks, one at a time.
        assert_eq!(begins(&mut race, 5_000), [2]);
        assert_eq!(race.poll_timeout(), None);
        assert!(!race.is_lost());
    }

    #[test]
    fn who_fails_makes_way_for_the_next_at_once() {
        let mut race = Race::new(2, Time::ZERO);
        assert_eq!(begins(&mut race, 0), [0]);
        race.handle_failed(Time::at_ms(3));
        assert_eq!(begins(&mut race, 3), [1]);
        assert!(!race.is_lost());
        race.handle_failed(Time::at_ms(9));
        assert!(race.is_lost());
        assert!(Race::new(0, Time::ZERO).is_lost(), "nobody to ask");
    }
}
