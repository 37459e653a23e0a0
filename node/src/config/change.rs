//! What a reload can change and what needs a restart.
//!
//! A socket, a directory, the size of a table and the shape of log lines are decided once. A file that changes one of
//! these is applied all the same: the running value stays, and the key is named until the file or the process agrees.

use super::{CacheConfig, Config, Encrypted, Listen, Log, MeshConfig};

/// Puts into `new` what cannot change while the node runs, and names the keys that say otherwise.
/// `state_dir_is_given`: the command line or the service manager says where state is kept, whatever the file says.
#[must_use]
pub(crate) fn keep_running(new: &mut Config, running: &Config, state_dir_is_given: bool) -> Vec<&'static str> {
    // No `..` here: whoever adds a key has to say whether it can change.
    let Config {
        source: _,
        state_dir,
        reload: _,
        tls_groups: _,
        listen:
            Listen {
                dns,
                admin,
                admin_is_named: _,
                allow: _,
                encrypted,
            },
        providers: _,
        bootstrap: _,
        routes: _,
        network: _,
        dns64: _,
        select: _,
        local_zones,
        mesh,
        cache:
            CacheConfig {
                size_bytes,
                min_ttl: _,
                max_ttl: _,
                max_stale: _,
                persist,
            },
        limits: _,
        log: Log { level: _, format },
    } = new;
    let mut keys = Vec::new();
    let mut keep = |key, differs: bool| {
        if differs {
            keys.push(key);
        }
    };
    keep("state-dir", !state_dir_is_given && *state_dir != running.state_dir);
    keep("listen.dns", *dns != running.listen.dns);
    keep_encrypted(encrypted, &running.listen.encrypted, &mut keep);
    keep("listen.admin", *admin != running.listen.admin);
    keep("local-zones", *local_zones != running.local_zones);
    keep_mesh(mesh, running.mesh.as_ref(), &mut keep);
    keep("cache.size", *size_bytes != running.cache.size_bytes);
    keep("cache.persist", *persist != running.cache.persist);
    keep("log.format", *format != running.log.format);
    state_dir.clone_from(&running.state_dir);
    dns.clone_from(&running.listen.dns);
    *admin = running.listen.admin;
    local_zones.clone_from(&running.local_zones);
    *persist = running.cache.persist;
    *size_bytes = running.cache.size_bytes;
    *format = running.log.format;
    keys
}

/// The same of encrypted listeners: where they are is decided once, what they show and where DoH is asked is not.
fn keep_encrypted(new: &mut Encrypted, running: &Encrypted, keep: &mut impl FnMut(&'static str, bool)) {
    let Encrypted {
        tls,
        https,
        h3,
        quic,
        doh_path: _,
        files: _,
    } = new;
    keep("listen.tls", *tls != running.tls);
    keep("listen.https", *https != running.https);
    keep("listen.h3", *h3 != running.h3);
    keep("listen.quic", *quic != running.quic);
    tls.clone_from(&running.tls);
    https.clone_from(&running.https);
    h3.clone_from(&running.h3);
    quic.clone_from(&running.quic);
}

/// The same of `[mesh]`: a cluster is joined once, who is of it changes.
fn keep_mesh(new: &mut Option<MeshConfig>, running: Option<&MeshConfig>, keep: &mut impl FnMut(&'static str, bool)) {
    keep("mesh", new.is_some() != running.is_some());
    let (Some(new), Some(running)) = (new.as_mut(), running) else {
        *new = running.cloned();
        return;
    };
    let MeshConfig {
        cluster,
        operator,
        site,
        listen,
        peers: _,
        influence: _,
    } = new;
    keep("mesh.cluster", *cluster != running.cluster);
    keep("mesh.operator", *operator != running.operator);
    keep("mesh.site", *site != running.site);
    keep("mesh.listen", *listen != running.listen);
    cluster.clone_from(&running.cluster);
    operator.clone_from(&running.operator);
    site.clone_from(&running.site);
    listen.clone_from(&running.listen);
}

/// All keys that need a restart, for documentation and metrics; `mesh` is the section, there or not.
pub(crate) const RESTART_KEYS: [&str; 16] = [
    "state-dir",
    "listen.dns",
    "listen.tls",
    "listen.https",
    "listen.h3",
    "listen.quic",
    "listen.admin",
    "local-zones",
    "mesh",
    "mesh.cluster",
    "mesh.operator",
    "mesh.site",
    "mesh.listen",
    "cache.size",
    "cache.persist",
    "log.format",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(text: &str) -> Config {
        let rest = "\n[[provider]]\nname = \"a\"\nendpoints = [\"udp://192.0.2.1\"]\n";
        Config::parse(&format!("version = 1\n{text}{rest}"), Path::new("/etc/detour.toml")).unwrap()
    }

    #[test]
    fn keys_that_need_a_restart_are_documented() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let document = std::fs::read_to_string(directory.join("docs/CONFIG.md")).unwrap();
        let keys = RESTART_KEYS.map(|key| format!("`{key}`")).join(", ");
        assert!(
            document.contains(&format!("These keys need a restart: {keys}.")),
            "{keys}"
        );
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays_as_it_runs() {
        let mesh = "[mesh]\ncluster = \"a\"\n";
        let running = parse(mesh);
        let text = "state-dir = \"/x\"\nreload = \"watch\"\n[listen]\ndns = [\"127.0.0.1:53\"]\n\
                    tls = [\"127.0.0.1:853\"]\nhttps = [\"127.0.0.1:443\"]\nh3 = [\"127.0.0.1:443\"]\nquic = [\"127.0.0.1:853\"]\n\
                    cert = \"c.pem\"\nkey = \"k.pem\"\ndoh-path = \"/q\"\nadmin = \"off\"\nallow = [\"127.0.0.1\"]\n[local-zones]\nlocal = false\n[cache]\nsize = \"1MiB\"\nmin-ttl = \"1s\"\nmax-ttl = \"1h\"\nmax-stale = \"0s\"\npersist = \"off\"\n\
                    [mesh]\ncluster = \"b\"\nsite = \"x\"\nlisten = [\"/ip4/127.0.0.1/udp/1/quic-v1\"]\n\
                    peers = [\"/p2p/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq\"]\ninfluence = \"none\"\n\
                    [log]\nlevel = \"debug\"\nformat = \"json\"\n";
        let (written, mut new) = (parse(text), parse(text));
        let keys: Vec<&str> = RESTART_KEYS.into_iter().filter(|key| *key != "mesh").collect();
        assert_eq!(keep_running(&mut new, &running, false), keys);
        let (kept, wanted) = (new.mesh.unwrap(), written.mesh.unwrap());
        assert_eq!((kept.peers, kept.influence), (wanted.peers, wanted.influence));
        let before = running.mesh.clone().unwrap();
        assert_eq!(
            (kept.cluster, kept.operator, kept.site, kept.listen),
            (before.cluster, before.operator, before.site, before.listen)
        );
        assert_eq!(new.listen.dns, running.listen.dns);
        let (kept, wanted) = (new.listen.encrypted.clone(), written.listen.encrypted.clone());
        assert_eq!(kept.addresses().count(), 0);
        assert_eq!((kept.files, kept.doh_path), (wanted.files, wanted.doh_path));
        assert_eq!(
            (new.state_dir, new.log.format),
            (running.state_dir.clone(), running.log.format)
        );
        assert_eq!(
            (new.listen.allow, new.log.level),
            (written.listen.allow.clone(), written.log.level)
        );
        let mut given = parse(text);
        assert_eq!(keep_running(&mut given, &running, true), keys[1..]);
        assert_eq!(keep_running(&mut parse(mesh), &running, false), [""; 0]);
        let mut without = parse("");
        assert_eq!(keep_running(&mut without, &running, false), ["mesh"]);
        assert_eq!(without.mesh, running.mesh);
        let mut with = parse(mesh);
        assert_eq!(keep_running(&mut with, &parse(""), false), ["mesh"]);
        assert_eq!(with.mesh, None);
    }
}
