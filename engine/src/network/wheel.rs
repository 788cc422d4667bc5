//! When which inquiry has to be looked at: a timing wheel.
//!
//! Setting, moving and removing a moment costs the same however many there are; a table of inquiries sets one a query
//! and removes nearly all of them before they come.

use std::time::Duration;

use mailproof_proto::time::Timestamp;

/// Moments of things that have a small number. A moment fires up to one tick late, never early.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Box<[u32; SLOTS]>,
    /// One bit a slot that is not empty.
    used: [u64; SLOTS / 64],
    nodes: Vec<Node>,
    /// The tick that was looked at last.
    tick: u64,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    previous: u32,
    next: u32,
    slot: u32,
}

/// Ticks that the wheel holds; what is further off is looked at when it has gone round.
const SLOTS: usize = 2048;
const TICK: Duration = Duration::from_millis(4);
const NONE: u32 = u32::MAX;
const UNSET: Node = Node { previous: NONE, next: NONE, slot: NONE };

impl Wheel {
    pub(crate) fn new(now: Timestamp) -> Self {
        let heads = Box::new([NONE; SLOTS]);
        Self { heads, used: [0; SLOTS / 64], nodes: Vec::new(), tick: tick(now), count: 0 }
    }

    /// Sets the moment of `number`, in place of the one before.
    pub(crate) fn set(&mut self, number: u32, moment: Timestamp) {
        self.remove(number);
        // Rounded up, and not before the next tick: the present one has been looked at.
        let due = (moment.milliseconds().div_ceil(TICK.as_millis() as u64)).max(self.tick + 1);
        let slot = (due.min(self.tick + SLOTS as u64 - 1) % SLOTS as u64) as u32;
        if self.nodes.len() <= number as usize {
            self.nodes.resize(number as usize + 1, UNSET);
        }
        let head = std::mem::replace(&mut self.heads[slot as usize], number);
        self.nodes[number as usize] = Node { previous: NONE, next: head, slot };
        if head != NONE {
            self.nodes[head as usize].previous = number;
        }
        self.used[slot as usize / 64] |= 1 << (slot % 64);
        self.count += 1;
    }

    /// Forgets the moment of `number`, if it has one.
    pub(crate) fn remove(&mut self, number: u32) {
        let Some(node) = self.nodes.get_mut(number as usize) else { return };
        let Node { previous, next, slot } = std::mem::replace(node, UNSET);
        if slot == NONE {
            return;
        }
        match previous {
            NONE => self.heads[slot as usize] = next,
            _ => self.nodes[previous as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if self.heads[slot as usize] == NONE {
            self.used[slot as usize / 64] &= !(1 << (slot % 64));
        }
        self.count -= 1;
    }

    /// Takes out one whose moment has come; call until there is none.
    pub(crate) fn next_expired(&mut self, now: Timestamp) -> Option<u32> {
        let now = tick(now);
        while self.tick < now {
            let slot = ((self.tick + 1) % SLOTS as u64) as usize;
            let head = self.heads[slot];
            if head != NONE {
                self.remove(head);
                return Some(head);
            }
            match self.next_tick() {
                // All ticks in between are empty.
                Some(next) => self.tick = (next - 1).min(now).max(self.tick + 1),
                None => self.tick = now,
            }
        }
        None
    }

    /// When the next one fires.
    pub(crate) fn next_moment(&self) -> Option<Timestamp> {
        self.next_tick().map(|tick| Timestamp::from_milliseconds(tick * TICK.as_millis() as u64))
    }

    /// The first tick after the present one that is not empty.
    fn next_tick(&self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let start = self.tick + 1;
        let first = (start % SLOTS as u64) as usize;
        // The word of the first slot is looked at twice: its upper part first, its lower part last.
        for step in 0..=self.used.len() {
            let word_index = (first / 64 + step) % self.used.len();
            let mut word = self.used[word_index];
            if step == 0 {
                word &= u64::MAX << (first % 64);
            } else if step == self.used.len() {
                word &= !(u64::MAX << (first % 64));
            }
            if word != 0 {
                let slot = word_index * 64 + word.trailing_zeros() as usize;
                let distance = (slot + SLOTS - first) % SLOTS;
                return Some(start + distance as u64);
            }
        }
        None
    }
}

/// The tick that a moment lies in.
fn tick(moment: Timestamp) -> u64 {
    moment.milliseconds() / TICK.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain map: nothing fires early, nothing later than a tick, nothing that was removed.
        #[test]
        fn every_moment_fires_once_in_time(steps in prop::collection::vec((0..40_u32, 0..20_000_u64, 0..4_u8), 1..300)) {
            let mut now = 1_000_003;
            let mut wheel = Wheel::new(Timestamp::from_milliseconds(now));
            let mut plain: BTreeMap<u32, u64> = BTreeMap::new();
            for (number, span, action) in steps {
                match action {
                    0 | 1 => {
                        wheel.set(number, Timestamp::from_milliseconds(now + span));
                        plain.insert(number, now + span);
                    }
                    2 => {
                        wheel.remove(number);
                        plain.remove(&number);
                    }
                    _ => now += span / 10,
                }
                while let Some(fired) = wheel.next_expired(Timestamp::from_milliseconds(now)) {
                    let due = plain.remove(&fired).unwrap();
                    if due > now {
                        // It was further off than the wheel is round: set again, be it for the last millisecond.
                        wheel.set(fired, Timestamp::from_milliseconds(due));
                        plain.insert(fired, due);
                    }
                }
                let late = plain.values().filter(|due| **due + 4 <= now).count();
                prop_assert_eq!(late, 0);
                match (wheel.next_moment(), plain.values().min()) {
                    (None, None) => {}
                    (Some(moment), Some(due)) => prop_assert!(moment.milliseconds() <= (due + 4).max(now + 8)),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
