//! One node and its providers.

use detour_core::time::{MS, Time};
use detour_core::topology::Transport;

use crate::env::{Env, Who};
use crate::node::{BOTH, Config, Node};
use crate::provider::Fault;

/// A node, and everything around it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) node: Node,
    providers: u16,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let mut env = Env::new(config.providers, format!("DETOUR_SEED={}", config.seed));
        let node = Node::new(Who { node: 0, life: 0 }, config, &mut env);
        Self {
            env,
            node,
            providers: config.providers,
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.env.now
    }

    /// Sets a fault of a provider over UDP, TCP or both.
    pub(crate) fn set_fault(&mut self, provider: u16, transports: &[Transport], fault: Fault) {
        self.env.set_fault(provider, transports, fault);
        self.node.note_fault(provider, fault, self.env.now);
    }

    /// Everything works again.
    pub(crate) fn heal(&mut self) {
        for provider in 0..self.providers {
            self.set_fault(provider, BOTH, Fault::None);
        }
        self.node.uplink_dead = false;
        self.node.udp_blocked = false;
        self.env.log("heal", 0, 0);
    }

    /// Clients ask at this interval from here on.
    pub(crate) fn set_interval(&mut self, interval_us: u64) {
        self.node.set_interval(interval_us, &mut self.env);
    }

    /// The machine sleeps.
    pub(crate) fn sleep(&mut self, us: u64) {
        self.env.now = self.env.now.plus(us);
        self.node.slept();
        self.env.log("sleep", us, 0);
    }

    /// Runs until `us` from here.
    pub(crate) fn run(&mut self, us: u64) {
        let end = self.env.now.plus(us);
        while let Some((_, event)) = self.env.pop(end) {
            self.node.handle(event, &mut self.env);
        }
        self.env.now = self.env.now.max(end);
    }

    /// Runs until `done`, at most `us`; says whether it was.
    pub(crate) fn run_until(&mut self, us: u64, done: impl Fn(&Node) -> bool) -> bool {
        let end = self.env.now.plus(us);
        while self.env.now < end {
            if done(&self.node) {
                return true;
            }
            self.run(20 * MS);
        }
        done(&self.node)
    }

    /// Ends the test, telling how to see it again.
    pub(crate) fn fail(&self, message: &str) -> ! {
        self.node.fail(message, &self.env);
    }
}
