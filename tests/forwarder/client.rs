//! Clients: a datagram socket and a connection, each with patience for a busy machine.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::message::{CLASS_CH, Message, Reply, question, rtype};

/// How long anything may take: twice what a stub resolver waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A UDP client that hears only whom it asks.
#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
}

impl Udp {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        Self::from_to("127.0.0.1", target).await
    }

    /// Asks from an address of one's choice.
    pub(crate) async fn from_to(own: &str, target: SocketAddr) -> Self {
        let socket = UdpSocket::bind((own, 0)).await.unwrap();
        socket.connect(target).await.unwrap();
        Self { socket }
    }

    pub(crate) async fn send(&self, message: &[u8]) {
        self.socket.send(message).await.unwrap();
    }

    pub(crate) async fn receive(&self) -> Reply {
        let mut buffer = vec![0; 65_535];
        let size = timeout(PATIENCE, self.socket.recv(&mut buffer))
            .await
            .expect("a reply in time")
            .unwrap();
        Reply::read(&buffer[..size])
    }

    pub(crate) async fn ask(&self, query: &Message) -> Reply {
        self.send(&query.bytes()).await;
        let reply = self.receive().await;
        assert_eq!(reply.id, query.id, "the reply to another query: {reply:?}");
        reply
    }

    /// Whether a message gets no reply: a question about the node itself is sent behind it, is answered on the spot
    /// and in order, and must be the first to be answered.
    pub(crate) async fn hears_nothing_of(&self, message: &[u8]) -> bool {
        let marker = Message::of_question(question("version.bind", rtype::TXT, CLASS_CH)).id(0xfeed);
        self.send(message).await;
        self.send(&marker.bytes()).await;
        self.receive().await.id == marker.id
    }
}

/// A client of messages behind their length, over TCP unless told otherwise.
#[derive(Debug)]
pub(crate) struct Tcp<S = TcpStream> {
    stream: S,
}

impl Tcp {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(target))
            .await
            .expect("a connection in time")
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tcp<S> {
    /// Over a connection that is open.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream }
    }

    /// Writes a message behind its length.
    pub(crate) async fn send(&mut self, message: &[u8]) {
        self.send_raw(&framed(message)).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next reply; `None` when the node has closed the connection.
    pub(crate) async fn receive(&mut self) -> Option<Reply> {
        timeout(PATIENCE, async {
            let length = self.stream.read_u16().await.ok()?;
            let mut bytes = vec![0; usize::from(length)];
            self.stream.read_exact(&mut bytes).await.ok()?;
            Some(Reply::read(&bytes))
        })
        .await
        .expect("a reply or an end in time")
    }

    pub(crate) async fn ask(&mut self, query: &Message) -> Reply {
        self.send(&query.bytes()).await;
        let reply = self.receive().await.expect("a reply, not an end");
        assert_eq!(reply.id, query.id, "the reply to another query: {reply:?}");
        reply
    }
}

/// A message behind its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(message);
    out
}
