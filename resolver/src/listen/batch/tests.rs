//! Both ways to call the system, alike.

use std::net::UdpSocket;
use std::time::Duration;

use super::*;

fn socket(address: &str) -> (Datagrams, u16) {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    (Datagrams::new(socket).unwrap(), port)
}

/// A client of `to`, which must hear from nobody else.
fn client(local: &str, to: (&str, u16)) -> UdpSocket {
    let client = UdpSocket::bind(local).unwrap();
    client.connect(to).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client
}

/// Twenty datagrams to each address are answered from there, in batches, by their own bytes.
fn answers_all<A: Address, S: Calls<A>>(bound: &str, local: &str, asked: &[&str]) {
    let (socket, port) = socket(bound);
    let mut batch = Batch::<A, S>::new(&socket);
    let nothing = batch.receive(&socket).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    let clients: Vec<UdpSocket> = asked.iter().map(|to| client(local, (*to, port))).collect();
    for number in 0..20_u8 {
        for client in &clients {
            client.send(&[number; 40]).unwrap();
        }
    }
    let mut answered = 0;
    while answered < 20 * clients.len() {
        let is_full = batch.receive(&socket).unwrap();
        let mut count = 0;
        batch.answer(|query, _, out| {
            out.extend_from_slice(query);
            count += 1;
        });
        assert_eq!(is_full, count == BATCH);
        batch.send(&socket);
        answered += count;
    }
    for client in &clients {
        for number in 0..20 {
            let mut reply = [0; 64];
            let size = client.recv(&mut reply).unwrap();
            assert_eq!(reply[..size], [number; 40]);
        }
    }
}

macro_rules! tests_of {
    ($name:ident, $system:ident) => {
        mod $name {
            use super::*;

            #[test]
            fn replies_leave_from_the_address_that_was_asked() {
                type V4 = super::super::$name::$system<SockaddrIn>;
                answers_all::<_, V4>("127.0.0.1:0", "127.0.0.1:0", &["127.0.0.1"]);
                answers_all::<_, V4>(
                    "0.0.0.0:0",
                    "127.0.0.1:0",
                    &["127.0.0.1", "127.0.0.2", "127.0.0.3"],
                );
            }

            #[test]
            fn replies_leave_from_the_address_that_was_asked_by_ipv6() {
                type V6 = super::super::$name::$system<SockaddrIn6>;
                if UdpSocket::bind("[::1]:0").is_ok() {
                    answers_all::<_, V6>("[::1]:0", "[::1]:0", &["::1"]);
                    answers_all::<_, V6>("[::]:0", "[::1]:0", &["::1"]);
                }
            }
        }
    };
}

#[cfg(target_os = "linux")]
tests_of!(many, ManyACall);
tests_of!(plain, OneACall);
