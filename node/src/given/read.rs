//! The texts in which resolvers are handed over: resolv.conf(5), leases of systemd-networkd and NetworkManager, leases of
//! dhclient. One reader for all of them, line by line: what a line does not say in one of these ways, it does not say.

use std::net::{IpAddr, SocketAddr};

/// Most resolvers and search domains that are taken from one text; the choice among them comes later.
const EACH_MAX: usize = 32;

/// What a text says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Addresses, with the port where one is told.
    pub(super) resolvers: Vec<(IpAddr, Option<u16>)>,
    /// Search domains as they were written.
    pub(super) search: Vec<String>,
    /// The search list was told as such: a mere domain name does not replace it.
    has_list: bool,
}

/// Reads a text; `today` is `YYYY-MM-DD`, by which leases of dhclient expire.
pub(super) fn parse(text: &str, today: &str) -> Said {
    let mut said = Said::default();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        match line.split_once('=') {
            Some((key, values))
                if !line.contains(char::is_whitespace) || key.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') =>
            {
                said.take_pair(key, values);
            }
            Some(_) | None => said.take_words(line, today),
        }
    }
    said
}

impl Said {
    /// `DNS=192.0.2.1 192.0.2.2`
    fn take_pair(&mut self, key: &str, values: &str) {
        let values = values
            .trim_matches('"')
            .split([' ', ','])
            .filter(|value| !value.is_empty());
        match key {
            "DNS" => values.for_each(|value| self.add_resolver(value)),
            "DOMAIN_SEARCH_LIST" | "DOMAINS" => self.set_search(values, true),
            "DOMAINNAME" => self.set_search(values, false),
            _ => {}
        }
    }

    /// `nameserver 192.0.2.1`, `search lan`, `option domain-name-servers 192.0.2.1, 192.0.2.2;`
    fn take_words(&mut self, line: &str, today: &str) {
        // What is behind a semicolon, and quotes, is punctuation of dhclient.
        let line = line.trim_end_matches(';');
        let mut words = line
            .split(|c: char| c.is_whitespace() || c == ',')
            .map(|word| word.trim_matches('"'))
            .filter(|word| !word.is_empty());
        match (words.next(), line) {
            (Some("nameserver"), _) => words.take(1).for_each(|word| self.add_resolver(word)),
            // The last one counts (resolv.conf(5)).
            (Some("search"), _) => self.set_search(words, true),
            (Some("domain"), _) => self.set_search(words.take(1), true),
            // Each lease takes the place of the one before.
            (Some("lease"), _) => *self = Self::default(),
            (Some("expire"), _) => {
                // expire 3 2026/01/31 12:00:00
                let date = words.nth(1).unwrap_or_default().replace('/', "-");
                if !date.is_empty() && date.as_str() < today {
                    *self = Self::default();
                }
            }
            (Some("option"), _) => match words.next() {
                Some("domain-name-servers" | "dhcp6.name-servers") => words.for_each(|word| self.add_resolver(word)),
                Some("domain-search" | "dhcp6.domain-search") => self.set_search(words, true),
                Some("domain-name") => self.set_search(words, false),
                Some(_) | None => {}
            },
            (Some(_) | None, _) => {}
        }
    }

    fn add_resolver(&mut self, text: &str) {
        // `fe80::1%eth0` keeps its scope nowhere else.
        let plain = text.split_once('%').map_or(text, |(plain, _)| plain);
        let found = match (plain.parse::<IpAddr>(), with_port(text)) {
            (Ok(ip), _) => Some((ip, None)),
            (Err(_), Some(address)) => Some((address.ip(), Some(address.port()))),
            (Err(_), None) => None,
        };
        self.resolvers.extend(found.filter(|_| self.resolvers.len() < EACH_MAX));
    }

    fn set_search<'t>(&mut self, names: impl Iterator<Item = &'t str>, is_list: bool) {
        if is_list || !self.has_list {
            self.has_list |= is_list;
            self.search = names.take(EACH_MAX).map(str::to_owned).collect();
        }
    }
}

/// `[192.0.2.1]:5353` as OpenBSD's resolv.conf(5) has it, and without the brackets.
fn with_port(text: &str) -> Option<SocketAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
    match bracketed {
        Some((ip, port)) => Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let said = parse(text, "2026-05-17");
        let resolvers = said.resolvers.iter().map(|(ip, port)| match port {
            Some(port) => SocketAddr::new(*ip, *port).to_string(),
            None => ip.to_string(),
        });
        (resolvers.collect(), said.search)
    }

    #[test]
    fn resolv_conf_is_read_as_the_c_library_does() {
        let (resolvers, search) = read(
            "; generated\n# by hand\ndomain old.example\nnameserver 192.168.1.1\n nameserver\t2001:db8::1 \n\
             nameserver [192.0.2.7]:5353\nnameserver not-an-address\nnameserver\nsearch a.example b.example\n\
             options timeout:1 rotate\nsortlist 130.155.160.0/255.255.240.0\n",
        );
        assert_eq!(resolvers, ["192.168.1.1", "2001:db8::1", "192.0.2.7:5353"]);
        assert_eq!(search, ["a.example", "b.example"]);
        assert_eq!(read("search a.example\ndomain b.example\n").1, ["b.example"]);
        assert_eq!(read("nameserver fe80::1%eth0\n").0, ["fe80::1"]);
    }

    #[test]
    fn leases_of_systemd_and_network_manager_are_read() {
        let (resolvers, search) = read(
            "# This is private data. Do not parse.\nADDRESS=192.168.1.20\nNETMASK=255.255.255.0\nROUTER=192.168.1.1\n\
             DNS=192.168.1.1 192.168.1.2\nNTP=192.168.1.1\nDOMAINNAME=lan\nDOMAIN_SEARCH_LIST=a.lan b.lan\n",
        );
        assert_eq!(resolvers, ["192.168.1.1", "192.168.1.2"]);
        assert_eq!(search, ["a.lan", "b.lan"]);
        assert_eq!(read("DOMAIN_SEARCH_LIST=a.lan\nDOMAINNAME=lan\n").1, ["a.lan"]);
    }

    #[test]
    fn the_last_lease_of_dhclient_counts_until_it_expires() {
        let lease = |servers: &str, expire: &str| {
            format!(
                "lease {{\n  interface \"eth0\";\n  option domain-name-servers {servers};\n  option domain-name \"lan\";\n\
                 \x20 option domain-search \"a.lan\", \"b.lan\";\n  expire {expire};\n}}\n"
            )
        };
        let old = lease("192.0.2.1", "1 2026/05/16 23:00:00");
        let new = lease("192.0.2.2, 192.0.2.3", "1 2026/05/17 01:00:00");
        let (resolvers, search) = read(&(old.clone() + &new));
        assert_eq!(resolvers, ["192.0.2.2", "192.0.2.3"]);
        assert_eq!(search, ["a.lan", "b.lan"]);
        assert_eq!(read(&old), (Vec::new(), Vec::new()));
        assert_eq!(read(&lease("192.0.2.4", "never")).0, ["192.0.2.4"]);
    }

    #[test]
    fn noise_says_nothing_and_there_is_a_bound() {
        let noise: String = (0..5_000_u32)
            .map(|n| char::from(u8::try_from(n * 7 % 251).unwrap()))
            .collect();
        parse(&noise, "2026-05-17");
        let many = "nameserver 192.0.2.1\n".repeat(1_000);
        assert_eq!(read(&many).0.len(), EACH_MAX);
        let long = format!("search {}\n", "a.example ".repeat(1_000));
        assert_eq!(read(&long).1.len(), EACH_MAX);
    }
}
