//! Encrypted DNS as clients see it: the same answers over every transport, in any order, padded where that was asked for,
//! and for those who may ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_rig::{FreshNames, Law, zone};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::{Resolver, TokioResolver};

use crate::client::Tcp;
use crate::message::{Message, Reply, opt, option, rcode, rtype};
use crate::node::{fake, fake_with};
use crate::secure::{NAME, PATH, Site, get};

/// EDNS options.
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;
/// The block of padded replies (RFC 8467 section 4.1).
const BLOCK: usize = 468;

/// hickory's resolver over this connection alone.
fn foreign(site: &Site, address: SocketAddr, mut connection: ConnectionConfig) -> TokioResolver {
    connection.port = address.port();
    let server = NameServerConfig::new(address.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let mut builder = builder.with_tls_config(site.tls(&[]));
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().unwrap()
}

#[tokio::test]
async fn a_client_by_other_people_is_answered_over_every_encrypted_transport() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let (name, path) = (Arc::<str>::from(NAME), Some(Arc::<str>::from(PATH)));
    for (what, connection) in [
        ("tls", ConnectionConfig::tls(Arc::clone(&name))),
        ("https", ConnectionConfig::https(Arc::clone(&name), path.clone())),
        ("quic", ConnectionConfig::quic(Arc::clone(&name))),
        ("h3", ConnectionConfig::h3(Arc::clone(&name), path)),
    ] {
        let client = foreign(&site, site.node.listening(what), connection);
        for index in 0..3 {
            let asked = format!("{what}{index}.cedar-mill.org");
            // The second time from the cache.
            for _ in 0..2 {
                let lookup = client.lookup(format!("{asked}."), RecordType::A).await;
                let lookup = lookup.unwrap_or_else(|error| panic!("{what}: {error}"));
                let address = lookup.message().answers[0].data.to_string();
                assert_eq!(address, zone::expected_a(&asked).unwrap().to_string(), "{what}");
            }
        }
        let label = format!("transport=\"{what}\"");
        assert_eq!(
            site.node.metric("detour_dns_queries_total", &[&label]).await,
            6,
            "{what}"
        );
    }
}

/// A fresh name whose answer takes this long under the bimodal law.
fn name_taking(from_ms: u64, to_ms: u64) -> String {
    let wanted = Duration::from_millis(from_ms)..Duration::from_millis(to_ms);
    let names = FreshNames::default();
    let mut names = (0..).map(|index| names.name(index));
    names.find(|name| wanted.contains(&Law::Bimodal.latency(name))).unwrap()
}

#[tokio::test]
async fn a_fast_answer_overtakes_a_slow_one_on_every_transport() {
    let fake = fake_with("fake", Law::Bimodal);
    let site = Site::before(&[&fake]).await;
    let names = [name_taking(1_000, 1_500), name_taking(8, 12)];
    let [slow, fast] = names.clone().map(|name| Message::query(&name, rtype::A).id(0));
    let is_of = |reply: &Reply, name: &str| reply.addresses() == [zone::expected_a(name).unwrap()];
    let mut dot = site.dot().await;
    dot.send(&slow.clone().id(1).bytes()).await;
    dot.send(&fast.clone().id(2).bytes()).await;
    assert_eq!(dot.receive().await.unwrap().id, 2);
    let (two, three, doq) = (site.two().await, site.three().await, site.doq().await);
    tokio::select! {
        biased;
        _ = two.ask(&slow) => panic!("the slow one came first"),
        answer = two.ask(&fast) => assert!(is_of(&answer.reply(), &names[1])),
    }
    tokio::select! {
        biased;
        _ = three.ask(&slow) => panic!("the slow one came first"),
        answer = three.ask(&fast) => assert!(is_of(&answer.reply(), &names[1])),
    }
    tokio::select! {
        biased;
        _ = doq.ask(&slow) => panic!("the slow one came first"),
        reply = doq.ask(&fast) => assert!(is_of(&reply, &names[1])),
    }
    assert_eq!(dot.receive().await.unwrap().id, 1);
    for answer in [two.ask(&slow).await, three.ask(&slow).await] {
        assert!(is_of(&answer.reply(), &names[0]));
    }
    assert!(is_of(&doq.ask(&slow).await, &names[0]));
}

#[tokio::test]
async fn many_questions_at_once_on_one_connection_all_get_their_answers() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let (two, three, doq) = (site.two().await, site.three().await, site.doq().await);
    let names = FreshNames::default();
    // More than may be in flight on one connection, new ones and some asked twice.
    let names: Vec<_> = (0..300).map(|index| names.name(index % 250)).collect();
    let queries: Vec<_> = names.iter().map(|name| Message::query(name, rtype::A).id(0)).collect();
    for (index, query) in queries.iter().enumerate().step_by(100) {
        assert_eq!(
            two.ask(query).await.reply().addresses(),
            [zone::expected_a(&names[index]).unwrap()]
        );
    }
    let all = |asked: Vec<Reply>| {
        let pairs = asked.iter().zip(&names);
        pairs.for_each(|(reply, name)| assert_eq!(reply.addresses(), [zone::expected_a(name).unwrap()]));
        assert_eq!(asked.len(), names.len());
    };
    let https = queries.iter().map(|query| async { two.ask(query).await.reply() });
    all(join_all(https).await);
    let h3 = queries.iter().map(|query| async { three.ask(query).await.reply() });
    all(join_all(h3).await);
    all(join_all(queries.iter().map(|query| doq.ask(query))).await);
}

/// All of these at the same time, in order.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut is_done = true;
        for (future, done) in futures.iter_mut().filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(cx) {
                std::task::Poll::Ready(value) => *done = Some(value),
                std::task::Poll::Pending => is_done = false,
            }
        }
        if is_done {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures.into_iter().map(|(_, done)| done.unwrap()).collect()
}

#[tokio::test]
async fn replies_are_padded_to_468_for_clients_that_pad_over_an_encrypted_way() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let padded = |name: &str| {
        let padding = option(PADDING, &[0; 40]);
        Message::query(name, rtype::A).id(0).additional(opt(1232, 0, &padding))
    };
    let bare = |name: &str| Message::query(name, rtype::A).id(0).edns(1232);
    let (mut dot, two, three, doq) = (site.dot().await, site.two().await, site.three().await, site.doq().await);
    for name in ["pad.cedar-mill.org", "localhost", "nowhere.invalid"] {
        // New, from the cache, and from what is known here.
        for query in [padded(name), padded(name), bare(name)] {
            let sizes = [
                dot.ask(&query).await.size_bytes,
                two.ask(&query).await.body.len(),
                two.send(get(&query.bytes()), None).await.unwrap().body.len(),
                three.ask(&query).await.body.len(),
                doq.ask(&query).await.size_bytes,
            ];
            let is_padded = query.bytes() == padded(name).bytes();
            for size in sizes {
                assert_eq!(size % BLOCK == 0, is_padded, "{name}: {sizes:?}");
            }
        }
        let plain = Tcp::to(site.node.dns()).await.ask(&padded(name)).await;
        assert!(plain.size_bytes < BLOCK, "in the clear it hides nothing");
    }
}

#[tokio::test]
async fn who_may_not_ask_is_refused_inside_each_protocol() {
    let fake = fake("fake");
    let site = Site::with(&[&fake], "allow = [\"192.0.2.0/24\"]\n", "").await;
    let query = Message::query("guarded.alder-lane.com", rtype::A).id(0).edns(1232);
    let mut replies = vec![site.dot().await.ask(&query).await, site.doq().await.ask(&query).await];
    for answer in [site.two().await.ask(&query).await, site.three().await.ask(&query).await] {
        assert_eq!(answer.header("cache-control"), "no-store");
        replies.push(answer.reply());
    }
    for reply in replies {
        assert_eq!((reply.rcode, reply.extended_errors()), (rcode::REFUSED, vec![18]));
    }
    assert_eq!(fake.stats().queries(), 1, "and the probe of the start");
}

#[tokio::test]
async fn who_asks_how_long_a_connection_may_be_idle_is_told_where_that_makes_sense() {
    let fake = fake("fake");
    let limits = "\n[limits]\ntcp-idle = \"7s\"\nencrypted-idle = \"20s\"\n";
    let site = Site::with(&[&fake], "", limits).await;
    let with = |contents: &[u8]| {
        let options = option(KEEPALIVE, contents);
        Message::query("idle.cedar-mill.org", rtype::A)
            .id(0)
            .additional(opt(1232, 0, &options))
    };
    let told = |reply: &Reply| {
        let options = &reply.edns.as_ref().expect("EDNS").options;
        options
            .iter()
            .find(|(code, _)| *code == KEEPALIVE)
            .map(|(_, told)| told.clone())
    };
    let (mut tcp, mut dot) = (Tcp::to(site.node.dns()).await, site.dot().await);
    assert_eq!(told(&tcp.ask(&with(&[])).await), Some(vec![0, 70]));
    assert_eq!(told(&dot.ask(&with(&[])).await), Some(vec![0, 200]));
    // From the cache too, and for nobody who did not ask.
    assert_eq!(told(&dot.ask(&with(&[])).await), Some(vec![0, 200]));
    let silent = Message::query("idle.cedar-mill.org", rtype::A).edns(1232);
    assert_eq!(told(&dot.ask(&silent).await), None);
    assert_eq!(dot.ask(&with(&[0, 9])).await.rcode, rcode::FORMERR);
    assert_eq!(told(&site.two().await.ask(&with(&[])).await.reply()), None);
    let doq = site.doq().await;
    assert_eq!(doq.exchange(&crate::client::framed(&with(&[]).bytes())).await, None);
    assert_eq!(doq.close_code().await, 2, "DOQ_PROTOCOL_ERROR");
}

#[tokio::test]
async fn a_listener_on_the_wildcard_answers_from_the_address_that_was_asked() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let text = site
        .config
        .replace("quic = [\"127.0.0.1:0\"]", "quic = [\"0.0.0.0:0\"]");
    let node = crate::node::Node::start(&text).await;
    let query = Message::query("wild.cedar-mill.org", rtype::A).id(0);
    for own in ["127.0.0.1", "127.0.0.3"] {
        let address = SocketAddr::new(own.parse().unwrap(), node.listening("quic").port());
        // A client of QUIC takes packets from the address it asked and from no other.
        let doq = site.quic_at(address, b"doq").await;
        assert_eq!(
            doq.ask(&query).await.addresses(),
            [zone::expected_a("wild.cedar-mill.org").unwrap()]
        );
    }
}
