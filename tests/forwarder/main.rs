//! The forwarder as its clients see it: the real binary, real sockets on loopback, fake providers in this process.
//!
//! Every test has a node of its own on ports of the system's choice and a directory of its own. Nothing leaves the
//! machine, nothing needs a privilege or IPv6. A test waits for something to become true, with a deadline, and never
//! for a time to pass; deadlines are far above what is promised, because the machine may be busy. Promised times are
//! the benchmarks' matter.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where its assumptions do"
)]

mod acl;
mod answers;
mod caching;
mod certificates;
mod client;
mod command;
mod connections;
mod crowds;
mod demo;
mod designated;
mod differential;
mod dns64;
mod doctor;
mod doh;
mod encrypted;
mod eyeballs;
mod faults;
mod floods;
mod forgery;
mod hoards;
mod home;
mod hostile;
mod last_good;
mod lifecycle;
mod links;
mod local;
mod message;
mod metrics;
mod names;
mod network;
mod node;
mod outage;
mod outcomes;
mod privacy;
mod quic;
mod reload;
mod renewal;
mod routes;
mod rules;
mod scripted;
mod secure;
mod served;
mod start;
mod store;
mod strain;
mod tcp;
mod travel;
mod truncation;
mod warm;
mod ways;
