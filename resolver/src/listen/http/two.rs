//! HTTP/2, spoken through h2 directly: what it does to protect itself is said here, number by number.
//!
//! One task a connection. A request that is whole and whose answer is known is answered where it is read; all that wait
//! for something wait in this task. Replies that are ready at the same time leave in one write.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{BODY, HEADER_BYTES, Wanted, Whole, read_head, refusal, whole};
use crate::forwarder::Shared;
use crate::listen::accept::HANDSHAKE;
use crate::listen::backlog::{Backlog, Waits};
use crate::listen::doors::Guest;
use crate::listen::gathered::Gathered;
use crate::listen::job::{Answered, ask};
use crate::listen::overseer::{FAREWELL, Order, Overseer, WRITE, part};
use crate::listen::paced::{Pace, Paced};
use crate::metrics::{Cut, Handshake};
use crate::wire::{MESSAGE_BYTES_MAX, Via};

/// Requests of one connection at once (SETTINGS_MAX_CONCURRENT_STREAMS; RFC 9113 section 6.5.2 asks for 100 at least).
const STREAMS: u32 = 100;
/// What of one request's body may be on its way: many queries long, and a quarter of the longest message.
const STREAM_WINDOW: u32 = 16 * 1024;
/// What of all bodies may be on its way.
const CONNECTION_WINDOW: u32 = 64 * 1024;
/// Requests that were reset before they were looked at; more are an attack (CVE-2023-44487).
const RESETS_PENDING: usize = 20;
/// Streams that are remembered after we reset them, for frames still on their way.
const RESETS_KEPT: usize = 20;
/// Resets that the client's mistakes make us send; more are an attack (CVE-2025-8671).
const RESETS_OWN: usize = 64;
/// Requests that their client reset before it had its answer. Beyond that, and if they are more than half of all, the
/// client only makes work.
const RESETS_MAX: u64 = 100;

/// What the head of an answer takes, about.
const HEAD_BYTES: usize = 64;

/// How a request ended.
enum Done {
    /// With an answer, which takes so much until it has left.
    Answered(Option<Waits>),
    /// Its client has reset it.
    Reset,
    /// There is no room for the answer: the client does not take what it asks for.
    NoRoom,
}

/// What a request asks, or by which status it is refused.
type Asked = Result<Question, StatusCode>;

/// Where the message of a request is.
enum Question {
    Here(Bytes),
    /// Here, and counted while it is.
    Kept(Gathered),
    /// Still to come.
    Body(RecvStream),
}

/// A request that came while there is no room for its answer. Its headers are gone: a few bytes can stand for hundreds.
struct Parked {
    asked: Asked,
    respond: SendResponse<Bytes>,
}

/// A request that waits for something.
type Waiting<'a> = Pin<Box<dyn Future<Output = Done> + Send + 'a>>;

/// A connection being served.
struct Two<'a, S> {
    shared: &'a Arc<Shared>,
    client: IpAddr,
    connection: Connection<Paced<S>, Bytes>,
    pace: Arc<Pace<S>>,
    waiting: FuturesUnordered<Waiting<'a>>,
    /// In the order they came; no more than streams.
    parked: VecDeque<Parked>,
    backlog: Arc<Backlog>,
    /// What has not left.
    unsent: Vec<Waits>,
    has_no_room: bool,
    overseer: Overseer,
    requests: u64,
    resets: u64,
    is_flooded: bool,
}

/// Serves a connection until its client is done, idle, or does not read.
pub(in crate::listen) async fn serve<S>(shared: &Arc<Shared>, stream: S, client: IpAddr, guest: &Arc<Guest>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let pace = Arc::new(Pace::default());
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_BYTES)
        .max_send_buffer_size(MESSAGE_BYTES_MAX)
        .max_concurrent_reset_streams(RESETS_KEPT)
        .max_pending_accept_reset_streams(RESETS_PENDING)
        .max_local_error_reset_streams(Some(RESETS_OWN));
    let shaken = timeout(HANDSHAKE, builder.handshake(Paced::new(stream, &pace))).await;
    let counters = shared.metrics.streams(Via::Https);
    let connection = match shaken {
        Ok(Ok(connection)) => connection,
        Ok(Err(_broken)) => return counters.count_cut(Cut::Protocol),
        Err(_elapsed) => return counters.count_handshake(Handshake::Timeout),
    };
    let connection = Two {
        shared,
        client,
        connection,
        pace: Arc::clone(&pace),
        waiting: FuturesUnordered::new(),
        parked: VecDeque::new(),
        backlog: Arc::new(Backlog::new(client)),
        unsent: Vec::new(),
        has_no_room: false,
        overseer: Overseer::new(shared, Via::Https, guest),
        requests: 0,
        resets: 0,
        is_flooded: false,
    };
    if connection.run().await == Parting::Orderly
        && let Some(stream) = pace.returned()
    {
        part(stream).await;
    }
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Send> Two<'a, S> {
    async fn run(mut self) -> Parting {
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Ok(Order::Drain) => self.connection.graceful_shutdown(),
                Ok(Order::Idle) => {
                    self.connection.graceful_shutdown();
                    self.overseer.end_within(FAREWELL);
                }
                Ok(Order::Slow | Order::End) => return Parting::Abrupt,
                Err(Ended) => return Parting::Orderly,
            }
        }
    }

    /// Does what there is to do, until there is an order or an end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Order, Ended>> {
        loop {
            while let Poll::Ready(Some(done)) = self.waiting.poll_next_unpin(cx) {
                self.note(done);
            }
            if self.has_no_room {
                self.shared.metrics.streams(Via::Https).count_cut(Cut::Slow);
                return Poll::Ready(Ok(Order::Slow));
            }
            if self.is_too_much() {
                self.end_flood(cx);
            }
            while self.has_room()
                && let Some(Parked { asked, respond }) = self.parked.pop_front()
            {
                self.begin(asked, respond, cx);
            }
            self.pace.hold();
            let accepted = self.connection.poll_accept(cx);
            self.pace.release();
            let accepted = match accepted {
                // What has gathered leaves, and what came meanwhile is taken up.
                Poll::Pending => self.connection.poll_accept(cx),
                Poll::Ready(_) => accepted,
            };
            match accepted {
                Poll::Ready(Some(Ok((request, respond)))) => self.take(request, respond, cx),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.broken(&error))),
                Poll::Ready(None) => return Poll::Ready(Err(Ended)),
                Poll::Pending => {
                    self.note_sent();
                    if self.parked.is_empty() || !self.has_room() {
                        break;
                    }
                }
            }
        }
        self.note_sent();
        self.overseer.note_output(self.pace.is_waiting(), self.pace.taken());
        let is_busy = !self.waiting.is_empty() || !self.parked.is_empty();
        self.overseer.poll(cx, is_busy).map(Ok)
    }

    fn note(&mut self, done: Done) {
        match done {
            Done::Answered(waits) => self.unsent.extend(waits),
            Done::Reset => self.resets += 1,
            Done::NoRoom => self.has_no_room = true,
        }
    }

    /// Whether the client only makes work, or begins more than it ends.
    fn is_too_much(&self) -> bool {
        let resets = self.resets > RESETS_MAX && self.resets > self.requests / 2;
        let is_full = self.parked.len() > usize::try_from(STREAMS).unwrap_or(usize::MAX);
        !self.is_flooded && (resets || is_full || self.backlog.holds_too_much())
    }

    fn end_flood(&mut self, cx: &Context<'_>) {
        self.is_flooded = true;
        self.shared.metrics.streams(Via::Https).count_cut(Cut::Flood);
        self.parked.clear();
        self.waiting.clear();
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        self.overseer.end_within(FAREWELL);
        // The last words leave when the connection is driven next.
        cx.waker().wake_by_ref();
    }

    /// What was written has left, unless the client does not take it.
    fn note_sent(&mut self) {
        if !self.pace.is_waiting() {
            self.unsent.clear();
        }
    }

    /// Whether another request can be taken up.
    fn has_room(&self) -> bool {
        let has_place = self.waiting.len() < usize::try_from(STREAMS).unwrap_or(usize::MAX);
        // What has gathered without being written counts, and leaves before more is taken up.
        has_place && !self.pace.is_waiting() && self.backlog.reads_on()
    }

    fn broken(&self, error: &h2::Error) -> Ended {
        if !error.is_io() {
            let why = match error.reason() {
                Some(Reason::ENHANCE_YOUR_CALM) => Cut::Flood,
                _ => Cut::Protocol,
            };
            // Who says goodbye has broken nothing.
            if !error.is_remote() {
                self.shared.metrics.streams(Via::Https).count_cut(why);
            }
            tracing::debug!(%error, "an HTTP/2 connection ended early");
        }
        Ended
    }

    /// A request came.
    fn take(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>, cx: &mut Context<'_>) {
        if self.is_flooded {
            return;
        }
        let moment = self.shared.moment();
        self.overseer.note_query(&moment);
        self.requests += 1;
        let has_room = self.parked.is_empty() && self.has_room();
        let asked = match read_head(&request, moment.doh_path()) {
            Ok(Wanted::Message(message)) if has_room => Ok(Question::Here(Bytes::from(message))),
            Ok(Wanted::Message(message)) => {
                let mut kept = Gathered::behind(0, &self.backlog);
                kept.push(&message);
                Ok(Question::Kept(kept))
            }
            Ok(Wanted::Body) => Ok(Question::Body(request.into_body())),
            Err(status) => Err(status),
        };
        if has_room {
            self.begin(asked, respond, cx);
        } else {
            self.parked.push_back(Parked { asked, respond });
        }
    }

    /// Answers a request, or has it wait.
    fn begin(&mut self, asked: Asked, respond: SendResponse<Bytes>, cx: &mut Context<'_>) {
        match asked {
            Ok(Question::Here(message)) => self.answer(respond, &message),
            Ok(Question::Kept(message)) => self.answer(respond, message.kept()),
            Ok(Question::Body(stream)) => {
                let mut body = Body::new(stream, &self.backlog);
                match body.poll(cx) {
                    Poll::Ready(Ok(message)) => self.answer(respond, message.kept()),
                    Poll::Ready(Err(status)) => self.refuse(respond, status),
                    Poll::Pending => {
                        let waiting = answer_body(self.way(respond), self.client, body);
                        self.waiting.push(Box::pin(waiting));
                    }
                }
            }
            Err(status) => self.refuse(respond, status),
        }
    }

    fn answer(&mut self, respond: SendResponse<Bytes>, message: &[u8]) {
        match ask(self.shared, message, self.client, Via::Https) {
            Answered::Now(reply) => self.send(respond, whole(reply)),
            Answered::Later(reply) => {
                let way = self.way(respond);
                self.waiting.push(Box::pin(answer_later(way, reply)));
            }
            Answered::NoQuery => self.refuse(respond, StatusCode::BAD_REQUEST),
        }
    }

    fn way(&self, respond: SendResponse<Bytes>) -> Way<'a> {
        Way {
            shared: self.shared,
            backlog: Arc::clone(&self.backlog),
            respond,
        }
    }

    fn refuse(&mut self, respond: SendResponse<Bytes>, status: StatusCode) {
        self.shared.metrics.count_http_error(Via::Https, status.as_u16());
        self.send(respond, refusal(status));
    }

    /// Sends an answer, of which a part may wait.
    fn send(&mut self, respond: SendResponse<Bytes>, answer: Whole) {
        match self.way(respond).send(answer) {
            Sent::Ended(done) => self.note(done),
            Sent::Part(stream, rest, waits) => self.waiting.push(Box::pin(send_rest(stream, rest, waits))),
        }
    }
}

/// A connection that is over.
struct Ended;

/// How a connection ends.
#[derive(PartialEq, Eq)]
enum Parting {
    /// Its client may read what it was sent.
    Orderly,
    /// It had its time.
    Abrupt,
}

/// An answer's way to its client.
struct Way<'a> {
    shared: &'a Arc<Shared>,
    backlog: Arc<Backlog>,
    respond: SendResponse<Bytes>,
}

/// What of an answer has been sent.
enum Sent {
    Ended(Done),
    /// The client's window is full.
    Part(SendStream<Bytes>, Bytes, Waits),
}

impl Way<'_> {
    fn send(mut self, (head, body): Whole) -> Sent {
        let Some(waits) = self.backlog.hold(HEAD_BYTES + body.len(), &self.shared.backlogs) else {
            return Sent::Ended(Done::NoRoom);
        };
        let Ok(mut stream) = self.respond.send_response(head, body.is_empty()) else {
            return Sent::Ended(Done::Reset);
        };
        if body.is_empty() {
            return Sent::Ended(Done::Answered(Some(waits)));
        }
        stream.reserve_capacity(body.len());
        if stream.capacity() < body.len() {
            return Sent::Part(stream, body, waits);
        }
        match stream.send_data(body, true) {
            Ok(()) => Sent::Ended(Done::Answered(Some(waits))),
            Err(_reset) => Sent::Ended(Done::Reset),
        }
    }

    async fn send_all(self, answer: Whole) -> Done {
        match self.send(answer) {
            Sent::Ended(done) => done,
            Sent::Part(stream, rest, waits) => send_rest(stream, rest, waits).await,
        }
    }

    async fn refuse(self, status: StatusCode) -> Done {
        self.shared.metrics.count_http_error(Via::Https, status.as_u16());
        self.send_all(refusal(status)).await
    }
}

/// Sends a body as fast as its client takes it, for a time.
async fn send_rest(mut stream: SendStream<Bytes>, mut rest: Bytes, waits: Waits) -> Done {
    let sending = async {
        while !rest.is_empty() {
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                return false;
            };
            let now = rest.split_to(room.min(rest.len()));
            if stream.send_data(now, rest.is_empty()).is_err() {
                return false;
            }
        }
        true
    };
    match timeout(WRITE, sending).await {
        Ok(true) => Done::Answered(Some(waits)),
        Ok(false) => Done::Reset,
        Err(_elapsed) => {
            stream.send_reset(Reason::CANCEL);
            Done::Answered(None)
        }
    }
}

/// Waits for a reply. It keeps its place until then even if its client has reset the request: resolving goes on too.
async fn answer_later(way: Way<'_>, reply: oneshot::Receiver<Vec<u8>>) -> Done {
    match reply.await {
        Ok(reply) => way.send_all(whole(reply)).await,
        Err(_gone) => way.refuse(StatusCode::INTERNAL_SERVER_ERROR).await,
    }
}

/// Waits for the rest of a body, and for the reply to what it holds.
async fn answer_body(way: Way<'_>, client: IpAddr, mut body: Body) -> Done {
    let answered = match timeout(BODY, poll_fn(|cx| body.poll(cx))).await {
        Ok(Ok(message)) => ask(way.shared, message.kept(), client, Via::Https),
        Ok(Err(status)) => return way.refuse(status).await,
        Err(_elapsed) => return way.refuse(StatusCode::REQUEST_TIMEOUT).await,
    };
    drop(body);
    match answered {
        Answered::Now(reply) => way.send_all(whole(reply)).await,
        Answered::Later(reply) => answer_later(way, reply).await,
        Answered::NoQuery => way.refuse(StatusCode::BAD_REQUEST).await,
    }
}

/// A body being read, up to the longest message.
struct Body {
    stream: RecvStream,
    /// Until it is whole.
    read: Option<Gathered>,
}

impl Body {
    fn new(stream: RecvStream, backlog: &Arc<Backlog>) -> Self {
        Self {
            stream,
            read: Some(Gathered::behind(0, backlog)),
        }
    }

    /// The whole of it, once, or the status that says what is wrong.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Gathered, StatusCode>> {
        loop {
            let data = match self.stream.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(data))) => data,
                Poll::Ready(Some(Err(_reset))) => return Poll::Ready(Err(StatusCode::BAD_REQUEST)),
                Poll::Ready(None) => return Poll::Ready(self.read.take().ok_or(StatusCode::BAD_REQUEST)),
            };
            if !self.read.as_mut().is_some_and(|read| read.push(&data)) {
                return Poll::Ready(Err(StatusCode::PAYLOAD_TOO_LARGE));
            }
            // Of a stream that is gone the window is too.
            drop(self.stream.flow_control().release_capacity(data.len()));
        }
    }
}
