//! Local names as clients see them: through the data plane, read by hickory's decoder. No provider can be reached here,
//! so whatever is not answered on the spot shows as a query to be resolved.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use detour_core::control::Control;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use proptest::prelude::*;

use super::{By, Settings, zone_names};
use crate::forwarder::Shared;
use crate::serve::Verdict;
use crate::testing::shared_with;
use crate::wire::{NameBuf, Via};

const HOME: &str = "127.0.0.1";
const AWAY: &str = "10.0.0.9";

const HOSTS: &str = "127.0.0.1 localhost desk.office\n127.0.1.1 desk\n::1 localhost desk6\n\
                     10.0.0.5 nas nas.local files.office\nfd00::5 nas\n10.0.0.6 nas\n\
                     192.168.7.7 deep.er.home.arpa\n127.0.0.2 app.localhost\n0.0.0.0 ads.example\n";

/// A query with RD.
fn query(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message
}

/// The reply on the spot; `None` if the query must be resolved.
fn reply_to(shared: &Shared, message: &Message, client: &str, via: Via) -> Option<Message> {
    let mut out = Vec::new();
    let client: IpAddr = client.parse().unwrap();
    match shared.answer_now(&shared.moment(), &message.to_vec().unwrap(), client, via, &mut out) {
        Verdict::Hit | Verdict::Replied => Some(Message::from_vec(&out).unwrap()),
        Verdict::Resolve(_) => None,
        Verdict::Silence => panic!("a query gets a reply"),
    }
}

fn ask(shared: &Shared, name: &str, rtype: RecordType, client: &str) -> Option<Message> {
    reply_to(shared, &query(name, rtype), client, Via::Udp)
}

/// Response code, answers and owners of the authority section in words.
fn words(reply: &Message) -> String {
    let answers: Vec<_> = reply
        .answers
        .iter()
        .map(|r| format!("{} {}", r.record_type(), r.data))
        .collect();
    let authorities: Vec<_> = reply
        .authorities
        .iter()
        .map(|r| format!("{} {}", r.name, r.record_type()))
        .collect();
    let code = format!("{:?}", reply.metadata.response_code);
    [code, answers.join(", "), authorities.join(", ")].join("; ")
}

fn said(shared: &Shared, name: &str, rtype: RecordType, client: &str) -> String {
    ask(shared, name, rtype, client).map_or_else(|| "resolve".to_owned(), |reply| words(&reply))
}

/// A node with a hosts file, which has been read.
struct WithHosts {
    shared: Arc<Shared>,
    _control: Control,
    directory: tempfile::TempDir,
}

impl WithHosts {
    async fn start(hosts: &str, off: &[&'static str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("hosts"), hosts).unwrap();
        let settings = Settings {
            off: off.to_vec(),
            hosts: Some(directory.path().join("hosts")),
        };
        let (shared, control) = shared_with(1, settings);
        shared.read_hosts(Duration::from_secs(10)).await;
        Self {
            shared,
            _control: control,
            directory,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("hosts")
    }
}

#[test]
fn each_kind_of_zone_says_what_its_document_says() {
    use RecordType::{A, AAAA, DS, HTTPS, MX, NS, PTR, SOA, TXT};
    let (shared, _control) = shared_with(1, Settings::default());
    for (name, rtype, expected) in [
        // RFC 6761 section 6.3.
        ("localhost.", A, "NoError; A 127.0.0.1; "),
        ("localhost.", AAAA, "NoError; AAAA ::1; "),
        ("a.b.localhost.", A, "NoError; A 127.0.0.1; "),
        ("a.b.localhost.", AAAA, "NoError; AAAA ::1; "),
        ("localhost.", HTTPS, "NoError; ; localhost. SOA"),
        ("localhost.", SOA, "NoError; ; localhost. SOA"),
        ("a.localhost.", TXT, "NoError; ; localhost. SOA"),
        ("1.0.0.127.in-addr.arpa.", PTR, "NoError; PTR localhost.; "),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
            PTR,
            "NoError; PTR localhost.; ",
        ),
        // Nothing at all, no SOA either.
        ("invalid.", A, "NXDomain; ; invalid. SOA"),
        ("x.invalid.", A, "NXDomain; ; invalid. SOA"),
        ("local.", SOA, "NXDomain; ; local. SOA"),
        ("printer.local.", AAAA, "NXDomain; ; local. SOA"),
        ("_ipp._tcp.local.", PTR, "NXDomain; ; local. SOA"),
        ("x.test.", MX, "NXDomain; ; test. SOA"),
        ("x.onion.", A, "NXDomain; ; onion. SOA"),
        ("x.alt.", A, "NXDomain; ; alt. SOA"),
        ("x.internal.", A, "NXDomain; ; internal. SOA"),
        // RFC 6303 section 3.
        (
            "10.in-addr.arpa.",
            SOA,
            "NoError; SOA 10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 3600; 10.in-addr.arpa. NS",
        ),
        ("10.in-addr.arpa.", NS, "NoError; NS 10.in-addr.arpa.; "),
        ("10.in-addr.arpa.", A, "NoError; ; 10.in-addr.arpa. SOA"),
        ("10.in-addr.arpa.", DS, "NoError; ; 10.in-addr.arpa. SOA"),
        ("5.0.0.10.in-addr.arpa.", PTR, "NXDomain; ; 10.in-addr.arpa. SOA"),
        ("x.home.arpa.", A, "NXDomain; ; home.arpa. SOA"),
        // An empty name above one with a record exists (RFC 8020).
        ("0.127.in-addr.arpa.", PTR, "NoError; ; 127.in-addr.arpa. SOA"),
        ("2.0.0.127.in-addr.arpa.", PTR, "NXDomain; ; 127.in-addr.arpa. SOA"),
        // RFC 9462 section 6.4.
        ("_dns.resolver.arpa.", RecordType::SVCB, "NoError; ; resolver.arpa. SOA"),
        ("resolver.arpa.", A, "NoError; ; resolver.arpa. SOA"),
        ("x.resolver.arpa.", A, "NoError; ; resolver.arpa. SOA"),
        // Not ours.
        ("ipv4only.arpa.", AAAA, "resolve"),
        ("8.8.8.8.in-addr.arpa.", PTR, "resolve"),
        ("localhost.example.", A, "resolve"),
        ("printer.", A, "resolve"),
        (".", NS, "resolve"),
    ] {
        assert_eq!(said(&shared, name, rtype, AWAY), expected, "{name} {rtype}");
    }
}

#[test]
fn every_zone_is_answered_and_every_one_can_be_switched_off() {
    for zone in zone_names() {
        let name = format!("x.{zone}.");
        let (shared, _control) = shared_with(1, Settings::default());
        assert!(ask(&shared, &name, RecordType::TXT, HOME).is_some(), "{name}");
        let off = Settings {
            off: vec![zone],
            hosts: None,
        };
        let (shared, _control) = shared_with(1, off);
        for name in [name.as_str(), zone] {
            assert!(ask(&shared, name, RecordType::TXT, HOME).is_none(), "{name}");
        }
    }
}

#[test]
fn replies_keep_the_rules_of_all_replies() {
    let (shared, _control) = shared_with(1, Settings::default());
    // Without recursion, in the client's case, with EDNS and DO, of a client that takes few bytes.
    let mut message = query("LocalHost.", RecordType::A);
    message.metadata.recursion_desired = false;
    message.metadata.checking_disabled = true;
    let mut edns = Edns::new();
    edns.set_max_payload(512);
    edns.set_dnssec_ok(true);
    message.set_edns(edns);
    let reply = reply_to(&shared, &message, HOME, Via::Udp).unwrap();
    let flags = reply.metadata;
    assert_eq!(
        (flags.id, flags.response_code, flags.message_type),
        (0x1234, ResponseCode::NoError, MessageType::Response)
    );
    assert!(flags.authoritative && flags.recursion_available && flags.checking_disabled);
    assert!(!flags.recursion_desired && !flags.authentic_data && !flags.truncation);
    assert_eq!(reply.queries[0].name().to_string(), "LocalHost.");
    assert_eq!(reply.answers[0].name, Name::from_ascii("LOCALHOST.").unwrap());
    assert_eq!(reply.answers[0].ttl, 3_600);
    let own = reply.edns.unwrap();
    assert_eq!((own.max_payload(), own.flags().dnssec_ok), (1_232, true));
    // No OPT in the query, none in the reply; both TTLs of a denial's SOA are the same.
    let reply = ask(&shared, "X.Test.", RecordType::A, HOME).unwrap();
    assert!(reply.edns.is_none() && reply.metadata.authoritative);
    assert_eq!(reply.authorities[0].ttl, 3_600);
    // Over a stream ANY is answered with all there is, over UDP with RFC 8482's nothing.
    let any = query("localhost.", RecordType::ANY);
    let reply = reply_to(&shared, &any, HOME, Via::Tcp).unwrap();
    assert_eq!(words(&reply), "NoError; A 127.0.0.1, AAAA ::1; ");
    let reply = reply_to(&shared, &any, HOME, Via::Udp).unwrap();
    assert_eq!(reply.answers[0].record_type(), RecordType::HINFO);
    // Another class is asked of nobody.
    let mut message = query("localhost.", RecordType::A);
    message.queries[0].set_query_class(DNSClass::Unknown(4));
    let reply = reply_to(&shared, &message, HOME, Via::Udp).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn the_hosts_file_answers_for_its_names() {
    use RecordType::{A, AAAA, HTTPS, MX, PTR, SOA};
    let node = WithHosts::start(HOSTS, &[]).await;
    for (name, rtype, expected) in [
        ("nas.", A, "NoError; A 10.0.0.5, A 10.0.0.6; "),
        ("NAS.", AAAA, "NoError; AAAA fd00::5; "),
        ("files.office.", A, "NoError; A 10.0.0.5; "),
        // A family or a type that is not there is no data, and never a provider's business.
        ("files.office.", AAAA, "NoError; ; files.office. SOA"),
        ("files.office.", HTTPS, "NoError; ; files.office. SOA"),
        ("nas.", MX, "NoError; ; nas. SOA"),
        ("nas.", SOA, "NoError; ; nas. SOA"),
        ("ads.example.", A, "NoError; A 0.0.0.0; "),
        ("ads.example.", AAAA, "NoError; ; ads.example. SOA"),
        ("5.0.0.10.in-addr.arpa.", PTR, "NoError; PTR nas.; "),
        ("5.0.0.10.in-addr.arpa.", A, "NoError; ; 5.0.0.10.in-addr.arpa. SOA"),
        // Before a zone's denial.
        ("nas.local.", A, "NoError; A 10.0.0.5; "),
        ("x.local.", A, "NXDomain; ; local. SOA"),
        ("er.home.arpa.", A, "NoError; ; home.arpa. SOA"),
        ("x.er.home.arpa.", A, "NXDomain; ; home.arpa. SOA"),
        ("7.168.192.in-addr.arpa.", PTR, "NoError; ; 168.192.in-addr.arpa. SOA"),
        // Exactly, not below.
        ("www.nas.", A, "resolve"),
        ("office.", A, "resolve"),
    ] {
        for client in [HOME, AWAY] {
            assert_eq!(
                said(&node.shared, name, rtype, client),
                expected,
                "{name} {rtype} for {client}"
            );
        }
    }
    let reply = ask(&node.shared, "nas.", A, HOME).unwrap();
    assert!(reply.metadata.authoritative);
    assert_eq!(reply.answers[0].ttl, 10);
    assert_eq!(ask(&node.shared, "nas.", MX, HOME).unwrap().authorities[0].ttl, 10);
}

#[tokio::test]
async fn loopback_addresses_of_the_file_are_for_clients_on_this_machine() {
    use RecordType::{A, AAAA, PTR};
    let node = WithHosts::start(HOSTS, &[]).await;
    for (name, rtype, home, away) in [
        ("desk.", A, "NoError; A 127.0.1.1; ", "NoError; ; desk. SOA"),
        ("desk6.", AAAA, "NoError; AAAA ::1; ", "NoError; ; desk6. SOA"),
        (
            "desk.office.",
            A,
            "NoError; A 127.0.0.1; ",
            "NoError; ; desk.office. SOA",
        ),
        (
            "1.1.0.127.in-addr.arpa.",
            PTR,
            "NoError; PTR desk.; ",
            "NXDomain; ; 127.in-addr.arpa. SOA",
        ),
        // The zone's word is for everybody.
        ("localhost.", A, "NoError; A 127.0.0.1; ", "NoError; A 127.0.0.1; "),
        ("app.localhost.", A, "NoError; A 127.0.0.2; ", "NoError; A 127.0.0.1; "),
        (
            "1.0.0.127.in-addr.arpa.",
            PTR,
            "NoError; PTR localhost.; ",
            "NoError; PTR localhost.; ",
        ),
    ] {
        assert_eq!(said(&node.shared, name, rtype, HOME), home, "{name} {rtype}");
        assert_eq!(said(&node.shared, name, rtype, "127.0.0.2"), home, "{name} {rtype}");
        assert_eq!(said(&node.shared, name, rtype, AWAY), away, "{name} {rtype} away");
    }
    // As an IPv4-mapped address on an IPv6 socket, it is the same client.
    assert_eq!(
        said(&node.shared, "desk.", A, "::ffff:127.0.0.1"),
        "NoError; A 127.0.1.1; "
    );
    // With the zones off, what is hidden is still not asked of a provider.
    let node = WithHosts::start(HOSTS, &["127.in-addr.arpa", "localhost"]).await;
    assert_eq!(said(&node.shared, "localhost.", A, HOME), "NoError; A 127.0.0.1; ");
    assert_eq!(said(&node.shared, "localhost.", A, AWAY), "NoError; ; localhost. SOA");
    let pointer = said(&node.shared, "1.1.0.127.in-addr.arpa.", PTR, AWAY);
    assert_eq!(pointer, "NoError; ; 1.1.0.127.in-addr.arpa. SOA");
}

#[tokio::test]
async fn a_query_that_a_changing_file_may_answer_waits_for_it() {
    let node = WithHosts::start(HOSTS, &[]).await;
    let file = node.shared.local.hosts.as_ref().unwrap();
    let later = detour_core::Time::at_ms(2_500);
    assert!(!file.is_due(detour_core::Time::at_ms(1_999)));
    assert!(file.is_due(later) && !file.is_due(later), "one look at a time");
    // The look began at 2.5 s of a clock that stands at 1 s: it is worth waiting for.
    assert!(node.shared.local.is_being_read(later));
    assert_eq!(said(&node.shared, "nas.", RecordType::A, HOME), "resolve");
    assert_eq!(
        said(&node.shared, "x.local.", RecordType::A, HOME),
        "NXDomain; ; local. SOA"
    );
    fs::write(node.path(), "10.0.0.7 nas\n").unwrap();
    let Verdict::Resolve(miss) = node.shared.answer_now(
        &node.shared.moment(),
        &query("nas.", RecordType::A).to_vec().unwrap(),
        HOME.parse().unwrap(),
        Via::Udp,
        &mut Vec::new(),
    ) else {
        panic!("a file that is being read is waited for");
    };
    let looker = Arc::clone(&node.shared.local);
    let look = move || looker.hosts.as_ref().unwrap().look(&looker.zones);
    let tasks = node.shared.tasks.clone();
    node.shared
        .tasks
        .spawn_job(async move { tasks.blocking(look).await.unwrap() });
    let mut out = Vec::new();
    assert!(node.shared.must_wait(&miss, node.shared.clock.now()));
    assert!(node.shared.answer_waiting(&miss, &mut out).await);
    assert_eq!(words(&Message::from_vec(&out).unwrap()), "NoError; A 10.0.0.7; ");
    // When everything is busy, too.
    out.clear();
    node.shared.answer_overload(&miss, &mut out);
    assert_eq!(words(&Message::from_vec(&out).unwrap()), "NoError; A 10.0.0.7; ");
}

#[tokio::test]
async fn explain_names_who_answers() {
    let node = WithHosts::start(HOSTS, &[]).await;
    let by = |name: &str| {
        node.shared
            .local
            .explain(&name.parse().unwrap(), 1, None)
            .map(|(by, _)| by)
    };
    assert!(matches!(by("x.local"), Some(By::Zone(zone)) if zone.basis() == "RFC 6762 section 22.1"));
    assert_eq!(by("nas.local"), Some(By::Hosts(&node.path())));
    assert_eq!(by("er.home.arpa"), Some(By::Hosts(&node.path())));
    assert_eq!(by("example.com"), None);
}

#[tokio::test]
async fn a_host_with_more_addresses_than_fit_is_truncated_over_udp_only() {
    let addresses: Vec<String> = (0..64).map(|n| format!("10.1.0.{n}")).collect();
    let lines: String = addresses.iter().map(|address| format!("{address} many\n")).collect();
    let node = WithHosts::start(&lines, &[]).await;
    let message = query("many.", RecordType::A);
    let cut = reply_to(&node.shared, &message, HOME, Via::Udp).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = reply_to(&node.shared, &message, HOME, Via::Tcp).unwrap();
    let found: Vec<_> = whole.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(found, addresses, "in the order of the file");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_name_in_a_zone_and_every_type_has_an_answer(
        labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..=40), 0..5),
        zone in proptest::sample::select(zone_names().collect::<Vec<_>>()),
        qtype in prop_oneof![0_u16..=300, any::<u16>()],
    ) {
        let mut wire: Vec<u8> = labels.iter().flat_map(|label| {
            std::iter::once(u8::try_from(label.len()).unwrap()).chain(label.iter().copied())
        }).collect();
        wire.extend_from_slice(zone.parse::<NameBuf>().unwrap().as_wire());
        prop_assume!(wire.len() <= 255);
        let name = NameBuf::from_wire(&wire).unwrap();
        static LOCAL: LazyLock<super::Local> = LazyLock::new(|| super::Local::new(Settings::default()));
        let local = &*LOCAL;
        let found = local.find(&name, HOME.parse().unwrap()).unwrap();
        // Policy never lets these come this far.
        prop_assume!(!matches!(qtype, 41 | 128..=255));
        prop_assert!(local.answer(&found, &name, qtype).is_some(), "{name} {qtype}");
    }
}
