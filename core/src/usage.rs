//! What queries have cost so far: the hedge budget, first-choice shares and rates.
//!
//! The one piece of decision state that queries themselves change. It is small and touched once or twice per
//! cache miss, so the resolver keeps it behind a lock that is never held across a wait.

use crate::time::{MS, SEC, Time};
use crate::topology::{EndpointId, ProviderId, Topology};

/// One token in the unit of the budget.
const TOKEN: u64 = 1_000;
/// What a query adds: 3 % of a token.
const PER_QUERY: u64 = 30;
/// Microseconds that add one unit: a token per 10 s.
const US_PER_UNIT: u64 = 10 * SEC / TOKEN;
/// Most tokens saved up.
const BURST: u64 = 64 * TOKEN;
/// The last tokens: only for attempts whose endpoint has answered nothing begun since, or is strained.
const RESERVE: u64 = 32 * TOKEN;

/// Pays for hedges away from healthy endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Saved units.
    units: u64,
    /// Up to when time has been credited.
    credited: Time,
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            units: BURST,
            credited: now,
        }
    }

    /// Credits the time passed.
    fn credit_time(&mut self, now: Time) {
        let units = now.since(self.credited).checked_div(US_PER_UNIT).unwrap_or(0);
        if units > 0 {
            self.credited = self.credited.plus(units.saturating_mul(US_PER_UNIT));
            self.units = self.units.saturating_add(units).min(BURST);
        }
    }

    /// A client query that was not answered locally.
    pub fn credit_query(&mut self) {
        self.units = self.units.saturating_add(PER_QUERY).min(BURST);
    }

    /// Takes a token for a hedge; `urgent` says that the endpoint has answered nothing begun since, or leaves too much
    /// unanswered: that opens the reserve.
    pub fn take(&mut self, urgent: bool, now: Time) -> bool {
        self.credit_time(now);
        let floor = if urgent { 0 } else { RESERVE };
        if self.units >= floor.saturating_add(TOKEN) {
            self.units = self.units.saturating_sub(TOKEN);
            true
        } else {
            false
        }
    }

    /// Whole tokens left.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.units.checked_div(TOKEN).unwrap_or(0)
    }
}

/// Slices of the share window.
const SLICES: usize = 12;
/// Length of a slice: 60 s in all.
const SLICE_US: u64 = 5 * SEC;

/// First choices of the last 60 s, per provider.
#[derive(Debug, Clone)]
struct Shares {
    /// Counts per provider and slice.
    counts: Vec<[u32; SLICES]>,
    /// The slice number being filled.
    slice: u64,
}

impl Shares {
    /// Moves the window to `now`.
    fn advance(&mut self, now: Time) {
        let slice = now.as_micros().checked_div(SLICE_US).unwrap_or(0);
        let passed = slice.saturating_sub(self.slice);
        for step in 0..passed.min(12) {
            let number = self.slice.saturating_add(step).saturating_add(1);
            for counts in &mut self.counts {
                if let Some(count) = counts.get_mut(position(number)) {
                    *count = 0;
                }
            }
        }
        self.slice = self.slice.max(slice);
    }

    /// First choices of one provider in the window.
    fn of(&self, provider: ProviderId) -> u64 {
        self.counts
            .get(usize::from(provider.0))
            .map_or(0, |counts| counts.iter().map(|count| u64::from(*count)).sum())
    }
}

/// Where a slice is kept.
fn position(slice: u64) -> usize {
    usize::try_from(slice.checked_rem(12).unwrap_or(0)).unwrap_or(0)
}

/// A token bucket in microseconds of credit.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Microseconds one query costs.
    cost_us: u64,
    /// Saved microseconds.
    saved_us: u64,
    /// Up to when time has been credited.
    credited: Time,
}

impl Rate {
    /// Queries may come in bursts of a tenth of a second.
    fn new(per_second: u32, now: Time) -> Self {
        let cost_us = SEC.checked_div(u64::from(per_second)).unwrap_or(SEC).max(1);
        Self {
            cost_us,
            saved_us: (100 * MS).max(cost_us),
            credited: now,
        }
    }

    /// Whether a query fits now.
    fn fits(&mut self, now: Time) -> bool {
        let most = (100 * MS).max(self.cost_us);
        self.saved_us = self.saved_us.saturating_add(now.since(self.credited)).min(most);
        self.credited = self.credited.max(now);
        self.saved_us >= self.cost_us
    }
}

/// A cap that did not change goes on with what is saved of it.
fn keep_rate(new: Option<&mut Option<Rate>>, old: Option<&Option<Rate>>) {
    if let (Some(Some(new)), Some(Some(old))) = (new, old)
        && new.cost_us == old.cost_us
    {
        *new = *old;
    }
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Hedge budget.
    pub budget: Budget,
    /// First choices.
    shares: Shares,
    /// Caps per provider.
    provider_rates: Vec<Option<Rate>>,
    /// Caps per endpoint.
    endpoint_rates: Vec<Option<Rate>>,
    /// When a cap was last ignored.
    cap_ignored: Option<Time>,
}

impl Usage {
    /// Nothing used yet.
    #[must_use]
    pub fn new(topology: &Topology, now: Time) -> Self {
        Self {
            budget: Budget::new(now),
            shares: Shares {
                counts: vec![[0; SLICES]; topology.providers.len()],
                slice: now.as_micros().checked_div(SLICE_US).unwrap_or(0),
            },
            provider_rates: topology
                .providers
                .iter()
                .map(|p| p.max_qps.map(|qps| Rate::new(qps, now)))
                .collect(),
            endpoint_rates: topology
                .endpoints
                .iter()
                .map(|e| e.max_qps.map(|qps| Rate::new(qps, now)))
                .collect(),
            cap_ignored: None,
        }
    }

    /// A share or rate cap was ignored, because nobody else was left.
    pub fn note_cap_ignored(&mut self, now: Time) {
        self.cap_ignored = Some(now);
    }

    /// When a cap was last ignored, if one ever was.
    #[must_use]
    pub fn cap_ignored(&self) -> Option<Time> {
        self.cap_ignored
    }

    /// What has been used under `older` goes on under `newer`: the budget whole, shares by the names of providers, rates
    /// where provider or endpoint and their cap are the same.
    #[must_use]
    pub fn carried_over(&self, older: &Topology, newer: &Topology, now: Time) -> Self {
        let mut new = Self::new(newer, now);
        new.budget = self.budget;
        new.cap_ignored = self.cap_ignored;
        new.shares.slice = self.shares.slice;
        for (id, provider) in newer.providers.iter().enumerate() {
            let Some(old_id) = older.providers.iter().position(|old| old.name == provider.name) else {
                continue;
            };
            if let (Some(counts), Some(old)) = (new.shares.counts.get_mut(id), self.shares.counts.get(old_id)) {
                *counts = *old;
            }
            keep_rate(new.provider_rates.get_mut(id), self.provider_rates.get(old_id));
        }
        for (id, old_id) in newer.endpoints_known_from(older).into_iter().enumerate() {
            let old = old_id.and_then(|old_id| self.endpoint_rates.get(usize::from(old_id.0)));
            keep_rate(new.endpoint_rates.get_mut(id), old);
        }
        new
    }

    /// A query chose this provider first.
    pub fn count_first_choice(&mut self, provider: ProviderId, now: Time) {
        self.budget.credit_query();
        self.shares.advance(now);
        let slot = position(self.shares.slice);
        if let Some(count) = self
            .shares
            .counts
            .get_mut(usize::from(provider.0))
            .and_then(|counts| counts.get_mut(slot))
        {
            *count = count.saturating_add(1);
        }
    }

    /// Share of first choices of the last 60 s, permille.
    #[must_use]
    pub fn share_permille(&mut self, provider: ProviderId, now: Time) -> u32 {
        self.shares.advance(now);
        let total: u64 = (0..u16::try_from(self.shares.counts.len()).unwrap_or(u16::MAX))
            .map(|id| self.shares.of(ProviderId(id)))
            .sum();
        let permille = self
            .shares
            .of(provider)
            .saturating_mul(1_000)
            .checked_div(total)
            .unwrap_or(0);
        u32::try_from(permille).unwrap_or(1_000)
    }

    /// Whether one more first choice would take the provider over its share of those of its group, whose `members`
    /// these are.
    pub fn is_over_share(
        &mut self,
        provider: ProviderId,
        max_permille: u16,
        members: &mut dyn Iterator<Item = ProviderId>,
        now: Time,
    ) -> bool {
        self.shares.advance(now);
        let own = self.shares.of(provider).saturating_add(1);
        let total: u64 = members.map(|id| self.shares.of(id)).sum();
        // Below twenty choices a share is noise, and a cap of 25 % would bar the very first query.
        total >= 20 && own.saturating_mul(1_000) > total.saturating_add(1).saturating_mul(u64::from(max_permille))
    }

    /// Whether both caps, of the provider and of the endpoint, have room for one query.
    pub fn fits(&mut self, provider: ProviderId, endpoint: EndpointId, now: Time) -> bool {
        let provider = self
            .provider_rates
            .get_mut(usize::from(provider.0))
            .and_then(Option::as_mut)
            .is_none_or(|rate| rate.fits(now));
        let endpoint = self
            .endpoint_rates
            .get_mut(usize::from(endpoint.0))
            .and_then(Option::as_mut)
            .is_none_or(|rate| rate.fits(now));
        provider && endpoint
    }

    /// A query is sent.
    pub fn count_sent(&mut self, provider: ProviderId, endpoint: EndpointId) {
        let rates = [
            self.provider_rates.get_mut(usize::from(provider.0)),
            self.endpoint_rates.get_mut(usize::from(endpoint.0)),
        ];
        for rate in rates.into_iter().flatten().flatten() {
            rate.saved_us = rate.saved_us.saturating_sub(rate.cost_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_slow_names_never_spend_the_reserve() {
        let mut budget = Budget::new(Time::ZERO);
        let taken = (0..100).filter(|_| budget.take(false, Time::ZERO)).count();
        assert_eq!(taken, 32);
        let silent = (0..100).filter(|_| budget.take(true, Time::ZERO)).count();
        assert_eq!(silent, 32);
    }

    #[test]
    fn queries_and_time_refill_the_budget() {
        let mut budget = Budget::new(Time::ZERO);
        while budget.take(true, Time::ZERO) {}
        for _ in 0..100 {
            budget.credit_query();
        }
        assert_eq!(budget.tokens(), 3);
        assert!(budget.take(true, Time::at_ms(10_000)));
        assert_eq!(budget.tokens(), 3);
    }

    fn usage_of(max_qps: Option<u32>) -> Usage {
        let mut topology = crate::testing::providers(2);
        topology.providers[0].max_qps = max_qps;
        Usage::new(&topology, Time::ZERO)
    }

    #[test]
    fn shares_cover_the_last_minute() {
        let mut usage = usage_of(None);
        for _ in 0..30 {
            usage.count_first_choice(ProviderId(0), Time::at_ms(0));
        }
        for _ in 0..10 {
            usage.count_first_choice(ProviderId(1), Time::at_ms(30_000));
        }
        assert_eq!(usage.share_permille(ProviderId(0), Time::at_ms(30_000)), 750);
        let members = || [0, 1].map(ProviderId).into_iter();
        assert!(usage.is_over_share(ProviderId(0), 500, &mut members(), Time::at_ms(30_000)));
        // Of the questions of another group it may have all.
        let mut alone = [ProviderId(1)].into_iter();
        assert!(!usage.is_over_share(ProviderId(0), 1_000, &mut alone.clone(), Time::at_ms(30_000)));
        assert!(!usage.is_over_share(ProviderId(1), 500, &mut alone, Time::at_ms(30_000)));
        assert_eq!(usage.share_permille(ProviderId(0), Time::at_ms(62_000)), 0);
    }

    #[test]
    fn usage_goes_on_under_another_topology() {
        let older = crate::testing::providers(3);
        let mut usage = Usage::new(&older, Time::ZERO);
        for _ in 0..40 {
            usage.count_first_choice(ProviderId(2), Time::at_ms(10));
        }
        for _ in 0..10 {
            usage.count_first_choice(ProviderId(1), Time::at_ms(10));
        }
        while usage.budget.take(true, Time::at_ms(10)) {}
        // The first one leaves, one is new, and what was the third comes first.
        let mut newer = crate::testing::providers(3);
        newer.providers.swap(0, 2);
        newer.providers[2].name = "another".to_owned();
        let mut new = usage.carried_over(&older, &newer, Time::at_ms(20));
        let share = |new: &mut Usage, id| new.share_permille(ProviderId(id), Time::at_ms(20));
        assert_eq!(
            [share(&mut new, 0), share(&mut new, 1), share(&mut new, 2)],
            [800, 200, 0]
        );
        assert_eq!(new.budget.tokens(), 0);
    }

    #[test]
    fn a_cap_that_stays_keeps_what_is_saved_and_a_new_one_begins_anew() {
        let mut older = crate::testing::providers(2);
        older.providers[0].max_qps = Some(100);
        let mut usage = Usage::new(&older, Time::ZERO);
        while usage.fits(ProviderId(0), EndpointId(0), Time::ZERO) {
            usage.count_sent(ProviderId(0), EndpointId(0));
        }
        let mut same = usage.carried_over(&older, &older, Time::ZERO);
        assert!(!same.fits(ProviderId(0), EndpointId(0), Time::ZERO));
        let mut newer = older.clone();
        newer.providers[0].max_qps = Some(200);
        let mut new = usage.carried_over(&older, &newer, Time::ZERO);
        assert!(new.fits(ProviderId(0), EndpointId(0), Time::ZERO));
    }

    #[test]
    fn a_rate_cap_lets_through_its_rate() {
        let mut usage = usage_of(Some(100));
        let mut sent = 0;
        for ms in 0..1_000 {
            if usage.fits(ProviderId(0), EndpointId(0), Time::at_ms(ms)) {
                usage.count_sent(ProviderId(0), EndpointId(0));
                sent += 1;
            }
        }
        assert!((100..=110).contains(&sent), "{sent}");
    }
}
