//! DNS stamps: all that is needed to reach a resolver, in one string (draft-denis-dns-stamps).
//!
//! `sdns://` and base64url of: a protocol, eight octets of properties, and fields with their lengths before them. A stamp
//! comes from a list or a web page, so every length is held against what is there, every number of things has a bound,
//! and nothing that a stamp asks for is passed over in silence: what cannot be done is an error. What a stamp says becomes
//! a URL ([`Stamp::to_url`]), which is judged like one that was typed.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use detour_core::Transport;

use crate::exchange::tls::CertificateHash;

/// Longest stamp, characters: four fields and all the hashes that are taken.
const TEXT_MAX: usize = 2_048;
/// Most certificate hashes: the one in use, and those of a rotation.
pub const HASHES_MAX: usize = 16;
/// Most resolvers that the stamp's host name may be resolved through.
pub const BOOTSTRAP_MAX: usize = 8;
/// What a stamp begins with.
const SCHEME: &str = "sdns://";
/// In a length: another of the same follows.
const MORE: u8 = 0x80;

/// Why a text is no stamp that can be used. All of them the operator's mistakes, or those of whoever made the stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseStampError {
    /// Far too long.
    #[error("the stamp is longer than {TEXT_MAX} characters")]
    TooLong,
    /// Not the letters of base64url, or not a whole number of octets.
    #[error("the stamp is cut off, or has characters that are not of base64url")]
    Base64,
    /// It ends too soon.
    #[error("the stamp is cut off")]
    Short,
    /// It goes on behind its end.
    #[error("the stamp has {0} octets too many")]
    Long(usize),
    /// A protocol that Detour does not speak.
    #[error("the stamp is for {0}, which Detour does not speak: plain DNS, DoH, DoT and DoQ are")]
    Protocol(&'static str),
    /// A protocol of nobody's.
    #[error("the stamp is for protocol {0:#04x}, which is none: plain DNS, DoH, DoT and DoQ are")]
    UnknownProtocol(u8),
    /// Neither an address nor a port.
    #[error("the stamp's address is no IP address")]
    Address,
    /// Behind a colon.
    #[error("the stamp's port must be a number from 1 to 65535")]
    Port,
    /// The address has one and the host name another.
    #[error("the stamp has two ports")]
    TwoPorts,
    /// Neither an address nor a host name.
    #[error("the stamp has neither an address nor a host name")]
    Nowhere,
    /// Not of SHA-256.
    #[error("a certificate hash of the stamp has {0} octets: SHA-256 has 32")]
    Hash(usize),
    /// Far too many.
    #[error("the stamp has more than {HASHES_MAX} certificate hashes")]
    Hashes,
    /// One that cannot be asked.
    #[error("a resolver that the stamp recommends for its host name is no IP address")]
    Bootstrap,
    /// Far too many.
    #[error("the stamp recommends more than {BOOTSTRAP_MAX} resolvers for its host name")]
    Bootstraps,
    /// Not text.
    #[error("a text of the stamp is not UTF-8")]
    Text,
}

/// What the operator of a resolver says of it; nobody checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties(u64);

impl Properties {
    /// It validates DNSSEC.
    #[must_use]
    pub fn validates(self) -> bool {
        self.0 & 1 != 0
    }

    /// It filters nothing on purpose.
    #[must_use]
    pub fn filters_nothing(self) -> bool {
        self.0 & 4 != 0
    }
}

/// A stamp, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// How the resolver is spoken to.
    pub transport: Transport,
    /// What its operator says of it.
    pub properties: Properties,
    /// Where it is; else its host name tells.
    pub address: Option<IpAddr>,
    /// Where it is, if not at its protocol's usual port.
    pub port: Option<u16>,
    /// One of these is in the chain of its certificate, if there are any.
    pub hashes: Vec<CertificateHash>,
    /// SNI and name in the certificate; may be empty if there is an address.
    pub host: String,
    /// Of DoH.
    pub path: String,
    /// Resolvers over plain DNS that may be asked for the host name.
    pub bootstrap: Vec<IpAddr>,
}

/// Octets that are left.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ParseStampError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ParseStampError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn octet(&mut self) -> Result<u8, ParseStampError> {
        let taken = self.take(1)?;
        taken.first().copied().ok_or(ParseStampError::Short)
    }

    /// A field with its length before it.
    fn field(&mut self) -> Result<&'a [u8], ParseStampError> {
        let length = self.octet()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<&'a str, ParseStampError> {
        str::from_utf8(self.field()?).map_err(|_not_text| ParseStampError::Text)
    }

    /// Fields, the last one marked; empty ones are nothing.
    fn fields(&mut self, most: usize, too_many: ParseStampError) -> Result<Vec<&'a [u8]>, ParseStampError> {
        let mut fields = Vec::new();
        loop {
            let length = self.octet()?;
            let field = self.take(usize::from(length & !MORE))?;
            if !field.is_empty() {
                if fields.len() >= most {
                    return Err(too_many);
                }
                fields.push(field);
            }
            if length & MORE == 0 {
                return Ok(fields);
            }
        }
    }
}

impl FromStr for Stamp {
    type Err = ParseStampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TEXT_MAX {
            return Err(ParseStampError::TooLong);
        }
        let octets = decode(text.strip_prefix(SCHEME).unwrap_or(text)).ok_or(ParseStampError::Base64)?;
        let mut rest = Octets(&octets);
        let transport = transport(rest.octet()?)?;
        let properties = rest.take(8)?.first_chunk().ok_or(ParseStampError::Short)?;
        let (address, mut port) = address(rest.text()?)?;
        let mut stamp = Self {
            transport,
            properties: Properties(u64::from_le_bytes(*properties)),
            address,
            port,
            hashes: Vec::new(),
            host: String::new(),
            path: String::new(),
            bootstrap: Vec::new(),
        };
        if transport.is_encrypted() {
            for hash in rest.fields(HASHES_MAX, ParseStampError::Hashes)? {
                let whole = hash.try_into().map_err(|_other| ParseStampError::Hash(hash.len()))?;
                stamp.hashes.push(CertificateHash(whole));
            }
            let (host, of_host) = host(rest.text()?)?;
            host.clone_into(&mut stamp.host);
            port = match (port, of_host) {
                (Some(one), Some(other)) if one != other => return Err(ParseStampError::TwoPorts),
                (one, other) => one.or(other),
            };
            stamp.port = port;
            if transport == Transport::Https {
                rest.text()?.clone_into(&mut stamp.path);
            }
            if !rest.0.is_empty() {
                for resolver in rest.fields(BOOTSTRAP_MAX, ParseStampError::Bootstraps)? {
                    stamp.bootstrap.push(bootstrap(resolver)?);
                }
            }
        }
        match rest.0.len() {
            0 if stamp.address.is_none() && stamp.host.is_empty() => Err(ParseStampError::Nowhere),
            0 => Ok(stamp),
            more => Err(ParseStampError::Long(more)),
        }
    }
}

impl Stamp {
    /// The same as an endpoint is written: `https://9.9.9.9/dns-query#dns.quad9.net`. What cannot be in a URL is in this
    /// one all the same, for whoever reads it to refuse.
    #[must_use]
    pub fn to_url(&self) -> String {
        let scheme = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Https => "https",
            Transport::Quic => "quic",
            Transport::H3 => "h3",
        };
        let mut url = format!("{scheme}://");
        match self.address {
            Some(IpAddr::V4(ip)) => url.push_str(&ip.to_string()),
            Some(IpAddr::V6(ip)) => url.push_str(&format!("[{ip}]")),
            None => url.push_str(&self.host),
        }
        if let Some(port) = self.port {
            let _infallible = write!(url, ":{port}");
        }
        url.push_str(&self.path);
        if self.address.is_some() && !self.host.is_empty() {
            url.push('#');
            url.push_str(&self.host);
        }
        url
    }

    /// The stamp of these parts; fields that are too long for one are cut.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut octets = vec![match self.transport {
            Transport::Udp | Transport::Tcp => 0,
            Transport::Https | Transport::H3 => 2,
            Transport::Tls => 3,
            Transport::Quic => 4,
        }];
        octets.extend_from_slice(&self.properties.0.to_le_bytes());
        let mut address = match self.address {
            Some(IpAddr::V4(ip)) => ip.to_string(),
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            None => String::new(),
        };
        if let Some(port) = self.port {
            let _infallible = write!(address, ":{port}");
        }
        push_fields(&mut octets, &[address.as_bytes()]);
        if self.transport.is_encrypted() {
            let hashes: Vec<&[u8]> = self.hashes.iter().map(|hash| hash.0.as_slice()).collect();
            push_fields(&mut octets, &hashes);
            push_fields(&mut octets, &[self.host.as_bytes()]);
            if self.transport == Transport::Https {
                push_fields(&mut octets, &[self.path.as_bytes()]);
            }
            if !self.bootstrap.is_empty() {
                let resolvers: Vec<String> = self.bootstrap.iter().map(ToString::to_string).collect();
                let resolvers: Vec<&[u8]> = resolvers.iter().map(String::as_bytes).collect();
                push_fields(&mut octets, &resolvers);
            }
        }
        format!("{SCHEME}{}", encode(&octets))
    }
}

/// Fields with their lengths, all but the last marked.
fn push_fields(octets: &mut Vec<u8>, fields: &[&[u8]]) {
    if fields.is_empty() {
        octets.push(0);
    }
    for (left, field) in (0..fields.len()).rev().zip(fields) {
        let most = if fields.len() > 1 { 0x7f } else { 0xff };
        let length = u8::try_from(field.len()).unwrap_or(u8::MAX).min(most);
        octets.push(if left > 0 { length | MORE } else { length });
        octets.extend(field.iter().take(usize::from(length)));
    }
}

fn transport(protocol: u8) -> Result<Transport, ParseStampError> {
    match protocol {
        0x00 => Ok(Transport::Udp),
        0x02 => Ok(Transport::Https),
        0x03 => Ok(Transport::Tls),
        0x04 => Ok(Transport::Quic),
        0x01 => Err(ParseStampError::Protocol("DNSCrypt")),
        0x05 => Err(ParseStampError::Protocol("oblivious DoH")),
        0x81 => Err(ParseStampError::Protocol("a relay of anonymized DNSCrypt")),
        0x85 => Err(ParseStampError::Protocol("a relay of oblivious DoH")),
        other => Err(ParseStampError::UnknownProtocol(other)),
    }
}

/// An address, a port, both or nothing: `9.9.9.9`, `[2620:fe::9]:8443`, `:443`.
fn address(text: &str) -> Result<(Option<IpAddr>, Option<u16>), ParseStampError> {
    let (ip, rest) = if let Some(bracketed) = text.strip_prefix('[') {
        let (ip, rest) = bracketed.split_once(']').ok_or(ParseStampError::Address)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_no_address| ParseStampError::Address)?;
        (Some(IpAddr::V6(ip)), rest)
    } else {
        let at = text.find(':').unwrap_or(text.len());
        let (ip, rest) = text.split_at_checked(at).ok_or(ParseStampError::Address)?;
        let parsed = ip.parse::<Ipv4Addr>().map_err(|_no_address| ParseStampError::Address);
        (if ip.is_empty() { None } else { Some(IpAddr::V4(parsed?)) }, rest)
    };
    Ok((ip, port(rest)?))
}

/// A host name, perhaps with a port.
fn host(text: &str) -> Result<(&str, Option<u16>), ParseStampError> {
    let at = text.find(':').unwrap_or(text.len());
    let (host, rest) = text.split_at_checked(at).ok_or(ParseStampError::Port)?;
    Ok((host, port(rest)?))
}

/// Nothing, or a colon and a number.
fn port(text: &str) -> Result<Option<u16>, ParseStampError> {
    let Some(number) = text.strip_prefix(':') else {
        return if text.is_empty() {
            Ok(None)
        } else {
            Err(ParseStampError::Port)
        };
    };
    let is_number = number.bytes().all(|octet| octet.is_ascii_digit());
    let port = number.parse().ok().filter(|port| is_number && *port != 0);
    port.map(Some).ok_or(ParseStampError::Port)
}

/// A resolver by its address, in brackets or not.
fn bootstrap(octets: &[u8]) -> Result<IpAddr, ParseStampError> {
    let text = str::from_utf8(octets).map_err(|_not_text| ParseStampError::Text)?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse()
        .map_err(|_no_address| ParseStampError::Bootstrap)
}

/// The letters of base64url, by value (RFC 4648 section 5).
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Octets of base64url without padding; what is left over must be zero, so that a stamp has one spelling.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0_u32, 0_u32);
    for letter in text.bytes() {
        let value = LETTERS.iter().position(|own| *own == letter)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        count = count.checked_add(6)?;
        if count >= 8 {
            count = count.checked_sub(8)?;
            let [.., octet] = (bits >> count).to_be_bytes();
            octets.push(octet);
            bits &= (1 << count) - 1;
        }
    }
    (count < 6 && bits == 0).then_some(octets)
}

fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3).saturating_mul(4));
    for three in octets.chunks(3) {
        let padded = three.iter().chain(&[0, 0]).take(3);
        let bits = padded.fold(0_u32, |bits, octet| (bits << 8) | u32::from(*octet));
        for shift in [18_u32, 12, 6, 0].iter().take(three.len().saturating_add(1)) {
            let value = usize::try_from((bits >> shift) & 63).unwrap_or_default();
            text.push(LETTERS.get(value).map_or('A', |letter| char::from(*letter)));
        }
    }
    text
}

#[cfg(test)]
mod tests;
