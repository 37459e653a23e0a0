//! Connections to providers and how they end: announced, on request, by a limit that was told or seen, with queries in
//! flight and without.

use std::time::Duration;

use detour_rig::{Closing, ConnectionLimits, Fault, ListedTransports, Transport, TransportSel};
use tokio::task::JoinSet;

use crate::client::{PATIENCE, Udp};
use crate::encrypted::{Ground, Site};
use crate::message::{Message, rcode, rtype};
use crate::node::until;

impl Site {
    /// Asks this many names at once, and does not wait for the answers.
    fn begin_many(&mut self, count: usize) -> JoinSet<u16> {
        let mut asks = JoinSet::new();
        for _ in 0..count {
            let (name, dns) = (self.next_name(), self.node.dns());
            asks.spawn(async move { Udp::to(dns).await.ask(&Message::query(&name, rtype::A)).await.rcode });
        }
        asks
    }

    async fn attempts(&self, why: &str) -> u64 {
        let label = format!("why=\"{why}\"");
        self.node.metric("detour_attempts_total", &[&label]).await
    }

    /// Probes so far: each has a connection of its own.
    async fn probes(&self) -> u64 {
        self.node.metric("detour_probes_total", &[]).await
    }
}

#[tokio::test]
async fn a_connection_that_says_goaway_answers_what_it_has_and_another_one_takes_the_rest() {
    let ground = Ground {
        providers: 1,
        ..Ground::new(ListedTransports::Doh)
    };
    let mut site = Site::on(ground).await;
    site.ask_many(10).await;
    // Still in time: nobody asks twice.
    site.fakes[0].set_fault(TransportSel::All, Fault::Slow(Duration::from_millis(80)));
    let before = site.fakes[0].stats().doh;
    let first = site.begin_many(20);
    until("they are in flight", PATIENCE, async || {
        site.fakes[0].stats().doh.queries >= before.queries + 20
    })
    .await;
    site.fakes[0].close_connections(TransportSel::All, Closing::Polite);
    let second = site.begin_many(20);
    for rcodes in [first.join_all().await, second.join_all().await] {
        assert_eq!(rcodes, [rcode::NOERROR; 20]);
    }
    let after = site.fakes[0].stats().doh;
    let (attempts, probes) = (
        site.node.metric("detour_attempts_total", &[]).await,
        site.probes().await,
    );
    // One whose lookup was over before it could be written is not.
    assert!(
        after.queries <= attempts + probes,
        "a query was written twice: {after:?}, {attempts} and {probes}"
    );
    assert!(after.connections <= 2 + probes, "{after:?}");
    // On a busy machine a query may be asked twice, and then one of the two is taken back.
    let twice = attempts + probes - 50;
    assert!(
        after.queries - after.answered <= twice,
        "{after:?}, {twice} more than were asked"
    );
}

#[tokio::test]
async fn who_asks_to_be_left_alone_is_not_asked_before_it_said_and_others_take_over() {
    let mut site = Site::on(Ground::new(ListedTransports::DohDotUdp)).await;
    site.ask_many(30).await;
    site.fakes[0].set_fault(TransportSel::All, Fault::Http429(30));
    until("it was asked", PATIENCE, async || {
        site.ask_well().await;
        site.endpoints("one").await[0]["place_why"] == "throttled"
    })
    .await;
    let own = site.endpoints("one").await[0].clone();
    assert_eq!(own["place"], "out");
    assert_eq!(own["state"], "up", "it is no failure");
    assert!((10_000..=30_000).contains(&own["paused_ms"].as_u64().unwrap()), "{own}");
    let summary = site.node.status().await["summary"].as_str().unwrap().to_owned();
    assert!(summary.contains("wants to be left alone for "), "{summary}");
    let before = site.fakes[0].stats();
    site.ask_many(60).await;
    assert_eq!(site.fakes[0].stats().queries(), before.queries(), "others take over");
    assert_eq!(site.in_the_clear(), 0);
}

#[tokio::test]
async fn who_wanted_to_be_left_alone_for_a_second_is_asked_again() {
    let mut site = Site::on(Ground::new(ListedTransports::Doh)).await;
    site.ask_many(30).await;
    site.fakes[0].set_fault(TransportSel::All, Fault::Http429(1));
    until("it was asked", PATIENCE, async || {
        site.ask_well().await;
        site.endpoints("one").await[0]["place_why"] == "throttled"
    })
    .await;
    site.fakes[0].set_fault(TransportSel::All, Fault::None);
    let before = site.fakes[0].stats().doh.queries;
    until("it is asked again", PATIENCE, async || {
        site.ask_well().await;
        site.fakes[0].stats().doh.queries > before
    })
    .await;
}

#[tokio::test]
async fn when_all_want_to_be_left_alone_nothing_is_asked_in_the_clear_in_their_place() {
    let mut site = Site::on(Ground::new(ListedTransports::DohDotUdp)).await;
    site.ask_many(30).await;
    site.set_fault(TransportSel::All, Fault::Http429(600));
    site.set_fault(TransportSel::Only(Transport::Dot), Fault::Rst);
    until("all have said so", PATIENCE, async || {
        site.begin_many(10).join_all().await;
        let mut all = true;
        for provider in ["one", "two", "three"] {
            all &= site.endpoints(provider).await[0]["place_why"] == "throttled";
        }
        all
    })
    .await;
    let (before, probes) = (site.sum(Transport::Doh, |stats| stats.queries), site.probes().await);
    assert_eq!(site.begin_many(10).join_all().await, [rcode::SERVFAIL; 10]);
    let since = site.sum(Transport::Doh, |stats| stats.queries) - before;
    assert!(since <= site.probes().await - probes, "{since} queries");
    assert_eq!(site.in_the_clear(), 0);
}

#[tokio::test]
async fn an_idle_limit_that_is_told_is_kept_from_the_first_connection_on() {
    for listed in [ListedTransports::Dot, ListedTransports::Tcp] {
        let limits = ConnectionLimits {
            idle: Some(Duration::from_millis(1_500)),
            told_idle: Some(15),
            ..ConnectionLimits::default()
        };
        let ground = Ground {
            limits,
            ..Ground::new(listed)
        };
        let mut site = Site::on(ground).await;
        site.ask_many(20).await;
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        for transport in [Transport::Dot, Transport::Tcp] {
            assert_eq!(site.sum(transport, |stats| stats.closed_idle), 0, "{listed}");
        }
        site.ask_well().await;
    }
}

#[tokio::test]
async fn a_server_that_wants_each_connection_closed_is_asked_on_new_ones() {
    let limits = ConnectionLimits {
        told_idle: Some(0),
        ..ConnectionLimits::default()
    };
    let ground = Ground {
        limits,
        providers: 1,
        ..Ground::new(ListedTransports::Dot)
    };
    let mut site = Site::on(ground).await;
    for _ in 0..5 {
        site.ask_well().await;
    }
    let stats = site.fakes[0].stats().dot;
    assert!(stats.connections >= 5, "{stats:?}");
    until("none is kept", PATIENCE, async || site.fakes[0].stats().dot.open == 0).await;
    // Many at once share one until it is known that it is the last.
    site.ask_many(20).await;
    assert_eq!(site.attempts("retry").await, 0, "{}", site.node.log());
}

#[tokio::test]
async fn a_query_without_an_answer_does_not_cost_others_their_connection() {
    const ROUNDS: u64 = 10;
    for (listed, transport) in [
        (ListedTransports::Tcp, Transport::Tcp),
        (ListedTransports::Dot, Transport::Dot),
        (ListedTransports::Doh, Transport::Doh),
        (ListedTransports::Doq, Transport::Doq),
        (ListedTransports::Doh3, Transport::Doh3),
    ] {
        let ground = Ground {
            providers: 1,
            ..Ground::new(listed)
        };
        let mut site = Site::on(ground).await;
        site.ask_many(10).await;
        site.fakes[0].set_fault(TransportSel::All, Fault::Loss(0.1));
        for _ in 0..ROUNDS {
            site.begin_many(20).join_all().await;
        }
        let (stats, probes) = (*site.fakes[0].stats().of(transport), site.probes().await);
        assert!(stats.dropped > ROUNDS, "{stats:?}");
        // One at most for every other round; a machine that is busy elsewhere makes a connection look silent.
        assert!(
            stats.connections <= ROUNDS / 2 + probes,
            "{listed}: {probes} probes, {stats:?}"
        );
    }
}

#[tokio::test]
async fn a_query_now_and_then_finds_a_connection_and_needs_no_hedge() {
    // A tenth of what people see: a query every 15 s, and a server that closes what was idle for 12.
    let limits = ConnectionLimits {
        idle: Some(Duration::from_millis(1_200)),
        ..ConnectionLimits::default()
    };
    let ground = Ground {
        limits,
        ..Ground::new(ListedTransports::Dot)
    };
    let mut site = Site::on(ground).await;
    // The limit is learned.
    site.ask_many(20).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let before = site.sum(Transport::Dot, |stats| stats.closed_idle);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        site.ask_well().await;
    }
    let closed = site.sum(Transport::Dot, |stats| stats.closed_idle) - before;
    assert!(closed <= 2, "connections are closed before the server does: {closed}");
    assert_eq!(site.attempts("retry").await, 0, "{}", site.node.log());
    let hedges = site.attempts("hedge").await;
    // One in thirty queries: a machine that does other things, too, may be late once.
    assert!(hedges <= 1, "{hedges} hedges\n{}", site.node.log());
}

#[tokio::test]
async fn the_two_best_providers_are_connected_before_they_are_asked() {
    let mut site = Site::on(Ground::new(ListedTransports::Dot)).await;
    // One query for one of three.
    site.ask_well().await;
    until("two are connected", PATIENCE, async || {
        let open = site.fakes.iter().filter(|fake| fake.stats().dot.open > 0);
        open.count() >= 2
    })
    .await;
}

#[tokio::test]
async fn a_server_that_allows_two_requests_at_once_is_asked_two_at_a_time() {
    let limits = ConnectionLimits {
        streams_max: 2,
        ..ConnectionLimits::default()
    };
    let ground = Ground {
        limits,
        ..Ground::new(ListedTransports::Doh)
    };
    let mut site = Site::on(ground).await;
    for _ in 0..5 {
        assert_eq!(site.begin_many(24).join_all().await, [rcode::NOERROR; 24]);
    }
}
