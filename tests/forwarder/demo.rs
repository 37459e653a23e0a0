//! `detour demo` as a command: what it refuses, and that nothing of it is left, whatever way it ends. What it shows is the
//! gate's matter, which runs it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::client::PATIENCE;
use crate::command::Run;
use crate::node::{BINARY, signal, until};

#[tokio::test]
async fn a_wrong_command_line_is_refused_before_anything_starts() {
    for arguments in [
        &["demo", "--nodes", "1"][..],
        &["demo", "--nodes", "17"],
        &["demo", "--fault", "plague"],
        &["demo", "now"],
    ] {
        let (code, stdout, stderr) = Run::to_the_end(arguments).await;
        assert_eq!((code, stdout.as_str()), (64, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("--help"), "{stderr}");
    }
    let (code, help, _) = Run::to_the_end(&["demo", "--help"]).await;
    assert_eq!(code, 0);
    for word in [
        "blackhole",
        "servfail",
        "garbage",
        "flap",
        "--no-mesh",
        "--quick",
        "--json",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[tokio::test]
async fn a_demo_that_is_interrupted_leaves_nothing() {
    for name in ["INT", "TERM", "HUP"] {
        let (mut demo, directory) = start().await;
        signal(demo.id(), name);
        let mut status = None;
        until("the end", PATIENCE, async || {
            status = demo.try_wait().unwrap();
            status.is_some()
        })
        .await;
        assert_eq!(status.unwrap().code(), Some(1), "{name}");
        assert_eq!(processes_in(directory.path()), [0_u32; 0], "{name}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{name}");
    }
}

#[tokio::test]
async fn nodes_do_not_outlive_a_demo_that_is_killed() {
    let (mut demo, directory) = start().await;
    assert!(processes_in(directory.path()).len() >= 3);
    demo.kill().unwrap();
    demo.wait().unwrap();
    until("no node is left", PATIENCE, async || {
        processes_in(directory.path()).is_empty()
    })
    .await;
}

/// A demo whose nodes run, and where their files are.
async fn start() -> (Child, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let demo = Command::new(BINARY)
        .args(["demo", "--no-mesh"])
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("three nodes run", PATIENCE, async || {
        processes_in(directory.path()).len() >= 3
    })
    .await;
    (demo, directory)
}

/// Processes whose command line names this directory.
fn processes_in(directory: &Path) -> Vec<u32> {
    let directory = directory.to_str().unwrap();
    let ids = fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // A process that ends meanwhile has no command line.
    let names_it = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(directory)
    };
    ids.filter(names_it).collect()
}
