//! Numbers of the DNS registry that this project acts upon, by their registry names (IANA "DNS Parameters").
//!
//! Only numbers some rule needs are here; all others pass as numbers.

/// Record and query types.
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Name server.
    pub const NS: u16 = 2;
    /// Mail destination (obsolete).
    pub const MD: u16 = 3;
    /// Mail forwarder (obsolete).
    pub const MF: u16 = 4;
    /// Alias.
    pub const CNAME: u16 = 5;
    /// Start of a zone; in the authority section it carries the negative TTL.
    pub const SOA: u16 = 6;
    /// Mailbox (experimental).
    pub const MB: u16 = 7;
    /// Mail group (experimental).
    pub const MG: u16 = 8;
    /// Mail rename (experimental).
    pub const MR: u16 = 9;
    /// Pointer.
    pub const PTR: u16 = 12;
    /// Host information; the answer to ANY over UDP (RFC 8482).
    pub const HINFO: u16 = 13;
    /// Mailbox information (experimental).
    pub const MINFO: u16 = 14;
    /// Mail exchange.
    pub const MX: u16 = 15;
    /// Text.
    pub const TXT: u16 = 16;
    /// Responsible person.
    pub const RP: u16 = 17;
    /// AFS database.
    pub const AFSDB: u16 = 18;
    /// Route through.
    pub const RT: u16 = 21;
    /// Signature; in the additional section of a query: SIG(0), RFC 2931.
    pub const SIG: u16 = 24;
    /// X.400 mapping.
    pub const PX: u16 = 26;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Next domain (obsolete).
    pub const NXT: u16 = 30;
    /// Service.
    pub const SRV: u16 = 33;
    /// Naming authority pointer.
    pub const NAPTR: u16 = 35;
    /// Key exchanger.
    pub const KX: u16 = 36;
    /// Alias of a subtree.
    pub const DNAME: u16 = 39;
    /// EDNS, RFC 6891.
    pub const OPT: u16 = 41;
    /// Signature of an RRset.
    pub const RRSIG: u16 = 46;
    /// HTTPS service binding.
    pub const HTTPS: u16 = 65;
    /// "No such name" of compact denial: exists in NSEC bitmaps only, RFC 9824.
    pub const NXNAME: u16 = 128;
    /// Transaction signature, RFC 8945.
    pub const TSIG: u16 = 250;
    /// Incremental zone transfer.
    pub const IXFR: u16 = 251;
    /// Zone transfer.
    pub const AXFR: u16 = 252;
    /// All records a server cares to give, RFC 8482.
    pub const ANY: u16 = 255;
}

/// Classes.
pub mod class {
    /// The Internet.
    pub const IN: u16 = 1;
    /// Chaos: questions about the server itself.
    pub const CH: u16 = 3;
    /// No class: dynamic update only.
    pub const NONE: u16 = 254;
    /// Any class.
    pub const ANY: u16 = 255;
}

/// Response codes, with the upper bits that EDNS adds.
pub mod rcode {
    /// No error; with an empty answer section: no data.
    pub const NOERROR: u16 = 0;
    /// The query could not be read.
    pub const FORMERR: u16 = 1;
    /// The server failed.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The kind of query is not implemented.
    pub const NOTIMP: u16 = 4;
    /// The server does not want to answer.
    pub const REFUSED: u16 = 5;
    /// EDNS version not supported; needs an OPT.
    pub const BADVERS: u16 = 16;
    /// The server wants its cookie; needs an OPT.
    pub const BADCOOKIE: u16 = 23;
}

/// Extended DNS errors (RFC 8914) that Detour itself sends.
pub mod ede {
    /// The answer is older than its TTL.
    pub const STALE_ANSWER: u16 = 3;
    /// The failure comes from the cache.
    pub const CACHED_ERROR: u16 = 13;
    /// Who asks may not.
    pub const PROHIBITED: u16 = 18;
    /// The answer is a denial older than its TTL.
    pub const STALE_NXDOMAIN: u16 = 19;
    /// The type, class or operation is refused by design.
    pub const NOT_SUPPORTED: u16 = 21;
    /// No endpoint of any provider answered.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    /// An endpoint could not be reached.
    pub const NETWORK_ERROR: u16 = 23;
}

/// EDNS options whose contents are looked at.
pub(super) mod option {
    /// Client subnet, RFC 7871.
    pub(in crate::wire) const CLIENT_SUBNET: u16 = 8;
    /// Cookie, RFC 7873.
    pub(in crate::wire) const COOKIE: u16 = 10;
    /// How long an idle connection is kept, RFC 7828.
    pub(in crate::wire) const TCP_KEEPALIVE: u16 = 11;
    /// Padding, RFC 7830.
    pub(in crate::wire) const PADDING: u16 = 12;
    /// Extended error, RFC 8914.
    pub(in crate::wire) const EDE: u16 = 15;
}
