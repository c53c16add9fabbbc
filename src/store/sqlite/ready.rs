//! What may be done next, in memory: sessions with queued messages, targets with pending deliveries.
//!
//! Invariant: keys take turns, a key is in one hand at a time, and a key that was put off waits as a whole. At most
//! [`KEYS_MAX`] keys (and those in hand) are kept; what is beyond stays on disk (`more`) and comes in by a refill. The rows on
//! disk are the truth: a key kept here that has none is found out when it is taken, and let go. Due times are monotonic. It
//! cannot fail.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

/// Most keys kept in memory.
pub(super) const KEYS_MAX: usize = if cfg!(test) { 2_000 } else { 10_000 };
/// Waiting keys below which more are fetched from disk.
const KEYS_LOW: usize = 500;
/// Pause after a refill that found nothing new.
const REFILL_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a key after something was done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It has nothing.
    Nothing,
    /// It has something to do.
    Now,
    /// It has something to do then.
    At(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Waiting,
    InHand,
    PutOff(Duration),
}

/// The index; `T` is what is known of a key beside it.
#[derive(Debug)]
pub(super) struct Ready<T> {
    keys: HashMap<i64, (Stand, T)>,
    ring: VecDeque<i64>,
    /// May hold entries that no longer count: an entry counts where the key's stand says the same time.
    put_off: BinaryHeap<Reverse<(Duration, i64)>>,
    /// Ids in hand and their keys, for what is settled by id.
    held: HashMap<String, i64>,
    more: bool,
    /// Where the next refill goes on; keys below it were looked at.
    cursor: i64,
    refill_at: Duration,
    max: usize,
}

impl<T: Clone> Ready<T> {
    /// An empty index that is to be filled from disk.
    pub(super) fn new(max: usize) -> Self {
        Ready {
            keys: HashMap::new(),
            ring: VecDeque::new(),
            put_off: BinaryHeap::new(),
            held: HashMap::new(),
            more: true,
            cursor: i64::MIN,
            refill_at: Duration::ZERO,
            max,
        }
    }

    /// There is work for `key`. What waits, is in hand or is put off stays so.
    pub(super) fn offer(&mut self, key: i64, about: T) {
        self.place(key, about, Next::Now);
    }

    fn place(&mut self, key: i64, about: T, next: Next) -> bool {
        if self.keys.contains_key(&key) {
            return false;
        }
        if self.keys.len() >= self.max {
            self.more = true;
            return false;
        }
        self.keys.insert(key, (Stand::InHand, about));
        self.stand(key, next);
        true
    }

    /// Takes the next key in hand.
    pub(super) fn pick(&mut self, now: Duration) -> Option<(i64, T)> {
        self.wake_due(now);
        while let Some(key) = self.ring.pop_front() {
            if let Some((stand @ Stand::Waiting, about)) = self.keys.get_mut(&key) {
                *stand = Stand::InHand;
                return Some((key, about.clone()));
            }
        }
        None
    }

    fn wake_due(&mut self, now: Duration) {
        while let Some(Reverse((due, key))) = self.put_off.peek().copied()
            && due <= now
        {
            self.put_off.pop();
            if self.keys.get(&key).is_some_and(|(stand, _)| *stand == Stand::PutOff(due)) {
                self.wake(key);
            }
        }
    }

    /// Lets a key that was put off wait in line.
    pub(super) fn wake(&mut self, key: i64) {
        if let Some((stand @ Stand::PutOff(_), _)) = self.keys.get_mut(&key) {
            *stand = Stand::Waiting;
            self.ring.push_back(key);
        }
    }

    /// Lets a key go that was in hand. One that has more to do goes to the end of the line; where the line goes on on disk, it
    /// is there already.
    pub(super) fn settle(&mut self, key: i64, next: Next) {
        // Well below the length at which a refill is due, or keys that come back would hold it off for ever.
        let line_on_disk = self.more && self.ring.len() >= KEYS_LOW / 2;
        self.stand(key, if next == Next::Now && line_on_disk { Next::Nothing } else { next });
    }

    fn stand(&mut self, key: i64, next: Next) {
        let Some((stand @ Stand::InHand, _)) = self.keys.get_mut(&key) else { return };
        match next {
            Next::Nothing => drop(self.keys.remove(&key)),
            Next::Now => {
                *stand = Stand::Waiting;
                self.ring.push_back(key);
            }
            Next::At(due) => {
                *stand = Stand::PutOff(due);
                self.put_off.push(Reverse((due, key)));
            }
        }
    }

    /// Notes that `id` is in hand, of `key`.
    pub(super) fn hold(&mut self, id: &str, key: i64) {
        self.held.insert(id.to_string(), key);
    }

    /// Ends what [`Ready::hold`] noted, and settles its key; false where nothing of that id was in hand.
    pub(super) fn settle_held(&mut self, id: &str, next: Next) -> bool {
        let held = self.held.remove(id);
        if let Some(key) = held {
            self.settle(key, next);
        }
        held.is_some()
    }

    /// Takes note of what a key has to do that may not be in hand. What is in hand stays so: who has it will settle it.
    pub(super) fn learn(&mut self, key: i64, about: T, next: Next) {
        if next == Next::Nothing {
            // What made it wait is gone, and must not make wait what comes next. Else it is found out when it is taken.
            if matches!(self.keys.get(&key), Some((Stand::PutOff(_), _))) {
                self.keys.remove(&key);
            }
            return;
        }
        if !self.place(key, about, next) && next == Next::Now {
            self.wake(key);
        }
    }

    /// How long until something that was put off is due.
    pub(super) fn due_in(&mut self, now: Duration) -> Option<Duration> {
        while let Some(Reverse((due, key))) = self.put_off.peek().copied() {
            if self.keys.get(&key).is_some_and(|(stand, _)| *stand == Stand::PutOff(due)) {
                break;
            }
            self.put_off.pop();
        }
        let first = self.put_off.peek().map(|Reverse((due, _))| *due);
        let refill = (self.more && self.ring.is_empty()).then_some(self.refill_at);
        Some(first.into_iter().chain(refill).min()?.saturating_sub(now))
    }

    /// Whether keys should be fetched from disk now: where from, and how many at most.
    pub(super) fn refill_from(&mut self, now: Duration) -> Option<(i64, usize)> {
        if !self.more || self.ring.len() >= KEYS_LOW || now < self.refill_at {
            return None;
        }
        if self.keys.len() + KEYS_LOW > self.max {
            self.forget_latest();
        }
        self.refill_at = now + REFILL_PAUSE;
        Some((self.cursor, self.max.saturating_sub(self.keys.len()).max(1)))
    }

    /// Makes room where nearly all that is kept was put off, so that it can't starve what waits on disk.
    fn forget_latest(&mut self) {
        let sorted = std::mem::take(&mut self.put_off).into_sorted_vec(); // by `Reverse`: latest first
        for (i, Reverse((due, key))) in sorted.iter().enumerate() {
            let counts = self.keys.get(key).is_some_and(|(stand, _)| *stand == Stand::PutOff(*due));
            if counts && i < sorted.len() / 2 {
                self.keys.remove(key);
            } else if counts {
                self.put_off.push(Reverse((*due, *key)));
            }
        }
    }

    /// Takes in what a refill found from `from` on, in order of age; `last` is the greatest key looked at, `whole` whether
    /// the disk had no more behind it. What is not due enters only as long as there is plenty of room.
    pub(super) fn refill(&mut self, from: i64, found: Vec<(i64, T, Next)>, last: i64, whole: bool) {
        let (mut all_in, mut new) = (true, 0);
        for (key, about, next) in found {
            let room = next == Next::Now || self.keys.len() < self.max / 2;
            if room && self.place(key, about, next) {
                new += 1;
            } else {
                all_in &= self.keys.contains_key(&key);
            }
        }
        self.cursor = if whole { i64::MIN } else { last };
        self.more = !(whole && from == i64::MIN && all_in);
        if new > 0 || !whole {
            self.refill_at = Duration::ZERO;
        }
    }

    /// Keys that are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn picks(ready: &mut Ready<()>, now: Duration) -> Vec<i64> {
        std::iter::from_fn(|| ready.pick(now)).map(|(key, ())| key).collect()
    }

    #[test]
    fn keys_take_turns_and_are_in_one_hand() {
        let mut ready = Ready::new(100);
        for key in [1, 2, 1, 3] {
            ready.offer(key, ());
        }
        assert_eq!(ready.pick(S(0)), Some((1, ())));
        ready.offer(1, ());
        ready.settle(1, Next::Now);
        assert_eq!(picks(&mut ready, S(0)), [2, 3, 1], "1 is in line behind the others, once");
        for (key, next) in [(1, Next::Nothing), (2, Next::At(S(5))), (3, Next::At(S(3)))] {
            ready.settle(key, next);
        }
        ready.refill(i64::MIN, vec![], 0, true);
        ready.offer(2, ());
        assert_eq!((ready.due_in(S(1)), picks(&mut ready, S(2))), (Some(S(2)), vec![]));
        assert_eq!(picks(&mut ready, S(9)), [3, 2]);
        assert_eq!((ready.due_in(S(9)), ready.len()), (None, 2));
    }

    #[test]
    fn a_key_that_was_woken_or_put_off_anew_is_not_woken_by_its_old_time() {
        let mut ready = Ready::new(100);
        for key in [1, 2] {
            ready.offer(key, ());
        }
        assert_eq!(picks(&mut ready, S(0)), [1, 2]);
        ready.settle(1, Next::At(S(3)));
        ready.wake(1);
        assert_eq!(picks(&mut ready, S(0)), [1]);
        ready.settle(1, Next::At(S(7)));
        assert_eq!((picks(&mut ready, S(6)), picks(&mut ready, S(7))), (vec![], vec![1]));
        ready.settle(1, Next::At(S(60)));
        ready.learn(1, (), Next::Nothing);
        ready.offer(1, ());
        assert_eq!(picks(&mut ready, S(8)), [1], "what it waited for is gone");
    }

    #[test]
    fn memory_is_bounded_and_what_is_beyond_comes_in_by_refills() {
        let disk: Vec<i64> = (0..10_000).collect();
        let mut ready = Ready::new(1_000);
        let (mut done, mut now) = (vec![], S(0));
        while done.len() < disk.len() {
            if let Some((from, most)) = ready.refill_from(now) {
                let rest: Vec<_> = disk.iter().filter(|k| **k > from && !done.contains(*k)).copied().collect();
                let found = rest.iter().take(most).map(|k| (*k, (), Next::Now)).collect();
                ready.refill(from, found, *rest.iter().take(most).next_back().unwrap_or(&i64::MAX), rest.len() <= most);
            }
            assert!(ready.len() <= 1_000);
            match ready.pick(now) {
                Some((key, ())) => {
                    ready.settle(key, Next::Nothing);
                    done.push(key);
                }
                None => now += S(1),
            }
            assert!(now < S(60), "starved after {} keys", done.len());
        }
        assert_eq!(ready.due_in(now).is_some(), ready.more);
    }

    #[test]
    fn a_crowd_that_was_put_off_leaves_room_for_the_others() {
        let mut ready = Ready::new(1_000);
        for key in 0..1_000 {
            ready.offer(key, ());
        }
        for key in picks(&mut ready, S(0)) {
            ready.settle(key, Next::At(S(600)));
        }
        ready.offer(5_000, ());
        assert_eq!(ready.pick(S(0)), None, "no room: it is on disk alone");
        let next = |key| if key == 5_000 { Next::Now } else { Next::At(S(600)) };
        let mut found = None;
        for _ in 0..10 {
            let Some((from, most)) = ready.refill_from(S(0)) else { break };
            let rest: Vec<_> = (0..1_000).chain([5_000]).filter(|key| *key > from).collect();
            let keys = rest.iter().take(most).map(|key| (*key, (), next(*key))).collect();
            ready.refill(from, keys, rest[most.min(rest.len()) - 1], rest.len() < most);
            found = found.or(ready.pick(S(0)));
        }
        assert_eq!(found, Some((5_000, ())));
        assert!(ready.more, "what was forgotten is on disk");
        assert_eq!(ready.due_in(S(0)), Some(S(1)), "and is looked for again, not at once");
    }
}
