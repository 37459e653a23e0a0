//! One query from its bytes to its reply: rules, local names, cache, stale, in-flight merge, providers.
//!
//! What is known here, or what the cache holds, is answered on the spot, without an await; everything else becomes a job
//! with a permit. Whatever happens to that job, its client gets a reply: the guard it carries answers SERVFAIL when it is
//! dropped.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_core::Time;
use detour_core::lookup::GaveUp;
use detour_core::outcome::Reply;
use detour_core::routes::Routes;
use detour_core::time::SEC;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::ask::{Ask, GroupKey, key_of};
use crate::cache::{Entry, Failure, Found, Wanted};
use crate::drive::Outcome;
use crate::forwarder::Shared;
use crate::generation::Generation;
use crate::inflight::Waiter;
use crate::local::Found as LocallyFound;
use crate::metrics::Source;
use crate::wire::code::{class, ede, rcode};
use crate::wire::{
    Chaos, Ede, Fit, Freshness, NameBuf, Parsed, Policy, Query, Via, classify, parse, policy, reply_limit, write,
    write_error, write_hinfo_any, write_txt,
};

/// How long a client waits for a refresh before it gets the stale answer (RFC 8767 section 5).
const STALE_WAIT: Duration = Duration::from_millis(1_800);
/// TTL of a stale answer (RFC 8767 section 5).
const STALE_TTL_S: u32 = 30;

/// What a question came to, as shared by all who asked it.
#[derive(Debug, Clone)]
pub(crate) enum Resolved {
    /// An answer.
    Answer(Arc<Entry>),
    /// A failure providers agree on.
    Agreed(Arc<Entry>),
    /// Nobody answered.
    Unreached(GaveUp),
}

/// What is to be done about a query.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The reply is written, from a fresh cache entry; counted by the caller, who may count many at once.
    Hit,
    /// The reply is written and counted.
    Replied,
    /// There is no reply, and where there is a connection it ends.
    Silence,
    /// It must be resolved.
    Resolve(Box<Miss>),
}

/// A query that the cache cannot answer.
#[derive(Debug)]
pub(crate) struct Miss {
    pub(crate) query: Query,
    pub(crate) via: Via,
    pub(crate) client: IpAddr,
    pub(crate) stale: Option<Arc<Entry>>,
}

/// A refresh that a client may wait for, or have left.
struct Refresh {
    sender: oneshot::Sender<Resolved>,
    _permit: OwnedSemaphorePermit,
}

impl Waiter for Refresh {
    fn resolved(self: Box<Self>, resolved: &Resolved, _merged: bool, _now: Time) {
        // The client may have been served already.
        drop(self.sender.send(resolved.clone()));
    }

    fn crowded(self: Box<Self>) {}
}

/// The verdict on a query that takes more than a look.
fn resolve(query: Query, via: Via, client: IpAddr, stale: Option<Arc<Entry>>) -> Verdict {
    Verdict::Resolve(Box::new(Miss {
        query,
        via,
        client,
        stale,
    }))
}

/// What queries are judged by that are there at the same time.
#[derive(Debug)]
pub(crate) struct Moment {
    generation: Arc<Generation>,
    now: Time,
}

impl Moment {
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// How long a connection of this kind may be idle.
    pub(crate) fn idle(&self, via: Via) -> Duration {
        self.generation.streams.idle(via)
    }

    /// Where DNS over HTTPS is asked.
    pub(crate) fn doh_path(&self) -> &str {
        &self.generation.doh_path
    }
}

impl Shared {
    /// This moment. For the queries at hand, not for those to come.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            generation: self.generation(),
            now: self.clock.now(),
        }
    }

    /// As [`Self::answer_now`] for who serves others too: a panic is counted, and the reply is SERVFAIL.
    pub(crate) fn answer_guarded(
        &self,
        moment: &Moment,
        message: &[u8],
        client: IpAddr,
        via: Via,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let begin = out.len();
        let answered = self.tasks.guard(|| self.answer_now(moment, message, client, via, out));
        answered.unwrap_or_else(|| {
            out.truncate(begin);
            let replied = self.tasks.guard(|| match parse(message) {
                Parsed::Query(query) => {
                    self.answer_panic(&query, out);
                    Verdict::Replied
                }
                Parsed::Silence | Parsed::Reject(_) => Verdict::Silence,
            });
            replied.unwrap_or(Verdict::Silence)
        })
    }

    /// Answers a query on the spot, or says what it needs. Writes at the end of `out`.
    pub(crate) fn answer_now(
        &self,
        moment: &Moment,
        message: &[u8],
        client: IpAddr,
        via: Via,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let (now, key_seed) = (moment.now, moment.generation.key_seed);
        let is_allowed = moment.generation.allows(client);
        let mut parsed = parse(message);
        let fit = parsed
            .echo_mut()
            .map_or(Fit::Good, |echo| echo.suit(via, || self.idle_told(moment, via)));
        if fit == Fit::Fatal {
            return Verdict::Silence;
        }
        let query = match parsed {
            Parsed::Silence => return Verdict::Silence,
            Parsed::Reject(reject) => {
                self.metrics.count_reply(Source::rejected);
                let code = if is_allowed { reject.rcode } else { rcode::REFUSED };
                write_error(&reject.echo, code, &[], out);
                return Verdict::Replied;
            }
            Parsed::Query(query) => query,
        };
        if !is_allowed {
            self.metrics.count_reply(Source::refused);
            write_error(&query.echo, rcode::REFUSED, &[PROHIBITED], out);
            return Verdict::Replied;
        }
        if fit == Fit::Malformed {
            self.metrics.count_reply(Source::rejected);
            write_error(&query.echo, rcode::FORMERR, &[], out);
            return Verdict::Replied;
        }
        if self.answer_by_policy(&query, via, out) {
            return Verdict::Replied;
        }
        self.local.look_if_due(now, &self.tasks);
        let asked = moment.generation.asked(&query.name);
        let routed = moment.generation.yields(asked, &query.name, query.qtype);
        if let Some(found) = self.local.find_unrouted(&query.name, client, routed) {
            // What comes from a file that is being read waits for its end, as a miss does.
            if found.is_from_hosts() && query.echo.rd && self.local.is_being_read(now) {
                return resolve(query, via, client, None);
            }
            self.write_local(&found, &query, via, out);
            return Verdict::Replied;
        }
        self.reporter.note_client(now);
        let stale = match self.look(
            &query,
            via,
            (moment.generation.keyed(asked, query.qtype), key_seed),
            now,
            out,
        ) {
            Found::Fresh(()) => return Verdict::Hit,
            Found::Stale(entry) => Some(entry),
            Found::Nothing => None,
        };
        if !query.echo.rd {
            // Whoever does not want recursion gets what is known and nothing more.
            self.metrics.count_reply(Source::rejected);
            write_error(&query.echo, rcode::REFUSED, &[], out);
            return Verdict::Replied;
        }
        resolve(query, via, client, stale)
    }

    /// What a query asks, and of whom at this moment.
    fn ask_of(&self, query: &Query) -> Ask {
        let generation = self.generation();
        let group = generation.keyed(generation.asked(&query.name), query.qtype);
        Ask::of(query, group, generation.key_seed)
    }

    /// Looks a query up, as it is asked of a group and keyed by a seed; what is fresh is written.
    fn look(
        &self,
        query: &Query,
        via: Via,
        (group, key_seed): (GroupKey, u64),
        now: Time,
        out: &mut Vec<u8>,
    ) -> Found<()> {
        let flags = (query.echo.edns.is_some_and(|edns| edns.do_bit), query.echo.cd);
        let wanted = Wanted {
            key: key_of(&query.name, query.qtype, query.qclass, flags, group, key_seed),
            name: &query.name,
            kind: (query.qtype, query.qclass),
            flags,
            group,
        };
        let looked = self.cache.look(&wanted, now, |answer, age_s| {
            let limit = reply_limit(&query.echo, via);
            write(answer, &query.echo, Freshness::Fresh { age_s }, &[], limit, out);
        });
        if let Some(hot) = &looked.hot {
            self.prefetch(query, hot);
        }
        looked.found
    }

    /// Writes the answer of a miss that is known by now, because another query for it was faster; true if it is.
    fn answer_if_known(&self, miss: &Miss, now: Time, out: &mut Vec<u8>) -> bool {
        let generation = self.generation();
        let asked = generation.asked(&miss.query.name);
        let keyed = (generation.keyed(asked, miss.query.qtype), generation.key_seed);
        let is_known = matches!(self.look(&miss.query, miss.via, keyed, now, out), Found::Fresh(()));
        self.metrics.count_replies(Source::cache, u64::from(is_known));
        is_known
    }

    /// How long a client is told that its connection may be idle: no time at all while the node stops (RFC 7828 section
    /// 3.3.2).
    fn idle_told(&self, moment: &Moment, via: Via) -> Duration {
        if self.tasks.draining().is_cancelled() {
            return Duration::ZERO;
        }
        moment.idle(via)
    }

    /// Questions that no provider is asked; true if it was one.
    fn answer_by_policy(&self, query: &Query, via: Via, out: &mut Vec<u8>) -> bool {
        let source = match policy(query, via) {
            Policy::Forward => return false,
            Policy::Refuse => {
                write_error(&query.echo, rcode::REFUSED, &[NOT_SUPPORTED], out);
                Source::rejected
            }
            Policy::Malformed => {
                write_error(&query.echo, rcode::FORMERR, &[], out);
                Source::rejected
            }
            Policy::HinfoAny => {
                write_hinfo_any(&query.echo, out);
                Source::local
            }
            Policy::Chaos(Chaos::Version) => {
                write_txt(&query.echo, &self.version, out);
                Source::local
            }
            Policy::Chaos(Chaos::Identity) => {
                write_txt(&query.echo, &self.identity, out);
                Source::local
            }
        };
        self.metrics.count_reply(source);
        true
    }

    /// A name that is answered here; true if it was one.
    fn answer_locally(&self, miss: &Miss, out: &mut Vec<u8>) -> bool {
        let (generation, query) = (self.generation(), &miss.query);
        let routed = generation.yields(generation.asked(&query.name), &query.name, query.qtype);
        let found = self.local.find_unrouted(&query.name, miss.client, routed);
        if let Some(found) = &found {
            self.write_local(found, &miss.query, miss.via, out);
        }
        found.is_some()
    }

    /// Writes the answer of a local name. Such a name is asked of nobody in another class either.
    fn write_local(&self, found: &LocallyFound, query: &Query, via: Via, out: &mut Vec<u8>) {
        if query.qclass != class::IN {
            self.metrics.count_reply(Source::rejected);
            return write_error(&query.echo, rcode::REFUSED, &[NOT_SUPPORTED], out);
        }
        let Some(answer) = self.local.answer(found, &query.name, query.qtype) else {
            self.tasks.note_panic();
            return self.answer_panic(query, out);
        };
        self.metrics.count_reply(Source::local);
        let limit = reply_limit(&query.echo, via);
        write(&answer, &query.echo, Freshness::Fresh { age_s: 0 }, &[], limit, out);
    }

    /// The reply when too many queries are being resolved: a local or stale answer if there is one.
    pub(crate) fn answer_overload(&self, miss: &Miss, out: &mut Vec<u8>) {
        if self.answer_locally(miss, out) {
            return;
        }
        if let Some(stale) = &miss.stale {
            return self.write_stale(stale, miss, out);
        }
        self.metrics.count_reply(Source::overload);
        write_error(&miss.query.echo, rcode::SERVFAIL, &[OVERLOAD], out);
    }

    /// The reply of a query that a mistake of ours ended.
    pub(crate) fn answer_panic(&self, query: &Query, out: &mut Vec<u8>) {
        self.metrics.count_reply(Source::panic);
        write_error(&query.echo, rcode::SERVFAIL, &[], out);
    }

    /// Whether a miss has to wait for something before providers are asked: a file that is being read, or the refresh of
    /// a stale answer.
    pub(crate) fn must_wait(&self, miss: &Miss, now: Time) -> bool {
        miss.stale.is_some() || self.local.is_being_read(now)
    }

    /// Waits for it. True: the reply is at the end of `out`. False: providers have to be asked.
    pub(crate) async fn answer_waiting(self: &Arc<Self>, miss: &Miss, out: &mut Vec<u8>) -> bool {
        // A name that was added to the hosts file a moment ago must not be asked of a provider.
        self.local.settle(self.clock.now()).await;
        if self.answer_locally(miss, out) {
            return true;
        }
        let Some(stale) = &miss.stale else {
            return false;
        };
        if self.answer_if_known(miss, self.clock.now(), out) {
            return true;
        }
        let ask = Arc::new(self.ask_of(&miss.query));
        if ask.group != stale.group() {
            // A reload meanwhile: what is at hand is not this group's.
            return false;
        }
        self.answer_with_stale(miss, &ask, stale, out).await;
        true
    }

    /// Writes the reply of a miss at the end of `out` if what is known has changed since it was one, or a failure is
    /// remembered; else says what to ask.
    pub(crate) fn answer_from_memory(&self, miss: &Miss, out: &mut Vec<u8>, now: Time) -> Option<Arc<Ask>> {
        if self.answer_locally(miss, out) || self.answer_if_known(miss, now, out) {
            return None;
        }
        let ask = Arc::new(self.ask_of(&miss.query));
        let Some(failure) = self.cache.find_failure(&ask, now) else {
            return Some(ask);
        };
        self.metrics.count_reply(Source::failure_cache);
        let resolved = match failure {
            Failure::Agreed(entry) => Resolved::Agreed(entry),
            Failure::Unreached(why) => Resolved::Unreached(why),
        };
        self.write_resolved(&resolved, miss, &[CACHED_ERROR], out, now);
        None
    }

    /// Writes what the providers said at the end of `out`.
    pub(crate) fn answer_resolved(&self, resolved: &Resolved, miss: &Miss, merged: bool, out: &mut Vec<u8>, now: Time) {
        self.metrics.count_reply(match resolved {
            Resolved::Unreached(_) => Source::no_answer,
            Resolved::Answer(_) | Resolved::Agreed(_) if merged => Source::merged,
            Resolved::Answer(_) | Resolved::Agreed(_) => Source::provider,
        });
        self.write_resolved(resolved, miss, &[], out, now);
    }

    /// A stale answer is at hand: a refresh gets 1.8 s, or no time at all where it would be in vain.
    async fn answer_with_stale(self: &Arc<Self>, miss: &Miss, ask: &Arc<Ask>, stale: &Arc<Entry>, out: &mut Vec<u8>) {
        if let Some(refreshed) = self.refresh(ask, stale) {
            let resolved = tokio::select! {
                biased;
                // Cancel safe: the refresh goes on in its own job.
                resolved = refreshed => resolved.ok(),
                // Cancel safe: timers and a watch.
                () = self.wait_for_refresh(ask) => None,
            };
            if let Some(resolved @ Resolved::Answer(_)) = resolved {
                self.metrics.count_reply(Source::provider);
                return self.write_resolved(&resolved, miss, &[], out, self.clock.now());
            }
        }
        self.write_stale(stale, miss, out);
    }

    /// Ends when a refresh has had its time, or as soon as nothing is up.
    async fn wait_for_refresh(&self, ask: &Ask) {
        let generation = self.generation();
        let mut routes = generation.routes.clone();
        let group = generation.group(ask.group);
        let nothing_up = async {
            let is_down = |routes: &Arc<Routes>| {
                group
                    .and_then(|group| routes.of(group))
                    .is_none_or(|own| own.nothing_up)
            };
            while !is_down(&routes.borrow_and_update()) {
                if routes.changed().await.is_err() {
                    // A reload: the refresh goes on under the routes it began with.
                    std::future::pending::<()>().await;
                }
            }
        };
        // Either end is the end.
        drop(tokio::time::timeout(STALE_WAIT, nothing_up).await);
    }

    /// Writes an answer past its time.
    fn write_stale(&self, stale: &Entry, miss: &Miss, out: &mut Vec<u8>) {
        self.metrics.count_reply(Source::stale);
        let edes = match stale.answer.rcode() {
            rcode::NXDOMAIN => [STALE_NXDOMAIN],
            _ => [STALE_ANSWER],
        };
        let freshness = Freshness::Stale { ttl_s: STALE_TTL_S };
        let limit = reply_limit(&miss.query.echo, miss.via);
        write(&stale.answer, &miss.query.echo, freshness, &edes, limit, out);
    }

    /// Has a hot answer anew before it expires; nobody waits for it. It goes behind clients: where half the places for
    /// questions are taken, the next client asks by itself.
    fn prefetch(&self, query: &Query, entry: &Arc<Entry>) {
        let Some(own) = self
            .own
            .upgrade()
            .filter(|_| query.echo.rd && self.permits.is_mostly_free())
        else {
            return;
        };
        let ask = Arc::new(self.ask_of(query));
        if own.refresh(&ask, entry).is_some() {
            self.metrics.prefetches.inc();
        }
    }

    /// Has a question of this node's own answered by providers, whatever the cache knows; `None` where they did not.
    pub async fn look_up(self: &Arc<Self>, name: &NameBuf, qtype: u16) -> Option<Arc<Entry>> {
        let permit = self.permits.take()?;
        let (sender, resolved) = oneshot::channel();
        let waiter = Box::new(Refresh {
            sender,
            _permit: permit,
        });
        let ask = Arc::new(self.ask(name, qtype, class::IN));
        self.ask_providers(&ask, None, waiter, self.clock.now());
        match resolved.await.ok()? {
            Resolved::Answer(entry) => Some(entry),
            Resolved::Agreed(_) | Resolved::Unreached(_) => None,
        }
    }

    /// Refreshes a stale answer, which goes on when its client has been served; `None` where a refresh failed
    /// within 30 s, or where too many queries are being resolved.
    fn refresh(self: &Arc<Self>, ask: &Arc<Ask>, stale: &Arc<Entry>) -> Option<oneshot::Receiver<Resolved>> {
        let now = self.clock.now();
        if self.cache.refresh_failed_lately(stale, now) {
            return None;
        }
        let permit = self.permits.take()?;
        let (sender, refreshed) = oneshot::channel();
        let refresh = Box::new(Refresh {
            sender,
            _permit: permit,
        });
        self.ask_providers(ask, Some(stale), refresh, now);
        Some(refreshed)
    }

    /// Keeps of an outcome what may be kept.
    pub(crate) fn keep(&self, ask: &Ask, stale: Option<&Arc<Entry>>, outcome: Outcome, now: Time) -> Resolved {
        let came = |age_s: u32| now.minus(u64::from(age_s).saturating_mul(SEC));
        match outcome {
            Outcome::Answer(accepted) => {
                // Filtered and bogus answers are answers, but may come without a TTL to keep them by.
                let is_verdict = match classify(&accepted, false) {
                    Reply::Filtered | Reply::Bogus => accepted.answer.ttl_s().is_none(),
                    Reply::Positive
                    | Reply::Denial { .. }
                    | Reply::NoEdns
                    | Reply::Failed(_)
                    | Reply::Truncated
                    | Reply::Forgeable => false,
                };
                let answer = if accepted.is_forgeable {
                    accepted.answer.into_unkeepable()
                } else {
                    self.cache.bounded(accepted.answer)
                };
                let entry = Arc::new(Entry::new(answer, ask, came(accepted.age_s)));
                if is_verdict {
                    self.cache
                        .replace_by_failure(ask, Failure::Agreed(Arc::clone(&entry)), now);
                } else {
                    self.cache.store(ask, &entry, now);
                }
                Resolved::Answer(entry)
            }
            Outcome::Agreed(accepted) => {
                let entry = Arc::new(Entry::new(accepted.answer, ask, now));
                self.keep_failure(ask, stale, Failure::Agreed(Arc::clone(&entry)), now);
                Resolved::Agreed(entry)
            }
            Outcome::GaveUp(why) => {
                self.keep_failure(ask, stale, Failure::Unreached(why), now);
                Resolved::Unreached(why)
            }
        }
    }

    /// Remembers a failure, beside a stale answer or in the failure cache.
    fn keep_failure(&self, ask: &Ask, stale: Option<&Arc<Entry>>, failure: Failure, now: Time) {
        match stale {
            Some(_) => self.cache.note_refresh_failed(ask, now),
            None => self.cache.store_failure(ask, failure, now),
        }
    }

    /// Writes what a question came to, for one of those who asked it.
    fn write_resolved(&self, resolved: &Resolved, miss: &Miss, edes: &[Ede<'_>], out: &mut Vec<u8>, now: Time) {
        let echo = &miss.query.echo;
        match resolved {
            Resolved::Answer(entry) | Resolved::Agreed(entry) => {
                let freshness = Freshness::Fresh {
                    age_s: entry.age_s(now),
                };
                let limit = reply_limit(echo, miss.via);
                write(&entry.answer, echo, freshness, edes, limit, out);
            }
            Resolved::Unreached(why) => {
                let reason = match why {
                    GaveUp::NoAnswer => NO_ANSWER,
                    GaveUp::Network => NETWORK,
                };
                let edes: Vec<Ede<'_>> = std::iter::once(reason).chain(edes.iter().copied()).collect();
                write_error(echo, rcode::SERVFAIL, &edes, out);
            }
        }
    }
}

const PROHIBITED: Ede<'static> = Ede {
    code: ede::PROHIBITED,
    text: "this address may not ask here",
};
const NOT_SUPPORTED: Ede<'static> = Ede {
    code: ede::NOT_SUPPORTED,
    text: "not served by this forwarder",
};
const OVERLOAD: Ede<'static> = Ede {
    code: ede::NETWORK_ERROR,
    text: "too many queries in flight",
};
const NO_ANSWER: Ede<'static> = Ede {
    code: ede::NO_REACHABLE_AUTHORITY,
    text: "no provider answered",
};
const NETWORK: Ede<'static> = Ede {
    code: ede::NETWORK_ERROR,
    text: "no provider can be reached from here",
};
const CACHED_ERROR: Ede<'static> = Ede {
    code: ede::CACHED_ERROR,
    text: "",
};
const STALE_ANSWER: Ede<'static> = Ede {
    code: ede::STALE_ANSWER,
    text: "",
};
const STALE_NXDOMAIN: Ede<'static> = Ede {
    code: ede::STALE_NXDOMAIN,
    text: "",
};
