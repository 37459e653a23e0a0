//! `[local-zones]`: switches of the zones that are answered here, and the hosts file.
//!
//! Each key but `hosts` is the name of a zone in quotes, for its dots. Nobody has all the names in mind, so a wrong one
//! is answered with those it may have been meant for.

use detour_resolver::local::zone_names;

use super::problem::quoted;
use super::reader::{Item, Reader};
use super::{LocalZones, PROGRAM_VERSION};

/// The key that is no zone.
pub(super) const HOSTS: &str = "hosts";

/// How many names a wrong one is answered with.
const NEAREST: usize = 3;

pub(super) fn read(reader: &mut Reader, item: &Item<'_>, zones: &mut LocalZones) {
    let Some(table) = reader.table_of_any(item) else {
        return;
    };
    let (keys, most) = (table.keys().count(), zone_names().count() + 1);
    if keys > most {
        reader.wrong::<()>(
            item,
            format!("has {keys} keys: there are {most}, which docs/CONFIG.md lists"),
        );
        return;
    }
    for key in table.keys() {
        let Some(item) = reader.item(&table, key) else {
            continue;
        };
        if key == HOSTS {
            read_hosts(reader, &item, zones);
        } else if let Some(name) = zone_names().find(|name| *name == key) {
            if reader.flag(&item) == Some(false) {
                zones.off.push(name);
            }
        } else {
            let written = dotted(reader, &item, key);
            let message = if zone_names().any(|name| name == written) {
                let (key, name) = (quoted(key), quoted(&written));
                format!("unknown key: {key} is only the beginning of a name with dots, so write {name} in quotes")
            } else {
                let nearest = nearest(&written).map(quoted).join(", ");
                format!(
                    "unknown key: version {PROGRAM_VERSION} knows {HOSTS} and the zones of docs/CONFIG.md here, the \
                     nearest of which are {nearest}"
                )
            };
            reader.wrong::<()>(&item, message);
        }
    }
}

/// The key as it was written: without quotes, each dot begins another table.
fn dotted(reader: &mut Reader, item: &Item<'_>, key: &str) -> String {
    let inner = Some(item)
        .filter(|item| item.is_table())
        .and_then(|item| reader.table_of_any(item));
    let inner = inner.and_then(|table| {
        let inner_key = table.keys().next()?;
        Some((inner_key, reader.item(&table, inner_key)?))
    });
    match inner {
        // Keys are as deep as the parser of TOML allows.
        Some((inner_key, inner)) => format!("{key}.{}", dotted(reader, &inner, inner_key)),
        None => key.to_owned(),
    }
}

/// A path, or whether the usual one is used.
fn read_hosts(reader: &mut Reader, item: &Item<'_>, zones: &mut LocalZones) {
    match item.as_flag() {
        Some(true) => {}
        Some(false) => zones.hosts = None,
        None => {
            if let Some(path) = reader.path(item, "must be true, false or the path of a file") {
                zones.hosts = Some(path);
            }
        }
    }
}

/// The zones whose names take the fewest changes to become this text.
fn nearest(text: &str) -> [&'static str; NEAREST] {
    let folded = text.to_ascii_lowercase();
    let mut names: Vec<_> = zone_names().map(|name| (distance(&folded, name), name)).collect();
    names.sort();
    let mut nearest = names.into_iter().map(|(_, name)| name);
    std::array::from_fn(|_| nearest.next().unwrap_or_default())
}

/// How many bytes must be put in, taken out or changed to make one text the other (Levenshtein). What is missing at the
/// end costs least: names are cut off there.
fn distance(from: &str, to: &str) -> usize {
    /// Costs of a missing byte in the middle and at the end.
    const CHANGE: usize = 4;
    const REST: usize = 1;
    // A key can be as long as a file; more than this is nearer to nothing.
    let from: Vec<u8> = from.bytes().take(128).collect();
    let mut row: Vec<usize> = (0..=to.len()).map(|at| at * CHANGE).collect();
    for (above, byte) in (1..).zip(&from) {
        let mut diagonal = above * CHANGE - CHANGE;
        let mut left = above * CHANGE;
        let mut next = vec![left];
        for (wanted, up) in to.bytes().zip(row.iter().skip(1)) {
            let change = if wanted == *byte { 0 } else { CHANGE };
            left = (diagonal + change).min(up + CHANGE).min(left + CHANGE);
            diagonal = *up;
            next.push(left);
        }
        row = next;
    }
    let ends = row.iter().rev().zip(0..).map(|(cost, missing)| cost + missing * REST);
    ends.min().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_near() {
        for (text, meant) in [
            ("locl", "local"),
            ("10.in-addr", "10.in-addr.arpa"),
            ("10.in-adr.arpa", "10.in-addr.arpa"),
            ("168.192", "168.192.in-addr.arpa"),
            ("home.apra", "home.arpa"),
            ("Internal", "internal"),
            ("localhost.", "localhost"),
            ("fd.ip6.arpa", "d.f.ip6.arpa"),
        ] {
            assert!(nearest(text).contains(&meant), "{text}: {:?}", nearest(text));
        }
        assert_eq!(nearest("").len(), NEAREST);
        assert_eq!(nearest(&"x".repeat(100_000)).len(), NEAREST);
    }
}
