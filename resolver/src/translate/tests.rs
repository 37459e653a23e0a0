//! Questions whose translation fails, or begins and ends under different configurations.

use std::time::Duration;

use detour_core::control::Control;
use prometheus_client::registry::Registry;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::forwarder::Settings;
use crate::report::Reporter;
use crate::testing::{parts, settings, topology};

const NAME: &str = "www.example";

/// Hands on what it is told; whoever listens hears its end, too.
struct Told(mpsc::Sender<Resolved>);

impl Waiter for Told {
    fn resolved(self: Box<Self>, resolved: &Resolved, _merged: bool, _now: Time) {
        drop(self.0.try_send(resolved.clone()));
    }

    fn crowded(self: Box<Self>) {}
}

/// A data plane with a provider that a test plays.
struct Plane {
    shared: Arc<Shared>,
    control: Control,
    provider: UdpSocket,
}

impl Plane {
    async fn new(has_translator: bool) -> Self {
        let provider = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = provider.local_addr().unwrap().to_string();
        let (reporter, _) = Reporter::new();
        let (parts, control) = parts(topology(&address), &address, Arc::new(reporter));
        let shared = Shared::new(with(has_translator), parts, &mut Registry::default());
        // Whose threads read what providers say.
        crate::listen::serve(&shared, Vec::new(), Vec::new());
        Self {
            shared,
            control,
            provider,
        }
    }

    /// The same, with or without a translator.
    fn reload(&mut self, has_translator: bool) {
        let address = self.provider.local_addr().unwrap().to_string();
        let reporter = Arc::clone(&self.shared.generation().reporter);
        let (parts, control) = parts(topology(&address), &address, reporter);
        self.shared.succeed(&with(has_translator), &parts);
        self.control = control;
    }

    fn ask(&self, ask: &Arc<Ask>) -> mpsc::Receiver<Resolved> {
        let (told, hears) = mpsc::channel(1);
        self.shared
            .ask_providers(ask, None, Box::new(Told(told)), self.shared.clock.now());
        hears
    }

    fn ask_for(&self, name: &str, qtype: u16) -> Arc<Ask> {
        Arc::new(self.shared.ask(&name.parse().unwrap(), qtype, class::IN))
    }

    /// Answers the next query: IPv4 addresses exist, others do not. What was asked for.
    async fn play(&self) -> u16 {
        let mut buffer = [0; 512];
        let came = timeout(Duration::from_secs(5), self.provider.recv_from(&mut buffer));
        let (size, from) = came.await.unwrap().unwrap();
        let end = buffer[12..size].iter().position(|byte| *byte == 0).unwrap() + 17;
        let kind = u16::from(buffer[end - 3]);
        let mut reply = buffer[..2].to_vec();
        let count = u8::from(kind == rtype::A);
        reply.extend([0x81, 0x80, 0, 1, 0, count, 0, 1 - count, 0, 0]);
        reply.extend(&buffer[12..end]);
        if kind == rtype::A {
            reply.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 198, 51, 100, 7]);
        } else {
            // The root's start of authority: without one a denial is doubted.
            reply.extend([0, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22]);
            reply.extend([0; 22]);
        }
        self.provider.send_to(&reply, from).await.unwrap();
        kind
    }

    /// A translator at work, and who waits for it.
    fn translator(&self) -> (Box<Translator>, mpsc::Receiver<Resolved>) {
        let hears = self.ask(&self.ask_for(NAME, rtype::AAAA));
        let translator = Translator {
            running: self.shared.inflight.all().pop().unwrap(),
            denied: Some(Outcome::Answer(crate::wire::tests::accepted_for(NAME, rtype::TXT))),
            prefix: prefix(),
        };
        (Box::new(translator), hears)
    }
}

fn prefix() -> Prefix {
    "2001:db8:64::/96".parse().unwrap()
}

fn with(has_translator: bool) -> Settings {
    Settings {
        translation: has_translator.then(|| Translation {
            prefix: prefix(),
            is_discovered: true,
        }),
        ..settings(8)
    }
}

async fn heard(hears: &mut mpsc::Receiver<Resolved>) -> Option<Resolved> {
    timeout(Duration::from_secs(5), hears.recv()).await.unwrap()
}

/// The addresses that came.
async fn addresses(hears: &mut mpsc::Receiver<Resolved>) -> Vec<IpAddr> {
    match heard(hears).await {
        Some(Resolved::Answer(entry)) => entry.answer.addresses().collect(),
        other => panic!("no answer: {other:?}"),
    }
}

#[tokio::test]
async fn a_denial_is_not_kept_where_the_ipv4_addresses_could_not_be_asked_for() {
    let plane = Plane::new(true).await;
    let (translator, mut hears) = plane.translator();
    let now = plane.shared.clock.now();
    translator.resolved(&Resolved::Unreached(GaveUp::NoAnswer), false, now);
    let heard_of_it = heard(&mut hears).await;
    assert!(
        matches!(heard_of_it, Some(Resolved::Unreached(GaveUp::NoAnswer))),
        "{heard_of_it:?}"
    );
    let (translator, mut hears) = plane.translator();
    translator.crowded();
    assert!(heard(&mut hears).await.is_none(), "who waits helps itself");
    let ask = plane.ask_for(NAME, rtype::AAAA);
    assert!(matches!(plane.shared.cache.find_ask(&ask, now), Found::Nothing));
}

#[tokio::test]
async fn what_began_without_a_translator_ends_without_one() {
    let mut plane = Plane::new(false).await;
    let mut hears = plane.ask(&plane.ask_for(NAME, rtype::AAAA));
    // What was put before and is asked after it is no other case.
    let (late, behind) = (
        plane.ask_for("late.example", rtype::AAAA),
        plane.ask_for(&pointer(), rtype::PTR),
    );
    plane.reload(true);
    assert_eq!(plane.play().await, rtype::AAAA);
    assert_eq!(addresses(&mut hears).await, [] as [IpAddr; 0]);
    let mut hears = plane.ask(&late);
    assert_eq!(plane.play().await, rtype::AAAA);
    assert_eq!(addresses(&mut hears).await, [] as [IpAddr; 0]);
    let mut hears = plane.ask(&behind);
    assert_eq!(plane.play().await, rtype::PTR);
    let Some(Resolved::Answer(entry)) = heard(&mut hears).await else {
        panic!("no answer");
    };
    assert!(
        entry.answer.records().all(|record| record.rtype == rtype::SOA),
        "no alias"
    );
}

#[tokio::test]
async fn what_began_with_a_translator_ends_with_it() {
    let mut plane = Plane::new(true).await;
    let mut hears = plane.ask(&plane.ask_for(NAME, rtype::AAAA));
    plane.reload(false);
    assert_eq!(plane.play().await, rtype::AAAA);
    assert_eq!(plane.play().await, rtype::A);
    let wanted: IpAddr = "2001:db8:64::198.51.100.7".parse().unwrap();
    assert_eq!(addresses(&mut hears).await, [wanted]);
}

/// The name of an address behind the prefix.
fn pointer() -> String {
    let bits = u128::from(prefix().embed(Ipv4Addr::new(8, 8, 8, 8)));
    let nibbles: Vec<String> = (0..32).map(|n| format!("{:x}", bits >> (4 * n) & 0xf)).collect();
    format!("{}.ip6.arpa", nibbles.join("."))
}
