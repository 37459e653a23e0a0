//! Writes the cache into its file, beside the old one until it is whole.

use std::io::{self, BufWriter, Write as _};
use std::thread;

use super::format::{Header, Record, write_header, write_record};
use super::place::Place;
use super::{FILE_BYTES_MAX, PART, PAUSE, PIECE_BYTES, Parts, complain, pool, stamp};

/// Writes the file, or leaves the old one as it is and says why.
pub(super) fn write(place: &Place, parts: &Parts) {
    match try_write(place, parts) {
        Ok(answers) => {
            parts.metrics.count_write();
            parts.board.withdraw(PART);
            tracing::debug!(answers, "cache file written");
        }
        Err(error) => {
            place.abandon();
            complain(parts, "not written", &error);
        }
    }
}

fn try_write(place: &Place, parts: &Parts) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(64 * 1_024, place.create()?);
    let header = Header {
        marker: rand::random(),
        stamp: stamp(parts),
        pool: pool(parts),
    };
    write_header(&mut out, &header)?;
    // Ages are those of the header's stamp: answers that come while this is written are younger than it says.
    let now = parts.shared.clock().now();
    let (mut written, mut since_pause, mut answers) = (0_u64, 0_u64, 0_u64);
    for exported in parts.shared.cache.export(now) {
        let record = Record {
            do_bit: exported.do_bit(),
            cd: exported.cd(),
            group: exported.group().to_bits(),
            age_us: exported.age_us,
            wire: exported.wire(),
        };
        let bytes = write_record(&mut out, header.marker, &record)?;
        written += bytes;
        since_pause += bytes;
        answers += 1;
        if written >= FILE_BYTES_MAX {
            tracing::debug!(answers, "the cache file is full: the rest is left out");
            break;
        }
        if since_pause >= PIECE_BYTES {
            since_pause = 0;
            thread::park_timeout(PAUSE);
        }
    }
    out.flush()?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    place.install(&file)?;
    Ok(answers)
}
