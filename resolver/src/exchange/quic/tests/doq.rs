//! DNS over QUIC against a server that keeps the rules of RFC 9250, and against those that do not.

use std::time::Duration;

use detour_core::Transport;
use detour_core::outcome::Failure;
use quinn::{Connection, VarInt};
use tokio::time::timeout;

use super::server::{Bench, DEADLINE, Server, answer, closed_with, query};

/// Codes of RFC 9250 section 8.4.
const PROTOCOL_ERROR: u64 = 2;
const EXCESSIVE_LOAD: u32 = 4;

fn bench() -> (Server, Bench) {
    bench_with(100, false)
}

fn bench_with(streams: u32, early_data: bool) -> (Server, Bench) {
    let server = Server::new(b"doq", streams);
    let bench = Bench::new(&server, Transport::Quic, early_data);
    (server, bench)
}

/// Answers the next query as the rules have it.
async fn serve(connection: &Connection) {
    let (mut send, _, query) = query(connection).await;
    send.write_all(&answer(&query)).await.unwrap();
    send.finish().unwrap();
}

#[tokio::test]
async fn a_query_has_a_stream_of_its_own_without_an_id_and_padded() {
    let (server, mut bench) = bench();
    let asked = [bench.ask(), bench.ask(), bench.ask()];
    let connection = server.connection().await;
    let mut streams = Vec::new();
    for _ in &asked {
        let (send, recv, query) = query(&connection).await;
        assert_eq!((query[..2].to_vec(), query.len() % 128), (vec![0, 0], 0));
        // edns-tcp-keepalive is option 11 (RFC 9250 section 5.5.2): the query has one OPT, and padding alone in it.
        let option = &query[query.windows(3).position(|w| w == [0, 0, 41]).unwrap() + 11..][..2];
        assert_eq!(option, [0, 12]);
        streams.push((send, recv, query));
    }
    // In another order.
    for (mut send, _, query) in streams.into_iter().rev() {
        send.write_all(&answer(&query)).await.unwrap();
        send.finish().unwrap();
    }
    for asked in asked {
        asked.answered().await;
    }
}

#[tokio::test]
async fn an_answer_counts_before_the_end_of_its_stream() {
    let (server, mut bench) = bench();
    let asked = bench.ask();
    let connection = server.connection().await;
    let (mut send, _, sent) = query(&connection).await;
    send.write_all(&answer(&sent)).await.unwrap();
    asked.answered().await;
    // The stream is given up, the connection is not.
    timeout(DEADLINE, send.stopped()).await.unwrap().unwrap();
    let asked = bench.ask();
    serve(&connection).await;
    asked.answered().await;
}

#[tokio::test]
async fn a_server_that_breaks_the_rules_is_not_asked_on_that_connection_any_more() {
    type Break = fn(&[u8]) -> Vec<u8>;
    let breaks: [(Break, Option<Failure>); 4] = [
        // No answer at all.
        (|_| Vec::new(), Some(Failure::Garbage)),
        // Half of one.
        (|query| answer(query)[..20].to_vec(), Some(Failure::Garbage)),
        // An id.
        (
            |query| {
                let mut frame = answer(query);
                frame[3] = 1;
                frame
            },
            Some(Failure::Garbage),
        ),
        // One too many.
        (|query| answer(query).repeat(2), None),
    ];
    for (bytes, failure) in breaks {
        let (server, mut bench) = bench();
        let asked = bench.ask();
        let connection = server.connection().await;
        let (mut send, _, sent) = query(&connection).await;
        send.write_all(&bytes(&sent)).await.unwrap();
        send.finish().unwrap();
        match failure {
            Some(failure) => asked.failed(failure).await,
            None => asked.answered().await,
        }
        assert_eq!(closed_with(&connection).await, PROTOCOL_ERROR);
        let asked = bench.ask();
        let connection = server.connection().await;
        serve(&connection).await;
        asked.answered().await;
    }
}

#[tokio::test]
async fn an_answer_that_talks_of_tcp_is_none() {
    let (server, mut bench) = bench();
    let asked = bench.ask();
    let connection = server.connection().await;
    let (mut send, _, sent) = query(&connection).await;
    // The padding of the query becomes edns-tcp-keepalive with 10 s in it, and less padding.
    let mut frame = answer(&sent);
    let opt = frame.windows(3).position(|w| w == [0, 0, 41]).unwrap() + 11;
    let padding = u16::from_be_bytes([frame[opt + 2], frame[opt + 3]]) - 6;
    let [high, low] = padding.to_be_bytes();
    frame[opt..opt + 10].copy_from_slice(&[0, 11, 0, 2, 0, 100, 0, 12, high, low]);
    send.write_all(&frame).await.unwrap();
    send.finish().unwrap();
    asked.failed(Failure::Garbage).await;
    closed_with(&connection).await;
}

#[tokio::test]
async fn a_stream_that_is_reset_costs_its_query_alone() {
    let (server, mut bench) = bench();
    let (first, second) = (bench.ask(), bench.ask());
    let connection = server.connection().await;
    let (mut send, _, _) = query(&connection).await;
    send.reset(VarInt::from_u32(EXCESSIVE_LOAD)).unwrap();
    serve(&connection).await;
    first.failed(Failure::Reset).await;
    second.answered().await;
}

#[tokio::test]
async fn a_server_that_stops_reading_may_answer_all_the_same() {
    let (server, mut bench) = bench();
    let asked = bench.ask();
    let connection = server.connection().await;
    let (mut send, mut recv) = timeout(DEADLINE, connection.accept_bi()).await.unwrap().unwrap();
    let mut head = [0; 2];
    recv.read_exact(&mut head).await.unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(head))];
    recv.read_exact(&mut message).await.unwrap();
    drop(recv.stop(VarInt::from_u32(0)));
    send.write_all(&answer(&message)).await.unwrap();
    send.finish().unwrap();
    asked.answered().await;
}

#[tokio::test]
async fn queries_of_a_connection_that_ends_are_asked_once_more() {
    let (server, mut bench) = bench();
    let asked = bench.ask();
    let connection = server.connection().await;
    serve(&connection).await;
    asked.answered().await;
    let asked = bench.ask();
    query(&connection).await;
    connection.close(VarInt::from_u32(0), b"");
    let next = server.connection().await;
    serve(&next).await;
    asked.answered().await;
    // The second time it fails.
    let asked = bench.ask();
    query(&next).await;
    next.close(VarInt::from_u32(0), b"");
    let last = server.connection().await;
    query(&last).await;
    last.close(VarInt::from_u32(0), b"");
    asked.failed(Failure::Reset).await;
}

#[tokio::test]
async fn a_server_that_allows_no_stream_is_given_up_soon() {
    let (server, mut bench) = bench_with(0, false);
    let asked = bench.ask();
    let _connections = tokio::join!(server.connection(), server.connection());
    timeout(Duration::from_secs(3), asked.failed(Failure::Reset))
        .await
        .unwrap();
}

#[tokio::test]
async fn another_protocol_is_a_failure_of_tls() {
    let server = Server::new(b"h3", 100);
    let mut bench = Bench::new(&server, Transport::Quic, false);
    let asked = bench.ask();
    tokio::join!(server.refused(), asked.failed(Failure::Tls));
}

#[tokio::test]
async fn queries_leave_with_the_first_packet_only_where_that_is_wanted() {
    for early_data in [false, true] {
        let (server, mut bench) = bench_with(100, early_data);
        let asked = bench.ask();
        let connection = server.connection().await;
        serve(&connection).await;
        asked.answered().await;
        // Until the ticket is there.
        let asked = bench.ask();
        serve(&connection).await;
        asked.answered().await;
        connection.close(VarInt::from_u32(0), b"");
        bench.renew();
        let asked = bench.ask();
        let connection = server.early_connection().await;
        let (mut send, mut recv) = timeout(DEADLINE, connection.accept_bi()).await.unwrap().unwrap();
        assert_eq!(recv.is_0rtt(), early_data);
        let frame = timeout(DEADLINE, recv.read_to_end(1 << 16)).await.unwrap().unwrap();
        send.write_all(&answer(&frame[2..])).await.unwrap();
        send.finish().unwrap();
        asked.answered().await;
    }
}

#[tokio::test]
async fn what_is_in_flight_moves_to_a_new_socket() {
    let (server, mut bench) = bench();
    let asked = bench.ask();
    let connection = server.connection().await;
    let (mut send, _, sent) = query(&connection).await;
    let before = connection.remote_address();
    bench.pass(Duration::from_secs(5));
    bench.renew();
    let moved = async {
        while connection.remote_address() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, moved).await.unwrap();
    send.write_all(&answer(&sent)).await.unwrap();
    send.finish().unwrap();
    asked.answered().await;
    // What comes takes a connection of its own.
    let asked = bench.ask();
    let connection = server.connection().await;
    serve(&connection).await;
    asked.answered().await;
}

#[tokio::test]
async fn a_connection_that_is_quiet_is_asked_for_a_sign_of_life_only_while_a_query_waits() {
    let (server, mut bench) = bench();
    let asked = bench.ask();
    let connection = server.connection().await;
    serve(&connection).await;
    asked.answered().await;
    // Idle: the looks at it see nothing to do.
    bench.pass(Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(connection.stats().frame_rx.max_data, 0);
    let asked = bench.ask();
    let (mut send, _, sent) = query(&connection).await;
    // It is looked at twice a second: what has come until then is no news after.
    tokio::time::sleep(Duration::from_millis(700)).await;
    bench.pass(Duration::from_millis(1_200));
    let pinged = async {
        while connection.stats().frame_rx.max_data == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, pinged).await.unwrap();
    // The sign came: two seconds after the last one, the connection is still the one that is asked.
    tokio::time::sleep(Duration::from_millis(600)).await;
    bench.pass(Duration::from_millis(1_200));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let next = bench.ask();
    serve(&connection).await;
    next.answered().await;
    send.write_all(&answer(&sent)).await.unwrap();
    send.finish().unwrap();
    asked.answered().await;
}
