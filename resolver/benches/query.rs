//! The steps of a query, one by one: reading it, a hit, patching TTLs, the acceptance walk, a plan.
//!
//! `cargo bench -p detour-resolver`. What a whole query costs, the system included, is for `scripts/bench.sh`.

use std::sync::Arc;

use detour_core::control::Control;
use detour_core::plan::{Question, plan};
use detour_core::routes::Settings;
use detour_core::usage::Usage;
use detour_core::{ClassId, Endpoint, EndpointId, Family, OperatorId, Provider, ProviderId, Time, Topology, Transport};
use detour_resolver::ask::{Ask, GroupKey, key_of};
use detour_resolver::cache::{Cache, Entry, Found, Wanted};
use detour_resolver::wire::{
    Accepted, EdnsOut, Expected, Freshness, NameBuf, Parsed, Query, QueryOut, Via, accept, build_query, parse,
    question_of, reply_limit, write,
};
use divan::{AllocProfiler, Bencher, black_box};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Keys the cache of these benchmarks.
const SEED: u64 = 7;
/// When they take place.
const NOW: Time = Time::at_ms(10_000);

fn main() {
    divan::main();
}

/// A client's query with EDNS, as most send it.
fn query_bytes(name: &str) -> Vec<u8> {
    let name: NameBuf = name.parse().unwrap_or_else(|_bad| NameBuf::root());
    let mut query = Vec::new();
    build_query(
        &mut query,
        &QueryOut {
            id: 0x1234,
            name: &name,
            qtype: 1,
            qclass: 1,
            ad: false,
            cd: false,
            case_bits: None,
            edns: Some(EdnsOut {
                udp_size: 1_232,
                do_bit: false,
                is_padded: false,
                asks_keepalive: false,
                cookie: None,
            }),
        },
    );
    query
}

fn read(bytes: &[u8]) -> Option<Query> {
    match parse(bytes) {
        Parsed::Query(query) => Some(query),
        Parsed::Silence | Parsed::Reject(_) => None,
    }
}

/// A provider's answer to `query` with so many addresses.
fn answer_bytes(query: &[u8], addresses: u8) -> Vec<u8> {
    let (question, _, _) = question_of(query).unwrap_or_else(|| (&[], NameBuf::root(), [1, 1]));
    let mut answer = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, addresses, 0, 0, 0, 0];
    answer.extend_from_slice(question);
    for last in 0..addresses {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, last]);
    }
    answer
}

/// That answer, as it was accepted.
fn accepted(query: &[u8], addresses: u8) -> Option<Accepted> {
    let (question, _, _) = question_of(query)?;
    let expected = Expected {
        id: 0x1234,
        question,
        check_case: true,
        encrypted: false,
    };
    accept(&answer_bytes(query, addresses), &expected).ok()
}

#[divan::bench]
fn query_parse(bencher: Bencher<'_, '_>) {
    let bytes = query_bytes("www.example.com");
    bencher.bench(|| parse(black_box(&bytes)));
}

/// From the query's bytes to the reply's, out of 100,000 names.
#[divan::bench]
fn hit(bencher: Bencher<'_, '_>) {
    let cache = Cache::new(32 << 20, 0);
    for n in 0..100_000 {
        let bytes = query_bytes(&format!("host{n}.example.com"));
        if let (Some(query), Some(accepted)) = (read(&bytes), accepted(&bytes, 1)) {
            let ask = Ask::of(&query, GroupKey::PUBLIC, SEED);
            cache.store(&ask, &Entry::new(accepted.answer, &ask, NOW), NOW);
        }
    }
    let queries: Vec<Vec<u8>> = (0..1_000)
        .map(|n| query_bytes(&format!("host{}.example.com", n * 97)))
        .collect();
    let (mut turn, mut out) = (0, Vec::with_capacity(1_232));
    bencher.bench_local(move || {
        turn = (turn + 1) % queries.len();
        let query = queries.get(turn).and_then(|bytes| read(black_box(bytes)))?;
        let wanted = Wanted {
            key: key_of(
                &query.name,
                query.qtype,
                query.qclass,
                (false, false),
                GroupKey::PUBLIC,
                SEED,
            ),
            name: &query.name,
            kind: (query.qtype, query.qclass),
            flags: (false, false),
            group: GroupKey::PUBLIC,
        };
        out.clear();
        let looked = cache.look(&wanted, NOW, |answer, age_s| {
            let limit = reply_limit(&query.echo, Via::Udp);
            write(answer, &query.echo, Freshness::Fresh { age_s }, &[], limit, &mut out);
        });
        matches!(looked.found, Found::Fresh(())).then_some(out.len())
    });
}

/// A kept answer patched for a client: id, flags, question and each TTL.
#[divan::bench(args = [1, 4, 16, 64])]
fn ttl_patch(bencher: Bencher<'_, '_>, addresses: u8) {
    let bytes = query_bytes("www.example.com");
    let (Some(query), Some(accepted)) = (read(&bytes), accepted(&bytes, addresses)) else {
        return;
    };
    let mut out = Vec::with_capacity(4_096);
    bencher.bench_local(move || {
        out.clear();
        let freshness = Freshness::Fresh { age_s: black_box(17) };
        write(&accepted.answer, &query.echo, freshness, &[], 4_096, &mut out);
        out.len()
    });
}

#[divan::bench(args = [1, 4, 16, 64])]
fn acceptance_walk(bencher: Bencher<'_, '_>, addresses: u8) {
    let query = query_bytes("www.example.com");
    let answer = answer_bytes(&query, addresses);
    let question = question_of(&query).map_or(&[][..], |(question, _, _)| question);
    let expected = Expected {
        id: 0x1234,
        question,
        check_case: true,
        encrypted: false,
    };
    bencher.bench(|| accept(black_box(&answer), &expected));
}

/// A plan out of so many providers.
#[divan::bench(name = "plan", args = [1, 4, 16])]
fn make_plan(bencher: Bencher<'_, '_>, providers: u16) {
    let topology = topology(providers);
    let mut usage = Usage::new(&topology, NOW);
    let control = Control::new(Arc::new(topology), Settings::default(), NOW, 1);
    let routes = Arc::clone(control.routes());
    let mut number = 0;
    bencher.bench_local(move || {
        number += 1;
        let question = Question { number, domain: number };
        plan(&routes, &mut usage, question, NOW, &mut |_, _| {})
    });
}

/// Providers with one UDP endpoint each.
fn topology(providers: u16) -> Topology {
    Topology {
        providers: (0..providers)
            .map(|n| Provider {
                name: format!("p{n}"),
                operator: OperatorId(n),
                asn: None,
                jurisdiction: None,
                class: ClassId(0),
                validates: true,
                tier: 1,
                max_share_permille: None,
                max_qps: None,
                is_public: true,
                endpoints: vec![EndpointId(n)],
            })
            .collect(),
        endpoints: (0..providers)
            .map(|n| Endpoint {
                label: format!("udp://192.0.2.{n}"),
                provider: ProviderId(n),
                transport: Transport::Udp,
                family: Family::V4,
                max_qps: None,
            })
            .collect(),
        routed: Vec::new(),
    }
}
