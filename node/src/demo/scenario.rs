//! Who is in the demo and when what happens.

use std::time::Duration;

use super::fault::{DemoFault, FLAP_PERIOD};

/// The providers.
pub(super) const PROVIDERS: [&str; 3] = ["amber", "birch", "cedar"];
/// New names per second, over all nodes that work.
pub(super) const NAMES_PER_SECOND: u32 = 300;
/// Registrable domains the names are in, as many as people ask: a gateway avoids a provider for single domains first.
pub(super) const DOMAINS: u32 = 2_000;
/// What the silent node asks before it falls silent: too few for it to know how fast answers are, as after any quiet
/// hour, so that it would wait its full patience for a dead provider.
pub(super) const FEW_NAMES: u32 = 30;
/// What the silent node asks when it wakes.
pub(super) const WAKING_NAMES: u32 = 100;
/// In how long it does.
pub(super) const WAKING: Duration = Duration::from_millis(250);
/// The busiest provider is the one that clients asked most in this long before the fault.
pub(super) const BUSY_WINDOW: Duration = Duration::from_secs(2);
/// With fewer client queries to it in that window the fault hit nobody.
pub(super) const BUSY_MIN: u64 = 20;
/// What a node without peers must send to a silent provider when it wakes, or there was nothing to be spared.
pub(super) const ALONE_MIN: u64 = 20;

/// When what happens. All but the first are counted from the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The fault.
    pub(super) fault: Duration,
    /// The silent node wakes.
    pub(super) wake: Duration,
    /// How much longer it sleeps if it has not left the provider yet, with the mesh.
    pub(super) wake_patience: Duration,
    /// The provider heals.
    pub(super) heal: Duration,
    /// How long nodes have to use it again.
    pub(super) return_patience: Duration,
    /// Names are asked on after that.
    pub(super) after: Duration,
}

impl Times {
    /// For somebody who watches.
    const WATCHED: Self = Self {
        fault: Duration::from_secs(5),
        wake: Duration::from_secs(4),
        wake_patience: Duration::from_secs(3),
        heal: Duration::from_millis(1_500),
        return_patience: Duration::from_secs(20),
        after: Duration::from_secs(2),
    };
    /// For a check.
    const QUICK: Self = Self {
        fault: Duration::from_millis(2_500),
        wake: Duration::from_millis(1_800),
        wake_patience: Duration::from_secs(3),
        heal: Duration::from_millis(100),
        return_patience: Duration::from_secs(12),
        after: Duration::from_millis(200),
    };

    /// The waking in the first silence, and no healing before the second one.
    const fn for_flap(mut self) -> Self {
        let wake = FLAP_PERIOD.saturating_sub(Duration::from_secs(2));
        self.wake = wake;
        self.wake_patience = Duration::from_secs(1);
        self.heal = FLAP_PERIOD.saturating_mul(2);
        self
    }
}

/// One run of the demo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) fault: DemoFault,
    /// Nodes; the last one is the silent one.
    pub(super) nodes: usize,
    pub(super) times: Times,
    /// Nodes tell each other what they see.
    pub(super) has_mesh: bool,
    /// Whether the return of the provider is waited for.
    pub(super) sees_return: bool,
}

impl Scenario {
    /// The run with or without the mesh.
    pub(super) const fn new(fault: DemoFault, nodes: usize, is_quick: bool, has_mesh: bool) -> Self {
        let times = if is_quick { Times::QUICK } else { Times::WATCHED };
        Self {
            fault,
            nodes,
            times: if matches!(fault, DemoFault::Flap) {
                times.for_flap()
            } else {
                times
            },
            has_mesh,
            // What returns is the same without peers; a check has seen it once then.
            sees_return: has_mesh || !is_quick,
        }
    }

    /// Nodes that work.
    pub(super) const fn busy_nodes(&self) -> usize {
        self.nodes.saturating_sub(1)
    }

    /// Names per second of the working node with this index; together exactly [`NAMES_PER_SECOND`].
    pub(super) fn rate_of(&self, index: usize) -> u32 {
        let busy = u32::try_from(self.busy_nodes()).unwrap_or(1).max(1);
        let has_one_more = u32::try_from(index).is_ok_and(|index| index < NAMES_PER_SECOND % busy);
        NAMES_PER_SECOND / busy + u32::from(has_one_more)
    }

    /// The working nodes, as a person says it.
    pub(super) fn busy_words(&self) -> String {
        match self.busy_nodes() {
            1 => "node1".to_owned(),
            2 => "node1 and node2".to_owned(),
            count => format!("node1 to node{count}"),
        }
    }

    /// The silent node.
    pub(super) fn silent_name(&self) -> String {
        format!("node{}", self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_spread_to_the_last_name() {
        for nodes in 2..=16 {
            let scenario = Scenario::new(DemoFault::Blackhole, nodes, true, true);
            let rates = (0..scenario.busy_nodes()).map(|index| scenario.rate_of(index));
            assert_eq!(rates.sum::<u32>(), NAMES_PER_SECOND, "{nodes}");
        }
    }
}
