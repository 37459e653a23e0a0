//! DNS64 on a query's way: where providers have no IPv6 address of a name, its IPv4 addresses are asked for and translated;
//! and the name of a translated address leads to that of the IPv4 address.
//!
//! What is asked in addition is a question like any other: answered from the cache, merged with clients' own, asked of the
//! same group. Whoever waits for the first question goes on waiting until it is over. What it is kept by is not what the
//! same question is kept by without a translator, or behind another prefix ([`Generation::keyed`]).
//!
//! [`Generation::keyed`]: crate::generation::Generation::keyed

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use detour_core::Time;
use detour_core::dns64::{self, Came, Next, Prefix, TTL_S_WITHOUT_SOA, WELL_KNOWN_NAME};
use detour_core::lookup::GaveUp;
use detour_core::outcome::Reply;

use crate::ask::Ask;
use crate::cache::{Entry, Found};
use crate::drive::{Outcome, Running};
use crate::forwarder::Shared;
use crate::generation::Generation;
use crate::inflight::Waiter;
use crate::serve::Resolved;
use crate::wire::code::{class, rcode, rtype};
use crate::wire::translate::{addresses_of, aliased, stripped, translated};
use crate::wire::{Answer, Kind, NameBuf, classify};

#[cfg(test)]
mod tests;

/// What is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Behind which prefix.
    pub prefix: Prefix,
    /// Whether the network told it; else the operator did.
    pub is_discovered: bool,
}

/// Somebody who asked one of these has an address; loopback addresses of a hosts file are not for them.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Shared {
    /// A lookup ended that went by `generation`: what it came to is told to all who wait, unless it is to be translated
    /// first.
    pub(crate) fn conclude(
        self: &Arc<Self>,
        running: &Arc<Running>,
        generation: &Generation,
        outcome: Outcome,
        now: Time,
    ) {
        let ask = running.ask();
        let translation = generation.translation_of(ask).filter(|own| may_translate(ask, *own));
        let Some(Translation { prefix, .. }) = translation else {
            return running.end(outcome, now);
        };
        match dns64::judge(came(&outcome)) {
            Next::Keep => running.end(outcome, now),
            Next::Strip => {
                let made = answer_of(&outcome).and_then(|answer| stripped(&ask.name, answer));
                running.end(made.map_or(outcome, Outcome::Answer), now);
            }
            Next::Translate => self.translate(running, generation, prefix, outcome, now),
        }
    }

    /// Asks for the IPv4 addresses of a name that has no others.
    fn translate(
        self: &Arc<Self>,
        running: &Arc<Running>,
        generation: &Generation,
        prefix: Prefix,
        outcome: Outcome,
        now: Time,
    ) {
        let ask = running.ask();
        let Some(group) = generation.group(ask.group) else {
            return running.end(outcome, now);
        };
        let (group, flags) = (generation.key_of(group), (ask.do_bit, ask.cd));
        let wanted = Ask::new(&ask.name, rtype::A, class::IN, flags, group, generation.key_seed);
        let translator = Box::new(Translator {
            running: Arc::clone(running),
            denied: Some(outcome),
            prefix,
        });
        self.ask_beside(wanted, translator, now);
    }

    /// Asks for the name of an IPv4 address in the place of one behind the prefix; false if the question is no such.
    pub(crate) fn ask_for_pointer(self: &Arc<Self>, running: &Arc<Running>, now: Time) -> bool {
        let ask = running.ask();
        let generation = self.generation();
        let Some(target) = generation
            .translation_of(ask)
            .filter(|_| (ask.qtype, ask.qclass) == (rtype::PTR, class::IN))
            .and_then(|own| dns64::pointer(own.prefix, ask.name.as_wire()))
            .and_then(|name| NameBuf::from_wire(&name))
        else {
            return false;
        };
        let asked = generation.asked(&target);
        let pointer = Box::new(Pointer {
            running: Some(Arc::clone(running)),
            target: target.clone(),
        });
        if let Some(found) = self.local.find_unrouted(&target, NOBODY, asked.zone_bytes) {
            match self.local.answer(&found, &target, rtype::PTR) {
                Some(answer) => pointer.end(&answer, 0, now),
                // A mistake of ours, and counted by who drops it.
                None => drop(pointer),
            }
            return true;
        }
        let (group, flags) = (generation.keyed(asked, rtype::PTR), (ask.do_bit, ask.cd));
        let wanted = Ask::new(&target, rtype::PTR, class::IN, flags, group, generation.key_seed);
        self.ask_beside(wanted, pointer, now);
        true
    }

    /// Has a question answered that stands for another one: from the cache, or by providers.
    fn ask_beside(self: &Arc<Self>, wanted: Ask, waiter: Box<dyn Waiter>, now: Time) {
        match self.cache.find_ask(&wanted, now) {
            Found::Fresh(entry) => waiter.resolved(&Resolved::Answer(entry), false, now),
            Found::Stale(_) | Found::Nothing => self.ask_providers(&Arc::new(wanted), None, waiter, now),
        }
    }
}

/// Whether a question may get a translated answer.
fn may_translate(ask: &Ask, own: Translation) -> bool {
    let asked = dns64::Asked {
        is_for_addresses: (ask.qtype, ask.qclass) == (rtype::AAAA, class::IN),
        is_well_known: ask.name.as_wire() == WELL_KNOWN_NAME,
        do_bit: ask.do_bit,
        cd: ask.cd,
    };
    dns64::may_translate(asked, own.is_discovered)
}

fn answer_of(outcome: &Outcome) -> Option<&Answer> {
    match outcome {
        Outcome::Answer(accepted) | Outcome::Agreed(accepted) => Some(&accepted.answer),
        Outcome::GaveUp(_) => None,
    }
}

/// What came, as far as translation goes.
fn came(outcome: &Outcome) -> Came {
    match outcome {
        Outcome::Answer(accepted) => {
            let is_refused = matches!(classify(accepted, false), Reply::Filtered | Reply::Bogus);
            match (accepted.answer.rcode(), accepted.answer.kind()) {
                (_, Kind::Truncated) => Came::Nothing,
                _ if is_refused => Came::Refused,
                (rcode::NXDOMAIN, _) => Came::NoName,
                (rcode::NOERROR, _) => {
                    let (good, excluded) = addresses_of(&accepted.answer);
                    Came::Addresses { good, excluded }
                }
                _ => Came::Failed,
            }
        }
        Outcome::Agreed(_) => Came::Failed,
        Outcome::GaveUp(_) => Came::Nothing,
    }
}

/// Waits for the IPv4 addresses of a name.
struct Translator {
    running: Arc<Running>,
    /// What the question came to that is being translated; taken when it is over.
    denied: Option<Outcome>,
    prefix: Prefix,
}

impl Translator {
    fn end(&mut self, entry: Option<&Entry>, now: Time) {
        let Some(denied) = self.denied.take() else {
            return;
        };
        let ask = self.running.ask();
        // As long as the denial holds that it stands for (RFC 6147 section 5.1.7).
        let ttl_max_s = answer_of(&denied).and_then(Answer::ttl_s).unwrap_or(TTL_S_WITHOUT_SOA);
        let made = entry.and_then(|entry| {
            let age_s = entry.age_s(now);
            translated(&ask.name, &entry.answer, age_s, ttl_max_s, self.prefix)
        });
        if made.is_some() {
            self.running.shared().metrics.translated.inc();
        }
        self.running.end(made.map_or(denied, Outcome::Answer), now);
    }
}

impl Waiter for Translator {
    fn resolved(mut self: Box<Self>, resolved: &Resolved, _merged: bool, now: Time) {
        match resolved {
            Resolved::Answer(entry) => self.end(Some(entry), now),
            Resolved::Agreed(_) => self.end(None, now),
            // There may be addresses: a denial would hide them for as long as it is kept.
            Resolved::Unreached(why) => {
                self.denied = None;
                self.running.end(Outcome::GaveUp(*why), now);
            }
        }
    }

    fn crowded(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for Translator {
    fn drop(&mut self) {
        if self.denied.is_some() {
            self.running.give_up();
        }
    }
}

/// Waits for the name of an IPv4 address.
struct Pointer {
    /// Until it is over.
    running: Option<Arc<Running>>,
    target: NameBuf,
}

impl Pointer {
    fn end(mut self: Box<Self>, answer: &Answer, age_s: u32, now: Time) {
        if let Some(running) = self.running.take() {
            let made = aliased(&running.ask().name, &self.target, answer, age_s);
            running.end(made.map_or(Outcome::GaveUp(GaveUp::NoAnswer), Outcome::Answer), now);
        }
    }

    fn end_without(mut self: Box<Self>, why: GaveUp, now: Time) {
        if let Some(running) = self.running.take() {
            running.end(Outcome::GaveUp(why), now);
        }
    }
}

impl Waiter for Pointer {
    fn resolved(self: Box<Self>, resolved: &Resolved, _merged: bool, now: Time) {
        match resolved {
            Resolved::Answer(entry) => self.end(&entry.answer, entry.age_s(now), now),
            Resolved::Agreed(_) => self.end_without(GaveUp::NoAnswer, now),
            Resolved::Unreached(why) => self.end_without(*why, now),
        }
    }

    fn crowded(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for Pointer {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.give_up();
        }
    }
}
