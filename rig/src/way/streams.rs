//! Connections on a faulty way: bytes in their order, late.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::{REPEATED, Shared, State};
use crate::clock;
use crate::random::Random;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1_024;
/// Pieces of one direction of a connection that are under way; more wait to be read.
const UNDER_WAY_MAX: usize = 1_024;
/// Asked of one read.
const PIECE_BYTES: usize = 16_384;
/// After a failed accept (out of descriptors): what is short may have come back by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Accepts until it is dropped, which ends every connection.
pub(super) async fn pass(listener: TcpListener, shared: Shared, mut random: Random) {
    let mut connections = JoinSet::new();
    loop {
        let room = connections.len() < CONNECTIONS_MAX;
        let accepted = tokio::select! {
            // Cancel-safe: an ended task stays in the set until it is joined.
            Some(_) = connections.join_next() => continue,
            // Cancel-safe: a connection is taken from the backlog only when the future completes.
            accepted = listener.accept(), if room => accepted,
        };
        let Ok((near, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let random = Random::new(random.next_u64());
        connections.spawn(connection(near, shared.clone(), random));
    }
}

/// One connection, to the end of both directions or to a reset.
async fn connection(near: TcpStream, shared: Shared, mut random: Random) {
    let resets = shared.state.borrow().resets;
    // The kernel has answered for the far end already: what comes first waits as long as that would have taken.
    let accepted = clock::now();
    let mut state = shared.state.clone();
    let reset = async move {
        // A way that is gone ends its connections with itself.
        if state.wait_for(|state| state.resets != resets).await.is_err() {
            std::future::pending().await
        }
    };
    let carried = async {
        until_open(&shared).await;
        let one_way = shared.faults().takes(&mut random);
        let Ok(far) = TcpStream::connect(shared.target).await else {
            return;
        };
        // Where that cannot be had, small pieces are later than they need to be.
        near.set_nodelay(true).ok();
        far.set_nodelay(true).ok();
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        let back = Random::new(random.next_u64());
        tokio::join!(
            carry(near_read, far_write, shared.clone(), random, accepted + one_way * 2),
            carry(far_read, near_write, shared.clone(), back, accepted)
        );
    };
    tokio::select! {
        // Cancel-safe: asks for a state. Dropping the halves closes them.
        () = reset => {}
        // It is not polled again.
        () = carried => {}
    }
}

/// Waits until the way is not cut.
async fn until_open(shared: &Shared) {
    let mut state = shared.state.clone();
    let is_open = |state: &State| !state.faults.is_cut;
    if state.wait_for(is_open).await.is_err() {
        std::future::pending().await
    }
}

/// One direction; nothing leaves as if it had been sent before `from`.
async fn carry(mut read: OwnedReadHalf, mut write: OwnedWriteHalf, shared: Shared, mut random: Random, from: Instant) {
    // Full: the reading waits, and so does who sends.
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY_MAX);
    let reads = {
        let shared = shared.clone();
        async move {
            let mut buffer = vec![0; PIECE_BYTES];
            let mut last = from;
            while let Ok(count) = read.read(&mut buffer).await {
                let faults = shared.faults();
                let repeated = if random.chance(faults.loss) {
                    REPEATED
                } else {
                    Duration::ZERO
                };
                let mut piece = buffer.get(..count).unwrap_or_default().to_vec();
                faults.corrupt(&mut piece, &mut random);
                // What was sent later is not there earlier.
                last = last.max(clock::now().max(from) + faults.takes(&mut random) + repeated);
                if sender.send((last, piece)).await.is_err() || count == 0 {
                    return;
                }
            }
        }
    };
    let writes = async move {
        while let Some((due, piece)) = queue.recv().await {
            sleep_until(due).await;
            until_open(&shared).await;
            let written = if piece.is_empty() {
                write.shutdown().await
            } else {
                shared.note_passed();
                write.write_all(&piece).await
            };
            if written.is_err() {
                return;
            }
        }
    };
    tokio::join!(reads, writes);
}
