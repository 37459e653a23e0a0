//! DNS cookies as a client has them (RFC 7873, RFC 9018): eight octets that only the asked server has seen, and what
//! that server wants to see again.
//!
//! An answer that repeats the client's part cannot have been sent by somebody who did not see the query.

/// The client's part (RFC 7873 section 4.1).
pub const CLIENT_COOKIE_BYTES: usize = 8;
/// The longest cookie: the client's part and 32 octets of the server's (RFC 7873 section 4.2).
const COOKIE_BYTES_MAX: usize = 40;

/// The contents of a COOKIE option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cookie {
    len: u8,
    bytes: [u8; COOKIE_BYTES_MAX],
}

impl Cookie {
    /// A cookie for a server that has given none yet.
    #[must_use]
    pub fn of_client(own: [u8; CLIENT_COOKIE_BYTES]) -> Self {
        Self::copy(&own)
    }

    /// The cookie of these contents. Whatever has an impossible length becomes one that echoes nothing: RFC 7873 section
    /// 5.3 has the whole response discarded.
    #[must_use]
    pub(super) fn read(contents: &[u8]) -> Self {
        match contents.len() {
            CLIENT_COOKIE_BYTES | 16..=COOKIE_BYTES_MAX => Self::copy(contents),
            _ => Self::copy(&[]),
        }
    }

    fn copy(contents: &[u8]) -> Self {
        let mut bytes = [0; COOKIE_BYTES_MAX];
        let mut len = 0;
        if let (Some(place), Ok(count)) = (bytes.get_mut(..contents.len()), u8::try_from(contents.len())) {
            place.copy_from_slice(contents);
            len = count;
        }
        Self { len, bytes }
    }

    /// Both parts.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether there is a server's part.
    #[must_use]
    pub fn has_server_part(&self) -> bool {
        usize::from(self.len) > CLIENT_COOKIE_BYTES
    }

    /// Whether its client's part is that of `sent`.
    #[must_use]
    pub fn echoes(&self, sent: &Self) -> bool {
        let own = sent.as_bytes().get(..CLIENT_COOKIE_BYTES);
        own.is_some() && self.as_bytes().get(..CLIENT_COOKIE_BYTES) == own
    }
}

impl std::fmt::Debug for Cookie {
    /// Not the octets: they are what a forger would like to know.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cookie").field("len", &self.len).finish_non_exhaustive()
    }
}
