//! That this machine's clock is wrong, in words, with what it says and what others say; and how far it is behind this
//! version's own date.

use std::sync::LazyLock;

use detour_core::control::{ClockError, ClockWitness, ClockWrong};

use crate::clock::{Date, wall_s};
use crate::config;

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// The day before the data of this version were written, which is the same day or the one before everywhere on earth;
/// seconds since 1970.
static RELEASE_S: LazyLock<u64> = LazyLock::new(|| {
    let days = config::data_date().and_then(|date| Date::parse(date)?.days());
    days.map_or(0, |days| days.saturating_sub(1).saturating_mul(DAY_S))
});

/// How long before this version was made the clock says it is, seconds; 0 if it does not.
pub(crate) fn before_release_s() -> u64 {
    RELEASE_S.saturating_sub(wall_s())
}

/// What is wrong with the clock, which says that it is `wall_s` seconds after 1970.
pub(crate) fn text(wrong: &ClockWrong, wall_s: u64) -> String {
    let truth_s = match wrong.error {
        ClockError::Ahead { seconds } => wall_s.saturating_sub(seconds),
        ClockError::Behind { seconds } => wall_s.saturating_add(seconds),
    };
    let is_same_day = wall_s / DAY_S == truth_s / DAY_S;
    let [says, truth] = [wall_s, truth_s].map(|at_s| {
        let date = Date::of_day(at_s / DAY_S);
        let (hour, minute) = (at_s / 3_600 % 24, at_s / 60 % 60);
        if is_same_day {
            format!("{date} {hour:02}:{minute:02} UTC")
        } else {
            date.to_string()
        }
    });
    let evidence = match (wrong.witness, wrong.error) {
        (ClockWitness::Release, _) => format!("this version of Detour was made after {truth}"),
        (ClockWitness::Certificates { operators }, ClockError::Ahead { .. }) => {
            format!("the certificates of {operators} operators ended by {truth}")
        }
        (ClockWitness::Certificates { operators }, ClockError::Behind { .. }) => {
            format!("the certificates of {operators} operators do not begin before {truth}")
        }
    };
    format!("this machine's clock is wrong: it says {says}, but {evidence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dates_are_told() {
        let at_s = 22_400 * DAY_S;
        let by = |error, witness| text(&ClockWrong { error, witness }, at_s);
        let certificates = ClockWitness::Certificates { operators: 3 };
        assert_eq!(
            by(ClockError::Ahead { seconds: 400 * DAY_S }, certificates),
            "this machine's clock is wrong: it says 2031-05-01, but the certificates of 3 operators ended by 2030-03-27"
        );
        assert_eq!(
            by(ClockError::Behind { seconds: 3_700 }, certificates),
            "this machine's clock is wrong: it says 2031-05-01 00:00 UTC, but the certificates of 3 operators do not begin \
             before 2031-05-01 01:01 UTC"
        );
        assert_eq!(
            by(ClockError::Behind { seconds: 30 * DAY_S }, ClockWitness::Release),
            "this machine's clock is wrong: it says 2031-05-01, but this version of Detour was made after 2031-05-31"
        );
    }

    #[test]
    fn this_version_has_a_date_that_has_been() {
        assert!(*RELEASE_S > 20_000 * DAY_S);
        assert_eq!(before_release_s(), 0);
    }
}
