//! The numbers of states, causes and reasons on the wire. A number once given is never given again.
//!
//! Each table is written once and becomes both directions: a value without a number does not compile.

use detour_core::health::state::State;
use detour_core::mesh::{Refusal, RejectedSnapshot};
use detour_core::outcome::Cause;

/// A table of codes and its two directions.
macro_rules! codes {
    ($doc:literal, $kind:ty, $table:ident, $code_of:ident, $of_code:ident, { $($code:literal => $value:path,)+ }) => {
        #[doc = $doc]
        pub const $table: &[(u8, $kind)] = &[$(($code, $value)),+];

        /// Its number.
        #[must_use]
        pub fn $code_of(value: $kind) -> u8 {
            match value {
                $($value => $code,)+
            }
        }

        /// What has this number, if this version knows it.
        #[must_use]
        pub fn $of_code(code: u8) -> Option<$kind> {
            match code {
                $($code => Some($value),)+
                _ => None,
            }
        }
    };
}

codes!("States. An entry with another number is skipped.", State, STATES, state_code, state_of, {
    0 => State::Unknown,
    1 => State::Up,
    2 => State::Suspect,
    3 => State::Down,
    4 => State::Probation,
});

codes!("Causes. Another number is read as [`Cause::Other`], which is never credible.", Cause, CAUSES, cause_code, cause_of, {
    0 => Cause::Untried,
    1 => Cause::Answering,
    2 => Cause::Timeout,
    3 => Cause::Silence,
    4 => Cause::Loss,
    5 => Cause::Reset,
    6 => Cause::Unreachable,
    7 => Cause::Connect,
    8 => Cause::Garbage,
    9 => Cause::TlsExpired,
    10 => Cause::TlsWrongName,
    11 => Cause::TlsUntrusted,
    12 => Cause::TlsStalled,
    13 => Cause::Tls,
    14 => Cause::Http,
    15 => Cause::Mismatch,
    16 => Cause::Servfail,
    17 => Cause::Refused,
    18 => Cause::Rcode,
    19 => Cause::Forgiven,
    20 => Cause::NewPath,
    21 => Cause::TlsNotYetValid,
    22 => Cause::TlsPin,
    255 => Cause::Other,
});

codes!("Refusals. Another number is read as [`Refusal::Other`].", Refusal, REFUSALS, refusal_code, refusal_of, {
    1 => Refusal::UnknownNode,
    2 => Refusal::OtherCluster,
    3 => Refusal::NoCommonVersion,
    4 => Refusal::NoHello,
    5 => Refusal::OwnKey,
    6 => Refusal::TooMuch,
    7 => Refusal::Unsupported,
    8 => Refusal::Malformed,
    255 => Refusal::Other,
});

codes!("Why a pushed snapshot was not taken; see [`crate::sync::Receipt`].", RejectedSnapshot, REJECTIONS, rejection_code, rejection_of, {
    16 => RejectedSnapshot::UnknownNode,
    17 => RejectedSnapshot::Older,
    18 => RejectedSnapshot::Stale,
    19 => RejectedSnapshot::Own,
    20 => RejectedSnapshot::Equivocation,
    21 => RejectedSnapshot::Quarantined,
    22 => RejectedSnapshot::TooMuch,
    23 => RejectedSnapshot::NoHello,
});
