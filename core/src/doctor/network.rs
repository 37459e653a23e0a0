//! What all endpoints together say of this machine and its network, and which failures that explains.

use super::common::Common;
use super::finding::{Finding, Kind};
use super::seen::{End, EndpointSeen, Examination, ProviderSeen};
use crate::control::ClockWrong;
use crate::control::clock::ClockWatch;
use crate::outcome::{Failure, Reply};
use crate::time::Time;
use crate::topology::{Family, Path, TransportClass};

/// Operators that fail alike before their failure is taken for the network's.
const OPERATORS_MIN: usize = 2;

/// What was told already, and with that explains more than one failure.
#[derive(Debug, Default)]
pub(super) struct Explained {
    /// The clock, and with it all certificates.
    clock: bool,
    /// Nothing answers.
    everything: bool,
    /// Paths that nobody answers on.
    paths: Vec<Path>,
    /// Names of a certificate that stands for others.
    certificate: Option<Vec<String>>,
    /// That a name is denied.
    denial: bool,
}

impl Explained {
    /// Whether this of an endpoint follows from what was told.
    pub(super) fn covers(&self, kind: &Kind, endpoint: &EndpointSeen) -> bool {
        let is_lost = if let Kind::Failed(failure) = kind {
            is_of_the_way(*failure)
        } else {
            *kind == Kind::Silent
        };
        let is_of_the_clock = matches!(
            kind,
            Kind::Expired { .. } | Kind::EndsSoon { .. } | Kind::Failed(Failure::TlsExpired | Failure::TlsNotYetValid)
        );
        let is_of_the_path = self.everything || self.paths.contains(&endpoint.path()) || is_without_way(endpoint);
        let is_of_the_certificate = matches!(kind, Kind::WrongName { .. } | Kind::Failed(Failure::TlsUntrusted))
            && self.certificate.is_some()
            && names_of(endpoint) == self.certificate.as_ref();
        (is_lost && is_of_the_path)
            || (is_of_the_clock && self.clock)
            || is_of_the_certificate
            || (self.denial && matches!(kind, Kind::Denies { .. }))
    }
}

/// What is to be said of all together.
pub(super) fn common(seen: &Examination, found: &mut Vec<Finding>) -> Explained {
    let mut explained = Explained::default();
    let mut tell = |common, endpoints: Vec<&EndpointSeen>| found.push(of_all(common, &endpoints));
    if let Some(wrong) = clock(seen) {
        tell(Common::ClockWrong(wrong), Vec::new());
        explained.clock = true;
    }
    for family in [Family::V4, Family::V6] {
        let without = Some(seen).into_iter().flat_map(asked).map(|(_, endpoint)| endpoint);
        let without: Vec<_> = without
            .filter(|endpoint| endpoint.family == family && is_without_way(endpoint))
            .collect();
        if !without.is_empty() {
            let endpoints = without.len();
            tell(Common::NoRoute { family, endpoints }, without);
        }
    }
    let operators = operators_of(seen, |_| true);
    if operators >= OPERATORS_MIN && asked(seen).all(|(_, endpoint)| is_lost(endpoint)) {
        tell(Common::NothingAnswers { operators }, Vec::new());
        explained.everything = true;
        return explained;
    }
    explained.paths = lost_paths(seen);
    for family in [Family::V4, Family::V6] {
        let of_family = |endpoint: &EndpointSeen| endpoint.family == family && !is_without_way(endpoint);
        let is_lost = |endpoint: &EndpointSeen| explained.paths.contains(&endpoint.path());
        let all = || asked(seen).filter(|(_, endpoint)| of_family(endpoint));
        let lost: Vec<_> = all().map(|(_, endpoint)| endpoint).filter(|e| is_lost(e)).collect();
        if !lost.is_empty() && lost.len() == all().count() {
            let operators = operators_of(seen, of_family);
            tell(Common::FamilyBlocked { family, operators }, lost);
            continue;
        }
        for path in explained.paths.iter().filter(|path| path.family == family) {
            let on_path = |endpoint: &EndpointSeen| endpoint.path() == *path && of_family(endpoint);
            let operators = operators_of(seen, on_path);
            let lost = asked(seen).map(|(_, endpoint)| endpoint).filter(|e| on_path(e));
            let path = *path;
            tell(Common::PathBlocked { path, operators }, lost.collect());
        }
    }
    if let Some((names, operators)) = strange_certificate(seen) {
        let shown = asked(seen).map(|(_, endpoint)| endpoint);
        let shown = shown.filter(|e| is_strange(e) && names_of(e) == Some(&names)).collect();
        explained.certificate = Some(names.clone());
        tell(Common::Intercepted { names, operators }, shown);
    }
    let denies = |endpoint: &EndpointSeen| matches!(endpoint.ours.end, End::Answered(Reply::Denial { .. }));
    let knows = |endpoint: &EndpointSeen| endpoint.ours.end == End::Answered(Reply::Positive);
    let operators = operators_of(seen, denies);
    if seen.is_known && operators >= OPERATORS_MIN && !asked(seen).any(|(_, endpoint)| knows(endpoint)) {
        let name = seen.name.clone();
        let denying = asked(seen)
            .map(|(_, endpoint)| endpoint)
            .filter(|e| denies(e))
            .collect();
        tell(Common::DeniedByAll { name, operators }, denying);
        explained.denial = true;
    }
    explained
}

/// A finding that is no one provider's.
fn of_all(common: Common, endpoints: &[&EndpointSeen]) -> Finding {
    Finding {
        kind: Kind::Common(common),
        provider: None,
        endpoints: endpoints.iter().map(|endpoint| endpoint.label.clone()).collect(),
        over: String::new(),
    }
}

/// Endpoints of the configuration that were asked, with whose they are.
fn asked(seen: &Examination) -> impl Iterator<Item = (&ProviderSeen, &EndpointSeen)> {
    let all = seen.providers.iter();
    let all = all.flat_map(|provider| provider.endpoints.iter().map(move |endpoint| (provider, endpoint)));
    all.filter(|(_, endpoint)| endpoint.is_listed && !matches!(endpoint.ours.end, End::NotAsked(_)))
}

/// How many operators have such endpoints to which there is a way.
fn operators_of(seen: &Examination, is_meant: impl Fn(&EndpointSeen) -> bool) -> usize {
    let mut operators = Vec::new();
    for (provider, endpoint) in asked(seen) {
        if is_meant(endpoint) && !is_without_way(endpoint) && !operators.contains(&provider.operator) {
            operators.push(provider.operator);
        }
    }
    operators.len()
}

/// Whether this machine's clock is wrong, by the rule of a running node: operators' certificates agree against it.
fn clock(seen: &Examination) -> Option<ClockWrong> {
    let mut watch = ClockWatch::default();
    watch.note_release(seen.before_release_s);
    let at = Time::ZERO;
    for (provider, endpoint) in asked(seen) {
        if let Some(certificate) = endpoint.ours.certificate_time {
            watch.note_wrong(provider.operator, certificate, at);
        }
    }
    for (provider, endpoint) in asked(seen) {
        if endpoint.transport.is_encrypted() && endpoint.ours.is_answered() {
            watch.note_right(provider.operator, at);
        }
    }
    watch.judge()
}

/// Paths that several operators have endpoints on and none answers on, though each of them answers in another way: or it
/// would be them.
fn lost_paths(seen: &Examination) -> Vec<Path> {
    let mut lost = Vec::new();
    for class in [TransportClass::Udp, TransportClass::Stream, TransportClass::Quic] {
        for family in [Family::V4, Family::V6] {
            let path = Path { class, family };
            let is_meant = |endpoint: &EndpointSeen| endpoint.path() == path && !is_without_way(endpoint);
            let on = || asked(seen).filter(|(_, endpoint)| is_meant(endpoint));
            let answer_otherwise = on().all(|(provider, _)| provider.endpoints.iter().any(|e| e.ours.is_answered()));
            let all_lost = on().all(|(_, endpoint)| is_lost(endpoint));
            if all_lost && answer_otherwise && operators_of(seen, is_meant) >= OPERATORS_MIN {
                lost.push(path);
            }
        }
    }
    lost
}

/// The names of a certificate that several operators show and that proves none of them, and how many do.
fn strange_certificate(seen: &Examination) -> Option<(Vec<String>, usize)> {
    let mut strange = asked(seen).filter(|(_, endpoint)| is_strange(endpoint));
    strange.find_map(|(_, endpoint)| {
        let names = names_of(endpoint).filter(|names| !names.is_empty())?;
        let operators = operators_of(seen, |other| is_strange(other) && names_of(other) == Some(names));
        (operators >= OPERATORS_MIN).then(|| (names.clone(), operators))
    })
}

/// Whether it shows a certificate that proves nothing.
fn is_strange(endpoint: &EndpointSeen) -> bool {
    matches!(
        endpoint.ours.end,
        End::Failed(Failure::TlsUntrusted | Failure::TlsWrongName)
    )
}

/// For whom its certificate is.
fn names_of(endpoint: &EndpointSeen) -> Option<&Vec<String>> {
    let certificate = endpoint.ours.tls.as_ref()?.certificate.as_ref()?;
    Some(&certificate.names)
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
