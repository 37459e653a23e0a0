//! What a hostile provider sends: messages, lengths before them, and pages in their place.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderValue, Response, StatusCode};

use super::doh::request::MEDIA_TYPE;
use super::doh::{head_of_status, set};
use super::reply::honest;
use crate::fault::{Fault, Hostile};
use crate::message::{Answer, Query, encode_reply, rtype};
use crate::random::Random;
use crate::transport::Transport;
use crate::wire::{count16, push_number};

/// How long each byte of what drips takes.
pub(super) const DRIP: Duration = Duration::from_secs(1);
/// Bytes of the longest message there is, and of one that still fits a datagram.
const LONGEST: [usize; 2] = [65_535, 65_000];
/// The highest place that a pointer can point to (RFC 1035 section 4.1.4).
const POINTER_MAX: usize = 0x3fff;
/// Bytes of a packed body: all of it fits where a message does.
const BOMB_BYTES: usize = 60_000;
/// Headers of an endless head, and the bytes of each: many times what clients take, and what a busy machine still writes.
const HEADERS: [usize; 2] = [8, 60_000];
/// A part of an endless body.
const ENDLESS: [u8; 16_384] = [0; 16_384];

/// What stands in the place of a message over HTTP.
pub(super) struct Page {
    pub(super) head: Response<()>,
    pub(super) body: Bytes,
    /// Whether the body follows again and again.
    pub(super) is_endless: bool,
}

/// The message itself, where that is what is hostile.
pub(super) fn hostile_message(
    query: &Query,
    hostile: Hostile,
    transport: Transport,
    limit_bytes: usize,
) -> Option<Vec<u8>> {
    match hostile {
        Hostile::WrongQuestion => Some(encode_reply(&another(query), &honest(query), limit_bytes)),
        Hostile::Pointers => Some(pointers(query, transport)),
        Hostile::TruncateAlways => Some(encode_reply(query, &Answer::truncation(), limit_bytes)),
        Hostile::LyingLength
        | Hostile::Html
        | Hostile::Redirect
        | Hostile::GzipBomb
        | Hostile::EndlessHead
        | Hostile::EndlessBody
        | Hostile::ResetStreams
        | Hostile::Deaf
        | Hostile::Drip => None,
    }
}

/// The same query for another name of the same length; there is none for the root.
fn another(query: &Query) -> Query {
    let mut other = query.clone();
    if let Some(letter) = other.name.wire.get_mut(1) {
        *letter = if letter.eq_ignore_ascii_case(&b'x') { b'y' } else { b'x' };
    }
    other
}

/// An answer full of aliases whose names are pointers to pointers, each to the one before as far as pointers reach.
fn pointers(query: &Query, transport: Transport) -> Vec<u8> {
    let [longest, datagram] = LONGEST;
    let bytes_max = if transport == Transport::Udp { datagram } else { longest };
    let mut out = Vec::with_capacity(bytes_max);
    push_number(&mut out, query.id);
    out.extend_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&query.name.wire);
    push_number(&mut out, query.rtype);
    push_number(&mut out, query.class);
    let (mut target, mut count) = (12, 0_usize);
    while out.len() + 14 <= bytes_max {
        let pointer = 0xc000 | count16(target);
        let here = out.len();
        push_number(&mut out, pointer);
        push_number(&mut out, rtype::CNAME);
        // Class IN, kept for a minute, two bytes of data: a pointer to the pointer at the beginning.
        out.extend_from_slice(&[0, 1, 0, 0, 0, 60, 0, 2]);
        target = if here <= POINTER_MAX { here } else { target };
        push_number(&mut out, 0xc000 | count16(target));
        count += 1;
    }
    let [high, low] = count16(count).to_be_bytes();
    if let Some(answers) = out.get_mut(6..8) {
        answers.copy_from_slice(&[high, low]);
    }
    out
}

/// The length that is written before a message.
pub(super) fn told_length(bytes: usize, fault: Fault, random: &mut Random) -> u16 {
    if !fault.is_hostile(Hostile::LyingLength) {
        return count16(bytes);
    }
    if random.chance(0.5) {
        count16(bytes / 2)
    } else {
        u16::MAX
    }
}

/// The page a fault has in the place of messages.
pub(super) fn page(fault: Fault) -> Option<Page> {
    let Fault::Hostile(hostile) = fault else { return None };
    let page = |status, media_type, body: Bytes| {
        let mut head = head_of_status(status);
        head.headers_mut().clear();
        set(&mut head, CONTENT_TYPE, HeaderValue::from_static(media_type));
        Page {
            head,
            body,
            is_endless: false,
        }
    };
    let page = match hostile {
        Hostile::Html => page(
            StatusCode::OK,
            "text/html",
            Bytes::from_static(b"<!DOCTYPE html><title>Welcome</title><p>Log in to use this network."),
        ),
        Hostile::Redirect => {
            let mut page = page(StatusCode::FOUND, "text/html", Bytes::new());
            set(
                &mut page.head,
                LOCATION,
                HeaderValue::from_static("https://127.0.0.1:1/"),
            );
            page
        }
        Hostile::GzipBomb => {
            let mut page = page(StatusCode::OK, MEDIA_TYPE, gzip_bomb().into());
            set(&mut page.head, CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            page
        }
        Hostile::EndlessBody => Page {
            is_endless: true,
            ..page(StatusCode::OK, MEDIA_TYPE, Bytes::from_static(&ENDLESS))
        },
        Hostile::EndlessHead => {
            let mut page = page(StatusCode::OK, MEDIA_TYPE, Bytes::new());
            let [count, bytes] = HEADERS;
            for number in 0..count {
                let name = HeaderName::try_from(format!("x-more-{number}")).ok()?;
                set(&mut page.head, name, HeaderValue::try_from("m".repeat(bytes)).ok()?);
            }
            page
        }
        Hostile::WrongQuestion
        | Hostile::Pointers
        | Hostile::TruncateAlways
        | Hostile::LyingLength
        | Hostile::ResetStreams
        | Hostile::Deaf
        | Hostile::Drip => return None,
    };
    Some(page)
}

/// A gzip file (RFC 1952) of one block with the fixed codes (RFC 1951 section 3.2.6): a zero, then again and again 258
/// bytes like the one before.
fn gzip_bomb() -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut push = |out: &mut Vec<u8>, value: u64, width: u32| {
        bits |= value << count;
        count += width;
        while count >= 8 {
            let [byte, ..] = bits.to_le_bytes();
            out.push(byte);
            bits >>= 8;
            count -= 8;
        }
    };
    // The last block, fixed codes; the literal 0, which is 00110000.
    push(&mut out, 0b011, 3);
    push(&mut out, u64::from(0b0011_0000_u8.reverse_bits()), 8);
    while out.len() < BOMB_BYTES {
        // Length 258 is code 285, which is 11000101; distance 1 is code 0 of five bits.
        push(&mut out, u64::from(0b1100_0101_u8.reverse_bits()), 8);
        push(&mut out, 0, 5);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{encode_query, parse_reply};

    fn query() -> Query {
        Query::parse(&encode_query(7, "a.elm-quarry.dev", rtype::A, None)).unwrap()
    }

    #[test]
    fn pointers_fill_the_longest_message_and_a_datagram() {
        for (transport, most) in [(Transport::Tcp, 65_535), (Transport::Udp, 65_000)] {
            let bytes = pointers(&query(), transport);
            assert!((most - 14..=most).contains(&bytes.len()), "{}", bytes.len());
            let count = usize::from(u16::from_be_bytes([bytes[6], bytes[7]]));
            assert_eq!(bytes.len(), 12 + query().name.wire.len() + 4 + 14 * count);
        }
    }

    #[test]
    fn another_question_is_as_long_and_differs() {
        let other = another(&query());
        assert_eq!(other.name.wire.len(), query().name.wire.len());
        assert_ne!(other.name.wire, query().name.wire);
    }

    #[test]
    fn a_length_that_lies_is_too_small_or_as_large_as_there_are() {
        let fault = Fault::Hostile(Hostile::LyingLength);
        let mut random = Random::new(1);
        let mut told: Vec<_> = (0..20).map(|_| told_length(100, fault, &mut random)).collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told, [50, u16::MAX]);
        assert_eq!(told_length(100, Fault::None, &mut random), 100);
    }

    #[test]
    fn each_page_says_what_it_is() {
        for (hostile, status, media_type) in [
            (Hostile::Html, 200, "text/html"),
            (Hostile::Redirect, 302, "text/html"),
            (Hostile::GzipBomb, 200, MEDIA_TYPE),
            (Hostile::EndlessBody, 200, MEDIA_TYPE),
            (Hostile::EndlessHead, 200, MEDIA_TYPE),
        ] {
            let page = page(Fault::Hostile(hostile)).unwrap();
            assert_eq!(page.head.status(), status, "{hostile:?}");
            assert_eq!(page.head.headers()[CONTENT_TYPE], media_type, "{hostile:?}");
        }
        assert!(page(Fault::Http500).is_none());
        assert!(parse_reply(&gzip_bomb()).is_none());
    }
}
