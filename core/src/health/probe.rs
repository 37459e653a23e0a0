//! When an endpoint is probed by this node itself.
//!
//! Two probes at 0 and 240 ms settle a doubt fast, with a third at 390 ms where the first tells nothing new. What stays
//! doubtful or down is asked again after 1 s, doubling to 4 s, after ten minutes doubling to a minute; jitter only
//! shortens, so that nodes spread without anybody coming late. Loss is measured by sixteen probes over two seconds.
//! Whether clients asked, and so whether a due probe may be sent, is the caller's to say.

use crate::time::{MS, SEC, Time};

/// Second probe of a doubt. With 250 ms until the doubt and 500 ms for the probe the verdict comes 990 ms after the first
/// lost query: the promise is a second, and the machine needs some of it.
const SECOND_PROBE_US: u64 = 240 * MS;
/// A doubt raised within 100 ms of the first failure's begin: its first probe is one failure with it, so a third
/// probe follows this long after the second. Without it a busy endpoint would go down a second later than a quiet one.
const THIRD_PROBE_US: u64 = 150 * MS;
/// First interval of re-probes.
const INTERVAL_MIN_US: u64 = SEC;
/// Longest interval in the first ten minutes: recovery is noticed within 4 s.
const INTERVAL_MAX_US: u64 = 4 * SEC;
/// After this long the interval may grow further.
const LONG_AFTER_US: u64 = 600 * SEC;
/// Longest interval at all.
const INTERVAL_LONG_US: u64 = 60 * SEC;
/// Interval while nothing at all is up.
pub const NOTHING_UP_INTERVAL_US: u64 = 500 * MS;
/// Distance of the two probes that confirm a recovery.
pub const RECOVERY_GAP_US: u64 = 100 * MS;
/// Distance of the probes that measure loss.
const LOSS_GAP_US: u64 = 125 * MS;
/// How long loss is measured before the endpoint is out.
pub const LOSS_WATCH_US: u64 = 2 * SEC;
/// An endpoint without a route is tried again this often: connecting costs no packet.
const NO_ROUTE_INTERVAL_US: u64 = 5 * SEC;

/// What the schedule is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Healthy: no probes.
    #[default]
    Idle,
    /// The probes of a doubt: the next one.
    Doubt(DoubtProbe),
    /// Loss is being measured until then.
    Loss(Time),
    /// Re-probes with the current interval.
    Repeat(u64),
    /// Two more probes confirm a recovery.
    Recovery,
    /// Waiting for a route.
    NoRoute,
}

/// Which probe of a doubt is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DoubtProbe {
    /// The first of two.
    FirstOfTwo,
    /// The first of three.
    FirstOfThree,
    /// The second of three.
    SecondOfThree,
    /// The last one.
    Last,
}

/// The probe schedule of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schedule {
    /// What is being done.
    phase: Phase,
    /// When the next probe is due.
    next: Option<Time>,
    /// When the trouble began.
    since: Time,
}

impl Schedule {
    /// No more probes.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// A doubt was raised: probe now and in 240 ms.
    pub fn doubted(&mut self, now: Time) {
        *self = Self {
            phase: Phase::Doubt(DoubtProbe::FirstOfTwo),
            next: Some(now),
            since: now,
        };
    }

    /// A doubt was raised so early that its first probe is no failure of its own: probe once more, in 390 ms.
    pub fn doubted_early(&mut self, now: Time) {
        self.doubted(now);
        self.phase = Phase::Doubt(DoubtProbe::FirstOfThree);
    }

    /// Loss was seen: measure it.
    pub fn lossy(&mut self, now: Time) {
        *self = Self {
            phase: Phase::Loss(now.plus(LOSS_WATCH_US)),
            next: Some(now),
            since: now,
        };
    }

    /// The endpoint is out of use: probe it again at growing intervals.
    pub fn repeat(&mut self, now: Time) {
        self.phase = Phase::Repeat(INTERVAL_MIN_US);
        self.next = Some(now.plus(INTERVAL_MIN_US));
    }

    /// It answered for the first time since: confirm soon.
    pub fn recovering(&mut self, now: Time) {
        self.phase = Phase::Recovery;
        self.next = Some(now.plus(RECOVERY_GAP_US));
    }

    /// Its address family has no route here.
    pub fn no_route(&mut self, now: Time) {
        *self = Self {
            phase: Phase::NoRoute,
            next: Some(now.plus(NO_ROUTE_INTERVAL_US)),
            since: now,
        };
    }

    /// At once, whatever was planned: a reason to hope appeared.
    pub fn hurry(&mut self, now: Time) {
        if self.phase != Phase::Idle {
            self.next = Some(self.next.map_or(now, |at| at.min(now)));
        }
    }

    /// When the next probe is due.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        self.next
    }

    /// Brings the next probe forward to at most `interval_us` after `now`.
    pub fn limit_interval(&mut self, now: Time, interval_us: u64) {
        if matches!(self.phase, Phase::Repeat(_) | Phase::NoRoute) {
            let latest = now.plus(interval_us);
            self.next = Some(self.next.map_or(latest, |at| at.min(latest)));
        }
    }

    /// A probe is sent now; plans the next one. `jitter_permille` (0 to 250) shortens the interval.
    pub fn sent(&mut self, now: Time, jitter_permille: u64) {
        let (phase, wait) = match self.phase {
            Phase::Idle => (Phase::Idle, None),
            Phase::Doubt(DoubtProbe::FirstOfThree) => (Phase::Doubt(DoubtProbe::SecondOfThree), Some(SECOND_PROBE_US)),
            Phase::Doubt(DoubtProbe::SecondOfThree) => (Phase::Doubt(DoubtProbe::Last), Some(THIRD_PROBE_US)),
            Phase::Doubt(DoubtProbe::FirstOfTwo) => (Phase::Doubt(DoubtProbe::Last), Some(SECOND_PROBE_US)),
            Phase::Doubt(DoubtProbe::Last) | Phase::Recovery => (
                Phase::Repeat(INTERVAL_MIN_US),
                Some(if self.phase == Phase::Recovery {
                    RECOVERY_GAP_US
                } else {
                    INTERVAL_MIN_US
                }),
            ),
            Phase::Loss(until) if now.plus(LOSS_GAP_US) < until => (self.phase, Some(LOSS_GAP_US)),
            Phase::Loss(_) => (Phase::Repeat(INTERVAL_MIN_US), Some(INTERVAL_MIN_US)),
            Phase::Repeat(interval) => {
                let longest = if now.since(self.since) > LONG_AFTER_US {
                    INTERVAL_LONG_US
                } else {
                    INTERVAL_MAX_US
                };
                let shorter = interval
                    .saturating_mul(jitter_permille.min(250))
                    .checked_div(1_000)
                    .unwrap_or(0);
                (
                    Phase::Repeat(interval.saturating_mul(2).min(longest)),
                    Some(interval.saturating_sub(shorter)),
                )
            }
            Phase::NoRoute => (Phase::NoRoute, Some(NO_ROUTE_INTERVAL_US)),
        };
        self.phase = phase;
        self.next = wait.map(|us| now.plus(us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instants(mut schedule: Schedule, count: usize) -> Vec<u64> {
        let mut at = Vec::new();
        while let (Some(due), true) = (schedule.due(), at.len() < count) {
            at.push(due.as_micros() / MS);
            schedule.sent(due, 0);
        }
        at
    }

    #[test]
    fn a_doubt_is_probed_at_0_and_240_ms_and_then_at_growing_intervals() {
        let mut schedule = Schedule::default();
        schedule.doubted(Time::ZERO);
        assert_eq!(instants(schedule, 7), [0, 240, 1_240, 2_240, 4_240, 8_240, 12_240]);
    }

    #[test]
    fn an_early_doubt_is_probed_a_third_time_at_390_ms() {
        let mut schedule = Schedule::default();
        schedule.doubted_early(Time::ZERO);
        assert_eq!(instants(schedule, 5), [0, 240, 390, 1_390, 2_390]);
    }

    #[test]
    fn loss_is_measured_by_sixteen_probes() {
        let mut schedule = Schedule::default();
        schedule.lossy(Time::ZERO);
        let at = instants(schedule, 20);
        assert_eq!(at.iter().filter(|ms| **ms < 2_000).count(), 16);
    }

    #[test]
    fn after_ten_minutes_the_interval_grows_to_a_minute() {
        let mut schedule = Schedule::default();
        schedule.doubted(Time::ZERO);
        let at = instants(schedule, 200);
        let gap = at[199] - at[198];
        assert_eq!(gap, 60_000);
    }

    #[test]
    fn jitter_only_shortens() {
        let mut plain = Schedule::default();
        plain.repeat(Time::ZERO);
        let mut jittered = plain;
        plain.sent(Time::at_ms(1_000), 0);
        jittered.sent(Time::at_ms(1_000), 250);
        assert!(jittered.due() < plain.due());
    }
}
