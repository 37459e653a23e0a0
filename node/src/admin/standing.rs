//! The whole node in one sentence, what is wrong first: the line somebody reads at three in the morning.
//!
//! A provider *answers* when one of its endpoints does; one that was not heard of yet is neither well nor in trouble.
//! Trouble of this machine's own (a path on which nobody answers, a family without a route) goes before trouble of
//! providers, because it explains it.

use std::collections::BTreeSet;
use std::fmt;

use detour_core::health::state::State;
use detour_core::outcome::Cause;
use detour_core::routes::{EndpointRoute, PlaceWhy, Routes};
use detour_core::verdict::Attribution;
use detour_core::{Encryption, Endpoint, EndpointId, GroupId, OperatorId, Path, Provider, Time};
use detour_mesh::name_of;
use detour_resolver::generation::Generation;

use super::claims::short;
use super::configuration::Told;
use super::words::age_text;
use crate::clock::wall_s;
use crate::clock_wrong;

/// Troubles named; the rest is counted.
const NAMED: usize = 3;

/// What the standing of providers is read from.
#[derive(Clone, Copy)]
pub(crate) struct View<'v> {
    /// The current table.
    pub(crate) routes: &'v Routes,
    /// What time it is, by a clock that may be wrong; seconds since 1970.
    pub(crate) wall_s: u64,
    /// Whether anything has come from an endpoint.
    pub(crate) has_heard: &'v dyn Fn(EndpointId) -> bool,
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("routes", self.routes)
            .finish_non_exhaustive()
    }
}

impl View<'_> {
    /// Looks at a generation, and hands the view to `look`.
    pub(crate) fn of<T>(generation: &Generation, look: impl FnOnce(View<'_>) -> T) -> T {
        look(View {
            routes: &generation.routes(),
            wall_s: wall_s(),
            has_heard: &|endpoint| generation.has_heard(endpoint),
        })
    }
}

/// How a provider stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// An endpoint answers.
    Answering,
    /// Nothing has come from it, and nothing speaks against it.
    Untried,
    /// It has answered, but with nothing that shows whether it can be used: its own choice, or an error that everybody
    /// gives.
    Neutral,
    /// The endpoint it would be asked at is suspect or down.
    Troubled(EndpointId, EndpointRoute),
    /// An endpoint of it wants to be left alone, and no other one answers.
    Paused(EndpointId, EndpointRoute),
    /// All that could be asked would be in the clear, and that may not be now.
    Reserved,
    /// No endpoint of it has an address; the first of those with a host name.
    Unresolved(EndpointId),
    /// The network here has no route to any of its endpoints.
    Unroutable,
}

/// The routes of a provider's endpoints.
fn endpoints<'r>(routes: &'r Routes, provider: &'r Provider) -> impl Iterator<Item = &'r EndpointRoute> {
    provider.endpoints.iter().filter_map(|id| routes.endpoint(*id))
}

/// Whether an endpoint answers.
fn is_answering(route: &EndpointRoute) -> bool {
    match route.state {
        State::Up | State::Probation => route.why.has_way() && route.why != PlaceWhy::Throttled,
        State::Unknown | State::Suspect | State::Down => false,
    }
}

/// Endpoints of a provider that answer.
#[must_use]
pub(super) fn answering_endpoints(routes: &Routes, provider: &Provider) -> usize {
    endpoints(routes, provider).filter(|route| is_answering(route)).count()
}

/// How a provider stands.
#[must_use]
pub(crate) fn standing(view: View<'_>, provider: &Provider) -> Standing {
    let routes = view.routes;
    if answering_endpoints(routes, provider) > 0 {
        return Standing::Answering;
    }
    let mut all = provider
        .endpoints
        .iter()
        .filter_map(|id| Some((*id, routes.endpoint(*id)?)));
    if let Some((id, route)) = all.find(|(_, route)| route.why == PlaceWhy::Throttled) {
        return Standing::Paused(id, *route);
    }
    let routable = || {
        let ids = provider.endpoints.iter();
        let all = ids.filter_map(|id| Some((*id, routes.endpoint(*id)?)));
        all.filter(|(_, route)| route.why.may_be_asked())
    };
    if routable().any(|(_, route)| route.state == State::Unknown) {
        let has_answered = provider.endpoints.iter().any(|id| (view.has_heard)(*id));
        return if has_answered {
            Standing::Neutral
        } else {
            Standing::Untried
        };
    }
    routable().min_by_key(|(_, route)| route.why.settled()).map_or_else(
        || unasked(routes, provider),
        |(id, route)| Standing::Troubled(id, *route),
    )
}

/// How a provider stands that may be asked at no endpoint.
fn unasked(routes: &Routes, provider: &Provider) -> Standing {
    let first = |why: PlaceWhy| {
        let mut ids = provider.endpoints.iter().copied();
        ids.find(|id| routes.endpoint(*id).is_some_and(|route| route.why == why))
    };
    if first(PlaceWhy::Cleartext).is_some() {
        Standing::Reserved
    } else {
        first(PlaceWhy::Unresolved).map_or(Standing::Unroutable, Standing::Unresolved)
    }
}

/// Providers of the public group.
fn public(routes: &Routes) -> impl Iterator<Item = &Provider> {
    routes.topology.members(GroupId::PUBLIC).map(|(_, provider)| provider)
}

/// Providers of the public group that answer.
#[must_use]
pub(crate) fn answering_providers(view: View<'_>) -> usize {
    count(view, Standing::Answering)
}

/// Providers of the public group that stand so.
pub(crate) fn count(view: View<'_>, wanted: Standing) -> usize {
    public(view.routes)
        .filter(|provider| standing(view, provider) == wanted)
        .count()
}

/// The endpoint a provider answers at: the one in use, or else the first in listed order.
#[must_use]
pub(crate) fn answering_endpoint(routes: &Routes, provider: &Provider) -> Option<EndpointId> {
    let answers = |id: &EndpointId| routes.endpoint(*id).is_some_and(is_answering);
    let choices = routes.all().flat_map(|table| &table.choices);
    let in_use = choices.map(|choice| choice.endpoint);
    let in_use = in_use.filter(|id| provider.endpoints.contains(id)).find(answers);
    in_use.or_else(|| provider.endpoints.iter().copied().find(answers))
}

/// The sentence: providers first, because without them the rest does not matter; then the configuration.
#[must_use]
pub(super) fn summary(view: View<'_>, configuration: &Told, mesh: Vec<String>, now: Time) -> String {
    let mut parts = Vec::new();
    let troubles = troubles(view, now);
    if view.routes.nothing_up {
        parts.push(nothing_answers(view, now));
    } else if !troubles.is_empty() {
        parts.push(enumerate(&troubles));
    }
    parts.extend(configuration.troubles(now));
    parts.extend(mesh);
    if !view.routes.nothing_up {
        parts.push(answers(view));
    }
    parts.join("; ")
}

/// That nothing answers, and why.
#[must_use]
pub(crate) fn nothing_answers(view: View<'_>, now: Time) -> String {
    let troubles = troubles(view, now);
    if is_offline(view.routes) || troubles.is_empty() {
        "nothing answers: this machine seems offline".to_owned()
    } else {
        format!("nothing answers: {}", enumerate(&troubles))
    }
}

/// What is wrong with providers and the way to them, the first few; `None` if nothing is.
#[must_use]
pub(crate) fn trouble_text(view: View<'_>, now: Time) -> Option<String> {
    let troubles = troubles(view, now);
    (!troubles.is_empty()).then(|| enumerate(&troubles))
}

/// Whether the way out is gone, rather than those at its end. One silent provider proves nothing about the way.
pub(crate) fn is_offline(routes: &Routes) -> bool {
    let looks_like_path = |(route, endpoint): (&EndpointRoute, &Endpoint)| {
        let is_path = route.cause.is_path() || routes.uplink_suspect.contains(&endpoint.path());
        // Who wants to be left alone has said so.
        route.why != PlaceWhy::Throttled && (is_path || route.why == PlaceWhy::NoRoute)
    };
    let is_public = |endpoint: &Endpoint| routes.topology.is_member(GroupId::PUBLIC, endpoint.provider);
    let endpoints = routes.endpoints.iter().zip(&routes.topology.endpoints);
    // What was not tried for another reason shows nothing of the way.
    let is_tried = |route: &EndpointRoute| !matches!(route.why, PlaceWhy::Cleartext | PlaceWhy::Unresolved);
    let endpoints = endpoints.filter(|(route, endpoint)| is_public(endpoint) && is_tried(route));
    let looks: Vec<bool> = endpoints.map(looks_like_path).collect();
    public(routes).count() > 1 && !looks.is_empty() && looks.into_iter().all(|looks| looks)
}

/// The host of an endpoint, which its label names.
fn host_of(endpoint: &Endpoint) -> Option<&str> {
    let (_scheme, rest) = endpoint.label.split_once("://")?;
    rest.split([':', '/', '#', '@']).next().filter(|host| !host.is_empty())
}

/// Encrypted endpoints of the public group that can be reached, and what they answer with.
fn reached_encrypted(routes: &Routes) -> impl Iterator<Item = (&Provider, Cause)> {
    let endpoints = routes.endpoints.iter().zip(&routes.topology.endpoints);
    endpoints.filter_map(|(route, endpoint)| {
        let is_reached = !route.cause.is_path() && route.why.may_be_asked();
        let is_public = routes.topology.is_member(GroupId::PUBLIC, endpoint.provider);
        let provider = routes.topology.provider(endpoint.provider)?;
        (is_reached && is_public && endpoint.transport.is_encrypted()).then_some((provider, route.cause))
    })
}

/// Whether some encrypted endpoint shows a certificate or key that is not the expected one.
#[must_use]
pub(crate) fn is_untrusted(routes: &Routes) -> bool {
    reached_encrypted(routes).any(|(_, cause)| matches!(cause, Cause::TlsUntrusted | Cause::TlsPin))
}

/// Why queries travel in the clear. One operator's certificate may be this configuration's mistake; that of two or more,
/// while none is trusted, is somebody's on the way.
fn why_in_the_clear(routes: &Routes) -> String {
    let of = |wanted: Cause| move |(_, cause): &(&Provider, Cause)| *cause == wanted;
    let untrusted = || reached_encrypted(routes).filter(of(Cause::TlsUntrusted));
    let operators: BTreeSet<OperatorId> = untrusted().map(|(provider, _)| provider.operator).collect();
    let is_none_trusted =
        reached_encrypted(routes).all(|(_, cause)| matches!(cause, Cause::TlsUntrusted | Cause::TlsPin | Cause::Tls));
    if operators.len() > 1 && is_none_trusted {
        return ": no certificate is trusted, so something on the way answers in the providers' place, unless \
                trust = [...] lacks their root"
            .to_owned();
    }
    let mut text = ", because nothing encrypted answers".to_owned();
    if let Some((provider, _)) = untrusted().next() {
        let name = &provider.name;
        text.push_str(&format!(
            " (the certificate of {name} is not trusted: is trust = [...] complete?)"
        ));
    } else if let Some((provider, _)) = reached_encrypted(routes).find(of(Cause::TlsPin)) {
        text.push_str(&format!(" (the key of {} is none of its pins)", provider.name));
    }
    text
}

/// All that is wrong, worst first.
fn troubles(view: View<'_>, now: Time) -> Vec<String> {
    let routes = view.routes;
    let clock_wrong = routes.clock_wrong.as_ref();
    let mut paths: Vec<String> = clock_wrong
        .map(|wrong| clock_wrong::text(wrong, view.wall_s))
        .into_iter()
        .collect();
    let is_explained = |cause| clock_wrong.is_some() && is_of_clock(cause);
    let endpoints = || routes.endpoints.iter().zip(&routes.topology.endpoints);
    // A path that nobody may be asked on is nobody's trouble.
    let in_use = |path: &&Path| endpoints().any(|(route, own)| own.path() == **path && route.why.may_be_asked());
    for path in routes.uplink_suspect.iter().filter(in_use) {
        paths.push(format!("nobody answers over {path}, so the way there is broken"));
    }
    if routes.in_the_clear {
        paths.push(format!("queries travel in the clear{}", why_in_the_clear(routes)));
    }
    let loud = |table: &&std::sync::Arc<Routes>| {
        let group = routes.topology.routed(table.group);
        group.is_some_and(|group| !group.is_quiet)
    };
    for table in routes.routed.iter().filter(loud) {
        let group = routes.topology.group_name(table.group);
        if table.nothing_up {
            paths.push(format!("nothing answers for the names of {group}"));
        }
        if table.in_the_clear {
            paths.push(format!(
                "queries to {group} travel in the clear, because nothing encrypted answers"
            ));
        }
    }
    let (mut down, mut suspect, mut single) = (Vec::new(), Vec::new(), Vec::new());
    let providers = routes.topology.provider_ids().zip(&routes.topology.providers);
    for (_, provider) in providers.filter(|(id, _)| !routes.topology.is_quiet(*id)) {
        suspect.extend(hearsay(routes, provider));
        match standing(view, provider) {
            Standing::Untried | Standing::Neutral => {}
            Standing::Reserved if routes.settings.encryption != Encryption::Require => {}
            Standing::Reserved => down.push(format!(
                "{} is not asked (nothing encrypted is known of it, and select.encryption = \"require\")",
                provider.name
            )),
            Standing::Unresolved(id) => {
                let host = routes
                    .topology
                    .endpoint(id)
                    .and_then(host_of)
                    .unwrap_or("its host name");
                down.push(format!("{} has no address: {host} is not resolved", provider.name));
            }
            Standing::Unroutable => down.push(format!("{} cannot be reached (no-route)", provider.name)),
            Standing::Paused(_, route) => suspect.push(format!("{} {}", provider.name, wish(&route, now))),
            Standing::Troubled(_, route) if is_explained(route.cause) => {}
            Standing::Troubled(id, route) => {
                let list = if route.state == State::Down {
                    &mut down
                } else {
                    &mut suspect
                };
                list.push(format!("{} is {}", provider.name, since(routes, id, &route, now)));
            }
            Standing::Answering => single.extend(endpoint_troubles(routes, provider, &is_explained, now)),
        }
    }
    [paths, down, suspect, single].concat()
}

/// Endpoints in trouble of a provider that answers at another one. What lies on a broken path is told once, as path.
fn endpoint_troubles(
    routes: &Routes,
    provider: &Provider,
    is_explained: &dyn Fn(Cause) -> bool,
    now: Time,
) -> Vec<String> {
    let broken = provider.endpoints.iter().filter_map(|id| {
        let (route, endpoint) = (routes.endpoint(*id)?, routes.topology.endpoint(*id)?);
        if route.why == PlaceWhy::Throttled {
            return Some(format!("{} of {} {}", endpoint.label, provider.name, wish(route, now)));
        }
        let is_own = match route.state {
            State::Suspect | State::Down => {
                !is_explained(route.cause) && route.why.has_way() && !routes.uplink_suspect.contains(&endpoint.path())
            }
            State::Unknown | State::Up | State::Probation => false,
        };
        is_own.then(|| {
            format!(
                "{} of {} is {}",
                endpoint.label,
                provider.name,
                since(routes, *id, route, now)
            )
        })
    });
    broken.collect()
}

/// Whether a wrong clock explains this.
fn is_of_clock(cause: Cause) -> bool {
    matches!(cause, Cause::TlsExpired | Cause::TlsNotYetValid)
}

/// `wants to be left alone for 25 s more`.
fn wish(route: &EndpointRoute, now: Time) -> String {
    let left_us = route.paused_until.map_or(0, |until| until.since(now));
    format!("wants to be left alone for {} more", age_text(left_us))
}

/// That peers say of a provider what this node has not found itself, once.
fn hearsay(routes: &Routes, provider: &Provider) -> Option<String> {
    let is_reported = |id: &&EndpointId| {
        routes
            .endpoint(**id)
            .is_some_and(|route| route.why == PlaceWhy::Reported)
    };
    let claim = routes.said(*provider.endpoints.iter().find(is_reported)?).claim?;
    let (name, by) = (&provider.name, short(&name_of(claim.by)));
    Some(format!(
        "{name} is last, because peer {by} reports it down ({})",
        claim.cause
    ))
}

/// `down (timeout, their outage) since 12 s`.
fn since(routes: &Routes, id: EndpointId, route: &EndpointRoute, now: Time) -> String {
    let age = age_text(now.since(route.since));
    let attribution = routes.said(id).attribution;
    let whose = match attribution {
        Attribution::TheirOutage | Attribution::MyPath => format!(", {}", attribution.text()),
        Attribution::None | Attribution::OtherPath | Attribution::Mixed => String::new(),
        Attribution::OneSite | Attribution::NoReports => String::new(),
    };
    format!("{} ({}{whose}) since {age}", route.state, route.cause)
}

/// `2 of 3 providers answer`.
#[must_use]
pub(crate) fn answer_of(answering: usize, total: usize) -> String {
    if total == 1 {
        let verb = if answering == 1 { "answers" } else { "answer" };
        format!("{answering} of 1 provider {verb}")
    } else {
        format!("{answering} of {total} providers answer")
    }
}

/// How many answer.
#[must_use]
pub(crate) fn answers(view: View<'_>) -> String {
    let total = public(view.routes).count();
    let answering = answering_providers(view);
    let (untried, neutral) = (count(view, Standing::Untried), count(view, Standing::Neutral));
    let reserved = count(view, Standing::Reserved);
    if untried > 0 && untried.saturating_add(reserved) == total {
        return "no provider has answered yet".to_owned();
    }
    let mut text = match (answering == total, total) {
        (true, 1) => "the one provider answers".to_owned(),
        (true, _) => format!("all {total} providers answer"),
        (false, _) => answer_of(answering, total),
    };
    if reserved > 0 {
        text.push_str(&format!(", {reserved} in reserve"));
    }
    if neutral > 0 {
        text.push_str(&format!(", {neutral} with nothing usable yet"));
    }
    if untried > 0 {
        text.push_str(&format!(", {untried} not heard of yet"));
    }
    text
}

/// The first few, and how many more there are.
#[must_use]
pub(crate) fn enumerate(troubles: &[String]) -> String {
    let named: Vec<&str> = troubles.iter().take(NAMED).map(String::as_str).collect();
    let mut text = named.join(", ");
    let more = troubles.len().saturating_sub(NAMED);
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
