//! The certificate that clients of encrypted listeners are shown: the pair in use, and what became of the last one that was
//! to take its place. A broken pair changes nothing but what everything says.

use std::sync::Arc;

use detour_resolver::listen::certificate::{Certificates, Pair};
use parking_lot::Mutex;

use crate::admin::words::age_text_s;
use crate::board::Board;
use crate::clock::wall_s;
use crate::config::LoadError;

/// What is said of it is filed under this.
const PART: &str = "certificate";
/// How long before its end status begins to warn, seconds: what renews itself has done so by then.
const SOON_S: i64 = 14 * 86_400;

/// What became of pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PairReloads {
    /// Pairs that took the place of another one.
    pub(crate) applied: u64,
    /// Pairs that could not be used.
    pub(crate) rejected: u64,
    /// Whether the last one was such.
    pub(crate) is_broken: bool,
}

/// Keeps the pair in use.
#[derive(Debug)]
pub(crate) struct CertificateKeeper {
    certificates: Arc<Certificates>,
    board: Board,
    /// Held to count.
    reloads: Mutex<PairReloads>,
}

impl CertificateKeeper {
    /// With the pair of a start. `is_wanted`: encrypted listeners wait for one.
    pub(crate) fn new(pair: Option<Pair>, is_wanted: bool, board: Board) -> Arc<Self> {
        let is_broken = is_wanted && pair.is_none();
        if is_broken {
            board.say(PART, "none that can be used, so nobody can ask over TLS, HTTPS or QUIC");
        }
        if let Some(trouble) = pair.as_ref().and_then(trouble_of) {
            tracing::warn!("certificate: {trouble}");
        }
        Arc::new(Self {
            certificates: Certificates::new(pair),
            board,
            reloads: Mutex::new(PairReloads {
                is_broken,
                ..PairReloads::default()
            }),
        })
    }

    /// For the listeners.
    pub(crate) fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Seconds until the pair in use ends, or since it did (negative).
    pub(crate) fn ends_in_s(&self) -> Option<i64> {
        let (_, ends_s) = self.certificates.current()?.validity_s()?;
        Some(ends_s.saturating_sub(wall()))
    }

    /// What is wrong with the time of the pair in use, or will be soon.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.certificates.current().as_ref().and_then(trouble_of)
    }

    /// What became of pairs so far.
    pub(crate) fn reloads(&self) -> PairReloads {
        *self.reloads.lock()
    }

    /// Files were read: what is sound is shown from here on, what is broken leaves the one in use.
    pub(crate) fn take(&self, pair: Result<Option<Pair>, LoadError>) {
        let mut reloads = self.reloads.lock();
        match pair {
            Ok(None) => {}
            // A clock can be wrong: what is no worse than the one in use takes its place all the same.
            Ok(Some(pair)) if !is_valid(&pair) && self.certificates.current().is_some_and(|own| is_valid(&own)) => {
                reloads.rejected += 1;
                reloads.is_broken = true;
                let what = trouble_of(&pair).unwrap_or_default();
                self.board.say(
                    PART,
                    &format!("the new one is not used ({what}); the one before is still shown"),
                );
            }
            Ok(Some(pair)) => {
                if let Some(trouble) = trouble_of(&pair) {
                    tracing::warn!("certificate: {trouble}");
                }
                if self.certificates.replace(pair) {
                    reloads.applied += 1;
                    tracing::info!("certificate replaced; open connections go on");
                }
                reloads.is_broken = false;
                self.board.withdraw(PART);
            }
            Err(error) => {
                reloads.rejected += 1;
                reloads.is_broken = true;
                let (mistake, _) = error.first_and_more();
                let what = match self.certificates.current() {
                    Some(_) => "the one before is still shown",
                    None => "nobody can ask over TLS, HTTPS or QUIC",
                };
                self.board.say(PART, &format!("{mistake}; {what}"));
            }
        }
    }
}

/// The wall clock, as certificates have it.
fn wall() -> i64 {
    i64::try_from(wall_s()).unwrap_or(i64::MAX)
}

/// Whether clients whose clocks are like ours take it. What cannot be read is theirs to judge.
fn is_valid(pair: &Pair) -> bool {
    let is_now = |(begins_s, ends_s): (i64, i64)| (begins_s..=ends_s).contains(&wall());
    pair.validity_s().is_none_or(is_now)
}

/// What is wrong with a pair's time, in words.
pub(crate) fn trouble_of(pair: &Pair) -> Option<String> {
    let (begins_s, ends_s) = pair.validity_s()?;
    trouble_text(begins_s, ends_s, wall())
}

fn trouble_text(begins_s: i64, ends_s: i64, now_s: i64) -> Option<String> {
    let span = |seconds: i64| age_text_s(u64::try_from(seconds).unwrap_or(0));
    if now_s < begins_s {
        let span = span(begins_s.saturating_sub(now_s));
        Some(format!(
            "it is not valid for another {span}: clients refuse it until then, unless this machine's clock is behind"
        ))
    } else if now_s > ends_s {
        let span = span(now_s.saturating_sub(ends_s));
        Some(format!(
            "it ended {span} ago: clients refuse it, unless this machine's clock is ahead"
        ))
    } else if ends_s.saturating_sub(now_s) < SOON_S {
        Some(format!("it ends in {}", span(ends_s.saturating_sub(now_s))))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_certificate_is_told_when_it_is_wrong_or_will_be() {
        const DAY: i64 = 86_400;
        let text = |begins_s, ends_s| trouble_text(begins_s, ends_s, 100 * DAY);
        assert_eq!(text(0, 200 * DAY), None);
        assert_eq!(text(0, 114 * DAY), None);
        assert_eq!(text(0, 100 * DAY + 7_200).unwrap(), "it ends in 2 h");
        assert!(
            text(0, 97 * DAY)
                .unwrap()
                .starts_with("it ended 3 d ago: clients refuse it")
        );
        assert!(
            text(102 * DAY, 200 * DAY)
                .unwrap()
                .starts_with("it is not valid for another 2 d: ")
        );
    }
}
