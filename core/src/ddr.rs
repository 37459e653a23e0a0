//! Discovery of designated resolvers (RFC 9462): a resolver that is asked in the clear says where it can be asked over an
//! encrypted transport; what of that is believed, and when it is asked again.
//!
//! What is said in the clear can be anybody's word. So a designation is used only once a connection there has shown a
//! certificate for the name *and* for the address of the resolver that designated it (section 4.2); or, where that address
//! is a private one, for which nobody gets a certificate, once it is the same address, whatever the certificate
//! (section 4.3). What was found stays until something else was proven: that a resolver designates nobody any more may be
//! the word of somebody who wants to read along.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::time::{SEC, Time};
use crate::topology::Transport;

/// Most resolvers that are asked for designations.
pub const RESOLVERS_MAX: usize = 64;
/// Most designated endpoints of one resolver: four transports, over two addresses.
pub const DESIGNATED_MAX: usize = 8;
/// Designations are used at least this long before they are asked for again.
const FRESH_US_MIN: u64 = 300 * SEC;
/// And at most this long.
const FRESH_US_MAX: u64 = 86_400 * SEC;
/// The first retry of what brought nothing.
const RETRY_US_MIN: u64 = 5 * SEC;
/// Retries double up to this.
const RETRY_US_MAX: u64 = 3_600 * SEC;
/// Between two questions for the sake of a designated endpoint that fails.
const FAILURE_GAP_US: u64 = 30 * SEC;
/// A question or a trial without any word from the shell is over.
const LOST_US: u64 = 60 * SEC;

/// What one SVCB record in service mode offers, of what is known here; the shell leaves out records with mandatory keys
/// that it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Lower is better.
    pub priority: u16,
    /// Lower case, without the last dot; empty for the root, which names nobody.
    pub target: String,
    /// In the order of the record.
    pub transports: Vec<Transport>,
    /// If it is not the transport's own.
    pub port: Option<u16>,
    /// Addresses of the target.
    pub hints: Vec<IpAddr>,
    /// Where DNS over HTTPS is asked, as a template (RFC 9461 section 5).
    pub path: Option<String>,
}

/// What must be shown by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// A certificate for its name and for this address.
    Certificate(IpAddr),
    /// Nothing but that it is at the address of the resolver that designates it, a private one.
    SameAddress,
}

/// A designated endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Designated {
    /// How it is spoken to.
    pub transport: Transport,
    /// SNI, name in the certificate and authority.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// Of `https` and `h3`.
    pub path: Option<String>,
    /// What it must show.
    pub proof: Proof,
}

/// What an offer lacks that nothing of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// A name: the root names nobody (RFC 9462 section 4).
    Target,
    /// A transport that is spoken here.
    Transport,
    /// A path of DNS over HTTPS that can be asked (RFC 9461 section 5).
    Path,
    /// An address: it would have to be asked for, and is not.
    Address,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask this resolver for designations.
    Ask(usize),
    /// Connect to these, and say which showed what they must.
    Try(usize, Vec<Designated>),
    /// These are the designated endpoints of this resolver from here on, best first.
    Adopt(usize, Vec<Designated>),
}

/// One resolver that is asked in the clear.
#[derive(Debug, Clone)]
struct Resolver {
    /// Where.
    address: IpAddr,
    /// When it is asked next.
    due: Time,
    /// When it was asked last.
    asked: Option<Time>,
    /// Since when it is being asked, or its designations tried.
    busy: Option<Time>,
    /// For how long the last answer holds, microseconds.
    fresh_us: u64,
    /// Times in a row that brought nothing.
    failures: u32,
    /// Being tried, best first.
    tried: Vec<Designated>,
    /// In use.
    adopted: Vec<Designated>,
}

/// All resolvers of a configuration that are asked.
#[derive(Debug, Default)]
pub struct Discovery {
    /// In order of the configuration.
    resolvers: Vec<Resolver>,
    /// Outputs not yet taken: at most two for each input and resolver.
    outputs: VecDeque<Output>,
}

impl Discovery {
    /// To ask these from here on, new ones at once; at most [`RESOLVERS_MAX`]. With the number that each had until now, if
    /// it stays: what was proven of it does too. Whatever is under way is begun anew, and what comes of it is nobody's.
    pub fn handle_resolvers(&mut self, resolvers: &[(IpAddr, Option<usize>)], now: Time) {
        let older = std::mem::take(&mut self.resolvers);
        self.outputs.clear();
        for (address, number) in resolvers.iter().take(RESOLVERS_MAX) {
            let known = number.and_then(|number| older.get(number)).cloned();
            let mut resolver = known.unwrap_or_else(|| Resolver::new(*address, now));
            resolver.begin_anew(now);
            self.resolvers.push(resolver);
        }
        self.handle_timeout(now);
    }

    /// A resolver answered: its offers hold for so long, seconds. `None`: it did not.
    pub fn handle_offers(&mut self, index: usize, offers: Option<(&[Offer], u32)>, now: Time) {
        let Some(resolver) = self.resolvers.get_mut(index).filter(|own| own.busy.is_some()) else {
            return;
        };
        let Some((offers, ttl_s)) = offers else {
            resolver.failed(now);
            return;
        };
        resolver.fresh_us = u64::from(ttl_s).saturating_mul(SEC).clamp(FRESH_US_MIN, FRESH_US_MAX);
        let candidates = candidates(resolver.address, offers);
        if candidates.is_empty() {
            resolver.failed(now);
        } else {
            resolver.busy = Some(now);
            resolver.tried.clone_from(&candidates);
            self.outputs.push_back(Output::Try(index, candidates));
        }
    }

    /// These of what was to be tried showed what they must. One that did so before, and is still designated, stays though
    /// it cannot be reached now: whether it is asked is for health to say.
    pub fn handle_tried(&mut self, index: usize, proven: &[Designated], now: Time) {
        let Some(resolver) = self.resolvers.get_mut(index).filter(|own| own.busy.is_some()) else {
            return;
        };
        if proven.is_empty() {
            resolver.failed(now);
            return;
        }
        resolver.busy = None;
        resolver.failures = 0;
        resolver.due = now.plus(resolver.fresh_us);
        let mut tried = std::mem::take(&mut resolver.tried);
        tried.retain(|own| proven.contains(own) || resolver.adopted.contains(own));
        let adopted = one_proof_each(tried);
        if adopted != resolver.adopted {
            resolver.adopted.clone_from(&adopted);
            self.outputs.push_back(Output::Adopt(index, adopted));
        }
    }

    /// A designated endpoint of this resolver fails: it may be another one by now.
    pub fn handle_failure(&mut self, index: usize, now: Time) {
        if let Some(resolver) = self.resolvers.get_mut(index) {
            let earliest = resolver.asked.map_or(now, |at| at.plus(FAILURE_GAP_US).max(now));
            resolver.due = resolver.due.min(earliest);
        }
        self.handle_timeout(now);
    }

    /// The network here is another one, or the machine slept: who could not be asked may be. At a private address there
    /// may be somebody else, so what showed nothing but that is not used any more. Whatever is under way is begun anew, and
    /// what comes of it is nobody's.
    pub fn handle_new_network(&mut self, now: Time) {
        for (index, resolver) in self.resolvers.iter_mut().enumerate() {
            let before = resolver.adopted.len();
            resolver.adopted.retain(|own| own.proof != Proof::SameAddress);
            let has_lost = resolver.adopted.len() < before;
            if has_lost {
                self.outputs.push_back(Output::Adopt(index, resolver.adopted.clone()));
            }
            if has_lost || resolver.failures > 0 {
                resolver.due = resolver.due.min(now);
            }
            resolver.begin_anew(now);
        }
        self.handle_timeout(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Time) {
        for (index, resolver) in self.resolvers.iter_mut().enumerate() {
            if resolver.busy.is_some_and(|since| now.since(since) >= LOST_US) {
                resolver.failed(now);
            }
            if resolver.busy.is_none() && resolver.due <= now {
                (resolver.busy, resolver.asked) = (Some(now), Some(now));
                self.outputs.push_back(Output::Ask(index));
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
        let due = self.resolvers.iter().map(|resolver| match resolver.busy {
            Some(since) => (since.plus(LOST_US), "a discovery is overdue"),
            None => (resolver.due, "ask for designations"),
        });
        due.min()
    }
}

impl Resolver {
    /// One that is to be asked at once.
    fn new(address: IpAddr, now: Time) -> Self {
        Self {
            address,
            due: now,
            asked: None,
            busy: None,
            fresh_us: FRESH_US_MIN,
            failures: 0,
            tried: Vec::new(),
            adopted: Vec::new(),
        }
    }

    /// What is under way does not count: it is asked at once.
    fn begin_anew(&mut self, now: Time) {
        if self.busy.take().is_some() {
            self.tried.clear();
            self.due = now;
        }
    }

    /// It brought nothing: what is in use stays.
    fn failed(&mut self, now: Time) {
        self.busy = None;
        let doublings = self.failures.min(10);
        self.failures = self.failures.saturating_add(1);
        self.due = now.plus((RETRY_US_MIN << doublings).min(RETRY_US_MAX));
    }
}

/// What is tried, best first: offers by priority, and of each its transports as this node would list them. Where a private
/// address designates itself, each is tried by its certificate first.
fn candidates(resolver: IpAddr, offers: &[Offer]) -> Vec<Designated> {
    let mut usable: Vec<&Offer> = offers.iter().filter(|offer| lacking(offer).is_none()).collect();
    usable.sort_by_key(|offer| offer.priority);
    let mut candidates: Vec<Designated> = Vec::new();
    for offer in usable {
        let mut transports = offer.transports.clone();
        transports.sort_by_key(|transport| rank(*transport));
        for transport in transports {
            for address in &offer.hints {
                let by = |proof| Designated {
                    transport,
                    name: offer.target.clone(),
                    address: *address,
                    port: offer.port.unwrap_or_else(|| default_port(transport)),
                    path: path_of(offer, transport),
                    proof,
                };
                let mut proofs = vec![Proof::Certificate(resolver)];
                if *address == resolver && is_private(resolver) {
                    proofs.push(Proof::SameAddress);
                }
                let is_http = matches!(transport, Transport::Https | Transport::H3);
                for designated in proofs.into_iter().map(by) {
                    let is_whole = !is_http || designated.path.is_some();
                    if is_whole && !candidates.contains(&designated) && candidates.len() < DESIGNATED_MAX * 2 {
                        candidates.push(designated);
                    }
                }
            }
        }
    }
    candidates
}

/// Of two proofs of one endpoint the better one; at most [`DESIGNATED_MAX`].
fn one_proof_each(proven: Vec<Designated>) -> Vec<Designated> {
    let mut kept: Vec<Designated> = Vec::new();
    for designated in proven {
        let place = |own: &Designated| (own.transport, own.address, own.port);
        if kept.len() < DESIGNATED_MAX && kept.iter().all(|own| place(own) != place(&designated)) {
            kept.push(designated);
        }
    }
    kept
}

/// What an offer lacks, if nothing of it can be used.
#[must_use]
pub fn lacking(offer: &Offer) -> Option<Lacking> {
    if offer.target.is_empty() {
        Some(Lacking::Target)
    } else if offer.transports.is_empty() {
        Some(Lacking::Transport)
    } else if offer.hints.is_empty() {
        Some(Lacking::Address)
    } else if offer
        .transports
        .iter()
        .all(|own| matches!(own, Transport::Https | Transport::H3) && path_of(offer, *own).is_none())
    {
        Some(Lacking::Path)
    } else {
        None
    }
}

/// The order in which this node would list them: networks that block UDP are not rare.
fn rank(transport: Transport) -> u8 {
    match transport {
        Transport::Https => 0,
        Transport::Tls => 1,
        Transport::H3 => 2,
        Transport::Quic => 3,
        Transport::Udp | Transport::Tcp => 4,
    }
}

/// Ports of the transports (RFC 9461 section 4.2: that of the scheme, not 53).
fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Https | Transport::H3 => 443,
        Transport::Tls | Transport::Quic => 853,
        Transport::Udp | Transport::Tcp => 53,
    }
}

/// The path of a template with the one variable that must be in it, where it stands at the end.
fn path_of(offer: &Offer, transport: Transport) -> Option<String> {
    if !matches!(transport, Transport::Https | Transport::H3) {
        return None;
    }
    let path = offer.path.as_deref()?.strip_suffix("{?dns}")?;
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~' | b'/');
    (path.starts_with('/') && path.len() <= 128 && path.bytes().all(is_plain)).then(|| path.to_owned())
}

/// Whether nobody gets a certificate for an address: private, unique local, link-local (RFC 9462 section 4.3), or of this
/// machine.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

#[cfg(test)]
mod tests;
