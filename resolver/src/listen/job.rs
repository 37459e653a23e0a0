//! A query being resolved and the promise that its client hears back.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::fair::Place;
use crate::forwarder::Shared;
use crate::serve::Miss;

/// Where a reply goes, at once and without waiting.
pub(super) trait ReplyTo: Send + 'static {
    /// Sends `reply`; what cannot be sent now is lost, as datagrams are.
    fn send(self, reply: Vec<u8>);
}

/// Resolves `miss` in a job of its own, or answers SERVFAIL at once if too many are being resolved.
pub(super) fn resolve(shared: &Arc<Shared>, miss: Box<Miss>, reply_to: impl ReplyTo) {
    let share = shared.shares.take(miss.client);
    let (Some(share), Some(permit)) = (share, shared.permits.take()) else {
        let mut out = Vec::new();
        shared.answer_overload(&miss, &mut out);
        reply_to.send(out);
        return;
    };
    let job = Job {
        shared: Arc::clone(shared),
        miss,
        reply_to: Some(reply_to),
        _permit: permit,
        _share: share,
    };
    shared.tasks.spawn_job(job.run());
}

/// One query; dropped unanswered, it answers SERVFAIL.
struct Job<R: ReplyTo> {
    shared: Arc<Shared>,
    miss: Box<Miss>,
    /// Until the reply is sent.
    reply_to: Option<R>,
    _permit: OwnedSemaphorePermit,
    _share: Place,
}

impl<R: ReplyTo> Job<R> {
    async fn run(mut self) {
        let mut out = Vec::with_capacity(512);
        self.shared.answer_miss(&self.miss, &mut out).await;
        if let Some(reply_to) = self.reply_to.take() {
            reply_to.send(out);
        }
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
    use crate::serve::Verdict;
    use crate::testing::shared;
    use crate::wire::{NameBuf, QueryOut, Via, build_query};
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
        let verdict = shared.answer_now(&query, [127, 0, 0, 1].into(), Via::Udp, &mut Vec::new());
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
}
