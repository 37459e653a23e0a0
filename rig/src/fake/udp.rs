//! The UDP side of a fake: one task, one socket, one schedule.
//!
//! Datagrams are read in batches, replies leave in batches when they are due. Under `rst` the port is closed to
//! everybody but stays reserved (see `unlisten`), and is opened again when the fault ends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::owner::Owners;
use super::reply::{Delayed, reply};
use super::schedule::Schedule;
use super::sockets::{listen_again, unlisten};
use super::stats::add;
use super::{PENDING_MAX, Shared};
use crate::clock;
use crate::fault::Fault;
use crate::random::Random;

/// Datagrams read before replies that have become due are looked at.
const BATCH: usize = 64;
/// Queries are small; a longer datagram is read in part and answered FORMERR.
const DATAGRAM_BYTES: usize = 4_096;
/// When a closed port could not be opened again, it is tried after this long.
const REOPEN_AFTER: Duration = Duration::from_millis(50);

enum Action {
    Stop,
    Switch,
    Timer,
    Readable,
}

struct Server {
    socket: UdpSocket,
    local: SocketAddr,
    /// False while the fault is `rst`.
    open: bool,
    reopen_at: Option<Instant>,
    schedule: Schedule<(SocketAddr, Vec<u8>)>,
    random: Random,
    owners: Owners,
    shared: Shared,
}

/// Serves until the token is cancelled.
pub(super) async fn serve(socket: UdpSocket, shared: Shared) {
    let Ok(local) = socket.local_addr() else { return };
    let mut server = Server {
        socket,
        local,
        open: true,
        reopen_at: None,
        schedule: Schedule::new(PENDING_MAX),
        random: Random::new(shared.seed),
        owners: Owners::default(),
        shared,
    };
    loop {
        match server.select().await {
            Action::Stop => return,
            Action::Switch => server.switch(),
            Action::Timer => server.send_due().await,
            Action::Readable => server.receive().await,
        }
    }
}

impl Server {
    async fn select(&mut self) -> Action {
        let timer = [self.schedule.next_due(), self.reopen_at].into_iter().flatten().min();
        let Shared { token, conduct, .. } = &mut self.shared;
        tokio::select! {
            biased;
            // Cancel-safe: asks for a state.
            () = token.cancelled() => Action::Stop,
            // Cancel-safe: a change not yet seen stays unseen.
            changed = conduct.changed() => if changed.is_ok() { Action::Switch } else { Action::Stop },
            // Cancel-safe: the due time is computed anew each turn.
            () = sleep_until(timer.unwrap_or_else(clock::now)), if timer.is_some() => Action::Timer,
            // Cancel-safe: only readiness, nothing is read.
            ready = self.socket.readable(), if self.open => if ready.is_ok() { Action::Readable } else { Action::Stop },
        }
    }

    /// Opens or closes the port as the fault wants it.
    fn switch(&mut self) {
        let closed = self.shared.conduct.borrow_and_update().fault == Fault::Rst;
        self.reopen_at = None;
        if closed && self.open {
            // A socket that cannot be connected stays open; `rst` still swallows whatever it receives.
            self.open = unlisten(&self.socket, self.local).is_err();
            add(&self.shared.counters.dropped, self.schedule.clear());
        } else if !closed && !self.open {
            match listen_again(self.local) {
                Ok(socket) => {
                    self.socket = socket;
                    self.open = true;
                }
                Err(_) => self.reopen_at = Some(clock::now() + REOPEN_AFTER),
            }
        }
    }

    async fn receive(&mut self) {
        let mut buffer = [0; DATAGRAM_BYTES];
        for _ in 0..BATCH {
            let (count, peer) = match self.socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What an earlier reply met (a closed client port); the next read is about something else.
                Err(_) => continue,
            };
            let counters = &self.shared.counters;
            let query = buffer.get(..count).unwrap_or_default();
            let cut_off = self.shared.conduct.borrow().cut_off;
            if cut_off.is_some_and(|process| self.owners.is_of(peer, process, clock::now())) {
                add(&counters.dropped, 1);
                continue;
            }
            counters.query(query);
            let now = clock::now();
            let fault = self.shared.fault(now);
            let delayed = if fault.loses_udp_query(&mut self.random) {
                None
            } else {
                reply(
                    query,
                    self.shared.transport,
                    fault,
                    self.shared.law,
                    self.shared.manners,
                    &mut self.random,
                )
            };
            let Some(Delayed { after, bytes }) = delayed else {
                add(&counters.dropped, 1);
                continue;
            };
            if after.is_zero() {
                self.send(peer, &bytes, now).await;
            } else if !self.schedule.push(now + after, (peer, bytes)) {
                add(&counters.dropped, 1);
            }
        }
        if self.schedule.next_due().is_some_and(|due| due <= clock::now()) {
            self.send_due().await;
        }
    }

    async fn send_due(&mut self) {
        let now = clock::now();
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.switch();
        }
        while let Some((peer, bytes)) = self.schedule.pop(now) {
            self.send(peer, &bytes, now).await;
        }
    }

    async fn send(&mut self, peer: SocketAddr, bytes: &[u8], now: Instant) {
        let counters = &self.shared.counters;
        let fault = self.shared.fault(now);
        if fault.loses_udp_reply(&mut self.random) || self.socket.send_to(bytes, peer).await.is_err() {
            add(&counters.dropped, 1);
        } else {
            add(&counters.answered, 1);
        }
    }
}
