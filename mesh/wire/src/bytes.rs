//! Big-endian integers and lengths, in and out; a reader never reads past its end.

use crate::{DecodeError, EncodeError};

/// The largest number that 48 bits hold.
pub(crate) const U48_MAX: u64 = (1 << 48) - 1;

/// Bytes from outside, taken from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// What is left.
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of a message that may have `max` bytes.
    pub(crate) fn new(bytes: &'a [u8], max: usize) -> Result<Self, DecodeError> {
        if bytes.len() > max {
            let length = bytes.len();
            return Err(DecodeError::TooLong { length, max });
        }
        Ok(Self { rest: bytes })
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Six bytes.
    pub(crate) fn u48(&mut self) -> Result<u64, DecodeError> {
        let [a, b, c, d, e, f] = self.array()?;
        Ok(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A length of one byte and so many characters of printable ASCII, at most `max`.
    pub(crate) fn text(&mut self, max: usize) -> Result<String, DecodeError> {
        let length = self.u8()?;
        if usize::from(length) > max {
            return Err(DecodeError::TextLength(length));
        }
        let bytes = self.bytes(usize::from(length))?;
        if !bytes.iter().all(is_printable) {
            return Err(DecodeError::Text);
        }
        Ok(bytes.iter().copied().map(char::from).collect())
    }

    /// The extension area: a length of two bytes and what later versions put there.
    pub(crate) fn extension(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// Nothing may follow.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.rest.len()))
        }
    }
}

/// Bytes on their way out.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// So far.
    bytes: Vec<u8>,
}

impl Writer {
    /// With room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let bytes = Vec::with_capacity(capacity);
        Self { bytes }
    }

    /// These bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// One byte.
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Six bytes; a larger number is written as the largest.
    pub(crate) fn u48(&mut self, value: u64) {
        let [_, _, rest @ ..] = value.min(U48_MAX).to_be_bytes();
        self.bytes(&rest);
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// A length of one byte and the text.
    pub(crate) fn text(&mut self, text: &str, max: usize) -> Result<(), EncodeError> {
        let length = u8::try_from(text.len())
            .ok()
            .filter(|length| usize::from(*length) <= max);
        let Some(length) = length.filter(|_| text.bytes().all(|byte| is_printable(&byte))) else {
            return Err(EncodeError::Text(text.len()));
        };
        self.u8(length);
        self.bytes(text.as_bytes());
        Ok(())
    }

    /// An extension area with nothing in it: all that this version writes.
    pub(crate) fn no_extension(&mut self) {
        self.u16(0);
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Whether a byte is a printable character of ASCII: what may reach a log.
pub(crate) fn is_printable(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~')
}
