//! Several addresses of one provider, some of which lead nowhere (RFC 8305): whoever is there first is asked, nobody waits
//! long for the others, and each address family is judged by itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use detour_rig::{Transport, clock};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::client::PATIENCE;
use crate::names::{Directory, MOVING, Trusted, ask, port_of, whys};
use crate::node::{Node, config, until};

/// How long the node connects before it gives up: less than this, and nobody waited for an address that leads nowhere.
const CONNECT: Duration = Duration::from_secs(2);
/// Connections that a listener of the shortest backlog completes, with room to spare.
const FILLING: usize = 16;

/// An address at which nothing is heard, neither a connection nor a word that there is none.
struct Hole {
    _listener: TcpListener,
    _filling: Vec<TcpStream>,
    _datagrams: UdpSocket,
}

/// Makes a hole of this address: datagrams are not read, and a listener whose backlog is full drops who comes. `None` where
/// the machine has no such address.
async fn hole(at: SocketAddr) -> Option<Hole> {
    let socket = if at.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket.ok()?;
    socket.bind(at).ok()?;
    let listener = socket.listen(1).unwrap();
    let mut filling = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(at)).await {
        filling.push(connected.unwrap());
        assert!(filling.len() < FILLING, "the backlog does not fill");
    }
    Some(Hole {
        _listener: listener,
        _filling: filling,
        _datagrams: UdpSocket::bind(at).await.unwrap(),
    })
}

/// Asks for a new name, which is answered before anybody gives up connecting.
async fn ask_quickly(node: &Node, asked: &mut u32) {
    let started = clock::now();
    assert!(ask(node.dns(), asked).await, "{}", node.log());
    let took = clock::now() - started;
    assert!(took < CONNECT, "{took:?}: {}", node.log());
}

#[tokio::test]
async fn of_two_addresses_the_one_that_is_there_wins_and_the_other_is_nobodys_fault() {
    let (trusted, directory) = (Trusted::new(), Directory::start().await);
    directory.knows(MOVING, &["127.0.0.4", "127.0.0.2"]);
    let here = trusted.fake_at([127, 0, 0, 2], 0);
    for (transport, scheme) in [
        (Transport::Dot, "tls"),
        (Transport::Doh, "https"),
        (Transport::Doq, "quic"),
        (Transport::Doh3, "h3"),
    ] {
        let port = port_of(&here, transport);
        let _hole = hole(SocketAddr::from(([127, 0, 0, 4], port))).await.unwrap();
        let block = trusted.block("moving", &[&format!("{scheme}://{MOVING}:{port}")]);
        let node = Node::start(&(config(&[block]) + "\n" + &directory.table())).await;
        let mut asked = 0;
        for _ in 0..3 {
            ask_quickly(&node, &mut asked).await;
        }
        assert_eq!(whys(&node, "moving").await, ["unresolved", "healthy"], "{transport}");
        let changes = "detour_endpoint_state_changes_total";
        let suspected = node.metric(changes, &[MOVING, "to=\"suspect\""]).await;
        assert_eq!(suspected, 0, "{transport}: {}", node.log());
    }
}

#[tokio::test]
async fn a_family_that_leads_nowhere_costs_little_and_only_itself() {
    let (trusted, directory) = (Trusted::new(), Directory::start().await);
    directory.knows(MOVING, &["::1", "127.0.0.2"]);
    let here = trusted.fake_at([127, 0, 0, 2], 0);
    let port = port_of(&here, Transport::Dot);
    let v6 = SocketAddr::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), port);
    // A machine without IPv6 says so at once, and the rest is the same.
    let hole = hole(v6).await;
    let named = format!("tls://{MOVING}:{port}");
    let addresses = [
        format!("tls://{v6}#{MOVING}"),
        format!("tls://127.0.0.2:{port}#{MOVING}"),
    ];
    for (endpoints, more, has_clients) in [
        (vec![named.as_str()], directory.table(), true),
        (addresses.iter().map(String::as_str).collect(), String::new(), false),
    ] {
        let block = trusted.block("moving", &endpoints);
        let node = Node::start(&(config(&[block]) + "\n" + &more)).await;
        if hole.is_some() && !has_clients {
            // A client's query hedges; without one the other family is looked at, before this one has failed.
            until("the other family is looked at", PATIENCE, async || {
                node.metric("detour_probes_total", &["why=\"family\""]).await >= 1
            })
            .await;
        }
        let mut asked = 0;
        for _ in 0..3 {
            ask_quickly(&node, &mut asked).await;
        }
        until("the family that leads nowhere is left", PATIENCE, async || {
            ask_quickly(&node, &mut asked).await;
            let whys = whys(&node, "moving").await;
            assert_ne!(whys[0], "unresolved");
            whys[0] != "healthy" && whys[1] == "healthy"
        })
        .await;
        // From then on nothing is begun there first.
        for _ in 0..5 {
            ask_quickly(&node, &mut asked).await;
        }
    }
}
