//! What people want to know of a node beyond what the core decides by: what went wrong last, and the line that is missing
//! in a configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use detour_core::mesh::{Refusal, RefusedBy};
use detour_core::report::NodeId;
use detour_core::time::Time;

use crate::address::peer_line;
use crate::identity::name_of;
use crate::status::{MissingLine, PeerError};

/// Nodes of which something is noted: members and strangers; the one noted longest ago makes room.
const NODES_MAX: usize = detour_core::mesh::NODES_MAX + 32;
/// Longest text of an error, bytes.
const TEXT_MAX: usize = 256;

#[derive(Debug, Default)]
struct Note {
    noted: Time,
    error: Option<PeerError>,
    /// Where it can be dialled, going by its connection and its hello.
    dialled_at: Option<(IpAddr, u16)>,
    /// How it sees our address.
    seen_as: Option<IpAddr>,
}

/// What lists a node that has no known address.
fn id_line(node: NodeId) -> String {
    format!("/p2p/{}", name_of(node))
}

/// Notes by node.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    notes: BTreeMap<NodeId, Note>,
}

impl Notes {
    fn note(&mut self, node: NodeId, now: Time) -> &mut Note {
        if self.notes.len() >= NODES_MAX && !self.notes.contains_key(&node) {
            let oldest = self.notes.iter().min_by_key(|(_, note)| note.noted);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.notes.remove(&oldest);
            }
        }
        let note = self.notes.entry(node).or_default();
        note.noted = now;
        note
    }

    /// Something went wrong with it.
    pub(crate) fn failed(&mut self, node: NodeId, text: &str, now: Time) {
        let text = text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect();
        self.note(node, now).error = Some(PeerError { at: now, text });
    }

    /// It works.
    pub(crate) fn works(&mut self, node: NodeId) {
        if let Some(note) = self.notes.get_mut(&node) {
            note.error = None;
        }
    }

    /// It named its port in a hello.
    pub(crate) fn named_port(&mut self, node: NodeId, ip: IpAddr, port: u16, now: Time) {
        self.note(node, now).dialled_at = Some((ip, port)).filter(|_| port != 0);
    }

    /// Its refusal says how it sees our address.
    pub(crate) fn seen_as(&mut self, node: NodeId, ip: Option<IpAddr>, now: Time) {
        self.note(node, now).seen_as = ip;
    }

    pub(crate) fn error(&self, node: NodeId) -> Option<PeerError> {
        self.notes.get(&node)?.error.clone()
    }

    /// The line that would make them peers.
    pub(crate) fn line(
        &self,
        node: NodeId,
        refusal: Option<(Refusal, RefusedBy)>,
        own: NodeId,
        own_port: u16,
    ) -> Option<MissingLine> {
        let note = self.notes.get(&node)?;
        match refusal? {
            (Refusal::UnknownNode, RefusedBy::Us) => {
                // One that cannot be dialled is listed by its id alone.
                let line = note
                    .dialled_at
                    .map_or_else(|| id_line(node), |(ip, port)| peer_line(ip, port, node));
                Some(MissingLine::Here(line))
            }
            (Refusal::UnknownNode, RefusedBy::Peer) => {
                let line = match own_port {
                    0 => id_line(own),
                    port => peer_line(note.seen_as?, port, own),
                };
                Some(MissingLine::There(line))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn a_refusal_shows_the_line_that_is_missing() {
        let [own, node] = [0, 1].map(|_| Identity::generate().unwrap());
        let now = Time::at_ms(1);
        let ip = "192.0.2.7".parse().unwrap();
        let mut notes = Notes::default();
        notes.named_port(node.node(), ip, 4853, now);
        notes.seen_as(node.node(), Some(ip), now);
        let line = |refusal, by| notes.line(node.node(), Some((refusal, by)), own.node(), 99);
        assert_eq!(
            line(Refusal::UnknownNode, RefusedBy::Us),
            Some(MissingLine::Here(format!(
                "/ip4/192.0.2.7/udp/4853/quic-v1/p2p/{}",
                node.peer_id()
            )))
        );
        assert_eq!(
            line(Refusal::UnknownNode, RefusedBy::Peer),
            Some(MissingLine::There(format!(
                "/ip4/192.0.2.7/udp/99/quic-v1/p2p/{}",
                own.peer_id()
            )))
        );
        assert_eq!(line(Refusal::OtherCluster, RefusedBy::Us), None);
        notes.named_port(node.node(), ip, 0, now);
        let line = |by| notes.line(node.node(), Some((Refusal::UnknownNode, by)), own.node(), 0);
        assert_eq!(
            line(RefusedBy::Us),
            Some(MissingLine::Here(format!("/p2p/{}", node.peer_id())))
        );
        assert_eq!(
            line(RefusedBy::Peer),
            Some(MissingLine::There(format!("/p2p/{}", own.peer_id())))
        );
        assert_eq!(
            notes.line(own.node(), Some((Refusal::UnknownNode, RefusedBy::Us)), own.node(), 99),
            None
        );
    }

    #[test]
    fn notes_are_bounded_and_texts_are_clean() {
        let mut notes = Notes::default();
        for number in 0..2_000_u16 {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&number.to_be_bytes());
            notes.failed(NodeId(key), &"\u{1b}[31m".repeat(200), Time::at_ms(u64::from(number)));
        }
        assert_eq!(notes.notes.len(), NODES_MAX);
        let text = notes.notes.values().next().unwrap().error.clone().unwrap().text;
        assert!(text.starts_with("[31m") && text.len() == TEXT_MAX);
    }
}
