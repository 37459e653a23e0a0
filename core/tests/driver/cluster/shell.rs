//! The shell's part of the mesh: carries out what the machine wants, brings what comes.

use detour_core::mesh::{ClockSample, Cluster, ConnectionId, Hello, Merged, Output, Passed, Via};
use detour_core::report::NodeId;
use detour_core::time::{MS, SEC};

use super::machine::{id_of, index_of};
use super::net::{Answer, End, Parcel, Pending, REQUEST_US, Request};
use super::world::World;
use crate::env::{Event, Who};

/// Outputs that one step may lead to.
const OUTPUTS_MAX: usize = 2_000;
/// What overtook a handshake waits for it.
const HANDSHAKE_ORDER_US: u64 = 2 * MS;
/// A disk takes this long to sync.
const DISK_US: u64 = 3 * MS;

impl World {
    pub(super) fn mesh(&mut self, who: Who) -> &mut Cluster {
        &mut self.machines[usize::from(who.node)].mesh
    }

    /// Carries out what control plane and mesh of a process want until neither wants more.
    pub(super) fn drain(&mut self, who: Who) {
        let index = usize::from(who.node);
        if !self.machines[index].running {
            return;
        }
        for _ in 0..OUTPUTS_MAX {
            let now = self.env.now;
            let lie = self.lies.get(&who.node).copied();
            let machine = &mut self.machines[index];
            if std::mem::take(&mut machine.node.has_news) {
                let report = machine.report(lie, &self.config, now);
                machine.mesh.handle_own_report(report, now);
            }
            let wakeup = machine.mesh.poll_timeout(now);
            let Some(output) = machine.mesh.poll_output() else {
                machine.stamp += 1;
                let stamp = machine.stamp;
                if let Some((at, _)) = wakeup {
                    self.env.push(at.max(now), who, Event::MeshTimer(stamp));
                }
                return;
            };
            if wakeup != Some((now, "output")) {
                self.fail("the mesh has outputs and does not say now");
            }
            self.carry_out(who, output);
        }
        self.fail("one step makes outputs without end");
    }

    fn carry_out(&mut self, who: Who, output: Output) {
        let now = self.env.now;
        let index = usize::from(who.node);
        match output {
            Output::StoreIncarnation(incarnation) => {
                self.machines[index].disk = incarnation;
                self.send(who, DISK_US, Parcel::Stored(incarnation));
            }
            Output::Dial { node, address } => {
                let to = u16::try_from(index_of(node)).unwrap();
                self.env.log("dial", u64::from(who.node), u64::from(to));
                let after = self.net.delay_us(who.node, to);
                let since = now;
                self.send(who, after, Parcel::Handshake { to, address, since });
            }
            Output::SendHello {
                connection,
                node,
                mut hello,
            } => {
                hello.wall_ms = self.machines[index].wall_ms(now);
                let to = u16::try_from(index_of(node)).unwrap();
                self.ask(who, to, Some(connection.0), Request::Hello(Box::new(hello)));
            }
            Output::Admit(_) | Output::Expel(_) => {}
            Output::Close { connection, why } => {
                self.env.log("close", u64::from(who.node), connection.0);
                self.close(who, connection.0);
                if self.machines[index].running && format!("{why:?}").contains("Refused") {
                    self.fail(&format!("node {} closes a member's connection: {why:?}", who.node));
                }
            }
            Output::Sign(mut snapshot) => {
                snapshot.issued_wall_ms = self.machines[index].wall_ms(now);
                let last = self.machines[index].signed.replace(now);
                if last.is_some_and(|last| now.since(last) < 100 * MS) {
                    self.fail("two publications within 100 ms");
                }
                let sealed = self.notary.seal(*snapshot);
                self.env
                    .log("sign", u64::from(who.node), u64::from(sealed.snapshot.edition.sequence));
                self.mesh(who).handle_signed(sealed, now);
            }
            Output::Push { to, snapshots } => self.ask_peer(who, to, Request::Push(snapshots)),
            Output::Pull { from, digest } => self.ask_peer(who, from, Request::Pull(digest)),
            Output::Gossip(bytes) => {
                self.machines[index].seen.insert(bytes.to_vec());
                self.gossip(who, &bytes, None);
            }
            Output::Report(report) => {
                self.env
                    .log("report", u64::from(who.node), u64::from(report.edition.sequence));
                let machine = &mut self.machines[index];
                machine.node.control.handle_report(report, now);
                machine.node.drain_control(&mut self.env);
            }
            Output::Forget(node) => {
                let machine = &mut self.machines[index];
                machine.node.control.handle_forget(node, now);
                machine.node.drain_control(&mut self.env);
            }
            Output::Event(event) => {
                self.env.log("mesh-event", u64::from(who.node), 0);
                self.machines[index].events.push((now, event));
            }
        }
    }

    /// Asks a peer over one of the connections that carry every protocol.
    fn ask_peer(&mut self, who: Who, to: NodeId, request: Request) {
        let node = u16::try_from(index_of(to)).unwrap();
        let links = self.net.open_links(who).into_iter();
        let links = links.filter(|(_, other)| other.who.node == node);
        // The newest: an older one may be a ghost.
        let links = links.map(|(link, _)| link).filter(|link| self.net.is_full(*link, who));
        let link = links.max();
        self.ask(who, node, link, request);
    }

    /// Sends a request; without a connection it fails at once.
    fn ask(&mut self, from: Who, to: u16, link: Option<u64>, request: Request) {
        let number = self.env.number();
        let pending = Pending {
            from,
            to,
            link: link.unwrap_or_default(),
            sent: self.env.now,
            hello: matches!(request, Request::Hello(_)),
        };
        self.net.pending.insert(number, pending);
        let late = if link.is_some() { REQUEST_US } else { 0 };
        self.send(from, late, Parcel::Late { number });
        if let Some(link) = link {
            let parcel = Parcel::Request { link, number, request };
            self.over(from, link, parcel);
        }
    }

    /// Puts something on a connection: it arrives if the path lets it.
    pub(super) fn over(&mut self, from: Who, link: u64, parcel: Parcel) {
        let Some((_, other)) = self.net.links.get(&link).and_then(|link| link.of(from)) else {
            return;
        };
        if self.net.is_cut(from.node, other.who.node) {
            return;
        }
        for _ in 0..self.net.copies() {
            let after = self.net.delay_us(from.node, other.who.node);
            self.send(other.who, after, parcel.clone());
        }
    }

    /// Gossip to everybody of whom this process knows that they listen, but to who brought it.
    fn gossip(&mut self, from: Who, bytes: &[u8], but: Option<Who>) {
        let mut told = vec![but.unwrap_or(from)];
        for (link, other) in self.net.open_links(from) {
            let full = self.net.is_full(link, from);
            let listens = self.net.listening.contains(&(other.who, from));
            if full && listens && !told.contains(&other.who) {
                told.push(other.who);
                let bytes = bytes.to_vec();
                self.over(from, link, Parcel::Gossip { link, bytes });
            }
        }
    }

    /// Something reaches a process.
    pub(super) fn deliver(&mut self, who: Who, parcel: Parcel) {
        let now = self.env.now;
        let index = usize::from(who.node);
        match parcel {
            Parcel::Start => {
                self.env.log("start", u64::from(who.node), u64::from(who.life));
                let config = self.config.clone();
                self.machines[index].start(&config, &mut self.env);
                self.env.push(now.plus(SEC), who, Event::MeshReport);
                self.machines[index].node.has_news = true;
            }
            Parcel::Stored(incarnation) => self.mesh(who).handle_incarnation_stored(incarnation, now),
            Parcel::Handshake { to, address, since } => self.handshake(who, to, address, since),
            Parcel::Established { link, dialled } => self.established(who, link, dialled),
            Parcel::Closed { link } => self.end_closed(who, link),
            Parcel::Idle { link } => {
                if let Some((_, other)) = self.net.links.get(&link).and_then(|link| link.of(who)) {
                    let lives = self.machines[usize::from(other.who.node)].node.who == other.who;
                    if !lives || !other.open || self.net.is_idle(who.node, other.who.node, now) {
                        self.end_closed(who, link);
                    }
                }
            }
            Parcel::Request { link, number, request } => {
                let own = self.net.links.get(&link).and_then(|link| link.of(who));
                if let Some((own, _)) = own
                    && !own.came
                {
                    let parcel = Parcel::Request { link, number, request };
                    self.send(who, HANDSHAKE_ORDER_US, parcel);
                } else if let Some((own, other)) = own
                    && own.open
                {
                    let answer = self.answer(who, own, other, link, request);
                    self.over(who, link, Parcel::Answer { number, answer });
                }
            }
            Parcel::Answer { number, answer } => {
                if let Some(pending) = self.net.pending.remove(&number) {
                    self.answered(who, pending, answer);
                }
            }
            Parcel::Late { number } => {
                if let Some(pending) = self.net.pending.remove(&number)
                    && !pending.hello
                {
                    self.mesh(who).handle_unanswered(id_of(pending.to), now);
                }
            }
            Parcel::Listens { link } => {
                let ends = self.net.links.get(&link).and_then(|link| link.of(who));
                match ends {
                    Some((own, _)) if !own.came => self.send(who, HANDSHAKE_ORDER_US, Parcel::Listens { link }),
                    Some((own, other)) if own.open && own.full => {
                        self.net.listening.insert((other.who, who));
                    }
                    Some(_) | None => {}
                }
            }
            Parcel::Gossip { link, bytes } => self.hear_gossip(who, link, bytes),
        }
    }

    fn hear_gossip(&mut self, who: Who, link: u64, bytes: Vec<u8>) {
        let (now, index) = (self.env.now, usize::from(who.node));
        let ends = self.net.links.get(&link).and_then(|link| link.of(who));
        let Some((_, other)) = ends.filter(|(own, _)| own.open && own.full) else {
            return;
        };
        if self.machines[index].seen.insert(bytes.clone())
            && let Some(sealed) = self.notary.open(&bytes)
        {
            let via = Via::Gossip(id_of(other.who.node));
            if self.mesh(who).handle_snapshot(sealed, via, None, now) == Ok(Merged::Newest) {
                self.gossip(who, &bytes, Some(other.who));
            }
        }
    }

    fn answer(&mut self, who: Who, own: End, other: End, link: u64, request: Request) -> Answer {
        let now = self.env.now;
        let from = id_of(other.who.node);
        let wall_ms = self.machines[usize::from(who.node)].wall_ms(now);
        match request {
            Request::Hello(hello) => match self.mesh(who).handle_hello(ConnectionId(link), &hello, None, now) {
                Ok(answer) => Answer::Hello(Box::new(Hello { wall_ms, ..answer })),
                Err(refusal) => Answer::Refused(refusal),
            },
            Request::Pull(_) | Request::Push(_) if !own.full => Answer::Unsupported,
            Request::Pull(digest) => match self.mesh(who).handle_pull(from, &digest, now) {
                Ok(snapshots) => Answer::Snapshots(snapshots, wall_ms),
                Err(refusal) => Answer::Refused(refusal),
            },
            Request::Push(snapshots) => {
                self.bring(who, &snapshots, Via::Push(from));
                Answer::Snapshots(Vec::new(), wall_ms)
            }
        }
    }

    fn answered(&mut self, who: Who, pending: Pending, answer: Answer) {
        let now = self.env.now;
        let (from, connection) = (id_of(pending.to), ConnectionId(pending.link));
        let sample = |wall_ms| ClockSample {
            sent: pending.sent,
            received: now,
            wall_ms,
        };
        match answer {
            Answer::Hello(hello) => {
                let sample = Some(sample(hello.wall_ms));
                let taken = self.mesh(who).handle_hello(connection, &hello, sample, now);
                self.env.log("hello", u64::from(who.node), u64::from(taken.is_ok()));
            }
            Answer::Snapshots(snapshots, wall_ms) => {
                self.mesh(who).handle_answered(from, sample(wall_ms), now);
                self.bring(who, &snapshots, Via::Pull(from));
            }
            Answer::Refused(refusal) if pending.hello => self.mesh(who).handle_refused(connection, refusal, now),
            Answer::Refused(_) | Answer::Unsupported => self.mesh(who).handle_unanswered(from, now),
        }
    }

    fn bring(&mut self, who: Who, snapshots: &[Passed], via: Via) {
        let now = self.env.now;
        for passed in snapshots {
            if let Some(sealed) = self.notary.open(&passed.bytes) {
                let merged = self.mesh(who).handle_snapshot(sealed, via, Some(passed.age_ms), now);
                self.env.log("merge", u64::from(who.node), u64::from(merged.is_ok()));
                // Outputs are drained before the next input.
                self.drain(who);
            }
        }
    }
}
