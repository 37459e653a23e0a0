//! DNS in, DNS out: listeners, wire view, cache, endpoint transports, driving attempts.

pub mod acl;
