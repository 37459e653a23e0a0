//! When a server wants to be asked again (RFC 9110 section 10.2.3): in seconds, or by a date of its own clock.
//!
//! A date is read beside the one the response carries, so no clock of this machine has a part in it.

use http::HeaderMap;
use http::header::{DATE, HeaderName, RETRY_AFTER};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// How long it wants to be left alone, seconds; `None` where it does not say, or cannot be understood.
pub(in crate::exchange) fn retry_after_s(headers: &HeaderMap) -> Option<u32> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let wanted = text(RETRY_AFTER)?.trim();
    if wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        // Longer than can be told is as long as it gets.
        return Some(wanted.parse().unwrap_or(u32::MAX)).filter(|_| !wanted.is_empty());
    }
    let wait_s = date_s(wanted)?.saturating_sub(date_s(text(DATE)?.trim())?);
    Some(u32::try_from(wait_s).unwrap_or(u32::MAX))
}

/// Seconds since year 0 of a date such as `Sun, 06 Nov 1994 08:49:37 GMT`; the older forms are sent by nobody
/// (RFC 9110 section 5.6.7).
fn date_s(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)?;
    let mut clock = time.split(':').map(|part| within(part, 60));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let days = days(within(year, 9_999)?, u64::try_from(month).ok()? + 1, within(day, 31)?);
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// A number up to `most`.
fn within(text: &str, most: u64) -> Option<u64> {
    let number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok());
    number.flatten().filter(|number| *number <= most)
}

/// Days up to a date, in the calendar whose years begin in March, so that leap days come last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.saturating_sub(1), month + 9)
    };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(retry_after: &str, date: Option<&str>) -> Option<u32> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after_s(&headers)
    }

    #[test]
    fn seconds_are_read_and_what_is_too_long_is_long() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("99999999999999999999", Some(u32::MAX)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(read(text, None), seconds, "{text:?}");
        }
        assert_eq!(retry_after_s(&HeaderMap::new()), None);
    }

    #[test]
    fn a_date_is_read_beside_the_servers_own() {
        let now = "Tue, 29 Feb 2028 23:59:30 GMT";
        for (text, seconds) in [
            ("Tue, 29 Feb 2028 23:59:59 GMT", Some(29)),
            ("Wed, 01 Mar 2028 00:00:30 GMT", Some(60)),
            ("Wed, 29 Feb 2029 23:59:30 GMT", Some(366 * 86_400)),
            ("Tue, 29 Feb 2028 23:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2028 23:59:59 CET", None),
            ("Tue, 29 Foo 2028 23:59:59 GMT", None),
            ("Tuesday, 29-Feb-28 23:59:59 GMT", None),
            ("Tue, 99 Feb 2028 23:59:59 GMT", None),
        ] {
            assert_eq!(read(text, Some(now)), seconds, "{text}");
        }
        assert_eq!(read(now, None), None, "whose clock?");
    }
}
