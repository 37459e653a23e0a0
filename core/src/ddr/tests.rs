//! What is believed of a designation, and when it is asked for again.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(s: u64) -> Time {
    Time::at_ms(s.saturating_mul(1_000))
}

/// One record: DoH and DoT of `dns.example`.
fn offer(hint: &str) -> Offer {
    Offer {
        priority: 1,
        target: "dns.example".to_owned(),
        transports: vec![Transport::Tls, Transport::Https],
        port: None,
        hints: vec![ip(hint)],
        path: Some("/dns-query{?dns}".to_owned()),
    }
}

/// To ask these at once.
fn of_new(addresses: &[&str]) -> Discovery {
    let mut discovery = Discovery::default();
    let resolvers: Vec<_> = addresses.iter().map(|address| (ip(address), None)).collect();
    discovery.handle_resolvers(&resolvers, Time::ZERO);
    discovery
}

/// A resolver at this address, being asked.
fn asked(address: &str) -> Discovery {
    let mut discovery = of_new(&[address]);
    assert_eq!(outputs(&mut discovery), [Output::Ask(0)]);
    discovery
}

fn outputs(discovery: &mut Discovery) -> Vec<Output> {
    std::iter::from_fn(|| discovery.poll_output()).collect()
}

/// What is tried after this answer.
fn tried(discovery: &mut Discovery, offers: &[Offer]) -> Vec<Designated> {
    discovery.handle_offers(0, Some((offers, 600)), at(1));
    match outputs(discovery).pop() {
        Some(Output::Try(0, candidates)) => candidates,
        other => panic!("{other:?}"),
    }
}

fn due_s(discovery: &Discovery) -> u64 {
    discovery.poll_timeout().unwrap().0.as_micros() / SEC
}

#[test]
fn a_public_resolver_must_be_in_the_certificate() {
    let mut discovery = asked("192.0.2.1");
    let candidates = tried(&mut discovery, &[offer("192.0.2.1"), offer("192.0.2.9")]);
    let shown: Vec<_> = candidates
        .iter()
        .map(|own| (own.transport, own.address, own.port, own.path.as_deref()))
        .collect();
    let doh = |hint| (Transport::Https, ip(hint), 443, Some("/dns-query"));
    let dot = |hint| (Transport::Tls, ip(hint), 853, None);
    assert_eq!(
        shown,
        [doh("192.0.2.1"), dot("192.0.2.1"), doh("192.0.2.9"), dot("192.0.2.9")]
    );
    let proof = Proof::Certificate(ip("192.0.2.1"));
    assert!(
        candidates.iter().all(|own| own.proof == proof),
        "whatever address it has"
    );
    discovery.handle_tried(0, &candidates[1..3], at(2));
    assert_eq!(outputs(&mut discovery), [Output::Adopt(0, candidates[1..3].to_vec())]);
    assert_eq!(due_s(&discovery), 602);
}

#[test]
fn a_private_resolver_may_designate_itself_and_nobody_else() {
    for address in ["192.168.1.1", "fd00::1", "169.254.1.1", "10.1.1.1"] {
        let mut discovery = asked(address);
        let candidates = tried(&mut discovery, &[offer(address)]);
        let certificate = Proof::Certificate(ip(address));
        let proofs: Vec<_> = candidates.iter().map(|own| own.proof).collect();
        assert_eq!(
            proofs,
            [certificate, Proof::SameAddress, certificate, Proof::SameAddress]
        );
        // The better proof counts.
        discovery.handle_tried(0, &candidates, at(2));
        let adopted = [candidates[0].clone(), candidates[2].clone()];
        assert_eq!(outputs(&mut discovery), [Output::Adopt(0, adopted.to_vec())]);
    }
    let candidates = tried(&mut asked("192.168.1.1"), &[offer("192.168.1.2")]);
    assert!(
        candidates
            .iter()
            .all(|own| own.proof == Proof::Certificate(ip("192.168.1.1")))
    );
}

#[test]
fn offers_that_cannot_be_used_are_not_tried() {
    let whole = offer("192.0.2.1");
    for (offer, why) in [
        (
            Offer {
                target: String::new(),
                ..whole.clone()
            },
            Lacking::Target,
        ),
        (
            Offer {
                transports: vec![],
                ..whole.clone()
            },
            Lacking::Transport,
        ),
        (
            Offer {
                hints: vec![],
                ..whole.clone()
            },
            Lacking::Address,
        ),
        (
            Offer {
                transports: vec![Transport::H3],
                path: Some("/{?other}".to_owned()),
                ..whole.clone()
            },
            Lacking::Path,
        ),
    ] {
        assert_eq!(lacking(&offer), Some(why));
        let mut discovery = asked("192.0.2.1");
        discovery.handle_offers(0, Some((&[offer], 600)), at(1));
        assert_eq!((outputs(&mut discovery), due_s(&discovery)), (vec![], 6));
    }
    // Without a path there is still DNS over TLS.
    let without = Offer { path: None, ..whole };
    let candidates = tried(&mut asked("192.0.2.1"), &[without]);
    assert_eq!(candidates.len(), 1);
    assert_eq!(candidates[0].transport, Transport::Tls);
}

#[test]
fn what_is_in_use_stays_until_something_else_was_proven() {
    let mut discovery = asked("192.0.2.1");
    let candidates = tried(&mut discovery, &[offer("192.0.2.1")]);
    discovery.handle_tried(0, &candidates, at(1));
    outputs(&mut discovery);
    discovery.handle_timeout(at(601));
    assert_eq!(outputs(&mut discovery), [Output::Ask(0)]);
    // Nobody is designated any more, says somebody.
    discovery.handle_offers(0, Some((&[], 600)), at(601));
    assert_eq!((outputs(&mut discovery), due_s(&discovery)), (vec![], 606));
    discovery.handle_timeout(at(606));
    outputs(&mut discovery);
    // The same again is no news, in spite of what happened meanwhile.
    let again = tried(&mut discovery, &[offer("192.0.2.1")]);
    discovery.handle_tried(0, &again, at(607));
    assert_eq!(outputs(&mut discovery), []);
}

#[test]
fn what_brings_nothing_is_asked_ever_more_rarely() {
    let mut discovery = asked("192.0.2.1");
    let mut waits = Vec::new();
    let mut now = 0;
    for _ in 0..12 {
        discovery.handle_offers(0, None, at(now));
        waits.push(due_s(&discovery) - now);
        now = due_s(&discovery);
        discovery.handle_timeout(at(now));
        assert_eq!(outputs(&mut discovery), [Output::Ask(0)]);
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]);
    // A word that is never said is none either.
    assert_eq!(due_s(&discovery), now + 60);
    discovery.handle_timeout(at(now + 60));
    assert_eq!(due_s(&discovery), now + 60 + 3_600);
    discovery.handle_tried(0, &[], at(now + 61));
    assert_eq!(due_s(&discovery), now + 60 + 3_600, "too late");
}

#[test]
fn what_was_proven_and_is_still_designated_stays_though_it_fails_now() {
    let mut discovery = asked("192.0.2.1");
    let both = tried(&mut discovery, &[offer("192.0.2.1")]);
    discovery.handle_tried(0, &both, at(1));
    outputs(&mut discovery);
    discovery.handle_timeout(at(601));
    outputs(&mut discovery);
    assert_eq!(tried(&mut discovery, &[offer("192.0.2.1")]), both);
    discovery.handle_tried(0, &both[1..], at(601));
    assert_eq!(outputs(&mut discovery), [], "DNS over HTTPS does not answer now");
    // What is designated no more goes, once what is designated has proven to be meant.
    discovery.handle_timeout(at(1_201));
    outputs(&mut discovery);
    let elsewhere = tried(&mut discovery, &[offer("192.0.2.9")]);
    discovery.handle_tried(0, &elsewhere[..1], at(1_201));
    assert_eq!(outputs(&mut discovery), [Output::Adopt(0, elsewhere[..1].to_vec())]);
}

#[test]
fn a_designated_endpoint_that_fails_has_its_resolver_asked_but_not_all_the_time() {
    let mut discovery = asked("192.0.2.1");
    let candidates = tried(&mut discovery, &[offer("192.0.2.1")]);
    discovery.handle_tried(0, &candidates, at(1));
    outputs(&mut discovery);
    discovery.handle_failure(0, at(10));
    assert_eq!((outputs(&mut discovery), due_s(&discovery)), (vec![], 30));
    discovery.handle_failure(0, at(100));
    assert_eq!(outputs(&mut discovery), [Output::Ask(0)]);
    // It is being asked: one answer is enough.
    discovery.handle_failure(0, at(101));
    assert_eq!(outputs(&mut discovery), []);
    discovery.handle_failure(7, at(101));
    assert_eq!(outputs(&mut discovery), [], "nobody");
}

#[test]
fn another_network_is_a_reason_to_ask_those_who_did_not_answer() {
    let mut discovery = of_new(&["192.0.2.1", "192.0.2.2"]);
    outputs(&mut discovery);
    let candidates = tried(&mut discovery, &[offer("192.0.2.1")]);
    discovery.handle_tried(0, &candidates, at(1));
    for s in [1, 6, 16] {
        discovery.handle_offers(1, None, at(s));
        discovery.handle_timeout(Time::at_ms((due_s(&discovery)) * 1_000));
    }
    discovery.handle_offers(1, None, at(40));
    outputs(&mut discovery);
    discovery.handle_new_network(at(41));
    assert_eq!(outputs(&mut discovery), [Output::Ask(1)], "what is fresh stays");
}

#[test]
fn what_anybody_at_a_private_address_can_show_does_not_come_along_to_another_network() {
    let mut discovery = asked("192.168.1.1");
    let candidates = tried(&mut discovery, &[offer("192.168.1.1")]);
    let [certain, weak] = [0, 3].map(|place| candidates[place].clone());
    assert_eq!(weak.proof, Proof::SameAddress);
    discovery.handle_tried(0, &[certain.clone(), weak.clone()], at(1));
    assert_eq!(
        outputs(&mut discovery),
        [Output::Adopt(0, vec![certain.clone(), weak.clone()])]
    );
    discovery.handle_new_network(at(10));
    assert_eq!(
        outputs(&mut discovery),
        [Output::Adopt(0, vec![certain.clone()]), Output::Ask(0)]
    );
    // Nor does what is being tried when the network changes.
    tried(&mut discovery, &[offer("192.168.1.1")]);
    discovery.handle_new_network(at(12));
    assert_eq!(outputs(&mut discovery), [Output::Ask(0)]);
    tried(&mut discovery, &[offer("192.168.1.1")]);
    discovery.handle_tried(0, std::slice::from_ref(&weak), at(13));
    assert_eq!(
        outputs(&mut discovery),
        [Output::Adopt(0, vec![certain, weak])],
        "proven here"
    );
}

#[test]
fn in_another_configuration_what_was_proven_of_those_who_stay_stays() {
    let mut discovery = asked("192.0.2.1");
    let both = tried(&mut discovery, &[offer("192.0.2.1")]);
    discovery.handle_tried(0, &both, at(1));
    outputs(&mut discovery);
    let stays = [(ip("192.0.2.7"), None), (ip("192.0.2.1"), Some(0))];
    discovery.handle_resolvers(&stays, at(10));
    assert_eq!(outputs(&mut discovery), [Output::Ask(0)], "nobody else is asked now");
    discovery.handle_offers(0, None, at(10));
    // What is under way when it changes again is asked anew.
    discovery.handle_timeout(at(601));
    assert_eq!(outputs(&mut discovery), [Output::Ask(0), Output::Ask(1)]);
    discovery.handle_resolvers(
        &stays[1..].iter().map(|(ip, _)| (*ip, Some(1))).collect::<Vec<_>>(),
        at(602),
    );
    assert_eq!(outputs(&mut discovery), [Output::Ask(0)]);
    assert_eq!(tried(&mut discovery, &[offer("192.0.2.1")]), both);
    discovery.handle_tried(0, &both[1..], at(603));
    assert_eq!(outputs(&mut discovery), [], "DNS over HTTPS does not answer now");
}
