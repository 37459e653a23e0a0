//! The whole node in one sentence, what is wrong first: the line somebody reads at three in the morning.
//!
//! A provider *answers* when one of its endpoints does; one that nobody has asked yet is neither well nor in trouble.
//! Trouble of this machine's own (a path on which nobody answers, a family without a route) goes before trouble of
//! providers, because it explains it.

use detour_core::health::state::State;
use detour_core::routes::{EndpointRoute, PlaceWhy, Routes};
use detour_core::time::SEC;
use detour_core::{Provider, Time};

/// Troubles named; the rest is counted.
const NAMED: usize = 3;

/// How a provider stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// An endpoint answers.
    Answering,
    /// Nothing is known.
    Untried,
    /// The endpoint it would be asked at is suspect or down.
    Troubled(EndpointRoute),
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
        State::Up | State::Probation => route.why != PlaceWhy::NoRoute,
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
pub(super) fn standing(routes: &Routes, provider: &Provider) -> Standing {
    if answering_endpoints(routes, provider) > 0 {
        return Standing::Answering;
    }
    let routable = || endpoints(routes, provider).filter(|route| route.why != PlaceWhy::NoRoute);
    if routable().any(|route| route.state == State::Unknown) {
        return Standing::Untried;
    }
    routable()
        .min_by_key(|route| route.why.settled())
        .map_or(Standing::Unroutable, |route| Standing::Troubled(*route))
}

/// Providers that answer.
#[must_use]
pub(super) fn answering_providers(routes: &Routes) -> usize {
    let providers = routes.topology.providers.iter();
    providers
        .filter(|provider| standing(routes, provider) == Standing::Answering)
        .count()
}

/// The sentence.
#[must_use]
pub(super) fn summary(routes: &Routes, now: Time) -> String {
    let troubles = troubles(routes, now);
    if routes.nothing_up {
        return if is_offline(routes) {
            "nothing answers: this machine seems offline".to_owned()
        } else {
            format!("nothing answers: {}", enumerate(&troubles))
        };
    }
    let answers = answers(routes);
    if troubles.is_empty() {
        answers
    } else {
        format!("{}; {answers}", enumerate(&troubles))
    }
}

/// Whether the way out is gone, rather than those at its end. One silent provider proves nothing about the way.
fn is_offline(routes: &Routes) -> bool {
    let looks_like_path = |route: &EndpointRoute| route.why == PlaceWhy::NoRoute || route.cause.is_path();
    !routes.uplink_suspect.is_empty()
        || (routes.topology.providers.len() > 1 && routes.endpoints.iter().all(looks_like_path))
}

/// All that is wrong, worst first.
fn troubles(routes: &Routes, now: Time) -> Vec<String> {
    let mut paths = Vec::new();
    for path in &routes.uplink_suspect {
        paths.push(format!("nobody answers over {path}, so the way there is broken"));
    }
    let (mut down, mut suspect, mut single) = (Vec::new(), Vec::new(), Vec::new());
    for provider in &routes.topology.providers {
        match standing(routes, provider) {
            Standing::Untried => {}
            Standing::Unroutable => down.push(format!("{} cannot be reached (no-route)", provider.name)),
            Standing::Troubled(route) => {
                let list = if route.state == State::Down {
                    &mut down
                } else {
                    &mut suspect
                };
                list.push(format!("{} is {}", provider.name, since(&route, now)));
            }
            Standing::Answering => single.extend(endpoint_troubles(routes, provider, now)),
        }
    }
    [paths, down, suspect, single].concat()
}

/// Endpoints in trouble of a provider that answers at another one. What lies on a broken path is told once, as path.
fn endpoint_troubles(routes: &Routes, provider: &Provider, now: Time) -> Vec<String> {
    let broken = provider.endpoints.iter().filter_map(|id| {
        let (route, endpoint) = (routes.endpoint(*id)?, routes.topology.endpoint(*id)?);
        let is_own = match route.state {
            State::Suspect | State::Down => {
                route.why != PlaceWhy::NoRoute && !routes.uplink_suspect.contains(&endpoint.path())
            }
            State::Unknown | State::Up | State::Probation => false,
        };
        is_own.then(|| format!("{} of {} is {}", endpoint.label, provider.name, since(route, now)))
    });
    broken.collect()
}

/// `down (timeout) since 12 s`.
fn since(route: &EndpointRoute, now: Time) -> String {
    let age = age_text(now.since(route.since));
    format!("{} ({}) since {age}", route.state, route.cause)
}

/// How many answer.
fn answers(routes: &Routes) -> String {
    let total = routes.topology.providers.len();
    let of = |wanted: Standing| {
        let providers = routes.topology.providers.iter();
        providers
            .filter(|provider| standing(routes, provider) == wanted)
            .count()
    };
    let (answering, untried) = (of(Standing::Answering), of(Standing::Untried));
    if untried == total {
        return "no provider was asked yet".to_owned();
    }
    let mut text = match (answering == total, total) {
        (true, 1) => "the one provider answers".to_owned(),
        (true, _) => format!("all {total} providers answer"),
        (false, _) => format!("{answering} of {total} providers answer"),
    };
    if untried > 0 {
        text.push_str(&format!(", {untried} not asked yet"));
    }
    text
}

/// The first few, and how many more there are.
fn enumerate(troubles: &[String]) -> String {
    let named: Vec<&str> = troubles.iter().take(NAMED).map(String::as_str).collect();
    let mut text = named.join(", ");
    let more = troubles.len().saturating_sub(NAMED);
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Microseconds in the largest unit that is not a fraction.
fn age_text(us: u64) -> String {
    match us / SEC {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}
