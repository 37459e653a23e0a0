//! `docs/PROTOCOL.md` says what the code does: every number, every limit, and its example to the byte.

use core::fmt::Display;

use detour_wire::codes::{CAUSES, REFUSALS, REJECTIONS, STATES};
use detour_wire::snapshot::{ENTRY_LENGTH, MAGIC, SNAPSHOT_MAX};
use detour_wire::sync::{ANSWER_MAX, PULLED_MAX, PUSHED_MAX, REQUEST_MAX, Receipt};
use detour_wire::{REFUSAL_TEXT_MAX, hello};

use crate::files;

fn document() -> String {
    files::text("../../docs/PROTOCOL.md")
}

/// The rows of the table under a heading: first and second column.
fn rows(heading: &str) -> Vec<(String, String)> {
    let text = document();
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with("| "));
    let cells = lines.skip(1).map(|line| {
        line.split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect::<Vec<_>>()
    });
    let rows: Vec<_> = cells.map(|cells| (cells[1].clone(), cells[2].clone())).collect();
    assert!(!rows.is_empty(), "{heading}");
    rows
}

fn expected<T: Copy, W: Display>(table: &[(u8, T)], word: impl Fn(T) -> W) -> Vec<(String, String)> {
    table
        .iter()
        .map(|(code, value)| (code.to_string(), word(*value).to_string()))
        .collect()
}

#[test]
fn the_tables_of_codes_are_the_codes() {
    assert_eq!(rows("### States"), expected(STATES, |state| state.word()));
    assert_eq!(rows("### Causes"), expected(CAUSES, |cause| cause.word()));
    assert_eq!(rows("### Refusals"), expected(REFUSALS, |refusal| refusal.word()));
    let rows = rows("### Receipts");
    for (code, rejected) in REJECTIONS {
        assert_eq!(Receipt::of_code(*code), Receipt::Rejected(*rejected));
        assert!(
            rows.iter().any(|(number, _)| *number == code.to_string()),
            "{rejected:?}"
        );
    }
    for receipt in [
        Receipt::Newest,
        Receipt::Known,
        Receipt::Unreadable,
        Receipt::BadSignature,
        Receipt::Other,
    ] {
        assert_eq!(Receipt::of_code(receipt.code()), receipt);
        assert!(
            rows.iter().any(|(number, _)| *number == receipt.code().to_string()),
            "{receipt:?}"
        );
    }
    assert_eq!(rows.len(), REJECTIONS.len() + 5);
}

#[test]
fn no_number_is_given_twice_and_unknown_ones_are_known_to_be() {
    for code in 0..=u8::MAX {
        let receipt = Receipt::of_code(code);
        assert!(receipt.code() == code || receipt == Receipt::Other, "{code}");
    }
    for (code, state) in STATES {
        assert_eq!(
            (
                detour_wire::codes::state_of(*code),
                detour_wire::codes::state_code(*state)
            ),
            (Some(*state), *code)
        );
    }
    for (code, cause) in CAUSES {
        assert_eq!(
            (
                detour_wire::codes::cause_of(*code),
                detour_wire::codes::cause_code(*cause)
            ),
            (Some(*cause), *code)
        );
    }
    assert!(STATES.len() == detour_core::health::state::State::ALL.len());
}

#[test]
fn the_limits_are_the_limits() {
    let limits = rows("## Limits");
    for (what, limit) in [
        ("a snapshot", SNAPSHOT_MAX),
        ("an entry of this version", usize::from(ENTRY_LENGTH)),
        ("entries in a snapshot", detour_core::report::OPINIONS_MAX),
        ("a message of `/detour/hello/1`", hello::HELLO_MAX),
        ("the software name", hello::SOFTWARE_MAX),
        ("the text of a refusal", REFUSAL_TEXT_MAX),
        ("a request of `/detour/sync/1`", REQUEST_MAX),
        ("an answer of `/detour/sync/1`", ANSWER_MAX),
        ("snapshots in a push", PUSHED_MAX),
        ("snapshots in the answer to a pull", PULLED_MAX),
        ("lines of a digest", detour_core::mesh::NODES_MAX),
        (
            "connections of an admitted peer",
            detour_core::mesh::CONNECTIONS_PER_PEER_MAX,
        ),
    ] {
        let what = what.replace('`', "");
        let row = limits
            .iter()
            .find(|(name, _)| *name == what)
            .unwrap_or_else(|| panic!("{what}"));
        assert_eq!(row.1.split(' ').next().unwrap(), limit.to_string(), "{what}");
    }
    assert!(document().contains(std::str::from_utf8(&MAGIC).unwrap()));
}

#[test]
fn the_example_is_the_vector() {
    let text = document();
    let vector = files::text("vectors/snapshot-two.hex");
    for line in vector.lines().filter(|line| !line.starts_with('#')) {
        assert!(text.lines().any(|other| other == line), "{line}");
    }
}
