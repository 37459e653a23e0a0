//! Names that are answered here: special-use and reverse zones, and the hosts file. None of them reaches a provider.
//!
//! Nearly every name is none of these, and finding that out is all it may cost: a look at its last label and one at the
//! hosts table, without an allocation. Only a name that is found pays for hickory's catalog.
//!
//! Where zone and file both speak of a name, `localhost` and the names of the loopback addresses are the zone's, and all
//! others the file's: `nas.local` in the file is an address, although `local` is denied.
//!
//! The file's loopback addresses (127.0.0.0/8 and ::1) are for clients on this machine: to another machine they would
//! name itself. A name that has no other address exists for others, without data, and is asked of nobody.

mod catalog;
mod hosts;
mod hosts_file;
#[cfg(test)]
mod tests;
mod zone;
mod zones;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use detour_core::Time;
use hickory_server::zone_handler::Catalog;

use self::hosts::{Hosts, Said};
use self::hosts_file::HostsFile;
use self::zone::Zone;
use self::zones::Zones;
pub use self::zones::{BuiltIn, zone_names};
use crate::tasks::Tasks;
use crate::wire::{Answer, NameBuf};

/// What is answered here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Zones that are switched off, each one of [`zone_names`].
    pub off: Vec<&'static str>,
    /// The hosts file, if one is used.
    pub hosts: Option<PathBuf>,
}

/// Who answers a name here, as operators are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// A zone that is built in.
    Zone(BuiltIn),
    /// The hosts file at this path.
    Hosts(&'a Path),
}

/// A name that is answered here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// As its zone says.
    Zone(BuiltIn),
    /// Its zone would deny it, but the hosts file has a name below it.
    Parent(BuiltIn),
    /// A host with these addresses, which may be none.
    Host(Box<[IpAddr]>),
    /// The name of this host's address.
    Pointer(Box<NameBuf>),
}

impl Found {
    /// Whether it comes from the hosts file and so may change with it.
    pub(crate) fn is_from_hosts(&self) -> bool {
        match self {
            Self::Zone(_) => false,
            Self::Parent(_) | Self::Host(_) | Self::Pointer(_) => true,
        }
    }
}

/// All that is answered here.
pub struct Local {
    zones: Zones,
    catalog: Catalog,
    hosts: Option<HostsFile>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl Local {
    /// The zones at once; the hosts file at its first look.
    pub(crate) fn new(settings: Settings) -> Self {
        let zones = Zones::without(&settings.off);
        Self {
            catalog: catalog::of_built_in(&zones),
            zones,
            hosts: settings.hosts.map(HostsFile::new),
        }
    }

    /// Says whether a name is answered here, for this client.
    pub(crate) fn find(&self, name: &NameBuf, client: IpAddr) -> Option<Found> {
        let zone = self.zones.find(name);
        if let Some(zone) = zone
            && zone.is_localhost_at(name)
        {
            return Some(Found::Zone(zone));
        }
        let hosts = self
            .hosts
            .as_ref()
            .and_then(|file| file.with(|hosts| from_hosts(hosts, name, zone, client.to_canonical().is_loopback())));
        hosts.or_else(|| zone.map(Found::Zone))
    }

    /// As [`Self::find`], where a route has the last so many octets of the name for its zone: a zone that is built in
    /// gives way to a route that names it, or a name in it. What the hosts file says stands.
    pub(crate) fn find_unrouted(&self, name: &NameBuf, client: IpAddr, routed: Option<usize>) -> Option<Found> {
        let found = self.find(name, client)?;
        let gives_way = |zone: BuiltIn| routed.is_some_and(|bytes| bytes >= zone.wire_bytes());
        match found {
            Found::Zone(zone) | Found::Parent(zone) if gives_way(zone) => None,
            Found::Zone(_) | Found::Parent(_) | Found::Host(_) | Found::Pointer(_) => Some(found),
        }
    }

    /// The answer to a question of class IN about a name that was found; `None` if there is none, a mistake of ours.
    pub(crate) fn answer(&self, found: &Found, name: &NameBuf, qtype: u16) -> Option<Answer> {
        let zone = match found {
            Found::Zone(_) => return catalog::ask(&self.catalog, name, qtype),
            Found::Parent(zone) => Zone::without_data(&zone.name.parse().ok()?),
            Found::Host(addresses) => Zone::of_host(name, addresses),
            Found::Pointer(host) => Zone::of_pointer(name, host),
        };
        catalog::ask(&catalog::of_one(zone?), name, qtype)
    }

    /// Who answers this question of class IN here and how, for a client on this machine, where zones give way as in
    /// [`Generation::yields`](crate::generation::Generation::yields).
    #[must_use]
    pub fn explain(&self, name: &NameBuf, qtype: u16, routed: Option<usize>) -> Option<(By<'_>, Answer)> {
        let found = self.find_unrouted(name, IpAddr::from([127, 0, 0, 1]), routed)?;
        let by = match (&found, self.hosts_path()) {
            (Found::Zone(zone), _) => By::Zone(*zone),
            (Found::Parent(_) | Found::Host(_) | Found::Pointer(_), path) => By::Hosts(path?),
        };
        Some((by, self.answer(&found, name, qtype)?))
    }

    /// Why the hosts file's names may not be those of the file: path and reason.
    #[must_use]
    pub fn hosts_trouble(&self, now: Time) -> Option<(&Path, String)> {
        let file = self.hosts.as_ref()?;
        file.trouble(now).map(|why| (file.path(), why))
    }

    fn hosts_path(&self) -> Option<&Path> {
        self.hosts.as_ref().map(HostsFile::path)
    }

    /// Has the hosts file looked at, if a second has passed since it was.
    pub(crate) fn look_if_due(self: &Arc<Self>, now: Time, tasks: &Tasks) {
        if self.hosts.as_ref().is_none_or(|file| !file.is_due(now)) {
            return;
        }
        let (own, reader, disk) = (Arc::clone(self), Arc::clone(self), tasks.clone());
        let look = move || {
            if let Some(file) = &reader.hosts {
                file.look(&reader.zones);
            }
        };
        tasks.spawn_job(async move {
            tokio::select! {
                // Cancel safe: nobody waits for a disk at the end.
                () = disk.token().cancelled() => {}
                looked = disk.blocking(look) => {
                    if let (Err(error), Some(file)) = (looked, &own.hosts) {
                        tracing::warn!(%error, "cannot read the hosts file");
                        file.give_up();
                    }
                }
            }
        });
    }

    /// Whether the hosts file is being read, so that what it says may be something else in a moment.
    pub(crate) fn is_being_read(&self, now: Time) -> bool {
        self.hosts.as_ref().is_some_and(|file| file.is_being_read(now))
    }

    /// Waits until the hosts file has been read, if it is being read and as long as that is worth it.
    pub(crate) async fn settle(&self, now: Time) {
        if let Some(file) = &self.hosts {
            file.settle(now).await;
        }
    }
}

/// What the file says of a name, with only the addresses this client may know.
fn from_hosts(hosts: &Hosts, name: &NameBuf, zone: Option<BuiltIn>, is_on_this_machine: bool) -> Option<Found> {
    let may_know = |address: &IpAddr| is_on_this_machine || !address.is_loopback();
    match hosts.get(name) {
        Some(Said::Host(addresses)) => {
            let addresses: Box<[IpAddr]> = addresses.iter().copied().filter(may_know).collect();
            // Nothing for this client: what the zone says, as if it were not in the file.
            (!addresses.is_empty() || zone.is_none()).then_some(Found::Host(addresses))
        }
        Some(Said::Pointer(address, host)) if may_know(&address) => {
            NameBuf::from_wire(host).map(|host| Found::Pointer(Box::new(host)))
        }
        Some(Said::Pointer(..)) => zone.is_none().then(|| Found::Host(Box::default())),
        None => zone.filter(|_| hosts.is_parent(name)).map(Found::Parent),
    }
}
