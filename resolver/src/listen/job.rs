//! A query being resolved and the promise that its client hears back.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::forwarder::Shared;
use crate::serve::Miss;

/// Where a reply goes, at once and without waiting.
pub(super) trait ReplyTo: Send + 'static {
    /// Sends `reply`; what cannot be sent now is lost, as datagrams are.
    fn send(&self, reply: Vec<u8>);
}

/// Resolves `miss` in a job of its own, or answers SERVFAIL at once if too many are being resolved.
pub(super) fn resolve(shared: &Arc<Shared>, miss: Box<Miss>, reply_to: impl ReplyTo) {
    let Ok(permit) = Arc::clone(&shared.permits).try_acquire_owned() else {
        let mut out = Vec::new();
        shared.answer_overload(&miss.query, &mut out);
        reply_to.send(out);
        return;
    };
    let job = Job {
        shared: Arc::clone(shared),
        miss,
        reply_to,
        is_answered: false,
        _permit: permit,
    };
    shared.tasks.spawn_job(job.run());
}

/// One query; dropped unanswered, it answers SERVFAIL.
struct Job<R: ReplyTo> {
    shared: Arc<Shared>,
    miss: Box<Miss>,
    reply_to: R,
    is_answered: bool,
    _permit: OwnedSemaphorePermit,
}

impl<R: ReplyTo> Job<R> {
    async fn run(mut self) {
        let mut out = Vec::with_capacity(512);
        self.shared.answer_miss(&self.miss, &mut out).await;
        self.is_answered = true;
        self.reply_to.send(out);
    }
}

impl<R: ReplyTo> Drop for Job<R> {
    fn drop(&mut self) {
        if !self.is_answered {
            let mut out = Vec::new();
            self.shared.answer_panic(&self.miss.query, &mut out);
            self.reply_to.send(out);
        }
    }
}
