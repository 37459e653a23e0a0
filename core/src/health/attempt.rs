//! An attempt as the shells tell of it: who it was made for, when it was written, how it ended.

use crate::outcome::{Failure, Reply};
use crate::time::Time;

/// Who an attempt was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A client waits for it, and this endpoint was the choice.
    Client,
    /// A client waits for it because another endpoint failed or was too slow. What it says counts; how long it takes
    /// does not, because mostly it was the question that was slow: an endpoint that serves many hedges would look
    /// slow, lossy or silent.
    Backup,
    /// This node wants to know.
    Probe,
}

/// An attempt whose query has been written to the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Unique number of the attempt in this process.
    pub id: u64,
    /// When it was written.
    pub at: Time,
    /// The socket or connection it went out on.
    pub socket: u64,
    /// Who it was made for.
    pub purpose: Purpose,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// A well-formed answer.
    Answered {
        /// What it said.
        reply: Reply,
        /// From the write to the answer, without any handshake.
        latency_us: u64,
    },
    /// Nothing more will come.
    Failed(Failure),
    /// A wrong answer came and the same question over a stream was answered.
    Mismatched,
    /// Given up without a judgement.
    Abandoned,
}
