//! Names as keys: SHA-256 over a domain string and the name, cut. What is on the wire is never the name itself.
//!
//! Endpoint and site keys are made with the cluster's *name*, which is never sent, not with its key, which is in every
//! snapshot: who reads along must guess the name before trying the world's few hundred providers. It is obfuscation, as
//! strong as the name is unguessable; what keeps others out is admission and QUIC's encryption.

use core::net::{IpAddr, SocketAddr};

use detour_core::report::{ClusterKey, EndpointKey, SiteKey};
use detour_core::topology::{Family, Transport};
use sha2::{Digest as _, Sha256};

/// Domain of [`cluster`].
const CLUSTER: &[u8] = b"detour-cluster:";
/// Domain of [`endpoint`].
const ENDPOINT: &[u8] = b"detour-endpoint:";
/// Domain of [`site`].
const SITE: &[u8] = b"detour-site:";

/// The cluster with this name, byte for byte as configured.
#[must_use]
pub fn cluster(name: &str) -> ClusterKey {
    ClusterKey(cut(&[CLUSTER, name.as_bytes()]))
}

/// The endpoint with this canonical URL ([`canonical_url`]) in the cluster with this name.
#[must_use]
pub fn endpoint(cluster: &str, url: &str) -> EndpointKey {
    EndpointKey(cut(&[ENDPOINT, &length(cluster), cluster.as_bytes(), url.as_bytes()]))
}

/// The site with this name, byte for byte as configured, in the cluster with this name.
#[must_use]
pub fn site(cluster: &str, name: &str) -> SiteKey {
    SiteKey(cut(&[SITE, &length(cluster), cluster.as_bytes(), name.as_bytes()]))
}

/// What gossip knows a message by: the same for the same bytes, whoever sent them.
#[must_use]
pub fn message_id(bytes: &[u8]) -> [u8; 20] {
    cut(&[bytes])
}

/// One way to write an endpoint, so that nodes that write it differently mean the same: scheme and address in lower
/// case, the port always there, IPv6 in brackets and as RFC 5952 has it, a zone left out; `path` as configured and only
/// of DNS over HTTPS, of either version.
///
/// `#name` is no part of it: it says how the certificate is checked, not who answers. Nodes may check the same address
/// under different names (some services put a customer's id there), and an outage is the address's.
#[must_use]
pub fn canonical_url(transport: Transport, address: SocketAddr, path: &str) -> String {
    let port = address.port();
    match address.ip() {
        IpAddr::V4(ip) => written(transport, &ip.to_string(), port, path),
        IpAddr::V6(ip) => written(transport, &format!("[{ip}]"), port, path),
    }
}

/// The same for an endpoint with a host name, at its addresses of one family: `@ipv4` or `@ipv6` stands at the end. What
/// nodes mean by it is the name: each resolves it for itself.
#[must_use]
pub fn canonical_name_url(transport: Transport, host: &str, port: u16, family: Family, path: &str) -> String {
    let family = match family {
        Family::V4 => "@ipv4",
        Family::V6 => "@ipv6",
    };
    written(transport, &host.to_ascii_lowercase(), port, path) + family
}

/// The one way to write it.
fn written(transport: Transport, host: &str, port: u16, path: &str) -> String {
    let (scheme, path) = match transport {
        Transport::Udp => ("udp", ""),
        Transport::Tcp => ("tcp", ""),
        Transport::Tls => ("tls", ""),
        Transport::Https => ("https", path),
        Transport::Quic => ("quic", ""),
        Transport::H3 => ("h3", path),
    };
    format!("{scheme}://{host}:{port}{path}")
}

/// The length of a name before what follows it, so that two pairs never become the same bytes.
fn length(name: &str) -> [u8; 8] {
    u64::try_from(name.len()).unwrap_or(u64::MAX).to_be_bytes()
}

/// The first `N` bytes, at most 32, of the hash of these parts in a row.
fn cut<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    const { assert!(N <= 32, "SHA-256 has 32 bytes") };
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let mut key = [0; N];
    for (to, from) in key.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    key
}
