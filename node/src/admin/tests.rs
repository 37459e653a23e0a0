//! The admin interface over real HTTP on loopback, before a node that has asked nobody, or whatever a test makes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use detour_core::control::Control;
use detour_core::health::state::State;
use detour_core::outcome::Cause;
use detour_core::routes::{PlaceWhy, Routes, Settings as RouteSettings};
use detour_core::time::SEC;
use detour_core::{Clock, EndpointId, Family, Path, ProviderId, Time, TransportClass};
use detour_resolver::acl::Acl;
use detour_resolver::cache::{Entry, Failure};
use detour_resolver::exchange::SourcePorts;
use detour_resolver::forwarder::{Parts, Settings, Shared};
use detour_resolver::listen::StreamLimits;
use detour_resolver::local::Settings as LocalSettings;
use detour_resolver::report::Reporter;
use detour_resolver::tasks::Tasks;
use detour_resolver::wire::code::class;
use detour_resolver::wire::{Expected, NameBuf, accept};
use expect_test::expect;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::client::get;
use super::standing::{View, summary};
use super::{AdminState, Configuration, Mistakes, Notes, serve};
use crate::config::{self, Config};

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::Relaxed))
    }
}

const CONFIG: &str = r#"
version = 1
[[provider]]
name = "one"
operator = "First"
endpoints = ["udp://192.0.2.1", "tcp://192.0.2.1"]
[[provider]]
name = "two"
endpoints = ["udp://192.0.2.2"]
[[provider]]
name = "three"
endpoints = ["udp://192.0.2.3"]
"#;

/// A node with three providers, and its admin interface.
struct Node {
    admin: SocketAddr,
    clock: Arc<HandClock>,
    routes: watch::Sender<Arc<Routes>>,
    shared: Arc<Shared>,
    configuration: Arc<Configuration>,
    tasks: Tasks,
}

fn config() -> Config {
    Config::parse(CONFIG, std::path::Path::new("/etc/detour.toml")).unwrap()
}

fn routes(config: &Config, now: Time) -> Routes {
    let topology = Arc::new(config::to_topology(config));
    let control = Control::new(topology, RouteSettings::default(), now, 7);
    control.routes().as_ref().clone()
}

impl Node {
    async fn start() -> Self {
        let config = config();
        let clock = Arc::new(HandClock(AtomicU64::new(100 * SEC)));
        let (sender, table) = watch::channel(Arc::new(routes(&config, clock.now())));
        let tasks = Tasks::default();
        let (reporter, _) = Reporter::new();
        let parts = Parts {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            tasks: tasks.clone(),
            routes: table,
            reporter: Arc::new(reporter),
            remotes: config::remotes(&config),
        };
        let settings = Settings {
            acl: Acl::new(Vec::new()),
            cache_bytes: 1 << 20,
            max_stale_us: 3_600 * SEC,
            ttl_bounds_s: (0, 604_800),
            in_flight: 16,
            streams: StreamLimits {
                tcp: 16,
                tls: 16,
                quic: 16,
                tcp_idle: std::time::Duration::from_secs(10),
                encrypted_idle: std::time::Duration::from_secs(10),
            },
            doh_path: "/dns-query".into(),
            classes: String::new(),
            zones: Arc::default(),
            groups: Vec::new(),
            translation: None,
            source_ports: SourcePorts::Pool,
            local: LocalSettings {
                off: Vec::new(),
                hosts: Some("/nonexistent/directory/hosts".into()),
            },
            version: String::new(),
            identity: String::new(),
        };
        let mut registry = Registry::with_prefix("detour");
        let shared = Shared::new(settings, parts, &mut registry);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = listener.local_addr().unwrap();
        let mut notes = Notes::default();
        notes.dns.push("127.0.0.1:5300".parse().unwrap());
        notes.admin = Some(admin);
        notes.warn("nothing is kept on disk: read-only".to_owned());
        let own_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let configuration = Arc::new(Configuration::new(&config, None, clock.now()));
        let state = AdminState::new(
            Arc::clone(&shared),
            Arc::new(registry),
            own_clock,
            Arc::new(notes),
            Arc::clone(&configuration),
            None,
        );
        tasks.spawn_job(serve(listener, state, tasks.token().clone()));
        Self {
            admin,
            clock,
            routes: sender,
            shared,
            configuration,
            tasks,
        }
    }

    fn advance(&self, us: u64) {
        self.clock.0.fetch_add(us, Ordering::Relaxed);
    }

    fn set_routes(&self, change: impl FnOnce(&mut Routes)) {
        let mut routes = self.routes.borrow().as_ref().clone();
        change(&mut routes);
        self.routes.send_replace(Arc::new(routes));
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = get(self.admin, path).await.unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Sends these bytes and returns all that comes back.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// The status line of a GET with this Host.
    async fn with_host(&self, host: &str) -> String {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = self.raw(&request).await;
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// Ends everything; nothing may hold it up.
    async fn stop(self) {
        self.tasks.stop().await;
        assert_eq!(self.tasks.panics(), 0);
    }
}

fn put(routes: &mut Routes, endpoint: usize, state: State, cause: Cause, since: Time) {
    let route = &mut routes.endpoints[endpoint];
    (route.state, route.cause, route.since) = (state, cause, since);
    route.why = match state {
        State::Unknown | State::Up | State::Probation => PlaceWhy::Healthy,
        State::Suspect => PlaceWhy::Suspect,
        State::Down => PlaceWhy::Down,
    };
    routes.nothing_up = !routes.endpoints.iter().any(|route| route.state.is_usable());
    routes.choices = Routes::choose(&routes.topology, &routes.endpoints);
}

#[tokio::test]
async fn a_foreign_host_is_misdirected_and_a_missing_one_is_a_bad_request() {
    let node = Node::start().await;
    let port = node.admin.port();
    for host in [
        "localhost".to_owned(),
        format!("LOCALHOST:{port}"),
        format!("127.0.0.1:{port}"),
        "[::1]".to_owned(),
    ] {
        assert_eq!(node.with_host(&host).await, "HTTP/1.1 200 OK", "{host}");
    }
    for host in ["evil.example", "127.0.0.1:1", "localhost.evil.example", ""] {
        let line = node.with_host(host).await;
        assert_eq!(line, "HTTP/1.1 421 Misdirected Request", "{host}");
    }
    for request in [
        "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
    ] {
        let answer = node.raw(request).await;
        assert!(answer.contains(" 400 Bad Request\r\n"), "{answer}");
    }
    let absolute = "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(node.raw(absolute).await.starts_with("HTTP/1.1 421 "));
    // The host goes before everything else: whoever is not meant learns nothing about paths and methods.
    let posted = "POST /nothing HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(node.raw(posted).await.starts_with("HTTP/1.1 421 "));
    node.stop().await;
}

#[tokio::test]
async fn only_reading_is_possible_and_no_other_origin_is_let_in() {
    let node = Node::start().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        let request = format!(
            "{method} /api/v1/status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\
             Access-Control-Request-Method: GET\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        );
        let answer = node.raw(&request).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 405 "), "{answer}");
        assert!(answer.contains("\r\nallow: get, head\r\n"), "{answer}");
        assert!(answer.contains("{\"error\":"), "{answer}");
        assert!(!answer.contains("access-control"), "{answer}");
    }
    let upgrade = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert!(node.raw(upgrade).await.starts_with("HTTP/1.1 200 "));
    let head = node
        .raw("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let head = head.to_lowercase();
    for header in [
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "content-security-policy: default-src 'none'",
    ] {
        assert!(head.contains(header), "{header} in {head}");
    }
    for path in [
        "/",
        "/api",
        "/api/../api/v1/status",
        "//api/v1/status",
        "/%2e%2e/healthz",
        "/healthz/",
    ] {
        let (status, body) = node.get(path).await;
        assert_eq!(status, 404, "{path}");
        assert!(body.starts_with("{\"error\":\"unknown path"), "{body}");
    }
    node.stop().await;
}

#[tokio::test]
async fn headers_connections_and_bodies_are_bounded() {
    let node = Node::start().await;
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    let many = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "X: x\r\n".repeat(100)
    );
    for request in [long, many] {
        let mut stream = TcpStream::connect(node.admin).await.unwrap();
        // The rest may meet a connection that is closed already.
        drop(stream.write_all(request.as_bytes()).await);
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 431");
    }
    // Never read, and the connection ends with the answer.
    let body = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nx";
    assert!(node.raw(body).await.starts_with("HTTP/1.1 200 "));

    // Idle ones take all places; the next is closed without an answer.
    let mut idle = Vec::new();
    for _ in 0..64 {
        idle.push(TcpStream::connect(node.admin).await.unwrap());
    }
    let refused = get(node.admin, "/healthz").await;
    assert!(refused.is_err(), "{refused:?}");
    drop(idle);
    while get(node.admin, "/healthz").await.is_err() {
        tokio::task::yield_now().await;
    }
    // A connection that is open and silent does not hold up a stop.
    let _silent = TcpStream::connect(node.admin).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn health_names_listeners_and_providers_and_is_ready_even_when_all_fail() {
    let node = Node::start().await;
    assert_eq!(node.get("/healthz").await, (200, "ok\n".to_owned()));
    node.set_routes(|routes| {
        put(routes, 0, State::Up, Cause::Answering, Time::ZERO);
        for endpoint in 1..4 {
            put(routes, endpoint, State::Down, Cause::Timeout, Time::ZERO);
        }
    });
    let ready = node.json("/readyz").await;
    let providers = json!([
        {"name": "one", "up": 1, "of": 2},
        {"name": "two", "up": 0, "of": 1},
        {"name": "three", "up": 0, "of": 1},
    ]);
    assert_eq!(
        ready,
        json!({"ready": true, "listeners": ["127.0.0.1:5300"], "degraded": null, "providers": providers})
    );
    node.set_routes(|routes| put(routes, 0, State::Down, Cause::Timeout, Time::ZERO));
    assert_eq!(node.json("/readyz").await["ready"], true);
    node.stop().await;
}

#[tokio::test]
async fn status_begins_with_what_is_wrong() {
    let node = Node::start().await;
    node.advance(5 * SEC);
    let body = node.get("/api/v1/status").await.1;
    assert!(
        body.starts_with("{\"summary\":\"no provider has answered yet\","),
        "{body}"
    );
    let status = node.json("/api/v1/status").await;
    assert_eq!(
        status,
        json!({
            "summary": "no provider has answered yet",
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": 5,
            "listening": ["127.0.0.1:5300"],
            "encrypted": [],
            "admin": node.admin.to_string(),
            "config": "/etc/detour.toml",
            "configuration": {"age_s": 5, "degraded": null, "reload": null, "restart": []},
            "mesh": {"state": "none", "connected": 0, "listed": 0},
            "nothing_up": false,
            "uplink_suspect": [],
            "groups": [],
            "network": null,
            "dns64": null,
            "providers": {"up": 0, "total": 3},
            "cache": {"entries": 0, "bytes": 0},
            "in_flight": 0,
            "budget_tokens": 64,
            "warnings": ["nothing is kept on disk: read-only"],
        })
    );
    node.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration_is_told_everywhere() {
    let node = Node::start().await;
    let mistakes = Mistakes {
        first: "/etc/detour.toml:3: x: wrong".to_owned(),
        more: 2,
    };
    node.advance(5 * SEC);
    node.configuration.note_rejected(mistakes.clone(), node.clock.now());
    node.advance(2 * SEC);
    let status = node.json("/api/v1/status").await;
    let text = "/etc/detour.toml:3: x: wrong (and 2 more)";
    assert_eq!(
        status["summary"],
        format!("the reload 2 s ago changed nothing: {text}; no provider has answered yet")
    );
    let view = json!({"age_s": 7, "degraded": null, "reload": {"age_s": 2, "rejected": text}, "restart": []});
    assert_eq!(status["configuration"], view);
    node.configuration
        .note_applied(&config(), vec!["listen.dns"], node.clock.now());
    let status = node.json("/api/v1/status").await;
    let view =
        json!({"age_s": 0, "degraded": null, "reload": {"age_s": 0, "rejected": null}, "restart": ["listen.dns"]});
    assert_eq!(status["configuration"], view);
    let metrics = node.get("/metrics").await.1;
    for line in [
        "detour_config_reloads_total{result=\"applied\"} 1",
        "detour_config_reloads_total{result=\"rejected\"} 1",
        "detour_config_reload_failed 0",
        "detour_config_degraded 0",
        "detour_config_restart_needed{key=\"listen.dns\"} 1",
        "detour_config_restart_needed{key=\"cache.size\"} 0",
        "detour_config_age_seconds 0.0",
    ] {
        assert!(metrics.lines().any(|own| own == line), "{line}\n{metrics}");
    }
    node.stop().await;
}

#[test]
fn the_summary_says_first_what_is_wrong() {
    let told = Configuration::new(&config(), None, Time::ZERO).told();
    let heard = std::cell::RefCell::new(Vec::new());
    let summary = |routes: &Routes, now: Time| {
        let has_heard = |id: EndpointId| heard.borrow().contains(&id.0);
        let view = View {
            routes,
            wall_s: 22_400 * 86_400,
            has_heard: &has_heard,
        };
        summary(view, &told, Vec::new(), now)
    };
    let now = Time::at_ms(1_000_000);
    let before = |seconds: u64| now.minus(seconds * SEC);
    let mut lines = Vec::new();
    let mut routes = routes(&config(), now);
    lines.push(summary(&routes, now));
    // Its own choice of an answer, or an error that all give: neither shows that it can be used.
    heard.borrow_mut().push(2);
    lines.push(summary(&routes, now));
    put(&mut routes, 0, State::Up, Cause::Answering, now);
    lines.push(summary(&routes, now));
    for endpoint in 1..4 {
        put(&mut routes, endpoint, State::Up, Cause::Answering, now);
    }
    lines.push(summary(&routes, now));
    put(&mut routes, 1, State::Suspect, Cause::Reset, before(3));
    lines.push(summary(&routes, now));
    put(&mut routes, 3, State::Suspect, Cause::Loss, before(130));
    put(&mut routes, 2, State::Down, Cause::Timeout, before(12));
    lines.push(summary(&routes, now));
    routes.uplink_suspect = vec![Path {
        class: TransportClass::Stream,
        family: Family::V4,
    }];
    lines.push(summary(&routes, now));
    put(&mut routes, 0, State::Suspect, Cause::Servfail, before(1));
    lines.push(summary(&routes, now));
    routes.uplink_suspect.clear();
    lines.push(summary(&routes, now));
    for endpoint in 0..4 {
        put(&mut routes, endpoint, State::Suspect, Cause::Timeout, now);
    }
    lines.push(summary(&routes, now));
    expect![[r#"
        no provider has answered yet
        0 of 3 providers answer, 1 with nothing usable yet, 2 not heard of yet
        1 of 3 providers answer, 1 with nothing usable yet, 1 not heard of yet
        all 3 providers answer
        tcp://192.0.2.1 of one is suspect (reset) since 3 s; all 3 providers answer
        two is down (timeout) since 12 s, three is suspect (loss) since 2 min, tcp://192.0.2.1 of one is suspect (reset) since 3 s; 1 of 3 providers answer
        nobody answers over stream/ipv4, so the way there is broken, two is down (timeout) since 12 s, three is suspect (loss) since 2 min; 1 of 3 providers answer
        nothing answers: nobody answers over stream/ipv4, so the way there is broken, two is down (timeout) since 12 s, one is suspect (servfail) since 1 s and 1 more
        nothing answers: two is down (timeout) since 12 s, one is suspect (servfail) since 1 s, three is suspect (loss) since 2 min
        nothing answers: this machine seems offline"#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn providers_have_exactly_the_promised_keys() {
    let node = Node::start().await;
    let now = node.clock.now();
    node.set_routes(|routes| {
        put(routes, 0, State::Up, Cause::Answering, now);
        routes.endpoints[0].timing.p50_us = Some(12_345);
        routes.endpoints[0].timing.p95_us = 40_000;
        routes.endpoints[0].ok_permille = 990;
        put(routes, 2, State::Down, Cause::Timeout, now);
    });
    node.shared
        .generation()
        .usage
        .lock()
        .count_first_choice(ProviderId(0), now);
    node.advance(1_500_000);
    let providers = node.json("/api/v1/providers").await;
    let endpoint = |label: &str| {
        json!({
            "endpoint": label, "state": "unknown", "reason": "untried", "since_ms": 1_500, "place": "normal",
            "place_why": "healthy", "p50_ms": null, "p95_ms": null, "ok_permille": 1_000, "habits": [], "paused_ms": null, "verdict": "none",
            "verdict_source": null, "verdict_by": null, "attribution": "none", "attribution_text": null, "claim": null,
        })
    };
    let mut up = endpoint("udp://192.0.2.1");
    up["state"] = json!("up");
    up["reason"] = json!("answering");
    up["p50_ms"] = json!(12.345);
    up["p95_ms"] = json!(40.0);
    up["ok_permille"] = json!(990);
    let mut down = endpoint("udp://192.0.2.2");
    down["state"] = json!("down");
    down["reason"] = json!("timeout");
    down["place"] = json!("out");
    down["place_why"] = json!("down");
    let provider = |name: &str, operator: &str, share: u32, endpoints: &[Value]| {
        let in_use = &endpoints[0]["endpoint"];
        json!({
            "name": name, "operator": operator, "class": "none/validating", "groups": ["public"],
            "share_permille": share,
            "in_use": in_use, "endpoints": endpoints,
        })
    };
    let wanted = json!([
        provider("one", "First", 1_000, &[up, endpoint("tcp://192.0.2.1")]),
        provider("two", "two", 0, &[down]),
        provider("three", "three", 0, &[endpoint("udp://192.0.2.3")]),
    ]);
    assert_eq!(providers, wanted);
    node.stop().await;
}

#[tokio::test]
async fn without_a_mesh_there_are_no_peers() {
    let node = Node::start().await;
    let none = json!({
        "state": "none", "complaints": [], "cluster": null, "operator": null, "site": null, "influence": null,
        "own": null, "peers": [],
    });
    assert_eq!(node.json("/api/v1/peers").await, none);
    node.stop().await;
}

#[tokio::test]
async fn explain_shows_the_plan_and_changes_nothing() {
    let node = Node::start().await;
    let now = node.clock.now();
    node.set_routes(|routes| put(routes, 2, State::Down, Cause::Timeout, now));
    let explained = node.json("/api/v1/explain?name=WWW.Example.com&type=aaaa").await;
    let keys: Vec<&String> = explained.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "budget_tokens",
            "cache",
            "claims",
            "group",
            "local",
            "name",
            "note",
            "nothing_up",
            "plan",
            "policy",
            "route",
            "skipped",
            "type"
        ]
    );
    assert_eq!(
        (&explained["name"], &explained["type"]),
        (&json!("www.example.com."), &json!("AAAA"))
    );
    assert_eq!(
        (&explained["policy"], &explained["local"]),
        (&json!("forward"), &json!(null))
    );
    assert_eq!(explained["cache"]["state"], "nothing");
    assert_eq!(explained["plan"]["pair"], false);
    let steps = explained["plan"]["steps"].as_array().unwrap();
    assert_eq!(steps[0]["chosen"], "balanced");
    assert_eq!(steps[1]["chosen"], "backup");
    assert_eq!(
        steps[2]["provider"], "two",
        "a down provider is the last resort: {explained}"
    );
    assert!(
        explained["skipped"]
            .as_array()
            .unwrap()
            .contains(&json!({"provider": "two", "reason": "down"}))
    );
    assert_eq!(
        explained,
        node.json("/api/v1/explain?name=www.example.com.&type=TYPE28").await
    );
    assert_eq!(
        node.shared.generation().usage.lock().share_permille(ProviderId(0), now),
        0
    );
    assert_eq!(node.json("/api/v1/explain?name=.").await["type"], "A");

    let refused = node.json("/api/v1/explain?name=example.com&type=AXFR").await;
    assert_eq!(
        (&refused["policy"], &refused["plan"]["steps"]),
        (&json!("refuse"), &json!([]))
    );
    node.stop().await;
}

#[tokio::test]
async fn explain_says_what_is_wrong_with_a_question() {
    let node = Node::start().await;
    for query in [
        "",
        "?type=A",
        "?name=",
        "?name=a..b",
        "?name=example.com&type=NOTYPE",
        "?name=example.com&tpye=MX",
        "?name=a&name=b",
        "?name=m%C3%BCnchen.de",
    ] {
        let (status, body) = node.get(&format!("/api/v1/explain{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(body.starts_with("{\"error\":\"wrong "), "{body}");
    }
    node.stop().await;
}

#[tokio::test]
async fn explain_names_the_zone_that_answers_here() {
    let node = Node::start().await;
    let local = node.json("/api/v1/explain?name=Printer.local&type=AAAA").await;
    assert_eq!(
        (&local["policy"], &local["plan"]["steps"], &local["skipped"]),
        (&json!("local"), &json!([]), &json!([]))
    );
    let expected = json!({
        "by": "zone", "zone": "local.", "basis": "RFC 6762 section 22.1", "path": null,
        "rcode": "NXDOMAIN", "answer": "denial",
    });
    assert_eq!(local["local"], expected);
    node.stop().await;
}

#[tokio::test]
async fn explain_tells_what_the_cache_would_answer() {
    let node = Node::start().await;
    let path = "/api/v1/explain?name=a.example&type=A";
    let name: NameBuf = "a.example".parse().unwrap();
    let ask = node.shared.ask(&name, 1, class::IN);
    let failure = Failure::Unreached(detour_core::lookup::GaveUp::NoAnswer);
    node.shared.cache.store_failure(&ask, failure, node.clock.now());
    let cache = node.json(path).await["cache"].clone();
    assert_eq!(
        (&cache["state"], &cache["answer"]),
        (&json!("failure"), &json!("no-answer"))
    );

    let message = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x07example\0\0\x01\0\x01\
                    \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
    let expected = Expected {
        id: 0,
        question: b"\x01a\x07example\0\0\x01\0\x01",
        check_case: false,
        encrypted: false,
    };
    let answer = accept(message, &expected).unwrap().answer;
    let now = node.clock.now();
    let entry = Arc::new(Entry::new(answer, &ask, now));
    node.shared.cache.store(&ask, &entry, now);
    node.advance(20 * SEC);
    let fresh = json!({"state": "fresh", "answer": "positive", "age_s": 20, "ttl_left_s": 40, "expired_s": null});
    assert_eq!(node.json(path).await["cache"], fresh);
    node.advance(50 * SEC);
    let stale = json!({"state": "stale", "answer": "positive", "age_s": 70, "ttl_left_s": null, "expired_s": 10});
    assert_eq!(node.json(path).await["cache"], stale);
    assert_eq!(node.json("/api/v1/status").await["cache"]["entries"], 1);
    node.stop().await;
}

#[tokio::test]
async fn metrics_are_one_document_with_every_family_once() {
    let node = Node::start().await;
    let now = node.clock.now();
    node.set_routes(|routes| {
        put(routes, 0, State::Up, Cause::Answering, now);
        routes.endpoints[0].timing.p50_us = Some(12_500);
    });
    node.advance(2 * SEC);
    let answer = node.raw("GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await;
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.to_lowercase().contains(content_type), "{head}");
    assert!(text.ends_with("\n# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);
    let mut families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let count = families.len();
    families.sort_unstable();
    families.dedup_by_key(|line| line.split(' ').next().unwrap());
    assert_eq!(families.len(), count, "a family is there twice: {families:?}");
    for line in [
        "detour_endpoint_state{endpoint=\"udp://192.0.2.1\",state=\"up\"} 1",
        "detour_endpoint_state{endpoint=\"udp://192.0.2.1\",state=\"down\"} 0",
        "detour_endpoint_place{endpoint=\"udp://192.0.2.2\",place=\"normal\"} 1",
        "detour_endpoint_p50_seconds{endpoint=\"udp://192.0.2.1\"} 0.0125",
        "detour_endpoint_p95_seconds{endpoint=\"udp://192.0.2.1\"} 0.25",
        "detour_provider_share_ratio{provider=\"one\"} 0.0",
        "detour_uplink_suspect{path=\"udp/ipv4\"} 0",
        "detour_nothing_up 0",
        "detour_cache_entries 0",
        "detour_cache_bytes 0",
        "detour_in_flight 0",
        "detour_hedge_budget 64",
        "detour_uptime_seconds 2.0",
        "detour_panics_total 0",
        "detour_reports_dropped_total 0",
        concat!("detour_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    assert!(!text.contains("detour_endpoint_p50_seconds{endpoint=\"udp://192.0.2.2\"}"));
    node.stop().await;
}
