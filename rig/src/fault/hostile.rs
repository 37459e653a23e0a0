//! What a provider does that means harm, or that is as broken as if it did.
//!
//! None of it is silence or an honest error: it is what takes a client's time, memory or trust. Each is one way of being
//! so, over the transports that can have it.

use crate::transport::Transport;

/// A way of meaning harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hostile {
    /// The right answer to another question, under the right id.
    WrongQuestion,
    /// A message as long as there are, of names that are pointers to pointers.
    Pointers,
    /// TC over every transport, over streams too.
    TruncateAlways,
    /// Before the message a length that is another one: sometimes too small, sometimes as large as there are.
    LyingLength,
    /// HTTP status 200, and a page for people.
    Html,
    /// HTTP status 302, to another place.
    Redirect,
    /// HTTP status 200 and the right type, and a body of zeros, packed: each byte becomes a hundred and fifty.
    GzipBomb,
    /// A head of half a megabyte before the answer, over HTTP/2. (Over HTTP/3 the library does not send what its client
    /// says it does not take.)
    EndlessHead,
    /// HTTP status 200 and the right type, and a body without an end.
    EndlessBody,
    /// The stream of each query is reset; the connection goes on.
    ResetStreams,
    /// Handshakes succeed, and not a byte is sent after them.
    Deaf,
    /// A byte a second.
    Drip,
}

impl Hostile {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::WrongQuestion,
        Self::Pointers,
        Self::TruncateAlways,
        Self::LyingLength,
        Self::Html,
        Self::Redirect,
        Self::GzipBomb,
        Self::EndlessHead,
        Self::EndlessBody,
        Self::ResetStreams,
        Self::Deaf,
        Self::Drip,
    ];

    /// Whether `transport` can have it.
    #[must_use]
    pub const fn is_possible(self, transport: Transport) -> bool {
        match self {
            Self::WrongQuestion | Self::Pointers | Self::TruncateAlways => true,
            Self::LyingLength => matches!(transport, Transport::Tcp | Transport::Dot | Transport::Doq),
            Self::Html | Self::Redirect | Self::GzipBomb | Self::EndlessBody => transport.is_http(),
            Self::EndlessHead => matches!(transport, Transport::Doh),
            Self::ResetStreams => matches!(transport, Transport::Doh | Transport::Doq | Transport::Doh3),
            Self::Deaf => transport.is_encrypted(),
            Self::Drip => !matches!(transport, Transport::Udp),
        }
    }

    /// As a person types it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::WrongQuestion => "wrong-question",
            Self::Pointers => "pointers",
            Self::TruncateAlways => "truncate-always",
            Self::LyingLength => "lying-length",
            Self::Html => "html",
            Self::Redirect => "http302",
            Self::GzipBomb => "gzip-bomb",
            Self::EndlessHead => "endless-head",
            Self::EndlessBody => "endless-body",
            Self::ResetStreams => "reset-streams",
            Self::Deaf => "deaf",
            Self::Drip => "drip",
        }
    }
}
