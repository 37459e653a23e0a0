//! `detour id`: who this node is to its peers, and the line that lists it there.
//!
//! Makes the identity if there is none; touches nothing else of the state directory, so it can be asked while the node
//! runs. Root may ask for a node of somebody else: what is made belongs to the directory's owner.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use detour_core::report::NodeId;
use detour_mesh::{IDENTITY_FILE, Identity, IdentityError};
use nix::ifaddrs::getifaddrs;
use serde::Serialize;

use crate::cli::{IdArgs, exit_code};
use crate::config::{Config, DEFAULT_MESH_LISTEN, multiaddr_text};
use crate::peer_id;
use crate::state;

/// Most lines that are shown: a machine with containers has dozens of addresses, and its own is among the first.
const LINES_MAX: usize = 8;
/// The user that may act for all others.
const ROOT: u32 = 0;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdError {
    /// Nobody says where it is kept.
    #[error("no --state-dir, $STATE_DIRECTORY, state-dir, $XDG_STATE_HOME or $HOME says where the identity is kept")]
    NoDirectory,
    /// The directory is not there and cannot be made.
    #[error("cannot make the state directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It cannot be read or made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Who this node is.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Shown {
    peer_id: String,
    /// For `mesh.peers` of the others; without an address if none is known.
    line: String,
    /// The same with every address of this machine, the likeliest first.
    lines: Vec<String>,
    /// Where the identity is kept.
    file: PathBuf,
    /// It was made by this call.
    made: bool,
}

/// Runs the command on a sound configuration; the exit code.
pub(crate) fn id(args: &IdArgs, config: &Config) -> u8 {
    match find(args, config) {
        Ok(shown) => {
            let text = if args.json { json(&shown) } else { words(&shown) };
            crate::output::print(&mut io::stdout().lock(), &text, exit_code::OK)
        }
        Err(error) => {
            crate::output::complain("id", &error);
            exit_code::FAILED
        }
    }
}

fn find(args: &IdArgs, config: &Config) -> Result<Shown, IdError> {
    let directory = state::find(args.state_dir.as_deref(), config.state_dir.as_deref()).ok_or(IdError::NoDirectory)?;
    make_directory(&directory).map_err(|source| IdError::Directory {
        path: directory.clone(),
        source,
    })?;
    let (identity, made) = Identity::load_or_create(&directory)?;
    let listen = config
        .mesh
        .as_ref()
        .map_or(&DEFAULT_MESH_LISTEN[..], |mesh| &mesh.listen);
    Ok(shown(
        identity.node(),
        &reached_at(listen),
        directory.join(IDENTITY_FILE),
        made,
    ))
}

fn shown(node: NodeId, addresses: &[SocketAddr], file: PathBuf, made: bool) -> Shown {
    let lines: Vec<String> = addresses
        .iter()
        .map(|address| peer_text(node, Some(*address)))
        .collect();
    Shown {
        peer_id: peer_id::text(node),
        line: lines.first().cloned().unwrap_or_else(|| peer_text(node, None)),
        lines,
        file,
        made,
    }
}

/// The line that lists a node at this address.
#[must_use]
fn peer_text(node: NodeId, address: Option<SocketAddr>) -> String {
    let address = address.map(multiaddr_text).unwrap_or_default();
    format!("{address}/p2p/{}", peer_id::text(node))
}

fn json(shown: &Shown) -> String {
    serde_json::to_string(shown).map_or_else(|error| error.to_string(), |text| format!("{text}\n"))
}

fn words(shown: &Shown) -> String {
    let mut text = format!(
        "{}\n\nfor mesh.peers of the other nodes:\n    \"{}\",\n",
        shown.peer_id, shown.line
    );
    match shown.lines.get(1..) {
        None => text.push_str("without an address, so this node has to dial them: none of this machine's is known\n"),
        Some([]) => {}
        Some(others) => {
            text.push_str("or, where they reach it at another address of this machine:\n");
            for line in others {
                text.push_str(&format!("    \"{line}\",\n"));
            }
        }
    }
    let file = shown.file.display();
    let kept = if shown.made { "made and kept" } else { "kept" };
    text.push_str(&format!("\n{kept} in {file}\n"));
    text
}

/// Makes the state directory for its owner alone, who is the one of the directory above it.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let path = std::path::absolute(path)?;
    let absent: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    let above = absent.last().and_then(|top| top.parent()).unwrap_or(&path);
    let owner = fs::metadata(above)?;
    if owner.uid() != ROOT && fs::metadata(&path)?.uid() == ROOT {
        for made in absent {
            chown(made, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

/// Where other nodes may reach one that listens so, the likeliest first.
fn reached_at(listen: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    let own = own_addresses();
    for address in listen.iter().filter(|address| address.port() != 0) {
        let found: Vec<IpAddr> = if address.ip().is_unspecified() {
            let same_family = |ip: &IpAddr| ip.is_ipv4() == address.is_ipv4();
            let first = source_of_default_route(*address).filter(|ip| is_reachable(*ip));
            let rest = own.iter().copied().filter(|ip| same_family(ip) && Some(*ip) != first);
            first.into_iter().chain(rest).collect()
        } else {
            vec![address.ip()]
        };
        addresses.extend(found.into_iter().map(|ip| SocketAddr::new(ip, address.port())));
    }
    addresses.truncate(LINES_MAX);
    addresses
}

/// The address that packets to far away leave from; nothing is sent.
fn source_of_default_route(family_of: SocketAddr) -> Option<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849), port 9: discard.
    let far_away = if family_of.is_ipv4() {
        "192.0.2.1:9"
    } else {
        "[2001:db8::1]:9"
    };
    let socket = UdpSocket::bind(SocketAddr::new(family_of.ip(), 0)).ok()?;
    socket.connect(far_away.parse::<SocketAddr>().ok()?).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// This machine's addresses that others may reach it at.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses.filter(|ip| is_reachable(*ip)).collect()
}

/// Whether anybody else can mean this machine by it.
fn is_reachable(ip: IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn at(addresses: &[&str], made: bool) -> Shown {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let node = peer_id::parse("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X").unwrap();
        shown(node, &addresses, "/var/lib/detour/identity".into(), made)
    }

    #[test]
    fn the_first_line_is_the_id_and_the_second_part_is_to_be_pasted() {
        expect![[r#"
            12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X

            for mesh.peers of the other nodes:
                "/ip4/192.0.2.7/udp/4853/quic-v1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
            or, where they reach it at another address of this machine:
                "/ip6/2001:db8::7/udp/4853/quic-v1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",

            made and kept in /var/lib/detour/identity
        "#]]
        .assert_eq(&words(&at(&["192.0.2.7:4853", "[2001:db8::7]:4853"], true)));
        expect![[r#"
            12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X

            for mesh.peers of the other nodes:
                "/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
            without an address, so this node has to dial them: none of this machine's is known

            kept in /var/lib/detour/identity
        "#]]
        .assert_eq(&words(&at(&[], false)));
        expect![[r#"
            {"peer_id":"12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X","line":"/ip4/192.0.2.7/udp/1/quic-v1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X","lines":["/ip4/192.0.2.7/udp/1/quic-v1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"],"file":"/var/lib/detour/identity","made":false}
        "#]]
        .assert_eq(&json(&at(&["192.0.2.7:1"], false)));
    }

    #[test]
    fn what_is_named_is_where_it_is_reached() {
        let listen: Vec<SocketAddr> = ["127.0.0.1:4861", "192.0.2.7:0", "[2001:db8::7]:4853"]
            .iter()
            .map(|address| address.parse().unwrap())
            .collect();
        assert_eq!(reached_at(&listen), [listen[0], listen[2]]);
        let anywhere = reached_at(&DEFAULT_MESH_LISTEN);
        assert!(
            anywhere
                .iter()
                .all(|address| is_reachable(address.ip()) && address.port() == 4853)
        );
    }

    #[test]
    fn a_state_directory_is_made_with_all_above_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        make_directory(&path).unwrap();
        make_directory(&path).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o700);
        assert_eq!(made.uid(), fs::metadata(root.path()).unwrap().uid());
        fs::write(root.path().join("file"), b"").unwrap();
        assert!(make_directory(&root.path().join("file/x")).is_err());
    }
}
