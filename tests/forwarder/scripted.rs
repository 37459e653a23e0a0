//! A provider that answers as a test tells it, for what the rig's fakes never say; and that keeps what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// A provider over UDP; ends when dropped.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    _task: JoinSet<()>,
}

impl Scripted {
    /// Answers each query with what `script` makes of it; `None` is silence.
    pub(crate) async fn start(script: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut buffer = vec![0; 4_096];
            loop {
                let Ok((size, client)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let query = buffer[..size].to_vec();
                let reply = script(&query);
                notes.lock().unwrap().push(query);
                if let Some(reply) = reply {
                    socket.send_to(&reply, client).await.ok();
                }
            }
        });
        Self {
            address,
            asked,
            _task: task,
        }
    }

    /// The queries so far.
    pub(crate) fn asked(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap().clone()
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
