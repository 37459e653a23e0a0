//! Peers in, peers out: joins this node to the others of its cluster over libp2p/QUIC.
//!
//! Maps libp2p's events to inputs of [`detour_core::mesh::Cluster`] and its outputs back to libp2p. Decides nothing and
//! knows no DNS: with this crate absent, dead or lied to, a node is an ordinary forwarder over several providers.
