//! Lookups that several threads, or one failure, meet in.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::AtomicUsize;

use detour_core::control::Control;
use detour_core::{EndpointId, OperatorId, ProviderId};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use super::*;
use crate::report::Reporter;
use crate::testing::{parts, settings, topology};

/// Counts what it is told.
#[derive(Debug, Clone, Default)]
struct Told(Arc<AtomicUsize>);

impl Waiter for Told {
    fn resolved(self: Box<Self>, _resolved: &crate::serve::Resolved, _merged: bool, _now: Time) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn crowded(self: Box<Self>) {}
}

/// A data plane with three providers, all of them at `address`.
fn three_providers(address: SocketAddr) -> (Arc<Shared>, Control) {
    let mut topology = topology(&address.to_string());
    for number in 1..3 {
        let (mut provider, mut endpoint) = (topology.providers[0].clone(), topology.endpoints[0].clone());
        provider.name = format!("nobody {number}");
        provider.operator = OperatorId(number);
        provider.endpoints = vec![EndpointId(number)];
        endpoint.provider = ProviderId(number);
        topology.providers.push(provider);
        topology.endpoints.push(endpoint);
    }
    let (reporter, _) = Reporter::new();
    let (mut parts, control) = parts(topology, &address.to_string(), Arc::new(reporter));
    parts.remotes = vec![address.into(); 3];
    (Shared::new(settings(8), parts, &mut Registry::default()), control)
}

fn ask(shared: &Arc<Shared>, name: &str, told: &Told) {
    let ask = Arc::new(shared.ask(&name.parse().unwrap(), 1, 1));
    shared.ask_providers(&ask, None, Box::new(told.clone()), shared.clock.now());
}

#[tokio::test]
async fn lookups_that_fail_together_are_not_worked_on_within_each_other() {
    // Nobody listens there: each socket soon says so, of all that was sent by it.
    let (shared, _control) = three_providers("127.0.0.1:9".parse().unwrap());
    let (told, runtime) = (Told::default(), Handle::current());
    let own = told.clone();
    let asking = move || {
        let _context = runtime.enter();
        for number in 0..4_000 {
            ask(&shared, &format!("n{number}.example"), &own);
        }
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024);
    thread.spawn(asking).unwrap().join().unwrap();
    assert!(told.0.load(Ordering::Relaxed) > 1_000, "{told:?}");
}

#[tokio::test]
async fn a_timer_that_is_due_is_not_lost_to_a_thread_whose_time_is_older() {
    // Somebody who says nothing.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (shared, _control) = three_providers(silent.local_addr().unwrap());
    ask(&shared, "a.example", &Told::default());
    let early = shared.clock.now();
    let (none, due) = shared.inflight.take_due(early);
    assert!(none.is_empty() && due > early && due < Time::FAR);
    let (mut running, _) = shared.inflight.take_due(due);
    let running = running.pop().unwrap();
    // Another thread is at work when the timer comes, and read the clock before it was due.
    let at_work = running.driver.lock();
    take_turn((Arc::clone(&running), Some(Action::Timeout), due));
    drop(at_work);
    take_turn((Arc::clone(&running), Some(Action::Routes), early));
    let (again, _) = shared.inflight.take_due(Time::FAR);
    assert!(!again.is_empty(), "nobody would ever wake it again");
}
