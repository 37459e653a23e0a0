//! The certificate that clients of encrypted listeners are shown: the pair in use, and what became of the last one that was
//! to take its place. A broken pair changes nothing but what everything says.

use std::sync::Arc;

use detour_resolver::listen::certificate::{Certificates, Pair};
use parking_lot::Mutex;

use crate::board::Board;
use crate::config::LoadError;

/// What is said of it is filed under this.
const PART: &str = "certificate";

/// What became of pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PairReloads {
    /// Pairs that took the place of another one.
    pub(crate) applied: u64,
    /// Pairs that could not be used.
    pub(crate) rejected: u64,
    /// Whether the last one was such.
    pub(crate) is_broken: bool,
}

/// Keeps the pair in use.
#[derive(Debug)]
pub(crate) struct CertificateKeeper {
    certificates: Arc<Certificates>,
    board: Board,
    /// Held to count.
    reloads: Mutex<PairReloads>,
}

impl CertificateKeeper {
    /// With the pair of a start. `is_wanted`: encrypted listeners wait for one.
    pub(crate) fn new(pair: Option<Pair>, is_wanted: bool, board: Board) -> Arc<Self> {
        let is_broken = is_wanted && pair.is_none();
        if is_broken {
            board.say(PART, "none that can be used, so nobody can ask over TLS, HTTPS or QUIC");
        }
        Arc::new(Self {
            certificates: Certificates::new(pair),
            board,
            reloads: Mutex::new(PairReloads {
                is_broken,
                ..PairReloads::default()
            }),
        })
    }

    /// For the listeners.
    pub(crate) fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// What became of pairs so far.
    pub(crate) fn reloads(&self) -> PairReloads {
        *self.reloads.lock()
    }

    /// Files were read: what is sound is shown from here on, what is broken leaves the one in use.
    pub(crate) fn take(&self, pair: Result<Option<Pair>, LoadError>) {
        let mut reloads = self.reloads.lock();
        match pair {
            Ok(None) => {}
            Ok(Some(pair)) => {
                if self.certificates.replace(pair) {
                    reloads.applied += 1;
                    tracing::info!("certificate replaced; open connections go on");
                }
                reloads.is_broken = false;
                self.board.withdraw(PART);
            }
            Err(error) => {
                reloads.rejected += 1;
                reloads.is_broken = true;
                let (mistake, _) = error.first_and_more();
                let what = match self.certificates.current() {
                    Some(_) => "the one before is still shown",
                    None => "nobody can ask over TLS, HTTPS or QUIC",
                };
                self.board.say(PART, &format!("{mistake}; {what}"));
            }
        }
    }
}
