//! `[[route]]`: names that are asked of providers of their own, and of nobody else.
//!
//! A zone is a name with all below it, or an address prefix, which stands for the reverse zones of its addresses. What is
//! wrong with one value is told by [`read`]; [`check()`] judges all routes together, and the providers they name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use detour_core::zones::{ROUTES_MAX, Route, ZONES_MAX, Zones, reverse_zones};
use detour_core::{Encryption, GroupId};
use detour_resolver::acl::Cidr;
use detour_resolver::wire::NameBuf;

use super::RouteTo;
use super::problem::{Place, Problems, quoted};
use super::reader::{Item, Reader};
use super::spec::{PROVIDERS_MAX, ProviderSpec, Spec};
use super::{RouteConfig, check};

pub(super) const ROUTE_KEYS: &[&str] = &["zones", "except", "to"];

/// Names that `to` takes beside those of providers; no provider is called so. Those who serve all names.
const PUBLIC: &str = "public";
/// The resolvers this machine was given.
pub(super) const NETWORK: &str = "network";

/// Most routes of a file: two more come from the network.
const ROUTES_OF_FILE_MAX: usize = ROUTES_MAX - 2;
/// Most zones of a file: the network's search domains and private reverse zones have room beside them.
const ZONES_OF_FILE_MAX: usize = ZONES_MAX - 96;

/// Names that nobody is ever asked about: what they mean, they mean on this machine or nowhere.
const NEVER: [(&str, &str); 3] = [
    ("localhost", "RFC 6761 section 6.3"),
    ("invalid", "RFC 6761 section 6.4"),
    ("onion", "RFC 7686 section 2"),
];

/// A route as it was written.
#[derive(Debug)]
pub(super) struct RouteSpec {
    pub(super) place: Place,
    pub(super) zones: Vec<Written>,
    pub(super) except: Vec<Written>,
    pub(super) to: Vec<(Place, String)>,
    /// The keys that must be there were.
    pub(super) is_whole: bool,
}

/// An element of `zones` or `except`.
#[derive(Debug)]
pub(super) struct Written {
    place: Place,
    text: String,
    /// What it stands for: one name, or the reverse zones of a prefix. In wire form.
    names: Vec<Box<[u8]>>,
}

/// Reads `[[route]]`.
pub(super) fn read(reader: &mut Reader, item: &Item<'_>) -> Vec<RouteSpec> {
    if item.is_table() {
        reader.wrong::<()>(item, "there can be several: write [[route]] and not [route]");
        return Vec::new();
    }
    let elements = reader.elements(item, "routes", ROUTES_OF_FILE_MAX).unwrap_or_default();
    elements
        .iter()
        .filter_map(|element| read_one(reader, element))
        .collect()
}

fn read_one(reader: &mut Reader, item: &Item<'_>) -> Option<RouteSpec> {
    let table = reader.table(item, ROUTE_KEYS)?;
    let mut is_whole = true;
    let mut required = |reader: &mut Reader, key: &str, example: &str| {
        let found = reader.item(&table, key);
        if found.is_none() {
            is_whole = false;
            let place = table.place.child(key, table.place.line);
            reader.problems.add(&place, format!("missing: {example}"));
        }
        found
    };
    let zones = required(
        reader,
        "zones",
        "name at least one, such as zones = [\"corp.example\", \"10.0.0.0/8\"]",
    );
    let to = required(reader, "to", "name who is asked, such as to = [\"office-dns\"]");
    let zones = zones.map(|item| read_zones(reader, &item)).unwrap_or_default();
    let except = reader.item(&table, "except");
    let except = except.map(|item| read_zones(reader, &item)).unwrap_or_default();
    let to = to.and_then(|item| reader.elements(&item, "providers", PROVIDERS_MAX));
    let to = to.unwrap_or_default().into_iter().filter_map(|element| {
        let name = reader.name(&element)?;
        Some((element.place, name))
    });
    Some(RouteSpec {
        to: to.collect(),
        place: table.place,
        zones,
        except,
        is_whole,
    })
}

fn read_zones(reader: &mut Reader, item: &Item<'_>) -> Vec<Written> {
    let elements = reader.elements(item, "zones", ZONES_OF_FILE_MAX).unwrap_or_default();
    let mut zones = Vec::with_capacity(elements.len());
    for element in elements {
        let Some(text) = reader.text(&element) else { continue };
        match names_of(text) {
            Ok(names) => zones.push(Written {
                text: text.to_owned(),
                names,
                place: element.place,
            }),
            Err(mistake) => {
                reader.wrong::<()>(&element, format!("{}: {mistake}", quoted(text)));
            }
        }
    }
    zones
}

/// What the text of a zone stands for.
fn names_of(text: &str) -> Result<Vec<Box<[u8]>>, String> {
    if text.contains('/') || text.parse::<IpAddr>().is_ok() {
        let prefix: Cidr = text
            .parse()
            .map_err(|error: detour_resolver::acl::CidrError| error.to_string())?;
        return Ok(reverse_zones(prefix.address(), prefix.prefix_len()));
    }
    if let Some(rest) = text.strip_prefix("*.") {
        return Err(format!("a zone has all names below it: write {}", quoted(rest)));
    }
    let name: NameBuf = text.parse().map_err(|_discarded| {
        "must be a domain name such as \"corp.example\", or an address prefix such as \"10.0.0.0/8\"".to_owned()
    })?;
    if name.is_root() {
        return Err("is every name there is: let the provider be one for all, by default = true".to_owned());
    }
    Ok(vec![name.as_wire().into()])
}

/// Judges all routes; those that make sense.
pub(super) fn check(problems: &mut Problems, spec: &Spec) -> Vec<RouteConfig> {
    let (routes, providers, select) = (&spec.routes, &spec.providers, &spec.select);
    reserved(problems, providers);
    zones(problems, routes);
    routes
        .iter()
        .filter_map(|route| {
            let to = targets(problems, route, providers, spec.network.enabled)?;
            if let RouteTo::Providers(names) = &to {
                let members = members(providers, names);
                check::pool(problems, &members, select.mix_policies);
                let is_encrypted = members.iter().any(|provider| provider.is_encrypted());
                if select.encryption == Encryption::Require && is_encrypted {
                    check::cleartext(problems, &members);
                }
            }
            let all = |written: &[Written]| written.iter().flat_map(|w| w.names.iter().cloned()).collect();
            route.is_whole.then(|| RouteConfig {
                zones: all(&route.zones),
                except: all(&route.except),
                to,
            })
        })
        .collect()
}

/// The providers of these names.
fn members<'p>(providers: &'p [ProviderSpec], names: &[String]) -> Vec<&'p ProviderSpec> {
    let is_named = |provider: &&ProviderSpec| provider.name.present().is_some_and(|name| names.contains(name));
    providers.iter().filter(is_named).collect()
}

/// The route of a host name, if it leads elsewhere than to those who serve all names.
pub(super) fn of_host<'r>(routes: &'r [RouteSpec], host: &str) -> Option<&'r RouteSpec> {
    let name: NameBuf = host.parse().ok()?;
    let routed: Vec<Route> = routes
        .iter()
        .zip(1..)
        .map(|(route, number)| {
            let names = |written: &[Written]| written.iter().flat_map(|w| w.names.iter().cloned()).collect();
            Route {
                zones: names(&route.zones),
                except: names(&route.except),
                to: GroupId(number),
            }
        })
        .collect();
    let to = Zones::new(&routed).find(name.as_wire())?.to;
    let route = routes.get(usize::from(to.0).checked_sub(1)?)?;
    let is_public = route.to.iter().any(|(_, to)| to == PUBLIC);
    (!is_public).then_some(route)
}

/// Whether a route names this provider.
pub(super) fn is_named(routes: &[RouteSpec], provider: &ProviderSpec) -> bool {
    let named = |name: &String| routes.iter().flat_map(|route| &route.to).any(|(_, to)| to == name);
    provider.name.present().is_some_and(named)
}

/// No provider is called what `to` means otherwise.
fn reserved(problems: &mut Problems, providers: &[ProviderSpec]) {
    for provider in providers {
        if let Some(name) = provider.name.present().filter(|name| is_reserved(name)) {
            let place = provider.place.child("name", provider.place.line);
            let name = quoted(name);
            problems.add(
                &place,
                format!("{name} means something else in the to of a route: choose another name"),
            );
        }
    }
}

fn is_reserved(name: &str) -> bool {
    name == PUBLIC || name == NETWORK
}

/// Whom a route leads to; `has_network`: somebody looks for the resolvers this machine was given.
fn targets(
    problems: &mut Problems,
    route: &RouteSpec,
    providers: &[ProviderSpec],
    has_network: bool,
) -> Option<RouteTo> {
    let mut names: Vec<String> = Vec::with_capacity(route.to.len());
    let mut is_sound = !route.to.is_empty();
    for (place, name) in &route.to {
        let is_known = providers.iter().any(|provider| provider.name.present() == Some(name));
        let mistake = if names.contains(name) {
            Some(format!("{} is listed twice", quoted(name)))
        } else if is_reserved(name) && route.to.len() > 1 {
            Some(format!("{} stands alone: no others are asked beside it", quoted(name)))
        } else if !is_reserved(name) && !is_known {
            let (name, public, network) = (quoted(name), quoted(PUBLIC), quoted(NETWORK));
            Some(format!("{name} is no provider of this file, nor {public} or {network}"))
        } else if name == NETWORK && !has_network {
            Some("the resolvers of the network are switched off (network.enabled)".to_owned())
        } else {
            None
        };
        is_sound &= mistake.is_none();
        match mistake {
            Some(mistake) => problems.add(place, mistake),
            None => names.push(name.clone()),
        }
    }
    is_sound.then(|| match names.first().map(String::as_str) {
        Some(PUBLIC) => RouteTo::Public,
        Some(NETWORK) => RouteTo::Network,
        _ => RouteTo::Providers(names),
    })
}

/// Each name is one route's, not too many in all, and what is left out is part of what is not.
fn zones(problems: &mut Problems, routes: &[RouteSpec]) {
    let mut seen: BTreeMap<&[u8], &Place> = BTreeMap::new();
    let mut count = 0_usize;
    for written in routes.iter().flat_map(|route| &route.zones) {
        count = count.saturating_add(written.names.len());
        let mut twice = None;
        for name in &written.names {
            let earlier = *seen.entry(name).or_insert(&written.place);
            if !std::ptr::eq(earlier, &written.place) {
                twice = Some(earlier);
            }
        }
        if let Some(earlier) = twice {
            let (text, key, line) = (quoted(&written.text), &earlier.key, earlier.line);
            problems.add(
                &written.place,
                format!("{text} is {key} (line {line}) too: whose names are these?"),
            );
        }
        never(problems, written);
    }
    count = routes
        .iter()
        .flat_map(|route| &route.except)
        .fold(count, |count, written| count.saturating_add(written.names.len()));
    if let Some(route) = routes.first().filter(|_| count > ZONES_OF_FILE_MAX) {
        let message =
            format!("{count} zones in all, reverse zones counted one by one: at most {ZONES_OF_FILE_MAX} are possible");
        let place = Place {
            key: "route".to_owned(),
            line: route.place.line,
        };
        problems.add(&place, message);
    }
    for route in routes.iter().filter(|route| !route.zones.is_empty()) {
        let own = Zones::new(&[Route {
            zones: route.zones.iter().flat_map(|w| w.names.iter().cloned()).collect(),
            except: Vec::new(),
            to: GroupId::PUBLIC,
        }]);
        for written in &route.except {
            let found: Vec<_> = written.names.iter().map(|name| (name, own.find(name))).collect();
            let text = quoted(&written.text);
            if found.iter().any(|(_, routed)| routed.is_none()) {
                let message = format!("{text} is in none of the zones of this route, so it need not be left out");
                problems.add(&written.place, message);
            } else if found
                .iter()
                .any(|(name, routed)| routed.is_some_and(|routed| routed.zone_bytes == name.len()))
            {
                problems.add(
                    &written.place,
                    format!("{text} is a zone of this route and left out of it"),
                );
            }
        }
    }
}

/// Names that go nowhere.
fn never(problems: &mut Problems, written: &Written) {
    for (name, basis) in NEVER {
        let zone: Option<NameBuf> = name.parse().ok();
        let is_in = |own: &[u8]| {
            let own = NameBuf::from_wire(own);
            let (Some(own), Some(zone)) = (&own, &zone) else {
                return false;
            };
            own.suffixes().any(|suffix| suffix == zone.as_wire())
        };
        if written.names.iter().any(|own| is_in(own)) {
            let text = quoted(&written.text);
            let message = format!("{text}: names in {name} are asked of nobody ({basis})");
            problems.add(&written.place, message);
        }
    }
}
