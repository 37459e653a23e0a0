//! One peer's word on one endpoint, and what it weighs by itself.

use crate::health::state::State;
use crate::outcome::Cause;
use crate::report::{Circle, Opinion, PeerReport, SiteKey};
use crate::time::{MS, SEC, Time};
use crate::verdict::{ClaimState, Doubtful};

/// Times of other clocks may be off by this much: half a round trip and what rounding takes. Larger, and an answer soon
/// after a failure contests nothing; smaller, and one that came before it does.
pub(super) const CLOCK_ERROR_US: u64 = 100 * MS;
/// A report this old when it comes claims nothing: the endpoint may have come back meanwhile.
const LATE_US: u64 = 2 * SEC;
/// A claim stands until the reporter's last failure is this old: two of its longest intervals between probes of the
/// first ten minutes.
pub(super) const STANDS_US: u64 = 10 * SEC;

/// What a peer says of one endpoint. Times are capped at its arrival: nobody reports what is yet to happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement {
    /// Whose node says so.
    pub(super) circle: Circle,
    /// Where it stands.
    pub(super) site: SiteKey,
    /// The endpoint's state there.
    pub(super) state: State,
    /// Why.
    pub(super) cause: Cause,
    /// When the first failure began.
    pub(super) first_failure: Option<Time>,
    /// When the last one began.
    pub(super) last_failure: Option<Time>,
    /// When the newest attempt with a good answer began.
    pub(super) last_success: Option<Time>,
    /// When this was first said.
    pub(super) arrived: Time,
    /// It was heard in time when it was first said.
    in_time: bool,
    /// What speaks against taking it for a claim, whenever it is looked at.
    objection: Option<Doubtful>,
    /// It was contradicted already.
    pub(super) contradicted: bool,
    /// The own first failure for which it was a reason to hope.
    pub(super) urged: Option<Time>,
}

impl Statement {
    /// What `report` says by `opinion`, where the same node said `before` of the same endpoint.
    pub(super) fn new(report: &PeerReport, opinion: &Opinion, before: Option<&Self>) -> Self {
        let cap = |at: Option<Time>| at.map(|at| at.min(report.arrived));
        let first_failure = cap(opinion.first_failure);
        let repeated = before.filter(|before| before.accuses() && is_same_event(before.first_failure, first_failure));
        let in_time = report.arrived.since(report.issued) < LATE_US || repeated.is_some_and(|before| before.in_time);
        let answers = |opinion: &Opinion| matches!(opinion.state, State::Up | State::Probation);
        let objections = [
            (first_failure.is_none(), Doubtful::Undated),
            (report.uplink_suspect, Doubtful::Uplink),
            (!report.opinions.iter().any(answers), Doubtful::NothingUp),
            (!opinion.witnessed, Doubtful::Unwitnessed),
            (opinion.stalled, Doubtful::Stalled),
            (!in_time, Doubtful::Late),
        ];
        Self {
            circle: report.circle,
            site: report.site,
            state: opinion.state,
            cause: opinion.cause,
            first_failure,
            last_failure: cap(opinion.last_failure),
            last_success: cap(opinion.last_success),
            arrived: repeated.map_or(report.arrived, |before| before.arrived),
            in_time,
            objection: objections.iter().find(|(holds, _)| *holds).map(|(_, why)| *why),
            contradicted: repeated.is_some_and(|before| before.contradicted),
            urged: before
                .filter(|before| before.is_up() && answers(opinion))
                .and_then(|before| before.urged),
        }
    }

    /// Whether it says that the endpoint does not answer, or leaves too much unanswered.
    pub(super) fn accuses(&self) -> bool {
        self.state == State::Down || (self.state == State::Suspect && self.cause == Cause::Loss)
    }

    /// Whether it says that the endpoint answers.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up | State::Probation)
    }

    /// What keeps it from being a claim; `None`: it is credible.
    pub(super) fn shortcoming(&self, now: Time) -> Option<ClaimState> {
        if self.objection == Some(Doubtful::Undated) {
            return Some(ClaimState::NotCredible(Doubtful::Undated));
        }
        if self.state != State::Down || self.circle != Circle::Own || !is_credible(self.cause) {
            return Some(ClaimState::Hint);
        }
        if let Some(objection) = self.objection {
            return Some(ClaimState::NotCredible(objection));
        }
        let is_newest = self.last_failure > self.last_success;
        let stands = is_newest && self.last_failure.is_some_and(|at| now.since(at) < STANDS_US);
        (!stands).then_some(ClaimState::NotCredible(Doubtful::Lapsed))
    }
}

/// Whether two first failures are one, told by clocks that are a little off.
pub(super) fn is_same_event(a: Option<Time>, b: Option<Time>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.since(b).max(b.since(a)) <= CLOCK_ERROR_US,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether one node's word is enough for this cause. Certificates depend on the clock that reads them, loss and
/// mismatches on the path; bad rcodes were counted over three domains before they made anybody down.
fn is_credible(cause: Cause) -> bool {
    match cause {
        Cause::Timeout | Cause::Silence | Cause::Unreachable | Cause::Connect | Cause::Reset => true,
        Cause::Garbage | Cause::Http | Cause::Servfail | Cause::Refused | Cause::Rcode => true,
        Cause::Loss | Cause::Mismatch | Cause::Other | Cause::Untried | Cause::Answering => false,
        Cause::Forgiven | Cause::NewPath => false,
        Cause::TlsExpired | Cause::TlsNotYetValid | Cause::TlsWrongName | Cause::TlsUntrusted => false,
        Cause::TlsPin | Cause::TlsStalled | Cause::Tls => false,
    }
}
