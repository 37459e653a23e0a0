//! The share of recent attempts that stay unanswered, as a cumulative sum (E. S. Page, "Continuous inspection
//! schemes", Biometrika 41, 1954).
//!
//! Each attempt that grows older than p92 without an answer adds to the sum, each answered one takes a little away,
//! and zero is the floor. By definition one in twelve is that slow; where one in six is, the sum keeps growing. "Ten of
//! the last 32" saw a third lost late: ten is near the mean of such a window, so it could miss the loss for a second.

/// What an unanswered attempt adds.
const UNANSWERED: u32 = 5;
/// What an answered one takes away: with one unanswered in six, the sum stays where it is.
const ANSWERED: u32 = 1;
/// The sum that means loss: with a third lost after some 34 attempts, with half lost 18. In calm weather most late
/// attempts are taken back, and at 100 queries a second and endpoint it was not reached in an hour and a half (simulated).
const LOSS_AT: u32 = 35;
/// The sum that makes hedges worth the reserve: three unanswered in a row, or with a third lost some 14 attempts.
const STRAINED_AT: u32 = 15;

/// The sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LossTest {
    /// Current value.
    sum: u32,
    /// Attempts ever counted.
    counted: u64,
    /// The last attempt after which the sum was zero: what came before has no part in it.
    zero_after: u64,
}

impl LossTest {
    /// Counts an attempt; the number returned lets a late answer take an unanswered one back.
    pub fn count(&mut self, answered: bool) -> u64 {
        self.counted = self.counted.saturating_add(1);
        if answered {
            self.lower(ANSWERED);
        } else {
            self.sum = self.sum.saturating_add(UNANSWERED);
        }
        self.counted
    }

    /// A late answer to the attempt that [`Self::count`] numbered: as if it had been answered in time.
    pub fn take_back(&mut self, number: u64) {
        if number > self.zero_after {
            self.lower(UNANSWERED.saturating_add(ANSWERED));
        }
    }

    /// Takes away, down to zero.
    fn lower(&mut self, by: u32) {
        self.sum = self.sum.saturating_sub(by);
        if self.sum == 0 {
            self.zero_after = self.counted;
        }
    }

    /// Whether so many stay unanswered that it is loss.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        self.sum >= LOSS_AT
    }

    /// Whether so many stay unanswered that hedges are worth the reserve, loss or not.
    #[must_use]
    pub fn is_strained(&self) -> bool {
        self.sum >= STRAINED_AT
    }

    /// Forgets everything; answers to earlier attempts take nothing back.
    pub fn clear(&mut self) {
        self.sum = 0;
        self.zero_after = self.counted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts `attempts`, of which each `every`th stays unanswered; whether it is loss in the end.
    fn is_loss(attempts: u64, every: u64) -> bool {
        let mut test = LossTest::default();
        for n in 1..=attempts {
            test.count(!n.is_multiple_of(every));
        }
        test.is_loss()
    }

    #[test]
    fn a_third_unanswered_is_loss_within_forty_attempts_and_a_tenth_never_is() {
        assert!(is_loss(40, 3));
        assert!(!is_loss(100_000, 10));
    }

    #[test]
    fn seven_lost_in_a_row_are_loss() {
        assert!(!is_loss(6, 1));
        assert!(is_loss(7, 1));
    }

    #[test]
    fn late_answers_take_their_attempts_back() {
        let mut test = LossTest::default();
        let numbers: Vec<u64> = (0..7).map(|_| test.count(false)).collect();
        assert!(test.is_loss());
        test.take_back(numbers[6]);
        assert!(!test.is_loss() && test.is_strained());
        for number in &numbers[..6] {
            test.take_back(*number);
        }
        assert_eq!(test.sum, 0);
    }

    #[test]
    fn what_was_forgotten_takes_nothing_back() {
        let mut test = LossTest::default();
        let old = test.count(false);
        test.clear();
        for _ in 0..3 {
            test.count(false);
        }
        test.take_back(old);
        assert!(test.is_strained());
    }
}
