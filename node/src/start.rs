//! Which configuration a start has: the file, the embedded default, or the copy of the last good file in the place of
//! one that is broken or lost.

use std::path::{Path, PathBuf};

use detour_resolver::listen::certificate::Pair;

use crate::admin::Mistakes;
use crate::cli::RunArgs;
use crate::config::{Config, LoadError, Loaded, Look, read_bytes, state_dir_line};
use crate::last_good::{self, CopyError};
use crate::state;

/// What a node starts with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) config: Config,
    /// The file's text, if that is what the configuration is from.
    pub(crate) text: Option<String>,
    /// What the file looked like before it was read, whatever was in it.
    pub(crate) look: Option<Look>,
    /// The configuration is a copy, in the place of a file that is broken.
    pub(crate) degraded: Option<Degraded>,
    /// What clients are shown.
    pub(crate) pair: Option<Pair>,
}

/// Why a copy is used.
#[derive(Debug)]
pub(crate) struct Degraded {
    /// What is wrong with the file.
    pub(crate) error: LoadError,
    /// The copy.
    pub(crate) copy: PathBuf,
}

/// Why there is nothing to start with. Nothing was bound or changed.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What is wrong with the file.
    pub(crate) error: LoadError,
    /// Why no copy could stand in for it, if there was anything to be said.
    pub(crate) copy: Option<Box<CopyError>>,
}

impl Degraded {
    /// In short.
    #[must_use]
    pub(crate) fn mistakes(&self) -> Mistakes {
        let (first, more) = self.error.first_and_more();
        Mistakes { first, more }
    }
}

impl Start {
    /// Finds it.
    ///
    /// # Errors
    /// With what is wrong with the file, when nothing stands in for it.
    pub(crate) fn load(args: &RunArgs) -> Result<Self, Refused> {
        let Some(path) = &args.config else {
            let refused = |error| Refused { error, copy: None };
            return Ok(Self {
                config: Config::embedded().map_err(refused)?,
                text: None,
                look: None,
                degraded: None,
                pair: None,
            });
        };
        let look = Look::at(path);
        let loaded = Config::load(path).and_then(|loaded| Ok((loaded.config.pair()?, loaded)));
        let error = match loaded {
            Ok((pair, Loaded { config, text })) => {
                return Ok(Self {
                    config,
                    text: Some(text),
                    look,
                    degraded: None,
                    pair,
                });
            }
            Err(error) => error,
        };
        if args.strict {
            return Err(Refused { error, copy: None });
        }
        match copy_of(path, args.state_dir.as_deref()) {
            Some(Ok((config, copy))) => Ok(Self {
                // A broken certificate takes encrypted listeners their clients, and nobody else anything.
                pair: config.pair().ok().flatten(),
                config,
                text: None,
                look,
                degraded: Some(Degraded { error, copy }),
            }),
            // That a first start has no copy need not be said.
            None | Some(Err(CopyError::Absent { .. })) => Err(Refused { error, copy: None }),
            Some(Err(copy)) => Err(Refused {
                error,
                copy: Some(Box::new(copy)),
            }),
        }
    }
}

/// The copy that stands in for a file, from the state directory that the file's readable rest, or anybody else, names;
/// `None` where nobody names one.
pub(crate) fn copy_of(path: &Path, state_dir: Option<&Path>) -> Option<Result<(Config, PathBuf), CopyError>> {
    let source = std::path::absolute(path).ok()?;
    let key = read_bytes(path).ok().and_then(|bytes| state_dir_line(&bytes, path));
    let directory = state::find(state_dir, key.as_deref())?;
    Some(last_good::load(&directory, &source).map(|config| (config, directory.join(last_good::FILE))))
}
