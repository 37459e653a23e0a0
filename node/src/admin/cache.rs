//! `/api/v1/cache`: what the cache knows of a name; `/api/v1/cache/flush`: has it forgotten.
//!
//! To look, one has to know the name, so nobody can read here what others ask for. To forget changes something, so it
//! takes the operator's token; nothing else of the admin interface does.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use detour_core::Time;
use detour_resolver::cache::named::Known;
use detour_resolver::wire::NameBuf;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::{AdminState, words};
use crate::token;

/// What is looked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    name: String,
}

/// What is to be forgotten.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forgotten {
    name: String,
    #[serde(default)]
    below: bool,
}

/// The answer to a look; `detour cache show` reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheOfName {
    /// As understood: absolute, lower case.
    pub(crate) name: String,
    pub(crate) entries: Vec<EntryView>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryView {
    /// Who gave it: `public`, the group of a route, or `gone` where no route leads there any more.
    #[serde(default)]
    pub(crate) group: String,
    #[serde(rename = "type")]
    pub(crate) qtype: String,
    /// 1 is the Internet.
    pub(crate) class: u16,
    /// Asked with DO.
    pub(crate) dnssec_ok: bool,
    /// Asked with CD.
    pub(crate) checking_disabled: bool,
    /// `fresh` or `stale`.
    pub(crate) state: String,
    /// `positive` or `denial`.
    pub(crate) answer: String,
    pub(crate) rcode: String,
    /// Seconds since it came.
    pub(crate) age_s: u64,
    /// Seconds it stays fresh.
    pub(crate) ttl_left_s: Option<u64>,
    /// Seconds since it stopped being fresh.
    pub(crate) expired_s: Option<u64>,
    /// Records, OPT not among them.
    pub(crate) records: usize,
    /// Octets of the packet.
    pub(crate) bytes: usize,
    /// What the provider explained it by.
    pub(crate) explained: Option<Explained>,
}

/// A provider's extended error (RFC 8914).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explained {
    pub(crate) code: u16,
    pub(crate) text: String,
}

/// What was forgotten; `detour cache flush` reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flushed {
    /// As understood.
    pub(crate) name: String,
    /// Answers that were there.
    pub(crate) forgotten: usize,
}

/// Looks.
pub(super) async fn show(
    State(state): State<AdminState>,
    parameters: Result<Query<Which>, QueryRejection>,
) -> Result<Json<CacheOfName>, Refusal> {
    let Query(Which { name }) = parameters?;
    let name: NameBuf = name.parse()?;
    let now = state.clock.now();
    let known = state.shared.cache.known(&name, now);
    Ok(Json(CacheOfName {
        name: name.to_string(),
        entries: known.iter().map(|known| view(known, &state, now)).collect(),
    }))
}

fn view(Known { entry, is_fresh }: &Known, state: &AdminState, now: Time) -> EntryView {
    let generation = state.shared.generation();
    let group = generation.group(entry.group());
    let age_s = u64::from(entry.age_s(now));
    let ttl_s = u64::from(entry.answer.ttl_s().unwrap_or(0));
    let [qtype, class] = entry.kind_asked();
    let (dnssec_ok, checking_disabled) = entry.flags_asked();
    EntryView {
        group: group.map_or("gone", |id| generation.topology.group_name(id)).to_owned(),
        qtype: words::type_text(qtype),
        class,
        dnssec_ok,
        checking_disabled,
        state: if *is_fresh { "fresh" } else { "stale" }.to_owned(),
        answer: words::kind(entry.answer.kind()).to_owned(),
        rcode: words::rcode_text(entry.answer.rcode()),
        age_s,
        ttl_left_s: is_fresh.then_some(ttl_s.saturating_sub(age_s)),
        expired_s: (!is_fresh).then_some(age_s.saturating_sub(ttl_s)),
        records: entry.answer.records().count(),
        bytes: entry.answer.wire().len(),
        explained: entry.answer.ede().map(|ede| Explained {
            code: ede.code,
            text: ede.text.to_owned(),
        }),
    }
}

/// Forgets.
pub(super) async fn flush(
    State(state): State<AdminState>,
    headers: HeaderMap,
    parameters: Result<Query<Forgotten>, QueryRejection>,
) -> Result<Json<Flushed>, Refusal> {
    is_operator(&state, &headers).await?;
    let Query(Forgotten { name, below }) = parameters?;
    let name: NameBuf = name.parse()?;
    let forgotten = state.shared.cache.forget(&name, below);
    tracing::info!(forgotten, "answers forgotten on the operator's word");
    Ok(Json(Flushed {
        name: name.to_string(),
        forgotten,
    }))
}

/// Whether the request has the token of this node's state directory.
async fn is_operator(state: &AdminState, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(directory) = state.token_in.clone() else {
        return Err(Refusal::NoToken);
    };
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(given), None) = (given.next(), given.next()) else {
        return Err(Refusal::Token);
    };
    let Some(given) = given.as_bytes().strip_prefix(b"Bearer ").map(<[u8]>::to_vec) else {
        return Err(Refusal::Token);
    };
    // The file may have been made anew since the start.
    let verdict = state
        .shared
        .tasks()
        .blocking(move || token::matches(&directory, &given));
    match verdict.await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Refusal::Token),
        Ok(Err(_)) | Err(_) => Err(Refusal::NoToken),
    }
}
