//! Tests over the files of `configs/` and over docs/CONFIG.md: what is shipped is what this version reads.

use std::fs;
use std::path::{Path, PathBuf};

use detour_core::{ClassId, EndpointId, Family, OperatorId};
use detour_resolver::local::zone_names;
use expect_test::{expect, expect_file};

use super::*;
use crate::peer_id;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The `.toml` files of a folder, in order.
fn toml_files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn the_corpora_of_the_fuzzer_hold() {
    let replay = |target: &str, body: fn(&[u8])| {
        let folder = repository().join("tests/fuzz/corpus").join(target);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let files = entries.map(|entry| body(&fs::read(entry.unwrap().path()).unwrap()));
        assert!(files.count() > 0, "{target}");
    };
    replay("config", exercise::config);
    replay("endpoint", exercise::endpoint);
}

fn parse(text: &str) -> Result<Config, LoadError> {
    Config::parse(text, Path::new("detour.toml"))
}

fn mistakes(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const GOOD: &str = "version = 1\n[[provider]]\nname = \"a\"\nendpoints = [\"udp://192.0.2.1\"]\n";

#[test]
fn shipped_files_are_valid() {
    for path in [toml_files("configs"), toml_files("configs/cluster")].concat() {
        Config::load(&path).map_or_else(|error| panic!("{error}"), |loaded| loaded.config);
    }
}

#[test]
fn reference_is_exactly_the_default() {
    let mut reference = Config::load(&repository().join("configs/reference.toml"))
        .unwrap()
        .config;
    assert!(
        reference.listen.admin_is_named,
        "the one thing that naming a default changes"
    );
    reference.listen.admin_is_named = false;
    reference.source = Source::Embedded;
    assert_eq!(reference, Config::embedded().unwrap());
}

#[test]
fn embedded_default_is_four_operators_over_both_families_of_one_class() {
    let config = Config::embedded().unwrap();
    let topology = to_topology(&config);
    assert_eq!(topology.providers.len(), 4);
    for (index, provider) in topology.providers.iter().enumerate() {
        assert_eq!(usize::from(provider.operator.0), index);
        assert_eq!(provider.class, ClassId(0));
        assert!(provider.validates);
        let families: Vec<_> = provider
            .endpoints
            .iter()
            .map(|id| topology.endpoint(*id).unwrap().family)
            .collect();
        assert_eq!(families, [Family::V4, Family::V6].repeat(3));
    }
    assert_eq!(config.listen.allow.len(), 8, "every default prefix is one");
    assert_eq!(config.source, Source::Embedded);
    assert_eq!(config.state_dir, None);
}

#[test]
fn every_invalid_file_has_exactly_its_expected_message() {
    for path in toml_files("configs/invalid") {
        let name = path.file_name().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        match Config::parse(&text, Path::new(name)) {
            Ok(_) => panic!("{} is valid", path.display()),
            Err(error) => expect_file![path.with_extension("expected")].assert_eq(&format!("{error}\n")),
        }
    }
    let entries = fs::read_dir(repository().join("configs/invalid")).unwrap();
    for expected in entries.map(|entry| entry.unwrap().path()) {
        assert!(
            expected.with_extension("toml").exists(),
            "{} has no file",
            expected.display()
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_their_lines() {
    let text = "\
version = 1
colour = \"blue\"

[listen]
dns = [
    \"127.0.0.1\",
    \"[::1]:53\",
]
admin = \"10.0.0.1:9353\"
allow = [\"10.0.0.0/8\", \"office\"]

[[provider]]
name = \"A\"
tier = \"one\"
endpoints = [
    \"udp://9.9.9.10\",
    { url = \"tls://9.9.9.10\", max-qps = 0, burst = 5 },
]

[[provider]]
validates = false
endpoints = [\"udp://9.9.9.10:53\", \"udp://[::1]\"]

[cache]
size = 32
\"two\\nlines\" = 1

[log]
level = \"loud\"
";
    expect![[r#"
        detour.toml:2: colour: unknown key: version 0.1.0 knows version, state-dir, trust, tls-groups, reload, dns64, listen, provider, bootstrap, route, network, select, local-zones, mesh, cache, limits, log here
        detour.toml:6: listen.dns[0]: "127.0.0.1": needs a port, such as "127.0.0.1:5300"
        detour.toml:9: listen.admin: "10.0.0.1:9353": must be a loopback address such as "127.0.0.1:9353", or "off": it is not protected
        detour.toml:10: listen.allow[1]: "office": not an IP address
        detour.toml:13: provider[0].name: must be 1 to 64 of the characters a-z 0-9 - _ . and not "A"
        detour.toml:14: provider[0].tier: must be an integer, not a string
        detour.toml:17: provider[0].endpoints[1].burst: unknown key: version 0.1.0 knows url, max-qps, pins, early-data, ddr here
        detour.toml:17: provider[0].endpoints[1].max-qps: must be from 1 to 4294967295, not 0
        detour.toml:20: provider[1].name: missing: every provider needs a name
        detour.toml:20: provider[1]: provider[1] (filter "none", does not validate) changes answers otherwise than provider[0] (filter "none", validates): use providers that agree, or say select.mix-policies = true
        detour.toml:22: provider[1].endpoints[0]: "udp://9.9.9.10:53" is provider[0].endpoints[0] (line 16) too
        detour.toml:22: provider[1].endpoints[1]: "udp://[::1]" is an address of listen.dns: queries would go round in circles
        detour.toml:25: cache.size: must be a string with a unit, such as "32MiB", not an integer
        detour.toml:26: cache."two\nlines": unknown key: version 0.1.0 knows size, min-ttl, max-ttl, max-stale, persist here
        detour.toml:29: log.level: must be one of "error", "warn", "info", "debug", "trace", not "loud""#]].assert_eq(&mistakes(text));
}

#[test]
fn behind_a_syntax_error_nothing_is_made_up() {
    let text = "[log]\nlevel = \"loud\"\n[listen\ndns = [\"127.0.0.1\"]\n[cache]\nsize = 1\nsize = 2\n";
    expect![[r#"
        detour.toml:2: log.level: must be one of "error", "warn", "info", "debug", "trace", not "loud"
        detour.toml:3: not TOML: unclosed table, expected `]`
        detour.toml:7: not TOML at "size": duplicate key"#]]
    .assert_eq(&mistakes(text));
}

#[test]
fn a_file_that_is_broken_off_anywhere_is_judged() {
    let reference = read("configs/reference.toml");
    for (end, _) in reference.char_indices() {
        match parse(reference.split_at(end).0) {
            Ok(config) => assert!(!config.providers.is_empty()),
            Err(LoadError::Invalid { problems, .. }) => assert!(!problems.is_empty(), "at byte {end}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_file_that_is_no_configuration_is_not_repeated() {
    let shown = mistakes(&(0..500).map(|n| format!("key-{n} = {n}\n")).collect::<String>());
    assert_eq!(shown.lines().count(), 51);
    assert!(shown.ends_with("\ndetour.toml: and 452 more"), "{shown}");
    let long = mistakes(&format!(
        "{GOOD}operator = \"{}\"\nfilter = \"{0}\"\n",
        "x".repeat(9000)
    ));
    assert!(long.len() < 500, "{long}");
}

#[test]
fn no_mistake_is_as_long_as_what_is_wrong() {
    let long = "0".repeat(9_000);
    for wrong in [
        format!("{GOOD}[limits]\nin-flight = 0x{long}\n"),
        format!("{GOOD}[limits]\nin-flight = 1{long}\n"),
        format!("{GOOD}[cache]\nmax-stale = \"{long}99d\"\n"),
        format!("{GOOD}[cache]\nsize = \"{long}1B\"\n"),
        format!("{GOOD}[cache]\n{long} = 1\n"),
    ] {
        let shown = mistakes(&wrong);
        assert!(shown.lines().count() == 1 && shown.len() < 300, "{shown}");
    }
    // Each of them would be compared with each zone there is.
    let keys: String = (0..1_000).map(|n| format!("a{n} = 1\n")).collect();
    let shown = mistakes(&format!("{GOOD}[local-zones]\n{keys}"));
    assert!(shown.contains(": local-zones: has 1000 keys: there are "), "{shown}");
}

#[test]
fn a_label_is_visible() {
    let operator = |text: &str| parse(&format!("{GOOD}operator = '{text}'\n")).is_ok();
    for text in ["A \"B\" \\ C", "M\u{fc}nchen", "e\u{301}", "\u{5d0}"] {
        assert!(operator(text), "{text:?}");
    }
    for text in ["a\u{202e}b", "a\u{200b}b", "a\u{85}b", "\u{301}e"] {
        assert!(!operator(text), "{text:?}");
    }
}

#[test]
fn an_unknown_key_is_named_at_every_level() {
    let reference = reference_with_mesh();
    let lines: Vec<&str> = reference.lines().collect();
    let mut levels = 0;
    for (index, line) in lines.iter().enumerate() {
        let injected = match line {
            line if line.starts_with('[') || *line == "version = 1" => format!("{line}\nbogus-key = 1"),
            line if line.trim_start().starts_with("{ url") => line.replace("{ url", "{ bogus-key = 1, url"),
            _ => continue,
        };
        levels += 1;
        let mut text = lines.clone();
        text[index] = &injected;
        let error = mistakes(&text.join("\n"));
        assert!(error.contains("bogus-key: unknown key"), "line {}: {error}", index + 1);
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert_eq!(
        levels,
        1 + 1 + 4 + 1 + 7,
        "root, listen, providers, an endpoint, seven sections"
    );
}

/// The reference with its `[mesh]`, which is there in comments only.
fn reference_with_mesh() -> String {
    let reference = read("configs/reference.toml");
    let mut is_in_mesh = false;
    let lines = reference.lines().map(|line| {
        is_in_mesh = (is_in_mesh || line == "# [mesh]") && !line.is_empty();
        let code = line
            .strip_prefix("# ")
            .filter(|code| code.starts_with('[') || code.contains(" = "));
        code.filter(|_| is_in_mesh).unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn reference_shows_the_defaults_of_the_mesh() {
    let shown = parse(&reference_with_mesh()).unwrap().mesh.unwrap();
    let least = parse(&format!("{GOOD}[mesh]\ncluster = \"office\"\n"))
        .unwrap()
        .mesh
        .unwrap();
    assert_eq!(shown, least);
    assert_eq!((least.operator.as_str(), least.site.as_str()), ("office", "default"));
    assert_eq!(least.influence, Influence::Full);
    assert_eq!(parse(GOOD).unwrap().mesh, None);
}

#[test]
fn peers_reach_the_configuration_each_once() {
    let [one, other] = [
        "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
        "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
    ]
    .map(|id| peer_id::parse(id).unwrap());
    let address = |last: u8| Some(SocketAddr::from(([192, 0, 2, last], 4853)));
    let line = |(node, at): (NodeId, Option<SocketAddr>)| {
        let address = at.map(multiaddr_text).unwrap_or_default();
        format!("\"{address}/p2p/{}\"", peer_id::text(node))
    };
    let lines = [(one, address(1)), (other, None), (one, address(2))].map(line);
    let text = format!("{GOOD}[mesh]\ncluster = \"c\"\npeers = [{}]\n", lines.join(", "));
    let peers = parse(&text).unwrap().mesh.unwrap().peers;
    let wanted = [
        (one, vec![address(1).unwrap(), address(2).unwrap()]),
        (other, Vec::new()),
    ];
    assert_eq!(peers, wanted.map(|(node, addresses)| PeerConfig { node, addresses }));
}

#[test]
fn every_key_is_in_the_reference_and_in_the_document() {
    let (reference, document) = (read("configs/reference.toml"), read("docs/CONFIG.md"));
    let tables = [
        ("", spec::ROOT_KEYS),
        ("listen", spec::LISTEN_KEYS),
        ("provider", spec::PROVIDER_KEYS),
        ("endpoint", spec::ENDPOINT_KEYS),
        ("select", spec::SELECT_KEYS),
        ("local-zones", &local_zone_keys()),
        ("mesh", mesh::MESH_KEYS),
        ("cache", spec::CACHE_KEYS),
        ("limits", spec::LIMITS_KEYS),
        ("log", spec::LOG_KEYS),
    ];
    for (table, keys) in tables {
        let heading = if table.is_empty() {
            "## Top level".to_owned()
        } else {
            format!("## `[{table}]`")
        };
        let heading = heading
            .replace("[provider]", "[[provider]]")
            .replace("`[endpoint]`", "Endpoints");
        let (_, section) = document.split_once(&heading).unwrap_or_else(|| panic!("no {heading}"));
        let section = section.split("\n## ").next().unwrap();
        for key in keys {
            assert!(
                section.contains(&format!("\n| `{key}` ")),
                "{heading} says nothing of {key}"
            );
            let is_section = table.is_empty() && reference.contains(&format!("[{key}]"));
            let is_there = [format!("{key} = "), format!("\"{key}\" = ")]
                .iter()
                .any(|text| reference.contains(text));
            assert!(is_section || is_there, "no {key} in the reference");
        }
        let documented = section.matches("\n| `").count();
        assert_eq!(documented, keys.len(), "{heading} has keys that are not built");
    }
}

/// The keys of `[local-zones]`; of the two long ranges the first one, which stands for all in the reference and, with the
/// last one, in the document.
fn local_zone_keys() -> Vec<&'static str> {
    let in_range = |name: &str| {
        let first = name.ends_with(".172.in-addr.arpa") && name != "16.172.in-addr.arpa";
        first || name.ends_with(".100.in-addr.arpa") && name != "64.100.in-addr.arpa"
    };
    let (ranges, mut keys): (Vec<_>, Vec<_>) = zone_names().partition(|name| in_range(name));
    assert_eq!(ranges.len(), 15 + 63);
    keys.push(local_zones::HOSTS);
    keys
}

#[test]
fn a_local_zone_that_is_not_one_is_answered_with_the_nearest() {
    let zones = |lines: &str| mistakes(&format!("{GOOD}[local-zones]\n{lines}\n"));
    expect![[r#"
        detour.toml:6: local-zones."10.in-addr": unknown key: version 0.1.0 knows hosts and the zones of docs/CONFIG.md here, the nearest of which are "10.in-addr.arpa", "0.in-addr.arpa", "127.in-addr.arpa"
        detour.toml:7: local-zones.home: unknown key: "home" is only the beginning of a name with dots, so write "home.arpa" in quotes
        detour.toml:8: local-zones.local: must be true or false, not a string
        detour.toml:9: local-zones.hosts: must be true, false or the path of a file"#]]
    .assert_eq(&zones("\"10.in-addr\" = false\nhome.arpa = false\nlocal = \"no\"\nhosts = \"\""));
    assert!(zones("hosts = 1").ends_with("must be true, false or the path of a file"));
    assert!(mistakes(&format!("local-zones = true\n{GOOD}")).contains("local-zones: must be a table"));
}

#[test]
fn local_zones_reach_the_configuration() {
    let parse = |lines: &str| parse(&format!("{GOOD}[local-zones]\n{lines}\n")).unwrap().local_zones;
    assert_eq!(parse(""), LocalZones::default());
    assert_eq!(parse("hosts = true\nlocal = true"), LocalZones::default());
    assert_eq!(parse("hosts = false").hosts, None);
    let zones = parse("hosts = \"/srv/hosts\"\n\"home.arpa\" = false\ntest = false\n\"31.172.in-addr.arpa\" = false");
    assert_eq!(zones.hosts, Some("/srv/hosts".into()));
    assert_eq!(zones.off, ["31.172.in-addr.arpa", "home.arpa", "test"]);
    let text = format!("{GOOD}[local-zones]\nhosts = \"own\"\n");
    let config = Config::parse(&text, Path::new("/etc/detour/detour.toml")).unwrap();
    assert_eq!(config.local_zones.hosts, Some("/etc/detour/own".into()));
}

#[test]
fn state_dir_is_relative_to_the_file() {
    let text = format!("state-dir = \"state\"\n{GOOD}");
    let at = |path: &str| Config::parse(&text, Path::new(path)).unwrap();
    assert_eq!(
        at("/etc/detour/detour.toml").state_dir,
        Some("/etc/detour/state".into())
    );
    assert!(at("detour.toml").state_dir.unwrap().is_absolute());
    let text = text.replace("\"state\"", "\"/var/lib/detour\"");
    let config = Config::parse(&text, Path::new("/etc/detour.toml")).unwrap();
    assert_eq!(config.state_dir, Some("/var/lib/detour".into()));
    assert_eq!(config.source, Source::File("/etc/detour.toml".into()));
}

#[test]
fn values_reach_the_configuration() {
    let text = format!(
        "{GOOD}operator = \"A Inc.\"\nasn = 64_500\njurisdiction = \"AT\"\nfilter = \"ads\"\nvalidates = false\n\
         max-share = \"12.5%\"\nmax-qps = 0x10\n\
         [[provider]]\nname = \"b\"\ntier = 2\nfilter = \"ads\"\nvalidates = false\n\
         endpoints = [{{ url = \"tcp://[2001:db8::1]:54\", max-qps = 7 }}, \
         {{ url = \"quic://192.0.2.9\", early-data = false }}]\n\
         [[provider]]\nname = \"c\"\nendpoints = [\"udp://192.0.2.3\"]\n\
         [listen]\ndns = [\"0.0.0.0:0\", \"0.0.0.0:0\"]\nadmin = \"off\"\nallow = [\"192.0.2.7\"]\n\
         [select]\nstrategy = \"shard\"\nmix-policies = true\nsource-ports = \"per-query\"\nearly-data = true\n\
         [cache]\nsize = \"4GiB\"\nmin-ttl = \"5m\"\nmax-ttl = \"6m\"\nmax-stale = \"0s\"\n\
         [limits]\nin-flight = 64\ntcp-connections = 1\ntcp-idle = \"1500ms\"\n\
         [log]\nlevel = \"trace\"\nformat = \"json\"\n"
    );
    let config = parse(&text).unwrap();
    let a = &config.providers[0];
    assert_eq!(
        (a.operator.as_str(), a.asn, a.jurisdiction.as_deref()),
        ("A Inc.", Some(64_500), Some("AT"))
    );
    assert_eq!((a.max_share_permille, a.max_qps, a.tier), (Some(125), Some(16), 1));
    let b = &config.providers[1];
    assert_eq!((b.operator.as_str(), b.tier, b.endpoints[0].max_qps), ("b", 2, Some(7)));
    assert_eq!(b.endpoints[0].label, "tcp://[2001:db8::1]:54");
    assert_eq!((config.listen.admin, config.listen.admin_is_named), (Admin::Off, true));
    assert_eq!(config.listen.allow[0].to_string(), "192.0.2.7/32");
    assert_eq!(config.select.source_ports, SourcePorts::PerQuery);
    assert!(config.select.early_data);
    assert_eq!(
        (b.endpoints[0].early_data, b.endpoints[1].early_data),
        (None, Some(false))
    );
    assert_eq!(
        (config.cache.size_bytes, config.cache.max_stale),
        (4 << 30, Duration::ZERO)
    );
    assert_eq!(
        (config.cache.min_ttl, config.cache.max_ttl),
        (Duration::from_secs(300), Duration::from_secs(360))
    );
    assert_eq!(config.limits.tcp_idle, Duration::from_millis(1500));
    assert_eq!(
        config.log,
        Log {
            level: tracing::Level::TRACE,
            format: LogFormat::Json
        }
    );

    let topology = to_topology(&config);
    assert_eq!(topology.providers[2].class, ClassId(1));
    assert_eq!(topology.endpoint(EndpointId(1)).unwrap().family, Family::V6);
    assert_eq!(remotes(&config)[1].addresses.first(), "[2001:db8::1]:54".parse().ok());
}

/// What resolves the names of a configuration, in order.
fn bootstrap_of(text: &str) -> Vec<String> {
    let config = parse(&format!("version = 1\n{text}")).unwrap();
    let servers = config.bootstrap.into_iter();
    servers.map(|server| server.endpoint.label).collect()
}

#[test]
fn a_host_name_of_a_route_is_nothing_to_ask_the_public_about() {
    let path = repository().join("configs/invalid/endpoint-host-name-of-route.toml");
    let text = fs::read_to_string(path).unwrap();
    parse(&text).unwrap_err();
    parse(&format!("{text}\n[bootstrap]\nservers = [\"udp://10.0.0.53\"]\n")).unwrap();
    parse(&text.replace("to = [\"office\"]", "to = [\"public\"]")).unwrap();
    parse(&text.replace("dns.corp.", "dns.elsewhere.")).unwrap();
}

#[test]
fn a_host_name_is_an_endpoint_of_each_family() {
    let text = GOOD.replace(
        "[\"udp://192.0.2.1\"]",
        "[\"https://dns.example:8443/q\", \"udp://192.0.2.1\"]",
    );
    let config = parse(&text).unwrap();
    let topology = to_topology(&config);
    let called: Vec<_> = topology
        .endpoints
        .iter()
        .map(|e| (e.label.as_str(), e.family))
        .collect();
    assert_eq!(
        called,
        [
            ("https://dns.example:8443/q@ipv6", Family::V6),
            ("https://dns.example:8443/q@ipv4", Family::V4),
            ("udp://192.0.2.1", Family::V4),
        ]
    );
    let remotes = remotes(&config);
    assert_eq!(remotes[0].addresses.first(), None);
    let url = remotes[0].tls.as_ref().unwrap().url.clone();
    assert_eq!(url.unwrap(), "https://dns.example:8443/q");
}

#[test]
fn names_are_resolved_by_those_with_addresses_encrypted_ones_first() {
    let named = "[[provider]]\nname = \"a\"\nendpoints = [\"tls://dns.example\", \"udp://192.0.2.1\"]\n\
                 [[provider]]\nname = \"b\"\nendpoints = [\"tls://192.0.2.2#b.example\"]\n";
    assert_eq!(bootstrap_of(named), ["tls://192.0.2.2#b.example", "udp://192.0.2.1"]);
    let own = format!("{named}[bootstrap]\nservers = [\"udp://192.0.2.9\", \"quic://192.0.2.8\"]\n");
    assert_eq!(bootstrap_of(&own), ["udp://192.0.2.9", "quic://192.0.2.8"]);
    let without =
        "[[provider]]\nname = \"a\"\nendpoints = [\"udp://192.0.2.1\"]\n[bootstrap]\nservers = [\"udp://192.0.2.9\"]\n";
    assert_eq!(bootstrap_of(without), [""; 0], "nobody is asked for anything");
}

#[test]
fn operators_are_one_in_any_spelling() {
    let text = format!(
        "{GOOD}operator = \"Quad9\"\n[[provider]]\nname = \"quad9\"\nendpoints = [\"udp://192.0.2.2\", \"tcp://192.0.2.2\"]\n"
    );
    let topology = to_topology(&parse(&text).unwrap());
    assert_eq!(topology.providers[1].operator, OperatorId(0));
    assert_eq!(topology.providers[1].endpoints, [EndpointId(1), EndpointId(2)]);
    assert!(
        topology
            .endpoints
            .iter()
            .skip(1)
            .all(|endpoint| endpoint.provider.0 == 1)
    );
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let missing = Config::load(&directory.path().join("missing.toml")).unwrap_err();
    assert!(
        missing.to_string().starts_with("cannot read configuration file "),
        "{missing}"
    );
    assert!(std::error::Error::source(&missing).is_some());
    assert!(matches!(Config::load(directory.path()), Err(LoadError::Read { .. })));

    let latin1 = Config::load(&write("latin1.toml", b"version = 1\n# caf\xe9\n")).unwrap_err();
    assert!(
        latin1.to_string().ends_with("latin1.toml:2: not UTF-8 text"),
        "{latin1}"
    );
    let mut text = GOOD.to_owned() + "#";
    text.extend(std::iter::repeat_n('x', 1024 * 1024 - text.len()));
    assert!(Config::load(&write("largest.toml", text.as_bytes())).is_ok());
    text.push('x');
    assert!(matches!(
        Config::load(&write("larger.toml", text.as_bytes())),
        Err(LoadError::TooLarge { .. })
    ));

    let windows = write(
        "windows.toml",
        format!("\u{feff}{}", GOOD.replace('\n', "\r\n")).as_bytes(),
    );
    assert!(Config::load(&windows).is_ok());
}
