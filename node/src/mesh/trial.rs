//! `detour mesh test ADDRESS`: one dial to a peer, stage by stage, each with its time, and what to do where it ends.
//!
//! Speaks with this node's identity and keeps nothing. While the node runs, its admin interface tells which life it is
//! in, so that the peer takes the dial for one more connection of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use detour_core::Clock;
use detour_core::mesh::Refusal;
use detour_core::report::BootId;
use detour_mesh::{Identity, IdentityError, Stage, StageError, Tester, try_peer};
use detour_wire::keys;
use serde::Serialize;
use serde_json::{Value, json};

use super::settings;
use crate::admin::client::get;
use crate::admin::peers::MeshView;
use crate::cli::{MeshTestArgs, exit_code};
use crate::clock::{BootClock, wall_ms};
use crate::config::{Config, MeshConfig, peer_mistake};
use crate::output::{complain, print, print_line};
use crate::peer_id;
use crate::state;

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
enum TrialError {
    /// The file has no cluster.
    #[error("the configuration has no [mesh]: -c names the file of the node whose way to the peer is tried")]
    NoMesh,
    /// Nobody says where the identity is.
    #[error("no --state-dir, $STATE_DIRECTORY, state-dir, $XDG_STATE_HOME or $HOME says where the identity is")]
    NoDirectory,
    /// It cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What came of it, for programs.
#[derive(Debug, Serialize)]
struct Report<'r> {
    address: &'r str,
    ok: bool,
    /// Whether this node's own `mesh.peers` has that peer.
    listed: bool,
    stages: Vec<Value>,
    failed: Option<Failure>,
}

/// Where it ended.
#[derive(Debug, Serialize)]
struct Failure {
    stage: &'static str,
    at_us: u64,
    error: String,
    advice: String,
    /// For the peer's `mesh.peers`, if it lacks this node.
    line: Option<String>,
}

/// Runs the command on a sound configuration; the exit code.
pub(crate) async fn trial(args: &MeshTestArgs, config: &Config) -> u8 {
    match prepare(args, config).await {
        Ok(tester) => run(args, listed_here(config), tester).await,
        Err(error) => {
            complain("mesh test", &error);
            exit_code::FAILED
        }
    }
}

/// The peer ids in this node's own `mesh.peers`.
fn listed_here(config: &Config) -> Vec<String> {
    let peers = config.mesh.iter().flat_map(|mesh| &mesh.peers);
    peers.map(|peer| peer_id::text(peer.node)).collect()
}

async fn prepare(args: &MeshTestArgs, config: &Config) -> Result<Tester, TrialError> {
    let mesh = config.mesh.as_ref().ok_or(TrialError::NoMesh)?;
    let directory = state::find(args.state_dir.as_deref(), config.state_dir.as_deref());
    let identity = Identity::load(&directory.ok_or::<TrialError>(TrialError::NoDirectory)?)?;
    let admin = args.admin.or_else(|| config.listen.admin.address());
    let running = running(admin, &identity).await;
    Ok(tester(mesh, identity, running.as_ref()))
}

/// The mesh of the node itself, if it runs.
async fn running(admin: Option<SocketAddr>, identity: &Identity) -> Option<MeshView> {
    let answer = get(admin?, "/api/v1/peers").await.ok()?;
    let mesh: MeshView = serde_json::from_slice(&answer.body).ok()?;
    let is_own = mesh.own.as_ref()?.peer_id == identity.peer_id();
    is_own.then_some(mesh)
}

fn tester(mesh: &MeshConfig, identity: Identity, running: Option<&MeshView>) -> Tester {
    let own = running.and_then(|mesh| mesh.own.as_ref());
    let boot = own.and_then(|own| u64::from_str_radix(&own.boot, 16).ok());
    let port = mesh.listen.iter().map(SocketAddr::port).find(|port| *port != 0);
    Tester {
        cluster: keys::cluster(&mesh.cluster),
        site: keys::site(&mesh.cluster, &mesh.site),
        boot: BootId(boot.unwrap_or_else(rand::random)),
        port: port.unwrap_or(0),
        software: settings::software(),
        clock: Arc::new(BootClock),
        wall_ms,
        identity,
    }
}

async fn run(args: &MeshTestArgs, listed: Vec<String>, tester: Tester) -> u8 {
    // Pasted from a file, as `detour id` shows it.
    let address = args.address.trim_matches(['"', ',', ' ']);
    let began = BootClock.now();
    let since = || BootClock.now().since(began);
    let mut stages = Vec::new();
    let mut is_listed = false;
    let result = try_peer(tester, address, |stage| {
        if let Stage::Address { peer_id } = &stage {
            is_listed = listed.contains(peer_id);
        }
        let at_us = since();
        if !args.json {
            // A reader that went away is told by the exit code.
            drop(print_line(line(stage.word(), at_us, &words(&stage))));
        }
        stages.push(value(&stage, at_us));
    })
    .await;
    let mut failed = result.err().map(|error| failure(&error, since()));
    if let Some(failure) = failed.as_mut().filter(|failure| failure.stage == "address")
        && let Some(mistake) = peer_mistake(address)
    {
        failure.error = format!("the address: {mistake}");
    }
    let code = if failed.is_none() {
        exit_code::OK
    } else {
        exit_code::FAILED
    };
    let text = if args.json {
        let report = Report {
            address,
            ok: failed.is_none(),
            listed: is_listed,
            stages,
            failed,
        };
        serde_json::to_string(&report).map_or_else(|error| error.to_string(), |text| format!("{text}\n"))
    } else {
        match &failed {
            Some(failure) => ending(failure),
            None if is_listed => String::new(),
            None => unlisted(address),
        }
    };
    print(&mut io::stdout().lock(), &text, code)
}

/// One stage in a line.
fn line(stage: &str, at_us: u64, words: &str) -> String {
    let ms = format!("{}.{} ms", at_us / 1_000, at_us % 1_000 / 100);
    format!("{stage:10}  {ms:>10}  {words}")
}

fn words(stage: &Stage) -> String {
    match stage {
        Stage::Address { peer_id } => format!("expecting {peer_id}"),
        Stage::Connected { .. } => "connected over QUIC, and the peer has proven its key".to_owned(),
        Stage::Hello {
            versions: (_, highest),
            software,
            is_same_site,
            clock_offset_ms,
            rtt_us,
        } => {
            let site = if *is_same_site { "same site" } else { "another site" };
            let rtt = format!("{}.{} ms", rtt_us / 1_000, rtt_us % 1_000 / 100);
            format!("{software}, protocol {highest}, {site}, {rtt} away, its clock {clock_offset_ms:+} ms")
        }
        Stage::Pulled {
            snapshots,
            is_own_among,
        } => {
            let own = if *is_own_among {
                "its own among them"
            } else {
                "its own not among them yet"
            };
            format!("admitted; {snapshots} reports, {own}")
        }
    }
}

fn value(stage: &Stage, at_us: u64) -> Value {
    let mut value = match stage {
        Stage::Address { peer_id } => json!({"peer_id": peer_id}),
        Stage::Connected { took_us } => json!({"took_us": took_us}),
        Stage::Hello {
            versions,
            software,
            is_same_site,
            clock_offset_ms,
            rtt_us,
        } => json!({
            "versions": versions, "software": software, "same_site": is_same_site,
            "clock_offset_ms": clock_offset_ms, "rtt_us": rtt_us,
        }),
        Stage::Pulled {
            snapshots,
            is_own_among,
        } => json!({"reports": snapshots, "own_among": is_own_among}),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("stage".to_owned(), stage.word().into());
        object.insert("at_us".to_owned(), at_us.into());
    }
    value
}

fn failure(error: &StageError, at_us: u64) -> Failure {
    let line = match error {
        StageError::Refused { line, .. } => line.clone(),
        StageError::Address(_) | StageError::Setup(_) | StageError::NoConnection(_) | StageError::OtherNode(_) => None,
        StageError::OwnIdentity | StageError::Hello(_) | StageError::Unfit(_) => None,
        StageError::NotAdmitted(_) | StageError::TooSlow => None,
    };
    Failure {
        stage: error.stage(),
        at_us,
        error: error.to_string(),
        advice: advice(error).to_owned(),
        line,
    }
}

fn ending(failure: &Failure) -> String {
    let mut text = format!(
        "{}\n{}\n",
        line(failure.stage, failure.at_us, &format!("FAILED: {}", failure.error)),
        failure.advice
    );
    if let Some(missing) = &failure.line {
        text.push_str(&format!("    \"{missing}\",\n"));
    }
    text
}

/// The peer takes this node, which does not take the peer.
fn unlisted(address: &str) -> String {
    format!("This node turns it away all the same: add it to mesh.peers here, and reload:\n    \"{address}\",\n")
}

/// What to do.
fn advice(error: &StageError) -> &'static str {
    match error {
        StageError::Address(_) => "`detour id`, run on the peer, prints its address as it must be.",
        StageError::Setup(_) => "Nothing can be said of the peer: this machine gives no socket.",
        StageError::NoConnection(_) => {
            "Is the node there running, does its mesh.listen have this address and port, and does every firewall on the \
             way let UDP through to it?"
        }
        StageError::OtherNode(_) => {
            "Where the peer was set up anew it has a new id: take the line that `detour id` prints there. Otherwise the \
             address is another node's."
        }
        StageError::OwnIdentity => {
            "This is this node's own address, or a copy of its state directory runs there: every node needs an identity of \
             its own."
        }
        StageError::Hello(_) => "Something of another version may answer there: compare `detour --version` on both.",
        StageError::Refused { refusal, .. } => match refusal {
            Refusal::UnknownNode => {
                "Add this node to mesh.peers there (`detour id`, run here, prints the line), and reload:"
            }
            Refusal::OtherCluster => "mesh.cluster must be the same on both.",
            Refusal::NoCommonVersion => "Bring both to versions that are closer together: compare `detour --version`.",
            Refusal::OwnKey => "Every node needs an identity of its own: one of the two state directories is a copy.",
            Refusal::TooMuch => "The peer is busy or was asked too often: try again in a minute.",
            Refusal::NoHello | Refusal::Unsupported | Refusal::Malformed | Refusal::Other => {
                "Compare `detour --version` on both, and look at the peer's log."
            }
        },
        StageError::Unfit(_) => "mesh.cluster must be the same on both, and the versions close enough.",
        StageError::NotAdmitted(_) => {
            "The peer took the hello and then said no: look at its log and at `detour status` there."
        }
        StageError::TooSlow => "Packets may get lost on the way: try again, and compare from another machine.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn every_stage_has_its_line_and_every_end_its_advice() {
        let stages = [
            Stage::Address {
                peer_id: "12D3Koo".to_owned(),
            },
            Stage::Connected { took_us: 3_210 },
            Stage::Hello {
                versions: (1, 1),
                software: "detour 0.1.0".to_owned(),
                is_same_site: true,
                clock_offset_ms: -12,
                rtt_us: 1_260,
            },
            Stage::Pulled {
                snapshots: 2,
                is_own_among: true,
            },
        ];
        let mut text: String = stages
            .iter()
            .map(|stage| format!("{}\n", line(stage.word(), 12_345, &words(stage))))
            .collect();
        let refused = StageError::Refused {
            refusal: Refusal::UnknownNode,
            line: Some("/ip4/192.0.2.9/udp/4853/quic-v1/p2p/12D3Koo".to_owned()),
        };
        text.push_str(&ending(&failure(&refused, 45_600)));
        text.push_str(&ending(&failure(&StageError::TooSlow, 20_000_000)));
        text.push_str(&unlisted("/ip4/192.0.2.2/udp/4853/quic-v1/p2p/12D3Koo"));
        expect![[r#"
            address        12.3 ms  expecting 12D3Koo
            connection     12.3 ms  connected over QUIC, and the peer has proven its key
            hello          12.3 ms  detour 0.1.0, protocol 1, same site, 1.2 ms away, its clock -12 ms
            snapshots      12.3 ms  admitted; 2 reports, its own among them
            hello          45.6 ms  FAILED: the peer turned this node away: this node is not in its list of peers
            Add this node to mesh.peers there (`detour id`, run here, prints the line), and reload:
                "/ip4/192.0.2.9/udp/4853/quic-v1/p2p/12D3Koo",
            snapshots   20000.0 ms  FAILED: nothing more within 20 s
            Packets may get lost on the way: try again, and compare from another machine.
            This node turns it away all the same: add it to mesh.peers here, and reload:
                "/ip4/192.0.2.2/udp/4853/quic-v1/p2p/12D3Koo",
        "#]]
        .assert_eq(&text);
    }
}
