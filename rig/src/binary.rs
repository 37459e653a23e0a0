//! Binaries for an example that was not told of any: built by the cargo that runs the example.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not run by cargo.
    #[error("run this by cargo, or name the binary")]
    NoCargo,
    /// The example's own path is not known, or not in a target directory.
    #[error("this example is in no target directory")]
    NoTarget,
    /// Cargo could not be run.
    #[error("cannot run cargo")]
    Run(#[source] io::Error),
    /// Cargo failed, and said why.
    #[error("the build failed")]
    Failed,
}

/// Builds the node in release mode, in the target directory that the running example is in; its path.
///
/// # Errors
/// When the example was not started by cargo, or the build fails.
pub fn build_node() -> Result<PathBuf, BuildError> {
    build(&["-p", "detour"], "release/detour")
}

/// The same for an example of another member.
///
/// # Errors
/// As [`build_node`].
pub fn build_example(package: &str, name: &str) -> Result<PathBuf, BuildError> {
    build(&["-p", package, "--example", name], &format!("release/examples/{name}"))
}

fn build(what: &[&str], made: &str) -> Result<PathBuf, BuildError> {
    let cargo = env::var_os("CARGO").ok_or(BuildError::NoCargo)?;
    // target/<profile>/examples/<example>
    let example = env::current_exe().map_err(BuildError::Run)?;
    let target = example.ancestors().nth(3).ok_or(BuildError::NoTarget)?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut build = Command::new(cargo);
    build
        .args(["build", "--release", "--target-dir"])
        .arg(target)
        .args(what)
        .current_dir(workspace);
    if !build.status().map_err(BuildError::Run)?.success() {
        return Err(BuildError::Failed);
    }
    Ok(target.join(made))
}
