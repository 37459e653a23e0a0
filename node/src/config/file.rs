//! A configuration file as a file: read up to a bound, and told from what it was by a look from outside.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Config, LoadError};

/// Largest file that is read, bytes. 256 endpoints with a page of comment each fit in a quarter of it; a larger
/// file is a mistake (`-c /var/log/…`) and reading it would only delay the message.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a file looks like from outside; another look, another content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last write, and of the last change of anything.
    times: [i64; 4],
}

impl Look {
    /// That of the file at `path`, links followed; `None` where none can be seen.
    #[must_use]
    pub(crate) fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            times: [
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ],
        }
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loaded {
    /// What it says.
    pub(crate) config: Config,
    /// Word for word.
    pub(crate) text: String,
}

impl Config {
    /// Reads and judges a file.
    ///
    /// # Errors
    /// When it cannot be read, or with every mistake in it.
    pub(crate) fn load(path: &Path) -> Result<Loaded, LoadError> {
        let text = read_text(path)?;
        let config = Self::parse(&text, path)?;
        Ok(Loaded { config, text })
    }
}

/// The text of a file.
///
/// # Errors
/// When it cannot be read, is too large, or no text.
fn read_text(path: &Path) -> Result<String, LoadError> {
    let cannot_read = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = read_bytes(path).map_err(cannot_read)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(LoadError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        LoadError::NotUtf8 {
            path: path.to_owned(),
            line: good.filter(|byte| **byte == b'\n').count() + 1,
        }
    })
}

/// A file's bytes, up to one more than a configuration can have.
///
/// # Errors
/// When the system cannot read it.
pub(crate) fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
