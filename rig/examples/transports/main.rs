//! What each thing that can be wrong with one of three providers costs over each transport, as rows of a table.
//!
//! A run: three fakes, the real `detour` binary, new names at a fixed rate; the provider that is asked most breaks, and
//! is mended some seconds later. Counted are the clients that were hurt, how long the node took to stop preferring the
//! provider and to prefer it again, and the handshakes (over TCP, the connections) that the provider saw meanwhile.
//!
//! `cargo run --release -p detour-rig --example transports -- --transport dot` for one transport; all of them unless
//! told. The exit code is 1 when clients were hurt by what may hurt nobody, and 2 when the experiment itself failed.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use detour_rig::binary::build_node;
use detour_rig::{Fault, Hostile, Transport};

use crate::experiment::{Setup, Times, run};
use crate::table::{HEADINGS, row};

mod experiment;
mod table;

/// One provider of three breaks, over each transport in each way.
#[derive(Debug, Parser)]
#[command(name = "transports")]
struct Args {
    /// A transport: udp, tcp, dot, doh, doq or doh3; repeatable.
    #[arg(long = "transport", value_name = "TRANSPORT")]
    transports: Vec<Transport>,
    /// A fault, for example blackhole or slow:1500; repeatable. Default: all that the transport can have.
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// Queries per second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Seconds that the provider is broken.
    #[arg(long, default_value_t = 6)]
    broken: u64,
    /// Seconds that it is looked at afterwards.
    #[arg(long, default_value_t = 10)]
    after: u64,
    /// The detour binary; otherwise it is built.
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
    /// Leave the headings out.
    #[arg(long)]
    rows_only: bool,
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

/// True when nobody was hurt who should not be.
async fn try_main(args: Args) -> Result<bool, Box<dyn Error>> {
    let node = match args.node.clone() {
        Some(node) => node,
        None => build_node()?,
    };
    let transports = if args.transports.is_empty() {
        Transport::ALL.to_vec()
    } else {
        args.transports.clone()
    };
    let times = Times {
        broken: Duration::from_secs(args.broken),
        after: Duration::from_secs(args.after),
    };
    let mut out = io::stdout();
    if !args.rows_only {
        writeln!(out, "{HEADINGS}")?;
    }
    let mut is_kept = true;
    for transport in transports {
        let faults = if args.faults.is_empty() {
            faults()
        } else {
            args.faults.clone()
        };
        for fault in faults.into_iter().filter(|fault| fault.is_possible(transport)) {
            let setup = Setup {
                node: &node,
                transport,
                fault,
                rate: args.rate,
                times,
            };
            let run = run(setup).await?;
            is_kept &= table::is_kept(fault, &run);
            writeln!(out, "{}", row(transport, fault, &run, times))?;
            out.flush()?;
        }
    }
    Ok(is_kept)
}

/// Everything that is tried; nothing first, for comparison.
fn faults() -> Vec<Fault> {
    let plain = [
        Fault::None,
        Fault::Blackhole,
        Fault::Rst,
        Fault::Slow(Duration::from_millis(1_500)),
        Fault::Loss(0.3),
        Fault::Servfail,
        Fault::Refused,
        Fault::Garbage,
        Fault::Wrongid,
        Fault::TlsStall,
        Fault::TlsExpired,
        Fault::Http500,
        Fault::Http429(3),
    ];
    let hostile = Hostile::ALL.into_iter().map(Fault::Hostile);
    plain.into_iter().chain(hostile).collect()
}
