//! What a look at every provider over every transport comes to: what was seen goes in, findings with their sentences come
//! out.
//!
//! Asks nobody and knows no date: certificates come as how long they still hold. What one endpoint shows is weighed
//! against what the others show, because the same silence is a provider's outage, a network that lets something not
//! through, or this machine's own lack of a way. A finding names the nearest cause that explains all of what it covers,
//! and what it explains is not told a second time.

mod common;
mod finding;
mod judge;
mod network;
mod seen;
#[cfg(test)]
mod tests;

pub use self::common::Common;
pub use self::finding::{Finding, Kind, Severity};
pub use self::judge::findings;
pub use self::seen::{
    CertificateSeen, EdnsSeen, End, EndpointSeen, Examination, Hickory, NameAnswer, NameSeen, NotAsked, ProviderSeen,
    Purpose, Seen, Signatures, TlsSeen, TlsVersion, Traits,
};
