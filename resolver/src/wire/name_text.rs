//! Names as people write them: `www.example.com`, with `\.` for a dot inside a label and `\DDD` for any octet
//! (RFC 1035 5.1). For the command line, logs and errors; never on the path of a query.
//!
//! A text is always absolute, with or without its last dot. Letters outside ASCII are refused, not guessed at: the
//! person typing knows the `xn--` form or can look it up.

use super::name::{LABEL_BYTES_MAX, NAME_BYTES_MAX, NameBuf};
use std::fmt;
use std::str::FromStr;

/// Why a text is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no text.
    #[error("name is empty")]
    Empty,
    /// Two dots meet, or the name begins with one.
    #[error("name has an empty label")]
    EmptyLabel,
    /// A label has more than 63 octets.
    #[error("name has a label of more than 63 octets")]
    LongLabel,
    /// The whole has more than 255 octets on the wire.
    #[error("name has more than 255 octets")]
    LongName,
    /// A backslash is not followed by a character or by three digits up to 255.
    #[error("name has a backslash that is followed neither by a character nor by a number from 000 to 255")]
    Escape,
    /// A character outside ASCII.
    #[error("name has a character outside ASCII; write international names in their xn-- form")]
    NotAscii,
}

impl FromStr for NameBuf {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if !text.is_ascii() {
            return Err(NameError::NotAscii);
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        if text != "." {
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                rest = take_label(rest, &mut wire)?;
                if wire.len() >= NAME_BYTES_MAX {
                    return Err(NameError::LongName);
                }
            }
        }
        wire.push(0);
        Self::from_wire(&wire).ok_or(NameError::LongName)
    }
}

/// Moves one label into `wire` and returns what follows its dot.
fn take_label<'a>(text: &'a [u8], wire: &mut Vec<u8>) -> Result<&'a [u8], NameError> {
    let mut label = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'.' => break,
            b'\\' => {
                let (octet, after) = take_escape(rest)?;
                rest = after;
                label.push(octet);
            }
            plain => label.push(*plain),
        }
    }
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    let len = u8::try_from(label.len()).unwrap_or(u8::MAX);
    if usize::from(len) > LABEL_BYTES_MAX {
        return Err(NameError::LongLabel);
    }
    wire.push(len);
    wire.append(&mut label);
    Ok(rest)
}

/// What stands behind a backslash: three digits, or a character that is none.
fn take_escape(text: &[u8]) -> Result<(u8, &[u8]), NameError> {
    if let Some((digits, rest)) = text.split_first_chunk::<3>()
        && digits.iter().all(u8::is_ascii_digit)
    {
        let value = digits
            .iter()
            .fold(0_u16, |sum, digit| sum * 10 + u16::from(*digit - b'0'));
        return u8::try_from(value)
            .map(|octet| (octet, rest))
            .map_err(|_too_large| NameError::Escape);
    }
    match text.split_first() {
        Some((octet, rest)) if !octet.is_ascii_digit() => Ok((*octet, rest)),
        Some(_) | None => Err(NameError::Escape),
    }
}

impl fmt::Display for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => write!(f, "\\{}", char::from(*octet))?,
                    0x21..=0x7E => write!(f, "{}", char::from(*octet))?,
                    0x00..=0x20 | 0x7F..=0xFF => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameBuf({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NameBuf {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_wire_agree() {
        assert_eq!(name(".").as_wire(), b"\0");
        assert_eq!(name("Www.Example.COM").as_wire(), b"\x03www\x07example\x03com\0");
        assert_eq!(name("a.b."), name("A.b"));
        assert_eq!(name(r"a\.b\065\\.c").as_wire(), b"\x05a.ba\\\x01c\0");
        for text in [
            ".",
            "www.example.com.",
            r"a\.b\032\255\\x.c.",
            "*.t.",
            "xn--mnchen-3ya.de.",
        ] {
            assert_eq!(name(text).to_string(), text);
        }
        assert_eq!(format!("{:?}", name("a")), "NameBuf(a.)");
    }

    #[test]
    fn wrong_texts_say_what_is_wrong() {
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(128);
        for (text, error) in [
            ("", NameError::Empty),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a\\", NameError::Escape),
            ("a\\25", NameError::Escape),
            ("a\\256", NameError::Escape),
            ("münchen.de", NameError::NotAscii),
            (long_label.as_str(), NameError::LongLabel),
            (long_name.as_str(), NameError::LongName),
        ] {
            assert_eq!(text.parse::<NameBuf>(), Err(error), "{text}");
        }
        assert_eq!(name(&"a.".repeat(127)).as_wire().len(), 255);
    }
}
