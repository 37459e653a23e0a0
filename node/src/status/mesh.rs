//! The mesh in a few lines: the cluster, and each peer with what is wrong with it first.

use crate::admin::claims::short;
use crate::admin::peers::{MeshView, PeerView};
use crate::admin::words::age_text_s;

/// Peers that are told of in full; the rest is counted.
const SHOWN_MAX: usize = 16;

/// All of it; nothing without a mesh.
pub(super) fn words(mesh: &MeshView) -> String {
    let Some(cluster) = &mesh.cluster else {
        return String::new();
    };
    let site = mesh.site.as_deref().unwrap_or_default();
    let mut text = format!("\nmesh: {cluster}, site {site}, {}", mesh.state);
    if let Some(own) = &mesh.own {
        let (connected, listed) = (mesh.connected(), mesh.listed());
        text.push_str(&format!(
            ", {connected} of {listed} peers connected; this node is {}",
            own.peer_id
        ));
    }
    text.push('\n');
    if mesh.influence.as_deref().is_some_and(|influence| influence != "full") {
        let influence = mesh.influence.as_deref().unwrap_or_default();
        text.push_str(&format!(
            "  mesh.influence = \"{influence}\": reports of peers move no place here\n"
        ));
    }
    let (well, troubled): (Vec<&PeerView>, Vec<&PeerView>) = mesh.peers.iter().partition(|peer| peer.is_connected());
    for peer in troubled.iter().chain(&well).take(SHOWN_MAX) {
        text.push_str(&format!("  {}\n", line(peer)));
        if let Some((place, missing)) = missing(peer) {
            text.push_str(&format!("    missing in mesh.peers {place}: \"{missing}\"\n"));
        }
    }
    let hidden = mesh.peers.len().saturating_sub(SHOWN_MAX);
    if hidden > 0 {
        text.push_str(&format!("  and {hidden} more\n"));
    }
    text
}

/// How a peer stands.
fn line(peer: &PeerView) -> String {
    let mut parts = vec![format!("{} for {}", peer.state, age_text_s(peer.since_ms / 1_000))];
    let place = peer.connected.first().map(ToString::to_string);
    let place = place.or_else(|| peer.addresses.first().cloned());
    if peer.is_connected() {
        parts.push(match peer.report_age_ms {
            Some(age_ms) if peer.fresh => format!("report {} old", age_text_s(age_ms / 1_000)),
            Some(age_ms) => format!("report too old ({})", age_text_s(age_ms / 1_000)),
            None => "no report yet".to_owned(),
        });
        if let Some(rtt_us) = peer.rtt_us {
            parts.push(format!("{}.{} ms away", rtt_us / 1_000, rtt_us % 1_000 / 100));
        }
        if let Some(offset_ms) = peer.clock_offset_ms.filter(|offset_ms| offset_ms.abs() > CLOCK_TOLD_MS) {
            let direction = if offset_ms > 0 { "ahead" } else { "behind" };
            let seconds = offset_ms.unsigned_abs() / 1_000;
            parts.push(format!("its clock is {} {direction}", age_text_s(seconds)));
        }
    }
    if let Some(refused) = &peer.refused {
        let by = if refused.by == "us" {
            "turned away here"
        } else {
            "turns this node away"
        };
        parts.push(format!("{by} ({})", refused.reason));
    } else if let Some(error) = peer.last_error.as_ref().filter(|_| !peer.is_connected()) {
        let age = age_text_s(error.age_ms / 1_000);
        parts.push(format!("{} ({age} ago)", error.text));
    }
    let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
    let known = if peer.listed { "" } else { "stranger " };
    format!("{known}{}{place}: {}", short(&peer.peer_id), parts.join(", "))
}

/// A clock that is further off than this is told of; the mesh works with any.
const CLOCK_TOLD_MS: i64 = 2_000;

/// The line that would make them peers, and where it belongs.
fn missing(peer: &PeerView) -> Option<(&'static str, &str)> {
    let refused = peer.refused.as_ref()?;
    let place = match refused.missing.as_deref()? {
        "here" => "here",
        _ => "there",
    };
    Some((place, refused.line.as_deref()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::peers::{ErrorView, OwnView, RefusedView};
    use expect_test::expect;

    fn peer(end: &str, state: &str) -> PeerView {
        PeerView {
            peer_id: format!("12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqU{end}"),
            listed: true,
            state: state.to_owned(),
            since_ms: 90_000,
            refused: None,
            last_error: None,
            addresses: vec!["/ip4/192.0.2.2/udp/4853/quic-v1".to_owned()],
            connected: Vec::new(),
            next_dial_ms: None,
            failed_dials: 0,
            boot: None,
            incarnation: None,
            sequence: None,
            report_age_ms: None,
            fresh: false,
            clock_offset_ms: None,
            rtt_us: None,
            software: None,
            site: None,
            uplink_suspect: false,
            endpoints: Vec::new(),
        }
    }

    fn refused(by: &str, missing: &str) -> Option<RefusedView> {
        Some(RefusedView {
            by: by.to_owned(),
            reason: "unknown-node".to_owned(),
            missing: Some(missing.to_owned()),
            line: Some("/ip4/192.0.2.9/udp/4853/quic-v1/p2p/12D3Koo".to_owned()),
        })
    }

    #[test]
    fn what_is_wrong_comes_first_with_the_line_that_is_missing() {
        let mut well = peer("m1", "connected");
        well.connected = vec!["192.0.2.2:4853".parse().unwrap()];
        (well.report_age_ms, well.fresh) = (Some(2_300), true);
        (well.rtt_us, well.clock_offset_ms) = (Some(1_240), Some(-600_000));
        let mut there = peer("m2", "refused");
        there.refused = refused("peer", "there");
        let mut here = peer("m3", "refused");
        (here.listed, here.addresses) = (false, Vec::new());
        here.refused = refused("us", "here");
        let mut lost = peer("m4", "waiting");
        lost.last_error = Some(ErrorView {
            text: "handshake timed out".to_owned(),
            age_ms: 4_000,
        });
        let mesh = MeshView {
            state: "up".to_owned(),
            cluster: Some("office".to_owned()),
            site: Some("vienna".to_owned()),
            influence: Some("hint".to_owned()),
            own: Some(OwnView {
                peer_id: "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X".to_owned(),
                boot: "1".to_owned(),
                since_ms: 100_000,
                incarnation: Some(1),
                sequence: Some(2),
                listen: Vec::new(),
                restarts: 0,
            }),
            peers: vec![well, there, here, lost],
            ..MeshView::default()
        };
        expect![[r#"

            mesh: office, site vienna, up, 1 of 3 peers connected; this node is 12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X
              mesh.influence = "hint": reports of peers move no place here
              …faqUm2 at /ip4/192.0.2.2/udp/4853/quic-v1: refused for 90 s, turns this node away (unknown-node)
                missing in mesh.peers there: "/ip4/192.0.2.9/udp/4853/quic-v1/p2p/12D3Koo"
              stranger …faqUm3: refused for 90 s, turned away here (unknown-node)
                missing in mesh.peers here: "/ip4/192.0.2.9/udp/4853/quic-v1/p2p/12D3Koo"
              …faqUm4 at /ip4/192.0.2.2/udp/4853/quic-v1: waiting for 90 s, handshake timed out (4 s ago)
              …faqUm1 at 192.0.2.2:4853: connected for 90 s, report 2 s old, 1.2 ms away, its clock is 10 min behind
        "#]].assert_eq(&words(&mesh));
        assert_eq!(words(&MeshView::default()), "");
    }
}
