//! The one place of this crate that reads a clock.
//!
//! Everything else takes an instant from here or as a parameter, so that a reader who asks "when was this measured"
//! has one function to look for. The clock is monotonic and is tokio's, because every wait here is a tokio timer.

use tokio::time::Instant;

/// The present instant.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
