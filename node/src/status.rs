//! `detour status`: how the running node does, what is wrong first.
//!
//! Decides nothing: the first line is the node's own sentence, the table its own numbers.

mod mesh;

use std::io;

use serde::Serialize;
use serde_json::Value;

use crate::admin::claims::short;
use crate::admin::client::{Answer, GetError, get};
use crate::admin::peers::MeshView;
use crate::admin::providers::{EndpointView, ProviderView};
use crate::admin::status::{ConfigurationView, Dns64View, GroupView, NetworkView, ReloadView, Status};
use crate::admin::words::age_text_s;
use crate::cli::{StatusArgs, exit_code};

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum StatusError {
    /// Nobody answered.
    #[error(transparent)]
    Get(#[from] GetError),
    /// Something else answers there.
    #[error("what answers there is no node: HTTP status {0}")]
    Refused(u16),
    /// Most likely a node of another version.
    #[error("cannot read the node's answer: is it of another version?")]
    Unreadable(#[source] serde_json::Error),
}

/// All answers, for programs.
#[derive(Debug, Serialize)]
struct All {
    status: Value,
    providers: Value,
    peers: Value,
}

/// Runs the command; the exit code.
pub(crate) async fn status(args: &StatusArgs) -> u8 {
    match fetch(args).await {
        Ok(text) => crate::output::print(&mut io::stdout().lock(), &text, exit_code::OK),
        Err(error) => {
            crate::output::complain("status", &error);
            exit_code::FAILED
        }
    }
}

/// What there is to print.
async fn fetch(args: &StatusArgs) -> Result<String, StatusError> {
    let status = body(args, "/api/v1/status").await?;
    let providers = body(args, "/api/v1/providers").await?;
    let peers = body(args, "/api/v1/peers").await?;
    if args.json {
        let all = All {
            status: serde_json::from_slice(&status).map_err(StatusError::Unreadable)?,
            providers: serde_json::from_slice(&providers).map_err(StatusError::Unreadable)?,
            peers: serde_json::from_slice(&peers).map_err(StatusError::Unreadable)?,
        };
        let text = serde_json::to_string(&all).map_err(StatusError::Unreadable)?;
        return Ok(format!("{text}\n"));
    }
    let status = serde_json::from_slice(&status).map_err(StatusError::Unreadable)?;
    let providers: Vec<ProviderView> = serde_json::from_slice(&providers).map_err(StatusError::Unreadable)?;
    let mesh = serde_json::from_slice(&peers).map_err(StatusError::Unreadable)?;
    Ok(harmless(&render(&status, &providers, &mesh)))
}

async fn body(args: &StatusArgs, path: &str) -> Result<Vec<u8>, StatusError> {
    let Answer { status, body } = get(args.admin, path).await?;
    if status == 200 {
        Ok(body)
    } else {
        Err(StatusError::Refused(status))
    }
}

/// Without what a terminal would obey: whatever listens at that address may be anything.
fn harmless(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// All in words.
fn render(status: &Status, providers: &[ProviderView], mesh: &MeshView) -> String {
    let mut text = format!("{}\n", status.summary);
    for warning in &status.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text.push('\n');
    text.push_str(&table(providers));
    text.push_str(&groups(&status.groups));
    text.push_str(&network(status.network.as_ref()));
    if let Some(Dns64View { prefix, is_discovered }) = &status.dns64 {
        let by = if *is_discovered {
            "the network"
        } else {
            "the configuration"
        };
        text.push_str(&format!("DNS64: {prefix}, as {by} says\n"));
    }
    text.push_str(&mesh::words(mesh));
    text.push_str(&format!("\nconfiguration: {}\n", configuration(status)));
    let plain = status.listening.iter().map(ToString::to_string);
    let listening: Vec<String> = plain.chain(status.encrypted.iter().cloned()).collect();
    text.push_str(&format!("listening: {}\n", listening.join(", ")));
    text.push_str(&format!(
        "running: {}, version {}; {} answers cached in {} KiB, {} questions under way\n",
        age_text_s(status.uptime_s),
        status.version,
        status.cache.entries,
        status.cache.bytes.div_ceil(1024),
        status.in_flight,
    ));
    text
}

/// The groups of routes, a line each.
fn groups(groups: &[GroupView]) -> String {
    let line = |group: &GroupView| {
        let standing = match (group.providers.is_empty(), group.nothing_up, group.in_the_clear) {
            (true, _, _) => "nobody to ask",
            (_, true, _) => "nothing answers",
            (_, _, true) => "in the clear",
            (false, false, false) => "answers",
        };
        format!("route to {}: {standing}\n", group.name)
    };
    let lines: String = groups.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// What the network gave, if it gave anything.
fn network(network: Option<&NetworkView>) -> String {
    let Some(NetworkView {
        source: Some(source),
        resolvers,
        search_domains,
    }) = network
    else {
        return String::new();
    };
    let resolvers: Vec<String> = resolvers.iter().map(ToString::to_string).collect();
    let search = match search_domains.as_slice() {
        [] => "no search domains".to_owned(),
        domains => format!("search domains {}", domains.join(" ")),
    };
    format!("network: {}, {search} ({source})\n", resolvers.join(", "))
}

/// Which configuration, and what became of the last reload.
fn configuration(status: &Status) -> String {
    let ConfigurationView {
        age_s,
        degraded,
        reload,
        restart,
    } = &status.configuration;
    let age = age_text_s(*age_s);
    let mut text = match degraded {
        None => format!("{}, in force for {age}", status.config),
        Some(_) => format!("a copy of {}, in force for {age}", status.config),
    };
    if let Some(ReloadView { age_s, rejected }) = reload {
        let result = match rejected {
            None => "applied",
            Some(_) => "rejected",
        };
        text.push_str(&format!(", last reload {} ago: {result}", age_text_s(*age_s)));
    }
    if !restart.is_empty() {
        text.push_str(&format!("; waiting for a restart: {}", restart.join(", ")));
    }
    text
}

/// Columns of the table.
const HEAD: [&str; 8] = ["PROVIDER", "ENDPOINT", "STATE", "PLACE", "SHARE", "P50", "P95", "WHY"];

/// One line per provider with the endpoint in use, and one for each other endpoint that is in trouble.
fn table(providers: &[ProviderView]) -> String {
    let mut rows: Vec<[String; 8]> = vec![HEAD.map(str::to_owned)];
    for provider in providers {
        let is_used = |endpoint: &&EndpointView| Some(&endpoint.endpoint) == provider.in_use.as_ref();
        let used = provider
            .endpoints
            .iter()
            .find(is_used)
            .or_else(|| provider.endpoints.first());
        let share = format!("{}.{} %", provider.share_permille / 10, provider.share_permille % 10);
        if let Some(used) = used {
            rows.push(row(&provider.name, used, share));
        }
        let others = provider.endpoints.iter().filter(|endpoint| Some(*endpoint) != used);
        for other in others.filter(|endpoint| endpoint.state == "suspect" || endpoint.state == "down") {
            rows.push(row("", other, String::new()));
        }
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line: Vec<String> = cells.collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(name: &str, endpoint: &EndpointView, share: String) -> [String; 8] {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let why = match (endpoint.place_why.as_str(), endpoint.reason.as_str()) {
        ("healthy", reason) => reason.to_owned(),
        ("reported", _) => reported(endpoint),
        (why, reason) if why == endpoint.state => reason.to_owned(),
        (why, reason) => format!("{why}, {reason}"),
    };
    let habits: String = endpoint.habits.iter().map(|habit| format!(", {habit}")).collect();
    let age = age_text_s(endpoint.since_ms / 1_000);
    [
        name.to_owned(),
        endpoint.endpoint.clone(),
        endpoint.state.clone(),
        endpoint.place.clone(),
        share,
        ms(endpoint.p50_ms),
        ms(endpoint.p95_ms),
        match (endpoint.said.attribution.as_str(), &endpoint.said.attribution_text) {
            ("their-outage" | "my-path", Some(whose)) => format!("{why} for {age}{habits}, {whose}"),
            _ => format!("{why} for {age}{habits}"),
        },
    ]
}

/// What a peer says that nothing here has decided yet.
fn reported(endpoint: &EndpointView) -> String {
    match &endpoint.said.claim {
        Some(claim) => format!("reported by {} ({})", short(&claim.by), claim.reason),
        None => "reported".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::claims::SaidView;
    use crate::admin::status::{CacheSize, MeshCount, ProviderCount};
    use expect_test::expect;

    fn endpoint(url: &str, state: &str, place: (&str, &str), reason: &str, p50_ms: Option<f64>) -> EndpointView {
        EndpointView {
            endpoint: url.to_owned(),
            state: state.to_owned(),
            reason: reason.to_owned(),
            since_ms: 12_000,
            place: place.0.to_owned(),
            place_why: place.1.to_owned(),
            p50_ms,
            p95_ms: p50_ms.map(|ms| ms * 4.0),
            ok_permille: 1_000,
            paused_ms: None,
            habits: Vec::new(),
            said: SaidView::default(),
        }
    }

    fn provider(name: &str, share_permille: u32, endpoints: Vec<EndpointView>) -> ProviderView {
        ProviderView {
            name: name.to_owned(),
            operator: name.to_owned(),
            class: "none/validating".to_owned(),
            groups: vec!["public".to_owned()],
            share_permille,
            in_use: endpoints.last().map(|endpoint| endpoint.endpoint.clone()),
            endpoints,
        }
    }

    fn told() -> Status {
        Status {
            summary: "two is down (timeout) since 12 s; 1 of 2 providers answer".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_s: 7_300,
            listening: vec!["127.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()],
            encrypted: vec!["tls://127.0.0.1:853".to_owned()],
            admin: None,
            config: "/etc/detour.toml".to_owned(),
            configuration: ConfigurationView::default(),
            nothing_up: false,
            uplink_suspect: Vec::new(),
            providers: ProviderCount { up: 1, total: 2 },
            groups: vec![GroupView {
                name: "two".to_owned(),
                providers: vec!["two".to_owned()],
                nothing_up: true,
                in_the_clear: false,
            }],
            dns64: Some(Dns64View {
                prefix: "64:ff9b::/96".to_owned(),
                is_discovered: true,
            }),
            network: Some(NetworkView {
                source: Some("/etc/resolv.conf".to_owned()),
                resolvers: vec!["192.0.2.1:53".parse().unwrap()],
                search_domains: vec!["lan.".to_owned()],
            }),
            mesh: MeshCount::default(),
            cache: CacheSize {
                entries: 1_804,
                bytes: 612_344,
            },
            in_flight: 2,
            budget_tokens: 64,
            warnings: vec!["nothing is kept on disk: read-only".to_owned()],
        }
    }

    #[test]
    fn the_first_line_is_the_sentence_and_the_table_says_why() {
        let providers = [
            provider(
                "one",
                1_000,
                vec![
                    endpoint("tcp://192.0.2.1", "suspect", ("last", "suspect"), "reset", None),
                    endpoint(
                        "udp://192.0.2.1",
                        "up",
                        ("normal", "healthy"),
                        "answering",
                        Some(11.263),
                    ),
                ],
            ),
            provider(
                "two",
                0,
                vec![endpoint("udp://192.0.2.2", "down", ("out", "down"), "timeout", None)],
            ),
        ];
        expect![[r#"
            two is down (timeout) since 12 s; 1 of 2 providers answer
            warning: nothing is kept on disk: read-only

            PROVIDER  ENDPOINT         STATE    PLACE   SHARE    P50      P95      WHY
            one       udp://192.0.2.1  up       normal  100.0 %  11.3 ms  45.1 ms  answering for 12 s
                      tcp://192.0.2.1  suspect  last             -        -        reset for 12 s
            two       udp://192.0.2.2  down     out     0.0 %    -        -        timeout for 12 s

            route to two: nothing answers
            network: 192.0.2.1:53, search domains lan. (/etc/resolv.conf)
            DNS64: 64:ff9b::/96, as the network says

            configuration: /etc/detour.toml, in force for 0 s
            listening: 127.0.0.1:53, [::1]:53, tls://127.0.0.1:853
            running: 2 h, version 0.1.0; 1804 answers cached in 598 KiB, 2 questions under way
        "#]]
        .assert_eq(&render(&told(), &providers, &MeshView::default()));
    }

    #[test]
    fn what_became_of_the_configuration_is_told() {
        let mut status = told();
        status.configuration = ConfigurationView {
            age_s: 300,
            degraded: Some("x".to_owned()),
            reload: Some(ReloadView {
                age_s: 3,
                rejected: Some("x".to_owned()),
            }),
            restart: vec!["listen.dns".to_owned()],
        };
        expect!["a copy of /etc/detour.toml, in force for 5 min, last reload 3 s ago: rejected; waiting for a restart: listen.dns"].assert_eq(&configuration(&status));
        status.configuration.degraded = None;
        status.configuration.restart.clear();
        status.configuration.reload = Some(ReloadView {
            age_s: 3,
            rejected: None,
        });
        expect!["/etc/detour.toml, in force for 5 min, last reload 3 s ago: applied"]
            .assert_eq(&configuration(&status));
    }

    #[test]
    fn a_terminal_is_told_nothing_it_would_obey() {
        assert_eq!(harmless("a\u{1b}[31m\nb\r\u{7}"), "a[31m\nb");
    }

    #[tokio::test]
    async fn where_no_node_runs_the_message_says_what_to_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        drop(listener);
        let args = StatusArgs {
            config: None,
            admin,
            json: false,
        };
        let error = fetch(&args).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("no node answers at {admin} (")), "{error}");
        assert_eq!(status(&args).await, exit_code::FAILED);
    }
}
