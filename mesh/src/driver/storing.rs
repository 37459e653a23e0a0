//! The incarnation on its way to the disk, off the mesh's thread: a disk may never answer, and the mesh must not wait for
//! it longer than it is worth.

use std::path::Path;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Timeout;

use crate::incarnation;

/// A disk that takes longer is said to fail.
const PATIENCE: Duration = Duration::from_secs(2);

/// What went wrong with a write, if something did.
type Written = Pin<Box<Timeout<oneshot::Receiver<Option<String>>>>>;

/// At most one write under way.
#[derive(Debug, Default)]
pub(crate) struct Storing {
    under_way: Option<(u64, Written)>,
}

impl Storing {
    /// Begins; nowhere to store it is the same as stored.
    pub(crate) fn begin(&mut self, directory: Option<&Path>, incarnation: u64) {
        let (done, result) = oneshot::channel();
        self.under_way = Some((incarnation, Box::pin(tokio::time::timeout(PATIENCE, result))));
        let Some(directory) = directory.map(Path::to_owned) else {
            drop(done.send(None));
            return;
        };
        let thread = thread::Builder::new().name("mesh-disk".to_owned());
        let spawned = thread.spawn(move || {
            let stored = incarnation::store(&directory, incarnation);
            // Who waited may have given up.
            drop(
                done.send(
                    stored
                        .err()
                        .map(|error| format!("cannot keep the incarnation: {error}")),
                ),
            );
        });
        if let Err(error) = spawned {
            // The sender is gone with the thread that never was; `done` says so, and here is why.
            tracing::warn!(%error, "no thread for the incarnation");
        }
    }

    /// Ends when the write has, with what went wrong. Cancelling it loses nothing.
    pub(crate) async fn done(&mut self) -> Option<String> {
        let Some((_, result)) = &mut self.under_way else {
            return std::future::pending().await;
        };
        match result.await {
            Ok(Ok(complaint)) => complaint,
            Ok(Err(_gone)) => Some("cannot keep the incarnation: no thread to write it".to_owned()),
            Err(_elapsed) => Some("cannot keep the incarnation: the disk does not answer".to_owned()),
        }
    }

    /// The write that ended.
    pub(crate) fn end(&mut self) -> Option<u64> {
        self.under_way.take().map(|(incarnation, _)| incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_ends_well_or_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let mut storing = Storing::default();
        assert_eq!(storing.end(), None);
        storing.begin(Some(directory.path()), 7);
        assert_eq!(storing.done().await, None);
        assert_eq!(storing.end(), Some(7));
        assert_eq!(incarnation::load(directory.path()).unwrap(), 7);
        storing.begin(None, 8);
        assert_eq!(storing.done().await, None);
        assert_eq!(storing.end(), Some(8));
        storing.begin(Some(&directory.path().join("absent")), 9);
        assert!(storing.done().await.unwrap().contains("cannot keep"));
    }
}
