//! Reading typed values out of a TOML document without stopping: whatever is wrong is noted with its place and
//! reading goes on.
//!
//! `serde` with `deny_unknown_fields` stops at the first mistake, and an operator who is told one mistake a run
//! repairs a file in as many runs. So the document is walked by hand: opening a table reports its unknown keys,
//! reading a value reports its type, its bounds and its format.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::PROGRAM_VERSION;
use super::problem::{Place, Problems, quoted, shortened};
use super::units::{ShowDuration, ShowSize, parse_duration, parse_size};

/// Keys with a value that stand at the top: what is written behind a table is read as that table's.
const TOP_KEYS: [&str; 5] = ["version", "state-dir", "reload", "dns64", "tls-groups"];

/// A document being read, and what was wrong so far.
pub(super) struct Reader {
    /// Byte offsets of line ends.
    newlines: Vec<usize>,
    pub(super) problems: Problems,
    /// Paths that were read, each with the bytes it stands at.
    pub(super) paths: Vec<(Range<usize>, PathBuf)>,
}

/// A table; its keys are all known, or the caller's to judge.
pub(super) struct Table<'t> {
    pub(super) place: Place,
    entries: &'t DeTable<'t>,
}

/// A value that was written.
pub(super) struct Item<'t> {
    pub(super) place: Place,
    value: &'t DeValue<'t>,
    /// The bytes it stands at.
    span: Range<usize>,
}

impl Item<'_> {
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn as_flag(&self) -> Option<bool> {
        self.value.as_bool()
    }

    pub(super) fn as_integer(&self) -> Option<i128> {
        let integer = self.value.as_integer()?;
        i128::from_str_radix(integer.as_str(), integer.radix()).ok()
    }
}

impl<'t> Table<'t> {
    /// The whole document, its keys not looked at.
    pub(super) fn root(entries: &'t DeTable<'t>) -> Self {
        let place = Place {
            key: String::new(),
            line: 1,
        };
        Self { place, entries }
    }

    /// What was written, key by key.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        self.entries.keys().map(|key| key.get_ref().as_ref())
    }
}

impl Reader {
    pub(super) fn new(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            newlines: newlines.map(|(offset, _)| offset).collect(),
            problems: Problems::default(),
            paths: Vec::new(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.newlines.partition_point(|newline| *newline < offset) + 1
    }

    /// Notes the parser's errors. Returns the line from which on the document may not be what its author meant.
    ///
    /// The parser recovers and goes on, so one mistake can look like several: the first of each line is told.
    pub(super) fn report_syntax(&mut self, text: &str, errors: &[toml::de::Error]) -> Option<usize> {
        let mut by_line = BTreeMap::new();
        for error in errors {
            let span = error.span().unwrap_or_default();
            let line = self.line(span.start);
            let found = text.get(span).filter(|found| !found.trim().is_empty());
            let found = found.map(|found| format!(" at {}", quoted(found))).unwrap_or_default();
            by_line
                .entry(line)
                .or_insert_with(|| format!("not TOML{found}: {}", error.message()));
        }
        for (line, message) in &by_line {
            let place = Place {
                key: String::new(),
                line: *line,
            };
            self.problems.add(&place, message.as_str());
        }
        by_line.into_keys().next()
    }

    /// The whole document.
    pub(super) fn root<'t>(&mut self, entries: &'t DeTable<'t>, known: &[&str]) -> Table<'t> {
        let table = Table::root(entries);
        self.report_unknown(&table.place, entries, known, &[]);
        table
    }

    fn report_unknown(&mut self, place: &Place, entries: &DeTable<'_>, known: &[&str], later: &[&str]) {
        for key in entries.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) && !later.contains(&name) {
                let place = place.child(key.get_ref(), self.line(key.span().start));
                let mut message = format!("unknown key: version {PROGRAM_VERSION} knows {} here", known.join(", "));
                if TOP_KEYS.contains(&name) {
                    message.push_str("; this one belongs at the top of the file, before the first [table]");
                }
                self.problems.add(&place, message);
            }
        }
    }

    /// The value of a key, if it was written.
    pub(super) fn item<'t>(&self, table: &Table<'t>, key: &str) -> Option<Item<'t>> {
        let (key, value) = table.entries.get_key_value(key)?;
        Some(Item {
            place: table.place.child(key.get_ref(), self.line(key.span().start)),
            value: value.get_ref(),
            span: value.span(),
        })
    }

    /// Reads a value into `slot`, which keeps its default when the key is absent or wrong.
    pub(super) fn set<'t, V>(
        &mut self,
        table: &Table<'t>,
        key: &str,
        slot: &mut V,
        read: impl FnOnce(&mut Self, &Item<'t>) -> Option<V>,
    ) {
        if let Some(value) = self.item(table, key).and_then(|item| read(self, &item)) {
            *slot = value;
        }
    }

    fn wrong_type<T>(&mut self, item: &Item<'_>, wanted: &str) -> Option<T> {
        let found = match item.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.wrong(item, format!("must be {wanted}, not {found}"))
    }

    /// Notes what is wrong with a value.
    pub(super) fn wrong<T>(&mut self, item: &Item<'_>, message: impl Into<String>) -> Option<T> {
        self.problems.add(&item.place, message);
        None
    }

    pub(super) fn table<'t>(&mut self, item: &Item<'t>, known: &[&str]) -> Option<Table<'t>> {
        self.table_with_later(item, known, &[])
    }

    /// A table some of whose keys, `later`, are the caller's to refuse.
    pub(super) fn table_with_later<'t>(
        &mut self,
        item: &Item<'t>,
        known: &[&str],
        later: &[&str],
    ) -> Option<Table<'t>> {
        let table = self.table_of_any(item)?;
        self.report_unknown(&table.place, table.entries, known, later);
        Some(table)
    }

    /// A table whose keys the caller judges.
    pub(super) fn table_of_any<'t>(&mut self, item: &Item<'t>) -> Option<Table<'t>> {
        let Some(entries) = item.value.as_table() else {
            return self.wrong_type(item, "a table");
        };
        Some(Table {
            place: item.place.clone(),
            entries,
        })
    }

    /// The elements of an array of at most `most`, of which there must be one at least.
    pub(super) fn elements<'t>(&mut self, item: &Item<'t>, of: &str, most: usize) -> Option<Vec<Item<'t>>> {
        let elements = self.elements_or_none(item, of, most)?;
        if elements.is_empty() {
            return self.wrong(item, format!("is empty: there must be {of}"));
        }
        Some(elements)
    }

    /// The elements of an array of at most `most`.
    pub(super) fn elements_or_none<'t>(&mut self, item: &Item<'t>, of: &str, most: usize) -> Option<Vec<Item<'t>>> {
        let Some(array) = item.value.as_array() else {
            return self.wrong_type(item, &format!("an array of {of}"));
        };
        if array.len() > most {
            return self.wrong(item, format!("has {} {of}: at most {most} are possible", array.len()));
        }
        let element = |(index, value): (usize, &'t Spanned<DeValue<'t>>)| Item {
            place: item.place.element(index, self.line(value.span().start)),
            value: value.get_ref(),
            span: value.span(),
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    pub(super) fn text<'t>(&mut self, item: &Item<'t>) -> Option<&'t str> {
        match item.value.as_str() {
            Some(text) => Some(text),
            None => self.wrong_type(item, "a string"),
        }
    }

    /// Text that someone will read again: not empty, not endless, nothing invisible.
    pub(super) fn label(&mut self, item: &Item<'_>) -> Option<String> {
        let text = self.text(item)?;
        let unquoted = text.replace(['"', '\'', '\\'], "");
        let is_visible = unquoted.escape_debug().eq(unquoted.chars());
        let is_printable = !text.trim().is_empty() && text.trim() == text && is_visible;
        if is_printable && text.chars().nth(LABEL_CHARS_MAX).is_none() {
            return Some(text.to_owned());
        }
        let most = LABEL_CHARS_MAX;
        self.wrong(
            item,
            format!("must be 1 to {most} printable characters, without space around them"),
        )
    }

    /// Text that is a name in log lines and metrics.
    pub(super) fn name(&mut self, item: &Item<'_>) -> Option<String> {
        let text = self.text(item)?;
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if (1..=LABEL_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            return Some(text.to_owned());
        }
        let most = LABEL_CHARS_MAX;
        let found = quoted(text);
        self.wrong(
            item,
            format!("must be 1 to {most} of the characters a-z 0-9 - _ . and not {found}"),
        )
    }

    /// A path as it was written, which is not looked at here; `wanted` says what it must be. Every key whose value is a
    /// path is read by this, because a copy of the file kept elsewhere must name the same files.
    pub(super) fn path(&mut self, item: &Item<'_>, wanted: &str) -> Option<PathBuf> {
        match item.value.as_str() {
            Some(text) if !text.is_empty() && !text.contains('\0') => {
                self.paths.push((item.span.clone(), text.into()));
                Some(text.into())
            }
            Some(_) | None => self.wrong(item, wanted),
        }
    }

    pub(super) fn flag(&mut self, item: &Item<'_>) -> Option<bool> {
        match item.value.as_bool() {
            Some(flag) => Some(flag),
            None => self.wrong_type(item, "true or false"),
        }
    }

    pub(super) fn integer<N>(&mut self, item: &Item<'_>, bounds: RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<i128> + PartialOrd + Display,
    {
        let Some(integer) = item.value.as_integer() else {
            return self.wrong_type(item, "an integer");
        };
        match item.as_integer().and_then(|number| N::try_from(number).ok()) {
            Some(number) if bounds.contains(&number) => Some(number),
            _ => {
                let (least, most) = bounds.into_inner();
                let found = shortened(&integer.to_string());
                self.wrong(item, format!("must be from {least} to {most}, not {found}"))
            }
        }
    }

    pub(super) fn duration(&mut self, item: &Item<'_>, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let Some(text) = item.value.as_str() else {
            return self.wrong_type(item, "a string with a unit, such as \"10s\"");
        };
        match parse_duration(text) {
            Ok(duration) if bounds.contains(&duration) => Some(duration),
            Ok(_) => {
                let (least, most) = (ShowDuration(*bounds.start()), ShowDuration(*bounds.end()));
                self.wrong(item, format!("must be from {least} to {most}, not {}", shortened(text)))
            }
            Err(error) => self.wrong(item, error.to_string()),
        }
    }

    pub(super) fn size_bytes(&mut self, item: &Item<'_>, bounds: RangeInclusive<u64>) -> Option<u64> {
        let Some(text) = item.value.as_str() else {
            return self.wrong_type(item, "a string with a unit, such as \"32MiB\"");
        };
        match parse_size(text) {
            Ok(size) if bounds.contains(&size) => Some(size),
            Ok(_) => {
                let (least, most) = (ShowSize(*bounds.start()), ShowSize(*bounds.end()));
                self.wrong(item, format!("must be from {least} to {most}, not {}", shortened(text)))
            }
            Err(error) => self.wrong(item, error.to_string()),
        }
    }

    /// A percentage with at most one decimal, as permille from 1 to 1000.
    pub(super) fn share_permille(&mut self, item: &Item<'_>) -> Option<u16> {
        let Some(text) = item.value.as_str() else {
            return self.wrong_type(item, "a string such as \"40%\"");
        };
        match parse_permille(text) {
            Some(permille @ 1..=1000) => Some(permille),
            Some(0) => self.wrong(item, "must be more than 0%: to use a provider never, leave it out"),
            _ => self.wrong(item, "must be a percentage from 0.1% to 100%, such as \"40%\""),
        }
    }

    pub(super) fn choice<T: Copy>(&mut self, item: &Item<'_>, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(item)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| quoted(name)).collect();
        self.wrong(
            item,
            format!("must be one of {}, not {}", names.join(", "), quoted(text)),
        )
    }

    pub(super) fn parsed<T, E: Display>(
        &mut self,
        item: &Item<'_>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(item)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => self.wrong(item, format!("{}: {error}", quoted(text))),
        }
    }
}

/// Longest name or label, characters: it is repeated in every log line and metric.
const LABEL_CHARS_MAX: usize = 64;

fn parse_permille(text: &str) -> Option<u16> {
    let number = text.strip_suffix('%')?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<u16>().ok())?
    };
    let tenths = digits(tenths).filter(|_| tenths.len() == 1)?;
    digits(whole)?.checked_mul(10)?.checked_add(tenths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!(parse_permille("40%"), Some(400));
        assert_eq!(parse_permille("12.5%"), Some(125));
        assert_eq!(parse_permille("0%"), Some(0));
        for text in ["40", "%", ".5%", "12.55%", "+4%", "-4%", "4 %", "99999%", "1.%"] {
            assert_eq!(parse_permille(text), None, "{text}");
        }
    }
}
