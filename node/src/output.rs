//! What the process says on standard output and standard error.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use crate::cli::exit_code;

/// Writes a command's output; `code` unless that fails. A reader that went away (`| head`) is no failure.
pub(crate) fn print(out: &mut dyn Write, text: &str, code: u8) -> u8 {
    match write_all(out, text) {
        Ok(()) => code,
        Err(error) => {
            complain("cannot write", &error);
            exit_code::FAILED
        }
    }
}

/// One line on standard output, now. A reader that went away is no failure.
///
/// # Errors
/// When the system refuses the write.
pub(crate) fn print_line(line: impl fmt::Display) -> io::Result<()> {
    write_all(&mut io::stdout().lock(), &format!("{line}\n"))
}

fn write_all(out: &mut dyn Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says on standard error why something failed, causes included; there is nobody to tell if that fails.
pub(crate) fn complain(what: &str, error: &dyn Error) {
    let text = chain(error);
    let lead = if what.is_empty() {
        String::new()
    } else {
        format!("{what}: ")
    };
    drop(writeln!(io::stderr().lock(), "{lead}{}", text.trim_end()));
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
