//! Names that resolve, do not, move, and are remembered.

use super::*;

const ONE: NameId = NameId(0);

struct Bench {
    names: Names,
}

impl Bench {
    /// One name, being resolved.
    fn new() -> Self {
        let mut names = Names::default();
        names.handle_configuration(&["dns.example".to_owned()], Time::ZERO);
        let mut bench = Self { names };
        assert_eq!(bench.outputs(), [Output::Resolve(ONE)]);
        bench
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.names.poll_output()).collect()
    }

    fn found(&mut self, v4: &[&str], ttl_s: u32, s: u64) -> Vec<Output> {
        let found = Found {
            v4: Some(ips(v4)),
            v6: Some(Vec::new()),
            ttl_s,
        };
        self.names.handle_found(ONE, &found, at(s));
        self.outputs()
    }

    fn nothing(&mut self, s: u64) {
        self.names.handle_found(ONE, &Found::default(), at(s));
        assert_eq!(self.outputs(), []);
    }

    /// Seconds at which it wants to be woken.
    fn due(&self) -> u64 {
        self.names.poll_timeout().unwrap().0.as_micros() / SEC
    }

    fn wake(&mut self, s: u64) -> Vec<Output> {
        self.names.handle_timeout(at(s));
        self.outputs()
    }
}

fn at(s: u64) -> Time {
    Time::at_ms(s.saturating_mul(1_000))
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_name_is_resolved_at_once_and_again_when_it_expires() {
    let mut bench = Bench::new();
    let known = ips(&["192.0.2.1"]);
    let first = [Output::Changed(ONE, known.clone()), Output::Keep(ONE, known.clone())];
    assert_eq!(bench.found(&["192.0.2.1"], 300, 1), first);
    assert_eq!((bench.due(), bench.names.standing(ONE)), (301, Some(Standing::Fresh)));
    assert_eq!(bench.wake(300), []);
    assert_eq!(bench.wake(301), [Output::Resolve(ONE)]);
    assert_eq!(bench.names.standing(ONE), Some(Standing::Stale));
    // The same again changes nothing, in whatever order.
    assert_eq!(bench.found(&["192.0.2.1"], 300, 302), [Output::Keep(ONE, known)]);
    let two = ips(&["192.0.2.1", "192.0.2.2"]);
    bench.wake(602);
    assert_eq!(
        bench.found(&["192.0.2.1", "192.0.2.2"], 1, 602)[0],
        Output::Changed(ONE, two.clone())
    );
    assert_eq!(bench.due(), 632, "not all the time");
    bench.wake(632);
    let turned = bench.found(&["192.0.2.2", "192.0.2.1"], u32::MAX, 632);
    assert!(matches!(turned[..], [Output::Keep(..)]), "{turned:?}");
    assert_eq!(bench.names.addresses(ONE), two);
    assert_eq!(bench.due(), 632 + 86_400, "a day is long enough");
}

#[test]
fn what_fails_is_tried_again_ever_more_rarely_and_changes_nothing() {
    let mut bench = Bench::new();
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..9 {
        bench.nothing(now);
        waits.push(bench.due() - now);
        now = bench.due();
        assert_eq!(bench.wake(now), [Output::Resolve(ONE)]);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(bench.names.failing().collect::<Vec<_>>(), ["dns.example"]);
    bench.found(&["192.0.2.1"], 60, now);
    assert_eq!(bench.names.failing().count(), 0);
    bench.wake(now + 60);
    bench.nothing(now + 61);
    assert_eq!(bench.due(), now + 62);
    assert_eq!(
        bench.names.addresses(ONE),
        ips(&["192.0.2.1"]),
        "they may answer all the same"
    );
    // Nor is a name that is gone.
    bench.wake(now + 62);
    assert_eq!(bench.found(&[], 60, now + 62), []);
    assert_eq!(bench.names.addresses(ONE), ips(&["192.0.2.1"]));
}

#[test]
fn a_family_nobody_said_anything_about_stays_and_is_asked_for_soon() {
    let mut bench = Bench::new();
    let both = Found {
        v4: Some(ips(&["192.0.2.1"])),
        v6: Some(ips(&["2001:db8::1"])),
        ttl_s: 600,
    };
    bench.names.handle_found(ONE, &both, at(0));
    bench.wake(600);
    bench.outputs();
    let half = Found {
        v4: Some(ips(&["192.0.2.2"])),
        v6: None,
        ttl_s: 600,
    };
    bench.names.handle_found(ONE, &half, at(600));
    assert_eq!(bench.names.addresses(ONE), ips(&["2001:db8::1", "192.0.2.2"]));
    assert_eq!(bench.due(), 601);
}

#[test]
fn a_failing_endpoint_has_its_name_resolved_but_not_all_the_time() {
    let mut bench = Bench::new();
    bench.found(&["192.0.2.1"], 3_600, 0);
    bench.names.handle_trouble(ONE, true, at(5));
    assert_eq!(bench.outputs(), [Output::Resolve(ONE)]);
    bench.found(&["192.0.2.1"], 3_600, 5);
    assert_eq!(bench.due(), 65, "while it fails it may move");
    bench.names.handle_trouble(ONE, true, at(6));
    assert_eq!((bench.outputs(), bench.due()), (vec![], 15));
    bench.names.handle_trouble(ONE, false, at(7));
    bench.wake(15);
    bench.found(&["192.0.2.1"], 3_600, 15);
    assert_eq!(bench.due(), 3_615);
}

#[test]
fn an_endpoint_that_goes_on_failing_has_its_name_resolved_every_ten_seconds() {
    let mut bench = Bench::new();
    bench.found(&["192.0.2.1"], 3_600, 0);
    let mut resolved = Vec::new();
    for s in 5..=40 {
        // Several endpoints, again and again.
        for _ in 0..3 {
            bench.names.handle_trouble(ONE, true, at(s));
        }
        if bench.outputs() == [Output::Resolve(ONE)] {
            resolved.push(s);
            bench.found(&["192.0.2.1"], 3_600, s);
        }
    }
    assert_eq!(resolved, [5, 15, 25, 35]);
}

#[test]
fn what_an_earlier_process_knew_counts_until_there_is_news() {
    let mut bench = Bench::new();
    let known = ips(&["192.0.2.7"]);
    bench.names.handle_remembered("dns.example", &known, at(0));
    bench.names.handle_remembered("other.example", &known, at(0));
    assert_eq!(bench.outputs(), [Output::Changed(ONE, known.clone())]);
    assert_eq!(bench.names.standing(ONE), Some(Standing::Remembered));
    bench.nothing(1);
    assert_eq!(bench.names.addresses(ONE), known);
    bench.wake(2);
    bench.found(&["192.0.2.1"], 60, 2);
    bench.names.handle_remembered("dns.example", &known, at(3));
    assert_eq!(bench.names.addresses(ONE), ips(&["192.0.2.1"]), "old news");
}

#[test]
fn another_configuration_keeps_what_is_known_and_tells_it_again() {
    let mut bench = Bench::new();
    bench.found(&["192.0.2.1"], 600, 0);
    let hosts = ["new.example".to_owned(), "dns.example".to_owned()];
    bench.names.handle_configuration(&hosts, at(10));
    let told = Output::Changed(NameId(1), ips(&["192.0.2.1"]));
    assert_eq!(bench.outputs(), [told, Output::Resolve(ONE)]);
    // What was asked for under an old number is asked again.
    bench.names.handle_configuration(&hosts[..1], at(11));
    assert_eq!(bench.outputs(), [Output::Resolve(ONE)]);
    bench.names.handle_configuration(&[], at(12));
    assert_eq!(bench.names.poll_timeout(), None);
    // And a late report is about nobody.
    assert_eq!(bench.found(&["192.0.2.1"], 600, 13), []);
}

#[test]
fn addresses_that_are_nobodys_are_left_out_and_not_too_many_kept() {
    let odd = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "192.0.2.1"];
    let mut bench = Bench::new();
    bench.found(&odd, 60, 0);
    assert_eq!(bench.names.addresses(ONE), ips(&["192.0.2.1"]));
    bench.wake(60);
    let many: Vec<String> = (1..=40).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    bench.found(&many, 60, 60);
    assert_eq!(bench.names.addresses(ONE).len(), ADDRESSES_MAX / 2);
}

#[test]
fn a_new_network_and_a_lost_resolution_are_reasons_to_try_again() {
    let mut bench = Bench::new();
    assert_eq!(bench.due(), 20);
    assert_eq!(bench.wake(20), []);
    assert_eq!(bench.due(), 21);
    bench.names.handle_new_network(at(20));
    assert_eq!(bench.outputs(), [Output::Resolve(ONE)]);
}
