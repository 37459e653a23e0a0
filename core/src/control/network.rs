//! What a change of network means: sleep, another way to an endpoint, none at all; another address, or none.

use super::{Control, Event, Output, RESUME_GAP_US, STALL_US};
use crate::control::paths::Paths;
use crate::time::Time;
use crate::topology::EndpointId;

impl Control {
    /// The way to these endpoints changed: what was known of it is void.
    pub fn handle_new_path(&mut self, endpoints: &[EndpointId], now: Time) {
        self.settled = now;
        for endpoint in endpoints {
            if let Some(health) = self.health.get_mut(usize::from(endpoint.0)) {
                health.new_path(now);
            }
            if let Some((way, _)) = self.way_and_operator(*endpoint) {
                self.paths.forget(way);
            }
        }
        self.settle(now);
    }

    /// The network here has a route to these, new or not: who had none is usable again.
    pub fn handle_routed(&mut self, endpoints: &[EndpointId], now: Time) {
        for endpoint in endpoints {
            if let Some(health) = self.health.get_mut(usize::from(endpoint.0)) {
                health.found_route(now);
            }
        }
        self.settle(now);
    }

    /// The network here has no route to these: nobody need be sent there to find out.
    pub fn handle_unrouted(&mut self, endpoints: &[EndpointId], now: Time) {
        for endpoint in endpoints {
            if let Some(health) = self.health.get_mut(usize::from(endpoint.0)) {
                health.lost_route(now);
            }
        }
        self.settle(now);
    }

    /// Nobody knows where these are: their names are not resolved, or have no address of their family.
    pub fn handle_unresolved(&mut self, endpoints: &[EndpointId], now: Time) {
        for endpoint in endpoints {
            if let Some(health) = self.health.get_mut(usize::from(endpoint.0)) {
                health.lost_address(now);
            }
        }
        self.settle(now);
    }

    /// The names of these are resolved, for the first time or to other addresses: what was known of the places before
    /// is void. It is no change of the network here.
    pub fn handle_resolved(&mut self, endpoints: &[EndpointId], now: Time) {
        for endpoint in endpoints {
            if let Some(health) = self.health.get_mut(usize::from(endpoint.0)) {
                health.found_address(now);
            }
        }
        self.settle(now);
        self.look_again(now);
    }

    /// The shell's timers stood still for `gap_us` while time passed; less than two seconds are nothing. The machine
    /// slept: what is in flight is lost, and what was known of the paths is old.
    pub fn handle_gap(&mut self, gap_us: u64, now: Time) {
        if gap_us >= RESUME_GAP_US {
            // The promise is as late as the shell's timers were: one sleep is one resume.
            self.promised = None;
            self.resume(gap_us, now);
            self.settle(now);
        }
    }

    /// A timer that fires two seconds late means the same, for a shell that has one clock only. One that is late by
    /// less says that this machine stood still, and may be to blame for what failed meanwhile.
    pub(super) fn notice_resume(&mut self, now: Time) {
        let Some(promised) = self.promised.take() else {
            return;
        };
        let late_us = now.since(promised);
        if late_us >= STALL_US {
            self.stalled = Some(now);
        }
        if late_us >= RESUME_GAP_US {
            self.resume(late_us, now);
        }
    }

    /// Voids what was known before a sleep.
    fn resume(&mut self, gap_us: u64, now: Time) {
        self.outputs.push_back(Output::Event(Event::Resumed { gap_us }));
        for health in &mut self.health {
            health.new_path(now);
        }
        self.paths = Paths::default();
        self.probes.clear();
        self.peers.drop_probes();
        self.stalled = Some(now);
        self.settled = now;
    }
}
