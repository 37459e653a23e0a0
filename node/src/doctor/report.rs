//! What was seen, for programs: the JSON that docs/DOCTOR.md describes. Keys are only ever added.

use detour_core::doctor::{EndpointSeen, Finding, Hickory, ProviderSeen, Severity, Signatures, TlsSeen, Traits};
use serde_json::{Value, json};

use super::Diagnosis;
use super::table::{ends, sentence};

/// The version of the whole; another one means another meaning.
const VERSION: u32 = 1;

/// All of it, and a line break.
pub(super) fn to_json(diagnosis: &Diagnosis) -> String {
    let Diagnosis { seen, findings, wall_s } = diagnosis;
    let providers: Vec<Value> = seen
        .providers
        .iter()
        .map(|provider| of_provider(provider, *wall_s))
        .collect();
    let all: Vec<Value> = findings.iter().map(|finding| of_finding(finding, *wall_s)).collect();
    let value = json!({
        "version": VERSION,
        "name": seen.name,
        "ok": findings.iter().all(|finding| finding.severity() != Severity::Fault),
        "providers": providers,
        "findings": all,
    });
    format!("{value:#}\n")
}

fn of_provider(provider: &ProviderSeen, wall_s: u64) -> Value {
    let endpoints: Vec<Value> = provider
        .endpoints
        .iter()
        .map(|endpoint| of_endpoint(endpoint, wall_s))
        .collect();
    json!({
        "name": provider.name,
        "filter": provider.filter,
        "validates": provider.validates,
        "public": provider.is_public,
        "endpoints": endpoints,
    })
}

fn of_endpoint(endpoint: &EndpointSeen, wall_s: u64) -> Value {
    let ours = &endpoint.ours;
    json!({
        "endpoint": endpoint.label,
        "transport": endpoint.transport.word(),
        "listed": endpoint.is_listed,
        "result": ours.end.word(),
        "connect_ms": ours.connect_us.map(milliseconds),
        "answer_ms": ours.answer_us.map(milliseconds),
        "tls": ours.tls.as_ref().map(|tls| of_tls(tls, wall_s)),
        "traits": ours.traits.as_ref().map(of_traits),
        "hickory": of_hickory(&endpoint.hickory),
    })
}

fn of_tls(tls: &TlsSeen, wall_s: u64) -> Value {
    let certificate = tls.certificate.as_ref().map(|certificate| {
        json!({
            "names": certificate.names,
            "ends": ends(certificate, wall_s),
            "ends_in_s": certificate.ends_in_s,
        })
    });
    json!({
        "version": tls.version.map(detour_core::doctor::TlsVersion::number),
        "alpn": tls.alpn,
        "certificate": certificate,
    })
}

fn of_traits(traits: &Traits) -> Value {
    let names = traits.names.iter().map(|seen| {
        json!({
            "name": seen.name,
            "purpose": seen.purpose.word(),
            "answer": seen.answer.word(),
        })
    });
    json!({
        "edns": traits.edns.word(),
        "keeps_case": traits.keeps_case,
        "pads": traits.pads,
        "dnssec": traits.signatures.map(signatures_word),
        "names": names.collect::<Vec<Value>>(),
    })
}

/// What becomes of signatures, in a word.
pub(super) fn signatures_word(signatures: Signatures) -> &'static str {
    match signatures {
        Signatures::Passed { is_authentic: true } => "validated",
        Signatures::Passed { is_authentic: false } => "passed",
        Signatures::Stripped => "stripped",
    }
}

fn of_hickory(hickory: &Hickory) -> Value {
    let (result, total_ms, reason) = match hickory {
        Hickory::NotAsked(reason) => ("not-asked", None, Some(reason)),
        Hickory::Answered { total_us, rcode } => ("answered", Some(milliseconds(*total_us)), Some(rcode)),
        Hickory::Failed(reason) => ("failed", None, Some(reason)),
    };
    match hickory {
        Hickory::Answered { .. } => json!({ "result": result, "total_ms": total_ms, "rcode": reason }),
        Hickory::NotAsked(_) | Hickory::Failed(_) => json!({ "result": result, "reason": reason }),
    }
}

fn of_finding(finding: &Finding, wall_s: u64) -> Value {
    json!({
        "severity": finding.severity().word(),
        "kind": finding.kind.word(),
        "provider": finding.provider,
        "endpoints": finding.endpoints,
        "text": sentence(finding, wall_s),
    })
}

/// With three digits behind the point.
fn milliseconds(us: u64) -> f64 {
    f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0
}
