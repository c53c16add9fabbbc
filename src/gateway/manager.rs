//! What the service manager is told: ready, reloading, stopping, alive.
//!
//! Invariant: without a service manager (`$NOTIFY_SOCKET`) nothing is done and nobody wakes up for it. The watchdog is fed only while
//! every vital thread (the door, the store's writer, turn and delivery workers, the timer, each channel's connection) makes progress:
//! a gateway that answers on its port and hangs behind it is started anew, which loses nothing. A message that can't be sent
//! changes nothing.

use std::cell::Cell;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::base::clock::Clock;
use crate::base::threads::Threads;

/// How something is told.
type Tell = Box<dyn Fn(&[NotifyState<'_>]) -> std::io::Result<()>>;

/// The service manager's end of it.
pub struct Manager {
    /// `None` where there is no service manager.
    line: Option<Tell>,
    /// How often it wants to hear that the gateway is alive, halved.
    interval: Option<Duration>,
    next: Cell<Duration>,
    is_silent: Cell<bool>,
    clock: Clock,
    threads: Threads,
}

impl Manager {
    /// As the environment tells it.
    pub fn from_env(clock: Clock, threads: Threads) -> Manager {
        let line =
            std::env::var_os("NOTIFY_SOCKET").map(|_| Box::new(|state: &[NotifyState<'_>]| sd_notify::notify(state)) as Tell);
        Manager::new(line, sd_notify::watchdog_enabled(), clock, threads)
    }

    fn new(line: Option<Tell>, watchdog: Option<Duration>, clock: Clock, threads: Threads) -> Manager {
        let interval = watchdog.filter(|_| line.is_some()).map(|every| every / 2);
        Manager { line, interval, next: Cell::new(Duration::ZERO), is_silent: Cell::new(false), clock, threads }
    }

    /// It serves.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// It takes up a new configuration by `work`.
    pub fn reloading(&self, work: impl FnOnce()) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
        work();
        self.tell(&[NotifyState::Ready]);
    }

    /// It drains.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    }

    /// Says that it is alive, if that is due and so; gives the time until the next time, if there is one.
    pub fn feed(&self) -> Option<Duration> {
        let (interval, now) = (self.interval?, self.clock.mono());
        if self.next.get() <= now {
            let late = self.threads.overdue(now);
            if late.is_empty() {
                self.tell(&[NotifyState::Watchdog]);
                self.is_silent.set(false);
            } else if !self.is_silent.replace(true) {
                let names: Vec<_> = late.iter().map(|o| o.name.as_str()).collect();
                log::error!(
                    "the watchdog is not fed: no progress in {}; the service manager will start the gateway anew",
                    names.join(", ")
                );
            }
            self.next.set(now + interval);
        }
        Some(self.next.get() - now)
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if let Some(Err(e)) = self.line.as_ref().map(|tell| tell(state)) {
            log::debug!("the service manager could not be told: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn manager(watchdog: Option<Duration>) -> (Manager, Rc<Cell<u32>>, Clock, Threads) {
        let (fed, clock, threads) = (Rc::new(Cell::new(0)), Clock::manual(0), Threads::new());
        let count = fed.clone();
        let tell = move |state: &[NotifyState<'_>]| {
            count.set(count.get() + u32::from(matches!(state, [NotifyState::Watchdog])));
            Ok(())
        };
        (Manager::new(Some(Box::new(tell)), watchdog, clock.clone(), threads.clone()), fed, clock, threads)
    }

    #[test]
    fn the_watchdog_is_fed_in_time_and_only_while_all_make_progress() {
        let (manager, fed, clock, threads) = manager(Some(MINUTE));
        let pulse = threads.pulse("store");
        assert_eq!((manager.feed(), fed.get()), (Some(MINUTE / 2), 1));
        clock.advance(MINUTE / 4);
        assert_eq!((manager.feed(), fed.get()), (Some(MINUTE / 4), 1), "not before it is due");
        pulse.works(clock.mono(), MINUTE);
        clock.advance(MINUTE / 2);
        manager.feed();
        assert_eq!(fed.get(), 2, "work that is in time");
        for _ in 0..3 {
            clock.advance(MINUTE);
            assert!(manager.feed().is_some());
        }
        assert_eq!(fed.get(), 2, "a thread that hangs");
        pulse.rests();
        clock.advance(MINUTE);
        manager.feed();
        assert_eq!(fed.get(), 3, "it went on after all");
    }

    #[test]
    fn without_a_watchdog_nobody_wakes_up() {
        let (with_none, fed, ..) = manager(None);
        assert_eq!((with_none.feed(), fed.get()), (None, 0));
        let alone = Manager::new(None, Some(MINUTE), Clock::manual(0), Threads::new());
        assert_eq!(alone.feed(), None);
    }
}
