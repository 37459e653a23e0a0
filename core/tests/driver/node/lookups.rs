//! Clients' questions and the lookups that answer them.

use std::sync::Arc;

use detour_core::health::Finish;
use detour_core::lookup::{Done, Lookup, Output, Slot, Via, View, Why};
use detour_core::plan::{PROVIDERS_MAX, Question, plan};
use detour_core::time::{MS, Time};
use detour_core::topology::EndpointId;

use super::attempts::Wanted;
use super::{DEADLINE_US, Node, Running};
use crate::env::{Env, Event};
use crate::provider::mix;

/// Beyond this a client counts as hurt.
const HURT_AFTER_US: u64 = 250 * MS;
/// Registrable domains that clients ask for.
const DOMAINS: u64 = 10;

impl Node {
    pub(super) fn client(&mut self, env: &mut Env) {
        self.client_scheduled = false;
        self.schedule_client(env);
        self.next_question += 1;
        let id = self.next_question;
        let question = Question {
            number: id,
            domain: mix(id) % DOMAINS,
        };
        self.counts.asked += 1;
        self.control.note_client(env.now);
        let routes = Arc::clone(self.control.routes());
        let planned = plan(&routes, &mut self.usage, question, env.now, &mut |_, _| {});
        let mut view = View {
            routes: &routes,
            usage: &mut self.usage,
            heard: &self.heard,
        };
        let running = Running {
            lookup: Lookup::start(planned, false, env.now, &mut view),
            question,
            started: env.now,
            latency_us: self.config.law.latency_us(id),
            attempts: Vec::new(),
            providers: Vec::new(),
            right: Vec::new(),
            stamp: 0,
            slept: false,
        };
        self.lookups.insert(id, running);
        self.drain_lookup(id, env);
    }

    /// One input to a lookup.
    pub(super) fn feed(&mut self, id: u64, env: &mut Env, input: impl FnOnce(&mut Lookup, Time, &mut View<'_>)) {
        let routes = Arc::clone(self.control.routes());
        if let Some(running) = self.lookups.get_mut(&id) {
            let mut view = View {
                routes: &routes,
                usage: &mut self.usage,
                heard: &self.heard,
            };
            input(&mut running.lookup, env.now, &mut view);
            self.drain_lookup(id, env);
        }
    }

    fn drain_lookup(&mut self, id: u64, env: &mut Env) {
        loop {
            let now = env.now;
            let Some(running) = self.lookups.get_mut(&id) else {
                return;
            };
            let wakeup = running.lookup.poll_timeout();
            let Some(output) = running.lookup.poll_output() else {
                running.stamp = running.stamp.wrapping_add(1);
                let stamp = running.stamp;
                match wakeup {
                    Some((at, _)) => env.push(at.max(now), self.who, Event::LookupTimer(id, stamp)),
                    None => self.fail("a lookup without a result wants no timer", env),
                }
                return;
            };
            if wakeup.is_none_or(|(at, _)| at > now) {
                self.fail("a lookup has outputs and does not say now", env);
            }
            match output {
                Output::Begin {
                    slot,
                    endpoint,
                    via,
                    why,
                } => self.begin_client(id, slot, endpoint, via, why, env),
                Output::Disagreed { slot, endpoint, rcode } => {
                    let (question, begun) = (running.question, running.attempts[slot].2);
                    if let Some(begun) = begun {
                        self.control
                            .handle_disagreed(endpoint, begun, question.domain, rcode, now);
                        env.log("disagreed", id, u64::from(endpoint.0));
                        self.drain_control(env);
                    }
                }
                Output::Mismatched { slot, endpoint } => {
                    if let Some(begun) = running.attempts[slot].2 {
                        self.control.handle_finished(endpoint, begun, Finish::Mismatched, now);
                        env.log("mismatched", id, u64::from(endpoint.0));
                        self.drain_control(env);
                    }
                }
                Output::Done(done) => self.done(id, done, env),
            }
        }
    }

    fn begin_client(&mut self, id: u64, slot: Slot, endpoint: EndpointId, via: Via, why: Why, env: &mut Env) {
        let provider = self.topology.endpoint(endpoint).unwrap().provider;
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        *self.counts.why.entry(why).or_default() += 1;
        self.last_query.insert(provider.0, env.now);
        if why == Why::First {
            self.counts.first[usize::from(provider.0)] += 1;
        }
        let running = self.lookups.get_mut(&id).unwrap();
        if slot != running.attempts.len() {
            self.fail("slots do not count up", env);
        }
        running.attempts.push((endpoint, attempt, None));
        if !running.providers.contains(&provider) {
            running.providers.push(provider);
        }
        if running.providers.len() > PROVIDERS_MAX {
            self.fail("a lookup told a fourth provider", env);
        }
        let latency_us = running.latency_us;
        env.log(why.word(), id, u64::from(endpoint.0));
        let wanted = Wanted {
            id: attempt,
            endpoint,
            via,
            purpose: why.purpose(),
            latency_us,
            waits: Some((id, slot)),
        };
        self.begin(wanted, env);
    }

    fn done(&mut self, id: u64, done: Done, env: &mut Env) {
        let Some(running) = self.lookups.remove(&id) else {
            return;
        };
        let took = env.now.since(running.started);
        if took > DEADLINE_US && !running.slept {
            self.fail("a client waited longer than the deadline", env);
        }
        let (right, word) = match done {
            Done::Answer(slot) => (running.right.contains(&slot), "answer"),
            Done::Agreed(_) => (false, "agreed"),
            Done::GaveUp(_) => (false, "gave-up"),
        };
        if let Done::Answer(_) = done {
            self.counts.answered += 1;
        }
        env.log(word, id, took);
        if !right {
            self.counts.lost += 1;
        }
        if !right || took > running.latency_us + HURT_AFTER_US {
            self.counts.hurt += 1;
            if running.started < env.providers.changed {
                self.counts.hurt_in_flight += 1;
            }
            env.log("hurt", id, took);
            if std::env::var_os("DETOUR_SHOW_HURT").is_some() {
                eprintln!(
                    "hurt at {}: question {id} {word} after {took} us, law {} us",
                    env.now, running.latency_us
                );
                for (endpoint, attempt, begun) in &running.attempts {
                    eprintln!(
                        "  attempt {attempt} at {endpoint:?} begun {:?}",
                        begun.map(|b| b.at.to_string())
                    );
                }
                for (endpoint, why) in running.lookup.attempts() {
                    eprintln!("  {endpoint:?} {}", why.word());
                }
            }
        }
    }
}
