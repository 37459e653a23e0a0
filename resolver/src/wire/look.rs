//! What an answer shows beyond what it says: looked at when somebody examines a provider, not when a client asks.

use super::code::{option, rtype};
use super::edns::Opt;
use super::header::{AD, HEADER_BYTES, Header};
use super::name::skip_plain_name;
use super::record::{Records, Section};

/// What a message shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look<'m> {
    /// The question's bytes; `None`: it does not repeat it.
    pub question: Option<&'m [u8]>,
    /// AD: the sender says that it validated the records.
    pub is_authentic: bool,
    /// Whether its OPT record is padded (RFC 7830).
    pub is_padded: bool,
    /// Whether there are signatures in its answer section.
    pub has_signatures: bool,
}

/// Looks at a message that was accepted; `None` where it cannot be read.
#[must_use]
pub fn look(msg: &[u8]) -> Option<Look<'_>> {
    let header = Header::read(msg)?;
    let question = match header.question_count {
        0 => None,
        _ => Some(msg.get(HEADER_BYTES..skip_plain_name(msg, HEADER_BYTES)?.checked_add(4)?)?),
    };
    let mut look = Look {
        question,
        is_authentic: header.has(AD),
        is_padded: false,
        has_signatures: false,
    };
    let records_at = HEADER_BYTES + question.map_or(0, <[u8]>::len);
    for record in Records::new(msg, records_at, header.record_counts).map_while(Result::ok) {
        look.has_signatures |= record.section == Section::Answer && record.rtype == rtype::RRSIG;
        if let Some(opt) = Opt::read(&record) {
            let mut options = opt.options.map_while(Result::ok);
            look.is_padded |= options.any(|(code, _)| code == option::PADDING);
        }
    }
    Some(look)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response to `. SOA`, with AD, so many answer records and an OPT record.
    fn message(rtypes: &[u16], options: &[u8]) -> Vec<u8> {
        let answers = u8::try_from(rtypes.len()).unwrap();
        let mut out = vec![0, 7, 0x81, 0xa0, 0, 1, 0, answers, 0, 0, 0, 1, 0, 0, 6, 0, 1];
        for rtype in rtypes {
            out.push(0);
            out.extend(rtype.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 9, 0, 0]);
        }
        out.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, u8::try_from(options.len()).unwrap()]);
        out.extend(options);
        out
    }

    #[test]
    fn signatures_padding_and_ad_are_seen() {
        let signed = message(&[rtype::SOA, rtype::RRSIG], &[0, 12, 0, 2, 0, 0]);
        let seen = look(&signed).unwrap();
        assert_eq!(seen.question, Some(&[0, 0, 6, 0, 1][..]));
        assert!(seen.is_authentic && seen.is_padded && seen.has_signatures);
        let plain = message(&[rtype::SOA], &[0, 10, 0, 0]);
        let seen = look(&plain).unwrap();
        assert!(!seen.is_padded && !seen.has_signatures);
    }

    #[test]
    fn what_is_cut_shows_what_is_there() {
        let whole = message(&[rtype::SOA, rtype::RRSIG], &[0, 12, 0, 2, 0, 0]);
        for length in 0..whole.len() {
            let seen = look(&whole[..length]);
            assert_eq!(seen.is_some(), length >= 17, "{length}");
        }
        assert_eq!(look(&[0, 7, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap().question, None);
    }
}
