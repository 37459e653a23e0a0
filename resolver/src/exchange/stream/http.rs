//! DNS in HTTP (RFC 8484), whatever version of it: the request, and what the head of a response says.

use detour_core::outcome::Failure;
use http::header::{ACCEPT, AGE, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::retry_after::retry_after_s;

/// The one media type.
const DNS_MESSAGE: &str = "application/dns-message";
/// Header bytes of one answer.
pub(in crate::exchange) const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// The request for a query of this length.
pub(in crate::exchange) fn request(url: Uri, message_bytes: usize) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url;
    let headers = request.headers_mut();
    let dns_message = HeaderValue::from_static(DNS_MESSAGE);
    headers.insert(ACCEPT, dns_message.clone());
    headers.insert(CONTENT_TYPE, dns_message);
    headers.insert(CONTENT_LENGTH, message_bytes.into());
    request
}

/// How long caches on the way have held the answer, seconds.
///
/// # Errors
///
/// It is no answer: another status, or no DNS message by its type.
pub(in crate::exchange) fn read_head<B>(response: &Response<B>) -> Result<u32, Failure> {
    if response.status() != StatusCode::OK || !is_dns_message(response.headers()) {
        return Err(failure_of(response));
    }
    Ok(age_s(response.headers()))
}

/// What an answer that is no DNS message says: 429, and 503 that says for how long, are a wish and no failure.
fn failure_of<B>(response: &Response<B>) -> Failure {
    let retry_after_s = retry_after_s(response.headers());
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Failure::Throttled { retry_after_s },
        StatusCode::SERVICE_UNAVAILABLE if retry_after_s.is_some() => Failure::Throttled { retry_after_s },
        _ => Failure::Http,
    }
}

/// Whether the body is what was asked for; a portal's login page is not.
fn is_dns_message(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|text| {
        let bare = text.split(';').next().unwrap_or_default().trim();
        bare.eq_ignore_ascii_case(DNS_MESSAGE)
    })
}

fn age_s(headers: &HeaderMap) -> u32 {
    let age = headers.get(AGE).and_then(|value| value.to_str().ok());
    age.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
