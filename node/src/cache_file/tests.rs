//! Files written at other times, in other boots and for other providers, read by a node of this one.

use std::fs;
use std::sync::Arc;

use detour_core::control::Control;
use detour_core::routes::Settings as RouteSettings;
use detour_core::time::SEC;
use detour_core::{Clock, Time};
use detour_resolver::acl::Acl;
use detour_resolver::cache::Found;
use detour_resolver::forwarder::{self, Settings, Shared};
use detour_resolver::report::Reporter;
use detour_resolver::tasks::Tasks;
use detour_resolver::wire::NameBuf;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::format::{Header, Record, write_header, write_record};
use super::place::Place;
use super::{Parts, exercise, pool, read, write};
use crate::board::Board;
use crate::clock::{self, BootClock};
use crate::config::{self, Config, Persist};
use crate::given::Given;
use crate::metrics::CacheFileMetrics;
use crate::planes::Plan;
use crate::stamp::Stamp;
use crate::state::State;

const HOUR_S: u64 = 3_600;
/// The TTL of the answer.
const TTL_S: u32 = 7_200;
/// The stale time of the node.
const STALE_S: u64 = 86_400;

fn node() -> Parts {
    let config = Config::embedded().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let topology = Arc::new(config::to_topology(&config));
    let control = Control::new(topology, RouteSettings::default(), clock.now(), 7);
    let (_, routes) = watch::channel(Arc::clone(control.routes()));
    let (reporter, _) = Reporter::new();
    let parts = forwarder::Parts {
        clock,
        tasks: Tasks::default(),
        routes,
        reporter: Arc::new(reporter),
        remotes: config::remotes(&config),
    };
    let settings = Settings {
        acl: Acl::new(Vec::new()),
        cache_bytes: 1 << 20,
        max_stale_us: STALE_S * SEC,
        ..Plan::of(&config, &Given::default()).settings
    };
    Parts {
        shared: Shared::new(settings, parts, &mut Registry::default()),
        metrics: CacheFileMetrics::default(),
        board: Board::default(),
    }
}

/// An answer to `www.example.org A`.
fn packet() -> Vec<u8> {
    let mut packet = vec![0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    packet.extend_from_slice(b"\x03www\x07example\x03org\x00\x00\x01\x00\x01");
    packet.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01");
    packet.extend_from_slice(&TTL_S.to_be_bytes());
    packet.extend_from_slice(&[0, 4, 192, 0, 2, 1]);
    packet
}

/// What a node finds that reads a file of this stamp and pool, whose one answer was a minute old: seconds of age, and
/// whether it is fresh.
fn found(stamp: Stamp, other_pool: bool) -> Option<(u32, bool)> {
    let state = tempfile::tempdir().unwrap();
    let place = place(&state);
    let node = node();
    let header = Header {
        marker: [7; 8],
        stamp,
        pool: pool(&node) ^ u32::from(other_pool),
    };
    let mut file = place.create().ok()?;
    write_header(&mut file, &header).ok()?;
    let record = Record {
        do_bit: false,
        cd: false,
        group: 0,
        age_us: 60 * SEC,
        wire: &packet(),
    };
    write_record(&mut file, header.marker, &record).ok()?;
    place.install(&file).ok()?;
    read::read(&place, &node);
    look(&node.shared)
}

fn place(state: &tempfile::TempDir) -> Place {
    let state = State::Directory(state.path().to_owned());
    super::choose(Persist::Disk, &state, &super::RuntimeDirs::default())
        .chosen
        .unwrap()
}

fn look(shared: &Shared) -> Option<(u32, bool)> {
    let ask = shared.ask(&"www.example.org".parse::<NameBuf>().ok()?, 1, 1);
    let now = shared.clock().now();
    match shared.cache.find_ask(&ask, now) {
        Found::Fresh(entry) => Some((entry.age_s(now), true)),
        Found::Stale(entry) => Some((entry.age_s(now), false)),
        Found::Nothing => None,
    }
}

/// A stamp of another boot, this many seconds ago by the wall clock.
fn other_boot(seconds_ago: u64) -> Stamp {
    Stamp::of(0xee, Time::from_micros(12_345 * SEC), clock::wall_s() - seconds_ago)
}

#[test]
fn the_corpus_of_the_fuzzer_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/cache_file");
    let files = fs::read_dir(folder).unwrap();
    let files = files.map(|file| exercise::exercise(&fs::read(file.unwrap().path()).unwrap()));
    assert!(files.count() > 0);
}

#[test]
fn what_is_written_in_this_boot_is_as_old_as_it_is() {
    let (age_s, is_fresh) = found(Stamp::now(&BootClock), false).unwrap();
    assert!(is_fresh && (60..90).contains(&age_s), "{age_s}");
}

#[test]
fn what_an_earlier_boot_wrote_is_expired_at_best() {
    let uptime_s = BootClock.now().as_micros() / SEC;
    // Young enough to be fresh, if the wall clock could be trusted.
    let (age_s, is_fresh) = found(other_boot(600), false).unwrap();
    assert!(!is_fresh && age_s >= TTL_S, "{age_s}");
    // Nobody knows an answer that was stale for too long.
    let too_old = STALE_S + u64::from(TTL_S) + uptime_s;
    assert_eq!(found(other_boot(too_old), false), None);
}

#[test]
fn a_clock_that_went_backwards_makes_a_file_worthless() {
    let future = Stamp::of(0xee, Time::ZERO, clock::wall_s() + HOUR_S);
    assert_eq!(found(future, false), None);
    let now = BootClock.now();
    let later_in_this_boot = {
        let bytes = Stamp::now(&BootClock).to_bytes();
        let mut later = bytes;
        later[16..24].copy_from_slice(&now.plus(HOUR_S * SEC).as_micros().to_le_bytes());
        Stamp::from_bytes(&later).unwrap()
    };
    assert_eq!(found(later_in_this_boot, false), None);
}

#[test]
fn answers_of_other_providers_are_not_taken() {
    assert!(found(Stamp::now(&BootClock), false).is_some());
    assert_eq!(found(Stamp::now(&BootClock), true), None);
}

#[test]
fn what_one_node_writes_another_one_reads() {
    let state = tempfile::tempdir().unwrap();
    let place = place(&state);
    let (first, second) = (node(), node());
    let import = detour_resolver::cache::warm::Import {
        wire: &packet(),
        do_bit: false,
        cd: false,
        group: detour_resolver::ask::GroupKey::PUBLIC,
        age_us: 100 * SEC,
        is_certain: true,
    };
    first.shared.import(&import);
    write::write(&place, &first);
    read::read(&place, &second);
    let (age_s, is_fresh) = look(&second.shared).unwrap();
    assert!(is_fresh && (100..130).contains(&age_s), "{age_s}");
    assert_eq!(
        fs::read_dir(state.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    assert_eq!(second.board.lines(), [""; 0]);
}
