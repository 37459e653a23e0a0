//! The figures of a cluster: real nodes on loopback, joined by the mesh, measured by the instants in their logs.
//!
//! `onsets`: from the first node's `down` to each idle node's change of place, and what idle nodes ask after that.
//! `detect`: from the first lost query to the first `down`. `uplink`: a node that loses its own way moves nobody.
//! `restart`: killed twice. `idle`: what a node costs that nobody asks. `hostile`: cached answers while a peer misbehaves.
//! Without a name: all of them. The exit code is 1 when a goal is missed (design, section 10) and 2 when the experiment
//! itself failed.
//!
//! `cargo run --release -p detour-rig --example cluster -- onsets --nodes 3 --onsets 30` takes about two minutes.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use detour_rig::Law;
use detour_rig::binary::{build_example, build_node};

use crate::detect::Detect;
use crate::finding::Finding;
use crate::hostile::Hostile;
use crate::idle::Idle;
use crate::onsets::Onsets;
use crate::restart::Restart;
use crate::uplink::Uplink;
use crate::world::WorldError;

mod detect;
mod finding;
mod hostile;
mod idle;
mod onsets;
mod restart;
mod uplink;
mod world;

/// Measure a cluster of real nodes.
#[derive(Debug, Parser)]
#[command(name = "cluster")]
struct Args {
    /// What to measure; all, if nothing is named.
    figures: Vec<Figure>,
    /// Nodes of `onsets`; repeatable [default: 3 and 5].
    #[arg(long = "nodes", value_name = "N")]
    nodes: Vec<usize>,
    /// Onsets per number of nodes.
    #[arg(long, default_value_t = 201)]
    onsets: usize,
    /// Runs of everything else.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Clusters at the same time, of `onsets` and `detect`.
    #[arg(long, default_value_t = 3)]
    side_by_side: usize,
    /// How long `idle` measures, seconds.
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// The detour binary; otherwise it is built.
    #[arg(long, value_name = "PATH")]
    node: Option<PathBuf>,
    /// The peer that misbehaves, an example of detour-mesh; otherwise it is built.
    #[arg(long, value_name = "PATH")]
    hostile: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    Onsets,
    Detect,
    Uplink,
    Restart,
    Idle,
    Hostile,
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
    let figures = if args.figures.is_empty() {
        Figure::value_variants().to_vec()
    } else {
        args.figures.clone()
    };
    let mut findings = Vec::new();
    for figure in figures {
        let found = match figure {
            Figure::Hostile => {
                let peer = match args.hostile.clone() {
                    Some(peer) => peer,
                    None => build_example("detour-mesh", "hostile")?,
                };
                let binary = node.clone();
                Hostile { binary, peer }.run().await?.into_iter().map(said).collect()
            }
            Figure::Onsets | Figure::Detect | Figure::Uplink | Figure::Restart | Figure::Idle => {
                measure(figure, &args, &node).await?
            }
        };
        findings.extend(found);
    }
    let text = if args.json {
        format!("{:#}\n", finding::json(&findings))
    } else {
        finding::table(&findings)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(findings.iter().all(|finding| finding.is_reached != Some(false)))
}

/// All findings of a figure; each is said as soon as it is there.
async fn measure(figure: Figure, args: &Args, node: &std::path::Path) -> Result<Vec<Finding>, WorldError> {
    let (binary, runs, side_by_side) = (node.to_owned(), args.runs, args.side_by_side);
    let mut findings = Vec::new();
    match figure {
        Figure::Onsets => {
            let default = [3, 5];
            let nodes = if args.nodes.is_empty() {
                &default[..]
            } else {
                &args.nodes
            };
            for &nodes in nodes {
                for (influence, onsets) in [("full", args.onsets), ("none", args.onsets.div_ceil(20))] {
                    let onsets = Onsets {
                        binary: binary.clone(),
                        nodes,
                        influence,
                        onsets,
                        side_by_side,
                    };
                    findings.push(said(onsets.run().await?));
                }
            }
        }
        Figure::Detect => {
            for law in [Law::default(), Law::Bimodal] {
                for rate in [10, 300] {
                    let binary = binary.clone();
                    let detect = Detect {
                        binary,
                        rate,
                        law,
                        runs: runs * 3,
                        side_by_side,
                    };
                    findings.push(said(detect.run().await?));
                }
            }
        }
        Figure::Uplink => {
            for is_gradual in [false, true] {
                let binary = binary.clone();
                let uplink = Uplink {
                    binary,
                    runs,
                    is_gradual,
                };
                findings.push(said(uplink.run().await?));
            }
        }
        Figure::Restart => findings.push(said(Restart { binary, runs }.run().await?)),
        Figure::Idle => {
            let duration = Duration::from_secs(args.idle_seconds);
            findings.push(said(Idle { binary, duration }.run().await?));
        }
        Figure::Hostile => {}
    }
    Ok(findings)
}

fn said(finding: Finding) -> Finding {
    say(finding::table(std::slice::from_ref(&finding)).trim_end());
    finding
}

/// Progress and errors; one who closed standard error does not want them.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}
