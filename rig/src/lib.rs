//! Detour's test rig: fake DNS providers with faults that are switched while they run, an open-loop load generator,
//! and a ledger with one record per query.
//!
//! Nothing here is part of the data path. The rig exists so that `demo`, `bench`, the examples and the tests of other
//! crates can do one experiment honestly: send names nobody asked before at a fixed rate, break a provider, and say of
//! every single query whether its client was hurt.
//!
//! * [`zone`]: every name under ten domains exists, and its name says which answer is right.
//! * [`law`]: its name also says how long an unfaulted answer takes, at every provider alike.
//! * [`fault`] and [`fake`]: a provider in this process, on loopback, over any of the [`transport`]s, and what is wrong
//!   with it; [`authority`]: whom its clients trust.
//! * [`far_end`]: an honest provider by other people, for interoperability.
//! * [`load`] and [`ledger`]: queries at scheduled instants whatever comes back, and what became of them.
//! * [`way`]: a faulty network between a provider and whoever asks it.
//! * [`process`] and [`http`]: the real `detour` binary as a child, and a GET to its admin listener; [`cluster`] and
//!   [`events`]: several of them, joined by the mesh, and what their logs say happened when; [`relay`]: what passes
//!   between two of them; [`binary`]: the binary for an example.
//!
//! Rules: the fakes write their bytes by hand, so that no DNS library can be wrong in the same way at both ends.
//! Randomness comes from a seed, [`clock::now`] is the only clock, and every queue has a limit.

pub mod authority;
pub mod binary;
pub mod clock;
pub mod cluster;
pub mod events;
pub mod fake;
pub mod far_end;
pub mod fault;
pub mod http;
pub mod law;
pub mod ledger;
pub mod load;
pub mod message;
pub mod process;
pub mod random;
pub mod relay;
pub mod stall;
pub mod transport;
pub mod way;
pub mod zone;

mod wire;

pub use authority::Authority;
pub use cluster::{Cluster, ClusterConfig, ClusterNode, StartClusterError};
pub use events::{Event, EventLog};
pub use fake::{ConnectionLimits, Fake, FakeConfig, Manners, StartError, Stats, TransportStats};
pub use far_end::FarEnd;
pub use fault::{Closing, Fault, Hostile};
pub use law::Law;
pub use ledger::{Grade, Ledger, Record, Summary};
pub use load::{FreshNames, Load, LoadConfig, LoadError};
pub use process::{NodeProcess, StartNodeError};
pub use transport::{ListedTransports, Transport, TransportSel};
pub use way::{Way, WayFaults};
