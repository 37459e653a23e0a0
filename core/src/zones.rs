//! Which group a name is asked of: the route with the longest zone that the name is in, or none.
//!
//! A name is its labels from left to right, each behind its length in octets, in lower case, with the zero of the root
//! at its end (the wire form of RFC 1035 section 3.1). A route can leave names out (`except`): for these and all below
//! them it is as if it were not there, unless it names a longer zone again. Which group a route leads to says nothing of
//! whether anybody of it answers: a name of a route is asked of nobody else.

use core::net::IpAddr;
use std::collections::BTreeMap;

use crate::topology::GroupId;

/// Most routes: who is left out of which is a number of so many bits.
pub const ROUTES_MAX: usize = 64;
/// Most zones of all routes together, reverse zones counted one by one. Each costs a hundred bytes, and none costs a
/// query more than a look.
pub const ZONES_MAX: usize = 4_096;
/// Most zones that one prefix takes: 128 of IPv4, where it ends one bit behind an octet.
pub const ZONES_OF_PREFIX_MAX: usize = 128;

/// Names that are asked of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Names that are asked of it, with all below them.
    pub zones: Vec<Box<[u8]>>,
    /// Names that are not, with all below them.
    pub except: Vec<Box<[u8]>>,
    /// The group.
    pub to: GroupId,
}

/// What routes say of one name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Node {
    /// The route that has this zone.
    zone_of: Option<usize>,
    /// Routes that leave it out, a bit each.
    left_out_by: u64,
}

/// All routes, to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zones {
    /// By name.
    nodes: BTreeMap<Box<[u8]>, Node>,
    /// By length of a name in octets, whether there is one: others need not be looked up.
    lengths: [bool; 256],
    /// By number of the route: its group.
    groups: Vec<GroupId>,
}

/// The route of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed {
    /// Whom it is asked of.
    pub to: GroupId,
    /// Octets of the zone: the last ones of the name.
    pub zone_bytes: usize,
}

impl Default for Zones {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            lengths: [false; 256],
            groups: Vec::new(),
        }
    }
}

impl Zones {
    /// These routes. Of more than [`ROUTES_MAX`] the first ones count, of more than [`ZONES_MAX`] names the first ones,
    /// and of routes with the same zone the first one: the configuration has refused such.
    #[must_use]
    pub fn new(routes: &[Route]) -> Self {
        let mut zones = Self::default();
        for (number, route) in routes.iter().take(ROUTES_MAX).enumerate() {
            zones.groups.push(route.to);
            let bit = u32::try_from(number).ok().and_then(|bit| 1_u64.checked_shl(bit));
            for name in &route.zones {
                if let Some(node) = zones.node(name) {
                    node.zone_of.get_or_insert(number);
                }
            }
            for name in &route.except {
                if let Some(node) = zones.node(name) {
                    node.left_out_by |= bit.unwrap_or(0);
                }
            }
        }
        zones
    }

    /// What is said of this name; `None` where there is no room to say any more.
    fn node(&mut self, name: &[u8]) -> Option<&mut Node> {
        if self.nodes.len() >= ZONES_MAX && !self.nodes.contains_key(name) {
            return None;
        }
        *self.lengths.get_mut(name.len())? = true;
        Some(self.nodes.entry(name.into()).or_default())
    }

    /// Whether there is no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The route of a name, if it has one. Allocates nothing.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Routed> {
        if self.is_empty() {
            return None;
        }
        let mut left_out: u64 = 0;
        let mut rest = name;
        loop {
            let has_length = self.lengths.get(rest.len()).is_some_and(|has| *has);
            if let Some(node) = self.nodes.get(rest).filter(|_| has_length) {
                let number = node.zone_of.filter(|number| !is_of(left_out, *number));
                if let Some(to) = number.and_then(|number| self.groups.get(number)) {
                    return Some(Routed {
                        to: *to,
                        zone_bytes: rest.len(),
                    });
                }
                left_out |= node.left_out_by;
            }
            let (label, behind) = rest.split_first()?;
            rest = behind.get(usize::from(*label)..).filter(|_| *label > 0)?;
        }
    }
}

/// Whether a route is one of these bits.
fn is_of(routes: u64, number: usize) -> bool {
    let shift = u32::try_from(number).unwrap_or(u32::MAX);
    routes.checked_shr(shift).unwrap_or(0) & 1 == 1
}

/// The zones in which the names of a prefix' addresses are (RFC 1035 section 3.5, RFC 3596 section 2.5): one where the
/// prefix ends with an octet or, of IPv6, with a nibble; else each that it reaches into, [`ZONES_OF_PREFIX_MAX`] at
/// most. Bits behind the prefix are taken as zero.
#[must_use]
pub fn reverse_zones(address: IpAddr, prefix_len: u8) -> Vec<Box<[u8]>> {
    let (bits, width, step, top): (u128, u8, u8, &[u8]) = match address {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32, 8, b"\x07in-addr\x04arpa\x00"),
        IpAddr::V6(ip) => (u128::from(ip), 128, 4, b"\x03ip6\x04arpa\x00"),
    };
    let prefix_len = prefix_len.min(width);
    let labels = prefix_len.div_ceil(step);
    let used = labels.saturating_mul(step);
    let shift = u32::from(width.saturating_sub(used));
    let free = u32::from(used.saturating_sub(prefix_len));
    // The bits of the labels, those behind the prefix zero.
    let first = bits.checked_shr(shift).unwrap_or(0);
    let first = first.checked_shr(free).unwrap_or(0).checked_shl(free).unwrap_or(0);
    let count = 1_u128.checked_shl(free).unwrap_or(1);
    (0..count)
        .map(|number| {
            let mut name = Vec::with_capacity(NAME_BYTES_MAX);
            let mut rest = first.saturating_add(number);
            for _ in 0..labels {
                let text = match step {
                    8 => (rest & 0xff).to_string(),
                    _ => format!("{:x}", rest & 0xf),
                };
                name.push(u8::try_from(text.len()).unwrap_or(0));
                name.extend_from_slice(text.as_bytes());
                rest = rest.checked_shr(u32::from(step)).unwrap_or(0);
            }
            name.extend_from_slice(top);
            name.into_boxed_slice()
        })
        .collect()
}

/// Octets of the longest of these names: 32 nibbles, and `ip6.arpa`.
const NAME_BYTES_MAX: usize = 74;

#[cfg(test)]
mod tests {
    use super::*;

    /// `a.example` as it is looked up.
    fn wire(text: &str) -> Box<[u8]> {
        let mut wire = Vec::new();
        for label in text.split('.').filter(|label| !label.is_empty()) {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        wire.into_boxed_slice()
    }

    fn text(wire: &[u8]) -> String {
        let mut labels = Vec::new();
        let mut rest = wire;
        while let Some((length, behind)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let (label, more) = behind.split_at(usize::from(*length));
            labels.push(String::from_utf8(label.to_vec()).unwrap());
            rest = more;
        }
        labels.join(".")
    }

    fn route(zones: &[&str], except: &[&str], to: u16) -> Route {
        Route {
            zones: zones.iter().map(|zone| wire(zone)).collect(),
            except: except.iter().map(|zone| wire(zone)).collect(),
            to: GroupId(to),
        }
    }

    fn to(zones: &Zones, name: &str) -> Option<u16> {
        zones.find(&wire(name)).map(|routed| routed.to.0)
    }

    #[test]
    fn the_longest_zone_wins_and_labels_are_whole() {
        let zones = Zones::new(&[
            route(&["corp.example", "lan"], &[], 1),
            route(&["lab.corp.example"], &[], 2),
        ]);
        for (name, group) in [
            ("corp.example", Some(1)),
            ("www.corp.example", Some(1)),
            ("lab.corp.example", Some(2)),
            ("a.b.lab.corp.example", Some(2)),
            ("notcorp.example", None),
            ("example", None),
            ("printer.lan", Some(1)),
            ("wlan", None),
            ("", None),
        ] {
            assert_eq!(to(&zones, name), group, "{name}");
        }
        assert_eq!(zones.find(&wire("x.corp.example")).unwrap().zone_bytes, 14);
        assert_eq!(to(&Zones::default(), "corp.example"), None);
        assert_eq!(to(&Zones::new(&[route(&[""], &[], 3)]), "any.name"), Some(3));
    }

    #[test]
    fn what_a_route_leaves_out_is_anothers_or_nobodys() {
        let zones = Zones::new(&[
            route(
                &["corp.example", "in.www.corp.example"],
                &["www.corp.example", "x.lab.corp.example"],
                1,
            ),
            route(&["example"], &["mail.corp.example"], 2),
            route(&["lab.corp.example"], &[], 3),
        ]);
        for (name, group) in [
            ("a.corp.example", Some(1)),
            // The next shorter zone is the other route's.
            ("www.corp.example", Some(2)),
            ("deep.www.corp.example", Some(2)),
            ("in.www.corp.example", Some(1)),
            // Left out by one route, taken by another.
            ("x.lab.corp.example", Some(3)),
            ("mail.corp.example", Some(1)),
            ("other.example", Some(2)),
        ] {
            assert_eq!(to(&zones, name), group, "{name}");
        }
        let alone = Zones::new(&[route(&["a"], &["b.a"], 1)]);
        assert_eq!((to(&alone, "c.a"), to(&alone, "c.b.a")), (Some(1), None));
    }

    #[test]
    fn odd_names_find_nothing_and_break_nothing() {
        let zones = Zones::new(&[route(&["a"], &[], 1)]);
        for name in [&b""[..], b"\x09a", b"\x01", b"\x01a", b"\xff\xff\x00"] {
            assert_eq!(zones.find(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_bounds_hold() {
        let many: Vec<Route> = (0..200_u16)
            .map(|n| Route {
                zones: (0..100).map(|m| wire(&format!("m{m}.n{n}"))).collect(),
                except: Vec::new(),
                to: GroupId(n),
            })
            .collect();
        let zones = Zones::new(&many);
        assert_eq!((zones.nodes.len(), zones.groups.len()), (ZONES_MAX, ROUTES_MAX));
        assert_eq!(to(&zones, "m0.n1"), Some(1));
        assert_eq!(to(&zones, "m0.n64"), None);
    }

    #[test]
    fn prefixes_are_zones() {
        let zones = |address: &str, length| -> Vec<String> {
            let found = reverse_zones(address.parse().unwrap(), length);
            found.iter().map(|zone| text(zone)).collect()
        };
        assert_eq!(zones("10.0.0.0", 8), ["10.in-addr.arpa"]);
        assert_eq!(zones("192.168.0.0", 16), ["168.192.in-addr.arpa"]);
        assert_eq!(zones("192.0.2.0", 24), ["2.0.192.in-addr.arpa"]);
        assert_eq!(zones("192.0.2.7", 32), ["7.2.0.192.in-addr.arpa"]);
        assert_eq!(zones("0.0.0.0", 0), ["in-addr.arpa"]);
        let private = zones("172.16.0.0", 12);
        assert_eq!(private.len(), 16);
        assert_eq!(
            (private[0].as_str(), private[15].as_str()),
            ("16.172.in-addr.arpa", "31.172.in-addr.arpa")
        );
        assert_eq!(zones("198.51.100.128", 25).len(), 128);
        assert_eq!(zones("198.51.100.128", 25)[127], "255.100.51.198.in-addr.arpa");
        assert_eq!(zones("128.0.0.0", 1)[0], "128.in-addr.arpa");
        assert_eq!(zones("fd00::", 8), ["d.f.ip6.arpa"]);
        assert_eq!(zones("fc00::", 7), ["c.f.ip6.arpa", "d.f.ip6.arpa"]);
        assert_eq!(zones("2001:db8::", 32), ["8.b.d.0.1.0.0.2.ip6.arpa"]);
        assert_eq!(zones("2001:db8:a::", 45).len(), 8);
        assert_eq!(zones("::", 0), ["ip6.arpa"]);
        assert_eq!(zones("::1", 128)[0].len(), 2 * 32 + "ip6.arpa".len());
        // Bits behind the prefix say nothing.
        assert_eq!(zones("10.1.2.3", 8), ["10.in-addr.arpa"]);
        for length in 0..=32 {
            assert!(reverse_zones("255.255.255.255".parse().unwrap(), length).len() <= ZONES_OF_PREFIX_MAX);
        }
        for length in 0..=128 {
            assert!(reverse_zones("ff::ff".parse().unwrap(), length).len() <= 8);
        }
    }
}
