//! Hello, admission, other lives, refusals and dials.

use super::*;

#[test]
fn who_dialled_says_hello_and_the_answer_admits_closes_and_dials_anew() {
    let mut bench = Bench::of(&[120]);
    bench.take();
    let connection = bench.connect(120, true);
    let said = bench.take();
    assert!(
        matches!(&said[..], [Output::SendHello { connection: c, node: n, .. }] if *c == connection && *n == node(120))
    );
    assert_eq!(bench.state(120), PeerState::Greeting);
    bench.answer_hello(connection, 120);
    let said = bench.take();
    assert_eq!(said[0], Output::Admit(node(120)));
    assert_eq!(closes(&said), [(1, CloseWhy::Admitted)]);
    assert!(bench.cluster.is_admitted(node(120)));
    let before = bench.now.as_micros() / MS;
    bench.give(|cluster, now| cluster.handle_disconnected(connection, now));
    bench.pass(300);
    let dials = bench.dials();
    assert!(
        matches!(dials[..], [(at, 120, _)] if (before + 50..=before + 250).contains(&at)),
        "{dials:?}"
    );
    bench.take();
    let connection = bench.connect(120, true);
    bench.answer_hello(connection, 120);
    let said = bench.take();
    assert_eq!(events(&said), [Event::PeerUp(node(120))]);
    assert!(
        said.iter()
            .any(|output| matches!(output, Output::Pull { from, .. } if *from == node(120)))
    );
    assert_eq!(closes(&said), []);
    assert_eq!(bench.state(120), PeerState::Connected);
}

#[test]
fn who_was_dialled_answers_and_leaves_the_other_the_time_to_close() {
    let mut bench = Bench::of(&[90]);
    let connection = bench.connect(90, false);
    bench.take();
    let answer = bench.give(|cluster, now| cluster.handle_hello(connection, &hello(90), None, now));
    assert_eq!(answer.unwrap().boot, BootId(1));
    let said = bench.take();
    assert_eq!(said, [Output::Admit(node(90))]);
    bench.pass(249);
    assert_eq!(closes(&bench.take()), []);
    bench.pass(1);
    assert_eq!(closes(&bench.take()), [(1, CloseWhy::Admitted)]);
    // The side that dialled dials again; this one only if that does not come.
    bench.pass(1_900);
    assert_eq!(bench.dials(), []);
    bench.pass(100);
    assert_eq!(bench.dials().len(), 1);
}

#[test]
fn strangers_other_clusters_and_other_versions_are_turned_away_and_told_so() {
    let mut bench = Bench::of(&[90]);
    let cases: [(u8, Hello, Refusal); 4] = [
        (91, hello(1), Refusal::UnknownNode),
        (
            90,
            Hello {
                cluster: ClusterKey([8; 8]),
                ..hello(1)
            },
            Refusal::OtherCluster,
        ),
        (
            90,
            Hello {
                versions: (2, 9),
                ..hello(1)
            },
            Refusal::NoCommonVersion,
        ),
        (
            90,
            Hello {
                versions: (5, 1),
                ..hello(1)
            },
            Refusal::NoCommonVersion,
        ),
    ];
    for (number, hello, refusal) in cases {
        bench.take();
        let connection = bench.connect(number, false);
        let answer = bench.give(|cluster, now| cluster.handle_hello(connection, &hello, None, now));
        assert_eq!(answer, Err(refusal));
        assert_eq!(closes(&bench.take()), []);
        bench.pass(250);
        assert_eq!(closes(&bench.take()), [(connection.0, CloseWhy::Refused(refusal))]);
        assert_eq!(bench.view(number).unwrap().refusal, Some((refusal, RefusedBy::Us)));
        assert!(!bench.cluster.is_admitted(node(number)));
        bench.give(|cluster, now| cluster.handle_disconnected(connection, now));
    }
    let connection = ConnectionId(77);
    bench.give(|cluster, now| cluster.handle_connected(connection, OWN, false, now));
    let said = bench.take();
    assert!(closes(&said).contains(&(77, CloseWhy::Refused(Refusal::OwnKey))));
}

#[test]
fn a_member_that_speaks_for_another_cluster_all_at_once_is_expelled() {
    let mut bench = Bench::of(&[90]);
    bench.join(90);
    let now = bench.wall_ms();
    let taken = bench.bring(snapshot(90, 5, 1, now), Via::Push(node(90)), Some(0));
    assert_eq!(taken, Ok(Merged::Newest));
    let connection = bench.connect(90, false);
    bench.take();
    let other = Hello {
        cluster: ClusterKey([8; 8]),
        ..hello(90)
    };
    let answer = bench.give(|cluster, now| cluster.handle_hello(connection, &other, None, now));
    assert_eq!(answer, Err(Refusal::OtherCluster));
    let said = bench.take();
    assert!(said.contains(&Output::Expel(node(90))) && said.contains(&Output::Forget(node(90))));
    assert_eq!(closes(&said), [(2, CloseWhy::Refused(Refusal::OtherCluster))]);
    assert_eq!(bench.state(90), PeerState::Refused);
}

#[test]
fn refused_nodes_are_told_of_once_a_minute_dialled_every_30_s_and_strangers_are_few() {
    let mut bench = Bench::of(&[120]);
    let connection = bench.connect(120, true);
    bench.take();
    bench.give(|cluster, now| cluster.handle_refused(connection, Refusal::UnknownNode, now));
    let said = bench.take();
    assert_eq!(events(&said), [Event::RefusedByPeer(node(120), Refusal::UnknownNode)]);
    assert_eq!(closes(&said), [(1, CloseWhy::RefusedByPeer(Refusal::UnknownNode))]);
    let refusal = bench.view(120).unwrap().refusal;
    assert_eq!(refusal, Some((Refusal::UnknownNode, RefusedBy::Peer)));
    let refused = bench.now.as_micros() / MS;
    bench.pass(31_000);
    assert!(matches!(bench.dials()[..], [(at, 120, _)] if at >= refused + 22_000));
    let connection = bench.connect(120, true);
    bench.take();
    bench.give(|cluster, now| cluster.handle_refused(connection, Refusal::UnknownNode, now));
    assert_eq!(events(&bench.take()), []);
    for number in 1..60 {
        let connection = bench.connect(number, false);
        let answer = bench.give(|cluster, now| cluster.handle_hello(connection, &hello(1), None, now));
        assert!(answer.is_err());
        bench.give(|cluster, now| cluster.handle_disconnected(connection, now));
    }
    assert_eq!(bench.cluster.peers(0, bench.now).len(), 1 + 16);
    assert!(events(&bench.take()).len() <= 17);
}

#[test]
fn without_a_hello_a_connection_is_closed_after_5_s() {
    let mut bench = Bench::of(&[90]);
    let connection = bench.connect(90, false);
    bench.take();
    bench.pass(4_999);
    assert_eq!(closes(&bench.take()), []);
    bench.pass(1);
    assert_eq!(closes(&bench.take()), [(connection.0, CloseWhy::HelloLate)]);
}

#[test]
fn another_life_of_a_peer_costs_all_its_connections_and_it_is_met_anew_soon() {
    let mut bench = Bench::of(&[120]);
    let ghost = bench.join(120);
    let now = bench.wall_ms();
    assert!(
        bench
            .bring(snapshot(120, 5, 1, now), Via::Push(node(120)), Some(0))
            .is_ok()
    );
    let connection = bench.connect(120, false);
    bench.take();
    let answer = bench.give(|cluster, now| cluster.handle_hello(connection, &hello(999), None, now));
    // So that it can go on above what it published in its former life.
    assert!(answer.unwrap().yours.is_some());
    let said = bench.take();
    assert_eq!(closes(&said), [(ghost.0, CloseWhy::NewBoot)]);
    assert_eq!(
        events(&said),
        [Event::PeerRebooted(node(120)), Event::PeerDown(node(120))]
    );
    assert!(bench.view(120).unwrap().edition.is_some(), "its old snapshot stays");
    bench.pass(250);
    assert_eq!(closes(&bench.take()), [(connection.0, CloseWhy::NewBoot)]);
    // Without an older connection nothing is closed.
    let connection = bench.connect(120, false);
    bench.take();
    let answer = bench.give(|cluster, now| cluster.handle_hello(connection, &hello(1_000), None, now));
    assert!(answer.is_ok());
    bench.pass(1_000);
    assert_eq!(closes(&bench.take()), []);
    assert_eq!(bench.state(120), PeerState::Connected);
}

#[test]
fn if_the_answer_brought_the_other_life_all_is_closed_at_once() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    let second = bench.connect(120, true);
    bench.take();
    bench.answer_hello(second, 999);
    let said = bench.take();
    assert_eq!(closes(&said), [(2, CloseWhy::NewBoot), (second.0, CloseWhy::NewBoot)]);
    bench.pass(250);
    assert_eq!(bench.dials().len(), 1);
}

#[test]
fn the_lower_id_dials_at_once_and_the_other_after_2_s() {
    let mut bench = Bench::of(&[90, 120]);
    assert!(matches!(bench.dials()[..], [(1_000, 120, _)]));
    bench.pass(1_999);
    assert_eq!(bench.dials().len(), 1);
    bench.pass(1);
    assert!(matches!(bench.dials()[..], [_, (3_000, 90, _)]));
}

#[test]
fn failed_dials_go_round_the_addresses_ever_more_slowly_and_for_ever() {
    let mut bench = Bench::of(&[120]);
    let mut gaps = Vec::new();
    for _ in 0..12 {
        let (at, _, address) = bench.dials().pop().unwrap();
        bench.take();
        assert_eq!(address, u8::try_from(gaps.len() % 2).unwrap());
        bench.give(|cluster, now| cluster.handle_dial_failed(node(120), address, now));
        bench.pass(30_000 - bench.now.as_micros() / MS % 10);
        gaps.push(bench.dials().pop().unwrap().0 - at);
        bench.now = Time::at_ms(bench.dials().pop().unwrap().0);
    }
    for (gap, most) in gaps
        .iter()
        .zip([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
    {
        assert!((most * 3 / 4 - 1..=most).contains(gap), "{gaps:?}");
    }
    assert_eq!(bench.view(120).unwrap().failed_dials, 12);
}

#[test]
fn a_lost_peer_is_dialled_at_once_by_who_had_dialled_and_flapping_is_slowed_down() {
    let mut bench = Bench::of(&[120]);
    let connection = bench.join(120);
    bench.pass(61_000);
    bench.take();
    bench.give(|cluster, now| cluster.handle_disconnected(connection, now));
    assert_eq!(bench.dials().len(), 1);
    assert!(events(&bench.take()).contains(&Event::PeerDown(node(120))));
    let mut waits = Vec::new();
    for _ in 0..4 {
        let connection = bench.connect(120, true);
        bench.answer_hello(connection, 120);
        bench.take();
        let lost = bench.now.as_micros() / MS;
        bench.give(|cluster, now| cluster.handle_disconnected(connection, now));
        bench.pass(5_000);
        waits.push(bench.dials()[0].0 - lost);
    }
    assert!(
        waits.windows(2).all(|pair| pair[0] < pair[1]) && waits[0] >= 300,
        "{waits:?}"
    );
    // The side that was dialled leaves it to the other, for two seconds.
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    let connection = bench.connect(120, false);
    bench.give(|cluster, now| cluster.handle_disconnected(ConnectionId(2), now));
    bench.take();
    bench.give(|cluster, now| cluster.handle_disconnected(connection, now));
    bench.pass(1_999);
    assert_eq!(bench.dials(), []);
    bench.pass(1);
    assert_eq!(bench.dials().len(), 1);
}

#[test]
fn a_fifth_connection_is_one_too_many_and_dials_at_once_are_bounded() {
    let mut bench = Bench::of(&[90]);
    for _ in 0..4 {
        bench.connect(90, false);
    }
    bench.take();
    let fifth = bench.connect(90, false);
    assert_eq!(closes(&bench.take()), [(fifth.0, CloseWhy::TooMany)]);
    let many: Vec<u8> = (101..200).collect();
    let mut bench = Bench::of(&many);
    assert_eq!(bench.dials().len(), 16);
    bench.give(|cluster, now| cluster.handle_dial_failed(node(101), 0, now));
    assert_eq!(bench.dials().len(), 17);
    // Whose end was never told are dialled again some day.
    bench.take();
    bench.pass(31_000);
    assert_eq!(bench.dials().len(), 16);
}

#[test]
fn members_without_addresses_are_waited_for() {
    let mut bench = Bench::new(Settings {
        members: vec![Member {
            addresses: 0,
            ..member(120)
        }],
        ..settings(&[])
    });
    bench.pass(120_000);
    assert_eq!(bench.dials(), []);
    bench.connect(120, false);
    assert_eq!(bench.state(120), PeerState::Greeting);
}

#[test]
fn a_reload_expels_who_is_gone_and_dials_who_came() {
    let mut bench = Bench::of(&[120, 121]);
    let connection = bench.join(120);
    let now = bench.wall_ms();
    assert!(
        bench
            .bring(snapshot(120, 5, 1, now), Via::Push(node(120)), Some(0))
            .is_ok()
    );
    bench.take();
    let members = vec![member(121), member(122)];
    bench.give(|cluster, now| cluster.handle_members(members, now));
    let said = bench.take();
    for output in [
        Output::Expel(node(120)),
        Output::Forget(node(120)),
        Output::Close {
            connection,
            why: CloseWhy::Refused(Refusal::UnknownNode),
        },
    ] {
        assert!(said.contains(&output), "{output:?}: {said:?}");
    }
    assert!(
        said.iter()
            .any(|output| matches!(output, Output::Dial { node: n, .. } if *n == node(122)))
    );
    let brought = snapshot(120, 5, 2, now);
    let again = bench.bring(brought, Via::Push(node(120)), Some(0));
    assert_eq!(again, Err(RejectedSnapshot::NoHello));
    // A stranger that was turned away and is a member now is dialled like any other.
    let connection = bench.connect(123, false);
    let answer = bench.give(|cluster, now| cluster.handle_hello(connection, &hello(123), None, now));
    assert_eq!(answer, Err(Refusal::UnknownNode));
    bench.take();
    bench.give(|cluster, now| cluster.handle_members(vec![member(123)], now));
    bench.pass(300);
    assert_eq!(bench.dials().len(), 1);
}

#[test]
fn clocks_that_are_off_are_told_of_once_and_when_they_are_right_again() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    bench.take();
    for (offset_ms, told) in [(1_000, None), (600_000, Some(600_000)), (600_000, None), (0, Some(0))] {
        let sample = bench.sample(offset_ms);
        bench.give(|cluster, now| cluster.handle_answered(node(120), sample, now));
        let events = events(&bench.take());
        match told {
            None => assert_eq!(events, []),
            Some(expected) => {
                assert!(
                    matches!(events[..], [Event::ClockOff { offset_ms, .. }] if (offset_ms - expected).abs() < 20),
                    "{events:?}"
                );
            }
        }
        bench.pass(1_000);
    }
}

#[test]
fn when_one_peer_is_back_the_others_are_not_waited_for() {
    let others: Vec<u8> = (101..=110).collect();
    let mut bench = Bench::of(&others);
    for _ in 0..1_200 {
        bench.pass(100);
        for output in bench.take() {
            if let Output::Dial { node, address } = output {
                bench.give(|cluster, now| cluster.handle_dial_failed(node, address, now));
            }
        }
    }
    bench.take();
    bench.connect(101, false);
    bench.pass(1_000);
    let mut dialled: Vec<u8> = bench.dials().iter().map(|(_, number, _)| *number).collect();
    dialled.sort_unstable();
    assert_eq!(dialled, others[1..]);
}
