//! Random values of everything that can be said.

use std::sync::Arc;

use detour_core::mesh::{DigestLine, Hello, NODES_MAX, Passed};
use detour_core::report::{BootId, ClusterKey, Edition, EndpointKey, Entry, NodeId, OPINIONS_MAX, SiteKey, Snapshot};
use detour_wire::codes::{CAUSES, REFUSALS, REJECTIONS, STATES};
use detour_wire::hello::SOFTWARE_MAX;
use detour_wire::snapshot::SNAPSHOT_MAX;
use detour_wire::sync::{Answer, PULLED_MAX, PUSHED_MAX, Pull, PullAnswer, Push, PushAnswer, Receipt, Request};
use detour_wire::{REFUSAL_TEXT_MAX, Refused, hello};
use proptest::array::{uniform4, uniform8, uniform32};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// The largest number that 48 bits hold.
const U48_MAX: u64 = (1 << 48) - 1;

/// The cluster that everything here is of.
pub(crate) const CLUSTER: ClusterKey = ClusterKey(*b"12345678");

fn values_of<T: Copy>(table: &[(u8, T)]) -> Vec<T> {
    table.iter().map(|(_, value)| *value).collect()
}

fn edition() -> impl Strategy<Value = Edition> {
    (0..=U48_MAX, any::<u32>()).prop_map(|(incarnation, sequence)| Edition { incarnation, sequence })
}

fn age() -> impl Strategy<Value = Option<u32>> {
    option::of(0..u32::MAX)
}

fn entry(endpoint: EndpointKey) -> impl Strategy<Value = Entry> {
    let words = (select(values_of(STATES)), select(values_of(CAUSES)));
    (words, any::<bool>(), any::<bool>(), [age(), age(), age()]).prop_map(move |(words, witnessed, stalled, ages)| {
        Entry {
            endpoint,
            state: words.0,
            cause: words.1,
            witnessed,
            stalled,
            first_failure_age_ms: ages[0],
            last_failure_age_ms: ages[1],
            last_success_age_ms: ages[2],
        }
    })
}

/// Up to as many entries as a snapshot has, no two of one endpoint, in any order.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let keys = btree_map(uniform8(any::<u8>()), Just(()), 0..=OPINIONS_MAX);
    let each = keys.prop_flat_map(|keys| {
        let entries: Vec<_> = keys.into_keys().map(|key| entry(EndpointKey(key))).collect();
        entries
    });
    each.prop_shuffle()
}

pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let who = (uniform32(any::<u8>()), any::<u64>(), edition(), uniform4(any::<u8>()));
    let flags = (any::<bool>(), any::<bool>());
    (who, 0..=U48_MAX, 1_u8.., flags, entries()).prop_map(|(who, issued_wall_ms, period_s, flags, entries)| Snapshot {
        node: NodeId(who.0),
        boot: BootId(who.1),
        edition: who.2,
        issued_wall_ms,
        period_s,
        site: SiteKey(who.3),
        uplink_suspect: flags.0,
        leaving: flags.1,
        entries,
    })
}

fn text(max: usize) -> impl Strategy<Value = String> {
    vec(b' '..=b'~', 0..=max).prop_map(|bytes| String::from_utf8(bytes).unwrap())
}

pub(crate) fn hello() -> impl Strategy<Value = Hello> {
    let versions = (1_u8.., 1_u8..).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let own = (
        uniform8(any::<u8>()),
        versions,
        any::<u64>(),
        0..=U48_MAX,
        uniform4(any::<u8>()),
        any::<u16>(),
    );
    let yours = option::of((edition(), any::<u64>().prop_map(BootId)));
    (own, text(SOFTWARE_MAX), yours).prop_map(|(own, software, yours)| Hello {
        cluster: ClusterKey(own.0),
        versions: own.1,
        boot: BootId(own.2),
        wall_ms: own.3,
        site: SiteKey(own.4),
        port: own.5,
        software,
        yours,
    })
}

fn refused() -> impl Strategy<Value = Refused> {
    let words = (select(values_of(REFUSALS)), text(REFUSAL_TEXT_MAX));
    words.prop_map(|(refusal, text)| Refused { refusal, text })
}

pub(crate) fn hello_answer() -> impl Strategy<Value = hello::Answer> {
    prop_oneof![
        hello().prop_map(hello::Answer::Hello),
        refused().prop_map(hello::Answer::Refused)
    ]
}

fn passed(max: usize) -> impl Strategy<Value = Vec<Passed>> {
    let one = (vec(any::<u8>(), 1..=SNAPSHOT_MAX), any::<u32>());
    let one = one.prop_map(|(bytes, age_ms)| Passed {
        bytes: Arc::from(bytes),
        age_ms,
    });
    vec(one, 0..=max)
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let line = (uniform8(any::<u8>()), edition()).prop_map(|(node, edition)| DigestLine { node, edition });
    let pull = (0..=U48_MAX, vec(line, 0..=NODES_MAX)).prop_map(|(wall_ms, digest)| Pull { wall_ms, digest });
    let push = (0..=U48_MAX, passed(PUSHED_MAX)).prop_map(|(wall_ms, snapshots)| Push { wall_ms, snapshots });
    prop_oneof![pull.prop_map(Request::Pull), push.prop_map(Request::Push)]
}

pub(crate) fn answer() -> impl Strategy<Value = Answer> {
    let pulled = (0..=U48_MAX, passed(PULLED_MAX));
    let pulled = pulled.prop_map(|(wall_ms, snapshots)| PullAnswer { wall_ms, snapshots });
    let rejected = values_of(REJECTIONS).into_iter().map(Receipt::Rejected);
    let receipts = [
        Receipt::Newest,
        Receipt::Known,
        Receipt::Unreadable,
        Receipt::BadSignature,
        Receipt::Other,
    ];
    let receipts = vec(select(rejected.chain(receipts).collect::<Vec<_>>()), 0..=PUSHED_MAX);
    let pushed = (0..=U48_MAX, receipts).prop_map(|(wall_ms, receipts)| PushAnswer { wall_ms, receipts });
    prop_oneof![
        pulled.prop_map(Answer::Pull),
        pushed.prop_map(Answer::Push),
        refused().prop_map(Answer::Refused)
    ]
}
