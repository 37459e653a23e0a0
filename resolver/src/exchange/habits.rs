//! What is sent to an endpoint over UDP against forgers, and how it takes it: the letters of the name in random case
//! (draft-vixie-dnsext-dns0x20) and a cookie (RFC 7873). Both help only with servers that repeat them, and some do not;
//! what was found out is remembered for a time, and shown.
//!
//! A forger must not be able to talk us out of a defence: it takes three answers in a row that fit everything else,
//! with none between them that has the defence, and each of them was confirmed over a stream before it was believed.

use std::net::IpAddr;

use detour_core::Time;
use detour_core::time::SEC;
use parking_lot::Mutex;

use crate::wire::code::rcode;
use crate::wire::edns::UDP_BYTES_MAX;
use crate::wire::{Accepted, CLIENT_COOKIE_BYTES, Cookie};

/// Answers in a row without a defence after which it is taken for unknown to the server.
const MISSING_MAX: u8 = 3;
/// How long names are then sent in lower case: servers are replaced now and then.
const CASE_OFF_US: u64 = 3_600 * SEC;
/// How long a cookie is ours: nobody shall know us by it for longer than a day (RFC 7873 section 7.1).
const COOKIE_US: u64 = 24 * 3_600 * SEC;
/// How long no cookie is sent to a server that refused a query with one.
const COOKIES_OFF_US: u64 = 24 * 3_600 * SEC;

/// What one query carries against forgers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Defences {
    /// One bit per octet of the name says which letters are upper case; `None`: all lower.
    pub(super) case_bits: Option<[u8; 32]>,
    /// The cookie.
    pub(super) cookie: Option<Cookie>,
}

/// What an answer that fits the question is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It is the answer, if perhaps one to be confirmed.
    Answer,
    /// Somebody else's: it has another cookie than ours.
    Mismatch,
    /// The server wants to be asked with the cookie it has just given.
    AnotherCookie,
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Habits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The address the cookie is for: with another one it would tell that both are the same machine (RFC 7873 section
    /// 8.1).
    local: Option<IpAddr>,
    /// Since when it is ours.
    made: Time,
    /// Our part.
    own: [u8; CLIENT_COOKIE_BYTES],
    /// Both parts, once the server gave its own.
    cookie: Option<Cookie>,
    /// Answers in a row without the cookie that was due.
    cookie_missing: u8,
    cookies_off_until: Time,
    /// Answers in a row in another case.
    case_missing: u8,
    case_off_until: Time,
}

impl Habits {
    /// The defences of a query from this address.
    pub(super) fn defences(&self, local: IpAddr, now: Time) -> Defences {
        let mut state = self.state.lock();
        if state.local != Some(local) || now.since(state.made) >= COOKIE_US {
            state.local = Some(local);
            state.made = now;
            state.own = rand::random();
            state.cookie = None;
            state.cookie_missing = 0;
        }
        let cookie = state.cookie.unwrap_or_else(|| Cookie::of_client(state.own));
        Defences {
            case_bits: (now >= state.case_off_until).then(rand::random),
            cookie: (now >= state.cookies_off_until).then_some(cookie),
        }
    }

    /// What an answer of so many octets is worth that fits all but perhaps the case of the name; marks it if it is to be
    /// confirmed.
    pub(super) fn judge(
        &self,
        sent: &Defences,
        accepted: &mut Accepted,
        (has_case, size_bytes): (bool, usize),
        now: Time,
    ) -> Worth {
        let mut state = self.state.lock();
        let echoed = match (&sent.cookie, &accepted.cookie) {
            (Some(sent), Some(came)) if !came.echoes(sent) => return Worth::Mismatch,
            (Some(_), Some(came)) => Some(*came),
            _ => None,
        };
        let is_due = sent.cookie.is_some_and(|cookie| cookie.has_server_part());
        if let Some(cookie) = echoed {
            state.cookie_missing = 0;
            if cookie.has_server_part() && sent.cookie.is_some_and(|sent| cookie.echoes(&sent)) {
                state.learn(cookie);
            }
        } else if is_due {
            state.cookie_missing = state.cookie_missing.saturating_add(1);
            if state.cookie_missing >= MISSING_MAX {
                state.cookie_missing = 0;
                state.cookie = None;
            }
        } else if sent.cookie.is_some() && matches!(accepted.answer.rcode(), rcode::FORMERR | rcode::NOTIMP) {
            state.cookies_off_until = now.plus(COOKIES_OFF_US);
        }
        let keeps_case = has_case || sent.case_bits.is_none();
        if !keeps_case {
            state.case_missing = state.case_missing.saturating_add(1);
            if state.case_missing >= MISSING_MAX {
                state.case_missing = 0;
                state.case_off_until = now.plus(CASE_OFF_US);
            }
        } else if sent.case_bits.is_some() && accepted.answer.question().iter().any(u8::is_ascii_uppercase) {
            state.case_missing = 0;
        }
        if echoed.is_some_and(|cookie| cookie.has_server_part()) && accepted.answer.rcode() == rcode::BADCOOKIE {
            return Worth::AnotherCookie;
        }
        // What is longer than we said we take may be made of fragments, and only the first of those has the id (RFC 9715).
        let is_oversized = size_bytes > usize::from(UDP_BYTES_MAX);
        accepted.is_forgeable = echoed.is_none() && (is_due || !keeps_case || accepted.has_dname || is_oversized);
        Worth::Answer
    }

    /// In a word each, what is out of the ordinary.
    pub(super) fn words(&self, now: Time) -> impl Iterator<Item = &'static str> {
        let state = self.state.lock();
        let words = [
            (state.cookie.is_some(), "cookies"),
            (now < state.case_off_until, "no-0x20"),
        ];
        words.into_iter().filter_map(|(holds, word)| holds.then_some(word))
    }
}

impl State {
    /// Takes the server's part, unless it was for another address of ours.
    fn learn(&mut self, cookie: Cookie) {
        if cookie.echoes(&Cookie::of_client(self.own)) {
            self.cookie = Some(cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::accepted_with_cookie;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const NOW: Time = Time::at_ms(1_000);

    /// An answer with this cookie, in the case it was asked or not.
    fn came(habits: &Habits, sent: &Defences, cookie: &[u8], has_case: bool) -> (Worth, bool) {
        let mut accepted = accepted_with_cookie(0, cookie);
        let worth = habits.judge(sent, &mut accepted, (has_case, 100), NOW);
        (worth, accepted.is_forgeable)
    }

    fn with_server_part(sent: &Defences) -> Vec<u8> {
        [&sent.cookie.unwrap().as_bytes()[..8], b"serverXY"].concat()
    }

    #[test]
    fn the_servers_part_is_sent_back_and_another_client_part_is_a_mismatch() {
        let habits = Habits::default();
        let first = habits.defences(HERE, NOW);
        assert!(!first.cookie.unwrap().has_server_part());
        let answer = with_server_part(&first);
        assert_eq!(came(&habits, &first, &answer, true), (Worth::Answer, false));
        assert_eq!(habits.defences(HERE, NOW).cookie.unwrap().as_bytes(), answer);
        let mut forged = answer;
        forged[3] ^= 1;
        assert_eq!(came(&habits, &first, &forged, true).0, Worth::Mismatch);
        // A cookie of impossible length is nobody's.
        assert_eq!(came(&habits, &first, &forged[..9], true).0, Worth::Mismatch);
        assert_eq!(habits.words(NOW).collect::<Vec<_>>(), ["cookies"]);
        // From another address it is another machine's.
        let elsewhere = habits.defences("192.0.2.1".parse().unwrap(), NOW).cookie.unwrap();
        assert!(!elsewhere.has_server_part() && !elsewhere.echoes(&first.cookie.unwrap()));
        // Nor is it the same for ever.
        let habits = Habits::default();
        let cookie = |now| habits.defences(HERE, now).cookie.unwrap();
        assert_eq!(cookie(NOW), cookie(NOW.plus(COOKIE_US - 1)));
        assert_ne!(cookie(NOW), cookie(NOW.plus(COOKIE_US)));
    }

    #[test]
    fn a_cookie_that_is_due_and_missing_is_doubted_three_times() {
        let habits = Habits::default();
        let first = habits.defences(HERE, NOW);
        assert_eq!(came(&habits, &first, &[], true), (Worth::Answer, false), "not due yet");
        came(&habits, &first, &with_server_part(&first), true);
        for _ in 0..3 {
            let sent = habits.defences(HERE, NOW);
            assert_eq!(came(&habits, &sent, &[], true), (Worth::Answer, true));
        }
        let sent = habits.defences(HERE, NOW);
        assert!(!sent.cookie.unwrap().has_server_part());
        assert_eq!(came(&habits, &sent, &[], true), (Worth::Answer, false));
    }

    #[test]
    fn the_case_is_given_up_for_an_hour_after_three_answers_in_a_row_without() {
        let habits = Habits::default();
        let sent = habits.defences(HERE, NOW);
        for has_case in [false, false, true, false, false] {
            assert_eq!(came(&habits, &sent, &[], has_case), (Worth::Answer, !has_case));
        }
        assert!(habits.defences(HERE, NOW).case_bits.is_some());
        came(&habits, &sent, &[], false);
        let plain = habits.defences(HERE, NOW);
        assert_eq!(plain.case_bits, None);
        assert_eq!(came(&habits, &plain, &[], false), (Worth::Answer, false));
        assert_eq!(habits.words(NOW).collect::<Vec<_>>(), ["no-0x20"]);
        assert!(habits.defences(HERE, NOW.plus(CASE_OFF_US)).case_bits.is_some());
        // A cookie proves more than the case does.
        assert_eq!(
            came(&habits, &sent, sent.cookie.unwrap().as_bytes(), false),
            (Worth::Answer, false)
        );
    }

    #[test]
    fn what_is_longer_than_we_take_and_aliases_of_subtrees_are_confirmed() {
        let habits = Habits::default();
        let sent = habits.defences(HERE, NOW);
        let echoed = sent.cookie.unwrap();
        for (size_bytes, has_dname, cookie, doubted) in [
            (1_232, false, &[][..], false),
            (1_233, false, &[], true),
            (100, true, &[], true),
            (1_233, true, echoed.as_bytes(), false),
        ] {
            let mut accepted = accepted_with_cookie(0, cookie);
            accepted.has_dname = has_dname;
            assert_eq!(
                habits.judge(&sent, &mut accepted, (true, size_bytes), NOW),
                Worth::Answer
            );
            assert_eq!(accepted.is_forgeable, doubted, "{size_bytes} {has_dname}");
        }
    }

    #[test]
    fn badcookie_brings_the_cookie_to_ask_with_and_formerr_ends_them() {
        let habits = Habits::default();
        let sent = habits.defences(HERE, NOW);
        let mut accepted = accepted_with_cookie(rcode::BADCOOKIE, &with_server_part(&sent));
        assert_eq!(
            habits.judge(&sent, &mut accepted, (true, 100), NOW),
            Worth::AnotherCookie
        );
        assert!(habits.defences(HERE, NOW).cookie.unwrap().has_server_part());

        let habits = Habits::default();
        let sent = habits.defences(HERE, NOW);
        let mut accepted = accepted_with_cookie(rcode::FORMERR, &[]);
        assert_eq!(habits.judge(&sent, &mut accepted, (true, 100), NOW), Worth::Answer);
        assert_eq!(habits.defences(HERE, NOW).cookie, None);
        assert!(habits.defences(HERE, NOW.plus(COOKIES_OFF_US)).cookie.is_some());
    }
}
