//! This node's own snapshots: when one is signed, under which edition, and who gets it.
//!
//! The incarnation is on disk before anything is published under it, so that no crash looks like two truths. A lost
//! disk, a clock that went back and a second process under the same key all show by a snapshot of this node that this
//! process never signed: the first two are overcome by a higher incarnation, the third by silence of the lower one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::report::{BootId, Circle, Edition, NodeId, OPINIONS_MAX, OwnReport, Snapshot};
use crate::time::{MS, SEC, Time};

use super::Cluster;
use super::clocks::{micros, wall_micros};
use super::contract::{CloseWhy, Output, Passed, Sealed, Settings};
use super::exchange::age_ms;

/// At most one snapshot in this time.
const APART_US: u64 = 100 * MS;
/// Signed anew after this long, seconds.
const PERIOD_S: u8 = 10;
/// While a `down` of this node stands.
const PERIOD_DOWN_S: u8 = 3;
/// In a cluster of more than a hundred nodes.
const PERIOD_MANY_S: u8 = 60;
/// From this many nodes on.
const MANY: usize = 101;
/// While a `down` stands, a peer that asks gets one that is no older.
const ASKED_US: u64 = SEC;
/// A signature that never came is asked for again.
const UNSIGNED_US: u64 = SEC;
/// Incarnations are 48 bits on the wire.
pub(super) const INCARNATION_MAX: u64 = (1 << 48) - 1;
/// What clocks and peers may raise the incarnation to, so that nobody can use up all of them.
pub(super) const INCARNATION_TOLD_MAX: u64 = 1 << 47;
/// Connections are closed this long after the last word.
const STOP_US: u64 = 250 * MS;

/// Who gets a snapshot without asking.
#[derive(Debug, Clone, Default)]
pub(super) struct Audience {
    /// Every connected peer of the own circle.
    everybody: bool,
    /// Gossip as well.
    gossip: bool,
    /// Peers that asked.
    peers: BTreeSet<NodeId>,
}

impl Audience {
    /// Of a change.
    pub(super) fn all() -> Self {
        Self {
            everybody: true,
            gossip: true,
            peers: BTreeSet::new(),
        }
    }

    /// Both.
    fn join(&mut self, other: Self) {
        self.everybody |= other.everybody;
        self.gossip |= other.gossip;
        self.peers.extend(other.peers);
    }
}

/// A signature the shell was asked for.
#[derive(Debug)]
pub(super) struct Signing {
    /// Of which edition.
    edition: Edition,
    /// When: the snapshot's ages count from here.
    at: Time,
    /// Who gets it.
    audience: Audience,
}

/// What this node publishes.
#[derive(Debug)]
pub(super) struct Own {
    /// When this process began.
    pub(super) started: Time,
    /// Of this process.
    pub(super) incarnation: u64,
    /// It is on disk.
    pub(super) stored: bool,
    /// Of the last snapshot; 0: none yet.
    pub(super) sequence: u32,
    /// What is to be said.
    report: Option<Arc<OwnReport>>,
    /// The last one signed, and when it was issued.
    newest: Option<(Sealed, Time)>,
    /// How long that one is good for, seconds.
    period_s: u8,
    /// One is being signed.
    pub(super) signing: Option<Signing>,
    /// One is wanted, for whom.
    wanted: Option<Audience>,
    /// When the last one was asked for.
    last: Option<Time>,
    /// When the next one is due though nothing changed.
    anew: Time,
    /// The highest edition under our key that this process did not sign.
    pub(super) other: Option<Edition>,
    /// Whose editions were overcome by a higher incarnation.
    pub(super) overcome: Vec<BootId>,
    /// Another process is the higher one.
    pub(super) silent_until: Option<Time>,
    /// When it was last told of another process.
    pub(super) told: Option<Time>,
    /// Our wall clock minus our time when it was last read, microseconds.
    pub(super) wall_bias: i64,
}

impl Own {
    /// A process begins.
    pub(super) fn new(settings: &Settings, now: Time) -> Self {
        let wall = settings.wall_ms.min(INCARNATION_TOLD_MAX);
        let incarnation = settings.stored_incarnation.saturating_add(1).max(wall);
        Self {
            started: now,
            incarnation: incarnation.min(INCARNATION_MAX),
            stored: false,
            sequence: 0,
            report: None,
            newest: None,
            period_s: PERIOD_S,
            signing: None,
            wanted: None,
            last: None,
            anew: now,
            other: None,
            overcome: Vec::new(),
            silent_until: None,
            told: None,
            wall_bias: wall_micros(settings.wall_ms).saturating_sub(micros(now)),
        }
    }

    /// The incarnation to be stored.
    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The last one signed, unless it counts no more or is not to be said.
    pub(super) fn newest_fresh(&self, now: Time) -> Option<(&Sealed, Time)> {
        let (sealed, issued) = self.newest.as_ref()?;
        let fresh_us = u64::from(self.period_s).saturating_mul(3 * SEC);
        let says = self.silent_until.is_none() && now.since(*issued) <= fresh_us;
        says.then_some((sealed, *issued))
    }

    /// The edition of the last one signed.
    pub(super) fn newest_edition(&self) -> Option<Edition> {
        self.newest.as_ref().map(|(sealed, _)| sealed.snapshot.edition)
    }

    /// The edition this process has reached.
    pub(super) fn reached(&self) -> Edition {
        Edition {
            incarnation: self.incarnation,
            sequence: self.sequence,
        }
    }

    /// When the next snapshot is to be signed, and why.
    fn due(&self) -> Option<(Time, &'static str)> {
        if !self.stored || self.silent_until.is_some() || self.report.is_none() {
            return None;
        }
        if let Some(signing) = &self.signing {
            return Some((signing.at.plus(UNSIGNED_US), "unsigned"));
        }
        let free = self.last.map_or(Time::ZERO, |last| last.plus(APART_US));
        match self.wanted {
            Some(_) => Some((free, "publish")),
            None => Some((self.anew.max(free), "sign anew")),
        }
    }
}

impl Cluster {
    /// The incarnation is on disk, or cannot be: this node may publish.
    pub fn handle_incarnation_stored(&mut self, incarnation: u64, now: Time) {
        if incarnation == self.own.incarnation {
            self.own.stored = true;
        }
        self.advance(now);
    }

    /// What this node says of endpoints. A change of `urgent`, `contradiction` or the flags is published; mere times go
    /// out with the next snapshot, so the shell hands the report in about once a second too.
    pub fn handle_own_report(&mut self, report: Arc<OwnReport>, now: Time) {
        let said = |report: &OwnReport| {
            let flags = (report.uplink_suspect, report.any_down);
            (report.urgent, report.contradiction, flags)
        };
        let changed = self.own.report.as_ref().map(|old| said(old)) != Some(said(&report));
        self.own.report = Some(report);
        if changed {
            self.want(Audience::all());
        }
        self.advance(now);
    }

    /// The snapshot that [`Output::Sign`] asked for.
    pub fn handle_signed(&mut self, sealed: Sealed, now: Time) {
        let (named, own) = (sealed.snapshot.as_ref(), &self.settings);
        let ours = named.node == own.own && named.boot == own.boot;
        let asked = self
            .own
            .signing
            .take_if(|signing| ours && signing.edition == named.edition);
        let Some(Signing { at, audience, .. }) = asked else {
            return;
        };
        self.own.wall_bias = wall_micros(named.issued_wall_ms).saturating_sub(micros(at));
        let passed = Passed {
            bytes: sealed.bytes.clone(),
            age_ms: age_ms(at, now),
        };
        let leaving = named.leaving;
        self.own.newest = Some((sealed, at));
        let to = self.peers.iter().filter(|(node, peer)| {
            let near = peer.member.is_some_and(|member| member.circle == Circle::Own);
            peer.up && !peer.quarantined && ((audience.everybody && near) || audience.peers.contains(*node))
        });
        let to: Vec<NodeId> = to.map(|(node, _)| *node).collect();
        for to in to {
            let snapshots = vec![passed.clone()];
            self.output(Output::Push { to, snapshots });
        }
        if audience.gossip {
            self.output(Output::Gossip(passed.bytes));
        }
        if leaving {
            self.stopping = Some(now.plus(STOP_US));
        }
        self.advance(now);
    }

    /// The node stops: says so to everybody once, then closes every connection.
    pub fn handle_stop(&mut self, now: Time) {
        if self.stopping.is_none() {
            // Later, if what is said last takes a moment to be signed.
            self.stopping = Some(now.plus(STOP_US << 1));
            self.own.signing = None;
            self.want(Audience::all());
        }
        self.advance(now);
    }

    /// A peer asks, and what it got is old for a time of trouble.
    pub(super) fn own_is_asked_for(&mut self, from: NodeId, now: Time) {
        let down = self.own.report.as_ref().is_some_and(|report| report.any_down);
        let old = self
            .own
            .newest
            .as_ref()
            .is_some_and(|(_, issued)| now.since(*issued) > ASKED_US);
        if down && old {
            let peers = BTreeSet::from([from]);
            self.want(Audience {
                peers,
                ..Audience::default()
            });
        }
    }

    /// A snapshot is wanted.
    pub(super) fn want(&mut self, audience: Audience) {
        self.own.wanted.get_or_insert_default().join(audience);
    }

    /// Has one signed if it is time.
    pub(super) fn run_own(&mut self, now: Time) {
        self.speak_again(now);
        if self.own.due().is_some_and(|(at, _)| at <= now) && !self.said_goodbye() {
            if self.own.sequence == u32::MAX {
                self.own.stored = false;
                self.raise_above(self.own.reached());
            } else {
                self.sign(now);
            }
        }
    }

    /// When [`Self::run_own`] has something to do.
    pub(super) fn next_own(&self) -> Option<(Time, &'static str)> {
        let silent = self.own.silent_until.map(|until| (until, "speak again"));
        silent.or_else(|| self.own.due().filter(|_| !self.said_goodbye()))
    }

    /// The last word is signed.
    fn said_goodbye(&self) -> bool {
        let newest = self.own.newest.as_ref();
        self.stopping.is_some() && newest.is_some_and(|(sealed, _)| sealed.snapshot.leaving)
    }

    /// Asks for a signature.
    fn sign(&mut self, now: Time) {
        let many = self.order.len() >= MANY;
        let own = &mut self.own;
        let Some(report) = own.report.clone() else {
            return;
        };
        own.sequence = own.sequence.saturating_add(1);
        own.period_s = match (report.any_down, many) {
            (true, _) => PERIOD_DOWN_S,
            (false, true) => PERIOD_MANY_S,
            (false, false) => PERIOD_S,
        };
        let mut audience = own.wanted.take().unwrap_or_default();
        if let Some(unsigned) = own.signing.take() {
            audience.join(unsigned.audience);
        }
        // A standing `down` is said again before it grows old.
        let anew = own.anew <= now || audience.everybody;
        audience.everybody |= report.any_down && anew;
        own.last = Some(now);
        let (period_s, edition) = (own.period_s, own.reached());
        own.signing = Some(Signing {
            edition,
            at: now,
            audience,
        });
        if anew {
            let period_us = u64::from(period_s).saturating_mul(SEC);
            let early = self.draw(period_us.checked_div(5).unwrap_or(0));
            self.own.anew = now.plus(period_us.saturating_sub(early));
        }
        let snapshot = Snapshot {
            node: self.settings.own,
            boot: self.settings.boot,
            edition,
            issued_wall_ms: 0,
            period_s,
            site: self.settings.site,
            uplink_suspect: report.uplink_suspect,
            leaving: self.stopping.is_some(),
            entries: report
                .opinions
                .iter()
                .take(OPINIONS_MAX)
                .map(|o| o.entry(now))
                .collect(),
        };
        self.output(Output::Sign(Box::new(snapshot)));
    }

    /// Closes every connection once the last word is out.
    pub(super) fn run_stop(&mut self, now: Time) {
        if self.stopping.is_some_and(|at| at <= now) {
            for node in self.ids_where(|peer| !peer.connections.is_empty()) {
                for connection in self.live_connections(node) {
                    self.close(connection, CloseWhy::Stopping, now);
                }
            }
        }
    }

    /// When [`Self::run_stop`] has something to do.
    pub(super) fn next_stop(&self) -> Option<Time> {
        let any = self.peers.values().any(|peer| !peer.connections.is_empty());
        self.stopping.filter(|_| any)
    }
}
