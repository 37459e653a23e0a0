//! Whether there is a way to ask an endpoint at all, whatever it would do then: a route of the network here, and an address.

use super::Health;
use crate::time::Time;

impl Health {
    /// The network here has no route to it any more: what is in flight is lost.
    pub fn lost_route(&mut self, now: Time) {
        self.drop_open(now);
        self.loss_watch = None;
        self.no_route = true;
        self.probes.no_route(now);
    }

    /// Something came from it, or the system says so: there is a route.
    pub fn found_route(&mut self, now: Time) {
        if self.no_route {
            self.no_route = false;
            if self.state.is_usable() {
                self.probes.stop();
            } else {
                self.probes.repeat(now);
            }
        }
    }

    /// Nobody knows where it is: what is in flight is lost.
    pub fn lost_address(&mut self, now: Time) {
        self.drop_open(now);
        self.loss_watch = None;
        self.no_address = true;
        self.probes.stop();
    }

    /// It is known where it is, and that may be somewhere else: what was known of the place before is void.
    pub fn found_address(&mut self, now: Time) {
        self.no_address = false;
        self.new_path(now);
    }

    /// Whether the network here has no route to it.
    #[must_use]
    pub fn has_no_route(&self) -> bool {
        self.no_route
    }

    /// Whether its name is not resolved.
    #[must_use]
    pub fn has_no_address(&self) -> bool {
        self.no_address
    }

    /// Whether there is a way to ask it, whatever it does then.
    #[must_use]
    pub fn has_way(&self) -> bool {
        !self.no_route && !self.no_address
    }
}
