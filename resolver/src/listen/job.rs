//! A query being resolved and the promise that its client hears back.

use std::net::IpAddr;
use std::sync::Arc;

use detour_core::Time;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::fair::Place;
use crate::forwarder::Shared;
use crate::inflight::Waiter;
use crate::metrics::Source;
use crate::serve::{Miss, Resolved, Verdict};
use crate::wire::Via;

/// Where a reply goes, at once and without waiting.
pub(super) trait ReplyTo: Send + 'static {
    /// Sends `reply`; what cannot be sent now is lost, as datagrams are.
    fn send(self, reply: Vec<u8>);
}

/// Resolves `miss` in a job of its own, or answers SERVFAIL at once if too many are being resolved.
pub(super) fn resolve(shared: &Arc<Shared>, miss: Box<Miss>, reply_to: impl ReplyTo) {
    match Job::admit(shared, miss, reply_to) {
        Ok(job) => job.begin(shared.clock.now()),
        Err((miss, reply_to)) => {
            let mut out = Vec::new();
            shared.answer_overload(&miss, &mut out);
            reply_to.send(out);
        }
    }
}

/// What became of a query that came by itself, on a stream of its own.
pub(super) enum Answered {
    /// The reply.
    Now(Vec<u8>),
    /// The reply comes; whatever becomes of the query.
    Later(oneshot::Receiver<Vec<u8>>),
    /// It was none.
    NoQuery,
}

impl ReplyTo for oneshot::Sender<Vec<u8>> {
    fn send(self, reply: Vec<u8>) {
        // Who has gone does without.
        drop(self.send(reply));
    }
}

/// Answers a query that came by itself, and counts it.
pub(super) fn ask(shared: &Arc<Shared>, message: &[u8], client: IpAddr, via: Via) -> Answered {
    shared.metrics.count_queries(via, 1);
    let mut out = Vec::with_capacity(512);
    match shared.answer_guarded(&shared.moment(), message, client, via, &mut out) {
        Verdict::Hit => {
            shared.metrics.count_replies(Source::cache, 1);
            Answered::Now(out)
        }
        Verdict::Replied => Answered::Now(out),
        Verdict::Silence => Answered::NoQuery,
        Verdict::Resolve(miss) => {
            let (sender, reply) = oneshot::channel();
            resolve(shared, miss, sender);
            Answered::Later(reply)
        }
    }
}

/// One query; dropped unanswered, it answers SERVFAIL.
pub(super) struct Job<R: ReplyTo> {
    shared: Arc<Shared>,
    miss: Box<Miss>,
    /// Until the reply is sent.
    reply_to: Option<R>,
    _permit: OwnedSemaphorePermit,
    _share: Place,
}

impl<R: ReplyTo> Job<R> {
    /// A job for this query, if there is a place for it and its client has not had its share of them.
    pub(super) fn admit(shared: &Arc<Shared>, miss: Box<Miss>, reply_to: R) -> Result<Self, (Box<Miss>, R)> {
        let share = shared.shares.take(miss.client);
        let (Some(share), Some(permit)) = (share, shared.permits.take()) else {
            return Err((miss, reply_to));
        };
        Ok(Self {
            shared: Arc::clone(shared),
            miss,
            reply_to: Some(reply_to),
            _permit: permit,
            _share: share,
        })
    }

    /// Answers as if there had been no place.
    pub(super) fn refuse(mut self) {
        let mut out = Vec::new();
        self.shared.answer_overload(&self.miss, &mut out);
        self.reply(out);
    }

    /// Has it resolved, at once where that means to ask providers; what has to be waited for before goes on in a task. A
    /// panic is this query's alone.
    pub(super) fn begin(self, now: Time) {
        let shared = Arc::clone(&self.shared);
        shared.tasks.guard(|| {
            if shared.must_wait(&self.miss, now) {
                shared.tasks.spawn_job(self.wait());
            } else {
                self.ask(now);
            }
        });
    }

    async fn wait(mut self) {
        let mut out = Vec::new();
        if self.shared.answer_waiting(&self.miss, &mut out).await {
            self.reply(out);
        } else {
            let now = self.shared.clock.now();
            self.ask(now);
        }
    }

    fn ask(mut self, now: Time) {
        let mut out = Vec::new();
        match self.shared.answer_from_memory(&self.miss, &mut out, now) {
            None => self.reply(out),
            Some(ask) => {
                let shared = Arc::clone(&self.shared);
                shared.ask_providers(&ask, None, Box::new(self), now);
            }
        }
    }

    fn reply(&mut self, reply: Vec<u8>) {
        if let Some(reply_to) = self.reply_to.take() {
            reply_to.send(reply);
        }
    }
}

impl<R: ReplyTo> Waiter for Job<R> {
    fn resolved(mut self: Box<Self>, resolved: &Resolved, merged: bool, now: Time) {
        // A panic is this client's alone, not that of all who asked the same.
        let shared = Arc::clone(&self.shared);
        shared.tasks.guard(move || {
            let mut out = Vec::with_capacity(256);
            self.shared.answer_resolved(resolved, &self.miss, merged, &mut out, now);
            self.reply(out);
        });
    }

    fn crowded(self: Box<Self>) {
        self.refuse();
    }
}

impl<R: ReplyTo> Drop for Job<R> {
    fn drop(&mut self) {
        if let Some(reply_to) = self.reply_to.take() {
            let mut out = Vec::new();
            self.shared.answer_panic(&self.miss.query, &mut out);
            reply_to.send(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Entry;
    use crate::testing::shared;
    use crate::wire::tests::accepted_for;
    use crate::wire::{NameBuf, QueryOut, build_query};
    use parking_lot::Mutex;

    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Vec<u8>>>>);

    impl ReplyTo for Kept {
        fn send(self, reply: Vec<u8>) {
            self.0.lock().push(reply);
        }
    }

    fn miss(shared: &Shared, id: u16) -> Box<Miss> {
        let mut query = Vec::new();
        let name: NameBuf = "panics.example".parse().unwrap();
        build_query(
            &mut query,
            &QueryOut {
                id,
                name: &name,
                qtype: 1,
                qclass: 1,
                ad: false,
                cd: false,
                case_bits: None,
                edns: None,
            },
        );
        let (moment, client) = (shared.moment(), [127, 0, 0, 1].into());
        let verdict = shared.answer_now(&moment, &query, client, Via::Udp, &mut Vec::new());
        let Verdict::Resolve(miss) = verdict else {
            panic!("an unknown name must be resolved");
        };
        miss
    }

    #[tokio::test]
    async fn a_query_task_that_panics_answers_servfail_and_is_counted() {
        let (shared, _control) = shared(1);
        let kept = Kept::default();
        let job = Job {
            miss: miss(&shared, 7),
            reply_to: Some(kept.clone()),
            _permit: shared.permits.take().unwrap(),
            _share: shared.shares.take([127, 0, 0, 1].into()).unwrap(),
            shared: Arc::clone(&shared),
        };
        shared.tasks.spawn_job(async move {
            let _job = job;
            panic!("injected");
        });
        while shared.tasks.panics() == 0 || shared.permits.free() == 0 {
            tokio::task::yield_now().await;
        }
        let replies = kept.0.lock();
        assert_eq!(replies.len(), 1);
        // The client's id; SERVFAIL.
        assert_eq!(replies[0][..2], [0, 7]);
        assert_eq!(replies[0][3] & 0xF, 2);
    }

    /// Panics where it is told to.
    #[derive(Debug)]
    struct Panics;

    impl ReplyTo for Panics {
        fn send(self, _reply: Vec<u8>) {
            panic!("injected");
        }
    }

    #[tokio::test]
    async fn a_reply_that_panics_costs_nobody_else_who_asked_the_same() {
        let (shared, _control) = shared(4);
        let kept = Kept::default();
        let answer = Entry::new(
            accepted_for("panics.example", 1).answer,
            &shared.ask(&"panics.example".parse().unwrap(), 1, 1),
            shared.clock.now(),
        );
        let (answer, now) = (Resolved::Answer(Arc::new(answer)), shared.clock.now());
        let Ok(first) = Job::admit(&shared, miss(&shared, 1), Panics) else {
            panic!("there is room");
        };
        let Ok(second) = Job::admit(&shared, miss(&shared, 2), kept.clone()) else {
            panic!("there is room");
        };
        Waiter::resolved(Box::new(first), &answer, false, now);
        Waiter::resolved(Box::new(second), &answer, true, now);
        assert_eq!((shared.tasks.panics(), kept.0.lock().len()), (1, 1));
        assert_eq!(shared.permits.free(), 4);
    }

    #[tokio::test]
    async fn a_query_beyond_the_limit_is_answered_at_once() {
        let (shared, _control) = shared(1);
        let _taken = shared.permits.take().unwrap();
        let kept = Kept::default();
        resolve(&shared, miss(&shared, 9), kept.clone());
        let replies = kept.0.lock();
        assert_eq!(replies[0][..2], [0, 9]);
        assert_eq!(replies[0][3] & 0xF, 2);
    }
    #[tokio::test]
    async fn what_another_query_brought_meanwhile_is_not_asked_again() {
        let (shared, _control) = shared(2);
        let kept = Kept::default();
        let Ok(job) = Job::admit(&shared, miss(&shared, 11), kept.clone()) else {
            panic!("there is room");
        };
        // While it waits for its turn.
        let accepted = accepted_for("panics.example", 1);
        let (ask, now) = (shared.ask(&"panics.example".parse().unwrap(), 1, 1), shared.clock.now());
        shared.cache.store(&ask, &Entry::new(accepted.answer, &ask, now), now);
        job.begin(now);
        assert_eq!(shared.in_flight(), 0);
        let replies = kept.0.lock();
        assert_eq!(replies[0][..2], [0, 11]);
        // One answer.
        assert_eq!((replies[0][3] & 0xF, &replies[0][6..8]), (0, &[0, 1][..]));
    }
}
