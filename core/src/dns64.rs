//! Names for networks that carry IPv6 only: IPv4 addresses within an IPv6 prefix behind which a translator (NAT64) stands.
//!
//! The form of such addresses is RFC 6052's, which names get them RFC 6147's, and how a network tells its prefix RFC
//! 7050's: its resolvers give `ipv4only.arpa`, which has two well-known IPv4 addresses and no other, IPv6 addresses.
//! Nothing here is done unless the operator names a prefix or the network does.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::time::{SEC, Time};

/// The name by which a network tells its prefix (RFC 7050 section 8.1), in wire form.
pub const WELL_KNOWN_NAME: &[u8] = b"\x08ipv4only\x04arpa\x00";
/// Its addresses (RFC 7050 section 8.2).
const WELL_KNOWN_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// The prefix of everybody (RFC 6052 section 2.1), 64:ff9b::/96.
const WELL_KNOWN_PREFIX: u128 = 0x0064_ff9b << 96;
/// Lengths that there are (RFC 6052 section 2.2), longest first: most networks have the first one.
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];
/// Bits 64 to 71 are zero in every such address (RFC 6052 section 2.2).
const ZERO_OCTET: u128 = 0xff << 56;
/// Of a denial without SOA: so long the translated answer may be kept, seconds (RFC 6147 section 5.1.7).
pub const TTL_S_WITHOUT_SOA: u32 = 600;

/// A translator's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The bits of the prefix, those behind it zero.
    bits: u128,
    /// One of [`LENGTHS`].
    length: u8,
}

/// Why a text is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixError {
    /// No IPv6 address before a slash.
    Form,
    /// Translators have six lengths.
    Length,
    /// Bits behind the prefix are set.
    HostBits,
    /// Bits 64 to 71 must be zero.
    ZeroOctet,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "must be \"auto\", \"off\" or an IPv6 prefix such as \"64:ff9b::/96\"",
            Self::Length => "the length of a translator's prefix is 32, 40, 48, 56, 64 or 96",
            Self::HostBits => "address has bits set behind its prefix length",
            Self::ZeroOctet => "bits 64 to 71 of it must be zero (RFC 6052 section 2.2)",
        })
    }
}

impl core::error::Error for PrefixError {}

impl Prefix {
    /// The prefix of this length that begins like `bits`.
    fn new(bits: u128, length: u8) -> Result<Self, PrefixError> {
        if !LENGTHS.contains(&length) {
            return Err(PrefixError::Length);
        }
        let prefix = Self { bits, length };
        if bits & !prefix.mask() != 0 {
            return Err(PrefixError::HostBits);
        }
        if bits & ZERO_OCTET != 0 {
            return Err(PrefixError::ZeroOctet);
        }
        Ok(prefix)
    }

    /// Ones where the prefix is.
    fn mask(self) -> u128 {
        let behind = u32::from(128_u8.saturating_sub(self.length));
        u128::MAX.checked_shl(behind).unwrap_or(0)
    }

    /// Octets of an address in which the IPv4 address stands: behind the prefix, the ninth left out (RFC 6052 section
    /// 2.2).
    fn places(self) -> impl Iterator<Item = usize> {
        let first = usize::from(self.length >> 3);
        (first..16).filter(|place| *place != 8).take(4)
    }

    /// The address of `v4` behind this prefix.
    #[must_use]
    pub fn embed(self, v4: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.bits.to_be_bytes();
        for (place, octet) in self.places().zip(v4.octets()) {
            if let Some(to) = octets.get_mut(place) {
                *to = octet;
            }
        }
        Ipv6Addr::from(octets)
    }

    /// The IPv4 address within `v6`, if that is one of this prefix and nothing but zeros stands behind.
    #[must_use]
    pub fn extract(self, v6: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = v6.octets();
        let mut found = [0; 4];
        for (to, place) in found.iter_mut().zip(self.places()) {
            *to = *octets.get(place)?;
        }
        let v4 = Ipv4Addr::from(found);
        (self.embed(v4) == v6).then_some(v4)
    }

    /// Whether an address may be translated: not one that means something here only, where the prefix is everybody's
    /// (RFC 6052 section 3.1).
    #[must_use]
    pub fn translates(self, v4: Ipv4Addr) -> bool {
        (self.bits, self.length) != (WELL_KNOWN_PREFIX, 96) || WELL_KNOWN_ADDRESSES.contains(&v4) || is_global(v4)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from(self.bits), self.length)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = text.split_once('/').ok_or(PrefixError::Form)?;
        let address: Ipv6Addr = address.parse().map_err(|_discarded| PrefixError::Form)?;
        let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
        let length: u8 = length.parse().ok().filter(|_| is_number).ok_or(PrefixError::Length)?;
        Self::new(u128::from(address), length)
    }
}

/// Whether an address means the same everywhere (RFC 6890 and what followed it).
fn is_global(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special
}

/// Whether an IPv6 address does not count as one (RFC 6147 section 5.1.4): an IPv4 address in other clothes, which no
/// packet can be sent to.
#[must_use]
pub fn is_excluded(v6: Ipv6Addr) -> bool {
    v6.to_ipv4_mapped().is_some()
}

/// What is asked, as far as translation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// For IPv6 addresses in class IN.
    pub is_for_addresses: bool,
    /// For the name by which the network tells its prefix.
    pub is_well_known: bool,
    /// DO.
    pub do_bit: bool,
    /// CD.
    pub cd: bool,
}

/// What came back for IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Addresses: so many that count, so many that do not.
    Addresses {
        /// That count.
        good: usize,
        /// [`is_excluded`].
        excluded: usize,
    },
    /// There is no such name.
    NoName,
    /// A provider or a validator says no to the name: it would to its IPv4 addresses too.
    Refused,
    /// An error that all providers agree on.
    Failed,
    /// Nobody answered.
    Nothing,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is the answer.
    Keep,
    /// It is the answer without the addresses that do not count.
    Strip,
    /// The name's IPv4 addresses are asked for, and translated if there are any.
    Translate,
}

/// Whether a question may get a translated answer at all. Who asks with DO and CD validates by itself, and would find
/// every translated answer bogus (RFC 6147 section 5.5). What the network itself told the prefix by is not asked of this
/// node: it would go on telling it when the network no longer does.
#[must_use]
pub fn may_translate(asked: Asked, is_discovered: bool) -> bool {
    asked.is_for_addresses && !(asked.do_bit && asked.cd) && !(asked.is_well_known && is_discovered)
}

/// RFC 6147 sections 5.1.1 to 5.1.4, for a question that [`may_translate`]: an error is as good as an empty answer, because
/// servers that know no AAAA make errors of it. Whoever got no answer has waited long enough.
#[must_use]
pub fn judge(came: Came) -> Next {
    match came {
        Came::Addresses { good: 0, .. } | Came::Failed => Next::Translate,
        Came::Addresses { excluded: 0, .. } => Next::Keep,
        Came::Addresses { .. } => Next::Strip,
        Came::NoName | Came::Refused | Came::Nothing => Next::Keep,
    }
}

/// The name of the IPv4 address, `4.3.2.1.in-addr.arpa`, for the name of an address behind the prefix, both in wire form
/// and lower case (RFC 6147 section 5.3.1).
#[must_use]
pub fn pointer(prefix: Prefix, name: &[u8]) -> Option<Vec<u8>> {
    let nibbles = name.strip_suffix(b"\x03ip6\x04arpa\x00")?;
    let (pairs, rest) = nibbles.as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut bits: u128 = 0;
    for [length, digit] in pairs.iter().rev() {
        let value = char::from(*digit).to_digit(16).filter(|_| *length == 1)?;
        bits = bits.checked_shl(4).unwrap_or(0) | u128::from(value);
    }
    let v4 = prefix.extract(Ipv6Addr::from(bits))?;
    crate::zones::reverse_zones(v4.into(), 32)
        .into_iter()
        .next()
        .map(Vec::from)
}

/// The prefix that addresses of [`WELL_KNOWN_NAME`] tell, if they do: the one under which they are that name's IPv4
/// addresses. Of several the first one in the order of addresses counts, so that all nodes of a network choose alike.
#[must_use]
pub fn discovered(addresses: &[Ipv6Addr]) -> Option<Prefix> {
    let mut sorted: Vec<Ipv6Addr> = addresses.iter().copied().filter(|v6| !is_excluded(*v6)).collect();
    sorted.sort_unstable();
    sorted.into_iter().find_map(prefix_in)
}

/// The prefix of one such address: where a well-known address stands in it, with nothing but zeros behind.
fn prefix_in(v6: Ipv6Addr) -> Option<Prefix> {
    LENGTHS.into_iter().find_map(|length| {
        let mask = Prefix { bits: 0, length }.mask();
        let prefix = Prefix::new(u128::from(v6) & mask, length).ok()?;
        let v4 = prefix.extract(v6)?;
        WELL_KNOWN_ADDRESSES.contains(&v4).then_some(prefix)
    })
}

/// The next look is so long before the answer expires (RFC 7050 section 3).
const BEFORE_EXPIRY_US: u64 = 10 * SEC;
/// But not sooner than this after the last one: an answer that lives no time must not be asked for without end.
const INTERVAL_US_MIN: u64 = 60 * SEC;
/// Nor later: a network changes its mind.
const INTERVAL_US_MAX: u64 = 24 * 3_600 * SEC;
/// A network that says that there is no prefix is asked again after so long.
const DENIED_US: u64 = 600 * SEC;
/// The first try after a failed one; doubled up to [`DENIED_US`].
const RETRY_US: u64 = 5 * SEC;

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Addresses, for so many seconds; none: the name has none.
    Addresses(Vec<Ipv6Addr>, u32),
    /// There was no answer.
    Nothing,
}

/// When the network is asked for its prefix, and what it said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// What is known.
    prefix: Option<Prefix>,
    /// When to ask.
    due: Option<Time>,
    /// Looks that failed since the last answer.
    failures: u32,
}

impl Discovery {
    /// The network has other resolvers, or none any more: what another one said does not hold here.
    pub fn handle_network(&mut self, has_resolvers: bool, now: Time) {
        *self = Self {
            due: has_resolvers.then_some(now),
            ..Self::default()
        };
    }

    /// A look came to this.
    pub fn handle_told(&mut self, told: &Told, now: Time) {
        let wait_us = match told {
            Told::Addresses(addresses, ttl_s) => {
                self.failures = 0;
                self.prefix = discovered(addresses);
                match self.prefix {
                    Some(_) => u64::from(*ttl_s).saturating_mul(SEC).saturating_sub(BEFORE_EXPIRY_US),
                    None => DENIED_US,
                }
                .clamp(INTERVAL_US_MIN, INTERVAL_US_MAX)
            }
            // What it said before holds: it may be the resolvers' trouble.
            Told::Nothing => {
                let doubled = RETRY_US.checked_shl(self.failures).unwrap_or(u64::MAX);
                self.failures = self.failures.saturating_add(1).min(16);
                doubled.min(DENIED_US)
            }
        };
        self.due = Some(now.plus(wait_us));
    }

    /// What the network said.
    #[must_use]
    pub fn prefix(&self) -> Option<Prefix> {
        self.prefix
    }

    /// When to look; never, where there is nobody to ask.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_embedded_as_the_document_shows() {
        // RFC 6052 section 2.4.
        let v4 = Ipv4Addr::new(192, 0, 2, 33);
        for (text, v6) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let v6: Ipv6Addr = v6.parse().unwrap();
            assert_eq!(prefix(text).embed(v4), v6, "{text}");
            assert_eq!(prefix(text).extract(v6), Some(v4), "{text}");
            assert_eq!(prefix(text).to_string(), text);
        }
        let elsewhere: Ipv6Addr = "2001:db8:1::".parse().unwrap();
        assert_eq!(
            prefix("2001:db8::/32").extract("2001:db8:c000:221::1".parse().unwrap()),
            None
        );
        assert_eq!(prefix("64:ff9b::/96").extract(elsewhere), None);
    }

    #[test]
    fn what_is_no_prefix_says_why() {
        let error = |text: &str| text.parse::<Prefix>().unwrap_err();
        for text in ["auto", "64:ff9b::", "192.0.2.0/24", "x/96"] {
            assert_eq!(error(text), PrefixError::Form, "{text}");
        }
        for text in ["64:ff9b::/95", "64:ff9b::/128", "64:ff9b::/+96", "64:ff9b::/"] {
            assert_eq!(error(text), PrefixError::Length, "{text}");
        }
        assert_eq!(error("64:ff9b::1/96"), PrefixError::HostBits);
        assert_eq!(error("2001:db8:0:0:ff00::/96"), PrefixError::ZeroOctet);
    }

    #[test]
    fn addresses_that_mean_something_here_only_are_not_for_everybodys_prefix() {
        let everybodys = prefix("64:ff9b::/96");
        let own = prefix("2001:db8::/96");
        for v4 in [
            "10.1.2.3",
            "192.168.1.1",
            "172.31.0.1",
            "127.0.0.1",
            "100.64.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "0.0.0.0",
        ] {
            let v4: Ipv4Addr = v4.parse().unwrap();
            assert!(!everybodys.translates(v4) && own.translates(v4), "{v4}");
        }
        for v4 in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.0.170",
            "192.0.1.1",
            "198.20.0.1",
        ] {
            assert!(everybodys.translates(v4.parse().unwrap()), "{v4}");
        }
    }

    #[test]
    fn what_came_decides_what_is_next() {
        let addresses = |good, excluded| Came::Addresses { good, excluded };
        for (came, next) in [
            (addresses(0, 0), Next::Translate),
            (addresses(0, 2), Next::Translate),
            (addresses(1, 0), Next::Keep),
            (addresses(1, 1), Next::Strip),
            (Came::NoName, Next::Keep),
            (Came::Refused, Next::Keep),
            (Came::Failed, Next::Translate),
            (Came::Nothing, Next::Keep),
        ] {
            assert_eq!(judge(came), next, "{came:?}");
        }
        let asked = Asked {
            is_for_addresses: true,
            is_well_known: false,
            do_bit: true,
            cd: false,
        };
        assert!(may_translate(asked, true));
        assert!(may_translate(
            Asked {
                do_bit: false,
                cd: true,
                ..asked
            },
            true
        ));
        assert!(!may_translate(Asked { cd: true, ..asked }, false));
        assert!(!may_translate(
            Asked {
                is_for_addresses: false,
                ..asked
            },
            false
        ));
        let well_known = Asked {
            is_well_known: true,
            ..asked
        };
        assert!(!may_translate(well_known, true) && may_translate(well_known, false));
    }

    #[test]
    fn names_of_addresses_behind_the_prefix_are_those_of_ipv4() {
        let name = |v6: &str| crate::zones::reverse_zones(v6.parse().unwrap(), 128).remove(0);
        let found = pointer(prefix("64:ff9b::/96"), &name("64:ff9b::192.0.2.33")).unwrap();
        assert_eq!(found, b"\x0233\x012\x010\x03192\x07in-addr\x04arpa\x00");
        for other in ["64:ff9b:0:0:1::192.0.2.33", "2001:db8::1"] {
            assert_eq!(pointer(prefix("64:ff9b::/96"), &name(other)), None, "{other}");
        }
        assert_eq!(pointer(prefix("64:ff9b::/96"), b"\x03ip6\x04arpa\x00"), None);
        assert_eq!(pointer(prefix("64:ff9b::/96"), b"\x07example\x00"), None);
        let mut odd = name("64:ff9b::192.0.2.33").to_vec();
        odd[1] = b'g';
        assert_eq!(pointer(prefix("64:ff9b::/96"), &odd), None);
    }

    #[test]
    fn a_network_tells_its_prefix() {
        for text in [
            "64:ff9b::/96",
            "2001:db8::/32",
            "2001:db8:100::/40",
            "2001:db8:122::/48",
            "2001:db8:122:300::/56",
            "2001:db8:122:344::/64",
            "2001:db8:122:344::/96",
        ] {
            let both = WELL_KNOWN_ADDRESSES.map(|v4| prefix(text).embed(v4));
            assert_eq!(discovered(&both), Some(prefix(text)), "{text}");
            assert_eq!(discovered(&both[1..]), Some(prefix(text)), "{text}");
        }
        let (low, high) = (prefix("64:ff9b::/96"), prefix("2001:db8::/96"));
        let two = [high, low].map(|prefix| prefix.embed(WELL_KNOWN_ADDRESSES[0]));
        assert_eq!(discovered(&two), Some(low));
        // Somebody else's addresses.
        for text in [
            "2001:db8::1",
            "::ffff:192.0.0.170",
            "2001:db8:c000:aa:0:c000:aa00:0",
            "::",
        ] {
            assert_eq!(discovered(&[text.parse().unwrap()]), None, "{text}");
        }
        assert_eq!(discovered(&[]), None);
    }

    #[test]
    fn the_network_is_asked_in_time_and_not_too_often() {
        let mut discovery = Discovery::default();
        assert_eq!(discovery.poll_timeout(), None);
        let at = |s: u64| Time::at_ms(s * 1_000);
        discovery.handle_network(true, at(10));
        assert_eq!(discovery.poll_timeout(), Some(at(10)));
        let addresses = vec![prefix("64:ff9b::/96").embed(WELL_KNOWN_ADDRESSES[0])];
        discovery.handle_told(&Told::Addresses(addresses.clone(), 300), at(10));
        assert_eq!(discovery.prefix(), Some(prefix("64:ff9b::/96")));
        assert_eq!(discovery.poll_timeout(), Some(at(10 + 290)));
        discovery.handle_told(&Told::Addresses(addresses.clone(), 0), at(300));
        assert_eq!(discovery.poll_timeout(), Some(at(360)));
        for (failure, wait) in [5, 10, 20, 40, 80, 160, 320, 600, 600].into_iter().enumerate() {
            discovery.handle_told(&Told::Nothing, at(1_000));
            assert_eq!(discovery.poll_timeout(), Some(at(1_000 + wait)), "{failure}");
            assert!(discovery.prefix().is_some(), "it said so");
        }
        discovery.handle_told(&Told::Addresses(Vec::new(), 5), at(2_000));
        assert_eq!((discovery.prefix(), discovery.poll_timeout()), (None, Some(at(2_600))));
        discovery.handle_told(&Told::Addresses(addresses, u32::MAX), at(3_000));
        discovery.handle_network(false, at(3_001));
        assert_eq!((discovery.prefix(), discovery.poll_timeout()), (None, None));
    }
}
