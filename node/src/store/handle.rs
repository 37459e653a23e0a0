//! How the rest of the node speaks to the store: requests that never wait, answers that may.

use std::panic;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use detour_core::Clock;
use tokio::sync::oneshot;

use super::keeper::{Activity, Engine, Keeper, PART, Parts, Request};
use super::{Entry, Tree};
use crate::board::Board;
use crate::metrics::{StoreDropped, StoreMetrics};
use crate::state::State;

/// Requests that wait for the thread: twice as many as a configuration has endpoints. When it is full, the newest is
/// dropped and counted.
const QUEUE: usize = 512;
/// How long the disk may take for one thing before it is said; nothing waits for it.
const SLOW: Duration = Duration::from_secs(5);
/// How much later than it was started the store's thread may begin.
const LATE: Duration = Duration::from_secs(1);
/// The thread's name; it is also what its panics are told by.
const THREAD: &str = "store";

/// Speaks to the store's thread.
#[derive(Debug, Clone)]
pub(crate) struct StoreHandle {
    requests: SyncSender<Request>,
    activity: Arc<Activity>,
    clock: Arc<dyn Clock>,
    metrics: StoreMetrics,
    board: Board,
}

/// Starts the thread on an engine. Without a thread there is no store, which is said.
pub(super) fn start(
    engine: Box<dyn Engine>,
    state: &State,
    clock: Arc<dyn Clock>,
    metrics: StoreMetrics,
    board: Board,
) -> StoreHandle {
    let (sender, requests) = sync_channel(QUEUE);
    let activity = Arc::new(Activity::default());
    let keeper = Keeper::new(Parts {
        engine,
        state: match state {
            State::Directory(path) => Some(path.clone()),
            State::Memory(_) => None,
        },
        clock: Arc::clone(&clock),
        metrics: metrics.clone(),
        board: board.clone(),
        activity: Arc::clone(&activity),
    });
    keep_panics_quiet();
    let thread = thread::Builder::new().name(THREAD.to_owned());
    if let Err(error) = thread.spawn(move || keeper.run(&requests)) {
        board.say(
            PART,
            &format!("nothing is kept because no thread can be started: {error}"),
        );
    }
    StoreHandle {
        requests: sender,
        activity,
        clock,
        metrics,
        board,
    }
}

impl StoreHandle {
    /// Sets a value, soon. False if the queue is full: it is dropped then.
    pub(crate) fn put(&self, tree: Tree, key: &[u8], value: Vec<u8>) -> bool {
        self.ask(Request::Put(tree, key.to_vec(), value))
    }

    /// Forgets a key, soon. False if the queue is full: it is not forgotten then.
    pub(crate) fn remove(&self, tree: Tree, key: &[u8]) -> bool {
        self.ask(Request::Remove(tree, key.to_vec()))
    }

    /// All values of a tree, once the store is open or known to be memory only; the receiver hears an error if the
    /// thread is gone.
    #[must_use]
    pub(crate) fn load(&self, tree: Tree) -> oneshot::Receiver<Vec<Entry>> {
        let (reply, values) = oneshot::channel();
        self.ask(Request::Load(tree, reply));
        values
    }

    /// Says so if opening takes long. Looks twice: the store's thread may begin later than this.
    pub(crate) async fn watch_opening(&self) {
        for after in [SLOW, LATE] {
            tokio::time::sleep(after).await;
            self.complain_if_slow();
        }
    }

    /// Has everything written and the store closed; false if that takes longer than `patience`.
    pub(crate) async fn close(&self, patience: Duration) -> bool {
        let (reply, closed) = oneshot::channel();
        self.activity.close();
        self.ask(Request::Close(reply)) && tokio::time::timeout(patience, closed).await.is_ok()
    }

    fn ask(&self, request: Request) -> bool {
        self.complain_if_slow();
        match self.requests.try_send(request) {
            Ok(()) => return true,
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) if self.activity.is_closing() => {}
            Err(TrySendError::Disconnected(_)) => {
                let line = "nothing is kept because its thread has ended: a mistake of Detour's, please report it";
                self.board.say(PART, line);
            }
        }
        self.metrics.count_dropped(StoreDropped::queue);
        false
    }

    fn complain_if_slow(&self) {
        if Duration::from_micros(self.activity.waits_us(self.clock.now())) >= SLOW {
            self.board.say(PART, "memory only while the disk does not answer");
        }
    }
}

/// A panic in the engine is caught and handled: no message of the runtime's for it.
fn keep_panics_quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let current = thread::current();
            match current.name() {
                Some(name) if name == THREAD || name.starts_with("sled-io") => {
                    tracing::debug!(thread = name, %panic, "the store's engine panicked");
                }
                Some(_) | None => before(panic),
            }
        }));
    });
}
