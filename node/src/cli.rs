//! The command line: what can be typed, what each part means, and which exit code a mistake has.
//!
//! Nothing is carried out here. `parse` never exits and never prints, so the one place that does both is `main`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use hickory_proto::rr::RecordType;

use crate::config::{
    Admin, Config, DEFAULT_ADMIN, DEFAULT_DNS, answers_to_itself, parse_duration, parse_listen_address,
};
use crate::demo::DemoFault;

/// Exit codes; those above 1 are of sysexits.h.
pub(crate) mod exit_code {
    /// Done.
    pub(crate) const OK: u8 = 0;
    /// Could not be done: a port in use, a node that does not answer.
    pub(crate) const FAILED: u8 = 1;
    /// The command line is wrong.
    pub(crate) const USAGE: u8 = 64;
    /// A task ended that must not: a mistake of ours.
    pub(crate) const INTERNAL: u8 = 70;
    /// The configuration is wrong, or not to be read.
    pub(crate) const CONFIG: u8 = 78;
}

/// A DNS gateway that keeps answering when its providers fail
#[derive(Debug, Parser)]
#[command(
    name = "detour",
    version,
    after_help = "\
Without a configuration file Detour forwards to four public services and listens on 127.0.0.1:5300 and [::1]:5300.

Examples:
  detour demo                         see what it does, on this machine alone
  detour run                          start with the embedded default
  detour query example.com            ask it
  detour status                       see how it does
  detour explain example.com          see whom it would ask, and why
  detour doctor                       see what is wrong with providers, or with the way to them
  detour cache flush example.com      have it asked anew
  detour check detour.toml            look for mistakes without starting

Exit codes: 0 done, 1 failed, 64 wrong command line, 70 internal error, 78 wrong configuration"
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer DNS queries until told to stop
    Run(RunArgs),
    /// Look for mistakes in a configuration file, without starting
    Check(CheckArgs),
    /// Show how a running node does, what is wrong first
    Status(StatusArgs),
    /// Show which providers a running node would ask for a name, and why
    Explain(ExplainArgs),
    /// Send one query and show the answer
    Query(QueryArgs),
    /// Look at every provider over every transport, and say what is wrong with it
    Doctor(DoctorArgs),
    /// Show or forget what a running node has cached of a name
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Show who this node is to its peers, and the line that lists it there
    Id(IdArgs),
    /// Find out what keeps a peer from this node
    #[command(subcommand)]
    Mesh(MeshCommand),
    /// Make a certificate for trials of encrypted DNS
    #[command(subcommand)]
    Cert(CertCommand),
    /// See a provider fail: fake providers, real nodes, this machine alone
    Demo(DemoArgs),
}

/// What there is to be done with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make one that nobody vouches for, and its key, and say how to try them
    SelfSigned(SelfSignedArgs),
}

/// Arguments of `detour cert self-signed`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes cert.pem and key.pem. Valid for 90 days, for the names and for 127.0.0.1 and ::1.

Examples:
  detour cert self-signed --name dns.office.example
  detour cert self-signed --name dns.office.example --name 192.0.2.7 --out /etc/detour --force")]
pub(crate) struct SelfSignedArgs {
    /// Host name or address that clients will ask for; can be repeated
    #[arg(long, required = true, value_name = "NAME", value_parser = parse_certificate_name)]
    pub(crate) name: Vec<String>,
    /// Directory to write to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Replace the files if they are there
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `detour run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  detour run
  detour run -c /etc/detour.toml
  detour run --listen 127.0.0.1:53 --listen '[::1]:53' --admin off

--listen, --admin and --state-dir go before what the file says. If the file is broken or lost, a copy of the last one
that served for a minute stands in for it, and everything says so. SIGHUP reads the file again.")]
pub(crate) struct RunArgs {
    /// Configuration file [default: an embedded one, with four public services]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address for DNS over UDP and TCP, in place of all of listen.dns; can be repeated
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen_address)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Loopback address of the admin interface, or off
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub(crate) admin: Option<Admin>,
    /// Directory for what is worth keeping between starts
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Do not start from a copy when the configuration file is broken
    #[arg(long)]
    pub(crate) strict: bool,
    /// Stop when standard input ends, for a program that starts a node and may die
    #[arg(long)]
    pub(crate) stop_with_stdin: bool,
}

/// Arguments of `detour check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints one line if all is well, else all mistakes, one line each: FILE:LINE: key: what is wrong.

Examples:
  detour check /etc/detour.toml
  detour check -c detour.toml && systemctl restart detour")]
pub(crate) struct CheckArgs {
    /// Configuration file [default: the embedded one]
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    pub(crate) config: Option<PathBuf>,
    /// The same, without -c
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Arguments of `detour status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  detour status
  detour status -c /etc/detour.toml
  detour status --json")]
pub(crate) struct StatusArgs {
    /// The node's configuration file, to read its admin address from
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,
    /// Admin interface of the node to ask
    #[arg(long, value_name = "ADDR:PORT", default_value_t = DEFAULT_ADMIN)]
    pub(crate) admin: SocketAddr,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `detour id`.
#[derive(Debug, Args)]
#[command(after_help = "\
Makes the node's key in its state directory, if there is none. A node needs one once its configuration has [mesh].

Examples:
  detour id -c /etc/detour.toml
  detour id --state-dir /var/lib/detour --json")]
pub(crate) struct IdArgs {
    /// The node's configuration file, to read state-dir and mesh.listen from
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The node's state directory
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// What there is to be done with the cache.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show what is cached of a name
    Show(CacheShowArgs),
    /// Forget what is cached of a name, so that it is asked anew
    Flush(CacheFlushArgs),
}

/// Arguments of `detour cache show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  detour cache show example.com
  detour cache show example.com -c /etc/detour.toml --json")]
pub(crate) struct CacheShowArgs {
    /// Name that was asked for
    pub(crate) name: String,
    /// The node's configuration file, to read its admin address from
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,
    /// Admin interface of the node to ask
    #[arg(long, value_name = "ADDR:PORT", default_value_t = DEFAULT_ADMIN)]
    pub(crate) admin: SocketAddr,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `detour cache flush`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs the token in the node's state directory, which its owner alone can read.

Examples:
  detour cache flush example.com
  detour cache flush example.com --below        www.example.com and all others too
  detour cache flush . --below                  everything
  detour cache flush example.com --state-dir /var/lib/detour")]
pub(crate) struct CacheFlushArgs {
    /// Name to be forgotten
    pub(crate) name: String,
    /// All names below it too
    #[arg(long)]
    pub(crate) below: bool,
    /// The node's configuration file, to read its admin address and its state directory from
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,
    /// Admin interface of the node to tell
    #[arg(long, value_name = "ADDR:PORT", default_value_t = DEFAULT_ADMIN)]
    pub(crate) admin: SocketAddr,
    /// The node's state directory
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// What there is to be done with peers.
#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// Dial a peer, and show how far it gets and what to do
    Test(MeshTestArgs),
}

/// Arguments of `detour mesh test`.
#[derive(Debug, Args)]
#[command(after_help = "\
The address is a line of mesh.peers. Tried with this node's identity, whether the node runs or not.

Examples:
  detour mesh test -c /etc/detour.toml /ip4/192.0.2.2/udp/4853/quic-v1/p2p/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq")]
pub(crate) struct MeshTestArgs {
    /// Where the peer is, and its id
    pub(crate) address: String,
    /// The node's configuration file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The node's state directory
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Admin interface of the node, if it runs and its file does not say where
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) admin: Option<SocketAddr>,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `detour explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  detour explain example.com
  detour explain example.com AAAA --json")]
pub(crate) struct ExplainArgs {
    /// Name to be resolved
    pub(crate) name: String,
    /// Record type, such as A, MX or TYPE65
    #[arg(value_name = "TYPE", default_value = "A", value_parser = parse_record_type)]
    pub(crate) record_type: RecordType,
    /// The node's configuration file, to read its admin address from
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,
    /// Admin interface of the node to ask
    #[arg(long, value_name = "ADDR:PORT", default_value_t = DEFAULT_ADMIN)]
    pub(crate) admin: SocketAddr,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `detour query`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  detour query example.com
  detour query example.com MX --tcp
  detour query example.com --server 9.9.9.10:53 --json")]
pub(crate) struct QueryArgs {
    /// Name to be resolved
    pub(crate) name: String,
    /// Record type, such as A, MX or TYPE65
    #[arg(value_name = "TYPE", default_value = "A", value_parser = parse_record_type)]
    pub(crate) record_type: RecordType,
    /// The node's configuration file, to read its DNS address from
    #[arg(short, long, value_name = "FILE", conflicts_with = "server")]
    pub(crate) config: Option<PathBuf>,
    /// Where to ask
    #[arg(long, value_name = "ADDR:PORT", default_value_t = DEFAULT_DNS[0])]
    pub(crate) server: SocketAddr,
    /// Ask over TCP
    #[arg(long)]
    pub(crate) tcp: bool,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `detour doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Asks each endpoint of the configuration by Detour's own transports and by hickory-resolver, whether a node runs or not,
and ends with a sentence for each finding. What it asks for is listed in docs/DOCTOR.md. Endpoints in the clear are asked
too, unless the configuration says encryption = \"require\".

Exits with 1 if something that is configured does not work, or not as configured.

Examples:
  detour doctor
  detour doctor -c /etc/detour.toml quad9 cloudflare
  detour doctor --all-transports --json")]
pub(crate) struct DoctorArgs {
    /// Providers to look at [default: all of the configuration]
    #[arg(value_name = "PROVIDER")]
    pub(crate) providers: Vec<String>,
    /// Configuration file [default: an embedded one, with four public services]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Name whose address is asked for; the default has one and tells nobody anything
    #[arg(long, value_name = "NAME", default_value = DOCTOR_NAME)]
    pub(crate) name: String,
    /// How long an answer is waited for, 100ms to 30s; connecting has 2s of its own
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_patience)]
    pub(crate) timeout: Duration,
    /// Also try transports that the configuration does not have, at the addresses it has
    #[arg(long)]
    pub(crate) all_transports: bool,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// What providers are asked for unless told otherwise: every resolver has it at hand.
pub(crate) const DOCTOR_NAME: &str = "a.root-servers.net";

/// How long an answer may be waited for.
const PATIENCE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);

fn parse_patience(text: &str) -> Result<Duration, String> {
    let patience = parse_duration(text).map_err(|error| error.to_string())?;
    if PATIENCE.contains(&patience) {
        Ok(patience)
    } else {
        Err("must be from 100ms to 30s".to_owned())
    }
}

/// Arguments of `detour demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Starts three fake providers and real nodes on loopback, sends them queries, breaks the busiest provider, and shows
what becomes of the queries and of a node that was not asking; once with the mesh, once without. Takes a minute.

Exits with 1 if a query was lost, wrong or in error, if the fault hit nobody, if the node that was told of it by its
peers asked the dead provider all the same, or if nodes do not return. What nxdomain and lie do is counted only.

Examples:
  detour demo
  detour demo --fault servfail --nodes 5
  detour demo --quick --json")]
pub(crate) struct DemoArgs {
    /// What happens to the busiest provider
    #[arg(long, value_enum, default_value_t = DemoFault::Blackhole)]
    pub(crate) fault: DemoFault,
    /// Nodes, 2 to 16; the last one is the one that sleeps
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub(crate) nodes: u8,
    /// Only without the mesh
    #[arg(long)]
    pub(crate) no_mesh: bool,
    /// As short as the fault allows, for checks
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write JSON at the end and nothing else, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// There is nothing to carry out: help was asked for, or the command line is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// For the user.
    pub(crate) text: String,
    /// Where the text belongs: standard output if it was asked for, else standard error.
    pub(crate) is_error: bool,
    /// [`exit_code::OK`] or [`exit_code::USAGE`].
    pub(crate) code: u8,
}

/// Reads a command line, program name first.
///
/// # Errors
/// With what to print and how to exit, when there is nothing to carry out.
pub(crate) fn parse<I, T>(arguments: I) -> Result<Command, Stop>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = Cli::try_parse_from(arguments).map_err(|error| Stop {
        text: error.to_string(),
        is_error: error.use_stderr(),
        code: if error.use_stderr() {
            exit_code::USAGE
        } else {
            exit_code::OK
        },
    })?;
    Ok(cli.command)
}

/// A command line that makes no sense together with its file; exit code [`exit_code::USAGE`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    /// The node would ask itself.
    #[error(
        "--listen: provider {provider} has the endpoint {label}, which is this node: queries would go round in circles"
    )]
    AsksItself {
        /// Its name.
        provider: String,
        /// The endpoint.
        label: String,
    },
}

impl RunArgs {
    /// Puts what was typed before what the file says. `--state-dir` is not part of a [`Config`]: see
    /// [`crate::config::StateDirSources`].
    ///
    /// # Errors
    /// When the two contradict each other; the configuration is half changed then.
    pub(crate) fn apply_to(&self, config: &mut Config) -> Result<(), Misuse> {
        if let Some(admin) = self.admin {
            config.listen.admin = admin;
            config.listen.admin_is_named = true;
        }
        if self.listen.is_empty() {
            return Ok(());
        }
        config.listen.dns.clone_from(&self.listen);
        for provider in &config.providers {
            let own = provider
                .endpoints
                .iter()
                .find(|e| e.at.address().is_some_and(|own| answers_to_itself(&self.listen, own)));
            if let Some(endpoint) = own {
                return Err(Misuse::AsksItself {
                    provider: provider.name.clone(),
                    label: endpoint.label.clone(),
                });
            }
        }
        Ok(())
    }
}

impl CheckArgs {
    /// The file to look at, if one was named.
    #[must_use]
    pub(crate) fn path(&self) -> Option<&Path> {
        self.config.as_deref().or(self.file.as_deref())
    }
}

/// Why no certificate can be for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a host name such as dns.office.example nor an IP address")]
pub(crate) struct CertificateNameError;

/// A name as it stands in a certificate and in a command line, which is shown to be pasted.
pub(crate) fn parse_certificate_name(text: &str) -> Result<String, CertificateNameError> {
    let is_label = |label: &str| {
        let is_plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && is_plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let host = text.strip_prefix("*.").unwrap_or(text);
    let is_host = text.len() <= 253 && host.split('.').all(is_label);
    if is_host || text.parse::<std::net::IpAddr>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err(CertificateNameError)
    }
}

/// Why a text is no record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no record type: write a name such as AAAA, or a number such as TYPE65")]
pub(crate) struct RecordTypeError;

pub(crate) fn parse_record_type(text: &str) -> Result<RecordType, RecordTypeError> {
    let name = text.to_ascii_uppercase();
    let digits = name
        .strip_prefix("TYPE")
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    match digits {
        Some(digits) => digits
            .parse::<u16>()
            .map(RecordType::from)
            .map_err(|_too_large| RecordTypeError),
        None => name.parse().map_err(|_unknown| RecordTypeError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn run(arguments: &[&str]) -> RunArgs {
        match parse([&["detour", "run"], arguments].concat()) {
            Ok(Command::Run(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    fn stop(arguments: &[&str]) -> Stop {
        parse([&["detour"], arguments].concat()).unwrap_err()
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let args = run(&[
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:53",
            "--admin",
            "off",
            "--state-dir",
            "/x",
        ]);
        assert_eq!(args.state_dir, Some("/x".into()));
        let mut config = Config::embedded().unwrap();
        args.apply_to(&mut config).unwrap();
        assert_eq!(
            config.listen.dns,
            ["127.0.0.1:0", "[::1]:53"].map(|a| a.parse().unwrap())
        );
        assert_eq!(config.listen.admin, Admin::Off);
        assert!(config.listen.admin_is_named);

        let mut config = Config::embedded().unwrap();
        run(&[]).apply_to(&mut config).unwrap();
        assert_eq!(config, Config::embedded().unwrap());
        let misuse = run(&["--listen", "1.1.1.1:53"]).apply_to(&mut config).unwrap_err();
        assert!(misuse.to_string().contains("udp://1.1.1.1"), "{misuse}");
    }

    #[test]
    fn a_file_can_be_checked_with_and_without_c() {
        for arguments in [
            &["check", "a.toml"][..],
            &["check", "-c", "a.toml"],
            &["check", "--config=a.toml"],
        ] {
            match parse([&["detour"], arguments].concat()) {
                Ok(Command::Check(args)) => assert_eq!(args.path(), Some(Path::new("a.toml"))),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(stop(&["check", "-c", "a.toml", "b.toml"]).code, exit_code::USAGE);
    }

    #[test]
    fn a_query_is_for_addresses_at_this_node_unless_told() {
        match parse(["detour", "query", "example.com"]) {
            Ok(Command::Query(args)) => {
                assert_eq!(
                    (args.record_type, args.server),
                    (RecordType::A, "127.0.0.1:5300".parse().unwrap())
                );
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(parse_record_type("aaaa"), Ok(RecordType::AAAA));
        assert_eq!(parse_record_type("TYPE65"), Ok(RecordType::HTTPS));
        assert_eq!(parse_record_type("type65535").map(u16::from), Ok(65_535));
        assert_eq!(parse_record_type("TYPE65536"), Err(RecordTypeError));
        assert_eq!(parse_record_type("AAAAA"), Err(RecordTypeError));
    }

    #[test]
    fn status_is_asked_of_this_machines_node_unless_told() {
        match parse(["detour", "status"]) {
            Ok(Command::Status(args)) => assert_eq!((args.admin, args.json, args.config), (DEFAULT_ADMIN, false, None)),
            other => panic!("{other:?}"),
        }
        assert!(run(&["--strict"]).strict && !run(&[]).strict);
        assert_eq!(
            stop(&["status", "-c", "a.toml", "--admin", "127.0.0.1:1"]).code,
            exit_code::USAGE
        );
    }

    #[test]
    fn a_wrong_command_line_exits_with_64_and_help_with_0() {
        for arguments in [
            &[][..],
            &["walk"],
            &["run", "extra"],
            &["run", "--listen", "127.0.0.1"],
            &["run", "--admin", "192.0.2.1:80"],
            &["query"],
            &["query", "example.com", "NOTYPE"],
            &["doctor", "--timeout", "2"],
            &["doctor", "--timeout", "1h"],
        ] {
            let stop = stop(arguments);
            assert!(
                stop.is_error && stop.code == exit_code::USAGE,
                "{arguments:?}: {stop:?}"
            );
        }
        for arguments in [&["--help"][..], &["--version"], &["help", "run"], &["run", "-h"]] {
            let stop = stop(arguments);
            assert!(!stop.is_error && stop.code == exit_code::OK, "{arguments:?}: {stop:?}");
        }
        assert_eq!(
            stop(&["--version"]).text.trim(),
            concat!("detour ", env!("CARGO_PKG_VERSION"))
        );
    }

    #[test]
    fn help_says_what_there_is() {
        expect![[r#"
            A DNS gateway that keeps answering when its providers fail

            Usage: detour <COMMAND>

            Commands:
              run      Answer DNS queries until told to stop
              check    Look for mistakes in a configuration file, without starting
              status   Show how a running node does, what is wrong first
              explain  Show which providers a running node would ask for a name, and why
              query    Send one query and show the answer
              doctor   Look at every provider over every transport, and say what is wrong with it
              cache    Show or forget what a running node has cached of a name
              id       Show who this node is to its peers, and the line that lists it there
              mesh     Find out what keeps a peer from this node
              cert     Make a certificate for trials of encrypted DNS
              demo     See a provider fail: fake providers, real nodes, this machine alone
              help     Print this message or the help of the given subcommand(s)

            Options:
              -h, --help     Print help
              -V, --version  Print version

            Without a configuration file Detour forwards to four public services and listens on 127.0.0.1:5300 and [::1]:5300.

            Examples:
              detour demo                         see what it does, on this machine alone
              detour run                          start with the embedded default
              detour query example.com            ask it
              detour status                       see how it does
              detour explain example.com          see whom it would ask, and why
              detour doctor                       see what is wrong with providers, or with the way to them
              detour cache flush example.com      have it asked anew
              detour check detour.toml            look for mistakes without starting

            Exit codes: 0 done, 1 failed, 64 wrong command line, 70 internal error, 78 wrong configuration
        "#]].assert_eq(&stop(&["--help"]).text);
        expect![[r#"
            Answer DNS queries until told to stop

            Usage: detour run [OPTIONS]

            Options:
              -c, --config <FILE>          Configuration file [default: an embedded one, with four public services]
                  --listen <ADDR:PORT>     Address for DNS over UDP and TCP, in place of all of listen.dns; can be repeated
                  --admin <ADDR:PORT|off>  Loopback address of the admin interface, or off
                  --state-dir <DIR>        Directory for what is worth keeping between starts
                  --strict                 Do not start from a copy when the configuration file is broken
                  --stop-with-stdin        Stop when standard input ends, for a program that starts a node and may die
              -h, --help                   Print help

            Examples:
              detour run
              detour run -c /etc/detour.toml
              detour run --listen 127.0.0.1:53 --listen '[::1]:53' --admin off

            --listen, --admin and --state-dir go before what the file says. If the file is broken or lost, a copy of the last one
            that served for a minute stands in for it, and everything says so. SIGHUP reads the file again.
        "#]].assert_eq(&stop(&["run", "--help"]).text);
        expect![[r#"
            error: invalid value '127.0.0.1' for '--listen <ADDR:PORT>': needs a port, such as "127.0.0.1:5300"

            For more information, try '--help'.
        "#]]
        .assert_eq(&stop(&["run", "--listen", "127.0.0.1"]).text);
    }
}
