//! Waiting for many sockets at once, as Linux does it: what is ready is told without looking at the rest.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Descriptor, READY_MAX, WAKE};

/// What one thread waits for, by key; level-triggered.
#[derive(Debug)]
pub(super) struct Waiting {
    epoll: Epoll,
    wake: EventFd,
}

impl Waiting {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Self { epoll, wake })
    }

    /// From here on waits for this too. A socket that is closed is waited for no more.
    pub(super) fn add(&self, descriptor: &Arc<dyn Descriptor>, key: u64) -> io::Result<()> {
        Ok(self.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, key))?)
    }

    /// From here on does not.
    pub(super) fn remove(&self, descriptor: &impl AsFd, _key: u64) {
        // It is there, or not waited for anyway.
        let _removed: Result<(), Errno> = self.epoll.delete(descriptor);
    }

    /// Waits until something is there, or not at all; how many keys of what is there were written.
    pub(super) fn wait(&self, now_or_never: bool, keys: &mut [u64; READY_MAX]) -> io::Result<usize> {
        let mut events = [EpollEvent::empty(); READY_MAX];
        let timeout = if now_or_never {
            EpollTimeout::ZERO
        } else {
            EpollTimeout::NONE
        };
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for (key, event) in keys.iter_mut().zip(events).take(count) {
            *key = event.data();
            if *key == WAKE {
                // Empty: another call was heard before.
                let _count: Result<u64, Errno> = self.wake.read();
            }
        }
        Ok(count)
    }

    /// Ends a wait, now or the next one, with the key [`WAKE`].
    pub(super) fn call(&self) {
        // Full: it has been called often enough.
        let _written: Result<usize, Errno> = self.wake.write(1);
    }
}
