//! Runs as rows of a table of Markdown.

use std::time::Duration;

use detour_rig::{Fault, Transport};

use crate::experiment::{Handshakes, Run, Times};

/// The head of the table.
pub(crate) const HEADINGS: &str = "| transport | fault | queries | hurt | worst, ms | left after, ms | cause | back after, ms | handshakes: full | resumed | failed |\n\
     | --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |";

/// One run.
pub(crate) fn row(transport: Transport, fault: Fault, run: &Run, times: Times) -> String {
    let summary = &run.summary;
    let ms = |duration: Duration| duration.as_millis().to_string();
    let left = run.left_after.map_or_else(|| "never".to_owned(), ms);
    let back = match (run.left_after, run.back_after) {
        (None, _) => "-".to_owned(),
        (Some(_), Some(after)) => ms(after),
        (Some(_), None) => format!("more than {}", ms(times.after)),
    };
    let cause = run.cause.as_deref().unwrap_or("-");
    let worst = ms(summary.latency_during.max);
    let (total, hurt) = (summary.total, summary.hurt());
    let handshakes = handshakes(transport, run.handshakes);
    format!("| {transport} | {fault} | {total} | {hurt} | {worst} | {left} | {cause} | {back} | {handshakes} |")
}

/// Of TCP a connection is all there is to count; UDP has none.
fn handshakes(transport: Transport, seen: Handshakes) -> String {
    match transport {
        Transport::Udp => "- | - | -".to_owned(),
        Transport::Tcp => format!("{} | - | -", seen.connections),
        Transport::Dot | Transport::Doh | Transport::Doq | Transport::Doh3 => {
            format!("{} | {} | {}", seen.full, seen.resumed, seen.failed)
        }
    }
}

/// Whether nobody was hurt who should not be: random loss costs some before it is known.
pub(crate) fn is_kept(fault: Fault, run: &Run) -> bool {
    matches!(fault, Fault::Loss(_)) || run.summary.hurt() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use detour_rig::Summary;

    #[test]
    fn a_row_has_a_cell_for_each_heading() {
        let run = Run {
            summary: Summary::default(),
            left_after: Some(Duration::from_millis(120)),
            cause: Some("timeout".to_owned()),
            back_after: None,
            handshakes: Handshakes::default(),
        };
        let times = Times {
            broken: Duration::from_secs(6),
            after: Duration::from_secs(10),
        };
        let cells = |line: &str| line.matches('|').count();
        for transport in Transport::ALL {
            let row = row(transport, Fault::Blackhole, &run, times);
            assert_eq!(
                HEADINGS.lines().map(cells).collect::<Vec<_>>(),
                [cells(&row); 2],
                "{row}"
            );
            assert!(row.contains("| 120 | timeout | more than 10000 |"), "{row}");
        }
        assert!(is_kept(Fault::Blackhole, &run));
    }
}
