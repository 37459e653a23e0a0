//! DNS over HTTPS (RFC 8484): what a request asks for and what its answer says, whatever version of HTTP carries it.
//!
//! What is wrong with the HTTP is an HTTP error; what is wrong with the DNS is a DNS reply in a good answer (section
//! 4.2.1). One path, one media type, no templates.

pub(super) mod one;
pub(super) mod three;
pub(super) mod two;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use crate::wire::{MESSAGE_BYTES_MAX, lifetime_s};

/// The media type of messages.
const DNS_MESSAGE: &str = "application/dns-message";
/// Longest query of a URL: RFC 9110 section 4.1 has everybody take 8,000 octets of a URL.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Longest header list of a request, octets; a browser's has some hundred.
pub(super) const HEADER_BYTES: u32 = 16 * 1024;
/// Time from the head of a request to the end of its body.
pub(super) const BODY: std::time::Duration = std::time::Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The answer to this message.
    Message(Vec<u8>),
    /// The answer to the message in the body.
    Body,
}

/// Reads the head of a request to `path`, or says by which status it is refused.
///
/// # Errors
/// With that status.
pub(super) fn read_head<B>(request: &Request<B>, path: &str) -> Result<Wanted, StatusCode> {
    if request.uri().path() != path {
        return Err(StatusCode::NOT_FOUND);
    }
    let headers = request.headers();
    if *request.method() == Method::GET {
        if !accepts(headers) {
            return Err(StatusCode::NOT_ACCEPTABLE);
        }
        let query = request.uri().query().unwrap_or_default();
        if query.len() > QUERY_BYTES_MAX {
            return Err(StatusCode::URI_TOO_LONG);
        }
        let mut parts = query.split('&');
        let dns = parts.find_map(|part| part.strip_prefix("dns="));
        let message = dns.and_then(from_base64url).ok_or(StatusCode::BAD_REQUEST)?;
        return Ok(Wanted::Message(message));
    }
    if *request.method() != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    if !media_type.is_some_and(|text| text.eq_ignore_ascii_case(DNS_MESSAGE)) || headers.contains_key(CONTENT_ENCODING)
    {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    if !accepts(headers) {
        return Err(StatusCode::NOT_ACCEPTABLE);
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if length > u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    Ok(Wanted::Body)
}

/// Whether the client takes what it would get: whoever does not say so takes anything.
fn accepts(headers: &HeaderMap) -> bool {
    if !headers.contains_key(ACCEPT) {
        return true;
    }
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = values.flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_named = ["*/*", "application/*", DNS_MESSAGE]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own));
        let is_refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| !weight.is_empty() && weight.bytes().all(|b| b == b'0' || b == b'.'))
        });
        is_named && !is_refused
    })
}

/// The octets that base64url without padding stands for (RFC 4648 section 5); `None` if it is not that, to the last bit.
fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xFF).ok()?);
        }
    }
    // Six bits more than whole octets are a letter too many, and bits that stand for nothing are zero.
    let is_whole = held < 6 && bits & ((1 << held) - 1) == 0;
    is_whole.then_some(out)
}

/// The head of the answer that carries this reply.
pub(super) fn head_of(reply: &[u8]) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(reply.len()));
    // What does not say how long it holds must not be served to anybody else.
    let caching = match lifetime_s(reply) {
        Some(lifetime_s) => HeaderValue::try_from(format!("max-age={lifetime_s}")).ok(),
        None => None,
    };
    let caching = caching.unwrap_or(HeaderValue::from_static("no-store"));
    headers.insert(CACHE_CONTROL, caching);
    response
}

/// The answer that says no, with a line for whoever looks into it.
pub(super) fn refusal(status: StatusCode) -> Whole {
    let why = match status {
        StatusCode::NOT_FOUND => "no DNS at this path\n",
        StatusCode::METHOD_NOT_ALLOWED => "DNS is asked by GET or POST (RFC 8484 section 4.1)\n",
        StatusCode::NOT_ACCEPTABLE => "answers are of the type application/dns-message\n",
        StatusCode::REQUEST_TIMEOUT => "the request took too long\n",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::URI_TOO_LONG => "longer than a DNS message can be\n",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "queries are of the type application/dns-message, without an encoding\n",
        StatusCode::BAD_REQUEST => {
            "no DNS query: GET has it in ?dns= as base64url without padding, POST as its body (RFC 8484 section 4.1)\n"
        }
        _ => "no answer could be made\n",
    };
    let body = Bytes::from_static(why.as_bytes());
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    (response, body)
}

/// Head and body of the answer to a request.
pub(super) type Whole = (Response<()>, Bytes);

/// The answer that carries this reply.
pub(super) fn whole(reply: Vec<u8>) -> Whole {
    (head_of(&reply), Bytes::from(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/dns-query";

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn status(method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        match read_head(&request(method, uri, headers), PATH) {
            Ok(_) => 200,
            Err(status) => status.as_u16(),
        }
    }

    #[test]
    fn each_wrong_request_has_its_status() {
        let post = [("content-type", "application/dns-message")];
        let long = format!("/dns-query?dns={}", "A".repeat(QUERY_BYTES_MAX));
        for (method, uri, headers, wanted) in [
            ("GET", "/dns-query?dns=AAAB", &[][..], 200),
            ("GET", "https://dns.example/dns-query?x=1&dns=AAAB", &[], 200),
            ("GET", "/", &[], 404),
            ("GET", "/dns-query/?dns=AAAB", &[], 404),
            ("POST", "/resolve", &post, 404),
            ("GET", "/dns-query", &[], 400),
            ("GET", "/dns-query?dns=", &[], 200),
            ("GET", "/dns-query?dns=AA==", &[], 400),
            ("GET", "/dns-query?dns=A+/A", &[], 400),
            ("GET", "/dns-query?dns=A", &[], 400),
            ("GET", &long, &[], 414),
            ("HEAD", "/dns-query?dns=AAAB", &[], 405),
            ("PUT", "/dns-query", &post, 405),
            ("OPTIONS", "/dns-query", &[], 405),
            ("POST", "/dns-query", &post, 200),
            (
                "POST",
                "/dns-query",
                &[("content-type", "Application/DNS-Message; x=y")],
                200,
            ),
            ("POST", "/dns-query", &[], 415),
            ("POST", "/dns-query", &[("content-type", "application/dns-json")], 415),
            (
                "POST",
                "/dns-query",
                &[("content-type", "application/oblivious-dns-message")],
                415,
            ),
            ("POST", "/dns-query", &[post[0], ("content-encoding", "gzip")], 415),
            ("POST", "/dns-query", &[post[0], ("content-length", "65536")], 413),
            ("POST", "/dns-query", &[post[0], ("content-length", "65535")], 200),
            ("GET", "/dns-query?dns=AAAB", &[("accept", "application/dns-json")], 406),
            ("GET", "/dns-query?dns=AAAB", &[("accept", "text/html, */*;q=0.8")], 200),
            (
                "GET",
                "/dns-query?dns=AAAB",
                &[("accept", "application/dns-message;q=0.0")],
                406,
            ),
            (
                "GET",
                "/dns-query?dns=AAAB",
                &[("accept", "text/html"), ("accept", "application/*")],
                200,
            ),
        ] {
            assert_eq!(status(method, uri, headers), wanted, "{method} {uri} {headers:?}");
        }
    }

    #[test]
    fn base64url_is_read_to_the_last_bit() {
        let example = "AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";
        let message = from_base64url(example).unwrap();
        assert_eq!(message.len(), 33);
        assert_eq!(&message[12..17], b"\x03www\x07");
        assert_eq!(from_base64url("-_8"), Some(vec![0xFB, 0xFF]));
        assert_eq!(from_base64url("-_9"), None, "a bit that stands for nothing");
        assert_eq!(from_base64url("AAAAA"), None);
        assert_eq!(from_base64url(""), Some(Vec::new()));
    }
}
