//! Designated endpoints (RFC 9462) beside those of the file: what a resolver of the file designated stands in front of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use detour_core::ddr::{Designated, Proof};
use detour_core::{Encryption, Transport};
use detour_resolver::bootstrap::BootstrapServer;
use detour_resolver::exchange::Remote;
use detour_resolver::exchange::tls::Trust;

use super::spec::ENDPOINTS_MAX;
use super::topology::to_remote;
use super::{Config, EndpointConfig, Where};

/// By the label of the endpoint that is asked in the clear: what it designated, best first.
pub(crate) type Designations = BTreeMap<String, Vec<Designated>>;

/// An endpoint that is asked for the encrypted resolvers it designates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Designating {
    /// Its string in the file.
    pub(crate) label: String,
    pub(crate) address: IpAddr,
    /// As it is asked.
    pub(crate) server: BootstrapServer,
    /// Whose certificates are believed of what it designates.
    pub(crate) trust: Trust,
}

/// Those of a configuration.
#[must_use]
pub(crate) fn designating(config: &Config) -> Vec<Designating> {
    let mut all = Vec::new();
    for provider in &config.providers {
        for endpoint in provider.endpoints.iter().filter(|endpoint| endpoint.ddr) {
            let Some(address) = endpoint.at.address() else { continue };
            all.push(Designating {
                label: endpoint.label.clone(),
                address: address.ip(),
                server: BootstrapServer {
                    transport: endpoint.transport,
                    remote: to_remote(endpoint, &provider.trust, false),
                },
                trust: provider.trust.clone(),
            });
        }
    }
    all
}

/// The network side of a designated endpoint.
#[must_use]
pub(crate) fn remote_of(designated: &Designated, trust: &Trust) -> Remote {
    to_remote(&to_endpoint(designated, None), trust, false)
}

/// The configuration with what was designated. What the file has already is not there twice, and what would be too much
/// is left out.
#[must_use]
pub(crate) fn with_designations(config: &Config, designations: &Designations) -> Config {
    let mut with = config.clone();
    let endpoints = config.providers.iter().flat_map(|provider| &provider.endpoints);
    let mut listed: Vec<(Transport, Where)> = endpoints.map(|own| (own.transport, own.at.clone())).collect();
    for provider in &mut with.providers {
        let mut endpoints = Vec::with_capacity(provider.endpoints.len());
        for endpoint in std::mem::take(&mut provider.endpoints) {
            let designated = designations.get(&endpoint.label).filter(|_| endpoint.ddr);
            let designated = designated.into_iter().flatten();
            for designated in designated.filter(|own| is_enough(own.proof, config.select.encryption)) {
                let new = to_endpoint(designated, endpoint.max_qps);
                let place = (new.transport, new.at.clone());
                if listed.len() < ENDPOINTS_MAX && !listed.contains(&place) {
                    listed.push(place);
                    endpoints.push(new);
                }
            }
            endpoints.push(endpoint);
        }
        provider.endpoints = endpoints;
    }
    with
}

/// Whether a resolver that showed this may be asked. Who requires encryption wants to know whom it is for: at a private
/// address anybody may be, whatever the certificate.
#[must_use]
pub(crate) fn is_enough(proof: Proof, encryption: Encryption) -> bool {
    proof != Proof::SameAddress || encryption != Encryption::Require
}

/// What labels of designated endpoints end with; no string of a file does.
const MARK: &str = "@ddr";

/// Whether an endpoint called so is a designated one.
#[must_use]
pub(crate) fn is_designated(label: &str) -> bool {
    label.ends_with(MARK)
}

/// What a designated endpoint is called.
#[must_use]
pub(crate) fn label_of(designated: &Designated) -> String {
    let scheme = match designated.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Https => "https",
        Transport::Quic => "quic",
        Transport::H3 => "h3",
    };
    let address = SocketAddr::new(designated.address, designated.port);
    let path = designated.path.as_deref().unwrap_or_default();
    format!("{scheme}://{address}{path}#{}{MARK}", designated.name)
}

fn to_endpoint(designated: &Designated, max_qps: Option<u32>) -> EndpointConfig {
    EndpointConfig {
        label: label_of(designated),
        transport: designated.transport,
        at: Where::Address(SocketAddr::new(designated.address, designated.port)),
        name: Some(designated.name.as_str().into()),
        path: designated.path.as_deref().map(Into::into),
        max_qps,
        early_data: None,
        trust: None,
        hashes: Vec::new(),
        ddr: false,
        proof: Some(designated.proof),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_designated_stands_in_front_of_who_designated_it_and_never_twice() {
        let text = "version = 1\n[[provider]]\nname = \"a\"\nddr = true\n\
                    endpoints = [\"tls://192.0.2.1#dns.example\", \"udp://192.0.2.1\", { url = \"tcp://192.0.2.2\", ddr = false }]\n";
        let config = Config::parse(text, Path::new("x.toml")).unwrap();
        let asked: Vec<String> = designating(&config).into_iter().map(|own| own.label).collect();
        assert_eq!(asked, ["udp://192.0.2.1"]);
        let ip = IpAddr::from([192, 0, 2, 1]);
        let designated = |transport, port| Designated {
            transport,
            name: "dns.example".to_owned(),
            address: ip,
            port,
            path: (transport == Transport::Https).then(|| "/q".to_owned()),
            proof: Proof::Certificate(ip),
        };
        let both = vec![designated(Transport::Https, 8443), designated(Transport::Tls, 853)];
        let with = with_designations(
            &config,
            &Designations::from([("udp://192.0.2.1".to_owned(), both.clone())]),
        );
        let labels: Vec<&str> = with.providers[0]
            .endpoints
            .iter()
            .map(|own| own.label.as_str())
            .collect();
        assert_eq!(
            labels,
            [
                "tls://192.0.2.1#dns.example",
                "https://192.0.2.1:8443/q#dns.example@ddr",
                "udp://192.0.2.1",
                "tcp://192.0.2.2",
            ]
        );
        let tls = remote_of(&both[0], &config.providers[0].trust).tls.unwrap();
        assert_eq!(tls.url.unwrap(), "https://dns.example:8443/q");
        assert_ne!(tls.trust, config.providers[0].trust);
        // Nothing that anybody could have shown is enough where encryption is required.
        let weak = Designated {
            proof: Proof::SameAddress,
            ..both[0].clone()
        };
        let weak = Designations::from([("udp://192.0.2.1".to_owned(), vec![weak])]);
        let mut required = config.clone();
        required.select.encryption = Encryption::Require;
        assert_eq!(with_designations(&required, &weak), required);
        assert_ne!(with_designations(&config, &weak), config);
        // An endpoint that is not asked any more designates nobody.
        let none = with_designations(&config, &Designations::from([("tcp://192.0.2.2".to_owned(), both)]));
        assert_eq!(none, config);
    }
}
