//! `detour cache show NAME` and `detour cache flush NAME`: what a running node has cached of a name, and having it
//! forgotten.
//!
//! Decides nothing: the node says what is there and what it forgot.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::admin::FLUSH;
use crate::admin::cache::{CacheOfName, EntryView, Flushed};
use crate::admin::client::{Answer, GetError, escape, get, post};
use crate::cli::{CacheFlushArgs, CacheShowArgs, exit_code};
use crate::token;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum CacheError {
    /// Nobody answered.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The node does not do it.
    #[error("the node says: {0}")]
    Refused(String),
    /// Most likely a node of another version.
    #[error("cannot read the node's answer: is it of another version?")]
    Unreadable(#[source] serde_json::Error),
    /// Nobody says where the token is.
    #[error("cannot tell where the node keeps its token: --state-dir takes its state directory")]
    NoDirectory,
    /// It is another user's, or another node's.
    #[error("cannot read the token {path} (--state-dir takes the node's state directory)", path = .0.display())]
    Token(PathBuf, #[source] io::Error),
}

/// Shows; the exit code.
pub(crate) async fn show(args: &CacheShowArgs) -> u8 {
    let path = format!("/api/v1/cache?name={}", escape(&args.name));
    let answer = get(args.admin, &path).await;
    print("cache show", body(answer).and_then(|body| shown(&body, args.json)))
}

/// Has the name forgotten; the exit code.
pub(crate) async fn flush(args: &CacheFlushArgs) -> u8 {
    print("cache flush", flushed(args).await)
}

async fn flushed(args: &CacheFlushArgs) -> Result<String, CacheError> {
    let token = token_of(args.state_dir.as_deref())?;
    let path = format!("{FLUSH}?name={}&below={}", escape(&args.name), args.below);
    let body = body(post(args.admin, &path, &token).await)?;
    if args.json {
        return Ok(format!("{}\n", as_json(&body)?));
    }
    let Flushed { name, forgotten } = serde_json::from_slice(&body).map_err(CacheError::Unreadable)?;
    let below = if args.below { " and below" } else { "" };
    Ok(harmless(&format!("{forgotten} answers forgotten of {name}{below}\n")))
}

/// The token of the node that keeps its state there.
fn token_of(directory: Option<&Path>) -> Result<String, CacheError> {
    let directory = directory.ok_or(CacheError::NoDirectory)?;
    let unreadable = |error| CacheError::Token(directory.join(token::FILE), error);
    let token = token::read(directory).map_err(unreadable)?;
    String::from_utf8(token).map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error)))
}

fn print(command: &str, text: Result<String, CacheError>) -> u8 {
    match text {
        Ok(text) => crate::output::print(&mut io::stdout().lock(), &text, exit_code::OK),
        Err(error) => {
            crate::output::complain(command, &error);
            exit_code::FAILED
        }
    }
}

/// What a good answer holds.
fn body(answer: Result<Answer, GetError>) -> Result<Vec<u8>, CacheError> {
    let Answer { status, body } = answer?;
    if status == 200 {
        return Ok(body);
    }
    let said: Option<Value> = serde_json::from_slice(&body).ok();
    let error = said.as_ref().and_then(|said| said.get("error")).and_then(Value::as_str);
    let text = error.map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    Err(CacheError::Refused(harmless(&text)))
}

/// As it came, if it is JSON.
fn as_json(body: &[u8]) -> Result<String, CacheError> {
    let value: Value = serde_json::from_slice(body).map_err(CacheError::Unreadable)?;
    Ok(value.to_string())
}

fn shown(body: &[u8], json: bool) -> Result<String, CacheError> {
    if json {
        return Ok(format!("{}\n", as_json(body)?));
    }
    let cached = serde_json::from_slice(body).map_err(CacheError::Unreadable)?;
    Ok(harmless(&render(&cached)))
}

/// Without what a terminal would obey: whatever listens at that address may be anything.
fn harmless(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// All in words.
fn render(cached: &CacheOfName) -> String {
    if cached.entries.is_empty() {
        return format!("nothing is cached of {}\n", cached.name);
    }
    let lines = cached.entries.iter().map(|entry| line(&cached.name, entry));
    lines.collect()
}

fn line(name: &str, entry: &EntryView) -> String {
    let seconds = |value: Option<u64>| value.unwrap_or(0);
    let time = match entry.state.as_str() {
        "fresh" => format!("fresh for {} s", seconds(entry.ttl_left_s)),
        _ => format!("stale since {} s", seconds(entry.expired_s)),
    };
    let mut text = format!(
        "{name} {}: {} ({}), {} records in {} bytes, {} s old, {time}",
        entry.qtype, entry.rcode, entry.answer, entry.records, entry.bytes, entry.age_s
    );
    let flags = [
        (entry.class != 1, format!(", class {}", entry.class)),
        (entry.dnssec_ok, ", with DNSSEC records".to_owned()),
        (entry.checking_disabled, ", unchecked".to_owned()),
        (entry.group != "public", format!(", from {}", entry.group)),
    ];
    text.extend(flags.into_iter().filter_map(|(holds, words)| holds.then_some(words)));
    if let Some(explained) = &entry.explained {
        text.push_str(&format!(", explained by EDE {} \"{}\"", explained.code, explained.text));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::cache::Explained;
    use expect_test::expect;

    #[test]
    fn each_answer_is_a_line() {
        let entry = EntryView {
            group: "public".to_owned(),
            qtype: "A".to_owned(),
            class: 1,
            dnssec_ok: false,
            checking_disabled: false,
            state: "fresh".to_owned(),
            answer: "positive".to_owned(),
            rcode: "NOERROR".to_owned(),
            age_s: 40,
            ttl_left_s: Some(20),
            expired_s: None,
            records: 2,
            bytes: 63,
            explained: None,
        };
        let stale = EntryView {
            group: "office-dns".to_owned(),
            qtype: "AAAA".to_owned(),
            dnssec_ok: true,
            checking_disabled: true,
            state: "stale".to_owned(),
            answer: "denial".to_owned(),
            rcode: "NXDOMAIN".to_owned(),
            ttl_left_s: None,
            expired_s: Some(7),
            explained: Some(Explained {
                code: 17,
                text: "filtered\u{1b}[2J".to_owned(),
            }),
            ..entry.clone()
        };
        let mut cached = CacheOfName {
            name: "example.com.".to_owned(),
            entries: vec![entry, stale],
        };
        expect![[r#"
            example.com. A: NOERROR (positive), 2 records in 63 bytes, 40 s old, fresh for 20 s
            example.com. AAAA: NXDOMAIN (denial), 2 records in 63 bytes, 40 s old, stale since 7 s, with DNSSEC records, unchecked, from office-dns, explained by EDE 17 "filtered[2J"
        "#]]
        .assert_eq(&harmless(&render(&cached)));
        cached.entries.clear();
        assert_eq!(render(&cached), "nothing is cached of example.com.\n");
    }
}
