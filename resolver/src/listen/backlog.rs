//! Replies that wait for a client to read them: how many bytes of one connection, and of all together; and how many of
//! queries that are not whole.
//!
//! A connection holds little of its own. One that holds more needs one of a few places, of which one client address gets
//! half (`fair`), so that all that wait together are bounded whoever they are, and a client that fetches a page's worth
//! of large answers at once is not taken for one that does not read. A reply for which there is no room ends its
//! connection: its client does not read, or asks for more than it can.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::fair::{PerClient, Place};
use crate::places::Places;

/// Bytes that may wait while further queries are read.
const READ_ON_BYTES: usize = 16 * 1024;
/// Bytes that may wait on any connection: 64 ordinary replies several times over.
const ANY_BYTES: usize = 32 * 1024;
/// Bytes that may wait on a connection with a place: 64 replies of 8 KiB.
const PLACE_BYTES: usize = 512 * 1024;
/// Bytes of queries that are not whole, or wait to be looked at, on a connection: some hundred of any length that occurs.
const GATHERED_BYTES: usize = 64 * 1024;
/// Such places: 32 MiB when all of them are full.
const PLACES: usize = 64;

/// The places of all connections.
#[derive(Debug)]
pub(crate) struct Backlogs {
    places: Places,
    shares: Arc<PerClient>,
}

impl Default for Backlogs {
    fn default() -> Self {
        Self {
            places: Places::new(PLACES),
            shares: PerClient::half_of(PLACES),
        }
    }
}

impl Backlogs {
    fn take(&self, client: IpAddr) -> Option<(OwnedSemaphorePermit, Place)> {
        let share = self.shares.take(client)?;
        Some((self.places.take()?, share))
    }
}

/// What waits on one connection.
#[derive(Debug)]
pub(super) struct Backlog {
    client: IpAddr,
    bytes: AtomicUsize,
    has_place: AtomicBool,
    /// Held to take or return it.
    place: Mutex<Option<(OwnedSemaphorePermit, Place)>>,
    /// Bytes of queries that are held.
    gathered: AtomicUsize,
    is_cut: AtomicBool,
    /// Who is to be told of that.
    waker: AtomicWaker,
}

/// Bytes that wait, until this is dropped.
#[derive(Debug)]
pub(super) struct Waits {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.backlog.remove(self.bytes);
    }
}

impl Backlog {
    pub(super) fn new(client: IpAddr) -> Self {
        Self {
            client,
            bytes: AtomicUsize::new(0),
            has_place: AtomicBool::new(false),
            place: Mutex::default(),
            gathered: AtomicUsize::new(0),
            is_cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// A reply of so many bytes waits from here on. False: there is no room for it, and the connection is to end.
    pub(super) fn add(&self, bytes: usize, all: &Backlogs) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        // One reply has room whatever its size: it is what the client asked for.
        if before == 0 || after <= ANY_BYTES || (after <= PLACE_BYTES && self.take_place(all)) {
            return true;
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// As [`Self::add`], for as long as what is returned lives.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize, all: &Backlogs) -> Option<Waits> {
        self.add(bytes, all).then(|| Waits {
            backlog: Arc::clone(self),
            bytes,
        })
    }

    /// So many bytes of queries are held.
    pub(super) fn gather(&self, bytes: usize) {
        self.gathered.fetch_add(bytes, Ordering::Relaxed);
    }

    /// They are not held any more.
    pub(super) fn let_go(&self, bytes: usize) {
        self.gathered.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether the client begins more than it ends.
    pub(super) fn holds_too_much(&self) -> bool {
        self.gathered.load(Ordering::Relaxed) > GATHERED_BYTES
    }

    /// There was no room for a reply: the connection is to end, whatever waits on it.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready when it is to end.
    pub(super) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_cut.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn take_place(&self, all: &Backlogs) -> bool {
        if self.has_place.load(Ordering::Relaxed) {
            return true;
        }
        let mut place = self.place.lock();
        if place.is_none() {
            *place = all.take(self.client);
        }
        let has_place = place.is_some();
        self.has_place.store(has_place, Ordering::Relaxed);
        has_place
    }

    /// So many bytes were written.
    pub(super) fn remove(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before.saturating_sub(bytes) <= ANY_BYTES && self.has_place.load(Ordering::Relaxed) {
            let mut place = self.place.lock();
            self.has_place.store(false, Ordering::Relaxed);
            drop(place.take());
        }
    }

    /// Whether so little is left to be written that more may be asked.
    pub(super) fn reads_on(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) <= READ_ON_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn of(last: u8) -> Backlog {
        Backlog::new([127, 0, 0, last].into())
    }

    /// Fills a backlog with replies of 1 KiB; how many found room.
    fn fill(backlog: &Backlog, all: &Backlogs) -> usize {
        (0..10_000).take_while(|_| backlog.add(1_024, all)).count()
    }

    #[test]
    fn one_client_s_connections_hold_half_of_the_places_and_little_more_than_nothing_each() {
        let all = Backlogs::default();
        let held: Vec<_> = (0..100).map(|_| of(2)).collect();
        let rooms: Vec<_> = held.iter().map(|backlog| fill(backlog, &all)).collect();
        let (large, small) = (PLACE_BYTES / 1_024, ANY_BYTES / 1_024);
        assert_eq!(rooms.iter().filter(|room| **room == large).count(), PLACES / 2);
        assert_eq!(rooms.iter().filter(|room| **room == small).count(), 100 - PLACES / 2);
        assert_eq!(fill(&of(3), &all), large, "another client's");
    }

    #[test]
    fn what_is_written_makes_room_and_returns_the_place() {
        let all = Backlogs::default();
        let (first, second) = (of(2), of(2));
        let _others: Vec<_> = (0..PLACES / 2 - 1)
            .map(|_| {
                let other = of(2);
                fill(&other, &all);
                other
            })
            .collect();
        let filled = fill(&first, &all);
        assert!(fill(&second, &all) < filled, "none is left");
        first.remove(filled * 1_024 - ANY_BYTES);
        assert!(second.add(1_024, &all), "the first one's");
        assert!(!first.add(1_024, &all), "which has none any more");
    }

    #[test]
    fn a_reply_of_any_size_has_room_where_nothing_waits() {
        let all = Backlogs {
            places: Places::new(0),
            ..Backlogs::default()
        };
        let backlog = of(2);
        assert!(backlog.add(65_535, &all));
        assert!(!backlog.add(1, &all));
        backlog.remove(65_535);
        assert!(backlog.add(1, &all));
    }

    #[test]
    fn more_is_asked_while_little_waits_and_what_is_held_waits_as_long_as_it_is_held() {
        let (all, backlog) = (Backlogs::default(), Arc::new(of(2)));
        assert!(backlog.add(READ_ON_BYTES, &all) && backlog.reads_on());
        let held = backlog.hold(1, &all).unwrap();
        assert!(!backlog.reads_on());
        drop(held);
        assert!(backlog.reads_on());
        assert!(backlog.hold(PLACE_BYTES, &all).is_none());
        assert!(backlog.reads_on(), "what has no room does not wait");
        let cx = Context::from_waker(Waker::noop());
        assert!(backlog.poll_cut(&cx).is_pending());
        backlog.cut();
        assert!(backlog.poll_cut(&cx).is_ready());
    }
}
