//! The peers as an operator sees them.

use crate::report::{Circle, NodeId};
use crate::time::Time;

use super::Cluster;
use super::clocks::{micros, wall_micros};
use super::contract::PeerView;
use super::peer::Peer;

impl Cluster {
    /// The peers, in the order of the configuration, then strangers that were turned away lately; those count as of
    /// an operator of number [`u16::MAX`]. The wall clock is for showing offsets only.
    #[must_use]
    pub fn peers(&self, wall_ms: u64, now: Time) -> Vec<PeerView> {
        let bias = wall_micros(wall_ms).saturating_sub(micros(now));
        let members = self.order.iter().filter_map(|node| Some((node, self.peers.get(node)?)));
        let strangers = self.peers.iter().filter(|(_, peer)| peer.member.is_none());
        let all = members.chain(strangers);
        all.map(|(node, peer)| view(*node, peer, bias)).collect()
    }
}

/// One peer; `bias` is our wall clock minus our time, microseconds.
fn view(node: NodeId, peer: &Peer, bias: i64) -> PeerView {
    let offset = peer.clock.offset(bias);
    let held = peer.held.as_ref();
    PeerView {
        node,
        circle: peer.member.map_or(Circle::Foreign(u16::MAX), |member| member.circle),
        state: peer.state.0,
        since: peer.state.1,
        refusal: peer.refusal,
        next_dial: peer.next_dial(),
        failed_dials: peer.dial.failed,
        boot: peer.boot,
        edition: held.map(|held| held.sealed.snapshot.edition),
        issued: held.map(|held| held.issued),
        fresh_until: held.map(|held| held.fresh_until),
        clock_offset_ms: offset.map(|(_, middle)| middle.checked_div(1_000).unwrap_or(0)),
        rtt_us: peer.clock.rtt_us(),
        software: peer.software.clone(),
        site: peer.site.or_else(|| held.map(|held| held.sealed.snapshot.site)),
    }
}
