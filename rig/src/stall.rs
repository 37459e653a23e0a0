//! How long the machine itself did nothing for us.
//!
//! A task that sleeps 1 ms again and again and notes by how much it woke too late. On a machine with two cores that
//! is also compiling, an answer may be late for no fault of anybody's; a late answer beside a stall of the same
//! length is noise, one beside a stall of 3 ms is a finding.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// What is slept each time: tokio's timer resolution.
const NAP: Duration = Duration::from_millis(1);

/// Measures from its start until it is finished; ends when dropped.
#[derive(Debug)]
pub struct StallMeter {
    token: CancellationToken,
    tasks: JoinSet<Duration>,
}

impl StallMeter {
    /// Begins to measure. Must be called within a tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        let token = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(watch(token.clone()));
        Self { token, tasks }
    }

    /// The longest oversleep.
    pub async fn finish(mut self) -> Duration {
        self.token.cancel();
        // A task that failed measured nothing, and it cannot fail.
        self.tasks.join_next().await.and_then(Result::ok).unwrap_or_default()
    }
}

async fn watch(token: CancellationToken) -> Duration {
    let mut longest = Duration::ZERO;
    while !token.is_cancelled() {
        let before = clock::now();
        sleep(NAP).await;
        longest = longest.max(clock::now().saturating_duration_since(before + NAP));
    }
    longest
}
