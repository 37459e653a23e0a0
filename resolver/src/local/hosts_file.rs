//! A hosts file on the disk: when it is looked at, and what happens when it changes, vanishes or cannot be read.
//!
//! Nothing watches it while nobody asks. A query that comes a second or more after the last look has the file looked at
//! by a thread of its own, so that a disk which hangs holds up nobody; queries that could come out otherwise (those no
//! cache answers, and those the file answers itself) wait for that look, up to a second from its beginning.
//!
//! | the file | what its names are |
//! |---|---|
//! | is another one, or has another size, time or change | read anew |
//! | changed at the last look | read once more: it may have changed again within one tick of the disk's clock |
//! | is not there | none |
//! | cannot be read, is no file, is too large | what they were; said once, and in the status |

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use detour_core::Time;
use detour_core::time::SEC;
use nix::libc;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::hosts::Hosts;
use super::zones::Zones;

/// How long what was seen of the file is good.
const LOOK_EVERY_US: u64 = SEC;

/// How long after a look began queries wait for its end. A file of the largest size takes a third of it.
const LOOK_PATIENCE_US: u64 = SEC;

/// Largest file that is read, bytes: twice the largest public block list. A larger one is most likely not a hosts file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a file's contents cannot be had. The old ones stay.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// A directory, a device, a pipe.
    #[error("not a regular file")]
    NotAFile,
    /// Beyond the bound.
    #[error("larger than 16 MiB")]
    TooLarge,
    /// What the system says.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// By what a file is told from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What the last look saw.
#[derive(Debug, Default)]
struct Seen {
    /// Of the file that was read; `None` before the first, after trouble and when there is no file.
    stamp: Option<Stamp>,
    /// It is to be read again even if it looks the same.
    again: bool,
    /// Whether there was a look at all.
    looked: bool,
}

/// The file and its names.
#[derive(Debug)]
pub(super) struct HostsFile {
    path: PathBuf,
    /// Held for a lookup of one name, or to put another table in its place.
    hosts: RwLock<Hosts>,
    /// From when on a query has it looked at, microseconds.
    next_look: AtomicU64,
    /// When the last look began, microseconds.
    begun: AtomicU64,
    looking: watch::Sender<bool>,
    /// Held by the one look there is, for as long as it takes.
    seen: Mutex<Seen>,
    /// Why the names are not those of the file; held to read or write it.
    trouble: Mutex<Option<String>>,
}

impl HostsFile {
    /// A file that has not been looked at.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            hosts: RwLock::default(),
            next_look: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            looking: watch::Sender::new(false),
            seen: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads something off the current table.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Hosts) -> T) -> T {
        read(&self.hosts.read())
    }

    /// Why the names may not be those of the file, in words.
    pub(super) fn trouble(&self, now: Time) -> Option<String> {
        if *self.looking.borrow() && self.patience(now) == Duration::ZERO {
            return Some("the disk does not answer".to_owned());
        }
        self.trouble.lock().clone()
    }

    /// Whether a look is due, and if so, whether the caller is the one who has to start it. Costs a load.
    pub(super) fn is_due(&self, now: Time) -> bool {
        let due = self.next_look.load(Ordering::Relaxed);
        if now.as_micros() < due || *self.looking.borrow() {
            return false;
        }
        let next = now.plus(LOOK_EVERY_US).as_micros();
        let is_mine = self
            .next_look
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if is_mine {
            self.begun.store(now.as_micros(), Ordering::Relaxed);
            self.looking.send_replace(true);
        }
        is_mine
    }

    /// Whether a look is under way that is worth waiting for.
    pub(super) fn is_being_read(&self, now: Time) -> bool {
        *self.looking.borrow() && self.patience(now) > Duration::ZERO
    }

    /// Waits for the look that is under way, if there is one and as long as it is worth it.
    pub(super) async fn settle(&self, now: Time) {
        if self.is_being_read(now) {
            let mut looking = self.looking.subscribe();
            // The end of the look or of the patience: either is the end. Cancel safe: a watch.
            drop(tokio::time::timeout(self.patience(now), looking.wait_for(|looking| !looking)).await);
        }
    }

    fn patience(&self, now: Time) -> Duration {
        let begun = Time::from_micros(self.begun.load(Ordering::Relaxed));
        Duration::from_micros(LOOK_PATIENCE_US.saturating_sub(now.since(begun)))
    }

    /// Looks at the file and reads it if it changed. Blocks: not for a thread that serves queries.
    pub(super) fn look(&self, zones: &Zones) {
        let _done = Done(&self.looking);
        let path = self.path.display();
        let mut seen = self.seen.lock();
        let is_first = !std::mem::replace(&mut seen.looked, true);
        match self.read_if_changed(&mut seen) {
            Ok(found) => {
                let had_trouble = self.trouble.lock().take().is_some();
                match found {
                    Contents::Same => {}
                    Contents::Gone => {
                        if self.replace(Hosts::default()) || had_trouble || is_first {
                            tracing::info!(%path, "no hosts file: no names from it");
                        }
                    }
                    Contents::New(text) => {
                        let hosts = Hosts::parse(&text, zones);
                        let (entries, ignored_lines, left_out) = (hosts.len(), hosts.ignored_lines, hosts.left_out);
                        if self.replace(hosts) || had_trouble {
                            tracing::info!(%path, entries, ignored_lines, left_out, "hosts file read");
                        }
                    }
                }
            }
            Err(why) => {
                // Whatever is wrong may end without another stamp.
                seen.stamp = None;
                let why = why.to_string();
                let before = self.trouble.lock().replace(why.clone());
                if before.as_ref() != Some(&why) {
                    tracing::warn!(%path, why, "cannot read the hosts file: its names stay what they were");
                }
            }
        }
    }

    /// Nobody looks after all.
    pub(super) fn give_up(&self) {
        self.looking.send_replace(false);
    }

    /// Puts another table in place; true if it says something else.
    fn replace(&self, hosts: Hosts) -> bool {
        if *self.hosts.read() == hosts {
            return false;
        }
        // Taking an old table apart takes time: not while queries wait for the lock.
        let old = std::mem::replace(&mut *self.hosts.write(), hosts);
        drop(old);
        true
    }

    fn read_if_changed(&self, seen: &mut Seen) -> Result<Contents, Trouble> {
        let found = match fs::metadata(&self.path) {
            Ok(metadata) => Stamp::of(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                seen.stamp = None;
                return Ok(Contents::Gone);
            }
            Err(error) => return Err(error.into()),
        };
        let is_known = seen.stamp == Some(found);
        if is_known && !seen.again {
            return Ok(Contents::Same);
        }
        let (stamp, text) = read(&self.path)?;
        seen.again = seen.stamp != Some(stamp);
        seen.stamp = Some(stamp);
        Ok(Contents::New(text))
    }
}

/// What a look found.
#[derive(Debug)]
enum Contents {
    Same,
    Gone,
    New(Vec<u8>),
}

/// Says that a look is over, even where it panicked.
struct Done<'a>(&'a watch::Sender<bool>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

/// Reads a regular file of bounded size; a pipe is opened without waiting for somebody at its other end.
fn read(path: &Path) -> Result<(Stamp, Vec<u8>), Trouble> {
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Trouble::NotAFile);
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(Trouble::TooLarge);
    }
    Ok((Stamp::of(&metadata), text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::hosts::Said;

    struct Watched {
        file: HostsFile,
        zones: Zones,
        directory: tempfile::TempDir,
    }

    impl Watched {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self {
                file: HostsFile::new(directory.path().join("hosts")),
                zones: Zones::without(&[]),
                directory,
            }
        }

        /// The address of `name` after another look.
        fn looked_up(&self, name: &str) -> Option<String> {
            self.file.look(&self.zones);
            self.file.with(|hosts| match hosts.get(&name.parse().unwrap()) {
                Some(Said::Host(set)) => set.first().map(ToString::to_string),
                Some(Said::Pointer(..)) | None => None,
            })
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.directory.path().join(name), text).unwrap();
        }

        fn trouble(&self) -> Option<String> {
            self.file.trouble(Time::ZERO)
        }
    }

    #[test]
    fn every_way_to_change_a_file_is_noticed() {
        let own = Watched::new();
        assert_eq!(own.looked_up("nas"), None);
        own.write("hosts", "10.0.0.1 nas\n");
        assert_eq!(own.looked_up("nas").unwrap(), "10.0.0.1");
        // In place and of the same size, perhaps within one tick of the disk's clock.
        own.write("hosts", "10.0.0.2 nas\n");
        assert_eq!(own.looked_up("nas").unwrap(), "10.0.0.2");
        // By another file, as careful editors do.
        own.write("new", "10.0.0.3 nas\n");
        fs::rename(own.directory.path().join("new"), own.file.path()).unwrap();
        assert_eq!(own.looked_up("nas").unwrap(), "10.0.0.3");
        assert_eq!(own.looked_up("nas").unwrap(), "10.0.0.3");
        own.write("hosts", "");
        assert_eq!(own.looked_up("nas"), None);
        own.write("hosts", "10.0.0.4 nas\n");
        assert_eq!(own.looked_up("nas").unwrap(), "10.0.0.4");
        fs::remove_file(own.file.path()).unwrap();
        assert_eq!(own.looked_up("nas"), None);
        assert_eq!(own.trouble(), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_leaves_the_names_as_they_were() {
        let own = Watched::new();
        own.write("hosts", "10.0.0.1 nas\n");
        assert_eq!(own.looked_up("nas").unwrap(), "10.0.0.1");
        fs::remove_file(own.file.path()).unwrap();
        fs::create_dir(own.file.path()).unwrap();
        assert_eq!(own.looked_up("nas").unwrap(), "10.0.0.1");
        assert_eq!(own.trouble().unwrap(), "not a regular file");
        fs::remove_dir(own.file.path()).unwrap();
        // Sparse: it costs no disk.
        let large = File::create(own.file.path()).unwrap();
        large.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(own.looked_up("nas").unwrap(), "10.0.0.1");
        assert_eq!(own.trouble().unwrap(), "larger than 16 MiB");
        own.write("hosts", "10.0.0.2 nas\n");
        assert_eq!(own.looked_up("nas").unwrap(), "10.0.0.2");
        assert_eq!(own.trouble(), None);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_queries_up_for_a_second_and_no_longer() {
        let own = Watched::new();
        assert!(own.file.is_due(Time::at_ms(5_000)));
        // Nobody looks, as if the thread hung. What is left of the second passes, and then nobody waits.
        let (early, late) = (Time::at_ms(5_970), Time::at_ms(6_000));
        assert!(own.file.is_being_read(early) && !own.file.is_being_read(late));
        own.file.settle(early).await;
        own.file.settle(late).await;
        assert!(!own.file.is_due(Time::at_ms(60_000)), "one look at a time");
        assert_eq!(own.file.trouble(early), None);
        assert_eq!(own.file.trouble(late).unwrap(), "the disk does not answer");
        own.file.look(&own.zones);
        assert!(own.file.is_due(Time::at_ms(60_000)));
        assert_eq!(own.file.trouble(Time::at_ms(60_000)), None);
    }
}
