//! Endpoints that ask to be left alone.

use super::*;

fn throttled(retry_after_s: Option<u32>) -> Finish {
    Finish::Failed(Failure::Throttled { retry_after_s })
}

impl Bench {
    /// An attempt at `endpoint` is told to come back later.
    fn is_throttled(&mut self, endpoint: u16, retry_after_s: Option<u32>, ms: u64) {
        let begun = self.begin(endpoint, ms);
        self.finish(endpoint, begun, throttled(retry_after_s), ms + 1);
    }

    fn paused_until_ms(&self, endpoint: u16) -> Option<u64> {
        let route = self.control.routes().endpoint(EndpointId(endpoint));
        route?.paused_until.map(|at| at.as_micros() / MS)
    }
}

#[test]
fn who_asks_for_a_pause_gets_it_and_is_not_condemned() {
    let mut bench = Bench::warm(providers(3));
    bench.is_throttled(0, Some(30), 10_000);
    assert_eq!(bench.place(0), PlaceWhy::Throttled);
    assert_eq!(bench.paused_until_ms(0), Some(40_001));
    assert_eq!(bench.state(0), State::Up);
    let choices = &bench.control.routes().choices;
    assert!(choices.iter().all(|choice| choice.endpoint != EndpointId(0)));
    bench.control.note_client(Time::at_ms(39_000));
    bench.wait(40_000, all_well);
    assert_eq!(bench.place(0), PlaceWhy::Throttled);
    assert_eq!(bench.probed(0), Vec::<u64>::new(), "not before it said");
    bench.wait(40_001, all_well);
    assert_eq!((bench.place(0), bench.paused_until_ms(0)), (PlaceWhy::Healthy, None));
}

#[test]
fn other_doors_of_who_asks_for_a_pause_come_after_other_providers() {
    let mut bench = Bench::warm(with_transports(2, &[Transport::Https, Transport::Tls]));
    bench.is_throttled(0, Some(30), 10_000);
    bench.served(1, 11_000);
    assert_eq!(bench.place(1), PlaceWhy::Sibling);
    assert_eq!(bench.place(2), PlaceWhy::Healthy);
    bench.wait(40_001, all_well);
    assert_eq!(bench.place(1), PlaceWhy::Healthy);
}

#[test]
fn a_doubt_waits_until_the_pause_is_over() {
    let mut bench = Bench::warm(providers(3));
    bench.fails(0, Failure::Reset, 10_000);
    assert_eq!(bench.state(0), State::Suspect);
    bench.probes.clear();
    bench.is_throttled(0, Some(5), 10_010);
    assert_eq!(bench.place(0), PlaceWhy::Throttled);
    bench.wait(15_010, all_well);
    assert_eq!(bench.probed(0), Vec::<u64>::new());
    bench.wait(15_500, all_well);
    assert_eq!(bench.probed(0).first(), Some(&15_011));
    assert_eq!(bench.state(0), State::Up);
}

#[test]
fn when_all_ask_for_a_pause_nobody_is_asked_but_by_a_probe_every_ten_seconds() {
    let mut bench = Bench::warm(with_transports(2, &[Transport::Https, Transport::Udp]));
    bench.is_throttled(0, Some(600), 10_000);
    bench.is_throttled(2, Some(600), 10_000);
    assert_eq!(bench.control.routes().choices, []);
    // They are well and encrypted: nothing is asked in the clear in their place.
    assert_eq!(bench.place(1), PlaceWhy::Cleartext);
    // Else the silence of the probes would be one of all that is encrypted.
    bench.control.settings.encryption = Encryption::Require;
    bench.probes.clear();
    for second in 11..45 {
        bench.control.note_client(Time::at_ms(second * 1_000));
        bench.wait(second * 1_000, silence);
    }
    for endpoint in [0, 2] {
        let at = bench.probed(endpoint);
        assert_eq!(at.len(), 3, "{at:?}");
        assert!(at[0] >= 20_000, "{at:?}");
    }
    // One of them answers such a probe.
    for second in 45..60 {
        bench.control.note_client(Time::at_ms(second * 1_000));
        bench.wait(second * 1_000, |endpoint| (endpoint == 0).then_some(Reply::Positive));
    }
    assert_eq!(bench.paused_until_ms(0), None);
    assert!(bench.paused_until_ms(2).is_some());
}
