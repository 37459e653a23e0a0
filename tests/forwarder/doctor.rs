//! `detour doctor`: each provider over each transport as a person sees it, and a sentence for each thing that is wrong.

use std::fs;

use detour_rig::process::provider_block;
use detour_rig::{Authority, Fake, FakeConfig, Fault, Manners, Transport, TransportSel};
use serde_json::Value;
use tempfile::TempDir;

use crate::command::Run;
use crate::node::config;

/// All six, the encrypted ones first.
const ALL: [Transport; 6] = [
    Transport::Dot,
    Transport::Doh,
    Transport::Doq,
    Transport::Doh3,
    Transport::Udp,
    Transport::Tcp,
];

/// Some providers, and a configuration with all of their transports.
struct Ward {
    fakes: Vec<Fake>,
    authority: Authority,
    directory: TempDir,
    /// Which of their transports are listed.
    listed: Vec<Transport>,
    /// Lines of `[select]`.
    select: &'static str,
}

/// What the command wrote and returned.
#[derive(Debug)]
struct Visit {
    code: i32,
    text: String,
}

impl Ward {
    fn of(manners: &[Manners]) -> Self {
        let authority = Authority::new().unwrap();
        let start = |(name, manners): (&&str, &Manners)| {
            let config = FakeConfig::new(name).encrypted(&authority).manners(*manners);
            Fake::start(config).unwrap()
        };
        Self {
            fakes: ["one", "two", "three"].iter().zip(manners).map(start).collect(),
            authority,
            directory: tempfile::tempdir().unwrap(),
            listed: ALL.into(),
            select: "",
        }
    }

    fn well(count: usize) -> Self {
        Self::of(&vec![Manners::default(); count])
    }

    fn listing(mut self, listed: &[Transport]) -> Self {
        self.listed = listed.into();
        self
    }

    fn set(&self, provider: usize, transports: TransportSel, fault: Fault) {
        self.fakes[provider].set_fault(transports, fault);
    }

    fn config(&self) -> String {
        let pem = self.authority.write_pem(self.directory.path()).unwrap();
        let block = |fake: &Fake| {
            let endpoints = self.listed.iter();
            let endpoints: Vec<String> = endpoints
                .map(|transport| transport.endpoint(fake.address_of(*transport).unwrap(), Some(&fake.server_name())))
                .collect();
            provider_block(fake.name(), &endpoints)
        };
        let blocks: Vec<String> = self.fakes.iter().map(block).collect();
        let top = format!("version = 1\ntrust = [{:?}]\n", pem.display().to_string());
        let mut text = config(&blocks).replacen("version = 1\n", &top, 1);
        text.push_str(&format!("\n[select]\n{}\n", self.select));
        text
    }

    /// Runs the doctor on a configuration.
    async fn visit_with(&self, config: &str, arguments: &[&str]) -> Visit {
        let path = self.directory.path().join("detour.toml");
        fs::write(&path, config).unwrap();
        let path = path.display().to_string();
        let mut all = vec!["doctor", "-c", &path];
        all.extend(arguments);
        let (code, text, error) = Run::to_the_end(&all).await;
        assert_eq!(error, "", "{text}");
        for line in text.lines() {
            assert!(
                arguments.contains(&"--json") || line.chars().count() <= 100,
                "too wide: {line}"
            );
        }
        Visit { code, text }
    }

    async fn visit(&self, arguments: &[&str]) -> Visit {
        self.visit_with(&self.config(), arguments).await
    }

    /// The findings: kind and sentence of each. That answers are slow is this machine's doing.
    async fn findings(&self, arguments: &[&str]) -> Vec<(String, String)> {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let visit = self.visit(&all).await;
        let value: Value = serde_json::from_str(&visit.text).unwrap();
        assert_eq!(value["ok"].as_bool().unwrap(), visit.code == 0, "{}", visit.text);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let findings = value["findings"].as_array().unwrap().iter();
        findings
            .map(|finding| (text(&finding["kind"]), text(&finding["text"])))
            .filter(|(kind, _)| kind != "slow")
            .collect()
    }
}

/// Only these kinds, in this order.
#[track_caller]
fn assert_kinds(findings: &[(String, String)], kinds: &[&str]) {
    let found: Vec<&str> = findings.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(found, kinds, "{findings:#?}");
}

#[tokio::test]
async fn who_is_well_over_all_six_transports_is_said_to_be() {
    let ward = Ward::well(2);
    let visit = ward.visit(&[]).await;
    let last = "12 of 12 endpoints of 2 providers answer for a.root-servers.net";
    let is_slow = visit.text.contains("an answer takes more than");
    let is_well = visit.text.ends_with(&format!("\n{last}: all is well\n")) || is_slow;
    assert!(is_well && visit.text.contains(last), "{}", visit.text);
    assert_eq!(visit.code, 0);
    for (transport, session) in [
        ("tls", "1.3 dot"),
        ("https", "1.3 h2"),
        ("quic", "1.3 doq"),
        ("h3", "1.3 h3"),
    ] {
        let line = format!("  {transport:5} 127.0.0.1:");
        let mut lines = visit.text.lines().filter(|text| text.starts_with(&line));
        let is_whole =
            |text: &str| text.contains(session) && text.contains(" answer ") && text.contains("yes  yes  yes valid");
        assert!(
            lines.all(|text| is_whole(text) && text.ends_with(" ms")),
            "{}",
            visit.text
        );
    }
    let certificate = "  certificate (tls, https, quic, h3): ends 4096-01-01, for two.detour.test, 127.0.0.1, ::1\n";
    assert!(visit.text.contains(certificate), "{}", visit.text);
}

#[tokio::test]
async fn programs_get_all_of_it() {
    let ward = Ward::well(2);
    let visit = ward.visit(&["--json", "two"]).await;
    assert_eq!(visit.code, 0);
    let value: Value = serde_json::from_str(&visit.text).unwrap();
    assert_eq!(
        (value["version"].as_u64(), value["ok"].as_bool()),
        (Some(1), Some(true))
    );
    assert!(value["findings"].is_array());
    let providers = value["providers"].as_array().unwrap();
    assert_eq!(providers.len(), 1);
    assert_eq!(providers[0]["name"], "two");
    let endpoints = providers[0]["endpoints"].as_array().unwrap();
    let transports: Vec<_> = endpoints
        .iter()
        .map(|endpoint| endpoint["transport"].as_str().unwrap())
        .collect();
    assert_eq!(transports, ["tls", "https", "quic", "h3", "udp", "tcp"]);
    for endpoint in endpoints {
        assert_eq!(
            (&endpoint["result"], &endpoint["listed"]),
            (&"answer".into(), &true.into())
        );
        assert_eq!(endpoint["hickory"]["result"], "answered", "{endpoint}");
        let traits = &endpoint["traits"];
        assert_eq!(
            (&traits["edns"], &traits["dnssec"]),
            (&"yes".into(), &"validated".into())
        );
        assert!(endpoint["answer_ms"].as_f64().unwrap() > 0.0);
    }
    let tls = &endpoints[0]["tls"];
    assert_eq!((&tls["version"], &tls["alpn"]), (&"1.3".into(), &"dot".into()));
    assert_eq!(tls["certificate"]["names"][0], "two.detour.test");
    assert_eq!(tls["certificate"]["ends"], "4096-01-01");
}

#[tokio::test]
async fn certificates_that_are_wrong_have_a_sentence_each() {
    for (fault, kind, text) in [
        (
            Fault::TlsExpired,
            "tls-expired",
            "one, tls, https, quic, h3: the certificate ended ",
        ),
        (
            Fault::TlsNotYetValid,
            "tls-not-yet-valid",
            "one, tls, https, quic, h3: the certificate is not valid yet",
        ),
        (
            Fault::TlsWrongName,
            "tls-wrong-name",
            "one, tls, https, quic, h3: the certificate is for somebody-else.detour.test, which is not what #name says",
        ),
    ] {
        let ward = Ward::well(2);
        ward.set(0, TransportSel::All, fault);
        let findings = ward.findings(&[]).await;
        assert_kinds(&findings, &[kind]);
        assert!(findings[0].1.starts_with(text), "{findings:#?}");
    }
}

#[tokio::test]
async fn a_root_that_is_not_trusted_is_told() {
    let ward = Ward::well(1);
    let config = ward.config();
    let without: Vec<&str> = config.lines().filter(|line| !line.starts_with("trust = ")).collect();
    let visit = ward.visit_with(&without.join("\n"), &[]).await;
    assert_eq!(visit.code, 1);
    let fault = "fault: one, tls, https, quic, h3: the certificate leads to no root that is trusted here:";
    assert!(visit.text.contains(fault), "{}", visit.text);
    // It is shown all the same.
    assert!(visit.text.contains("for one.detour.test"), "{}", visit.text);
}

#[tokio::test]
async fn a_wrong_clock_is_told_and_no_certificate_is_blamed() {
    let ward = Ward::well(3);
    for provider in 0..3 {
        ward.set(provider, TransportSel::All, Fault::TlsExpired);
    }
    let findings = ward.findings(&[]).await;
    assert_kinds(&findings, &["clock-wrong"]);
    let text = &findings[0].1;
    assert!(text.starts_with("this machine's clock is wrong: it says 2"), "{text}");
    assert!(
        text.contains("but the certificates of 3 operators ended by 2020-01-0"),
        "{text}"
    );
}

#[tokio::test]
async fn handshakes_that_stall_and_black_holes_are_told_apart() {
    let ward = Ward::well(2);
    ward.set(0, TransportSel::All, Fault::TlsStall);
    let findings = ward.findings(&[]).await;
    assert_kinds(&findings, &["tls-stalled"]);
    let text = &findings[0].1;
    assert!(
        text.starts_with("one, tls, https, quic, h3: connected, but no TLS handshake in 2 s"),
        "{text}"
    );

    ward.set(0, TransportSel::All, Fault::Blackhole);
    let findings = ward.findings(&[]).await;
    assert_kinds(&findings, &["tls-stalled", "connect", "silent"]);
    let starts = [
        "one, tls, https: ",
        "one, quic, h3: no connection in 2 s",
        "one, udp, tcp: not a word in time",
    ];
    assert!(
        findings
            .iter()
            .zip(starts)
            .all(|((_, text), start)| text.starts_with(start)),
        "{findings:#?}"
    );
}

#[tokio::test]
async fn a_closed_port_is_told() {
    let mut ward = Ward::well(2);
    let config = ward.config();
    ward.fakes.remove(0).shutdown().await;
    let visit = ward.visit_with(&config, &[]).await;
    assert_eq!(visit.code, 1);
    let fault = "fault: one, tls, https, quic, h3, udp, tcp: nobody listens there: a closed port, or a firewall";
    assert!(visit.text.contains(fault), "{}", visit.text);
    assert!(
        visit.text.contains("6 of 12 endpoints of 2 providers answer"),
        "{}",
        visit.text
    );
}

#[tokio::test]
async fn errors_and_refusals_are_told() {
    for (fault, kind, text) in [
        (
            Fault::Servfail,
            "servfail",
            "one, tls, https, quic, h3, udp, tcp: SERVFAIL to a name",
        ),
        (
            Fault::Refused,
            "refused",
            "one, tls, https, quic, h3, udp, tcp: REFUSED to a name",
        ),
        (
            Fault::Nxdomain,
            "denies",
            "one, tls, https, quic, h3, udp, tcp: it says that a.root-servers.net has no address",
        ),
        (Fault::Http500, "http", "one, https, h3: HTTP, but no DNS in it"),
    ] {
        let ward = Ward::well(2);
        ward.set(0, TransportSel::All, fault);
        let findings = ward.findings(&[]).await;
        assert!(
            findings.iter().any(|(own, said)| own == kind && said.starts_with(text)),
            "{fault}: {findings:#?}"
        );
    }
}

#[tokio::test]
async fn what_a_provider_lacks_is_told() {
    let well = Manners::default();
    for (manners, kind, text) in [
        (
            Manners { edns: false, ..well },
            "no-edns",
            "one, tls, https, quic, h3, udp, tcp: EDNS is not spoken",
        ),
        (
            Manners { case: false, ..well },
            "case-lost",
            "one, udp: the case of a name's letters is lost",
        ),
        (
            Manners {
                signatures: false,
                ..well
            },
            "signatures-stripped",
            "one, tls, https, quic, h3, udp, tcp: DNSSEC signatures do not come through",
        ),
        (
            Manners { padding: false, ..well },
            "not-padded",
            "one, tls, https, quic, h3: answers are not padded",
        ),
        (
            Manners {
                filtered: Some("doubleclick.net"),
                ..well
            },
            "filters",
            "one, tls, https, quic, h3, udp, tcp: it keeps back doubleclick.net, but the configuration says filter = \"none\"",
        ),
        (
            Manners {
                redirects: true,
                ..well
            },
            "redirects",
            "one, tls, https, quic, h3, udp, tcp: it has an address for ",
        ),
    ] {
        let ward = Ward::of(&[manners, well]);
        let findings = ward.findings(&[]).await;
        assert_kinds(&findings, &[kind]);
        assert!(findings[0].1.starts_with(text), "{findings:#?}");
    }
}

#[tokio::test]
async fn what_nobody_answers_on_is_blocked_and_where_nothing_answers_the_network_is_named() {
    let ward = Ward::well(2).listing(&[Transport::Dot, Transport::Udp]);
    for provider in 0..2 {
        ward.set(provider, TransportSel::Only(Transport::Udp), Fault::Blackhole);
    }
    let findings = ward.findings(&[]).await;
    assert_kinds(&findings, &["path-blocked"]);
    assert!(
        findings[0].1.starts_with("over udp/ipv4 none of 2 operators answers"),
        "{findings:#?}"
    );
    for provider in 0..2 {
        ward.set(provider, TransportSel::All, Fault::Blackhole);
    }
    assert_kinds(&ward.findings(&[]).await, &["nothing-answers"]);
}

#[tokio::test]
async fn nothing_is_asked_in_the_clear_where_that_is_forbidden() {
    let mut ward = Ward::well(1).listing(&[Transport::Dot, Transport::Udp]);
    ward.select = "encryption = \"require\"";
    let findings = ward.findings(&["--all-transports"]).await;
    assert!(findings.iter().any(|(kind, _)| kind == "not-asked"), "{findings:#?}");
    let stats = ward.fakes[0].stats();
    assert_eq!((stats.udp.queries, stats.tcp.queries), (0, 0));
    assert!(stats.dot.queries > 0);
}

#[tokio::test]
async fn a_host_name_is_resolved_by_the_other_endpoints_or_told_to_be_without_address() {
    let ward = Ward::well(2).listing(&[Transport::Udp]);
    let block = provider_block("three", &["tls://nobody.example".to_owned()]);
    let config = ward.config().replacen("\n[select]", &format!("{block}\n[select]"), 1);
    let visit = ward.visit_with(&config, &[]).await;
    assert_eq!(visit.code, 1, "{}", visit.text);
    let fault = "fault: three, tls: its host name has no address:";
    assert!(visit.text.contains(fault), "{}", visit.text);
    assert!(ward.fakes[0].stats().udp.queries > 0);
}

#[tokio::test]
async fn who_serves_the_names_of_a_route_is_asked_for_nothing_else() {
    let ward = Ward::well(3).listing(&[Transport::Udp]);
    let route = "\n[[route]]\nzones = [\"alder-lane.com\"]\nto = [\"three\"]\n";
    let config = ward.config().replacen("\n[select]", &format!("{route}\n[select]"), 1);
    let visit = ward.visit_with(&config, &[]).await;
    assert_eq!(visit.code, 0, "{}", visit.text);
    // By Detour and by hickory-resolver.
    assert_eq!(ward.fakes[2].stats().udp.queries, 2, "{}", visit.text);
    assert!(ward.fakes[0].stats().udp.queries > 2);
}

#[tokio::test]
async fn transports_that_are_not_listed_are_tried_when_asked_for() {
    let ward = Ward::well(1).listing(&[Transport::Dot]);
    let visit = ward.visit(&[]).await;
    assert!(!visit.text.contains("+ "), "{}", visit.text);
    let visit = ward.visit(&["--all-transports"]).await;
    assert_eq!(visit.code, 0, "{}", visit.text);
    for transport in ["udp", "tcp", "https", "quic", "h3"] {
        let line = format!("+ {transport:5} 127.0.0.1 ");
        assert!(
            visit.text.lines().any(|text| text.starts_with(&line)),
            "{line}: {}",
            visit.text
        );
    }
    assert!(visit.text.contains("not found (unreachable)"), "{}", visit.text);
    assert!(visit.text.contains("\n+ not in the configuration\n"), "{}", visit.text);
}

#[tokio::test]
async fn a_wrong_command_line_is_said_to_be_one() {
    let ward = Ward::well(1);
    let path = ward.directory.path().join("detour.toml");
    fs::write(&path, ward.config()).unwrap();
    let path = path.display().to_string();
    let (code, text, error) = Run::to_the_end(&["doctor", "-c", &path, "nobody"]).await;
    assert_eq!((code, text.as_str()), (64, ""));
    assert_eq!(
        error,
        "doctor: there is no provider \"nobody\": the configuration has one\n"
    );
    let (code, _, error) = Run::to_the_end(&["doctor", "-c", &path, "--name", "a..b"]).await;
    assert!(code == 64 && error.starts_with("doctor: wrong name"), "{code}: {error}");
    let (code, _, error) = Run::to_the_end(&["doctor", "-c", "/nowhere/detour.toml"]).await;
    assert!(code == 78 && error.contains("/nowhere/detour.toml"), "{code}: {error}");
}
