//! What this machine's network gave it: resolvers and search domains, from the files of whoever manages the network.
//!
//! Reads and looks; which of it counts is [`detour_core::given`]'s to decide. All of it is bounded, because a DHCP server
//! is a stranger: so many files, so many bytes of each, so many addresses and names. A search domain that is a public
//! suffix (`com`, `co.uk`) is left out, and so are names that are asked of nobody: no network can have itself asked about
//! all of those.

mod read;

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use detour_core::dns64::Prefix;
use detour_core::given::{self, Source};
use detour_resolver::tasks::Tasks;
use detour_resolver::wire::NameBuf;
use tokio::time::timeout;

use self::read::Said;
use crate::clock::{Date, wall_s};
use crate::config::{Config, Look, Network, answers_to_itself};

/// Most bytes of one file; leases of a year fit.
const FILE_BYTES_MAX: u64 = 256 * 1_024;
/// Most files of one directory, the newest ones.
const FILES_MAX: usize = 16;
/// Most entries of a directory that are looked at.
const ENTRIES_MAX: usize = 256;
/// How long the start waits for it. A disk that takes longer must not keep clients from being answered.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the network gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// The file that says so.
    pub(crate) source: Option<PathBuf>,
    /// In its order.
    pub(crate) resolvers: Vec<SocketAddr>,
    /// In wire form.
    pub(crate) search: Vec<Box<[u8]>>,
    /// Its translator's, if it has told one ([`crate::dns64`]); no file says so.
    pub(crate) prefix: Option<Prefix>,
    /// Tells it from networks that give the same: routers everywhere are `192.168.1.1`, and private names and addresses
    /// are other ones behind each. Another number in another process, which may be in another network.
    pub(crate) epoch: u64,
}

impl Given {
    /// The same, as the first of this process.
    fn first(self) -> Self {
        Self {
            epoch: rand::random(),
            ..self
        }
    }

    /// The same in the place of `older`: of the same network if the resolvers are the same.
    #[must_use]
    pub(crate) fn after(self, older: &Self) -> Self {
        let is_same = self.resolvers == older.resolvers;
        Self {
            prefix: older.prefix.filter(|_| is_same),
            epoch: older.epoch.wrapping_add(u64::from(!is_same)),
            ..self
        }
    }

    /// The same in another network.
    #[must_use]
    pub(crate) fn elsewhere(&self) -> Self {
        Self {
            prefix: None,
            epoch: self.epoch.wrapping_add(1),
            ..self.clone()
        }
    }

    /// The search domains as text.
    #[must_use]
    pub(crate) fn search_texts(&self) -> Vec<String> {
        let names = self.search.iter().filter_map(|name| NameBuf::from_wire(name));
        names.map(|name| name.to_string()).collect()
    }
}

/// What all files look like from outside: another look, another content.
pub(crate) type Looks = Vec<Option<Look>>;

/// Looks at the files from outside. Blocks.
#[must_use]
pub(crate) fn look(places: &[PathBuf]) -> Looks {
    let files = places.iter().flat_map(|place| files_at(place));
    places
        .iter()
        .cloned()
        .chain(files)
        .map(|path| Look::at(&path))
        .collect()
}

/// What the network gave, for a node that listens at these addresses. Blocks.
#[must_use]
pub(crate) fn read(places: &[PathBuf], listening: &[SocketAddr]) -> Given {
    let today = Date::of_day(wall_s() / 86_400).to_string();
    let files: Vec<PathBuf> = places.iter().flat_map(|place| files_at(place)).collect();
    let sources: Vec<Source> = files
        .iter()
        .map(|file| to_source(read::parse(&text_of(file), &today), listening))
        .collect();
    let chosen = given::choose(&sources);
    Given {
        source: chosen.source.and_then(|index| files.get(index).cloned()),
        resolvers: chosen.resolvers,
        search: chosen.search,
        prefix: None,
        epoch: 0,
    }
}

/// What a start with this configuration has: nothing if it is switched off, or the disk takes too long.
pub(crate) async fn at_start(config: &Config, tasks: &Tasks) -> Given {
    let Network { enabled, files, .. } = &config.network;
    if !enabled {
        return Given::default();
    }
    let (files, listening) = (files.clone(), config.listen.dns.clone());
    let work = tasks.blocking(move || read(&files, &listening));
    match timeout(PATIENCE, work).await {
        Ok(Ok(given)) => given,
        Ok(Err(_)) | Err(_) => {
            tracing::warn!("cannot tell in time which resolvers this machine was given: tried again in a moment");
            Given::default()
        }
    }
    .first()
}

/// The file, or the newest ones of a directory.
fn files_at(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else {
        return vec![place.to_owned()];
    };
    let mut files: Vec<_> = entries
        .take(ENTRIES_MAX)
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
            is_lease(&path).then(|| (metadata.modified().ok(), path))
        })
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    files.into_iter().take(FILES_MAX).map(|(_, path)| path).collect()
}

/// Whether a file of a directory is a lease by its name: `7` (systemd's, by interface), `eth0.lease`, `dhclient.leases`.
/// The others are none of our business.
fn is_lease(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    matches!(extension, Some("lease" | "leases")) || name.bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands in a file; nothing if it is none or cannot be read.
fn text_of(path: &Path) -> String {
    let mut bytes = Vec::new();
    // A pipe in its place must not keep anybody waiting.
    let opened = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path);
    if let Ok(file) = opened
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
        && let Err(error) = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)
    {
        tracing::debug!(%error, path = %path.display(), "cannot read what the network gave");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn to_source(said: Said, listening: &[SocketAddr]) -> Source {
    let is_own = |ip: IpAddr, port: Option<u16>| answers_to_itself(listening, SocketAddr::new(ip, port.unwrap_or(53)));
    let resolvers = said.resolvers.into_iter().map(|(ip, port)| given::Named {
        ip,
        port,
        is_own: is_own(ip, port),
    });
    let names = said.search.iter().filter_map(|name| name.parse::<NameBuf>().ok());
    let names = names.filter(|name| !name.is_root() && !name.is_public_suffix() && !is_never_asked(name));
    Source {
        resolvers: resolvers.collect(),
        search: names.map(|name| name.as_wire().into()).collect(),
    }
}

/// Names that no route may have.
fn is_never_asked(name: &NameBuf) -> bool {
    let last = name.labels().last().map(<[u8]>::to_vec).unwrap_or_default();
    [&b"localhost"[..], b"invalid", b"onion"].contains(&last.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(files: &[(&str, &str)], listening: &[&str]) -> (Given, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let mut places = Vec::new();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let first = Path::new(name).components().next().unwrap();
            let place = directory.path().join(first);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let listening: Vec<SocketAddr> = listening.iter().map(|text| text.parse().unwrap()).collect();
        (read(&places, &listening), directory)
    }

    fn texts(given: &Given) -> Vec<String> {
        given.resolvers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_behind_a_stub_is_found() {
        let (given, directory) = given(
            &[
                ("etc", "nameserver 127.0.0.53\noptions edns0\nsearch lan\n"),
                (
                    "resolved",
                    "nameserver 192.168.1.1\nnameserver fe80::1%2\nsearch fritz.box\n",
                ),
            ],
            &[],
        );
        assert_eq!(texts(&given), ["192.168.1.1:53"]);
        assert_eq!(given.search_texts(), ["fritz.box.", "lan."]);
        assert_eq!(given.source, Some(directory.path().join("resolved")));
    }

    #[test]
    fn this_node_is_left_out_wherever_it_listens() {
        let file = [("etc", "nameserver 192.0.2.9\nnameserver [127.0.0.1]:5301\n")];
        assert_eq!(texts(&given(&file, &["192.0.2.9:53"]).0), ["127.0.0.1:5301"]);
        assert_eq!(
            texts(&given(&file, &["192.0.2.9:5300", "0.0.0.0:5301"]).0),
            ["192.0.2.9:53"]
        );
        assert_eq!(texts(&given(&file, &["127.0.0.1:5301"]).0), ["192.0.2.9:53"]);
    }

    #[test]
    fn no_network_can_have_itself_asked_about_everything() {
        let search = "nameserver 192.0.2.1\nsearch . com co.uk onion a.localhost example.com lan corp bad..name\n";
        let (given, _directory) = given(&[("etc", search)], &[]);
        assert_eq!(given.search_texts(), ["example.com.", "lan.", "corp."]);
    }

    #[test]
    fn leases_are_the_last_resort_and_the_newest_counts() {
        let (given, _directory) = given(
            &[
                ("etc", "nameserver ::1\n"),
                (
                    "leases/2",
                    "# This is private data.\nADDRESS=192.168.7.2\nDNS=192.168.7.1 192.168.7.3\nDOMAINNAME=branch\n",
                ),
                ("leases/secret", "nameserver 192.0.2.99\n"),
            ],
            &[],
        );
        assert_eq!(texts(&given), ["192.168.7.1:53", "192.168.7.3:53"]);
        assert_eq!(given.search_texts(), ["branch."]);
    }

    #[test]
    fn the_same_resolvers_are_the_same_network_until_it_is_known_better() {
        let of = |text: &str| given(&[("etc", text)], &[]).0;
        let mut home = of("nameserver 192.168.1.1\nsearch lan\n").first();
        home.prefix = "64:ff9b::/96".parse().ok();
        assert_ne!(home.epoch, Given::default().first().epoch);
        let again = of("nameserver 192.168.1.1\nsearch lan office\n").after(&home);
        assert_eq!((again.prefix, again.epoch), (home.prefix, home.epoch));
        // Two that give the same, and nobody in between.
        let nobody = Given::default().after(&again);
        let other = of("nameserver 192.168.1.1\nsearch lan\n").after(&nobody);
        assert_eq!((nobody.prefix, other.prefix), (None, None));
        assert!(![home.epoch, nobody.epoch].contains(&other.epoch));
        let moved = home.elsewhere();
        assert_eq!((&moved.resolvers, moved.prefix), (&home.resolvers, None));
        assert_ne!(moved.epoch, home.epoch);
    }

    #[test]
    fn what_is_no_file_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&directory.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let places = ["pipe", "missing"].map(|name| directory.path().join(name));
        assert_eq!(read(&places, &[]), Given::default());
        assert_eq!(look(&places).len(), 4);
    }
}
