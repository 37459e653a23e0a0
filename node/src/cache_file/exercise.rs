//! What must hold for any cache file: the body of the fuzz target `cache_file`. Built for tests and for that target only.
//!
//! The bytes are read twice: as a file, and as answers from which a file is made that is then damaged. The answers found
//! go into a cache, out of it again into a file, and back.

use std::cell::OnceCell;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use detour_core::control::Control;
use detour_core::routes::Settings as RouteSettings;
use detour_core::time::SEC;
use detour_core::{Clock, Time, Topology};
use detour_resolver::acl::Acl;
use detour_resolver::ask::GroupKey;
use detour_resolver::cache::warm::{Exported, Import, Imported};
use detour_resolver::exchange::SourcePorts;
use detour_resolver::forwarder::{Parts, Settings, Shared};
use detour_resolver::listen::StreamLimits;
use detour_resolver::local;
use detour_resolver::report::Reporter;
use detour_resolver::tasks::Tasks;
use detour_resolver::wire::{TTL_S_MAX, question_of};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::format::{Header, Record, Scanner, write_header, write_record};
use crate::stamp::{STAMP_BYTES, Stamp};

/// Longer inputs than this would not find room in the cache.
const INPUT_BYTES_MAX: usize = 64 * 1_024;
/// Of a file made here.
const MARKER: [u8; 8] = *b"\x91marker\x92";
/// How long past its expiry an answer is of use.
const STALE_US: u64 = 86_400 * SEC;
/// What an age is kept to.
const MILLISECOND_US: u64 = 1_000;

/// A record with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    do_bit: bool,
    cd: bool,
    group: u32,
    age_us: u64,
    wire: Vec<u8>,
}

impl Kept {
    fn of(record: &Record<'_>) -> Self {
        Self {
            do_bit: record.do_bit,
            cd: record.cd,
            group: record.group,
            age_us: record.age_us,
            wire: record.wire.to_vec(),
        }
    }

    fn exported(exported: &Exported) -> Self {
        Self {
            do_bit: exported.do_bit(),
            cd: exported.cd(),
            group: exported.group().to_bits(),
            age_us: exported.age_us,
            wire: exported.wire().to_vec(),
        }
    }

    fn record(&self) -> Record<'_> {
        Record {
            do_bit: self.do_bit,
            cd: self.cd,
            group: self.group,
            age_us: self.age_us,
            wire: &self.wire,
        }
    }

    fn import(&self, is_certain: bool) -> Import<'_> {
        Import {
            wire: &self.wire,
            do_bit: self.do_bit,
            cd: self.cd,
            group: GroupKey::from_bits(self.group),
            age_us: self.age_us,
            is_certain,
        }
    }
}

/// What a scan of a file comes to.
#[derive(Debug, PartialEq, Eq)]
struct Scan {
    header: Header,
    records: Vec<Kept>,
    /// Bytes that they took.
    taken: u64,
    damaged: u64,
}

/// Reads bytes as a file, and as what is in one.
pub(crate) fn exercise(input: &[u8]) {
    if input.len() > INPUT_BYTES_MAX {
        return;
    }
    let mut answers = Vec::new();
    if let Some(scan) = scan_in_pieces(input) {
        let headers = made(scan.header, &[]).0.len();
        assert!(scan.taken <= bytes(input.len().saturating_sub(headers)));
        round_trip(scan.header, &scan.records);
        answers = scan.records;
    }
    let Some((damage, rest)) = input.split_first_chunk::<4>() else {
        return;
    };
    let listed = listed(rest);
    let header = Header {
        marker: MARKER,
        stamp: stamp(rest),
        pool: u32::from_le_bytes(*damage),
    };
    round_trip(header, &listed);
    survive(header, &listed, *damage);
    answers.extend(listed);
    warm(&answers, damage.contains(&1));
}

/// Answers as the input lists them: length, flags, age in seconds, packet.
fn listed(mut rest: &[u8]) -> Vec<Kept> {
    let mut listed = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let [l0, l1, flags, age0, age1] = *head;
        let length = usize::from(u16::from_be_bytes([l0, l1])).min(after.len());
        let (wire, next) = after.split_at(length);
        let age_s = u64::from(u16::from_be_bytes([age0, age1]));
        listed.push(Kept {
            do_bit: flags & 1 != 0,
            cd: flags & 2 != 0,
            // The public group, or one that there is not.
            group: u32::from(flags & 8),
            // Up to ten weeks and down to what does not count.
            age_us: age_s * SEC * if flags & 4 == 0 { 1 } else { 90 } + u64::from(flags),
            wire: wire.to_vec(),
        });
        rest = next;
    }
    listed
}

/// A stamp of any bytes.
fn stamp(from: &[u8]) -> Stamp {
    let mut bytes = [7; STAMP_BYTES];
    bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    let stamp = Stamp::from_bytes(&bytes);
    assert_eq!(stamp.map(Stamp::to_bytes), Some(bytes));
    stamp.unwrap_or_else(|| Stamp::now(&Still))
}

/// The file of these answers, and where each begins and ends.
fn made(header: Header, answers: &[Kept]) -> (Vec<u8>, Vec<(usize, usize)>) {
    let (mut file, mut places) = (Vec::new(), Vec::new());
    assert!(write_header(&mut file, &header).is_ok());
    for answer in answers {
        let start = file.len();
        let written = write_record(&mut file, header.marker, &answer.record());
        assert_eq!(written.ok(), Some(bytes(file.len() - start)));
        places.push((start, file.len()));
    }
    (file, places)
}

/// All that a file holds, whatever pieces it comes in.
fn scan_in_pieces(file: &[u8]) -> Option<Scan> {
    let whole = scan(file);
    let piece = file.get(12).map_or(61, |byte| 61 + usize::from(*byte));
    let dribble = Dribble {
        rest: file,
        piece,
        is_interrupted: false,
    };
    assert_eq!(scan(dribble), whole);
    whole
}

/// All that a file holds.
fn scan(source: impl Read) -> Option<Scan> {
    let opened = Scanner::open(source);
    assert!(opened.is_ok(), "memory can be read");
    let (mut scanner, header) = opened.ok().flatten()?;
    let (mut records, mut taken) = (Vec::new(), 0);
    while let Ok(Some((record, bytes))) = scanner.next() {
        records.push(Kept::of(&record));
        taken += bytes;
    }
    assert!(matches!(scanner.next(), Ok(None)), "the end stays the end");
    let damaged = scanner.damaged();
    Some(Scan {
        header,
        records,
        taken,
        damaged,
    })
}

/// A file that comes in pieces and with interruptions.
struct Dribble<'a> {
    rest: &'a [u8],
    piece: usize,
    is_interrupted: bool,
}

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.is_interrupted = !self.is_interrupted;
        if self.is_interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let piece = self.piece.min(buffer.len());
        let read = self.rest.get(..piece).unwrap_or(self.rest).read(buffer)?;
        self.rest = self.rest.get(read..).unwrap_or_default();
        Ok(read)
    }
}

/// What is written is read.
fn round_trip(header: Header, answers: &[Kept]) {
    let (file, _) = made(header, answers);
    let headers = made(header, &[]).0.len();
    let wanted = Scan {
        header,
        records: answers.to_vec(),
        taken: bytes(file.len() - headers),
        damaged: 0,
    };
    assert_eq!(scan_in_pieces(&file), Some(wanted));
}

/// Damage in one place costs what it hits and nothing else.
fn survive(header: Header, answers: &[Kept], [how, at0, at1, length]: [u8; 4]) {
    let (whole, places) = made(header, answers);
    let from = usize::from(u16::from_be_bytes([at0, at1])) % whole.len();
    let to = (from + usize::from(length)).min(whole.len());
    let mut file = whole.clone();
    let (mut from, mut to) = (from, to);
    match how % 4 {
        0 => {
            to = from + 1;
            file.get_mut(from..to)
                .into_iter()
                .flatten()
                .for_each(|byte| *byte ^= length | 1);
        }
        1 => file.get_mut(from..to).into_iter().flatten().for_each(|byte| *byte = 0),
        2 => {
            file.truncate(from);
            to = whole.len();
        }
        _ => {
            file.drain(from..to);
        }
    }
    if file == whole {
        (from, to) = (0, 0);
    }
    // What is missing from the headers shifts all the rest.
    let headers = made(header, &[]).0.len();
    let is_shifted = how % 4 == 3 && from < headers;
    // Nobody who writes an answer knows the marker of the file that it will be in.
    let has_marker = |answer: &Kept| answer.wire.windows(MARKER.len()).any(|bytes| bytes == MARKER);
    if is_shifted || answers.iter().any(has_marker) {
        return;
    }
    let untouched = answers
        .iter()
        .zip(&places)
        .filter(|(_, (start, end))| *end <= from || *start >= to)
        .map(|(answer, _)| answer);
    match scan(file.as_slice()) {
        Some(scan) => {
            assert_eq!(scan.header, header);
            assert!(
                is_within(untouched, &scan.records),
                "damage of kind {how} from {from} to {to}"
            );
            assert!(is_within(scan.records.iter(), answers), "nothing is made up");
            assert!(
                scan.damaged > 0 || file == whole || how % 4 > 1,
                "it is noticed, if it is not between answers"
            );
        }
        None => assert!(from < headers, "one header is enough"),
    }
}

/// Whether these are among those, in their order.
fn is_within<'a>(mut these: impl Iterator<Item = &'a Kept>, those: &[Kept]) -> bool {
    let mut those = those.iter();
    these.all(|this| those.any(|that| that == this))
}

/// Time that does not pass.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Time {
        Time::at_ms(1_000)
    }
}

/// A data plane without providers, whose cache is emptied before each use.
fn with_cache<R>(work: impl FnOnce(&Shared) -> R) -> R {
    thread_local! {
        static SHARED: OnceCell<Arc<Shared>> = const { OnceCell::new() };
    }
    SHARED.with(|shared| {
        let shared = shared.get_or_init(data_plane);
        shared.cache.forget_all();
        work(shared)
    })
}

fn data_plane() -> Arc<Shared> {
    let control = Control::new(Arc::new(Topology::default()), RouteSettings::default(), Still.now(), 1);
    let (_, routes) = watch::channel(Arc::clone(control.routes()));
    let (reporter, _) = Reporter::new();
    let parts = Parts {
        clock: Arc::new(Still),
        tasks: Tasks::default(),
        routes,
        reporter: Arc::new(reporter),
        remotes: Vec::new(),
    };
    let settings = Settings {
        acl: Acl::new(Vec::new()),
        cache_bytes: 1 << 20,
        max_stale_us: STALE_US,
        ttl_bounds_s: (0, TTL_S_MAX),
        in_flight: 1,
        streams: StreamLimits {
            tcp: 1,
            tls: 1,
            quic: 1,
            tcp_idle: Duration::from_secs(1),
            encrypted_idle: Duration::from_secs(1),
        },
        doh_path: "/dns-query".into(),
        source_ports: SourcePorts::Pool,
        local: local::Settings::default(),
        classes: String::new(),
        zones: Arc::default(),
        groups: Vec::new(),
        translation: None,
        version: String::new(),
        identity: String::new(),
    };
    Shared::new(settings, parts, &mut Registry::default())
}

/// Answers of a file in a cache: once each, none fresh whose age is a guess, and the same after another restart.
fn warm(answers: &[Kept], is_certain: bool) {
    let first = with_cache(|shared| {
        for answer in answers {
            let import = answer.import(is_certain);
            let verdict = shared.import(&import);
            let again = shared.import(&import);
            let wanted = if verdict == Imported::Taken {
                Imported::Known
            } else {
                verdict
            };
            assert_eq!(again, wanted);
            if verdict == Imported::Taken {
                assert_eq!(import.group, GroupKey::PUBLIC, "there is no other");
                taken(shared, answer, is_certain);
            }
        }
        export(shared)
    });
    let (file, _) = made(
        Header {
            marker: MARKER,
            stamp: stamp(&[]),
            pool: 0,
        },
        &first,
    );
    let read = scan(file.as_slice()).map(|scan| scan.records).unwrap_or_default();
    assert_eq!(read.len(), first.len());
    let second = with_cache(|shared| {
        for answer in &read {
            assert_eq!(shared.import(&answer.import(true)), Imported::Taken);
        }
        export(shared)
    });
    assert_eq!(second, first);
}

/// Everything in the cache, in an order of its own.
fn export(shared: &Shared) -> Vec<Kept> {
    let mut all: Vec<Kept> = shared
        .cache
        .export(shared.clock().now())
        .map(|one| Kept::exported(&one))
        .collect();
    all.sort_by(|a, b| (&a.wire, a.do_bit, a.cd).cmp(&(&b.wire, b.do_bit, b.cd)));
    all
}

/// What was taken is there under its question, as old as it was.
fn taken(shared: &Shared, answer: &Kept, is_certain: bool) {
    let question = question_of(&answer.wire);
    assert!(question.is_some());
    let Some((_, name, kind)) = question else {
        return;
    };
    let known = shared.cache.known(&name, shared.clock().now());
    let wanted = (kind, (answer.do_bit, answer.cd));
    let own: Vec<_> = known
        .iter()
        .filter(|known| (known.entry.kind_asked(), known.entry.flags_asked()) == wanted)
        .collect();
    assert_eq!(own.len(), 1);
    for known in own {
        assert!(is_certain || !known.is_fresh, "a guess is not fresh");
        let age_s = known.entry.age_s(shared.clock().now());
        let own_s = u32::try_from(answer.age_us / MILLISECOND_US / 1_000).unwrap_or(u32::MAX);
        assert!(age_s >= own_s && (age_s == own_s || !is_certain));
        let ttl_s = known.entry.answer.ttl_s();
        assert!(ttl_s.is_some_and(|ttl_s| ttl_s > 0 && known.is_fresh == (age_s < ttl_s)));
        assert!(known.entry.answer.wire().len() <= answer.wire.len());
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
