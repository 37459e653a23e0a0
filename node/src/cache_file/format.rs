//! The bytes of a cache file.
//!
//! ```text
//! header   "detour-c", version (2), marker (8), stamp (32), pool (4), checksum (4): twice
//! record   marker (8), length of the payload (4), checksum of it (4), payload
//! payload  flags (1): 1 DO, 2 CD; group (4), 0 is the public one; age at the stamp in microseconds (8); packet
//! ```
//!
//! All numbers little endian. The marker is drawn for each file: whatever a file's answers say, it does not occur in
//! them, so a reader that meets a broken record looks for the next marker and loses nothing else. For the same reason
//! the header is there twice.

use std::io::{self, Read, Write};

use crate::stamp::{STAMP_BYTES, Stamp};

/// What every file begins with.
const MAGIC: [u8; 8] = *b"detour-c";
/// How what follows is to be read.
const VERSION: u16 = 2;
/// Bytes of a header.
const HEADER_BYTES: usize = 8 + 2 + 8 + STAMP_BYTES + 4 + 4;
/// Bytes of a record before its payload.
const FRAME_BYTES: usize = 16;
/// Flags, group and age.
const PREFIX_BYTES: usize = 13;
/// Longest payload: a message and what stands before it.
const PAYLOAD_BYTES_MAX: usize = PREFIX_BYTES + 65_535;
/// Bytes read at once.
const CHUNK_BYTES: usize = 64 * 1_024;

const FLAG_DO: u8 = 1;
const FLAG_CD: u8 = 2;

/// What a file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Drawn for this file.
    pub(super) marker: [u8; 8],
    /// When it was written.
    pub(super) stamp: Stamp,
    /// Whose answers it holds.
    pub(super) pool: u32,
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) do_bit: bool,
    pub(super) cd: bool,
    /// Whose answer it is.
    pub(super) group: u32,
    /// When the file was written.
    pub(super) age_us: u64,
    pub(super) wire: &'a [u8],
}

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.marker);
        bytes.extend_from_slice(&self.stamp.to_bytes());
        bytes.extend_from_slice(&self.pool.to_le_bytes());
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        let rest = body.strip_prefix(&MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
        let (marker, rest) = rest.split_first_chunk::<8>()?;
        let (stamp, pool) = rest.split_last_chunk::<4>()?;
        (crc32fast::hash(body) == u32::from_le_bytes(*sum)).then_some(())?;
        Some(Self {
            marker: *marker,
            stamp: Stamp::from_bytes(stamp)?,
            pool: u32::from_le_bytes(*pool),
        })
    }
}

/// Writes the beginning of a file.
pub(super) fn write_header(out: &mut impl Write, header: &Header) -> io::Result<()> {
    let bytes = header.to_bytes();
    out.write_all(&bytes)?;
    out.write_all(&bytes)
}

/// Writes one answer; how many bytes it took.
pub(super) fn write_record(out: &mut impl Write, marker: [u8; 8], record: &Record<'_>) -> io::Result<u64> {
    let flags = if record.do_bit { FLAG_DO } else { 0 } | if record.cd { FLAG_CD } else { 0 };
    let length = PREFIX_BYTES.saturating_add(record.wire.len());
    let Some(length_field) = u32::try_from(length).ok().filter(|_| length <= PAYLOAD_BYTES_MAX) else {
        return Ok(0);
    };
    let (group, age) = (record.group.to_le_bytes(), record.age_us.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    for part in [&[flags][..], &group, &age, record.wire] {
        hasher.update(part);
    }
    out.write_all(&marker)?;
    out.write_all(&length_field.to_le_bytes())?;
    out.write_all(&hasher.finalize().to_le_bytes())?;
    out.write_all(&[flags])?;
    out.write_all(&group)?;
    out.write_all(&age)?;
    out.write_all(record.wire)?;
    Ok(u64::try_from(FRAME_BYTES.saturating_add(length)).unwrap_or(u64::MAX))
}

/// Reads a file from front to back, in bounded memory.
#[derive(Debug)]
pub(super) struct Scanner<R> {
    source: R,
    /// Read and not yet consumed, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    marker: [u8; 8],
    /// Stretches of the file that are no records.
    damaged: u64,
}

impl<R: Read> Scanner<R> {
    /// Reads the beginning; `None` if neither of the two headers is whole.
    pub(super) fn open(source: R) -> io::Result<Option<(Self, Header)>> {
        let mut scanner = Self {
            source,
            buffer: Vec::new(),
            at: 0,
            marker: [0; 8],
            damaged: 0,
        };
        scanner.have(2 * HEADER_BYTES)?;
        let copies = scanner.rest().chunks(HEADER_BYTES).take(2).map(Header::from_bytes);
        let copies: Vec<_> = copies.collect();
        let Some(header) = copies.iter().flatten().next().copied() else {
            return Ok(None);
        };
        if copies.iter().any(Option::is_none) {
            scanner.damaged = 1;
        }
        scanner.marker = header.marker;
        scanner.consume(2 * HEADER_BYTES);
        Ok(Some((scanner, header)))
    }

    /// Stretches that could not be read so far.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The next answer that is whole, and how many bytes of the file it took; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(Record<'_>, u64)>> {
        let mut is_lost = false;
        loop {
            if !self.have(FRAME_BYTES)? {
                self.damaged += u64::from(is_lost || !self.rest().is_empty());
                self.consume(usize::MAX);
                return Ok(None);
            }
            if let Some(length) = self.whole_record()? {
                self.damaged += u64::from(is_lost);
                let start = self.at + FRAME_BYTES;
                self.consume(FRAME_BYTES + length);
                let payload = self.buffer.get(start..start + length).unwrap_or_default();
                let Some(record) = read_payload(payload) else {
                    // Sound, and of a kind that this version does not know.
                    is_lost = true;
                    continue;
                };
                // The borrow checker does not see that a record ends the loop.
                let (do_bit, cd, group, age_us) = (record.do_bit, record.cd, record.group, record.age_us);
                let taken = u64::try_from(FRAME_BYTES + length).unwrap_or(u64::MAX);
                let wire = self
                    .buffer
                    .get(start + PREFIX_BYTES..start + length)
                    .unwrap_or_default();
                let record = Record {
                    do_bit,
                    cd,
                    group,
                    age_us,
                    wire,
                };
                return Ok(Some((record, taken)));
            }
            is_lost = true;
            self.skip_to_marker();
        }
    }

    /// The length of the payload, if a whole record stands here.
    fn whole_record(&mut self) -> io::Result<Option<usize>> {
        let Some(frame) = self.rest().first_chunk::<FRAME_BYTES>() else {
            return Ok(None);
        };
        let [marker @ .., l0, l1, l2, l3, c0, c1, c2, c3] = *frame;
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let is_possible = marker == self.marker && (PREFIX_BYTES..=PAYLOAD_BYTES_MAX).contains(&length);
        if !is_possible || !self.have(FRAME_BYTES + length)? {
            return Ok(None);
        }
        let payload = self.rest().get(FRAME_BYTES..FRAME_BYTES + length).unwrap_or_default();
        let is_whole = crc32fast::hash(payload) == u32::from_le_bytes([c0, c1, c2, c3]);
        Ok(is_whole.then_some(length))
    }

    /// Goes on to the next marker behind this place, or as far as is sure that there is none.
    fn skip_to_marker(&mut self) {
        let rest = self.rest().get(1..).unwrap_or_default();
        let marker = &self.marker;
        let next = rest.windows(marker.len()).position(|window| window == marker);
        // The beginning of one may stand at the end of what was read.
        let skip = next.unwrap_or_else(|| rest.len().saturating_sub(marker.len() - 1));
        self.consume(1 + skip);
    }

    /// What was read and not consumed.
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.buffer.len());
    }

    /// Reads until there are this many bytes; false if the file ends before.
    fn have(&mut self, bytes: usize) -> io::Result<bool> {
        while self.rest().len() < bytes {
            self.buffer.drain(..self.at);
            self.at = 0;
            let before = self.buffer.len();
            self.buffer.resize(before + CHUNK_BYTES, 0);
            let read = self.source.read(self.buffer.get_mut(before..).unwrap_or_default());
            let count = match &read {
                Ok(count) => *count,
                Err(_) => 0,
            };
            self.buffer.truncate(before + count);
            match read {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn read_payload(payload: &[u8]) -> Option<Record<'_>> {
    let (flags, rest) = payload.split_first()?;
    let (group, rest) = rest.split_first_chunk::<4>()?;
    let (age, wire) = rest.split_first_chunk::<8>()?;
    (*flags & !(FLAG_DO | FLAG_CD) == 0).then_some(Record {
        do_bit: flags & FLAG_DO != 0,
        cd: flags & FLAG_CD != 0,
        group: u32::from_le_bytes(*group),
        age_us: u64::from_le_bytes(*age),
        wire,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootClock;

    const MARKER: [u8; 8] = *b"\x91marker\x92";

    fn header() -> Header {
        Header {
            marker: MARKER,
            stamp: Stamp::now(&BootClock),
            pool: 7,
        }
    }

    /// The packet of the n-th answer; some are long.
    fn wire(n: u64) -> Vec<u8> {
        let length = if n % 7 == 3 { 900 } else { 40 + n % 50 };
        (0..length)
            .map(|at| u8::try_from((at * 31 + n) % 251).unwrap())
            .collect()
    }

    /// A file of `count` answers, and where each record begins.
    fn file(header: &Header, count: u64) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        write_header(&mut bytes, header).unwrap();
        for n in 0..count {
            places.push(bytes.len());
            let record = Record {
                do_bit: n % 2 == 0,
                cd: n % 3 == 0,
                group: u32::try_from(n % 5).unwrap(),
                age_us: n * 1_000,
                wire: &wire(n),
            };
            let written = write_record(&mut bytes, header.marker, &record).unwrap();
            assert_eq!(written, u64::try_from(bytes.len() - places.last().unwrap()).unwrap());
        }
        (bytes, places)
    }

    /// Numbers of the answers found, each checked to be what was written, and what was lost.
    fn found(bytes: &[u8]) -> (Vec<u64>, u64) {
        let Some((mut scanner, _)) = Scanner::open(bytes).unwrap() else {
            return (Vec::new(), 1);
        };
        let mut numbers = Vec::new();
        while let Some((record, _)) = scanner.next().unwrap() {
            let n = record.age_us / 1_000;
            assert_eq!((record.do_bit, record.cd), (n % 2 == 0, n % 3 == 0));
            assert_eq!(u64::from(record.group), n % 5);
            assert_eq!(record.wire, wire(n));
            numbers.push(n);
        }
        assert!(scanner.buffer.capacity() < 4 * PAYLOAD_BYTES_MAX, "bounded memory");
        (numbers, scanner.damaged())
    }

    #[test]
    fn what_is_written_is_read() {
        let header = header();
        let (bytes, _) = file(&header, 300);
        let (_, read) = Scanner::open(bytes.as_slice()).unwrap().unwrap();
        assert_eq!(read, header);
        assert_eq!(found(&bytes), ((0..300).collect(), 0));
        assert_eq!(found(&file(&header, 0).0), (Vec::new(), 0));
    }

    #[test]
    fn a_flipped_bit_costs_one_answer_wherever_it_is() {
        let (bytes, places) = file(&header(), 40);
        let step = if cfg!(debug_assertions) { 29 } else { 1 };
        for bit in (0..bytes.len() * 8).step_by(step) {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let (numbers, damaged) = found(&broken);
            let hit = places.partition_point(|place| *place <= bit / 8);
            let expected: Vec<u64> = (0..40).filter(|n| *n + 1 != hit as u64).collect();
            assert_eq!(numbers, expected, "bit {bit}");
            assert_eq!(damaged, 1, "bit {bit}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_keeps_what_is_before_the_cut() {
        let (bytes, places) = file(&header(), 40);
        for length in (0..bytes.len()).step_by(11) {
            let (numbers, damaged) = found(&bytes[..length]);
            let whole = places
                .iter()
                .skip(1)
                .chain([&bytes.len()])
                .filter(|end| **end <= length)
                .count();
            assert_eq!(numbers.len(), whole, "{length} of {} bytes", bytes.len());
            let is_clean = places.contains(&length);
            assert_eq!(damaged, u64::from(!is_clean), "{length}");
        }
    }

    #[test]
    fn a_hole_costs_what_was_in_it() {
        let (mut bytes, places) = file(&header(), 200);
        let (from, to) = (places[20] + 3, places[60] + 3);
        bytes[from..to].fill(0);
        let (numbers, damaged) = found(&bytes);
        let expected: Vec<u64> = (0..20).chain(61..200).collect();
        assert_eq!((numbers, damaged), (expected, 1));
        // And one that is missing altogether.
        let (mut bytes, places) = file(&header(), 200);
        bytes.drain(places[20] + 20..places[60] + 20);
        let (numbers, _) = found(&bytes);
        assert_eq!(numbers.len(), 159);
    }

    #[test]
    fn answers_cannot_pass_for_records() {
        let header = header();
        let mut inner = Vec::new();
        let forged = Record {
            do_bit: false,
            cd: false,
            group: 0,
            age_us: 99_000,
            wire: b"forged",
        };
        // Whoever writes an answer does not know the marker.
        write_record(&mut inner, *b"guessed!", &forged).unwrap();
        let mut bytes = Vec::new();
        write_header(&mut bytes, &header).unwrap();
        let outer = Record { wire: &inner, ..forged };
        write_record(&mut bytes, header.marker, &outer).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let (mut scanner, _) = Scanner::open(bytes.as_slice()).unwrap().unwrap();
        assert!(scanner.next().unwrap().is_none());
    }

    #[test]
    fn what_is_no_cache_file_has_no_answers() {
        let noise: Vec<u8> = (0..100_000_u32).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect();
        for bytes in [&[][..], &noise, b"detour-c"] {
            assert!(Scanner::open(bytes).unwrap().is_none());
        }
        let mut other = file(&header(), 3).0;
        for at in [8, 8 + HEADER_BYTES] {
            other[at] = 3;
        }
        assert!(Scanner::open(other.as_slice()).unwrap().is_none(), "another version");
    }
}
