//! Standing fake providers, with faults set by typing.
//!
//! `cargo run -p detour-rig --example fakes -- --print-config > detour.toml` serves three providers on 127.0.0.1:5401
//! to 5403 and writes a config for a node that uses them. Then each line on standard input is a command (`help` lists
//! them). Standard output carries the config or the addresses, and `stats`; everything else goes to standard error.
//! After the end of standard input the fakes serve until SIGINT or SIGTERM.

use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use detour_rig::process::{ListedTransports, node_config, provider_block};
use detour_rig::{Fake, FakeConfig, Law};
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
    /// Where the first provider listens; the others on the next ports. Port 0: any ports.
    #[arg(long, default_value = "127.0.0.1:5401")]
    listen: SocketAddr,
    /// How many providers.
    #[arg(long, default_value_t = 3)]
    count: u16,
    /// What answers take: flat, flat:MILLISECONDS or bimodal.
    #[arg(long, default_value_t = Law::default())]
    law: Law,
    /// Write a config for a node that uses them.
    #[arg(long)]
    print_config: bool,
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
    let fakes = start(&args)?;
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

fn start(args: &Args) -> Result<Vec<Fake>, Box<dyn Error>> {
    let mut fakes = Vec::new();
    let mut out = io::stdout().lock();
    for index in 0..args.count {
        let mut address = args.listen;
        if address.port() != 0 {
            address.set_port(address.port().checked_add(index).ok_or("ports end at 65535")?);
        }
        let config = FakeConfig::new(&format!("fake{}", index + 1)).at(address);
        fakes.push(Fake::start(config.law(args.law).seed(u64::from(index) + 1))?);
    }
    if args.print_config {
        let listed = ListedTransports::UdpTcp;
        let blocks: Vec<_> = fakes
            .iter()
            .map(|fake| provider_block(fake.name(), fake.address(), listed))
            .collect();
        let (dns, admin) = (
            SocketAddr::from(([127, 0, 0, 1], 5300)),
            SocketAddr::from(([127, 0, 0, 1], 9353)),
        );
        write!(out, "{}", node_config(dns, admin, &blocks))?;
    } else {
        for fake in &fakes {
            writeln!(out, "{} {} udp+tcp", fake.name(), fake.address())?;
        }
    }
    out.flush()?;
    Ok(fakes)
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
