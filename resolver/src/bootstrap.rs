//! Resolves the host names of endpoints, through resolvers that are reached by their addresses: hickory's, each with one
//! server, so that each is believed by its own roots.
//!
//! Servers are asked in order, the next one when the one before has failed or is silent for half a second; the first that
//! knows an address wins. Nothing of the system's is read: neither its resolvers nor its hosts file can lead back to this
//! node. Names are absolute, and nothing is kept: what was found is [`detour_core::names`]'s to keep.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_core::Transport;
use detour_core::names::Found;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::mpsc;

use crate::exchange::Remote;
use crate::tasks::Tasks;

/// From asking one server to asking the next one, too.
const STAGGER: Duration = Duration::from_millis(500);
/// How long one server is waited for; a handshake is part of it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all of them are.
const PATIENCE_OF_ALL: Duration = Duration::from_secs(8);
/// For how long what has no time to live of its own is believed, seconds.
const TTL_S: u32 = 300;

/// Who resolves names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapServer {
    /// How it is spoken to.
    pub transport: Transport,
    /// Where it is, and what it must prove.
    pub remote: Remote,
}

/// Resolves a host name to its addresses.
pub async fn resolve(host: Arc<str>, servers: Arc<[BootstrapServer]>, tasks: &Tasks) -> Found {
    // One message from each server.
    let (sender, mut answers) = mpsc::channel(servers.len().max(1));
    // What is still asked when an answer is there need not be.
    let token = tasks.token().child_token();
    let _asking = token.clone().drop_guard();
    let mut waiting = 0_usize;
    let mut denial = Found::default();
    let all = async {
        for server in servers.iter() {
            let (host, server) = (Arc::clone(&host), server.clone());
            let (sender, token) = (sender.clone(), token.clone());
            tasks.spawn_job(async move {
                tokio::select! {
                    // Cancel safe: the token stays cancelled.
                    () = token.cancelled() => {}
                    // It is not polled again. Who does not wait any more need not hear.
                    found = ask(&host, &server) => drop(sender.send(found).await),
                }
            });
            waiting = waiting.saturating_add(1);
            if let Ok(Some(found)) = tokio::time::timeout(STAGGER, answers.recv()).await {
                waiting = waiting.saturating_sub(1);
                if let Some(found) = take(found, &mut denial) {
                    return found;
                }
            }
        }
        while waiting > 0 {
            let Some(found) = answers.recv().await else { break };
            waiting = waiting.saturating_sub(1);
            if let Some(found) = take(found, &mut denial) {
                return found;
            }
        }
        denial.clone()
    };
    tokio::time::timeout(PATIENCE_OF_ALL, all).await.unwrap_or_default()
}

/// An answer with an address is the one; that there is none is kept until nobody knows better.
fn take(found: Found, denial: &mut Found) -> Option<Found> {
    let has_address = |family: &Option<Vec<IpAddr>>| family.as_ref().is_some_and(|ips| !ips.is_empty());
    if has_address(&found.v4) || has_address(&found.v6) {
        return Some(found);
    }
    if found.v4.is_some() || found.v6.is_some() {
        *denial = found;
    }
    None
}

/// Asks one server for both families.
async fn ask(host: &str, server: &BootstrapServer) -> Found {
    let Some(resolver) = resolver(server) else {
        return Found::default();
    };
    // The dot: nothing is appended to it.
    let name = format!("{host}.");
    let (v4, v6) = tokio::join!(
        tokio::time::timeout(PATIENCE, of_family(&resolver, &name, RecordType::A)),
        tokio::time::timeout(PATIENCE, of_family(&resolver, &name, RecordType::AAAA)),
    );
    let (v4, v6) = (v4.ok().flatten(), v6.ok().flatten());
    let ttl_s = [&v4, &v6].into_iter().flatten().map(|(_, ttl_s)| *ttl_s).min();
    Found {
        v4: v4.map(|(addresses, _)| addresses),
        v6: v6.map(|(addresses, _)| addresses),
        ttl_s: ttl_s.unwrap_or(TTL_S),
    }
}

/// Addresses of one family and for how long they are so; `None`: the server did not say.
async fn of_family(resolver: &TokioResolver, name: &str, rtype: RecordType) -> Option<(Vec<IpAddr>, u32)> {
    match resolver.lookup(name, rtype).await {
        Ok(lookup) => {
            let answers = lookup.answers().iter();
            let addresses = answers.filter_map(|record| {
                #[expect(clippy::wildcard_enum_match_arm, reason = "all other records have no address")]
                match &record.data {
                    RData::A(a) => Some((IpAddr::V4(a.0), record.ttl)),
                    RData::AAAA(aaaa) => Some((IpAddr::V6(aaaa.0), record.ttl)),
                    _ => None,
                }
            });
            let (addresses, ttls): (Vec<IpAddr>, Vec<u32>) = addresses.unzip();
            Some((addresses, ttls.into_iter().min().unwrap_or(TTL_S)))
        }
        // A denial is an answer: the name has no address of this family.
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Some((Vec::new(), none.negative_ttl.unwrap_or(TTL_S))),
        Err(error) => {
            // Whose name this is stands in the configuration; what is asked of providers does not come here.
            tracing::debug!(name, %error, "a bootstrap server did not resolve it");
            None
        }
    }
}

/// Hickory's resolver with this one server; `None` where it lacks an address or what it must prove.
pub(crate) fn resolver(server: &BootstrapServer) -> Option<TokioResolver> {
    let address = server.remote.addresses.first()?;
    let (protocols, tls) = match (&server.remote.tls, server.transport) {
        (_, Transport::Udp) => (vec![ProtocolConfig::Udp, ProtocolConfig::Tcp], None),
        (_, Transport::Tcp) => (vec![ProtocolConfig::Tcp], None),
        (Some(tls), transport) => {
            let server_name: Arc<str> = tls.name.to_text().into();
            let path = || tls.url.as_ref().map(|url| Arc::<str>::from(url.path()));
            let protocol = match transport {
                Transport::Udp | Transport::Tcp => return None,
                Transport::Tls => ProtocolConfig::Tls { server_name },
                Transport::Quic => ProtocolConfig::Quic { server_name },
                Transport::Https => ProtocolConfig::Https {
                    server_name,
                    path: path()?,
                },
                Transport::H3 => ProtocolConfig::H3 {
                    server_name,
                    path: path()?,
                    disable_grease: false,
                },
            };
            (vec![protocol], Some(tls.trust.client_config(transport)?))
        }
        (None, Transport::Tls | Transport::Https | Transport::Quic | Transport::H3) => return None,
    };
    let connections = protocols.into_iter().map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    });
    let server = NameServerConfig::new(address.ip(), true, connections.collect());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let mut options = ResolverOpts::default();
    options.timeout = PATIENCE;
    options.attempts = 1;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.num_concurrent_reqs = 1;
    options.case_randomization = true;
    options.edns0 = true;
    // Ports of the system's choice: none that a listener of ours wants after a restart.
    options.os_port_selection = true;
    builder = builder.with_options(options);
    if let Some(tls) = tls {
        builder = builder.with_tls_config(tls);
    }
    builder.build().ok()
}
