//! The store's thread on engines that do what disks do: well, slowly, never, wrongly, full.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use detour_core::Clock;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::keeper::Engine;
use super::value::seal;
use super::{Entry, Store, StoreError, StoreHandle, Tree, handle};
use crate::board::Board;
use crate::clock::BootClock;
use crate::metrics::StoreMetrics;
use crate::state::State;

const TREE: Tree = Tree::Latencies;
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the disk does, one per opening; the last one for all further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// It cannot be opened for this reason.
    Refuses,
    Damaged,
    PanicsAtOpen,
    PanicsAtWrite,
    /// It opens, and takes nothing.
    Full,
}

/// What lies on a disk that forgets nothing; the other trees are empty.
type Disk = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

#[derive(Debug)]
struct Fake {
    moods: Vec<Mood>,
    opened: Arc<AtomicUsize>,
    disk: Disk,
    /// Opening waits for a word from here, if there is somebody to give it.
    gate: Option<Mutex<Receiver<()>>>,
}

#[derive(Debug)]
struct FakeStore {
    mood: Mood,
    disk: Disk,
    flushed: Arc<AtomicUsize>,
}

impl Engine for Fake {
    fn open(&self, _directory: &Path) -> Result<Box<dyn Store>, StoreError> {
        if let Some(gate) = &self.gate {
            // A test that is over lets everybody go.
            gate.lock().recv().ok();
        }
        let time = self.opened.fetch_add(1, Ordering::Relaxed);
        let mood = self.moods[time.min(self.moods.len() - 1)];
        match mood {
            Mood::Refuses => Err(StoreError::Io(std::io::ErrorKind::ReadOnlyFilesystem.into())),
            Mood::Damaged => Err(StoreError::Damaged("nonsense".into())),
            Mood::PanicsAtOpen => panic!("injected"),
            Mood::Well | Mood::PanicsAtWrite | Mood::Full => Ok(Box::new(FakeStore {
                mood,
                disk: Arc::clone(&self.disk),
                flushed: Arc::default(),
            })),
        }
    }
}

impl Store for FakeStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk.lock().get(key).filter(|_| tree == TREE).cloned())
    }

    fn put(&mut self, _tree: Tree, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match self.mood {
            Mood::PanicsAtWrite => panic!("injected"),
            Mood::Full => Err(StoreError::Io(std::io::ErrorKind::StorageFull.into())),
            Mood::Well | Mood::Refuses | Mood::Damaged | Mood::PanicsAtOpen => {
                self.disk.lock().insert(key.to_vec(), value.to_vec());
                Ok(())
            }
        }
    }

    fn remove(&mut self, _tree: Tree, key: &[u8]) -> Result<(), StoreError> {
        self.disk.lock().remove(key);
        Ok(())
    }

    fn entries(&self, tree: Tree) -> Result<Vec<Entry>, StoreError> {
        let disk = self.disk.lock().clone().into_iter();
        Ok(disk.filter(|_| tree == TREE).collect())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.flushed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A store on a disk of these moods.
struct Bench {
    store: StoreHandle,
    state: tempfile::TempDir,
    disk: Disk,
    opened: Arc<AtomicUsize>,
    board: Board,
    registry: Registry,
}

fn bench(moods: &[Mood]) -> Bench {
    bench_with(moods, Disk::default(), None)
}

fn bench_with(moods: &[Mood], disk: Disk, gate: Option<Receiver<()>>) -> Bench {
    let state = tempfile::tempdir().unwrap();
    let (opened, board) = (Arc::new(AtomicUsize::new(0)), Board::default());
    let mut registry = Registry::default();
    let metrics = StoreMetrics::register(&mut registry);
    let engine = Fake {
        moods: moods.to_vec(),
        opened: Arc::clone(&opened),
        disk: Arc::clone(&disk),
        gate: gate.map(Mutex::new),
    };
    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let place = State::Directory(state.path().to_owned());
    let store = handle::start(Box::new(engine), &place, clock, metrics, board.clone());
    Bench {
        store,
        state,
        disk,
        opened,
        board,
        registry,
    }
}

impl Bench {
    async fn loaded(&self) -> Vec<Entry> {
        tokio::time::timeout(PATIENCE, self.store.load(TREE))
            .await
            .unwrap()
            .unwrap()
    }

    fn on_disk(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.disk.lock().get(key).cloned()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, wait).await;
        assert!(in_time.is_ok(), "{what}: {:?} {}", self.board.lines(), self.metrics());
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn what_is_put_is_written_and_found_again() {
    let bench = bench(&[Mood::Well]);
    assert!(bench.store.put(TREE, b"a", b"1".to_vec()));
    assert!(bench.store.put(TREE, b"b", b"2".to_vec()));
    assert!(bench.store.remove(TREE, b"b"));
    assert_eq!(bench.loaded().await, [(b"a".to_vec(), b"1".to_vec())]);
    bench
        .until("written", |bench| bench.on_disk(b"a") == Some(seal(TREE, b"a", b"1")))
        .await;
    assert_eq!(bench.on_disk(b"b"), None);
    assert!(bench.store.put(TREE, b"c", b"3".to_vec()));
    assert!(bench.store.close(PATIENCE).await, "closing writes what waits");
    assert_eq!(bench.on_disk(b"c"), Some(seal(TREE, b"c", b"3")));
    assert_eq!(bench.board.lines(), [""; 0]);
    assert!(bench.metrics().contains("store_on_disk 1\n"), "{}", bench.metrics());
}

#[tokio::test]
async fn values_that_cannot_be_read_are_dropped_alone_and_counted() {
    let disk = Disk::default();
    let mut broken = seal(TREE, b"broken", b"x");
    broken[6 - 1] ^= 1;
    let mut later = seal(TREE, b"later", b"x");
    later[0] += 1;
    disk.lock().insert(b"good".to_vec(), seal(TREE, b"good", b"1"));
    disk.lock().insert(b"broken".to_vec(), broken);
    disk.lock().insert(b"later".to_vec(), later.clone());
    let bench = bench_with(&[Mood::Well], disk, None);
    assert_eq!(bench.loaded().await, [(b"good".to_vec(), b"1".to_vec())]);
    assert!(
        bench.metrics().contains("store_dropped_total{why=\"checksum\"} 2"),
        "{}",
        bench.metrics()
    );
    bench.until("removed", |bench| bench.on_disk(b"broken").is_none()).await;
    assert!(bench.on_disk(b"good").is_some());
}

#[tokio::test]
async fn a_disk_that_refuses_is_tried_again_when_there_is_something_to_write() {
    let bench = bench(&[Mood::Refuses, Mood::Full, Mood::Well]);
    assert_eq!(bench.loaded().await, []);
    let said = bench.board.lines();
    assert!(
        said.len() == 1 && said[0].starts_with("store: memory only because"),
        "{said:?}"
    );
    assert!(bench.store.put(TREE, b"a", b"1".to_vec()));
    assert_eq!(bench.loaded().await.len(), 1, "memory goes on");
    bench.until("written", |bench| bench.on_disk(b"a").is_some()).await;
    bench.until("well again", |bench| bench.board.lines().is_empty()).await;
    assert_eq!(bench.opened.load(Ordering::Relaxed), 3);
    let metrics = bench.metrics();
    for series in ["{what=\"open\"} 1", "{what=\"write\"} 1", "store_on_disk 1"] {
        assert!(metrics.contains(series), "{metrics}");
    }
}

#[tokio::test]
async fn a_damaged_store_is_set_aside_and_begun_anew() {
    for mood in [Mood::Damaged, Mood::PanicsAtOpen, Mood::PanicsAtWrite] {
        let bench = bench(&[mood, Mood::Well]);
        assert!(bench.store.put(TREE, b"a", b"1".to_vec()));
        bench.until("written", |bench| bench.on_disk(b"a").is_some()).await;
        let said = bench.board.lines();
        assert!(
            said.len() == 1 && said[0].contains("store.corrupt-1"),
            "{mood:?}: {said:?}"
        );
        assert!(
            bench.names().contains(&"store.corrupt-1".to_owned()),
            "{mood:?}: {:?}",
            bench.names()
        );
        assert!(bench.metrics().contains("store_on_disk 1"), "{mood:?}");
        assert_eq!(bench.loaded().await.len(), 1, "{mood:?}");
    }
}

#[tokio::test]
async fn a_disk_that_breaks_every_store_is_left_alone_in_the_end() {
    let bench = bench(&[Mood::PanicsAtOpen]);
    assert_eq!(bench.loaded().await, []);
    assert_eq!(bench.opened.load(Ordering::Relaxed), 3);
    assert!(bench.store.put(TREE, b"a", b"1".to_vec()));
    assert_eq!(bench.loaded().await.len(), 1, "memory goes on");
    let said = bench.board.lines();
    assert!(
        said.iter()
            .any(|line| line.starts_with("store: memory only until the next start")),
        "{said:?}"
    );
    assert!(bench.names().len() <= 4, "{:?}", bench.names());
    assert!(bench.store.close(PATIENCE).await);
    assert_eq!(bench.opened.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_disk_that_hangs_holds_nobody_up_and_its_queue_is_bounded() {
    let (gate, waiting): (Sender<()>, Receiver<()>) = channel();
    let bench = bench_with(&[Mood::Well], Disk::default(), Some(waiting));
    let mut loading = bench.store.load(TREE);
    let taken = (0..2_000_u32)
        .filter(|n| bench.store.put(TREE, &n.to_be_bytes(), vec![1]))
        .count();
    assert!((400..=512).contains(&taken), "{taken}");
    let dropped = format!("store_dropped_total{{why=\"queue\"}} {}", 2_000 - taken);
    assert!(bench.metrics().contains(&dropped), "{}", bench.metrics());
    assert!(loading.try_recv().is_err(), "not before it is open");
    drop(gate);
    let loaded = tokio::time::timeout(PATIENCE, loading).await.unwrap().unwrap();
    assert_eq!(loaded, [], "what was asked first is answered first");
    assert_eq!(bench.loaded().await.len(), taken);
}

#[tokio::test]
async fn a_store_of_another_process_is_waited_for_and_left_alone() {
    let state = tempfile::tempdir().unwrap();
    let lock = fs::File::create(state.path().join("store.lock")).unwrap();
    lock.lock().unwrap();
    let board = Board::default();
    let place = State::Directory(state.path().to_owned());
    let metrics = StoreMetrics::default();
    let store = super::start(&place, Arc::new(BootClock), metrics, board.clone());
    let wait = async {
        while board.lines().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    assert!(
        board.lines()[0].contains("another process has it"),
        "{:?}",
        board.lines()
    );
    assert!(!state.path().join("store").exists());
    // The other one ends: as good as if it had never been there.
    drop(lock);
    assert!(store.put(TREE, b"a", b"1".to_vec()));
    assert!(tokio::time::timeout(PATIENCE, store.load(TREE)).await.unwrap().is_ok());
    assert!(board.lines().is_empty(), "{:?}", board.lines());
    assert!(store.close(PATIENCE).await);
    assert!(state.path().join("store/db").exists());
}

#[tokio::test]
async fn without_a_directory_there_is_memory() {
    let board = Board::default();
    let state = State::Memory("nowhere".to_owned());
    let store = super::start(&state, Arc::new(BootClock), StoreMetrics::default(), board.clone());
    assert!(store.put(TREE, b"a", b"1".to_vec()));
    let loaded = tokio::time::timeout(PATIENCE, store.load(TREE)).await.unwrap().unwrap();
    assert_eq!(loaded, [(b"a".to_vec(), b"1".to_vec())]);
    assert!(store.close(PATIENCE).await);
    assert_eq!(board.lines(), [""; 0], "the start has said it");
}
