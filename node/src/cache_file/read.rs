//! Reads a cache file into the cache, while queries are being answered.

use std::io::{self, Read as _};
use std::thread;

use detour_resolver::ask::GroupKey;
use detour_resolver::cache::warm::{Import, Imported};

use super::format::Scanner;
use super::place::Place;
use super::{FILE_BYTES_MAX, PAUSE, PIECE_BYTES, Parts, complain, pool, stamp};
use crate::metrics::FileEntry;
use crate::stamp::Age;

/// Reads what an earlier process left, if it is of use.
pub(super) fn read(place: &Place, parts: &Parts) {
    place.clean();
    if let Err(error) = try_read(place, parts) {
        complain(parts, "what an earlier process left cannot be read", &error);
    }
}

fn try_read(place: &Place, parts: &Parts) -> io::Result<()> {
    let Some(file) = place.open()? else {
        return Ok(());
    };
    let Some((mut scanner, header)) = Scanner::open(file.take(FILE_BYTES_MAX))? else {
        parts.metrics.count_entries(FileEntry::damaged, 1);
        tracing::debug!("no cache file of this version");
        return Ok(());
    };
    if header.pool != pool(parts) {
        tracing::debug!("the cache file is of other providers: not read");
        return Ok(());
    }
    let age = header.stamp.age(&stamp(parts));
    let (passed_us, is_certain) = match age {
        Age::Exact(us) => (us, true),
        Age::ByWall(us) => (us, false),
        Age::Unknown => {
            tracing::info!("nobody can tell how old the cache file is: not read");
            return Ok(());
        }
    };
    // The file goes on ageing while it is read; the clock is looked at often enough for that.
    let started = parts.shared.clock().now();
    let (mut taken, mut since_pause) = (0_u64, 0_u64);
    while let Some((record, bytes)) = scanner.next()? {
        let reading_us = parts.shared.clock().now().since(started);
        let import = Import {
            wire: record.wire,
            do_bit: record.do_bit,
            cd: record.cd,
            group: GroupKey::from_bits(record.group),
            age_us: record.age_us.saturating_add(passed_us).saturating_add(reading_us),
            is_certain,
        };
        let entry = match parts.shared.import(&import) {
            Imported::Taken => FileEntry::restored,
            Imported::Known => FileEntry::known,
            Imported::Expired => FileEntry::expired,
            Imported::Stranger => FileEntry::stranger,
            Imported::Unkeepable | Imported::Rejected => FileEntry::rejected,
        };
        taken += u64::from(entry == FileEntry::restored);
        parts.metrics.count_entries(entry, 1);
        since_pause += bytes;
        if since_pause >= PIECE_BYTES {
            since_pause = 0;
            thread::park_timeout(PAUSE);
        }
    }
    parts.metrics.count_entries(FileEntry::damaged, scanner.damaged());
    tracing::debug!(taken, damaged = scanner.damaged(), "cache file read");
    Ok(())
}
