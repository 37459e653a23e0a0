//! `detour explain NAME [TYPE]`: asks the running node what it would do with a question, and puts it into words.
//!
//! Decides nothing and looks at no configuration: what the node says is what counts. The first line is the whole
//! answer; the rest is detail.

use std::io;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::admin::client::{Answer, GetError, escape, get};
use crate::admin::explain::{CacheView, EndpointClaim, Explanation, LocalView, SkippedView, StepView};
use crate::admin::words;
use crate::cli::{ExplainArgs, exit_code};

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    /// Nobody answered.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The node does not take the question.
    #[error("the node says: {0}")]
    Refused(String),
    /// Most likely a node of another version.
    #[error("cannot read the node's answer: is it of another version?")]
    Unreadable(#[source] serde_json::Error),
}

/// Runs the command; the exit code.
pub(crate) async fn explain(args: &ExplainArgs) -> u8 {
    match fetch(args).await {
        Ok(text) => crate::output::print(&mut io::stdout().lock(), &text, exit_code::OK),
        Err(error) => {
            crate::output::complain("explain", &error);
            exit_code::FAILED
        }
    }
}

/// What there is to print.
async fn fetch(args: &ExplainArgs) -> Result<String, ExplainError> {
    let rtype = words::type_text(u16::from(args.record_type));
    let path = format!("/api/v1/explain?name={}&type={rtype}", escape(&args.name));
    let Answer { status, body } = get(args.admin, &path).await?;
    if status != 200 {
        return Err(ExplainError::Refused(reason(status, &body)));
    }
    if args.json {
        // As it came, keys in their order, but only if it is JSON.
        let _checked: IgnoredAny = serde_json::from_slice(&body).map_err(ExplainError::Unreadable)?;
        return Ok(format!("{}\n", String::from_utf8_lossy(&body)));
    }
    let explanation = serde_json::from_slice(&body).map_err(ExplainError::Unreadable)?;
    Ok(render(&explanation))
}

/// What an error says, without what a terminal would obey.
fn reason(status: u16, body: &[u8]) -> String {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let error = body.as_ref().and_then(|body| body.get("error")).and_then(Value::as_str);
    let text = error.map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    text.chars().filter(|c| !c.is_control()).collect()
}

/// All in words.
fn render(explanation: &Explanation) -> String {
    if let Some(local) = &explanation.local {
        return format!(
            "{} {} is answered by this node itself, {}; no provider is asked\n",
            explanation.name,
            explanation.qtype,
            local_words(local)
        );
    }
    let mut text = format!(
        "{} {} {}",
        explanation.name,
        explanation.qtype,
        cache_words(&explanation.cache)
    );
    if explanation.policy != "forward" {
        return format!(
            "{} {} is answered by this node itself ({}): no provider is asked\n",
            explanation.name, explanation.qtype, explanation.policy
        );
    }
    if let Some(zone) = &explanation.route {
        text.push_str(&format!("; the route of {zone} leads to {} only", explanation.group));
    }
    text.push_str(&format!("; {}", order_words(explanation)));
    if !explanation.skipped.is_empty() {
        text.push_str(&format!("; {}", skipped_words(explanation)));
    }
    if explanation.plan.cap_ignored {
        text.push_str("; its max-share or max-qps is ignored, because nobody else is left");
    }
    text.push('\n');
    let width = explanation.plan.steps.iter().map(|step| step.endpoint.len()).max();
    for (index, step) in explanation.plan.steps.iter().enumerate() {
        let (number, width) = (index + 1, width.unwrap_or(0));
        text.push_str(&format!(
            "  {number}. {:width$}  {}, {}\n",
            step.endpoint, step.provider, step.chosen
        ));
    }
    for claimed in &explanation.claims {
        let EndpointClaim { endpoint, said, .. } = claimed;
        if let Some(claim) = &said.claim {
            text.push_str(&format!("peers: {endpoint}: {}\n", claim.words()));
        }
    }
    text.push_str(&format!("note: {}\n", explanation.note));
    text.push_str(&format!("hedges paid for: {}\n", explanation.budget_tokens));
    text
}

/// By what, and how it comes out.
fn local_words(local: &LocalView) -> String {
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    let outcome = match (local.answer.as_str(), local.rcode.as_str()) {
        ("denial", "NOERROR") => "no data of this type".to_owned(),
        ("denial", _) => "no such name".to_owned(),
        (_, "NOERROR") => "it has data".to_owned(),
        (_, rcode) => rcode.to_owned(),
    };
    if local.by == "hosts" {
        format!("as the hosts file {} says: {outcome}", said(&local.path))
    } else {
        let (zone, basis) = (said(&local.zone), said(&local.basis));
        format!("as the zone {zone} ({basis}) says: {outcome}")
    }
}

fn cache_words(cache: &CacheView) -> String {
    let answer = cache.answer.as_deref().unwrap_or("answer");
    let seconds = |value: Option<u64>| value.unwrap_or(0);
    match cache.state.as_str() {
        "fresh" => format!(
            "is cached ({answer}, {} s old, fresh for {} s)",
            seconds(cache.age_s),
            seconds(cache.ttl_left_s)
        ),
        "stale" => format!(
            "is cached but stale ({answer}, {} s old, expired {} s ago: served if nobody answers in time)",
            seconds(cache.age_s),
            seconds(cache.expired_s)
        ),
        "failure" => format!("failed just now ({answer}: not asked again for up to 5 s)"),
        _ => "is not cached".to_owned(),
    }
}

/// Whom, in which order.
fn order_words(explanation: &Explanation) -> String {
    let steps = &explanation.plan.steps;
    let mut order: Vec<&StepView> = Vec::new();
    for step in steps {
        if !order.iter().any(|known| known.provider == step.provider) {
            order.push(step);
        }
    }
    let named = |step: &StepView| format!("{} ({})", step.provider, step.chosen);
    let (first, rest) = match (explanation.plan.pair, order.as_slice()) {
        (_, []) => return "nobody can be asked".to_owned(),
        (true, [one, other, rest @ ..]) => (format!("{} and {} at once", named(one), named(other)), rest),
        (_, [one, rest @ ..]) => (format!("{} first", named(one)), rest),
    };
    let would = match (explanation.cache.state.as_str(), explanation.nothing_up) {
        ("fresh" | "failure", _) => "otherwise it would ask",
        (_, true) => "nothing is up: would ask",
        (_, false) => "would ask",
    };
    let mut text = format!("{would} {first}");
    if !rest.is_empty() {
        let rest: Vec<String> = rest.iter().map(|step| named(step)).collect();
        text.push_str(&format!(", then {}", rest.join(", ")));
    }
    text
}

/// Who is not asked first though it could be, and who is not asked at all.
fn skipped_words(explanation: &Explanation) -> String {
    let is_asked = |skipped: &&SkippedView| {
        let mut steps = explanation.plan.steps.iter();
        steps.any(|step| step.provider == skipped.provider)
    };
    let (later, never): (Vec<&SkippedView>, Vec<&SkippedView>) = explanation.skipped.iter().partition(is_asked);
    let parts = [("not first", later), ("skipped", never)];
    let parts = parts.iter().filter(|(_, who)| !who.is_empty()).map(|(what, who)| {
        let named = who.iter().map(|one| format!("{} ({})", one.provider, one.reason));
        format!("{what}: {}", named.collect::<Vec<_>>().join(", "))
    });
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::claims::{ClaimView, SaidView};
    use crate::admin::explain::PlanView;
    use expect_test::expect;

    fn claimed() -> EndpointClaim {
        EndpointClaim {
            endpoint: "udp://quad9.test".to_owned(),
            provider: "quad9".to_owned(),
            place: "out".to_owned(),
            place_why: "down".to_owned(),
            said: SaidView {
                claim: Some(ClaimView {
                    by: "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq".to_owned(),
                    reason: "timeout".to_owned(),
                    state: "confirmed".to_owned(),
                    because: None,
                    first_failure_ms: 14_000,
                    arrived_ms: 13_000,
                    probed_ms: Some(12_990),
                    decided_ms: Some(12_480),
                    muted_ms: None,
                }),
                ..SaidView::default()
            },
        }
    }

    fn explanation() -> Explanation {
        let step = |provider: &str, chosen: &str| StepView {
            endpoint: format!("udp://{provider}.test"),
            provider: provider.to_owned(),
            chosen: chosen.to_owned(),
        };
        let skipped = |provider: &str, reason: &str| SkippedView {
            provider: provider.to_owned(),
            reason: reason.to_owned(),
        };
        Explanation {
            name: "example.com.".to_owned(),
            qtype: "A".to_owned(),
            policy: "forward".to_owned(),
            local: None,
            group: "public".to_owned(),
            route: None,
            cache: CacheView {
                state: "nothing".to_owned(),
                ..CacheView::default()
            },
            plan: PlanView {
                pair: false,
                cap_ignored: false,
                steps: vec![
                    step("cloudflare", "balanced"),
                    step("google", "backup"),
                    step("cloudflare", "again"),
                ],
            },
            skipped: vec![skipped("google", "dice"), skipped("quad9", "down")],
            claims: vec![claimed()],
            budget_tokens: 64,
            nothing_up: false,
            note: "dice".to_owned(),
        }
    }

    #[test]
    fn the_first_line_says_it_all() {
        expect![[r#"
            example.com. A is not cached; would ask cloudflare (balanced) first, then google (backup); not first: google (dice); skipped: quad9 (down)
              1. udp://cloudflare.test  cloudflare, balanced
              2. udp://google.test      google, backup
              3. udp://cloudflare.test  cloudflare, again
            peers: udp://quad9.test: …o7R3pq reported it down (timeout) 13 s ago: own probe 10 ms later confirmed it within 520 ms of the report
            note: dice
            hedges paid for: 64
        "#]]
        .assert_eq(&render(&explanation()));
    }

    fn first_line(change: impl FnOnce(&mut Explanation)) -> String {
        let mut explanation = explanation();
        explanation.skipped.clear();
        change(&mut explanation);
        render(&explanation).lines().next().unwrap().to_owned()
    }

    #[test]
    fn every_state_of_the_cache_has_its_words() {
        let cache = |state: &str, answer: &str| CacheView {
            state: state.to_owned(),
            answer: Some(answer.to_owned()),
            age_s: Some(40),
            ttl_left_s: Some(20),
            expired_s: Some(10),
        };
        let lines = [
            first_line(|e| e.cache = cache("fresh", "positive")),
            first_line(|e| e.cache = cache("stale", "denial")),
            first_line(|e| e.cache = cache("failure", "SERVFAIL")),
            first_line(|e| {
                e.plan.pair = true;
                e.nothing_up = true;
            }),
            first_line(|e| e.plan.steps.clear()),
            first_line(|e| e.policy = "refuse".to_owned()),
            first_line(|e| {
                e.local = Some(LocalView {
                    by: "zone".to_owned(),
                    zone: Some("local.".to_owned()),
                    basis: Some("RFC 6762 section 22.1".to_owned()),
                    path: None,
                    rcode: "NXDOMAIN".to_owned(),
                    answer: "denial".to_owned(),
                });
            }),
            first_line(|e| {
                e.local = Some(LocalView {
                    by: "hosts".to_owned(),
                    path: Some("/etc/hosts".to_owned()),
                    rcode: "NOERROR".to_owned(),
                    answer: "positive".to_owned(),
                    ..LocalView::default()
                });
            }),
        ]
        .join("\n");
        expect![[r"
            example.com. A is cached (positive, 40 s old, fresh for 20 s); otherwise it would ask cloudflare (balanced) first, then google (backup)
            example.com. A is cached but stale (denial, 40 s old, expired 10 s ago: served if nobody answers in time); would ask cloudflare (balanced) first, then google (backup)
            example.com. A failed just now (SERVFAIL: not asked again for up to 5 s); otherwise it would ask cloudflare (balanced) first, then google (backup)
            example.com. A is not cached; nothing is up: would ask cloudflare (balanced) and google (backup) at once
            example.com. A is not cached; nobody can be asked
            example.com. A is answered by this node itself (refuse): no provider is asked
            example.com. A is answered by this node itself, as the zone local. (RFC 6762 section 22.1) says: no such name; no provider is asked
            example.com. A is answered by this node itself, as the hosts file /etc/hosts says: it has data; no provider is asked"]]
        .assert_eq(&lines);
    }

    #[test]
    fn a_node_that_refuses_is_quoted_without_control_characters() {
        assert_eq!(reason(400, b"{\"error\":\"wrong\\u001b[31m name\"}"), "wrong[31m name");
        assert_eq!(reason(500, b"<html>"), "HTTP status 500");
    }

    #[tokio::test]
    async fn where_no_node_runs_the_message_says_what_to_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        drop(listener);
        let args = ExplainArgs {
            name: "example.com".to_owned(),
            record_type: hickory_proto::rr::RecordType::A,
            config: None,
            admin,
            json: false,
        };
        let error = fetch(&args).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("no node answers at {admin} (")), "{error}");
        assert_eq!(explain(&args).await, exit_code::FAILED);
    }
}
