//! What peers say of an endpoint, and what became of it, in JSON and in words: the report that moved a place, and the own
//! probe that decided.

use detour_core::Time;
use detour_core::verdict::{Attribution, Claim, ClaimState, Said};
use detour_mesh::name_of;
use serde::{Deserialize, Serialize};

use super::words::age_text;

/// Characters of a peer id that tell nodes of one cluster apart.
const SHORT_CHARS: usize = 6;

/// What others' reports add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SaidView {
    /// `none`, `up` or `down`.
    pub(crate) verdict: String,
    /// On whose reports it rests: `own` or `quorum`.
    pub(crate) verdict_source: Option<String>,
    /// The peer id of one of them.
    #[serde(default)]
    pub(crate) verdict_by: Option<String>,
    /// Whose trouble it is: `none`, `their-outage`, `my-path`, `other-path`, `mixed`, `unknown`.
    #[serde(default)]
    pub(crate) attribution: String,
    /// The same for people; none where it is nobody's.
    #[serde(default)]
    pub(crate) attribution_text: Option<String>,
    /// The report that counts most against it.
    #[serde(default)]
    pub(crate) claim: Option<ClaimView>,
}

/// A peer's statement that an endpoint is down, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimView {
    /// Whose.
    pub(crate) by: String,
    /// Why it is down there.
    pub(crate) reason: String,
    /// What became of it.
    pub(crate) state: String,
    /// Why it is not credible, or which other node contests it.
    pub(crate) because: Option<String>,
    /// Since the first failure there.
    pub(crate) first_failure_ms: u64,
    /// Since it was said first.
    pub(crate) arrived_ms: u64,
    /// Since this node's own probe was sent.
    pub(crate) probed_ms: Option<u64>,
    /// Since own evidence decided.
    pub(crate) decided_ms: Option<u64>,
    /// For how long that node has no say about this endpoint.
    pub(crate) muted_ms: Option<u64>,
}

impl SaidView {
    /// What is said at `now`.
    #[must_use]
    pub(super) fn of(said: &Said, now: Time) -> Self {
        Self {
            verdict: said.verdict.word().to_owned(),
            verdict_source: said.verdict_by.map(|(source, _)| source.word().to_owned()),
            verdict_by: said.verdict_by.map(|(_, node)| name_of(node)),
            attribution: said.attribution.word().to_owned(),
            attribution_text: Some(said.attribution)
                .filter(|attribution| *attribution != Attribution::None)
                .map(|attribution| attribution.text().to_owned()),
            claim: said.claim.map(|claim| ClaimView::of(&claim, now)),
        }
    }
}

impl ClaimView {
    fn of(claim: &Claim, now: Time) -> Self {
        let since_ms = |at: Time| now.since(at) / 1_000;
        let (because, muted_until) = match claim.state {
            ClaimState::NotCredible(why) => (Some(why.word().to_owned()), None),
            ClaimState::Contested { by } => (Some(name_of(by)), None),
            ClaimState::Refuted { until, .. } | ClaimState::Muted { until } => (None, Some(until)),
            ClaimState::Pending | ClaimState::Waiting | ClaimState::Floor | ClaimState::Hint => (None, None),
            ClaimState::Beaten | ClaimState::Known | ClaimState::Confirmed { .. } | ClaimState::Ignored => (None, None),
        };
        Self {
            by: name_of(claim.by),
            reason: claim.cause.word().to_owned(),
            state: claim.state.word().to_owned(),
            because,
            first_failure_ms: since_ms(claim.first_failure),
            arrived_ms: since_ms(claim.arrived),
            probed_ms: claim.probed.map(since_ms),
            decided_ms: claim.decided.map(since_ms),
            muted_ms: muted_until.map(|until| until.since(now) / 1_000),
        }
    }

    /// Whose report, when, and what became of it.
    #[must_use]
    pub(crate) fn words(&self) -> String {
        let (by, reason, said) = (short(&self.by), &self.reason, ago(self.arrived_ms));
        let probe = self.probed_ms.map(|probed| {
            let after = self.arrived_ms.saturating_sub(probed);
            format!("own probe {after} ms later")
        });
        let probed = probe.as_deref().unwrap_or("own evidence");
        let outcome = match self.state.as_str() {
            "pending" => "it is last until the own probe has decided".to_owned(),
            "waiting" => "an own probe was good just before, so the next one decides".to_owned(),
            "floor" => "it stays in place, because too few others are left; an own probe decides".to_owned(),
            "contested" => {
                let other = short(self.because.as_deref().unwrap_or_default());
                format!("{other} had an answer since, so an own probe decides")
            }
            "not-credible" => {
                let why = self.because.as_deref().unwrap_or("unknown");
                format!("not credible ({why}), so it led to an own probe only")
            }
            "hint" => "a hint, so it led to an own probe only".to_owned(),
            "beaten" => "an own attempt succeeded since, so nothing moved".to_owned(),
            "known" => "this node had left it before".to_owned(),
            "confirmed" => format!("{probed} confirmed it{}", self.within()),
            "refuted" => format!("{probed} refuted it{}; {}", self.within(), self.muted()),
            "muted" => self.muted(),
            "ignored" => "shown only, because mesh.influence is \"none\"".to_owned(),
            other => other.to_owned(),
        };
        format!("{by} reported it down ({reason}) {said}: {outcome}")
    }

    /// From the report to the decision.
    fn within(&self) -> String {
        let within_ms = self.decided_ms.map(|decided| self.arrived_ms.saturating_sub(decided));
        within_ms.map_or_else(String::new, |ms| format!(" within {ms} ms of the report"))
    }

    fn muted(&self) -> String {
        let left = age_text(self.muted_ms.unwrap_or(0).saturating_mul(1_000));
        format!("for {left} its word about it counts for nothing here")
    }
}

/// A peer id as people tell nodes apart: its end.
#[must_use]
pub(crate) fn short(peer_id: &str) -> String {
    let count = peer_id.chars().count();
    let end: String = peer_id.chars().skip(count.saturating_sub(SHORT_CHARS)).collect();
    format!("…{end}")
}

/// `120 ms ago`, `12 s ago`.
fn ago(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms ago"),
        longer => format!("{} ago", age_text(longer.saturating_mul(1_000))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use detour_core::outcome::Cause;
    use detour_core::report::NodeId;
    use detour_core::verdict::Doubtful;
    use expect_test::expect;

    #[test]
    fn every_state_of_a_claim_has_its_words() {
        let at = Time::at_ms;
        let by = NodeId([7; 32]);
        let states = [
            ClaimState::Pending,
            ClaimState::Waiting,
            ClaimState::Floor,
            ClaimState::Contested { by: NodeId([9; 32]) },
            ClaimState::NotCredible(Doubtful::Unwitnessed),
            ClaimState::Hint,
            ClaimState::Beaten,
            ClaimState::Known,
            ClaimState::Confirmed { at: at(20_560) },
            ClaimState::Refuted {
                at: at(20_560),
                until: at(80_560),
            },
            ClaimState::Muted { until: at(80_560) },
            ClaimState::Ignored,
        ];
        let words = states.map(|state| {
            let claim = Claim {
                by,
                cause: Cause::Timeout,
                first_failure: at(19_000),
                arrived: at(20_000),
                state,
                probed: Some(at(20_010)),
                decided: Some(at(20_560)),
            };
            ClaimView::of(&claim, at(23_000)).words()
        });
        let end = short(&name_of(by));
        let other = short(&name_of(NodeId([9; 32])));
        let text = words.join("\n").replace(&end, "ONE").replace(&other, "OTHER");
        expect![[r#"
            ONE reported it down (timeout) 3000 ms ago: it is last until the own probe has decided
            ONE reported it down (timeout) 3000 ms ago: an own probe was good just before, so the next one decides
            ONE reported it down (timeout) 3000 ms ago: it stays in place, because too few others are left; an own probe decides
            ONE reported it down (timeout) 3000 ms ago: OTHER had an answer since, so an own probe decides
            ONE reported it down (timeout) 3000 ms ago: not credible (unwitnessed), so it led to an own probe only
            ONE reported it down (timeout) 3000 ms ago: a hint, so it led to an own probe only
            ONE reported it down (timeout) 3000 ms ago: an own attempt succeeded since, so nothing moved
            ONE reported it down (timeout) 3000 ms ago: this node had left it before
            ONE reported it down (timeout) 3000 ms ago: own probe 10 ms later confirmed it within 560 ms of the report
            ONE reported it down (timeout) 3000 ms ago: own probe 10 ms later refuted it within 560 ms of the report; for 57 s its word about it counts for nothing here
            ONE reported it down (timeout) 3000 ms ago: for 57 s its word about it counts for nothing here
            ONE reported it down (timeout) 3000 ms ago: shown only, because mesh.influence is "none""#]].assert_eq(&text);
    }
}
