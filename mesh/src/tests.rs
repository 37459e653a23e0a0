//! Real nodes over real QUIC on loopback: what the parts do together.

mod hostile;
mod life;
mod nodes;
mod raw;
mod refusals;
mod stages;
