//! Whether this machine's clock is wrong, as certificates have it.

use super::*;

const YEAR_S: u64 = 365 * 86_400;

impl Bench {
    /// Whatever was said of the clock since the last call.
    fn clock_events(&mut self) -> Vec<Event> {
        let events = std::mem::take(&mut self.events);
        let is_of_clock = |event: &Event| matches!(event, Event::ClockWrong(_) | Event::ClockRight);
        events.into_iter().filter(is_of_clock).collect()
    }

    fn expired(&mut self, endpoint: u16, seconds: u64, ms: u64) {
        self.refused(endpoint, CertificateTime::ExpiredFor { seconds }, ms);
        self.fails(endpoint, Failure::TlsExpired, ms);
    }

    fn not_yet_valid(&mut self, endpoint: u16, seconds: u64, ms: u64) {
        self.refused(endpoint, CertificateTime::ValidIn { seconds }, ms);
        self.fails(endpoint, Failure::TlsNotYetValid, ms);
    }

    fn refused(&mut self, endpoint: u16, certificate: CertificateTime, ms: u64) {
        let now = Time::at_ms(ms);
        self.control.handle_certificate(EndpointId(endpoint), certificate, now);
        self.drain(ms);
    }
}

fn encrypted(count: u16) -> Bench {
    Bench::warm(with_transports(count, &[Transport::Tls, Transport::Udp]))
}

fn by(error: ClockError, operators: u16) -> ClockWrong {
    ClockWrong {
        error,
        witness: ClockWitness::Certificates { operators },
    }
}

#[test]
fn one_operator_can_let_a_certificate_expire_two_at_once_are_the_clock() {
    let mut bench = encrypted(3);
    bench.expired(0, YEAR_S, 10_000);
    bench.expired(0, YEAR_S, 10_100);
    assert_eq!(bench.clock_events(), []);
    bench.expired(2, 2 * YEAR_S, 10_200);
    let wrong = by(ClockError::Ahead { seconds: 2 * YEAR_S }, 2);
    assert_eq!(bench.clock_events(), [Event::ClockWrong(wrong)]);
    assert_eq!(bench.control.routes().clock_wrong, Some(wrong));
    // A third one makes it no other thing.
    bench.expired(4, YEAR_S, 10_300);
    assert_eq!(bench.clock_events(), []);
    // Cleartext proves nothing; a certificate that is right does.
    bench.served(3, 10_400);
    assert_eq!(bench.clock_events(), []);
    bench.served(2, 10_500);
    assert_eq!(bench.clock_events(), [Event::ClockRight]);
    assert_eq!(bench.control.routes().clock_wrong, None);
}

#[test]
fn who_was_right_meanwhile_clears_the_clock() {
    let mut bench = encrypted(3);
    bench.not_yet_valid(0, 60, 10_000);
    bench.served(4, 10_100);
    bench.not_yet_valid(2, 60, 10_200);
    assert_eq!(bench.clock_events(), []);
    // Until the first one is seen to be wrong once more.
    bench.not_yet_valid(0, 61, 10_300);
    let wrong = by(ClockError::Behind { seconds: 61 }, 2);
    assert_eq!(bench.clock_events(), [Event::ClockWrong(wrong)]);
}

#[test]
fn certificates_that_are_wrong_in_both_directions_are_not_the_clocks() {
    let mut bench = encrypted(2);
    bench.not_yet_valid(0, 60, 10_000);
    bench.expired(2, 60, 10_100);
    assert_eq!(bench.clock_events(), []);
}

#[test]
fn a_clock_before_this_version_was_made_is_wrong_by_itself() {
    let mut bench = encrypted(2);
    bench.control.handle_release(86_400, Time::at_ms(10_000));
    bench.drain(10_000);
    let wrong = ClockWrong {
        error: ClockError::Behind { seconds: 86_400 },
        witness: ClockWitness::Release,
    };
    assert_eq!(bench.clock_events(), [Event::ClockWrong(wrong)]);
    bench.control.handle_release(86_400, Time::at_ms(11_000));
    bench.control.handle_release(0, Time::at_ms(12_000));
    bench.drain(12_000);
    assert_eq!(bench.clock_events(), [Event::ClockRight]);
}
