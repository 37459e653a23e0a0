//! The disk under a node's store: killed on, damaged, full, read-only, somebody else's, silent. DNS is there at
//! once every time, and what is wrong is said.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use detour_rig::random::Random;
use detour_rig::{Fake, Fault, TransportSel, clock};

use crate::client::PATIENCE;
use crate::home::{Home, Running, copy, damage, files_below, names};
use crate::node::{fake, until};

/// Answers after which what was learned is worth keeping.
const ENOUGH: usize = 40;
/// A stop stays within this.
const STOP: Duration = Duration::from_secs(5);

/// A home whose node has learned how fast its one provider is, and has stopped in order.
async fn experienced(provider: &Fake) -> Home {
    let mut home = Home::before(&[provider], "");
    let mut node = home.start().await;
    node.ask_all(&names("learned", ENOUGH)).await;
    until("it is known how fast it is", PATIENCE, async || {
        node.knowledge_of("fake").await == (true, "up".to_owned())
    })
    .await;
    assert_eq!(node.stop().await, 0, "{}", node.log());
    home
}

async fn said(node: &Running, words: &str) {
    until(words, PATIENCE, async || {
        node.warnings().await.iter().any(|line| line.contains(words))
    })
    .await;
}

async fn on_disk(node: &Running, is: u64) {
    until("the store is open, or given up", PATIENCE, async || {
        node.metric("detour_store_on_disk").await == is
    })
    .await;
}

#[tokio::test]
async fn what_was_learned_is_known_after_a_restart_and_makes_nobody_up() {
    let fake = fake("fake");
    let mut home = experienced(&fake).await;
    // Whoever answers the probe of the start is up by that.
    fake.set_fault(TransportSel::All, Fault::Blackhole);
    let mut node = home.start().await;
    until("restored", PATIENCE, async || {
        node.metric("detour_latencies_restored_total").await == 1
    })
    .await;
    let (is_known, state) = node.knowledge_of("fake").await;
    assert!(is_known && state != "up", "{state}");
    fake.set_fault(TransportSel::All, Fault::None);
    // And it outlives a process that had no time to say goodbye.
    node.ask_all(&names("more", ENOUGH)).await;
    until("written", PATIENCE, async || {
        node.metric("detour_store_writes_total").await >= 1
    })
    .await;
    node.kill();
    let mut node = home.start().await;
    until("restored", PATIENCE, async || {
        node.metric("detour_latencies_restored_total").await == 1
    })
    .await;
    assert_eq!(node.warnings().await, [""; 0]);
    assert_eq!(node.stop().await, 0);
    home.assert_quick("a store as it should be");
}

#[tokio::test]
async fn who_comes_back_by_a_reload_is_remembered() {
    let fakes = ["fake", "other"].map(fake);
    let mut home = experienced(&fakes[0]).await;
    home.configure(&[&fakes[1]], "");
    let mut node = home.start().await;
    // It has read what there is, and knows nobody of it.
    on_disk(&node, 1).await;
    home.configure(&[&fakes[0], &fakes[1]], "");
    node.signal("HUP");
    until("restored", PATIENCE, async || {
        node.metric("detour_latencies_restored_total").await == 1
    })
    .await;
    assert!(node.knowledge_of("fake").await.0);
    assert_eq!(node.stop().await, 0, "{}", node.log());
}

#[tokio::test]
async fn an_idle_store_sleeps() {
    /// Longer than anything in it would take to wake up by itself.
    const WATCHED: Duration = Duration::from_millis(3_500);
    let fake = fake("fake");
    let mut home = experienced(&fake).await;
    let node = home.start().await;
    node.ask_all(&names("busy", ENOUGH)).await;
    until("written", PATIENCE, async || {
        node.metric("detour_store_writes_total").await >= 1
    })
    .await;
    // How often the store's threads, and the engine's, have waited for something.
    let wakeups = || {
        let (mut threads, mut all) = (0, 0);
        for task in fs::read_dir(format!("/proc/{}/task", node.id())).unwrap() {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if field("Name:").is_some_and(|name| name == "store" || name.starts_with("sled")) {
                threads += 1;
                all += field("voluntary_ctxt_switches:").unwrap().parse::<u64>().unwrap();
            }
        }
        (threads, all)
    };
    let mut woken = Vec::new();
    // What was learned last may still be on its way to the disk, and its threads on theirs to bed.
    for _ in 0..3 {
        let (threads, before) = wakeups();
        assert!(threads >= 2, "the store's thread and its engine's");
        tokio::time::sleep(WATCHED).await;
        let (_, after) = wakeups();
        woken.push(after - before);
        if after - before <= 2 {
            return;
        }
    }
    panic!("its threads woke up {woken:?} times");
}

#[tokio::test]
async fn killed_at_any_instant_it_starts_again() {
    let fake = fake("fake");
    let mut home = Home::before(&[&fake], "");
    let mut random = Random::new(0x5702_0001);
    for round in 0..30 {
        let mut node = home.start().await;
        // The first write comes a second after the first answers.
        let lives = if round % 3 == 2 {
            950 + random.below(250)
        } else {
            random.below(120)
        };
        let until = clock::now() + Duration::from_millis(lives);
        while clock::now() < until {
            node.ask_all(&names(&format!("r{round}-{}-", random.next_u16()), ENOUGH))
                .await;
        }
        node.kill();
    }
    let mut node = home.start().await;
    on_disk(&node, 1).await;
    assert_eq!(node.stop().await, 0, "{}", node.log());
    home.assert_quick("killed at random instants");
    let aside = fs::read_dir(home.state()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("store.corrupt-")
    });
    assert!(aside.count() <= 2, "bounded");
}

#[tokio::test]
async fn truncated_and_bit_flipped_files_cost_at_most_what_was_learned() {
    let fake = fake("fake");
    let mut home = experienced(&fake).await;
    let good = tempfile::tempdir().unwrap();
    // A second life, so that there is a snapshot too.
    assert_eq!(home.start().await.stop().await, 0);
    copy(home.state(), good.path());
    let files = files_below(&good.path().join("store"));
    assert!(files.len() >= 3, "{files:?}");
    let mut random = Random::new(0x5702_0002);
    let mut set_aside = 0;
    for round in 0..40 {
        let state = tempfile::tempdir().unwrap();
        copy(good.path(), state.path());
        let victim = files[round % files.len()].strip_prefix(good.path()).unwrap();
        let how = damage(&state.path().join(victim), &mut random);
        home.set_state(state.path());
        let mut node = home.start().await;
        on_disk(&node, 1).await;
        // Damage may show only while it is read: what is said, logged and set aside agree in the end.
        let aside = state.path().join("store.corrupt-1");
        let mut damaged = false;
        until("what is told is what is there", PATIENCE, async || {
            let warnings = node.warnings().await;
            damaged = warnings.iter().any(|line| line.starts_with("damaged store: "));
            damaged == aside.is_dir() && damaged == node.log().contains("damaged store")
        })
        .await;
        assert_eq!(node.metric("detour_panics_total").await, 0, "{how}");
        set_aside += usize::from(damaged);
        let log = node.log();
        assert!(!log.contains("panicked at"), "{how}: {log}");
    }
    assert!(set_aside > 0, "something was damaged");
    home.assert_quick("damaged files");
}

#[tokio::test]
async fn a_store_that_is_damaged_again_and_again_leaves_two_behind() {
    let fake = fake("fake");
    let mut home = experienced(&fake).await;
    for round in 1..=4 {
        fs::write(home.state().join("store/conf"), b"segment_size: none\n").unwrap();
        let node = home.start().await;
        said(&node, &format!("store.corrupt-{round}")).await;
        on_disk(&node, 1).await;
    }
    let left = |n: u32| home.state().join(format!("store.corrupt-{n}")).is_dir();
    assert_eq!([1, 2, 3, 4].map(left), [false, false, true, true]);
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_start_costs_memory_only() {
    let fake = fake("fake");
    let mut home = Home::before(&[&fake], "[cache]\npersist = \"disk\"");
    // No file may grow beyond nothing: as good as a full disk, and it needs no privilege.
    home.set_preamble("ulimit -f 0");
    for round in 0..4 {
        let mut node = home.start().await;
        node.ask_all(&names(&format!("full{round}-"), ENOUGH)).await;
        said(&node, "store: memory only because").await;
        on_disk(&node, 0).await;
        assert_eq!(node.stop().await, 0, "{}", node.log());
        let log = node.log().to_owned();
        assert_eq!(log.matches("store: memory only").count(), 1, "said once: {log}");
        assert!(log.contains("cache file: not written"), "{log}");
    }
    home.assert_quick("full from the start");
}

#[tokio::test]
async fn a_disk_that_runs_full_is_tried_again_until_there_is_room() {
    let fake = fake("fake");
    let mut home = Home::before(&[&fake], "");
    // Only the soft limit: who set it may lift it.
    home.set_preamble("ulimit -S -f 8");
    let mut node = home.start().await;
    let mut round = 0;
    until("the disk is full", PATIENCE * 3, async || {
        round += 1;
        node.ask_all(&names(&format!("fill{round}-"), ENOUGH)).await;
        node.metric("detour_store_failures_total{what=\"write\"}").await >= 1
    })
    .await;
    said(&node, "store: memory only because").await;
    let lifted = Command::new("prlimit")
        .args(["--pid", &node.id().to_string(), "--fsize=unlimited:unlimited"])
        .status();
    if lifted.is_ok_and(|status| status.success()) {
        until("it is written again", PATIENCE * 3, async || {
            round += 1;
            node.ask_all(&names(&format!("room{round}-"), ENOUGH)).await;
            node.metric("detour_store_on_disk").await == 1 && node.warnings().await.is_empty()
        })
        .await;
    } else {
        let why = "not tried whether it is written again: prlimit is not there, or may not lift the limit";
        writeln!(io::stderr(), "{why}").unwrap();
    }
    assert_eq!(node.stop().await, 0, "{}", node.log());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_costs_memory_only() {
    let fake = fake("fake");
    let mut home = Home::before(&[&fake], "");
    // Not even root makes files there.
    home.set_state(Path::new("/sys"));
    for _ in 0..3 {
        let mut node = home.start().await;
        node.ask_all(&names("readonly", ENOUGH)).await;
        said(&node, "nothing is kept on disk: /sys").await;
        assert_eq!(node.stop().await, 0, "{}", node.log());
    }
    // A directory that can be written, and in it something else in the place of the store.
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("store"), b"mine").unwrap();
    home.set_state(state.path());
    for _ in 0..3 {
        let mut node = home.start().await;
        said(&node, "store: memory only because").await;
        assert_eq!(node.stop().await, 0, "{}", node.log());
    }
    assert_eq!(fs::read(state.path().join("store")).unwrap(), b"mine");
    home.assert_quick("not to be written");
}

#[tokio::test]
async fn a_store_of_another_process_is_left_alone_until_it_is_free() {
    let fake = fake("fake");
    let mut home = experienced(&fake).await;
    let mut first = home.start().await;
    on_disk(&first, 1).await;
    let mut second = home.start().await;
    said(&second, "another process has it").await;
    assert_eq!(second.metric("detour_store_on_disk").await, 0);
    second.ask_all(&names("second", ENOUGH)).await;
    assert_eq!(first.warnings().await, [""; 0], "the first one does not notice");
    assert_eq!(first.stop().await, 0, "{}", first.log());
    // It has something to write, and nobody is in its way any more.
    let mut round = 0;
    until("the second one has it", PATIENCE * 3, async || {
        round += 1;
        second.ask_all(&names(&format!("later{round}-"), ENOUGH)).await;
        second.metric("detour_store_on_disk").await == 1
    })
    .await;
    assert_eq!(second.stop().await, 0, "{}", second.log());
    assert!(!home.state().join("store.corrupt-1").exists());
    home.assert_quick("locked");
}

#[tokio::test]
async fn a_disk_that_never_answers_holds_up_neither_start_nor_stop() {
    let fake = fake("fake");
    let mut home = Home::before(&[&fake], "");
    let pipe = home.state().join("store/conf");
    fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    // Opening one to read from waits for a writer, for ever.
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for _ in 0..2 {
        let mut node = home.start().await;
        node.ask_all(&names("hanging", ENOUGH)).await;
        let asked = clock::now();
        assert_eq!(node.stop().await, 0, "{}", node.log());
        assert!(asked.elapsed() < STOP, "{:?}", asked.elapsed());
    }
    let node = home.start().await;
    said(&node, "store: memory only while the disk does not answer").await;
    home.assert_quick("hanging");
}
