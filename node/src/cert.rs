//! `detour cert self-signed`: a certificate and its key for trials of encrypted listeners, and how to try them.
//!
//! Nobody vouches for it, so each client has to be told to trust it; for anything but a trial a certificate of an
//! authority is the better one. Files that are there are left alone unless it is told otherwise: the key of a working
//! certificate may be the only copy.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};

use crate::cli::{SelfSignedArgs, exit_code};
use crate::clock::Date;
use crate::durable;
use crate::output;

/// The files.
const CERT_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";
/// How long a certificate is valid: a trial is over by then.
const DAYS: u64 = 90;
/// The question of the example for curl, `example.com A` (RFC 8484 section 4.1.1 has one like it).
const EXAMPLE: &str = "AAABAAABAAAAAAAAB2V4YW1wbGUDY29tAAABAAE";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum CertError {
    /// One is there. Nothing was changed.
    #[error("{} is there already: --force replaces it, --out DIR puts the new one elsewhere", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// A name that no certificate can have.
    #[error("cannot make a certificate for these names")]
    Make(#[from] rcgen::Error),
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Runs the command; the exit code.
pub(crate) fn self_signed(args: &SelfSignedArgs) -> u8 {
    match make(args) {
        Ok(text) => output::print(&mut io::stdout().lock(), &text, exit_code::OK),
        Err(error) => {
            output::complain("cert self-signed", &error);
            exit_code::FAILED
        }
    }
}

fn make(args: &SelfSignedArgs) -> Result<String, CertError> {
    let directory = std::path::absolute(&args.out).unwrap_or_else(|_no_cwd| args.out.clone());
    let (cert, key) = (directory.join(CERT_FILE), directory.join(KEY_FILE));
    let existing = [&key, &cert].into_iter().find(|path| path.symlink_metadata().is_ok());
    if let Some(path) = existing.filter(|_| !args.force) {
        return Err(CertError::Exists { path: path.clone() });
    }
    let [yesterday, last] = [0, DAYS + 1].map(Date::yesterday_and);
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params(&args.name, yesterday, last)?.self_signed(&pair)?;
    // The key first: a certificate without one is of no use, and says so when it is used.
    write(&directory, KEY_FILE, pair.serialize_pem().as_bytes(), args.force)?;
    write(&directory, CERT_FILE, certificate.pem().as_bytes(), args.force)?;
    // Clients read it too; that it stays its owner's alone would be no harm.
    drop(fs::set_permissions(&cert, Permissions::from_mode(0o644)));
    Ok(words(&args.name, &cert, &key, last))
}

fn write(directory: &Path, name: &str, bytes: &[u8], replace: bool) -> Result<(), CertError> {
    let written = if replace {
        durable::write(directory, name, bytes)
    } else {
        durable::create(directory, name, bytes)
    };
    written.map_err(|source| {
        let path = directory.join(name);
        if source.kind() == io::ErrorKind::AlreadyExists {
            CertError::Exists { path }
        } else {
            CertError::Write { path, source }
        }
    })
}

/// For these names, and for this machine as itself.
fn params(names: &[String], from: Date, to: Date) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    for own in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let own = SanType::IpAddress(own);
        if !params.subject_alt_names.contains(&own) {
            params.subject_alt_names.push(own);
        }
    }
    let mut name = DistinguishedName::new();
    let first = names.first().map_or("detour", String::as_str);
    name.push(DnType::CommonName, first);
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let at = |date: Date| {
        let (year, month, day) = date.numbers();
        rcgen::date_time_ymd(year, month, day)
    };
    (params.not_before, params.not_after) = (at(from), at(to));
    Ok(params)
}

/// What to do with it.
fn words(names: &[String], cert: &Path, key: &Path, last: Date) -> String {
    let name = names.first().map_or("detour", String::as_str);
    let all = names.join(", ");
    let (cert, key) = (cert.display(), key.display());
    format!(
        "\
{cert}  for {all} and this machine, until {last}
{key}  its key, for its owner alone

in the configuration, for a trial on this machine:
    [listen]
    tls = [\"127.0.0.1:8853\"]
    quic = [\"127.0.0.1:8853\"]
    https = [\"127.0.0.1:8443\"]
    h3 = [\"127.0.0.1:8443\"]
    cert = \"{cert}\"
    key = \"{key}\"

ask it:
    kdig @127.0.0.1 -p 8853 +tls-ca={cert} +tls-hostname={name} example.com
    kdig @127.0.0.1 -p 8853 +tls-ca={cert} +tls-hostname={name} +quic example.com
    kdig @127.0.0.1 -p 8443 +tls-ca={cert} +tls-hostname={name} +https example.com
    curl --cacert {cert} --connect-to {name}:443:127.0.0.1:8443 'https://{name}/dns-query?dns={EXAMPLE}' | od -c

Clients have to be told to trust it. For anything but a trial take a certificate of an authority that they know.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use detour_resolver::listen::certificate::Pair;
    use expect_test::expect;

    fn args(out: &Path, force: bool) -> SelfSignedArgs {
        SelfSignedArgs {
            name: vec!["dns.office.example".to_owned(), "192.0.2.7".to_owned()],
            out: out.to_owned(),
            force,
        }
    }

    #[test]
    fn a_pair_is_made_once_and_replaced_on_demand_only() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (directory.path().join(CERT_FILE), directory.path().join(KEY_FILE));
        make(&args(directory.path(), false)).unwrap();
        let first = Pair::load(&cert, &key).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&key), mode(&cert)), (0o600, 0o644));
        let again = make(&args(directory.path(), false)).unwrap_err();
        assert!(matches!(again, CertError::Exists { path } if path == key));
        assert!(Pair::load(&cert, &key).unwrap().is_same(&first));
        fs::remove_file(&cert).unwrap();
        assert!(make(&args(directory.path(), false)).is_err(), "the key is there still");
        make(&args(directory.path(), true)).unwrap();
        assert!(!Pair::load(&cert, &key).unwrap().is_same(&first));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        assert!(make(&args(&directory.path().join("absent"), false)).is_err());
    }

    #[test]
    fn it_says_what_to_do_with_it() {
        let names = [String::from("dns.office.example")];
        expect![[r#"
            /x/cert.pem  for dns.office.example and this machine, until 2027-02-20
            /x/key.pem  its key, for its owner alone

            in the configuration, for a trial on this machine:
                [listen]
                tls = ["127.0.0.1:8853"]
                quic = ["127.0.0.1:8853"]
                https = ["127.0.0.1:8443"]
                h3 = ["127.0.0.1:8443"]
                cert = "/x/cert.pem"
                key = "/x/key.pem"

            ask it:
                kdig @127.0.0.1 -p 8853 +tls-ca=/x/cert.pem +tls-hostname=dns.office.example example.com
                kdig @127.0.0.1 -p 8853 +tls-ca=/x/cert.pem +tls-hostname=dns.office.example +quic example.com
                kdig @127.0.0.1 -p 8443 +tls-ca=/x/cert.pem +tls-hostname=dns.office.example +https example.com
                curl --cacert /x/cert.pem --connect-to dns.office.example:443:127.0.0.1:8443 'https://dns.office.example/dns-query?dns=AAABAAABAAAAAAAAB2V4YW1wbGUDY29tAAABAAE' | od -c

            Clients have to be told to trust it. For anything but a trial take a certificate of an authority that they know.
        "#]]
        .assert_eq(&words(&names, Path::new("/x/cert.pem"), Path::new("/x/key.pem"), Date::of_day(20_869)));
    }
}
