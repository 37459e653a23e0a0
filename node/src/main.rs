//! The node.
mod cli;
mod config;

fn main() {}
