//! `detour demo`: with nothing but this binary, a provider fails, and a node that asked nobody knows.
//!
//! Three fake providers run in this process; nodes are children of it, the same binary with a config, a state directory
//! and ports of their own, joined by the mesh. The story is told by [`run`], what it must come to by [`outcome`]. The
//! same is done without the mesh, for comparison. Nothing leaves loopback, and nothing is left behind: nodes end with
//! this process whatever way it ends, their files when it ends by itself, by a signal or by Ctrl-C.
//!
//! The rig is linked for this command alone; no query that `detour run` answers touches it.

mod account;
mod fault;
mod outcome;
mod report;
mod run;
mod scenario;
mod screen;
mod stage;
mod times;
mod watch;
mod witness;

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::outcome::Outcome;
use self::scenario::{PROVIDERS, Scenario};
use self::screen::Screen;
use self::stage::RunError;
use crate::cli::{DemoArgs, exit_code};
use crate::output::{complain, print};

pub(crate) use self::fault::DemoFault;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// The system does not say which binary this is, or refuses signals.
    #[error("cannot start")]
    System(#[source] io::Error),
    /// A run came to nothing.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs the command; the exit code.
pub(crate) async fn demo(args: &DemoArgs) -> u8 {
    match play(args).await {
        Ok(outcomes) => {
            let is_good = report::failures(&outcomes).is_empty();
            let text = if args.json {
                format!("{:#}\n", report::json(&outcomes))
            } else {
                report::text(&outcomes)
            };
            let code = if is_good { exit_code::OK } else { exit_code::FAILED };
            print(&mut io::stdout().lock(), &text, code)
        }
        Err(error) => {
            complain("demo", &error);
            exit_code::FAILED
        }
    }
}

async fn play(args: &DemoArgs) -> Result<Vec<Outcome>, DemoError> {
    let binary = std::env::current_exe().map_err(DemoError::System)?;
    let stop = CancellationToken::new();
    let _signals = stop_by_signals(&stop).map_err(DemoError::System)?;
    let nodes = usize::from(args.nodes);
    let mut screen = Screen::new(args.json, nodes.saturating_mul(PROVIDERS.len()));
    let manners: &[bool] = if args.no_mesh { &[false] } else { &[true, false] };
    screen.say(&introduction(args));
    let mut outcomes = Vec::new();
    for &has_mesh in manners {
        let scenario = Scenario::new(args.fault, nodes, args.quick, has_mesh);
        screen.say(if has_mesh {
            "\nWith the mesh\n"
        } else {
            "\nWithout the mesh: each node for itself\n"
        });
        outcomes.push(run::run(scenario, &binary, &mut screen, &stop).await?);
    }
    Ok(outcomes)
}

/// What one is about to see.
fn introduction(args: &DemoArgs) -> String {
    let scenario = Scenario::new(args.fault, usize::from(args.nodes), args.quick, !args.no_mesh);
    let (nodes, busy, silent) = (args.nodes, scenario.busy_words(), scenario.silent_name());
    let seconds = scenario.times.fault.as_secs_f64();
    let happens = scenario.fault.happens();
    let watch = if scenario.fault.is_handled() {
        format!("Watch its share go elsewhere, and see what {silent} knows when it wakes.")
    } else {
        "Nodes do not see through such answers yet: what clients get is counted.".to_owned()
    };
    format!(
        "Three DNS providers and {nodes} Detour nodes, all on this machine; nothing leaves it.\n\
         {busy} answer 300 new names a second, {silent} only 30 names in all, and\n\
         then it sleeps. After {seconds} s the busiest provider {happens}.\n{watch}"
    )
}

/// Cancels the token at the first signal that asks to stop; looks as long as the value lives.
fn stop_by_signals(stop: &CancellationToken) -> io::Result<JoinSet<()>> {
    let mut waiting = JoinSet::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signal, stop) = (signal(kind)?, stop.clone());
        waiting.spawn(async move {
            if signal.recv().await.is_some() {
                stop.cancel();
            }
        });
    }
    Ok(waiting)
}
