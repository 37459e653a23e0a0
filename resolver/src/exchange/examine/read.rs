//! What came, read: by the same walk as every answer, and by a look at what clients never see.

use std::net::IpAddr;

use detour_core::doctor::{End, NameAnswer, NameSeen, Purpose, Signatures};
use detour_core::outcome::{Failure, Reply};

use super::way::{self, Came, Query};
use crate::wire::code::rcode;
use crate::wire::{Accepted, Expected, Kind, NameBuf, Rejected, accept, classify, look};

/// What came of one query.
#[derive(Debug)]
pub(super) struct Judged {
    /// How it ended.
    pub(super) end: End,
    /// The answer, if that is how.
    pub(super) accepted: Option<Accepted>,
    /// From the query to what came, microseconds.
    pub(super) after_us: u64,
    /// The message as it came; empty without one.
    message: Vec<u8>,
    /// The question as it was sent.
    question: Vec<u8>,
}

/// Reads what came for a query.
pub(super) fn judge(came: Option<way::Reply>, query: &Query) -> Judged {
    let reply = came.unwrap_or(way::Reply {
        came: Came::Nothing,
        after_us: 0,
    });
    let mut judged = Judged {
        end: End::Silent,
        accepted: None,
        after_us: reply.after_us,
        message: Vec::new(),
        question: query.question.clone(),
    };
    match reply.came {
        Came::Nothing => {}
        Came::Strange => judged.end = End::Mismatch,
        Came::Failed(failure) => judged.end = End::Failed(failure),
        Came::Message(message) => {
            let expected = Expected {
                id: query.id,
                question: &query.question,
                // Looked at apart: who loses it answers all the same.
                check_case: false,
                encrypted: true,
            };
            match accept(&message, &expected) {
                Ok(accepted) => {
                    judged.end = End::Answered(classify(&accepted, query.with_edns));
                    judged.accepted = Some(accepted);
                }
                Err(Rejected::Garbage(_)) => judged.end = End::Failed(Failure::Garbage),
                Err(Rejected::Mismatch(_)) => judged.end = End::Mismatch,
            }
            judged.message = message;
        }
    }
    judged
}

impl Judged {
    /// Whether the letters of the name came back as they were sent; `None` where there is nothing to see.
    pub(super) fn keeps_case(&self) -> Option<bool> {
        let question = look(&self.message)?.question?;
        let has_letters = self.question.iter().any(u8::is_ascii_uppercase);
        has_letters.then_some(question == self.question)
    }

    /// Whether what came is padded.
    pub(super) fn is_padded(&self) -> bool {
        look(&self.message).is_some_and(|look| look.is_padded)
    }
}

/// What became of the signatures of a signed name; `None` where it was not answered.
pub(super) fn signatures(judged: &Judged) -> Option<Signatures> {
    if judged.end != End::Answered(Reply::Positive) {
        return None;
    }
    let look = look(&judged.message)?;
    Some(if look.has_signatures {
        Signatures::Passed {
            is_authentic: look.is_authentic,
        }
    } else {
        Signatures::Stripped
    })
}

/// What was said of one of the names that others may not be told of.
pub(super) fn name_answer((name, purpose): &(NameBuf, Purpose), judged: &Judged) -> NameSeen {
    let answer = judged.accepted.as_ref().map_or(NameAnswer::Unanswered, |accepted| {
        let leads_nowhere = |address: IpAddr| address.is_unspecified() || address.is_loopback();
        match accepted.answer.kind() {
            _ if accepted.edes.any(|code| matches!(code, 4 | 15..=18)) => NameAnswer::Kept,
            Kind::Positive if accepted.answer.addresses().all(leads_nowhere) => NameAnswer::Nowhere,
            Kind::Positive => NameAnswer::Address,
            Kind::Denial { .. } => NameAnswer::Denied,
            Kind::Failure if accepted.answer.rcode() == rcode::REFUSED => NameAnswer::Denied,
            Kind::Failure | Kind::Truncated => NameAnswer::Unanswered,
        }
    });
    NameSeen {
        name: name.to_string().trim_end_matches('.').to_owned(),
        purpose: *purpose,
        answer,
    }
}
