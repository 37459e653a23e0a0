//! What `/metrics` shows is what docs/METRICS.md says: every series, with its type and its labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use detour_rig::{Fault, TransportSel};

use crate::client::{Tcp, Udp};
use crate::message::{Message, rtype};
use crate::node::{Node, fake};

/// Type and labels of a metric.
type Shape = (String, BTreeSet<String>);

/// The words between backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the tables: name, type, labels, meaning.
fn documented() -> BTreeMap<String, Shape> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let text = fs::read_to_string(page).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `detour_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = quoted(cells[1]).pop_first().unwrap();
        (name, (cells[2].to_owned(), quoted(cells[3])))
    })
    .collect()
}

/// The series of a scrape, with the type of their family.
fn shown(text: &str) -> BTreeMap<String, Shape> {
    let mut types = BTreeMap::new();
    let mut series: BTreeMap<String, Shape> = BTreeMap::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_once(['{', ' ']).unwrap();
            let family = ["_total", "_info"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let kind = types
                .get(family.unwrap_or(name))
                .unwrap_or_else(|| panic!("no type: {line}"));
            let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
            let names = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next());
            let names = names.map(str::to_owned).filter(|name| !name.is_empty());
            // What follows the last value is no name.
            let count = labels.matches("=\"").count();
            series.insert(name.to_owned(), (kind.clone(), names.take(count).collect()));
        }
    }
    series
}

#[tokio::test]
async fn every_series_is_documented_with_its_type_and_labels() {
    let fakes = ["one", "two"].map(fake);
    let [one, two] = &fakes;
    let node = Node::before(&[one, two]).await;
    let (udp, mut tcp) = (Udp::to(node.dns()).await, Tcp::to(node.dns()).await);
    for fault in [Fault::None, Fault::Blackhole, Fault::None] {
        one.set_fault(TransportSel::All, fault);
        for index in 0..8 {
            let query = Message::query(&format!("{fault}{index}.elm-quarry.dev"), rtype::A);
            udp.ask(&query).await;
            tcp.ask(&query).await;
        }
    }
    let (documented, shown) = (documented(), shown(&node.text("/metrics").await));
    assert!(shown.len() > 15, "{shown:?}");
    for (name, shape) in &shown {
        assert_eq!(documented.get(name), Some(shape), "{name} in docs/METRICS.md");
    }
}
