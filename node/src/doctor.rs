//! `detour doctor`: looks at every provider over every transport, by our own transports and by hickory-resolver, and ends
//! with a sentence for each finding.
//!
//! Needs no node that runs, and changes nothing. What to make of what was seen is [`detour_core::doctor`]'s; here is who
//! is asked, how many at once, and what that looks like. Bounds: [`AT_ONCE`] endpoints at a time, each for as long as
//! [`detour_resolver::exchange::examine`] says, and [`TIME`] for all of them; what is left then is told as not asked.

mod report;
mod table;
mod targets;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_core::doctor::{End, EndpointSeen, Examination, Finding, Hickory, NotAsked, ProviderSeen, Seen};
use detour_core::doctor::{Purpose, Severity, findings};
use detour_core::{Family, Topology};
use detour_resolver::bootstrap::{self, BootstrapServer};
use detour_resolver::exchange::Remote;
use detour_resolver::exchange::examine::{Examiner, More, Questions};
use detour_resolver::tasks::Tasks;
use detour_resolver::wire::code::rtype;
use detour_resolver::wire::{NameBuf, NameError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::targets::Target;
use crate::cli::{DOCTOR_NAME, DoctorArgs, exit_code};
use crate::clock::{BootClock, wall_s};
use crate::clock_wrong;
use crate::config::{Config, assemble, bootstrap_servers};
use crate::given;
use crate::output::{complain, print};

/// Endpoints that are looked at together: enough for a configuration of the usual size, and no flood.
const AT_ONCE: usize = 16;
/// For all of them.
const TIME: Duration = Duration::from_secs(120);
/// Names that filters of several kinds keep back: advertisements, and what their operators made to try them with.
const FILTERED: [&str; 4] = [
    "doubleclick.net",
    "malware.testcategory.com",
    "isitblocked.org",
    "internetbadguys.com",
];
/// Letters of a name that does not exist.
const ABSENT_LETTERS: usize = 20;

/// Why nothing was looked at.
#[derive(Debug, thiserror::Error)]
enum DoctorError {
    /// Cannot be asked for.
    #[error("wrong name")]
    Name(#[source] NameError),
    /// A typing error.
    #[error("there is no provider {name:?}: the configuration has {known}")]
    NoProvider {
        /// What was typed.
        name: String,
        /// What there is.
        known: String,
    },
}

/// What came of it.
#[derive(Debug)]
struct Diagnosis {
    seen: Examination,
    findings: Vec<Finding>,
    /// Seconds since 1970 by this machine's clock: makes dates of what certificates have left.
    wall_s: u64,
}

/// Runs the command on a sound configuration; the exit code.
pub(crate) async fn doctor(args: &DoctorArgs, config: &Config) -> u8 {
    match diagnose(args, config).await {
        Ok(diagnosis) => {
            let text = if args.json {
                report::to_json(&diagnosis)
            } else {
                table::to_text(&diagnosis)
            };
            let is_fault = |finding: &Finding| finding.severity() == Severity::Fault;
            let code = if diagnosis.findings.iter().any(is_fault) {
                exit_code::FAILED
            } else {
                exit_code::OK
            };
            print(&mut io::stdout().lock(), &text, code)
        }
        Err(error) => {
            complain("doctor", &error);
            exit_code::USAGE
        }
    }
}

async fn diagnose(args: &DoctorArgs, config: &Config) -> Result<Diagnosis, DoctorError> {
    let name: NameBuf = args.name.parse().map_err(DoctorError::Name)?;
    let tasks = Tasks::default();
    let given = given::at_start(config, &tasks).await;
    let assembly = assemble(config, &given);
    resolve(config, &assembly.remotes, &tasks).await;
    let all = targets::of(config, &assembly, &name, args.all_transports);
    check_names(&args.providers, &assembly.topology)?;
    let is_meant = |target: &Target| args.providers.is_empty() || args.providers.contains(&target.provider);
    let targets: Vec<Target> = all.into_iter().filter(is_meant).collect();
    let public = Questions {
        name,
        qtype: rtype::A,
        more: Some(more()),
        patience: args.timeout,
    };
    let examiner = Examiner::new(Arc::new(BootClock), tasks.clone());
    let looks = look(&examiner, &targets, &public).await;
    tasks.stop().await;
    let seen = Examination {
        name: args.name.trim_end_matches('.').to_owned(),
        is_known: args.name == DOCTOR_NAME,
        providers: providers(config, &assembly.topology, targets, looks),
        before_release_s: clock_wrong::before_release_s(),
    };
    Ok(Diagnosis {
        findings: findings(&seen),
        seen,
        wall_s: wall_s(),
    })
}

/// Endpoints with host names get their addresses as a running node finds them: by the configuration's own resolvers.
async fn resolve(config: &Config, remotes: &[Remote], tasks: &Tasks) {
    let servers: Arc<[BootstrapServer]> = bootstrap_servers(config).into();
    let named = || {
        remotes
            .iter()
            .filter_map(|remote| Some((remote, remote.addresses.name()?)))
    };
    let mut hosts: Vec<&str> = named().map(|(_, at)| &*at.host).collect();
    hosts.sort_unstable();
    hosts.dedup();
    // As many as there are hosts, which the configuration bounds; each has a deadline of its own.
    let mut resolving = JoinSet::new();
    for host in hosts {
        let (host, servers, tasks) = (Arc::<str>::from(host), Arc::clone(&servers), tasks.clone());
        resolving.spawn(async move { (Arc::clone(&host), bootstrap::resolve(host, servers, &tasks).await) });
    }
    while let Some(done) = resolving.join_next().await {
        let Ok((host, found)) = done else { continue };
        for (remote, at) in named().filter(|(_, at)| *at.host == *host) {
            let ips = match at.family {
                Family::V4 => &found.v4,
                Family::V6 => &found.v6,
            };
            let ips = ips.iter().flatten();
            let addresses: Vec<SocketAddr> = ips.map(|ip| SocketAddr::new(*ip, at.port)).collect();
            remote.addresses.set(&addresses);
        }
    }
}

/// Every provider that was typed exists.
fn check_names(typed: &[String], topology: &Topology) -> Result<(), DoctorError> {
    let known: Vec<&str> = topology
        .providers
        .iter()
        .map(|provider| provider.name.as_str())
        .collect();
    match typed.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(DoctorError::NoProvider {
            name: name.clone(),
            known: known.join(", "),
        }),
    }
}

/// What else is asked of an endpoint that answers.
fn more() -> More {
    let letter = |_| char::from(b'a' + rand::random::<u8>() % 26);
    let absent: String = (0..ABSENT_LETTERS).map(letter).collect();
    let names = FILTERED.iter().map(|name| ((*name).to_owned(), Purpose::Filtered));
    let names = names.chain([(format!("{absent}.com"), Purpose::Absent)]);
    More {
        signed: (NameBuf::root(), rtype::SOA),
        names: names
            .filter_map(|(name, purpose)| Some((name.parse().ok()?, purpose)))
            .collect(),
    }
}

/// Looks at all targets, a few at a time; what is seen of each, in their order.
async fn look(examiner: &Examiner, targets: &[Target], public: &Questions) -> Vec<Option<(Seen, Hickory)>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    // As many as there are targets, which the configuration bounds; dropped, and with that ended, when time is up.
    let mut looking = JoinSet::new();
    for (index, target) in targets.iter().enumerate() {
        let (examiner, places) = (examiner.clone(), Arc::clone(&places));
        let (transport, remote, skipped) = (target.transport, target.remote.clone(), target.skipped);
        // Names of the outside are no business of who serves those of routes.
        let mut questions = public.clone();
        if !target.is_public {
            questions.more = None;
        }
        if let Some((name, qtype)) = &target.instead {
            questions.name.clone_from(name);
            questions.qtype = *qtype;
        }
        looking.spawn(async move {
            if let Some(why) = skipped {
                let hickory = Hickory::NotAsked(why.words().to_owned());
                return (index, (Seen::ended(End::NotAsked(why)), hickory));
            }
            // Never closed: an error is as good as a place.
            let _place = places.acquire().await;
            let ours = examiner.examine(transport, &remote, &questions).await;
            let hickory = examiner.by_hickory(transport, &remote, &questions).await;
            (index, (ours, hickory))
        });
    }
    let mut looks: Vec<Option<(Seen, Hickory)>> = targets.iter().map(|_| None).collect();
    let all = async {
        while let Some(done) = looking.join_next().await {
            if let Ok((index, look)) = done
                && let Some(place) = looks.get_mut(index)
            {
                *place = Some(look);
            }
        }
    };
    // Late: what is there by then counts.
    drop(timeout(TIME, all).await);
    looks
}

/// What was seen, provider by provider.
fn providers(
    config: &Config,
    topology: &Topology,
    targets: Vec<Target>,
    looks: Vec<Option<(Seen, Hickory)>>,
) -> Vec<ProviderSeen> {
    let mut providers: Vec<ProviderSeen> = Vec::new();
    for (target, look) in targets.into_iter().zip(looks) {
        let time_is_up = || {
            let why = NotAsked::TimeIsUp;
            let ended = Seen::ended(End::NotAsked(why));
            (ended, Hickory::NotAsked(why.words().to_owned()))
        };
        let (ours, hickory) = look.unwrap_or_else(time_is_up);
        let endpoint = EndpointSeen {
            label: target.label,
            transport: target.transport,
            family: target.family,
            is_listed: target.is_listed,
            ours,
            hickory,
        };
        if let Some(known) = providers.iter_mut().find(|known| known.name == target.provider) {
            known.endpoints.push(endpoint);
            continue;
        }
        let configured = config.providers.iter().find(|own| own.name == target.provider);
        let Some(provider) = topology.providers.iter().find(|own| own.name == target.provider) else {
            continue;
        };
        providers.push(ProviderSeen {
            name: provider.name.clone(),
            operator: provider.operator,
            // The network's resolvers do what they like: nothing is said of them.
            filter: configured.map_or_else(|| "unknown".to_owned(), |own| own.filter.clone()),
            validates: provider.validates,
            is_public: provider.is_public,
            endpoints: vec![endpoint],
        });
    }
    providers
}
