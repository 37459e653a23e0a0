//! Pull and push, and what becomes of each snapshot, whichever way it came.

use detour_core::mesh::{ClockSample, DigestLine, Merged, Passed, RejectedSnapshot, Via};
use detour_core::report::NodeId;
use detour_core::time::Time;
use detour_wire::sync::{Answer, PUSHED_MAX, Pull, PullAnswer, Push, PushAnswer, Receipt, Request as SyncRequest};
use detour_wire::{Refused, sync};
use libp2p::request_response::{OutboundFailure, OutboundRequestId};

use super::Driver;
use super::exchanges::{Protocol, Request};
use super::intake::Opened;
use crate::identity::peer_of;
use crate::metrics::rejection_word;

/// A pull or push of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    node: NodeId,
    kind: &'static str,
    sent: Time,
}

impl Driver {
    pub(crate) fn pull(&mut self, from: NodeId, digest: Vec<DigestLine>, now: Time) {
        let wall_ms = (self.config.wall_ms)();
        self.ask(from, "pull", &SyncRequest::Pull(Pull { wall_ms, digest }), now);
    }

    pub(crate) fn push(&mut self, to: NodeId, snapshots: &[Passed], now: Time) {
        for snapshots in snapshots.chunks(PUSHED_MAX) {
            let wall_ms = (self.config.wall_ms)();
            let snapshots = snapshots.to_vec();
            self.ask(to, "push", &SyncRequest::Push(Push { wall_ms, snapshots }), now);
        }
    }

    fn ask(&mut self, node: NodeId, kind: &'static str, request: &SyncRequest, now: Time) {
        let id = self.send(node, request);
        match id {
            Some(id) => {
                let sent = now;
                self.asked.insert(id, Asked { node, kind, sent });
            }
            None => {
                self.around.metrics.asked(kind, "no-connection");
                if self.unasked.len() < detour_core::mesh::NODES_MAX {
                    self.unasked.push(node);
                }
            }
        }
    }

    fn send(&mut self, node: NodeId, request: &SyncRequest) -> Option<OutboundRequestId> {
        let gate = &mut self.swarm.behaviour_mut().gate;
        let connection = gate.newest(&peer_of(node)?)?;
        match request.encode() {
            Ok(bytes) => {
                self.around.metrics.sent(bytes.len());
                gate.inner().sync.ask(connection, bytes)
            }
            Err(error) => {
                tracing::error!(%error, "a request has no bytes");
                None
            }
        }
    }

    pub(crate) fn sync_asked(&mut self, request: Request, now: Time) {
        let Some(link) = self.links.of_swarm(request.connection).copied() else {
            return;
        };
        let wall_ms = (self.config.wall_ms)();
        let (kind, answer, is_too_much) = match SyncRequest::decode(&request.bytes) {
            Ok(SyncRequest::Pull(pull)) => match self.cluster.handle_pull(link.node, &pull.digest, now) {
                Ok(snapshots) => ("pull", Answer::Pull(PullAnswer { wall_ms, snapshots }), false),
                Err(refusal) => ("pull", Answer::Refused(Refused::new(refusal, "")), true),
            },
            Ok(SyncRequest::Push(push)) => {
                let receipts: Vec<_> = push
                    .snapshots
                    .iter()
                    .map(|passed| self.pushed(passed, link.node, now))
                    .collect();
                let is_too_much = receipts.contains(&Receipt::Rejected(RejectedSnapshot::TooMuch));
                ("push", Answer::Push(PushAnswer { wall_ms, receipts }), is_too_much)
            }
            Err(error) => {
                tracing::debug!(peer = %link.peer, %error, "not a request");
                // Garbage is answered late: it costs its sender a stream for that long.
                ("sync", Answer::Refused(Refused::new(error.refusal(), "")), true)
            }
        };
        let result = match &answer {
            Answer::Refused(refused) => refused.refusal.word(),
            Answer::Pull(_) | Answer::Push(_) => "ok",
        };
        self.around.metrics.answered(kind, result);
        match answer.encode() {
            Ok(bytes) if is_too_much => self.answer_late(Protocol::Sync, request.channel, bytes, now),
            Ok(bytes) => self.answer(Protocol::Sync, request.channel, bytes),
            Err(error) => tracing::error!(%error, "an answer has no bytes"),
        }
    }

    fn pushed(&mut self, passed: &Passed, from: NodeId, now: Time) -> Receipt {
        self.take(&passed.bytes, Via::Push(from), Some(passed.age_ms), now)
    }

    pub(crate) fn sync_answered(&mut self, id: OutboundRequestId, answer: &[u8], now: Time) {
        let Some(Asked { node, kind, sent }) = self.asked.remove(&id) else {
            return;
        };
        let sample = |wall_ms| ClockSample {
            sent,
            received: now,
            wall_ms,
        };
        let result = match Answer::decode(answer) {
            Ok(Answer::Pull(PullAnswer { wall_ms, snapshots })) if kind == "pull" => {
                self.cluster.handle_answered(node, sample(wall_ms), now);
                for passed in &snapshots {
                    self.take(&passed.bytes, Via::Pull(node), Some(passed.age_ms), now);
                }
                "ok"
            }
            Ok(Answer::Push(PushAnswer { wall_ms, .. })) if kind == "push" => {
                self.cluster.handle_answered(node, sample(wall_ms), now);
                "ok"
            }
            Ok(Answer::Refused(refused)) => refused.refusal.word(),
            Ok(Answer::Pull(_) | Answer::Push(_)) => "unreadable",
            Err(error) => {
                tracing::debug!(%error, "not an answer");
                "unreadable"
            }
        };
        self.around.metrics.asked(kind, result);
        if result != "ok" {
            self.notes
                .failed(node, &format!("its answer to a {kind}: {result}"), now);
            self.cluster.handle_unanswered(node, now);
        }
    }

    pub(crate) fn sync_unanswered(&mut self, id: OutboundRequestId, why: &OutboundFailure, now: Time) {
        if let Some(Asked { node, kind, .. }) = self.asked.remove(&id) {
            self.around.metrics.asked(kind, "failed");
            self.notes
                .failed(node, &format!("it did not answer a {kind}: {why}"), now);
            self.cluster.handle_unanswered(node, now);
        }
    }

    /// Takes a snapshot if it is good and new.
    pub(crate) fn take(&mut self, bytes: &[u8], via: Via, age_ms: Option<u32>, now: Time) -> Receipt {
        let (bringer, way) = match via {
            Via::Push(node) => (node, "push"),
            Via::Pull(node) => (node, "pull"),
            Via::Gossip(node) => (node, "gossip"),
        };
        let receipt = match self.intake.open(bytes, bringer, now) {
            Opened::Good(sealed) => match self.cluster.handle_snapshot(sealed.clone(), via, age_ms, now) {
                Ok(Merged::Newest) => {
                    self.intake.taken(sealed);
                    Receipt::Newest
                }
                Ok(Merged::Known) => Receipt::Known,
                Err(why) => Receipt::Rejected(why),
            },
            Opened::Unreadable => Receipt::Unreadable,
            Opened::Later => Receipt::Other,
            Opened::BadSignature => Receipt::BadSignature,
            Opened::Rejected(why) => Receipt::Rejected(why),
        };
        self.around.metrics.snapshot(way, word(receipt));
        receipt
    }
}

fn word(receipt: Receipt) -> &'static str {
    match receipt {
        Receipt::Newest => "newest",
        Receipt::Known => "known",
        Receipt::Unreadable => "unreadable",
        Receipt::BadSignature => "bad-signature",
        Receipt::Rejected(why) => rejection_word(why),
        Receipt::Other => "later-version",
    }
}

/// A pull answer must fit what the other side reads.
const _: () = assert!(sync::ANSWER_MAX >= sync::PULLED_MAX * 999);
