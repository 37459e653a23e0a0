//! Datagrams on a faulty way: a socket towards the target for each that sends, so that answers find back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::{OVERTAKEN, Shared};
use crate::clock;
use crate::random::Random;

/// Largest datagram.
const DATAGRAM_BYTES: usize = 65_535;
/// Senders known at once; with one more the one is forgotten that has been known longest.
const SENDERS_MAX: usize = 2_048;
/// Datagrams of one direction that are under way; more are lost.
const UNDER_WAY_MAX: usize = 16_384;

/// A sender.
struct Sender {
    socket: Arc<UdpSocket>,
    task: AbortHandle,
    number: u64,
}

/// A datagram under way: when it is there, through which socket it leaves, and to whom if that is not connected.
struct Letter {
    due: Instant,
    socket: Arc<UdpSocket>,
    to: Option<SocketAddr>,
    bytes: Vec<u8>,
}

/// Passes datagrams until it is dropped.
pub(super) async fn pass(front: UdpSocket, shared: Shared, mut random: Random) {
    let front = Arc::new(front);
    let mut senders = BTreeMap::<SocketAddr, Sender>::new();
    let mut tasks = JoinSet::new();
    let [there, here] = [(); 2].map(|()| {
        let (letters, queue) = mpsc::channel(UNDER_WAY_MAX);
        tasks.spawn(deliver(queue));
        letters
    });
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut number = 0;
    loop {
        let received = tokio::select! {
            // Cancel-safe: an ended task stays in the set until it is joined.
            Some(_) = tasks.join_next() => continue,
            // Cancel-safe: a datagram is read when this completes, and not before.
            received = front.recv_from(&mut buffer) => received,
        };
        let Ok((count, from)) = received else { continue };
        if !senders.contains_key(&from) {
            let Some(socket) = connected(shared.target).await else {
                continue;
            };
            forget_oldest(&mut senders);
            number += 1;
            let random = Random::new(random.next_u64());
            let back = (Arc::clone(&front), from, here.clone());
            let task = tasks.spawn(read_back(Arc::clone(&socket), back, shared.clone(), random));
            senders.insert(from, Sender { socket, task, number });
        }
        if let Some(sender) = senders.get(&from) {
            let datagram = buffer.get(..count).unwrap_or_default();
            for (due, bytes) in what_passes(datagram, &shared, &mut random) {
                let socket = Arc::clone(&sender.socket);
                let to = None;
                post(&there, Letter { due, socket, to, bytes });
            }
        }
    }
}

async fn connected(target: SocketAddr) -> Option<Arc<UdpSocket>> {
    let any = match target {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(target).await.ok()?;
    Some(Arc::new(socket))
}

fn forget_oldest(senders: &mut BTreeMap<SocketAddr, Sender>) {
    if senders.len() < SENDERS_MAX {
        return;
    }
    let oldest = senders.iter().min_by_key(|(_, sender)| sender.number);
    if let Some(address) = oldest.map(|(address, _)| *address)
        && let Some(sender) = senders.remove(&address)
    {
        sender.task.abort();
    }
}

/// The target's answers to one sender: through which socket, to whom, and by which queue.
async fn read_back(
    socket: Arc<UdpSocket>,
    (front, to, letters): (Arc<UdpSocket>, SocketAddr, mpsc::Sender<Letter>),
    shared: Shared,
    mut random: Random,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        // A closed port: whoever asks is not told by a way.
        let Ok(count) = socket.recv(&mut buffer).await else {
            continue;
        };
        for (due, bytes) in what_passes(buffer.get(..count).unwrap_or_default(), &shared, &mut random) {
            let (socket, to) = (Arc::clone(&front), Some(to));
            post(&letters, Letter { due, socket, to, bytes });
        }
    }
}

/// What becomes of one datagram: nothing, one, or two, and when they are there.
fn what_passes(datagram: &[u8], shared: &Shared, random: &mut Random) -> Vec<(Instant, Vec<u8>)> {
    let faults = shared.faults();
    let is_too_long = faults.datagram_bytes_max.is_some_and(|max| datagram.len() > max);
    if faults.is_cut || faults.blocks_udp || is_too_long || random.chance(faults.loss) {
        return Vec::new();
    }
    let copies = if random.chance(faults.duplicate) { 2 } else { 1 };
    let copy = |_| {
        let mut bytes = datagram.to_vec();
        faults.corrupt(&mut bytes, random);
        let overtaken = if random.chance(faults.reorder) {
            OVERTAKEN
        } else {
            Duration::ZERO
        };
        shared.note_passed();
        (clock::now() + faults.takes(random) + overtaken, bytes)
    };
    (0..copies).map(copy).collect()
}

/// Full: it is lost, as on any network.
fn post(letters: &mpsc::Sender<Letter>, letter: Letter) {
    drop(letters.try_send(letter));
}

/// Hands over what is due; what is due at the same time in the order in which it came.
async fn deliver(mut queue: mpsc::Receiver<Letter>) {
    let mut under_way = BTreeMap::<(Instant, u64), Letter>::new();
    let mut number = 0;
    loop {
        let next = under_way.first_key_value().map(|((due, _), _)| *due);
        let has_room = under_way.len() < UNDER_WAY_MAX;
        tokio::select! {
            biased;
            // Cancel-safe: recv of a channel. What has come is sorted in before anything leaves.
            letter = queue.recv(), if has_room => {
                let Some(letter) = letter else { return };
                number += 1;
                under_way.insert((letter.due, number), letter);
            }
            // Cancel-safe: a timer.
            () = sleep_until(next.unwrap_or_else(clock::now)), if next.is_some() => {
                let Some((_, letter)) = under_way.pop_first() else { continue };
                let sent = match letter.to {
                    Some(to) => letter.socket.send_to(&letter.bytes, to).await,
                    None => letter.socket.send(&letter.bytes).await,
                };
                // What cannot be passed on is lost.
                drop(sent);
            }
        }
    }
}
