//! Asks a resolver for the encrypted ones it designates (RFC 9462 section 4): SVCB records of `_dns.resolver.arpa`.
//!
//! Reads what is there and believes none of it: that is [`detour_core::ddr`]'s to decide.

use std::net::IpAddr;
use std::time::Duration;

use detour_core::Transport;
use detour_core::ddr::Offer;
use hickory_resolver::proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::bootstrap::{BootstrapServer, resolver};

/// The name that stands for the resolver itself.
const NAME: &str = "_dns.resolver.arpa.";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most records that are looked at.
const OFFERS_MAX: usize = 16;
/// Most addresses of one record.
const HINTS_MAX: usize = 4;
/// The path template of DNS over HTTPS (RFC 9461 section 5).
const KEY_DOHPATH: u16 = 7;

/// What a resolver offers and for how long, seconds; `None`: it said nothing that could be read.
pub async fn designations(server: &BootstrapServer) -> Option<(Vec<Offer>, u32)> {
    let resolver = resolver(server)?;
    let lookup = tokio::time::timeout(PATIENCE, resolver.lookup(NAME, RecordType::SVCB)).await;
    let lookup = lookup.ok()?.ok()?;
    let mut offers = Vec::new();
    let mut ttl_s = u32::MAX;
    for record in lookup.answers().iter().take(OFFERS_MAX) {
        if let RData::SVCB(svcb) = &record.data {
            ttl_s = ttl_s.min(record.ttl);
            offers.extend(offer(svcb));
        }
    }
    Some((offers, ttl_s))
}

/// What a record in service mode offers; `None` for an alias (RFC 9460 section 2.4.2), and where a key is mandatory that
/// is not known here (section 8).
fn offer(svcb: &SVCB) -> Option<Offer> {
    if svcb.svc_priority == 0 {
        return None;
    }
    let target = svcb.target_name.to_ascii().to_ascii_lowercase();
    let mut offer = Offer {
        priority: svcb.svc_priority,
        target: target.trim_end_matches('.').to_owned(),
        transports: Vec::new(),
        port: None,
        hints: Vec::new(),
        path: None,
    };
    for (key, value) in &svcb.svc_params {
        match value {
            SvcParamValue::Mandatory(keys) => {
                let is_known = |key: &SvcParamKey| u16::from(*key) <= 4 || matches!(u16::from(*key), 6 | KEY_DOHPATH);
                if !keys.0.iter().all(is_known) {
                    return None;
                }
            }
            SvcParamValue::Alpn(alpn) => offer.transports = alpn.0.iter().filter_map(|own| transport(own)).collect(),
            SvcParamValue::Port(port) => offer.port = Some(*port).filter(|port| *port != 0),
            SvcParamValue::Ipv4Hint(hints) => {
                offer
                    .hints
                    .extend(hints.0.iter().take(HINTS_MAX).map(|ip| IpAddr::V4(ip.0)));
            }
            SvcParamValue::Ipv6Hint(hints) => {
                offer
                    .hints
                    .extend(hints.0.iter().take(HINTS_MAX).map(|ip| IpAddr::V6(ip.0)));
            }
            SvcParamValue::Unknown(unknown) if u16::from(*key) == KEY_DOHPATH => {
                offer.path = String::from_utf8(unknown.0.clone()).ok();
            }
            SvcParamValue::NoDefaultAlpn | SvcParamValue::EchConfigList(_) | SvcParamValue::Unknown(_) => {}
        }
    }
    Some(offer)
}

/// What an ALPN means here (RFC 9461 section 4.1).
fn transport(alpn: &str) -> Option<Transport> {
    match alpn {
        "dot" => Some(Transport::Tls),
        "doq" => Some(Transport::Quic),
        "h2" => Some(Transport::Https),
        "h3" => Some(Transport::H3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::Name;
    use hickory_resolver::proto::rr::rdata::svcb::{Alpn, Mandatory, Unknown};

    fn svcb(priority: u16, params: Vec<(SvcParamKey, SvcParamValue)>) -> SVCB {
        SVCB::new(priority, Name::from_ascii("DNS.example.").unwrap(), params)
    }

    #[test]
    fn a_record_is_read_and_one_that_asks_too_much_is_not() {
        let alpn = Alpn(["h2", "dot", "spdy"].map(str::to_owned).into());
        let params = vec![
            (SvcParamKey::Alpn, SvcParamValue::Alpn(alpn)),
            (SvcParamKey::Port, SvcParamValue::Port(8443)),
            (
                SvcParamKey::Key(KEY_DOHPATH),
                SvcParamValue::Unknown(Unknown(b"/q{?dns}".to_vec())),
            ),
        ];
        let read = offer(&svcb(1, params.clone())).unwrap();
        assert_eq!((read.target.as_str(), read.port), ("dns.example", Some(8443)));
        assert_eq!(read.transports, [Transport::Https, Transport::Tls]);
        assert_eq!(read.path.as_deref(), Some("/q{?dns}"));
        assert_eq!(offer(&svcb(0, params.clone())), None, "an alias");
        let demand = |key| {
            let mandatory = SvcParamValue::Mandatory(Mandatory(vec![key]));
            offer(&svcb(
                1,
                [vec![(SvcParamKey::Mandatory, mandatory)], params.clone()].concat(),
            ))
        };
        assert!(demand(SvcParamKey::Port).is_some());
        assert_eq!(demand(SvcParamKey::Key(4_711)), None);
    }
}
