//! What the fakes know, and therefore what every right answer is.
//!
//! Under the ten [`DOMAINS`] every name exists and has one A, one AAAA and one TXT record whose value is a hash of the
//! lower-case name. So a load generator can invent names for ever and check each answer without asking anybody. Labels
//! below the domain with a meaning of their own, wherever they stand in the name:
//!
//! | label | effect |
//! |---|---|
//! | `ttl-N` | TTL of N seconds, otherwise 300 |
//! | `big-N` | TXT data of about N bytes (at most 60,000) |
//! | `cname` | an alias of `target.<domain>`, which is answered with it |
//!
//! The same holds under [`numbered_domain`]s, for whoever needs more than ten: a gateway that avoids a provider for one
//! broken domain at a time would otherwise have avoided it for all of them soon.
//!
//! A few names of the real world are served truly, because gateways use them as canaries: the root's NS, the root
//! servers' addresses, `one.one.one.one`, `dns.google`, `dns.quad9.net`. Everything else does not exist. Names above
//! one that exists (`com`, `root-servers.net`) are empty, not absent: RFC 8020 reads NXDOMAIN as "nothing below".

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::message::{Answer, Owner, Resource, rcode, rtype};
use crate::random::{mix, stable_hash};
use crate::wire::{push_string, wire_name};
use real_world::{WELL_KNOWN, well_known};

mod real_world;

/// The registrable domains in which every name exists; five top-level domains, none of them special.
pub const DOMAINS: [&str; 10] = [
    "alder-lane.com",
    "birch-harbor.net",
    "cedar-mill.org",
    "dune-signal.io",
    "elm-quarry.dev",
    "fern-works.com",
    "granite-bay.net",
    "hazel-print.org",
    "iris-ledger.io",
    "juniper-stack.dev",
];

/// TTL of records that do not say otherwise, in seconds.
const TTL_SECONDS: u32 = 300;
/// TTL of the real-world names, in seconds.
const WELL_KNOWN_TTL_SECONDS: u32 = 86_400;
/// Largest data of a `big-N` record: leaves room for the header in a message of 65,535 bytes.
const BIG_BYTES_MAX: usize = 60_000;

/// What a numbered domain is called before its number, and the top-level domain it is in.
const NUMBERED: (&str, &str) = ("field-", ".com");

/// The registrable domain with this number, in which every name exists too.
#[must_use]
pub fn numbered_domain(number: u32) -> String {
    let (before, after) = NUMBERED;
    format!("{before}{number}{after}")
}

/// Whether `name` is in one of [`DOMAINS`] or of the numbered ones, in any letter case, with or without the trailing dot.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    domain_of_folded(&fold(name)).is_some()
}

/// The address every honest provider gives for a name under [`DOMAINS`].
#[must_use]
pub fn expected_a(name: &str) -> Option<Ipv4Addr> {
    let name = fold(name);
    let domain = domain_of_folded(&name)?;
    Some(address(&canonical(&name, domain)))
}

/// The IPv6 address every honest provider gives for a name under [`DOMAINS`].
#[must_use]
pub fn expected_aaaa(name: &str) -> Option<Ipv6Addr> {
    let name = fold(name);
    let domain = domain_of_folded(&name)?;
    Some(address6(&canonical(&name, domain)))
}

/// The text every honest provider gives for a name under [`DOMAINS`] without a `big-N` label.
#[must_use]
pub fn expected_txt(name: &str) -> Option<String> {
    let name = fold(name);
    let domain = domain_of_folded(&name)?;
    Some(text(&canonical(&name, domain)))
}

/// The true answer. `name` is lower-case text without trailing dot, as `wire` makes it.
pub(crate) fn answer(name: &str, asked: u16) -> Answer {
    if let Some(domain) = domain_of_folded(name) {
        return domain_answer(name, domain, asked);
    }
    let records: Vec<Vec<u8>> = match (name, asked) {
        (".", rtype::NS) => WELL_KNOWN
            .iter()
            .take(13)
            .map(|server| wire_name(server.name))
            .collect(),
        (".", rtype::SOA) => vec![root_soa()],
        (_, rtype::A) => {
            well_known(name).map_or_else(Vec::new, |known| known.v4.iter().map(|v4| v4.to_vec()).collect())
        }
        (_, rtype::AAAA) => well_known(name).map_or_else(Vec::new, |known| known.v6.iter().map(v6_bytes).collect()),
        _ => Vec::new(),
    };
    if records.is_empty() {
        return if exists(name) { no_data(name) } else { no_name(name) };
    }
    let resource = |data| Resource {
        owner: Owner::Asked,
        rtype: asked,
        ttl_seconds: WELL_KNOWN_TTL_SECONDS,
        data,
    };
    Answer {
        answers: records.into_iter().map(resource).collect(),
        ..Answer::default()
    }
}

/// "There is no record of this type", with the SOA of the name's zone.
pub(crate) fn no_data(name: &str) -> Answer {
    Answer {
        authorities: vec![soa(name)],
        ..Answer::default()
    }
}

/// "There is no such name", with the SOA of the name's zone.
pub(crate) fn no_name(name: &str) -> Answer {
    Answer {
        rcode: rcode::NXDOMAIN,
        ..no_data(name)
    }
}

/// A confident lie: an address or text that is never the expected one, whether or not the name exists.
pub(crate) fn lie(name: &str, asked: u16) -> Answer {
    let data = match asked {
        rtype::A => {
            let [_, b, c, d] = address(name).octets();
            vec![10, !b, c, d]
        }
        rtype::AAAA => {
            let [a, b, c, d, e, f, g, h] = address6(name).segments();
            v6_bytes(&[a, b, c, d, !e, f, g, h])
        }
        rtype::TXT => strings("rig lie"),
        _ => return no_data(name),
    };
    Answer {
        answers: vec![Resource {
            owner: Owner::Asked,
            rtype: asked,
            ttl_seconds: TTL_SECONDS,
            data,
        }],
        ..Answer::default()
    }
}

fn domain_answer(name: &str, domain: &str, asked: u16) -> Answer {
    let labels = SpecialLabels::read(name, domain);
    let mut answer = Answer::default();
    let target = canonical(name, domain);
    let mut owner = Owner::Asked;
    if labels.alias {
        let wire = wire_name(&target);
        answer.answers.push(Resource {
            owner: Owner::Asked,
            rtype: rtype::CNAME,
            ttl_seconds: labels.ttl_seconds,
            data: wire.clone(),
        });
        if asked == rtype::CNAME {
            return answer;
        }
        owner = Owner::Name(wire);
    }
    let data = match asked {
        rtype::A => address(&target).octets().to_vec(),
        rtype::AAAA => address6(&target).octets().to_vec(),
        rtype::TXT => labels
            .big_bytes
            .map_or_else(|| strings(&text(&target)), |bytes| big_text(&target, bytes)),
        rtype::SOA if name == domain => domain_soa(domain),
        _ => {
            answer.authorities.push(soa(name));
            return answer;
        }
    };
    answer.answers.push(Resource {
        owner,
        rtype: asked,
        ttl_seconds: labels.ttl_seconds,
        data,
    });
    answer
}

/// What the labels below the domain ask for.
struct SpecialLabels {
    ttl_seconds: u32,
    big_bytes: Option<usize>,
    alias: bool,
}

impl SpecialLabels {
    fn read(name: &str, domain: &str) -> Self {
        let mut found = Self {
            ttl_seconds: TTL_SECONDS,
            big_bytes: None,
            alias: false,
        };
        for label in name.strip_suffix(domain).unwrap_or_default().split('.') {
            if let Some(seconds) = label.strip_prefix("ttl-").and_then(|number| number.parse().ok()) {
                found.ttl_seconds = seconds;
            } else if let Some(bytes) = label
                .strip_prefix("big-")
                .and_then(|number| number.parse::<usize>().ok())
            {
                found.big_bytes = Some(bytes.min(BIG_BYTES_MAX));
            } else if label == "cname" {
                found.alias = true;
            }
        }
        found
    }
}

/// The name whose records answer for `name`: itself, or the target of its alias.
fn canonical(name: &str, domain: &str) -> String {
    if SpecialLabels::read(name, domain).alias {
        format!("target.{domain}")
    } else {
        name.to_owned()
    }
}

fn address(name: &str) -> Ipv4Addr {
    let [b, c, d, ..] = stable_hash(name).to_be_bytes();
    Ipv4Addr::new(10, b, c, d)
}

fn address6(name: &str) -> Ipv6Addr {
    let [a, b, c, d, e, f, g, h] = mix(stable_hash(name)).to_be_bytes();
    Ipv6Addr::from([0xfd, 0x64, 0x65, 0x74, 0x6f, 0x75, 0x72, 0, a, b, c, d, e, f, g, h])
}

fn text(name: &str) -> String {
    format!("rig={:016x}", stable_hash(name))
}

fn strings(text: &str) -> Vec<u8> {
    let mut data = Vec::new();
    push_string(&mut data, text.as_bytes(), u8::MAX);
    data
}

/// As many strings as it takes for `bytes` bytes of record data.
fn big_text(name: &str, bytes: usize) -> Vec<u8> {
    let pattern = text(name).into_bytes();
    let mut data = Vec::with_capacity(bytes.saturating_add(1));
    while data.len() < bytes {
        let left = bytes
            .saturating_sub(data.len())
            .saturating_sub(1)
            .min(usize::from(u8::MAX));
        let string: Vec<u8> = pattern.iter().copied().cycle().take(left).collect();
        push_string(&mut data, &string, u8::MAX);
    }
    if data.is_empty() {
        data.push(0);
    }
    data
}

fn soa(name: &str) -> Resource {
    let (owner, ttl_seconds, data) = domain_of_folded(name).map_or_else(
        || (wire_name("."), WELL_KNOWN_TTL_SECONDS, root_soa()),
        |domain| (wire_name(domain), TTL_SECONDS, domain_soa(domain)),
    );
    Resource {
        owner: Owner::Name(owner),
        rtype: rtype::SOA,
        ttl_seconds,
        data,
    }
}

fn root_soa() -> Vec<u8> {
    soa_data(
        "a.root-servers.net",
        "nstld.verisign-grs.com",
        [2_026_010_100, 1_800, 900, 604_800, 86_400],
    )
}

fn domain_soa(domain: &str) -> Vec<u8> {
    soa_data(
        &format!("ns.{domain}"),
        &format!("hostmaster.{domain}"),
        [1, 7_200, 900, 1_209_600, 300],
    )
}

/// Serial, refresh, retry, expire, minimum behind the two names.
fn soa_data(server: &str, mailbox: &str, numbers: [u32; 5]) -> Vec<u8> {
    let mut data = wire_name(server);
    data.extend(wire_name(mailbox));
    data.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    data
}

fn v6_bytes(segments: &[u16; 8]) -> Vec<u8> {
    Ipv6Addr::from(*segments).octets().to_vec()
}

/// Whether a name outside the domains is one we serve, or above one we serve.
fn exists(name: &str) -> bool {
    let above = |known: &str| {
        known
            .strip_suffix(name)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    name == "." || WELL_KNOWN.iter().any(|known| above(known.name)) || DOMAINS.iter().any(|domain| above(domain))
}

fn domain_of_folded(name: &str) -> Option<&str> {
    let holds = |domain: &&str| {
        name.strip_suffix(*domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    DOMAINS.into_iter().find(holds).or_else(|| numbered(name))
}

/// The numbered domain that holds a name.
fn numbered(name: &str) -> Option<&str> {
    let (before, after) = NUMBERED;
    let label_at = name
        .strip_suffix(after)?
        .rfind('.')
        .map_or(0, |dot| dot.saturating_add(1));
    let domain = name.get(label_at..)?;
    let number = domain.strip_prefix(before)?.strip_suffix(after)?;
    number.parse::<u32>().ok()?;
    Some(domain)
}

fn fold(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_address() {
        let expected = expected_a("Q1.Alder-Lane.COM.").unwrap();
        assert_eq!(expected.octets()[0], 10);
        assert_eq!(answer("q1.alder-lane.com", rtype::A).answers[0].data, expected.octets());
        assert_ne!(expected_a("q2.alder-lane.com").unwrap(), expected);
        assert_eq!(expected_a("not-alder-lane.com"), None);
        assert_eq!(expected_a("com"), None);
    }

    #[test]
    fn numbered_domains_hold_every_name_too() {
        let domain = numbered_domain(4_711);
        assert!(is_ours(&domain) && is_ours(&format!("a.B.{domain}.")));
        let name = format!("q7.{domain}");
        let expected = expected_a(&name).unwrap();
        assert_eq!(answer(&name, rtype::A).answers[0].data, expected.octets());
        for other in [
            "field-.com",
            "field-x.com",
            "field-1.net",
            "outfield-1.com",
            "field-1.com.net",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_lie_is_never_the_expected_answer() {
        for index in 0..1_000 {
            let name = format!("q{index}.dune-signal.io");
            assert_ne!(
                lie(&name, rtype::A).answers[0].data,
                expected_a(&name).unwrap().octets()
            );
            assert_ne!(
                lie(&name, rtype::AAAA).answers[0].data,
                expected_aaaa(&name).unwrap().octets()
            );
        }
    }

    #[test]
    fn labels_set_ttl_size_and_alias() {
        assert_eq!(answer("ttl-7.alder-lane.com", rtype::A).answers[0].ttl_seconds, 7);
        assert_eq!(answer("a.ttl-0.alder-lane.com", rtype::A).answers[0].ttl_seconds, 0);
        for bytes in [0, 1, 256, 257, 512, 1400, 60_000, 99_999] {
            let data = answer(&format!("big-{bytes}.alder-lane.com"), rtype::TXT)
                .answers
                .remove(0)
                .data;
            assert!(
                data.len().abs_diff(bytes.clamp(1, BIG_BYTES_MAX)) <= 1,
                "{bytes}: {}",
                data.len()
            );
        }
        let alias = answer("cname.alder-lane.com", rtype::A);
        assert_eq!(alias.answers[0].rtype, rtype::CNAME);
        assert_eq!(
            alias.answers[1].data,
            expected_a("target.alder-lane.com").unwrap().octets()
        );
        assert_eq!(expected_a("cname.alder-lane.com"), expected_a("target.alder-lane.com"));
    }

    #[test]
    fn the_real_world_is_served_truly() {
        assert_eq!(answer(".", rtype::NS).answers.len(), 13);
        assert_eq!(answer(".", rtype::SOA).answers.len(), 1);
        assert_eq!(answer("dns.google", rtype::A).answers[1].data, [8, 8, 4, 4]);
        assert_eq!(
            answer("m.root-servers.net", rtype::A).answers[0].data,
            [202, 12, 27, 33]
        );
        assert_eq!(answer("dns.google", rtype::TXT), no_data("dns.google"));
    }

    #[test]
    fn other_names_do_not_exist_and_names_above_ours_are_empty() {
        for name in ["nothing.invalid", "localhost", "x.com", "n.root-servers.net"] {
            assert_eq!(answer(name, rtype::A).rcode, rcode::NXDOMAIN, "{name}");
        }
        for name in [".", "com", "root-servers.net", "one.one"] {
            assert_eq!(answer(name, rtype::A).rcode, rcode::NOERROR, "{name}");
        }
        assert_eq!(
            answer("a.alder-lane.com", 65).authorities[0].owner,
            Owner::Name(wire_name("alder-lane.com"))
        );
    }
}
