//! How many clients notice when the busiest of three providers fails.
//!
//! For each latency law and fault, several runs: three fake providers, the real `detour` binary as a child process,
//! new names at a fixed rate, and after a while the fault into the provider that got the most queries. Each law begins
//! with a control, the same without a fault. The table shows `median/worst` of the runs; the exit code is 1 when a
//! fault misses its goal (design, section 10) and 2 when the experiment itself failed.
//!
//! `cargo run -p detour-rig --example failover -- --quick --fault blackhole` takes ten seconds for each of two runs.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use detour_rig::binary::build_node;
use detour_rig::{Fault, Law, ListedTransports};

use crate::experiment::{Setup, run};
use crate::report::Row;

mod experiment;
mod report;

/// What is tried over cleartext unless told otherwise.
const DEFAULT_FAULTS: [&str; 12] = [
    "blackhole",
    "servfail",
    "refused",
    "slow 1500",
    "garbage",
    "truncate",
    "rst",
    "loss 0.3",
    "wrongid",
    "nxdomain",
    "lie",
    "flap",
];
/// What is tried over TLS and HTTP unless told otherwise.
const DEFAULT_FAULTS_ENCRYPTED: [&str; 5] = ["blackhole", "servfail", "rst", "tls-stall", "slow 1500"];
/// And over HTTP alone.
const DEFAULT_FAULT_HTTP: &str = "http500";
/// Hurt queries listed per run by `--show-hurt`.
const HURT_LINES_MAX: usize = 40;

/// Count the clients hurt when the busiest of three providers fails.
#[derive(Debug, Parser)]
#[command(name = "failover")]
struct Args {
    /// A fault to try, for example blackhole or slow:1500; repeatable. Default: those that the transports can have.
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// What answers take.
    #[arg(long, value_enum)]
    law: Option<LawChoice>,
    /// Runs per fault and law [default: 5].
    #[arg(long)]
    runs: Option<u64>,
    /// Queries per second.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// How long queries are sent [default: 20]. The fault comes after 5 seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Which endpoints of each provider the node is given, in order: udp, tcp, both, dot, doh, doq, doh3, dot+udp,
    /// doh+dot, doh+dot+udp, doq+dot or doh3+doh.
    #[arg(long, default_value_t = ListedTransports::Udp)]
    transport: ListedTransports,
    /// The detour binary; otherwise it is built.
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// One run, flat law, 8 seconds with the fault after 3.
    #[arg(long)]
    quick: bool,
    /// List the hurt queries of each run on standard error.
    #[arg(long)]
    show_hurt: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LawChoice {
    Flat,
    Bimodal,
    Both,
}

impl LawChoice {
    fn laws(self) -> Vec<Law> {
        match self {
            Self::Flat => vec![Law::default()],
            Self::Bimodal => vec![Law::Bimodal],
            Self::Both => vec![Law::default(), Law::Bimodal],
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match try_main(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            say(&text);
            ExitCode::from(2)
        }
    }
}

/// True when every goal was reached.
async fn try_main(args: Args) -> Result<bool, Box<dyn Error>> {
    let node = match args.node.clone() {
        Some(node) => node,
        None => build_node()?,
    };
    let faults = if args.faults.is_empty() {
        default_faults(args.transport)
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?
    } else {
        args.faults.clone()
    };
    let quick = |quick, normal| if args.quick { quick } else { normal };
    let runs = args.runs.unwrap_or_else(|| quick(1, 5));
    let duration = Duration::from_secs(args.seconds.unwrap_or_else(|| quick(8, 20)));
    let normal_law = if args.quick { LawChoice::Flat } else { LawChoice::Both };
    let laws = args.law.unwrap_or(normal_law).laws();
    let listed = args.transport;
    let mut rows = Vec::new();
    for law in laws {
        for fault in std::iter::once(Fault::None).chain(faults.iter().copied()) {
            let mut row = Row {
                fault,
                law,
                runs: Vec::new(),
            };
            for seed in 1..=runs {
                let fault_at = Duration::from_secs(quick(3, 5));
                let (rate, node) = (args.rate, node.as_path());
                let done = run(Setup {
                    node,
                    fault,
                    law,
                    rate,
                    duration,
                    fault_at,
                    listed,
                    seed,
                })
                .await?;
                say(&format!(
                    "{law} {fault} run {seed}: {} hurt of {}",
                    done.summary.hurt(),
                    done.summary.total
                ));
                if args.show_hurt {
                    done.hurt_lines
                        .iter()
                        .take(HURT_LINES_MAX)
                        .for_each(|line| say(&format!("  {line}")));
                }
                row.runs.push(done);
            }
            rows.push(row);
        }
    }
    let text = if args.json {
        format!("{:#}\n", report::json(&rows))
    } else {
        report::table(&rows)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(rows.iter().all(|row| row.reaches_goal() != Some(false)))
}

/// The faults that the transports can have.
fn default_faults(listed: ListedTransports) -> Vec<&'static str> {
    if !listed.is_encrypted() {
        return DEFAULT_FAULTS.to_vec();
    }
    let is_http = listed.transports().iter().any(|transport| transport.is_http());
    let http = is_http.then_some(DEFAULT_FAULT_HTTP);
    DEFAULT_FAULTS_ENCRYPTED.into_iter().chain(http).collect()
}

/// Progress and errors; one who closed standard error does not want them.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}
