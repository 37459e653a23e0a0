//! DNS over QUIC (RFC 9250) and over HTTP/3 (RFC 8484 over RFC 9114) to endpoints: a stream per query.
//!
//! The connections are kept by the same code as those over TCP (`stream/connection.rs`); what stands here is what is
//! below it: one socket per address family for all endpoints and both protocols (`sockets.rs`), what that socket hears
//! about those who do not answer (`watched.rs`, `errors.rs`), connecting (`dial.rs`), and a query each on a stream of
//! its own (`doq.rs`, `h3.rs`, the latter within `crate::bounded`). What went wrong becomes a cause in `failure.rs`.

mod dial;
mod doq;
mod errors;
mod failure;
mod h3;
mod link;
mod sockets;
#[cfg(test)]
mod tests;
mod watched;
mod witness;

pub(in crate::exchange) use self::dial::QuicDialer;
pub(in crate::exchange) use self::link::QuicLink;
pub(crate) use self::sockets::QuicSockets;
pub(in crate::exchange) use self::witness::Witness;
