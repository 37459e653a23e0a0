//! DNS bytes, read and written by hand (RFC 1035 section 4).
//!
//! A reader that never looks outside its message and never panics, and the two forms of a name: wire form as it was
//! asked, and lower-case text without a trailing dot (`.` for the root), which is what the zone and the law are keyed
//! by. Bytes that are not printable, and dots inside a label, are written as `\DDD`, so that two different names never
//! have one text.

/// Names are at most 255 bytes in wire form (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// A position in a message; every method returns `None` at the end of it.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A name as it stood in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WireName {
    /// Length-prefixed labels with the closing zero, in the case they had.
    pub(crate) wire: Vec<u8>,
    /// Lower-case text without a trailing dot; `.` is the root.
    pub(crate) text: String,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(crate) fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn number32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A name without compression: all that may stand in a question.
    pub(crate) fn plain_name(&mut self) -> Option<WireName> {
        let mut name = WireName {
            wire: Vec::with_capacity(64),
            text: String::with_capacity(64),
        };
        loop {
            let length = self.byte()?;
            name.wire.push(length);
            if length == 0 {
                break;
            }
            if length > 63 || name.wire.len() + usize::from(length) + 1 > NAME_BYTES_MAX {
                return None;
            }
            let label = self.take(usize::from(length))?;
            name.wire.extend_from_slice(label);
            if !name.text.is_empty() {
                name.text.push('.');
            }
            push_label(&mut name.text, label);
        }
        if name.text.is_empty() {
            name.text.push('.');
        }
        Some(name)
    }

    /// Steps over a name that may end in a compression pointer.
    pub(crate) fn skip_name(&mut self) -> Option<()> {
        loop {
            let length = self.byte()?;
            match length {
                0 => return Some(()),
                1..=63 => self.take(usize::from(length)).map(|_| ())?,
                64..=191 => return None,
                192..=255 => return self.byte().map(|_| ()),
            }
        }
    }
}

fn push_label(text: &mut String, label: &[u8]) {
    for &byte in label {
        if byte.is_ascii_graphic() && byte != b'.' && byte != b'\\' {
            text.push(char::from(byte.to_ascii_lowercase()));
        } else {
            text.push_str(&format!("\\{byte:03}"));
        }
    }
}

/// Wire form of a name given as text. Labels beyond 63 bytes are cut: the rig's own names are short.
pub(crate) fn wire_name(text: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(text.len() + 2);
    for label in text.split('.').filter(|label| !label.is_empty()) {
        push_string(&mut wire, label.as_bytes(), 63);
    }
    wire.push(0);
    wire
}

/// A length byte and at most `limit` (at most 255) bytes.
pub(crate) fn push_string(out: &mut Vec<u8>, bytes: &[u8], limit: u8) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX).min(limit);
    out.push(length);
    out.extend(bytes.iter().take(usize::from(length)));
}

/// Two bytes, most significant first.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// A count or length as the 16 bits DNS has for it; what does not fit becomes the largest value.
pub(crate) fn count16(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_case_in_wire_form_and_lose_it_in_text() {
        let wire = wire_name("WwW.Alder-Lane.com.");
        let name = Reader::new(&wire).plain_name().unwrap();
        assert_eq!(name.wire, wire);
        assert_eq!(name.text, "www.alder-lane.com");
        assert_eq!(Reader::new(&[0]).plain_name().unwrap().text, ".");
    }

    #[test]
    fn odd_bytes_are_escaped() {
        let name = Reader::new(b"\x04a.\\\x00\x00").plain_name().unwrap();
        assert_eq!(name.text, "a\\046\\092\\000");
    }

    #[test]
    fn names_that_do_not_end_are_refused() {
        assert!(Reader::new(b"\x03ab").plain_name().is_none());
        assert!(Reader::new(b"\xc0\x0c").plain_name().is_none());
        assert!(Reader::new(&[1_u8, b'a'].repeat(128)).plain_name().is_none());
        assert!(Reader::new(b"\xc0").skip_name().is_none());
        assert!(Reader::new(b"\x01a\xc0\x0c").skip_name().is_some());
    }
}
