//! The same endpoint by other people's code: hickory-resolver with this one server, this one transport, and our trust.

use std::sync::Arc;

use detour_core::doctor::Hickory;
use detour_core::{Clock, Transport};
use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::Questions;
use crate::exchange::Remote;

/// What an error of hickory's is cut to: a line, not a page.
const REASON_CHARS_MAX: usize = 120;
/// Its waits for connections and answers are its own; this is for all of them, in times the patience.
const PATIENCES: u32 = 2;

/// Looks.
pub(super) async fn look(transport: Transport, remote: &Remote, questions: &Questions, clock: &dyn Clock) -> Hickory {
    let Some(address) = remote.addresses.first() else {
        return Hickory::NotAsked("it has no address".to_owned());
    };
    let (protocol, tls) = match protocol(transport, remote) {
        Ok(protocol) => protocol,
        Err(reason) => return Hickory::NotAsked(reason.to_owned()),
    };
    let mut connection = ConnectionConfig::new(protocol);
    connection.port = address.port();
    let server = NameServerConfig::new(address.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder =
        Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options(questions));
    if let Some(tls) = tls {
        builder = builder.with_tls_config(tls);
    }
    let resolver = match builder.build() {
        Ok(resolver) => resolver,
        Err(error) => return Hickory::NotAsked(cut(&error.to_string())),
    };
    let begun = clock.now();
    // Absolute: nothing is appended to it.
    let name = questions.name.to_string();
    let looking = resolver.lookup(name, RecordType::from(questions.qtype));
    let answered = match timeout(questions.patience * PATIENCES, looking).await {
        Err(_elapsed) => return Hickory::Failed("no answer in time".to_owned()),
        Ok(looked) => rcode(looked.map(|_| ())),
    };
    match answered {
        Ok(rcode) => Hickory::Answered {
            total_us: clock.now().since(begun),
            rcode,
        },
        Err(reason) => Hickory::Failed(reason),
    }
}

fn options(questions: &Questions) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = questions.patience;
    options.attempts = 1;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.num_concurrent_reqs = 1;
    options.edns0 = true;
    // Ports of the system's choice: none that a listener wants.
    options.os_port_selection = true;
    options
}

/// How it is spoken to; why not, where hickory cannot.
fn protocol(transport: Transport, remote: &Remote) -> Result<(ProtocolConfig, Option<ClientConfig>), &'static str> {
    let tls = match (transport, &remote.tls) {
        (Transport::Udp, _) => return Ok((ProtocolConfig::Udp, None)),
        (Transport::Tcp, _) => return Ok((ProtocolConfig::Tcp, None)),
        (Transport::Tls | Transport::Https | Transport::Quic | Transport::H3, None) => {
            return Err("it has no name to check a certificate against");
        }
        (Transport::Tls | Transport::Https | Transport::Quic | Transport::H3, Some(tls)) => tls,
    };
    let server_name: Arc<str> = tls.name.to_text().into();
    // It writes the name into a URL as it is, and an address with colons needs brackets there.
    let is_v6 = server_name.contains(':');
    let path = || {
        let path = tls.url.as_ref().map(|url| Arc::<str>::from(url.path()));
        path.filter(|_| !is_v6)
            .ok_or("it cannot make a URL of an IPv6 address without a #name")
    };
    let protocol = match transport {
        Transport::Udp => ProtocolConfig::Udp,
        Transport::Tcp => ProtocolConfig::Tcp,
        Transport::Tls => ProtocolConfig::Tls { server_name },
        Transport::Quic => ProtocolConfig::Quic { server_name },
        Transport::Https => ProtocolConfig::Https {
            path: path()?,
            server_name,
        },
        Transport::H3 => ProtocolConfig::H3 {
            path: path()?,
            server_name,
            disable_grease: false,
        },
    };
    let config = tls.trust.client_config(transport);
    Ok((protocol, Some(config.ok_or("there is no TLS for it")?)))
}

/// The response code in a word; an error in a line, where there was none.
fn rcode(looked: Result<(), NetError>) -> Result<String, String> {
    let code = match looked {
        Ok(()) => ResponseCode::NoError,
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => none.response_code,
        Err(NetError::Dns(DnsError::ResponseCode(code))) => code,
        Err(error) => return Err(cut(&error.to_string())),
    };
    Ok(word(code))
}

/// As operators write it.
fn word(code: ResponseCode) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others have numbers")]
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        code => format!("RCODE{}", u16::from(code)),
    }
}

/// One line, without what a terminal would obey.
fn cut(text: &str) -> String {
    let plain = text.chars().filter(|letter| !letter.is_control());
    plain.take(REASON_CHARS_MAX).collect()
}
