//! What the few queries of a quiet evening take: one every 15 s, to providers that close idle connections.
//!
//! Three fakes behind relays that make packets as late as a real way does, and the real `detour` binary. First a burst of
//! queries says what answers take on connections that stand; then one query every so often for as long. The promise:
//! the 95th percentile of these is within one handshake (two round trips: TCP, and TLS 1.3) of the burst's, and less than
//! one in twenty is hedged. The exit code is 1 when it is not kept, and 2 when the experiment itself failed.
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
use detour_rig::{Authority, ConnectionLimits, Fake, FakeConfig, NodeProcess, Transport, clock, http};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

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
    /// How they are asked: tcp, dot or doh.
    #[arg(long, default_value_t = Transport::Doh)]
    transport: Transport,
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
    let limits = ConnectionLimits {
        idle: Some(Duration::from_secs(args.idle.into()) / args.speed),
        ..ConnectionLimits::default()
    };
    let mut relays = JoinSet::new();
    let (mut blocks, mut fakes) = (Vec::new(), Vec::new());
    for number in 1..=PROVIDERS {
        let config = FakeConfig::new(&format!("fake{number}")).encrypted(&authority);
        let fake = Fake::start(config.limits(limits))?;
        blocks.push(place_behind_relay(&args, &fake, &mut relays).await?);
        fakes.push(fake);
    }
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = node_config_trusting(any, any, &pem, &blocks);
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
    let trickle = Figures::of(taken);
    let hedges = metric(&node, "hedge").await? - before.0;
    let retries = metric(&node, "retry").await? - before.1;
    let handshakes: u64 = fakes
        .iter()
        .map(|fake| fake.stats().of(args.transport).connections)
        .sum();
    let handshake = Duration::from_millis((2 * args.rtt).into()) + MACHINE;
    let is_kept = trickle.p95 <= warm.p95 + handshake && hedges * 20 < u64::from(count);
    let Args {
        transport,
        rtt,
        idle,
        every,
        ..
    } = args;
    writeln!(
        io::stdout(),
        "{transport}, round trip {rtt} ms, idle limit {idle} s, a query every {every} s, {count} of them\n\
         standing: {warm}\ntrickle:  {trickle}\n\
         hedges {hedges}, retries {retries}, connections in all {handshakes}: {}",
        if is_kept { "kept" } else { "NOT KEPT" }
    )?;
    Ok(is_kept)
}

/// The configuration of a provider that is asked through a relay.
async fn place_behind_relay(args: &Args, fake: &Fake, relays: &mut JoinSet<()>) -> Result<String, Box<dyn Error>> {
    let target = fake.address_of(args.transport).ok_or("no such transport here")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let endpoint = args
        .transport
        .endpoint(listener.local_addr()?, Some(&fake.server_name()));
    relays.spawn(relay(listener, target, Duration::from_millis(args.rtt.into()) / 2));
    Ok(provider_block(fake.name(), &[endpoint]))
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

impl std::fmt::Display for Figures {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        let (p50, p95, longest) = (ms(self.p50), ms(self.p95), ms(self.longest));
        write!(out, "p50 {p50:.1} ms, p95 {p95:.1} ms, longest {longest:.1} ms")
    }
}

/// Connections through here have their bytes this much later, in both directions; connecting itself takes a round trip.
async fn relay(listener: TcpListener, target: SocketAddr, one_way: Duration) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(async move {
            // The kernel has answered for the far end already: what comes first waits as long as that would have taken.
            let accepted = clock::now();
            let Ok(far) = TcpStream::connect(target).await else {
                return;
            };
            let options = [near.set_nodelay(true), far.set_nodelay(true)];
            drop(options);
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            tokio::join!(
                pass(near_read, far_write, one_way, accepted + one_way * 2),
                pass(far_read, near_write, one_way, accepted)
            );
        });
    }
}

/// Passes bytes on, each `late`, and none as if it had been sent before `from`.
async fn pass(mut read: OwnedReadHalf, mut write: OwnedWriteHalf, late: Duration, from: Instant) {
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let reads = async move {
        let mut buffer = vec![0; 16_384];
        while let Ok(size) = read.read(&mut buffer).await {
            let due = clock::now().max(from) + late;
            let bytes = buffer.get(..size).unwrap_or_default().to_vec();
            if sender.send((due, bytes)).await.is_err() || size == 0 {
                return;
            }
        }
    };
    let writes = async move {
        while let Some((due, bytes)) = queue.recv().await {
            sleep_until(due).await;
            let written = if bytes.is_empty() {
                write.shutdown().await
            } else {
                write.write_all(&bytes).await
            };
            if written.is_err() {
                return;
            }
        }
    };
    tokio::join!(reads, writes);
}
