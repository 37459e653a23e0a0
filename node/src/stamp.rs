//! When something was written, in terms that still mean something to the next process.
//!
//! Within one boot of the machine the boot-time clock says exactly how long ago that was, sleep included. Across boots
//! there is only the wall clock, which may be wrong or may have been set since: what it says is a guess, and a guess
//! that cannot be true is no age at all. Wall time never goes further than this file: what comes out is an age.

use std::fs;

use detour_core::{Clock, Time};

use crate::clock;

/// Bytes of a stamp.
pub(crate) const STAMP_BYTES: usize = 32;
/// Where the kernel names this boot: a UUID.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A moment of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Which boot; zeros if the kernel does not say.
    boot: [u8; 16],
    /// The boot-time clock.
    since_boot: Time,
    /// The wall clock, seconds since 1970.
    wall_s: u64,
}

/// How long ago something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Exactly this long, microseconds: within this boot.
    Exact(u64),
    /// This long by the wall clock, microseconds: in an earlier boot.
    ByWall(u64),
    /// The clock has gone backwards since, or the stamp makes no sense.
    Unknown,
}

impl Age {
    /// Microseconds, by whichever clock.
    #[must_use]
    pub(crate) fn us(self) -> Option<u64> {
        match self {
            Self::Exact(us) | Self::ByWall(us) => Some(us),
            Self::Unknown => None,
        }
    }
}

impl Stamp {
    /// This moment.
    #[must_use]
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        let id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self {
            boot: parse_uuid(&id).unwrap_or_default(),
            since_boot: clock.now(),
            wall_s: clock::wall_s(),
        }
    }

    /// How long before `now` this was.
    #[must_use]
    pub(crate) fn age(&self, now: &Self) -> Age {
        if self.boot == now.boot && self.boot != [0; 16] {
            return if self.since_boot <= now.since_boot {
                Age::Exact(now.since_boot.since(self.since_boot))
            } else {
                Age::Unknown
            };
        }
        // What an earlier boot wrote is at least as old as this boot, whatever the wall clock says.
        match now.wall_s.checked_sub(self.wall_s) {
            Some(seconds) => Age::ByWall(seconds.saturating_mul(1_000_000).max(now.since_boot.as_micros())),
            None => Age::Unknown,
        }
    }

    /// A moment of a test's choice.
    #[cfg(test)]
    pub(crate) fn of(boot: u8, since_boot: Time, wall_s: u64) -> Self {
        Self {
            boot: [boot; 16],
            since_boot,
            wall_s,
        }
    }

    /// To be kept.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        let numbers = [self.since_boot.as_micros(), self.wall_s].map(u64::to_le_bytes);
        let parts = self.boot.iter().chain(numbers.iter().flatten());
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = *from;
        }
        bytes
    }

    /// From what was kept; `None` unless it has the right length.
    #[must_use]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (boot, rest) = bytes.split_first_chunk::<16>()?;
        let (since_boot, rest) = rest.split_first_chunk::<8>()?;
        let (wall_s, rest) = rest.split_first_chunk::<8>()?;
        rest.is_empty().then(|| Self {
            boot: *boot,
            since_boot: Time::from_micros(u64::from_le_bytes(*since_boot)),
            wall_s: u64::from_le_bytes(*wall_s),
        })
    }
}

/// Sixteen bytes from their hexadecimal digits; dashes and white space do not count.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut digits = text.chars().filter(|c| *c != '-' && !c.is_whitespace());
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        let (high, low) = (digits.next()?.to_digit(16)?, digits.next()?.to_digit(16)?);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootClock;

    fn stamp(boot: u8, since_boot_s: u64, wall_s: u64) -> Stamp {
        Stamp::of(boot, Time::from_micros(since_boot_s * 1_000_000), wall_s)
    }

    #[test]
    fn within_a_boot_the_wall_clock_does_not_matter() {
        let then = stamp(1, 100, 5_000);
        assert_eq!(then.age(&stamp(1, 160, 5_060)), Age::Exact(60_000_000));
        assert_eq!(then.age(&stamp(1, 160, 1)), Age::Exact(60_000_000));
        assert_eq!(then.age(&stamp(1, 160, 1_000_000_000)), Age::Exact(60_000_000));
        assert_eq!(then.age(&stamp(1, 99, 5_060)), Age::Unknown);
    }

    #[test]
    fn across_boots_it_is_a_guess_that_must_be_possible() {
        let then = stamp(1, 100, 5_000);
        assert_eq!(then.age(&stamp(2, 30, 6_000)), Age::ByWall(1_000_000_000));
        // The clock stood still while the machine was off: this boot alone took longer.
        assert_eq!(then.age(&stamp(2, 600, 5_001)), Age::ByWall(600_000_000));
        assert_eq!(then.age(&stamp(2, 30, 4_999)), Age::Unknown);
        // Two kernels that do not name their boot are not the same boot.
        assert_eq!(
            stamp(0, 100, 5_000).age(&stamp(0, 160, 6_000)),
            Age::ByWall(1_000_000_000)
        );
    }

    #[test]
    fn a_stamp_survives_its_bytes() {
        let now = Stamp::now(&BootClock);
        assert_eq!(Stamp::from_bytes(&now.to_bytes()), Some(now));
        assert_eq!(Stamp::from_bytes(&now.to_bytes()[1..]), None);
        assert_eq!(Stamp::from_bytes(&[0; 33]), None);
        assert!(now.since_boot > Time::ZERO);
    }

    #[test]
    fn a_boot_has_a_name() {
        let bytes = parse_uuid("00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!((bytes[0], bytes[1], bytes[15]), (0, 0x11, 0xff));
        for wrong in [
            "",
            "0011",
            "00112233-4455-6677-8899-aabbccddeeff00",
            "zz112233445566778899aabbccddeeff",
        ] {
            assert_eq!(parse_uuid(wrong), None);
        }
        assert_ne!(Stamp::now(&BootClock).boot, [0; 16]);
    }
}
