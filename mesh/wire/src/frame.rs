//! What hello and sync messages have in common: version, kind, and how one is refused.

use detour_core::mesh::Refusal;

use crate::bytes::{Reader, Writer, is_printable};
use crate::{DecodeError, EncodeError, VERSION, codes};

/// Longest text of a refusal, in bytes.
pub const REFUSAL_TEXT_MAX: usize = 64;

/// What a message is; its second byte.
pub(crate) mod kind {
    /// [`crate::hello::encode_request`].
    pub(crate) const HELLO: u8 = 1;
    /// [`crate::hello::Answer::Hello`].
    pub(crate) const HELLO_ANSWER: u8 = 2;
    /// [`crate::Refused`], as the answer to any request.
    pub(crate) const REFUSED: u8 = 3;
    /// [`crate::sync::Pull`].
    pub(crate) const PULL: u8 = 4;
    /// [`crate::sync::PullAnswer`].
    pub(crate) const PULL_ANSWER: u8 = 5;
    /// [`crate::sync::Push`].
    pub(crate) const PUSH: u8 = 6;
    /// [`crate::sync::PushAnswer`].
    pub(crate) const PUSH_ANSWER: u8 = 7;
}

/// The body of a message of at most `max` bytes, and its kind.
pub(crate) fn begin(bytes: &[u8], max: usize) -> Result<(u8, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(bytes, max)?;
    match reader.u8()? {
        VERSION => Ok((reader.u8()?, reader)),
        other => Err(DecodeError::Version(other)),
    }
}

/// The end of every message: an extension area that this version skips, then nothing.
pub(crate) fn end(mut reader: Reader<'_>) -> Result<(), DecodeError> {
    reader.extension()?;
    reader.finish()
}

/// A message of this kind, so far empty.
pub(crate) fn write(kind: u8, capacity: usize) -> Writer {
    let mut writer = Writer::with_capacity(capacity);
    writer.u8(VERSION);
    writer.u8(kind);
    writer
}

/// No to a request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason.
    pub refusal: Refusal,
    /// What a person may want to know besides: at most [`REFUSAL_TEXT_MAX`] bytes of printable ASCII, often empty.
    pub text: String,
}

impl Refused {
    /// With a text that is cut to its length; what cannot be shown becomes `?`.
    #[must_use]
    pub fn new(refusal: Refusal, text: &str) -> Self {
        let shown = text.bytes().map(|byte| if is_printable(&byte) { byte } else { b'?' });
        let text = shown.take(REFUSAL_TEXT_MAX).map(char::from).collect();
        Self { refusal, text }
    }

    /// Its bytes.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Text`]; never for what [`Self::new`] made.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = write(kind::REFUSED, 8);
        writer.u8(codes::refusal_code(self.refusal));
        writer.text(&self.text, REFUSAL_TEXT_MAX)?;
        writer.no_extension();
        Ok(writer.into_bytes())
    }

    /// From the body of a message of its kind.
    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let refusal = codes::refusal_of(reader.u8()?).unwrap_or(Refusal::Other);
        let text = reader.text(REFUSAL_TEXT_MAX)?;
        end(reader)?;
        Ok(Self { refusal, text })
    }
}
