//! Standing fake providers, with faults set by typing.
//!
//! `cargo run -p detour-rig --example fakes -- --print-config > detour.toml` serves three providers on 127.0.0.1:5401
//! to 5403 (DoT on 5411 to 5413, DoH on 5421 to 5423, DoQ on 5431 to 5433, DoH over HTTP/3 on 5441 to 5443) and writes a config for a node that uses them. Then each line on
//! standard input is a command (`help` lists them). Standard output carries the config or the addresses, and `stats`;
//! everything else goes to standard error. After the end of standard input the fakes serve until SIGINT or SIGTERM. The
//! authority of their certificates lasts as long as they do.

use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use detour_rig::fake::Encryption;
use detour_rig::process::{node_config, node_config_trusting, provider_block};
use detour_rig::{Authority, ConnectionLimits, Fake, FakeConfig, Law, ListedTransports};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::command::{Command, Target, help, parse};

mod command;

/// Lines typed ahead; the reader waits when there are more.
const LINES_MAX: usize = 16;

/// Fake DNS providers on loopback, with faults set by typing.
#[derive(Debug, Parser)]
#[command(name = "fakes")]
struct Args {
    /// Where the first provider listens for UDP and TCP; the others on the next ports. Port 0: any ports.
    #[arg(long, default_value = "127.0.0.1:5401")]
    listen: SocketAddr,
    /// Likewise for DoT.
    #[arg(long, default_value = "127.0.0.1:5411")]
    listen_dot: SocketAddr,
    /// Likewise for DoH.
    #[arg(long, default_value = "127.0.0.1:5421")]
    listen_doh: SocketAddr,
    /// Likewise for DoQ.
    #[arg(long, default_value = "127.0.0.1:5431")]
    listen_doq: SocketAddr,
    /// Likewise for DoH over HTTP/3.
    #[arg(long, default_value = "127.0.0.1:5441")]
    listen_doh3: SocketAddr,
    /// How many providers.
    #[arg(long, default_value_t = 3)]
    count: u16,
    /// What answers take: flat, flat:MILLISECONDS or bimodal.
    #[arg(long, default_value_t = Law::default())]
    law: Law,
    /// Write a config for a node that uses them.
    #[arg(long)]
    print_config: bool,
    /// What that config lists for each provider, in order: udp, tcp, both, dot, doh, doq, doh3, dot+udp, doh+dot,
    /// doh+dot+udp, doq+dot or doh3+doh.
    #[arg(long, default_value_t = ListedTransports::UdpTcp)]
    transport: ListedTransports,
    /// Close connections on which nothing was asked for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    /// Where ca.pem is written, which a node must trust for what is encrypted. Default: a directory that goes with the fakes.
    #[arg(long, value_name = "DIRECTORY")]
    ca_directory: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            say(&format!("error: {error}{cause}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let temporary = tempfile::Builder::new().prefix("detour-fakes-").tempdir()?;
    let authority = Authority::new()?;
    let ca = authority.write_pem(args.ca_directory.as_deref().unwrap_or_else(|| temporary.path()))?;
    let fakes = start(&args, &authority)?;
    introduce(&args, &fakes, &ca)?;
    let mut lines = read_lines()?;
    let mut listening = true;
    loop {
        let line = tokio::select! {
            // Cancel-safe: a signal stays pending.
            _ = interrupted.recv() => break,
            // Cancel-safe: a signal stays pending.
            _ = terminated.recv() => break,
            // Cancel-safe: a line stays in the channel.
            line = lines.recv(), if listening => line,
        };
        let Some(line) = line else {
            listening = false;
            continue;
        };
        match parse(&line) {
            Ok(Command::Quit) => break,
            Ok(command) => obey(&fakes, command)?,
            Err(error) => say(&format!("error: {error}")),
        }
    }
    for fake in fakes {
        fake.shutdown().await;
    }
    Ok(())
}

fn start(args: &Args, authority: &Authority) -> Result<Vec<Fake>, Box<dyn Error>> {
    let mut fakes = Vec::new();
    for index in 0..args.count {
        let config = FakeConfig {
            limits: ConnectionLimits {
                idle: args.idle.map(Duration::from_secs),
                ..ConnectionLimits::default()
            },
            encryption: Some(Encryption {
                authority: authority.clone(),
                dot: nth(args.listen_dot, index)?,
                doh: nth(args.listen_doh, index)?,
                doq: nth(args.listen_doq, index)?,
                doh3: nth(args.listen_doh3, index)?,
                tickets: true,
            }),
            ..FakeConfig::new(&format!("fake{}", index + 1)).at(nth(args.listen, index)?)
        };
        fakes.push(Fake::start(config.law(args.law).seed(u64::from(index) + 1))?);
    }
    Ok(fakes)
}

/// The address of the provider with this number, when `first` is that of the first one.
fn nth(mut first: SocketAddr, index: u16) -> Result<SocketAddr, &'static str> {
    if first.port() != 0 {
        first.set_port(first.port().checked_add(index).ok_or("ports end at 65535")?);
    }
    Ok(first)
}

/// Says where they are: as a whole config, or as lines to be pasted into one.
fn introduce(args: &Args, fakes: &[Fake], ca: &Path) -> io::Result<()> {
    let block = |fake: &Fake, listed| provider_block(fake.name(), &fake.endpoints(listed));
    let mut out = io::stdout().lock();
    if args.print_config {
        let blocks: Vec<_> = fakes.iter().map(|fake| block(fake, args.transport)).collect();
        let dns = SocketAddr::from(([127, 0, 0, 1], 5300));
        let admin = SocketAddr::from(([127, 0, 0, 1], 9353));
        let config = if args.transport.is_encrypted() {
            node_config_trusting(dns, admin, ca, &blocks)
        } else {
            node_config(dns, admin, &blocks)
        };
        out.write_all(config.as_bytes())?;
    } else {
        writeln!(out, "trust = [\"{}\"]", ca.display())?;
        for fake in fakes {
            write!(out, "\n{}", block(fake, ListedTransports::DohDotUdp))?;
            for endpoint in [ListedTransports::Doq, ListedTransports::Doh3]
                .map(|listed| fake.endpoints(listed))
                .concat()
            {
                writeln!(out, "# {endpoint}")?;
            }
        }
    }
    out.flush()
}

fn obey(fakes: &[Fake], command: Command) -> io::Result<()> {
    match command {
        Command::Set {
            provider,
            transport,
            fault,
        } => {
            let mut found = false;
            for fake in fakes {
                if provider == Target::All || provider == Target::Named(fake.name().into()) {
                    fake.set_fault(transport, fault);
                    found = true;
                }
            }
            match provider {
                Target::Named(name) if !found => say(&format!("error: no provider {name:?}")),
                Target::Named(_) | Target::All => say(&format!("set {fault}")),
            }
        }
        Command::Stats => {
            let mut out = io::stdout().lock();
            for fake in fakes {
                writeln!(out, "{} {}", fake.name(), fake.stats())?;
            }
            out.flush()?;
        }
        Command::Help => say(&help()),
        Command::Quit | Command::Nothing => {}
    }
    Ok(())
}

/// A line for the person; one who closed standard error does not want it.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

/// Standard input blocks, so a thread reads it. It ends with the process.
fn read_lines() -> io::Result<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    thread::Builder::new().name("stdin".into()).spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
