//! From what was seen to findings: what concerns this machine first, then the network, then each provider.

use super::finding::{Finding, Kind};
use super::seen::{
    EdnsSeen, End, EndpointSeen, Examination, Hickory, NameAnswer, NameSeen, ProviderSeen, Purpose, Signatures, Traits,
};
use crate::control::clock::ClockWatch;
use crate::control::{CertificateTime, ClockWrong};
use crate::outcome::{Failure, Reply};
use crate::time::{MS, Time};
use crate::topology::{Family, Path, Transport, TransportClass};

/// An answer that takes longer is worth a word: a query that is hedged has another one by then.
const SLOW_US: u64 = 500 * MS;
/// A certificate with less of its lifetime left than one part in so many should have been renewed: who renews
/// automatically does so with a third of it left.
const LIFETIME_PARTS: u64 = 10;
/// However long it lives, its end is not near before this, seconds.
const NEAR_S: u64 = 14 * 86_400;
/// What a provider that filters nothing is said to filter.
const NO_FILTER: &str = "none";
/// Operators that fail alike before their failure is taken for the network's.
const OPERATORS_MIN: usize = 2;

/// What is to be said of an examination, the worst first.
#[must_use]
pub fn findings(seen: &Examination) -> Vec<Finding> {
    let clock = clock(seen);
    let mut found = Vec::new();
    found.extend(clock.map(|wrong| of_all(Kind::ClockWrong(wrong))));
    let explained = network(seen, &mut found);
    for provider in &seen.providers {
        let mut of_provider = Vec::new();
        for endpoint in &provider.endpoints {
            let kinds = if endpoint.is_listed {
                listed(endpoint, provider, seen)
            } else {
                unlisted(endpoint)
            };
            let is_told_already = |kind: &Kind| {
                let by_path = explained.covers(endpoint) && is_of_the_path(kind);
                by_path || (clock.is_some() && is_of_the_clock(kind))
            };
            let told = kinds.into_iter().filter(|kind| !is_told_already(kind));
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

/// A finding that is no one provider's.
fn of_all(kind: Kind) -> Finding {
    Finding {
        kind,
        provider: None,
        endpoints: Vec::new(),
        over: String::new(),
    }
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

/// Whether this machine's clock is wrong, by the rule of a running node: operators' certificates agree against it.
fn clock(seen: &Examination) -> Option<ClockWrong> {
    let mut watch = ClockWatch::default();
    watch.note_release(seen.before_release_s);
    let at = Time::ZERO;
    let endpoints = || {
        let of = |provider: &'_ ProviderSeen| provider.operator;
        let all = seen.providers.iter();
        all.flat_map(move |provider| provider.endpoints.iter().map(move |endpoint| (of(provider), endpoint)))
    };
    for (operator, endpoint) in endpoints() {
        if let Some(certificate) = endpoint.ours.certificate_time {
            watch.note_wrong(operator, certificate, at);
        }
    }
    for (operator, endpoint) in endpoints() {
        if endpoint.transport.is_encrypted() && endpoint.ours.is_answered() {
            watch.note_right(operator, at);
        }
    }
    watch.judge()
}

/// Paths whose failures are told of once.
#[derive(Debug, Default)]
struct Explained {
    /// All of them.
    everything: bool,
    /// These.
    paths: Vec<Path>,
}

impl Explained {
    /// Whether what fails here fails for a reason that was told.
    fn covers(&self, endpoint: &EndpointSeen) -> bool {
        self.everything || self.paths.contains(&endpoint.path()) || is_without_way(endpoint)
    }
}

/// What all endpoints of the network together say.
fn network(seen: &Examination, found: &mut Vec<Finding>) -> Explained {
    let listed = || {
        let all = seen.providers.iter();
        let all = all.flat_map(|provider| provider.endpoints.iter().map(move |endpoint| (provider, endpoint)));
        all.filter(|(_, endpoint)| endpoint.is_listed && !matches!(endpoint.ours.end, End::NotAsked(_)))
    };
    let mut explained = Explained::default();
    let operators = |path: Option<Path>| {
        let mut operators = Vec::new();
        for (provider, endpoint) in listed() {
            let is_meant = path.is_none_or(|path| endpoint.path() == path) && !is_without_way(endpoint);
            if is_meant && !operators.contains(&provider.operator) {
                operators.push(provider.operator);
            }
        }
        operators.len()
    };
    for family in [Family::V4, Family::V6] {
        let without = listed().filter(|(_, endpoint)| endpoint.family == family && is_without_way(endpoint));
        let endpoints: Vec<String> = without.map(|(_, endpoint)| endpoint.label.clone()).collect();
        if !endpoints.is_empty() {
            let count = endpoints.len();
            let kind = Kind::NoRoute {
                family,
                endpoints: count,
            };
            found.push(Finding {
                endpoints,
                ..of_all(kind)
            });
        }
    }
    if listed().all(|(_, endpoint)| is_lost(endpoint)) && operators(None) >= OPERATORS_MIN {
        let providers = operators(None);
        found.push(of_all(Kind::NothingAnswers { providers }));
        explained.everything = true;
        return explained;
    }
    for class in [TransportClass::Udp, TransportClass::Stream, TransportClass::Quic] {
        for family in [Family::V4, Family::V6] {
            let path = Path { class, family };
            let on = || listed().filter(move |(_, endpoint)| endpoint.path() == path && !is_without_way(endpoint));
            let is_lost_for_all = on().all(|(_, endpoint)| is_lost(endpoint));
            let providers = operators(Some(path));
            // The same operators answer in other ways, or it is them.
            let answer_otherwise = on().all(|(provider, _)| provider.endpoints.iter().any(|e| e.ours.is_answered()));
            if is_lost_for_all && answer_otherwise && providers >= OPERATORS_MIN {
                let endpoints = on().map(|(_, endpoint)| endpoint.label.clone()).collect();
                let kind = Kind::PathBlocked { path, providers };
                found.push(Finding {
                    endpoints,
                    ..of_all(kind)
                });
                explained.paths.push(path);
            }
        }
    }
    explained
}

/// Whether this machine has no way there at all.
fn is_without_way(endpoint: &EndpointSeen) -> bool {
    endpoint.ours.end == End::Failed(Failure::NoRoute)
}

/// Whether it failed as endpoints do that cannot be reached.
fn is_lost(endpoint: &EndpointSeen) -> bool {
    match endpoint.ours.end {
        End::Silent => true,
        End::Failed(failure) => is_of_the_way(failure),
        End::NotAsked(_) | End::Mismatch | End::Answered(_) => false,
    }
}

/// Whether a failure is one of the way there.
fn is_of_the_way(failure: Failure) -> bool {
    match failure {
        Failure::Unreachable | Failure::NoRoute | Failure::ConnectTimeout | Failure::TlsStalled => true,
        Failure::Reset
        | Failure::Garbage
        | Failure::TlsExpired
        | Failure::TlsNotYetValid
        | Failure::TlsWrongName
        | Failure::TlsUntrusted
        | Failure::TlsPin
        | Failure::Tls
        | Failure::Http
        | Failure::Throttled { .. }
        | Failure::Local => false,
    }
}

/// Whether a lost path explains it.
fn is_of_the_path(kind: &Kind) -> bool {
    if let Kind::Failed(failure) = kind {
        is_of_the_way(*failure)
    } else {
        *kind == Kind::Silent
    }
}

/// Whether a wrong clock explains it.
fn is_of_the_clock(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Expired { .. } | Kind::EndsSoon { .. } | Kind::Failed(Failure::TlsExpired | Failure::TlsNotYetValid)
    )
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
