//! `detour query NAME [TYPE]`: sends one query to a server, this node unless told otherwise, and shows the answer.
//!
//! For looking, not for resolving: one datagram, the same question over TCP if the answer was cut or `--tcp` says so,
//! five seconds for all of it. What came back is shown as it is, broken parts included; `show` reads it.

mod show;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use detour_core::Clock as _;
use detour_resolver::wire::code::{class, rcode};
use detour_resolver::wire::edns::UDP_BYTES_MAX;
use detour_resolver::wire::{EdnsOut, MESSAGE_BYTES_MAX, NameBuf, NameError, QueryOut, build_query};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use self::show::Shown;
use crate::cli::{QueryArgs, exit_code};
use crate::clock::BootClock;
use crate::output::{complain, print};

/// How long all of it may take: stub resolvers give up after 5 s too.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum QueryError {
    /// Cannot be asked.
    #[error("wrong name")]
    Name(#[source] NameError),
    /// The system or the network refused; a port where nobody listens, most often.
    #[error("cannot ask {server} over {transport}")]
    Exchange {
        /// Whom.
        server: SocketAddr,
        /// How.
        transport: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Silence.
    #[error("no answer from {server} within 5 s")]
    NoAnswer {
        /// Whose.
        server: SocketAddr,
    },
    /// Bytes came over TCP that are no answer to the question.
    #[error("what {server} sent is no answer to the question")]
    Garbage {
        /// Who.
        server: SocketAddr,
    },
}

/// An answer, and how it came.
#[derive(Debug)]
struct Exchange {
    transport: &'static str,
    message: Vec<u8>,
}

/// Runs the command; the exit code.
pub(crate) async fn query(args: &QueryArgs) -> u8 {
    match ask(args).await {
        Ok(shown) => {
            let text = if args.json { shown.to_json() } else { shown.to_text() };
            let code = match shown.rcode {
                rcode::NOERROR | rcode::NXDOMAIN => exit_code::OK,
                _ => exit_code::FAILED,
            };
            print(&mut io::stdout().lock(), &text, code)
        }
        Err(error) => {
            complain("query", &error);
            exit_code::FAILED
        }
    }
}

/// Asks and reads the answer.
async fn ask(args: &QueryArgs) -> Result<Shown, QueryError> {
    let name: NameBuf = args.name.parse().map_err(QueryError::Name)?;
    let server = args.server;
    let mut message = Vec::new();
    let question = QueryOut {
        id: rand::random(),
        name: &name,
        qtype: args.record_type.into(),
        qclass: class::IN,
        // Says that AD in the answer is understood (RFC 6840 5.7).
        ad: true,
        cd: false,
        case_bits: None,
        edns: Some(EdnsOut {
            udp_size: UDP_BYTES_MAX,
            do_bit: false,
            is_padded: false,
            cookie: None,
            asks_keepalive: false,
        }),
    };
    let range = build_query(&mut message, &question);
    let sent = Sent {
        question: message.get(range).unwrap_or_default(),
        message: &message,
    };
    let begun = BootClock.now();
    let exchange = timeout(PATIENCE, exchange(&sent, server, args.tcp))
        .await
        .map_err(|_elapsed| QueryError::NoAnswer { server })??;
    let time_us = BootClock.now().since(begun);
    Shown::read(&exchange.message, &question, server, exchange.transport, time_us).ok_or(QueryError::Garbage { server })
}

/// A query as it was sent.
struct Sent<'a> {
    message: &'a [u8],
    /// Its question: name, type, class.
    question: &'a [u8],
}

impl Sent<'_> {
    /// Whether this is a response with our id and our question. An error may come without the question.
    fn is_answered_by(&self, reply: &[u8]) -> bool {
        let (Some(own_head), Some((head, rest))) = (self.message.first_chunk::<12>(), reply.split_first_chunk::<12>())
        else {
            return false;
        };
        let ([o0, o1, ..], [i0, i1, flags, _, q0, q1, ..]) = (own_head, head);
        let is_response = flags & 0x80 != 0;
        let question = rest.get(..self.question.len());
        let is_ours = match (q0, q1) {
            (0, 0) => true,
            _ => question.is_some_and(|question| question.eq_ignore_ascii_case(self.question)),
        };
        is_response && (o0, o1) == (i0, i1) && is_ours
    }
}

/// One question, over UDP and, where that does not do, over TCP.
async fn exchange(sent: &Sent<'_>, server: SocketAddr, tcp: bool) -> Result<Exchange, QueryError> {
    let failed = |transport| {
        move |source| QueryError::Exchange {
            server,
            transport,
            source,
        }
    };
    if !tcp {
        let message = over_udp(sent, server).await.map_err(failed("udp"))?;
        // TC: the whole answer is to be had over a stream.
        if message.get(2).is_none_or(|flags| flags & 0x02 == 0) {
            return Ok(Exchange {
                transport: "udp",
                message,
            });
        }
    }
    let message = over_tcp(sent, server).await.map_err(failed("tcp"))?;
    if !sent.is_answered_by(&message) {
        return Err(QueryError::Garbage { server });
    }
    Ok(Exchange {
        transport: if tcp { "tcp" } else { "tcp after tc over udp" },
        message,
    })
}

/// What is no answer is passed over: somebody else may have sent it.
async fn over_udp(sent: &Sent<'_>, server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // A connected socket takes datagrams of this server only, and hears when nobody listens there.
    socket.connect(server).await?;
    socket.send(sent.message).await?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let size = socket.recv(&mut buffer).await?;
        if let Some(reply) = buffer.get(..size)
            && sent.is_answered_by(reply)
        {
            return Ok(reply.to_vec());
        }
    }
}

async fn over_tcp(sent: &Sent<'_>, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(sent.message.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), sent.message].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use detour_rig::fake::{Fake, FakeConfig};
    use detour_rig::{Fault, Transport, TransportSel};
    use hickory_proto::rr::RecordType;
    use std::io::Write;

    fn args(name: &str, record_type: RecordType, server: SocketAddr) -> QueryArgs {
        QueryArgs {
            name: name.to_owned(),
            record_type,
            config: None,
            server,
            tcp: false,
            json: false,
        }
    }

    #[tokio::test]
    async fn an_answer_is_shown_whatever_way_it_came() {
        let fake = Fake::start(FakeConfig::new("fake")).unwrap();
        let name = "www.alder-lane.com";
        let mut args = args(name, RecordType::A, fake.address());
        let shown = ask(&args).await.unwrap();
        let address = detour_rig::zone::expected_a(name).unwrap();
        let line = format!("www.alder-lane.com.\t300\tIN\tA\t{address}\n");
        assert!(shown.to_text().contains(&line), "{}", shown.to_text());
        assert_eq!((shown.rcode, shown.transport), (rcode::NOERROR, "udp"));
        assert_eq!(query(&args).await, exit_code::OK);

        args.tcp = true;
        let shown = ask(&args).await.unwrap();
        assert_eq!(shown.transport, "tcp");
        assert!(shown.to_text().contains(&line));

        args.tcp = false;
        fake.set_fault(TransportSel::Only(Transport::Udp), Fault::Truncate);
        let shown = ask(&args).await.unwrap();
        assert_eq!(shown.transport, "tcp after tc over udp");
        assert!(shown.to_text().contains(&line));
        fake.shutdown().await;
    }

    #[tokio::test]
    async fn the_exit_code_says_whether_the_name_could_be_resolved() {
        let fake = Fake::start(FakeConfig::new("fake")).unwrap();
        let args = args("does-not-exist.example", RecordType::A, fake.address());
        assert_eq!(ask(&args).await.unwrap().rcode, rcode::NXDOMAIN);
        assert_eq!(query(&args).await, exit_code::OK);
        fake.set_fault(TransportSel::All, Fault::Servfail);
        assert_eq!(ask(&args).await.unwrap().rcode, rcode::SERVFAIL);
        assert_eq!(query(&args).await, exit_code::FAILED);
        let address = fake.address();
        fake.shutdown().await;
        let args = QueryArgs {
            server: address,
            tcp: true,
            ..args
        };
        let error = ask(&args).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot ask {address} over tcp"));
    }

    #[test]
    fn what_answers_something_else_is_no_answer() {
        let message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let sent = Sent {
            message,
            question: &message[12..],
        };
        let mut reply = message.to_vec();
        assert!(!sent.is_answered_by(&reply), "a query is no response");
        reply[2] |= 0x80;
        assert!(sent.is_answered_by(&reply));
        reply[13] = b'A';
        assert!(sent.is_answered_by(&reply), "case does not matter");
        reply[13] = b'b';
        assert!(!sent.is_answered_by(&reply));
        reply[13] = b'a';
        reply[1] = 0;
        assert!(!sent.is_answered_by(&reply));
        assert!(!sent.is_answered_by(&[0x12, 0x34, 0x80]));
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        #[derive(Debug)]
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gone = Broken(io::ErrorKind::BrokenPipe);
        assert_eq!(print(&mut gone, "text", exit_code::OK), exit_code::OK);
        let mut full = Broken(io::ErrorKind::StorageFull);
        assert_eq!(print(&mut full, "text", exit_code::OK), exit_code::FAILED);
    }
}
