//! What is wrong with a configuration, in the form an editor and a person can follow: `PATH:LINE: key: what`.
//!
//! The texts are made here for people only. No code decides by them.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Most mistakes that are listed. A file that is not a configuration at all has thousands, and the first page
/// tells as much.
const PROBLEMS_SHOWN_MAX: usize = 50;

/// Most characters of a file's own text that are repeated in a message.
const QUOTED_CHARS_MAX: usize = 80;

/// Why a configuration could not be loaded. Nothing has changed when one of these is returned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The file is missing, a directory, or not ours to read: the operator's mistake, or a disk's.
    #[error("cannot read configuration file {}", path.display())]
    Read {
        /// As it was named.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// More than a configuration can be.
    #[error("{}: larger than 1MiB, so surely not a configuration file", path.display())]
    TooLarge {
        /// As it was named.
        path: PathBuf,
    },
    /// TOML is UTF-8.
    #[error("{}:{line}: not UTF-8 text", path.display())]
    NotUtf8 {
        /// As it was named.
        path: PathBuf,
        /// Of the first byte that is none.
        line: usize,
    },
    /// Mistakes, all of them.
    #[error("{}", ProblemLines { path, problems })]
    Invalid {
        /// As it was named.
        path: PathBuf,
        /// In the order of their lines; at least one.
        problems: Vec<Problem>,
    },
}

impl LoadError {
    /// The first mistake in a line, and how many more there are.
    #[must_use]
    pub(crate) fn first_and_more(&self) -> (String, usize) {
        let text = self.to_string();
        let first = text.lines().next().unwrap_or_default().to_owned();
        match self {
            Self::Invalid { problems, .. } => (first, problems.len().saturating_sub(1)),
            Self::Read { source, .. } => (format!("{first}: {source}"), 0),
            Self::TooLarge { .. } | Self::NotUtf8 { .. } => (first, 0),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Counted from 1.
    pub(crate) line: usize,
    /// Such as `provider[1].endpoints[0]`; empty for a mistake of syntax.
    pub(crate) key: String,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

struct ProblemLines<'a> {
    path: &'a PathBuf,
    problems: &'a [Problem],
}

impl fmt::Display for ProblemLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (index, Problem { line, key, message }) in self.problems.iter().take(PROBLEMS_SHOWN_MAX).enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            let colon = if key.is_empty() { "" } else { ": " };
            write!(f, "{newline}{path}:{line}: {key}{colon}{message}")?;
        }
        match self.problems.len().saturating_sub(PROBLEMS_SHOWN_MAX) {
            0 => Ok(()),
            hidden => write!(f, "\n{path}: and {hidden} more"),
        }
    }
}

/// A key and its line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: String,
    pub(super) line: usize,
}

impl Place {
    /// The place of a key in the table here.
    pub(super) fn child(&self, key: &str, line: usize) -> Self {
        let is_bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let key = if is_bare && key.len() <= QUOTED_CHARS_MAX {
            key.to_owned()
        } else {
            quoted(key)
        };
        Self {
            key: if self.key.is_empty() {
                key
            } else {
                format!("{}.{key}", self.key)
            },
            line,
        }
    }

    /// The place of an element of the array here.
    pub(super) fn element(&self, index: usize, line: usize) -> Self {
        Self {
            key: format!("{}[{index}]", self.key),
            line,
        }
    }
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn add(&mut self, place: &Place, message: impl Into<String>) {
        self.list.push(Problem {
            line: place.line,
            key: place.key.clone(),
            message: message.into(),
        });
    }

    /// Forgets what a syntax error at that line may have brought about; syntax errors themselves stay.
    pub(super) fn keep_before(&mut self, line: Option<usize>) {
        if let Some(line) = line {
            self.list
                .retain(|problem| problem.line < line || problem.key.is_empty());
        }
    }

    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|problem| problem.line);
        self.list
    }
}

/// A number of the file, with its unit if it has one, for use in a message: as it was written, not endless.
pub(super) fn shortened(number: &str) -> String {
    match number.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", number.get(..end).unwrap_or_default()),
        None => number.to_owned(),
    }
}

/// Text of the file for use in a message: in quotes, on one line, not endless.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().nth(QUOTED_CHARS_MAX).is_none() {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    format!("{start:?}…")
}
