//! What a server must prove before it learns a name: who it is, that its key is the one that is known, and when its
//! certificate holds; and what a wrong clock makes of that.

use detour_rig::{Fake, Fault, ListedTransports, Transport, TransportSel};

use crate::client::PATIENCE;
use crate::encrypted::{Ground, Site};
use crate::message::rcode;
use crate::node::until;

/// A key that nobody has: the hash of nothing.
const NOBODYS: &str = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn pins(own: &[&str]) -> String {
    format!("pins = {own:?}\n")
}

#[tokio::test]
async fn the_name_of_an_endpoint_is_sni_certificate_name_and_authority() {
    for (listed, transport) in [
        (ListedTransports::Dot, Transport::Dot),
        (ListedTransports::Doh, Transport::Doh),
    ] {
        let mut site = Site::on(Ground::new(listed)).await;
        site.ask_many(30).await;
        let fake = &site.fakes[0];
        assert_eq!(fake.last_server_name(transport), Some(fake.server_name().into()));
        if transport == Transport::Doh {
            let port = fake.address_of(transport).unwrap().port();
            let authority = format!("{}:{port}", fake.server_name());
            assert_eq!(fake.last_authority(transport), Some(authority.into()));
        }
    }
}

#[tokio::test]
async fn a_server_that_never_completes_a_handshake_is_a_cause_of_its_own() {
    let ground = Ground {
        fault: Fault::TlsStall,
        ..Ground::new(ListedTransports::DotUdp)
    };
    let mut site = Site::on(ground).await;
    until("its cause is told", PATIENCE, async || {
        site.ask_well().await;
        site.states("one").await[0].contains("(tls-stalled)")
    })
    .await;
    assert_eq!(site.in_the_clear(), 0);
}

#[tokio::test]
async fn a_pinned_key_is_asked_and_another_one_is_not() {
    let of_provider = |fake: &Fake| match fake.name() {
        "one" => pins(&[NOBODYS]),
        // The key in use is the second one.
        _ => pins(&[NOBODYS, fake.pin(Transport::Dot).unwrap()]),
    };
    let ground = Ground {
        of_provider: &of_provider,
        ..Ground::new(ListedTransports::DotUdp)
    };
    let mut site = Site::on(ground).await;
    until("the cause is told", PATIENCE, async || {
        site.ask_well().await;
        site.states("one").await[0].contains("(tls-pin)")
    })
    .await;
    assert_eq!(site.fakes[0].stats().dot.queries, 0, "a name was told to a stranger");
    assert!(site.fakes[1].stats().dot.queries > 0);
    assert_eq!(site.in_the_clear(), 0);
}

#[tokio::test]
async fn a_pin_does_not_make_up_for_a_certificate() {
    let of_provider = |fake: &Fake| pins(&[fake.pin(Transport::Dot).unwrap()]);
    let ground = Ground {
        of_provider: &of_provider,
        select: "encryption = \"require\"",
        fault: Fault::TlsExpired,
        ..Ground::new(ListedTransports::Dot)
    };
    let mut site = Site::on(ground).await;
    until("the cause is told", PATIENCE, async || {
        site.ask_well().await;
        site.states("one").await[0].contains("(tls-expired)")
    })
    .await;
    assert_eq!(site.fakes[0].stats().dot.queries, 0);
}

#[tokio::test]
async fn where_no_key_is_the_pinned_one_nothing_is_asked_at_all() {
    let of_provider = |_: &Fake| pins(&[NOBODYS]);
    let ground = Ground {
        of_provider: &of_provider,
        select: "encryption = \"require\"",
        ..Ground::new(ListedTransports::DohDotUdp)
    };
    let mut site = Site::on(ground).await;
    for _ in 0..3 {
        assert_eq!(site.ask().await.rcode, rcode::SERVFAIL);
    }
    assert_eq!(site.sum(Transport::Dot, |stats| stats.queries), 0);
    assert_eq!(site.sum(Transport::Doh, |stats| stats.queries), 0);
    assert_eq!(site.in_the_clear(), 0);
}

#[tokio::test]
async fn keys_are_agreed_as_the_configuration_says() {
    for (top, group) in [
        ("", "X25519MLKEM768"),
        ("tls-groups = [\"secp384r1\", \"X25519\"]", "secp384r1"),
    ] {
        let ground = Ground {
            top,
            providers: 1,
            ..Ground::new(ListedTransports::Dot)
        };
        let mut site = Site::on(ground).await;
        site.ask_well().await;
        assert_eq!(site.fakes[0].last_key_exchange(Transport::Dot), Some(group.into()));
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told_and_costs_encryption_but_no_answers() {
    for (fault, told) in [
        (
            Fault::TlsExpired,
            "but the certificates of 3 operators ended by 2020-01-0",
        ),
        (Fault::TlsNotYetValid, "operators do not begin before 2090-01-01"),
    ] {
        let mut site = Site::on(Ground::new(ListedTransports::DohDotUdp)).await;
        site.set_fault(TransportSel::All, fault);
        until("names are answered", PATIENCE, async || {
            site.ask().await.rcode == rcode::NOERROR
        })
        .await;
        let summary = async |site: &Site| site.node.status().await["summary"].as_str().unwrap().to_owned();
        until("the clock is named", PATIENCE, async || {
            let summary = summary(&site).await;
            summary.starts_with("this machine's clock is wrong: it says 2") && summary.contains(told)
        })
        .await;
        assert!(
            site.node.log().contains("this machine's clock is wrong"),
            "{}",
            site.node.log()
        );
        assert_eq!(site.node.metric("detour_clock_wrong", &[]).await, 1);
        site.set_fault(TransportSel::All, Fault::None);
        until("all is well", PATIENCE, async || {
            site.ask().await;
            !summary(&site).await.contains("clock")
        })
        .await;
        assert_eq!(site.node.metric("detour_clock_wrong", &[]).await, 0);
    }
}
