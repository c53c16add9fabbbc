//! Who may have a place when places are few.
//!
//! Invariant: a connection that is being answered is never turned out. One address other than this machine's own holds at most
//! seven eighths of the places. A decision costs little even in a flood: victims are searched in one
//! pass for many to come, and a search that found none is not repeated at once. Pure; it cannot fail.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::net::door::slab::Key;

/// After a search that found nobody, all that come are refused without another for so long, times the places: the search takes
/// about a hundredth of that.
const BARREN: Duration = Duration::from_micros(1);
/// A connection that had a request answered, or is sending a body, is turned out as if it had been silent for this part of its
/// silence: in a flood of connections that never ask anything, those that do keep their places.
const PROVED_COUNTS: u32 = 8;

/// A place whose holder could be turned out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    /// Its key.
    pub key: Key,
    /// Whose it is, as [`household`] gives it.
    pub address: IpAddr,
    /// Since when it makes no progress.
    pub quiet_since: Duration,
    /// It had a request answered before, or a head accepted.
    pub proved: bool,
}

/// The places, as far as admission needs to see them.
pub(super) trait Seats {
    /// All that could be turned out now.
    fn each(&self, visit: &mut dyn FnMut(Seat));
    /// That one, if it could be turned out now.
    fn seat(&self, key: Key) -> Option<Seat>;
}

/// The decision on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is a place.
    Free,
    /// There is, once this one is gone.
    Evict(Key),
    /// There is none.
    Refuse,
}

/// The one whose places are counted together: an IPv4 in IPv6 clothes is the same, and IPv6 counts by /64.
pub(super) fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let s = v6.segments();
            IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
        }
        ip => ip,
    }
}

/// Candidates of one search, the best last.
#[derive(Debug, Default)]
struct Candidates {
    of: Option<IpAddr>,
    queue: Vec<(Key, Duration)>,
    barren_until: Duration,
}

/// What admission remembers.
#[derive(Debug, Default)]
pub(super) struct Admission {
    held: HashMap<IpAddr, usize>,
    any: Candidates,
    own: Candidates,
}

impl Admission {
    /// Counts a place that `address` got.
    pub fn opened(&mut self, address: IpAddr) {
        *self.held.entry(address).or_default() += 1;
    }

    /// Counts a place that `address` left.
    pub fn closed(&mut self, address: IpAddr) {
        if let Some(count) = self.held.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&address);
            }
        }
    }

    /// Decides on a new connection of `address`, with `open` of `max` places taken.
    pub fn admit(&mut self, address: IpAddr, open: usize, max: usize, now: Duration, seats: &dyn Seats) -> Verdict {
        let share = (max - max / 8).max(1);
        let held = self.held.get(&address).copied().unwrap_or_default();
        if !address.is_loopback() && held >= share {
            return verdict(self.own.pick(Some(address), &self.held, max, now, seats));
        }
        if open < max {
            return Verdict::Free;
        }
        self.turn_out(max, now, seats)
    }

    /// Somebody whose place is needed, whoever asks.
    pub fn turn_out(&mut self, max: usize, now: Duration, seats: &dyn Seats) -> Verdict {
        verdict(self.any.pick(None, &self.held, max, now, seats))
    }
}

/// The address that holds the most, if that is a quarter or more.
fn heaviest(held: &HashMap<IpAddr, usize>, max: usize) -> Option<IpAddr> {
    let (address, count) = held.iter().max_by_key(|(address, count)| (**count, Reverse(**address)))?;
    (count * 4 >= max).then_some(*address)
}

fn verdict(victim: Option<Key>) -> Verdict {
    victim.map_or(Verdict::Refuse, Verdict::Evict)
}

impl Candidates {
    /// The next victim: of the address `of` alone if given, else preferably of the one that `held` the most; the longest silent
    /// first.
    fn pick(
        &mut self,
        of: Option<IpAddr>,
        held: &HashMap<IpAddr, usize>,
        max: usize,
        now: Duration,
        seats: &dyn Seats,
    ) -> Option<Key> {
        if self.of != of {
            *self = Candidates { of, ..Candidates::default() };
        }
        while let Some((key, quiet_since)) = self.queue.pop() {
            // One that moved since the search may be anything now.
            if seats.seat(key).is_some_and(|s| s.quiet_since == quiet_since) {
                return Some(key);
            }
        }
        if now < self.barren_until {
            return None;
        }
        let heavy = heaviest(held, max);
        let mut found = Vec::new();
        seats.each(&mut |s| {
            if of.is_none_or(|of| of == s.address) {
                let silence = now.saturating_sub(s.quiet_since) / if s.proved { PROVED_COUNTS } else { 1 };
                found.push((heavy == Some(s.address), silence, s.key, s.quiet_since));
            }
        });
        if found.is_empty() {
            self.barren_until = now + BARREN * u32::try_from(max).unwrap_or(u32::MAX);
            return None;
        }
        // An eighth of the places a search: its cost, spread over its victims, stays small however many places there are.
        found.sort_unstable_by_key(|(heavy, silence, key, _)| Reverse((*heavy, *silence, Reverse(*key))));
        found.truncate((max / 8).max(1));
        self.queue = found.into_iter().rev().map(|(_, _, key, quiet_since)| (key, quiet_since)).collect();
        self.queue.pop().map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<Seat>);

    impl Seats for Table {
        fn each(&self, visit: &mut dyn FnMut(Seat)) {
            self.0.iter().for_each(|s| visit(*s));
        }
        fn seat(&self, key: Key) -> Option<Seat> {
            self.0.iter().find(|s| s.key == key).copied()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Seats as `(address, quiet since ms, proved)`, numbered from 0; all of them are held.
    fn room(seats: &[(&str, u64, bool)]) -> (Admission, Table) {
        let mut admission = Admission::default();
        let seats = seats.iter().enumerate().map(|(i, (address, ms, proved))| Seat {
            key: Key::of(i as u64),
            address: ip(address),
            quiet_since: Duration::from_millis(*ms),
            proved: *proved,
        });
        let table = Table(seats.collect());
        table.0.iter().for_each(|s| admission.opened(s.address));
        (admission, table)
    }

    fn check(seats: &[(&str, u64, bool)], comer: &str, open: usize, max: usize, expected: Option<Option<u64>>) {
        let (mut admission, table) = room(seats);
        let verdict = admission.admit(ip(comer), open, max, Duration::from_secs(10), &table);
        let wanted = match expected {
            None => Verdict::Refuse,
            Some(None) => Verdict::Free,
            Some(Some(i)) => Verdict::Evict(Key::of(i)),
        };
        assert_eq!(verdict, wanted, "{comer} into {seats:?}, {open} of {max}");
    }

    #[test]
    fn who_gets_a_place() {
        let three = [("10.0.0.1", 500, false), ("10.0.0.2", 300, false), ("10.0.0.3", 400, false)];
        check(&three, "10.0.0.9", 3, 8, Some(None));
        check(&three, "10.0.0.9", 16, 16, Some(Some(1))); // the longest silent
        check(&[], "10.0.0.9", 16, 16, None); // all are being answered
        check(&[], "127.0.0.1", 16, 16, None);
        // The address that holds a quarter or more gives first, though another has been silent for longer.
        let crowd = [("10.0.0.1", 500, false), ("10.0.0.2", 300, false), ("10.0.0.1", 600, false)];
        check(&crowd, "10.0.0.9", 8, 8, Some(Some(0)));
        check(&crowd, "10.0.0.9", 80, 80, Some(Some(1)));
        // Who was answered before counts as silent for an eighth of the time.
        check(&[("10.0.0.1", 3000, true), ("10.0.0.2", 9000, false)], "10.0.0.9", 16, 16, Some(Some(1)));
        check(&[("10.0.0.1", 1000, true), ("10.0.0.2", 9000, false)], "10.0.0.9", 16, 16, Some(Some(0)));
        check(&[("10.0.0.1", 0, false)], "10.0.0.9", 1, 1, Some(Some(0)));
    }

    #[test]
    fn no_address_takes_all() {
        let seven: Vec<_> = (0..7).map(|i| ("10.0.0.1", 700 - i * 100, false)).collect();
        check(&seven, "10.0.0.1", 7, 8, Some(Some(6))); // its own oldest
        check(&seven, "10.0.0.2", 7, 8, Some(None));
        check(&seven[..6], "10.0.0.1", 6, 8, Some(None));
        let local: Vec<_> = (0..7).map(|i| ("127.0.0.1", 700 - i * 100, false)).collect();
        check(&local, "127.0.0.1", 7, 8, Some(None));
        let (mut admission, _) = room(&seven);
        let answering = Table(Vec::new());
        assert_eq!(admission.admit(ip("10.0.0.1"), 7, 8, Duration::from_secs(10), &answering), Verdict::Refuse);
        for (a, b, same) in [
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("2001:db8::1", "2001:db8::2:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("10.0.0.1", "10.0.0.2", false),
        ] {
            assert_eq!(household(ip(a)) == household(ip(b)), same, "{a} {b}");
        }
        assert!(household(ip("::1")).is_loopback());
    }

    #[test]
    fn a_victim_that_moved_since_the_search_stays() {
        let seats: Vec<_> = (0..64).map(|i| ("10.0.0.1", i * 10, false)).collect();
        let (mut admission, mut table) = room(&seats);
        let at = Duration::from_secs(10);
        assert_eq!(admission.admit(ip("127.0.0.1"), 64, 64, at, &table), Verdict::Evict(Key::of(0)));
        table.0.remove(0);
        table.0[0].quiet_since = Duration::from_secs(9); // number 1 sent something
        assert_eq!(admission.admit(ip("127.0.0.1"), 64, 64, at, &table), Verdict::Evict(Key::of(2)));
    }

    #[test]
    fn a_search_that_found_nobody_is_not_repeated_at_once() {
        let (mut admission, table) = room(&[("10.0.0.1", 0, false)]);
        let nobody = Table(Vec::new());
        let mut admit = |us, seats: &Table| admission.admit(ip("127.0.0.1"), 8, 8, Duration::from_micros(us), seats);
        assert_eq!(admit(1000, &nobody), Verdict::Refuse);
        assert_eq!(admit(1007, &table), Verdict::Refuse);
        assert_eq!(admit(1008, &table), Verdict::Evict(Key::of(0)));
    }
}
