//! Logs: one subscriber, to standard error, as text or JSON.
//!
//! No query name and no client address at info or above; a black-box test holds this.

use std::io;

use crate::config::{Log, LogFormat};

/// Installs the subscriber; a second call changes nothing.
pub(crate) fn install(log: &Log) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(log.level)
        .with_writer(io::stderr)
        .with_target(false);
    // An error means that one is installed, which is what was wanted.
    let result = match log.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(result);
}
