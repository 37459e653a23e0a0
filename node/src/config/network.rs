//! `[network]`: the resolvers that this machine was given by its network, and what they are used for.

use std::path::PathBuf;

use super::reader::{Item, Reader};

pub(super) const NETWORK_KEYS: &[&str] = &["enabled", "search-domains", "files"];

/// Most places to look at.
const FILES_MAX: usize = 16;

/// Where to look: first what the C library of this machine reads, then what is behind it where that says a forwarder of
/// this machine, then what DHCP clients keep.
const FILES: [&str; 10] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/connman/resolv.conf",
    "/run/systemd/netif/leases",
    "/var/lib/NetworkManager",
    "/var/lib/dhcp",
    "/var/lib/dhclient",
];

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// Whether anybody looks.
    pub(crate) enabled: bool,
    /// Whether its search domains and the reverse names of private networks are asked of it.
    pub(crate) search_domains: bool,
    /// Files and directories, in this order.
    pub(crate) files: Vec<PathBuf>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            enabled: true,
            search_domains: true,
            files: FILES.map(PathBuf::from).to_vec(),
        }
    }
}

/// Reads `[network]`.
pub(super) fn read(reader: &mut Reader, item: &Item<'_>, network: &mut Network) {
    let Some(table) = reader.table(item, NETWORK_KEYS) else {
        return;
    };
    let Network {
        enabled,
        search_domains,
        files,
    } = network;
    reader.set(&table, "enabled", enabled, Reader::flag);
    reader.set(&table, "search-domains", search_domains, Reader::flag);
    let Some(item) = reader.item(&table, "files") else {
        return;
    };
    let elements = reader.elements(&item, "paths", FILES_MAX).unwrap_or_default();
    let paths = elements
        .iter()
        .filter_map(|element| reader.path(element, "must be the path of a file or directory"));
    let paths: Vec<PathBuf> = paths.collect();
    if !paths.is_empty() {
        *files = paths;
    }
}
