//! Laws under any inputs: no panic, bounds, editions that never go back, at most one publication in 100 ms.

use proptest::prelude::*;

use super::*;

/// Nodes that inputs are about: members are 90, 120 and 121, some are strangers, one is this node.
const NODES: [u8; 7] = [90, 120, 121, 33, 34, 35, 100];

#[derive(Debug, Clone)]
enum Op {
    Connected(u8, bool),
    Disconnected(u64),
    DialFailed(u8),
    Hello(u64, u64, bool, bool, Option<(u64, u64)>),
    Refused(u64),
    Snapshot(u8, u64, u32, u8, u8, Option<u32>, i64),
    Pull(u8),
    Answered(u8, i64),
    Unanswered(u8),
    Report(u64, bool),
    Members(Vec<u8>),
    Pass(u64),
    Sleep(u64),
    Stop,
}

fn op() -> impl Strategy<Value = Op> {
    let node = || prop::sample::select(&NODES[..]);
    let connection = || 1_u64..20;
    let incarnation = || {
        prop_oneof![
            Just(WALL_MS - 1),
            Just(WALL_MS + 1),
            0..5_u64,
            Just(u64::MAX),
            Just((1 << 47) - 1)
        ]
    };
    let age = || prop::option::of(prop_oneof![0..100_u32, 20_000..40_000_u32, Just(u32::MAX)]);
    let offset = || {
        prop_oneof![
            Just(0_i64),
            -3_000..3_000_i64,
            Just(600_000_i64),
            Just(i64::MIN),
            Just(i64::MAX)
        ]
    };
    prop_oneof![
        4 => (node(), any::<bool>()).prop_map(|(n, dialled)| Op::Connected(n, dialled)),
        2 => connection().prop_map(Op::Disconnected),
        1 => node().prop_map(Op::DialFailed),
        6 => (connection(), 1..4_u64, any::<bool>(), prop::bool::weighted(0.1), prop::option::of((incarnation(), 1..9_u64)))
            .prop_map(|(c, boot, request, bad, yours)| Op::Hello(c, boot, request, bad, yours)),
        1 => connection().prop_map(Op::Refused),
        6 => (node(), incarnation(), 0..6_u32, any::<u8>(), node(), age(), offset())
            .prop_map(|(of, i, s, period, by, age, off)| Op::Snapshot(of, i, s, period, by, age, off)),
        2 => node().prop_map(Op::Pull),
        2 => (node(), offset()).prop_map(|(n, off)| Op::Answered(n, off)),
        1 => node().prop_map(Op::Unanswered),
        3 => (0..6_u64, any::<bool>()).prop_map(|(urgent, down)| Op::Report(urgent, down)),
        1 => prop::collection::vec(node(), 0..5).prop_map(Op::Members),
        6 => (1..4_000_u64).prop_map(Op::Pass),
        1 => (1..2_000_000_u64).prop_map(Op::Sleep),
        1 => prop::bool::weighted(0.05).prop_map(|stop| if stop { Op::Stop } else { Op::Pass(50) }),
    ]
}

/// One input.
fn apply(bench: &mut Bench, op: Op) {
    match op {
        Op::Connected(number, dialled) => {
            bench.connect(number, dialled);
        }
        Op::Disconnected(connection) => {
            bench.give(|cluster, now| cluster.handle_disconnected(ConnectionId(connection), now));
        }
        Op::DialFailed(number) => bench.give(|cluster, now| cluster.handle_dial_failed(node(number), 0, now)),
        Op::Hello(connection, boot, request, bad, yours) => {
            let mut hello = hello(boot);
            if bad {
                hello.cluster = ClusterKey([0; 8]);
            }
            hello.yours = yours.map(|(incarnation, boot)| {
                (
                    Edition {
                        incarnation,
                        sequence: 3,
                    },
                    BootId(boot),
                )
            });
            let sample = (!request).then(|| bench.sample(0));
            let connection = ConnectionId(connection);
            let answer = bench.give(|cluster, now| cluster.handle_hello(connection, &hello, sample, now));
            assert!(!bad || answer.is_err());
        }
        Op::Refused(connection) => {
            let refusal = Refusal::OtherCluster;
            bench.give(|cluster, now| cluster.handle_refused(ConnectionId(connection), refusal, now));
        }
        Op::Snapshot(of, incarnation, sequence, period_s, by, age_ms, offset_ms) => {
            let wall_ms = bench.wall_ms().saturating_add_signed(offset_ms);
            let mut snapshot = snapshot(of, incarnation, sequence, wall_ms);
            snapshot.period_s = period_s;
            let merged = bench.bring(snapshot, Via::Pull(node(by)), age_ms);
            assert!(node(of) != OWN || merged.is_err());
        }
        Op::Pull(from) => {
            let answer = bench.give(|cluster, now| cluster.handle_pull(node(from), &[], now));
            assert!(answer.is_err() || answer.is_ok_and(|answer| answer.len() <= 64));
        }
        Op::Answered(from, offset_ms) => {
            let wall_ms = bench.wall_ms().saturating_add_signed(offset_ms);
            let sample = ClockSample {
                wall_ms,
                ..bench.sample(0)
            };
            bench.give(|cluster, now| cluster.handle_answered(node(from), sample, now));
        }
        Op::Unanswered(from) => bench.give(|cluster, now| cluster.handle_unanswered(node(from), now)),
        Op::Report(urgent, any_down) => bench.report(urgent, any_down),
        Op::Members(numbers) => {
            let members = numbers.into_iter().map(member).collect();
            bench.give(|cluster, now| cluster.handle_members(members, now));
        }
        Op::Pass(ms) => bench.pass(ms),
        Op::Sleep(ms) => {
            bench.now = bench.now.plus(ms * MS);
            bench.give(Cluster::handle_timeout);
        }
        Op::Stop => bench.give(Cluster::handle_stop),
    }
}

fn check(bench: &Bench, newest: &mut BTreeMap<NodeId, Edition>, members: &[NodeId]) {
    let cluster = &bench.cluster;
    let strangers = cluster.peers.values().filter(|peer| peer.member.is_none()).count();
    assert!(strangers <= 16 && cluster.peers.len() <= members.len() + 16);
    for (node, peer) in &cluster.peers {
        assert!(peer.connections.len() <= CONNECTIONS_PER_PEER_MAX);
        for connection in &peer.connections {
            let entry = &cluster.connections[connection];
            assert!(entry.node == *node && entry.gone.is_none());
        }
        let usable = peer.connections.iter().any(|id| cluster.connections[id].is_usable());
        assert_eq!(peer.up, peer.admitted && usable);
        assert!(peer.held.is_none() || !peer.quarantined);
    }
    newest.retain(|node, _| cluster.peers.contains_key(node));
    let own = cluster.own_edition().map(|edition| (OWN, edition));
    let highest = cluster
        .peers
        .iter()
        .filter_map(|(node, peer)| Some((*node, peer.highest?.0)));
    for (node, edition) in highest.chain(own) {
        let before = newest.insert(node, edition);
        assert!(
            before <= Some(edition),
            "{node:?} went back from {before:?} to {edition:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_breaks_a_law(ops in prop::collection::vec(op(), 1..80), seed in any::<u64>()) {
        let mut bench = Bench::new(Settings { seed, ..settings(&[90, 120, 121]) });
        let mut newest = BTreeMap::new();
        let mut last_signed = None;
        for op in ops {
            let timers = matches!(op, Op::Pass(_));
            apply(&mut bench, op);
            // One input, not counting the timers of a span of time, says little: every peer once, and every connection.
            assert!(timers || bench.said.len() <= 60, "{:?}", bench.said);
            for (at, output) in std::mem::take(&mut bench.said) {
                match output {
                    Output::Sign(_) => {
                        let apart = last_signed.is_none_or(|last| at.since(last) >= 100 * MS);
                        assert!(apart, "{last_signed:?} {at}");
                        last_signed = Some(at);
                    }
                    Output::Report(report) => {
                        assert!(report.issued <= report.arrived && report.issued <= report.fresh_until);
                    }
                    _ => {}
                }
            }
            let members = bench.cluster.order.clone();
            check(&bench, &mut newest, &members);
        }
    }
}
