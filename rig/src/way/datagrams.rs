//! Datagrams on a faulty way: a socket towards the target for each that sends, so that answers find back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::{OVERTAKEN, Shared};
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

/// Where a datagram goes: to whom a socket is connected, or to an address.
#[derive(Clone)]
struct Post {
    socket: Arc<UdpSocket>,
    to: Option<SocketAddr>,
    room: Arc<Semaphore>,
}

/// Passes datagrams until it is dropped.
pub(super) async fn pass(front: UdpSocket, shared: Shared, mut random: Random) {
    let front = Arc::new(front);
    let [there, here] = [(); 2].map(|()| Arc::new(Semaphore::new(UNDER_WAY_MAX)));
    let mut senders = BTreeMap::<SocketAddr, Sender>::new();
    let (mut readers, mut under_way) = (JoinSet::new(), JoinSet::new());
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut number = 0;
    loop {
        let received = tokio::select! {
            // Cancel-safe: an ended task stays in the set until it is joined.
            Some(_) = under_way.join_next() => continue,
            // Cancel-safe: likewise.
            Some(_) = readers.join_next() => continue,
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
            let post = Post {
                socket: Arc::clone(&front),
                to: Some(from),
                room: Arc::clone(&here),
            };
            let random = Random::new(random.next_u64());
            let task = readers.spawn(read_back(Arc::clone(&socket), post, shared.clone(), random));
            senders.insert(from, Sender { socket, task, number });
        }
        if let Some(sender) = senders.get(&from) {
            let post = Post {
                socket: Arc::clone(&sender.socket),
                to: None,
                room: Arc::clone(&there),
            };
            let datagram = buffer.get(..count).unwrap_or_default().to_vec();
            carry(datagram, &post, &shared, &mut random, &mut under_way).await;
        }
    }
}

async fn connected(target: SocketAddr) -> Option<Arc<UdpSocket>> {
    let any = SocketAddr::new(target.ip(), 0);
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

/// The target's answers to one sender.
async fn read_back(socket: Arc<UdpSocket>, post: Post, shared: Shared, mut random: Random) {
    let mut under_way = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        tokio::select! {
            // Cancel-safe: an ended task stays in the set until it is joined.
            Some(_) = under_way.join_next() => {}
            // Cancel-safe: a datagram is read when this completes, and not before.
            received = socket.recv(&mut buffer) => {
                // A closed port: whoever asks is not told by a way.
                let Ok(count) = received else { continue };
                let datagram = buffer.get(..count).unwrap_or_default().to_vec();
                carry(datagram, &post, &shared, &mut random, &mut under_way).await;
            }
        }
    }
}

/// What becomes of one datagram.
async fn carry(datagram: Vec<u8>, post: &Post, shared: &Shared, random: &mut Random, under_way: &mut JoinSet<()>) {
    let faults = shared.faults();
    let is_too_long = faults.datagram_bytes_max.is_some_and(|max| datagram.len() > max);
    if faults.is_cut || faults.blocks_udp || is_too_long || random.chance(faults.loss) {
        return;
    }
    let copies = if random.chance(faults.duplicate) { 2 } else { 1 };
    for _ in 0..copies {
        let mut datagram = datagram.clone();
        faults.corrupt(&mut datagram, random);
        let overtaken = if random.chance(faults.reorder) {
            OVERTAKEN
        } else {
            Duration::ZERO
        };
        let late = faults.takes(random) + overtaken;
        shared.note_passed();
        if late.is_zero() {
            send(post, &datagram).await;
        } else if let Ok(room) = Arc::clone(&post.room).try_acquire_owned() {
            let post = post.clone();
            under_way.spawn(async move {
                sleep(late).await;
                send(&post, &datagram).await;
                drop(room);
            });
        }
    }
}

/// What cannot be passed on is lost, as on any network.
async fn send(post: &Post, datagram: &[u8]) {
    match post.to {
        Some(to) => post.socket.send_to(datagram, to).await.ok(),
        None => post.socket.send(datagram).await.ok(),
    };
}
