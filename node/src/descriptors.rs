//! Open files: as many as the system lets this process have, and how many of them clients may take.
//!
//! Sockets to providers are open files too: where the connections of clients could take all there are, a crowd of them
//! would keep everybody from being answered.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the node asks for: sockets to a dozen endpoints, and thousands of connections.
const WANTED: u64 = 16_384;

/// Asks for more than a process gets unasked: a socket per query costs one.
pub(crate) fn raise() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < WANTED
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, WANTED.min(hard), hard)
    {
        tracing::warn!(%error, limit = soft, "cannot raise the limit of open files");
    }
}

/// How many connections clients may have of those the configuration allows: half of all open files at most.
pub(crate) fn for_connections(allowed: usize) -> usize {
    allowed.min(half())
}

/// What there is to say if that is fewer.
pub(crate) fn shortage(allowed: usize) -> Option<String> {
    let most = half();
    (most < allowed).then(|| {
        format!(
            "limits.tcp-connections: {most} instead of {allowed}, half of the files the system lets this process open"
        )
    })
}

/// Half of the open files there may be.
fn half() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(WANTED, |(soft, _hard)| soft);
    usize::try_from(limit / 2).unwrap_or(usize::MAX).max(1)
}
