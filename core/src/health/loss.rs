//! The share of recent attempts that stayed unanswered.
//!
//! A window of the last 32 attempts, one bit each: loss of a third is seen within the time 32 queries take, and a
//! late answer takes its bit back.

/// Attempts the window holds.
const WINDOW: u32 = 32;
/// Unanswered ones that mean loss: 31 %. At the 95th percentile one attempt in twenty is still open, so ten of 32
/// happen by chance about twice in a million windows.
const LOSS_AT: u32 = 10;

/// The window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LossWindow {
    /// Newest attempt in bit 0; 1 is unanswered.
    bits: u32,
    /// Attempts ever pushed.
    pushed: u64,
}

impl LossWindow {
    /// Adds an attempt; the number returned lets a late answer take an unanswered one back.
    pub fn push(&mut self, answered: bool) -> u64 {
        self.bits = (self.bits << 1) | u32::from(!answered);
        self.pushed = self.pushed.saturating_add(1);
        self.pushed
    }

    /// A late answer for the attempt that `push` numbered.
    pub fn take_back(&mut self, number: u64) {
        let age = self.pushed.saturating_sub(number);
        if let Ok(shift) = u32::try_from(age)
            && shift < WINDOW
        {
            self.bits &= !(1_u32 << shift);
        }
    }

    /// Whether so many of a full window are unanswered that it is loss.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        self.pushed >= u64::from(WINDOW) && self.unanswered() >= LOSS_AT
    }

    /// Unanswered attempts in the window.
    #[must_use]
    pub fn unanswered(&self) -> u32 {
        self.bits.count_ones()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_of_a_full_window_are_loss() {
        let mut window = LossWindow::default();
        for n in 0..32 {
            assert!(!window.is_loss());
            window.push(n % 3 != 0);
        }
        assert!(window.is_loss());
    }

    #[test]
    fn a_late_answer_takes_its_bit_back() {
        let mut window = LossWindow::default();
        let mut unanswered = Vec::new();
        for n in 0..32 {
            let number = window.push(n >= 10);
            if n < 10 {
                unanswered.push(number);
            }
        }
        assert!(window.is_loss());
        window.take_back(unanswered[9]);
        assert!(!window.is_loss());
        window.take_back(0);
    }
}
