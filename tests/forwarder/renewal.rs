//! The certificate of encrypted listeners: another one takes its place without a lost query, and a broken one does not.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use detour_rig::zone;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::client::{PATIENCE, Tcp};
use crate::command::Run;
use crate::message::{Message, rtype};
use crate::node::{Node, config, fake, signal, udp_blocks, until};
use crate::secure::{NAME, Site, tls_trusting};

/// The certificate that a new connection is shown.
async fn shown(site: &Site) -> CertificateDer<'static> {
    let stream = site.connect("127.0.0.1", "tls", &[b"dot"]).await.unwrap();
    let (_, tls) = stream.get_ref();
    tls.peer_certificates().unwrap()[0].clone().into_owned()
}

/// The certificate that a new connection of QUIC is shown.
async fn shown_by_quic(site: &Site) -> CertificateDer<'static> {
    let quic = site.doq().await;
    let identity = quic.connection.peer_identity().unwrap();
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().unwrap();
    chain[0].clone()
}

#[tokio::test]
async fn a_certificate_is_replaced_under_load_without_a_lost_query() {
    let fake = fake("fake");
    let site = Arc::new(Site::before(&[&fake]).await);
    let before = shown(&site).await;
    assert_eq!(shown_by_quic(&site).await, before);
    let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = JoinSet::new();
    for client in 0..4 {
        let (site, is_over, answered) = (Arc::clone(&site), Arc::clone(&is_over), Arc::clone(&answered));
        load.spawn(async move {
            let (mut dot, two, three, doq) = (site.dot().await, site.two().await, site.three().await, site.doq().await);
            let mut index = 0;
            while !is_over.load(Ordering::Relaxed) {
                index += 1;
                let name = format!("c{client}n{index}.cedar-mill.org");
                let query = Message::query(&name, rtype::A).id(0);
                let replies = [
                    dot.ask(&query).await,
                    two.ask(&query).await.reply(),
                    three.ask(&query).await.reply(),
                    doq.ask(&query).await,
                    // And over a connection of its own.
                    site.dot().await.ask(&query).await,
                ];
                for reply in replies {
                    assert_eq!(reply.addresses(), [zone::expected_a(&name).unwrap()]);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let goes_on = async || {
        let before = answered.load(Ordering::Relaxed);
        until("queries are answered", PATIENCE, async || {
            answered.load(Ordering::Relaxed) > before + 20
        })
        .await;
    };
    goes_on().await;
    let mut last = before;
    for _ in 0..3 {
        let renewed = site.renew();
        site.node.reloaded(&site.config).await;
        assert_eq!(shown(&site).await, renewed);
        assert_eq!(shown_by_quic(&site).await, renewed);
        assert_ne!(renewed, last);
        last = renewed;
        goes_on().await;
    }
    is_over.store(true, Ordering::Relaxed);
    load.join_all().await;
    let applied = site.node.metric("detour_certificate_reloads_total", &["applied"]).await;
    assert_eq!(
        (applied, site.node.metric("detour_certificate_broken", &[]).await),
        (3, 0)
    );
}

/// The warning about the certificate, if there is one.
async fn warning(node: &Node) -> Option<String> {
    let status = node.status().await;
    let warnings = status["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|line| line.as_str());
    warnings
        .filter(|line| line.starts_with("certificate: "))
        .map(str::to_owned)
        .next()
}

#[tokio::test]
async fn a_broken_pair_leaves_the_one_before_and_says_so() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let before = shown(&site).await;
    let [cert, key] = site.files();
    let good = [fs::read(&cert).unwrap(), fs::read(&key).unwrap()];
    let other_key = {
        site.renew();
        fs::read(&key).unwrap()
    };
    let mut rejected = 0;
    for (broken_cert, broken_key, what) in [
        (
            good[0].as_slice(),
            other_key.as_slice(),
            "is not the key of the certificate",
        ),
        (b"no certificate", &good[1], "holds no certificate"),
        (&good[0][..good[0].len() / 2], &good[1], "cert.pem"),
        (&good[0], b"", "holds no private key"),
    ] {
        fs::write(&cert, broken_cert).unwrap();
        fs::write(&key, broken_key).unwrap();
        site.node.reloaded(&site.config).await;
        rejected += 1;
        assert_eq!(shown(&site).await, before, "{what}");
        let said = warning(&site.node).await.unwrap();
        assert!(
            said.contains(what) && said.ends_with("; the one before is still shown"),
            "{said}"
        );
        let counted = site
            .node
            .metric("detour_certificate_reloads_total", &["rejected"])
            .await;
        assert_eq!(
            (counted, site.node.metric("detour_certificate_broken", &[]).await),
            (rejected, 1)
        );
        assert!(site.node.log().contains(what), "{what}");
    }
    assert_eq!(
        site.node.reloads("applied").await,
        rejected,
        "the rest of the file counts"
    );
    site.renew_too_late();
    site.node.reloaded(&site.config).await;
    assert_eq!(
        shown(&site).await,
        before,
        "a pair that ended in place of one that did not"
    );
    let said = warning(&site.node).await.unwrap();
    assert!(
        said.starts_with("certificate: the new one is not used (it ended "),
        "{said}"
    );
    let left_s = site.node.metric("detour_certificate_expires_seconds", &[]).await;
    assert!(left_s > 0, "{left_s}");

    let renewed = site.renew();
    site.node.reloaded(&site.config).await;
    assert_eq!((shown(&site).await, warning(&site.node).await), (renewed, None));
    assert_eq!(site.node.metric("detour_certificate_broken", &[]).await, 0);
}

#[tokio::test]
async fn a_change_of_the_files_is_noticed_where_they_are_watched() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let watching = site
        .config
        .replacen("version = 1\n", "version = 1\nreload = \"watch\"\n", 1);
    site.node.reloaded(&watching).await;
    let renewed = site.renew();
    until("the new certificate is shown", 2 * PATIENCE, async || {
        shown(&site).await == renewed
    })
    .await;
    fs::remove_file(&site.files()[0]).unwrap();
    until("its loss is told", 2 * PATIENCE, async || {
        warning(&site.node).await.is_some()
    })
    .await;
    assert_eq!(shown(&site).await, renewed);
}

#[tokio::test]
async fn a_start_with_a_broken_pair_is_a_mistake_unless_a_copy_stands_in() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let [cert, _] = site.files();
    fs::write(&cert, "no certificate").unwrap();
    let checked = std::process::Command::new(crate::node::BINARY)
        .arg("check")
        .arg(site.node.file())
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(78), "{said}");
    assert!(
        said.contains("listen.cert: ") && said.contains("holds no certificate"),
        "{said}"
    );
    // A node that runs is not bothered.
    signal(site.node.id(), "HUP");
    let query = Message::query("runs.cedar-mill.org", rtype::A).id(0);
    assert_eq!(
        site.dot().await.ask(&query).await.addresses(),
        [zone::expected_a("runs.cedar-mill.org").unwrap()]
    );
}

#[tokio::test]
async fn a_pair_for_trials_is_shown_to_whoever_trusts_it() {
    let fake = fake("fake");
    let directory = tempfile::tempdir().unwrap();
    let mut made = Run::inside(&["cert", "self-signed", "--name", NAME], directory.path());
    assert_eq!(made.exit_code().await, 0, "{}", made.stderr());
    assert!(made.stdout().contains("+tls-ca="), "{}", made.stdout());
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    let lines = format!("[listen]\ntls = [\"127.0.0.1:0\"]\ncert = {cert:?}\nkey = {key:?}");
    let node = Node::start(&config(&udp_blocks(&[&fake])).replacen("[listen]", &lines, 1)).await;
    node.has_looked(1).await;
    let tls = tls_trusting(&fs::read_to_string(&cert).unwrap(), &[b"dot"]);
    for name in [NAME, "127.0.0.1"] {
        let stream = TcpStream::connect(node.listening("tls")).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        let connecting = TlsConnector::from(Arc::new(tls.clone())).connect(name, stream);
        let reply = Tcp::over(connecting.await.unwrap())
            .ask(&Message::query("trial.cedar-mill.org", rtype::A).id(0))
            .await;
        assert_eq!(reply.addresses(), [zone::expected_a("trial.cedar-mill.org").unwrap()]);
    }
    let mut again = Run::inside(&["cert", "self-signed", "--name", NAME], directory.path());
    assert_eq!(again.exit_code().await, 1, "what is there is not replaced unasked");
}
