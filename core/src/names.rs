//! Host names of endpoints: when each is resolved, and what becomes of it.
//!
//! A name is resolved at once, again when what was found expires (no sooner than 30 s, no later than a day), and when an
//! endpoint at it fails, because it may have moved: but not more often than every 10 s for that. One that nobody
//! resolves is tried again after 1 s, doubling to a minute. Addresses once known stay until there are others: a name that
//! cannot be resolved, or is gone from the DNS, is no reason to leave a place that answers; whether it does is for health
//! to say. What an earlier process knew counts until there is news.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::time::{SEC, Time};

/// Most names; as many as a configuration can have endpoints.
pub const NAMES_MAX: usize = 256;
/// Most addresses of one name: more than connect before a query gives up.
pub const ADDRESSES_MAX: usize = 16;
/// What was found is used at least this long: a shorter time to live would have the name resolved all the time.
const FRESH_US_MIN: u64 = 30 * SEC;
/// And at most this long.
const FRESH_US_MAX: u64 = 86_400 * SEC;
/// The first retry of what failed.
const RETRY_US_MIN: u64 = SEC;
/// Retries double up to this.
const RETRY_US_MAX: u64 = 60 * SEC;
/// Between two resolutions for the sake of an endpoint that fails.
const FAILURE_GAP_US: u64 = 10 * SEC;
/// While an endpoint fails, what was found expires after this long at most.
const TROUBLED_US: u64 = 60 * SEC;
/// A resolution without any word from the shell is over.
const LOST_US: u64 = 20 * SEC;

/// Index of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub u16);

/// What came of a resolution: by family its addresses, `None` where nobody said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// IPv4; none: it has none.
    pub v4: Option<Vec<IpAddr>>,
    /// IPv6; none: it has none.
    pub v6: Option<Vec<IpAddr>>,
    /// For how long, seconds.
    pub ttl_s: u32,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Resolve this name, and report.
    Resolve(NameId),
    /// It has other addresses than before, usable ones only, in the order they were found in.
    Changed(NameId, Vec<IpAddr>),
    /// Its addresses were confirmed or changed: worth keeping for the next process.
    Keep(NameId, Vec<IpAddr>),
}

/// How a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody knows its addresses.
    Unresolved,
    /// As an earlier process left it.
    Remembered,
    /// Resolved, and not expired.
    Fresh,
    /// Resolved, and nobody says so any more.
    Stale,
}

/// One name.
#[derive(Debug, Clone)]
struct Name {
    /// Lower case.
    host: String,
    /// What is known: IPv6 and IPv4 as they came.
    known: Vec<IpAddr>,
    /// What that is worth.
    standing: Standing,
    /// When it is resolved next.
    due: Time,
    /// Since when it is being resolved.
    asked: Option<Time>,
    /// Resolutions in a row that brought nothing.
    failures: u32,
    /// The last time it was resolved because an endpoint failed.
    hurried: Option<Time>,
    /// Some endpoint at it fails.
    is_troubled: bool,
}

/// All names of a configuration.
#[derive(Debug, Default)]
pub struct Names {
    /// By [`NameId`].
    names: Vec<Name>,
    /// Outputs not yet taken: at most three for each input and name.
    outputs: VecDeque<Output>,
}

impl Names {
    /// These are the names from here on, each once; at most [`NAMES_MAX`] are looked at. What is known of those that stay
    /// goes on to hold, and is told again.
    pub fn handle_configuration(&mut self, hosts: &[String], now: Time) {
        let older = std::mem::take(&mut self.names);
        self.outputs.clear();
        for host in hosts.iter().take(NAMES_MAX) {
            let known = older.iter().find(|name| name.host == *host);
            let mut name = known.cloned().unwrap_or_else(|| Name::new(host, now));
            // Whoever resolved it reports under the old number.
            if name.asked.take().is_some() {
                name.due = now;
            }
            self.names.push(name);
        }
        for (id, name) in ids().zip(&self.names) {
            if !name.known.is_empty() {
                self.outputs.push_back(Output::Changed(id, name.known.clone()));
            }
        }
        self.handle_timeout(now);
    }

    /// What an earlier process knew; nothing where there is news already.
    pub fn handle_remembered(&mut self, host: &str, addresses: &[IpAddr], now: Time) {
        let found = ids().zip(&mut self.names).find(|(_, name)| name.host == host);
        let Some((id, name)) = found.filter(|(_, name)| name.standing == Standing::Unresolved) else {
            return;
        };
        let known = usable(addresses);
        if !known.is_empty() {
            name.standing = Standing::Remembered;
            name.known.clone_from(&known);
            self.outputs.push_back(Output::Changed(id, known));
        }
        self.handle_timeout(now);
    }

    /// A resolution is over.
    pub fn handle_found(&mut self, id: NameId, found: &Found, now: Time) {
        let Some(name) = self.names.get_mut(usize::from(id.0)) else {
            return;
        };
        if name.asked.take().is_none() {
            return;
        }
        let is_whole = found.v4.is_some() && found.v6.is_some();
        let merged = name.merged(found);
        if merged.is_empty() || (found.v4.is_none() && found.v6.is_none()) {
            name.failed(now);
        } else {
            // Half of it stays what it was, and is asked for again soon.
            name.failures = if is_whole { 0 } else { name.failures.saturating_add(1) };
            let fresh_us = u64::from(found.ttl_s)
                .saturating_mul(SEC)
                .clamp(FRESH_US_MIN, FRESH_US_MAX);
            let wait_us = if is_whole {
                fresh_us
            } else {
                fresh_us.min(name.retry_us())
            };
            name.due = now.plus(if name.is_troubled {
                wait_us.min(TROUBLED_US)
            } else {
                wait_us
            });
            name.standing = Standing::Fresh;
            if !is_same(&name.known, &merged) {
                name.known.clone_from(&merged);
                self.outputs.push_back(Output::Changed(id, merged.clone()));
            }
            self.outputs.push_back(Output::Keep(id, merged));
        }
        self.handle_timeout(now);
    }

    /// An endpoint at this name fails, or does no longer.
    pub fn handle_trouble(&mut self, id: NameId, is_troubled: bool, now: Time) {
        let Some(name) = self.names.get_mut(usize::from(id.0)) else {
            return;
        };
        name.is_troubled = is_troubled;
        if is_troubled {
            let earliest = name.hurried.map_or(now, |at| at.plus(FAILURE_GAP_US).max(now));
            // What is resolved before that anyway is not hurried, nor put off.
            if earliest < name.due {
                (name.due, name.hurried) = (earliest, Some(earliest));
            }
        }
        self.handle_timeout(now);
    }

    /// The network here is another one, or the machine slept: what could not be resolved may be.
    pub fn handle_new_network(&mut self, now: Time) {
        for name in &mut self.names {
            if name.failures > 0 || name.standing != Standing::Fresh {
                name.due = name.due.min(now);
            }
        }
        self.handle_timeout(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Time) {
        for (id, name) in ids().zip(&mut self.names) {
            if name.asked.is_some_and(|asked| now.since(asked) >= LOST_US) {
                name.asked = None;
                name.failed(now);
            }
            if name.asked.is_none() && name.due <= now {
                if name.standing == Standing::Fresh {
                    name.standing = Standing::Stale;
                }
                name.asked = Some(now);
                self.outputs.push_back(Output::Resolve(id));
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        let due = self.names.iter().map(|name| match name.asked {
            Some(asked) => (asked.plus(LOST_US), "a resolution is overdue"),
            None => (name.due, "resolve a name"),
        });
        due.min()
    }

    /// The name of this number.
    #[must_use]
    pub fn host(&self, id: NameId) -> Option<&str> {
        self.names.get(usize::from(id.0)).map(|name| name.host.as_str())
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self, id: NameId) -> Option<Standing> {
        self.names.get(usize::from(id.0)).map(|name| name.standing)
    }

    /// Its addresses.
    #[must_use]
    pub fn addresses(&self, id: NameId) -> &[IpAddr] {
        self.names.get(usize::from(id.0)).map_or(&[], |name| &name.known)
    }

    /// Names that nobody could resolve the last time, in order.
    pub fn failing(&self) -> impl Iterator<Item = &str> {
        let is_failing = |name: &&Name| name.failures > 0 && name.standing != Standing::Fresh;
        let failing = self.names.iter().filter(is_failing);
        failing.map(|name| name.host.as_str())
    }
}

impl Name {
    /// One that is to be resolved at once.
    fn new(host: &str, now: Time) -> Self {
        Self {
            host: host.to_owned(),
            known: Vec::new(),
            standing: Standing::Unresolved,
            due: now,
            asked: None,
            failures: 0,
            hurried: None,
            is_troubled: false,
        }
    }

    /// A resolution brought nothing.
    fn failed(&mut self, now: Time) {
        self.failures = self.failures.saturating_add(1);
        self.due = now.plus(self.retry_us());
    }

    /// From a failure to the next try.
    fn retry_us(&self) -> u64 {
        let doublings = self.failures.saturating_sub(1).min(6);
        (RETRY_US_MIN << doublings).min(RETRY_US_MAX)
    }

    /// What was found, and what is known of a family that nobody said anything about. A name without any address is
    /// not believed to have none.
    fn merged(&self, found: &Found) -> Vec<IpAddr> {
        let known = |is_v4: bool| self.known.iter().copied().filter(move |ip| ip.is_ipv4() == is_v4);
        let v6 = found.v6.clone().unwrap_or_else(|| known(false).collect());
        let v4 = found.v4.clone().unwrap_or_else(|| known(true).collect());
        usable(&[&v6[..], &v4[..]].concat())
    }
}

/// Those that somebody can be asked at, each once, half of the room for each family.
fn usable(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut usable: Vec<IpAddr> = Vec::new();
    for ip in addresses {
        let of_family = usable.iter().filter(|other| other.is_ipv4() == ip.is_ipv4()).count();
        if is_usable(*ip) && of_family < ADDRESSES_MAX / 2 && !usable.contains(ip) {
            usable.push(*ip);
        }
    }
    usable
}

/// Whether an address is one host's, by itself.
fn is_usable(ip: IpAddr) -> bool {
    let is_odd = match ip {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !is_odd && !ip.is_unspecified() && !ip.is_multicast()
}

/// Whether two lists hold the same addresses: servers turn them round for each answer.
fn is_same(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.len() == other.len() && one.iter().all(|ip| other.contains(ip))
}

/// All numbers, in order.
fn ids() -> impl Iterator<Item = NameId> {
    (0..=u16::MAX).map(NameId)
}

#[cfg(test)]
mod tests;
