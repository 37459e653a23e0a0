//! One query in, what is sent back and when: the same for every transport.
//!
//! Pure apart from the random numbers it is given. What is lost on the way is not decided here but where the bytes
//! pass (`Fault::loses_…`), because a fault may change between a query and its reply.

use std::time::Duration;

use super::hostile::hostile_message;
use super::manners::Manners;
use crate::fault::{FAULTY_REPLY_AFTER, Fault, Hostile};
use crate::law::Law;
use crate::message::{Answer, BadQuery, Query, encode_malformed, encode_reply, rcode};
use crate::random::Random;
use crate::transport::Transport;
use crate::zone;

/// Bytes of the longest message: what a frame can hold.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// A reply and how long after the query it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delayed {
    pub(super) after: Duration,
    pub(super) bytes: Vec<u8>,
}

/// The reply under `fault`, which is an effective one (no `flap`); `None` when there is none.
pub(super) fn reply(
    bytes: &[u8],
    transport: Transport,
    fault: Fault,
    law: Law,
    manners: Manners,
    random: &mut Random,
) -> Option<Delayed> {
    let query = match Query::parse(bytes) {
        Ok(query) => query,
        Err(BadQuery::Ignored) => return None,
        Err(BadQuery::Malformed { id }) => {
            return Some(Delayed {
                after: FAULTY_REPLY_AFTER,
                bytes: encode_malformed(id),
            });
        }
    };
    let name = query.name.text.clone();
    let name = name.as_str();
    let (query, refusal) = manners.take(query);
    let limit_bytes = match transport {
        Transport::Udp => query.payload_bytes(),
        Transport::Tcp | Transport::Dot | Transport::Doh | Transport::Doq | Transport::Doh3 => MESSAGE_BYTES_MAX,
    };
    let latency = law.latency(name);
    let honest = |query: &Query| refusal.clone().unwrap_or_else(|| manners.keep(query, honest(query)));
    let send = |after, answer: &Answer| {
        Some(Delayed {
            after,
            bytes: encode_reply(&query, answer, limit_bytes),
        })
    };
    let faulty = |answer: Answer| send(FAULTY_REPLY_AFTER, &answer);
    match fault {
        Fault::Blackhole | Fault::Rst | Fault::TlsStall => None,
        // What is wrong with a handshake or a status is no matter of the message.
        Fault::None | Fault::Loss(_) | Fault::Flap(_) | Fault::Http500 | Fault::Http429(_) => {
            send(latency, &honest(&query))
        }
        Fault::TlsExpired | Fault::TlsNotYetValid | Fault::TlsWrongName => send(latency, &honest(&query)),
        Fault::Hostile(Hostile::Deaf) => None,
        Fault::Hostile(hostile) => match hostile_message(&query, hostile, transport, limit_bytes) {
            Some(bytes) => Some(Delayed {
                after: FAULTY_REPLY_AFTER,
                bytes,
            }),
            // What is wrong with a stream or a page is no matter of the message.
            None => send(latency, &honest(&query)),
        },
        Fault::Slow(extra) => send(latency.saturating_add(extra), &honest(&query)),
        Fault::Truncate if transport == Transport::Udp => faulty(Answer::truncation()),
        Fault::Truncate => send(latency, &honest(&query)),
        Fault::Servfail => faulty(Answer::empty(rcode::SERVFAIL)),
        Fault::Refused => faulty(Answer::empty(rcode::REFUSED)),
        Fault::Nxdomain => faulty(zone::no_name(name)),
        Fault::Nodata => faulty(zone::no_data(name)),
        Fault::Lie => faulty(zone::lie(name, query.rtype)),
        Fault::Wrongid => {
            let stranger = Query {
                id: query.id ^ random.next_u16().max(1),
                ..query.clone()
            };
            let bytes = encode_reply(&stranger, &honest(&query), limit_bytes);
            Some(Delayed {
                after: FAULTY_REPLY_AFTER,
                bytes,
            })
        }
        Fault::Garbage => {
            let count = usize::try_from(random.below(300)).unwrap_or(0) + 1;
            Some(Delayed {
                after: FAULTY_REPLY_AFTER,
                bytes: random.bytes(count),
            })
        }
    }
}

/// What nothing is wrong with.
pub(crate) fn honest(query: &Query) -> Answer {
    if query.opcode != 0 {
        return Answer::empty(rcode::NOTIMP);
    }
    if !query.is_internet() {
        return Answer::empty(rcode::REFUSED);
    }
    zone::answer(&query.name.text, query.rtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{encode_query, parse_reply, rtype};

    const NAME: &str = "w.fern-works.com";

    fn ask(fault: Fault, transport: Transport) -> Option<Delayed> {
        let query = encode_query(77, NAME, rtype::A, Some(1232));
        reply(
            &query,
            transport,
            fault,
            Law::Flat(Duration::from_millis(35)),
            Manners::default(),
            &mut Random::new(5),
        )
    }

    #[test]
    fn each_fault_has_its_reply_and_its_moment() {
        let expected = vec![zone::expected_a(NAME).unwrap()];
        for (fault, after_ms, code, right) in [
            (Fault::None, 35, rcode::NOERROR, true),
            (Fault::Loss(0.5), 35, rcode::NOERROR, true),
            (Fault::Slow(Duration::from_millis(100)), 135, rcode::NOERROR, true),
            (Fault::Servfail, 10, rcode::SERVFAIL, false),
            (Fault::Refused, 10, rcode::REFUSED, false),
            (Fault::Nxdomain, 10, rcode::NXDOMAIN, false),
            (Fault::Nodata, 10, rcode::NOERROR, false),
            (Fault::Lie, 10, rcode::NOERROR, false),
            (Fault::Truncate, 10, rcode::NOERROR, false),
        ] {
            let delayed = ask(fault, Transport::Udp).unwrap();
            let reply = parse_reply(&delayed.bytes).unwrap();
            assert_eq!(delayed.after, Duration::from_millis(after_ms), "{fault}");
            assert_eq!((reply.id, reply.rcode), (77, code), "{fault}");
            assert_eq!(reply.addresses == expected, right, "{fault}");
            assert_eq!(reply.truncated, fault == Fault::Truncate, "{fault}");
        }
        assert_eq!(ask(Fault::Blackhole, Transport::Udp), None);
        assert_eq!(ask(Fault::Rst, Transport::Tcp), None);
        assert_eq!(ask(Fault::Truncate, Transport::Tcp), ask(Fault::None, Transport::Tcp));
    }

    #[test]
    fn wrong_id_carries_the_right_answer() {
        let reply = parse_reply(&ask(Fault::Wrongid, Transport::Udp).unwrap().bytes).unwrap();
        assert_ne!(reply.id, 77);
        assert_eq!(reply.addresses, [zone::expected_a(NAME).unwrap()]);
    }

    #[test]
    fn queries_nobody_understands_get_an_error() {
        let mut query = encode_query(77, NAME, rtype::A, None);
        query[2] |= 0x20; // opcode 4
        let mut random = Random::new(1);
        let delayed = reply(
            &query,
            Transport::Udp,
            Fault::None,
            Law::default(),
            Manners::default(),
            &mut random,
        )
        .unwrap();
        assert_eq!(parse_reply(&delayed.bytes).unwrap().rcode, rcode::NOTIMP);
        query.truncate(14);
        let delayed = reply(
            &query,
            Transport::Udp,
            Fault::None,
            Law::default(),
            Manners::default(),
            &mut random,
        )
        .unwrap();
        assert_eq!(delayed.bytes[..4], [0, 77, 0x80, rcode::FORMERR]);
    }
}
