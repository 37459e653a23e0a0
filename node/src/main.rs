//! `detour`: reads the command line, does what it says, and turns the result into an exit code.

mod admin;
mod app;
mod board;
mod cache_command;
mod cache_file;
mod cert;
mod certificate;
mod cli;
mod clock;
mod clock_wrong;
mod config;
mod control_task;
mod ddr;
mod demo;
mod descriptors;
mod dns64;
mod doctor;
mod durable;
mod explain;
mod given;
mod id;
mod kept;
mod last_good;
mod learned;
mod leash;
mod mesh;
mod metrics;
mod names;
mod network;
mod output;
mod peer_id;
mod planes;
mod query;
mod reload;
mod stamp;
mod start;
mod start_report;
mod state;
mod status;
mod store;
mod telemetry;
mod token;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::cli::{
    CacheCommand, CertCommand, Command, ExplainArgs, MeshCommand, QueryArgs, RunArgs, StatusArgs, exit_code,
};
use self::config::{Admin, Config, LoadError, admin_line, read_bytes, state_dir_line};
use self::start::{Refused, Start};

/// Worker threads: more than four do not make a forwarder faster.
const WORKERS_MAX: usize = 4;
/// Of the demo: fakes and load beside what looks at nodes.
const DEMO_WORKERS: usize = 2;

fn main() -> ExitCode {
    let code = match cli::parse(std::env::args_os()) {
        Ok(command) => carry_out(command),
        Err(stop) => {
            let mut out: Box<dyn io::Write> = if stop.is_error {
                Box::new(io::stderr().lock())
            } else {
                Box::new(io::stdout().lock())
            };
            output::print(&mut out, &stop.text, stop.code)
        }
    };
    ExitCode::from(code)
}

fn carry_out(command: Command) -> u8 {
    match command {
        Command::Run(args) => run(&args),
        Command::Check(args) => check(args.path()),
        Command::Status(args) => status(args),
        Command::Explain(args) => explain(args),
        Command::Query(args) => query(args),
        Command::Doctor(args) => on_config(args.config.as_deref(), |config| {
            with_runtime(cores(), doctor::doctor(&args, config))
        }),
        Command::Cache(command) => cache(command),
        Command::Demo(args) => with_runtime(DEMO_WORKERS, demo::demo(&args)),
        Command::Cert(CertCommand::SelfSigned(args)) => cert::self_signed(&args),
        Command::Id(args) => on_config(args.config.as_deref(), |config| id::id(&args, config)),
        Command::Mesh(MeshCommand::Test(args)) => on_config(args.config.as_deref(), |config| {
            with_runtime(1, mesh::trial(&args, config))
        }),
    }
}

fn status(mut args: StatusArgs) -> u8 {
    match admin_of("status", args.config.as_deref()) {
        Ok((admin, _)) => args.admin = admin.unwrap_or(args.admin),
        Err(code) => return code,
    }
    with_runtime(1, status::status(&args))
}

fn explain(mut args: ExplainArgs) -> u8 {
    match admin_of("explain", args.config.as_deref()) {
        Ok((admin, _)) => args.admin = admin.unwrap_or(args.admin),
        Err(code) => return code,
    }
    with_runtime(1, explain::explain(&args))
}

fn cache(command: CacheCommand) -> u8 {
    match command {
        CacheCommand::Show(mut args) => {
            match admin_of("cache show", args.config.as_deref()) {
                Ok((admin, _)) => args.admin = admin.unwrap_or(args.admin),
                Err(code) => return code,
            }
            with_runtime(1, cache_command::show(&args))
        }
        CacheCommand::Flush(mut args) => {
            match admin_of("cache flush", args.config.as_deref()) {
                Ok((admin, state_dir)) => {
                    args.admin = admin.unwrap_or(args.admin);
                    args.state_dir = state::find(args.state_dir.as_deref(), state_dir.as_deref());
                }
                Err(code) => return code,
            }
            with_runtime(1, cache_command::flush(&args))
        }
    }
}

/// Where the node of this file is asked, and what the file says of its state directory; the exit code if that cannot be
/// known. A file with mistakes is no reason not to look: the node runs on what it read before, or on a copy.
fn admin_of(command: &str, path: Option<&Path>) -> Result<(Option<SocketAddr>, Option<PathBuf>), u8> {
    let Some(path) = path else {
        return Ok((None, None));
    };
    let (found, mistake) = match load(Some(path)) {
        Ok(config) => (Some((config.listen.admin, config.state_dir)), None),
        Err(error) => (admin_of_broken(path), Some(error)),
    };
    let asked = match found {
        Some((Admin::At(asked), _)) => Some(asked),
        Some((Admin::Off, _)) | None => None,
    };
    match (&mistake, asked) {
        (Some(error), Some(asked)) => {
            let mistake = error.first_and_more().0;
            output::complain("", &AskedRegardless { mistake, asked });
        }
        (Some(error), None) => output::complain("", error),
        (None, _) => {}
    }
    match found {
        Some((Admin::At(address), state_dir)) => Ok((Some(address), state_dir)),
        Some((Admin::Off, _)) => {
            output::complain(command, &NoAdmin);
            Err(exit_code::FAILED)
        }
        None => {
            output::complain(command, &AdminUnknown);
            Err(exit_code::CONFIG)
        }
    }
}

/// The same of a file with mistakes: from the copy that stands in for it, or from what can be read of it.
fn admin_of_broken(path: &Path) -> Option<(Admin, Option<PathBuf>)> {
    if let Some(Ok((config, _))) = start::copy_of(path, None) {
        return Some((config.listen.admin, config.state_dir));
    }
    let bytes = read_bytes(path).ok()?;
    Some((admin_line(&bytes)?, state_dir_line(&bytes, path)))
}

fn query(mut args: QueryArgs) -> u8 {
    if let Some(path) = &args.config {
        match load(Some(path)) {
            Ok(config) => args.server = config.listen.dns.first().copied().unwrap_or(args.server),
            Err(error) => {
                output::complain("", &error);
                return exit_code::CONFIG;
            }
        }
    }
    with_runtime(1, query::query(&args))
}

/// Carries out what needs a sound configuration.
fn on_config(path: Option<&Path>, work: impl FnOnce(&Config) -> u8) -> u8 {
    match load(path) {
        Ok(config) => work(&config),
        Err(error) => {
            output::complain("", &error);
            exit_code::CONFIG
        }
    }
}

/// The file has mistakes; the node that runs may be asked all the same.
#[derive(Debug, thiserror::Error)]
#[error("{mistake} (asking the node at {asked} all the same)")]
struct AskedRegardless {
    mistake: String,
    asked: SocketAddr,
}

/// Asking at the default address would be asking somebody else's node.
#[derive(Debug, thiserror::Error)]
#[error(
    "nobody is asked: listen.admin cannot be read from the file; name the address with --admin instead of the file"
)]
struct AdminUnknown;

/// The file switches the admin interface off, so there is nobody to ask.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has no admin interface: listen.admin is \"off\"")]
struct NoAdmin;

fn run(args: &RunArgs) -> u8 {
    let mut start = match Start::load(args) {
        Ok(start) => start,
        Err(Refused { error, copy }) => {
            output::complain("", &error);
            if let Some(copy) = copy {
                output::complain("", &*copy);
            }
            return exit_code::CONFIG;
        }
    };
    if let Err(misuse) = args.apply_to(&mut start.config) {
        output::complain("", &misuse);
        return exit_code::USAGE;
    }
    with_runtime(cores(), async {
        app::run(start, args).await.unwrap_or_else(|error| {
            output::complain("", &error);
            exit_code::FAILED
        })
    })
}

/// Worker threads for what can use several.
fn cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.clamp(1, WORKERS_MAX)
}

fn check(path: Option<&Path>) -> u8 {
    match load(path).and_then(|config| config.pair().map(|pair| (config, pair))) {
        Ok((config, pair)) => {
            let endpoints: usize = config.providers.iter().map(|p| p.endpoints.len()).sum();
            let providers = config.providers.len();
            let name = path.map_or_else(|| "embedded default".to_owned(), |p| p.display().to_string());
            let plural = |n: usize| if n == 1 { "" } else { "s" };
            let (one, other) = (plural(providers), plural(endpoints));
            let mut text = format!("{name}: ok, {providers} provider{one} with {endpoints} endpoint{other}\n");
            if let Some(trouble) = pair.as_ref().and_then(certificate::trouble_of) {
                text.push_str(&format!("mind listen.cert: {trouble}\n"));
            }
            output::print(&mut io::stdout().lock(), &text, exit_code::OK)
        }
        Err(error) => {
            output::complain("", &error);
            exit_code::CONFIG
        }
    }
}

fn load(path: Option<&Path>) -> Result<Config, LoadError> {
    path.map_or_else(Config::embedded, |path| Config::load(path).map(|loaded| loaded.config))
}

fn with_runtime(workers: usize, work: impl Future<Output = u8>) -> u8 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("detour")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            output::complain("cannot start threads", &error);
            exit_code::INTERNAL
        }
    }
}
