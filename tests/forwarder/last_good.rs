//! A start with a file that is broken or lost: from the copy of the last one that was good, and from nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use detour_rig::{Fake, clock, http, zone};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{PATIENCE, Udp};
use crate::command::Run;
use crate::message::{Message, rtype};
use crate::node::{config, fake, udp_blocks, until};

/// When a configuration has served long enough, and what a busy machine may add.
const SERVED: Duration = Duration::from_secs(60);

/// A copy as a node writes it.
fn copy(of: &Path, by: &str, body: &str) -> String {
    let of = of.display();
    let bytes = format!("{of}\0{by}\0{body}\0");
    let sum = bytes.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!(
        "# detour last-good 1: the last configuration that served for a minute. Do not edit.\n\
         # of = \"{of}\"\n# by = \"{by}\"\n# sum = \"{sum:016x}\"\n{body}"
    )
}

/// A directory with a file that is broken and a copy in `state` that is not.
struct Site {
    fake: Fake,
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        let (fake, directory) = (fake("fake"), tempfile::tempdir().unwrap());
        let site = Self { fake, directory };
        fs::create_dir(site.path("state")).unwrap();
        site.keep("state", &site.good());
        site.write("version = 1\n[listen\n");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the file was when it was good.
    fn good(&self) -> String {
        config(&udp_blocks(&[&self.fake]))
    }

    /// What the file is.
    fn write(&self, text: &str) {
        fs::write(self.path("detour.toml"), text).unwrap();
    }

    /// Puts a copy of the file into a state directory.
    fn keep(&self, state: &str, body: &str) {
        let text = copy(&self.path("detour.toml"), env!("CARGO_PKG_VERSION"), body);
        fs::write(self.path(state).join("last-good.toml"), text).unwrap();
    }

    /// Starts a node in the directory, which stays this site's.
    fn run(&self, arguments: &[&str]) -> Run {
        let mut all = vec!["run", "-c", "detour.toml"];
        all.extend(arguments);
        Run::inside(&all, self.directory.path())
    }

    /// A start that must be one from the copy.
    async fn runs_degraded(&self, arguments: &[&str]) -> Run {
        let mut run = self.run(arguments);
        run.ready().await;
        let (said, log) = (run.stdout(), run.stderr());
        assert!(said.starts_with("degraded: running on "), "{said}");
        assert!(log.contains("ERROR") && log.contains("last-good.toml"), "{log}");
        run
    }

    /// A start that must be none: what it says.
    async fn refuses(&self, arguments: &[&str]) -> String {
        let mut run = self.run(arguments);
        assert_eq!(run.exit_code().await, 78);
        assert_eq!(run.stdout(), "");
        run.stderr()
    }
}

async fn get(run: &Run, path: &str) -> String {
    let response = http::get(run.listening("admin")[0], path, PATIENCE).await.unwrap();
    assert_eq!(response.status, 200);
    String::from_utf8(response.body).unwrap()
}

async fn status(run: &Run) -> Value {
    serde_json::from_str(&get(run, "/api/v1/status").await).unwrap()
}

async fn assert_answers(run: &Run) {
    let client = Udp::to(run.listening("dns")[0]).await;
    let reply = client.ask(&Message::query("kept.alder-lane.com", rtype::A)).await;
    assert_eq!(reply.addresses(), [zone::expected_a("kept.alder-lane.com").unwrap()]);
}

#[tokio::test]
async fn a_broken_file_is_stood_in_for_and_everything_says_so_until_it_is_mended() {
    let site = Site::new();
    let run = site.runs_degraded(&["--state-dir", "state"]).await;
    assert_answers(&run).await;
    let mistake = "detour.toml:2: not TOML: unclosed table, expected `]`";
    assert!(run.stdout().contains(mistake) && run.stderr().contains(mistake));
    let (shown, ready) = (status(&run).await, get(&run, "/readyz").await);
    assert!(
        shown["configuration"]["degraded"].as_str().unwrap().contains(mistake),
        "{shown}"
    );
    let summary = shown["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("runs on the copy of the last good configuration: "),
        "{summary}"
    );
    assert!(ready.contains(mistake) && ready.contains("\"ready\":true"), "{ready}");
    assert!(get(&run, "/metrics").await.contains("\ndetour_config_degraded 1\n"));
    let admin = run.listening("admin")[0].to_string();
    let (code, said, _) = Run::to_the_end(&["status", "--admin", &admin]).await;
    assert!(
        code == 0 && said.starts_with(summary.split(';').next().unwrap()),
        "{said}"
    );

    // Still broken, but otherwise: the newer mistake is what there is to mend.
    site.write(&format!("colour = 1\n{}", site.good()));
    run.signal("HUP");
    until("the newer mistake is told", PATIENCE, async || {
        status(&run).await["configuration"]["degraded"]
            .to_string()
            .contains("colour")
    })
    .await;
    site.write(&site.good());
    run.signal("HUP");
    until("nothing is amiss", PATIENCE, async || {
        status(&run).await["summary"] == "the one provider answers"
    })
    .await;
    assert!(get(&run, "/metrics").await.contains("\ndetour_config_degraded 0\n"));
    assert_answers(&run).await;
}

#[tokio::test]
async fn a_lost_file_and_one_that_means_nothing_are_stood_in_for_too() {
    let site = Site::new();
    let other = "version = 1\n[[provider]]\nname = \"x\"\nendpoints = [\"pigeon://9.9.9.9\"]\n".to_owned();
    for text in [None, Some(String::new()), Some(other), Some("\u{0}".repeat(4_096))] {
        match text {
            None => fs::remove_file(site.path("detour.toml")).unwrap(),
            Some(text) => site.write(&text),
        }
        let run = site.runs_degraded(&["--state-dir", "state"]).await;
        assert_answers(&run).await;
    }
    fs::write(site.path("detour.toml"), b"version = 1 # \xff").unwrap();
    assert_answers(&site.runs_degraded(&["--state-dir", "state"]).await).await;
}

#[tokio::test]
async fn a_state_directory_that_only_the_broken_file_names_is_found() {
    let site = Site::new();
    fs::rename(site.path("state"), site.path("own state")).unwrap();
    site.keep(
        "own state",
        &format!("state-dir = \"{}\"\n{}", site.path("own state").display(), site.good()),
    );
    site.write("version = 1\nstate-dir = \"own state\"\nthis is = = broken\n");
    let run = site.runs_degraded(&[]).await;
    assert_answers(&run).await;
    until("the token is made", PATIENCE, async || {
        site.path("own state/token").exists()
    })
    .await;
}

#[tokio::test]
async fn strict_and_a_first_start_refuse_with_the_mistakes_alone() {
    let site = Site::new();
    let mistakes = site.refuses(&["--state-dir", "state", "--strict"]).await;
    assert!(
        mistakes.starts_with("detour.toml:2: ") && mistakes.lines().count() == 1,
        "{mistakes}"
    );
    fs::remove_file(site.path("state/last-good.toml")).unwrap();
    assert_eq!(site.refuses(&["--state-dir", "state"]).await, mistakes);
    assert_eq!(site.refuses(&["--state-dir", "nowhere"]).await, mistakes);
}

#[tokio::test]
async fn what_cannot_stand_in_is_told_beside_the_mistakes() {
    let site = Site::new();
    let own = site.path("state/last-good.toml");
    let version = env!("CARGO_PKG_VERSION");
    let good = fs::read_to_string(&own).unwrap();
    let of = site.path("detour.toml");
    for (text, why) in [
        // Half a file may be valid and mean something else.
        (good.split_at(good.len() - 3).0.to_owned(), "it is damaged"),
        (good.replace("127.0.0.1:0", "127.0.0.1:1"), "it is damaged"),
        ("\0".repeat(500), "it is damaged"),
        (copy(&site.path("other.toml"), version, &site.good()), "it is a copy of"),
        (copy(&of, "9.9.9", "version = 2\n"), "which detour 9.9.9 wrote"),
        (
            good.replace("last-good 1", "last-good 2"),
            "another version of detour wrote it",
        ),
    ] {
        fs::write(&own, text).unwrap();
        let said = site.refuses(&["--state-dir", "state"]).await;
        assert!(said.starts_with("detour.toml:2: not TOML"), "{said}");
        assert!(said.contains(why) && said.contains("last-good.toml"), "{said}");
    }
    fs::remove_file(&own).unwrap();
    fs::create_dir(&own).unwrap();
    let said = site.refuses(&["--state-dir", "state"]).await;
    assert!(said.contains("cannot read") && said.lines().count() == 2, "{said}");
}

#[tokio::test]
async fn what_has_served_for_a_minute_is_kept_and_what_has_not_is_not() {
    let site = Site::new();
    fs::remove_file(site.path("state/last-good.toml")).unwrap();
    let body = site.good();
    site.write(&body);
    // Beside it, one that started from its copy, and one whose file changed in the middle of its minute.
    let degraded = Site::new();
    let untouched = fs::read(degraded.path("state/last-good.toml")).unwrap();
    let stand_in = degraded.runs_degraded(&["--state-dir", "state"]).await;
    let changed = Site::new();
    fs::remove_file(changed.path("state/last-good.toml")).unwrap();
    changed.write(&changed.good());
    let mut other = changed.run(&["--state-dir", "state"]);
    other.ready().await;

    let started = clock::now();
    let mut run = site.run(&["--state-dir", "state"]);
    run.ready().await;
    tokio::time::sleep_until(started + SERVED / 2).await;
    changed.write(&format!("# another\n{}", changed.good()));
    other.signal("HUP");
    let kept = site.path("state/last-good.toml");
    until("a copy is kept", SERVED + PATIENCE, async || kept.exists()).await;
    assert!(
        clock::now() - started >= SERVED - Duration::from_secs(1),
        "kept too early"
    );
    let wanted = copy(&site.path("detour.toml"), env!("CARGO_PKG_VERSION"), &body);
    assert_eq!(fs::read_to_string(&kept).unwrap(), wanted);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        !changed.path("state/last-good.toml").exists(),
        "it has served for half a minute"
    );
    assert_eq!(fs::read(degraded.path("state/last-good.toml")).unwrap(), untouched);
    drop(stand_in);
    run.signal("TERM");
    assert_eq!(run.exit_code().await, 0, "{}", run.stderr());

    site.write("version = 1\n[listen\n");
    assert_answers(&site.runs_degraded(&["--state-dir", "state"]).await).await;
}
