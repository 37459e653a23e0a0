//! The lines `fakes` understands.

use detour_rig::fault::{FAULT_WORDS, ParseFaultError};
use detour_rig::{Fault, Transport, TransportSel};

/// What a line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// Set a fault on one provider, or on all.
    Set {
        provider: Target,
        transport: TransportSel,
        fault: Fault,
    },
    /// Print the counters.
    Stats,
    /// Print what can be said.
    Help,
    /// End.
    Quit,
    /// An empty line.
    Nothing,
}

/// Which providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Every one.
    All,
    /// The one with this name.
    Named(Box<str>),
}

/// Why a line is no command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseCommandError {
    /// A single word that is none of ours.
    #[error("unknown command {given:?}: try help")]
    Word { given: Box<str> },
    /// The fault is none.
    #[error(transparent)]
    Fault(#[from] ParseFaultError),
}

/// Reads a line.
pub(crate) fn parse(line: &str) -> Result<Command, ParseCommandError> {
    let line = line.trim();
    let Some((provider, rest)) = line.split_once(char::is_whitespace) else {
        return match line {
            "" => Ok(Command::Nothing),
            "stats" => Ok(Command::Stats),
            "help" => Ok(Command::Help),
            "quit" | "exit" => Ok(Command::Quit),
            word => Err(ParseCommandError::Word { given: word.into() }),
        };
    };
    let provider = if provider == "all" {
        Target::All
    } else {
        Target::Named(provider.into())
    };
    let rest = rest.trim_start();
    let named = rest
        .split_once(char::is_whitespace)
        .and_then(|(word, fault)| Some((word.parse::<Transport>().ok()?, fault)));
    let (transport, fault) = named.map_or((TransportSel::All, rest), |(transport, fault)| {
        (TransportSel::Only(transport), fault)
    });
    Ok(Command::Set {
        provider,
        transport,
        fault: fault.trim().parse()?,
    })
}

/// The text of `help`.
pub(crate) fn help() -> String {
    format!(
        "PROVIDER|all [udp|tcp|dot|doh|doq|doh3] FAULT   set a fault, for example: fake1 blackhole, fake2 udp slow 1500, all none\n\
         stats                                  what each provider counted\n\
         quit                                   end\n\
         faults: {FAULT_WORDS}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_are_read() {
        let set = |provider, transport, fault| {
            Ok(Command::Set {
                provider,
                transport,
                fault,
            })
        };
        let fake1 = || Target::Named("fake1".into());
        assert_eq!(
            parse("fake1 blackhole"),
            set(fake1(), TransportSel::All, Fault::Blackhole)
        );
        assert_eq!(
            parse(" fake1  udp  servfail "),
            set(fake1(), TransportSel::Only(Transport::Udp), Fault::Servfail)
        );
        let slow = Fault::Slow(Duration::from_millis(1500));
        assert_eq!(
            parse("fake1 tcp slow 1500"),
            set(fake1(), TransportSel::Only(Transport::Tcp), slow)
        );
        assert_eq!(parse("all none"), set(Target::All, TransportSel::All, Fault::None));
        let http500 = set(fake1(), TransportSel::Only(Transport::Doh), Fault::Http500);
        assert_eq!(parse("fake1 doh http500"), http500);
        assert_eq!(
            parse("fake1 tls-stall"),
            set(fake1(), TransportSel::All, Fault::TlsStall)
        );
        assert_eq!(parse("stats"), Ok(Command::Stats));
        assert_eq!(parse("  "), Ok(Command::Nothing));
    }

    #[test]
    fn other_lines_get_one_line_back() {
        assert_eq!(
            parse("fake1").unwrap_err().to_string(),
            "unknown command \"fake1\": try help"
        );
        for line in ["fake1 udp", "fake1 dead", "fake1 udp slow", "fake1 dnscrypt rst", "all"] {
            assert_eq!(parse(line).unwrap_err().to_string().lines().count(), 1, "{line}");
        }
    }
}
