//! One of three providers breaks in the middle of a load of names nobody asked before: no client notices by more than
//! a delay, and the node knows who it was and when it is over.

use std::time::Duration;

use detour_rig::{Fake, Fault, FreshNames, Grade, Ledger, ListedTransports, Load, LoadConfig, TransportSel, load};
use tokio::task::JoinSet;

use crate::node::{Node, blocks, config, fake, until};

/// New names a second.
const RATE: u32 = 50;
/// How long a load lasts.
const LASTS: Duration = Duration::from_secs(4);
/// When its fault is switched on.
const BREAKS_AT: Duration = Duration::from_secs(1);
/// How long health may take to see what is promised within a few seconds.
const HEALTH_PATIENCE: Duration = Duration::from_secs(40);

struct Site {
    fakes: [Fake; 3],
    node: Node,
}

impl Site {
    async fn start(listed: ListedTransports) -> Self {
        let fakes = ["one", "two", "three"].map(fake);
        let [one, two, three] = &fakes;
        let node = Node::start(&config(&blocks(&[one, two, three], listed))).await;
        Self { fakes, node }
    }

    /// The provider that was asked most.
    fn busiest(&self) -> &Fake {
        self.fakes.iter().max_by_key(|fake| fake.stats().queries()).unwrap()
    }

    fn load(&self, seed: u64, duration: Duration) -> LoadConfig {
        let names = FreshNames {
            seed,
            ..FreshNames::default()
        };
        LoadConfig {
            names,
            ..LoadConfig::new(self.node.dns(), RATE, duration)
        }
    }
}

/// Queries that were lost, wrong or in error. Late ones are a benchmark's matter: the machine may be late.
pub(crate) fn hurt(ledger: &Ledger) -> Vec<String> {
    let badly = ledger.hurt().filter(|record| record.grade() != Grade::Late);
    badly
        .map(|record| {
            format!(
                "{} after {:?}: {:?}",
                ledger.name(record),
                record.scheduled,
                record.grade()
            )
        })
        .collect()
}

/// A load with a fault in the middle; what went wrong.
async fn endure(listed: ListedTransports, fault: Fault, seed: u64) -> Result<(), String> {
    let site = Site::start(listed).await;
    let load = Load::start(site.load(seed, LASTS)).unwrap();
    tokio::time::sleep_until(load.started() + BREAKS_AT).await;
    site.busiest().set_fault(TransportSel::All, fault);
    let ledger = load.finish().await.unwrap();
    assert_eq!(ledger.records.len(), 200);
    let hurt = hurt(&ledger);
    if hurt.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{fault}, {} stalled {:?}: {hurt:#?}\n{}",
            site.busiest().name(),
            ledger.stall,
            site.node.log()
        ))
    }
}

/// All faults at once, each with a node and providers of its own.
async fn endure_each(listed: ListedTransports, faults: &[Fault]) {
    let mut runs = JoinSet::new();
    for (seed, fault) in (1..).zip(faults.iter().copied()) {
        runs.spawn(endure(listed, fault, seed));
    }
    let failures: Vec<_> = runs.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn no_fault_of_one_provider_over_udp_loses_a_query() {
    endure_each(
        ListedTransports::Udp,
        &[
            Fault::Blackhole,
            Fault::Servfail,
            Fault::Refused,
            Fault::Garbage,
            Fault::Wrongid,
            Fault::Truncate,
            Fault::Rst,
            Fault::Slow(Duration::from_millis(1_500)),
        ],
    )
    .await;
}

#[tokio::test]
async fn no_fault_of_one_provider_over_tcp_loses_a_query() {
    endure_each(
        ListedTransports::Tcp,
        &[Fault::Blackhole, Fault::Rst, Fault::Garbage, Fault::Servfail],
    )
    .await;
}

/// A second of load that hurts nobody: health learns from clients' queries.
async fn keep_asking(site: &Site, seed: &mut u64) {
    *seed += 1;
    let ledger = load::run(site.load(*seed, Duration::from_secs(1))).await.unwrap();
    assert_eq!(hurt(&ledger), [""; 0], "{}", site.node.log());
}

async fn break_and_mend(fault: Fault) {
    let site = Site::start(ListedTransports::Udp).await;
    let mut seed = 100;
    keep_asking(&site, &mut seed).await;
    let broken = site.busiest();
    broken.set_fault(TransportSel::All, fault);
    until("it is down", HEALTH_PATIENCE, async || {
        keep_asking(&site, &mut seed).await;
        site.node.state_of(broken.name()).await == "down"
    })
    .await;
    for fake in site.fakes.iter().filter(|fake| fake.name() != broken.name()) {
        assert_eq!(site.node.state_of(fake.name()).await, "up", "{fault}");
    }
    broken.set_fault(TransportSel::All, Fault::None);
    let answered = broken.stats().udp.answered;
    until("it is up and used again", HEALTH_PATIENCE, async || {
        keep_asking(&site, &mut seed).await;
        let share = broken.stats().udp.answered - answered;
        site.node.state_of(broken.name()).await == "up" && share > u64::from(RATE) / 5
    })
    .await;
}

#[tokio::test]
async fn a_broken_provider_is_down_and_comes_back_when_it_is_mended() {
    tokio::join!(break_and_mend(Fault::Blackhole), break_and_mend(Fault::Servfail));
}
