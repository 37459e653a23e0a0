//! `/api/v1/explain`: what would happen to a question if a client asked it at this moment, and why.
//!
//! Looks and touches nothing: the plan is made on a copy of the usage, nobody is asked, no counter moves. The plan is
//! the one the next question would get but for the dice: which of several equals comes first is drawn anew for each
//! question, so the draw shown is one of many, and `note` says so. A draw that explores (one question in twenty) is
//! passed over, because it would explain the exception.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use detour_core::plan::{Chosen, Plan, Skipped, plan};
use detour_core::routes::Routes;
use detour_core::{ProviderId, Time};
use detour_resolver::ask::Ask;
use detour_resolver::cache::{Entry, Failure, Found};
use detour_resolver::generation::Generation;
use detour_resolver::local::By;
use detour_resolver::wire::code::{class, rtype};
use detour_resolver::wire::{Answer, NameBuf, Parsed, Policy, QueryOut, Via, build_query, parse, policy};
use serde::{Deserialize, Serialize};

use super::claims::SaidView;
use super::refusal::Refusal;
use super::{AdminState, words};

/// Draws looked at for one that does not explore. All of 64 explore once in 10^83 nodes.
const DRAWS: u64 = 64;
/// Said with every plan.
const NOTE: &str = "the first choice among equals (dice) is drawn anew for each question";

/// What is asked about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    name: String,
    #[serde(rename = "type")]
    qtype: Option<String>,
}

/// The answer; `detour explain` reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// As understood: absolute, lower case.
    pub(crate) name: String,
    /// As understood.
    #[serde(rename = "type")]
    pub(crate) qtype: String,
    /// `forward`: by cache and providers; all others: by this node itself.
    pub(crate) policy: String,
    /// The group that would be asked: `public`, or that of a route.
    #[serde(default)]
    pub(crate) group: String,
    /// The zone of the route that says so.
    #[serde(default)]
    pub(crate) route: Option<String>,
    /// Where `policy` is `local`, by what.
    pub(crate) local: Option<LocalView>,
    /// What is known already.
    pub(crate) cache: CacheView,
    /// What would be asked if the cache had no fresh answer.
    pub(crate) plan: PlanView,
    /// Why each provider is not the first choice.
    pub(crate) skipped: Vec<SkippedView>,
    /// What peers say of endpoints that they say are down.
    #[serde(default)]
    pub(crate) claims: Vec<EndpointClaim>,
    /// Hedges away from healthy endpoints that are paid for.
    pub(crate) budget_tokens: u64,
    /// No endpoint of the group is usable.
    pub(crate) nothing_up: bool,
    /// What to bear in mind.
    pub(crate) note: String,
}

/// What this node answers by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalView {
    /// `zone` or `hosts`.
    pub(crate) by: String,
    /// The zone, absolute.
    pub(crate) zone: Option<String>,
    /// On whose word the zone is answered here.
    pub(crate) basis: Option<String>,
    /// The hosts file.
    pub(crate) path: Option<String>,
    /// The response code.
    pub(crate) rcode: String,
    /// `positive` or `denial`.
    pub(crate) answer: String,
}

/// What the cache knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheView {
    /// `fresh`, `stale`, `failure` or `nothing`.
    pub(crate) state: String,
    /// `positive`, `denial`, or of a failure its rcode, `no-answer` or `network`.
    pub(crate) answer: Option<String>,
    /// Seconds since it came.
    pub(crate) age_s: Option<u64>,
    /// Seconds it stays fresh.
    pub(crate) ttl_left_s: Option<u64>,
    /// Seconds since it stopped being fresh.
    pub(crate) expired_s: Option<u64>,
}

/// The order in which endpoints would be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlanView {
    /// The first two at once.
    pub(crate) pair: bool,
    /// The first is over its `max-share` or `max-qps`, but nobody else is left.
    pub(crate) cap_ignored: bool,
    /// In order; each only if those before it do not answer in time.
    pub(crate) steps: Vec<StepView>,
}

/// One endpoint of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepView {
    /// The string of the configuration.
    pub(crate) endpoint: String,
    /// Whose it is.
    pub(crate) provider: String,
    /// Why it is here.
    pub(crate) chosen: String,
}

/// A provider that is not the first choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SkippedView {
    /// Its name.
    pub(crate) provider: String,
    /// Why.
    pub(crate) reason: String,
}

/// What a peer says of an endpoint, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointClaim {
    /// The string of the configuration.
    pub(crate) endpoint: String,
    /// Whose it is.
    pub(crate) provider: String,
    /// Where plans put it.
    pub(crate) place: String,
    /// Why.
    pub(crate) place_why: String,
    /// What is said.
    #[serde(flatten)]
    pub(crate) said: SaidView,
}

/// Explains.
pub(super) async fn explain(
    State(state): State<AdminState>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<Explanation>, Refusal> {
    let Query(Parameters { name, qtype }) = parameters?;
    let name: NameBuf = name.parse()?;
    let qtype = match qtype {
        None => rtype::A,
        Some(text) => words::parse_type(&text).ok_or(Refusal::Type)?,
    };
    Ok(Json(explanation(&state, &name, qtype)))
}

fn explanation(state: &AdminState, name: &NameBuf, qtype: u16) -> Explanation {
    let now = state.clock.now();
    let generation = state.shared.generation();
    let asked = generation.asked(name);
    let all = generation.routes();
    let routes = all.of(asked.group.id).unwrap_or(&all);
    let ask = state.shared.ask(name, qtype, class::IN);
    let policy = policy_of(name, qtype);
    let local = Some(name)
        .filter(|_| policy == Policy::Forward)
        .and_then(|name| {
            state
                .shared
                .local()
                .explain(name, qtype, generation.yields(asked, name, qtype))
        })
        .map(|(by, answer)| local_view(by, &answer));
    let is_forwarded = policy == Policy::Forward && local.is_none();
    let (plan, skipped) = if is_forwarded {
        make_plan(&generation, routes, &ask, now)
    } else {
        (Plan::default(), Vec::new())
    };
    let name_of = |id: ProviderId| {
        routes
            .topology
            .provider(id)
            .map_or_else(String::new, |p| p.name.clone())
    };
    let steps = plan.steps.iter().map(|step| StepView {
        endpoint: routes
            .topology
            .endpoint(step.endpoint)
            .map_or_else(String::new, |endpoint| endpoint.label.clone()),
        provider: name_of(step.provider),
        chosen: words::chosen(step.chosen).to_owned(),
    });
    let skipped = skipped.into_iter().map(|(provider, why)| SkippedView {
        provider: name_of(provider),
        reason: words::skipped(why).to_owned(),
    });
    Explanation {
        name: ask.name.to_string(),
        qtype: words::type_text(qtype),
        policy: local
            .as_ref()
            .map_or_else(|| words::policy(policy), |_| "local")
            .to_owned(),
        local,
        group: routes.topology.group_name(asked.group.id).to_owned(),
        route: asked.zone(name).map(|zone| zone.to_string()),
        cache: cache_view(state, &ask, now),
        plan: PlanView {
            pair: plan.pair,
            cap_ignored: plan.cap_ignored,
            steps: steps.collect(),
        },
        skipped: skipped.collect(),
        claims: if is_forwarded && asked.group.id.is_public() {
            claims(routes, now)
        } else {
            Vec::new()
        },
        budget_tokens: generation.usage.lock().budget.tokens(),
        nothing_up: routes.nothing_up,
        note: NOTE.to_owned(),
    }
}

/// Of which endpoints peers say that they are down.
fn claims(routes: &Routes, now: Time) -> Vec<EndpointClaim> {
    let endpoints = routes.topology.endpoint_ids().zip(&routes.topology.endpoints);
    let claimed = endpoints.filter_map(|(id, endpoint)| {
        let (route, said) = (routes.endpoint(id)?, routes.said(id));
        said.claim?;
        let provider = routes.topology.provider(endpoint.provider);
        Some(EndpointClaim {
            endpoint: endpoint.label.clone(),
            provider: provider.map_or_else(String::new, |provider| provider.name.clone()),
            place: route.place().word().to_owned(),
            place_why: route.why.word().to_owned(),
            said: SaidView::of(&said, now),
        })
    });
    claimed.collect()
}

/// Who answers a local name, and how.
fn local_view(by: By<'_>, answer: &Answer) -> LocalView {
    let view = LocalView {
        rcode: words::rcode_text(answer.rcode()),
        answer: words::kind(answer.kind()).to_owned(),
        ..LocalView::default()
    };
    match by {
        By::Zone(zone) => LocalView {
            by: "zone".to_owned(),
            zone: Some(format!("{}.", zone.name)),
            basis: Some(zone.basis().to_owned()),
            ..view
        },
        By::Hosts(path) => LocalView {
            by: "hosts".to_owned(),
            path: Some(path.display().to_string()),
            ..view
        },
    }
}

/// What the rules make of the question, by way of the very bytes a client would send.
fn policy_of(name: &NameBuf, qtype: u16) -> Policy {
    let mut message = Vec::new();
    let query = QueryOut {
        id: 0,
        name,
        qtype,
        qclass: class::IN,
        ad: false,
        cd: false,
        case_bits: None,
        edns: None,
    };
    build_query(&mut message, &query);
    match parse(&message) {
        Parsed::Query(query) => policy(&query, Via::Udp),
        Parsed::Silence | Parsed::Reject(_) => Policy::Refuse,
    }
}

/// The plan of a question that does not explore, and why the other providers are not first.
fn make_plan(generation: &Generation, routes: &Routes, ask: &Ask, now: Time) -> (Plan, Vec<(ProviderId, Skipped)>) {
    let usage = generation.usage.lock().clone();
    let draw = |number: u64| {
        let mut skipped = Vec::new();
        let mut note = |provider, why| skipped.push((provider, why));
        let plan = plan(routes, &mut usage.clone(), ask.for_plan(number), now, &mut note);
        (plan, skipped)
    };
    let explores = |plan: &Plan| plan.steps.first().is_some_and(|step| step.chosen == Chosen::Explored);
    let usual = (0..DRAWS).map(draw).find(|(plan, _)| !explores(plan));
    usual.unwrap_or_else(|| draw(0))
}

/// What the cache would answer, in the order in which it is asked.
fn cache_view(state: &AdminState, ask: &Ask, now: Time) -> CacheView {
    let cache = &state.shared.cache;
    match cache.find_ask(ask, now) {
        Found::Fresh(entry) => entry_view("fresh", &entry, now),
        Found::Stale(entry) => entry_view("stale", &entry, now),
        Found::Nothing => match cache.find_failure(ask, now) {
            Some(failure) => CacheView {
                state: "failure".to_owned(),
                answer: Some(match failure {
                    Failure::Agreed(entry) => words::rcode_text(entry.answer.rcode()),
                    Failure::Unreached(why) => words::gave_up(why).to_owned(),
                }),
                ..CacheView::default()
            },
            None => CacheView {
                state: "nothing".to_owned(),
                ..CacheView::default()
            },
        },
    }
}

fn entry_view(state: &str, entry: &Entry, now: Time) -> CacheView {
    let age_s = u64::from(entry.age_s(now));
    let ttl_s = u64::from(entry.answer.ttl_s().unwrap_or(0));
    let is_fresh = state == "fresh";
    CacheView {
        state: state.to_owned(),
        answer: Some(words::kind(entry.answer.kind()).to_owned()),
        age_s: Some(age_s),
        ttl_left_s: is_fresh.then_some(ttl_s.saturating_sub(age_s)),
        expired_s: (!is_fresh).then_some(age_s.saturating_sub(ttl_s)),
    }
}
