//! What the admin interface has to say about the start: bound addresses, and what went wrong without keeping the node
//! from starting or running.

use std::net::SocketAddr;

use detour_resolver::wire::Via;

use crate::board::Board;

/// Notes of a start.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Bound for DNS.
    pub(crate) dns: Vec<SocketAddr>,
    /// Bound for encrypted DNS.
    pub(crate) encrypted: Vec<(Via, SocketAddr)>,
    /// Bound for the admin interface.
    pub(crate) admin: Option<SocketAddr>,
    /// What parts say about themselves while they run.
    pub(crate) board: Board,
    warnings: Vec<String>,
}

impl Notes {
    /// Of a start whose parts speak on this board.
    #[must_use]
    pub(crate) fn of(board: Board) -> Self {
        Self {
            board,
            ..Self::default()
        }
    }

    /// Where this node answers, whatever the transport: nothing that is asked may come there.
    #[must_use]
    pub(crate) fn own(&self) -> Vec<SocketAddr> {
        let encrypted = self.encrypted.iter().map(|(_, address)| *address);
        self.dns.iter().copied().chain(encrypted).collect()
    }

    /// Something went wrong that a start survives.
    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// What went wrong at the start, in order.
    pub(crate) fn of_start(&self) -> &[String] {
        &self.warnings
    }

    /// What went wrong at the start, in order, and what is wrong at this moment.
    #[must_use]
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.iter().cloned().chain(self.board.lines()).collect()
    }
}
