//! The mesh as the control task has it: what peers say comes in, what this node says goes out. Neither waits.

use std::sync::Arc;

use detour_core::control::Control;
use detour_core::report::OwnReport;
use detour_core::time::{SEC, Time};
use detour_mesh::News;
use tokio::sync::{mpsc, watch};

use super::notes::MeshNotes;

/// Mere times of attempts are told at most this often; whatever changes a state is told at once.
const TIMES_US: u64 = SEC;

/// Both ways.
#[derive(Debug)]
pub(crate) struct MeshLink {
    news: mpsc::Receiver<News>,
    own: watch::Sender<Arc<OwnReport>>,
    notes: Arc<MeshNotes>,
    told: Told,
}

/// When this node's own report was last handed over.
#[derive(Debug, Default)]
struct Told {
    at: Option<Time>,
    /// Something came too soon after that.
    is_owed: bool,
}

impl Told {
    fn note(&mut self, now: Time) {
        *self = Self {
            at: Some(now),
            is_owed: false,
        };
    }

    /// Whether mere times may be told; what may not is owed.
    fn may_tell(&mut self, now: Time) -> bool {
        self.is_owed = self.at.is_some_and(|at| now.since(at) < TIMES_US);
        !self.is_owed
    }

    fn due(&self) -> Option<Time> {
        self.at.filter(|_| self.is_owed).map(|at| at.plus(TIMES_US))
    }
}

impl MeshLink {
    pub(super) fn new(news: mpsc::Receiver<News>, own: watch::Sender<Arc<OwnReport>>, notes: Arc<MeshNotes>) -> Self {
        Self {
            news,
            own,
            notes,
            told: Told::default(),
        }
    }

    /// The next thing a peer says; never, without a mesh. Cancelling it loses nothing.
    pub(crate) async fn next(link: &mut Option<Self>) -> News {
        if let Some(own) = link
            && let Some(news) = own.news.recv().await
        {
            return news;
        }
        // The mesh has ended for good: what it said ages away.
        *link = None;
        std::future::pending().await
    }

    /// Hands on what a peer says.
    pub(crate) fn take(&self, news: News, control: &mut Control, now: Time) {
        self.notes.hear(&news);
        match news {
            News::Report(report) => control.handle_report(report, now),
            News::Forget(node) => control.handle_forget(node, now),
        }
    }

    /// Says what this node sees, as it changed.
    pub(crate) fn tell(&mut self, control: &Control, now: Time) {
        self.told.note(now);
        drop(self.own.send_replace(Arc::new(control.own_report(now))));
    }

    /// The same, if it was not said lately; else it is owed.
    pub(crate) fn tell_times(&mut self, control: &Control, now: Time) {
        if self.told.may_tell(now) {
            self.tell(control, now);
        }
    }

    /// When what is owed can be said: a node that nobody asks may have no other reason to wake.
    #[must_use]
    pub(crate) fn due(&self) -> Option<Time> {
        self.told.due()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_too_soon_is_told_in_time() {
        let [start, soon, later] = [0, 400, 1_000].map(|ms| Time::at_ms(5_000 + ms));
        let mut told = Told::default();
        assert!(told.may_tell(start) && told.due().is_none());
        told.note(start);
        assert_eq!(told.due(), None);
        assert!(!told.may_tell(soon));
        assert_eq!(told.due(), Some(later));
        assert!(told.may_tell(later) && told.due().is_none());
    }
}
