//! A provider that answers as a test tells it, for what the rig's fakes never say; and that keeps what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use detour_rig::Transport;
use detour_rig::process::provider_block;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::client::framed;
use crate::message::wire_name;

/// What a query came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Udp,
    Tcp,
}

/// What to say to a query, in order.
type Script = dyn Fn(&[u8], Carrier) -> Vec<Vec<u8>> + Send + Sync;
/// What was asked.
type Notes = Mutex<Vec<(Carrier, Vec<u8>)>>;

/// A provider over UDP, and over TCP where a test wants that; ends when dropped.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    asked: Arc<Notes>,
    _tasks: JoinSet<()>,
}

impl Scripted {
    /// Answers each datagram with what `script` makes of it, and no stream; `None` is silence.
    pub(crate) async fn start(script: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::start_at([127, 0, 0, 1], script).await
    }

    /// As [`Self::start`], at a loopback address of one's choice.
    pub(crate) async fn start_at(
        ip: [u8; 4],
        script: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(SocketAddr::from((ip, 0))).await.unwrap();
        let script = move |query: &[u8], _| script(query).into_iter().collect();
        let script: Arc<Script> = Arc::new(script);
        Self::serve(socket, None, script)
    }

    /// As [`Self::start`], over TCP too, at the same port; and there may be several replies to one query.
    pub(crate) async fn start_both<R: IntoIterator<Item = Vec<u8>>>(
        script: impl Fn(&[u8], Carrier) -> R + Send + Sync + 'static,
    ) -> Self {
        let script = move |query: &[u8], carrier| script(query, carrier).into_iter().collect();
        let script: Arc<Script> = Arc::new(script);
        for _ in 0..100 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                return Self::serve(socket, Some(listener), script);
            }
        }
        panic!("no port is free for both");
    }

    fn serve(socket: UdpSocket, listener: Option<TcpListener>, script: Arc<Script>) -> Self {
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        if let Some(listener) = listener {
            let (notes, script) = (Arc::clone(&asked), Arc::clone(&script));
            tasks.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (notes, script) = (Arc::clone(&notes), Arc::clone(&script));
                    connections.spawn(async move { serve_stream(stream, &notes, &*script).await });
                }
            });
        }
        let notes = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut buffer = vec![0; 4_096];
            loop {
                let Ok((size, client)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let query = buffer[..size].to_vec();
                let replies = script(&query, Carrier::Udp);
                notes.lock().unwrap().push((Carrier::Udp, query));
                for reply in replies {
                    socket.send_to(&reply, client).await.ok();
                }
            }
        });
        Self {
            address,
            asked,
            _tasks: tasks,
        }
    }

    /// The queries so far.
    pub(crate) fn asked(&self) -> Vec<Vec<u8>> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(_, query)| query.clone()).collect()
    }

    /// The queries for this name so far, by what they came.
    pub(crate) fn asked_for(&self, name: &str) -> Vec<(Carrier, Vec<u8>)> {
        let asked = self.asked.lock().unwrap();
        let is_for = |query: &[u8]| query[12..question_end(query) - 4].eq_ignore_ascii_case(&wire_name(name));
        asked.iter().filter(|(_, query)| is_for(query)).cloned().collect()
    }

    /// Its part of a configuration.
    pub(crate) fn block(&self, name: &str) -> String {
        provider_block(name, &[Transport::Udp.endpoint(self.address, None)])
    }
}

/// Answers what comes on one connection, in order.
async fn serve_stream(mut stream: TcpStream, notes: &Notes, script: &Script) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let replies = script(&query, Carrier::Tcp);
        notes.lock().unwrap().push((Carrier::Tcp, query));
        for reply in replies {
            if stream.write_all(&framed(&reply)).await.is_err() {
                return;
            }
        }
    }
}

/// The reply to `query` that repeats its id and question and says no more than the counts of `records`: one list for
/// each of answer, authority and additional.
pub(crate) fn reply_to(query: &[u8], rcode: u8, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let mut out = query[..2].to_vec();
    out.extend_from_slice(&[0x81, 0x80 | rcode, 0, 1]);
    for section in sections {
        out.extend_from_slice(&u16::try_from(section.len()).unwrap().to_be_bytes());
    }
    out.extend_from_slice(&query[12..question_end(query)]);
    out.extend(sections.into_iter().flatten().flatten());
    out
}

/// Where the question of a query ends; its name is not compressed.
pub(crate) fn question_end(query: &[u8]) -> usize {
    let mut at = 12;
    while query[at] != 0 {
        at += usize::from(query[at]) + 1;
    }
    at + 5
}
