//! The token file: what tells the operator from everybody else on this machine, where the admin interface changes
//! anything. Made at the start, kept between starts, readable by its owner alone.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::durable;

/// In the state directory.
pub(crate) const FILE: &str = "token";
/// Random bytes: nobody guesses one of 2^256.
const BYTES: usize = 32;
/// Permissions of others; a token that anybody could read is none.
const OTHERS: u32 = 0o077;

/// Sees to it that there is a token in `directory`; whether a new one was made.
///
/// # Errors
/// When the directory cannot be read or written.
pub(crate) fn ensure(directory: &Path) -> io::Result<bool> {
    let path = directory.join(FILE);
    match fs::symlink_metadata(&path) {
        Ok(metadata) => {
            let is_secret = metadata.is_file() && metadata.permissions().mode() & OTHERS == 0;
            if is_secret && is_token(&fs::read(&path)?) {
                return Ok(false);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let secret: [u8; BYTES] = rand::random();
    let mut text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    durable::write(directory, FILE, text.as_bytes())?;
    Ok(true)
}

/// The token of `directory`, without the end of its line.
///
/// # Errors
/// When it cannot be read, or is no secret any more.
pub(crate) fn read(directory: &Path) -> io::Result<Vec<u8>> {
    let path = directory.join(FILE);
    let metadata = fs::symlink_metadata(&path)?;
    if !metadata.is_file() || metadata.permissions().mode() & OTHERS != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can read it"));
    }
    let bytes = fs::read(&path)?;
    if is_token(&bytes) {
        Ok(bytes.trim_ascii_end().to_vec())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it is no token"))
    }
}

/// Whether `given` is the token of `directory`; how much of it is right cannot be told from the time it takes.
///
/// # Errors
/// As [`read`].
pub(crate) fn matches(directory: &Path, given: &[u8]) -> io::Result<bool> {
    let token = read(directory)?;
    let differences = token
        .iter()
        .zip(given)
        .fold(0, |so_far, (own, given)| so_far | (own ^ given));
    Ok(token.len() == given.len() && differences == 0)
}

fn is_token(bytes: &[u8]) -> bool {
    let token = bytes.trim_ascii_end();
    token.len() == 2 * BYTES && token.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_anew_when_others_could_have_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert!(ensure(directory.path()).unwrap());
        let first = fs::read(&path).unwrap();
        assert!(is_token(&first) && mode(&path) == 0o600);
        assert!(!ensure(directory.path()).unwrap());
        assert_eq!(fs::read(&path).unwrap(), first);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(ensure(directory.path()).unwrap());
        assert!(fs::read(&path).unwrap() != first && mode(&path) == 0o600);
        for broken in [&b""[..], b"abc\n", &[b'x'; 64]] {
            fs::write(&path, broken).unwrap();
            assert!(ensure(directory.path()).unwrap());
        }
        let token = read(directory.path()).unwrap();
        assert!(matches(directory.path(), &token).unwrap());
        for wrong in [&token[..63], &[b'0'; 64], b"", &[token.as_slice(), b"0"].concat()] {
            assert!(!matches(directory.path(), wrong).unwrap());
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches(directory.path(), &token).is_err());
        // A link leads to a file that is somebody else's to keep secret.
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(ensure(directory.path()).unwrap());
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert!(ensure(&directory.path().join("absent")).is_err());
    }
}
