//! How long an endpoint that asked to be left alone is left alone (HTTP 429 and 503, RFC 6585 section 4, RFC 9110
//! section 10.2.3).
//!
//! It is no failure: the endpoint answers, and says when to come back. Whoever asks on prolongs it for all who share
//! the address. So nothing is sent there before, probes included; other providers take over. What it says is bounded:
//! a slip of a configuration over there must not cost a provider for a day.

use super::Health;
use crate::time::{SEC, Time};

/// Shortest pause: a shorter one is over before it has changed anything.
const LEAST_US: u64 = SEC;
/// Longest pause: what somebody meant for a week may be asked again within the hour.
const MOST_US: u64 = 3_600 * SEC;
/// First pause where it does not say how long.
const UNSAID_US: u64 = 5 * SEC;
/// Longest pause where it does not say: it doubles as long as it goes on.
const UNSAID_US_MAX: u64 = 60 * SEC;
/// When nothing else is usable, it is probed this often all the same.
const ALONE_US: u64 = 10 * SEC;

/// The pauses of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pauses {
    /// The current one, until its end was noticed.
    current: Option<Pause>,
    /// The last one whose length it did not say: how long, and until when.
    unsaid: Option<(u64, Time)>,
}

/// One pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    since: Time,
    /// Until when.
    pub until: Time,
    /// When it was last asked or probed all the same.
    tried: Time,
}

impl Pauses {
    /// It asks for a pause of so many seconds, or of any length.
    pub(super) fn begin(&mut self, retry_after_s: Option<u32>, now: Time) {
        let until = match retry_after_s {
            Some(seconds) => {
                let us = u64::from(seconds).saturating_mul(SEC);
                now.plus(us.clamp(LEAST_US, MOST_US))
            }
            None => self.unsaid_until(now),
        };
        // What was in flight is refused for the same reason: the longest word counts.
        self.current = Some(match self.current {
            Some(pause) => Pause {
                until: pause.until.max(until),
                tried: now,
                ..pause
            },
            None => Pause {
                since: now,
                until,
                tried: now,
            },
        });
    }

    /// Until when a pause lasts whose length it does not say.
    fn unsaid_until(&mut self, now: Time) -> Time {
        let (us, until) = match self.unsaid {
            Some((_, until)) if now < until => return until,
            Some((us, until)) if now.since(until) < us => (us.saturating_mul(2).min(UNSAID_US_MAX), until),
            Some(_) | None => (UNSAID_US, now),
        };
        let until = now.plus(us).max(until);
        self.unsaid = Some((us, until));
        until
    }

    /// It answered an attempt begun at `begun`: what it said before holds no more.
    pub(super) fn answered(&mut self, begun: Time) {
        self.current = self.current.filter(|pause| begun <= pause.since);
    }

    /// Ends the pause whose time is over.
    pub(super) fn advance(&mut self, now: Time) {
        self.current = self.current.filter(|pause| now < pause.until);
    }

    /// It is asked once all the same.
    pub(super) fn note_tried(&mut self, now: Time) {
        if let Some(pause) = &mut self.current {
            pause.tried = now;
        }
    }

    /// The pause that holds.
    #[must_use]
    pub fn current(&self) -> Option<Pause> {
        self.current
    }
}

impl Pause {
    /// When it is probed if nothing else is usable.
    pub(crate) fn due_alone(&self) -> Time {
        self.tried.plus(ALONE_US)
    }
}

impl Health {
    /// The pause it asked for, as long as it holds.
    #[must_use]
    pub fn pause(&self) -> Option<Pause> {
        self.pauses.current()
    }

    /// Until when it asked to be left alone.
    #[must_use]
    pub fn paused_until(&self) -> Option<Time> {
        self.pause().map(|pause| pause.until)
    }

    /// It is probed though it asked to be left alone.
    pub(crate) fn note_tried(&mut self, now: Time) {
        self.pauses.note_tried(now);
    }

    /// When the next probe is due; while it wants to be left alone only `alone`, when nothing else is usable.
    pub(crate) fn probe_due(&self, alone: bool) -> Option<Time> {
        match self.pause() {
            Some(pause) => alone.then(|| pause.due_alone()),
            None => self.probes.due(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until_ms(pauses: &Pauses) -> Option<u64> {
        pauses.current().map(|pause| pause.until.as_micros() / 1_000)
    }

    #[test]
    fn what_it_says_is_kept_within_bounds() {
        for (said, us) in [
            (0, SEC),
            (1, SEC),
            (30, 30 * SEC),
            (3_600, 3_600 * SEC),
            (86_400, 3_600 * SEC),
            (u32::MAX, 3_600 * SEC),
        ] {
            let mut pauses = Pauses::default();
            pauses.begin(Some(said), Time::at_ms(1_000));
            let pause = pauses.current().unwrap();
            assert_eq!(pause.until.since(pause.since), us, "{said}");
        }
    }

    #[test]
    fn the_longest_word_counts_and_an_answer_ends_it() {
        let mut pauses = Pauses::default();
        pauses.begin(Some(10), Time::at_ms(1_000));
        pauses.begin(Some(2), Time::at_ms(1_100));
        assert_eq!(until_ms(&pauses), Some(11_000));
        // An attempt begun before it is no word about it.
        pauses.answered(Time::at_ms(900));
        pauses.advance(Time::at_ms(10_999));
        assert_eq!(until_ms(&pauses), Some(11_000));
        pauses.answered(Time::at_ms(2_000));
        assert_eq!(until_ms(&pauses), None);
        pauses.begin(Some(10), Time::at_ms(20_000));
        pauses.advance(Time::at_ms(30_000));
        assert_eq!(until_ms(&pauses), None);
    }

    #[test]
    fn without_a_word_it_doubles_as_long_as_it_goes_on() {
        let mut pauses = Pauses::default();
        let mut at = 1_000;
        let mut lengths = Vec::new();
        for _ in 0..6 {
            pauses.begin(None, Time::at_ms(at));
            // Others were in flight.
            pauses.begin(None, Time::at_ms(at + 5));
            let until = until_ms(&pauses).unwrap();
            lengths.push(until - at);
            pauses.advance(Time::at_ms(until));
            at = until + 100;
        }
        assert_eq!(lengths, [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
        at += 61_000;
        pauses.begin(None, Time::at_ms(at));
        assert_eq!(until_ms(&pauses), Some(at + 5_000));
    }
}
