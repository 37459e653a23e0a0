//! A connection of DNS over QUIC (RFC 9250): a task per stream, all owned by the connection.
//!
//! A query is answered when its reply is due, in whatever order. One that is not to be answered keeps its stream until
//! the client gives it up or the connection ends.

use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock;
use crate::fake::Shared;
use crate::fake::hostile::{DRIP, told_length};
use crate::fake::reply::reply;
use crate::fake::stats::add;
use crate::fault::{Closing, Hostile};
use crate::random::{Random, mix};
use crate::wire::push_number;

/// The longest frame: a length and the longest message.
const FRAME_BYTES_MAX: usize = 2 + 65_535;
/// `DOQ_INTERNAL_ERROR` (RFC 9250 section 8.4).
const INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
/// How long the client may take to acknowledge an answer before its connection may be closed.
const ACKNOWLEDGED: Duration = Duration::from_secs(1);

/// Answers until the client or a limit ends it; `closings` is how many there were when it was accepted.
pub(super) async fn serve(connection: Connection, closings: u64, mut shared: Shared) {
    shared.conduct.mark_changed();
    let mut queries = JoinSet::new();
    let mut count = 0_u64;
    let mut active_at = clock::now();
    loop {
        let is_closing = shared.limits.queries_max.is_some_and(|max| count >= max);
        if is_closing && queries.is_empty() {
            return;
        }
        let idle = shared.limits.idle.filter(|_| queries.is_empty());
        let idle_at = idle.and_then(|idle| active_at.checked_add(idle));
        tokio::select! {
            biased;
            // Cancel-safe: a change not yet seen stays unseen. A fake that is gone ends its connections by the token.
            Ok(()) = shared.conduct.changed() => {
                let conduct = *shared.conduct.borrow_and_update();
                if conduct.closings != closings {
                    return end(conduct.closing, queries).await;
                }
            }
            // Cancel-safe: an ended task stays in the set until it is joined.
            Some(_) = queries.join_next() => active_at = clock::now(),
            // Cancel-safe: a stream is taken only when the future completes.
            stream = connection.accept_bi(), if !is_closing => {
                let Ok((send, recv)) = stream else {
                    return;
                };
                active_at = clock::now();
                count += 1;
                let random = Random::new(mix(shared.seed ^ count));
                queries.spawn(answer(send, recv, shared.clone(), random));
            }
            // Cancel-safe: the idle time is computed anew each turn.
            () = sleep_until(idle_at.unwrap_or_else(clock::now)), if idle_at.is_some() => {
                add(&shared.counters.closed_idle, 1);
                return;
            }
        }
    }
}

/// Ends a connection on demand: what is in flight is answered, or not.
async fn end(closing: Closing, mut queries: JoinSet<()>) {
    if closing == Closing::Polite {
        while queries.join_next().await.is_some() {}
    }
}

/// Carries out one query.
async fn answer(mut send: SendStream, mut recv: RecvStream, shared: Shared, mut random: Random) {
    let frame = recv.read_to_end(FRAME_BYTES_MAX).await.unwrap_or_default();
    let Some(message) = message_in(&frame) else {
        return add(&shared.counters.dropped, 1);
    };
    shared.counters.query(message);
    let now = clock::now();
    let delayed = reply(
        message,
        shared.transport,
        shared.fault(now),
        shared.law,
        shared.manners,
        &mut random,
    );
    let Some(delayed) = delayed else {
        return withhold(&mut send, &shared).await;
    };
    wait(now, delayed.after).await;
    let fault = shared.fault(clock::now());
    if fault.is_hostile(Hostile::ResetStreams) {
        add(&shared.counters.answered, 1);
        send.reset(INTERNAL_ERROR).ok();
        return;
    }
    if fault.loses_stream_reply(&mut random) {
        return withhold(&mut send, &shared).await;
    }
    let mut frame = Vec::with_capacity(delayed.bytes.len() + 2);
    push_number(&mut frame, told_length(delayed.bytes.len(), fault, &mut random));
    frame.extend_from_slice(&delayed.bytes);
    let written = if fault.is_hostile(Hostile::Drip) {
        drip(&mut send, &frame).await
    } else {
        send.write_all(&frame).await.is_ok()
    };
    if !written || send.finish().is_err() {
        return add(&shared.counters.dropped, 1);
    }
    add(&shared.counters.answered, 1);
    // A connection that is closed before takes what it has not sent with it.
    timeout(ACKNOWLEDGED, send.stopped()).await.ok();
}

/// Writes a byte at a time; whether the client took all of them.
async fn drip(send: &mut SendStream, frame: &[u8]) -> bool {
    for byte in frame {
        if send.write_all(std::slice::from_ref(byte)).await.is_err() {
            return false;
        }
        sleep(DRIP).await;
    }
    true
}

async fn wait(now: Instant, after: Duration) {
    sleep_until(now + after).await;
}

/// The one message of a frame; with id 0, as the RFC has it.
fn message_in(frame: &[u8]) -> Option<&[u8]> {
    let (length, message) = frame.split_first_chunk()?;
    let is_whole = usize::from(u16::from_be_bytes(*length)) == message.len();
    (is_whole && message.starts_with(&[0, 0])).then_some(message)
}

/// Keeps the stream until the client gives it up or the connection ends.
async fn withhold(send: &mut SendStream, shared: &Shared) {
    add(&shared.counters.dropped, 1);
    // Whichever way it ends, it is over.
    send.stopped().await.ok();
}
