//! The resolvers that this machine was given by its network: which of what its files say counts.
//!
//! Several programs write such files (systemd-resolved, NetworkManager, resolvconf, DHCP clients), and when a forwarder
//! runs here, one of them usually says that forwarder. So the files are looked through in order, and the first that names
//! a resolver who is not this machine itself gives all of them: to mix two would mix two networks.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Most resolvers: the C library asks three.
pub const RESOLVERS_MAX: usize = 4;
/// Most search domains: the C library once took six, nobody has as many as this.
pub const SEARCH_MAX: usize = 16;
/// The port of DNS.
const PORT: u16 = 53;
/// What a container's own resolver is called where Docker runs it: on loopback, and yet somebody else.
const OF_DOCKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A resolver as a file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Its address.
    pub ip: IpAddr,
    /// Its port, where the file says one.
    pub port: Option<u16>,
    /// This node listens there, as far as the shell can tell.
    pub is_own: bool,
}

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// In its order.
    pub resolvers: Vec<Named>,
    /// Names in wire form and lower case, in its order.
    pub search: Vec<Box<[u8]>>,
}

/// What counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Which source it is of; `None`: none of them names anybody.
    pub source: Option<usize>,
    /// At most [`RESOLVERS_MAX`], each once.
    pub resolvers: Vec<SocketAddr>,
    /// At most [`SEARCH_MAX`], each once: those of the source, then those of the first of all, which is where a person
    /// writes.
    pub search: Vec<Box<[u8]>>,
}

/// Chooses.
#[must_use]
pub fn choose(sources: &[Source]) -> Given {
    let mut given = Given::default();
    for (index, source) in sources.iter().enumerate() {
        for address in source.resolvers.iter().filter_map(usable) {
            if given.resolvers.len() < RESOLVERS_MAX && !given.resolvers.contains(&address) {
                given.resolvers.push(address);
            }
        }
        if !given.resolvers.is_empty() {
            given.source = Some(index);
            for name in source
                .search
                .iter()
                .chain(sources.first().into_iter().flat_map(|first| &first.search))
            {
                if given.search.len() < SEARCH_MAX && !given.search.contains(name) {
                    given.search.push(name.clone());
                }
            }
            break;
        }
    }
    given
}

/// Where a named resolver is asked, if it may be.
///
/// A loopback address without a port is a forwarder of this machine, which may well ask this node: only Docker's is known
/// to be somebody else. With a port it was somebody's intention. Link-local addresses hold on one link only, and the file
/// does not always say which.
fn usable(named: &Named) -> Option<SocketAddr> {
    let ip = named.ip.to_canonical();
    let is_somewhere = !ip.is_unspecified() && !ip.is_multicast();
    let is_link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let is_forwarder = ip.is_loopback() && named.port.is_none() && ip != IpAddr::V4(OF_DOCKER);
    let is_usable = is_somewhere && !is_link_local && !is_forwarder && !named.is_own && named.port != Some(0);
    is_usable.then(|| SocketAddr::new(ip, named.port.unwrap_or(PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Named {
        match text.parse::<SocketAddr>() {
            Ok(address) => Named {
                ip: address.ip(),
                port: Some(address.port()),
                is_own: false,
            },
            Err(_) => Named {
                ip: text.parse().unwrap(),
                port: None,
                is_own: false,
            },
        }
    }

    fn source(resolvers: &[&str], search: &[&[u8]]) -> Source {
        Source {
            resolvers: resolvers.iter().map(|text| named(text)).collect(),
            search: search.iter().map(|name| (*name).into()).collect(),
        }
    }

    fn resolvers(sources: &[Source]) -> Vec<String> {
        choose(sources).resolvers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_file_that_names_somebody_else_counts() {
        let own = source(&["127.0.0.1", "::1"], &[b"\x03lan\x00"]);
        let stub = source(&["127.0.0.53"], &[]);
        let real = source(&["192.168.1.1", "2001:db8::1"], &[b"\x04home\x00"]);
        let other = source(&["10.0.0.1"], &[b"\x05other\x00"]);
        let given = choose(&[own.clone(), stub.clone(), real, other]);
        assert_eq!(given.source, Some(2));
        assert_eq!(
            given.resolvers,
            ["192.168.1.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]
        );
        // What a person wrote beside this node's own address still counts; another network's does not.
        let search: Vec<&[u8]> = given.search.iter().map(AsRef::as_ref).collect();
        assert_eq!(search, [&b"\x04home\x00"[..], b"\x03lan\x00"]);
        let nobody = choose(&[own, stub]);
        assert_eq!(nobody, Given::default());
        assert_eq!(choose(&[]), Given::default());
    }

    #[test]
    fn this_machine_is_not_asked() {
        for text in [
            "127.0.0.1",
            "127.0.0.53",
            "127.0.1.1",
            "::1",
            "0.0.0.0",
            "::",
            "224.0.0.251",
            "ff02::fb",
            "fe80::1",
            "::ffff:127.0.0.1",
            "192.0.2.1:0",
        ] {
            assert!(resolvers(&[source(&[text], &[])]).is_empty(), "{text}");
        }
        let mut own = source(&["192.0.2.1", "192.0.2.2"], &[]);
        own.resolvers[0].is_own = true;
        assert_eq!(resolvers(&[own]), ["192.0.2.2:53"]);
        assert_eq!(resolvers(&[source(&["127.0.0.11"], &[])]), ["127.0.0.11:53"]);
        assert_eq!(resolvers(&[source(&["127.0.0.1:5301"], &[])]), ["127.0.0.1:5301"]);
        assert_eq!(resolvers(&[source(&["::ffff:192.0.2.1"], &[])]), ["192.0.2.1:53"]);
    }

    #[test]
    fn there_is_a_bound_on_all_of_it() {
        let texts: Vec<String> = (1..100).map(|n| format!("192.0.2.{n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let names: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![1, n, 0]).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let given = choose(&[source(&texts, &names)]);
        assert_eq!((given.resolvers.len(), given.search.len()), (RESOLVERS_MAX, SEARCH_MAX));
        let twice = source(&["192.0.2.1", "192.0.2.1"], &[b"\x01a\x00", b"\x01a\x00"]);
        let given = choose(&[twice]);
        assert_eq!((given.resolvers.len(), given.search.len()), (1, 1));
    }
}
