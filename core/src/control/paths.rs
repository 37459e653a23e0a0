//! What is known of each path: who answered on it, and whether it is this machine's own trouble.
//!
//! A path is a transport class and an address family, each judged on its own: a network that blocks UDP port 53
//! is no outage of all providers. While two operators fail and nobody answers, nobody can be blamed; after two
//! seconds of that the path itself is suspect. The first answer ends it.

use std::collections::{BTreeMap, BTreeSet};

use crate::health::Doubt;
use crate::time::{MS, SEC, Time};
use crate::topology::{OperatorId, Path};

/// An answer convicts others only if its attempt began this long after their first failure began.
const AFTER_US: u64 = 100 * MS;
/// Without any answer for this long the path is suspect.
const SUSPECT_AFTER_US: u64 = 2 * SEC;
/// Operators that must have failed.
const TRIED: usize = 2;

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

/// All paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths {
    /// By path.
    known: BTreeMap<Path, Known>,
}

impl Paths {
    /// An operator answered an attempt begun at `begun`.
    pub(super) fn answered(&mut self, path: Path, operator: OperatorId, begun: Time) {
        let newest = self
            .known
            .entry(path)
            .or_default()
            .answered
            .entry(operator)
            .or_insert(begun);
        *newest = (*newest).max(begun);
    }

    /// Whether another operator answered an attempt begun 100 ms or more after `since`.
    pub(super) fn other_answered(&self, path: Path, operator: OperatorId, since: Time) -> bool {
        self.known.get(&path).is_some_and(|known| {
            known
                .answered
                .iter()
                .any(|(other, begun)| *other != operator && *begun >= since.plus(AFTER_US))
        })
    }

    /// An operator's endpoint is suspect.
    pub(super) fn note_doubt(&mut self, path: Path, operator: OperatorId, doubt: Doubt) {
        let known = self.known.entry(path).or_default();
        if known.answered.values().any(|begun| *begun > doubt.since) {
            return;
        }
        let trouble = &mut known.trouble;
        trouble.since = Some(trouble.since.map_or(doubt.since, |t| t.min(doubt.since)));
        trouble.operators.insert(operator);
        trouble.answered_badly |= !doubt.cause.is_path();
    }

    /// An answer to an attempt begun at `begun` ends a time without answers that began before it.
    pub(super) fn end_trouble(&mut self, path: Path, begun: Time) -> Option<Returned> {
        let known = self.known.get_mut(&path)?;
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
    pub(super) fn newly_suspect(&mut self, now: Time) -> Vec<Path> {
        let mut found = Vec::new();
        for (path, known) in &mut self.known {
            if suspect_at(&known.trouble).is_some_and(|at| at <= now) {
                known.trouble.suspect = true;
                found.push(*path);
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

    /// Paths that are suspect.
    pub(super) fn suspect(&self) -> impl Iterator<Item = Path> {
        self.known
            .iter()
            .filter(|(_, known)| known.trouble.suspect)
            .map(|(path, _)| *path)
    }

    /// The same under other numbers of operators, for paths that are still in use. What is known of an operator that is
    /// gone is forgotten, and so is a time without answers if all who failed in it are gone.
    pub(super) fn renumbered(&self, operators: &BTreeMap<OperatorId, OperatorId>, in_use: &BTreeSet<Path>) -> Self {
        let mut known: BTreeMap<Path, Known> = BTreeMap::new();
        for (path, old) in self.known.iter().filter(|(path, _)| in_use.contains(path)) {
            let new = known.entry(*path).or_default();
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
    pub(super) fn forget(&mut self, path: Path) {
        self.known.remove(&path);
    }
}

/// When this trouble makes its path suspect; `None` if it does not or already did.
fn suspect_at(trouble: &Trouble) -> Option<Time> {
    let since = trouble.since?;
    (trouble.operators.len() >= TRIED && !trouble.answered_badly && !trouble.suspect)
        .then(|| since.plus(SUSPECT_AFTER_US))
}
