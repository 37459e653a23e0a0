//! Designated resolvers (RFC 9462): a provider in the clear says where it can be asked encrypted, and is believed only what
//! is proven.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use detour_rig::{Fault, Transport, TransportSel};

use crate::client::{PATIENCE, Udp};
use crate::message::{CLASS_IN, Message, flag, record, rtype, wire_name};
use crate::names::{MOVING, Trusted, ask, port_of};
use crate::node::{Node, config, until};
use crate::scripted::{Scripted, question_end, reply_to};

/// The name that stands for the resolver itself.
const DISCOVERY: &str = "_dns.resolver.arpa";
/// The type of what it designates.
const SVCB: u16 = 64;
/// SvcParamKeys (RFC 9460 section 14.3.2).
mod key {
    pub(super) const MANDATORY: u16 = 0;
    pub(super) const ALPN: u16 = 1;
    pub(super) const PORT: u16 = 3;
    pub(super) const IPV4HINT: u16 = 4;
    /// Of nobody.
    pub(super) const UNKNOWN: u16 = 4_711;
}

/// A key and its value.
type Param<'a> = (u16, &'a [u8]);

/// Parameters stand in the order of their keys (RFC 9460 section 2.2).
fn sorted<'a>(some: &[Param<'a>], others: &[Param<'a>]) -> Vec<Param<'a>> {
    let mut params = [some, others].concat();
    params.sort_by_key(|(key, _)| *key);
    params
}

/// The contents of a record that offers `MOVING` by these parameters.
fn svcb(priority: u16, params: &[Param<'_>]) -> Vec<u8> {
    let mut rdata = priority.to_be_bytes().to_vec();
    rdata.extend(wire_name(MOVING));
    for (key, value) in params {
        rdata.extend(key.to_be_bytes());
        rdata.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        rdata.extend_from_slice(value);
    }
    rdata
}

/// The contents of a record that offers `MOVING` over TLS at this place.
fn dot(hint: [u8; 4], port: u16) -> Vec<u8> {
    svcb(
        1,
        &[
            (key::ALPN, b"\x03dot"),
            (key::PORT, &port.to_be_bytes()),
            (key::IPV4HINT, &hint),
        ],
    )
}

/// A resolver in the clear that answers every name with SERVFAIL, and designates as it is told.
struct Designating {
    offers: Arc<Mutex<Vec<Vec<u8>>>>,
    plain: Scripted,
}

impl Designating {
    async fn at(ip: [u8; 4], offers: &[Vec<u8>]) -> Self {
        let offers = Arc::new(Mutex::new(offers.to_vec()));
        let own = Arc::clone(&offers);
        let plain = Scripted::start_at(ip, move |query| {
            let end = question_end(query);
            let is_discovery = query[12..end - 4].eq_ignore_ascii_case(&wire_name(DISCOVERY));
            if !is_discovery || query[end - 4..end - 2] != SVCB.to_be_bytes() {
                return Some(reply_to(query, 2, [&[], &[], &[]]));
            }
            let own = own.lock().unwrap();
            let records = own.iter().map(|rdata| record(&[0xc0, 12], SVCB, CLASS_IN, 300, rdata));
            Some(reply_to(query, 0, [&records.collect::<Vec<_>>(), &[], &[]]))
        })
        .await;
        Self { offers, plain }
    }

    fn designates(&self, offers: &[Vec<u8>]) {
        *self.offers.lock().unwrap() = offers.to_vec();
    }

    /// As a provider that is asked for designations, with more lines of that table.
    fn block(&self, more: &str) -> String {
        format!(
            "[[provider]]\nname = \"plain\"\n{more}ddr = true\nendpoints = [\"udp://{}\"]\n",
            self.plain.address
        )
    }

    /// How often it was asked for anything but designations.
    fn asked_for_names(&self) -> usize {
        self.plain.asked().len() - self.plain.asked_for(DISCOVERY).len()
    }
}

async fn designations(node: &Node, outcome: &str) -> u64 {
    let label = format!("outcome=\"{outcome}\"");
    node.metric("detour_designations_total", &[&label]).await
}

async fn has_designated(node: &Node) -> bool {
    node.text("/api/v1/providers").await.contains("@ddr")
}

/// Whether an answer is passed on as validated.
async fn is_vouched_for(node: &Node) -> bool {
    let reply = Udp::to(node.dns())
        .await
        .ask(&Message::query(".", rtype::SOA).dnssec_ok())
        .await;
    assert_eq!(reply.rcode, 0, "{}", node.log());
    reply.has(flag::AD)
}

#[tokio::test]
async fn a_designated_resolver_that_proves_to_be_meant_is_preferred() {
    let trusted = Trusted::new();
    let there = trusted.fake_at([127, 0, 0, 2], 0);
    let port = port_of(&there, Transport::Dot);
    // Its certificate names 127.0.0.1, too.
    let own = Designating::at([127, 0, 0, 1], &[dot([127, 0, 0, 2], port)]).await;
    let text = config(&[own.block(&trusted.line())]);
    let node = Node::start(&text).await;
    let mut asked = 0;
    until("it is asked over TLS", PATIENCE, async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
    assert!(there.stats().of(Transport::Dot).answered > 0);
    assert!(is_vouched_for(&node).await);
    assert_eq!(designations(&node, "proven").await, 1);
    let label = format!("tls://127.0.0.2:{port}#{MOVING}@ddr");
    assert!(node.text("/api/v1/providers").await.contains(&label));
    // A reload of the same file keeps it.
    node.reloaded(&text).await;
    let in_the_clear = own.plain.asked().len();
    for _ in 0..3 {
        assert!(ask(node.dns(), &mut asked).await, "{}", node.log());
    }
    assert_eq!(own.plain.asked().len(), in_the_clear);
    // And one that asks nobody forgets it.
    node.reloaded(&text.replace("ddr = true", "ddr = false")).await;
    assert!(!has_designated(&node).await);
}

#[tokio::test]
async fn a_reload_that_has_others_asked_too_keeps_what_was_proven_of_those_who_stay() {
    let trusted = Trusted::new();
    let [first, second, third] = [2, 3, 2].map(|last| trusted.fake_at([127, 0, 0, last], 0));
    let [one, two, three] = [&first, &second, &third].map(|fake| port_of(fake, Transport::Dot));
    let offers = [dot([127, 0, 0, 2], one), dot([127, 0, 0, 3], two)];
    let own = Designating::at([127, 0, 0, 1], &offers).await;
    let other = Designating::at([127, 0, 0, 1], &[dot([127, 0, 0, 2], three)]).await;
    let text = config(&[own.block(&trusted.line())]);
    let node = Node::start(&text).await;
    until("both are proven", PATIENCE, async || has_designated(&node).await).await;
    let asked = own.plain.asked_for(DISCOVERY).len();
    // Now it could not be proven.
    second.set_fault(TransportSel::All, Fault::Rst);
    let more = other.block(&trusted.line()).replace("\"plain\"", "\"other\"");
    node.reloaded(&format!("{text}\n{more}")).await;
    let places = [("127.0.0.2", one), ("127.0.0.3", two), ("127.0.0.2", three)];
    let labels = places.map(|(ip, port)| format!("tls://{ip}:{port}#{MOVING}@ddr"));
    until("the other's is used", PATIENCE, async || {
        node.text("/api/v1/providers").await.contains(&labels[2])
    })
    .await;
    let providers = node.text("/api/v1/providers").await;
    assert!(labels.iter().all(|label| providers.contains(label)), "{providers}");
    assert_eq!(
        own.plain.asked_for(DISCOVERY).len(),
        asked,
        "there is nothing to ask it anew"
    );
}

#[tokio::test]
async fn nobody_is_asked_for_designations_unless_the_file_says_so() {
    let trusted = Trusted::new();
    let there = trusted.fake_at([127, 0, 0, 2], 0);
    let own = Designating::at([127, 0, 0, 1], &[dot([127, 0, 0, 2], port_of(&there, Transport::Dot))]).await;
    let text = config(&[own.block(&trusted.line()).replace("ddr = true\n", "")]);
    let node = Node::start(&text).await;
    let mut asked = 0;
    for _ in 0..3 {
        assert!(!ask(node.dns(), &mut asked).await);
    }
    assert!(own.asked_for_names() > 0);
    assert_eq!(own.plain.asked_for(DISCOVERY).len(), 0);
    // A reload turns it on.
    node.reloaded(&config(&[own.block(&trusted.line())])).await;
    until("it is asked over TLS", PATIENCE, async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
}

#[tokio::test]
async fn a_designated_resolver_whose_certificate_is_for_others_is_refused_until_it_is_right() {
    let trusted = Trusted::new();
    let there = trusted.fake_at([127, 0, 0, 2], 0);
    let port = port_of(&there, Transport::Dot);
    // It is right for its name, but 127.0.0.9 is not in it.
    let own = Designating::at([127, 0, 0, 9], &[dot([127, 0, 0, 2], port)]).await;
    let node = Node::start(&config(&[own.block(&trusted.line())])).await;
    until("it is refused", PATIENCE, async || {
        designations(&node, "refused").await >= 1
    })
    .await;
    let warnings = node.status().await["warnings"].to_string();
    assert!(
        warnings.contains("tls-wrong-name") && warnings.contains(MOVING),
        "{warnings}"
    );
    let mut asked = 0;
    assert!(!ask(node.dns(), &mut asked).await);
    assert!(!has_designated(&node).await);
    assert_eq!(there.stats().of(Transport::Dot).queries, 0);
    // One whose certificate has that address is another matter.
    let right = trusted.fake_at([127, 0, 0, 9], 0);
    own.designates(&[dot([127, 0, 0, 9], port_of(&right, Transport::Dot))]);
    until("the right one is asked", Duration::from_secs(30), async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
    assert_eq!(there.stats().of(Transport::Dot).queries, 0);
    until("nothing is amiss", PATIENCE, async || {
        !node.status().await["warnings"].to_string().contains(MOVING)
    })
    .await;
}

#[tokio::test]
async fn what_is_not_understood_of_a_designation_is_not_followed() {
    let trusted = Trusted::new();
    let there = trusted.fake_at([127, 0, 0, 2], 0);
    let port = port_of(&there, Transport::Dot).to_be_bytes();
    let at: [Param<'_>; 2] = [(key::PORT, &port), (key::IPV4HINT, &[127, 0, 0, 2])];
    let refused = [
        // It asks for something that nobody knows.
        svcb(
            1,
            &sorted(
                &at,
                &[
                    (key::MANDATORY, &key::UNKNOWN.to_be_bytes()),
                    (key::ALPN, b"\x03dot"),
                    (key::UNKNOWN, b"x"),
                ],
            ),
        ),
        // A protocol that nobody speaks, none at all, and one whose path is missing.
        svcb(2, &sorted(&at, &[(key::ALPN, b"\x04carp")])),
        svcb(3, &sorted(&at, &[])),
        svcb(4, &sorted(&at, &[(key::ALPN, b"\x02h2")])),
        // An alias.
        svcb(0, &[]),
    ];
    let own = Designating::at([127, 0, 0, 1], &refused).await;
    let node = Node::start(&config(&[own.block(&trusted.line())])).await;
    until("it was asked twice", Duration::from_secs(30), async || {
        own.plain.asked_for(DISCOVERY).len() >= 2
    })
    .await;
    assert!(!has_designated(&node).await);
    assert_eq!(there.stats().of(Transport::Dot).queries, 0);
    // Beside something known it does no harm.
    let known = svcb(
        7,
        &sorted(&at, &[(key::ALPN, b"\x04carp\x03dot"), (key::UNKNOWN, b"x")]),
    );
    own.designates(&[&refused[..], &[known]].concat());
    let mut asked = 0;
    until("the one that is known is asked", Duration::from_secs(30), async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
    assert!(there.stats().of(Transport::Dot).answered > 0);
}

#[tokio::test]
async fn who_requires_encryption_sends_no_name_in_the_clear_before_or_after() {
    let trusted = Trusted::new();
    let there = trusted.fake_at([127, 0, 0, 2], 0);
    let own = Designating::at([127, 0, 0, 1], &[]).await;
    let node = Node::start(&(config(&[own.block(&trusted.line())]) + "\n[select]\nencryption = \"require\"\n")).await;
    let mut asked = 0;
    assert!(!ask(node.dns(), &mut asked).await, "nobody can be asked");
    own.designates(&[dot([127, 0, 0, 2], port_of(&there, Transport::Dot))]);
    until("it is asked over TLS", Duration::from_secs(30), async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
    // Neither a failure nor a designation that was taken back is a way to hear the names.
    own.designates(&[]);
    there.set_fault(TransportSel::All, Fault::Rst);
    for _ in 0..3 {
        assert!(!ask(node.dns(), &mut asked).await);
    }
    assert!(has_designated(&node).await);
    assert_eq!(own.asked_for_names(), 0);
}

#[tokio::test]
async fn a_resolver_at_a_private_address_may_designate_itself() {
    // Nobody here trusts who signed its certificate.
    let there = Trusted::new().fake_at([127, 0, 0, 9], 0);
    let own = Designating::at([127, 0, 0, 9], &[dot([127, 0, 0, 9], port_of(&there, Transport::Dot))]).await;
    let node = Node::start(&config(&[own.block("")])).await;
    let mut asked = 0;
    until("it is asked over TLS", PATIENCE, async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
    assert!(there.stats().of(Transport::Dot).answered > 0);
    assert!(!is_vouched_for(&node).await, "anybody may be there");
}

#[tokio::test]
async fn who_requires_encryption_wants_more_than_a_private_address() {
    let there = Trusted::new().fake_at([127, 0, 0, 9], 0);
    let own = Designating::at([127, 0, 0, 9], &[dot([127, 0, 0, 9], port_of(&there, Transport::Dot))]).await;
    let text = config(&[own.block("")]) + "\n[select]\nencryption = \"require\"\n";
    let node = Node::start(&text).await;
    until("it has designated itself", PATIENCE, async || {
        designations(&node, "proven").await >= 1 && node.log().contains("no designated resolver is used")
    })
    .await;
    let mut asked = 0;
    assert!(!ask(node.dns(), &mut asked).await);
    assert!(!has_designated(&node).await);
    assert_eq!(there.stats().of(Transport::Dot).queries, 0);
    // It is there for who only prefers it.
    node.reloaded(&text.replace("require", "prefer")).await;
    assert!(has_designated(&node).await);
}
