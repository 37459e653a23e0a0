//! What is known of a server that does not shake hands, by the socket alone.

mod doq;
mod h3;
mod server;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use detour_core::outcome::Failure;
use detour_core::{Time, Transport};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{QuicDialer, QuicSockets};
use crate::exchange::RemoteTls;
use crate::exchange::stream::link::LinkParts;
use crate::exchange::tls::{Group, TlsName, Trust};
use crate::tasks::Tasks;
use crate::testing::Still;

fn dialer(sockets: &Arc<QuicSockets>, address: SocketAddr) -> QuicDialer {
    let tls = RemoteTls {
        name: TlsName::new("dns.example").unwrap(),
        trust: Trust::load(&[], &Group::ALL).unwrap(),
        url: None,
        early_data: false,
    };
    QuicDialer::new(sockets, Transport::Quic, address.into(), &tls).unwrap()
}

/// Less than connecting may take.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Why there is no connection to `address`.
async fn refused(address: SocketAddr) -> Failure {
    let tasks = Tasks::default();
    let sockets = QuicSockets::new(&tasks);
    let parts = LinkParts {
        arrivals: mpsc::channel(1).0,
        token: tasks.token().clone(),
        tasks,
    };
    let dialer = dialer(&sockets, address);
    dialer.dial(&[address], &Still, parts).await.err().unwrap().failure
}

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_closed_port_is_known_at_once() {
    let (socket, address) = socket();
    drop(socket);
    assert_eq!(timeout(AT_ONCE, refused(address)).await, Ok(Failure::Unreachable));
}

#[tokio::test]
async fn silence_is_told_from_an_answer_that_is_no_handshake() {
    let (_silent, address) = socket();
    let (talker, other) = socket();
    thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((_, from)) = talker.recv_from(&mut buffer) {
            talker.send_to(b"who is there?", from).unwrap();
        }
    });
    let (silence, talk) = tokio::join!(refused(address), refused(other));
    assert_eq!((silence, talk), (Failure::ConnectTimeout, Failure::TlsStalled));
}

#[tokio::test]
async fn where_there_is_no_route_nothing_is_tried() {
    // Broadcast is not for sockets that did not ask for it: refused by the system like a route that is not there.
    let everybody = "255.255.255.255:853".parse().unwrap();
    assert_eq!(timeout(AT_ONCE, refused(everybody)).await, Ok(Failure::Local));
}

#[tokio::test]
async fn a_new_socket_takes_the_place_of_the_old_one() {
    let tasks = Tasks::default();
    let sockets = QuicSockets::new(&tasks);
    let (server, address) = socket();
    server.set_nonblocking(true).unwrap();
    let server = tokio::net::UdpSocket::from_std(server).unwrap();
    let port = async || {
        let mut buffer = [0; 2_048];
        server.recv_from(&mut buffer).await.unwrap().1.port()
    };
    let own = dialer(&sockets, address);
    let parts = LinkParts {
        arrivals: mpsc::channel(1).0,
        token: tasks.token().clone(),
        tasks: tasks.clone(),
    };
    let to = [address];
    let both = async {
        let first = port().await;
        own.renew(Time::at_ms(10_000));
        // A second one within the second is the same change.
        own.renew(Time::at_ms(10_500));
        let mut next = first;
        while next == first {
            next = port().await;
        }
        next
    };
    let (failed, moved) = tokio::join!(own.dial(&to, &Still, parts), both);
    assert_eq!(failed.err(), Some(Failure::ConnectTimeout.into()));
    assert_ne!(moved, 0);
}
