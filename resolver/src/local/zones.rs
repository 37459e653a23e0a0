//! The zones that are answered here instead of by a provider: which they are, on whose word, and what they say.
//!
//! Special-use names (RFC 6761 and its successors) mean something on this machine or nothing at all, and the reverse
//! zones of RFC 6303 belong to whatever network one happens to be in. A provider could only deny them, and would learn
//! what is asked for. Each zone can be switched off; then its names are forwarded like all others.
//!
//! Deliberately not here: `ipv4only.arpa` (RFC 8880: its answer is how a client learns that the network translates
//! addresses, so it is asked of the network, or translated as any other name), the example domains (RFC 6761 section 6.5: not
//! special to resolvers), names of one label (top-level domains are such names) and the suffixes that people use
//! without a reservation (`lan`, `home`, `corp`).

use std::collections::HashMap;

use crate::wire::NameBuf;

/// What a zone says about its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Every name in it, its own included, has the loopback addresses and nothing else.
    Loopback,
    /// No name in it exists, its own included. `local` must be one of these: hosts that find a SOA record at it take
    /// the network for one without multicast DNS.
    Nothing,
    /// SOA and NS at its own name (RFC 6303 section 3), the pointers to localhost where they belong, nothing else.
    Empty,
    /// Every name in it exists and has no data.
    NoData,
}

/// Zones with one reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Who says so.
    basis: &'static str,
    shape: Shape,
    names: &'static [&'static str],
}

const fn group(basis: &'static str, shape: Shape, names: &'static [&'static str]) -> Group {
    Group { basis, shape, names }
}

/// All of them.
static GROUPS: [Group; 18] = [
    group("RFC 6761 section 6.3", Shape::Loopback, &["localhost"]),
    group("RFC 6761 section 6.4", Shape::Nothing, &["invalid"]),
    group("RFC 6761 section 6.2", Shape::Nothing, &["test"]),
    group("RFC 6762 section 22.1", Shape::Nothing, &["local"]),
    group("RFC 7686 section 2", Shape::Nothing, &["onion"]),
    group("RFC 9476 section 2", Shape::Nothing, &["alt"]),
    group("reserved by ICANN for private use", Shape::Nothing, &["internal"]),
    group("RFC 8375 section 4", Shape::Empty, &["home.arpa"]),
    group("RFC 9665", Shape::Empty, &["service.arpa"]),
    group("RFC 7535", Shape::Empty, &["empty.as112.arpa"]),
    group("RFC 9462 section 6.4", Shape::NoData, &["resolver.arpa"]),
    group("RFC 6303 section 4.1", Shape::Empty, PRIVATE),
    group(
        "RFC 6303 section 4.2",
        Shape::Empty,
        &[
            "0.in-addr.arpa",
            "127.in-addr.arpa",
            "254.169.in-addr.arpa",
            "2.0.192.in-addr.arpa",
            "100.51.198.in-addr.arpa",
            "113.0.203.in-addr.arpa",
            "255.255.255.255.in-addr.arpa",
        ],
    ),
    group(
        "RFC 6303 section 4.3",
        Shape::Empty,
        &[
            "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
        ],
    ),
    group("RFC 6303 section 4.4", Shape::Empty, &["d.f.ip6.arpa"]),
    group(
        "RFC 6303 section 4.5",
        Shape::Empty,
        &["8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa", "b.e.f.ip6.arpa"],
    ),
    group("RFC 6303 section 4.6", Shape::Empty, &["8.b.d.0.1.0.0.2.ip6.arpa"]),
    group("RFC 7793", Shape::Empty, SHARED),
];

/// Private addresses, RFC 1918.
#[rustfmt::skip]
const PRIVATE: &[&str] = &[
    "10.in-addr.arpa",
    "16.172.in-addr.arpa", "17.172.in-addr.arpa", "18.172.in-addr.arpa", "19.172.in-addr.arpa",
    "20.172.in-addr.arpa", "21.172.in-addr.arpa", "22.172.in-addr.arpa", "23.172.in-addr.arpa",
    "24.172.in-addr.arpa", "25.172.in-addr.arpa", "26.172.in-addr.arpa", "27.172.in-addr.arpa",
    "28.172.in-addr.arpa", "29.172.in-addr.arpa", "30.172.in-addr.arpa", "31.172.in-addr.arpa",
    "168.192.in-addr.arpa",
];

/// Addresses shared behind carriers' translators, RFC 6598.
#[rustfmt::skip]
const SHARED: &[&str] = &[
    "64.100.in-addr.arpa", "65.100.in-addr.arpa", "66.100.in-addr.arpa", "67.100.in-addr.arpa",
    "68.100.in-addr.arpa", "69.100.in-addr.arpa", "70.100.in-addr.arpa", "71.100.in-addr.arpa",
    "72.100.in-addr.arpa", "73.100.in-addr.arpa", "74.100.in-addr.arpa", "75.100.in-addr.arpa",
    "76.100.in-addr.arpa", "77.100.in-addr.arpa", "78.100.in-addr.arpa", "79.100.in-addr.arpa",
    "80.100.in-addr.arpa", "81.100.in-addr.arpa", "82.100.in-addr.arpa", "83.100.in-addr.arpa",
    "84.100.in-addr.arpa", "85.100.in-addr.arpa", "86.100.in-addr.arpa", "87.100.in-addr.arpa",
    "88.100.in-addr.arpa", "89.100.in-addr.arpa", "90.100.in-addr.arpa", "91.100.in-addr.arpa",
    "92.100.in-addr.arpa", "93.100.in-addr.arpa", "94.100.in-addr.arpa", "95.100.in-addr.arpa",
    "96.100.in-addr.arpa", "97.100.in-addr.arpa", "98.100.in-addr.arpa", "99.100.in-addr.arpa",
    "100.100.in-addr.arpa", "101.100.in-addr.arpa", "102.100.in-addr.arpa", "103.100.in-addr.arpa",
    "104.100.in-addr.arpa", "105.100.in-addr.arpa", "106.100.in-addr.arpa", "107.100.in-addr.arpa",
    "108.100.in-addr.arpa", "109.100.in-addr.arpa", "110.100.in-addr.arpa", "111.100.in-addr.arpa",
    "112.100.in-addr.arpa", "113.100.in-addr.arpa", "114.100.in-addr.arpa", "115.100.in-addr.arpa",
    "116.100.in-addr.arpa", "117.100.in-addr.arpa", "118.100.in-addr.arpa", "119.100.in-addr.arpa",
    "120.100.in-addr.arpa", "121.100.in-addr.arpa", "122.100.in-addr.arpa", "123.100.in-addr.arpa",
    "124.100.in-addr.arpa", "125.100.in-addr.arpa", "126.100.in-addr.arpa", "127.100.in-addr.arpa",
];

/// The names of the loopback addresses, each in a zone above; they point to `localhost`.
pub(super) const LOOPBACK_POINTERS: [&str; 2] = [
    "1.0.0.127.in-addr.arpa",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
];

/// The names of all zones that can be answered here, as they are written in a configuration: lower case, without the
/// last dot.
pub fn zone_names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.names).copied()
}

/// A zone that is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// Lower case, without the last dot.
    pub name: &'static str,
    group: &'static Group,
}

impl BuiltIn {
    /// Who says that it is answered here.
    #[must_use]
    pub fn basis(&self) -> &'static str {
        self.group.basis
    }

    /// Octets of its name in wire form.
    pub(super) fn wire_bytes(&self) -> usize {
        self.name.len().saturating_add(2)
    }

    pub(super) fn shape(&self) -> Shape {
        self.group.shape
    }

    /// Whether this name in the zone is `localhost` or its pointer: the hosts file has no say about these.
    pub(super) fn is_localhost_at(&self, name: &NameBuf) -> bool {
        match self.group.shape {
            // Of one label, so the zone's own name and no name below it.
            Shape::Loopback => name.labels().nth(1).is_none(),
            Shape::Empty => is_loopback_pointer(name),
            Shape::Nothing | Shape::NoData => false,
        }
    }
}

/// The zones that are switched on.
#[derive(Debug)]
pub(super) struct Zones {
    /// The last labels of all zones in wire form: one comparison or a few rule nearly every name out.
    tops: Box<[Box<[u8]>]>,
    /// By length of a name in wire form, whether a zone has it: others need not be looked up.
    lengths: [bool; 256],
    /// By name in wire form.
    zones: HashMap<Box<[u8]>, BuiltIn>,
}

impl Zones {
    /// All zones but those that are switched off.
    pub(super) fn without(off: &[&str]) -> Self {
        let mut zones = Self {
            tops: Box::default(),
            lengths: [false; 256],
            zones: HashMap::new(),
        };
        let mut tops: Vec<Box<[u8]>> = Vec::new();
        let all = GROUPS
            .iter()
            .flat_map(|group| group.names.iter().map(move |name| BuiltIn { name, group }));
        for zone in all.filter(|zone| !off.contains(&zone.name)) {
            let Ok(name) = zone.name.parse::<NameBuf>() else {
                debug_assert!(false, "{} is a name", zone.name);
                continue;
            };
            let wire = name.as_wire();
            if let Some(has) = zones.lengths.get_mut(wire.len()) {
                *has = true;
            }
            if let Some(top) = top_of(&name)
                && !tops.iter().any(|known| **known == *top)
            {
                tops.push(top.into());
            }
            zones.zones.insert(wire.into(), zone);
        }
        zones.tops = tops.into();
        zones
    }

    /// The zone a name is in, the longest where one is inside another. Allocates nothing.
    pub(super) fn find(&self, name: &NameBuf) -> Option<BuiltIn> {
        let top = top_of(name)?;
        if !self.tops.iter().any(|known| **known == *top) {
            return None;
        }
        let has_length = |suffix: &&[u8]| self.lengths.get(suffix.len()).is_some_and(|has| *has);
        let mut candidates = name.suffixes().filter(has_length);
        candidates.find_map(|suffix| self.zones.get(suffix)).copied()
    }

    /// Those that are switched on, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = BuiltIn> {
        self.zones.values().copied()
    }
}

/// Whether this is one of [`LOOPBACK_POINTERS`].
fn is_loopback_pointer(name: &NameBuf) -> bool {
    LOOPBACK_POINTERS.iter().any(|pointer| {
        let labels = pointer.split('.').map(str::as_bytes);
        pointer.len() + 2 == name.as_wire().len() && labels.eq(name.labels())
    })
}

/// The last label but the root, in wire form with the root.
fn top_of(name: &NameBuf) -> Option<&[u8]> {
    name.suffixes().take_while(|suffix| suffix.len() > 1).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(zones: &Zones, name: &str) -> Option<&'static str> {
        zones.find(&name.parse().unwrap()).map(|zone| zone.name)
    }

    #[test]
    fn every_zone_is_a_name_of_its_own() {
        let mut names: Vec<_> = zone_names().collect();
        assert_eq!(names.len(), 11 + 18 + 7 + 2 + 1 + 4 + 1 + 64);
        for name in &names {
            let parsed: NameBuf = name.parse().unwrap();
            assert_eq!(parsed.to_string(), format!("{name}."));
        }
        names.sort_unstable();
        names.dedup();
        let zones = Zones::without(&[]);
        assert_eq!((names.len(), zones.iter().count()), (108, 108));
        for pointer in LOOPBACK_POINTERS {
            assert!(found(&zones, pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn a_name_is_in_the_longest_zone_above_it() {
        let zones = Zones::without(&[]);
        for (name, zone) in [
            ("localhost", Some("localhost")),
            ("a.b.LOCALHOST", Some("localhost")),
            ("notlocalhost", None),
            ("localhost.example", None),
            ("5.1.168.192.in-addr.arpa", Some("168.192.in-addr.arpa")),
            ("168.192.in-addr.arpa", Some("168.192.in-addr.arpa")),
            ("192.in-addr.arpa", None),
            ("1.1.1.1.in-addr.arpa", None),
            ("1.2.32.172.in-addr.arpa", None),
            ("1.2.31.172.in-addr.arpa", Some("31.172.in-addr.arpa")),
            ("1.2.63.100.in-addr.arpa", None),
            ("255.255.255.255.in-addr.arpa", Some("255.255.255.255.in-addr.arpa")),
            ("254.255.255.255.in-addr.arpa", None),
            ("0.0.d.f.ip6.arpa", Some("d.f.ip6.arpa")),
            ("c.e.f.ip6.arpa", None),
            ("_dns.resolver.arpa", Some("resolver.arpa")),
            ("ipv4only.arpa", None),
            ("arpa", None),
            ("www.example.test", Some("test")),
            ("example.com", None),
            ("lan", None),
            (".", None),
        ] {
            assert_eq!(found(&zones, name), zone, "{name}");
        }
    }

    #[test]
    fn a_zone_that_is_off_is_not_found_and_the_others_are() {
        for off in zone_names() {
            let zones = Zones::without(&[off]);
            assert_eq!(found(&zones, off), None, "{off}");
            assert_eq!(zones.iter().count(), 107);
        }
        let none = Zones::without(&zone_names().collect::<Vec<_>>());
        assert!(none.tops.is_empty());
    }
}
