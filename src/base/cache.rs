//! A bounded cache with a time to live, in which parallel misses of one key fetch once.
//!
//! Invariant: at most `max_entries` entries; a fetch that fails is not kept; nobody fetches under the lock. A fetch that panics
//! frees those who wait for it: one of them fetches.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;

/// The cache. `V` is cloned out: keep it small or an `Arc`.
#[derive(Debug)]
pub struct Cache<V> {
    slots: Mutex<HashMap<String, Slot<V>>>,
    fetched: Condvar,
    clock: Clock,
    max_entries: usize,
}

#[derive(Debug)]
enum Slot<V> {
    Fetching,
    Ready { value: V, until: Duration },
}

impl<V: Clone> Cache<V> {
    /// An empty cache.
    pub fn new(max_entries: usize, clock: Clock) -> Self {
        Cache { slots: Mutex::new(HashMap::new()), fetched: Condvar::new(), clock, max_entries: max_entries.max(1) }
    }

    /// The value of `key`, fetched where it is absent or over; `fetch` says how long its value lives.
    ///
    /// # Errors
    /// What `fetch` fails with; that is not kept.
    pub fn get<E>(&self, key: &str, fetch: impl FnOnce() -> Result<(V, Duration), E>) -> Result<V, E> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match slots.get(key) {
                Some(Slot::Ready { value, until }) if *until > self.clock.mono() => return Ok(value.clone()),
                Some(Slot::Fetching) => slots = self.fetched.wait(slots).unwrap_or_else(PoisonError::into_inner),
                _ => break,
            }
        }
        make_room(&mut slots, self.max_entries, self.clock.mono());
        slots.insert(key.to_string(), Slot::Fetching);
        drop(slots);
        let mut ticket = Ticket { cache: self, key, fetched: None };
        let (value, ttl) = fetch()?;
        ticket.fetched = Some(Slot::Ready { value: value.clone(), until: self.clock.mono() + ttl });
        Ok(value)
    }

    /// The value of `key` as far as it is here now; waits for nobody and fetches nothing.
    pub fn known(&self, key: &str) -> Option<V> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.get(key) {
            Some(Slot::Ready { value, until }) if *until > self.clock.mono() => Some(value.clone()),
            _ => None,
        }
    }

    /// All values that are here now.
    pub fn all(&self) -> Vec<V> {
        let (slots, now) = (self.slots.lock().unwrap_or_else(PoisonError::into_inner), self.clock.mono());
        let ready = |s: &Slot<V>| match s {
            Slot::Ready { value, until } if *until > now => Some(value.clone()),
            _ => None,
        };
        slots.values().filter_map(ready).collect()
    }

    /// Forgets `key`.
    pub fn forget(&self, key: &str) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(slots.get(key), Some(Slot::Ready { .. })) {
            slots.remove(key);
        }
    }

    /// Entries kept now.
    pub fn len(&self) -> usize {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn make_room<V>(slots: &mut HashMap<String, Slot<V>>, max: usize, now: Duration) {
    if slots.len() < max {
        return;
    }
    slots.retain(|_, s| !matches!(s, Slot::Ready { until, .. } if *until <= now));
    while slots.len() >= max {
        let first = slots
            .iter()
            .filter_map(|(k, s)| if let Slot::Ready { until, .. } = s { Some((*until, k.clone())) } else { None })
            .min();
        match first {
            Some((_, key)) => drop(slots.remove(&key)),
            None => return, // all are being fetched: as many as there are threads
        }
    }
}

/// Puts the outcome of a fetch in place, however it ends.
struct Ticket<'a, V> {
    cache: &'a Cache<V>,
    key: &'a str,
    fetched: Option<Slot<V>>,
}

impl<V> Drop for Ticket<'_, V> {
    fn drop(&mut self) {
        let mut slots = self.cache.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match self.fetched.take() {
            Some(slot) => drop(slots.insert(self.key.to_string(), slot)),
            None => drop(slots.remove(self.key)),
        }
        drop(slots);
        self.cache.fetched.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const TTL: Duration = Duration::from_secs(300);

    #[test]
    #[allow(clippy::disallowed_methods)] // the fetch has to take a while, so that the others arrive meanwhile
    fn parallel_misses_fetch_once() {
        let (cache, fetches) = (Cache::new(8, Clock::system()), AtomicUsize::new(0));
        std::thread::scope(|s| {
            for _ in 0..50 {
                s.spawn(|| {
                    cache.get("k", || {
                        fetches.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(20));
                        Ok::<_, ()>((7, TTL))
                    })
                });
            }
        });
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn entries_end_errors_are_not_kept_and_the_bound_holds() {
        let clock = Clock::manual(0);
        let cache = Cache::new(3, clock.clone());
        assert_eq!(cache.get("a", || Err::<(i32, Duration), _>("down")), Err("down"));
        assert_eq!(cache.get("a", || Ok::<_, ()>((1, TTL))), Ok(1));
        assert_eq!(cache.get("a", || Err::<(i32, Duration), _>("not asked")), Ok(1));
        assert_eq!((cache.known("a"), cache.known("b"), cache.all()), (Some(1), None, vec![1]));
        clock.advance(TTL);
        assert_eq!((cache.known("a"), cache.all()), (None, vec![]));
        assert_eq!(cache.get("a", || Ok::<_, ()>((2, TTL))), Ok(2));
        for i in 0..1000 {
            let _ = cache.get(&i.to_string(), || Ok::<_, ()>((i, TTL)));
        }
        assert!(cache.len() <= 3);
    }

    #[test]
    fn a_fetch_that_panics_frees_the_key() {
        let cache = Cache::<i32>::new(3, Clock::system());
        let caught =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.get("k", || -> Result<_, ()> { panic!("fetch") })));
        assert!(caught.is_err());
        assert_eq!(cache.get("k", || Ok::<_, ()>((1, TTL))), Ok(1));
    }
}
