//! Bad rcodes by registrable domain: one broken zone is the zone's fault, many are the endpoint's.
//!
//! A SERVFAIL or REFUSED counts only when another provider answered the same question well. The domain is then
//! avoided at this endpoint for a minute; three domains within ten seconds that make up a fifth of all answers
//! raise a doubt about the endpoint itself.

use crate::time::{SEC, Time};

/// Domains remembered per endpoint; the oldest makes room. More would make routes large to copy, fewer would
/// send an eleventh query for a broken zone to the endpoint that cannot resolve it.
const REMEMBERED: usize = 64;
/// How long a failed domain is avoided.
const AVOID_US: u64 = 60 * SEC;
/// Distinct domains that raise a doubt.
const DOUBT_DOMAINS: usize = 3;
/// Seconds the share of failures is measured over.
const WINDOW_SECONDS: u64 = 10;

/// A registrable domain as a stable hash; the core never sees a name.
pub type DomainKey = u64;

/// One second of answers.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    /// Which second of [`Time`].
    index: u64,
    /// Answers of any kind.
    answers: u32,
    /// Answers that another provider proved bad.
    failures: u32,
}

/// A domain that failed here and was answered elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BadDomain {
    /// Which.
    domain: DomainKey,
    /// When it last failed.
    failed: Time,
}

/// The tally of one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Domains {
    /// Ring of the last seconds.
    seconds: [Second; 10],
    /// Domains avoided, oldest first.
    bad: Vec<BadDomain>,
    /// Failures up to here have had their doubt.
    tallied_from: Time,
}

impl Domains {
    /// The second `now` falls into, emptied if it was used ten seconds ago.
    fn second(&mut self, now: Time) -> Option<&mut Second> {
        let index = now.as_micros().checked_div(SEC).unwrap_or(0);
        let slot = usize::try_from(index.checked_rem(WINDOW_SECONDS)?).ok()?;
        let second = self.seconds.get_mut(slot)?;
        if second.index != index {
            *second = Second {
                index,
                ..Second::default()
            };
        }
        Some(second)
    }

    /// An answer of any kind to a client's query.
    pub fn answered(&mut self, now: Time) {
        if let Some(second) = self.second(now) {
            second.answers = second.answers.saturating_add(1);
        }
    }

    /// A bad rcode that another provider proved wrong; true when it raises a doubt about the endpoint.
    pub fn failed(&mut self, domain: DomainKey, now: Time) -> bool {
        if let Some(second) = self.second(now) {
            second.failures = second.failures.saturating_add(1);
        }
        self.bad
            .retain(|bad| bad.domain != domain && now.since(bad.failed) < AVOID_US);
        if self.bad.len() >= REMEMBERED {
            self.bad.remove(0);
        }
        self.bad.push(BadDomain { domain, failed: now });
        let recent = self
            .bad
            .iter()
            .filter(|bad| bad.failed > self.tallied_from && now.since(bad.failed) < WINDOW_SECONDS.saturating_mul(SEC))
            .count();
        let newest = now.as_micros().checked_div(SEC).unwrap_or(0);
        let (answers, failures) = self
            .seconds
            .iter()
            .filter(|second| newest.saturating_sub(second.index) < WINDOW_SECONDS)
            .fold((0_u32, 0_u32), |(answers, failures), second| {
                (
                    answers.saturating_add(second.answers),
                    failures.saturating_add(second.failures),
                )
            });
        recent >= DOUBT_DOMAINS && failures.saturating_mul(5) >= answers
    }

    /// Domains still avoided and until when.
    pub fn avoided(&self, now: Time) -> impl Iterator<Item = (DomainKey, Time)> {
        self.bad
            .iter()
            .map(|bad| (bad.domain, bad.failed.plus(AVOID_US)))
            .filter(move |(_, until)| *until > now)
    }

    /// Forgets the tally but not which domains to avoid: after a doubt was cleared, a new one needs new evidence.
    pub fn restart_tally(&mut self, now: Time) {
        self.seconds = Default::default();
        self.tallied_from = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_domain_is_avoided_and_raises_no_doubt() {
        let mut domains = Domains::default();
        for n in 0..20 {
            domains.answered(Time::at_ms(n));
            assert!(!domains.failed(7, Time::at_ms(n)));
        }
        assert_eq!(domains.avoided(Time::at_ms(20)).map(|d| d.0).collect::<Vec<_>>(), [7]);
        assert_eq!(domains.avoided(Time::at_ms(61_000)).count(), 0);
    }

    #[test]
    fn three_domains_and_a_fifth_of_the_answers_raise_a_doubt() {
        let mut domains = Domains::default();
        for n in 0..15 {
            domains.answered(Time::at_ms(n));
        }
        assert!(!domains.failed(1, Time::at_ms(20)));
        assert!(!domains.failed(2, Time::at_ms(21)));
        assert!(domains.failed(3, Time::at_ms(22)));
    }

    #[test]
    fn three_domains_among_many_answers_raise_no_doubt() {
        let mut domains = Domains::default();
        for n in 0..1_000 {
            domains.answered(Time::at_ms(n));
        }
        for domain in 1..=3 {
            assert!(!domains.failed(domain, Time::at_ms(1_000)));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut domains = Domains::default();
        for domain in 0..10_000 {
            domains.failed(domain, Time::at_ms(domain));
        }
        assert!(domains.bad.len() <= REMEMBERED);
    }
}
