//! The two messages of rtnetlink(7) that are needed: a request for the route to an address, and its answer. Numbers are
//! in the machine's own byte order, everything is aligned to four bytes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
/// A next hop of another family: IPv4 over an IPv6 router (RFC 9229).
const RTA_VIA: u16 = 18;
/// Of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Of `struct rtmsg`.
const ROUTE_BYTES: usize = 12;

/// The first step of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hop {
    /// Number of the interface; 0 if not told.
    pub(super) interface: u32,
    /// The next hop, where it is not the address itself.
    pub(super) gateway: Option<IpAddr>,
}

/// Asks for the route to an address.
pub(super) fn route_request(address: IpAddr, sequence: u32) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    };
    // 4 or 16.
    let octet_count = u8::try_from(octets.len()).unwrap_or(0);
    let attribute_bytes = u16::from(octet_count) + 4;
    let total = u32::from(attribute_bytes) + 28;
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&total.to_ne_bytes());
    out.extend_from_slice(&RTM_GETROUTE.to_ne_bytes());
    out.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out.extend_from_slice(&[family, octet_count.saturating_mul(8), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&attribute_bytes.to_ne_bytes());
    out.extend_from_slice(&RTA_DST.to_ne_bytes());
    out.extend_from_slice(&octets);
    out
}

/// The answer to the request under `sequence`; `None` if this is another message.
pub(super) fn answer(message: &[u8], sequence: u32) -> Option<io::Result<Hop>> {
    let length = usize::try_from(u32_at(message, 0)?).ok()?;
    let message = message.get(..length)?;
    if u32_at(message, 8)? != sequence {
        return None;
    }
    match u16_at(message, 4)? {
        NLMSG_ERROR => {
            let code = i32::from_ne_bytes(array_at(message, HEADER_BYTES)?);
            Some(Err(io::Error::from_raw_os_error(code.saturating_neg())))
        }
        RTM_NEWROUTE => {
            let attributes = message.get(HEADER_BYTES.saturating_add(ROUTE_BYTES)..)?;
            Some(Ok(hop(attributes)))
        }
        _ => None,
    }
}

/// What the attributes say of the first step; one that is cut off ends them.
fn hop(mut attributes: &[u8]) -> Hop {
    let mut hop = Hop {
        interface: 0,
        gateway: None,
    };
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        let Some(value) = attributes.get(4..length) else {
            break;
        };
        match kind {
            RTA_OIF => hop.interface = u32_at(value, 0).unwrap_or(0),
            RTA_GATEWAY => hop.gateway = ip(value),
            RTA_VIA => hop.gateway = value.get(2..).and_then(ip),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hop
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(Ipv4Addr::from(array_at::<4>(octets, 0)?).into()),
        16 => Some(Ipv6Addr::from(array_at::<16>(octets, 0)?).into()),
        _ => None,
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of this type with this body.
    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        let mut out = length.to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend([0, 0]);
        out.extend(sequence.to_ne_bytes());
        out.extend([0; 4]);
        out.extend(body);
        out
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut out = length.to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn route(attributes: &[Vec<u8>]) -> Vec<u8> {
        message(RTM_NEWROUTE, 7, &[vec![0; ROUTE_BYTES], attributes.concat()].concat())
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        for (ip, length) in [("192.0.2.1", 36_u8), ("2001:db8::1", 48)] {
            let request = route_request(ip.parse().unwrap(), 9);
            assert_eq!(
                (request.len(), u32_at(&request, 0)),
                (usize::from(length), Some(u32::from(length)))
            );
            assert_eq!(u32_at(&request, 8), Some(9));
        }
    }

    #[test]
    fn interface_and_next_hop_are_read() {
        let interface = attribute(RTA_OIF, &3_u32.to_ne_bytes());
        let odd = attribute(99, &[1, 2, 3, 4, 5]);
        let plain = attribute(RTA_GATEWAY, &[192, 0, 2, 1]);
        let v6 = "fe80::1".parse::<Ipv6Addr>().unwrap();
        let via = attribute(RTA_VIA, &[&10_u16.to_ne_bytes()[..], &v6.octets()].concat());
        for (last, gateway) in [
            (plain, Some("192.0.2.1".parse().unwrap())),
            (via, Some(IpAddr::V6(v6))),
            (Vec::new(), None),
        ] {
            let found = answer(&route(&[odd.clone(), interface.clone(), last]), 7)
                .unwrap()
                .unwrap();
            assert_eq!(found, Hop { interface: 3, gateway });
        }
    }

    #[test]
    fn an_error_is_the_kernels() {
        let refused = message(NLMSG_ERROR, 7, &(-101_i32).to_ne_bytes());
        let error = answer(&refused, 7).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
        assert!(answer(&refused, 8).is_none(), "another's");
    }

    #[test]
    fn no_bytes_are_too_few_or_wrong() {
        let whole = route(&[
            attribute(RTA_OIF, &3_u32.to_ne_bytes()),
            attribute(RTA_GATEWAY, &[192, 0, 2, 1]),
        ]);
        for end in 0..whole.len() {
            assert!(answer(&whole[..end], 7).is_none());
            // The header says less than there is.
            let mut cut = whole.clone();
            cut[..4].copy_from_slice(&u32::try_from(end).unwrap().to_ne_bytes());
            drop(answer(&cut, 7));
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 3, 255] {
                let mut wrong = whole.clone();
                wrong[at] = byte;
                drop(answer(&wrong, 7));
            }
        }
    }
}
