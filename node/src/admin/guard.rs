//! What every request must pass before any path is looked at: its Host, then its method.
//!
//! A web page can make a browser on this machine send requests to a loopback address, and with DNS rebinding it could
//! even read the answers (CVE-2026-42559 and many routers). The browser then names the page's host, so a Host that is
//! not this interface gets 421 (RFC 9110 15.5.20) and nothing else. There are no CORS headers: no other origin is
//! let in. `Upgrade` is ignored, so no request goes around this check.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::refusal::Refusal;

/// The answers are data, never a page: nothing in them may be run, loaded or shown in a frame.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// What was true a second ago may be wrong.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// A browser must not guess that JSON is a script.
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Paths that change something; each asks for the operator's token.
const CHANGING: [&str; 1] = [super::FLUSH];

/// The values of Host that mean this interface.
#[derive(Debug)]
pub(super) struct Hosts {
    allowed: Vec<String>,
}

impl Hosts {
    /// Those of an interface at `bound`: loopback by its names and the address itself, without port or with its own.
    #[must_use]
    pub(super) fn of(bound: SocketAddr) -> Self {
        let own = match bound.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let port = bound.port();
        let names = ["localhost", "127.0.0.1", "[::1]", own.as_str()];
        Self {
            allowed: names
                .into_iter()
                .flat_map(|name| [name.to_owned(), format!("{name}:{port}")])
                .collect(),
        }
    }

    /// Whether this Host means us. A name is compared without regard to case (RFC 9110 4.2.3).
    #[must_use]
    fn allows(&self, host: &[u8]) -> bool {
        self.allowed
            .iter()
            .any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(host))
    }

    /// Whether the request may be looked at.
    fn judge(&self, request: &Request) -> Result<(), Refusal> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refusal::NoHost);
        };
        // A target in absolute form names the host too, and goes before the header (RFC 9112 3.2.2).
        let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        if !self.allows(host.as_bytes()) || target.is_some_and(|target| !self.allows(target)) {
            return Err(Refusal::ForeignHost);
        }
        match *request.method() {
            Method::GET | Method::HEAD => Ok(()),
            Method::POST if CHANGING.contains(&request.uri().path()) => {
                // A page of another host cannot know the token; it need not be able to guess at it, either.
                if request.headers().contains_key(header::ORIGIN) {
                    return Err(Refusal::ForeignOrigin);
                }
                Ok(())
            }
            _ => Err(Refusal::Method),
        }
    }
}

/// The outermost layer.
pub(super) async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let mut response = match hosts.judge(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_and_the_own_address_mean_this_interface() {
        let hosts = Hosts::of("127.0.0.53:9353".parse().unwrap());
        for host in [
            "localhost",
            "LocalHost:9353",
            "127.0.0.1",
            "127.0.0.1:9353",
            "[::1]",
            "[::1]:9353",
            "127.0.0.53",
            "127.0.0.53:9353",
        ] {
            assert!(hosts.allows(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9353",
            "localhost.evil.example",
            "localhost:80",
            "localhost:",
            "localhost:09353",
            "127.0.0.1:93530",
            "127.0.0.2",
            "::1",
            "user@localhost",
            "localhost.",
        ] {
            assert!(!hosts.allows(host.as_bytes()), "{host}");
        }
        assert!(Hosts::of("[::1]:80".parse().unwrap()).allows(b"[::1]:80"));
    }
}
