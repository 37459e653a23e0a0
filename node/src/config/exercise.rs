//! What must hold for any file and any endpoint: the bodies of the fuzz targets `config` and `endpoint`. Built for tests
//! and for those targets only.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use detour_core::Transport;

use super::endpoint::{self, Host, Parsed};
use super::problem::quoted;
use super::spec::to_endpoints;
use super::{
    Config, EndpointConfig, LoadError, Source, admin_line, answers_to_itself, keep_running, push_string, remotes,
    state_dir_line, to_topology, with_absolute_paths,
};

/// Where the file would be; there is no such directory, so nothing that it names relative to itself can be read.
const PATH: &str = "/nowhere/at/all/detour.toml";
/// Where a copy of it would be.
const COPY: &str = "/nowhere/else/last-good.toml";
/// Longest mistake that is told, bytes: at most three texts of the file with 80 characters each that take ten bytes each,
/// and advice.
const MISTAKE_BYTES_MAX: usize = 3_000;
/// Most lines of mistakes, the one about the rest included.
const MISTAKES_MAX: usize = 51;

/// Reads bytes as a whole file.
pub(crate) fn config(bytes: &[u8]) {
    let path = Path::new(PATH);
    // Read leniently, so of a file that is no text, too.
    let state_dir = state_dir_line(bytes, path);
    assert!(state_dir.is_none_or(|dir| dir.is_absolute()));
    let _admin = admin_line(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Config::parse(text, path) {
        Ok(config) => valid(text, path, &config),
        Err(error) => told(text, &error),
    }
}

/// All mistakes in the order of their lines, each on a line of its own that a terminal shows as it is.
fn told(text: &str, error: &LoadError) {
    let problems = match error {
        LoadError::Invalid { problems, .. } => problems.as_slice(),
        LoadError::Read { .. } | LoadError::TooLarge { .. } | LoadError::NotUtf8 { .. } => &[],
    };
    assert!(!problems.is_empty(), "nothing was read but text");
    assert!(problems.is_sorted_by_key(|problem| problem.line));
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
    let shown = error.to_string();
    let (first, more) = error.first_and_more();
    assert_eq!(shown.lines().next(), Some(first.as_str()));
    assert_eq!(more + 1, problems.len());
    assert_eq!(shown.lines().count(), problems.len().min(MISTAKES_MAX));
    for line in shown.lines() {
        assert!(line.starts_with("/nowhere/at/all/detour.toml:"));
        assert!(
            line.len() <= MISTAKE_BYTES_MAX,
            "{} bytes: {}",
            line.len(),
            quoted(line)
        );
        assert!(!line.chars().any(char::is_control), "{}", quoted(line));
    }
}

/// What a file says is within its bounds, can be carried out, and is the same in a copy elsewhere.
fn valid(text: &str, path: &Path, config: &Config) {
    let topology = to_topology(config);
    let endpoints: Vec<&EndpointConfig> = config.providers.iter().flat_map(|p| &p.endpoints).collect();
    assert!((1..=64).contains(&topology.providers.len()) && topology.providers.len() == config.providers.len());
    assert!((1..=256).contains(&endpoints.len()) && topology.endpoints.len() == endpoints.len());
    assert!(config.providers.iter().all(|provider| !provider.endpoints.is_empty()));
    assert!(!config.listen.dns.is_empty() && !config.listen.allow.is_empty());
    let labels = config
        .providers
        .iter()
        .flat_map(|p| [Some(&p.operator), p.jurisdiction.as_ref()]);
    for label in labels.flatten() {
        assert!(!quoted(label).replace("\\\\", "").contains("\\u"), "visible: {label:?}");
    }
    let remotes = remotes(config);
    assert_eq!(remotes.len(), endpoints.len());
    for (endpoint, remote) in endpoints.iter().zip(&remotes) {
        let address = endpoint.at.address();
        assert_eq!(address, remote.addresses.first());
        assert!(address.is_none_or(|address| !answers_to_itself(&config.listen.dns, address)));
        assert!(is_plain(&endpoint.label));
        let tls = remote.tls.as_ref();
        assert_eq!(tls.is_some(), endpoint.transport.is_encrypted(), "{}", endpoint.label);
        let has_url = tls.is_some_and(|tls| tls.url.is_some());
        let is_http = matches!(endpoint.transport, Transport::Https | Transport::H3);
        assert_eq!(has_url, is_http, "{}", endpoint.label);
    }

    let mut same = config.clone();
    assert!(keep_running(&mut same, config, false).is_empty() && same == *config);

    let copy = with_absolute_paths(text, path);
    let read = copy.as_deref().map(|copy| Config::parse(copy, Path::new(COPY)));
    let mut there = read.and_then(Result::ok);
    if let Some(there) = &mut there {
        assert_eq!(there.source, Source::File(COPY.into()));
        there.source = config.source.clone();
    }
    assert_eq!(there.as_ref(), Some(config), "{copy:?}");
    let of_copy = copy
        .as_deref()
        .and_then(|copy| with_absolute_paths(copy, Path::new(COPY)));
    assert_eq!(of_copy, copy);
}

/// Reads bytes as an endpoint: alone, and as the one of a file.
pub(crate) fn endpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let parsed = endpoint::parse(text);
    // Whatever a stamp says of filtering, and whoever resolves a name.
    let mut file = "version = 1\nlisten.dns = [\"127.0.0.1:0\"]\n[[provider]]\nname = \"a\"\nfilter = \"none\"\nvalidates = true\n\
                    endpoints = ["
        .to_owned();
    push_string(&mut file, text);
    file.push_str("]\n[bootstrap]\nservers = [\"udp://192.0.2.53\"]\n");
    let config = Config::parse(&file, Path::new(PATH));
    match (&parsed, &config) {
        (Ok(parsed), Ok(config)) => {
            assert!(parsed.label.len() <= 200 && is_plain(&parsed.label));
            assert!(parsed.label == text || parsed.stamp.is_some());
            let written_out = canonical(parsed);
            let again = endpoint::parse(&written_out);
            let is_same = |again: &Parsed| {
                (again.transport, &again.host, again.port) == (parsed.transport, &parsed.host, parsed.port)
                    && (&again.name, &again.path) == (&parsed.name, &parsed.path)
            };
            assert!(
                written_out.len() > 200 || again.as_ref().is_ok_and(is_same),
                "{written_out}: {again:?}"
            );
            sound(parsed);
            let wanted = to_endpoints(parsed.clone());
            let is_named = matches!(parsed.host, Host::Name(_));
            assert_eq!(wanted.len(), if is_named { 2 } else { 1 });
            assert!(wanted.iter().all(|one| one.label.starts_with(&parsed.label)));
            let found: Vec<_> = config.providers.iter().flat_map(|p| &p.endpoints).collect();
            assert_eq!(found, wanted.iter().collect::<Vec<_>>());
            valid(&file, Path::new(PATH), config);
        }
        (Err(error), Err(in_file)) => {
            told(&file, in_file);
            let line = format!("{PATH}:7: provider[0].endpoints[0]: {}: {error}", quoted(text));
            assert_eq!(in_file.to_string(), line);
        }
        _ => assert_eq!(
            parsed.is_ok(),
            config.is_ok(),
            "{text:?}: {parsed:?}, {:?}",
            config.err()
        ),
    }
}

/// An address that can be asked, and no part that its transport has no use for.
fn sound(parsed: &Parsed) {
    let Parsed {
        label: _,
        transport,
        host,
        port,
        name,
        path,
        stamp: _,
    } = parsed;
    assert!(*port != 0);
    match host {
        Host::Address(ip) => assert!(!ip.is_unspecified() && !ip.is_multicast() && *ip == ip.to_canonical()),
        Host::Name(host) => assert!(host.contains('.') && name.is_some() == transport.is_encrypted()),
    }
    assert_eq!(path.is_some(), matches!(transport, Transport::Https | Transport::H3));
    assert!(path.as_ref().is_none_or(|path| path.starts_with('/')));
    assert!(name.is_none() || transport.is_encrypted());
    assert!(name.as_ref().is_none_or(|name| name.parse::<IpAddr>().is_err()));
    assert!(
        name.as_ref()
            .is_none_or(|name| **name == name.to_ascii_lowercase() && name.contains('.'))
    );
}

/// With nothing left out.
fn canonical(parsed: &Parsed) -> String {
    let scheme = match parsed.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Https => "https",
        Transport::Quic => "quic",
        Transport::H3 => "h3",
    };
    let mut text = match &parsed.host {
        Host::Address(ip) => format!("{scheme}://{}", SocketAddr::new(*ip, parsed.port)),
        Host::Name(host) => format!("{scheme}://{host}:{}", parsed.port),
    };
    text.push_str(parsed.path.as_deref().unwrap_or_default());
    if let Some(name) = &parsed.name {
        write!(text, "#{name}").ok();
    }
    text
}

/// Whether it can stand in a log line and in a label of a metric as it is.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}
