//! Answers in memory: records one behind the other in large pieces, found by an index, as a log that forgets at its end.
//!
//! A record is a few numbers and the answer as it is sent, so that a hit is a look into the index and a copy, and what an
//! entry costs is what it weighs: nothing is allocated for one entry, and nothing is left of one that went.
//!
//! There are two logs (S3-FIFO, without its ghosts). New records go into the first, which has a tenth of the whole once
//! the whole is in use. What was asked for again by the time it reaches the end moves to the second, the rest is gone; at
//! the end of the second what was asked for meanwhile goes back to the beginning. So a flood of names that nobody asks
//! twice passes through a tenth of the cache, whatever its rate.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use detour_core::Time;

use super::Stamp;
use crate::ask::{AsItIs, GroupKey};
use crate::wire::answer::{AnswerRef, Kind, Shape};

/// Bytes of a piece; the largest record, a whole message and where its TTLs stand, has two thirds of that.
pub(super) const SEGMENT_BYTES: usize = 128 * 1024;
/// What a record takes in the index: half a key, its place, and the room that a hash table leaves.
const INDEX_BYTES: u64 = 24;
/// One in so many segments is the first log's when all are in use.
const FIRST_ONE_IN: usize = 10;
/// What one segment's end may leave for the second log: so that there is room for what is new.
const KEPT_BYTES: usize = SEGMENT_BYTES / 2;
/// Tries to free a segment; each frees one but for what was asked for, and that only once.
const TRIES: usize = 8;

/// Records begin at multiples of this.
const ALIGN: usize = 8;
/// Bits of a place that say where in its segment it is, in units of the above.
const OFFSET_BITS: u32 = 14;

// Where the numbers of a record stand, and how long they are together.
const KEY: usize = 0;
const STORED: usize = 8;
const REFRESH_FAILED: usize = 16;
const AGE: usize = 24;
const TTL: usize = 28;
const SIZE: usize = 32;
const PACKED: usize = 36;
const WIRE: usize = 40;
const QUESTION_END: usize = 42;
const ADDITIONAL_AT: usize = 44;
const RCODE: usize = 46;
const KIND: usize = 48;
const FLAGS: usize = 49;
const HITS: usize = 50;
const EDE: usize = 51;
const GROUP: usize = 52;
const HEAD_BYTES: usize = 56;

/// A TTL that is none.
const NO_TTL: u32 = u32::MAX;
/// Flag: asked with DO.
const DO: u8 = 1;
/// Flag: asked with CD.
const CD: u8 = 2;
/// Flag: asked for since it came to where it is.
const ASKED: u8 = 4;

/// A part of the cache.
#[derive(Debug)]
pub(super) struct Log {
    /// Places by half of the key, which is what the index is half as large for: two keys that share it take each other's
    /// place, one in some hundred thousand times.
    index: HashMap<u32, u32, BuildHasherDefault<AsItIs>>,
    segments: Vec<Vec<u8>>,
    /// Numbers of the segments of the first and the second log, oldest in front, and of those that are empty.
    first: VecDeque<usize>,
    second: VecDeque<usize>,
    free: Vec<usize>,
    /// Takes the place of a segment whose end has come, while that is looked through.
    spare: Vec<u8>,
    segments_max: usize,
    bytes: u64,
}

impl Log {
    /// A log of so many segments and one more.
    pub(super) fn new(segments_max: usize) -> Self {
        Self {
            index: HashMap::default(),
            segments: Vec::new(),
            first: VecDeque::new(),
            second: VecDeque::new(),
            free: Vec::new(),
            spare: Vec::new(),
            segments_max,
            bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// What the records weigh.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn keys(&mut self) -> Vec<u64> {
        let (places, segments) = (self.index.values(), &mut self.segments);
        let keys = places.filter_map(|place| Some(u64_at(record_mut(segments, *place)?, KEY)));
        keys.collect()
    }

    pub(super) fn contains(&mut self, key: u64) -> bool {
        self.record_mut(key).is_some()
    }

    /// The record of this key.
    fn record_mut(&mut self, key: u64) -> Option<&mut [u8]> {
        let place = *self.index.get(&half(key))?;
        record_mut(&mut self.segments, place).filter(|record| u64_at(record, KEY) == key)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.segments_max);
    }

    /// Shows the entry of this key, which is no sign that anybody asks for it.
    pub(super) fn read<R>(&mut self, key: u64, look: impl FnOnce(&Stamp, AnswerRef<'_>) -> Option<R>) -> Option<R> {
        let (stamp, answer) = read(self.record_mut(key)?)?;
        look(&stamp, answer)
    }

    /// Shows the entry of this key, with what is counted of its hits; what `look` makes something of has been asked for.
    pub(super) fn look<R>(
        &mut self,
        key: u64,
        look: impl FnOnce(&Stamp, AnswerRef<'_>, &mut u8) -> Option<R>,
    ) -> Option<R> {
        let record = self.record_mut(key)?;
        let (stamp, answer) = read(record)?;
        let before = u8_at(record, HITS);
        let mut hits = before;
        let found = look(&stamp, answer, &mut hits)?;
        if hits != before {
            put(record, HITS, &[hits]);
        }
        let flags = u8_at(record, FLAGS);
        if flags & ASKED == 0 {
            put(record, FLAGS, &[flags | ASKED]);
        }
        Some(found)
    }

    /// Puts an entry in the place of what there is.
    pub(super) fn insert(&mut self, key: u64, stamp: &Stamp, answer: AnswerRef<'_>) {
        let size = (HEAD_BYTES + answer.packed().len()).next_multiple_of(ALIGN);
        let mut is_asked = false;
        if let Some(record) = self.record_mut(key) {
            is_asked = u8_at(record, FLAGS) & ASKED != 0;
            // Written over where it fits: what is refreshed again and again is mostly of one size.
            if (size..=2 * size).contains(&record.len()) {
                write(record, key, stamp, answer, is_asked);
                return;
            }
        }
        self.free_place(key);
        if size > SEGMENT_BYTES {
            return;
        }
        let Some(place) = self.append(size, is_asked) else {
            return;
        };
        if let Some(record) = room_mut(&mut self.segments, place, size) {
            put(record, SIZE, &u32::try_from(size).unwrap_or(0).to_le_bytes());
            write(record, key, stamp, answer, false);
            self.index.insert(half(key), place);
            self.bytes = self.bytes.saturating_add(weight(size));
        }
    }

    /// Removes an entry, whose bytes stay until their segment's end; whether there was one.
    pub(super) fn remove(&mut self, key: u64) -> bool {
        let is_there = self.contains(key);
        if is_there {
            self.free_place(key);
        }
        is_there
    }

    /// Removes the entry that has the place of this key in the index.
    fn free_place(&mut self, key: u64) {
        if let Some(place) = self.index.remove(&half(key)) {
            let size = record_mut(&mut self.segments, place).map_or(0, |record| record.len());
            self.bytes = self.bytes.saturating_sub(weight(size));
        }
    }

    /// Notes when a refresh failed.
    pub(super) fn note_refresh_failed(&mut self, key: u64, at: Time) {
        if let Some(record) = self.record_mut(key) {
            put(record, REFRESH_FAILED, &at.as_micros().to_le_bytes());
        }
    }

    /// Room at the beginning of a log, where the oldest make place if they have to.
    fn append(&mut self, size: usize, to_second: bool) -> Option<u32> {
        for _ in 0..TRIES {
            if let Some(place) = self.append_if_free(size, to_second) {
                return Some(place);
            }
            self.forget_oldest();
        }
        None
    }

    /// Room at the beginning of a log, if there is any.
    fn append_if_free(&mut self, size: usize, to_second: bool) -> Option<u32> {
        let log = if to_second { &mut self.second } else { &mut self.first };
        let newest = log.back().copied();
        let has_room = |number: &usize| {
            let segment = self.segments.get(*number);
            segment.is_some_and(|segment| segment.len() + size <= SEGMENT_BYTES)
        };
        let number = match newest.filter(has_room) {
            Some(number) => number,
            None => {
                let number = match self.free.pop() {
                    Some(number) => number,
                    None if self.segments.len() < self.segments_max => {
                        self.segments.push(Vec::with_capacity(SEGMENT_BYTES));
                        self.segments.len() - 1
                    }
                    None => return None,
                };
                log.push_back(number);
                number
            }
        };
        let segment = self.segments.get_mut(number)?;
        let place = place(number, segment.len())?;
        segment.resize(segment.len() + size, 0);
        Some(place)
    }

    /// Empties the oldest segment of one of the logs; of what was asked for some goes to the second log.
    fn forget_oldest(&mut self) {
        let is_first_full = self.first.len() > (self.segments_max / FIRST_ONE_IN).max(1) || self.second.is_empty();
        let oldest = if is_first_full {
            self.first.pop_front()
        } else {
            self.second.pop_front()
        };
        let Some(number) = oldest else {
            return;
        };
        let Some(segment) = self.segments.get_mut(number) else {
            return;
        };
        if self.spare.capacity() == 0 {
            self.spare.reserve_exact(SEGMENT_BYTES);
        }
        let mut old = std::mem::replace(segment, std::mem::take(&mut self.spare));
        self.free.push(number);
        let (mut offset, mut kept_bytes) = (0, 0);
        while let Some(record) = old.get(offset..).filter(|record| !record.is_empty()) {
            let size = usize::try_from(u32_at(record, SIZE)).unwrap_or(0);
            let Some(record) = record.get(..size).filter(|_| size > 0) else {
                debug_assert!(false, "records fill their segment");
                break;
            };
            let key = u64_at(record, KEY);
            // Of an entry that was written anew only the last record is in the index; within a segment it comes last.
            if self.index.get(&half(key)).copied() == place(number, offset) {
                let is_asked = u8_at(record, FLAGS) & ASKED != 0;
                if is_asked && kept_bytes + size <= KEPT_BYTES && self.keep(key, record) {
                    kept_bytes += size;
                } else {
                    self.index.remove(&half(key));
                    self.bytes = self.bytes.saturating_sub(weight(size));
                }
            }
            offset += size;
        }
        old.clear();
        self.spare = old;
    }

    /// Copies a record to the second log, not asked for so far; false if there is no room.
    fn keep(&mut self, key: u64, record: &[u8]) -> bool {
        let Some(place) = self.append_if_free(record.len(), true) else {
            return false;
        };
        let Some(copy) = room_mut(&mut self.segments, place, record.len()) else {
            return false;
        };
        copy.copy_from_slice(record);
        put(copy, FLAGS, &[u8_at(record, FLAGS) & !ASKED]);
        self.index.insert(half(key), place);
        true
    }

    /// What all of it takes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let segments = self.segments.iter().chain([&self.spare]).map(Vec::capacity);
        // A table has a power of two of places, one in eight free, and an octet for each beside key and value.
        segments.sum::<usize>() + (self.index.capacity() * 8 / 7).next_power_of_two() * 9
    }
}

/// What a key is found by. Neither half alone tells the types of a name apart from those of others.
fn half(key: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = key.to_le_bytes();
    u32::from_le_bytes([a ^ e, b ^ f, c ^ g, d ^ h])
}

/// What a record of this size weighs.
fn weight(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX).saturating_add(INDEX_BYTES)
}

/// A segment's number and an offset in one number.
fn place(number: usize, offset: usize) -> Option<u32> {
    let number = u32::try_from(number).ok()?;
    let offset = u32::try_from(offset / ALIGN).ok()?;
    Some(number << OFFSET_BITS | offset)
}

/// `size` bytes at a place.
fn room_mut(segments: &mut [Vec<u8>], place: u32, size: usize) -> Option<&mut [u8]> {
    let number = usize::try_from(place >> OFFSET_BITS).ok()?;
    let offset = usize::try_from(place & ((1 << OFFSET_BITS) - 1)).ok()? * ALIGN;
    segments.get_mut(number)?.get_mut(offset..)?.get_mut(..size)
}

/// The record at a place, as long as it says.
fn record_mut(segments: &mut [Vec<u8>], place: u32) -> Option<&mut [u8]> {
    let head = room_mut(segments, place, HEAD_BYTES)?;
    let size = usize::try_from(u32_at(head, SIZE)).ok()?;
    room_mut(segments, place, size)
}

/// Writes an entry into a record whose size stands there already and suffices.
fn write(record: &mut [u8], key: u64, stamp: &Stamp, answer: AnswerRef<'_>, is_asked: bool) {
    let shape = answer.shape();
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = flag(stamp.flags.0, DO) | flag(stamp.flags.1, CD) | flag(is_asked, ASKED);
    let kind = match shape.kind {
        Kind::Positive => 0,
        Kind::Denial { soa: true } => 1,
        Kind::Denial { soa: false } => 2,
        Kind::Failure => 3,
        Kind::Truncated => 4,
    };
    let packed = u32::try_from(answer.packed().len()).unwrap_or(0);
    put(record, KEY, &key.to_le_bytes());
    put(record, STORED, &stamp.stored.as_micros().to_le_bytes());
    put(record, REFRESH_FAILED, &stamp.refresh_failed.as_micros().to_le_bytes());
    put(record, AGE, &stamp.came_at_age_ms.to_le_bytes());
    put(record, TTL, &shape.ttl_s.unwrap_or(NO_TTL).to_le_bytes());
    put(record, PACKED, &packed.to_le_bytes());
    put(record, WIRE, &shape.wire_len.to_le_bytes());
    put(record, QUESTION_END, &shape.question_end.to_le_bytes());
    put(record, ADDITIONAL_AT, &shape.additional_at.to_le_bytes());
    put(record, RCODE, &shape.rcode.to_le_bytes());
    put(record, KIND, &[kind]);
    put(record, FLAGS, &[flags]);
    put(record, HITS, &[0]);
    put(record, EDE, &[shape.ede_len]);
    put(record, GROUP, &stamp.group.to_bits().to_le_bytes());
    put(record, HEAD_BYTES, answer.packed());
}

/// Reads what was written.
fn read(record: &[u8]) -> Option<(Stamp, AnswerRef<'_>)> {
    let flags = u8_at(record, FLAGS);
    let stamp = Stamp {
        stored: Time::from_micros(u64_at(record, STORED)),
        came_at_age_ms: u32_at(record, AGE),
        flags: (flags & DO != 0, flags & CD != 0),
        group: GroupKey::from_bits(u32_at(record, GROUP)),
        refresh_failed: Time::from_micros(u64_at(record, REFRESH_FAILED)),
    };
    let ttl_s = u32_at(record, TTL);
    let shape = Shape {
        wire_len: u16_at(record, WIRE),
        question_end: u16_at(record, QUESTION_END),
        additional_at: u16_at(record, ADDITIONAL_AT),
        rcode: u16_at(record, RCODE),
        kind: match u8_at(record, KIND) {
            0 => Kind::Positive,
            1 => Kind::Denial { soa: true },
            2 => Kind::Denial { soa: false },
            3 => Kind::Failure,
            _ => Kind::Truncated,
        },
        ede_len: u8_at(record, EDE),
        ttl_s: (ttl_s != NO_TTL).then_some(ttl_s),
    };
    let packed_len = usize::try_from(u32_at(record, PACKED)).ok()?;
    let packed = record.get(HEAD_BYTES..)?.get(..packed_len)?;
    Some((stamp, AnswerRef::new(packed, shape)))
}

/// Puts bytes at `at`; what does not fit was never asked for.
fn put(record: &mut [u8], at: usize, bytes: &[u8]) {
    let place = record.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len()));
    debug_assert!(place.is_some(), "a record has room for what it is");
    if let Some(place) = place {
        place.copy_from_slice(bytes);
    }
}

fn u8_at(record: &[u8], at: usize) -> u8 {
    record.get(at).copied().unwrap_or(0)
}

fn u16_at(record: &[u8], at: usize) -> u16 {
    let bytes = record.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    let bytes = record.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    let bytes = record.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
