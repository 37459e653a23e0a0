//! The listeners of stream transports: a task each, and a task per connection that it owns.
//!
//! A connection is a gate, TLS over it if the transport has that, and framed messages or HTTP/2 over that. Resets and
//! the end of the fake are dealt with here, for all of them alike: the connection is dropped, whatever it is doing.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::gate::Gate;
use super::stats::{OpenGuard, add};
use super::tls::Tls;
use super::{Shared, doh, framed};
use crate::random::mix;

/// Open connections; more wait in the kernel's backlog until one ends.
const CONNECTIONS_MAX: usize = 1_024;
/// After a failed accept (out of descriptors): what is short may have come back by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What a listener's connections speak.
#[derive(Clone)]
pub(super) enum Speech {
    /// Framed messages.
    Tcp,
    /// Framed messages over TLS.
    Dot(Arc<Tls>),
    /// HTTP/2 over TLS.
    Doh(Arc<Tls>),
}

/// Accepts until the token is cancelled, then ends every connection.
pub(super) async fn serve(listener: TcpListener, speech: Speech, shared: Shared) {
    let mut connections = JoinSet::new();
    let mut count = 0_u64;
    loop {
        let room = connections.len() < CONNECTIONS_MAX;
        let accepted = tokio::select! {
            biased;
            // Cancel-safe: asks for a state.
            () = shared.token.cancelled() => break,
            // Cancel-safe: an ended task stays in the set until it is joined.
            Some(_) = connections.join_next() => continue,
            // Cancel-safe: a connection is taken from the backlog only when the future completes.
            accepted = listener.accept(), if room => accepted,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        add(&shared.counters.connections, 1);
        count += 1;
        let shared = Shared {
            seed: mix(shared.seed ^ count),
            ..shared.clone()
        };
        connections.spawn(connection(stream, speech.clone(), shared));
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, speech: Speech, shared: Shared) {
    let counters = Arc::clone(&shared.counters);
    let _open = OpenGuard::new(&counters);
    // Small replies must not wait for an acknowledgement; where that cannot be had, they are late, not lost.
    stream.set_nodelay(true).ok();
    let gate = Gate::new(stream, shared.conduct.clone());
    let (token, reset) = (shared.token.clone(), gate.reset());
    tokio::select! {
        biased;
        // Cancel-safe: asks for a state.
        () = token.cancelled() => {}
        // Cancel-safe: asks for a state. Dropping the connection resets it; also before anything is read.
        () = reset => {}
        // It is not polled again.
        () = speak(gate, speech, shared) => {}
    }
}

async fn speak(gate: Gate, speech: Speech, shared: Shared) {
    match speech {
        Speech::Tcp => framed::serve(gate, shared).await,
        Speech::Dot(tls) => {
            if let Some(stream) = tls.handshake(gate, &shared).await {
                framed::serve(stream, shared).await;
            }
        }
        Speech::Doh(tls) => {
            if let Some(stream) = tls.handshake(gate, &shared).await {
                doh::serve(stream, shared).await;
            }
        }
    }
}
