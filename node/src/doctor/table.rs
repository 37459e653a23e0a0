//! What was seen, for people: a table of endpoints for each provider, what is the same for several of them below it, and
//! the findings, none wider than [`WIDTH`].

use detour_core::doctor::{
    CertificateSeen, Common, End, EndpointSeen, Examination, Finding, Hickory, Kind, NameAnswer, NameSeen,
    ProviderSeen, Purpose, Severity, Signatures, Traits,
};

use detour_core::outcome::Reply;

use super::Diagnosis;
use crate::clock::Date;
use crate::clock_wrong;

/// Columns of a terminal.
const WIDTH: usize = 100;
/// Columns of the endpoints' addresses.
const ENDPOINT_WIDTH: usize = 30;
/// Columns of what failed, and of what would stand there if it had not.
const ANSWER_WIDTH: usize = 35;
/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// Names of a certificate that are shown.
const NAMES_MAX: usize = 3;

/// All of it.
pub(super) fn to_text(diagnosis: &Diagnosis) -> String {
    let Diagnosis { seen, findings, wall_s } = diagnosis;
    let mut text = String::new();
    push(
        &mut text,
        &row([
            "endpoint",
            "connect",
            "tls",
            "ends",
            &answer_cells(["answer", "ms", "edns", "0x20", "pad", "dnssec"]),
            "hickory",
        ]),
    );
    for provider in &seen.providers {
        let validates = if provider.validates {
            "validates"
        } else {
            "does not validate"
        };
        push(
            &mut text,
            &format!("{} (filter {}, {validates})", provider.name, provider.filter),
        );
        for endpoint in &provider.endpoints {
            push(&mut text, &of_endpoint(endpoint));
        }
        for line in below(provider, *wall_s) {
            push(&mut text, &line);
        }
    }
    push(&mut text, "");
    if seen
        .providers
        .iter()
        .flat_map(|provider| &provider.endpoints)
        .any(|endpoint| !endpoint.is_listed)
    {
        push(&mut text, "+ not in the configuration");
    }
    push(&mut text, &summary(seen, findings));
    for finding in findings {
        let lead = format!("{}: ", finding.severity().word());
        push_wrapped(&mut text, &format!("{lead}{}", sentence(finding, *wall_s)), "  ");
    }
    text
}

/// The sentence of a finding; of a wrong clock with the dates that make it wrong.
pub(super) fn sentence(finding: &Finding, wall_s: u64) -> String {
    if let Kind::Common(Common::ClockWrong(wrong)) = &finding.kind {
        return clock_wrong::text(wrong, wall_s);
    }
    finding.to_string()
}

/// The day a certificate ends on.
pub(super) fn ends(certificate: &CertificateSeen, wall_s: u64) -> String {
    let at_s = wall_s.saturating_add_signed(certificate.ends_in_s);
    Date::of_day(at_s / 86_400).to_string()
}

fn push(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Lines of at most [`WIDTH`] columns, broken at spaces; those behind the first are indented.
fn push_wrapped(text: &mut String, line: &str, indent: &str) {
    let mut current = String::new();
    for word in line.split(' ') {
        let columns = current.chars().count().saturating_add(word.chars().count());
        if !current.trim().is_empty() && columns >= WIDTH {
            push(text, &current);
            current = indent.to_owned();
        } else if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
    }
    push(text, &current);
}

/// One line of the table: the endpoint, its connection, its answer, and hickory's.
fn row([endpoint, connect, tls, ends, answer, hickory]: [&str; 6]) -> String {
    format!("{endpoint:ENDPOINT_WIDTH$} {connect:>7} {tls:8} {ends:>6} {answer:ANSWER_WIDTH$} {hickory}")
}

fn answer_cells([answer, ms, edns, case, pad, dnssec]: [&str; 6]) -> String {
    format!("{answer:8} {ms:>5} {edns:4} {case:4} {pad:3} {dnssec}")
}

fn of_endpoint(endpoint: &EndpointSeen) -> String {
    let ours = &endpoint.ours;
    let tls = ours.tls.as_ref();
    let version = tls.and_then(|tls| Some((tls.version?.number(), tls.alpn.as_deref().unwrap_or("-"))));
    let certificate = tls.and_then(|tls| tls.certificate.as_ref());
    row([
        &cut(&place(endpoint), ENDPOINT_WIDTH),
        &ours.connect_us.map_or_else(String::new, milliseconds),
        &version.map_or_else(String::new, |(version, alpn)| format!("{version} {}", cut(alpn, 4))),
        &certificate.map_or_else(String::new, |certificate| left(certificate.ends_in_s)),
        &answer(endpoint),
        &hickory(&endpoint.hickory),
    ])
}

/// Transport and address, without what is usual; a plus before what is not listed.
fn place(endpoint: &EndpointSeen) -> String {
    let mark = if endpoint.is_listed { ' ' } else { '+' };
    let (_, rest) = endpoint.label.split_once("://").unwrap_or(("", &endpoint.label));
    let rest = rest.split('#').next().unwrap_or_default();
    let rest = rest.strip_suffix("/dns-query").unwrap_or(rest);
    format!("{mark} {:5} {rest}", endpoint.transport.word())
}

/// What was answered and how, or why not.
fn answer(endpoint: &EndpointSeen) -> String {
    let end = endpoint.ours.end;
    match end {
        End::Answered(_) => {}
        End::NotAsked(why) => return format!("not asked: {}", why.words()),
        End::Failed(_) | End::Silent | End::Mismatch if endpoint.is_listed => return end.word().to_owned(),
        End::Failed(_) | End::Silent | End::Mismatch => return format!("not found ({})", end.word()),
    }
    let traits = endpoint.ours.traits.as_ref();
    let of = |word: fn(&Traits) -> &'static str| traits.map_or("", word);
    answer_cells([
        end.word(),
        &endpoint.ours.answer_us.map_or_else(String::new, milliseconds),
        of(|traits| cut_word(traits.edns.word())),
        of(|traits| yes_or_no(traits.keeps_case)),
        of(|traits| yes_or_no(traits.pads)),
        of(|traits| match traits.signatures {
            Some(Signatures::Passed { is_authentic: true }) => "valid",
            Some(Signatures::Passed { is_authentic: false }) => "passed",
            Some(Signatures::Stripped) => "none",
            None => "-",
        }),
    ])
}

/// Anything but `yes` is a no, which the findings explain.
fn cut_word(word: &'static str) -> &'static str {
    if word == "yes" { word } else { "no" }
}

fn yes_or_no(value: Option<bool>) -> &'static str {
    match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    }
}

fn hickory(hickory: &Hickory) -> String {
    match hickory {
        Hickory::Answered { total_us, rcode } if rcode == "NOERROR" => format!("{} ms", milliseconds(*total_us)),
        Hickory::Answered { rcode, .. } => rcode.clone(),
        Hickory::Failed(_) => "failed".to_owned(),
        Hickory::NotAsked(_) => "-".to_owned(),
    }
}

/// What is the same for several endpoints of a provider: certificates, filters, and what hickory did not do.
fn below(provider: &ProviderSeen, wall_s: u64) -> Vec<String> {
    let mut certificates: Vec<(String, Vec<&'static str>)> = Vec::new();
    let mut reasons: Vec<(String, Vec<&'static str>)> = Vec::new();
    for endpoint in &provider.endpoints {
        let word = endpoint.transport.word();
        if let Some(certificate) = endpoint.ours.tls.as_ref().and_then(|tls| tls.certificate.as_ref()) {
            add(&mut certificates, certificate_text(certificate, wall_s), word);
        }
        if let (Hickory::NotAsked(reason), false) = (&endpoint.hickory, matches!(endpoint.ours.end, End::NotAsked(_))) {
            add(&mut reasons, reason.clone(), word);
        }
    }
    let mut lines = Vec::new();
    let mut line = |text: String| lines.push(cut(&text, WIDTH));
    for (text, over) in certificates {
        line(format!("  certificate ({}): {text}", over.join(", ")));
    }
    for (text, over) in reasons {
        line(format!("  not by hickory ({}): {text}", over.join(", ")));
    }
    if let Some(text) = filtering(provider) {
        line(format!("  filtering: {text}"));
    }
    lines
}

fn add(groups: &mut Vec<(String, Vec<&'static str>)>, text: String, word: &'static str) {
    match groups.iter_mut().find(|(own, _)| *own == text) {
        Some((_, words)) if words.contains(&word) => {}
        Some((_, words)) => words.push(word),
        None => groups.push((text, vec![word])),
    }
}

fn certificate_text(certificate: &CertificateSeen, wall_s: u64) -> String {
    let names: Vec<&str> = certificate.names.iter().take(NAMES_MAX).map(String::as_str).collect();
    let more = if certificate.names.len() > NAMES_MAX {
        ", …"
    } else {
        ""
    };
    let tense = if certificate.ends_in_s < 0 { "ended" } else { "ends" };
    format!("{tense} {}, for {}{more}", ends(certificate, wall_s), names.join(", "))
}

/// What a provider kept back of what it was asked; `None`: nobody there said.
fn filtering(provider: &ProviderSeen) -> Option<String> {
    let traits = provider
        .endpoints
        .iter()
        .filter_map(|endpoint| endpoint.ours.traits.as_ref());
    let mut kept: Vec<&NameSeen> = Vec::new();
    let mut is_asked = false;
    for name in traits.flat_map(|traits| &traits.names) {
        is_asked |= name.purpose == Purpose::Filtered;
        let is_kept = matches!(name.answer, NameAnswer::Kept | NameAnswer::Nowhere);
        if is_kept && !kept.iter().any(|own| own.name == name.name) {
            kept.push(name);
        }
    }
    let names: Vec<&str> = kept.iter().map(|name| name.name.as_str()).collect();
    match (is_asked, names.is_empty()) {
        (false, _) => None,
        (true, true) => Some("none seen".to_owned()),
        (true, false) => Some(format!("{} kept back", names.join(", "))),
    }
}

/// How many answer, and what was found.
fn summary(seen: &Examination, findings: &[Finding]) -> String {
    let listed = || {
        let all = seen.providers.iter().flat_map(|provider| &provider.endpoints);
        all.filter(|endpoint| endpoint.is_listed)
    };
    // An error is heard, and no answer.
    let is_answer = |end| matches!(end, End::Answered(reply) if !matches!(reply, Reply::Failed(_) | Reply::Bogus));
    let answer = listed().filter(|endpoint| is_answer(endpoint.ours.end)).count();
    let count = |count: usize, thing| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
    let mut text = format!(
        "{answer} of {} of {} answer for {}",
        count(listed().count(), "endpoint"),
        count(seen.providers.len(), "provider"),
        seen.name
    );
    for (severity, word) in [
        (Severity::Fault, "faults"),
        (Severity::Notice, "notices"),
        (Severity::Hint, "hints"),
    ] {
        let count = findings.iter().filter(|finding| finding.severity() == severity).count();
        if count > 0 {
            let word = if count == 1 { severity.word() } else { word };
            text.push_str(&format!(", {count} {word}"));
        }
    }
    if findings.is_empty() {
        text.push_str(": all is well");
    }
    text
}

/// A certificate's time, in few columns.
fn left(ends_in_s: i64) -> String {
    match ends_in_s {
        ..0 => "over".to_owned(),
        seconds if seconds < DAY_S => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", (seconds / DAY_S).min(9_999)),
    }
}

/// Whole milliseconds; what is below one is one.
fn milliseconds(us: u64) -> String {
    (us / 1_000).clamp(1, 99_999).to_string()
}

/// The first so many columns, and a sign that there was more.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept = text.chars().take(columns.saturating_sub(1));
    kept.chain(['…']).collect()
}
