//! Requests that get no answer, and the JSON that says why: `{"error": "..."}` with the right status.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use detour_resolver::wire::NameError;
use serde::Serialize;

/// Methods that change nothing.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// Why a request is not answered. All of them are the client's; nothing changes on any.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Without it nobody can tell what the request was meant for.
    #[error("the request needs exactly one Host header")]
    NoHost,
    /// Meant for somebody else: DNS rebinding, a wrong port, a tunnel.
    #[error("this is not the host of that name: ask localhost or the address the admin interface listens on")]
    ForeignHost,
    /// Nothing can be changed here.
    #[error("only GET and HEAD: this path changes nothing")]
    Method,
    /// What changes something is not to be looked at.
    #[error("only POST: this path changes something")]
    PostOnly,
    /// Who asks may not.
    #[error("needs the node's token: Authorization: Bearer, and what is in the file token of its state directory")]
    Token,
    /// Nobody may.
    #[error(
        "the node has no token, for want of a state directory that it can write: nothing can be changed from outside"
    )]
    NoToken,
    /// A page of somebody else's, by way of a browser.
    #[error("requests with an Origin change nothing here")]
    ForeignOrigin,
    /// There is nothing there.
    #[error(
        "unknown path: /healthz /readyz /metrics /api/v1/status /api/v1/providers /api/v1/explain?name=&type= /api/v1/cache?name="
    )]
    UnknownPath,
    /// The part behind the question mark makes no sense.
    #[error("wrong parameters: need name, and may have type, each once: {0}")]
    Parameters(#[from] QueryRejection),
    /// No domain name.
    #[error("wrong name: {0}")]
    Name(#[from] NameError),
    /// No record type.
    #[error("wrong type: write a name such as AAAA, or a number such as TYPE65")]
    Type,
    /// A metric could not be written: a mistake of ours.
    #[error("cannot write the metrics")]
    Metrics,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoHost | Self::Parameters(_) | Self::Name(_) | Self::Type => StatusCode::BAD_REQUEST,
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Self::Method | Self::PostOnly => StatusCode::METHOD_NOT_ALLOWED,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::ForeignOrigin | Self::NoToken => StatusCode::FORBIDDEN,
            Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::Metrics => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[derive(Debug, Serialize)]
struct Body {
    error: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Body {
            error: self.to_string(),
        };
        let mut response = (self.status(), Json(body)).into_response();
        let named = match self {
            Self::Method => Some((header::ALLOW, METHODS)),
            Self::PostOnly => Some((header::ALLOW, HeaderValue::from_static("POST"))),
            // RFC 9110 15.5.2 asks for it.
            Self::Token => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Self::NoHost
            | Self::ForeignHost
            | Self::NoToken
            | Self::ForeignOrigin
            | Self::UnknownPath
            | Self::Parameters(_)
            | Self::Name(_)
            | Self::Type
            | Self::Metrics => None,
        };
        if let Some((name, value)) = named {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
