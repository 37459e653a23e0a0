//! A DNS message as people and programs read it.
//!
//! hickory-proto puts the records it knows into presentation form; what it does not know, or does not want to read, is
//! shown by RFC 3597 5 as `\# LENGTH HEX`, found by the wire view, which takes every record that is whole. So an odd
//! record never hides the others. Nothing a server sends reaches the terminal as a control character.

use std::fmt::Write as _;
use std::net::SocketAddr;

use detour_resolver::wire::name::skip_name;
use detour_resolver::wire::{NameBuf, QueryOut, Record, Records, Section};
use hickory_proto::op::{Header, MessageType};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RData, Record as Decoded, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use serde::Serialize;

use crate::admin::words::{rcode_text, type_text};

/// The length of a message's header.
const HEADER_BYTES: usize = 12;
/// The option code of extended errors (RFC 8914).
const EDE: u16 = 15;
/// What extended errors mean, by code (RFC 8914 4).
const EDE_NAMES: [&str; 25] = [
    "other error",
    "unsupported DNSKEY algorithm",
    "unsupported DS digest type",
    "stale answer",
    "forged answer",
    "DNSSEC indeterminate",
    "DNSSEC bogus",
    "signature expired",
    "signature not yet valid",
    "DNSKEY missing",
    "RRSIGs missing",
    "no zone key bit set",
    "NSEC missing",
    "cached error",
    "not ready",
    "blocked",
    "censored",
    "filtered",
    "prohibited",
    "stale NXDOMAIN answer",
    "not authoritative",
    "not supported",
    "no reachable authority",
    "network error",
    "invalid data",
];

/// An answer, ready to be shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    server: SocketAddr,
    /// How it came.
    pub(super) transport: &'static str,
    time_ms: f64,
    size_bytes: usize,
    name: String,
    #[serde(rename = "type")]
    qtype: String,
    /// All twelve bits.
    #[serde(skip)]
    pub(super) rcode: u16,
    #[serde(rename = "rcode")]
    rcode_text: String,
    flags: Vec<&'static str>,
    ede: Vec<EdeShown>,
    answer: Vec<RecordShown>,
    authority: Vec<RecordShown>,
    additional: Vec<RecordShown>,
    /// The message ends before its records do.
    broken: bool,
}

#[derive(Debug, Serialize)]
struct EdeShown {
    code: u16,
    meaning: Option<&'static str>,
    text: String,
}

#[derive(Debug, Serialize)]
struct RecordShown {
    name: String,
    ttl: u32,
    class: String,
    #[serde(rename = "type")]
    rtype: String,
    data: String,
}

impl Shown {
    /// Reads an answer; `None` if it is none.
    pub(super) fn read(
        message: &[u8],
        question: &QueryOut<'_>,
        server: SocketAddr,
        transport: &'static str,
        time_us: u64,
    ) -> Option<Self> {
        let header = Header::read(&mut BinDecoder::new(message)).ok()?;
        if header.metadata.message_type != MessageType::Response {
            return None;
        }
        let mut shown = Self {
            server,
            transport,
            time_ms: f64::from(u32::try_from(time_us).unwrap_or(u32::MAX)) / 1_000.0,
            size_bytes: message.len(),
            name: question.name.to_string(),
            qtype: type_text(question.qtype),
            rcode: u16::from(header.metadata.response_code),
            rcode_text: String::new(),
            flags: flags(&header),
            ede: Vec::new(),
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            broken: false,
        };
        shown.read_records(message, &header);
        shown.rcode_text = rcode_text(shown.rcode);
        Some(shown)
    }

    fn read_records(&mut self, message: &[u8], header: &Header) {
        let counts = header.counts;
        let questions = 0..counts.queries;
        // Each question is a name, a type and a class.
        let start = questions
            .into_iter()
            .try_fold(HEADER_BYTES, |at, _| Some(skip_name(message, at)? + 4));
        let Some(start) = start else {
            self.broken = true;
            return;
        };
        let counts = [counts.answers, counts.authorities, counts.additionals];
        for record in Records::new(message, start, counts) {
            let Ok(record) = record else {
                self.broken = true;
                return;
            };
            let decoded = decode(message, &record);
            if RecordType::from(record.rtype) == RecordType::OPT {
                let [rcode_high, ..] = record.ttl.to_be_bytes();
                self.rcode |= u16::from(rcode_high) << 4;
                self.ede.extend(decoded.iter().flat_map(extended_errors));
                continue;
            }
            let section = match record.section {
                Section::Answer => &mut self.answer,
                Section::Authority => &mut self.authority,
                Section::Additional => &mut self.additional,
            };
            section.push(RecordShown {
                name: owner(message, &record),
                ttl: record.ttl,
                class: class_text(record.class),
                rtype: type_text(record.rtype),
                data: decoded
                    .and_then(|decoded| presentation(&decoded.data))
                    .unwrap_or_else(|| generic(record.rdata)),
            });
        }
    }

    /// For people: records as in a zone file, all else as comments.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!(
            "; {} {}: {}, flags {}, {} bytes from {} over {} in {:.1} ms\n",
            self.name,
            self.qtype,
            self.rcode_text,
            self.flags.join(" "),
            self.size_bytes,
            self.server,
            self.transport,
            self.time_ms
        );
        for ede in &self.ede {
            let meaning = ede.meaning.unwrap_or("unknown");
            text.push_str(&format!("; extended error {} ({meaning})", ede.code));
            if !ede.text.is_empty() {
                text.push_str(&format!(": {}", ede.text));
            }
            text.push('\n');
        }
        let sections = [
            (None, &self.answer),
            (Some("authority"), &self.authority),
            (Some("additional"), &self.additional),
        ];
        for (title, records) in sections {
            if let Some(title) = title
                && !records.is_empty()
            {
                text.push_str(&format!("; {title}\n"));
            }
            for record in records {
                let RecordShown {
                    name,
                    ttl,
                    class,
                    rtype,
                    data,
                } = record;
                text.push_str(&format!("{name}\t{ttl}\t{class}\t{rtype}\t{data}\n"));
            }
        }
        if self.broken {
            text.push_str("; the message is broken: what follows cannot be read\n");
        }
        text
    }

    /// For programs: one line.
    pub(super) fn to_json(&self) -> String {
        // Numbers and texts only: nothing that JSON cannot hold.
        let mut json = serde_json::to_string(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

fn flags(header: &Header) -> Vec<&'static str> {
    let metadata = &header.metadata;
    let flags = [
        ("qr", metadata.message_type == MessageType::Response),
        ("aa", metadata.authoritative),
        ("tc", metadata.truncation),
        ("rd", metadata.recursion_desired),
        ("ra", metadata.recursion_available),
        ("ad", metadata.authentic_data),
        ("cd", metadata.checking_disabled),
    ];
    flags.iter().filter(|(_, set)| *set).map(|(flag, _)| *flag).collect()
}

/// The record as hickory reads it, if it does, to its very end.
fn decode(message: &[u8], record: &Record<'_>) -> Option<Decoded> {
    let start = u16::try_from(record.start).ok()?;
    let mut decoder = BinDecoder::new(message).clone(start);
    let decoded = Decoded::read(&mut decoder).ok()?;
    (decoder.index() == record.end).then_some(decoded)
}

fn extended_errors(opt: &Decoded) -> Vec<EdeShown> {
    let RData::OPT(opt) = &opt.data else {
        return Vec::new();
    };
    let errors = opt.options.iter().filter_map(|(_, option)| {
        let EdnsOption::Unknown(EDE, bytes) = option else {
            return None;
        };
        let (code, text) = bytes.split_first_chunk()?;
        let code = u16::from_be_bytes(*code);
        Some(EdeShown {
            code,
            meaning: EDE_NAMES.get(usize::from(code)).copied(),
            text: harmless(&String::from_utf8_lossy(text)),
        })
    });
    errors.collect()
}

/// The owner as it was sent, letter case included.
fn owner(message: &[u8], record: &Record<'_>) -> String {
    let start = u16::try_from(record.start).ok();
    let sent = start.and_then(|start| Name::read(&mut BinDecoder::new(message).clone(start)).ok());
    sent.map_or_else(
        || {
            let mut name = NameBuf::root();
            record.read_owner(&mut name);
            name.to_string()
        },
        |name| harmless(&name.to_ascii()),
    )
}

fn class_text(class: u16) -> String {
    let known = DNSClass::from(class);
    if matches!(known, DNSClass::Unknown(_) | DNSClass::OPT(_)) {
        format!("CLASS{class}")
    } else {
        known.to_string()
    }
}

/// Presentation form, where hickory has one. OPT cannot be displayed at all; opaque data it shows as base64, which no
/// zone file reader would take.
fn presentation(data: &RData) -> Option<String> {
    if let RData::TXT(txt) = data {
        let strings: Vec<String> = txt.txt_data.iter().map(|bytes| quoted(bytes)).collect();
        return Some(strings.join(" "));
    }
    if let RData::HINFO(hinfo) = data {
        return Some(format!("{} {}", quoted(&hinfo.cpu), quoted(&hinfo.os)));
    }
    if matches!(
        data,
        RData::OPT(_) | RData::NULL(_) | RData::Update0(_) | RData::Unknown { .. }
    ) {
        return None;
    }
    let mut text = String::new();
    write!(text, "{data}").ok()?;
    (!text.is_empty()).then(|| harmless(&text))
}

/// A character string (RFC 1035 5.1).
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            0x20..=0x7E => text.push(char::from(*byte)),
            0x00..=0x1F | 0x7F..=0xFF => text.push_str(&format!("\\{byte:03}")),
        }
    }
    text.push('"');
    text
}

/// Any rdata (RFC 3597 5).
fn generic(rdata: &[u8]) -> String {
    let mut text = format!("\\# {}", rdata.len());
    if !rdata.is_empty() {
        text.push(' ');
    }
    for byte in rdata {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Everything escaped but letters, digits, and what else a terminal prints as it is.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || c == ' ' || c.is_ascii_graphic() {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn shown(counts: [u8; 4], rest: &[u8]) -> Shown {
        let [questions, answers, authorities, additionals] = counts;
        let mut message = vec![
            0,
            0,
            0x81,
            0xA2,
            0,
            questions,
            0,
            answers,
            0,
            authorities,
            0,
            additionals,
        ];
        message.extend_from_slice(rest);
        let name: NameBuf = "a.test".parse().unwrap();
        let question = QueryOut {
            id: 0,
            name: &name,
            qtype: 16,
            qclass: 1,
            ad: false,
            cd: false,
            case_bits: None,
            edns: None,
        };
        Shown::read(&message, &question, "192.0.2.1:53".parse().unwrap(), "udp", 1_500).unwrap()
    }

    const QUESTION: &[u8] = b"\x01A\x04test\0\0\x10\0\x01";

    #[test]
    fn known_odd_and_dangerous_records_are_all_shown() {
        let records: [&[u8]; 6] = [
            QUESTION,
            b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x09\x03a\"\x1b\x04\xff b\\",
            // A type nobody knows, an address of five octets, and no data at all.
            b"\xc0\x0c\x12\x67\0\x01\0\0\0\x3c\0\x02\xab\xcd",
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x05\x01\x02\x03\x04\x05",
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\0",
            b"\0\0\x29\x04\xd0\x01\0\0\0\0\x0a\0\x0f\0\x06\0\x16\x1b[1m",
        ];
        let shown = shown([1, 2, 2, 1], &records.concat());
        assert_eq!(shown.rcode, 18, "two bits of the OPT record are part of it");
        expect![[r#"
            ; a.test. TXT: RCODE18, flags qr rd ra ad, 109 bytes from 192.0.2.1:53 over udp in 1.5 ms
            ; extended error 22 (no reachable authority): \u{1b}[1m
            A.test.	60	IN	TXT	"a\"\027" "\255 b\\"
            A.test.	60	IN	TYPE4711	\# 2 abcd
            ; authority
            A.test.	60	IN	A	\# 5 0102030405
            A.test.	60	IN	A	\# 0
        "#]]
        .assert_eq(&shown.to_text());
    }

    #[test]
    fn a_broken_message_shows_what_stands_before_the_break() {
        let records: [&[u8]; 3] = [
            QUESTION,
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01",
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0",
        ];
        let cut = shown([1, 2, 0, 0], &records.concat());
        assert!(cut.broken && cut.answer.len() == 1, "{cut:?}");
        assert!(
            cut.to_text()
                .contains("A.test.\t60\tIN\tA\t192.0.2.1\n; the message is broken")
        );
        assert!(shown([1, 0, 0, 0], b"\x05a").broken);
    }

    #[test]
    fn the_json_has_every_part() {
        let json: serde_json::Value = serde_json::from_str(&shown([1, 0, 0, 0], QUESTION).to_json()).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut wanted = [
            "server",
            "transport",
            "time_ms",
            "size_bytes",
            "name",
            "type",
            "rcode",
            "flags",
            "ede",
            "answer",
            "authority",
            "additional",
            "broken",
        ];
        wanted.sort_unstable();
        assert_eq!(keys, wanted);
    }
}
