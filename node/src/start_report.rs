//! What `detour run` tells whoever started it, once providers had their time to answer: how many do and over what, or
//! that this machine seems offline, and what to type next.
//!
//! Never waited for: the node says "ready" and answers before this.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use detour_core::routes::{PlaceWhy, Routes};
use detour_core::{Clock, Encryption, GroupId, Provider, Time};
use detour_resolver::forwarder::Shared;
use tokio::time::timeout;

use crate::admin::standing::{
    Standing, View, answer_of, answering_endpoint, answering_providers, count, enumerate, is_offline, is_untrusted,
    standing, trouble_text,
};
use crate::board::Board;
use crate::config::{DEFAULT_ADMIN, DEFAULT_DNS};
use crate::names;
use crate::output::print_line;

/// Providers that have not answered by then are told as silent: the report comes within 3 s of the start, and the look
/// at a dead path takes two.
const PATIENCE: Duration = Duration::from_millis(2_750);

/// Where the node is reached.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    /// DNS.
    pub(crate) dns: Vec<SocketAddr>,
    /// The admin interface.
    pub(crate) admin: Option<SocketAddr>,
    /// Where it stands which host names cannot be resolved.
    pub(crate) board: Board,
    /// Who resolves host names.
    pub(crate) bootstrap: Vec<String>,
    /// What looks at each provider of this configuration: a command.
    pub(crate) doctor: String,
}

/// Waits until all is known or time is up, and tells.
pub(crate) async fn tell(shared: Arc<Shared>, clock: Arc<dyn Clock>, reached: Reached) {
    let mut routes = shared.generation().watch_routes();
    let known = async {
        // A reload ends these routes; then the time alone decides.
        while !View::of(&shared.generation(), is_known) {
            if routes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    drop(timeout(PATIENCE, known).await);
    let lines = View::of(&shared.generation(), |view| lines(view, &reached, clock.now()));
    for line in lines {
        if let Err(error) = print_line(line) {
            tracing::warn!(%error, "cannot write to standard output");
            return;
        }
    }
}

/// Whether waiting would tell nothing more.
fn is_known(view: View<'_>) -> bool {
    let all = |wanted: Standing| {
        let mut providers = public(view);
        providers.all(|provider| standing(view, provider) == wanted)
    };
    let is_served = |provider| matches!(standing(view, provider), Standing::Answering | Standing::Reserved);
    let is_any_answering = answering_providers(view) > 0;
    (is_any_answering && public(view).all(is_served)) || all(Standing::Unroutable)
}

/// The report.
fn lines(view: View<'_>, reached: &Reached, now: Time) -> Vec<String> {
    let answering = answering_providers(view);
    let total = public(view).count();
    let reserved = count(view, Standing::Reserved);
    let trouble = trouble_text(view, now);
    let silent = silent_text(view);
    let mut lines = Vec::new();
    if answering == 0 {
        let is_withheld = is_cleartext_withheld(view.routes);
        let parts: Vec<String> = [trouble, silent].into_iter().flatten().collect();
        lines.push(match (is_offline(view.routes), is_withheld) {
            (true, false) => "no provider answers: this machine seems offline".to_owned(),
            (true, true) => {
                "no provider answers yet: this machine seems offline, or its network lets nothing encrypted through"
                    .to_owned()
            }
            (false, _) => format!("no provider answers: {}", parts.join("; ")),
        });
        if is_nowhere(view) {
            let told = reached.board.lines().into_iter();
            let told: Vec<String> = told.filter(|line| line.starts_with(names::PART)).collect();
            if told.is_empty() && !reached.bootstrap.is_empty() {
                // They are waited for longer than this report.
                let servers = enumerate(&reached.bootstrap);
                lines.push(format!(
                    "host names: no answer yet from those who resolve them: {servers}"
                ));
            }
            lines.extend(told);
        }
        if is_withheld {
            lines.push("endpoints in the clear have their turn in a moment (select.encryption)".to_owned());
        }
        lines.push("what is cached is served; providers are asked again as soon as a client asks".to_owned());
        let first = if is_untrusted(view.routes) || is_nowhere(view) {
            &*reached.doctor
        } else {
            "ip route"
        };
        lines.push(match status_command(reached.admin) {
            Some(status) => format!("try: {first}, and then: {status}"),
            None => format!("try: {first}"),
        });
        return lines;
    }
    let mut text = format!("{} ({})", answer_of(answering, total), over(view));
    if reserved > 0 {
        text.push_str(&format!(", {reserved} in reserve"));
    }
    for part in [trouble, silent].into_iter().flatten() {
        text.push_str(&format!("; {part}"));
    }
    lines.push(text);
    if let Some(dns) = reached.dns.first() {
        lines.push(format!("try: {}", query_command(*dns)));
        lines.push(machine_line(&reached.dns));
    }
    if let (true, Some(status)) = (
        answering.saturating_add(reserved) < total,
        status_command(reached.admin),
    ) {
        lines.push(format!("try: {status}"));
    }
    lines
}

/// Whether a provider has no address.
fn is_nowhere(view: View<'_>) -> bool {
    public(view).any(|provider| matches!(standing(view, provider), Standing::Unresolved(_)))
}

/// Whether something may be asked later that may not be now, because all could read it.
fn is_cleartext_withheld(routes: &Routes) -> bool {
    let mut endpoints = routes.endpoints.iter();
    routes.settings.encryption == Encryption::Prefer && endpoints.any(|route| route.why == PlaceWhy::Cleartext)
}

/// Those who serve the names that no route speaks of.
fn public<'v>(view: View<'v>) -> impl Iterator<Item = &'v Provider> {
    view.routes
        .topology
        .members(GroupId::PUBLIC)
        .map(|(_, provider)| provider)
}

/// Who has said nothing that shows anything.
fn silent_text(view: View<'_>) -> Option<String> {
    let is_silent = |provider: &&Provider| match standing(view, provider) {
        Standing::Untried | Standing::Neutral => true,
        Standing::Answering | Standing::Troubled(..) | Standing::Paused(..) => false,
        Standing::Reserved | Standing::Unresolved(_) | Standing::Unroutable => false,
    };
    let silent = public(view).filter(is_silent);
    let names: Vec<String> = silent.map(|provider| provider.name.clone()).collect();
    (!names.is_empty()).then(|| format!("no answer from {}", enumerate(&names)))
}

/// How many answer over what: `3 over https, 1 over udp`.
fn over(view: View<'_>) -> String {
    let topology = &view.routes.topology;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for provider in public(view) {
        let endpoint = answering_endpoint(view.routes, provider).and_then(|id| topology.endpoint(id));
        if let Some(endpoint) = endpoint {
            // The name of an endpoint begins with its scheme.
            let scheme = endpoint.label.split("://").next().unwrap_or_default();
            *counts.entry(scheme).or_default() += 1;
        }
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(scheme, count)| (std::cmp::Reverse(*count), *scheme));
    let words: Vec<String> = counts
        .iter()
        .map(|(scheme, count)| format!("{count} over {scheme}"))
        .collect();
    words.join(", ")
}

/// An address to ask a wildcard at.
fn askable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn query_command(dns: SocketAddr) -> String {
    let dns = askable(dns);
    if DEFAULT_DNS.first() == Some(&dns) {
        "detour query example.com".to_owned()
    } else {
        format!("detour query example.com --server {dns}")
    }
}

fn status_command(admin: Option<SocketAddr>) -> Option<String> {
    admin.map(|admin| {
        if admin == DEFAULT_ADMIN {
            "detour status".to_owned()
        } else {
            format!("detour status --admin {admin}")
        }
    })
}

/// How this machine is made to use it: resolv.conf knows port 53 only.
fn machine_line(dns: &[SocketAddr]) -> String {
    let own = dns.iter().copied().map(askable).find(|address| address.port() == 53);
    match own {
        Some(address) => format!(
            "to use it on this machine: \"nameserver {}\" in /etc/resolv.conf",
            address.ip()
        ),
        None => "to use it on this machine: listen on 127.0.0.1:53 (--listen, needs a privilege), and \"nameserver \
                 127.0.0.1\" in /etc/resolv.conf"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, to_topology};
    use detour_core::control::{ClockError, ClockWitness, ClockWrong, Control};
    use detour_core::health::state::State;
    use detour_core::outcome::Cause;
    use detour_core::routes::Settings;
    use expect_test::expect;

    /// Four providers over UDP and TCP, each over both families: endpoints 0 to 3, 4 to 7 and so on.
    fn four_providers() -> Config {
        let names = ["cloudflare", "google", "dns.sb", "adguard-unfiltered"];
        let blocks = names.iter().zip(1..).map(|(name, n)| {
            let (v4, v6) = (format!("192.0.2.{n}"), format!("[2001:db8::{n}]"));
            format!(
                "[[provider]]\nname = \"{name}\"\n\
                 endpoints = [\"udp://{v4}\", \"udp://{v6}\", \"tcp://{v4}\", \"tcp://{v6}\"]\n"
            )
        });
        let text = format!("version = 1\n{}", blocks.collect::<String>());
        Config::parse(&text, std::path::Path::new("detour.toml")).unwrap()
    }

    fn told(dns: &str, change: impl FnOnce(&mut Routes)) -> String {
        told_of(&four_providers(), dns, change)
    }

    fn told_of(config: &Config, dns: &str, change: impl FnOnce(&mut Routes)) -> String {
        told_with(config, dns, Board::default(), change)
    }

    fn told_with(config: &Config, dns: &str, board: Board, change: impl FnOnce(&mut Routes)) -> String {
        let topology = Arc::new(to_topology(config));
        let control = Control::new(topology, Settings::default(), Time::ZERO, 1);
        let mut routes = control.routes().as_ref().clone();
        change(&mut routes);
        routes.choices = Routes::choose(&routes.topology, &routes.endpoints);
        let view = View {
            routes: &routes,
            wall_s: 22_400 * 86_400,
            has_heard: &|_| false,
        };
        let reached = Reached {
            dns: vec![dns.parse().unwrap()],
            admin: Some(DEFAULT_ADMIN),
            board,
            bootstrap: vec!["udp://192.0.2.53".to_owned()],
            doctor: "detour doctor -c detour.toml".to_owned(),
        };
        lines(view, &reached, Time::at_ms(2_000)).join("\n")
    }

    fn set(routes: &mut Routes, endpoint: usize, state: State, why: PlaceWhy, cause: Cause) {
        let route = &mut routes.endpoints[endpoint];
        (route.state, route.why, route.cause) = (state, why, cause);
    }

    #[test]
    fn who_answers_is_told_with_the_transport() {
        let all = |routes: &mut Routes| {
            for endpoint in [0, 4, 8] {
                set(routes, endpoint, State::Up, PlaceWhy::Healthy, Cause::Answering);
            }
            set(routes, 12, State::Suspect, PlaceWhy::Suspect, Cause::Timeout);
            set(routes, 14, State::Up, PlaceWhy::Healthy, Cause::Answering);
        };
        expect![[r#"
            4 of 4 providers answer (3 over udp, 1 over tcp); udp://192.0.2.4 of adguard-unfiltered is suspect (timeout) since 2 s
            try: detour query example.com
            to use it on this machine: listen on 127.0.0.1:53 (--listen, needs a privilege), and "nameserver 127.0.0.1" in /etc/resolv.conf"#]].assert_eq(&told("127.0.0.1:5300", all));
        assert!(
            told("127.0.0.1:5300", |routes| {
                set(routes, 0, State::Up, PlaceWhy::Healthy, Cause::Answering);
                set(routes, 8, State::Up, PlaceWhy::Healthy, Cause::Answering);
            })
            .starts_with("2 of 4 providers answer (2 over udp); no answer from google, adguard-unfiltered\n")
        );
        expect![[r#"
            3 of 4 providers answer (3 over udp); adguard-unfiltered is suspect (timeout) since 2 s
            try: detour query example.com --server 127.0.0.1:53
            to use it on this machine: "nameserver 127.0.0.1" in /etc/resolv.conf
            try: detour status"#]]
        .assert_eq(&told("0.0.0.0:53", |routes| {
            all(routes);
            for endpoint in 12..16 {
                set(routes, endpoint, State::Suspect, PlaceWhy::Suspect, Cause::Timeout);
            }
        }));
    }

    #[test]
    fn what_has_its_turn_later_is_told() {
        let block =
            |n| format!("[[provider]]\nname = \"p{n}\"\nendpoints = [\"tls://192.0.2.{n}\", \"udp://192.0.2.{n}\"]\n");
        let text = format!("version = 1\n{}{}", block(1), block(2));
        let config = Config::parse(&text, std::path::Path::new("detour.toml")).unwrap();
        let fail = |cause| {
            move |routes: &mut Routes| {
                for endpoint in [0, 2] {
                    set(routes, endpoint, State::Suspect, PlaceWhy::Suspect, cause);
                }
            }
        };
        let first_two = |cause| {
            let said = told_of(&config, "127.0.0.1:5300", fail(cause));
            said.lines().take(2).collect::<Vec<_>>().join("\n")
        };
        expect![[r#"
            no provider answers yet: this machine seems offline, or its network lets nothing encrypted through
            endpoints in the clear have their turn in a moment (select.encryption)"#]]
        .assert_eq(&first_two(Cause::Connect));
        expect![[r#"
            no provider answers: p1 is suspect (tls-untrusted) since 2 s, p2 is suspect (tls-untrusted) since 2 s
            endpoints in the clear have their turn in a moment (select.encryption)"#]]
        .assert_eq(&first_two(Cause::TlsUntrusted));
    }

    #[test]
    fn who_is_in_reserve_is_well_and_who_has_no_address_is_told() {
        let text = "version = 1\n[[provider]]\nname = \"one\"\nendpoints = [\"tls://192.0.2.1\"]\n\
                    [[provider]]\nname = \"two\"\nendpoints = [\"udp://192.0.2.2\"]\n\
                    [[provider]]\nname = \"three\"\nendpoints = [\"tls://dns.example:8853\"]\n";
        let mut config = Config::parse(text, std::path::Path::new("detour.toml")).unwrap();
        let nowhere = |routes: &mut Routes| {
            for endpoint in [2, 3] {
                set(routes, endpoint, State::Unknown, PlaceWhy::Unresolved, Cause::Untried);
            }
        };
        let first = |config: &Config, change: &dyn Fn(&mut Routes)| {
            let told = told_of(config, "127.0.0.1:53", change);
            told.lines().next().unwrap().to_owned()
        };
        let up = |routes: &mut Routes| set(routes, 0, State::Up, PlaceWhy::Healthy, Cause::Answering);
        expect![
            "1 of 3 providers answer (1 over tls), 1 in reserve; three has no address: dns.example is not resolved"
        ]
        .assert_eq(&first(&config, &|routes| {
            up(routes);
            nowhere(routes);
        }));
        expect!["no provider answers: two is not asked (nothing encrypted is known of it, and select.encryption = \"require\"), three has no address: dns.example is not resolved; no answer from one"].assert_eq(&first(&config, &|routes| {
            nowhere(routes);
            routes.settings.encryption = Encryption::Require;
        }));
        config.providers.remove(2);
        expect!["1 of 2 providers answer (1 over tls), 1 in reserve"].assert_eq(&first(&config, &up));
        config.providers.remove(1);
        expect!["1 of 1 provider answers (1 over tls)"].assert_eq(&first(&config, &up));
    }

    #[test]
    fn names_are_waited_for_and_who_is_in_reserve_is_not() {
        let is_known_with = |places: [PlaceWhy; 4]| {
            let control = Control::new(
                Arc::new(to_topology(&four_providers())),
                Settings::default(),
                Time::ZERO,
                1,
            );
            let mut routes = control.routes().as_ref().clone();
            for (endpoint, why) in (0..16).zip(places.into_iter().flat_map(|why| [why; 4])) {
                let state = if why == PlaceWhy::Healthy {
                    State::Up
                } else {
                    State::Unknown
                };
                set(&mut routes, endpoint, state, why, Cause::Untried);
            }
            is_known(View {
                routes: &routes,
                wall_s: 0,
                has_heard: &|_| false,
            })
        };
        let (up, clear, nowhere) = (PlaceWhy::Healthy, PlaceWhy::Cleartext, PlaceWhy::Unresolved);
        assert!(is_known_with([up, up, clear, up]));
        assert!(is_known_with([PlaceWhy::NoRoute; 4]));
        assert!(!is_known_with([up, up, up, nowhere]));
        assert!(!is_known_with([nowhere; 4]));
        assert!(!is_known_with([clear; 4]), "these have their turn in a moment");
    }

    #[test]
    fn names_that_nobody_resolves_are_no_missing_network() {
        let block = |n| format!("[[provider]]\nname = \"p{n}\"\nendpoints = [\"tls://dns{n}.example\"]\n");
        let text = format!(
            "version = 1\n{}{}[bootstrap]\nservers = [\"udp://192.0.2.53\"]\n",
            block(1),
            block(2)
        );
        let config = Config::parse(&text, std::path::Path::new("detour.toml")).unwrap();
        let board = Board::default();
        board.say("store", "memory only");
        board.say(names::PART, "cannot be resolved: dns1.example (why)");
        let nowhere = |routes: &mut Routes| {
            for endpoint in 0..4 {
                set(routes, endpoint, State::Unknown, PlaceWhy::Unresolved, Cause::Untried);
            }
        };
        let told = told_with(&config, "127.0.0.1:53", Board::default(), nowhere);
        let line = "host names: no answer yet from those who resolve them: udp://192.0.2.53";
        assert_eq!(told.lines().nth(1), Some(line));
        let told = told_with(&config, "127.0.0.1:53", board, nowhere);
        expect![[r#"
            no provider answers: p1 has no address: dns1.example is not resolved, p2 has no address: dns2.example is not resolved
            host names: cannot be resolved: dns1.example (why)
            what is cached is served; providers are asked again as soon as a client asks
            try: detour doctor -c detour.toml, and then: detour status"#]].assert_eq(&told);
    }

    #[test]
    fn somebody_in_between_is_told_from_a_mistake_of_the_configuration() {
        let block = |n| {
            let endpoints = format!("\"tls://192.0.2.{n}#p{n}.example\", \"udp://192.0.2.{n}\"");
            format!("[[provider]]\nname = \"p{n}\"\noperator = \"o{n}\"\nendpoints = [{endpoints}]\n")
        };
        let text = format!("version = 1\n{}{}{}", block(1), block(2), block(3));
        let config = Config::parse(&text, std::path::Path::new("detour.toml")).unwrap();
        let told = |causes: [Cause; 3]| {
            let told = told_of(&config, "127.0.0.1:53", |routes| {
                for (endpoint, cause) in [0, 2, 4].into_iter().zip(causes) {
                    set(routes, endpoint, State::Down, PlaceWhy::Down, cause);
                    set(routes, endpoint + 1, State::Suspect, PlaceWhy::Suspect, Cause::Timeout);
                }
                routes.in_the_clear = true;
            });
            let (mut lines, last) = (told.lines(), told.lines().last().unwrap());
            let first = lines.next().unwrap().split(", p1").next().unwrap().to_owned();
            format!("{first}\n{last}")
        };
        let lines = [
            told([Cause::TlsPin, Cause::Connect, Cause::Connect]),
            told([Cause::TlsUntrusted, Cause::Connect, Cause::Connect]),
            told([Cause::TlsUntrusted, Cause::TlsUntrusted, Cause::Connect]),
            told([Cause::TlsUntrusted, Cause::TlsUntrusted, Cause::Servfail]),
        ];
        expect![[r#"
            no provider answers: queries travel in the clear, because nothing encrypted answers (the key of p1 is none of its pins)
            try: detour doctor -c detour.toml, and then: detour status
            no provider answers: queries travel in the clear, because nothing encrypted answers (the certificate of p1 is not trusted: is trust = [...] complete?)
            try: detour doctor -c detour.toml, and then: detour status
            no provider answers: queries travel in the clear: no certificate is trusted, so something on the way answers in the providers' place, unless trust = [...] lacks their root
            try: detour doctor -c detour.toml, and then: detour status
            no provider answers: queries travel in the clear, because nothing encrypted answers (the certificate of p1 is not trusted: is trust = [...] complete?)
            try: detour doctor -c detour.toml, and then: detour status"#]].assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_wrong_clock_is_told_instead_of_what_it_makes_of_certificates() {
        let blocks = ["one", "two", "three"].iter().zip(1..).map(|(name, n)| {
            let endpoints = format!("\"tls://192.0.2.{n}#{name}.example\", \"udp://192.0.2.{n}\"");
            format!("[[provider]]\nname = \"{name}\"\nendpoints = [{endpoints}]\n")
        });
        let text = format!("version = 1\n{}", blocks.collect::<String>());
        let config = Config::parse(&text, std::path::Path::new("detour.toml")).unwrap();
        let expired = |routes: &mut Routes| {
            for endpoint in [0, 2, 4] {
                set(routes, endpoint, State::Down, PlaceWhy::Down, Cause::TlsExpired);
            }
            routes.clock_wrong = Some(ClockWrong {
                error: ClockError::Ahead { seconds: 400 * 86_400 },
                witness: ClockWitness::Certificates { operators: 3 },
            });
        };
        let first = |change: &dyn Fn(&mut Routes)| {
            let told = told_of(&config, "127.0.0.1:53", change);
            told.lines().next().unwrap().to_owned()
        };
        expect!["no provider answers: this machine's clock is wrong: it says 2031-05-01, but the certificates of 3 operators ended by 2030-03-27"].assert_eq(&first(&|routes| expired(routes)));
        expect!["3 of 3 providers answer (3 over udp); this machine's clock is wrong: it says 2031-05-01, but the certificates of 3 operators ended by 2030-03-27"].assert_eq(&first(&|routes| {
            expired(routes);
            for endpoint in [1, 3, 5] {
                set(routes, endpoint, State::Up, PlaceWhy::Healthy, Cause::Answering);
            }
        }));
        // One whose certificate is good: the clock is right.
        expect!["1 of 3 providers answer (1 over tls); one is down (tls-expired) since 2 s, two is down (tls-expired) since 2 s"].assert_eq(&first(&|routes| {
            expired(routes);
            routes.clock_wrong = None;
            set(routes, 4, State::Up, PlaceWhy::Healthy, Cause::Answering);
        }));
    }

    #[test]
    fn a_machine_without_a_network_is_told_from_providers_that_fail() {
        let fail = |cause| {
            move |routes: &mut Routes| {
                for endpoint in 0..16 {
                    set(routes, endpoint, State::Suspect, PlaceWhy::Suspect, cause);
                }
            }
        };
        expect![[r#"
            no provider answers: this machine seems offline
            what is cached is served; providers are asked again as soon as a client asks
            try: ip route, and then: detour status"#]]
        .assert_eq(&told("127.0.0.1:5300", fail(Cause::Timeout)));
        expect![[r#"
            no provider answers: cloudflare is suspect (refused) since 2 s, google is suspect (refused) since 2 s, dns.sb is suspect (refused) since 2 s and 1 more
            what is cached is served; providers are asked again as soon as a client asks
            try: ip route, and then: detour status"#]].assert_eq(&told("127.0.0.1:5300", fail(Cause::Refused)));
    }
}
