//! Attempts at providers: what is written, what comes back.

use detour_core::health::{Begun, Finish, Purpose};
use detour_core::lookup::{Slot, Via};
use detour_core::outcome::{Failure, Signal};
use detour_core::time::SEC;
use detour_core::topology::EndpointId;

use super::{Node, Sent};
use crate::env::{Env, Event};
use crate::provider::{CONNECT_TIMEOUT_US, CONNECT_US, Fault, Packet};

/// An attempt that somebody wants.
pub(super) struct Wanted {
    pub(super) id: u64,
    pub(super) endpoint: EndpointId,
    pub(super) via: Via,
    pub(super) purpose: Purpose,
    /// Of an honest answer.
    pub(super) latency_us: u64,
    /// Which lookup waits for it.
    pub(super) waits: Option<(u64, Slot)>,
}

impl Node {
    pub(super) fn begin(&mut self, wanted: Wanted, env: &mut Env) {
        let Wanted {
            id,
            endpoint,
            via,
            purpose,
            latency_us,
            waits,
        } = wanted;
        let over_tcp = via == Via::Stream
            || self
                .topology
                .endpoint(endpoint)
                .unwrap()
                .transport
                .class()
                .has_connections();
        let fault = self.fault(endpoint, over_tcp, env);
        let transport = self.topology.endpoint(endpoint).unwrap().transport;
        self.in_the_clear += u64::from(!transport.is_encrypted());
        self.next_socket += 1;
        let socket = match purpose {
            Purpose::Probe => 1_000_000 + self.next_socket,
            Purpose::Client | Purpose::Backup if over_tcp => 1_000 + u64::from(endpoint.0),
            Purpose::Client | Purpose::Backup => self.random.below(256),
        };
        let sent = Sent {
            endpoint,
            over_tcp,
            without_edns: via == Via::NoEdns,
            begun: Begun {
                id,
                at: env.now,
                socket,
                purpose,
            },
            written: false,
            latency_us,
            waits,
            honest: fault.is_honest(),
        };
        self.attempts.insert(id, sent);
        let provider = self.provider_of(endpoint);
        let connected = purpose != Purpose::Probe
            && self
                .connections
                .get(&provider)
                .is_some_and(|used| env.now.as_micros().saturating_sub(*used) < 9 * SEC);
        if !over_tcp || connected {
            self.write(id, fault, env);
        } else if self.uplink_dead {
            self.push_packet(id, CONNECT_TIMEOUT_US, Packet::Fail(Failure::ConnectTimeout), env);
        } else {
            env.push(env.now.plus(CONNECT_US), self.who, Event::Connected(id));
        }
    }

    pub(super) fn connected(&mut self, id: u64, env: &mut Env) {
        if let Some(sent) = self.attempts.get(&id).copied() {
            let fault = self.fault(sent.endpoint, true, env);
            if sent.begun.purpose != Purpose::Probe && fault != Fault::Rst {
                let provider = self.provider_of(sent.endpoint);
                self.connections.insert(provider, env.now.as_micros());
            }
            self.write(id, fault, env);
        }
    }

    /// The query goes on the wire.
    fn write(&mut self, id: u64, fault: Fault, env: &mut Env) {
        let roll = self.random.below(1_000);
        let now = env.now;
        let Some(sent) = self.attempts.get_mut(&id) else {
            return;
        };
        sent.begun.at = now;
        sent.written = true;
        sent.honest = fault.is_honest();
        let sent = *sent;
        if let Some((lookup, slot)) = sent.waits
            && let Some(running) = self.lookups.get_mut(&lookup)
        {
            running.attempts[slot].2 = Some(sent.begun);
        }
        if fault != Fault::NoRoute {
            self.control.handle_begun(sent.endpoint, sent.begun, now);
            self.drain_control(env);
        }
        let provider = self.provider_of(sent.endpoint);
        if let Some((watched, since)) = self.watch
            && watched == provider
            && now >= since
            && sent.begun.purpose != Purpose::Probe
        {
            self.first_lost.entry(provider).or_insert(now);
        }
        if let Some((after, packet)) = fault.reply(sent.over_tcp, sent.without_edns, sent.latency_us, roll) {
            self.push_packet(id, after, packet, env);
        }
    }

    fn push_packet(&mut self, id: u64, after: u64, packet: Packet, env: &mut Env) {
        let number = env.number();
        self.packets.insert(number, packet);
        env.push(env.now.plus(after), self.who, Event::Arrive(id, number));
    }

    pub(super) fn arrive(&mut self, id: u64, number: u64, env: &mut Env) {
        let now = env.now;
        let Some(packet) = self.packets.remove(&number) else {
            return;
        };
        let Some(sent) = self.attempts.get(&id).copied() else {
            return;
        };
        let fault = self.fault(sent.endpoint, sent.over_tcp, env);
        let failed = matches!(packet, Packet::Fail(_));
        if !failed && fault.withholds() {
            return;
        }
        if !failed {
            let heard = &mut self.heard.0[usize::from(sent.endpoint.0)];
            *heard = (*heard).max(sent.begun.at);
        }
        let mut begun = sent.begun;
        let (finish, signal) = match packet {
            Packet::Answer(reply) => {
                let latency_us = now.since(begun.at);
                (Some(Finish::Answered { reply, latency_us }), Signal::Answered(reply))
            }
            Packet::Garbage => {
                self.control.handle_garbage(sent.endpoint, now);
                (None, Signal::Garbage)
            }
            Packet::Mismatch => (None, Signal::Mismatch),
            Packet::Fail(failure) => {
                if !sent.written {
                    begun.at = now;
                }
                (Some(Finish::Failed(failure)), Signal::Failed(failure))
            }
        };
        if let Some(finish) = finish {
            self.attempts.remove(&id);
            self.control.handle_finished(sent.endpoint, begun, finish, now);
        }
        env.log("arrive", id, u64::from(sent.endpoint.0));
        self.drain_control(env);
        if let Some((lookup, slot)) = sent.waits
            && let Some(running) = self.lookups.get_mut(&lookup)
        {
            running.attempts[slot].2 = Some(begun);
            if sent.honest {
                running.right.push(slot);
            }
            self.feed(lookup, env, |lookup, now, view| {
                lookup.handle_signal(slot, signal, now, view)
            });
        }
    }
}
