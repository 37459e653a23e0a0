//! The cache file: a node that starts while no provider answers still knows what it knew; a file that is damaged, old,
//! foreign or not a file costs at most what is in it; names are in it and nowhere else.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use detour_rig::random::Random;
use detour_rig::{Fake, Fault, TransportSel, zone};

use crate::client::{PATIENCE, Udp};
use crate::home::{Home, Running, damage, files_below, names};
use crate::message::{Message, Reply, rcode, rtype};
use crate::node::{fake, until};

const DISK: &str = "[cache]\npersist = \"disk\"";
/// Puts something else in the place of a cache file, given a copy of it.
type Spoil = fn(&Path, &Path);

const STALE_ANSWER: u16 = 3;

fn darken(fake: &Fake) {
    fake.set_fault(TransportSel::All, Fault::Blackhole);
}

/// A home whose node has answered for these names and stopped in order; the provider is dark from here on.
async fn knowing(fake: &Fake, more: &str, names: &[String]) -> Home {
    let mut home = Home::before(&[fake], more);
    let mut node = home.start().await;
    node.ask_all(names).await;
    assert_eq!(node.stop().await, 0, "{}", node.log());
    darken(fake);
    home
}

/// Waits until this many answers have been taken from the file.
async fn read(node: &Running, count: u64) {
    until("the cache file is read", PATIENCE, async || {
        node.metric("detour_cache_file_entries_total{outcome=\"restored\"}")
            .await
            >= count
    })
    .await;
}

fn is_answered(reply: &Reply) -> bool {
    reply.rcode == rcode::NOERROR && reply.addresses().len() == 1
}

#[tokio::test]
async fn a_warm_start_answers_while_no_provider_does() {
    let fake = fake("fake");
    let names = names("warm", 50);
    let mut home = knowing(&fake, DISK, &names).await;
    let file = home.state().join("cache");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let asked = fake.stats().queries();
    for round in 0..2 {
        let mut node = home.start().await;
        read(&node, 50).await;
        for reply in node.ask_all(&names).await {
            assert!(is_answered(&reply), "{reply:?}");
            assert!(
                reply.extended_errors().is_empty() && (1..=300).contains(&reply.ttl()),
                "fresh: {reply:?}"
            );
        }
        // But for the probe of each start.
        assert!(fake.stats().queries() <= asked + round + 1);
        // However it ended, the next one knows as much.
        if round == 0 {
            node.kill();
        } else {
            assert_eq!(node.stop().await, 0, "{}", node.log());
        }
    }
    home.assert_quick("warm");
}

#[tokio::test]
async fn what_expired_meanwhile_comes_back_as_expired() {
    let fake = fake("fake");
    let brief = vec!["ttl-1.brief.hazel-print.org".to_owned()];
    let mut home = knowing(&fake, DISK, &brief).await;
    let node = home.start().await;
    read(&node, 1).await;
    let mut reply = node.ask_all(&brief).await.remove(0);
    until("it has expired", PATIENCE, async || {
        reply = node.ask_all(&brief).await.remove(0);
        reply.extended_errors() == [STALE_ANSWER]
    })
    .await;
    assert!(is_answered(&reply) && reply.ttl() == 30, "{reply:?}");
}

#[tokio::test]
async fn a_session_s_file_lies_in_its_runtime_directory() {
    let fake = fake("fake");
    let names = names("session", 10);
    let run = tempfile::tempdir().unwrap();
    let mut home = Home::before(&[&fake], "");
    home.set_runtime(run.path());
    let mut node = home.start().await;
    node.ask_all(&names).await;
    assert_eq!(node.stop().await, 0, "{}", node.log());
    darken(&fake);
    let files = files_below(run.path());
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].starts_with(run.path().join("detour")), "{files:?}");
    for (path, mode) in [(files[0].as_path(), 0o600), (files[0].parent().unwrap(), 0o700)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
    }
    assert!(!home.state().join("cache").exists());
    let mut node = home.start().await;
    read(&node, 10).await;
    assert!(node.ask_all(&names).await.iter().all(is_answered));
    assert_eq!(node.stop().await, 0);
    // Who wants none has none, not even an old one.
    home.configure(&[&fake], "[cache]\npersist = \"off\"");
    let mut node = home.start().await;
    until("it is gone", PATIENCE, async || files_below(run.path()).is_empty()).await;
    assert_eq!(node.stop().await, 0);
    assert!(files_below(run.path()).is_empty());
}

#[tokio::test]
async fn a_damaged_file_costs_what_is_damaged() {
    let fake = fake("fake");
    let names = names("damaged", 60);
    let mut home = knowing(&fake, DISK, &names).await;
    // It says there when it has read the file, whatever was in it.
    home.configure(&[&fake], &format!("{DISK}\n[log]\nlevel = \"debug\""));
    let good = fs::read(home.state().join("cache")).unwrap();
    let mut random = Random::new(0x3a12_0001);
    for round in 0..24 {
        let file = home.state().join("cache");
        fs::write(&file, &good).unwrap();
        let how = damage(&file, &mut random);
        let mut node = home.start().await;
        until(&how, PATIENCE, async || {
            let log = node.log();
            log.contains("cache file read") || log.contains("no cache file of this version")
        })
        .await;
        let restored = node
            .metric("detour_cache_file_entries_total{outcome=\"restored\"}")
            .await;
        if how.contains("bits flipped") {
            assert!(restored >= 60 - 8, "{how}: {restored} of 60");
        }
        if round % 8 == 0 {
            let replies = node.ask_all(&names).await;
            let answered = replies.iter().filter(|reply| is_answered(reply)).count();
            assert_eq!(answered as u64, restored, "{how}");
            assert!(
                replies
                    .iter()
                    .all(|reply| is_answered(reply) || reply.rcode == rcode::SERVFAIL)
            );
        }
        assert!(!node.log().contains("panicked"), "{how}: {}", node.log());
        node.kill();
    }
    home.assert_quick("damaged");
}

#[tokio::test]
async fn killed_while_writing_it_leaves_a_whole_file() {
    let fake = fake("fake");
    let mut home = Home::before(&[&fake], DISK);
    let mut random = Random::new(0x3a12_0002);
    let mut known = 0;
    for round in 0..12 {
        let mut node = home.start().await;
        until("all that was written is read", PATIENCE, async || {
            node.metric("detour_cache_file_entries_total{outcome=\"restored\"}")
                .await
                >= known
        })
        .await;
        assert_eq!(
            node.metric("detour_cache_file_entries_total{outcome=\"damaged\"}")
                .await,
            0
        );
        node.ask_all(&names(&format!("k{round}-"), 40)).await;
        let id = node.id().to_string();
        let wait = format!(
            "kill -s TERM \"$0\"; sleep 0.0{:02}; kill -s KILL \"$0\"",
            random.below(40)
        );
        // It may have ended by itself.
        Command::new("sh")
            .args(["-c", &wait, &id])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        node.kill();
        let left = files_below(home.state());
        let cache = left.iter().filter(|path| path.file_name().unwrap() == "cache").count();
        known = if cache == 1 { known.max(1) } else { known };
    }
    assert_eq!(home.start().await.stop().await, 0);
    let leftovers: Vec<_> = files_below(home.state())
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(".new-"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    home.assert_quick("killed while writing");
}

#[tokio::test]
async fn a_file_of_other_providers_is_not_read() {
    let fakes = ["fake", "other"].map(fake);
    let names = names("foreign", 5);
    let mut home = knowing(&fakes[0], DISK, &names).await;
    home.configure(&[&fakes[1]], DISK);
    let mut node = home.start().await;
    assert!(node.ask_all(&names).await.iter().all(is_answered));
    // And once by the probe of the start.
    assert!(
        (5..=6).contains(&fakes[1].stats().queries()),
        "the new provider was asked"
    );
    assert_eq!(
        node.metric("detour_cache_file_entries_total{outcome=\"restored\"}")
            .await,
        0
    );
    assert_eq!(node.stop().await, 0);
}

#[tokio::test]
async fn what_is_no_file_of_ones_own_is_not_read() {
    let fake = fake("fake");
    let names = names("own", 5);
    let mut home = knowing(&fake, DISK, &names).await;
    let file = home.state().join("cache");
    let kept = home.state().join("kept");
    fs::rename(&file, &kept).unwrap();
    let spoil: [(&str, Spoil); 4] = [
        ("readable by others", |kept, file| {
            fs::copy(kept, file).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("a link", |kept, file| std::os::unix::fs::symlink(kept, file).unwrap()),
        ("a pipe", |_, file| {
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        }),
        ("a directory", |_, file| fs::create_dir(file).unwrap()),
    ];
    for (what, make) in spoil {
        make(&kept, &file);
        let node = home.start().await;
        until(what, PATIENCE, async || {
            node.warnings()
                .await
                .iter()
                .any(|line| line.starts_with("cache file: "))
        })
        .await;
        assert_eq!(
            node.metric("detour_cache_file_entries_total{outcome=\"restored\"}")
                .await,
            0,
            "{what}"
        );
        drop(node);
        if file.is_dir() {
            fs::remove_dir(&file).unwrap();
        } else {
            fs::remove_file(&file).unwrap();
        }
    }
    home.assert_quick("no file of one's own");
}

#[tokio::test]
async fn names_are_in_the_cache_file_and_nowhere_else() {
    let fake = fake("fake");
    let letters = Random::new(0x3a12_0003).bytes(20);
    let label: String = letters.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    let name = format!("{label}.hazel-print.org");
    for (persist, holders) in [("disk", vec!["cache"]), ("off", vec![])] {
        let mut home = Home::before(&[&fake], &format!("[cache]\npersist = \"{persist}\""));
        let mut node = home.start().await;
        let reply = Udp::to(node.dns).await.ask(&Message::query(&name, rtype::A)).await;
        assert_eq!(reply.addresses(), [zone::expected_a(&name).unwrap()]);
        // Enough answers that something is learned, too.
        node.ask_all(&names(&label, 40)).await;
        assert_eq!(node.stop().await, 0);
        let contains = |bytes: &[u8]| {
            let folded = bytes.to_ascii_lowercase();
            folded.windows(label.len()).any(|window| window == label.as_bytes())
        };
        assert!(!contains(node.log().as_bytes()), "{}", node.log());
        let files = files_below(home.state()).into_iter();
        let found = files.filter(|path| contains(&fs::read(path).unwrap()));
        let found: Vec<_> = found.map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(found, holders, "{persist}");
    }
}

#[tokio::test]
async fn an_unchanged_cache_is_not_written_again() {
    let fake = fake("fake");
    let names = names("same", 5);
    let mut home = knowing(&fake, DISK, &names).await;
    // A file that is written is another file: it is replaced.
    let file = |home: &Home| fs::metadata(home.state().join("cache")).unwrap().ino();
    let before = file(&home);
    let mut node = home.start().await;
    read(&node, 5).await;
    assert!(node.ask_all(&names).await.iter().all(is_answered));
    assert_eq!(node.stop().await, 0);
    assert_eq!(file(&home), before);
    // And one that has changed is.
    fake.set_fault(TransportSel::All, Fault::None);
    let mut node = home.start().await;
    node.ask_all(&crate::home::names("new", 1)).await;
    assert_eq!(node.stop().await, 0);
    assert_ne!(file(&home), before);
}
