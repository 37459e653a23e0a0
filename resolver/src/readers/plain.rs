//! Waiting for many sockets at once where there is nothing better than to look at each of them.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

use super::{Descriptor, READY_MAX, WAKE};

/// What one thread waits for, by key; level-triggered.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Held for a map operation or a copy.
    waited: Mutex<BTreeMap<u64, Arc<dyn Descriptor>>>,
    /// With whom the next look begins, so that all get their turn.
    turn: AtomicUsize,
    /// What is written to one end ends a wait.
    ends: (UnixStream, UnixStream),
    is_called: AtomicBool,
}

impl Waiting {
    pub(super) fn new() -> io::Result<Self> {
        let ends = UnixStream::pair()?;
        ends.0.set_nonblocking(true)?;
        ends.1.set_nonblocking(true)?;
        Ok(Self {
            waited: Mutex::default(),
            turn: AtomicUsize::new(0),
            ends,
            is_called: AtomicBool::new(false),
        })
    }

    /// From here on waits for this too.
    pub(super) fn add(&self, descriptor: &Arc<dyn Descriptor>, key: u64) -> io::Result<()> {
        self.waited.lock().insert(key, Arc::clone(descriptor));
        self.interrupt();
        Ok(())
    }

    /// From here on does not.
    pub(super) fn remove(&self, _descriptor: &impl AsFd, key: u64) {
        // Not closed under the lock; a wait under way holds it open until its end.
        let removed = self.waited.lock().remove(&key);
        drop(removed);
    }

    /// Waits until something is there, or not at all; how many keys of what is there were written.
    pub(super) fn wait(&self, now_or_never: bool, keys: &mut [u64; READY_MAX]) -> io::Result<usize> {
        let mut waited: Vec<(u64, Arc<dyn Descriptor>)> = {
            let waited = self.waited.lock();
            waited.iter().map(|(key, own)| (*key, Arc::clone(own))).collect()
        };
        let turn = self.turn.fetch_add(READY_MAX, Ordering::Relaxed);
        let begin = turn.checked_rem(waited.len()).unwrap_or(0);
        waited.rotate_left(begin);
        let own = PollFd::new(self.ends.1.as_fd(), PollFlags::POLLIN);
        let others = waited
            .iter()
            .map(|(_, descriptor)| PollFd::new(descriptor.as_fd(), PollFlags::POLLIN));
        let mut polled: Vec<PollFd<'_>> = std::iter::once(own).chain(others).collect();
        let timeout = if now_or_never {
            PollTimeout::ZERO
        } else {
            PollTimeout::NONE
        };
        match poll(&mut polled, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |polled: &PollFd<'_>| polled.any().unwrap_or(false);
        let wakes = polled.first().is_some_and(is_ready) && self.is_woken();
        let ready = polled
            .iter()
            .skip(1)
            .zip(&waited)
            .filter(|(polled, _)| is_ready(polled));
        let ready = wakes.then_some(WAKE).into_iter().chain(ready.map(|(_, (key, _))| *key));
        let mut count = 0;
        for (place, key) in keys.iter_mut().zip(ready) {
            *place = key;
            count += 1;
        }
        Ok(count)
    }

    /// Reads what interrupted a wait; whether it was a call.
    fn is_woken(&self) -> bool {
        let mut end = &self.ends.1;
        while matches!(end.read(&mut [0; 64]), Ok(1..)) {}
        self.is_called.swap(false, Ordering::AcqRel)
    }

    /// Ends a wait, now or the next one, with the key [`WAKE`].
    pub(super) fn call(&self) {
        self.is_called.store(true, Ordering::Release);
        self.interrupt();
    }

    fn interrupt(&self) {
        let mut end = &self.ends.0;
        // Full: it has been interrupted often enough.
        drop(end.write(&[1]));
    }
}
