//! What nobody may read in a log, a metric or a file: the names that were asked and who asked them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use detour_rig::http;
use detour_rig::random::Random;
use detour_rig::{Fake, Fault, TransportSel};
use tokio::task::JoinSet;

use crate::client::{PATIENCE, Tcp, Udp};
use crate::command::Run;
use crate::message::{CLASS_CH, Message, Reply, flag, question, rcode, rtype};
use crate::node::{config, fake, udp_blocks, until};

/// The client's address, which is in no config.
const CLIENT: &str = "127.0.0.77";

/// Twenty letters that nothing contains by chance.
fn secret(seed: u64) -> String {
    let letters = Random::new(seed).bytes(20);
    letters.iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

/// Every kind of question with the label in it.
fn queries(label: &str) -> Vec<Message> {
    let name = |prefix: &str, domain: &str| format!("{prefix}.{label}.{domain}");
    let good = name("good", "alder-lane.com");
    vec![
        Message::query(&good, rtype::A),
        Message::query(&good, rtype::A).dnssec_ok(),
        Message::query(&good, rtype::AAAA).edns(1232),
        Message::query(&good, rtype::ANY),
        Message::query(&good, rtype::AXFR).edns(1232),
        Message::query(&good, rtype::NXNAME),
        Message::query(&name("unasked", "alder-lane.com"), rtype::A).flags(0),
        Message::query(&good, rtype::A).opcode(4),
        Message::query(&good, rtype::A).counts([2, 0, 0, 0]),
        Message::query(&good, rtype::A).counts([1, 1, 0, 0]),
        Message::query(&name("cname", "birch-harbor.net"), rtype::A),
        Message::query(&name("big-3000", "birch-harbor.net"), rtype::TXT),
        Message::query(&name("ttl-1", "birch-harbor.net"), rtype::A),
        Message::query(&name("absent", "detour-absent.org"), rtype::A).flags(flag::RD | flag::CD),
        Message::of_question(question(&name("chaos", "bind"), rtype::TXT, CLASS_CH)),
    ]
}

/// New names for a provider in trouble, all at once; the replies.
async fn ask_in_trouble(run: &Run, label: &str, trouble: &str) -> Vec<Reply> {
    let dns = run.listening("dns")[0];
    let mut asks = JoinSet::new();
    for index in 0..4 {
        let query = Message::query(&format!("{trouble}{index}.{label}.cedar-mill.org"), rtype::A);
        asks.spawn(async move { Udp::from_to(CLIENT, dns).await.ask(&query).await });
    }
    asks.join_all().await
}

fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: std::path::PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}

async fn live_a_secret_life(format: &str, seed: u64) {
    let label = secret(seed);
    let fakes = ["one", "two"].map(fake);
    let [one, two] = &fakes;
    let logged = format!(
        "{}\n[log]\nlevel = \"info\"\nformat = \"{format}\"\n",
        config(&udp_blocks(&[one, two]))
    );
    let mut run = Run::node(Some(&logged), &[]);
    run.ready().await;
    let (dns, admin) = (run.listening("dns")[0], run.listening("admin")[0]);
    let (udp, mut tcp) = (Udp::from_to(CLIENT, dns).await, Tcp::to(dns).await);
    for query in queries(&label) {
        udp.ask(&query).await;
        tcp.ask(&query).await;
        let half = query.bytes();
        udp.send(&half[..half.len() / 2]).await;
        udp.receive().await;
    }
    let all = |fault| {
        fakes
            .iter()
            .for_each(|fake: &Fake| fake.set_fault(TransportSel::All, fault))
    };
    for fault in [
        Fault::Servfail,
        Fault::Refused,
        Fault::Garbage,
        Fault::Wrongid,
        Fault::Rst,
        Fault::Blackhole,
    ] {
        all(fault);
        ask_in_trouble(&run, &label, &fault.to_string()).await;
    }
    for reply in ask_in_trouble(&run, &label, "dark").await {
        assert_eq!(reply.rcode, rcode::SERVFAIL);
    }
    // The health of providers has been written about by now, or the test would see nothing.
    let stale = &queries(&label)[12];
    until("a stale answer", PATIENCE, async || {
        udp.ask(&stale.clone().edns(1232)).await.extended_errors() == [3]
    })
    .await;
    all(Fault::None);
    until("the end of the outage", Duration::from_secs(40), async || {
        let replies = ask_in_trouble(&run, &label, "light").await;
        replies.iter().all(|reply| reply.rcode == rcode::NOERROR)
    })
    .await;

    let forbidden = [label.as_str(), &label.to_uppercase(), CLIENT];
    let assert_silent = |place: &str, text: &str| {
        for word in forbidden {
            assert!(!text.contains(word), "{place} contains {word}: {text}");
        }
    };
    for path in ["/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/providers"] {
        let response = http::get(admin, path, PATIENCE).await.unwrap();
        assert_silent(path, &String::from_utf8(response.body).unwrap());
    }
    run.signal("TERM");
    run.exit_code().await;
    assert!(run.stderr().contains("state changed"), "{}", run.stderr());
    for file in files_below(run.directory()) {
        let bytes = fs::read(&file).unwrap();
        assert_silent(&file.display().to_string(), &String::from_utf8_lossy(&bytes));
    }
}

#[tokio::test]
async fn no_name_and_no_client_is_written_at_info_as_text() {
    live_a_secret_life("text", 0x5ec2_e701).await;
}

#[tokio::test]
async fn no_name_and_no_client_is_written_at_info_as_json() {
    live_a_secret_life("json", 0x5ec2_e702).await;
}
