//! What the data plane tells the control task: outcomes, by a bounded queue that is never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use detour_core::control::CertificateTime;
use detour_core::health::domains::DomainKey;
use detour_core::health::{Begun, Finish};
use detour_core::outcome::Rcode;
use detour_core::{EndpointId, Time};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Outcomes that may wait for the control task: a second's worth at 30,000 misses per second. When it is full the
/// newest is dropped and counted; health then rests on a sample.
pub const REPORT_QUEUE: usize = 65_536;

/// One input of `detour_core::control::Control`.
#[derive(Debug, Clone, Copy)]
pub enum Report {
    /// An attempt's query was written.
    Begun(EndpointId, Begun),
    /// An attempt ended.
    Finished(EndpointId, Begun, Finish, Time),
    /// A bad rcode was proven wrong by another provider.
    Disagreed(EndpointId, Begun, DomainKey, Rcode),
    /// Bytes that are no DNS answer came.
    Garbage(EndpointId),
    /// Connecting takes long.
    Slow(EndpointId),
    /// A certificate is of another time than this machine's clock says it is.
    Certificate(EndpointId, CertificateTime),
}

/// Sends reports of one numbering of endpoints; what it counts goes on through all of them.
#[derive(Debug)]
pub struct Reporter {
    sender: mpsc::Sender<Report>,
    dropped: Arc<AtomicU64>,
    last_client: Arc<AtomicU64>,
}

impl Reporter {
    /// A reporter and the queue the control task reads.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Report>) {
        Self::counting(Arc::default(), Arc::default())
    }

    /// The same with a queue of its own, for endpoints that are numbered anew: what is still told under the old numbers
    /// goes to nobody.
    #[must_use]
    pub fn renumbered(&self) -> (Self, mpsc::Receiver<Report>) {
        Self::counting(Arc::clone(&self.dropped), Arc::clone(&self.last_client))
    }

    fn counting(dropped: Arc<AtomicU64>, last_client: Arc<AtomicU64>) -> (Self, mpsc::Receiver<Report>) {
        // Full: drop the newest and count it.
        let (sender, receiver) = mpsc::channel(REPORT_QUEUE);
        let reporter = Self {
            sender,
            dropped,
            last_client,
        };
        (reporter, receiver)
    }

    /// Hands one report over, or counts it as dropped. Where nobody reads any more, nobody misses it.
    pub fn send(&self, report: Report) {
        match self.sender.try_send(report) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A client asked.
    pub fn note_client(&self, at: Time) {
        self.last_client.store(at.as_micros(), Ordering::Relaxed);
    }

    /// When a client last asked; zero if none did.
    #[must_use]
    pub fn last_client(&self) -> Time {
        Time::from_micros(self.last_client.load(Ordering::Relaxed))
    }

    /// Reports dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_any_more_is_not_dropped_and_counts_go_on() {
        let (reporter, queue) = Reporter::new();
        reporter.note_client(Time::at_ms(5));
        for _ in 0..=REPORT_QUEUE {
            reporter.send(Report::Garbage(EndpointId(0)));
        }
        let (next, _queue) = reporter.renumbered();
        drop(queue);
        reporter.send(Report::Garbage(EndpointId(0)));
        assert_eq!((reporter.dropped(), next.dropped()), (1, 1));
        assert_eq!(next.last_client(), Time::at_ms(5));
    }
}
