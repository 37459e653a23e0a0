//! Open files: as many as the system lets this process have, and how many of them clients may take.
//!
//! Sockets to providers are open files too: where the connections of clients could take all there are, a crowd of them
//! would keep everybody from being answered.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{Encrypted, Limits};

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

/// Connections of clients that take a file each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Over TCP.
    pub(crate) tcp: usize,
    /// Over TLS and HTTPS.
    pub(crate) tls: usize,
}

/// How many connections clients may have of those the configuration allows: half of all open files at most. Those over
/// QUIC share one file for each address.
pub(crate) fn for_connections(limits: &Limits, encrypted: &Encrypted) -> Connections {
    divided(asked(limits, encrypted), half())
}

/// What there is to say if that is fewer.
pub(crate) fn shortage(limits: &Limits, encrypted: &Encrypted) -> Option<String> {
    let (asked, most) = (asked(limits, encrypted), for_connections(limits, encrypted));
    let tls = if asked.tls > 0 {
        format!(", tls-connections: {} instead of {}", most.tls, asked.tls)
    } else {
        String::new()
    };
    (most != asked).then(|| {
        format!(
            "limits.tcp-connections: {} instead of {}{tls}, half of the files the system lets this process open",
            most.tcp, asked.tcp
        )
    })
}

/// What the configuration allows where something listens.
fn asked(limits: &Limits, encrypted: &Encrypted) -> Connections {
    let has_tls = !encrypted.tls.is_empty() || !encrypted.https.is_empty();
    Connections {
        tcp: limits.tcp_connections,
        tls: if has_tls { limits.tls_connections } else { 0 },
    }
}

/// No more than `most` in all, in the same proportion, and one where any was asked for.
fn divided(asked: Connections, most: usize) -> Connections {
    let sum = asked.tcp.saturating_add(asked.tls);
    if sum <= most {
        return asked;
    }
    let part = |count: usize| count.saturating_mul(most).div_euclid(sum).max(usize::from(count > 0));
    Connections {
        tcp: part(asked.tcp),
        tls: part(asked.tls),
    }
}

/// Half of the open files there may be.
fn half() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(WANTED, |(soft, _hard)| soft);
    usize::try_from(limit / 2).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_connections_are_cut_down_alike() {
        let divided = |tcp, tls, most| {
            let Connections { tcp, tls } = divided(Connections { tcp, tls }, most);
            (tcp, tls)
        };
        assert_eq!(divided(1024, 1024, 2048), (1024, 1024));
        assert_eq!(divided(1024, 0, 160), (160, 0));
        assert_eq!(divided(1024, 512, 150), (100, 50));
        assert_eq!(divided(65_536, 1, 2), (1, 1));
    }
}
