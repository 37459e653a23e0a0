//! What a reload can change and what needs a restart.
//!
//! A socket, a directory, the size of a table and the shape of log lines are decided once. A file that changes one of
//! these is applied all the same: the running value stays, and the key is named until the file or the process agrees.

use super::{CacheConfig, Config, Listen, Log};

/// Puts into `new` what cannot change while the node runs, and names the keys that say otherwise.
/// `state_dir_is_given`: the command line or the service manager says where state is kept, whatever the file says.
#[must_use]
pub(crate) fn keep_running(new: &mut Config, running: &Config, state_dir_is_given: bool) -> Vec<&'static str> {
    // No `..` here: whoever adds a key has to say whether it can change.
    let Config {
        source: _,
        state_dir,
        reload: _,
        listen:
            Listen {
                dns,
                admin,
                admin_is_named: _,
                allow: _,
            },
        providers: _,
        select: _,
        local_zones,
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
    keep("listen.admin", *admin != running.listen.admin);
    keep("local-zones", *local_zones != running.local_zones);
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

/// All keys that need a restart, for documentation and metrics.
pub(crate) const RESTART_KEYS: [&str; 7] = [
    "state-dir",
    "listen.dns",
    "listen.admin",
    "local-zones",
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
        let running = parse("");
        let text = "state-dir = \"/x\"\nreload = \"watch\"\n[listen]\ndns = [\"127.0.0.1:53\"]\n\
                    admin = \"off\"\nallow = [\"127.0.0.1\"]\n[local-zones]\nlocal = false\n[cache]\nsize = \"1MiB\"\nmin-ttl = \"1s\"\nmax-ttl = \"1h\"\nmax-stale = \"0s\"\npersist = \"off\"\n\
                    [log]\nlevel = \"debug\"\nformat = \"json\"\n";
        let (written, mut new) = (parse(text), parse(text));
        assert_eq!(keep_running(&mut new, &running, false), RESTART_KEYS);
        assert_eq!(new.listen.dns, running.listen.dns);
        assert_eq!(
            (new.state_dir, new.log.format),
            (running.state_dir.clone(), running.log.format)
        );
        assert_eq!(
            (new.listen.allow, new.log.level),
            (written.listen.allow.clone(), written.log.level)
        );
        let mut given = parse(text);
        assert_eq!(keep_running(&mut given, &running, true), RESTART_KEYS[1..]);
        assert_eq!(keep_running(&mut parse(""), &running, false), [""; 0]);
    }
}
