//! What no single value can tell: whether the whole makes sense. Builds the [`Config`].
//!
//! Each rule stands for a mistake that would otherwise be found in an outage: a provider that backs up itself, a
//! cap that leaves queries without a provider, answers that change with the provider that gave them, a forwarder
//! that asks itself. Rules look at what could be read; a value that was wrong has been reported and is left out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use detour_core::Encryption;
use detour_resolver::exchange::tls::{Group, Trust, TrustError};

use super::problem::{Place, Problems, quoted};
use super::spec::{ENDPOINTS_MAX, EndpointSpec, Pins, ProviderSpec, Required, Spec};
use super::{
    Config, Listen, LocalZones, Network, ProviderConfig, Source, answers_to_itself, bootstrap, encrypted, mesh, route,
};

/// Judges the whole. `None` when a part is missing; it has been reported then.
pub(super) fn config(problems: &mut Problems, spec: Spec, path: &Path) -> Option<Config> {
    let top = Place {
        key: String::new(),
        line: 1,
    };
    missing(problems, &spec, &top);
    names(problems, &spec.providers);
    endpoints(problems, &spec);
    let public = public_pool(problems, &spec);
    let routes = route::check(problems, &spec);
    listen(problems, &spec);
    let admin = spec.listen.admin.address();
    let encrypted = encrypted::check(problems, &spec.encrypted, &spec.listen.dns, admin, |file| {
        against(path, file)
    });
    ddr(problems, &spec.providers);
    bootstrap::check(problems, &spec, &public);
    let mesh = mesh::check(problems, &spec);
    pins(problems, &spec.providers);
    let groups = spec.tls_groups.unwrap_or_else(|| Group::ALL.to_vec());
    let trust = load_trust(problems, path, &groups, &[], &spec.trust);
    let common: Vec<PathBuf> = match &trust {
        Some(_) => spec.trust.iter().map(|(_, file)| against(path, file.clone())).collect(),
        None => Vec::new(),
    };

    let mut providers = Vec::with_capacity(spec.providers.len());
    for (given, is_public) in spec.providers.into_iter().zip(public) {
        let own = if given.trust.is_empty() {
            trust.clone()
        } else {
            load_trust(problems, path, &groups, &common, &given.trust)
        };
        let Some(own) = own else { continue };
        match provider(given, is_public, &own) {
            Ok(provider) => providers.extend(provider),
            Err(error) => problems.add(&top.child("provider", 1), error.to_string()),
        }
    }
    let bootstrap = trust
        .map(|trust| bootstrap::servers(spec.bootstrap, &spec.recommended, &providers, &trust))
        .unwrap_or_default();
    (!providers.is_empty()).then(|| Config {
        source: Source::File(path.to_owned()),
        state_dir: spec.state_dir.map(|dir| against(path, dir)),
        reload: spec.reload,
        tls_groups: groups,
        listen: Listen {
            encrypted,
            ..spec.listen
        },
        providers,
        bootstrap,
        routes,
        dns64: spec.dns64,
        network: Network {
            files: spec.network.files.into_iter().map(|file| against(path, file)).collect(),
            ..spec.network
        },
        select: spec.select,
        local_zones: LocalZones {
            hosts: spec.local_zones.hosts.map(|file| against(path, file)),
            ..spec.local_zones
        },
        mesh,
        cache: spec.cache,
        limits: spec.limits,
        log: spec.log,
    })
}

/// Says what every file has and this one lacks.
fn missing(problems: &mut Problems, spec: &Spec, top: &Place) {
    if !spec.has_version {
        problems.add(
            &top.child("version", 1),
            "missing: every configuration says version = 1",
        );
    }
    if !spec.has_providers {
        problems.add(
            &top.child("provider", 1),
            "no provider: add a [[provider]] with a name and endpoints, or run without a file to use the default ones",
        );
    }
    for provider in &spec.providers {
        required(problems, provider);
    }
}

/// Judges those who serve the names that no route speaks of; of each provider whether it does.
fn public_pool(problems: &mut Problems, spec: &Spec) -> Vec<bool> {
    let is_named = |given: &ProviderSpec| route::is_named(&spec.routes, given);
    let is_public = |given: &ProviderSpec| given.default.unwrap_or_else(|| !is_named(given));
    let public: Vec<&ProviderSpec> = spec.providers.iter().filter(|given| is_public(given)).collect();
    if let Some(first) = spec.providers.first().filter(|_| public.is_empty()) {
        let place = Place {
            key: "provider".to_owned(),
            line: first.place.line,
        };
        let message = "every provider is one of routes: names that no route speaks of need one too (default = true)";
        problems.add(&place, message);
    }
    pool(problems, &public, spec.select.mix_policies);
    if spec.select.encryption == Encryption::Require {
        cleartext(problems, &public);
    }
    // One that is nobody's would never be asked.
    for given in spec
        .providers
        .iter()
        .filter(|given| given.default == Some(false) && !is_named(given))
    {
        let place = given.place.child("default", given.place.line);
        problems.add(&place, "no route names this provider, so it would never be asked");
    }
    spec.providers.iter().map(is_public).collect()
}

/// What holds among providers that back each other up.
pub(super) fn pool(problems: &mut Problems, providers: &[&ProviderSpec], mix_policies: bool) {
    if !mix_policies {
        classes(problems, providers);
    }
    tiers(problems, providers);
}

/// Relative paths are relative to the file's directory, so a file means the same wherever it is started from.
pub(super) fn against(file: &Path, path: PathBuf) -> PathBuf {
    file.parent()
        .map_or_else(|| path.clone(), |directory| directory.join(&path))
}

/// The roots of `listed`, of `common`, which are known to be good, and the built-in ones. `None` if a file cannot be
/// used; it has been reported then.
fn load_trust(
    problems: &mut Problems,
    path: &Path,
    groups: &[Group],
    common: &[PathBuf],
    listed: &[(Place, PathBuf)],
) -> Option<Trust> {
    let mut files = common.to_vec();
    for (place, written) in listed {
        let file = against(path, written.clone());
        // One by one, so that each mistake is told where it stands.
        match Trust::load(std::slice::from_ref(&file), groups) {
            Ok(_) => files.push(file),
            Err(error) => problems.add(place, format!("{} {error}", quoted(&written.to_string_lossy()))),
        }
    }
    if files.len() < common.len() + listed.len() {
        return None;
    }
    let top = Place {
        key: "trust".to_owned(),
        line: 1,
    };
    Trust::load(&files, groups)
        .map_err(|error| problems.add(&top, error.to_string()))
        .ok()
}

/// With `require`, a provider that is only reached in the clear would never be asked, unless it designates others.
pub(super) fn cleartext(problems: &mut Problems, providers: &[&ProviderSpec]) {
    for provider in providers {
        let endpoints = provider.endpoints.present().map(Vec::as_slice).unwrap_or_default();
        let designates = endpoints.iter().any(|endpoint| endpoint.config.ddr);
        if !endpoints.is_empty() && !provider.is_encrypted() && !designates {
            let place = provider.place.child("endpoints", provider.place.line);
            problems.add(
                &place,
                "none is encrypted, and select.encryption = \"require\": add an https or tls endpoint, or ddr = true",
            );
        }
    }
}

fn is_encrypted(endpoint: &EndpointSpec) -> bool {
    endpoint.config.transport.is_encrypted()
}

/// A pin where there is no certificate would be one that is never looked at.
fn pins(problems: &mut Problems, providers: &[ProviderSpec]) {
    for provider in providers {
        let endpoints = provider.endpoints.present().map(Vec::as_slice).unwrap_or_default();
        let of_endpoints = endpoints.iter().filter(|endpoint| !is_encrypted(endpoint));
        for place in of_endpoints.filter_map(|endpoint| endpoint.pins.place.as_ref()) {
            problems.add(
                place,
                "there is no certificate without TLS: only tls, https, quic and h3 can be pinned",
            );
        }
        if let Some(place) = &provider.pins.place
            && !endpoints.is_empty()
            && !endpoints.iter().any(is_encrypted)
        {
            problems.add(
                place,
                "no endpoint of this provider has a certificate: only tls, https, quic and h3 can be pinned",
            );
        }
    }
}

/// `trust` with these pins, if there are any.
fn pinned(trust: &Trust, pins: &Pins) -> Result<Option<Trust>, TrustError> {
    let has_pins = !pins.list.is_empty();
    has_pins.then(|| trust.pinned(&pins.list)).transpose()
}

fn provider(spec: ProviderSpec, is_public: bool, trust: &Trust) -> Result<Option<ProviderConfig>, TrustError> {
    let (Required::Present(name), Required::Present(written)) = (spec.name, spec.endpoints) else {
        return Ok(None);
    };
    let mut endpoints = Vec::with_capacity(written.len());
    for endpoint in written {
        let mut config = endpoint.config;
        config.trust = pinned(trust, &endpoint.pins)?;
        endpoints.push(config);
    }
    let trust = pinned(trust, &spec.pins)?.unwrap_or_else(|| trust.clone());
    Ok(Some(ProviderConfig {
        operator: spec.operator.unwrap_or_else(|| name.clone()),
        name,
        asn: spec.asn,
        jurisdiction: spec.jurisdiction,
        filter: spec.filter,
        validates: spec.validates,
        tier: spec.tier,
        max_share_permille: spec.max_share_permille,
        max_qps: spec.max_qps,
        is_public,
        trust,
        endpoints,
    }))
}

fn required(problems: &mut Problems, provider: &ProviderSpec) {
    let place = &provider.place;
    if matches!(provider.name, Required::Absent) {
        problems.add(&place.child("name", place.line), "missing: every provider needs a name");
    }
    if matches!(provider.endpoints, Required::Absent) {
        let message = "missing: name at least one, such as endpoints = [\"udp://9.9.9.10\"]";
        problems.add(&place.child("endpoints", place.line), message);
    }
}

fn names(problems: &mut Problems, providers: &[ProviderSpec]) {
    for (index, provider) in providers.iter().enumerate() {
        let Some(name) = provider.name.present() else {
            continue;
        };
        let earlier = providers
            .iter()
            .take(index)
            .find(|other| other.name.present() == Some(name));
        if let Some(earlier) = earlier {
            let (name, place) = (quoted(name), &earlier.place);
            let message = format!(
                "{name} is the name of {} (line {}) too: names are unique",
                place.key, place.line
            );
            problems.add(&provider.place.child("name", provider.place.line), message);
        }
    }
}

/// A provider that is asked for designated resolvers has somebody to ask.
fn ddr(problems: &mut Problems, providers: &[ProviderSpec]) {
    for provider in providers {
        let endpoints = provider.endpoints.present().map(Vec::as_slice).unwrap_or_default();
        if let Some((place, true)) = &provider.ddr
            && !endpoints.is_empty()
            && !endpoints.iter().any(|endpoint| endpoint.config.ddr)
        {
            problems.add(
                place,
                "there is nobody to ask: designated resolvers are what udp and tcp endpoints with an IP address name",
            );
        }
    }
}

/// No endpoint twice, not too many, and none that is this node.
fn endpoints(problems: &mut Problems, spec: &Spec) {
    let all: Vec<&EndpointSpec> = spec
        .providers
        .iter()
        .filter_map(|provider| provider.endpoints.present())
        .flatten()
        .collect();
    if all.len() > ENDPOINTS_MAX {
        let count = all.len();
        let place = Place {
            key: "provider".to_owned(),
            line: spec.providers.first().map_or(1, |p| p.place.line),
        };
        problems.add(
            &place,
            format!("{count} endpoints in all: at most {ENDPOINTS_MAX} are possible"),
        );
    }
    for (index, EndpointSpec { place, config, .. }) in all.iter().enumerate() {
        let is_same = |other: &&&EndpointSpec| {
            let (one, other) = (config, &other.config);
            (other.transport, &other.at) == (one.transport, &one.at)
                && (&other.name, &other.path) == (&one.name, &one.path)
        };
        let label = quoted(&config.label);
        if let Some(EndpointSpec { place: other, .. }) = all.iter().take(index).find(is_same) {
            problems.add(place, format!("{label} is {} (line {}) too", other.key, other.line));
        }
        let Some(own) = config.at.address() else { continue };
        if answers_to_itself(&spec.listen.dns, own) {
            let message = format!("{label} is an address of listen.dns: queries would go round in circles");
            problems.add(place, message);
        }
        let encrypted = spec.encrypted.places.iter();
        for (_, via, address) in encrypted.filter(|(_, _, address)| answers_to_itself(&[*address], own)) {
            let via = via.word();
            let message =
                format!("{label} is an address of listen.{via} ({address}): queries would go round in circles");
            problems.add(place, message);
        }
    }
}

/// A name must not resolve otherwise only because another provider was asked.
fn classes(problems: &mut Problems, providers: &[&ProviderSpec]) {
    let class = |provider: &ProviderSpec| {
        let validates = if provider.validates {
            "validates"
        } else {
            "does not validate"
        };
        format!("filter {}, {validates}", quoted(&provider.filter))
    };
    let called = |provider: &ProviderSpec| match provider.name.present() {
        Some(name) => quoted(name),
        None => provider.place.key.clone(),
    };
    let Some((first, others)) = providers.split_first() else {
        return;
    };
    for other in others {
        if (&other.filter, other.validates) != (&first.filter, first.validates) {
            let message = format!(
                "{} ({}) changes answers otherwise than {} ({}): use providers that agree, or say select.mix-policies = true",
                called(other),
                class(other),
                called(first),
                class(first),
            );
            problems.add(&other.place, message);
        }
    }
}

/// Every query must find a provider while all of them are well.
fn tiers(problems: &mut Problems, providers: &[&ProviderSpec]) {
    let Some(last) = providers.last() else {
        return;
    };
    let normal: Vec<_> = providers.iter().filter(|provider| provider.tier == 1).collect();
    let Some(last_normal) = normal.last() else {
        let message = "every provider has tier = 2: one at least must be used normally (tier = 1)";
        problems.add(&last.place.child("tier", last.place.line), message);
        return;
    };
    let shares: Option<Vec<u32>> = normal.iter().map(|p| p.max_share_permille.map(u32::from)).collect();
    let Some(sum) = shares.map(|shares| shares.iter().sum::<u32>()) else {
        return;
    };
    if sum < 1000 {
        let place = last_normal.place.child("max-share", last_normal.place.line);
        let (whole, tenths) = (sum / 10, sum % 10);
        let sum = if tenths == 0 {
            format!("{whole}%")
        } else {
            format!("{whole}.{tenths}%")
        };
        let message =
            format!("the providers of tier 1 may take {sum} together: their max-share must add up to 100% or more");
        problems.add(&place, message);
    }
}

/// No address twice.
fn listen(problems: &mut Problems, spec: &Spec) {
    let fixed = |address: &SocketAddr| address.port() != 0;
    for (index, (place, address)) in spec.listen_dns_places.iter().zip(&spec.listen.dns).enumerate() {
        if fixed(address) && spec.listen.dns.iter().take(index).any(|earlier| earlier == address) {
            problems.add(place, format!("{address} is listed twice"));
        }
    }
    if let (Some(place), Some(address)) = (&spec.listen_admin_place, spec.listen.admin.address())
        && fixed(&address)
        && spec.listen.dns.contains(&address)
    {
        problems.add(
            place,
            format!("{address} is an address of listen.dns too: one of them needs another port"),
        );
    }
}
