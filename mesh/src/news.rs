//! What the control plane has to hear, on its way there.
//!
//! The channel is bounded; when it is full, the newest of each node waits here, so what is late is late and never lost,
//! and never older than what came after. At most one per node, so as many as nodes are held.

use std::collections::BTreeMap;

use detour_core::report::NodeId;
use tokio::sync::mpsc;

use crate::config::News;
use crate::metrics::Metrics;

/// Reports and forgets on their way out.
#[derive(Debug)]
pub(crate) struct NewsQueue {
    out: mpsc::Sender<News>,
    waiting: BTreeMap<NodeId, News>,
}

impl NewsQueue {
    pub(crate) fn new(out: mpsc::Sender<News>) -> Self {
        Self {
            out,
            waiting: BTreeMap::new(),
        }
    }

    /// Hands it over, or lets it wait in place of what waited of the same node.
    pub(crate) fn push(&mut self, news: News, metrics: &Metrics) {
        if self.waiting.is_empty() {
            match self.out.try_send(news) {
                // A control plane that is gone stops the whole process.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(news)) => self.wait(news, metrics),
            }
        } else {
            self.wait(news, metrics);
        }
    }

    fn wait(&mut self, news: News, metrics: &Metrics) {
        metrics.late_news();
        self.waiting.insert(news.node(), news);
    }

    /// Hands over what waits, as far as there is room.
    pub(crate) fn flush(&mut self) {
        while let Some(entry) = self.waiting.first_entry() {
            let Ok(place) = self.out.try_reserve() else {
                return;
            };
            place.send(entry.remove());
        }
    }

    /// Ends when something waits and there is room. Cancelling it loses nothing: it takes no place.
    pub(crate) async fn room(&self) {
        if self.waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        // A closed channel has room for ever, and would keep the loop busy.
        if self.out.reserve().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn when_it_is_full_the_newest_of_each_node_waits() {
        let (out, mut received) = mpsc::channel(1);
        let metrics = Metrics::default();
        let mut queue = NewsQueue::new(out);
        let forget = |byte| News::Forget(NodeId([byte; 32]));
        for byte in [1, 2, 3, 2, 3] {
            queue.push(forget(byte), &metrics);
        }
        assert_eq!(queue.waiting.len(), 2);
        let mut got = Vec::new();
        for _ in 0..3 {
            got.push(received.recv().await.unwrap());
            queue.flush();
        }
        assert_eq!(got, [forget(1), forget(2), forget(3)]);
        assert!(received.try_recv().is_err() && queue.waiting.is_empty());
    }
}
