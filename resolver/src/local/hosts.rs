//! The contents of a hosts file (hosts(5)): addresses by name, names by address.
//!
//! Reading forgives: a line that says nothing sensible is counted and left out, and the rest counts. Names are taken as
//! they stand, folded to lower case, absolute with or without a last dot; a name on several lines has the addresses of
//! all of them. Comments begin at `#`. The scope of an IPv6 address (`fe80::1%eth0`) is dropped, because no record can
//! carry one, and an IPv4-mapped address is the IPv4 address it carries. An address points to its first name, as it
//! does for the C library; the unspecified addresses of block lists point nowhere.
//!
//! Names are looked up exactly: a hosts file says nothing of what is below a name.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::str;

use foldhash::quality::RandomState;

use super::zones::{Shape, Zones};
use crate::wire::NameBuf;

/// Most names and addresses kept; block lists have up to 200,000. With all of them about 35 MB are taken. Further ones
/// are left out and counted.
const ENTRIES_MAX: usize = 262_144;

/// Most addresses of one name; further ones are left out and counted. Far more than a reply over UDP has room for.
const ADDRESSES_MAX: usize = 64;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Position in `address_sets`.
    Host(u32),
    /// Position in `pointers`.
    Pointer(u32),
}

/// What the file says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// It is a host with these addresses, in the order of the file.
    Host(&'a [IpAddr]),
    /// It stands for this address, which is the host's of that name (in wire form).
    Pointer(IpAddr, &'a [u8]),
}

/// A hosts file, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts {
    /// By name in wire form.
    entries: HashMap<Box<[u8]>, Entry, RandomState>,
    /// Each list of addresses once: block lists have one for all their names.
    address_sets: Vec<Box<[IpAddr]>>,
    /// Addresses and names of hosts in wire form, a quarter of what a [`NameBuf`] takes.
    pointers: Vec<(IpAddr, Box<[u8]>)>,
    /// Names that exist because something below them does, as far as a zone would deny them otherwise.
    parents: HashSet<Box<[u8]>>,
    /// Lines with something that is no address or no name.
    pub(super) ignored_lines: usize,
    /// Names and addresses beyond the bounds.
    pub(super) left_out: usize,
}

impl Hosts {
    /// Reads a file's contents.
    pub(super) fn parse(text: &[u8], zones: &Zones) -> Self {
        let mut reading = Reading::default();
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        for line in text.split(|byte| *byte == b'\n') {
            reading.take_line(line, zones);
        }
        reading.add_pointers(zones);
        reading.hosts
    }

    /// How many names and addresses it knows.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What it says of exactly this name. Allocates nothing.
    pub(super) fn get(&self, name: &NameBuf) -> Option<Said<'_>> {
        match self.entries.get(name.as_wire())? {
            Entry::Host(at) => self.address_sets.get(index(*at)).map(|set| Said::Host(set)),
            Entry::Pointer(at) => {
                let pointer = self.pointers.get(index(*at));
                pointer.map(|(address, host)| Said::Pointer(*address, host))
            }
        }
    }

    /// Whether a name that a zone would deny exists because the file has one below it.
    pub(super) fn is_parent(&self, name: &NameBuf) -> bool {
        self.parents.contains(name.as_wire())
    }

    /// Adds a name; false where there is no room.
    fn add(&mut self, name: &NameBuf, entry: Entry, zones: &Zones) -> bool {
        if self.entries.len() >= ENTRIES_MAX {
            self.left_out += 1;
            return false;
        }
        self.entries.insert(name.as_wire().into(), entry);
        self.add_parents(name, zones);
        true
    }

    /// Notes the names above `name` that its zone would deny.
    fn add_parents(&mut self, name: &NameBuf, zones: &Zones) {
        let Some(zone) = zones.find(name) else {
            return;
        };
        let least = match zone.shape() {
            // Its own name is denied too.
            Shape::Nothing => zone.name.len() + 2,
            Shape::Empty => zone.name.len() + 3,
            Shape::Loopback | Shape::NoData => return,
        };
        for parent in name.suffixes().skip(1).take_while(|parent| parent.len() >= least) {
            if self.parents.len() < ENTRIES_MAX {
                self.parents.insert(parent.into());
            }
        }
    }
}

/// A file being read.
#[derive(Debug, Default)]
struct Reading {
    hosts: Hosts,
    /// Where each list of addresses stands.
    known_sets: HashMap<Box<[IpAddr]>, u32>,
    /// The first name of each address, in the order of the file.
    first_names: Vec<(IpAddr, Box<[u8]>)>,
    named: HashSet<IpAddr>,
}

impl Reading {
    fn take_line(&mut self, line: &[u8], zones: &Zones) {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let Some(address) = fields.next() else {
            return;
        };
        let Some(address) = parse_address(address) else {
            self.hosts.ignored_lines += 1;
            return;
        };
        let mut is_first = true;
        let mut is_sound = true;
        for field in fields {
            match parse_name(field) {
                Some(name) => {
                    if is_first && !address.is_unspecified() && self.named.insert(address) {
                        self.first_names.push((address, name.as_wire().into()));
                    }
                    is_first = false;
                    self.add_address(&name, address, zones);
                }
                None => is_sound = false,
            }
        }
        if is_first || !is_sound {
            self.hosts.ignored_lines += 1;
        }
    }

    /// One more address of a name.
    fn add_address(&mut self, name: &NameBuf, address: IpAddr, zones: &Zones) {
        let known = match self.hosts.entries.get(name.as_wire()) {
            Some(Entry::Host(at)) => self.hosts.address_sets.get(index(*at)),
            Some(Entry::Pointer(_)) | None => None,
        };
        let is_new = known.is_none();
        let mut set = known.map_or_else(Vec::new, |set| set.to_vec());
        if set.contains(&address) {
            return;
        }
        if set.len() >= ADDRESSES_MAX {
            self.hosts.left_out += 1;
            return;
        }
        set.push(address);
        let Some(at) = self.position_of(set.into_boxed_slice()) else {
            self.hosts.left_out += 1;
            return;
        };
        if is_new {
            self.hosts.add(name, Entry::Host(at), zones);
        } else if let Some(entry) = self.hosts.entries.get_mut(name.as_wire()) {
            *entry = Entry::Host(at);
        }
    }

    /// Where this list of addresses stands, once it does.
    fn position_of(&mut self, set: Box<[IpAddr]>) -> Option<u32> {
        if let Some(at) = self.known_sets.get(&set) {
            return Some(*at);
        }
        let at = u32::try_from(self.hosts.address_sets.len()).ok()?;
        self.hosts.address_sets.push(set.clone());
        self.known_sets.insert(set, at);
        Some(at)
    }

    /// Makes addresses names that can be asked for. What the file says of such a name itself goes first.
    fn add_pointers(&mut self, zones: &Zones) {
        for (address, host) in std::mem::take(&mut self.first_names) {
            let (Some(name), Ok(at)) = (pointer_name(address), u32::try_from(self.hosts.pointers.len())) else {
                continue;
            };
            if !self.hosts.entries.contains_key(name.as_wire()) && self.hosts.add(&name, Entry::Pointer(at), zones) {
                self.hosts.pointers.push((address, host));
            }
        }
    }
}

/// Positions are 32 bits because every name has one.
fn index(position: u32) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

fn parse_address(field: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(field).ok()?;
    let address = match text.split_once('%') {
        Some((address, _scope)) => address.parse::<Ipv6Addr>().ok()?.into(),
        None => text.parse::<IpAddr>().ok()?,
    };
    Some(address.to_canonical())
}

/// A name of printable ASCII; a backslash escapes nothing in this file and is in no host's name.
fn parse_name(field: &[u8]) -> Option<NameBuf> {
    let field = field.strip_suffix(b".").unwrap_or(field);
    if !field.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\') {
        return None;
    }
    let mut wire = Vec::with_capacity(field.len() + 2);
    for label in field.split(|byte| *byte == b'.') {
        // Longer ones are no label and refused with the name; an empty one would end it.
        let len = u8::try_from(label.len()).ok().filter(|len| *len > 0)?;
        wire.push(len);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    NameBuf::from_wire(&wire)
}

/// The name that stands for an address (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn pointer_name(address: IpAddr) -> Option<NameBuf> {
    let text = match address {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip
                .octets()
                .into_iter()
                .rev()
                .flat_map(|octet| [octet & 0xF, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Hosts {
        Hosts::parse(text.as_bytes(), &Zones::without(&[]))
    }

    fn addresses(hosts: &Hosts, name: &str) -> Vec<String> {
        match hosts.get(&name.parse().unwrap()) {
            Some(Said::Host(set)) => set.iter().map(ToString::to_string).collect(),
            Some(Said::Pointer(..)) | None => Vec::new(),
        }
    }

    fn host_of(hosts: &Hosts, pointer: &str) -> Option<String> {
        match hosts.get(&pointer.parse().unwrap()) {
            Some(Said::Pointer(_, host)) => Some(NameBuf::from_wire(host)?.to_string()),
            Some(Said::Host(_)) | None => None,
        }
    }

    #[test]
    fn a_file_as_distributions_ship_it_is_read() {
        let hosts = read(
            "127.0.0.1\tlocalhost\n127.0.1.1 Desk.Office desk # this one\n\n\
             # IPv6\r\n::1  localhost ip6-localhost ip6-loopback\r\n\
             10.0.0.5 nas nas.office.\nfd00::5 nas\n10.0.0.6 nas\n10.0.0.5 nas",
        );
        assert_eq!(hosts.ignored_lines, 0);
        assert_eq!(addresses(&hosts, "localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(addresses(&hosts, "desk.office"), ["127.0.1.1"]);
        assert_eq!(addresses(&hosts, "NAS"), ["10.0.0.5", "fd00::5", "10.0.0.6"]);
        assert_eq!(addresses(&hosts, "nas.office"), ["10.0.0.5"]);
        assert_eq!(addresses(&hosts, "www.nas"), [""; 0]);
        assert_eq!(host_of(&hosts, "1.1.0.127.in-addr.arpa").unwrap(), "desk.office.");
        assert_eq!(host_of(&hosts, "5.0.0.10.in-addr.arpa").unwrap(), "nas.");
        let v6 = "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(host_of(&hosts, v6).unwrap(), "nas.");
    }

    #[test]
    fn what_makes_no_sense_is_counted_and_the_rest_counts() {
        let long = "x".repeat(64);
        let text = format!(
            "10.0.0.1 good\n10.0.0.2\nhost 10.0.0.3\n10.0.0.4 also-good bad..name\n10.0.0.5 m\u{fc}nchen\n\
             10.0.0.6 a\\.b\n10.0.0.7 {long}\n10.0.0.8 .\n10.0.0 short\n010.0.0.9 octal\n10.0.0.10%eth0 scoped\n\
             \u{0}\n10.0.0.11 nul\u{0}nul\nfe80::1%eth0 scoped\n::ffff:10.0.0.12 mapped\n"
        );
        let hosts = read(&text);
        assert_eq!(hosts.ignored_lines, 12);
        assert_eq!(addresses(&hosts, "good"), ["10.0.0.1"]);
        assert_eq!(addresses(&hosts, "also-good"), ["10.0.0.4"]);
        assert_eq!(addresses(&hosts, "scoped"), ["fe80::1"]);
        assert_eq!(addresses(&hosts, "mapped"), ["10.0.0.12"]);
        assert_eq!(host_of(&hosts, "12.0.0.10.in-addr.arpa").unwrap(), "mapped.");
        assert!(hosts.get(&"octal".parse().unwrap()).is_none());
        let bom = Hosts::parse(b"\xEF\xBB\xBF10.0.0.1 good", &Zones::without(&[]));
        assert_eq!((bom.ignored_lines, addresses(&bom, "good").len()), (0, 1));
        assert_eq!(Hosts::parse(b"\xFF\xFE\0x", &Zones::without(&[])).ignored_lines, 1);
    }

    #[test]
    fn the_addresses_of_block_lists_point_nowhere() {
        let hosts = read("0.0.0.0 ads.example\n:: ads.example tracker.example\n");
        assert_eq!(addresses(&hosts, "ads.example"), ["0.0.0.0", "::"]);
        assert_eq!(host_of(&hosts, "0.0.0.0.in-addr.arpa"), None);
        assert_eq!((hosts.len(), hosts.address_sets.len()), (2, 3));
    }

    #[test]
    fn what_is_beyond_the_bounds_is_left_out_and_counted() {
        let many: String = (0..=ENTRIES_MAX).map(|n| format!("0.0.0.0 n{n}.example\n")).collect();
        let hosts = read(&many);
        assert_eq!((hosts.len(), hosts.left_out), (ENTRIES_MAX, 1));
        let one: String = (0..=ADDRESSES_MAX).map(|n| format!("10.0.0.{n} one\n")).collect();
        let hosts = read(&one);
        assert_eq!((addresses(&hosts, "one").len(), hosts.left_out), (ADDRESSES_MAX, 1));
    }

    #[test]
    fn names_above_one_in_a_denying_zone_are_known() {
        let hosts = read("10.0.0.5 a.b.home.arpa c.d.test e.f.localhost g.example\n");
        let is_parent = |name: &str| hosts.is_parent(&name.parse().unwrap());
        for name in [
            "b.home.arpa",
            "d.test",
            "test",
            "0.0.10.in-addr.arpa",
            "0.10.in-addr.arpa",
        ] {
            assert!(is_parent(name), "{name}");
        }
        for name in [
            "a.b.home.arpa",
            "home.arpa",
            "arpa",
            "f.localhost",
            "example",
            "10.in-addr.arpa",
            "x.test",
        ] {
            assert!(!is_parent(name), "{name}");
        }
    }
}
