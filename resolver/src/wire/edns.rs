//! EDNS (RFC 6891): the OPT record, its options, and extended errors (RFC 8914).
//!
//! OPT belongs to one exchange: what a client sends is never forwarded, what a provider sends never cached. Nothing
//! here copies an option from one side to the other.

use super::build::EdnsOut;
use super::code::{option, rtype};
use super::cookie::Cookie;
use super::query::Extras;
use super::record::Record;
use super::{MESSAGE_BYTES_MAX, u16_at};

/// The UDP size we announce and the most we send over UDP: no path fragments it (RFC 9715 3.2; DNS flag day 2020).
pub const UDP_BYTES_MAX: u16 = 1232;

/// What every client without EDNS takes, and the least any size means (RFC 6891 6.2.3).
pub const UDP_BYTES_MIN: u16 = 512;

/// The DO bit within OPT's TTL field.
const DO_BIT: u32 = 1 << 15;

/// An OPT record without options: root, type, size, TTL field, RDLENGTH.
pub(super) const OPT_BYTES: usize = 11;

/// What a client says about itself in its OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The UDP reply it can take; never below 512.
    pub udp_size: u16,
    /// It wants signatures.
    pub do_bit: bool,
    /// Its message was padded (RFC 7830).
    pub is_padded: bool,
    /// Whether it asked how long a connection may be idle (RFC 7828).
    pub keepalive: Keepalive,
}

/// The edns-tcp-keepalive option of a query (RFC 7828 section 3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keepalive {
    /// It was not there.
    Absent,
    /// Without a time, as it should be.
    Asked,
    /// With one: only servers say it.
    Malformed,
}

/// An OPT record as read, from either side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opt<'a> {
    /// What the sender can take and wants.
    pub(super) edns: Edns,
    /// The upper eight bits of the response code.
    pub(super) rcode_high: u8,
    /// The EDNS version.
    pub(super) version: u8,
    /// The options, not yet looked at.
    pub(super) options: Options<'a>,
}

impl<'a> Opt<'a> {
    /// The OPT that `record` is; `None` for another type or an owner that is not the root (RFC 6891 6.1.2).
    pub(super) fn read(record: &Record<'a>) -> Option<Self> {
        if record.rtype != rtype::OPT || !record.has_root_owner() {
            return None;
        }
        let [rcode_high, version, _, _] = record.ttl.to_be_bytes();
        Some(Self {
            edns: Edns {
                udp_size: record.class.max(UDP_BYTES_MIN),
                do_bit: record.ttl & DO_BIT != 0,
                is_padded: false,
                keepalive: Keepalive::Absent,
            },
            rcode_high,
            version,
            options: Options { rest: record.rdata },
        })
    }

    /// Reads the options of a query; false unless they are whole and those with known rules keep them.
    pub(super) fn read_options(&mut self) -> bool {
        for option in self.options {
            let Some((code, contents)) = option.ok().filter(|option| is_sound(*option)) else {
                return false;
            };
            match code {
                option::PADDING => self.edns.is_padded = true,
                option::TCP_KEEPALIVE if contents.is_empty() => self.edns.keepalive = Keepalive::Asked,
                option::TCP_KEEPALIVE => self.edns.keepalive = Keepalive::Malformed,
                _ => {}
            }
        }
        true
    }
}

/// An option that runs past the OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BrokenOption;

/// The options of an OPT record: code and contents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u16, &'a [u8]), BrokenOption>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let whole = self.rest.split_first_chunk().and_then(|(head, rest)| {
            let [code0, code1, len0, len1] = *head;
            let (contents, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([len0, len1])))?;
            Some((u16::from_be_bytes([code0, code1]), contents, rest))
        });
        match whole {
            Some((code, contents, rest)) => {
                self.rest = rest;
                Some(Ok((code, contents)))
            }
            None => {
                self.rest = &[];
                Some(Err(BrokenOption))
            }
        }
    }
}

/// Whether a whole option keeps the rules of its own document. Options without an entry are ignored unread.
fn is_sound((code, contents): (u16, &[u8])) -> bool {
    match code {
        option::CLIENT_SUBNET => is_sound_subnet(contents).unwrap_or(false),
        // RFC 7873 5.2.2: 8 octets, or 8 and a server cookie of 8 to 32.
        option::COOKIE => contents.len() == 8 || (16..=40).contains(&contents.len()),
        _ => true,
    }
}

/// RFC 7871 6 and 7.1.2: a known family, a prefix it has, scope 0 in queries, as many octets as the prefix needs and no
/// bit behind it. `dig +subnet=0` sends family 0 with nothing else: allowed, as in BIND.
fn is_sound_subnet(contents: &[u8]) -> Option<bool> {
    let (head, address) = contents.split_first_chunk()?;
    let [family0, family1, source, scope] = *head;
    let longest = match u16::from_be_bytes([family0, family1]) {
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return Some(false),
    };
    let spare_bits = (8 - u32::from(source) % 8) % 8;
    let last = address.last().copied().unwrap_or(0);
    Some(
        source <= longest
            && scope == 0
            && address.len() == usize::from(source).div_ceil(8)
            && last.trailing_zeros() >= spare_bits,
    )
}

impl<'a> Options<'a> {
    /// The first extended error among them, up to the first broken option.
    pub(super) fn first_ede(self) -> Option<&'a [u8]> {
        let mut options = self.map_while(Result::ok);
        options
            .find(|(code, _)| *code == option::EDE)
            .map(|(_, contents)| contents)
    }

    /// How long an idle connection is kept, in tenths of a second, up to the first broken option. Without a number in it
    /// the option says nothing.
    pub(super) fn keepalive(self) -> Option<u16> {
        let mut options = self.map_while(Result::ok);
        let (_, contents) = options.find(|(code, _)| *code == option::TCP_KEEPALIVE)?;
        contents.try_into().ok().map(u16::from_be_bytes)
    }

    /// The cookie among them, up to the first broken option.
    pub(super) fn cookie(self) -> Option<Cookie> {
        let mut options = self.map_while(Result::ok);
        options
            .find(|(code, _)| *code == option::COOKIE)
            .map(|(_, contents)| Cookie::read(contents))
    }
}

/// An extended error we send: our own, or what a provider said and was kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ede<'a> {
    /// The code, RFC 8914 4.
    pub code: u16,
    /// A few words for people; left out when there is no room.
    pub text: &'a str,
}

/// The most octets kept of a provider's text: enough for a sentence, and no place to hide a message in.
const EDE_TEXT_BYTES_MAX: usize = 64;

/// What is kept of a provider's extended error: its code and the first octets of its text, without what a terminal would
/// obey and without half a letter at the end.
pub(super) fn kept_ede(contents: &[u8]) -> Option<Vec<u8>> {
    let (code, text) = contents.split_first_chunk::<2>()?;
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let sound = text.get(..error.valid_up_to())?;
            std::str::from_utf8(sound).ok()?
        }
    };
    let mut kept = code.to_vec();
    for letter in text
        .chars()
        .filter(|letter| !letter.is_control() && !is_direction(*letter))
    {
        if kept.len() + letter.len_utf8() > 2 + EDE_TEXT_BYTES_MAX {
            break;
        }
        kept.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(kept)
}

/// Marks that turn text around, by which one text can look like another (Unicode TR 36 section 3.4).
fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first few extended errors of a provider's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EdeCodes {
    codes: [Option<u16>; Self::KEPT],
}

impl EdeCodes {
    /// How many are kept. Resolvers send one or two; more say nothing new.
    const KEPT: usize = 4;

    /// The codes in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.codes.into_iter().flatten()
    }

    /// Whether any code satisfies `wanted`.
    pub fn any(&self, wanted: impl Fn(u16) -> bool) -> bool {
        self.iter().any(wanted)
    }

    /// The codes among `options`, up to the first broken option: a provider's slip there does not spoil its answer.
    pub(super) fn read(options: Options<'_>) -> Self {
        let mut found = Self::default();
        let codes = options
            .map_while(Result::ok)
            .filter(|(code, _)| *code == option::EDE)
            .filter_map(|(_, contents)| u16_at(contents, 0));
        for (place, code) in found.codes.iter_mut().zip(codes) {
            *place = Some(code);
        }
        found
    }
}

/// Octets of our keepalive option.
pub(super) const KEEPALIVE_BYTES: usize = 6;

/// The block that replies are padded to (RFC 8467 section 4.1).
const REPLY_BLOCK: usize = 468;

/// Appends our OPT record to the message that begins at `start`: version 0, flags zero but DO, what `extras` says, and as
/// many of `edes` as fit into `room_bytes` together with the record itself, their texts before their absence.
pub(super) fn push_opt<'a>(
    (start, out): (usize, &mut Vec<u8>),
    rcode: u16,
    (do_bit, extras): (bool, Extras),
    edes: impl Iterator<Item = Ede<'a>>,
    room_bytes: usize,
) {
    let room_bytes = match extras.keepalive_ds {
        Some(_) => room_bytes.saturating_sub(KEEPALIVE_BYTES),
        None => room_bytes,
    };
    let flags = if do_bit { DO_BIT } else { 0 };
    let rcode_high = u32::from(rcode >> 4) << 24;
    push_opt_head(out, UDP_BYTES_MAX, rcode_high | flags);
    let length_at = out.len();
    out.extend_from_slice(&[0, 0]);
    let mut used = 0_u16;
    for ede in edes {
        for text in [ede.text, ""] {
            // Two texts in a row are never needed: an empty one is tried only after a longer one did not fit.
            let Some(total) = u16::try_from(text.len()).ok().and_then(|len| used.checked_add(len + 6)) else {
                continue;
            };
            if OPT_BYTES + usize::from(total) > room_bytes {
                continue;
            }
            out.extend_from_slice(&option::EDE.to_be_bytes());
            out.extend_from_slice(&(total - used - 4).to_be_bytes());
            out.extend_from_slice(&ede.code.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
            used = total;
            break;
        }
    }
    if let Some(tenths) = extras.keepalive_ds {
        used = used.saturating_add(push_option(out, option::TCP_KEEPALIVE, &tenths.to_be_bytes()));
    }
    if extras.is_padded {
        // Code and length of the option take four octets.
        let bare = out.len() - start + 4;
        let whole = bare.next_multiple_of(REPLY_BLOCK).min(MESSAGE_BYTES_MAX);
        if let Some(padding) = whole.checked_sub(bare).and_then(|bytes| u16::try_from(bytes).ok()) {
            out.extend_from_slice(&option::PADDING.to_be_bytes());
            out.extend_from_slice(&padding.to_be_bytes());
            out.resize(out.len() + usize::from(padding), 0);
            used = used.saturating_add(padding + 4);
        }
    }
    if let Some(place) = out.get_mut(length_at..).and_then(<[u8]>::first_chunk_mut) {
        *place = used.to_be_bytes();
    }
}

/// The block that queries are padded to (RFC 8467 section 4.1).
const PADDING_BLOCK: usize = 128;

/// Appends the OPT record of a query that has `message_bytes` so far: no options but our cookie and our wish to stay
/// connected, and padding last, so that it fills what the rest leaves.
pub(super) fn push_query_opt(out: &mut Vec<u8>, edns: EdnsOut, message_bytes: usize) {
    push_opt_head(out, edns.udp_size, if edns.do_bit { DO_BIT } else { 0 });
    let length_at = out.len();
    out.extend_from_slice(&[0, 0]);
    let mut options_bytes = 0;
    if let Some(cookie) = &edns.cookie {
        options_bytes += push_option(out, option::COOKIE, cookie.as_bytes());
    }
    if edns.asks_keepalive {
        // Empty in queries (RFC 7828 section 3.2.1).
        options_bytes += push_option(out, option::TCP_KEEPALIVE, &[]);
    }
    if edns.is_padded {
        // Code and length of the option take four octets.
        let bare = message_bytes + OPT_BYTES + usize::from(options_bytes) + 4;
        let padding = bare.next_multiple_of(PADDING_BLOCK) - bare;
        let zeros = [0; PADDING_BLOCK];
        options_bytes += push_option(out, option::PADDING, zeros.get(..padding).unwrap_or_default());
    }
    if let Some(place) = out.get_mut(length_at..).and_then(<[u8]>::first_chunk_mut) {
        *place = options_bytes.to_be_bytes();
    }
}

/// Appends an option, cut at its longest, and returns its octets.
fn push_option(out: &mut Vec<u8>, code: u16, contents: &[u8]) -> u16 {
    let length = u16::try_from(contents.len()).unwrap_or(u16::MAX - 4).min(u16::MAX - 4);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(contents.get(..usize::from(length)).unwrap_or_default());
    length + 4
}

/// Owner, type, class and TTL field of an OPT record.
fn push_opt_head(out: &mut Vec<u8>, udp_size: u16, ttl_field: u32) {
    out.push(0);
    out.extend_from_slice(&rtype::OPT.to_be_bytes());
    out.extend_from_slice(&udp_size.to_be_bytes());
    out.extend_from_slice(&ttl_field.to_be_bytes());
}
