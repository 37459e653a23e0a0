//! From what was seen to findings: what concerns all first, then each provider.

use super::finding::{Finding, Kind};
use super::network::common;
use super::seen::{
    EdnsSeen, End, EndpointSeen, Examination, Hickory, NameAnswer, NameSeen, NotAsked, ProviderSeen, Purpose,
    Signatures, Traits,
};
use crate::control::CertificateTime;
use crate::outcome::{Failure, Reply};
use crate::time::MS;
use crate::topology::Transport;

/// An answer that takes longer is worth a word: a query that is hedged has another one by then.
const SLOW_US: u64 = 500 * MS;
/// A certificate with less of its lifetime left than one part in so many should have been renewed: who renews
/// automatically does so with a third of it left.
const LIFETIME_PARTS: u64 = 10;
/// However long it lives, its end is not near before this, seconds.
const NEAR_S: u64 = 14 * 86_400;
/// What a provider that filters nothing is said to filter.
const NO_FILTER: &str = "none";

/// What is to be said of an examination, the worst first.
#[must_use]
pub fn findings(seen: &Examination) -> Vec<Finding> {
    let mut found = Vec::new();
    let explained = common(seen, &mut found);
    for provider in &seen.providers {
        let mut of_provider = Vec::new();
        for endpoint in &provider.endpoints {
            let kinds = if endpoint.is_listed {
                listed(endpoint, provider, seen)
            } else {
                unlisted(endpoint)
            };
            let told = kinds.into_iter().filter(|kind| !explained.covers(kind, endpoint));
            for kind in told {
                add(&mut of_provider, kind, endpoint);
            }
        }
        found.extend(of_provider.into_iter().map(|(kind, endpoints)| Finding {
            kind,
            provider: Some(provider.name.clone()),
            over: over(&endpoints, provider),
            endpoints: endpoints.iter().map(|endpoint| endpoint.label.clone()).collect(),
        }));
    }
    // Stable: what is equally bad stays in the order of the configuration.
    found.sort_by_key(Finding::severity);
    found
}

/// The same of one provider's endpoints is one finding: the same sentence, that is.
fn add<'e>(found: &mut Vec<(Kind, Vec<&'e EndpointSeen>)>, kind: Kind, endpoint: &'e EndpointSeen) {
    let text = kind.to_string();
    match found.iter_mut().find(|(own, _)| own.to_string() == text) {
        Some((_, endpoints)) => endpoints.push(endpoint),
        None => found.push((kind, vec![endpoint])),
    }
}

/// Endpoints in a sentence: transports where they say which are meant, else labels.
fn over(endpoints: &[&EndpointSeen], provider: &ProviderSeen) -> String {
    let of = |endpoint: &EndpointSeen| endpoint.transport;
    let mut words: Vec<&'static str> = Vec::new();
    let mut is_plain = true;
    for endpoint in endpoints {
        let word = of(endpoint).word();
        if !words.contains(&word) {
            words.push(word);
            let all = provider
                .endpoints
                .iter()
                .filter(|other| of(other) == of(endpoint))
                .count();
            let own = endpoints.iter().filter(|other| of(other) == of(endpoint)).count();
            is_plain &= all == own;
        }
    }
    if is_plain {
        words.join(", ")
    } else {
        let labels: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.label.as_str()).collect();
        labels.join(", ")
    }
}

/// What is to be said of a transport that the configuration does not have.
fn unlisted(endpoint: &EndpointSeen) -> Vec<Kind> {
    match endpoint.ours.end {
        End::Answered(reply) if reply.is_good() => vec![Kind::AlsoSpeaks],
        End::Answered(_) | End::NotAsked(_) | End::Failed(_) | End::Silent | End::Mismatch => Vec::new(),
    }
}

/// What is to be said of one endpoint of the configuration.
fn listed(endpoint: &EndpointSeen, provider: &ProviderSeen, seen: &Examination) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let ours = &endpoint.ours;
    match ours.end {
        End::NotAsked(NotAsked::NoAddress) => kinds.push(Kind::Unresolved),
        End::NotAsked(why) => kinds.push(Kind::NotAsked { why: why.words() }),
        End::Failed(failure) => kinds.push(of_failure(failure, endpoint)),
        End::Silent => kinds.push(Kind::Silent),
        End::Mismatch => kinds.push(Kind::Mismatch),
        End::Answered(reply) => kinds.extend(of_reply(reply, provider, seen)),
    }
    kinds.extend(ends_soon(endpoint));
    if let Some(traits) = &ours.traits {
        of_traits(traits, endpoint, &mut kinds);
        of_names(&traits.names, provider, seen, &mut kinds);
        if provider.validates && traits.signatures == Some(Signatures::Passed { is_authentic: false }) {
            kinds.push(Kind::NotValidating);
        }
    }
    if ours.answer_us.is_some_and(|answer_us| answer_us > SLOW_US) {
        kinds.push(Kind::Slow { above_us: SLOW_US });
    }
    match (&endpoint.hickory, ours.end) {
        (Hickory::Failed(reason), End::Answered(_)) => kinds.push(Kind::OnlyDetour { reason: reason.clone() }),
        (Hickory::Answered { .. }, End::Failed(_) | End::Silent | End::Mismatch) => kinds.push(Kind::OnlyHickory),
        (Hickory::Answered { .. } | Hickory::NotAsked(_) | Hickory::Failed(_), _) => {}
    }
    kinds
}

/// What a failure comes to, with what the certificate said.
fn of_failure(failure: Failure, endpoint: &EndpointSeen) -> Kind {
    match failure {
        Failure::TlsExpired => Kind::Expired {
            ago_s: match endpoint.ours.certificate_time {
                Some(CertificateTime::ExpiredFor { seconds }) => Some(seconds),
                Some(CertificateTime::ValidIn { .. }) | None => None,
            },
        },
        Failure::TlsWrongName => {
            let tls = endpoint.ours.tls.as_ref();
            let certificate = tls.and_then(|tls| tls.certificate.as_ref());
            Kind::WrongName {
                names: certificate.map_or_else(Vec::new, |certificate| certificate.names.clone()),
            }
        }
        Failure::Reset
        | Failure::Unreachable
        | Failure::NoRoute
        | Failure::ConnectTimeout
        | Failure::Garbage
        | Failure::TlsNotYetValid
        | Failure::TlsUntrusted
        | Failure::TlsPin
        | Failure::TlsStalled
        | Failure::Tls
        | Failure::Http
        | Failure::Throttled { .. }
        | Failure::Local => Kind::Failed(failure),
    }
}

/// What an answer to the first question comes to.
fn of_reply(reply: Reply, provider: &ProviderSeen, seen: &Examination) -> Option<Kind> {
    match reply {
        Reply::Positive => None,
        Reply::Denial { .. } => {
            let is_known = seen.is_known || is_answered_by_others(provider, seen);
            // Who serves a route's names need not know others.
            (is_known && provider.is_public).then(|| Kind::Denies {
                name: seen.name.clone(),
            })
        }
        Reply::Filtered => (provider.filter == NO_FILTER).then(|| Kind::Filters {
            names: vec![seen.name.clone()],
            said: provider.filter.clone(),
        }),
        Reply::Bogus => Some(Kind::Bogus),
        Reply::NoEdns => Some(Kind::NoEdns),
        Reply::Failed(rcode) => Some(Kind::Fails(rcode)),
        Reply::Truncated => Some(Kind::Truncates),
        Reply::Forgeable => Some(Kind::Mismatch),
    }
}

/// Whether another operator has records for the name.
fn is_answered_by_others(provider: &ProviderSeen, seen: &Examination) -> bool {
    let others = seen
        .providers
        .iter()
        .filter(|other| other.operator != provider.operator);
    let mut endpoints = others.flat_map(|other| &other.endpoints);
    endpoints.any(|endpoint| endpoint.ours.end == End::Answered(Reply::Positive))
}

/// Whether a certificate that is right now will not be for long.
fn ends_soon(endpoint: &EndpointSeen) -> Option<Kind> {
    let certificate = endpoint.ours.tls.as_ref()?.certificate.as_ref()?;
    let in_s = u64::try_from(certificate.ends_in_s).ok()?;
    let is_near = in_s < NEAR_S.min(certificate.lifetime_s / LIFETIME_PARTS);
    (is_near && endpoint.ours.is_answered()).then_some(Kind::EndsSoon { in_s })
}

/// What an endpoint does beyond answering.
fn of_traits(traits: &Traits, endpoint: &EndpointSeen, kinds: &mut Vec<Kind>) {
    match traits.edns {
        EdnsSeen::Spoken => {}
        EdnsSeen::Ignored | EdnsSeen::Refused => kinds.push(Kind::NoEdns),
        EdnsSeen::Swallowed => kinds.push(Kind::EdnsSwallowed),
    }
    // Nobody off the path can forge what comes over a connection.
    if traits.keeps_case == Some(false) && endpoint.transport == Transport::Udp {
        kinds.push(Kind::CaseLost);
    }
    let has_edns = traits.edns == EdnsSeen::Spoken;
    if traits.pads == Some(false) && has_edns {
        kinds.push(Kind::NotPadded);
    }
    // Without EDNS they cannot be asked for.
    if traits.signatures == Some(Signatures::Stripped) && has_edns {
        kinds.push(Kind::SignaturesStripped);
    }
}

/// What it says of names that others may not be told of, or that there are not.
fn of_names(names: &[NameSeen], provider: &ProviderSeen, seen: &Examination, kinds: &mut Vec<Kind>) {
    let of = |purpose| names.iter().filter(move |name| name.purpose == purpose);
    let kept: Vec<String> = of(Purpose::Filtered)
        .filter(|name| match name.answer {
            NameAnswer::Kept | NameAnswer::Nowhere => true,
            NameAnswer::Denied => is_known_to_others(&name.name, provider, seen),
            NameAnswer::Address | NameAnswer::Unanswered => false,
        })
        .map(|name| name.name.clone())
        .collect();
    if !kept.is_empty() && provider.filter == NO_FILTER {
        let said = provider.filter.clone();
        kinds.push(Kind::Filters { names: kept, said });
    }
    kinds.extend(redirected(names).map(|name| Kind::Redirects {
        name: name.name.clone(),
    }));
}

/// Whether another operator has an address for this name; one that has one for everything is no witness.
fn is_known_to_others(name: &str, provider: &ProviderSeen, seen: &Examination) -> bool {
    let others = seen
        .providers
        .iter()
        .filter(|other| other.operator != provider.operator);
    let endpoints = others.flat_map(|other| &other.endpoints);
    let mut traits = endpoints.filter_map(|endpoint| endpoint.ours.traits.as_ref());
    traits.any(|traits| {
        let mut names = traits.names.iter();
        let has_address = names.any(|own| own.name == name && own.answer == NameAnswer::Address);
        has_address && redirected(&traits.names).is_none()
    })
}

/// A name that does not exist and has an address here.
fn redirected(names: &[NameSeen]) -> Option<&NameSeen> {
    let leads = |answer| matches!(answer, NameAnswer::Address | NameAnswer::Nowhere);
    let mut names = names.iter();
    names.find(|name| name.purpose == Purpose::Absent && leads(name.answer))
}
