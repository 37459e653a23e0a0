//! How much one peer may want of this node: a token bucket.

use crate::time::{SEC, Time};

/// A rate with a burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Tokens a second; not 0.
    pub(super) per_second: u64,
    /// Most tokens saved up.
    pub(super) burst: u64,
}

/// Tokens left of a rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// At which rate it fills.
    rate: Rate,
    /// Whole tokens.
    tokens: u64,
    /// Up to when time has been credited.
    credited: Time,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate, now: Time) -> Self {
        Self {
            rate,
            tokens: rate.burst,
            credited: now,
        }
    }

    /// Takes a token if there is one.
    pub(super) fn take(&mut self, now: Time) -> bool {
        let us_per_token = SEC.checked_div(self.rate.per_second).unwrap_or(SEC).max(1);
        let tokens = now.since(self.credited).checked_div(us_per_token).unwrap_or(0);
        self.credited = self.credited.plus(tokens.saturating_mul(us_per_token));
        self.tokens = self.tokens.saturating_add(tokens).min(self.rate.burst);
        if self.tokens == 0 {
            return false;
        }
        self.tokens = self.tokens.saturating_sub(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate() {
        let rate = Rate {
            per_second: 2,
            burst: 3,
        };
        let start = Time::at_ms(1_000);
        let mut bucket = Bucket::new(rate, start);
        let taken = |bucket: &mut Bucket, now| (0..10).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        assert_eq!(taken(&mut bucket, start.plus(SEC)), 2);
        assert_eq!(taken(&mut bucket, start.plus(3_600 * SEC)), 3);
    }
}
