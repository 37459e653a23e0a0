//! What the admin interface has to say about the start: bound addresses, and what went wrong without keeping the node
//! from starting or running.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use parking_lot::Mutex;

/// Notes of a start.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Bound for DNS.
    pub(crate) dns: Vec<SocketAddr>,
    /// Bound for the admin interface.
    pub(crate) admin: Option<SocketAddr>,
    warnings: Vec<String>,
    /// What may be right again: by what it is about. Held for a change or a copy.
    passing: Mutex<BTreeMap<&'static str, String>>,
}

impl Notes {
    /// Something went wrong that a start survives.
    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Something is wrong, or right again, about `what`.
    pub(crate) fn set(&self, what: &'static str, warning: Option<String>) {
        let mut passing = self.passing.lock();
        match warning {
            Some(warning) => passing.insert(what, warning),
            None => passing.remove(what),
        };
    }

    /// What went wrong, in order.
    #[must_use]
    pub(crate) fn warnings(&self) -> Vec<String> {
        let passing = self.passing.lock();
        self.warnings.iter().chain(passing.values()).cloned().collect()
    }
}
