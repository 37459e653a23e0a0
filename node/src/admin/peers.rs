//! `/api/v1/peers`: the mesh as this node sees it: itself, its peers, what is wrong with each, and what each says.
//!
//! Where a peer is turned away, here or there, the line that is missing in a configuration is shown with it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::State;
use detour_core::Time;
use detour_core::mesh::{PeerState, RefusedBy};
use detour_core::report::{Opinion, PeerReport, SiteKey};
use detour_mesh::{ListenStatus, MeshStatus, MissingLine, PeerStatus, state_word};
use serde::{Deserialize, Serialize};

use super::AdminState;
use super::claims::short;
use crate::mesh::{MeshNotes, Phase, Setup};

/// Peers that are named in the sentence that says what is wrong.
const NAMED_MAX: usize = 2;
/// Who is not connected this long after the start is missed.
const CONNECTED_WITHIN_MS: u64 = 10_000;

/// The mesh; `detour status` reads it back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MeshView {
    /// `none` without `[mesh]`; `off`; else as the mesh says.
    pub(crate) state: String,
    /// Why it is off, or what is wrong.
    pub(crate) complaints: Vec<String>,
    pub(crate) cluster: Option<String>,
    pub(crate) operator: Option<String>,
    pub(crate) site: Option<String>,
    /// What peers' reports may do here.
    pub(crate) influence: Option<String>,
    /// Once the identity is known.
    pub(crate) own: Option<OwnView>,
    pub(crate) peers: Vec<PeerView>,
}

/// This node, as its peers know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnView {
    pub(crate) peer_id: String,
    /// This life of the mesh, in hexadecimal.
    pub(crate) boot: String,
    pub(crate) since_ms: u64,
    pub(crate) incarnation: Option<u64>,
    pub(crate) sequence: Option<u32>,
    pub(crate) listen: Vec<ListenView>,
    /// How often the mesh failed and began anew.
    pub(crate) restarts: u64,
}

/// Where this node listens for peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenView {
    /// As configured.
    pub(crate) address: String,
    pub(crate) bound: Vec<String>,
    pub(crate) error: Option<String>,
}

/// One peer, or a stranger that was turned away lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerView {
    pub(crate) peer_id: String,
    /// Whether the configuration lists it.
    pub(crate) listed: bool,
    pub(crate) state: String,
    pub(crate) since_ms: u64,
    /// Who said no, and why; until it is admitted.
    pub(crate) refused: Option<RefusedView>,
    pub(crate) last_error: Option<ErrorView>,
    /// Where the configuration says it can be dialled.
    pub(crate) addresses: Vec<String>,
    /// The other ends of its connections.
    pub(crate) connected: Vec<SocketAddr>,
    pub(crate) next_dial_ms: Option<u64>,
    pub(crate) failed_dials: u32,
    /// Its life, in hexadecimal.
    pub(crate) boot: Option<String>,
    pub(crate) incarnation: Option<u64>,
    pub(crate) sequence: Option<u32>,
    /// Since its newest snapshot was issued.
    pub(crate) report_age_ms: Option<u64>,
    /// Whether that one counts.
    pub(crate) fresh: bool,
    /// Its wall clock minus ours.
    pub(crate) clock_offset_ms: Option<i64>,
    pub(crate) rtt_us: Option<u64>,
    pub(crate) software: Option<String>,
    /// The name where it is this node's, else its key in hexadecimal.
    pub(crate) site: Option<String>,
    /// It has a path on which nobody answers.
    pub(crate) uplink_suspect: bool,
    /// What it says of the endpoints of this node's configuration.
    pub(crate) endpoints: Vec<OpinionView>,
}

/// Who said no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefusedView {
    /// `us` or `peer`.
    pub(crate) by: String,
    pub(crate) reason: String,
    /// Whose `mesh.peers` lacks `line`: `here` or `there`.
    pub(crate) missing: Option<String>,
    pub(crate) line: Option<String>,
}

/// What went wrong last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorView {
    pub(crate) text: String,
    pub(crate) age_ms: u64,
}

/// What a peer says of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpinionView {
    /// The string of the configuration.
    pub(crate) endpoint: String,
    pub(crate) state: String,
    pub(crate) reason: String,
    /// Another operator answered it meanwhile, on the same path.
    pub(crate) witnessed: bool,
    /// It stood still itself meanwhile.
    pub(crate) stalled: bool,
    pub(crate) first_failure_ms: Option<u64>,
    pub(crate) last_failure_ms: Option<u64>,
    pub(crate) last_success_ms: Option<u64>,
}

impl MeshView {
    /// Peers of the configuration that are connected.
    #[must_use]
    pub(crate) fn connected(&self) -> usize {
        let connected = self.peers.iter().filter(|peer| peer.listed && peer.is_connected());
        connected.count()
    }

    /// Peers of the configuration.
    #[must_use]
    pub(crate) fn listed(&self) -> usize {
        self.peers.iter().filter(|peer| peer.listed).count()
    }

    /// What is wrong with it, for the sentence that says what is wrong.
    #[must_use]
    pub(super) fn troubles(&self) -> Vec<String> {
        match self.state.as_str() {
            "off" => return vec!["the mesh is off".to_owned()],
            "deaf" => return vec!["no peer can reach this node".to_owned()],
            "failed" => return vec!["the mesh failed and begins anew".to_owned()],
            "up" => {}
            // Without one, or before and after it.
            _ => return Vec::new(),
        }
        let mut troubles: Vec<String> = Vec::new();
        let listed = self.peers.iter().filter(|peer| peer.listed);
        let (refused, rest): (Vec<&PeerView>, Vec<&PeerView>) = listed
            .filter(|peer| !peer.is_connected())
            .partition(|peer| peer.refused.is_some());
        for peer in refused.iter().take(NAMED_MAX) {
            let Some(refused) = &peer.refused else { continue };
            let does = if refused.by == "us" {
                "is turned away here"
            } else {
                "turns this node away"
            };
            troubles.push(format!("peer {} {does} ({})", short(&peer.peer_id), refused.reason));
        }
        let has_begun = self.own.as_ref().is_some_and(|own| own.since_ms >= CONNECTED_WITHIN_MS);
        if has_begun && !rest.is_empty() {
            let are = if rest.len() == 1 { "is" } else { "are" };
            troubles.push(format!("{} of {} peers {are} not connected", rest.len(), self.listed()));
        }
        troubles
    }
}

impl PeerView {
    /// Whether it is admitted and connected.
    #[must_use]
    pub(crate) fn is_connected(&self) -> bool {
        self.state == state_word(PeerState::Connected)
    }
}

/// Tells of all.
pub(super) async fn peers(State(state): State<AdminState>) -> Json<MeshView> {
    Json(view(state.mesh.as_deref(), state.clock.now()))
}

/// The mesh at this moment.
pub(super) fn view(mesh: Option<&MeshNotes>, now: Time) -> MeshView {
    let Some(notes) = mesh else {
        return MeshView {
            state: "none".to_owned(),
            ..MeshView::default()
        };
    };
    let setup = notes.setup();
    let about = MeshView {
        cluster: Some(setup.config.cluster.clone()),
        operator: Some(setup.config.operator.clone()),
        site: Some(setup.config.site.clone()),
        influence: Some(setup.config.influence.word().to_owned()),
        ..MeshView::default()
    };
    match notes.phase() {
        Phase::Beginning => MeshView {
            state: "starting".to_owned(),
            ..about
        },
        Phase::Off(why) => MeshView {
            state: "off".to_owned(),
            complaints: vec![why],
            ..about
        },
        Phase::On(status) => {
            let status = status.borrow().clone();
            let reader = Reader {
                setup: &setup,
                notes,
                now,
            };
            MeshView {
                state: status.condition.word().to_owned(),
                complaints: status.complaints.clone(),
                own: Some(own_view(&status, now)),
                peers: status.peers.iter().map(|peer| reader.peer(peer)).collect(),
                ..about
            }
        }
    }
}

fn own_view(status: &MeshStatus, now: Time) -> OwnView {
    let listen = |listen: &ListenStatus| ListenView {
        address: listen.address.clone(),
        bound: listen.bound.clone(),
        error: listen.error.clone(),
    };
    OwnView {
        peer_id: status.peer_id.clone(),
        boot: hexadecimal(status.boot.0),
        since_ms: ms(now.since(status.since)),
        incarnation: status.edition.map(|edition| edition.incarnation),
        sequence: status.edition.map(|edition| edition.sequence),
        listen: status.listen.iter().map(listen).collect(),
        restarts: status.restarts,
    }
}

/// What peers are put into words with.
struct Reader<'r> {
    setup: &'r Setup,
    notes: &'r MeshNotes,
    now: Time,
}

impl Reader<'_> {
    fn peer(&self, peer: &PeerStatus) -> PeerView {
        let (view, now) = (&peer.view, self.now);
        let report = self.notes.heard(view.node);
        PeerView {
            peer_id: peer.peer_id.clone(),
            listed: self.setup.config.peers.iter().any(|listed| listed.node == view.node),
            state: state_word(view.state).to_owned(),
            since_ms: ms(now.since(view.since)),
            refused: refused(peer),
            last_error: peer.last_error.as_ref().map(|error| ErrorView {
                text: error.text.clone(),
                age_ms: ms(now.since(error.at)),
            }),
            addresses: peer.addresses.iter().map(|address| without_id(address)).collect(),
            connected: peer.connected.clone(),
            next_dial_ms: view.next_dial.map(|at| ms(at.since(now))),
            failed_dials: view.failed_dials,
            boot: view.boot.map(|boot| hexadecimal(boot.0)),
            incarnation: view.edition.map(|edition| edition.incarnation),
            sequence: view.edition.map(|edition| edition.sequence),
            report_age_ms: view.issued.map(|issued| ms(now.since(issued))),
            fresh: view.fresh_until.is_some_and(|until| now < until),
            clock_offset_ms: view.clock_offset_ms,
            rtt_us: view.rtt_us,
            software: view.software.clone(),
            site: view.site.map(|site| self.site(site)),
            uplink_suspect: report.as_ref().is_some_and(|report| report.uplink_suspect),
            endpoints: report.map(|report| self.opinions(&report)).unwrap_or_default(),
        }
    }

    fn site(&self, site: SiteKey) -> String {
        if site == self.setup.site {
            return self.setup.config.site.clone();
        }
        site.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Of the endpoints that this node has too, in the peer's order.
    fn opinions(&self, report: &PeerReport) -> Vec<OpinionView> {
        let known = report.opinions.iter().filter_map(|opinion| {
            let endpoint = self.setup.names.get(&opinion.endpoint)?;
            Some(self.opinion(endpoint, opinion))
        });
        known.collect()
    }

    fn opinion(&self, endpoint: &str, opinion: &Opinion) -> OpinionView {
        let age_ms = |at: Option<Time>| at.map(|at| ms(self.now.since(at)));
        OpinionView {
            endpoint: endpoint.to_owned(),
            state: opinion.state.word().to_owned(),
            reason: opinion.cause.word().to_owned(),
            witnessed: opinion.witnessed,
            stalled: opinion.stalled,
            first_failure_ms: age_ms(opinion.first_failure),
            last_failure_ms: age_ms(opinion.last_failure),
            last_success_ms: age_ms(opinion.last_success),
        }
    }
}

fn refused(peer: &PeerStatus) -> Option<RefusedView> {
    let (refusal, by) = peer.view.refusal?;
    let (missing, line) = match &peer.line {
        None => (None, None),
        Some(MissingLine::Here(line)) => (Some("here"), Some(line.clone())),
        Some(MissingLine::There(line)) => (Some("there"), Some(line.clone())),
    };
    let by = match by {
        RefusedBy::Us => "us",
        RefusedBy::Peer => "peer",
    };
    Some(RefusedView {
        by: by.to_owned(),
        reason: refusal.word().to_owned(),
        missing: missing.map(str::to_owned),
        line,
    })
}

/// An address without the peer id, which stands beside it.
fn without_id(address: &str) -> String {
    address.split("/p2p/").next().unwrap_or(address).to_owned()
}

fn hexadecimal(number: u64) -> String {
    format!("{number:016x}")
}

/// Microseconds as milliseconds.
fn ms(us: u64) -> u64 {
    us / 1_000
}
