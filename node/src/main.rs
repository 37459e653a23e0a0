//! `detour`: reads the command line, does what it says, and turns the result into an exit code.

mod admin;
mod app;
mod board;
mod cache_file;
mod cli;
mod clock;
mod config;
mod control_task;
mod explain;
mod kept;
mod learned;
mod metrics;
mod output;
mod query;
mod stamp;
mod state;
mod store;
mod telemetry;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use self::cli::{Command, ExplainArgs, QueryArgs, RunArgs, exit_code};
use self::config::{Admin, Config, LoadError};

/// Worker threads: more than four do not make a forwarder faster.
const WORKERS_MAX: usize = 4;

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
        Command::Explain(args) => explain(args),
        Command::Query(args) => query(args),
    }
}

fn explain(mut args: ExplainArgs) -> u8 {
    if let Some(path) = &args.config {
        match load(Some(path)).map(|config| config.listen.admin) {
            Ok(Admin::At(address)) => args.admin = address,
            Ok(Admin::Off) => {
                output::complain("explain", &NoAdmin);
                return exit_code::FAILED;
            }
            Err(error) => {
                output::complain("", &error);
                return exit_code::CONFIG;
            }
        }
    }
    with_runtime(1, explain::explain(&args))
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

/// The file switches the admin interface off, so there is nobody to ask.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has no admin interface: listen.admin is \"off\"")]
struct NoAdmin;

fn run(args: &RunArgs) -> u8 {
    let mut config = match load(args.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            output::complain("", &error);
            return exit_code::CONFIG;
        }
    };
    if let Err(misuse) = args.apply_to(&mut config) {
        output::complain("", &misuse);
        return exit_code::USAGE;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    with_runtime(cores.clamp(1, WORKERS_MAX), async {
        app::run(config, args).await.unwrap_or_else(|error| {
            output::complain("", &error);
            exit_code::FAILED
        })
    })
}

fn check(path: Option<&Path>) -> u8 {
    match load(path) {
        Ok(config) => {
            let endpoints: usize = config.providers.iter().map(|p| p.endpoints.len()).sum();
            let providers = config.providers.len();
            let name = path.map_or_else(|| "embedded default".to_owned(), |p| p.display().to_string());
            let text = format!("{name}: ok, {providers} providers with {endpoints} endpoints\n");
            output::print(&mut io::stdout().lock(), &text, exit_code::OK)
        }
        Err(error) => {
            output::complain("", &error);
            exit_code::CONFIG
        }
    }
}

fn load(path: Option<&Path>) -> Result<Config, LoadError> {
    path.map_or_else(Config::embedded, Config::load)
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
