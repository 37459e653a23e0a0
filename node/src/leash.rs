//! How a node finds out that the program that started it is gone: its standard input ends.
//!
//! The other end of that pipe is the starter's. The system closes it whatever way the starter dies, so `detour demo` and
//! tests leave no node behind; no signal and no polling of process ids is needed.

use std::io::{self, Read as _};
use std::thread;

use tokio_util::sync::CancellationToken;

/// A token that is cancelled when standard input ends or cannot be read; what comes before is thrown away.
///
/// # Errors
/// When the system has no thread for it.
pub(crate) fn stdin_ended() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let ended = token.clone();
    // A thread of its own, because it waits for as long as the process lives and must not keep a runtime from ending.
    thread::Builder::new().name("detour-stdin".into()).spawn(move || {
        let mut buffer = [0; 64];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        ended.cancel();
    })?;
    Ok(token)
}
