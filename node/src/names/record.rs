//! A name's addresses as they are kept: a stamp, and for each address its family and its octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use detour_core::names::ADDRESSES_MAX;

use crate::stamp::{STAMP_BYTES, Stamp};

/// Before four octets.
const V4: u8 = 4;
/// Before sixteen octets.
const V6: u8 = 6;

/// To be kept.
#[must_use]
pub(super) fn encode(stamp: &Stamp, addresses: &[IpAddr]) -> Vec<u8> {
    let mut record = stamp.to_bytes().to_vec();
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match address {
            IpAddr::V4(ip) => {
                record.push(V4);
                record.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                record.push(V6);
                record.extend_from_slice(&ip.octets());
            }
        }
    }
    record
}

/// From what was kept; `None` unless it is whole.
#[must_use]
pub(super) fn decode(record: &[u8]) -> Option<(Stamp, Vec<IpAddr>)> {
    let (stamp, mut rest) = record.split_at_checked(STAMP_BYTES)?;
    let mut addresses = Vec::new();
    while let Some((family, after)) = rest.split_first() {
        let address = match *family {
            V4 => {
                let (octets, after) = after.split_first_chunk::<4>()?;
                rest = after;
                IpAddr::V4(Ipv4Addr::from(*octets))
            }
            V6 => {
                let (octets, after) = after.split_first_chunk::<16>()?;
                rest = after;
                IpAddr::V6(Ipv6Addr::from(*octets))
            }
            _ => return None,
        };
        if addresses.len() >= ADDRESSES_MAX {
            return None;
        }
        addresses.push(address);
    }
    Some((Stamp::from_bytes(stamp)?, addresses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootClock;

    #[test]
    fn addresses_survive_their_bytes_and_what_is_not_whole_is_none() {
        let stamp = Stamp::now(&BootClock);
        let addresses: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let record = encode(&stamp, &addresses);
        assert_eq!(decode(&record), Some((stamp, addresses)));
        let whole = [STAMP_BYTES, STAMP_BYTES + 5, record.len()];
        for length in (0..record.len()).filter(|length| !whole.contains(length)) {
            assert_eq!(decode(&record[..length]), None, "{length}");
        }
        let many = [&record[..STAMP_BYTES], &[V4, 192, 0, 2, 1].repeat(ADDRESSES_MAX + 1)].concat();
        assert_eq!(decode(&many), None);
    }
}
