//! Things that are due later, earliest first, and a limit on how many.
//!
//! One of these and one timer per socket is what lets a fake delay ten thousand replies without ten thousand tasks.
//! Things due at the same instant leave in the order they came.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tokio::time::Instant;

/// A bounded queue ordered by due time.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    heap: BinaryHeap<Entry<T>>,
    capacity: usize,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<T> {
    due: Instant,
    sequence: u64,
    item: T,
}

impl<T> Schedule<T> {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            heap: BinaryHeap::new(),
            capacity,
            sequence: 0,
        }
    }

    /// False, and the item is gone, when the schedule is full.
    pub(super) fn push(&mut self, due: Instant, item: T) -> bool {
        if self.len() >= self.capacity {
            return false;
        }
        self.sequence += 1;
        self.heap.push(Entry {
            due,
            sequence: self.sequence,
            item,
        });
        true
    }

    /// The earliest item, if it is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.item)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.due)
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Drops everything; returns how many items that were.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.heap.len();
        self.heap.clear();
        count
    }
}

impl<T> Ord for Entry<T> {
    /// Reversed: the heap's greatest entry is the one due first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.sequence).cmp(&(self.due, self.sequence))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn earliest_leaves_first_and_equals_in_order() {
        let start = crate::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::new(4);
        for (ms, item) in [(5, "d"), (1, "a"), (3, "b"), (3, "c")] {
            assert!(schedule.push(at(ms), item));
        }
        assert!(!schedule.push(at(0), "too many"));
        assert_eq!(schedule.next_due(), Some(at(1)));
        assert_eq!(schedule.pop(at(0)), None);
        let out: String = std::iter::from_fn(|| schedule.pop(at(3))).collect();
        assert_eq!(out, "abc");
        assert_eq!(schedule.clear(), 1);
        assert!(schedule.is_empty());
    }
}
