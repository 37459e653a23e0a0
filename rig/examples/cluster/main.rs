//! Figures of a cluster.

fn main() {}
