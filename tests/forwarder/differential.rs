//! The same questions by the same client, once directly and once through a node: what it is told must be the same.
//!
//! The client is hickory's resolver, which shares nothing with the product. Every difference there may be is named in
//! [`unexplained`] with its reason; any other fails the test. Each question goes through the node twice, so that what
//! comes from the cache is compared too.

use std::fmt::Debug;
use std::net::SocketAddr;

use detour_rig::{Fake, FakeConfig};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver};

use crate::message::{opt, option, record, rtype, wire_name};
use crate::node::{Node, config};
use crate::scripted::{Carrier, Scripted, question_end, reply_to};

/// A pointer to the question's name.
const ASKED: [u8; 2] = [0xc0, 0x0c];

/// A client of this server, without a cache of its own.
fn client_of(server: SocketAddr) -> TokioResolver {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().unwrap()
}

/// What it was told.
async fn told(client: &TokioResolver, (name, rtype): (&str, u16)) -> Result<Message, NetError> {
    let name = Name::from_ascii(name).unwrap();
    let lookup = client.lookup(name, RecordType::from(rtype)).await;
    lookup.map(|lookup| lookup.message().clone())
}

/// Differences between two lists of records, but for what a node may change: TTLs count down, and those of one RRset
/// are made equal (RFC 2181 section 5.2), so none is above what was sent; letters of an owner that only repeat the
/// random case of our question.
fn compare(section: &str, direct: &[Record], through: &[Record], found: &mut Vec<String>) {
    let essence = |record: &Record| {
        let owner = record.name.to_lowercase();
        (owner, record.record_type(), record.dns_class, record.data.clone())
    };
    let (sent, seen): (Vec<_>, Vec<_>) = (
        direct.iter().map(essence).collect(),
        through.iter().map(essence).collect(),
    );
    if sent != seen {
        found.push(format!("{section}: {sent:?} became {seen:?}"));
    }
    for (sent, seen) in direct.iter().zip(through) {
        let of_set = direct
            .iter()
            .filter(|other| other.name == sent.name && other.record_type() == sent.record_type());
        let lowest = of_set.map(|other| other.ttl).min().unwrap_or(0);
        if seen.ttl > lowest || seen.ttl + 60 < lowest.min(3_600) {
            found.push(format!("{section}: a TTL of {} became {}", sent.ttl, seen.ttl));
        }
    }
}

fn differ<T: PartialEq + Debug>(what: &str, direct: T, through: T, found: &mut Vec<String>) {
    if direct != through {
        found.push(format!("{what}: {direct:?} became {through:?}"));
    }
}

/// What a node changed without a reason to.
fn unexplained(direct: &Result<Message, NetError>, through: &Result<Message, NetError>) -> Vec<String> {
    let mut found = Vec::new();
    match (direct, through) {
        (Ok(direct), Ok(through)) => {
            differ("response code", direct.response_code, through.response_code, &mut found);
            differ("TC", direct.truncation, through.truncation, &mut found);
            differ("RD", direct.recursion_desired, through.recursion_desired, &mut found);
            differ("question", &direct.queries, &through.queries, &mut found);
            compare("answer", &direct.answers, &through.answers, &mut found);
            compare("authority", &direct.authorities, &through.authorities, &mut found);
            // OPT, and what stands behind it, belong to each exchange (RFC 6891 section 6.1.1); hickory keeps OPT apart.
            compare("additional", &direct.additionals, &through.additionals, &mut found);
            // A forwarder is no authority (AA), recurses by its providers (RA), and vouches for no answer that came in
            // the clear (AD).
            assert!(!through.authoritative && through.recursion_available && !through.authentic_data);
            differ("EDNS", direct.edns.is_some(), through.edns.is_some(), &mut found);
        }
        (Err(direct), Err(through)) => match (denial(direct), denial(through)) {
            (Some((code, soa)), Some((other_code, other_soa))) => {
                differ("response code of a denial", code, other_code, &mut found);
                compare("SOA", &soa, &other_soa, &mut found);
            }
            // Then this question compares nothing.
            _ => found.push(format!("no answer either way: {direct}, {through}")),
        },
        (direct, through) => found.push(format!("{direct:?} became {through:?}")),
    }
    found
}

/// The response code and the SOA of a denial.
fn denial(error: &NetError) -> Option<(String, Vec<Record>)> {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
        return None;
    };
    let soa = none.soa.iter().map(|soa| (**soa).clone().into_record_of_rdata());
    Some((none.response_code.to_string(), soa.collect()))
}

/// Asks all and says what differs.
async fn differences(provider: SocketAddr, node: &Node, questions: &[(&str, u16)]) -> String {
    let (directly, through) = (client_of(provider), client_of(node.dns()));
    let mut found = Vec::new();
    for question in questions {
        let direct = told(&directly, *question).await;
        for way in ["fresh", "cached"] {
            let forwarded = told(&through, *question).await;
            for difference in unexplained(&direct, &forwarded) {
                found.push(format!("{question:?}, {way}: {difference}"));
            }
        }
    }
    found.join("\n")
}

#[tokio::test]
async fn a_client_by_other_people_hears_the_same_directly_and_through_a_node() {
    let fake = Fake::start(FakeConfig::new("fake")).unwrap();
    let node = Node::before(&[&fake]).await;
    let provider = fake.address();
    let questions = [
        ("www.alder-lane.com.", rtype::A),
        ("WwW.Birch-Harbor.NET.", rtype::AAAA),
        ("mail.cedar-mill.org.", rtype::TXT),
        ("cname.dune-signal.io.", rtype::A),
        ("cname.dune-signal.io.", rtype::CNAME),
        // The whole of it comes over TCP only, for either.
        ("big-3000.elm-quarry.dev.", rtype::TXT),
        ("big-1100.elm-quarry.dev.", rtype::TXT),
        ("ttl-0.fern-works.com.", rtype::A),
        ("ttl-900000.fern-works.com.", rtype::A),
        ("here.granite-bay.net.", rtype::MX),
        ("here.granite-bay.net.", rtype::HTTPS),
        ("nowhere.example.", rtype::A),
        ("hazel-print.org.", rtype::SOA),
        (".", rtype::NS),
        ("com.", rtype::A),
    ];
    let found = differences(provider, &node, &questions).await;
    assert!(found.is_empty(), "{found}");
}

/// Records that hickory can read and that libraries like to put in order.
fn odd_answer(query: &[u8], carrier: Carrier) -> Vec<u8> {
    let asked = |rtype, ttl, rdata: &[u8]| record(&ASKED, rtype, 1, ttl, rdata);
    let end = question_end(query);
    let rtype = u16::from_be_bytes([query[end - 4], query[end - 3]]);
    let target = [vec![3], b"Tgt".to_vec(), ASKED.to_vec()].concat();
    let answers = match rtype {
        // Out of order, twice the same, unequal TTLs.
        rtype::A => vec![
            asked(rtype, 60, &[192, 0, 2, 9]),
            asked(rtype, 30, &[192, 0, 2, 1]),
            asked(rtype, 90, &[192, 0, 2, 9]),
        ],
        rtype::MX => vec![
            asked(rtype, 60, &[vec![0, 20], target.clone()].concat()),
            asked(rtype, 60, &[vec![0, 10], ASKED.to_vec()].concat()),
        ],
        rtype::TXT => vec![asked(rtype, 60, b"\x00\x03abc\x00"), asked(rtype, 60, b"\x02\xff\x00")],
        257 => vec![
            asked(rtype, 60, b"\x80\x05issueca.example; odd=\x22"),
            asked(rtype, 60, b"\x01\x05iodefmailto:x@y"),
        ],
        rtype::HTTPS => vec![
            asked(rtype, 60, b"\x00\x01\x00\x00\x01\x00\x03\x02h3\xfd\xe8\x00\x04any!"),
            asked(rtype, 60, b"\x00\x00\x05other\x07example\x00"),
        ],
        // SRV with a compressed target, which RFC 2782 forbids and senders write.
        33 => vec![asked(rtype, 60, &[vec![0, 1, 0, 2, 0, 80], target.clone()].concat())],
        // A type nobody knows. Hickory reads no empty data; that it passes is shown where hickory is not asked.
        _ => vec![asked(rtype, 60, b"\x00"), asked(rtype, 60, b"\xc0\x0c\xde\xad")],
    };
    let mut authorities = vec![record(&wire_name("Zone.EXAMPLE"), rtype::NS, 1, 600, &target)];
    if carrier == Carrier::Tcp {
        authorities.clear();
    }
    let additionals = [
        record(&wire_name("glue.Zone.EXAMPLE"), rtype::A, 1, 600, &[203, 0, 113, 1]),
        opt(1_400, 0, &option(3, b"nsid of the provider")),
    ];
    reply_to(query, 0, [&answers, &authorities, &additionals])
}

#[tokio::test]
async fn odd_records_reach_a_client_by_other_people_unharmed() {
    let provider = Scripted::start_both(|query, carrier| Some(odd_answer(query, carrier))).await;
    let node = Node::start(&config(&[provider.block("scripted")])).await;
    let name = "Odd.Zone.Example.";
    let questions: Vec<_> = [rtype::A, rtype::MX, rtype::TXT, 257, rtype::HTTPS, 33, 65_280]
        .map(|rtype| (name, rtype))
        .to_vec();
    let found = differences(provider.address, &node, &questions).await;
    assert!(found.is_empty(), "{found}");
}
