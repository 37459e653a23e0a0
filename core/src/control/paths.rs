//! What is known of each path: who answered on it, and whether it is this machine's own trouble.
//!
//! A path is a transport class and an address family, each judged on its own: a network that blocks UDP port 53
//! is no outage of all providers. While two operators fail and nobody answers, nobody can be blamed; after two
//! seconds of that the path itself is suspect. The first answer ends it.
//!
//! Each scope is judged on its own, too: the resolver of an office answers while the way to the Internet is cut.

use std::collections::{BTreeMap, BTreeSet};

use crate::health::Doubt;
use crate::time::{MS, SEC, Time};
use crate::topology::{GroupId, OperatorId, Path};

/// An answer convicts others only if its attempt began this long after their first failure began.
const AFTER_US: u64 = 100 * MS;
/// Without any answer for this long the path is suspect.
const SUSPECT_AFTER_US: u64 = 2 * SEC;
/// Operators that must have failed.
const TRIED: usize = 2;

/// A path, as those use it whose answers are evidence for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    /// [`crate::topology::Topology::scope_of`] who is asked.
    pub(super) scope: GroupId,
    /// How packets go.
    pub(super) path: Path,
}

/// A time without answers.
#[derive(Debug, Clone, Default)]
struct Trouble {
    /// When the first failed attempt began.
    since: Option<Time>,
    /// Who failed.
    operators: BTreeSet<OperatorId>,
    /// Somebody failed in a way that no dead path explains.
    answered_badly: bool,
    /// It was found to be this machine's own.
    suspect: bool,
}

/// One path.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Newest begin of an answered attempt, by operator.
    answered: BTreeMap<OperatorId, Time>,
    /// The current time without answers.
    trouble: Trouble,
}

/// How a time without answers ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Returned {
    /// Whether the path had been found suspect.
    pub(super) was_suspect: bool,
}

/// By their old numbers: the new ones of operators and groups that there still are.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    /// Operators.
    pub(super) operators: BTreeMap<OperatorId, OperatorId>,
    /// Groups.
    pub(super) groups: BTreeMap<GroupId, GroupId>,
}

/// All paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths {
    /// By path.
    known: BTreeMap<Way, Known>,
}

impl Paths {
    /// An operator answered an attempt begun at `begun`.
    pub(super) fn answered(&mut self, way: Way, operator: OperatorId, begun: Time) {
        let newest = self
            .known
            .entry(way)
            .or_default()
            .answered
            .entry(operator)
            .or_insert(begun);
        *newest = (*newest).max(begun);
    }

    /// Whether another operator answered an attempt begun 100 ms or more after `since`.
    pub(super) fn other_answered(&self, way: Way, operator: OperatorId, since: Time) -> bool {
        self.known.get(&way).is_some_and(|known| {
            known
                .answered
                .iter()
                .any(|(other, begun)| *other != operator && *begun >= since.plus(AFTER_US))
        })
    }

    /// An operator's endpoint is suspect.
    pub(super) fn note_doubt(&mut self, way: Way, operator: OperatorId, doubt: Doubt) {
        let known = self.known.entry(way).or_default();
        if known.answered.values().any(|begun| *begun > doubt.since) {
            return;
        }
        let trouble = &mut known.trouble;
        trouble.since = Some(trouble.since.map_or(doubt.since, |t| t.min(doubt.since)));
        trouble.operators.insert(operator);
        trouble.answered_badly |= !doubt.cause.is_path();
    }

    /// An answer to an attempt begun at `begun` ends a time without answers that began before it.
    pub(super) fn end_trouble(&mut self, way: Way, begun: Time) -> Option<Returned> {
        let known = self.known.get_mut(&way)?;
        let since = known.trouble.since?;
        if begun <= since {
            return None;
        }
        let ended = std::mem::take(&mut known.trouble);
        let own = ended.operators.len() >= TRIED && !ended.answered_badly;
        (own || ended.suspect).then_some(Returned {
            was_suspect: ended.suspect,
        })
    }

    /// Paths found suspect at `now`.
    pub(super) fn newly_suspect(&mut self, now: Time) -> Vec<Way> {
        let mut found = Vec::new();
        for (way, known) in &mut self.known {
            if suspect_at(&known.trouble).is_some_and(|at| at <= now) {
                known.trouble.suspect = true;
                found.push(*way);
            }
        }
        found
    }

    /// When a path will be found suspect.
    pub(super) fn next_due(&self) -> Option<(Time, &'static str)> {
        self.known
            .values()
            .filter_map(|known| suspect_at(&known.trouble))
            .min()
            .map(|at| (at, "uplink"))
    }

    /// Paths that are suspect for those of a scope.
    pub(super) fn suspect(&self, scope: GroupId) -> impl Iterator<Item = Path> {
        self.known
            .iter()
            .filter(move |(way, known)| way.scope == scope && known.trouble.suspect)
            .map(|(way, _)| way.path)
    }

    /// The same under other numbers of operators and groups, for ways that are still in use. What is known of an
    /// operator that is gone is forgotten, and so is a time without answers if all who failed in it are gone.
    pub(super) fn renumbered(&self, numbers: &Numbers, in_use: &BTreeSet<Way>) -> Self {
        let operators = &numbers.operators;
        let mut known: BTreeMap<Way, Known> = BTreeMap::new();
        for (way, old) in &self.known {
            let scope = numbers.groups.get(&way.scope).copied();
            let way = scope.map(|scope| Way { scope, ..*way });
            let Some(way) = way.filter(|way| in_use.contains(way)) else {
                continue;
            };
            let new = known.entry(way).or_default();
            for (operator, begun) in &old.answered {
                if let Some(operator) = operators.get(operator) {
                    let newest = new.answered.entry(*operator).or_insert(*begun);
                    *newest = (*newest).max(*begun);
                }
            }
            let failed = old.trouble.operators.iter();
            let trouble = Trouble {
                operators: failed.filter_map(|operator| operators.get(operator).copied()).collect(),
                ..old.trouble.clone()
            };
            if !trouble.operators.is_empty() {
                new.trouble = trouble;
            }
        }
        Self { known }
    }

    /// A new path: nothing known holds.
    pub(super) fn forget(&mut self, way: Way) {
        self.known.remove(&way);
    }
}

/// When this trouble makes its path suspect; `None` if it does not or already did.
fn suspect_at(trouble: &Trouble) -> Option<Time> {
    let since = trouble.since?;
    (trouble.operators.len() >= TRIED && !trouble.answered_badly && !trouble.suspect)
        .then(|| since.plus(SUSPECT_AFTER_US))
}
