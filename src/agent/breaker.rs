//! A circuit breaker: whether a provider that kept failing is asked at all, as a value over time.
//!
//! Invariant: it opens by failures in a row alone, and only such as say something about the provider; while it is open one
//! caller at a time may probe, and only when the pause is over. A probe that never reports is given up after a while, so it can
//! lock nobody out for good. It cannot fail.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::base::error::ErrorKind;

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// The longest pause of our own choosing.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest pause that a provider can ask for.
const ASKED_MAX: Duration = Duration::from_secs(3600);
/// When a probe that was admitted and never reported counts as lost.
const PROBE_WAIT: Duration = Duration::from_secs(600);

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum BreakerState {
    /// All are admitted.
    Closed,
    /// Nobody is.
    Open {
        /// Until then (`Clock::mono`), in ms.
        #[serde(rename = "untilMs", serialize_with = "as_ms")]
        until: Duration,
    },
    /// One is, or was and has not reported yet: what comes of that decides.
    HalfOpen,
}

fn as_ms<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The breaker of one provider. Times are `Clock::mono`.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Duration,
    until: Duration,
    pause: Duration,
    /// When the probe that is under way was admitted.
    probe: Option<Duration>,
}

impl Breaker {
    /// A closed one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may be made now. Who is admitted must [`record`](Breaker::record) what came of it.
    pub fn admits(&self, now: Duration) -> bool {
        let mut inner = self.lock();
        let Some(open) = &mut inner.open else { return true };
        let is_probed = open.probe.is_some_and(|begun| now < begun + PROBE_WAIT);
        if now < open.until || is_probed {
            return false;
        }
        open.probe = Some(now);
        true
    }

    /// Records what came of a call: `None` for an answer, else the kind of its failure. What says nothing about the provider
    /// (`Stopped`, a request that it can't answer) frees the probe and changes nothing else.
    pub fn record(&self, failure: Option<ErrorKind>, now: Duration) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let asked = match failure {
            None => {
                *inner = Inner::default();
                return;
            }
            Some(ErrorKind::Throttled(asked)) => asked.filter(|a| !a.is_zero()).map(|a| a.min(ASKED_MAX)),
            Some(ErrorKind::Transient | ErrorKind::Timeout | ErrorKind::Denied) => None,
            Some(ErrorKind::Permanent | ErrorKind::Invalid | ErrorKind::Stopped | ErrorKind::Unclear | ErrorKind::Bug) => {
                if let Some(open) = &mut inner.open {
                    open.probe = None;
                }
                return;
            }
        };
        inner.failures = inner.failures.saturating_add(1);
        match &mut inner.open {
            // A late report of a call from before: only a longer pause that the provider asks for counts.
            Some(open) if open.probe.is_none() => open.until = open.until.max(now + asked.unwrap_or_default()),
            Some(open) => {
                open.pause = (open.pause * 2).min(PAUSE_MAX);
                open.until = now + asked.unwrap_or(open.pause);
                open.probe = None;
            }
            None if asked.is_some() || inner.failures >= FAILURES_MAX => {
                let until = now + asked.unwrap_or(PAUSE_MIN);
                inner.open = Some(Open { since: now, until, pause: PAUSE_MIN, probe: None });
            }
            None => {}
        }
    }

    /// How it stands now.
    pub fn state(&self, now: Duration) -> BreakerState {
        match &self.lock().open {
            None => BreakerState::Closed,
            Some(open) if now < open.until => BreakerState::Open { until: open.until },
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Since when it has not been closed.
    pub fn opened_since(&self) -> Option<Duration> {
        self.lock().open.as_ref().map(|open| open.since)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.lock().failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::{Bug, Denied, Invalid, Permanent, Stopped, Throttled, Timeout, Transient};

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A breaker that has these failures behind it, all at `now`.
    fn after(kinds: &[ErrorKind], now: Duration) -> Breaker {
        let breaker = Breaker::new();
        kinds.iter().for_each(|k| breaker.record(Some(*k), now));
        breaker
    }

    #[test]
    fn what_opens_it() {
        for (kinds, open_for) in [
            (vec![Transient; 4], None),
            (vec![Transient; 5], Some(5)),
            (vec![Timeout, Denied, Transient, Throttled(None), Timeout], Some(5)),
            (vec![Denied; 5], Some(5)),
            (vec![Permanent; 50], None),
            (vec![Stopped, Invalid, Bug, Permanent, Stopped, Bug], None),
            (vec![Transient, Transient, Permanent, Stopped, Transient, Transient, Transient], Some(5)),
            (vec![Throttled(Some(s(30)))], Some(30)),
            (vec![Throttled(Some(s(1)))], Some(1)),
            (vec![Throttled(Some(s(0)))], None),
            (vec![Throttled(Some(s(999_999)))], Some(3600)),
            (vec![Throttled(Some(s(30))), Transient, Throttled(Some(s(10))), Throttled(Some(s(40)))], Some(40)),
        ] {
            let breaker = after(&kinds, s(100));
            let wanted = open_for.map_or(BreakerState::Closed, |f| BreakerState::Open { until: s(100 + f) });
            assert_eq!(breaker.state(s(100)), wanted, "{kinds:?}");
            assert_eq!(breaker.admits(s(100)), open_for.is_none(), "{kinds:?}");
            assert_eq!(breaker.opened_since(), open_for.map(|_| s(100)), "{kinds:?}");
        }
        let breaker = after(&[Transient; 4], s(0));
        breaker.record(None, s(0));
        breaker.record(Some(Transient), s(0));
        assert_eq!((breaker.state(s(0)), breaker.failures()), (BreakerState::Closed, 1), "only failures in a row count");
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_an_answer_closes() {
        let breaker = after(&[Transient; 5], s(0));
        let mut now = s(0);
        for pause in [5, 10, 20, 40, 60, 60] {
            assert!(!breaker.admits(now + s(pause) - Duration::from_millis(1)), "{pause}");
            now += s(pause);
            assert_eq!(breaker.state(now), BreakerState::HalfOpen);
            assert!(breaker.admits(now), "{pause}");
            breaker.record(Some(Timeout), now);
        }
        assert_eq!(breaker.opened_since(), Some(s(0)));
        now += s(60);
        assert!(breaker.admits(now));
        breaker.record(None, now);
        assert_eq!((breaker.state(now), breaker.opened_since()), (BreakerState::Closed, None));
        // And begins anew.
        (0..5).for_each(|_| breaker.record(Some(Transient), now));
        assert_eq!(breaker.state(now), BreakerState::Open { until: now + s(5) });
    }

    #[test]
    fn one_probe_at_a_time() {
        let breaker = after(&[Transient; 5], s(0));
        let admitted = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| breaker.admits(s(5)))).collect();
            all.into_iter().map(|t| t.join().unwrap()).filter(|a| *a).count()
        });
        assert_eq!(admitted, 1);
        assert!(!breaker.admits(s(6)));
        // A probe that was cut short says nothing: another one may.
        breaker.record(Some(Stopped), s(6));
        assert!(breaker.admits(s(6)));
        // One that never reports is given up.
        assert!(!breaker.admits(s(605)));
        assert!(breaker.admits(s(606)));
        // A failed probe may be told how long to wait.
        breaker.record(Some(Throttled(Some(s(90)))), s(606));
        assert_eq!(breaker.state(s(606)), BreakerState::Open { until: s(696) });
    }

    #[test]
    fn calls_from_before_it_opened_report_late() {
        let breaker = after(&[Transient; 5], s(0));
        (0..50).for_each(|_| breaker.record(Some(Transient), s(1)));
        assert_eq!(breaker.state(s(1)), BreakerState::Open { until: s(5) }, "they do not lengthen the pause");
        breaker.record(None, s(2));
        assert_eq!(breaker.state(s(2)), BreakerState::Closed, "an answer is an answer");
    }

    #[test]
    fn as_json() {
        let json = |state| serde_json::to_string(&state).unwrap();
        assert_eq!(json(BreakerState::Closed), r#"{"state":"closed"}"#);
        assert_eq!(json(BreakerState::Open { until: s(5) }), r#"{"state":"open","untilMs":5000}"#);
        assert_eq!(json(BreakerState::HalfOpen), r#"{"state":"halfOpen"}"#);
    }
}
