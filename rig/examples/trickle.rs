//! What the few queries of a quiet evening take: one every 15 s, to providers that close idle connections.
//!
//! Three fakes behind ways that make packets as late as a real one does, and the real `detour` binary. First a burst of
//! queries says what answers take on connections that stand; then one query every so often for as long. The promise:
//! the 95th percentile of these is within one handshake of the burst's, and less than one in twenty is hedged. The exit
//! code is 1 when it is not kept, and 2 when the experiment itself failed.
//!
//! `--speed 10`, the default, makes pauses and limits of idleness a tenth of what they are told to be; round trips stay.
//! `cargo run --release -p detour-rig --example trickle -- --speed 1` takes the ten minutes.

use std::error::Error;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use detour_rig::binary::build_node;
use detour_rig::message::{encode_query, parse_reply, rtype};
use detour_rig::process::{node_config_trusting, provider_block};
use detour_rig::{Authority, ConnectionLimits, Fake, FakeConfig, NodeProcess, Transport, Way, WayFaults, clock, http};
use tokio::net::UdpSocket;
use tokio::time::{sleep, sleep_until, timeout};

/// Providers of the experiment.
const PROVIDERS: usize = 3;
/// Queries of the burst; the first third only opens connections.
const BURST: usize = 120;
/// Between two queries of the burst.
const BURST_GAP: Duration = Duration::from_millis(50);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the machine may be late by, on top of the round trips.
const MACHINE: Duration = Duration::from_millis(20);

/// Few queries, and what each takes.
#[derive(Debug, Parser)]
#[command(name = "trickle")]
struct Args {
    /// Seconds between two queries.
    #[arg(long, default_value_t = 15)]
    every: u32,
    /// For how many minutes.
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    /// Seconds of idleness after which the providers close a connection.
    #[arg(long, default_value_t = 10)]
    idle: u32,
    /// By how much pauses and limits are shortened.
    #[arg(long, default_value_t = 10)]
    speed: u32,
    /// Round trip to the providers, milliseconds.
    #[arg(long, default_value_t = 25)]
    rtt: u32,
    /// How they are asked: udp, tcp, dot, doh, doq or doh3.
    #[arg(long, default_value_t = Transport::Doh)]
    transport: Transport,
    /// Write a row of docs/TRANSPORTS.md.
    #[arg(long)]
    markdown: bool,
    /// The detour binary; otherwise it is built.
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match try_main(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            writeln!(io::stderr(), "error: {error}").ok();
            ExitCode::from(2)
        }
    }
}

/// True when the promise was kept.
async fn try_main(args: Args) -> Result<bool, Box<dyn Error>> {
    let binary = match args.node.clone() {
        Some(node) => node,
        None => build_node()?,
    };
    let directory = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let pem = authority.write_pem(directory.path())?;
    let ground = Ground::new(&args, &authority)?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = node_config_trusting(any, any, &pem, &ground.blocks);
    let node = NodeProcess::start(&binary, &config, directory.path()).await?;
    let mut client = Client {
        socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        asked: 0,
    };
    client.socket.connect(node.dns()).await?;

    let mut warm = Vec::new();
    for _ in 0..BURST {
        sleep(BURST_GAP).await;
        warm.push(client.ask().await?);
    }
    let warm = Figures::of(warm.split_off(BURST / 3));
    let before = (metric(&node, "hedge").await?, metric(&node, "retry").await?);
    let count = args.minutes * 60 / args.every.max(1);
    let mut taken = Vec::new();
    let mut next = clock::now();
    for _ in 0..count {
        next += Duration::from_secs(args.every.into()) / args.speed;
        sleep_until(next).await;
        taken.push(client.ask().await?);
    }
    let outcome = Outcome {
        warm,
        trickle: Figures::of(taken),
        count,
        hedges: metric(&node, "hedge").await? - before.0,
        retries: metric(&node, "retry").await? - before.1,
        connections: ground.connections(args.transport),
    };
    writeln!(io::stdout(), "{}", outcome.text(&args))?;
    Ok(outcome.is_kept(&args))
}

/// Three providers, and the ways to them.
struct Ground {
    fakes: Vec<Fake>,
    _ways: Vec<Way>,
    blocks: Vec<String>,
}

impl Ground {
    fn new(args: &Args, authority: &Authority) -> Result<Self, Box<dyn Error>> {
        let limits = ConnectionLimits {
            idle: Some(Duration::from_secs(args.idle.into()) / args.speed),
            ..ConnectionLimits::default()
        };
        let (mut blocks, mut fakes, mut ways) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=PROVIDERS {
            let config = FakeConfig::new(&format!("fake{number}")).encrypted(authority);
            let fake = Fake::start(config.limits(limits))?;
            let way = way_to(args, &fake)?;
            let endpoint = args.transport.endpoint(way.address(), Some(&fake.server_name()));
            blocks.push(provider_block(fake.name(), &[endpoint]));
            ways.push(way);
            fakes.push(fake);
        }
        Ok(Self {
            fakes,
            _ways: ways,
            blocks,
        })
    }

    fn connections(&self, transport: Transport) -> u64 {
        self.fakes
            .iter()
            .map(|fake| fake.stats().of(transport).connections)
            .sum()
    }
}

/// What there is to tell.
struct Outcome {
    warm: Figures,
    trickle: Figures,
    count: u32,
    hedges: u64,
    retries: u64,
    connections: u64,
}

impl Outcome {
    fn is_kept(&self, args: &Args) -> bool {
        let handshake = Duration::from_millis((round_trips(args.transport) * args.rtt).into()) + MACHINE;
        self.trickle.p95 <= self.warm.p95 + handshake && self.hedges * 20 < u64::from(self.count)
    }

    fn text(&self, args: &Args) -> String {
        let Self {
            warm,
            trickle,
            count,
            hedges,
            retries,
            connections,
        } = self;
        let Args {
            transport,
            rtt,
            idle,
            every,
            ..
        } = args;
        let kept = if self.is_kept(args) { "kept" } else { "NOT KEPT" };
        if args.markdown {
            let (warm, trickle) = (warm.cells(), trickle.cells());
            return format!(
                "| {transport} | {warm} | {trickle} | {count} | {hedges} | {retries} | {connections} | {kept} |"
            );
        }
        format!(
            "{transport}, round trip {rtt} ms, idle limit {idle} s, a query every {every} s, {count} of them\n\
             standing: {warm}\ntrickle:  {trickle}\n\
             hedges {hedges}, retries {retries}, connections in all {connections}: {kept}"
        )
    }
}

/// Round trips before the first query can be written: TCP one, TLS 1.3 one, both in one over QUIC.
const fn round_trips(transport: Transport) -> u32 {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp | Transport::Doq | Transport::Doh3 => 1,
        Transport::Dot | Transport::Doh => 2,
    }
}

/// A way to a provider that is as long as it shall be.
fn way_to(args: &Args, fake: &Fake) -> Result<Way, Box<dyn Error>> {
    let target = fake.address_of(args.transport).ok_or("no such transport here")?;
    let way = Way::start(target, 1)?;
    way.set(WayFaults {
        delay: Duration::from_millis(args.rtt.into()) / 2,
        ..WayFaults::default()
    });
    Ok(way)
}

/// Who asks, one name after the other.
struct Client {
    socket: UdpSocket,
    asked: u16,
}

impl Client {
    /// Asks a new name; what its answer took.
    async fn ask(&mut self) -> Result<Duration, Box<dyn Error>> {
        self.asked += 1;
        let name = format!("trickle{}.cedar-mill.org", self.asked);
        let begun = clock::now();
        self.socket
            .send(&encode_query(self.asked, &name, rtype::A, Some(1_232)))
            .await?;
        let mut buffer = [0; 1_500];
        let size = timeout(PATIENCE, self.socket.recv(&mut buffer)).await??;
        let took = begun.elapsed();
        let reply = parse_reply(buffer.get(..size).unwrap_or_default()).ok_or("no reply")?;
        if reply.id != self.asked || reply.addresses.is_empty() {
            return Err(format!("{name} was not answered").into());
        }
        Ok(took)
    }
}

/// Attempts the node made for this.
async fn metric(node: &NodeProcess, why: &str) -> Result<u64, Box<dyn Error>> {
    let response = http::get(node.admin(), "/metrics", PATIENCE).await?;
    let text = String::from_utf8(response.body)?;
    let label = format!("why=\"{why}\"");
    let lines = text
        .lines()
        .filter(|line| line.starts_with("detour_attempts_total{") && line.contains(&label));
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

/// What queries took.
struct Figures {
    p50: Duration,
    p95: Duration,
    longest: Duration,
}

impl Figures {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        let at = |permille: usize| {
            let index = (all.len() * permille).div_ceil(1_000).saturating_sub(1);
            all.get(index).copied().unwrap_or_default()
        };
        Self {
            p50: at(500),
            p95: at(950),
            longest: at(1_000),
        }
    }
}

impl Figures {
    /// The same as cells of a table.
    fn cells(&self) -> String {
        let ms = |duration: Duration| format!("{:.0}", duration.as_secs_f64() * 1_000.0);
        [self.p50, self.p95, self.longest].map(ms).join(" | ")
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        let (p50, p95, longest) = (ms(self.p50), ms(self.p95), ms(self.longest));
        write!(out, "p50 {p50:.1} ms, p95 {p95:.1} ms, longest {longest:.1} ms")
    }
}
