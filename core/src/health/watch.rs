//! Loss that was seen is measured: by sixteen probes over two seconds, because no client's query goes there meanwhile.

use super::Health;
use super::probe::LOSS_WATCH_US;
use super::state::State;
use crate::time::Time;

/// Unanswered probes of the sixteen that measure loss that mean it lasts. With a third lost, none of them is by
/// chance in one case of a hundred; with two allowed it was one in ten, and the provider was used again too soon.
const LOSS_LASTS_AT: usize = 1;
/// Of those sixteen, so many must have been written for their answers to prove anything.
const LOSS_PROBES_MIN: usize = 12;

impl Health {
    /// Sixteen probes from now on show whether it loses.
    pub(super) fn measure_loss(&mut self, now: Time) {
        self.loss_watch = Some(now);
        self.loss_probes.clear();
        self.probes.lossy(now);
    }

    /// What went unanswered says nothing about it any more.
    pub(super) fn forget_loss(&mut self, now: Time) {
        self.loss.clear();
        self.loss_from = now;
        self.maturing.clear();
        self.loss_probes.clear();
        self.loss_watch = None;
        self.loss_lasts = false;
    }

    /// When the last of the probes that measure loss should have been answered.
    pub(super) fn loss_due(&self) -> Option<Time> {
        let timing = self.latencies.timing();
        let answer_us = timing.p95_us.min(timing.probe_timeout_us);
        Some(self.loss_watch?.plus(LOSS_WATCH_US).plus(answer_us))
    }

    /// The probes that measure loss are over: does it last?
    pub(super) fn judge_loss(&mut self, now: Time) {
        let lost = self.loss_probes.iter().filter(|(_, answered)| !answered).count();
        // Probes that could not even be written prove nothing good.
        let is_proven = self.loss_probes.len() >= LOSS_PROBES_MIN;
        self.loss_watch = None;
        if is_proven && lost < LOSS_LASTS_AT {
            if self.state == State::Down {
                self.recover(now);
            } else {
                self.clear_doubt(now);
            }
        } else if self.loss_lasts {
            self.recovery = (0, Time::ZERO);
            self.probes.repeat(now);
        } else {
            self.loss_lasts = true;
            self.fall(now);
        }
    }
}
