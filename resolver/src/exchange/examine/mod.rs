//! A look at one endpoint, for people: does it connect, what does its handshake show, does it answer, and what more does
//! it do or not do.
//!
//! Connections are dialled, written to and read from, and answers walked, as they are for clients; only the sockets of
//! datagrams are plain ones. Nothing is told to health, and nothing judged: that is [`detour_core::doctor`]'s.
//!
//! The name is asked first and alone, so that its time counts; what else there is to know is asked in one go behind an
//! answer. So the time for one endpoint is bounded: 2 s for each handshake, and three times the patience.

mod hickory;
mod read;
mod way;

use std::sync::Arc;
use std::time::Duration;

use detour_core::doctor::{EdnsSeen, End, Hickory, Purpose, Seen, Traits};
use detour_core::outcome::{Failure, Reply};
use detour_core::{Clock, Transport};
use tokio::net::UdpSocket;

use self::read::{Judged, judge, name_answer, signatures};
use self::way::{Query, Way};
use super::line::failure_of;
use super::quic::QuicSockets;
use super::remote::{Remote, RemoteTls};
use super::stream::dial::Dialer;
use super::tls::Refused;
use crate::tasks::Tasks;
use crate::wire::code::{class, rtype};
use crate::wire::edns::UDP_BYTES_MAX;
use crate::wire::{EdnsOut, NameBuf, QueryOut, build_query};

/// Which letters of a name are upper case, one bit for each octet: every other one, so that both cases are in it.
const MIXED_CASE: [u8; 32] = [0b0101_0101; 32];

/// What an endpoint is asked.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The name that is asked for first.
    pub name: NameBuf,
    /// With this type.
    pub qtype: u16,
    /// What else is to be found out.
    pub more: Option<More>,
    /// How long an answer is waited for.
    pub patience: Duration,
}

/// What is asked of an endpoint that answers.
#[derive(Debug, Clone)]
pub struct More {
    /// A name whose zone is signed, and a type it has.
    pub signed: (NameBuf, u16),
    /// Names, and why they are asked for; their addresses are.
    pub names: Vec<(NameBuf, Purpose)>,
}

/// Looks at endpoints.
#[derive(Debug, Clone)]
pub struct Examiner {
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    quic: Arc<QuicSockets>,
}

/// A way that was opened, and how long that took.
struct Opened {
    way: Way,
    connect_us: Option<u64>,
}

impl Examiner {
    /// Opens nothing yet; connections live in `tasks`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, tasks: Tasks) -> Self {
        Self {
            quic: QuicSockets::new(&tasks),
            clock,
            tasks,
        }
    }

    /// What our own transports see.
    pub async fn examine(&self, transport: Transport, remote: &Remote, questions: &Questions) -> Seen {
        let mut remote = remote.clone();
        let shown = remote.tls.as_mut().map(|tls| {
            let (trust, shown) = tls.trust.observed();
            *tls = RemoteTls {
                trust,
                // What it shows is not known before the handshake is over.
                early_data: false,
                ..tls.clone()
            };
            shown
        });
        let mut seen = match self.open(transport, &remote).await {
            Ok(opened) => {
                if let Some(shown) = &shown {
                    shown.note_quic(transport);
                }
                let mut asking = Asking {
                    way: opened.way,
                    transport,
                    clock: &*self.clock,
                    patience: questions.patience,
                    next_id: rand::random(),
                };
                Seen {
                    connect_us: opened.connect_us,
                    ..asking.all(questions).await
                }
            }
            Err(refused) => Seen {
                certificate_time: refused.certificate,
                ..Seen::ended(End::Failed(refused.failure))
            },
        };
        seen.tls = shown.and_then(|shown| shown.take());
        seen
    }

    /// What hickory-resolver sees: the name's answer, and the time it takes with connecting.
    pub async fn by_hickory(&self, transport: Transport, remote: &Remote, questions: &Questions) -> Hickory {
        hickory::look(transport, remote, questions, &*self.clock).await
    }

    async fn open(&self, transport: Transport, remote: &Remote) -> Result<Opened, Refused> {
        if transport == Transport::Udp {
            let way = open_datagrams(remote)
                .await
                .map_err(|error| failure_of(&error).unwrap_or(Failure::Local))?;
            return Ok(Opened { way, connect_us: None });
        }
        let begun = self.clock.now();
        let dialer = Dialer::new(transport, remote, &self.quic);
        let token = self.tasks.token().child_token();
        let dialled = dialer.dial(&*self.clock, &self.tasks, token.clone()).await?;
        Ok(Opened {
            way: Way::over(dialled, token),
            connect_us: Some(self.clock.now().since(begun)),
        })
    }
}

/// A connected socket takes datagrams of this server only, and hears when nobody listens there.
async fn open_datagrams(remote: &Remote) -> std::io::Result<Way> {
    let address = remote.addresses.first();
    let address = address.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(Way::Datagrams(socket))
}

/// One endpoint being asked.
struct Asking<'c> {
    way: Way,
    transport: Transport,
    clock: &'c dyn Clock,
    patience: Duration,
    next_id: u16,
}

/// Something to ask.
#[derive(Clone, Copy)]
struct Question<'n> {
    name: &'n NameBuf,
    qtype: u16,
    with_edns: bool,
    /// Signatures are wanted.
    do_bit: bool,
}

impl Asking<'_> {
    /// The name, and behind an answer all the rest.
    async fn all(&mut self, questions: &Questions) -> Seen {
        let question = Question {
            name: &questions.name,
            qtype: questions.qtype,
            with_edns: true,
            do_bit: false,
        };
        let (mut judged, edns) = self.first(question).await;
        let mut seen = Seen::ended(judged.end);
        let Some(accepted) = judged.accepted.take() else {
            return seen;
        };
        seen.answer_us = Some(judged.after_us);
        let is_good = |reply: Reply| reply.is_good() || matches!(reply, Reply::Denial { .. } | Reply::Filtered);
        let (End::Answered(reply), Some(more)) = (judged.end, &questions.more) else {
            return seen;
        };
        if !is_good(reply) {
            return seen;
        }
        let edns = match edns {
            EdnsSeen::Spoken if !accepted.has_opt => EdnsSeen::Ignored,
            edns @ (EdnsSeen::Spoken | EdnsSeen::Ignored | EdnsSeen::Refused | EdnsSeen::Swallowed) => edns,
        };
        seen.traits = Some(self.traits(edns, &judged, more).await);
        seen
    }

    /// The name; without EDNS, where that is what it fails for.
    async fn first(&mut self, question: Question<'_>) -> (Judged, EdnsSeen) {
        let judged = self.one(question).await;
        let edns = match judged.end {
            End::Answered(Reply::NoEdns) => EdnsSeen::Refused,
            // Nothing on the way to a server at the other end of a connection drops single queries.
            End::Silent if self.transport == Transport::Udp => EdnsSeen::Swallowed,
            End::Answered(_) | End::Silent | End::Failed(_) | End::Mismatch | End::NotAsked(_) => {
                return (judged, EdnsSeen::Spoken);
            }
        };
        let again = self
            .one(Question {
                with_edns: false,
                ..question
            })
            .await;
        match again.end {
            End::Answered(_) => (again, edns),
            End::Silent | End::Failed(_) | End::Mismatch | End::NotAsked(_) => (judged, edns),
        }
    }

    async fn one(&mut self, question: Question<'_>) -> Judged {
        let query = self.query(question);
        let came = self
            .way
            .ask(std::slice::from_ref(&query), self.patience, self.clock)
            .await;
        judge(came.into_iter().next(), &query)
    }

    /// What it does beyond the answer it gave.
    async fn traits(&mut self, edns: EdnsSeen, first: &Judged, more: &More) -> Traits {
        let with_edns = matches!(edns, EdnsSeen::Spoken | EdnsSeen::Ignored);
        let (signed, qtype) = &more.signed;
        let mut queries = vec![self.query(Question {
            name: signed,
            qtype: *qtype,
            with_edns,
            do_bit: with_edns,
        })];
        for (name, _) in &more.names {
            queries.push(self.query(Question {
                name,
                qtype: rtype::A,
                with_edns,
                do_bit: false,
            }));
        }
        let came = self.way.ask(&queries, self.patience, self.clock).await;
        let mut judged = came
            .into_iter()
            .zip(&queries)
            .map(|(came, query)| judge(Some(came), query));
        let signatures = judged.next().and_then(|judged| signatures(&judged));
        Traits {
            edns,
            keeps_case: first.keeps_case(),
            pads: self.transport.is_encrypted().then(|| first.is_padded()),
            signatures: signatures.filter(|_| with_edns),
            names: more
                .names
                .iter()
                .zip(judged)
                .map(|(name, judged)| name_answer(name, &judged))
                .collect(),
        }
    }

    fn query(&mut self, question: Question<'_>) -> Query {
        let key = self.next_id;
        self.next_id = key.wrapping_add(1);
        let id = if self.way.has_streams() { 0 } else { key };
        let mut message = Vec::new();
        let range = build_query(
            &mut message,
            &QueryOut {
                id,
                name: question.name,
                qtype: question.qtype,
                qclass: class::IN,
                ad: true,
                cd: false,
                case_bits: Some(MIXED_CASE),
                edns: question.with_edns.then_some(EdnsOut {
                    udp_size: UDP_BYTES_MAX,
                    do_bit: question.do_bit,
                    is_padded: self.transport.is_encrypted(),
                    cookie: None,
                    asks_keepalive: false,
                }),
            },
        );
        Query {
            key,
            id,
            question: message.get(range).unwrap_or_default().to_vec(),
            message,
            with_edns: question.with_edns,
        }
    }
}
