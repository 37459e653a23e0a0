//! One finding each: what was seen, and the sentence that comes of it.

use super::*;
use crate::control::CertificateTime;
use crate::outcome::{Failure, Rcode, Reply};
use crate::topology::{Family, OperatorId, Transport};

const DAY_S: i64 = 86_400;

/// An endpoint in perfect order.
fn well(transport: Transport) -> EndpointSeen {
    let tls = transport.is_encrypted().then(|| TlsSeen {
        version: Some(TlsVersion::Tls13),
        alpn: Some("dot".to_owned()),
        certificate: Some(CertificateSeen {
            names: vec!["one.test".to_owned()],
            ends_in_s: 60 * DAY_S,
            lifetime_s: 90 * 86_400,
        }),
    });
    EndpointSeen {
        label: format!("{}://192.0.2.1", transport.word()),
        transport,
        family: Family::V4,
        is_listed: true,
        ours: Seen {
            connect_us: Some(20_000),
            answer_us: Some(10_000),
            tls,
            certificate_time: None,
            end: End::Answered(Reply::Positive),
            traits: Some(Traits {
                edns: EdnsSeen::Spoken,
                keeps_case: Some(true),
                pads: transport.is_encrypted().then_some(true),
                signatures: Some(Signatures::Passed { is_authentic: true }),
                names: vec![
                    of_name("ads.test", Purpose::Filtered, NameAnswer::Address),
                    of_name("made-up.com", Purpose::Absent, NameAnswer::Denied),
                ],
            }),
        },
        hickory: Hickory::Answered {
            total_us: 30_000,
            rcode: "NOERROR".to_owned(),
        },
    }
}

fn of_name(name: &str, purpose: Purpose, answer: NameAnswer) -> NameSeen {
    NameSeen {
        name: name.to_owned(),
        purpose,
        answer,
    }
}

fn ended(transport: Transport, end: End) -> EndpointSeen {
    EndpointSeen {
        ours: Seen::ended(end),
        hickory: Hickory::Failed("no connections available".to_owned()),
        ..well(transport)
    }
}

fn failed(transport: Transport, failure: Failure) -> EndpointSeen {
    ended(transport, End::Failed(failure))
}

/// An endpoint in order but for one trait.
fn odd(transport: Transport, change: impl Fn(&mut Traits)) -> EndpointSeen {
    let mut endpoint = well(transport);
    change(endpoint.ours.traits.as_mut().unwrap());
    endpoint
}

fn provider(number: u16, endpoints: Vec<EndpointSeen>) -> ProviderSeen {
    ProviderSeen {
        name: format!("p{number}"),
        operator: OperatorId(number),
        filter: "none".to_owned(),
        validates: true,
        is_public: true,
        endpoints,
    }
}

fn examination(providers: Vec<ProviderSeen>) -> Examination {
    Examination {
        name: "a.root-servers.net".to_owned(),
        is_known: true,
        providers,
        before_release_s: 0,
    }
}

/// The sentences about these providers.
fn told(providers: Vec<ProviderSeen>) -> Vec<String> {
    findings(&examination(providers))
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The sentences about one provider that stands beside one in order.
fn told_of(endpoints: Vec<EndpointSeen>) -> Vec<String> {
    let other = [Transport::Udp, Transport::Tls, Transport::Quic].map(well);
    told(vec![provider(1, endpoints), provider(2, other.into())])
}

#[test]
fn who_is_in_order_is_not_told_of() {
    let all = [
        Transport::Udp,
        Transport::Tcp,
        Transport::Tls,
        Transport::Https,
        Transport::Quic,
        Transport::H3,
    ];
    assert_eq!(told_of(all.map(well).into()), [""; 0]);
}

#[test]
fn each_way_to_fail_has_its_sentence_and_its_word() {
    for (failure, word, text) in [
        (Failure::Reset, "reset", "the connection is closed before an answer"),
        (Failure::Unreachable, "unreachable", "nobody listens there"),
        (Failure::ConnectTimeout, "connect", "no connection in 2 s"),
        (Failure::Garbage, "garbage", "what comes is no DNS"),
        (Failure::TlsNotYetValid, "tls-not-yet-valid", "not valid yet"),
        (
            Failure::TlsUntrusted,
            "tls-untrusted",
            "leads to no root that is trusted here",
        ),
        (Failure::TlsPin, "tls-pin", "its key is none of pins"),
        (
            Failure::TlsStalled,
            "tls-stalled",
            "connected, but no TLS handshake in 2 s",
        ),
        (
            Failure::Tls,
            "tls",
            "it is no TLS, or has no version, key exchange or protocol in common",
        ),
        (Failure::Http, "http", "HTTP, but no DNS in it"),
        (
            Failure::Throttled { retry_after_s: Some(3) },
            "throttled",
            "asks to be left alone",
        ),
        (Failure::Local, "local", "this machine is short of sockets"),
    ] {
        let seen = examination(vec![
            provider(1, vec![failed(Transport::Tls, failure)]),
            provider(2, vec![well(Transport::Tls)]),
        ]);
        let [found] = &findings(&seen)[..] else {
            panic!("{failure:?}: {:?}", findings(&seen))
        };
        assert_eq!(
            (found.kind.word(), found.severity()),
            (word, Severity::Fault),
            "{failure:?}"
        );
        let sentence = found.to_string();
        assert!(
            sentence.starts_with("p1, tls: ") && sentence.contains(text),
            "{sentence}"
        );
        assert_eq!(found.endpoints, ["tls://192.0.2.1"]);
    }
}

#[test]
fn certificates_say_what_is_wrong_with_them() {
    let mut expired = failed(Transport::Tls, Failure::TlsExpired);
    expired.ours.certificate_time = Some(CertificateTime::ExpiredFor { seconds: 3 * 86_400 });
    assert_eq!(
        told_of(vec![expired]),
        ["p1, tls: the certificate ended 3 days ago: only its operator can renew it"]
    );
    let mut wrong = failed(Transport::H3, Failure::TlsWrongName);
    wrong.ours.tls = Some(TlsSeen {
        certificate: Some(CertificateSeen {
            names: vec!["a.test".to_owned(), "b.test".to_owned()],
            ends_in_s: DAY_S,
            lifetime_s: 90 * 86_400,
        }),
        ..TlsSeen::default()
    });
    assert_eq!(
        told_of(vec![wrong]),
        ["p1, h3: the certificate is for a.test, b.test, which is not what #name says"]
    );
}

#[test]
fn of_many_names_the_first_are_told() {
    let mut wrong = failed(Transport::Tls, Failure::TlsWrongName);
    wrong.ours.tls = well(Transport::Tls).ours.tls;
    let certificate = wrong.ours.tls.as_mut().unwrap().certificate.as_mut().unwrap();
    certificate.names = ["a.test", "b.test", "c.test", "d.test"].map(str::to_owned).into();
    assert_eq!(
        told_of(vec![wrong]),
        ["p1, tls: the certificate is for a.test, b.test, c.test and others, which is not what #name says"]
    );
}

#[test]
fn a_certificate_that_should_have_been_renewed_is_told_of_before_it_ends() {
    for (left_s, lifetime_s, is_near) in [
        (8 * DAY_S, 90 * 86_400, true),
        (10 * DAY_S, 90 * 86_400, false),
        (13 * DAY_S, 365 * 86_400, true),
        (15 * DAY_S, 365 * 86_400, false),
        // Those that live for six days are renewed every other day.
        (DAY_S, 6 * 86_400, false),
        (DAY_S / 2, 6 * 86_400, true),
    ] {
        let mut endpoint = well(Transport::Tls);
        let tls = endpoint.ours.tls.as_mut().unwrap();
        let certificate = tls.certificate.as_mut().unwrap();
        (certificate.ends_in_s, certificate.lifetime_s) = (left_s, lifetime_s);
        let told = told_of(vec![endpoint]);
        assert_eq!(told.len(), usize::from(is_near), "{left_s} of {lifetime_s}: {told:?}");
        assert!(told.iter().all(|text| text.contains("is not renewed yet")), "{told:?}");
    }
}

#[test]
fn what_an_answer_says_is_told() {
    let answered = |reply| {
        let mut endpoint = well(Transport::Udp);
        endpoint.ours.end = End::Answered(reply);
        endpoint
    };
    for (reply, text) in [
        (Reply::Failed(Rcode::SERVFAIL), "SERVFAIL to a name that is no trouble"),
        (Reply::Failed(Rcode::REFUSED), "REFUSED to a name that is no trouble"),
        (Reply::Failed(Rcode(9)), "response code 9 to a name that is no trouble"),
        (
            Reply::Bogus,
            "SERVFAIL, because DNSSEC signatures are found wrong: is its clock right?",
        ),
        (
            Reply::Denial { soa: true },
            "it says that a.root-servers.net has no address, but it has one",
        ),
        (
            Reply::Truncated,
            "even a short answer is cut and has to be fetched over TCP",
        ),
        (
            Reply::Filtered,
            "it keeps back a.root-servers.net, but the configuration says filter = \"none\": answers depend on who is asked",
        ),
    ] {
        assert_eq!(
            told_of(vec![answered(reply)]),
            [format!("p1, udp: {text}")],
            "{reply:?}"
        );
    }
    let silent = told_of(vec![ended(Transport::Udp, End::Silent)]);
    assert_eq!(
        silent,
        ["p1, udp: not a word in time: the query, or its answer, is lost on the way or ignored"]
    );
    let other = told_of(vec![ended(Transport::Udp, End::Mismatch)]);
    assert_eq!(
        other,
        ["p1, udp: what comes answers another question: it meddles, or something on the way"]
    );
}

#[test]
fn that_a_name_is_unknown_to_all_is_nobodys_fault() {
    let denial = || {
        let mut endpoint = well(Transport::Udp);
        endpoint.ours.end = End::Answered(Reply::Denial { soa: true });
        endpoint
    };
    let mut seen = examination(vec![provider(1, vec![denial()]), provider(2, vec![denial()])]);
    seen.is_known = false;
    assert_eq!(findings(&seen), []);
    seen.providers[1].endpoints = vec![well(Transport::Udp)];
    let words: Vec<_> = findings(&seen).iter().map(|found| found.kind.word()).collect();
    assert_eq!(words, ["denies"]);
}

#[test]
fn who_serves_a_routes_names_need_not_know_others() {
    let mut endpoint = well(Transport::Udp);
    endpoint.ours.end = End::Answered(Reply::Denial { soa: true });
    let mut internal = provider(1, vec![endpoint]);
    internal.is_public = false;
    assert_eq!(told(vec![internal, provider(2, vec![well(Transport::Udp)])]), [""; 0]);
}

#[test]
fn what_an_endpoint_lacks_is_told() {
    for (transport, change, text) in [
        (
            Transport::Udp,
            (|traits: &mut Traits| traits.edns = EdnsSeen::Refused) as fn(&mut Traits),
            "EDNS is not spoken",
        ),
        (
            Transport::Tls,
            |traits| traits.edns = EdnsSeen::Ignored,
            "EDNS is not spoken",
        ),
        (
            Transport::Udp,
            |traits| traits.edns = EdnsSeen::Swallowed,
            "queries with EDNS vanish",
        ),
        (
            Transport::Udp,
            |traits| traits.keeps_case = Some(false),
            "the case of a name's letters is lost",
        ),
        (
            Transport::Https,
            |traits| traits.pads = Some(false),
            "answers are not padded",
        ),
        (
            Transport::Udp,
            |traits| traits.signatures = Some(Signatures::Stripped),
            "DNSSEC signatures do not come through",
        ),
        (
            Transport::Udp,
            |traits| traits.signatures = Some(Signatures::Passed { is_authentic: false }),
            "it does not say that it validates DNSSEC",
        ),
    ] {
        let told = told_of(vec![odd(transport, change)]);
        assert!(told.len() == 1 && told[0].contains(text), "{text}: {told:?}");
    }
}

#[test]
fn without_edns_nothing_is_missed_that_needs_it() {
    let endpoint = odd(Transport::Tls, |traits| {
        traits.edns = EdnsSeen::Refused;
        traits.pads = Some(false);
        traits.signatures = Some(Signatures::Stripped);
    });
    assert_eq!(told_of(vec![endpoint]).len(), 1);
}

#[test]
fn who_is_not_said_to_validate_need_not_say_so() {
    let unsaid = odd(Transport::Udp, |traits| {
        traits.signatures = Some(Signatures::Passed { is_authentic: false });
    });
    let mut one = provider(1, vec![unsaid]);
    one.validates = false;
    assert_eq!(told(vec![one]), [""; 0]);
}

#[test]
fn a_filter_is_seen_where_names_are_kept_back_or_others_know_better() {
    for (answer, is_filter) in [
        (NameAnswer::Kept, true),
        (NameAnswer::Nowhere, true),
        (NameAnswer::Denied, true),
        (NameAnswer::Unanswered, false),
        (NameAnswer::Address, false),
    ] {
        let change = |traits: &mut Traits| traits.names[0].answer = answer;
        let told = told_of(vec![odd(Transport::Udp, change)]);
        let expected = "p1, udp: it keeps back ads.test, but the configuration says filter = \"none\": answers depend on \
                        who is asked";
        assert_eq!(told == [expected], is_filter, "{answer:?}: {told:?}");
        // Who is said to filter may.
        let mut filtering = provider(1, vec![odd(Transport::Udp, change)]);
        filtering.filter = "ads".to_owned();
        assert_eq!(findings(&examination(vec![filtering])), []);
    }
    // A name that nobody knows is kept back by nobody.
    let denied = || odd(Transport::Udp, |traits| traits.names[0].answer = NameAnswer::Denied);
    assert_eq!(
        told(vec![provider(1, vec![denied()]), provider(2, vec![denied()])]),
        [""; 0]
    );
}

#[test]
fn an_address_for_what_does_not_exist_is_told() {
    let redirected = odd(Transport::Udp, |traits| traits.names[1].answer = NameAnswer::Address);
    assert_eq!(
        told_of(vec![redirected]),
        ["p1, udp: it has an address for made-up.com, which does not exist: mistyped names lead astray"]
    );
}

#[test]
fn who_has_an_address_for_everything_is_no_witness_against_others() {
    let redirecting = odd(Transport::Udp, |traits| traits.names[1].answer = NameAnswer::Address);
    let denying = odd(Transport::Udp, |traits| traits.names[0].answer = NameAnswer::Denied);
    let told = told(vec![provider(1, vec![redirecting]), provider(2, vec![denying])]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("p1, udp: it has an address for made-up.com"),
        "{told:?}"
    );
}

#[test]
fn the_same_of_several_endpoints_is_one_sentence() {
    let wrong = |transport| failed(transport, Failure::TlsUntrusted);
    let mut v6 = well(Transport::Udp);
    v6.label = "udp://[2001:db8::1]".to_owned();
    v6.family = Family::V6;
    v6.ours = Seen::ended(End::Silent);
    let told = told_of(vec![
        wrong(Transport::Tls),
        well(Transport::Tcp),
        wrong(Transport::Https),
        well(Transport::Udp),
        EndpointSeen {
            hickory: Hickory::Failed(String::new()),
            ..v6
        },
    ]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("p1, tls, https: the certificate leads to no root"),
        "{told:?}"
    );
    // One of two addresses: the transport alone would say too much.
    assert!(told[1].starts_with("p1, udp://[2001:db8::1]: not a word"), "{told:?}");
}

#[test]
fn a_path_that_nobody_answers_on_is_the_networks_fault() {
    let blocked = |number| {
        let quic = failed(Transport::Quic, Failure::ConnectTimeout);
        provider(number, vec![quic, well(Transport::Tls)])
    };
    assert_eq!(
        told(vec![blocked(1), blocked(2)]),
        [
            "over quic/ipv4 none of 2 operators answers, and in other ways they do: something between this machine and them \
          blocks it"
        ]
    );
    // One alone may be at fault itself.
    assert_eq!(told(vec![blocked(1)]).len(), 1);
    assert!(
        told(vec![blocked(1)])[0].starts_with("p1, quic: no connection"),
        "{:?}",
        told(vec![blocked(1)])
    );
    // What is wrong beside it is told too.
    let mut other = blocked(2);
    other.endpoints[1] = failed(Transport::Tls, Failure::TlsUntrusted);
    other.endpoints.push(well(Transport::Https));
    assert_eq!(told(vec![blocked(1), other]).len(), 2);
}

#[test]
fn where_nothing_answers_the_own_network_is_named_and_nobody_else() {
    let lost = |number| {
        let endpoints = vec![
            ended(Transport::Udp, End::Silent),
            failed(Transport::Tls, Failure::ConnectTimeout),
        ];
        provider(number, endpoints)
    };
    assert_eq!(
        told(vec![lost(1), lost(2)]),
        ["nothing answers, whichever of 2 operators is asked: look at this machine's own network first"]
    );
    assert_eq!(told(vec![lost(1)]).len(), 2);
}

#[test]
fn an_address_family_that_nobody_answers_over_is_one_notice() {
    let of_both = |number| {
        let lost = |transport, end| {
            let mut v6 = ended(transport, end);
            v6.family = Family::V6;
            v6
        };
        let quiet = lost(Transport::Udp, End::Silent);
        let refused = lost(Transport::Tls, End::Failed(Failure::Unreachable));
        provider(number, vec![well(Transport::Udp), quiet, refused])
    };
    let found = findings(&examination(vec![of_both(1), of_both(2)]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].severity(), found[0].endpoints.len()), (Severity::Notice, 4));
    assert_eq!(
        found[0].to_string(),
        "over IPv6 none of 2 operators answers, and in other ways they do: IPv6 does not work from here"
    );
}

#[test]
fn one_certificate_of_several_operators_is_somebody_in_between() {
    let strange = |failure| {
        let mut endpoint = failed(Transport::Tls, failure);
        endpoint.ours.tls = well(Transport::Tls).ours.tls;
        endpoint
    };
    let between = vec![
        provider(1, vec![strange(Failure::TlsUntrusted)]),
        provider(2, vec![strange(Failure::TlsWrongName), well(Transport::Udp)]),
    ];
    assert_eq!(
        told(between),
        [
            "2 operators show one certificate that is none of theirs, for one.test: something between this machine and \
          them answers in their place"
        ]
    );
    // One operator alone may have the wrong one.
    let told = told_of(vec![strange(Failure::TlsUntrusted)]);
    assert!(
        told.len() == 1 && told[0].starts_with("p1, tls: the certificate leads to no root"),
        "{told:?}"
    );
}

#[test]
fn a_name_that_all_deny_and_that_there_is_is_denied_by_somebody_in_between() {
    let denial = || {
        let mut endpoint = well(Transport::Udp);
        endpoint.ours.end = End::Answered(Reply::Denial { soa: true });
        endpoint
    };
    let found = told(vec![provider(1, vec![denial()]), provider(2, vec![denial()])]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("2 operators say that a.root-servers.net does not exist, and it does"),
        "{found:?}"
    );
}

#[test]
fn a_host_name_without_addresses_is_a_fault() {
    let unresolved = ended(Transport::Tls, End::NotAsked(NotAsked::NoAddress));
    assert_eq!(
        told_of(vec![unresolved]),
        ["p1, tls: its host name has no address: nobody who may be asked for it resolves it (see [bootstrap])"]
    );
}

#[test]
fn a_machine_without_ipv6_is_told_once_and_is_no_fault() {
    let of_both = |number| {
        let mut v6 = failed(Transport::Udp, Failure::NoRoute);
        v6.family = Family::V6;
        provider(number, vec![well(Transport::Udp), v6])
    };
    let seen = examination(vec![of_both(1), of_both(2)]);
    let found = findings(&seen);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].severity(), Severity::Notice);
    assert_eq!(
        found[0].to_string(),
        "this machine has no way to IPv6 addresses: 2 endpoints cannot be used from here"
    );
}

#[test]
fn certificates_that_agree_against_the_clock_are_the_clocks_fault() {
    let expired = || {
        let mut endpoint = failed(Transport::Tls, Failure::TlsExpired);
        endpoint.ours.certificate_time = Some(CertificateTime::ExpiredFor { seconds: 400 * 86_400 });
        endpoint
    };
    assert_eq!(
        told(vec![provider(1, vec![expired()]), provider(2, vec![expired()])]),
        ["this machine's clock is wrong: it is 400 days ahead at least"]
    );
    // One operator's certificate that is right says that it is the other's fault.
    let told_of_one = told_of(vec![expired()]);
    assert!(
        told_of_one.len() == 1 && told_of_one[0].contains("ended 400 days ago"),
        "{told_of_one:?}"
    );
    let mut seen = examination(vec![provider(1, vec![well(Transport::Tls)])]);
    seen.before_release_s = 3 * 86_400;
    assert_eq!(
        findings(&seen)[0].to_string(),
        "this machine's clock is wrong: it is 3 days behind at least"
    );
}

#[test]
fn what_only_one_of_both_can_is_told() {
    let mut ours = well(Transport::Tls);
    ours.hickory = Hickory::Failed("no SNI".to_owned());
    assert_eq!(
        told_of(vec![ours]),
        ["p1, tls: it answers Detour and not hickory-resolver (no SNI)"]
    );
    let mut theirs = failed(Transport::Tls, Failure::Reset);
    theirs.hickory = well(Transport::Tls).hickory;
    let told = told_of(vec![theirs]);
    assert_eq!(
        told[1],
        "p1, tls: it answers hickory-resolver and not Detour: if that lasts, please report it"
    );
    let mut unasked = well(Transport::Tls);
    unasked.hickory = Hickory::NotAsked("reason".to_owned());
    assert_eq!(told_of(vec![unasked]), [""; 0]);
}

#[test]
fn a_slow_answer_is_told_and_a_late_connection_is_not() {
    let mut endpoint = well(Transport::Tls);
    endpoint.ours.connect_us = Some(900_000);
    assert_eq!(told_of(vec![endpoint.clone()]), [""; 0]);
    endpoint.ours.answer_us = Some(900_000);
    assert_eq!(told_of(vec![endpoint]), ["p1, tls: an answer takes more than 500 ms"]);
}

#[test]
fn transports_that_are_not_listed_are_told_of_where_they_work_only() {
    let mut found = well(Transport::Quic);
    found.is_listed = false;
    let mut absent = failed(Transport::H3, Failure::Unreachable);
    absent.is_listed = false;
    let seen = examination(vec![provider(1, vec![well(Transport::Udp), found, absent])]);
    let [hint] = &findings(&seen)[..] else {
        panic!("{:?}", findings(&seen))
    };
    assert_eq!(hint.severity(), Severity::Hint);
    assert_eq!(
        hint.to_string(),
        "p1, quic: it answers here too: the configuration could have it"
    );
}

#[test]
fn what_was_not_asked_is_said_with_its_reason() {
    let unasked = ended(Transport::Udp, End::NotAsked(NotAsked::Cleartext));
    assert_eq!(
        told_of(vec![unasked, well(Transport::Tls)]),
        ["p1, udp: not asked: encryption = \"require\""]
    );
}

#[test]
fn the_worst_comes_first() {
    let mut hint = well(Transport::Quic);
    hint.is_listed = false;
    let notice = odd(Transport::Udp, |traits| traits.keeps_case = Some(false));
    let seen = examination(vec![
        provider(1, vec![notice, hint]),
        provider(2, vec![failed(Transport::Udp, Failure::Reset), well(Transport::Tls)]),
    ]);
    let severities: Vec<_> = findings(&seen).iter().map(Finding::severity).collect();
    assert_eq!(severities, [Severity::Fault, Severity::Notice, Severity::Hint]);
}
