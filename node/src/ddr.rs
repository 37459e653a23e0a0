//! Designated resolvers (RFC 9462) while the node runs: asks the endpoints of `ddr = true`, tries what they designate, and
//! hands what was proven to whoever puts configurations in force.
//!
//! What is asked when, and what is believed, is [`detour_core::ddr`]'s to decide. Queries wait for none of it.

use std::sync::Arc;
use std::time::Duration;

use detour_core::ddr::{Designated, Discovery, Offer, Output};
use detour_core::outcome::{Cause, Failure};
use detour_resolver::designation::designations;
use detour_resolver::forwarder::Shared;
use tokio::sync::{mpsc, watch};

use crate::board::Board;
use crate::config::{Config, Designating, designating, label_of, remote_of};
use crate::metrics::{DesignationOutcome, NamesMetrics};

/// What the board calls it.
const PART: &str = "designated resolvers";
/// Results that wait: more than resolvers that are asked at the same time, else they wait where they are made.
const QUEUE: usize = 16;

/// What an endpoint designated, proven.
#[derive(Debug)]
pub(crate) struct Adopted {
    /// Its string in the file.
    pub(crate) label: String,
    /// Best first.
    pub(crate) endpoints: Vec<Designated>,
}

/// What the control task has to tell.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The designated endpoint of this label fails.
    Failed(String),
    /// The network here is another one, or the machine slept.
    Network,
}

/// Where the control task tells it. Who cannot be told at once is told the next time: it is said again while it is so.
pub(crate) type NoticeSender = mpsc::Sender<Notice>;

/// A way for notices.
pub(crate) fn notices() -> (NoticeSender, mpsc::Receiver<Notice>) {
    mpsc::channel(QUEUE)
}

/// The other end of the task.
#[derive(Debug)]
pub(crate) struct Ddr {
    /// Who is asked.
    pub(crate) designating: watch::Sender<Arc<[Designating]>>,
    /// What came of it.
    pub(crate) adopted: mpsc::Receiver<Adopted>,
}

/// A step that is over, of the list and network with this number.
#[derive(Debug)]
struct Done {
    epoch: u64,
    index: usize,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Asked(Option<(Vec<Offer>, u32)>),
    Tried(Vec<(Designated, Result<(), Failure>)>),
}

/// What woke the task.
enum Action {
    /// Perhaps others are to be asked.
    List,
    Done(Done),
    Notice(Notice),
    Timeout,
    Stop,
}

#[derive(Debug)]
struct Task {
    shared: Arc<Shared>,
    board: Board,
    metrics: NamesMetrics,
    list: watch::Receiver<Arc<[Designating]>>,
    adopted: mpsc::Sender<Adopted>,
    done: mpsc::Receiver<Done>,
    finished: mpsc::Sender<Done>,
    notices: mpsc::Receiver<Notice>,
    /// Labels of what is in use, and who designated it.
    in_use: Vec<(String, usize)>,
    /// Who is asked, by the numbers of the discovery.
    asked: Arc<[Designating]>,
    discovery: Discovery,
    /// Counts the lists and networks there were: what comes of an older one is nobody's.
    epoch: u64,
}

/// Begins to ask the endpoints of this configuration.
pub(crate) fn start(
    shared: &Arc<Shared>,
    board: &Board,
    metrics: NamesMetrics,
    (config, notices): (&Config, mpsc::Receiver<Notice>),
) -> Ddr {
    let (designating, list) = watch::channel(designating(config).into());
    let (sender, adopted) = mpsc::channel(QUEUE);
    let (finished, done) = mpsc::channel(QUEUE);
    let task = Task {
        shared: Arc::clone(shared),
        board: board.clone(),
        metrics,
        list,
        adopted: sender,
        done,
        finished,
        notices,
        in_use: Vec::new(),
        asked: Arc::default(),
        discovery: Discovery::default(),
        epoch: 0,
    };
    shared.tasks().spawn_job(task.run());
    Ddr { designating, adopted }
}

impl Task {
    async fn run(mut self) {
        self.list.mark_changed();
        loop {
            match self.select().await {
                Action::List => self.take_list(),
                Action::Done(done) => self.take(done),
                Action::Notice(notice) => self.hear(&notice),
                Action::Timeout => self.discovery.handle_timeout(self.shared.clock().now()),
                Action::Stop => return,
            }
            if !self.drain().await {
                return;
            }
        }
    }

    async fn select(&mut self) -> Action {
        let due = self.discovery.poll_timeout().map(|(at, _why)| at);
        let now = self.shared.clock().now();
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep(Duration::from_micros(at.since(now))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel safe: the token stays cancelled.
            () = self.shared.tasks().draining().cancelled() => Action::Stop,
            // Cancel safe: a change stays one until it was seen.
            changed = self.list.changed() => if changed.is_ok() { Action::List } else { Action::Stop },
            // Cancel safe: recv of a channel. There is a sender as long as this is.
            Some(done) = self.done.recv() => Action::Done(done),
            // Cancel safe: recv of a channel. Without a sender there is none.
            Some(notice) = self.notices.recv() => Action::Notice(notice),
            // Cancel safe: a timer.
            () = timer => Action::Timeout,
        }
    }

    /// Others are to be asked. Of those who stay the same, what was proven stays in use.
    fn take_list(&mut self) {
        let list = Arc::clone(&self.list.borrow_and_update());
        if list == self.asked {
            return;
        }
        let number = |own: &Designating| self.asked.iter().position(|older| older == own);
        let resolvers: Vec<_> = list.iter().map(|own| (own.address, number(own))).collect();
        self.discovery.handle_resolvers(&resolvers, self.shared.clock().now());
        let stays = |older: usize| resolvers.iter().position(|(_, number)| *number == Some(older));
        let in_use = std::mem::take(&mut self.in_use).into_iter();
        self.in_use = in_use
            .filter_map(|(label, older)| Some((label, stays(older)?)))
            .collect();
        self.asked = list;
        self.epoch = self.epoch.wrapping_add(1);
        self.board.withdraw(PART);
    }

    fn hear(&mut self, notice: &Notice) {
        let now = self.shared.clock().now();
        match notice {
            Notice::Failed(failed) => {
                let designating = self.in_use.iter().find(|(label, _)| *label == *failed);
                if let Some((_, index)) = designating {
                    self.discovery.handle_failure(*index, now);
                }
            }
            Notice::Network => {
                self.epoch = self.epoch.wrapping_add(1);
                self.discovery.handle_new_network(now);
            }
        }
    }

    fn take(&mut self, done: Done) {
        let now = self.shared.clock().now();
        if done.epoch != self.epoch {
            return;
        }
        match done.step {
            Step::Asked(answer) => {
                let is_empty = answer.as_ref().is_none_or(|(offers, _)| offers.is_empty());
                if is_empty {
                    self.metrics.count_designation(DesignationOutcome::none);
                }
                let offers = answer.as_ref().map(|(offers, ttl_s)| (offers.as_slice(), *ttl_s));
                self.discovery.handle_offers(done.index, offers, now);
            }
            Step::Tried(tried) => {
                let refused: Vec<_> = tried.iter().filter(|(_, result)| result.is_err()).cloned().collect();
                let proven = tried.into_iter().filter(|(_, result)| result.is_ok());
                let proven: Vec<Designated> = proven.map(|(designated, _)| designated).collect();
                if proven.is_empty() {
                    self.metrics.count_designation(DesignationOutcome::refused);
                    self.complain(done.index, &refused);
                } else {
                    self.metrics.count_designation(DesignationOutcome::proven);
                    self.board.withdraw(PART);
                }
                self.discovery.handle_tried(done.index, &proven, now);
            }
        }
    }

    /// Says why nothing of what was designated is used.
    fn complain(&self, index: usize, refused: &[(Designated, Result<(), Failure>)]) {
        let Some(own) = self.asked.get(index) else { return };
        let first = refused.first().and_then(|(designated, result)| {
            let cause = Cause::of_failure(result.err()?).map_or("local", Cause::word);
            Some(format!("{} at {}: {cause}", designated.name, designated.address))
        });
        let line = format!(
            "{} designates nobody who proves to be meant ({})",
            own.label,
            first.unwrap_or_default()
        );
        self.board.say(PART, &line);
    }

    /// Does what is to be done; false when nobody takes what comes of it any more.
    async fn drain(&mut self) -> bool {
        while let Some(output) = self.discovery.poll_output() {
            match output {
                Output::Ask(index) => self.ask(index),
                Output::Try(index, candidates) => self.try_all(index, candidates),
                Output::Adopt(index, endpoints) => {
                    let Some(own) = self.asked.get(index) else { continue };
                    let label = own.label.clone();
                    self.in_use.retain(|(_, designating)| *designating != index);
                    let labels = endpoints.iter().map(|designated| (label_of(designated), index));
                    self.in_use.extend(labels);
                    if self.adopted.send(Adopted { label, endpoints }).await.is_err() {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Asks a resolver for its designations.
    fn ask(&self, index: usize) {
        let Some(server) = self.asked.get(index).map(|own| own.server.clone()) else {
            return;
        };
        self.step(index, async move { Step::Asked(designations(&server).await) });
    }

    /// Connects to what was designated, one after the other: nobody waits for it.
    fn try_all(&self, index: usize, candidates: Vec<Designated>) {
        let Some(trust) = self.asked.get(index).map(|own| own.trust.clone()) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        self.step(index, async move {
            let mut tried = Vec::with_capacity(candidates.len());
            for designated in candidates {
                let remote = remote_of(&designated, &trust);
                let result = shared.try_connect(designated.transport, &remote).await;
                tried.push((designated, result));
            }
            Step::Tried(tried)
        });
    }

    /// Does a step beside the task.
    fn step(&self, index: usize, step: impl Future<Output = Step> + Send + 'static) {
        let (epoch, finished) = (self.epoch, self.finished.clone());
        let token = self.shared.tasks().draining().clone();
        self.shared.tasks().spawn_job(async move {
            tokio::select! {
                // Cancel safe: the token stays cancelled.
                () = token.cancelled() => {}
                // It is not polled again. Nobody to tell is fine: the node stops.
                step = step => drop(finished.send(Done { epoch, index, step }).await),
            }
        });
    }
}
