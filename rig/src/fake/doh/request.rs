//! The DNS message in a request (RFC 8484 section 4.1), or the status that says why there is none.

use bytes::{Buf as _, Bytes};
use h2::RecvStream;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};

use crate::transport::DOH_PATH;

/// What carries a DNS message (RFC 8484 section 6).
pub(in crate::fake) const MEDIA_TYPE: &str = "application/dns-message";
/// The longest DNS message.
pub(in crate::fake) const MESSAGE_BYTES_MAX: usize = 65_535;

/// Reads the message of a GET or a POST.
pub(super) async fn read_message(request: Request<RecvStream>) -> Result<Vec<u8>, StatusCode> {
    let message = match in_head(&request)? {
        Some(message) => message,
        None => read_body(request.into_body()).await?,
    };
    checked(message)
}

/// The message of a GET; `None` where it is in the body, as it is in a POST.
pub(in crate::fake) fn in_head<B>(request: &Request<B>) -> Result<Option<Vec<u8>>, StatusCode> {
    if request.uri().path() != DOH_PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    match *request.method() {
        Method::GET => {
            let message = from_query(request.uri().query().unwrap_or_default());
            message.map(Some).ok_or(StatusCode::BAD_REQUEST)
        }
        Method::POST => {
            let media_type = request.headers().get(CONTENT_TYPE);
            if media_type.is_none_or(|value| value.as_bytes() != MEDIA_TYPE.as_bytes()) {
                return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            }
            Ok(None)
        }
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// The message, if it is a query: a header and no response, or answering it would answer nobody.
pub(in crate::fake) fn checked(message: Vec<u8>) -> Result<Vec<u8>, StatusCode> {
    if message.len() < 12 || message.get(2).is_some_and(|flags| flags & 0x80 != 0) {
        return Err(StatusCode::BAD_REQUEST);
    }
    Ok(message)
}

async fn read_body(mut body: RecvStream) -> Result<Vec<u8>, StatusCode> {
    let mut message = Vec::new();
    while let Some(part) = body.data().await {
        // A client that is gone does not read this status.
        let part: Bytes = part.or(Err(StatusCode::BAD_REQUEST))?;
        if message.len() + part.remaining() > MESSAGE_BYTES_MAX {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        message.extend_from_slice(&part);
        // What has been read makes room for more; a stream that has ended needs none.
        body.flow_control().release_capacity(part.len()).ok();
    }
    Ok(message)
}

/// The message in `dns=…`, wherever it stands among the parameters.
fn from_query(query: &str) -> Option<Vec<u8>> {
    let text = query.split('&').find_map(|parameter| parameter.strip_prefix("dns="))?;
    from_base64url(text)
}

/// RFC 4648 section 5 without padding, as RFC 8484 section 6 wants it.
fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0_u32, 0_u8);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., byte] = (bits >> count).to_be_bytes();
            bytes.push(byte);
            bits &= (1 << count) - 1;
        }
    }
    // One symbol too many, or bits that belong to no byte.
    (count < 6 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_read_as_the_rfc_writes_it() {
        // RFC 8484 section 4.1.1.
        let text = "AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";
        let message = from_query(&format!("ct&dns={text}")).unwrap();
        assert_eq!(message.len(), 33);
        assert_eq!(&message[12..], b"\x03www\x07example\x03com\x00\x00\x01\x00\x01");
        for (text, bytes) in [
            ("", ""),
            ("Zg", "f"),
            ("Zm8", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg", "foob"),
        ] {
            assert_eq!(from_base64url(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(from_base64url("-_-_").unwrap(), [0xfb, 0xff, 0xbf]);
        for text in ["Z", "Zh", "Zm9", "Zg==", "+/+/", "Zm9vY"] {
            assert_eq!(from_base64url(text), None, "{text}");
        }
        assert_eq!(from_query("name=a"), None);
    }
}
